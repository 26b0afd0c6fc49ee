"""Settling a slot of a live market: contracts of all its markets and the meters, posted and checked.

Members stand in the columns in the order of their numbers. The arithmetic is that of a simulated run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from market.engine import facts as f
from market.engine.caches import Caches, label
from market.engine.state import MeterReading, Position, Result, Slot, State
from market.registry import MeterRule
from market.result import BatchSharing
from market.rounding import WH_PER_KWH
from market.settlement import (
    BILL_LINES,
    LEDGER_KINDS,
    Charges,
    Contracts,
    Postings,
    ResidualRule,
    check_laws,
    contracts_from_pool,
    contracts_from_trades,
    no_market_lines,
    settle_contracts,
    settle_sharing,
)
from market.standing import Formula, StandingContract, deliveries, remaining_net, settle_standing

Int = NDArray[np.int64]

SUBSTITUTED = f.QUALITIES.index("substituted")

_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Columns:
    """A slot's members with prices and meters, each ``(1, B)``."""

    members: list[int]
    retail_u: Int
    feed_in_u: Int
    charges: Charges
    import_wh: Int
    export_wh: Int
    quality: list[int]
    active: NDArray[np.bool_]


def members_of(state: State, slot: Slot) -> list[int]:
    """Who is settled in a slot: members whose membership runs, and whoever has a position or a reading in it."""
    found = {m.member for m in state.members.values() if m.inside(slot.slot) and m.status != 3}
    found.update(slot.readings)
    for market in state.markets.values():
        if (book := market.books.get(slot.slot)) is not None and book.result is not None:
            found.update(book.result.positions)
    return sorted(found)


def results_of(state: State, slot: int) -> list[Result]:
    """What the markets cleared for a slot."""
    found = (market.books.get(slot) for market in state.markets.values())
    return [book.result for book in found if book is not None and book.result is not None]


def substitute(position: Position) -> MeterReading:
    """What stands in for a missing reading: nothing was fed in, and what was bought was drawn.

    A seller earns nothing by keeping silent: it pays for what it did not show to have delivered. Who only consumes is
    not charged beyond what it bought, until the reading comes: that makes a corrected version, and the bill counts such
    slots till then.
    """
    return MeterReading(position.bought_wh, 0, SUBSTITUTED, 0, 0)


def columns_of(state: State, slot: Slot) -> Columns:
    """Prices and meters of everybody who is settled in a slot; missing readings are substituted."""
    members = members_of(state, slot)
    n_contracts = len(slot.prices.contracts)
    table = np.array(
        [slot.prices.contracts[min(state.members[m].contract, n_contracts - 1)] for m in members], np.int64
    ).reshape(len(members), 7)
    readings: list[MeterReading] = []
    held = [result.positions for result in results_of(state, slot.slot)]
    for member in members:
        reading = slot.readings.get(member)
        if reading is None:
            bought = sum(positions[member].bought_wh for positions in held if member in positions)
            reading = substitute(Position(bought_wh=bought))
        readings.append(reading)
    price = [table[None, :, k].copy() for k in range(7)]
    return Columns(
        members=members,
        retail_u=price[0],
        feed_in_u=price[1],
        charges=Charges(*price[2:7]),
        import_wh=np.array([[r.import_wh for r in readings]], np.int64).reshape(1, -1),
        export_wh=np.array([[r.export_wh for r in readings]], np.int64).reshape(1, -1),
        quality=[r.quality for r in readings],
        active=np.array([[state.members[m].takes_part(slot.slot) for m in members]], np.bool_).reshape(1, -1),
    )


def contracts_of(state: State, slot: int, members: list[int]) -> Contracts:
    """Positions of all markets of a slot, added up."""
    total = Contracts.none(1, len(members))
    for result in results_of(state, slot):
        rows = [result.positions.get(member, _NOTHING) for member in members]
        plane = np.array([[getattr(p, name) for p in rows] for name in Position.__struct_fields__], np.int64)
        bought, sold, paid, received, near_bought, near_sold = plane.reshape(6, 1, len(members))
        retailer_u, operator_u, network_u = (np.array([x], np.int64) for x in result.accounts_u)
        sold_by, bought_by = (np.array([x], np.int64) for x in result.retailer_wh)
        one = Contracts(
            bought, sold, paid, received, operator_u, near_bought, near_sold, sold_by, bought_by, retailer_u, network_u
        )
        total = total.plus(one)
    return total


_NOTHING = Position()


def standing_of(state: State, members: list[int], slot: int) -> list[StandingContract]:
    """Standing contracts that hold in a slot, with members as columns, in the order of their numbers."""
    column = {member: i for i, member in enumerate(members)}
    return [
        StandingContract(
            contract_id=str(c.contract_id), seller=column[c.seller], buyer=column[c.buyer], share_ppm=c.share_ppm,
            volume_wh=c.volume_wh, formula=cast('Formula', c.formula), price_u=c.price_u, first_slot=c.first_slot,
            end_slot=c.end_slot,
        )
        for c in state.standing.values()
        if c.first_slot <= slot < c.end_slot and c.seller in column and c.buyer in column
    ]  # fmt: skip


def agreed_wh(state: State, slot: Slot, members: list[int]) -> tuple[list[StandingContract], Int, Int]:
    """Standing contracts of a slot, what each takes of announced plans ``(1, K)``, and what is left of them ``(1, B)``.

    Who announced no plan delivers and receives nothing under them.
    """
    contracts = standing_of(state, members, slot.slot)
    net = np.array([[slot.planned_wh.get(m, 0) for m in members]], np.int64).reshape(1, -1)
    if not contracts:
        return contracts, np.zeros((1, 0), np.int64), net
    inside = np.array([[state.members[m].inside(slot.slot) for m in members]], np.bool_)
    wh = deliveries(tuple(contracts), net, inside, slot.slot)
    return contracts, wh, remaining_net(tuple(contracts), net, wh)


def settle_slot(state: State, caches: Caches, number: int, reason: str) -> tuple[f.Settled, dict[int, f.Part]]:
    """The fact and parts of settling a slot, or settling it anew. Nothing is changed.

    Raises
    ------
    MarketError
        If a law of market-rules 4.5 is broken.
    """
    slot = state.slots[number]
    at = columns_of(state, slot)
    n = len(at.members)
    contracts, wh, _ = agreed_wh(state, slot, at.members)
    rule = caches.rules[state.config.markets[0].market_id]
    net = at.import_wh - at.export_wh
    if isinstance(rule, MeterRule) and contracts:
        inside = np.array([[state.members[m].inside(number) for m in at.members]], np.bool_)
        wh = deliveries(tuple(contracts), net, inside, number, most_wh=wh)
    standing, rows = settle_standing(tuple(contracts), wh, at.retail_u, at.feed_in_u)
    loss = np.array([slot.loss_wh], np.int64)
    loss_price = np.array([slot.prices.loss_u], np.int64)
    rank = np.arange(n, dtype=np.int64)
    traded = contracts_of(state, number, at.members)
    postings: Postings
    sharing = _sharing(rule, at, net - standing.bought_wh + standing.sold_wh, number) if n else None
    if sharing is not None and sharing.kind == "pool_with_retailer":
        postings = settle_sharing(
            at.import_wh, at.export_wh, sharing.local_wh, sharing.pay_num, sharing.pay_den, sharing.retailer_num,
            at.retail_u, at.feed_in_u, at.charges, standing=standing, active=at.active, rank=rank, loss_wh=loss,
            loss_price_u=loss_price,
        )  # fmt: skip
    else:
        if sharing is not None:
            traded = _shared(sharing, net, n, rank)
        residuals = ResidualRule() if rule.name == "no_market" else _residuals(state, slot)
        postings = settle_contracts(
            at.import_wh, at.export_wh, traded.plus(standing), at.retail_u, at.feed_in_u, at.charges,
            residuals=residuals, active=at.active, rank=rank, loss_wh=loss, loss_price_u=loss_price,
        )  # fmt: skip
    exchange = net.sum(axis=1) + loss
    check_laws(postings, at.import_wh, at.export_wh, exchange_wh=exchange, first_slot=number)
    alone = np.array([[not state.members[m].storage_only for m in at.members]], np.bool_).reshape(1, -1)
    baseline = no_market_lines(at.import_wh * alone, at.export_wh * alone, at.retail_u, at.feed_in_u, at.charges).total
    parts = _parts(at, postings, baseline, contracts, wh, rows.by_contract(1, len(contracts)))
    fact = f.Settled(
        slot=number,
        version=len(slot.versions) + 1,
        reason=reason,
        accounts_u=tuple(tuple(postings.kinds[kind][0, n:].tolist()) for kind in LEDGER_KINDS),
        loss_wh=slot.loss_wh,
        result=settled_digest(parts),
        **_price(sharing, postings, standing),
    )
    return fact, dict(parts)


def _price(sharing: BatchSharing | None, postings: Postings, standing: Contracts) -> dict[str, int]:
    """Price and volume of a rule on meters: its own price, or what buyers paid on average for what they bought."""
    if sharing is None:
        return {}
    contracts = postings.contracts.less(standing)
    volume, paid = int(contracts.bought_wh.sum()), int(contracts.paid_u.sum())
    if sharing.has_price[0]:
        price = (int(sharing.price_num[0]), int(sharing.price_den[0]))
    elif volume:
        price = (paid * WH_PER_KWH, volume)
    else:
        return {}
    return {"price_num": price[0], "price_den": price[1], "shared_wh": volume}


def _residuals(state: State, slot: Slot) -> ResidualRule:
    long_u, short_u = slot.prices.imbalance_u, slot.prices.imbalance_short_u
    return ResidualRule(
        mode=state.config.residuals,  # type: ignore[arg-type]
        long_u=None if long_u is None else np.array([[long_u]], np.int64),
        short_u=None if short_u is None else np.array([[short_u]], np.int64),
        tolerance_micro_percent=state.config.tolerance_micro_percent,
    )


def _sharing(rule: object, at: Columns, net_wh: Int, slot: int) -> BatchSharing | None:
    if not isinstance(rule, MeterRule):
        return None
    ids = tuple(label(member) for member in at.members)
    return rule.share_batch(net_wh, at.retail_u, at.feed_in_u, at.active, members=ids, first_slot=slot)


def _shared(sharing: BatchSharing, net: Int, n: int, rank: Int) -> Contracts:
    """Contracts of a rule that allots energy after the meters."""
    if sharing.trades is not None:
        t = sharing.trades
        seller_num = t.price_num if t.seller_num is None else t.seller_num
        contracts, _ = contracts_from_trades(
            t.slot, t.buy_order, t.sell_order, t.e_wh, t.price_num, t.price_den, 1, n,
            seller_price_num=seller_num, seller_price_den=t.price_den,
        )  # fmt: skip
        return contracts
    member = np.arange(n, dtype=np.int32)
    return contracts_from_pool(
        sharing.local_wh, np.sign(net).astype(np.int8), sharing.pay_num, sharing.pay_den, member, n, rank, strong=True
    )


def _parts(
    at: Columns, postings: Postings, baseline: Int, contracts: list[StandingContract], wh: Int, amount_u: Int
) -> dict[int, f.SettledPart]:
    posted = np.stack([postings.kinds[kind][0] for kind in LEDGER_KINDS], axis=1).tolist()
    lines = np.stack([getattr(postings.lines, name)[0] for name in BILL_LINES], axis=1).tolist()
    held = postings.contracts
    parts = {}
    for i, member in enumerate(at.members):
        standing = tuple(
            (int(c.contract_id), int(wh[0, k]), int(amount_u[0, k]) * (1 if c.buyer == i else -1))
            for k, c in enumerate(contracts)
            if i in {c.buyer, c.seller} and wh[0, k]
        )
        parts[member] = f.SettledPart(
            posted_u=tuple(posted[i]),
            lines_u=tuple(lines[i]),
            import_wh=int(at.import_wh[0, i]),
            export_wh=int(at.export_wh[0, i]),
            quality=at.quality[i],
            bought_wh=int(held.bought_wh[0, i]),
            sold_wh=int(held.sold_wh[0, i]),
            local_bought_wh=int(held.local_bought_wh[0, i]),
            local_sold_wh=int(held.local_sold_wh[0, i]),
            standing=standing,
            baseline_u=int(baseline[0, i]),
        )
    return parts


def settled_digest(parts: dict[int, f.SettledPart]) -> bytes:
    """SHA-256 of what every member's slot came to."""
    return hashlib.sha256(_ENCODER.encode(list(parts.items()))).digest()
