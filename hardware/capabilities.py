"""What a device can do, as small protocols. Market, controllers and the slot cycle see these and never a register.

Implemented alike by drivers behind the guardian, by its client in another process, and by models. Every method raises
``core.DeviceError`` and never makes up a value; powers are in watts, in the load convention.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from core.quality import Reading


class StorageStatus(enum.IntEnum):
    """What a storage says of itself."""

    READY = 1
    FAULT = 2


@dataclass(frozen=True, slots=True)
class StorageReading:
    """One consistent reading of a storage: every field from the same request.

    Counters only grow. All energies but ``stored_wh`` are measured at the AC terminals.
    """

    set_point_w: int  # positive charges
    stored_wh: int
    charged_wh: int  # drawn since commissioning
    discharged_wh: int  # fed in since commissioning
    status: StorageStatus


class Storage(Protocol):
    """A battery that takes a power set-point. Every method raises ``DeviceError`` and never makes up a value."""

    async def read(self) -> StorageReading:
        """Read the state now."""
        ...

    async def set_power(self, set_point_w: int) -> None:
        """Set the power [W], positive charges; returns once the device has confirmed it by reading it back."""
        ...


class SteppedStorage(Storage, Protocol):
    """A storage without a clock of its own: its time passes when it is told so (the zero-latency profile)."""

    async def advance(self, seconds: int) -> None:
        """Let ``seconds`` of simulated time pass at the present set-point."""
        ...


@runtime_checkable
class Meter(Protocol):
    """Something that measures: readings by their names (`hardware.driver.READINGS`), each with its quality."""

    async def measure(self) -> Mapping[str, Reading]:
        """Every value now."""
        ...


@runtime_checkable
class LimitedSource(Meter, Protocol):
    """A source whose feeding in can be limited."""

    async def limit_feed_in(self, limit_w: float) -> None:
        """Feed in at most ``limit_w`` [W, >= 0] until the lease ends."""
        ...


@runtime_checkable
class DispatchableStorage(Meter, Protocol):
    """A storage that takes a power while a lease lives; `Storage` is its whole-watt form of the slot cycle."""

    async def charge_at(self, power_w: float) -> None:
        """Charge at ``power_w`` [W]; negative discharges."""
        ...


@runtime_checkable
class GridSwitch(Meter, Protocol):
    """A switch between a site and the grid."""

    async def switch(self, *, closed: bool) -> None:
        """Open or close it; returns when the feedback contact agrees."""
        ...


@runtime_checkable
class GridForming(Meter, Protocol):
    """A source that holds voltage and frequency of an island."""

    async def set_droop(self, droop: Mapping[str, float]) -> None:
        """Set droop parameters, by their SunSpec 711 names in SI units."""
        ...


@runtime_checkable
class Sheddable(Meter, Protocol):
    """A load that can be switched off."""

    async def shed(self, *, shed: bool) -> None:
        """Shed it, or let it run."""
        ...


@runtime_checkable
class Charger(Meter, Protocol):
    """A charger of electric cars."""

    async def limit_current(self, limit_a: float) -> None:
        """Charge with at most ``limit_a`` per phase [A]; 0 pauses."""
        ...


@runtime_checkable
class Instrument(Meter, Protocol):
    """A laboratory instrument: power analyser, grid simulator, PV simulator."""

    async def identify(self) -> str:
        """Its ``*IDN?``."""
        ...

    async def set_output(self, values: Mapping[str, float]) -> None:
        """Set outputs by name (``v``, ``hz``, ``w``, ``on``), each read back; an instrument without outputs refuses."""
        ...
