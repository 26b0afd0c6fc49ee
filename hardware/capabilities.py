"""What a device can do, as small protocols. Market, controllers and the slot cycle see these and never a register."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


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
