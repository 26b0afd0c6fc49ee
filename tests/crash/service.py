"""A market that can be killed and started again, seen from its clients."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from market.journal.protocol import Head
from tests.crash.spec import Spec
from tests.repo.files import ROOT

START_S = 120.0


class GoneError(Exception):
    """The service died before it answered: nobody knows what became of the request."""


class PipeService:
    """The market of `tests.crash.worker`, over its pipes.

    Parameters
    ----------
    log
        File for what the worker writes on its standard error.
    """

    def __init__(self, log: Path) -> None:
        self.up = asyncio.Event()
        self.now_us = 0
        self.heads: list[Head] = []
        self.exit_codes: list[int] = []
        self._log = log
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, spec: Spec, environment: dict[str, str] | None = None) -> bool:
        """Start it and wait until it is ready; False if it died before that."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.crash.worker",
                msgspec.json.encode(spec).decode(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
                limit=1 << 22,
            )
        self._reading = asyncio.create_task(self._read(self._process))
        up = asyncio.create_task(self.up.wait())
        await asyncio.wait({self._reading, up}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        return self.up.is_set()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if not line.endswith(b"\n"):
                break  # killed in the middle of a line: nobody was told anything by it
            reply: dict[str, Any] = msgspec.json.decode(line)
            self.now_us = max(self.now_us, reply["now_us"])
            seq, digest = reply["head"]
            if not self.heads or self.heads[-1].seq != seq:
                self.heads.append(Head(seq, bytes.fromhex(digest)))
            if "ready" in reply:
                self.up.set()
            elif (waiting := self._waiting.pop(reply["id"], None)) is not None and not waiting.done():
                waiting.set_result(reply)
        self.up.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(GoneError())
        self._waiting.clear()
        self.exit_codes.append(await process.wait())

    async def send(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request; `GoneError` if the service dies first."""
        process = self._process
        if not self.up.is_set() or process is None or process.stdin is None or process.stdin.is_closing():
            raise GoneError
        number = next(self._numbers)
        self._waiting[number] = waiting = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(msgspec.json.encode(request | {"id": number}) + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader notices too, and tells everybody
        return await waiting

    async def kill(self) -> None:
        """SIGKILL, and everything it still said is read."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, timeout_s: float = 60.0) -> bool:
        """Wait until it is gone of itself; False if it lives on."""
        if self._reading is not None:
            done, _ = await asyncio.wait({self._reading}, timeout=timeout_s)
            if not done:
                return False
            self._reading.result()
        self._process = self._reading = None
        return True

    async def finish(self) -> None:
        """Let it end in order: its standard input closes."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        await self.ended()
