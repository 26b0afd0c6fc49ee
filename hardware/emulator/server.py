"""`EmulatorServer`: emulated devices behind one TCP port, TLS port or serial line, with faults of the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from core.errors import DeviceError
from hardware.emulator.device_port import Refusal, RegisterDevice
from hardware.emulator.faults import FaultBoard
from hardware.emulator.server_core import Counters, Tap, Units, UnknownUnit
from hardware.emulator.server_rtu import RtuEndpoint, RtuLine
from hardware.emulator.server_session import UnitSession
from hardware.emulator.server_tcp import TcpEndpoint, TcpPort
from hardware.emulator.server_tls import TlsFiles, TrialCertificates, make_certificates

__all__ = [
    "Counters",
    "EmulatorServer",
    "Refusal",
    "RegisterDevice",
    "RtuEndpoint",
    "TcpEndpoint",
    "TlsFiles",
    "TrialCertificates",
    "make_certificates",
]


class EmulatorServer:
    """Devices behind one port.

    Parameters
    ----------
    devices
        One or more, each with its own unit.
    endpoint
        Where: `TcpEndpoint` or `RtuEndpoint`.
    board
        Faults of the port: those of connections, and any transport or protocol fault for all units together. A new
        one by default, with the log of the first device's board.
    unknown_unit
        What a request for a unit that is not there meets: ``exception`` 0x0B or ``silence``.
    clock
        Time of all boards [s], that of the devices; the event loop's by default. Delays are always real seconds.
    """

    def __init__(
        self,
        devices: Iterable[RegisterDevice],
        endpoint: TcpEndpoint | RtuEndpoint | None = None,
        *,
        board: FaultBoard | None = None,
        unknown_unit: UnknownUnit = "exception",
        clock: Callable[[], float] | None = None,
    ) -> None:
        devices = tuple(devices)
        if board is None:
            board = FaultBoard(None, devices[0].board.log if devices else None)
        self._units = Units(devices, board, unknown_unit, clock or (lambda: asyncio.get_running_loop().time()))
        self._endpoint: TcpPort | RtuLine
        if isinstance(endpoint, RtuEndpoint):
            self._endpoint = RtuLine(self._units, endpoint)
        else:
            self._endpoint = TcpPort(
                self._units,
                endpoint or TcpEndpoint(),
                lambda ended, mute: UnitSession(self._units, ended, mute=mute),
            )

    @property
    def board(self) -> FaultBoard:
        """The port's faults."""
        return self._units.board

    @property
    def counters(self) -> Counters:
        """What was seen."""
        return self._units.counters

    @property
    def address(self) -> str:
        """``tcp://host:port``, ``tls://host:port`` or ``rtu:///dev/...``, as a client writes it."""
        return self._endpoint.address

    @property
    def port(self) -> int:
        """The TCP port's number; raises DeviceError (local) for a serial line."""
        return self._tcp().port

    @property
    def sessions(self) -> int:
        """Connections that are open now; 0 for a serial line."""
        return self._endpoint.sessions if isinstance(self._endpoint, TcpPort) else 0

    def listen_in(self, tap: Tap | None) -> None:
        """``tap("in" | "out", frame)`` is called with every frame; None ends it."""
        self._units.tap = tap

    def drop_sessions(self, *, reset: bool = True) -> int:
        """Close all connections, with RST or in order; returns how many. Raises DeviceError for a serial line."""
        return self._tcp().drop_sessions(reset=reset)

    async def start(self) -> None:
        """Serve; raises DeviceError (local) when the port or line cannot be had."""
        await self._endpoint.start()

    async def stop(self) -> None:
        """Stop serving and close all connections."""
        await self._endpoint.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _tcp(self) -> TcpPort:
        if not isinstance(self._endpoint, TcpPort):
            raise DeviceError("a serial line has no TCP connections", local=True, remedy="use a TcpEndpoint")
        return self._endpoint
