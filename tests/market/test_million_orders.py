"""A million orders in one book, or a million meters, under every rule that has compiled code for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.keyed_random import keyed_generator
from market.book import BookBatch
from market.promises import check_promises
from market.registry import BidRule, MeterRule, make_rule
from tests.market.every_rule import Variant, label

pytestmark = pytest.mark.slow

N = 1_000_000
BIDS: list[Variant] = [
    ("uniform_price", {}),
    ("uniform_price", {"tie_break": "prorata"}),
    ("pay_as_bid", {}),
    ("pair_price", {}),
    ("trade_reduction", {}),
    ("mcafee", {}),
    ("huang", {}),
    ("vcg", {}),
    ("periodic_call", {}),
    ("central_optimum", {}),
    ("continuous_double_auction", {}),
    ("network_charges", {"u": 7}),
]
METERS: list[Variant] = [
    ("no_market", {}),
    ("mid_market_rate", {}),
    ("supply_demand_ratio", {}),
    ("bill_sharing", {}),
    ("sharing_keys", {"key": "pro_rata"}),
    ("proportional", {}),
]


@pytest.mark.parametrize("equal", [False, pytest.param(True, marks=pytest.mark.campaign)], ids=["any", "all alike"])
@pytest.mark.parametrize("variant", BIDS, ids=label)
def test_a_million_orders(variant: Variant, equal: bool) -> None:
    """Fills within orders, bought equals sold, budget and gains as declared; also where all are alike."""
    rule = make_rule(*variant)
    assert isinstance(rule, BidRule)
    rng = keyed_generator(1, "million")
    side = np.where(np.arange(N) % 3, 1, -1).astype(np.int8)[None]
    lots = rule.name in ("trade_reduction", "mcafee")
    batch = BookBatch(
        side=side,
        e_wh=np.full((1, N), 700) if equal or lots else rng.integers(0, 5000, (1, N)),
        price_u=np.full((1, N), 200_000) if equal else rng.integers(80_000, 320_000, (1, N)),
        member=np.arange(N, dtype=np.int32),
        t=rng.integers(0, 1000, N),
        seq=np.zeros(N, np.int64),
        order_rank=rng.permutation(N).astype(np.int64),
    )
    found = rule.clear_batch(batch)
    check_promises(rule, batch, found)
    assert found.fill_wh[side > 0].sum() == found.fill_wh[side < 0].sum()
    nothing = rule.name == "network_charges" or lots or rule.name == "huang"  # a charge; the last lot stays out
    assert found.fill_wh.any() or (equal and nothing)
    if rule.declares.efficient and not equal:
        best = make_rule("uniform_price")
        assert isinstance(best, BidRule)
        worth = (side * found.fill_wh * batch.price_u).sum()
        assert worth == (side * best.clear_batch(batch).fill_wh * batch.price_u).sum()


@pytest.mark.parametrize("variant", METERS, ids=label)
def test_a_million_meters(variant: Variant) -> None:
    """Local energy within each net and equal on both sides, and the members' payments are the retailer's bill."""
    rule = make_rule(*variant)
    assert isinstance(rule, MeterRule)
    net = keyed_generator(2, "million").integers(-5000, 5000, (1, N))
    tariff: Any = (np.full((1, N), 320_000), np.full((1, N), 80_000))
    found = rule.share_batch(net, *tariff)
    assert (found.local_wh >= 0).all() and (found.local_wh <= np.abs(net)).all()
    assert found.local_wh[net > 0].sum() == found.local_wh[net < 0].sum()
    paid = sum(found.pay_num[0].tolist())
    assert paid == (0 if found.kind == "contract" else int(found.retailer_num[0]))
    assert found.local_wh.any() or rule.name == "no_market"
