"""A serial line of the emulator: a tty, or a pseudo-terminal that it makes itself."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from dataclasses import dataclass
from typing import Literal

from core.errors import DeviceError
from hardware.emulator.mbap import Request
from hardware.emulator.rtu import RtuReader, character_s, silence_s
from hardware.emulator.server_core import Units
from hardware.emulator.server_outbox import Outbox

_SPEEDS = {
    1200: termios.B1200,
    2400: termios.B2400,
    4800: termios.B4800,
    9600: termios.B9600,
    19_200: termios.B19200,
    38_400: termios.B38400,
    57_600: termios.B57600,
    115_200: termios.B115200,
}
_LEAST_SILENCE_S = 0.03  # adapters deliver in bursts: shorter pauses inside a frame are no end of it
_MOST_UNSENT = 1 << 16
_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class RtuEndpoint:
    """Which line. An empty ``device`` makes a pseudo-terminal, whose other end's name is in the port's address.

    Pseudo-terminals have no parity: the address says ``N`` for them. They have no speed either; with ``paced`` answers
    take the time that they would on a wire.
    """

    device: str = ""
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "E"
    stop_bits: Literal[1, 2] = 1
    paced: bool = False


def _configure(fd: int, endpoint: RtuEndpoint, parity: str) -> None:
    """Raw bytes at that speed; no echo, no control characters."""
    tty.setraw(fd)
    settings = termios.tcgetattr(fd)
    flags = settings[2] & ~(termios.PARENB | termios.PARODD | termios.CSTOPB | termios.CSIZE)
    flags |= termios.CS8 | termios.CLOCAL | termios.CREAD
    if parity != "N":
        flags |= termios.PARENB | (termios.PARODD if parity == "O" else 0)
    if endpoint.stop_bits == 2:
        flags |= termios.CSTOPB
    settings[2] = flags
    settings[4] = settings[5] = _SPEEDS[endpoint.baud]
    termios.tcsetattr(fd, termios.TCSANOW, settings)


class RtuLine:
    """One serial line with several units on it."""

    def __init__(self, units: Units, endpoint: RtuEndpoint) -> None:
        if endpoint.baud not in _SPEEDS:
            raise DeviceError(
                f"a serial line at {endpoint.baud} baud", local=True, remedy=f"one of {', '.join(map(str, _SPEEDS))}"
            )
        self._units = units
        self._endpoint = endpoint
        self._name = endpoint.device
        self._parity: str = endpoint.parity
        self._fd = -1
        self._kept_open = -1  # our own handle of the other end: without one a pseudo-terminal reports a hang-up
        self._reader = RtuReader()
        self._unsent = b""
        self._silence: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """``rtu:///dev/...?baud=9600&parity=E``, as a client opens it."""
        return f"rtu://{self._name}?baud={self._endpoint.baud}&parity={self._parity}"

    @property
    def device(self) -> str:
        """The tty that a client opens; empty before `start` for a pseudo-terminal."""
        return self._name

    async def start(self) -> None:
        """Open the line; raises DeviceError (local) when it cannot be opened."""
        self._loop = asyncio.get_running_loop()
        try:
            if self._endpoint.device:
                self._fd = os.open(self._endpoint.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                self._settle(self._fd)
            else:
                self._fd, self._kept_open = os.openpty()
                self._settle(self._kept_open)
                os.set_blocking(self._fd, False)
                self._name = os.ttyname(self._kept_open)
        except (OSError, termios.error) as error:
            self._close()
            raise DeviceError(
                f"emulator cannot open serial line {self._endpoint.device or '(a new one)'}: {error}",
                local=True,
                remedy="check the name and the rights on it",
            ) from error
        self._outbox = Outbox(self._write)
        self._loop.add_reader(self._fd, self._readable)

    def _settle(self, fd: int) -> None:
        """Set the line up. A pseudo-terminal knows no parity and may say so with an error."""
        if os.ttyname(fd).startswith("/dev/pts/"):
            self._parity = "N"
        _configure(fd, self._endpoint, self._parity)

    async def stop(self) -> None:
        """Close the line."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._outbox.close()
        if self._silence is not None:
            self._silence.cancel()
        self._close()

    def _close(self) -> None:
        for fd in (self._fd, self._kept_open):
            if fd >= 0:
                os.close(fd)
        self._fd = self._kept_open = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the other end is gone for good (a pulled adapter, an ended socat)
            self._loop.remove_reader(self._fd)
            return
        if not data:
            self._loop.remove_reader(self._fd)
            return
        for request in self._reader.feed(data):
            self._serve(request)
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._reader.waiting:
            self._silence = self._loop.call_later(max(silence_s(self._endpoint.baud), _LEAST_SILENCE_S), self._silent)

    def _silent(self) -> None:
        self._silence = None
        requests, lost = self._reader.silence()
        if lost:
            self._units.counters.bad_frames += 1
        for request in requests:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        if self._units.tap is not None:
            self._units.tap("in", request.raw)
        if not self._endpoint.paced and self._outbox.idle:
            frame = self._units.quick(request)
            if frame is not None:
                self._write(frame)
                return
        plan = self._units.plan(request)
        if plan is None:
            return
        if self._endpoint.paced and plan.chunks:
            one_s = character_s(self._endpoint.baud)
            wait_s = silence_s(self._endpoint.baud) + one_s * len(request.raw)
            plan.chunks = [
                (delay_s + one_s * len(data) + (wait_s if n == 0 else 0.0), data)
                for n, (delay_s, data) in enumerate(plan.chunks)
            ]
        self._outbox.send(plan)

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            return
        if self._units.tap is not None:
            self._units.tap("out", data)
        waiting = bool(self._unsent)
        self._unsent = (self._unsent + data)[-_MOST_UNSENT:]  # nobody reads: old answers are worth nothing
        if not waiting:
            self._writable()

    def _writable(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)
