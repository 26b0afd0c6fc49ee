"""Guarantees of origin: matching with consumption, allocation among consumers, the registry."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import MarketError
from market.certificates import (
    CertificateRegistry,
    allocate_certificates,
    matched_share,
    matched_wh,
)

# --- matching and allocation ------------------------------------------------------------------------------------------


def test_the_specifications_example_annual_all_hourly_half() -> None:
    load, made = (5, 5), (10, 0)
    assert matched_share(made, load, (2016, 2016)) == 1
    assert matched_share(made, load, ("10:00", "11:00")) == Fraction(1, 2)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=24))
def test_a_coarser_period_never_matches_less(slots: list[tuple[int, int]]) -> None:
    made, load = [m for m, _ in slots], [c for _, c in slots]
    fine = matched_wh(made, load, range(len(slots)))
    middle = matched_wh(made, load, [t // 4 for t in range(len(slots))])
    coarse = matched_wh(made, load, [0] * len(slots))
    assert fine <= middle <= coarse == min(sum(made), sum(load))
    assert fine == sum(min(pair) for pair in slots)


def test_matching_refuses_nonsense() -> None:
    assert matched_share([5], [0], [0]) is None
    with pytest.raises(MarketError):
        matched_wh([1, 2], [1], [0])
    with pytest.raises(MarketError):
        matched_wh([-1], [1], [0])


def test_contracts_come_first_then_pro_rata() -> None:
    assert allocate_certificates(10, [8, 8, 8], [0, 6, 0]) == [2, 6, 2]
    assert allocate_certificates(10, [8, 8, 8]) == [4, 3, 3]
    assert allocate_certificates(4, [8, 8, 8], [0, 6, 6]) == [0, 2, 2], "contracts that cannot be kept are cut alike"
    assert allocate_certificates(10, [3, 4, 0], [9, 0, 9]) == [3, 4, 0], "nobody gets more than it used"
    with pytest.raises(MarketError):
        allocate_certificates(-1, [1])
    with pytest.raises(MarketError):
        allocate_certificates(1, [1], [1, 2])


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6))
def test_allocation_gives_all_there_is_and_no_more(available: int, rows: list[tuple[int, int]]) -> None:
    used, promised = [u for u, _ in rows], [p for _, p in rows]
    given_ = allocate_certificates(available, used, promised)
    assert sum(given_) == min(available, sum(used))
    assert all(0 <= g <= u for g, u in zip(given_, used, strict=True))
    if sum(map(min, rows)) <= available:
        assert all(g >= min(row) for g, row in zip(given_, rows, strict=True))


# --- the registry -----------------------------------------------------------------------------------------------------


def test_a_certificate_is_created_once_and_cancelled_once() -> None:
    registry = CertificateRegistry()
    batch = registry.create("ada", "solar", 5, 300)
    with pytest.raises(MarketError, match="already"):
        registry.create("ada", "solar", 5, 300)
    registry.transfer(batch, "ada", "bob", 200)
    with pytest.raises(MarketError, match="holds 100"):
        registry.transfer(batch, "ada", "eve", 150)
    registry.cancel(batch, "bob", 5, 200, consumed_wh=250)
    with pytest.raises(MarketError, match="cancelled once"):
        registry.cancel(batch, "bob", 5, 1, consumed_wh=250)
    with pytest.raises(MarketError, match="claims 101 Wh"):
        registry.cancel(batch, "ada", 6, 101, consumed_wh=100)
    assert registry.held("ada") == {batch: 100}
    assert registry.expire(before_slot=6) == 100
    balance = registry.balance()
    assert (balance.created, balance.cancelled, balance.held, balance.expired) == (300, 200, 0, 100)
    with pytest.raises(MarketError):
        registry.cancel(batch, "ada", 5, 100, consumed_wh=100)
    with pytest.raises(MarketError):
        registry.create("ada", "solar", 6, -1)


def test_consumption_of_a_slot_is_claimed_once() -> None:
    registry = CertificateRegistry()
    sun, wind = registry.create("ada", "solar", 1, 80), registry.create("ada", "wind", 1, 80)
    registry.cancel(sun, "ada", 1, 80, consumed_wh=100)
    with pytest.raises(MarketError, match="claims 160 Wh"):
        registry.cancel(wind, "ada", 1, 80, consumed_wh=100)
    registry.cancel(wind, "ada", 1, 20, consumed_wh=100)


OPERATION = st.tuples(st.sampled_from("ctxe"), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3),
                      st.integers(0, 40))  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATION, max_size=40))
def test_law_g_holds_after_any_operations(operations: list[tuple[str, int, int, int, int]]) -> None:
    """Created = cancelled + held + expired, also after operations that were refused; a shadow count agrees."""
    registry, issued, used, voided = CertificateRegistry(), 0, 0, 0
    batches = []
    for kind, a, b, slot, wh in operations:
        agents = ("ada", "bob", "eve")
        try:
            if kind == "c":
                batches.append(registry.create(agents[a], "solar", slot, wh))
                issued += wh
            elif kind == "e":
                voided += registry.expire(slot)
            elif batches:
                batch = batches[b % len(batches)]
                if kind == "t":
                    registry.transfer(batch, agents[a], agents[b], wh)
                else:
                    registry.cancel(batch, agents[a], slot, wh, consumed_wh=30)
                    used += wh
        except MarketError:
            pass
        balance = registry.balance()
        assert balance.created == issued == used + balance.held + voided
        assert (balance.cancelled, balance.expired) == (used, voided)
        assert balance.held == sum(sum(registry.held(agent).values()) for agent in agents)
