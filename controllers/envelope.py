"""Connection points keep to their limits: what controllers want is cut until a building's net fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from grid.assets.ev import EvColumns, EvSessionTable, EvState

Int = NDArray[np.int64]
Index = NDArray[np.int32]

BATTERY, CAR, HEAT = range(3)
"""Places of kinds of device in `Kept.held_wh`, in the order in which their draw gives way."""

KINDS: Final = ("battery", "ev", "heat_pump")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is planned [Wh], int64: batteries (S, K), cars (S, E), heat pumps (S, H), PV held back (S, B).

    Positive draws; what is wished for is possible (the flows of the physics, not requests).
    """

    battery_wh: Int
    car_wh: Int
    heat_wh: Int
    curtail_wh: Int


@dataclass(frozen=True, slots=True)
class Homes:
    """Building of each battery (K,), car (E,) and heat pump (H,), int32."""

    battery: Index
    car: Index
    heat: Index


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the wishes is kept, for the first ``slots`` slots.

    The first slot in which a device gives way is the last one that stands: what was planned behind it rests on energy
    that was not stored, charged or heated. ``held_wh`` (S, B, 3) is draw that was held back, by kind of device;
    ``unfed_wh`` (S, B) what batteries and cars did not feed in.
    """

    slots: int
    wishes: Wishes
    held_wh: Int
    unfed_wh: Int


def keep_within(
    wishes: Wishes, homes: Homes, net_wh: Int, pv_wh: Int, import_wh: Int, export_wh: Int, urgent_wh: Int
) -> Kept:
    """Wishes cut so that every building draws at most ``import_wh`` and feeds in at most ``export_wh``.

    Drawing too much, PV that is held back is let in first; then batteries charge less, then cars (those that can still
    catch up first), then heat pumps. Feeding in too much, batteries discharge less, then cars, then PV is curtailed.
    Devices of a building give way in the order of their columns. Nothing is turned round: no battery discharges to
    help, and fixed load is never cut, so that a limit may remain broken.

    Parameters
    ----------
    net_wh
        (S, B) net draw with all wishes granted.
    pv_wh
        (S, B) generation before anything is held back.
    import_wh, export_wh
        (S, B) limits per slot, >= 0; a large number where there is none.
    urgent_wh
        (S, E) of `urgent_charge_wh`.
    """
    n, n_buildings = net_wh.shape
    out = Wishes(wishes.battery_wh.copy(), wishes.car_wh.copy(), wishes.heat_wh.copy(), wishes.curtail_wh.copy())
    held, unfed = np.zeros((n, n_buildings, len(KINDS)), np.int64), np.zeros((n, n_buildings), np.int64)
    slots = _keep(
        net_wh - import_wh, wishes.curtail_wh - net_wh - export_wh, pv_wh, homes.battery, homes.car, homes.heat,
        urgent_wh, out.battery_wh, out.car_wh, out.heat_wh, out.curtail_wh, held, unfed,
    )  # fmt: skip
    return Kept(int(slots), out, held, unfed)


@njit(cache=True, error_model="numpy")
def _keep(
    too_much: Int,
    too_little: Int,
    pv: Int,
    battery_at: Index,
    car_at: Index,
    heat_at: Index,
    urgent: Int,
    battery: Int,
    car: Int,
    heat: Int,
    curtail: Int,
    held: Int,
    unfed: Int,
) -> int:
    n: int = pv.shape[0]
    for t in range(n):
        over, under = too_much[t], too_little[t]  # views: both shrink as devices give way
        cut = 0
        for b in range(pv.shape[1]):
            back = min(curtail[t, b], max(over[b], 0))
            curtail[t, b] -= back
            over[b] -= back
        for k in range(battery.shape[1]):
            b = battery_at[k]
            less = min(max(battery[t, k], 0), max(over[b], 0))
            more = min(max(-battery[t, k], 0), max(under[b], 0))
            battery[t, k] += more - less
            over[b] -= less
            under[b] -= more
            held[t, b, BATTERY] += less
            unfed[t, b] += more
            cut += less + more
        for last in range(2):  # what can be caught up later goes first
            for e in range(car.shape[1]):
                b = car_at[e]
                spare = max(car[t, e] - (0 if last else urgent[t, e]), 0)
                less = min(spare, max(over[b], 0))
                more = min(max(-car[t, e], 0), max(under[b], 0))
                car[t, e] += more - less
                over[b] -= less
                under[b] -= more
                held[t, b, CAR] += less
                unfed[t, b] += more
                cut += less + more
        for h in range(heat.shape[1]):
            b = heat_at[h]
            less = min(heat[t, h], max(over[b], 0))
            heat[t, h] -= less
            over[b] -= less
            held[t, b, HEAT] += less
            cut += less
        for b in range(pv.shape[1]):
            curtail[t, b] = max(min(max(under[b], 0), pv[t, b]), curtail[t, b] - unfed[t, b])
        if cut > 0:
            return t + 1
    return n


def urgent_charge_wh(columns: EvColumns, sessions: EvSessionTable, state: EvState, first_slot: int, net_wh: Int) -> Int:
    """Of what cars charge (``net_wh`` (S, E), negative feeds back), what they could not catch up before they leave."""
    out = np.zeros_like(net_wh)
    _urgent(
        columns.charge_max_wh, columns.discharge_ppm, sessions.first, sessions.arrival_slot, sessions.departure_slot,
        sessions.energy_wh, first_slot, net_wh, state.cursor.copy(), state.remaining_wh.copy(), out,
    )  # fmt: skip
    return out


@njit(cache=True, error_model="numpy")
def _urgent(
    charge_max: Int,
    discharge_ppm: Int,
    first: Int,
    arrival: Int,
    departure: Int,
    energy: Int,
    first_slot: int,
    net: Int,
    cursor: Int,
    lacking: Int,
    out: Int,
) -> None:
    for e in range(net.shape[1]):
        row, left = cursor[e], lacking[e]
        for t in range(net.shape[0]):
            slot = first_slot + t
            if row >= first[e + 1] or slot < arrival[row]:
                continue
            if slot == arrival[row]:
                left = energy[row]
            later = charge_max[e] * (departure[row] - slot - 1)
            out[t, e] = min(max(left - later, 0), max(net[t, e], 0))
            left -= max(net[t, e], 0)
            left += (max(-net[t, e], 0) * 1_000_000 + discharge_ppm[e] - 1) // discharge_ppm[e]
            if slot + 1 == departure[row]:
                row += 1
