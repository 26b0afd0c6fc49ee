"""The market's part of the slot cycle: arrays become books, a rule's exact result becomes contracts and postings.

Everything a rule may know is in the book it gets; rules that work on meters are called when the meters are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from core import MarketError
from market.book import BookBatch
from market.promises import check_promises
from market.registry import BidRule, MeterRule
from market.settlement import (
    Contracts,
    Lines,
    Postings,
    ResidualRule,
    check_laws,
    contracts_from_pool,
    contracts_from_trades,
    no_market_lines,
    settle_contracts,
    settle_sharing,
)
from peerwatt.messages import Bids, Bool, Cleared, Delivered, Int, Meters, Prices, Settled, Window
from peerwatt.results.record import TradeColumns
from peerwatt.system import System

if TYPE_CHECKING:
    from market.result import BatchClearing, BatchSharing, TradeBatch

MILLI = 1000  # Wh in a kWh: money of a line is price x Wh / 1000


def make_book(system: System, net_wh: Int, active: Bool, prices: Prices, window: Window) -> BookBatch:
    """One order per building and slot: the planned net, priced by the building's strategy."""
    setup = system.market
    price_u = np.zeros_like(net_wh)
    for strategy, members in setup.strategies:
        price_u[:, members] = strategy.quote_batch(
            net_wh[:, members],
            prices.retail_u[:, members],
            prices.feed_in_u[:, members],
            prices.feed_in_u[:, members],
            prices.retail_u[:, members],
            first_slot=window.first,
            seed=system.scenario.seed,
            agent_ids=tuple(system.building_ids[i] for i in members),
        )
    side = np.where(active, np.sign(net_wh), 0).astype(np.int8)
    in_book = setup.backstop == "in_book"
    return BookBatch(
        side=side,
        e_wh=np.where(active, np.abs(net_wh), 0),
        price_u=price_u,
        member=np.arange(system.n_buildings, dtype=np.int32),
        t=np.zeros(system.n_buildings, np.int64),
        seq=np.zeros(system.n_buildings, np.int64),
        order_rank=system.id_rank,
        agent_rank=system.id_rank,
        first_slot=window.first,
        order_ids=system.building_ids,
        retail_u=_one_price(prices.retail_u, "retail") if in_book else None,
        feed_in_u=_one_price(prices.feed_in_u, "feed-in") if in_book else None,
    )


def _one_price(plane: Int, name: str) -> Int:
    if (plane != plane[:, :1]).any():
        raise MarketError(
            f"the retailer stands in the book, but {name} prices differ between buildings",
            remedy="use market.backstop: after, or give every building the same contract",
        )
    return plane[:, 0].copy()


def no_contracts(n_slots: int, n_members: int) -> Cleared:
    """What clearing leaves where nothing is contracted before delivery."""
    zeros, ones = np.zeros(n_slots, np.int64), np.ones(n_slots, np.int64)
    return Cleared(Contracts.none(n_slots, n_members), no_trades(), zeros, ones, np.zeros(n_slots, np.bool_))


def no_trades() -> TradeColumns:
    """Trade columns without a row."""
    return TradeColumns(*(np.zeros(0, np.int64) for _ in range(7)))


def clear_contracts(system: System, bids: Bids, prices: Prices, window: Window) -> Cleared:
    """Run a rule that takes orders; its exact money becomes whole micro-currency (market-rules 4.6)."""
    n = system.n_buildings
    rule = system.market.rule
    if not isinstance(rule, BidRule):
        return no_contracts(window.n, n)
    result = rule.clear_batch(bids.book)
    check_promises(rule, bids.book, result)
    if result.trades is not None and result.kind == "bilateral":
        contracts, trades = _bilateral(result.trades, bids.book.member, window.n, n)
    else:
        strong = rule.declares.budget == "strong"
        contracts = _pool(result, bids.book, n, system.id_rank, strong)
        trades = pool_trades(contracts)
    trades = _shift(trades, window.first)
    return Cleared(contracts, trades, result.price_num, result.price_den, result.has_price)


def _bilateral(pairs: TradeBatch, member: NDArray[np.int32], n_slots: int, n: int) -> tuple[Contracts, TradeColumns]:
    owner = np.append(member.astype(np.int64), n)  # column -1 is the retailer
    buyer, seller = owner[pairs.buy_order], owner[pairs.sell_order]
    contracts, amount_u = contracts_from_trades(
        pairs.slot, buyer, seller, pairs.e_wh, pairs.price_num, pairs.price_den, n_slots, n
    )
    near = (buyer < n) & (seller < n)
    rows = (pairs.slot, buyer, seller, pairs.e_wh, pairs.price_num, pairs.price_den, amount_u)
    return contracts, TradeColumns(*(np.asarray(column)[near].astype(np.int64) for column in rows))


def _pool(result: BatchClearing, book: BookBatch, n: int, rank: Int, strong: bool) -> Contracts:
    fill, side, pay, member = result.fill_wh, book.side, result.pay_num, book.member
    if book.in_book:  # the retailer is two more columns: it sells what is imported and buys what is exported
        fill = np.column_stack([fill, result.import_wh, result.export_wh])
        flags = np.broadcast_to(np.array([-1, 1], np.int8), (len(fill), 2))
        side = np.column_stack([side, flags]).astype(np.int8)
        paid = result.retailer_num
        pay = np.column_stack([pay, np.where(result.import_wh > 0, paid, 0), np.where(result.import_wh > 0, 0, paid)])
        member = np.append(member, [n, n]).astype(np.int32)
    return contracts_from_pool(fill, side, pay, result.pay_den, member, n, rank, strong=strong)


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


def _shift(trades: TradeColumns, first: int) -> TradeColumns:
    return TradeColumns(
        trades.slot + first,
        trades.buyer,
        trades.seller,
        trades.e_wh,
        trades.price_num,
        trades.price_den,
        trades.amount_u,
    )


def settle_window(system: System, block: Delivered, meters: Meters, prices: Prices) -> Settled:
    """Post a window: contracts and residuals, or the rule's own bill where it works on meters; then check the laws."""
    rule = system.market.rule
    cleared = block.cleared
    sharing: BatchSharing | None = None
    if isinstance(rule, MeterRule):
        sharing = rule.share_batch(
            meters.import_wh - meters.export_wh,
            prices.retail_u,
            prices.feed_in_u,
            block.active,
            members=system.building_ids,
            first_slot=block.window.first,
        )
        cleared = _shared_contracts(system, sharing, meters, block)
    postings = _post(system, block, meters, prices, cleared, sharing)
    net = (meters.import_wh - meters.export_wh).sum(axis=1)
    exchange = net + block.state.loss_wh
    check_laws(postings, meters.import_wh, meters.export_wh, exchange_wh=exchange, first_slot=block.window.first)
    contracts = postings.contracts
    trades = cleared.trades
    if sharing is not None and sharing.kind == "pool_with_retailer":
        trades = _shift(pool_trades(contracts), block.window.first)
    price_num, price_den, has_price = _prices_or_means(cleared, contracts)
    return Settled(
        postings=postings,
        baseline=_without_market(system, meters, prices),
        trades=trades,
        price_num=price_num,
        price_den=price_den,
        has_price=has_price,
    )


def _without_market(system: System, meters: Meters, prices: Prices) -> Lines:
    """What the same meters would have cost without a market. A community battery then serves nobody and stands idle."""
    alone = ~system.community
    return no_market_lines(
        meters.import_wh * alone, meters.export_wh * alone, prices.retail_u, prices.feed_in_u, prices.charges
    )


def _post(
    system: System,
    block: Delivered,
    meters: Meters,
    prices: Prices,
    cleared: Cleared,
    sharing: BatchSharing | None,
) -> Postings:
    common = _Common(
        active=block.active,
        rank=system.id_rank,
        loss_wh=block.state.loss_wh,
        loss_price_u=prices.loss_u,
    )
    if sharing is not None and sharing.kind == "pool_with_retailer":
        return settle_sharing(
            meters.import_wh,
            meters.export_wh,
            sharing.local_wh,
            sharing.pay_num,
            sharing.pay_den,
            sharing.retailer_num,
            prices.retail_u,
            prices.feed_in_u,
            prices.charges,
            **common,
        )
    return settle_contracts(
        meters.import_wh,
        meters.export_wh,
        cleared.contracts,
        prices.retail_u,
        prices.feed_in_u,
        prices.charges,
        residuals=_residual_rule(system, prices),
        **common,
    )


class _Common(TypedDict):
    """What both ways of settling take."""

    active: Bool
    rank: Int
    loss_wh: Int
    loss_price_u: Int


def _residual_rule(system: System, prices: Prices) -> ResidualRule:
    settlement = system.scenario.settlement
    return ResidualRule(
        mode=settlement.residuals,
        long_u=None if prices.imbalance_u is None else prices.imbalance_u[:, None],
        short_u=None if prices.imbalance_short_u is None else prices.imbalance_short_u[:, None],
        tolerance_micro_percent=round(settlement.tolerance_percent * 1_000_000),
    )


def _shared_contracts(system: System, sharing: BatchSharing, meters: Meters, block: Delivered) -> Cleared:
    """Contracts of a rule that allots energy after the meters (sharing by keys); none for a pool with the retailer."""
    n_slots, n = block.window.n, system.n_buildings
    if sharing.kind == "pool_with_retailer":
        empty = no_contracts(n_slots, n)
        return Cleared(empty.contracts, empty.trades, sharing.price_num, sharing.price_den, sharing.has_price)
    if sharing.trades is not None:
        contracts, trades = _bilateral(sharing.trades, np.arange(n, dtype=np.int32), n_slots, n)
    else:
        side = np.sign(meters.import_wh - meters.export_wh).astype(np.int8)
        contracts = contracts_from_pool(
            sharing.local_wh,
            side,
            sharing.pay_num,
            sharing.pay_den,
            np.arange(n, dtype=np.int32),
            n,
            system.id_rank,
            strong=True,
        )
        trades = pool_trades(contracts)
    return Cleared(
        contracts, _shift(trades, block.window.first), sharing.price_num, sharing.price_den, sharing.has_price
    )


def _prices_or_means(cleared: Cleared, contracts: Contracts) -> tuple[Int, Int, Bool]:
    """The rule's price of each slot; where it names none, what buyers paid on average for what they bought."""
    volume = contracts.bought_wh.sum(axis=1)
    paid = contracts.paid_u.sum(axis=1)
    mean = ~cleared.has_price & (volume > 0)
    price_num = np.where(mean, paid * MILLI, cleared.price_num)
    price_den = np.where(mean, np.maximum(volume, 1), cleared.price_den)
    return price_num, price_den, cleared.has_price | mean
