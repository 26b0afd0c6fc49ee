"""Products of several slots, and markets nested in markets."""

from __future__ import annotations

import numpy as np
import pytest

from core import MarketError
from core.keyed_random import keyed_generator
from market import Order, Side
from market.book import BookBatch
from market.levels import Level, check_nesting, clear_levels
from market.products import deliver_pairs, deliver_pool, flat_delivery, per_product
from market.registry import BidRule, make_rule


def bid_rule(name: str, **parameters: object) -> BidRule:
    rule = make_rule(name, parameters)
    assert isinstance(rule, BidRule)
    return rule


def random_batch(seed: int, slots: int = 20, n: int = 8) -> BookBatch:
    rng = keyed_generator(seed, "products")
    return BookBatch(
        side=rng.choice([-1, 0, 1], (slots, n)).astype(np.int8),
        e_wh=rng.integers(0, 40, (slots, n)),
        price_u=rng.integers(80_000, 320_000, (slots, n)),
        member=np.arange(n, dtype=np.int32),
        t=np.zeros(n, np.int64),
        seq=np.zeros(n, np.int64),
        order_rank=np.arange(n),
    )


@pytest.mark.parametrize("slots", [1, 2, 4, 96])
def test_delivery_is_even_and_equal_on_both_sides(slots: int) -> None:
    rng = keyed_generator(slots, "delivery")
    buys = rng.integers(0, 50, (30, 7))
    sells = np.zeros_like(buys[:, :3])
    total = buys.sum(axis=1)
    sells[:, 0], sells[:, 1] = total // 3, total - total // 3
    bought, sold = flat_delivery(buys, slots), flat_delivery(sells, slots)
    assert np.array_equal(bought.sum(axis=1), buys) and np.array_equal(sold.sum(axis=1), sells)
    assert np.array_equal(bought.sum(axis=2), sold.sum(axis=2))
    assert (bought.max(axis=1) - bought.min(axis=1)).max() <= 1
    assert bought.min() >= 0


def test_energy_per_product() -> None:
    assert per_product(np.arange(8).reshape(4, 2), 2).tolist() == [[2, 4], [10, 12]]
    with pytest.raises(MarketError, match="whole number of products"):
        per_product(np.zeros((5, 2), np.int64), 2)


@pytest.mark.parametrize("rule", ["uniform_price", "pay_as_bid"])
@pytest.mark.parametrize("in_book", [False, True])
def test_a_pool_of_hours_becomes_a_pool_of_quarter_hours(rule: str, in_book: bool) -> None:
    batch = random_batch(5)
    if in_book:
        prices = {"retail_u": np.full(20, 300_000), "feed_in_u": np.full(20, 100_000)}
        batch = BookBatch(**{**{f: getattr(batch, f) for f in batch.__dataclass_fields__}, **prices})
    cleared = bid_rule(rule).clear_batch(batch)
    side, spread = deliver_pool(batch, cleared, 4)
    assert np.array_equal(side, np.repeat(batch.side, 4, axis=0))
    assert np.array_equal(spread.fill_wh.reshape(20, 4, 8).sum(axis=1), cleared.fill_wh)
    assert np.array_equal(spread.pay_num.reshape(20, 4, 8).sum(axis=1), cleared.pay_num)
    assert np.array_equal(spread.retailer_num.reshape(20, 4).sum(axis=1), cleared.retailer_num)
    signed = (spread.fill_wh * side).sum(axis=1)
    assert np.array_equal(signed, spread.import_wh - spread.export_wh)
    price = cleared.price_num if rule == "uniform_price" else None
    if price is not None:  # one price: the money of every slot is that price times its energy, exactly
        expected = side * spread.fill_wh * np.repeat(price, 4)[:, None]
        assert np.array_equal(spread.pay_num, expected)


def test_pairs_of_hours_become_pairs_of_quarter_hours() -> None:
    batch = random_batch(6)
    trades = bid_rule("pair_price").clear_batch(batch).trades
    assert trades is not None and len(trades.slot)
    spread = deliver_pairs(trades, 4)
    assert (np.diff(spread.slot) >= 0).all() and (spread.e_wh > 0).all()
    whole = np.zeros((20, 8), np.int64)
    parts = np.zeros((80, 8), np.int64)
    np.add.at(whole, (trades.slot, trades.buy_order), trades.e_wh)
    np.add.at(parts, (spread.slot, spread.buy_order), spread.e_wh)
    assert np.array_equal(parts.reshape(20, 4, 8).sum(axis=1), whole)
    totals = np.bincount(spread.slot, spread.e_wh, 80).reshape(20, 4)
    assert (totals.max(axis=1) - totals.min(axis=1)).max() <= 1


def nested_book() -> BookBatch:
    buy, sell = Side.BUY, Side.SELL
    rows = [("a", buy, 500, 300), ("b", sell, 300, 100), ("c", buy, 400, 250), ("d", sell, 900, 120)]
    return BookBatch.of([[Order(order_id=x, agent_id=x, side=s, e_wh=q, price_u=p * 1000) for x, s, q, p in rows]])


def test_what_does_not_clear_in_the_street_goes_up_with_its_charge() -> None:
    levels = [Level("street", np.array([0, 0, 1, -1])), Level("district", np.zeros(4, np.int64), 20_000)]
    street_1, street_2, district = clear_levels(bid_rule("uniform_price"), nested_book(), levels)
    assert street_1.result.fill_wh.tolist() == [[300, 300]]
    assert street_1.result.price_num[0] / street_1.result.price_den[0] == 300_000  # a is left with 200 Wh at 300
    assert street_2.result.fill_wh.sum() == 0
    # left: a 200 at 300, c 400 at 250 against d 900 at 120 + 20
    assert district.result.fill_wh.tolist() == [[200, 0, 400, 600]]
    assert district.result.price_num[0] / district.result.price_den[0] == 140_000  # d has 300 Wh left: its raised ask


def test_levels_must_be_nested() -> None:
    check_nesting([Level("a", np.array([0, 0, 1])), Level("b", np.array([0, 0, 0]))])
    with pytest.raises(MarketError, match="torn apart"):
        check_nesting([Level("a", np.array([0, 0, 1])), Level("b", np.array([0, 1, 1]))])
    with pytest.raises(MarketError, match="negative charge"):
        Level("a", np.array([0]), -1)


@pytest.mark.parametrize("rule", ["uniform_price", "pair_price", "pay_as_bid"])
def test_nested_markets_never_fill_more_than_an_order(rule: str) -> None:
    for seed in range(6):
        batch = random_batch(seed)
        levels = [Level("street", np.arange(8) // 2), Level("block", np.arange(8) // 4, 5000),
                  Level("district", np.zeros(8, np.int64), 30_000)]  # fmt: skip
        total = np.zeros_like(batch.e_wh)
        for part in clear_levels(bid_rule(rule), batch, levels):
            total[:, part.columns] += part.result.fill_wh
            signed = part.result.fill_wh * part.book.side
            assert not signed.sum(axis=1).any()
        assert (total <= batch.e_wh).all() and total.sum() > 0
