"""What the driver has to know of the market at a gate: who takes part on which terms, and what is done already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from market.engine.state import DEFAULTED, ERASED, Member
from market.session import State as SlotState
from market.standing import StandingContract
from peerwatt.envelopes import NONE_WH, Published, with_published
from peerwatt.own_terms import HIGHEST_U, LOWEST_U
from peerwatt.planning import HandsOn, with_hands_on

if TYPE_CHECKING:
    from market.engine.state import Standing, State
    from peerwatt.live.genesis import Roll
    from peerwatt.system import Bool, Int, System


_SERVED = {SlotState.CLEARED, SlotState.SETTLED, SlotState.VOID}
_NOBODY = Member(-1, 0, 0, 0, -1, True, status=ERASED)
"""Stands for the member of a building that has none any more."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The market as it stands for one slot; columns are those of the scenario's buildings.

    Parameters
    ----------
    takes_orders
        Whether the session is open and the market not halted.
    halted
        Whether the market is suspended: its set-points are blocked then.
    bids
        (B,) whether the model may bid for a building: a member, not opted out, not in default, and without orders of
        its own for the slot.
    active_from, active_until
        (B,) slots in which its membership runs.
    floor_u, ceiling_u
        (B,) own limits [micro-currency per kWh].
    standing
        Standing contracts between buildings, in the order in which they are served.
    by_hand
        Slots in which residents have taken over from their building's plan.
    planned, entered
        Whether the journal has the slot's plans, and orders of modelled members: after a restart it may.
    envelopes
        Limits that the grid operator has published, and the default behind them.
    fell_back
        Members whose planner was silent when these plans were made.
    served
        Whether the journal has what the gate came to: after a restart within the slot it has.
    """

    takes_orders: bool
    halted: bool
    bids: Bool
    active_from: Int
    active_until: Int
    floor_u: Int
    ceiling_u: Int
    standing: tuple[StandingContract, ...]
    planned: bool
    entered: bool
    by_hand: tuple[HandsOn, ...] = ()
    envelopes: tuple[Published, ...] = ()
    fell_back: tuple[int, ...] = ()
    served: bool = False


def desk_for(state: State, market: str, slot: int, roll: Roll) -> Desk:
    """The desk of ``slot``. Outside orders come before the gate, the model's at it."""
    members = [state.members.get(m, _NOBODY) for m in roll.member_of]
    building = dict(roll.pairs)
    at = state.markets[market]
    book = at.books.get(slot)
    known = state.slots.get(slot)
    gate_us = state.config.gate_us(at.config, slot)
    orders = [] if book is None else list(book.orders.values())
    own = {order.member for order in orders if order.t_us < gate_us}
    contracts = [
        _contract(c, building[c.seller], building[c.buyer])
        for _, c in sorted(state.standing.items())
        if c.seller in building and c.buyer in building
    ]
    return Desk(
        takes_orders=book is not None and book.status == SlotState.OPEN and not at.suspended,
        halted=at.suspended,
        bids=np.array(
            [m.status not in {DEFAULTED, ERASED} and m.takes_part(slot) and m.member not in own for m in members],
            np.bool_,
        ),
        active_from=np.array([m.from_slot for m in members], np.int64),
        active_until=np.array([m.until_slot for m in members], np.int64),
        floor_u=np.array([LOWEST_U if m.floor_u is None else m.floor_u for m in members], np.int64),
        ceiling_u=np.array([HIGHEST_U if m.ceiling_u is None else m.ceiling_u for m in members], np.int64),
        standing=tuple(contracts),
        planned=known is not None and bool(known.planned_wh),
        entered=any(order.t_us >= gate_us for order in orders),
        by_hand=hands_on(state, roll),
        envelopes=published(state, roll),
        fell_back=state.fell_back.get(slot, ()),
        served=slot < state.dropped_until or (book is not None and book.status in _SERVED),
    )


def hands_on(state: State, roll: Roll) -> tuple[HandsOn, ...]:
    """When residents take over, by what members have said."""
    return tuple(
        HandsOn(building, first, end, what)  # type: ignore[arg-type]  # checked when it was said
        for member, building in roll.pairs
        for first, end, what in state.members.get(member, _NOBODY).by_hand
    )


def published(state: State, roll: Roll) -> tuple[Published, ...]:
    """Operating envelopes of the buildings as they stand now, those that go before others first; then the default."""
    slot_s = state.config.slot_s

    def wh(power_w: int) -> int:
        return int(NONE_WH) if power_w < 0 else power_w * slot_s // 3600

    rows = [
        Published(building, row.first_slot, row.end_slot, wh(row.import_w), wh(row.export_w))
        for member, building in roll.pairs
        for row in state.envelopes.get(member, ())
    ]
    if (default := state.envelope_default) is not None and default != (-1, -1):
        end = state.config.n_slots
        rows += [Published(building, 0, end, wh(default[0]), wh(default[1])) for _, building in roll.pairs]
    return tuple(rows)


def as_told(system: System, state: State, roll: Roll) -> System:
    """The system with what changes plans in the market as it stands now: residents' hands, and envelopes."""
    return with_published(with_hands_on(system, hands_on(state, roll)), published(state, roll))


def _contract(standing: Standing, seller: int, buyer: int) -> StandingContract:
    return StandingContract(
        contract_id=str(standing.contract_id),
        seller=seller,
        buyer=buyer,
        share_ppm=standing.share_ppm,
        volume_wh=standing.volume_wh,
        formula=standing.formula,  # type: ignore[arg-type]  # checked when it was agreed
        price_u=standing.price_u,
        first_slot=standing.first_slot,
        end_slot=standing.end_slot,
    )


def with_own_terms(system: System, desk: Desk) -> System:
    """The system with the members' terms and contracts as they stand in the market now."""
    own = replace(system.own, floor_u=desk.floor_u, ceiling_u=desk.ceiling_u, opted_out=None, standing=desk.standing)
    market = replace(system.market, active_from=desk.active_from, active_until=desk.active_until)
    return with_published(
        with_hands_on(replace(system, own=own, market=market), desk.by_hand), desk.envelopes
    )  # fmt: skip
