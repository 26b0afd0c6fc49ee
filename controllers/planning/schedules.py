"""What planners of batteries share: the batteries of a task as plain columns, several of a building one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controllers.planning.task import Batteries, Plans, Relaxed, Task

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Columns:
    """Some batteries of a task with what is around each, k of them: energies in kWh per slot at the AC side.

    ``rows`` (k,) which of the task's batteries, ``building`` (k,) where they stand. ``low``, ``high``, ``charge_max``,
    ``discharge_max``, ``eta_c``, ``eta_d``, ``leak``, ``wear``, ``stored``, ``end_value`` (k,) as in `Batteries`;
    ``kept`` (k,) bool, whether the battery keeps charge back. ``net`` (n, k) net draw of the building without this
    battery, ``room`` (n, k) >= 0 what may be charged within the import limit.
    """

    rows: Index
    building: Index
    low: Float
    high: Float
    charge_max: Float
    discharge_max: Float
    eta_c: Float
    eta_d: Float
    leak: Float
    wear: Float
    stored: Float
    end_value: Float
    kept: Bool
    net: Float
    room: Float


def one_by_one(task: Task, net: Float, plan: Callable[[Columns], Float]) -> Float:
    """Plan the first battery of every building, then the second on what the first leaves, and so on.

    ``net`` (n, B) is the net draw without batteries; ``plan`` gives charge minus discharge (n, k). Returns (n, K).
    """
    batteries = task.batteries
    if batteries is None:
        return np.zeros((task.n_slots, 0))
    schedule = np.zeros((task.n_slots, len(batteries.building)))
    net = net.copy()
    rank = rank_in_building(batteries.building)
    for r in range(int(rank.max(initial=-1)) + 1):
        rows = np.flatnonzero(rank == r)
        schedule[:, rows] = plan(_columns(task, batteries, rows, net))
        net[:, batteries.building[rows]] += schedule[:, rows]  # one of each building
    return schedule


def _columns(task: Task, batteries: Batteries, rows: Index, net: Float) -> Columns:
    at = batteries.building[rows].astype(np.intp)
    count = batteries.building.shape
    low, high, charge, discharge, eta_c, eta_d, leak, wear = (
        np.broadcast_to(x, count)[rows] for x in batteries.stores.columns()
    )
    own = net[:, at]
    return Columns(
        rows, at, low, high, charge, discharge, eta_c, eta_d, leak, wear, batteries.stored_kwh[rows],
        batteries.end_value_per_kwh[rows], batteries.kept_kwh[rows] > low, own,
        np.maximum(task.import_limit_kwh[:, at] - own, 0.0),
    )  # fmt: skip


def rank_in_building(building: NDArray[np.int32]) -> NDArray[np.int64]:
    """(K,) how many batteries of the same building stand before each."""
    seen: dict[int, int] = {}
    rank = np.empty(len(building), np.int64)
    for k, b in enumerate(building.tolist()):
        rank[k] = seen.get(b, 0)
        seen[b] = rank[k] + 1
    return rank


def battery_only(task: Task, schedule: Float) -> Plans:
    """Plans that steer batteries alone, ``schedule`` (n, K); cars and heat pumps of the task are left at zero.

    PV is held back as it costs least (`curtailed`).
    """
    net = task.load_kwh - task.pv_kwh
    wear, worth = np.zeros(task.n_buildings), np.zeros(task.n_buildings)
    batteries = task.batteries
    if batteries is not None:
        np.add.at(net.T, batteries.building, schedule.T)
        columns = [np.broadcast_to(x, batteries.building.shape) for x in batteries.stores.columns()]
        *_, eta_c, eta_d, leak, per_kwh = columns
        np.add.at(wear, batteries.building, np.maximum(-schedule, 0.0).sum(axis=0) * per_kwh)
        stored = batteries.stored_kwh.copy()
        for row in schedule:
            stored = (1.0 - leak) * stored + np.maximum(row, 0.0) * eta_c - np.maximum(-row, 0.0) / eta_d
        np.add.at(worth, batteries.building, stored * batteries.end_value_per_kwh)
    curtail = curtailed(task, net)
    net = net + curtail
    paid = np.where(net > 0.0, task.buy * net, task.sell * net).sum(axis=0)
    over = np.maximum(net - task.import_limit_kwh, 0.0) + np.maximum(-net - task.export_limit_kwh, 0.0)
    over = np.where(over < 1e-9, 0.0, over).sum(axis=0)
    none = np.zeros(task.n_buildings)
    return Plans(
        battery_kwh=schedule,
        car_kwh=np.zeros((task.n_slots, 0 if task.cars is None else len(task.cars.building))),
        heat_kwh=np.zeros((task.n_slots, 0 if task.heat is None else len(task.heat.building))),
        curtail_kwh=curtail,
        cost=paid + wear - worth,
        relaxed=Relaxed(envelope_kwh=over, missing_kwh=none, stored_kwh=none.copy(), discomfort_k=none.copy()),
    )


def curtailed(task: Task, draw_kwh: Float) -> Float:
    """(n, B) PV held back at least cost where ``draw_kwh`` (n, B) is drawn without: none unless a limit or price asks.

    The envelope goes first, then the price: what is fed in at a price below 0 is held back, and at a negative price of
    what is drawn all PV that can be replaced.
    """
    least = np.clip(-draw_kwh - task.export_limit_kwh, 0.0, task.pv_kwh)
    most = np.maximum(np.minimum(task.import_limit_kwh - draw_kwh, task.pv_kwh), least)
    no_feeding = np.clip(-draw_kwh, least, most)
    found: Float = np.where(task.sell >= 0, least, np.where(task.buy >= 0, no_feeding, most))
    return found
