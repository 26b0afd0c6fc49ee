"""The slot cycle, written once, top to bottom.

    observe -> plan -> bid -> clear -> dispatch -> physics -> meter -> settle -> trace origin -> record

Each arrow is one function from frozen inputs to frozen outputs, working on a window of slots in columns: many slots at
once in simulation, one slot at a time when paced by the wall clock. Nothing calls back: what a slot teaches is input of
the next one, and results do not depend on how slots are cut into windows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from controllers import Forecast as Outlook
from controllers import plan_battery_fleet, plan_ev_fleet, plan_heat_fleet
from controllers.thermostat import AHEAD_H
from grid.assets.battery import step_batteries
from grid.assets.ev import step_evs
from grid.assets.heat import step_heat
from grid.assets.pv import curtailed_wh
from grid.assets.quantise import sum_by_building
from market.certificates import TracedOrigins
from market.session import Event, Session
from market.settlement.metering import metered
from peerwatt.clearing import clear_contracts, no_contracts
from peerwatt.envelopes import envelope_columns, export_limit_wh, within_envelopes
from peerwatt.grid_support import support_columns, support_grid
from peerwatt.market_step import make_book, settle_window
from peerwatt.market_wires import on_the_wires
from peerwatt.messages import (
    Bids,
    Cleared,
    Closed,
    Delivered,
    Float,
    Flows,
    Forecast,
    Int,
    Meters,
    NetworkState,
    Observation,
    Plan,
    Prices,
    SetPoints,
    Settled,
    Window,
    concat_slots,
    without_voltage,
)
from peerwatt.microgrid.islanding import Islanding
from peerwatt.microgrid.setting_up import islanding_of
from peerwatt.origin import trace_origin
from peerwatt.own_terms import agree, kept_back, takes_part
from peerwatt.planning import (
    Orders,
    Standing,
    asked_of_batteries,
    held_back_wh,
    noted,
    orders_for,
    pieces,
    stored_worth_u,
)
from peerwatt.plants import Plant
from peerwatt.prices import window_prices
from peerwatt.replanning import replanned
from peerwatt.results.record import WindowRecord
from peerwatt.stages import clear_ahead
from peerwatt.system import System
from peerwatt.wires import solve_network


class SlotCycle:
    """One run's cycle over its plant. Holds only what is carried from slot to slot."""

    def __init__(self, system: System, plant: Plant) -> None:
        self.system = system
        self.plant = plant
        self.loss_remainder_wh = np.zeros(1)
        self.origin = system.origins.initial()
        self.standing = Standing.none(system)
        self._block: list[Delivered] = []
        self._sessions: list[Session] = []  # of the windows in the block; a window's slots open and close together
        self.islanding = islanding_of(system)

    def open(self, window: Window) -> tuple[Bids, Cleared]:
        """From the gate to the start of delivery: observe, plan, serve standing contracts, bid, clear, dispatch."""
        system = self.system
        forecast = self.plant.forecast(window)
        seen = self.plant.observe()
        prices = window_prices(system, window)
        session, _ = Session(slot=window.first).on(Event.CLOSE_GATE)
        intent, self.standing = plan(system, seen, forecast, prices, window, self.standing)
        if self.islanding is not None and self.islanding.concerns(window):
            return self._open_in_outage(self.islanding, intent, forecast, seen, window)
        agreed_wh, net_wh = agree(system, intent.net_wh, window)
        ahead = clear_ahead(system, window)
        bids = bid(system, replace(intent, net_wh=net_wh - ahead.position_wh), prices, window)
        bids = replace(bids, book=on_the_wires(system, bids.book, system.market.rule, intent.net_wh))
        cleared = replace(ahead.joined_by(clear(system, bids, prices, window)), agreed_wh=agreed_wh, kept=intent.kept)
        session, _ = session.on(Event.CLEAR)
        self._sessions.append(session)
        self.plant.apply(dispatch(intent, cleared), window)
        return bids, cleared

    def _open_in_outage(
        self, islanding: Islanding, intent: Plan, forecast: Forecast, seen: Observation, window: Window
    ) -> tuple[Bids, Cleared]:
        """A slot that an outage touches: the market is frozen, the island says what of the plan can be."""
        system = self.system
        self._sessions.append(Session(slot=window.first).on(Event.CLOSE_GATE)[0].on(Event.CLEAR)[0])
        points, kept = islanding.dispatch(intent, forecast, seen, self.loss_remainder_wh, window)
        self.plant.apply(points, window)
        active = takes_part(system, window)
        nothing = np.zeros_like(intent.net_wh)
        book = make_book(system, nothing, np.zeros_like(active), window_prices(system, window), window)
        agreed = np.zeros((window.n, len(system.own.standing)), np.int64)
        cleared = replace(no_contracts(window.n, system.n_buildings), agreed_wh=agreed, kept=kept)
        return Bids(book, active), cleared

    def close(self, window: Window, opened: tuple[Bids, Cleared]) -> Closed | None:
        """After delivery: physics, meter, settle, trace origin, record.

        Returns None while the slots of a coarser metering interval are still incomplete.
        """
        system = self.system if self.islanding is None else self.islanding.system_of(window)
        in_service = None if self.islanding is None else self.islanding.in_service(window)
        flows = support_grid(system, self.plant.measure(window), window, in_service)
        state, self.loss_remainder_wh = physics(system, flows, self.loss_remainder_wh, window)
        if self.islanding is not None and self.islanding.dark(window):
            state = without_voltage(state)
        bids, cleared = opened
        self._block.append(Delivered(window, bids.active, cleared, flows, state))
        if (window.first + window.n) % system.metering.block_slots:
            return None
        block = concat_slots(self._block)
        self._block = []
        prices = window_prices(system, block.window)
        if self.islanding is not None:
            prices = self.islanding.prices_of(prices, block.window)
        meters = meter(system, block.flows, block.window)
        settled = settle(system, block, meters, prices)
        traced, self.origin = trace_origin(system, block, meters, settled, self.origin)
        for session in self._sessions:
            session.on(Event.SETTLE)
        self._sessions = []
        return Closed(record(system, block, meters, settled, traced), settled.postings, settled.baseline)

    @property
    def between_blocks(self) -> bool:
        """Whether every delivered slot is settled, so that a checkpoint can be taken."""
        return not self._block and (self.islanding is None or self.islanding.at_rest)


def plan(
    system: System, seen: Observation, forecast: Forecast, prices: Prices, window: Window, standing: Standing
) -> tuple[Plan, Standing]:
    """What everything steered shall do, and the position to trade that follows; with the plans that stand at the end.

    The window is cut where plans of whole buildings are made and where residents take over (`peerwatt.planning`).
    """
    parts: list[Plan] = []
    left = pieces(system.planning, window)
    while left:
        piece = left.pop(0)
        standing = replanned(system, seen, standing, piece.first)
        if piece.n > 1 and standing.silent.any():  # asked again at the next slot
            left.insert(0, Window(piece.first + 1, piece.n - 1))
            piece = Window(piece.first, 1)
        orders = orders_for(system, standing, piece)
        cut = slice(piece.first - window.first, piece.first - window.first + piece.n)
        steer = partial(_steer, system, forecast, prices, window, standing)
        if system.envelopes is None:
            intent, seen = steer(seen, piece)
        else:
            intent, seen = within_envelopes(system, steer, seen, forecast.part(cut), piece)
        standing = noted(standing, orders, intent.battery_wh)
        parts.append(intent)
    return concat_slots(parts), standing


def _steer(
    system: System, forecast: Forecast, prices: Prices, window: Window, standing: Standing, seen: Observation,
    part: Window,
) -> tuple[Plan, Observation]:  # fmt: skip
    """`control` of a part of the window."""
    cut = slice(part.first - window.first, part.first - window.first + part.n)
    return control(system, seen, forecast.part(cut), prices.part(cut), part, orders_for(system, standing, part))


def control(
    system: System, seen: Observation, forecast: Forecast, prices: Prices, window: Window, orders: Orders
) -> tuple[Plan, Observation]:
    """Controllers turn the forecast into requests; the position to trade follows from what of them is possible.

    Rooms and cars come first; home batteries then see their own building's surplus, community batteries what is left
    of all. Returns the plan and the state to which it leads.
    """
    n = system.n_buildings
    cars, stores = system.chargers, system.storage
    heat_wh, indoor_c = heat(system, seen.indoor_c, window, orders)
    drawn = forecast.load_wh + forecast.heat_pump_wh + sum_by_building(heat_wh, system.heating.columns.building, n)
    surplus = forecast.pv_wh - drawn
    limit_wh = export_limit_wh(system, window, forecast)
    ahead = Outlook(window.first, system.grid.length_s, surplus, prices.retail_u, prices.feed_in_u, limit_wh)
    ev_request = plan_ev_fleet(orders.car, cars.columns, cars.sessions, seen.ev, ahead, orders.car_wh)
    ev, cars_then = step_evs(cars.columns, cars.sessions, seen.ev, window.first, ev_request)
    ahead = replace(ahead, surplus_wh=surplus - sum_by_building(ev.net_wh, cars.columns.building, n))
    planned_wh = asked_of_batteries(system, seen.battery, orders, ahead.surplus_wh)
    battery_request = plan_battery_fleet(orders.battery, stores.columns, seen.battery, ahead, planned_wh)
    battery_request = kept_back(system, seen.battery, battery_request, ahead.surplus_wh)
    battery, batteries_then = step_batteries(stores.columns, seen.battery, battery_request)
    net = sum_by_building(battery.net_wh, stores.columns.building, n) - ahead.surplus_wh
    curtail_wh = curtailed_wh(forecast.pv_wh, net + forecast.pv_wh, limit_wh)
    curtail_wh = np.maximum(curtail_wh, held_back_wh(orders, prices, net, forecast.pv_wh))
    worth_u = stored_worth_u(system, orders)
    intent = Plan(ev.net_wh, battery.net_wh, heat_wh, curtail_wh, net + curtail_wh, worth_u)
    return intent, Observation(batteries_then, cars_then, indoor_c)


def heat(system: System, indoor_c: Float, window: Window, orders: Orders) -> tuple[Int, Float]:
    """What the controllers of heat pumps want, as far as it is possible: electricity (S, H) [Wh]; indoors then (H,)."""
    heating = system.heating
    if not len(heating):
        return np.zeros((window.n, 0), np.int64), indoor_c
    seen = min(window.n + round(AHEAD_H / system.grid.hours), system.grid.n - window.first)
    conditions = heating.conditions(system.profiles, system.grid, system.zone, window.first, seen)
    request = plan_heat_fleet(orders.heat, heating.columns, conditions, indoor_c, window.n, orders.heat_wh)
    flows, then_c = step_heat(heating.columns, conditions.first(window.n), indoor_c, request)
    return flows.heat_wh, then_c


def bid(system: System, intent: Plan, prices: Prices, window: Window) -> Bids:
    """Strategies price the planned position; those outside the market, or opted out of it, bid nothing."""
    active = takes_part(system, window)
    book = make_book(system, intent.net_wh, active, prices, window, system.market.rounds, intent.worth_u)
    return Bids(book, active)


def clear(system: System, bids: Bids, prices: Prices, window: Window) -> Cleared:
    """Run the rule on the window's books. Rules that work on meters clear nothing here."""
    return clear_contracts(system, bids, window)


def dispatch(intent: Plan, cleared: Cleared) -> SetPoints:
    """What the devices are told. A trade obliges to pay, not to move a battery: the plan, and its limits, stand."""
    return SetPoints(intent.ev_wh, intent.battery_wh, intent.heat_wh, intent.curtail_wh)


def physics(system: System, flows: Flows, remainder_wh: np.ndarray, window: Window) -> tuple[NetworkState, np.ndarray]:
    """AC power flow of what the plant did; losses become whole Wh with the remainder carried."""
    return solve_network(system, flows, remainder_wh, window)


def meter(system: System, flows: Flows, window: Window) -> Meters:
    """What the meters say of the window's net energies, coarser ones spread over their slots."""
    meters = system.metering
    net = flows.net_wh
    weights = None
    if meters.by_weight.any():
        values = system.profiles.window(window.first, window.n)[:, meters.weight_profile]
        weights = np.rint(values * 1e6).astype(np.int64)
    imported, exported = (
        metered(np.maximum(sign * net, 0), meters.span, weights=weights, by_weight=meters.by_weight) for sign in (1, -1)
    )
    return Meters(imported, exported)


def settle(system: System, block: Delivered, meters: Meters, prices: Prices) -> Settled:
    """Contracts plus residuals, network charges, levies and losses, posted in double entry and checked."""
    return settle_window(system, block, meters, prices)


def record(system: System, block: Delivered, meters: Meters, settled: Settled, traced: TracedOrigins) -> WindowRecord:
    """Gather what results are made from."""
    flows, state = block.flows, block.state
    contracts = settled.postings.contracts
    first, n = block.window.first, block.window.n
    carbon = None
    if system.carbon_column >= 0:
        carbon = system.profiles.window(first, n)[:, system.carbon_column]
    net = meters.import_wh - meters.export_wh
    return WindowRecord(
        first_slot=first,
        n_slots=n,
        load_wh=flows.load_wh,
        heat_pump_wh=flows.heat_pump_wh,
        ev_wh=flows.ev_wh,
        pv_wh=flows.pv_wh,
        curtailed_wh=flows.curtailed_wh,
        charge_wh=flows.charge_wh,
        discharge_wh=flows.discharge_wh if flows.fed_wh is None else flows.discharge_wh + flows.fed_wh,
        soc_wh=flows.stored_wh,
        import_wh=meters.import_wh,
        export_wh=meters.export_wh,
        active=block.active,
        price_num=settled.price_num,
        price_den=settled.price_den,
        has_price=settled.has_price,
        bought_wh=contracts.local_bought_wh,
        sold_wh=contracts.local_sold_wh,
        trades=settled.trades,
        postings_u=settled.postings.kinds,
        baseline_u=settled.baseline.total,
        loss_wh=state.loss_wh,
        exchange_wh=net.sum(axis=1) + state.loss_wh,
        v_pu=state.v_pu,
        branch_loading=state.branch_loading,
        branch_p_kw=state.branch_p_kw,
        losses_kw=state.losses_kw,
        slack_p_kw=state.slack_p_kw,
        v_phase_pu=state.v_phase_pu,
        unbalance=state.unbalance,
        phase_loading=state.phase_loading,
        neutral_loading=state.neutral_loading,
        slack_phase_p_kw=state.slack_phase_p_kw,
        carbon_kg_per_kwh=carbon,
        undelivered_wh=flows.undelivered_wh,
        heat=warmth(system, flows, block.window),
        **support_columns(system, flows),
        **envelope_columns(system, block),
        origin_wh=traced.consumed_wh,
        origin_ways_wh=traced.ways_wh,
        certificates_wh=traced.account_wh,
        standing_wh=settled.standing_wh if system.own.standing else None,
        standing_u=settled.standing_u if system.own.standing else None,
        supplier_sold_wh=None if settled.suppliers is None else settled.suppliers[0],
        supplier_bought_wh=None if settled.suppliers is None else settled.suppliers[1],
        supplier_u=None if settled.suppliers is None else settled.suppliers[2],
        contract_bought_wh=contracts.bought_wh if system.static.gross else None,
        contract_sold_wh=contracts.sold_wh if system.static.gross else None,
    )


def warmth(system: System, flows: Flows, window: Window) -> Float | None:
    """Columns of the table ``heat`` (S, H, 6); None where no building is heated."""
    if flows.heat_wh is None or flows.indoor_c is None:
        return None
    met = system.heating.conditions(system.profiles, system.grid, system.zone, window.first, window.n)
    heat_wh = flows.heat_wh.astype(np.float64)
    return np.stack((heat_wh, met.cop, met.outdoor_c, flows.indoor_c, met.low_c, met.high_c), axis=2)
