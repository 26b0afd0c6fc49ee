"""Bidding strategies: prices within limit and band, the same in a batch and alone, however slots are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market import Side, make_strategy
from market.registry import strategy_classes
from market.strategies import quote_batch
from market.strategies.base import Observation

AGENTS = ["h1", "h2", "h3"]
NET = np.array([[500, -300, 0], [-1, 1, 7]])
BAND: dict[str, Any] = {
    "value_u": np.full((2, 3), 320_000), "cost_u": np.full((2, 3), 80_000), "p_min_u": np.full((2, 3), 80_000),
    "p_max_u": np.full((2, 3), 320_000),
}  # fmt: skip


def test_three_are_shipped() -> None:
    assert {"truthful", "fixed_margin", "zi_c"} <= set(strategy_classes())


def test_truthful() -> None:
    prices = quote_batch("truthful", NET, **BAND, agent_ids=AGENTS)
    assert prices.tolist() == [[320_000, 80_000, 320_000], [80_000, 320_000, 320_000]]


def test_fixed_margin() -> None:
    prices = quote_batch("fixed_margin", NET, **BAND, agent_ids=AGENTS, parameters={"margin": 0.1})
    assert prices.tolist() == [[288_000, 88_000, 288_000], [88_000, 288_000, 288_000]]
    taker = quote_batch("fixed_margin", NET, **BAND, agent_ids=AGENTS)
    assert taker.tolist() == [[320_000, 80_000, 320_000], [80_000, 320_000, 320_000]]


def test_fixed_margin_rounds_away_from_the_limit_and_stays_in_the_band() -> None:
    one = {"p_min_u": -100, "p_max_u": 100}
    net, ids = np.array([[1, -1]]), ["b", "s"]
    third = quote_batch("fixed_margin", net, 10, 10, **one, agent_ids=ids, parameters={"margin": "1/3"})
    assert third.tolist() == [[6, 14]]  # 6.67 down, 13.33 up
    below = quote_batch("fixed_margin", net, -10, -10, **one, agent_ids=ids, parameters={"margin": 0.5})
    assert below.tolist() == [[-15, -5]]
    clipped = quote_batch("fixed_margin", net, 90, 90, 80, 100, agent_ids=ids, parameters={"margin": 0.5})
    assert clipped.tolist() == [[80, 100]]


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_zi_c_never_passes_its_limit(limit: int, below: int, above: int, seed: int) -> None:
    net = np.array([[1, -1]] * 6)
    prices = quote_batch("zi_c", net, limit, limit, limit - below, limit + above, seed=seed, agent_ids=["b", "s"])
    assert ((prices[:, 0] >= limit - below) & (prices[:, 0] <= limit)).all()
    assert ((prices[:, 1] >= limit) & (prices[:, 1] <= limit + above)).all()


def test_zi_c_reaches_both_ends_evenly() -> None:
    net = np.ones((4000, 1), np.int64)
    prices = quote_batch("zi_c", net, 4, 0, 0, 4, agent_ids=["a"])
    counts = np.bincount(prices[:, 0])
    assert len(counts) == 5
    assert counts.min() > 700


@pytest.mark.parametrize("name", ["truthful", "fixed_margin", "zi_c"])
def test_windows_agents_and_single_quotes_agree(name: str) -> None:
    rng = np.random.default_rng(1)
    net = rng.integers(-9, 9, (30, 4))
    value, cost = rng.integers(200, 400, (30, 4)), rng.integers(0, 100, (30, 4))
    ids = ["a", "b", "c", "d"]
    whole = quote_batch(name, net, value, cost, cost - 5, value + 5, first_slot=100, seed=9, agent_ids=ids)
    cut = quote_batch(name, net[11:], value[11:], cost[11:], cost[11:] - 5, value[11:] + 5, first_slot=111, seed=9,
                      agent_ids=ids)  # fmt: skip
    assert (whole[11:] == cut).all()
    one = quote_batch(name, net[:, 2:3], value[:, 2:3], cost[:, 2:3], cost[:, 2:3] - 5, value[:, 2:3] + 5,
                      first_slot=100, seed=9, agent_ids=["c"])  # fmt: skip
    assert (whole[:, 2:3] == one).all()
    strategy = make_strategy(name)
    for s in range(0, 30, 7):
        for b in range(4):
            seen = Observation(
                agent_id=ids[b], slot=100 + s, net_wh=int(net[s, b]), value_u=int(value[s, b]), cost_u=int(cost[s, b]),
                p_min_u=int(cost[s, b]) - 5, p_max_u=int(value[s, b]) + 5, seed=9,
            )  # fmt: skip
            orders = strategy.quote(seen)
            if not net[s, b]:
                assert orders == []
                continue
            (order,) = orders
            assert (order.price_u, order.e_wh) == (whole[s, b], abs(net[s, b]))
            assert order.side == (Side.BUY if net[s, b] > 0 else Side.SELL)


def test_mistakes_are_named() -> None:
    with pytest.raises(MarketError, match="no strategy named"):
        make_strategy("zi_z")
    with pytest.raises(MarketError, match="its parameters are"):
        make_strategy("fixed_margin", {"markup": 1})
    with pytest.raises(MarketError, match="margin"):
        make_strategy("fixed_margin", {"margin": -0.1})
    with pytest.raises(MarketError, match="not whole"):
        quote_batch("truthful", NET, 0.3, 1, 0, 1, agent_ids=AGENTS)  # type: ignore[arg-type]
    with pytest.raises(MarketError, match="agents"):
        quote_batch("truthful", NET, **BAND, agent_ids=["h1"])
