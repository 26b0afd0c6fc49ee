"""Clearing a slot of a live market: its open orders become a book, the rule's exact result becomes positions.

The same functions as in a simulated run turn the result into whole micro-currency, in the same order of members, so
that equal books give equal ledgers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from core.errors import MarketError
from market.book import BookBatch
from market.engine import facts as f
from market.engine.caches import Caches, label
from market.engine.state import LiveOrder, Market, SlotBook, State
from market.registry import BidRule
from market.rounding import WH_PER_KWH
from market.settlement import Contracts, contracts_from_trades
from market.terms import Terms

if TYPE_CHECKING:
    from market.result import BatchClearing, TradeBatch

Wires = Callable[[BookBatch, tuple[int, ...]], BookBatch]
"""Puts a book on the feeder, for rules that look at the network; ``nodes`` are those of the order columns."""

_ENCODER = msgspec.msgpack.Encoder()


def clear_slot(
    state: State, caches: Caches, name: str, slot: int, wires: Wires | None = None
) -> tuple[f.Cleared, dict[int, f.Part]]:
    """The fact and parts of clearing a slot whose gate is closed. Nothing is changed.

    Raises
    ------
    MarketError
        If the rule breaks what it declares, or raises anything.
    """
    market = state.markets[name]
    book = market.books[slot]
    rule = caches.rules[name]
    if not isinstance(rule, BidRule):
        return _empty(name, slot, 0), {}
    if rule.continuous:
        return _clear_continuous(state, name, book)
    orders = [order for order in book.orders.values() if order.left_wh > 0]
    if not orders:
        return _empty(name, slot, len(book.orders)), {}
    members = sorted({order.member for order in orders})
    batch = book_of(state, market, book, orders, members)
    recorded = rule.declares.needs_network
    if recorded:
        if wires is None:
            raise MarketError(f"{rule.name} needs the network", remedy="give the engine the wires, or another rule")
        batch = wires(batch, tuple(state.members[members[m]].node for m in batch.member))
    found, contracts = _clear(rule, batch, len(members))
    fills = found.fill_wh[0].tolist()
    parts = _parts(members, contracts)
    for order, wh in zip(orders, fills, strict=True):
        if wh:
            parts[order.member].fills += ((order.order, wh),)
    price = _mean_price(contracts)
    if found.has_price[0]:
        price = (int(found.price_num[0]), int(found.price_den[0]))
    fact = f.Cleared(
        market=name,
        slot=slot,
        version=1,
        orders=len(orders),
        volume_wh=int(contracts.bought_wh.sum() + contracts.retailer_bought_wh.sum()),
        price_num=price[0],
        price_den=price[1],
        book=book_digest(orders),
        result=result_digest(parts),
        operator_u=int(contracts.operator_u[0]),
        network_u=int(contracts.network_u[0]),
        retailer_u=int(contracts.retailer_u[0]),
        retailer_sold_wh=int(contracts.retailer_sold_wh[0]),
        retailer_bought_wh=int(contracts.retailer_bought_wh[0]),
        recorded=recorded,
    )
    return fact, dict(parts)


def _empty(name: str, slot: int, orders: int) -> f.Cleared:
    return f.Cleared(name, slot, 1, orders, 0, None, 1, book_digest([]), result_digest({}))


def book_of(state: State, market: Market, book: SlotBook, orders: list[LiveOrder], members: list[int]) -> BookBatch:
    """One slot's orders as columns, in the order of their numbers; members become 0, 1, ... in order of theirs."""
    column = {member: i for i, member in enumerate(members)}
    table = np.array(
        [(o.side, o.left_wh, o.price_u, column[o.member], o.t_us, o.order) for o in orders], np.int64
    )  # fmt: skip
    member = table[:, 3]
    rank = np.empty(len(orders), np.int64)
    rank[np.lexsort((table[:, 5], member))] = np.arange(len(orders))
    retail = feed_in = None
    if market.config.backstop == "in_book" and book.prices.contracts:
        retail = np.array([min(row[0] for row in book.prices.contracts)], np.int64)
        feed_in = np.array([max(row[1] for row in book.prices.contracts)], np.int64)
    flags = None
    if any(o.flags for o in orders):
        flags = tuple(frozenset(n for n, bit in f.FLAG_BITS.items() if o.flags & bit) for o in orders)
    return BookBatch(
        side=table[None, :, 0].astype(np.int8),
        e_wh=table[None, :, 1].copy(),
        price_u=table[None, :, 2].copy(),
        member=member.astype(np.int32),
        t=table[:, 4].copy(),
        seq=np.zeros(len(orders), np.int64),
        order_rank=rank,
        agent_rank=member.copy(),
        first_slot=book.slot,
        order_ids=tuple(f"{label(o.member)}-{o.order:012d}" for o in orders),
        agent_ids=tuple(label(m) for m in members),
        flags=flags,
        terms=_terms(state, members),
        retail_u=retail,
        feed_in_u=feed_in,
    )


def _terms(state: State, members: list[int]) -> dict[str, Terms]:
    found = {}
    for number in members:
        own = state.members[number]
        if own.floor_u is not None or own.ceiling_u is not None or own.refused_classes:
            found[label(number)] = Terms(
                floor_u=own.floor_u, ceiling_u=own.ceiling_u, refused_classes=frozenset(own.refused_classes)
            )
    return found


def _clear(rule: BidRule, batch: BookBatch, n: int) -> tuple[BatchClearing, Contracts]:
    """The rule's result and the contracts it makes, rounded as settlement says."""
    from market.contracting import as_traded, network_part, pool_contracts
    from market.promises import check_promises

    found = rule.clear_batch(batch)
    check_promises(rule, batch, found)
    found = as_traded(found)
    if found.trades is not None and found.kind == "bilateral":
        contracts = _of_pairs(found.trades, batch, n)
    else:
        rank, strong = np.arange(n, dtype=np.int64), rule.declares.budget == "strong"
        contracts = pool_contracts(found, batch.side, batch, n, rank, strong, 1)
    return found, contracts.with_network(contracts.operator_u - network_part(rule, found, contracts))


def _mean_price(contracts: Contracts) -> tuple[int | None, int]:
    """What buyers paid on average for what they bought: the price of rules that name none."""
    volume = int(contracts.bought_wh.sum())
    return (int(contracts.paid_u.sum()) * WH_PER_KWH, volume) if volume else (None, 1)


def _of_pairs(pairs: TradeBatch, batch: BookBatch, n: int) -> Contracts:
    owner = np.append(batch.member.astype(np.int64), n)  # column -1 is the retailer
    seller_num = pairs.price_num if pairs.seller_num is None else pairs.seller_num
    contracts, _ = contracts_from_trades(
        pairs.slot, owner[pairs.buy_order], owner[pairs.sell_order], pairs.e_wh, pairs.price_num, pairs.price_den, 1, n,
        seller_price_num=seller_num, seller_price_den=pairs.price_den,
    )  # fmt: skip
    return contracts


def _parts(members: list[int], contracts: Contracts) -> dict[int, f.ClearedPart]:
    columns = (
        contracts.bought_wh, contracts.sold_wh, contracts.paid_u, contracts.received_u, contracts.local_bought_wh,
        contracts.local_sold_wh,
    )  # fmt: skip
    rows = np.stack([column[0] for column in columns], axis=1).tolist()
    return {member: f.ClearedPart((), *row) for member, row in zip(members, rows, strict=True)}


def _clear_continuous(state: State, name: str, book: SlotBook) -> tuple[f.Cleared, dict[int, f.Part]]:
    """A continuous market has traded already: its trades become positions."""
    trades = book.trades
    members = sorted({book.orders[n].member for row in trades for n in row[:2]})
    if not trades:
        return _empty(name, book.slot, len(book.orders)), {}
    column = {member: i for i, member in enumerate(members)}
    table = np.array(trades, np.int64)
    buyer = np.array([column[book.orders[int(n)].member] for n in table[:, 0]], np.int64)
    seller = np.array([column[book.orders[int(n)].member] for n in table[:, 1]], np.int64)
    ones, zeros = np.ones(len(table), np.int64), np.zeros(len(table), np.int64)
    contracts, _ = contracts_from_trades(zeros, buyer, seller, table[:, 2], table[:, 3], ones, 1, len(members))
    parts = _parts(members, contracts)
    for order in book.orders.values():
        if order.filled_wh:
            parts[order.member].fills += ((order.order, order.filled_wh),)
    volume, price = int(table[:, 2].sum()), _mean_price(contracts)
    fact = f.Cleared(
        market=name, slot=book.slot, version=1, orders=len(book.orders), volume_wh=volume,
        price_num=price[0], price_den=price[1],
        book=book_digest(list(book.orders.values())), result=result_digest(parts),
        operator_u=int(contracts.operator_u[0]),
    )  # fmt: skip
    return fact, dict(parts)


def book_digest(orders: list[LiveOrder]) -> bytes:
    """SHA-256 of a book as it was cleared: of every order its number, member, side, energy, price, flags and time."""
    rows = [(o.order, o.member, o.side, o.e_wh, o.price_u, o.flags, o.t_us) for o in orders]
    return hashlib.sha256(_ENCODER.encode(rows)).digest()


def result_digest(parts: dict[int, f.ClearedPart]) -> bytes:
    """SHA-256 of what every member got."""
    return hashlib.sha256(_ENCODER.encode(list(parts.items()))).digest()


__all__ = ["Wires", "book_digest", "book_of", "clear_slot", "result_digest"]
