"""The market's part of the slot cycle: arrays become books, a rule's exact result becomes contracts and postings.

Everything a rule may know is in the book it gets; rules that work on meters are called when the meters are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from market.book import BookBatch
from market.registry import MeterRule
from market.settlement import (
    Contracts,
    Lines,
    Postings,
    ResidualRule,
    check_laws,
    contracts_from_pool,
    no_market_lines,
    settle_contracts,
    settle_sharing,
)
from market.settlement.suppliers import BestOffers, best_offers, by_supplier
from market.strategies.base import StoredWorth
from peerwatt.clearing import MILLI, contracts_of_pairs, no_contracts, pool_trades, shifted
from peerwatt.messages import Bool, Cleared, Delivered, Int, Meters, Prices, Settled, Window
from peerwatt.own_terms import bounded_prices, merged, settle_agreed
from peerwatt.planning import UNKNOWN_U
from peerwatt.system import System

if TYPE_CHECKING:
    from market.result import BatchSharing


NO_MARKET = "no_market"


def make_book(
    system: System,
    net_wh: Int,
    active: Bool,
    prices: Prices,
    window: Window,
    rounds: int = 1,
    worth_u: Int | None = None,
) -> BookBatch:
    """One order per building and slot: the planned net, priced by the building's strategy, ``rounds`` times.

    ``worth_u`` (S, B, 2) is what plans say of stored energy (`peerwatt.planning.stored_worth_u`).
    """
    stored = None
    if worth_u is not None:
        stored = StoredWorth(worth_u[:, :, 0], worth_u[:, :, 1], worth_u[:, :, 0] != UNKNOWN_U)
    quotes = np.stack([
        bounded_prices(system, _quotes(system, net_wh, prices, window, k if rounds > 1 else None, stored), net_wh)
        for k in range(rounds)
    ])  # fmt: skip
    price_u = np.where(net_wh < 0, quotes.min(axis=0), quotes.max(axis=0))  # the limit over all rounds
    side = np.where(active, np.sign(net_wh), 0).astype(np.int8)
    offers = offers_in_book(system, prices, window)
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
        agent_ids=system.building_ids,
        attributes=system.own.attributes,
        quotes=quotes if rounds > 1 else None,
        terms=system.own.terms,
        retail_u=None if offers is None else offers.retail_u,
        feed_in_u=None if offers is None else offers.feed_in_u,
    )


def _quotes(
    system: System, net_wh: Int, prices: Prices, window: Window, update: int | None, stored: StoredWorth | None
) -> Int:
    """What every building's strategy asks for its position (S, B); ``update`` counts the rounds of a session."""
    price_u = np.zeros_like(net_wh)
    for strategy, members in system.market.strategies:
        price_u[:, members] = strategy.quote_batch(
            net_wh[:, members],
            prices.retail_u[:, members],
            prices.feed_in_u[:, members],
            prices.feed_in_u[:, members],
            prices.retail_u[:, members],
            first_slot=window.first,
            seed=system.scenario.seed,
            agent_ids=tuple(system.building_ids[i] for i in members),
            update=update,
            stored=None if stored is None else stored.of(members),
        )
    return price_u


def offers_in_book(system: System, prices: Prices, window: Window) -> BestOffers | None:
    """What the retailers offer inside the book, None where they stand behind it."""
    if system.market.backstop != "in_book":
        return None
    return best_offers(prices.retail_u, prices.feed_in_u, system.supply.supplier_of, window.first)


def settle_window(system: System, block: Delivered, meters: Meters, prices: Prices) -> Settled:
    """Post a window: contracts and residuals, or the rule's own bill where it works on meters; then check the laws."""
    rule = system.market.rule
    cleared, agreed = block.cleared, block.cleared.agreed_wh
    sharing: BatchSharing | None = None
    net_wh = meters.import_wh - meters.export_wh
    assert agreed is not None, "the cycle notes what standing contracts took"
    standing = settle_agreed(system, agreed, prices, block.window, net_wh if isinstance(rule, MeterRule) else None)
    if isinstance(rule, MeterRule):
        net_wh = net_wh - standing.contracts.bought_wh + standing.contracts.sold_wh
        sharing = rule.share_batch(
            net_wh,
            prices.retail_u,
            prices.feed_in_u,
            block.active,
            members=system.building_ids,
            first_slot=block.window.first,
        )
        cleared = _shared_contracts(system, sharing, net_wh, block)
    postings = _post(system, block, meters, prices, cleared, sharing, standing.contracts)
    net = (meters.import_wh - meters.export_wh).sum(axis=1)
    exchange = net + block.state.loss_wh
    check_laws(postings, meters.import_wh, meters.export_wh, exchange_wh=exchange, first_slot=block.window.first)
    contracts = postings.contracts.less(standing.contracts)
    trades = cleared.trades
    if sharing is not None and sharing.kind == "pool_with_retailer":
        trades = shifted(pool_trades(contracts), block.window.first)
    price_num, price_den, has_price = _prices_or_means(cleared, contracts)
    return Settled(
        postings=postings,
        baseline=_without_market(system, meters, prices),
        trades=merged(trades, standing.trades),
        price_num=price_num,
        price_den=price_den,
        has_price=has_price,
        standing_wh=standing.wh,
        standing_u=standing.amount_u,
        suppliers=_suppliers(system, postings, prices, block.window),
    )


def _suppliers(system: System, postings: Postings, prices: Prices, window: Window) -> tuple[Int, Int, Int] | None:
    """What each named supplier sold, bought and received; None where none is named."""
    supply = system.supply
    if not supply.suppliers:
        return None
    offers = offers_in_book(system, prices, window)
    return by_supplier(postings, supply.supplier_of, len(supply.suppliers), offers)


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
    standing: Contracts,
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
            standing=standing,
            **common,
        )
    return settle_contracts(
        meters.import_wh,
        meters.export_wh,
        cleared.contracts.plus(standing),
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
    if system.market.rule.name == NO_MARKET:  # everybody with the own retailer: nothing is contracted to deviate from
        return ResidualRule()
    return ResidualRule(
        mode=settlement.residuals,
        long_u=None if prices.imbalance_u is None else prices.imbalance_u[:, None],
        short_u=None if prices.imbalance_short_u is None else prices.imbalance_short_u[:, None],
        tolerance_micro_percent=round(settlement.tolerance_percent * 1_000_000),
    )


def _shared_contracts(system: System, sharing: BatchSharing, net_wh: Int, block: Delivered) -> Cleared:
    """Contracts of a rule that allots energy after the meters (sharing by keys); none for a pool with the retailer."""
    n_slots, n = block.window.n, system.n_buildings
    if sharing.kind == "pool_with_retailer":
        empty = no_contracts(n_slots, n)
        return Cleared(empty.contracts, empty.trades, sharing.price_num, sharing.price_den, sharing.has_price)
    if sharing.trades is not None:
        contracts, trades = contracts_of_pairs(sharing.trades, np.arange(n, dtype=np.int32), n_slots, n)
    else:
        side = np.sign(net_wh).astype(np.int8)
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
        contracts, shifted(trades, block.window.first), sharing.price_num, sharing.price_den, sharing.has_price
    )


def _prices_or_means(cleared: Cleared, contracts: Contracts) -> tuple[Int, Int, Bool]:
    """The rule's price of each slot; where it names none, what buyers paid on average for what they bought."""
    volume = contracts.bought_wh.sum(axis=1)
    paid = contracts.paid_u.sum(axis=1)
    mean = ~cleared.has_price & (volume > 0)
    price_num = np.where(mean, paid * MILLI, cleared.price_num)
    price_den = np.where(mean, np.maximum(volume, 1), cleared.price_den)
    return price_num, price_den, cleared.has_price | mean
