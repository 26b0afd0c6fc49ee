"""What every shipped rule decides, under many parameters, settles by the laws of accounts (market-rules 4.5, 4.6)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from core.errors import MarketError
from core.keyed_random import keyed_generator
from market import clear
from market.book import BookBatch
from market.registry import BidRule, MeterRule, make_rule
from market.result import BatchClearing
from market.settlement import Contracts, check_laws, contracts_from_pool, settle_sharing
from market.testing_books import random_feeder
from tests.market.every_rule import BIDS, LOTS, METERS, WITH_CLASSES, Variant, bid_rule, crowd, label, one_order_each
from tests.market.laws import (
    CHARGES,
    FEED_IN_U,
    RETAIL_U,
    assert_laws_of_accounts,
    contracts_of,
    exact_sides,
    lines_of,
    settled,
)

SLOTS, MEMBERS = 30, 6
RANK = np.array([3, 0, 5, 1, 4, 2])
"""Members are not in the order of their names, which settle exact ties."""


def market_batch(rule: BidRule, variant: Variant, in_book: bool) -> BookBatch:
    """Slots of few and of many Wh at odd prices, so that much has to be rounded; several orders per member and both
    sides of one where the rule takes them, flags and classes where it knows them."""
    rng = keyed_generator(5, "settlement", label(variant))
    alone = one_order_each(rule)
    n = MEMBERS if alone else MEMBERS + 3
    member = np.arange(n) % MEMBERS
    side = rng.choice([-1, 0, 1, 1, -1], (SLOTS, n)).astype(np.int8)
    price_u = rng.integers(FEED_IN_U, RETAIL_U + 1, (SLOTS, n))
    tiny = np.arange(SLOTS)[:, None] % 3 == 0
    e_wh = np.where(tiny, rng.integers(0, 6, (SLOTS, n)), rng.integers(0, 5000, (SLOTS, n)))
    if rule.name in LOTS:
        e_wh = np.broadcast_to(e_wh[:, :1], e_wh.shape).copy()
    for column in range(MEMBERS, n):
        twin = column - MEMBERS
        if column % 2:  # a battery: it sells dearer than it buys
            side[:, column] = -side[:, twin]
            price_u[:, column] = np.clip(price_u[:, twin] + 7919 * side[:, twin].astype(int), FEED_IN_U, RETAIL_U)
            side[price_u[:, column] == price_u[:, twin], column] = 0
        else:
            side[:, column] = side[:, twin]
    e_wh = np.where(side == 0, 0, e_wh)
    ids = tuple(f"o{column}" for column in range(n))
    flags = sorted(rule.flags - {"market"})
    classes = WITH_CLASSES & {rule.name, getattr(rule, "inner", "")}
    feeder = random_feeder(keyed_generator(2, "wires"), base=True)
    return BookBatch(
        side=side, e_wh=e_wh, price_u=price_u, member=member.astype(np.int32), t=np.arange(n) % 2,
        seq=np.zeros(n, np.int64), order_rank=np.arange(n), agent_rank=RANK[member], first_slot=1000, order_ids=ids,
        agent_ids=tuple(f"a{rank}" for rank in RANK),
        retail_u=np.full(SLOTS, RETAIL_U) if in_book else None,
        feed_in_u=np.full(SLOTS, FEED_IN_U) if in_book else None,
        attributes=tuple({"class": "green" if i % 2 else "local"} for i in range(n)) if classes else None,
        flags=tuple(frozenset({flags[i % len(flags)]} if flags and i % 3 == 0 else ()) for i in range(n)),
        node=tuple(feeder.nodes[i % MEMBERS % feeder.n] for i in range(n)),
        feeder=replace(feeder, base_kva=5.0) if rule.declares.needs_network else None,
    )  # fmt: skip


def refused(rule: BidRule, batch: BookBatch) -> bool:
    return any(rule.applicable(*batch.row(s)[:2]) is not None for s in range(batch.n_slots))


@pytest.mark.slow
@pytest.mark.parametrize("in_book", [False, True], ids=["after", "in_book"])
@pytest.mark.parametrize("variant", [v for v in BIDS if v[0] != "vickrey"], ids=label)
def test_contracts_of_every_rule_settle_in_integers(variant: Variant, in_book: bool) -> None:
    rule = bid_rule(variant)
    batch = market_batch(rule, variant, in_book)
    if refused(rule, batch):
        assert in_book or getattr(rule, "losses", "none") != "none", "only the retailer in the book, or its absence"
        return
    rng = keyed_generator(6, "meters", label(variant))
    imported, exported = (rng.integers(0, 4000, (SLOTS, MEMBERS)) for _ in range(2))
    cleared = contracts_of(rule, batch, MEMBERS, RANK)
    contracts, found = cleared.contracts, rule.clear_batch(batch)
    assert contracts.bought_wh.sum() > 0
    posted = settled(contracts, imported, exported, RANK)
    assert_laws_of_accounts(posted, imported, exported)
    losses = posted.loss_wh
    check_laws(posted, imported, exported, exchange_wh=(imported - exported).sum(axis=1) + losses)
    if rule.declares.budget == "strong":
        assert not contracts.operator_u.any() and not contracts.network_u.any()
    assert_amounts_are_the_exact_ones_rounded(rule, batch, found, contracts)
    paid, received = (np.zeros((SLOTS, MEMBERS), np.int64) for _ in range(2))
    trades = cleared.trades
    for party, plane in ((trades.buyer, paid), (trades.seller, received)):
        known = party >= 0
        np.add.at(plane, (trades.slot[known] - batch.first_slot, party[known]), trades.amount_u[known])
    if not (in_book and found.kind == "bilateral"):  # there the retailer's lines stand in no row
        assert (paid == contracts.paid_u).all() and (received == contracts.received_u).all()


def assert_amounts_are_the_exact_ones_rounded(
    rule: BidRule, batch: BookBatch, found: BatchClearing, contracts: Contracts
) -> None:
    """Market-rules 4.6: no amount is 1 micro or more away from the exact one, a bilateral line at most half of one."""
    exact = exact_sides(batch, found, MEMBERS)
    lines = lines_of(batch, found, MEMBERS) if found.kind == "bilateral" else None
    for s in range(batch.n_slots):
        for i in range(MEMBERS):
            gaps = [
                abs(int(contracts.paid_u[s, i]) - exact[s][i][0]),
                abs(int(contracts.received_u[s, i]) - exact[s][i][1]),
            ]
            if lines is not None:
                assert max(gaps) <= Fraction(int(lines[s, i]), 2)
                continue
            assert gaps[0] < 1
            # the total of the sellers is imposed where the budget balances: with the retailer's own line between them
            imposed = rule.declares.budget == "strong" and batch.in_book
            assert gaps[1] <= 1 if imposed else gaps[1] < 1


@pytest.mark.parametrize("variant", [v for v in BIDS if v[0] != "vickrey"], ids=label)
def test_products_of_an_hour_settle_in_every_quarter_hour(variant: Variant) -> None:
    """The same energy and, but for rounding, the same money, however many slots a product spans; also the network's."""
    rule = bid_rule(variant)
    if getattr(rule, "losses", "none") != "none":
        return
    batch = market_batch(rule, variant, in_book=False)
    whole = contracts_of(rule, batch, MEMBERS, RANK).contracts
    parts = contracts_of(rule, batch, MEMBERS, RANK, slots=4).contracts
    rng = keyed_generator(7, "meters", label(variant))
    imported, exported = (rng.integers(0, 1000, (4 * SLOTS, MEMBERS)) for _ in range(2))
    assert_laws_of_accounts(settled(parts, imported, exported, RANK), imported, exported)
    for name in ("bought_wh", "sold_wh", "local_bought_wh", "local_sold_wh"):
        plane = getattr(parts, name).reshape(SLOTS, 4, MEMBERS)
        assert (plane.sum(axis=1) == getattr(whole, name)).all()
    for name in ("paid_u", "received_u", "operator_u", "network_u"):
        by_slot = getattr(parts, name).reshape(SLOTS, 4, -1).sum(axis=1)
        assert np.abs(by_slot - getattr(whole, name).reshape(SLOTS, -1)).max() <= 4 * (MEMBERS + 3), name
    if rule.declares.budget == "strong":
        assert not parts.operator_u.reshape(SLOTS, 4).sum(axis=1).any() and not parts.network_u.any()
        balanced_by_slot = {"uniform_price", "pair_price", "periodic_call", "sbba", "continuous_double_auction"}
        assert rule.name not in balanced_by_slot or not parts.operator_u.any()


@pytest.mark.parametrize("variant", METERS, ids=label)
def test_shared_meters_settle_in_integers(variant: Variant) -> None:
    rule = make_rule(*variant)
    assert isinstance(rule, MeterRule)
    rng = keyed_generator(8, "shared", label(variant))
    tiny = np.arange(SLOTS)[:, None] % 3 == 0
    nets = np.where(tiny, rng.integers(-4, 5, (SLOTS, MEMBERS)), rng.integers(-4000, 4000, (SLOTS, MEMBERS)))
    nets[:3] = np.abs(nets[:3])
    nets[3:6] = -np.abs(nets[3:6])
    if variant[1].get("to") == "consumption":
        nets[:, 0] = 5000
    if variant[1].get("to") == "standalone":
        nets = np.abs(nets)
    imported, exported = np.maximum(nets, 0), np.maximum(-nets, 0)
    active = rng.random(nets.shape) < 0.9
    active[:, 0] = True
    retail, feed_in = np.full(nets.shape, RETAIL_U), np.full(nets.shape, FEED_IN_U)
    names = tuple(f"m{rank}" for rank in RANK)
    found = rule.share_batch(nets, retail, feed_in, active, members=names, first_slot=0)
    if found.kind == "pool_with_retailer":
        posted = settle_sharing(
            imported, exported, found.local_wh, found.pay_num, found.pay_den, found.retailer_num, retail, feed_in,
            CHARGES, active=active, rank=RANK,
        )  # fmt: skip
        booked = -(posted.kinds["contract"] + posted.kinds["residual"])[:, :MEMBERS]
        for s, i in np.argwhere(active):
            gap = abs(int(booked[s, i]) - Fraction(int(found.pay_num[s, i]), int(found.pay_den[s])))
            assert (
                gap < 1 if nets[s, i] >= 0 else gap <= 1
            )  # the sellers' total is the buyers' less the retailer's line
    else:
        member = np.arange(MEMBERS, dtype=np.int32)
        contracts = contracts_from_pool(
            found.local_wh, np.sign(nets).astype(np.int8), found.pay_num, found.pay_den, member, MEMBERS, RANK,
            strong=True,
        )  # fmt: skip
        posted = settled(contracts, imported, exported, RANK)
        for s, i in np.argwhere(active):
            gap = abs(int(contracts.contract_u[s, i]) - Fraction(int(found.pay_num[s, i]), int(found.pay_den[s])))
            assert gap < 1
    assert_laws_of_accounts(posted, imported, exported)
    check_laws(posted, imported, exported)
    assert not posted.contracts.operator_u.any() and not posted.contracts.network_u.any()


@pytest.mark.parametrize("variant", [("uniform_price", {}), ("pair_price", {}), ("vcg", {})], ids=label)
def test_amounts_beyond_what_accounts_hold_are_refused(variant: Variant) -> None:
    """A result of any size is exact; settlement says that it cannot hold it, and never wraps around."""
    rule = bid_rule(variant)
    orders = crowd(3, 2**58, 2**40, 2**39)
    result = clear(rule, orders)
    assert result.volume_wh == 3 * 2**58 and abs(sum(result.payments.values()) - result.surplus_u) == 0
    with pytest.raises(MarketError, match="beyond the"):
        contracts_of(rule, BookBatch.of([orders]), 6, np.arange(6))
