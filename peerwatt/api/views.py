"""What the market's state looks like on the wire: pure functions, to be called inside ``Engine.read``.

Slots become the UTC times at which they start, members participant ids, order numbers texts. What is public has no
member in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from market.engine.caches import band
from market.engine.config import EngineConfig, rule_of
from market.engine.facts import FLAG_BITS, QUALITIES
from market.engine.state import (
    ERASED,
    MEMBER_STATES,
    ORDER_STATUSES,
    LiveOrder,
    Market,
    Member,
    MeterReading,
    SlotBook,
    State,
)
from market.registry import BidRule
from peerwatt import wire
from peerwatt.wire.times import SlotNames, time_text

DEPTH = 20
"""Levels of a book that are shown on each side."""

_FLAGS = tuple(FLAG_BITS.items())
_NO_FLAGS: list[str] = []


def flag_bits(flags: Iterable[str]) -> int:
    """Flags as bits."""
    return sum(FLAG_BITS[flag] for flag in flags)


def flag_names(bits: int) -> list[str]:
    """Bits as flags."""
    return [name for name, bit in _FLAGS if bits & bit] if bits else _NO_FLAGS


def moment(us: int) -> str | None:
    """A time, or None where 0 stands for none."""
    return time_text(us) if us else None


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What of a market never changes."""

    kind: str
    parameters: dict[str, Any]
    flags: list[str]


def market_facts(config: EngineConfig) -> dict[str, MarketFacts]:
    """By market; made once."""
    found = {}
    for market in config.markets:
        rule = rule_of(market)
        bids = isinstance(rule, BidRule)
        continuous = isinstance(rule, BidRule) and rule.continuous
        kind = "continuous" if continuous else "call" if bids else "meters"
        flags = sorted(rule.flags) if isinstance(rule, BidRule) else []
        found[market.market_id] = MarketFacts(kind, dict(market.parameters), flags)
    return found


def market_out(market: Market, facts: MarketFacts, slot_s: int, currency: str) -> wire.MarketOut:
    """A market as it stands."""
    config = market.config
    return wire.MarketOut(
        market=config.market_id,
        rule=config.rule,
        kind=facts.kind,
        parameters=facts.parameters,
        currency=currency,
        slot_s=slot_s,
        opens_s=config.opens_s,
        gate_s=config.gate_s,
        min_price_u=config.p_min_u,
        max_price_u=config.p_max_u,
        flags=facts.flags,
        state="suspended" if market.suspended else "running",
        reason=market.suspension if market.suspended else "",
        expires_at=moment(market.suspended_until_us) if market.suspended else None,
    )


def slot_out(state: State, names: SlotNames, market: Market, book: SlotBook) -> wire.SlotOut:
    """A slot of a market."""
    config = state.config
    low, high = band(market.config.p_min_u, market.config.p_max_u, book.prices)
    settled = state.slots.get(book.slot)
    return wire.SlotOut(
        market=market.config.market_id,
        slot=names.text(book.slot),
        ends_at=names.end_text(book.slot),
        opens_at=time_text(config.opens_us(market.config, book.slot)),
        gate_at=time_text(config.gate_us(market.config, book.slot)),
        state=book.status.value,
        version=settled.versions[-1].version if settled is not None and settled.versions else 0,
        price_u=book.result.price_u if book.result is not None else None,
        min_price_u=low,
        max_price_u=high,
    )


def book_out(state: State, names: SlotNames, market: str, book: SlotBook) -> wire.BookOut:
    """Depth of a book: open energy by price, the best `DEPTH` levels a side."""
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for order in book.orders.values():
        if left := order.left_wh:
            levels = sides[order.side < 0]
            levels[order.price_u] = levels.get(order.price_u, 0) + left
    buy = sorted(sides[0].items(), reverse=True)[:DEPTH]
    sell = sorted(sides[1].items())[:DEPTH]
    return wire.BookOut(
        market=market,
        slot=names.text(book.slot),
        seq=state.seq,
        buy=[wire.BookLevel(price_u, e_wh) for price_u, e_wh in buy],
        sell=[wire.BookLevel(price_u, e_wh) for price_u, e_wh in sell],
    )


def price_out(names: SlotNames, market: str, book: SlotBook) -> wire.PriceOut | None:
    """What a slot cleared at, None before."""
    result = book.result
    if result is None:
        return None
    return wire.PriceOut(
        market=market,
        slot=names.text(book.slot),
        version=result.version,
        price_u=result.price_u,
        price_num=result.price_num,
        price_den=result.price_den,
        volume_wh=result.volume_wh,
        orders=result.orders,
        issued_at=time_text(result.at_us),
        seq=result.seq,
    )


def trade_seq(book: SlotBook, trade: tuple[int, int, int, int, int]) -> int:
    """Record of a trade: that of the order which met the other, the one that came or was amended at that time."""
    buy, sell, _, _, t_us = trade
    parties = [order for number in (buy, sell) if (order := book.orders.get(number)) is not None]
    return max((order.seq for order in parties if order.t_us == t_us), default=book.seq)


def order_out(names: SlotNames, market: str, participant: str, order: LiveOrder) -> wire.OrderOut:
    """A member's order."""
    return wire.OrderOut(
        order_id=str(order.order),
        market=market,
        participant=participant,
        slot=names.text(order.slot),
        side="buy" if order.side > 0 else "sell",
        e_wh=order.e_wh,
        price_u=order.price_u,
        flags=flag_names(order.flags),
        ref=order.ref,
        status=ORDER_STATUSES[order.status],
        filled_wh=order.filled_wh,
        remaining_wh=order.left_wh,
        accepted_at=time_text(order.t_us),
    )


def orders_of(market: Market, member: int, slot: int | None) -> Iterator[LiveOrder]:
    """A member's orders by rising slot and number; of one slot if given."""
    books = market.books
    slots = sorted(books) if slot is None else [slot] if slot in books else []
    for at in slots:
        for order in books[at].orders.values():
            if order.member == member:
                yield order


def find_order(market: Market, number: int) -> LiveOrder | None:
    """An order by number, in whichever slot it is."""
    for book in market.books.values():
        if (order := book.orders.get(number)) is not None:
            return order
    return None


def reading_out(names: SlotNames, participant: str, slot: int, reading: MeterReading) -> wire.ReadingOut:
    """A meter reading as it holds."""
    return wire.ReadingOut(
        participant=participant,
        slot=names.text(slot),
        import_wh=reading.import_wh,
        export_wh=reading.export_wh,
        quality=QUALITIES[reading.quality],
        observed_at=moment(reading.observed_us),
    )


def participant_out(config: EngineConfig, names: SlotNames, member: Member, participant: str) -> wire.ParticipantOut:
    """A member; the end of its membership is told where it lies on the grid."""
    return wire.ParticipantOut(
        participant=participant,
        state=MEMBER_STATES[member.status],
        modelled=member.modelled,
        contract=member.contract,
        from_slot=names.text(member.from_slot),
        to_slot=names.text(member.until_slot) if member.until_slot < config.n_slots else None,
    )


def terms_out(names: SlotNames, member: Member, participant: str) -> wire.TermsOut:
    """A member's own terms; their revision is the record that set them."""
    return wire.TermsOut(
        participant=participant,
        revision=member.terms_seq,
        floor_u=member.floor_u,
        ceiling_u=member.ceiling_u,
        refused_classes=member.refused_classes,
        opted_out=tuple(wire.SlotRange(from_=names.text(a), to=names.text(b)) for a, b in member.opted_out),
        by_hand=tuple(
            wire.HandsOn(from_=names.text(a), to=names.text(b), what=what)  # type: ignore[arg-type]  # as it was said
            for a, b, what in member.by_hand
        ),
    )


def is_gone(member: Member) -> bool:
    """Whether the member was erased."""
    return member.status == ERASED
