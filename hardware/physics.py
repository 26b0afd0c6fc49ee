"""What an emulated battery needs of a battery's physics, and the fleet kernel of ``grid`` in that shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core.errors import DeviceError

if TYPE_CHECKING:
    from grid.assets.battery import BatteryColumns, BatteryState

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Advance:
    """What happened while time passed: AC energies and the energy stored at the end, integer Wh, none negative."""

    charge_wh: int
    discharge_wh: int
    stored_wh: int


class BatteryPhysics(Protocol):
    """A battery that integrates a set-point over time."""

    @property
    def stored_wh(self) -> int:
        """Energy stored now [Wh]."""
        ...

    def advance(self, set_point_w: int, seconds: int) -> Advance:
        """Let ``seconds`` pass at ``set_point_w`` [W], positive charges; what exceeds a limit is clipped."""
        ...


def exact_set_point_w(request_wh: int, slot_s: int) -> int:
    """The power [W] that moves ``request_wh`` in a slot of ``slot_s`` seconds; the sign is kept.

    Raises
    ------
    DeviceError
        If no whole number of watts does; with slots that divide an hour there always is one.
    """
    set_point_w, rest = divmod(request_wh * _HOUR_S, slot_s)
    if rest:
        raise DeviceError(f"{request_wh} Wh in {slot_s} s is no whole number of watts", local=True)
    return set_point_w


class KernelBattery:
    """One battery stepped by the fleet kernel of ``grid``: the same set-points give the same Wh as in a model run.

    Parameters
    ----------
    columns, state
        One battery, as columns of length 1, made for slots of ``slot_s`` seconds.
    slot_s
        Length of a slot [s]; time passes in whole slots.
    """

    def __init__(self, columns: BatteryColumns, state: BatteryState, slot_s: int) -> None:
        if len(columns) != 1:
            raise ValueError(f"a device is one battery, not {len(columns)}")
        self._columns = columns
        self._state = state.copy()
        self._slot_s = slot_s
        self.advance(0, 0)  # compiles the kernel now instead of within somebody's time limit

    @property
    def stored_wh(self) -> int:
        """Energy stored now [Wh]."""
        return int(self._state.e_wh[0])

    def advance(self, set_point_w: int, seconds: int) -> Advance:
        """Let whole slots pass at ``set_point_w`` [W], positive charges; what exceeds a limit is clipped.

        Raises
        ------
        DeviceError
            If ``seconds`` is no multiple of the slot, or the set-point is no whole number of Wh per slot.
        """
        import numpy as np

        from grid.assets.battery import step_batteries

        n_slots, rest = divmod(seconds, self._slot_s)
        request_wh, part = divmod(set_point_w * self._slot_s, _HOUR_S)
        if rest:
            raise DeviceError(f"{seconds} s is no multiple of the slot of {self._slot_s} s", local=True)
        if part:
            raise DeviceError(f"{set_point_w} W is no whole number of Wh in {self._slot_s} s", local=True)
        request = np.full((n_slots, 1), request_wh, np.int64)
        flows, self._state = step_batteries(self._columns, self._state, request)
        return Advance(int(flows.charge_wh.sum()), int(flows.discharge_wh.sum()), self.stored_wh)
