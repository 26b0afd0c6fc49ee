"""A SCPI session in a thread of its own: one command at a time, a deadline on each, nothing left over in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from core.errors import DeviceError

_T = TypeVar("_T")
_CLOSE_S = 2.0


class Resource(Protocol):
    """What is needed of an open VISA resource."""

    def write(self, message: str) -> object:
        """Send a command."""
        ...

    def query(self, message: str) -> str:
        """Send a query and wait for its answer."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


Opener = Callable[[], Resource]


def visa_opener(address: str, *, backend: str, timeout_s: float, terminator: str) -> Opener:
    """Opens ``address`` by PyVISA when it is called.

    Parameters
    ----------
    address
        A VISA resource, e.g. ``TCPIP0::192.0.2.7::5025::SOCKET``, ``USB0::...::INSTR`` or ``ASRL/dev/ttyUSB0::INSTR``.
    backend
        ``@py`` is pyvisa-py, without a vendor's library; ``FILE.yaml@sim`` is pyvisa-sim.
    timeout_s
        Longest wait of VISA itself for an answer [s].
    terminator
        End of a command and of an answer.
    """

    def open_it() -> Resource:
        try:
            import pyvisa
        except ImportError:
            raise DeviceError(
                f"{address}: PyVISA is not installed", local=True, remedy="pip install 'peerwatt[instruments]'"
            ) from None
        resource = pyvisa.ResourceManager(backend).open_resource(
            address, read_termination=terminator, write_termination=terminator, timeout=int(timeout_s * 1000)
        )
        assert isinstance(resource, pyvisa.resources.MessageBasedResource)
        return resource

    return open_it


class Session:
    """Sends commands from a worker thread. After a failure it hangs up; the next command opens it anew.

    An answer that comes after its deadline can so never be taken for the next one's.

    Parameters
    ----------
    name
        What errors call it.
    opener
        Opens the resource; runs in the worker thread.
    deadline_s
        Longest wait for one command [s].
    """

    def __init__(self, name: str, opener: Opener, *, deadline_s: float) -> None:
        self.name = name
        self.generation = 0
        self._opener = opener
        self._deadline_s = deadline_s
        self._resource: Resource | None = None
        self._thread = self._new_thread()

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"scpi {self.name}")

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._resource is not None

    async def open(self) -> None:
        """Connect; an open session is kept."""
        if self._resource is None:
            opening = self._thread.submit(self._opener)
            try:
                self._resource = await self._run(opening, "opening")
            except BaseException:
                opening.add_done_callback(_close_late)
                raise
            self.generation += 1

    async def write(self, command: str) -> None:
        """Send a command.

        Raises
        ------
        DeviceError
            Remote, if the instrument or the line failed within the deadline or it passed.
        """
        resource = await self._opened()
        await self._run(self._thread.submit(resource.write, command), command)

    async def query(self, command: str) -> str:
        """Send a query; its answer without the terminator. Raises as `write` does."""
        resource = await self._opened()
        return (await self._run(self._thread.submit(resource.query, command), command)).strip()

    async def close(self) -> None:
        """Hang up and end the thread."""
        resource, self._resource = self._resource, None
        if resource is not None:
            hanging_up = asyncio.get_running_loop().run_in_executor(self._thread, resource.close)
            await asyncio.wait([hanging_up], timeout=_CLOSE_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _opened(self) -> Resource:
        await self.open()
        assert self._resource is not None
        return self._resource

    async def _run(self, work: Future[_T], what: str) -> _T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self._abandon()
            raise self._error(what, f"no answer within {self._deadline_s:g} s") from None
        except asyncio.CancelledError:
            self._abandon()  # its answer may still come
            raise
        except DeviceError:
            raise
        except Exception as error:  # VISA backends raise their own kinds, and those of sockets and serial lines
            self._abandon()
            raise self._error(what, str(error) or type(error).__name__) from error

    def _error(self, what: str, why: str) -> DeviceError:
        return DeviceError(
            f"{self.name}: {what}: {why}", local=False, remedy="is it on, connected and not in somebody else's hands?"
        )

    def _abandon(self) -> None:
        """Leave the thread with whatever it waits for, to hang up by itself; the next command gets a new one."""
        resource, self._resource = self._resource, None
        if resource is not None:
            self._thread.submit(_close_quietly, resource)
        self._thread.shutdown(wait=False)
        self._thread = self._new_thread()


def _close_quietly(resource: Resource) -> None:
    with contextlib.suppress(Exception):  # it is being abandoned because it failed
        resource.close()


def _close_late(opening: Future[Resource]) -> None:
    """A connection that came about after its deadline is nobody's: hang up."""
    if not opening.cancelled() and opening.exception() is None:
        _close_quietly(opening.result())
