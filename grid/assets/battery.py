"""Batteries: an exact integer law of stored energy, stepped for a whole fleet by one kernel.

The law (market-rules 4, h): ``E_end = E_start + stored - drawn - self``, all whole Wh, where over any stretch

- ``stored`` is charge x efficiency, ``drawn`` is discharge / efficiency, ``self`` is rate x stored energy at the slot's
  start, each rounded down per slot with what rounding leaves carried to the next slot as an exact integer.

The remainder of discharging starts at its largest value, so that drawing rounds up from the first Wh on: whatever is
done to a battery, it never gives more than what was put in times both efficiencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core import GridError

Int = NDArray[np.int64]

PPM = 1_000_000
"""Denominator of efficiencies."""

BILLION = 1_000_000_000
"""Denominator of self-discharge per slot."""

MAX_CAPACITY_WH = 9_000_000_000
"""Largest capacity and largest energy of a slot [Wh] (9 GWh): their product with `BILLION` still fits into int64."""


@dataclass(frozen=True, slots=True)
class BatteryColumns:
    """Batteries, one row each: all arrays have shape (K,), int64 unless said otherwise.

    ``building`` int32 index; ``capacity_wh`` nominal; ``min_wh <= E <= max_wh``; ``charge_max_wh`` and
    ``discharge_max_wh`` per slot at the AC terminals; ``charge_ppm`` and ``discharge_ppm`` one-way efficiencies in
    millionths; ``leak_per_1e9`` self-discharge per slot in billionths of the stored energy; ``wear_u`` cost of wear
    [micro-currency per kWh discharged].
    """

    building: NDArray[np.int32]
    capacity_wh: Int
    min_wh: Int
    max_wh: Int
    charge_max_wh: Int
    discharge_max_wh: Int
    charge_ppm: Int
    discharge_ppm: Int
    leak_per_1e9: Int
    wear_u: Int

    def __post_init__(self) -> None:
        low, high = np.int64(0), np.int64(MAX_CAPACITY_WH)
        checks = (
            ("limits of stored energy", (low <= self.min_wh) & (self.min_wh <= self.max_wh) & (self.max_wh <= high)),
            ("charge_max_wh", (low <= self.charge_max_wh) & (self.charge_max_wh <= high)),
            ("discharge_max_wh", (low <= self.discharge_max_wh) & (self.discharge_max_wh <= high)),
            ("charge_ppm", (self.charge_ppm > 0) & (self.charge_ppm <= PPM)),
            ("discharge_ppm", (self.discharge_ppm > 0) & (self.discharge_ppm <= PPM)),
            ("leak_per_1e9", (low <= self.leak_per_1e9) & (self.leak_per_1e9 <= BILLION)),
        )
        for name, good in checks:
            if not good.all():
                row = int(np.flatnonzero(~good)[0])
                raise GridError(
                    f"{name} out of range", element=f"battery {row}", remedy="sizes up to 9 GWh, efficiencies in (0, 1]"
                )

    def __len__(self) -> int:
        return len(self.building)

    def take(self, rows: NDArray[np.intp]) -> BatteryColumns:
        """The batteries ``rows``, in that order."""
        return BatteryColumns(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class BatteryState:
    """State at the start of a slot, int64, shape (K,) each.

    ``e_wh`` stored energy; the remainders are what rounding has left: ``rem_charge`` in 1e-6 Wh, ``rem_discharge`` in
    Wh / ``discharge_ppm``, ``rem_leak`` in 1e-9 Wh.
    """

    e_wh: Int
    rem_charge: Int
    rem_discharge: Int
    rem_leak: Int

    def take(self, rows: NDArray[np.intp]) -> BatteryState:
        """The state of the batteries ``rows``, in that order."""
        return BatteryState(self.e_wh[rows], self.rem_charge[rows], self.rem_discharge[rows], self.rem_leak[rows])

    def copy(self) -> BatteryState:
        """A state that shares no memory with this one."""
        return BatteryState(self.e_wh.copy(), self.rem_charge.copy(), self.rem_discharge.copy(), self.rem_leak.copy())


@dataclass(frozen=True, slots=True)
class BatteryFlows:
    """What batteries did, int64 Wh >= 0, shape (S, K) each.

    ``charge_wh`` and ``discharge_wh`` at the AC terminals (never both in a slot), ``stored_wh``, ``drawn_wh`` and
    ``self_wh`` in the store, ``e_start_wh`` stored energy at each slot's start.
    """

    charge_wh: Int
    discharge_wh: Int
    stored_wh: Int
    drawn_wh: Int
    self_wh: Int
    e_start_wh: Int

    @property
    def net_wh(self) -> Int:
        """Charge minus discharge: positive draws from the grid."""
        return self.charge_wh - self.discharge_wh


def battery_columns(
    *,
    building: Sequence[int],
    capacity_kwh: Sequence[float],
    charge_kw: Sequence[float],
    discharge_kw: Sequence[float],
    efficiency_charge: Sequence[float],
    efficiency_discharge: Sequence[float],
    self_discharge_per_day: Sequence[float],
    wear_per_kwh: Sequence[float],
    min_soc: Sequence[float],
    max_soc: Sequence[float],
    slot_s: int,
) -> BatteryColumns:
    """Batteries of a scenario as integer columns for slots of ``slot_s`` seconds; one item per battery each.

    Self-discharge per slot is ``1 - (1 - per_day) ** (slot / day)``. Values are rounded to whole Wh, ppm, 1e-9.

    Raises
    ------
    GridError
        If a value is out of range.
    """
    capacity = _whole(np.asarray(capacity_kwh, dtype=np.float64) * 1000.0)
    hours = slot_s / 3600.0
    per_slot = 1.0 - (1.0 - np.asarray(self_discharge_per_day, dtype=np.float64)) ** (slot_s / 86_400.0)
    return BatteryColumns(
        building=np.asarray(building, dtype=np.int32),
        capacity_wh=capacity,
        min_wh=_whole(capacity * np.asarray(min_soc, dtype=np.float64)),
        max_wh=_whole(capacity * np.asarray(max_soc, dtype=np.float64)),
        charge_max_wh=_whole(np.asarray(charge_kw, dtype=np.float64) * 1000.0 * hours),
        discharge_max_wh=_whole(np.asarray(discharge_kw, dtype=np.float64) * 1000.0 * hours),
        charge_ppm=_whole(np.asarray(efficiency_charge, dtype=np.float64) * PPM),
        discharge_ppm=_whole(np.asarray(efficiency_discharge, dtype=np.float64) * PPM),
        leak_per_1e9=_whole(per_slot * BILLION),
        wear_u=_whole(np.asarray(wear_per_kwh, dtype=np.float64) * 1e6),
    )


def _whole(values: NDArray[Any]) -> Int:
    return np.asarray(np.rint(values), dtype=np.int64)


def initial_state(columns: BatteryColumns, initial_soc: Sequence[float]) -> BatteryState:
    """State at the start of a run: ``initial_soc`` (0..1 of the capacity), brought between the limits.

    The remainder of discharging starts full (see the module), the others at zero.
    """
    energy = _whole(columns.capacity_wh * np.asarray(initial_soc, dtype=np.float64))
    zero = np.zeros(len(columns), np.int64)
    return BatteryState(np.clip(energy, columns.min_wh, columns.max_wh), zero, columns.discharge_ppm - 1, zero.copy())


def step_batteries(columns: BatteryColumns, state: BatteryState, request_wh: Int) -> tuple[BatteryFlows, BatteryState]:
    """Step every battery through the slots of a window.

    Parameters
    ----------
    columns, state
        The batteries and their state at the window's start.
    request_wh
        Wanted energy at the AC terminals [Wh], int64 (S, K), positive charges. It is cut to what power, room and
        stored energy admit, exactly: E stays between the limits, but self-discharge may take it below ``min_wh``.

    Returns
    -------
    tuple
        The flows (S, K) and the state at the window's end. Windows may be cut anywhere with the same result.
    """
    shape = request_wh.shape
    flows = BatteryFlows(*(np.empty(shape, np.int64) for _ in range(6)))
    new = state.copy()
    _step(
        columns.min_wh, columns.max_wh, columns.charge_max_wh, columns.discharge_max_wh, columns.charge_ppm,
        columns.discharge_ppm, columns.leak_per_1e9, request_wh, new.e_wh, new.rem_charge, new.rem_discharge,
        new.rem_leak, flows.charge_wh, flows.discharge_wh, flows.stored_wh, flows.drawn_wh, flows.self_wh,
        flows.e_start_wh,
    )  # fmt: skip
    return flows, new


@njit(cache=True, error_model="numpy")
def battery_slot(
    request: int,
    e_wh: int,
    rem_charge: int,
    rem_discharge: int,
    rem_leak: int,
    min_wh: int,
    max_wh: int,
    charge_max: int,
    discharge_max: int,
    charge_ppm: int,
    discharge_ppm: int,
    leak_per_1e9: int,
) -> tuple[int, int, int, int, int, int, int, int]:
    """One battery through one slot, all int64 (units as in `BatteryColumns` and `BatteryState`).

    Returns
    -------
    tuple
        charge, discharge, stored, drawn, self-discharge [Wh], and the new remainders (charge, discharge, leak). The new
        energy is ``e_wh + stored - drawn - self``.
    """
    leak = 0
    if leak_per_1e9 > 0:
        lost = e_wh * leak_per_1e9 + rem_leak
        leak = lost // BILLION
        rem_leak = lost - leak * BILLION
    charge = 0
    stored = 0
    discharge = 0
    drawn = 0
    if request > 0:
        room = max_wh - (e_wh - leak)
        charge = min(request, charge_max)
        gained = charge * charge_ppm + rem_charge
        stored = gained // PPM
        if stored > room:  # the most that still fits: stored <= room <=> gained < (room + 1) PPM
            charge = max(((room + 1) * PPM - 1 - rem_charge) // charge_ppm, 0)
            gained = charge * charge_ppm + rem_charge
            stored = gained // PPM
        rem_charge = gained - stored * PPM
    elif request < 0:
        left = max(e_wh - leak - min_wh, 0)
        discharge = min(-request, discharge_max)
        given = discharge * PPM + rem_discharge
        drawn = given // discharge_ppm
        if drawn > left:  # the most that is there: drawn <= left <=> given < (left + 1) discharge_ppm
            discharge = ((left + 1) * discharge_ppm - 1 - rem_discharge) // PPM
            given = discharge * PPM + rem_discharge
            drawn = given // discharge_ppm
        rem_discharge = given - drawn * discharge_ppm
    return charge, discharge, stored, drawn, leak, rem_charge, rem_discharge, rem_leak


@njit(cache=True, error_model="numpy")
def _step(
    min_wh: Int,
    max_wh: Int,
    charge_max: Int,
    discharge_max: Int,
    charge_ppm: Int,
    discharge_ppm: Int,
    leak_per_1e9: Int,
    request: Int,
    e_wh: Int,
    rem_charge: Int,
    rem_discharge: Int,
    rem_leak: Int,
    out_charge: Int,
    out_discharge: Int,
    out_stored: Int,
    out_drawn: Int,
    out_self: Int,
    out_start: Int,
) -> None:
    for t in range(request.shape[0]):
        for k in range(request.shape[1]):
            charge, discharge, stored, drawn, leak, rem_charge[k], rem_discharge[k], rem_leak[k] = battery_slot(
                request[t, k], e_wh[k], rem_charge[k], rem_discharge[k], rem_leak[k], min_wh[k], max_wh[k],
                charge_max[k], discharge_max[k], charge_ppm[k], discharge_ppm[k], leak_per_1e9[k],
            )  # fmt: skip
            out_charge[t, k] = charge
            out_discharge[t, k] = discharge
            out_stored[t, k] = stored
            out_drawn[t, k] = drawn
            out_self[t, k] = leak
            out_start[t, k] = e_wh[k]
            e_wh[k] += stored - drawn - leak
