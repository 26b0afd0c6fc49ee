"""The desk that plans whole buildings ahead in the slot cycle, and what stands of its plans from slot to slot.

Plans are made at absolute slots (multiples of the replanning interval from the run's start, and where a resident's
override ends), from the state of that moment. Until the next one they stand: whole Wh for every slot. So results do
not depend on how slots are cut into windows. Equations and rules of execution: docs/planning.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from controllers.registry import PLANNED
from core import RunError
from peerwatt.messages import Prices, Window
from peerwatt.planning_forecasts import Known

if TYPE_CHECKING:
    from controllers.planners import BuildingPlanner
    from controllers.planning.task import Plans, Task
    from grid.assets.battery import BatteryState
    from peerwatt.scenario.planning import PlanForecast
    from peerwatt.system import System

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Arrays = dict[str, np.ndarray]

BATTERY_BY_HAND = {"greedy": "greedy_self_consumption", "idle": "idle"}
FALL_BACK: Literal["greedy"] = "greedy"
"""What a building does whose planner is silent: as if a resident had taken over."""
CAR_BY_HAND = "charge_on_arrival"
HEAT_BY_HAND = "thermostat"
ROUNDING_WH = 2
UNKNOWN_U = np.int64(np.iinfo(np.int64).min)
_WH = 1000.0


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Buildings that are planned alike.

    ``buildings`` (B_g,) indices; ``horizon`` and ``every`` in slots; ``by_value`` whether batteries follow the value
    of stored energy and not the schedule; ``end_value`` [currency per kWh], None for the rule of docs/planning.md.
    """

    planner: BuildingPlanner
    parameters: Mapping[str, Any]
    buildings: Int
    horizon: int
    every: int
    by_value: bool
    forecast: PlanForecast
    end_value: float | None
    on_error: Literal["stop", "fall_back"] = "stop"


class PlannerSilentError(RunError):
    """A planner has not answered in time: nobody it was asked for has a plan."""


def ask_planner(group: PlannedGroup, task: Task, workers: int) -> Plans:
    """The plans of a group's planner; whatever goes wrong in it comes out."""
    from controllers.planners import plan_buildings

    return plan_buildings(group.planner.name, task, group.parameters, workers=workers)


@dataclass(frozen=True, slots=True)
class HandsOn:
    """A resident's override: slots ``first .. end - 1`` of a building."""

    building: int
    first: int
    end: int
    what: Literal["greedy", "idle"]


@dataclass(frozen=True, slots=True)
class PlanningSetup:
    """Who is planned by whom, and who takes over when.

    ``battery`` (K,), ``car`` (E,), ``heat`` (H,): the group that steers each asset, -1 for its own controller.
    ``ask`` asks a planner. ``silent`` are buildings that are known to have fallen back, by slot; ``forgiving`` lets
    every group fall back where its planner fails, whatever the scenario says, as a service has to.
    """

    groups: tuple[PlannedGroup, ...]
    overrides: tuple[HandsOn, ...]
    battery: Int
    car: Int
    heat: Int
    workers: int
    known: Known = field(default_factory=Known, compare=False)
    ask: Callable[[PlannedGroup, Task, int], Plans] = field(default=ask_planner, compare=False)
    silent: Mapping[int, frozenset[int]] = field(default_factory=dict, compare=False)
    forgiving: bool = False

    def planned(self, n_buildings: int) -> Bool:
        """(B,) whether a building is planned."""
        out = np.zeros(n_buildings, np.bool_)
        for group in self.groups:
            out[group.buildings] = True
        return out


@dataclass(frozen=True, slots=True)
class Standing:
    """Plans as they stand, for L slots from ``first`` on (-1: none has been made).

    ``battery_wh`` (L, K), ``car_wh`` (L, E), ``heat_wh`` (L, H) what is asked of each asset; ``levels_wh`` (L, K, 4)
    for batteries that follow the value of stored energy (`controllers.planning.following`), (L, 0, 4) without any;
    ``worth_u`` (L, K) what a stored kWh is worth at the slot's end [micro-currency], `UNKNOWN_U` where the planner does
    not say; ``cut_wh`` (K,) what batteries have not done of what was asked, since the run's start. ``silent`` (B,) 1
    where the planner has given no plan for slot ``first``, ``fallen`` (B,) in how many slots so far: such a building
    falls back to self-consumption, and is planned at the next slot. ``unproven`` (B,) plans so far that are not proven
    to be the cheapest (`controllers.planning.task.Plans.gap`).
    """

    first: int
    battery_wh: Int
    car_wh: Int
    heat_wh: Int
    levels_wh: Int
    worth_u: Int
    cut_wh: Int
    silent: Int
    fallen: Int
    unproven: Int

    @classmethod
    def none(cls, system: System) -> Standing:
        """Before the first plan."""
        setup = system.planning
        length = 0 if setup is None else max((group.horizon for group in setup.groups), default=0)
        k, e, h = len(system.storage.columns), len(system.chargers.columns), len(system.heating)
        leveled = k if setup is not None and any(group.by_value for group in setup.groups) else 0
        battery, car, heat = (np.zeros((length, count), np.int64) for count in (k, e, h))
        levels, worth = np.zeros((length, leveled, 4), np.int64), np.full((length, k), UNKNOWN_U)
        silent, fallen, unproven = np.zeros((3, system.n_buildings), np.int64)
        return cls(-1, battery, car, heat, levels, worth, np.zeros(k, np.int64), silent, fallen, unproven)

    def moved(self, first: int) -> Standing:
        """The same plans, told from slot ``first`` on; new arrays."""

        def shifted(rows: Int, *, unknown: bool = False) -> Int:
            out = np.full_like(rows, UNKNOWN_U if unknown else 0)
            if self.first >= 0 and (by := first - self.first) < len(rows):
                out[: len(rows) - by] = rows[by:]
            return out

        return Standing(
            first, shifted(self.battery_wh), shifted(self.car_wh), shifted(self.heat_wh), shifted(self.levels_wh),
            shifted(self.worth_u, unknown=True), self.cut_wh, self.silent, self.fallen,
            self.unproven.copy(),
        )  # fmt: skip

    def checkpoint(self) -> Arrays:
        """As arrays."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    def restore(self, arrays: Arrays) -> Standing:
        """What ``checkpoint`` gave; without arrays these plans themselves."""
        if not arrays:
            return self
        return Standing(int(arrays["first"]), *(arrays.get(f.name, getattr(self, f.name)) for f in fields(self)[1:]))


@dataclass(frozen=True, slots=True)
class Orders:
    """What a stretch of slots is driven by: the controller of each asset, and what is asked of planned ones.

    Names are those of controllers, or `PLANNED`. ``worth_u`` (S, K) as in `Standing`; ``levels_wh`` (S, K, 4) with
    ``by_value`` (K,) for batteries that follow values; ``holds_back`` (B,) buildings that hold PV back where feeding it
    in costs money.
    """

    battery: tuple[str, ...]
    car: tuple[str, ...]
    heat: tuple[str, ...]
    battery_wh: Int
    car_wh: Int
    heat_wh: Int
    levels_wh: Int
    worth_u: Int
    by_value: Bool
    holds_back: Bool


def with_hands_on(system: System, hands: tuple[HandsOn, ...]) -> System:
    """The system with further overrides."""
    if not hands:
        return system
    setup = system.planning
    if setup is None:
        own = (system.storage.columns, system.chargers.columns, system.heating)
        battery, car, heat = (np.full(len(columns), -1, np.int64) for columns in own)
        setup = PlanningSetup((), (), battery, car, heat, workers=1)
    return replace(system, planning=replace(setup, overrides=(*setup.overrides, *hands)))


def pieces(setup: PlanningSetup | None, window: Window) -> list[Window]:
    """The window, cut where plans are made and where overrides begin or end."""
    if setup is None:
        return [window]
    end = window.first + window.n
    cuts = {window.first}
    for group in setup.groups:
        cuts.update(range(-(-window.first // group.every) * group.every, end, group.every))
    cuts.update(slot for hand in setup.overrides for slot in (hand.first, hand.end) if window.first < slot < end)
    starts = sorted(cuts)
    return [Window(a, b - a) for a, b in zip(starts, [*starts[1:], end], strict=True)]


def whole_wh(schedule_kwh: Float) -> Int:
    """Whole Wh per slot of a schedule (n, A) [kWh]; sums from its start differ from the exact ones by half a Wh."""
    total = np.floor(np.cumsum(schedule_kwh * _WH, axis=0) + 0.5 + 1e-6)  # the last digits of a float do not count
    return np.diff(total, axis=0, prepend=0.0).astype(np.int64)


def orders_for(system: System, standing: Standing, piece: Window) -> Orders:
    """What drives the slots of a piece that `pieces` cut."""
    setup = system.planning
    batteries, cars, heating = system.storage, system.chargers, system.heating
    battery, car, heat = list(batteries.controller), list(cars.controller), list(heating.controller)
    nobody = np.zeros(system.n_buildings, np.bool_)
    if setup is None or not setup.groups:
        asked, car_wh, heat_wh = (np.zeros((piece.n, len(part)), np.int64) for part in (battery, car, heat))
        levels, worth = np.zeros((piece.n, 0, 4), np.int64), np.full(asked.shape, UNKNOWN_U)
        by_value, holds = np.zeros(len(battery), np.bool_), nobody
    else:
        rows = slice(piece.first - standing.first, piece.first - standing.first + piece.n)
        asked, car_wh, heat_wh = standing.battery_wh[rows], standing.car_wh[rows], standing.heat_wh[rows]
        levels, worth = standing.levels_wh[rows], standing.worth_u[rows]
        holds = setup.planned(system.n_buildings)
        by_value = np.array([g >= 0 and setup.groups[g].by_value for g in setup.battery.tolist()], np.bool_)
        for names, group in ((battery, setup.battery), (car, setup.car), (heat, setup.heat)):
            for i in np.flatnonzero(group >= 0).tolist():
                names[i] = PLANNED
    fallen = [
        HandsOn(b, piece.first, piece.first + piece.n, FALL_BACK) for b in np.flatnonzero(standing.silent).tolist()
    ]
    for hand in (*fallen, *(setup.overrides if setup is not None else ())):  # a person comes last, and so counts
        if hand.first <= piece.first < hand.end:
            holds[hand.building] = False
            for names, home, name in (
                (battery, batteries.columns.building, BATTERY_BY_HAND[hand.what]),
                (car, cars.columns.building, CAR_BY_HAND),
                (heat, heating.columns.building, HEAT_BY_HAND),
            ):
                for i in np.flatnonzero(home == hand.building).tolist():
                    names[i] = name
    by_value &= np.array([name == PLANNED for name in battery], np.bool_)
    return Orders(tuple(battery), tuple(car), tuple(heat), asked, car_wh, heat_wh, levels, worth, by_value, holds)


def stored_worth_u(system: System, orders: Orders) -> Int | None:
    """Prices (S, B, 2) [micro-currency per kWh] at which buildings charge and discharge, by what their plan says.

    Bids ``eta_c V'`` rounded down and asks ``V' / eta_d + wear`` rounded up, of the building's first planned battery
    at the planned end of each slot; `UNKNOWN_U` without such a plan; None where nobody is planned.
    """
    if system.planning is None or not system.planning.groups:
        return None
    from controllers.planning.schedules import rank_in_building
    from grid.assets.battery import PPM

    columns = system.storage.columns
    names = np.array([name == PLANNED for name in orders.battery], np.bool_)
    rows = np.flatnonzero(names & (rank_in_building(columns.building) == 0))
    known, part = orders.worth_u[:, rows] != UNKNOWN_U, columns.take(rows)
    worth = np.where(known, orders.worth_u[:, rows], 0)
    bid = worth * part.charge_ppm // PPM
    ask = -(-worth * PPM // part.discharge_ppm) + part.wear_u
    out = np.full((len(worth), system.n_buildings, 2), UNKNOWN_U)
    out[:, part.building, 0] = np.where(known, bid, UNKNOWN_U)
    out[:, part.building, 1] = np.where(known, ask, UNKNOWN_U)
    return out


def asked_of_batteries(system: System, state: BatteryState, orders: Orders, surplus_wh: Int) -> Int:
    """What is asked of planned batteries (S, K) [Wh], once the surplus of their buildings (S, B) is known.

    What rounding leaves at a meter, up to `ROUNDING_WH`, is taken up by the building's first battery if it is at work.
    No battery feeds in beyond its building's export limit.
    """
    planned = np.array([name == PLANNED for name in orders.battery], np.bool_)
    if not planned.any():
        return orders.battery_wh
    from controllers.planning.following import follow_levels
    from controllers.planning.schedules import rank_in_building
    from grid.assets.quantise import sum_by_building

    home = system.storage.columns.building
    asked = np.where(planned, orders.battery_wh, 0)
    left = sum_by_building(asked, home, system.n_buildings) - surplus_wh
    first = planned & (rank_in_building(home) == 0)
    asked -= np.where(first & (np.abs(left[:, home]) <= ROUNDING_WH) & (asked != 0), left[:, home], 0)
    rows = np.flatnonzero(orders.by_value)
    if len(rows):
        columns, levels = system.storage.columns.take(rows), np.ascontiguousarray(orders.levels_wh[:, rows])
        asked[:, rows] = follow_levels(columns, state.take(rows), levels, -surplus_wh, system.export_limit_wh)
    limit = system.export_limit_wh
    room = np.maximum(limit - surplus_wh, 0)
    for k in np.flatnonzero(planned & (limit[home] >= 0)).tolist():
        asked[:, k] = np.maximum(asked[:, k], -room[:, home[k]])
        room[:, home[k]] += np.minimum(asked[:, k], 0)
    return asked


def noted(standing: Standing, orders: Orders, done_wh: Int) -> Standing:
    """The plans, with what batteries have not done (``done_wh`` (S, K)) of what was asked, beyond rounding."""
    asked = np.array([name == PLANNED for name in orders.battery], np.bool_) & ~orders.by_value
    if not asked.any():
        return standing
    missed = np.abs(orders.battery_wh - done_wh)
    return replace(standing, cut_wh=standing.cut_wh + np.where(asked & (missed > ROUNDING_WH), missed, 0).sum(axis=0))


def plans_summary(system: System, standing: Standing) -> dict[str, Any]:
    """The block ``plans`` of a run's summary: who was planned how, and what batteries did not do of what was asked."""
    setup = system.planning
    if setup is None or not setup.groups:
        return {}
    hours = system.grid.hours
    return {
        "planned": [
            {
                "planner": group.planner.name,
                "buildings": len(group.buildings),
                "horizon_hours": group.horizon * hours,
                "replan_minutes": round(group.every * hours * 60),
                "forecast": group.forecast.kind,
                "follow": "value" if group.by_value else "schedule",
            }
            for group in setup.groups
        ],
        "overrides": len(setup.overrides),
        "fallen_back_slots": {
            system.building_ids[b]: int(standing.fallen[b]) for b in np.flatnonzero(standing.fallen).tolist()
        },
        "unproven": {
            system.building_ids[b]: int(standing.unproven[b]) for b in np.flatnonzero(standing.unproven).tolist()
        },
        "not_done_kwh": float(standing.cut_wh.sum()) / _WH,
    }


def plan_prices_u(prices: Prices) -> tuple[Int, Int]:
    """What a kWh costs from the retailer and earns from it, all told: (S, B) each [micro-currency per kWh].

    Retail price with network charge and levies; feed-in price less the charge on feeding in, at most the former.
    """
    charges = prices.charges
    buy: Int = prices.retail_u + charges.full_import_u + charges.levies_u
    return buy, np.minimum(prices.feed_in_u - charges.full_export_u, buy)


def held_back_wh(orders: Orders, prices: Prices, net_wh: Int, pv_wh: Int) -> Int:
    """PV that planned buildings hold back because feeding in costs money, or drawing is paid for; (S, B) [Wh].

    ``net_wh`` is the net draw before anything is held back.
    """
    if not orders.holds_back.any():
        return np.zeros_like(pv_wh)
    buy, sell = plan_prices_u(prices)
    most = np.where(buy < 0, pv_wh, np.where(sell < 0, np.maximum(-net_wh, 0), 0))
    return np.where(orders.holds_back, np.minimum(most, pv_wh), 0)
