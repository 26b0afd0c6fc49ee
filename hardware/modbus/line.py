"""The one owner of a host and port, or of a serial port: nobody else opens it, and all traffic goes through here.

One task sends one request after the other: by priority, with the gap that the device needs, each within its deadline.
It reconnects by itself and never repeats a request: whether to ask again is for the caller, who knows what a second
write would do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from core.errors import DeviceError
from hardware.address import Address
from hardware.driver import Frame, Sample, Span
from hardware.modbus.breaker import Backoff, Breaker
from hardware.modbus.line_pdu import answer_length, is_exception, read_pdu, words_of, write_pdu
from hardware.modbus.line_queue import Request, RequestQueue
from hardware.modbus.line_settings import LineSettings, LineState, LineStatistics, Priority, WriteOutcome, p99
from hardware.modbus.lock import LineLock, lock_names, network_name
from hardware.modbus.transport import Exchange, Wire, connect_wire, tls_context

__all__ = ["Line", "LineSettings", "LineState", "LineStatistics", "Priority", "WriteOutcome"]

_WAITS_KEPT = 1000
_HARDLY_S = 1.0  # a connection that ends sooner, before it was used, counts as refused


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    failures: int = 0
    exceptions: int = 0
    refused: int = 0
    dropped: int = 0
    waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WAITS_KEPT))
    answers_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WAITS_KEPT))


class Line:
    """All traffic with one address, for one or more units.

    Parameters
    ----------
    address
        Where.
    settings
        How patient.

    Notes
    -----
    ``on_exchange`` is called with every exchange, bytes and all, before its caller hears of it (journals, traces).
    It must not block. ``gap_s`` may be raised later, by whoever learns what the device needs.
    """

    def __init__(self, address: Address, settings: LineSettings = LineSettings()) -> None:  # noqa: B008 - frozen
        self.address = address
        self.settings = settings
        self.gap_s = settings.gap_s
        self.generation = 0
        self.on_exchange: Callable[[Exchange], None] | None = None
        if address.serial is not None:  # 3.5 characters, or 1.75 ms above 19200 baud
            self.gap_s = max(self.gap_s, 3.5 * address.serial.character_s(), 0.00175)
        self._lock = LineLock(str(address), settings.run_folder)
        self._backoff = Backoff(settings.reconnect_first_s, settings.reconnect_max_s)
        self._units: dict[int, Breaker] = {}
        self._silences: dict[int, float] = {}  # of a serial line: until when a unit's late answer may come
        self._queue = RequestQueue(settings.queue_limit, self._refuse)
        self._numbers = itertools.count(1)
        self._counts = _Counts()
        self._wire: Wire | None = None
        self._next_id = 1
        self._failures = 0
        self._last_problem = ""
        self._connected_s = 0.0
        self._used = self._read_once = False  # this connection
        self._free_s = 0.0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tried = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the lock and try to connect once; a device that is not there yet is tried again in the background.

        Raises
        ------
        DeviceError
            Local: somebody else holds the line (says who), or its certificates cannot be used.
        """
        if self._running():
            return
        if self.address.tls is not None:
            tls_context(self.address)
        if self.settings.locked:
            names = await self._lock_names()
            if self._running():  # another task was faster
                return
            self._lock.take(names)
        self._failures = 0
        self._backoff.reset()
        self._tried.clear()
        self._owner = asyncio.create_task(self._own(), name=f"owner of {self.address}")
        try:
            await self._tried.wait()
        except BaseException:
            await self.close()
            raise

    async def _lock_names(self) -> list[str]:
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                return await asyncio.get_running_loop().run_in_executor(None, lock_names, self.address)
        except TimeoutError:  # the name's number follows when there is a connection
            return [network_name(self.address.host, self.address.port)]

    async def close(self) -> None:
        """Hang up, give the lock back, and refuse whatever still waits."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.cancel()
            await asyncio.wait([owner])
        if self._wire is not None:
            self._wire.hang_up("the line was closed")
            self._wire = None
        self._read_once = False
        self._queue.refuse_all("the line was closed", but_stops=False)
        self._lock.release()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- what callers see ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> LineState:
        """How the line is: up only after something was read on this very connection."""
        if not self._running():
            return LineState.CLOSED
        if self._failures >= self.settings.failures:
            return LineState.BROKEN
        return LineState.UP if self._read_once and self._connected() is not None else LineState.CONNECTING

    @property
    def problem(self) -> str:
        """What went wrong last, in words; empty while the line is up."""
        return "" if self.state is LineState.UP else self._last_problem

    def statistics(self) -> LineStatistics:
        """Counts so far, for monitoring."""
        counts = self._counts
        dropped = counts.dropped + (self._wire.framer.dropped if self._wire is not None else 0)
        return LineStatistics(
            requests=counts.requests,
            failures=counts.failures,
            exceptions=counts.exceptions,
            refused=counts.refused,
            dropped=dropped,
            connections=self.generation,
            waiting=self._queue.waiting,
            wait_p99_s=p99(counts.waits_s),
            answer_p99_s=p99(counts.answers_s),
        )

    async def read(
        self, unit: int, span: Span, *, priority: Priority = Priority.READ, deadline_s: float | None = None
    ) -> Sample:
        """Read registers. Never raises for trouble of line or device: then ``words`` is None and ``problem`` says why.

        ``deadline_s`` bounds the whole stay [s]: waiting for a turn, and for the answer.

        Raises
        ------
        DeviceError
            Local, if the request is nonsense.
        """
        request = self._enter(unit, read_pdu(span), priority, deadline_s)
        result = await request.done
        if isinstance(result, str):
            now_s = asyncio.get_running_loop().time()
            return Sample(span, None, now_s, now_s, request.sequence, self._say(unit, _registers(span), result))
        words = None if result.problem else words_of(result.answer)
        problem = self._say(unit, _registers(span), result.problem) if result.problem else ""
        return Sample(span, words, result.sent_s, result.received_s, request.sequence, problem)

    async def write(
        self, unit: int, frame: Frame, *, priority: Priority = Priority.SET_POINT, deadline_s: float | None = None
    ) -> WriteOutcome:
        """Write registers, once. Never raises for trouble of line or device: the outcome says whether it may have left.

        Raises
        ------
        DeviceError
            Local, if the frame does not fit what Modbus can write: it never reaches the wire.
        """
        pdu = write_pdu(frame)
        result = await self._enter(unit, pdu, priority, deadline_s).done
        what = f"write of {_registers(Span(frame.address, len(frame.words)))}"
        if isinstance(result, str):
            now_s = asyncio.get_running_loop().time()
            return WriteOutcome(False, False, self._say(unit, what, result), b"", b"", now_s, now_s)
        problem = self._say(unit, what, result.problem) if result.problem else ""
        return WriteOutcome(
            ok=not problem,
            sent=True,
            problem=problem,
            request_bytes=result.request_bytes,
            response_bytes=result.response_bytes,
            sent_s=result.sent_s,
            received_s=result.received_s,
            exception=result.answer[1] if is_exception(pdu, result.answer) else 0,
        )

    async def exchange(
        self, unit: int, span: Span, *, priority: Priority = Priority.READ, deadline_s: float | None = None
    ) -> Exchange | str:
        """As `read`, with bytes and exceptions as they came; or, if the request never left, why. For gateways."""
        return await self._enter(unit, read_pdu(span), priority, deadline_s).done

    def _say(self, unit: int, what: str, problem: str) -> str:
        return f"{self.address} unit {unit}: {what}: {problem}"

    # --- entering the queue -------------------------------------------------------------------------------------------

    def _enter(self, unit: int, pdu: bytes, priority: Priority, deadline_s: float | None) -> Request:
        low, high = (1, 247) if self.address.scheme == "rtu" else (0, 255)
        if not low <= unit <= high:
            raise DeviceError(f"{self.address}: there is no unit {unit}: {low} to {high}", local=True)
        loop = asyncio.get_running_loop()
        stay_s = self.settings.deadline_s if deadline_s is None else deadline_s
        now_s = loop.time()
        request = Request(unit, pdu, priority, now_s, now_s + stay_s, next(self._numbers), loop.create_future())
        if problem := self._why_not(request, now_s):
            self._refuse(request, problem)
        else:
            self._put(request)
        return request

    def _put(self, request: Request) -> None:
        self._queue.put(request)
        self._wake.set()
        if request.priority is Priority.STOP:
            self._hurry.set()

    def _why_not(self, request: Request, now_s: float) -> str:
        """Why a request cannot even wait; empty if it can."""
        if not self._running():
            return "the line is closed"
        if request.due_s <= now_s:
            return "its deadline had passed before it was asked for"
        if request.priority is Priority.STOP:
            return ""
        if self._queue.full:
            return f"{len(self._queue)} requests are waiting already"
        if self.state is LineState.BROKEN and self._connected() is None:
            return f"not sent, the line has failed {self._failures} times in a row ({self._last_problem})"
        return self._unit_is_shut(request.unit, now_s)

    def _unit_is_shut(self, unit: int, now_s: float) -> str:
        breaker = self._units.get(unit)
        if breaker is None or not (wait_s := breaker.wait_s(now_s)):
            return ""
        return f"not sent, the unit was silent {breaker.failures} times in a row and is asked again in {wait_s:.1f} s"

    def _refuse(self, request: Request, problem: str) -> None:
        self._counts.refused += 1
        request.settle(problem)

    # --- the owner ----------------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                wire = self._connected()
                if wire is None:
                    await self._connect()
                    self._tried.set()
                    continue
                if self._queue and self._free_s > loop.time():
                    await asyncio.sleep(self._free_s - loop.time())  # choose only then: something urgent may come
                    if not wire.usable:
                        continue
                request = self._next()
                if request is not None:
                    await self._serve(wire, request)
                elif self._connected() is not None:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._tried.set()

    def _running(self) -> bool:
        return self._owner is not None and not self._owner.done()

    def _connected(self) -> Wire | None:
        return self._wire if self._wire is not None and self._wire.usable else None

    def _next(self) -> Request | None:
        loop = asyncio.get_running_loop()
        while (request := self._queue.pop()) is not None:
            if request.priority is Priority.STOP:
                return request
            if problem := self._unit_is_shut(request.unit, loop.time()):
                self._refuse(request, problem)
            elif (quiet_s := self._silences.get(request.unit, 0.0)) > loop.time():
                loop.call_at(quiet_s, self._put, request)
            else:
                return request
        return None

    async def _connect(self) -> None:
        """One attempt, after the wait that is due; a stop does not wait."""
        loop = asyncio.get_running_loop()
        if self._wire is not None:
            self._counts.dropped += self._wire.framer.dropped
            self._wire = None
            if not self._used and loop.time() - self._connected_s < _HARDLY_S:
                self._failed(self._last_problem)  # taken and dropped: as good as refused
        wait_s = self._backoff.next_s()
        self._hurry.clear()
        if self._queue.has_stop:
            wait_s = min(wait_s, self.settings.reconnect_first_s)
        if wait_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()
        try:
            wire = await connect_wire(self.address, self.settings, self._next_id, self._lost)
        except (OSError, DeviceError) as error:
            self._failed(f"cannot connect: {error}")
        else:
            self._take_over(wire)

    def _take_over(self, wire: Wire) -> None:
        """A connection stands: make sure that what it reached is ours as well, whatever name it was reached by."""
        if self.settings.locked:
            try:
                self._lock.take([network_name(*wire.peer)] if wire.peer else lock_names(self.address))
            except DeviceError as error:
                wire.hang_up(error.message)
                self._failed(error.message)
                return
        self._wire = wire
        self.generation += 1
        self._used = self._read_once = False
        self._connected_s = asyncio.get_running_loop().time()
        self._silences.clear()
        for breaker in self._units.values():
            breaker.probe_now()

    def _lost(self, reason: str) -> None:
        self._last_problem = reason
        self._wake.set()

    async def _serve(self, wire: Wire, request: Request) -> None:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        whole_s = self.settings.timeout_s + self._on_the_wire_s(request.pdu)
        timeout_s = min(whole_s, request.due_s - sent_s)
        if timeout_s <= 0.0:
            self._queue.expire(request)
            return
        request.sent = self._used = True
        self._counts.requests += 1
        self._counts.waits_s.append(sent_s - request.entered_s)
        try:
            exchange = await wire.exchange(request.unit, request.pdu, timeout_s)
        except asyncio.CancelledError:
            why = "the line was closed"
            request.settle(Exchange(request.unit, b"", why, wire.request_bytes, b"", sent_s, loop.time(), silent=True))
            raise
        self._next_id = wire.framer.next_id
        self._free_s = exchange.received_s + self.gap_s
        if exchange.silent:
            # Who came so late to its turn that there was hardly time for an answer says nothing about the device.
            fair = timeout_s >= 0.5 * min(whole_s, request.due_s - request.entered_s)
            self._was_silent(wire, exchange, fair, whole_s)
        else:
            self._counts.answers_s.append(exchange.received_s - sent_s)
            self._was_answered(request, exchange)
        if self.on_exchange is not None:
            loop.call_soon(self.on_exchange, exchange)  # before whoever asked; its errors are not the owner's
        request.settle(exchange)

    def _was_answered(self, request: Request, exchange: Exchange) -> None:
        self._failures = 0
        self._backoff.reset()
        self._breaker(exchange.unit).succeeded()
        if is_exception(request.pdu, exchange.answer):
            self._counts.exceptions += 1
            self._last_problem = exchange.problem
        elif exchange.problem:
            self._counts.failures += 1
            self._last_problem = exchange.problem
        elif request.pdu[0] in (3, 4):
            self._read_once = True

    def _was_silent(self, wire: Wire, exchange: Exchange, fair: bool, whole_s: float) -> None:
        self._counts.failures += 1
        if not wire.usable:
            self._failed(exchange.problem)
            return
        if self.address.scheme == "rtu":
            self._silences[exchange.unit] = exchange.received_s + whole_s
        if not fair:
            return
        self._breaker(exchange.unit).failed(exchange.received_s)
        if self._failures + 1 >= self.settings.failures or all(each.open for each in self._units.values()):
            # Nobody answers any more: the connection may be dead without knowing it. A new one starts afresh.
            self._failures = max(self._failures, self.settings.failures - 1)
            wire.hang_up(exchange.problem)
        self._failed(exchange.problem)

    def _breaker(self, unit: int) -> Breaker:
        if unit not in self._units:
            settings = self.settings
            self._units[unit] = Breaker(settings.unit_failures, settings.unit_first_s, settings.unit_max_s)
        return self._units[unit]

    def _failed(self, problem: str) -> None:
        self._failures += 1
        self._last_problem = problem
        if self.state is LineState.BROKEN:
            why = f"not sent, the line has failed {self._failures} times in a row ({problem})"
            self._queue.refuse_all(why, but_stops=True)

    def _on_the_wire_s(self, pdu: bytes) -> float:
        if self.address.serial is None:
            return 0.0
        return (len(pdu) + answer_length(pdu) + 6) * self.address.serial.character_s()


def _registers(span: Span) -> str:
    return f"registers {span.address}..{span.address + span.count - 1}"
