"""A bridge from ordinary code to asynchronous devices: one background thread with an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Self, TypeVar

from core.errors import DeviceError

T = TypeVar("T")

_STOP_S = 5.0


class LoopThread:
    """An event loop in a daemon thread; ``call`` runs a coroutine there and waits for its result.

    The slot cycle is ordinary code that may itself run inside an event loop, so device traffic has a loop of its own.
    """

    def __init__(self, name: str = "devices") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run ``coroutine`` on the loop and return its result.

        Raises
        ------
        DeviceError
            If there is no result after ``timeout_s``; the coroutine is cancelled then.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise DeviceError("the device thread has been stopped", local=True)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            if future.done():  # the coroutine itself raised a TimeoutError
                raise
            future.cancel()
            raise DeviceError(f"no result after {timeout_s:g} s", local=False) from None

    def close(self) -> None:
        """Cancel what is running and end the thread. Closing twice is harmless."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
