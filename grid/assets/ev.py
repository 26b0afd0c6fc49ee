"""Electric cars at their own chargers: stays as columns, stepped for a whole fleet by one kernel.

What a stay lacks falls by what is charged, at the charger, and rises by what is fed back divided by the efficiency,
rounded up to whole Wh in every slot: a car never gives back more than was put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core import GridError

Int = NDArray[np.int64]

PPM = 1_000_000
"""Denominator of efficiencies."""


def _unset() -> Int:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class EvColumns:
    """Cars, one row each, shape (K,): ``building`` int32 index, the rest int64, per slot at the charger.

    ``charge_max_wh`` and ``discharge_max_wh``; ``discharge_ppm`` efficiency of feeding back in millionths;
    ``floor_wh`` what a stay may take from the car below its state at arrival, ``room_wh`` what it may put in beyond the
    wish; ``wear_u`` cost of wear [micro-currency per kWh fed back]. Left out, cars do not feed back.
    """

    building: NDArray[np.int32]
    charge_max_wh: Int
    discharge_max_wh: Int = field(default_factory=_unset)
    discharge_ppm: Int = field(default_factory=_unset)
    floor_wh: Int = field(default_factory=_unset)
    room_wh: Int = field(default_factory=_unset)
    wear_u: Int = field(default_factory=_unset)

    def __post_init__(self) -> None:
        for name in ("discharge_max_wh", "discharge_ppm", "floor_wh", "room_wh", "wear_u"):
            if not len(getattr(self, name)):
                default = PPM if name == "discharge_ppm" else 0
                object.__setattr__(self, name, np.full(len(self.building), default, np.int64))
            if (getattr(self, name) < (1 if name == "discharge_ppm" else 0)).any():
                raise GridError(f"{name} out of range", remedy="powers and energies >= 0, efficiency in (0, 1]")
        if (self.discharge_ppm > PPM).any():
            raise GridError("discharge_ppm out of range", remedy="efficiency in (0, 1]")

    def __len__(self) -> int:
        return len(self.building)

    def take(self, rows: NDArray[np.intp]) -> EvColumns:
        """The cars ``rows``, in that order."""
        return EvColumns(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def feeding(self) -> NDArray[np.bool_]:
        """(K,) whether a car can feed back."""
        return self.discharge_max_wh > 0


@dataclass(frozen=True, slots=True)
class EvSessionTable:
    """Stays of all cars, one car's after the other's: car k has the rows ``first[k] .. first[k + 1] - 1``.

    ``first`` int64 (K + 1,). Per stay, int64: ``arrival_slot`` (first slot at the charger), ``departure_slot`` (first
    slot away), ``energy_wh`` wanted by departure, at the charger. Slots count from the start of the run. Stays of a
    car are in order and do not overlap.
    """

    first: Int
    arrival_slot: Int
    departure_slot: Int
    energy_wh: Int

    def __post_init__(self) -> None:
        short = self.departure_slot <= self.arrival_slot
        if short.any():
            raise GridError("a stay without a slot", element=f"session {int(np.flatnonzero(short)[0])}")
        if (self.energy_wh < 0).any() or (self.arrival_slot < 0).any():
            raise GridError("a stay with negative energy or arrival", remedy="cut stays to the run, energies >= 0")
        follows = self.arrival_slot[1:] < self.departure_slot[:-1]
        follows[self.first[1:-1][(self.first[1:-1] > 0) & (self.first[1:-1] < len(self.energy_wh))] - 1] = False
        if follows.any():
            raise GridError("stays of one car overlap", element=f"session {int(np.flatnonzero(follows)[0]) + 1}")

    def take(self, rows: NDArray[np.intp]) -> EvSessionTable:
        """The stays of the cars ``rows``, in that order."""
        counts = np.diff(self.first)[rows]
        first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        pick = np.concatenate(
            [np.arange(self.first[k], self.first[k + 1]) for k in rows] or [np.empty(0, np.int64)]
        ).astype(np.int64)
        return EvSessionTable(first, self.arrival_slot[pick], self.departure_slot[pick], self.energy_wh[pick])


@dataclass(frozen=True, slots=True)
class EvState:
    """State at the start of a slot, int64 (K,): the row of the current or next stay, and the energy it still lacks.

    A car that feeds back may lack up to ``floor_wh`` more than it wanted, or less than nothing, down to ``-room_wh``.
    """

    cursor: Int
    remaining_wh: Int

    def take(self, rows: NDArray[np.intp], sessions: EvSessionTable, taken: EvSessionTable) -> EvState:
        """The state of the cars ``rows``; the cursor is moved into ``taken``, which is ``sessions.take(rows)``."""
        return EvState(self.cursor[rows] - sessions.first[:-1][rows] + taken.first[:-1], self.remaining_wh[rows])


@dataclass(frozen=True, slots=True)
class EvFlows:
    """What cars did, shape (S, K): ``charge_wh``, ``discharge_wh``, ``undelivered_wh`` int64 >= 0, ``present`` bool.

    ``undelivered_wh`` is what a stay lacked, booked in its last slot.
    """

    charge_wh: Int
    undelivered_wh: Int
    present: NDArray[np.bool_]
    discharge_wh: Int

    @property
    def net_wh(self) -> Int:
        """Charge minus what is fed back: positive draws from the grid."""
        return self.charge_wh - self.discharge_wh


def session_table(per_car: Sequence[Sequence[tuple[int, int, int]]]) -> EvSessionTable:
    """Stays (arrival slot, departure slot, energy [Wh]) of each car as one table.

    Raises
    ------
    GridError
        If a stay has no slot or negative energy, or stays of a car overlap or are out of order.
    """
    counts = [len(stays) for stays in per_car]
    flat = np.array([stay for stays in per_car for stay in stays], dtype=np.int64).reshape(-1, 3)
    first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return EvSessionTable(first, flat[:, 0].copy(), flat[:, 1].copy(), flat[:, 2].copy())


def initial_ev_state(sessions: EvSessionTable) -> EvState:
    """State at the start of a run: no stay has begun."""
    return EvState(sessions.first[:-1].copy(), np.zeros(len(sessions.first) - 1, np.int64))


def step_evs(
    columns: EvColumns, sessions: EvSessionTable, state: EvState, first_slot: int, request_wh: Int
) -> tuple[EvFlows, EvState]:
    """Step every car through the slots ``first_slot ..`` of a window.

    Parameters
    ----------
    columns, sessions, state
        The cars, their stays, and the state at the window's start.
    first_slot
        Number of the window's first slot in the run.
    request_wh
        Wanted charge [Wh], int64 (S, K), negative feeds back. It is cut to the charger's power, to what the stay still
        lacks (and has room for), to what may be taken from the car (nothing from one that cannot feed back), and to
        zero while it is away. That a stay ends with what it wanted is up to who asks.

    Returns
    -------
    tuple
        Flows (S, K) and the state at the window's end. Windows may be cut anywhere with the same result.
    """
    shape = request_wh.shape
    charge, undelivered, discharge = (np.zeros(shape, np.int64) for _ in range(3))
    flows = EvFlows(charge, undelivered, np.zeros(shape, np.bool_), discharge)
    new = EvState(state.cursor.copy(), state.remaining_wh.copy())
    _step(
        columns.charge_max_wh, columns.discharge_max_wh, columns.discharge_ppm, columns.floor_wh, columns.room_wh,
        sessions.first, sessions.arrival_slot, sessions.departure_slot, sessions.energy_wh, first_slot, request_wh,
        new.cursor, new.remaining_wh, flows.charge_wh, flows.discharge_wh, flows.undelivered_wh, flows.present,
    )  # fmt: skip
    return flows, new


@njit(cache=True)
def _step(
    charge_max: Int,
    discharge_max: Int,
    discharge_ppm: Int,
    floor_wh: Int,
    room_wh: Int,
    first: Int,
    arrival: Int,
    departure: Int,
    energy_wh: Int,
    first_slot: int,
    request: Int,
    cursor: Int,
    remaining: Int,
    out_charge: Int,
    out_discharge: Int,
    out_undelivered: Int,
    out_present: NDArray[np.bool_],
) -> None:
    for k in range(request.shape[1]):
        row = cursor[k]
        end = first[k + 1]
        left = remaining[k]
        for t in range(request.shape[0]):
            slot = first_slot + t
            if row >= end or slot < arrival[row]:
                continue
            if slot == arrival[row]:
                left = energy_wh[row]
            out_present[t, k] = True
            charge = max(min(request[t, k], charge_max[k], left + room_wh[k]), 0)
            left -= charge
            out_charge[t, k] = charge
            if request[t, k] < 0 and discharge_max[k] > 0:
                inside = max(energy_wh[row] + floor_wh[k] - left, 0)  # what may still be taken
                given = min(-request[t, k], discharge_max[k], inside * discharge_ppm[k] // PPM)
                left += (given * PPM + discharge_ppm[k] - 1) // discharge_ppm[k]
                out_discharge[t, k] = given
            if slot + 1 == departure[row]:
                out_undelivered[t, k] = max(left, 0)
                left = 0
                row += 1
        cursor[k] = row
        remaining[k] = left
