"""What TCP ports and serial lines of the emulator share: units, boards, counters and the answer to a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from core.errors import DeviceError
from hardware.emulator.device_port import GATEWAY_TARGET, RegisterDevice
from hardware.emulator.faults import FaultBoard
from hardware.emulator.faults_protocol import respond
from hardware.emulator.mbap import Request, mbap_frame
from hardware.emulator.pdu import execute, refused
from hardware.emulator.rtu import rtu_frame
from hardware.emulator.wire_faults import REQUEST_KINDS, Fate, Plan, after, before

UnknownUnit = Literal["exception", "silence"]
Tap = Callable[[str, bytes], None]


@dataclass(slots=True)
class Counters:
    """What a server has seen since it was made."""

    requests: int = 0
    answers: int = 0
    exceptions: int = 0
    sessions: int = 0  # connections accepted
    bad_frames: int = 0  # streams that were no Modbus, frames with a wrong checksum
    bad_handshakes: int = 0  # TLS clients without the right certificate


class Served(Protocol):
    """What is behind a port: its board, the time of it, what was seen, and who listens in."""

    board: FaultBoard
    clock: Callable[[], float]
    counters: Counters
    tap: Tap | None

    def any_online(self) -> bool:
        """Whether anything is there to answer."""
        ...


class Units:
    """The devices behind one port.

    Parameters
    ----------
    devices
        One for each unit.
    board
        Faults of the port; those of the device come after it.
    unknown_unit
        What a request for another unit meets: exception 0x0B or silence.
    clock
        Time of all boards [s].
    """

    def __init__(
        self,
        devices: Iterable[RegisterDevice],
        board: FaultBoard,
        unknown_unit: UnknownUnit,
        clock: Callable[[], float],
    ) -> None:
        self.board = board
        self.clock = clock
        self.counters = Counters()
        self.tap: Tap | None = None
        self._silent = unknown_unit == "silence"
        self._devices: dict[int, RegisterDevice] = {}
        for device in devices:
            if device.unit in self._devices:
                raise DeviceError(
                    f"two devices are unit {device.unit} of one port", local=True, remedy="give each its own unit"
                )
            self._devices[device.unit] = device
        if not self._devices:
            raise DeviceError("a port without a device", local=True, remedy="give it at least one")

    def any_online(self) -> bool:
        """Whether at least one device is there."""
        return any(device.online() for device in self._devices.values())

    def quick(self, request: Request) -> bytes | None:
        """The answer's frame where no fault can meet it and it needs no thought; None: ask `plan`."""
        device = self._devices.get(request.unit)
        if device is None or not (self.board.free_of(REQUEST_KINDS) and device.board.free_of(REQUEST_KINDS)):
            return None
        if not device.online():
            return None
        counters = self.counters
        counters.requests += 1
        counters.answers += 1
        answer = execute(device, request.pdu)
        if answer[0] & 0x80:
            counters.exceptions += 1
        if request.transaction is None:
            return rtu_frame(request.unit, answer)
        return mbap_frame(request.transaction, request.unit, answer)

    def plan(self, request: Request) -> Plan | None:
        """What leaves for a request; None: its connection is mute from now on."""
        self.counters.requests += 1
        now_s = self.clock()
        if request.transaction is None and request.unit == 0:
            return self._broadcast(request, now_s)
        device = self._devices.get(request.unit)
        boards = (self.board,) if device is None else (self.board, device.board)
        fate = before(boards, request, now_s)
        if fate is not Fate.ARRIVES:
            return None if fate is Fate.MUTE else Plan()
        if device is None:
            if self._silent:
                return Plan()
            answer = refused(request.pdu[0], GATEWAY_TARGET)
        elif not device.online():
            return Plan()
        else:
            answer = respond(device, request.pdu, boards, now_s)
        self.counters.answers += 1
        if answer[0] & 0x80:
            self.counters.exceptions += 1
        return after(boards, request, answer, now_s)

    def _broadcast(self, request: Request, now_s: float) -> Plan:
        """Unit 0 of a serial line: every device does it, none answers."""
        for device in self._devices.values():
            if device.online():
                respond(device, request.pdu, (self.board, device.board), now_s)
        return Plan()
