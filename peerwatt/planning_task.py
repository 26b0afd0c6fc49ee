"""What a planner is asked in a run: state, forecast, prices and terms of some buildings, as a `Task`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controllers import Forecast as Outlook
from controllers import plan_ev_fleet, plan_heat_fleet
from controllers.planning.battery_plan import Stores
from controllers.planning.task import Batteries, Cars, HeatedBuildings, Stays, Task
from controllers.thermostat import AHEAD_H
from grid.assets.ev import EvState, step_evs
from grid.assets.heat import step_heat
from grid.assets.quantise import sum_by_building
from peerwatt.envelopes import NONE_WH
from peerwatt.messages import Observation, Window
from peerwatt.planning import PlannedGroup, plan_prices_u
from peerwatt.prices import per_building, window_prices

if TYPE_CHECKING:
    from peerwatt.scenario.planning import PlanForecast
    from peerwatt.system import ProfileAssets, System

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Index = NDArray[np.intp]

_WH = 1000.0
_MICRO = 1e6
_MICRO_PERCENT = 1e8
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Rows:
    """Buildings to plan (B_g,), the assets at them that the planner steers, and those that it does not."""

    buildings: Int
    batteries: Index
    cars: Index
    heat: Index
    other_cars: Index
    other_heat: Index

    def local(self, building: NDArray[np.int32], n_buildings: int) -> NDArray[np.int32]:
        """Indices of buildings among those to plan."""
        place = np.full(n_buildings, -1, np.int32)
        place[self.buildings] = np.arange(len(self.buildings), dtype=np.int32)
        return place[building]


def rows_of(system: System, number: int, buildings: Int) -> Rows:
    """Assets at ``buildings``, all of them of group ``number``."""
    setup = system.planning
    assert setup is not None
    here = np.zeros(system.n_buildings, np.bool_)
    here[buildings] = True
    battery, car, heat = (
        here[part.columns.building] for part in (system.storage, system.chargers, system.heating)
    )  # fmt: skip
    return Rows(
        buildings,
        np.flatnonzero(battery & (setup.battery == number)),
        np.flatnonzero(car & (setup.car == number)),
        np.flatnonzero(heat & (setup.heat == number)),
        np.flatnonzero(car & (setup.car != number)),
        np.flatnonzero(heat & (setup.heat != number)),
    )


def task_for(system: System, group: PlannedGroup, rows: Rows, seen: Observation, first: int, n: int) -> Task:
    """The task of slots ``first .. first + n - 1``. Prices, the weather of rooms and the stays of cars are known;
    load and PV are as the group's forecast has them; assets that the planner does not steer draw what their own
    controllers would have them draw. Batteries that it does not steer are left out of account.
    """
    window, b = Window(first, n), rows.buildings
    prices = window_prices(system, window)
    buy, sell = (part[:, b] for part in marginal_prices(system, window))
    load, pv = expected(system, group.forecast, window)
    surplus_wh = np.rint((pv - load) * _WH).astype(np.int64)
    outlook = Outlook(
        first, system.grid.length_s, surplus_wh, prices.retail_u, prices.feed_in_u, system.export_limit_wh
    )
    other = others_kwh(system, rows, seen, outlook)
    most_in, most_out = limits_kwh(system, window, load, pv)
    return Task(
        first_slot=first,
        slot_s=system.grid.length_s,
        load_kwh=(load + other)[:, b],
        pv_kwh=pv[:, b],
        buy=buy,
        sell=sell,
        import_limit_kwh=most_in[:, b],
        export_limit_kwh=most_out[:, b],
        batteries=_batteries(system, group, rows, seen, buy, sell),
        cars=_cars(system, rows, seen.ev, first, n),
        heat=_heat(system, rows, seen.indoor_c, first, n),
    )


def marginal_prices(system: System, window: Window) -> tuple[Float, Float]:
    """What one more kWh costs and earns a building, with charges, levies and tax, (S, B) each [currency per kWh]."""
    buy_u, sell_u = plan_prices_u(window_prices(system, window))
    tax = per_building(system.supply, "vat_micro_percent", window) / _MICRO_PERCENT
    buy = buy_u / _MICRO * (1.0 + tax)
    return buy, np.minimum(sell_u / _MICRO, buy)


def limits_kwh(system: System, window: Window, load_kwh: Float, pv_kwh: Float) -> tuple[Float, Float]:
    """Limits of drawing and feeding in (S, B) [kWh], infinite without one, as they follow from what is expected."""
    shape = load_kwh.shape
    if system.envelopes is None:
        own = system.export_limit_wh
        return np.full(shape, np.inf), np.broadcast_to(np.where(own < 0, np.inf, own / _WH), shape).copy()
    load_wh, pv_wh = (np.rint(part * _WH).astype(np.int64) for part in (load_kwh, pv_kwh))
    limits = system.envelopes.at(window, load_wh, pv_wh)
    most_in, most_out = (np.where(x >= NONE_WH, np.inf, x / _WH) for x in (limits.import_wh, limits.export_wh))
    return most_in, most_out


# --- what is expected -------------------------------------------------------------------------------------------------


def expected(system: System, forecast: PlanForecast, window: Window) -> tuple[Float, Float]:
    """Load and PV of every building, (S, B) [kWh], as a group's plans have them."""
    assert system.planning is not None
    if forecast.pv_kind in (None, forecast.kind) and forecast.kind in ("perfect", "yesterday"):
        return expected_kwh(system, forecast.kind, window)
    return system.planning.known.expected_kwh(system, forecast, window)


def expected_kwh(system: System, kind: str, window: Window) -> tuple[Float, Float]:
    """Load (heat pumps with a profile included) and PV of every building, (S, B) [kWh], as known at ``window.first``.

    ``perfect``: as they will be. ``yesterday``: of the last like slot that is over then; on the first day of the run,
    which has no yesterday, as they will be.
    """
    slots = np.arange(window.first, window.first + window.n)
    if kind == "yesterday":
        slot_s = system.grid.length_s
        days = np.ceil((slots - window.first + 1) * slot_s / _DAY_S).astype(np.int64)
        earlier = slots - days * _DAY_S // slot_s
        slots = np.where(earlier >= 0, earlier, slots)
    low = int(slots.min())
    values = system.profiles.window(low, int(slots.max()) - low + 1)[slots - low]
    demand, n = system.demand, system.n_buildings
    load = followed_kwh(demand.load, values, n) + followed_kwh(demand.heat_pump, values, n)
    return load, followed_kwh(demand.pv, values, n)


def followed_kwh(assets: ProfileAssets, values: Float, n_buildings: int) -> Float:
    """Energy of assets that follow profiles by building, (S, B) [kWh]; ``values`` (S, P) of the profiles."""
    out = np.zeros((n_buildings, len(values)))
    np.add.at(out, assets.building, (values[:, assets.profile] * assets.scale).T)
    return out.T


def others_kwh(system: System, rows: Rows, seen: Observation, outlook: Outlook) -> Float:
    """What cars and heat pumps with controllers of their own will draw, (S, B) [kWh]."""
    n, cars, heating = system.n_buildings, system.chargers, system.heating
    drawn = np.zeros((outlook.n_slots, n), np.int64)
    if len(rows.other_cars):
        columns, stays = cars.columns.take(rows.other_cars), cars.sessions.take(rows.other_cars)
        state = seen.ev.take(rows.other_cars, cars.sessions, stays)
        names = [cars.controller[i] for i in rows.other_cars.tolist()]
        request = plan_ev_fleet(names, columns, stays, state, outlook)
        charged = step_evs(columns, stays, state, outlook.first_slot, request)[0].charge_wh
        drawn += sum_by_building(charged, columns.building, n)
    if len(rows.other_heat):
        grid, first = system.grid, outlook.first_slot
        ahead = min(outlook.n_slots + round(AHEAD_H / grid.hours), grid.n - first)
        conditions = heating.conditions(system.profiles, grid, system.zone, first, ahead).take(rows.other_heat)
        pumps, names = heating.columns.take(rows.other_heat), [heating.controller[i] for i in rows.other_heat.tolist()]
        indoor_c = seen.indoor_c[rows.other_heat]
        request = plan_heat_fleet(names, pumps, conditions, indoor_c, outlook.n_slots)
        heated = step_heat(pumps, conditions.first(outlook.n_slots), indoor_c, request)[0].heat_wh
        drawn += sum_by_building(heated, pumps.building, n)
    return drawn / _WH


# --- what can be steered ----------------------------------------------------------------------------------------------


def end_value(buy: Float, sell: Float, eta_c: Float, eta_d: Float, wear: Float) -> Float:
    """(K,) worth of a kWh stored at the horizon's end, half way between what it may replace, never below 0.

    Drawing it out saves ``eta_d (buy - wear)``; not having to store a surplus saves ``sell / eta_c``; prices are means
    over the horizon (n, K) -> (K,).
    """
    half_way: Float = 0.5 * (eta_d * (buy.mean(axis=0) - wear) + sell.mean(axis=0) / eta_c)
    return np.maximum(half_way, 0.0)


def _batteries(
    system: System, group: PlannedGroup, rows: Rows, seen: Observation, buy: Float, sell: Float
) -> Batteries | None:
    if not len(rows.batteries):
        return None
    columns = system.storage.columns.take(rows.batteries)
    at = rows.local(columns.building, system.n_buildings)
    stores = Stores.from_columns(columns)
    *_, eta_c, eta_d, _, wear = stores.columns()
    worth = end_value(buy[:, at], sell[:, at], eta_c, eta_d, wear)
    return Batteries(
        building=at,
        stores=stores,
        stored_kwh=seen.battery.e_wh[rows.batteries] / _WH,
        end_value_per_kwh=worth if group.end_value is None else np.full(len(at), group.end_value),
        kept_kwh=system.own.kept_wh[rows.batteries] / _WH,
    )


def _cars(system: System, rows: Rows, state: EvState, first: int, n: int) -> Cars | None:
    if not len(rows.cars):
        return None
    fleet, table = system.chargers.columns, system.chargers.sessions
    columns = fleet.take(rows.cars)
    counts: list[int] = []
    listed: list[tuple[float, ...]] = []
    for e in rows.cars.tolist():
        begin = int(state.cursor[e])
        end = begin + int(np.searchsorted(table.arrival_slot[begin : table.first[e + 1]], first + n))
        counts.append(end - begin)
        for i in range(begin, end):
            begun = table.arrival_slot[i] < first
            lacking = int(state.remaining_wh[e] if begun else table.energy_wh[i])
            floor, room = 0, 0
            if fleet.discharge_max_wh[e]:  # below zero it lacks nothing: that much of the room is taken
                floor = int(table.energy_wh[i] + fleet.floor_wh[e]) - lacking
                room = int(fleet.room_wh[e]) + min(lacking, 0)
            span = int(table.arrival_slot[i]) - first, int(table.departure_slot[i]) - first
            listed.append((*span, *(wh / _WH for wh in (max(lacking, 0), floor, room))))
    stays = np.array(listed, np.float64).reshape(-1, 5)
    return Cars(
        building=rows.local(columns.building, system.n_buildings),
        charge_max_kwh=columns.charge_max_wh / _WH,
        discharge_max_kwh=columns.discharge_max_wh / _WH,
        efficiency_discharge=columns.discharge_ppm / 1e6,
        wear_per_kwh=columns.wear_u / 1e6,
        stays=Stays(
            first=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            arrival=stays[:, 0].astype(np.int64),
            departure=stays[:, 1].astype(np.int64),
            lacking_kwh=stays[:, 2].copy(),
            floor_kwh=stays[:, 3].copy(),
            room_kwh=stays[:, 4].copy(),
        ),
    )


def _heat(system: System, rows: Rows, indoor_c: Float, first: int, n: int) -> HeatedBuildings | None:
    if not len(rows.heat):
        return None
    heating = system.heating
    columns = heating.columns.take(rows.heat)
    met = heating.conditions(system.profiles, system.grid, system.zone, first, n).take(rows.heat)
    return HeatedBuildings(
        building=rows.local(columns.building, system.n_buildings),
        heat_max_kwh=columns.heat_max_wh / _WH,
        loss_kw_per_k=columns.loss_kw_per_k,
        capacity_kwh_per_k=columns.capacity_kwh_per_k,
        temperature_c=indoor_c[rows.heat],
        outdoor_c=met.outdoor_c,
        cop=met.cop,
        gain_kw=met.gain_kw,
        low_c=met.low_c,
        high_c=met.high_c,
    )
