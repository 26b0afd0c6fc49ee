"""Standing contracts as columns: whole Wh, stated order, exact money (2.27)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core import MarketError, round_half_even
from market.settlement import Charges, check_laws, settle_contracts
from market.standing import StandingContract, deliveries, remaining_net, settle_standing


def contract(name: str, seller: int, buyer: int, **more: Any) -> StandingContract:
    return StandingContract(contract_id=name, seller=seller, buyer=buyer, **more)


def wh_of(contracts: list[StandingContract], net: list[list[int]], **more: Any) -> list[list[int]]:
    plane = np.array(net, np.int64)
    inside = more.pop("inside", np.ones(plane.shape, np.bool_))
    found: list[list[int]] = deliveries(tuple(contracts), plane, inside, more.pop("first_slot", 0), **more).tolist()
    return found


def test_share_volume_and_need_by_hand() -> None:
    gift, deal = contract("gift", 0, 1, share_ppm=500_000), contract("deal", 0, 2, volume_wh=300)
    net = [[-1001, 900, 900], [-1001, 200, 100], [-100, 900, 900], [50, 900, 900], [-1001, -5, 0]]
    assert wh_of([gift, deal], net) == [[500, 300], [200, 100], [50, 50], [0, 0], [0, 0]]
    assert wh_of([deal, gift], net) == [[300, 500], [100, 200], [100, 0], [0, 0], [0, 0]]


def test_a_share_is_of_the_whole_surplus_and_never_more_than_is_left() -> None:
    both = [contract("a", 0, 1, share_ppm=700_000), contract("b", 0, 2, share_ppm=700_000)]
    assert wh_of(both, [[-1000, 5000, 5000]]) == [[700, 300]]


def test_a_need_met_by_one_contract_is_not_met_twice() -> None:
    both = [contract("a", 0, 2, volume_wh=400), contract("b", 1, 2, volume_wh=400)]
    assert wh_of(both, [[-1000, -1000, 600]]) == [[400, 200]]


def test_time_and_membership() -> None:
    one = [contract("a", 0, 1, volume_wh=10, first_slot=11, end_slot=13)]
    net = [[-50, 50]] * 4
    assert wh_of(one, net, first_slot=10) == [[0], [10], [10], [0]]
    inside = np.array([[True, True], [True, False], [False, True], [True, True]])
    assert wh_of(one, net, first_slot=10, inside=inside) == [[0], [0], [0], [0]]


def test_after_delivery_no_more_than_agreed_and_than_was_metered() -> None:
    one = [contract("a", 0, 1, share_ppm=1_000_000)]
    most = np.array([[40], [40], [40]])
    assert wh_of(one, [[-30, 90], [-90, 20], [-90, 90]], most_wh=most) == [[30], [20], [40]]


def test_random_books_never_give_more_than_there_is() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        n = int(rng.integers(2, 6))
        contracts = []
        for k in range(int(rng.integers(1, 6))):
            seller, buyer = (int(x) for x in rng.permutation(n)[:2])
            measure = {"share_ppm": int(rng.integers(0, 10**6 + 1))} if rng.random() < 0.5 else {
                "volume_wh": int(rng.integers(0, 900))}  # fmt: skip
            contracts.append(contract(f"c{k}", seller, buyer, **measure))
        net = rng.integers(-1000, 1000, (8, n))
        wh = deliveries(tuple(contracts), net, np.ones(net.shape, np.bool_), 0)
        left = remaining_net(tuple(contracts), net, wh)
        assert (wh >= 0).all() and (np.sign(left) * np.sign(net) >= 0).all() and (np.abs(left) <= np.abs(net)).all()
        assert np.array_equal(left.sum(axis=1), net.sum(axis=1))


@pytest.mark.parametrize(
    ("more", "price"),
    [
        ({"price_u": 0}, Fraction(0)),
        ({"price_u": 123_457}, Fraction(123_457)),
        ({"price_u": -1_001}, Fraction(-1_001)),
        ({"formula": "mid_market"}, Fraction(300_001 + 80_000, 2)),
        ({"formula": "retail_minus", "price_u": 20_000}, Fraction(280_001)),
    ],
)
def test_prices_and_money(more: dict[str, Any], price: Fraction) -> None:
    one = (contract("a", 0, 1, volume_wh=333, **more),)
    net = np.array([[-900, 700], [-5, 700], [-1, 0]])
    retail, feed_in = np.full((3, 2), 300_001), np.full((3, 2), 80_000)
    retail[:, 0], feed_in[:, 1] = 1, 2  # the seller's retail and the buyer's feed-in price do not matter
    wh = deliveries(one, net, np.ones(net.shape, np.bool_), 0)
    positions, rows = settle_standing(one, wh, retail, feed_in)
    due = [round_half_even(price * x / 1000) for x in (333, 5)]
    assert rows.amount_u.tolist() == due and rows.e_wh.tolist() == [333, 5]
    assert rows.by_contract(3, 1).ravel().tolist() == [*due, 0]
    assert positions.paid_u[:, 1].tolist() == [*due, 0] == positions.received_u[:, 0].tolist()
    assert not positions.operator_u.any()


def test_the_ledger_closes_with_standing_contracts_on_top_of_others() -> None:
    contracts = (contract("a", 0, 1, share_ppm=333_333, price_u=0), contract("b", 2, 1, volume_wh=77, price_u=99_999))
    rng = np.random.default_rng(9)
    net = rng.integers(-1000, 1000, (40, 3))
    retail, feed_in = np.full(net.shape, 320_000), np.full(net.shape, 80_000)
    wh = deliveries(contracts, net, np.ones(net.shape, np.bool_), 0)
    positions, _ = settle_standing(contracts, wh, retail, feed_in)
    twice = positions.plus(positions)
    assert np.array_equal(twice.less(positions).paid_u, positions.paid_u)
    metered = net + rng.integers(-50, 50, net.shape)
    imported, exported = np.maximum(metered, 0), np.maximum(-metered, 0)
    for held in (positions, twice):
        check_laws(settle_contracts(imported, exported, held, retail, feed_in, Charges.none()), imported, exported)


def test_contracts_that_make_no_sense_are_refused() -> None:
    for more in ({}, {"share_ppm": 5, "volume_wh": 5}, {"share_ppm": 1_000_001}, {"volume_wh": -1}):
        with pytest.raises(MarketError, match="standing contract 'a'"):
            contract("a", 0, 1, **more)
    with pytest.raises(MarketError, match="not between two members"):
        contract("a", 1, 1, volume_wh=1)
