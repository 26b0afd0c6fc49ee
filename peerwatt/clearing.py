"""From a book to contracts: a rule's exact result, rounded once, over nested levels and products of several slots."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from market.book import BookBatch
from market.contracting import as_traded, network_part, pool_contracts
from market.levels import clear_levels
from market.products import deliver_pairs, deliver_pool
from market.promises import check_promises
from market.registry import BidRule
from market.rounding import line_amounts_u
from market.settlement import Contracts, contracts_from_trades
from market.settlement.contracts import trade_amounts
from peerwatt.messages import Bids, Cleared, Window
from peerwatt.results.record import TradeColumns
from peerwatt.system import System

if TYPE_CHECKING:
    from market.result import BatchClearing, TradeBatch

MILLI = 1000  # Wh in a kWh: money of a line is price x Wh / 1000


def no_contracts(n_slots: int, n_members: int) -> Cleared:
    """What clearing leaves where nothing is contracted before delivery."""
    zeros, ones = np.zeros(n_slots, np.int64), np.ones(n_slots, np.int64)
    return Cleared(Contracts.none(n_slots, n_members), no_trades(), zeros, ones, np.zeros(n_slots, np.bool_))


def no_trades() -> TradeColumns:
    """Trade columns without a row."""
    return TradeColumns(*(np.zeros(0, np.int64) for _ in range(7)))


def clear_contracts(system: System, bids: Bids, window: Window) -> Cleared:
    """Run the rule of the last stage on the window's books; rules that work on meters clear nothing here."""
    rule = system.market.rule
    if not isinstance(rule, BidRule):
        return no_contracts(window.n, system.n_buildings)
    return clear_book(system, rule, bids.book, window)


def clear_book(
    system: System, rule: BidRule, book: BookBatch, window: Window, slots: int = 1, stage: int = 0
) -> Cleared:
    """Clear books whose products span ``slots`` slots each, level by level; exact money becomes whole micro-currency.

    ``window`` is that of the slots; ``stage`` is 0 for the last one, others count from the first.
    Source: market-rules 2.19, 2.22, 4.6.
    """
    levels = system.market.levels
    if not levels:
        return _contracts_of(system, rule, book, window, slots, deal=stage)
    cleared = no_contracts(window.n, system.n_buildings)
    for part in clear_levels(rule, book, levels):
        deal = stage * len(levels) + levels.index(part.level)
        done = _contracts_of(system, rule, part.book, window, slots, part.level.charge_u, part.result, deal)
        cleared = add_cleared(cleared, done)
    return cleared


def _contracts_of(
    system: System,
    rule: BidRule,
    book: BookBatch,
    window: Window,
    slots: int,
    charge_u: int = 0,
    result: BatchClearing | None = None,
    deal: int = 0,
) -> Cleared:
    n = system.n_buildings
    found = rule.clear_batch(book) if result is None else result
    check_promises(rule, book, found)
    found = as_traded(found)
    if found.trades is not None and found.kind == "bilateral":
        pairs = deliver_pairs(found.trades, slots)
        contracts, trades = contracts_of_pairs(pairs, book.member, window.n, n, charge_u)
        _, found = deliver_pool(book, found, slots)
    else:
        side, found = deliver_pool(book, found, slots)
        contracts = pool_contracts(found, side, book, n, system.id_rank, rule.declares.budget == "strong", slots)
        if charge_u:
            price = np.full((1, 1), charge_u, np.int64)
            contracts = contracts.charged(line_amounts_u(price, contracts.sold_wh))
        trades = pool_trades(contracts)
    contracts = contracts.with_network(contracts.operator_u - network_part(rule, found, contracts))
    return Cleared(contracts, shifted(trades, window.first, deal), found.price_num, found.price_den, found.has_price)


def add_cleared(one: Cleared, other: Cleared) -> Cleared:
    """Contracts and trades of both. The price is that of the only one that has trades; of several there is none."""
    columns = [np.concatenate([getattr(one.trades, f.name), getattr(other.trades, f.name)]) for f in fields(one.trades)]
    order = np.argsort(columns[0], kind="stable")
    both = TradeColumns(*(column[order] for column in columns))
    first, second = one.contracts.bought_wh.any(axis=1), other.contracts.bought_wh.any(axis=1)
    return Cleared(
        contracts=one.contracts.plus(other.contracts),
        trades=both,
        price_num=np.where(first, one.price_num, other.price_num),
        price_den=np.where(first, one.price_den, other.price_den),
        has_price=np.where(first, one.has_price & ~second, other.has_price),
    )


def contracts_of_pairs(
    pairs: TradeBatch, member: NDArray[np.int32], n_slots: int, n: int, charge_u: int = 0
) -> tuple[Contracts, TradeColumns]:
    """Contracts of pairs of order columns, and a row for each pair of members; the retailer is column -1.

    Rows are at the seller's price. What a buyer pays beyond it, for the network or the operator, is a row with nobody
    on the other side and without energy.
    """
    owner = np.append(member.astype(np.int64), n)  # column -1 is the retailer
    buyer, seller = owner[pairs.buy_order], owner[pairs.sell_order]
    seller_num = pairs.price_num if pairs.seller_num is None else pairs.seller_num
    contracts, amount_u = contracts_from_trades(
        pairs.slot, buyer, seller, pairs.e_wh, pairs.price_num, pairs.price_den, n_slots, n,
        seller_price_num=seller_num - charge_u * pairs.price_den, seller_price_den=pairs.price_den,
    )  # fmt: skip
    if charge_u:
        lines = line_amounts_u(np.full((1, 1), charge_u, np.int64), contracts.sold_wh).sum(axis=1)
        kept = np.zeros_like(lines) if pairs.seller_num is None else contracts.operator_u - lines
        contracts = contracts.with_network(kept)
    near = (buyer < n) & (seller < n)
    net_num = seller_num - charge_u * pairs.price_den
    got_u = trade_amounts(pairs.e_wh, net_num, pairs.price_den)
    rows = (pairs.slot, buyer, seller, pairs.e_wh, net_num, pairs.price_den, got_u)
    columns = [np.asarray(column)[near].astype(np.int64) for column in rows]
    more = np.flatnonzero(near & (amount_u != got_u))
    if len(more):
        extra = (amount_u - got_u)[more]
        none, one = np.zeros(len(more), np.int64), np.ones(len(more), np.int64)
        added = (pairs.slot[more], buyer[more], none - 1, none, extra * MILLI, one, extra)
        columns = [np.concatenate([column, new]) for column, new in zip(columns, added, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        columns = [column[order] for column in columns]
    return contracts, TradeColumns(*columns)


def pool_trades(contracts: Contracts) -> TradeColumns:
    """A row per member and side of a pool; the price is what was booked over what was traded."""
    slot_b, buyer = np.nonzero((contracts.local_bought_wh != 0) | (contracts.paid_u != 0))
    slot_s, seller = np.nonzero((contracts.local_sold_wh != 0) | (contracts.received_u != 0))
    e_wh = np.concatenate([contracts.bought_wh[slot_b, buyer], contracts.sold_wh[slot_s, seller]])
    amount = np.concatenate([contracts.paid_u[slot_b, buyer], contracts.received_u[slot_s, seller]])
    slot = np.concatenate([slot_b, slot_s])
    order = np.argsort(slot, kind="stable")
    pool = np.full(len(slot), -1, np.int64)
    buyers, sellers = pool.copy(), pool
    buyers[: len(buyer)] = buyer
    sellers[len(buyer) :] = seller
    columns = (slot, buyers, sellers, e_wh, amount * MILLI, np.maximum(e_wh, 1), amount)
    return TradeColumns(*(column[order].astype(np.int64) for column in columns))


def shifted(trades: TradeColumns, first: int, deal: int = 0) -> TradeColumns:
    """The same trades with slots counted from the run's start, all of one deal."""
    return replace(trades, slot=trades.slot + first, deal=np.full_like(trades.slot, deal))
