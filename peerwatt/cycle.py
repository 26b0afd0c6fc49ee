"""The slot cycle, written once, top to bottom.

    observe -> plan -> bid -> clear -> dispatch -> physics -> meter -> settle -> trace origin -> record

Each arrow is one function from frozen inputs to frozen outputs, working on a window of slots in columns: many slots at
once in simulation, one slot at a time when paced by the wall clock. Nothing calls back: what a slot teaches is input of
the next one, and results do not depend on how slots are cut into windows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controllers import Forecast as Outlook
from controllers import plan_battery_fleet, plan_ev_fleet
from grid.assets.battery import step_batteries
from grid.assets.ev import step_evs
from grid.assets.pv import curtailed_wh
from grid.assets.quantise import sum_by_building
from market.certificates import TracedOrigins
from market.session import Event, Session
from market.settlement.metering import metered
from peerwatt.clearing import clear_contracts
from peerwatt.market_step import make_book, settle_window
from peerwatt.market_wires import on_the_wires
from peerwatt.messages import (
    Bids,
    Cleared,
    Closed,
    Delivered,
    Flows,
    Forecast,
    Meters,
    NetworkState,
    Observation,
    Plan,
    Prices,
    SetPoints,
    Settled,
    Window,
    concat_slots,
)
from peerwatt.origin import trace_origin
from peerwatt.own_terms import agree, kept_back, takes_part
from peerwatt.plants import Plant
from peerwatt.prices import window_prices
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
        self._block: list[Delivered] = []
        self._sessions: list[Session] = []  # of the windows in the block; a window's slots open and close together

    def open(self, window: Window) -> tuple[Bids, Cleared]:
        """From the gate to the start of delivery: observe, plan, serve standing contracts, bid, clear, dispatch."""
        system = self.system
        forecast = self.plant.forecast(window)
        seen = self.plant.observe()
        prices = window_prices(system, window)
        session, _ = Session(slot=window.first).on(Event.CLOSE_GATE)
        intent = plan(system, seen, forecast, prices, window)
        agreed_wh, net_wh = agree(system, intent.net_wh, window)
        ahead = clear_ahead(system, window)
        bids = bid(system, replace(intent, net_wh=net_wh - ahead.position_wh), prices, window)
        bids = replace(bids, book=on_the_wires(system, bids.book, system.market.rule, intent.net_wh))
        cleared = replace(ahead.joined_by(clear(system, bids, prices, window)), agreed_wh=agreed_wh)
        session, _ = session.on(Event.CLEAR)
        self._sessions.append(session)
        self.plant.apply(dispatch(intent, cleared), window)
        return bids, cleared

    def close(self, window: Window, opened: tuple[Bids, Cleared]) -> Closed | None:
        """After delivery: physics, meter, settle, trace origin, record.

        Returns None while the slots of a coarser metering interval are still incomplete.
        """
        system = self.system
        flows = self.plant.measure(window)
        state, self.loss_remainder_wh = physics(system, flows, self.loss_remainder_wh, window)
        bids, cleared = opened
        self._block.append(Delivered(window, bids.active, cleared, flows, state))
        if (window.first + window.n) % system.metering.block_slots:
            return None
        block = concat_slots(self._block)
        self._block = []
        prices = window_prices(system, block.window)
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
        return not self._block


def plan(system: System, seen: Observation, forecast: Forecast, prices: Prices, window: Window) -> Plan:
    """Controllers turn the forecast into requests; the position to trade follows from what of them is possible.

    Cars come first; home batteries then see their own building's surplus, community batteries what is left of all.
    """
    n = system.n_buildings
    cars, stores = system.chargers, system.storage
    surplus = forecast.pv_wh - forecast.load_wh - forecast.heat_pump_wh
    limit_wh = system.export_limit_wh
    ahead = Outlook(window.first, system.grid.length_s, surplus, prices.retail_u, prices.feed_in_u, limit_wh)
    ev_request = plan_ev_fleet(cars.controller, cars.columns, cars.sessions, seen.ev, ahead)
    ev, _ = step_evs(cars.columns, cars.sessions, seen.ev, window.first, ev_request)
    ahead = replace(ahead, surplus_wh=surplus - sum_by_building(ev.charge_wh, cars.columns.building, n))
    battery_request = plan_battery_fleet(stores.controller, stores.columns, seen.battery, ahead)
    battery_request = kept_back(system, seen.battery, battery_request, ahead.surplus_wh)
    battery, _ = step_batteries(stores.columns, seen.battery, battery_request)
    net = sum_by_building(battery.net_wh, stores.columns.building, n) - ahead.surplus_wh
    curtail_wh = curtailed_wh(forecast.pv_wh, net + forecast.pv_wh, limit_wh)
    return Plan(ev.charge_wh, battery.net_wh, curtail_wh, net + curtail_wh)


def bid(system: System, intent: Plan, prices: Prices, window: Window) -> Bids:
    """Strategies price the planned position; those outside the market, or opted out of it, bid nothing."""
    active = takes_part(system, window)
    return Bids(make_book(system, intent.net_wh, active, prices, window, system.market.rounds), active)


def clear(system: System, bids: Bids, prices: Prices, window: Window) -> Cleared:
    """Run the rule on the window's books. Rules that work on meters clear nothing here."""
    return clear_contracts(system, bids, window)


def dispatch(intent: Plan, cleared: Cleared) -> SetPoints:
    """What the devices are told. A trade obliges to pay, not to move a battery: the plan stands."""
    return SetPoints(intent.ev_wh, intent.battery_wh, intent.curtail_wh)


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
        discharge_wh=flows.discharge_wh,
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
        carbon_kg_per_kwh=carbon,
        undelivered_wh=flows.undelivered_wh,
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
