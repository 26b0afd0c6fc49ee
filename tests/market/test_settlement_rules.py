"""Every shipped rule settles: its exact batch result goes through rounding, double entry and the laws of each slot."""

from __future__ import annotations

import numpy as np
import pytest

from market.book import BookBatch
from market.registry import BidRule, MeterRule, make_rule
from market.settlement import (
    Charges,
    Contracts,
    Postings,
    ResidualRule,
    check_laws,
    contracts_from_pool,
    contracts_from_trades,
    no_market_bill_u,
    settle_contracts,
    settle_sharing,
)

S, B = 60, 7
RETAIL, FEED_IN = 320_000, 80_000
CHARGES = Charges(*(np.full((1, 1), price, np.int64) for price in (91_357, 30_011, 0, 1_003, 20_499)))
RANK = np.array([3, 0, 6, 1, 5, 2, 4])


def meters(seed: int, top: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    net = rng.integers(-top, top, (S, B)) * (rng.random((S, B)) < 0.9)
    net[:4] = np.abs(net[:4])  # nobody sells
    net[4:8] = -np.abs(net[4:8])  # nobody buys
    return np.maximum(net, 0), np.maximum(-net, 0), rng.random((S, B)) < 0.85


def contracts_of(rule: BidRule, net: np.ndarray, active: np.ndarray, seed: int, in_book: bool) -> Contracts:
    rng = np.random.default_rng(seed + 1)
    side = np.where(active, np.sign(net), 0).astype(np.int8)
    batch = BookBatch(
        side=side, e_wh=np.where(active, np.abs(net), 0), price_u=rng.integers(FEED_IN, RETAIL + 1, (S, B)),
        member=np.arange(B, dtype=np.int32), t=np.zeros(B, np.int64), seq=np.zeros(B, np.int64), order_rank=RANK,
        agent_rank=RANK, first_slot=0, order_ids=tuple(f"m{r}" for r in RANK),
        retail_u=np.full(S, RETAIL) if in_book else None, feed_in_u=np.full(S, FEED_IN) if in_book else None,
    )  # fmt: skip
    found = rule.clear_batch(batch)
    if found.kind == "bilateral":
        pairs = found.trades
        assert pairs is not None
        contracts, amount = contracts_from_trades(
            pairs.slot, pairs.buy_order, pairs.sell_order, pairs.e_wh, pairs.price_num, pairs.price_den, S, B
        )
        assert amount.size == pairs.slot.size
        return contracts
    fill = np.column_stack([found.fill_wh, found.import_wh, found.export_wh])
    sides = np.column_stack([side, np.full(S, -1), np.full(S, 1)]).astype(np.int8)
    pay = np.column_stack([found.pay_num, found.retailer_num, np.zeros(S, np.int64)])
    member = np.array([*range(B), B, B], np.int32)
    strong = rule.declares.budget == "strong"
    return contracts_from_pool(fill, sides, pay, found.pay_den, member, B, RANK, strong=strong)


def finish(contracts: Contracts, imported: np.ndarray, exported: np.ndarray, active: np.ndarray, mode: str) -> Postings:
    posted = settle_contracts(
        imported, exported, contracts, np.array(RETAIL), np.array(FEED_IN), CHARGES, rank=RANK, active=active,
        residuals=ResidualRule(mode), loss_wh=np.full(S, 17), loss_price_u=90_001,  # type: ignore[arg-type]
    )  # fmt: skip
    check_laws(posted, imported, exported, exchange_wh=(imported - exported).sum(axis=1) + 17)
    return posted


@pytest.mark.parametrize("in_book", [False, True])
@pytest.mark.parametrize("name", ["uniform_price", "pay_as_bid", "pair_price"])
def test_bid_rules(name: str, in_book: bool) -> None:
    rule = make_rule(name)
    assert isinstance(rule, BidRule)
    imported, exported, active = meters(1)
    planned = imported - exported
    contracts = contracts_of(rule, planned, active, 1, in_book)
    assert contracts.bought_wh.sum() > 0
    assert (contracts.local_bought_wh.sum(axis=1) == contracts.local_sold_wh.sum(axis=1)).all()
    if rule.declares.budget == "strong":
        assert not contracts.operator_u.any()
    finish(contracts, imported, exported, active, "individual")
    actual_in, actual_out, _ = meters(2)  # nobody does what it planned
    for mode in ("individual", "netted"):
        finish(contracts, actual_in, actual_out, active, mode)


@pytest.mark.parametrize(
    "name", ["no_market", "mid_market_rate", "supply_demand_ratio", "bill_sharing", "sharing_keys"]
)
def test_meter_rules(name: str) -> None:
    rule = make_rule(name)
    assert isinstance(rule, MeterRule)
    for top in (4000, 4):
        imported, exported, active = meters(3, top)
        net = imported - exported
        retail, feed_in = np.full((S, B), RETAIL), np.full((S, B), FEED_IN)
        found = rule.share_batch(net, retail, feed_in, active, members=tuple(f"m{r}" for r in RANK), first_slot=0)
        if found.kind == "pool_with_retailer":
            posted = settle_sharing(
                imported, exported, found.local_wh, found.pay_num, found.pay_den, found.retailer_num, retail, feed_in,
                CHARGES, active=active, rank=RANK,
            )  # fmt: skip
            check_laws(posted, imported, exported)
        else:
            side = np.sign(net).astype(np.int8)
            contracts = contracts_from_pool(
                found.local_wh, side, found.pay_num, found.pay_den, np.arange(B, dtype=np.int32), B, RANK, strong=True
            )
            posted = finish(contracts, imported, exported, active, "individual")
        # at one tariff the community saves the spread on every Wh met locally, and its network charges, exactly
        alone = no_market_bill_u(imported, exported, np.array(RETAIL), np.array(FEED_IN), Charges.none())
        energy = -(posted.kinds["contract"] + posted.kinds["residual"])[:, :B]
        assert (alone - energy).sum() == posted.contracts.local_bought_wh.sum() * (RETAIL - FEED_IN) // 1000
        assert name == "no_market" or posted.contracts.local_bought_wh.sum() > 0
