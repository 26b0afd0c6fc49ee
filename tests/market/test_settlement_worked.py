"""Worked examples of the specification, laws that must trip, and input that must be refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import MarketError
from market.settlement import (
    LEDGER_KINDS,
    SYSTEM_ACCOUNTS,
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
from peerwatt.results import record

Int = NDArray[np.int64]
RETAIL, FEED_IN = np.array(320_000), np.array(80_000)


def ints(*values: int) -> Int:
    return np.array(values, np.int64)


def worked_slot(residuals: ResidualRule | None = None, charges: Charges | None = None) -> Postings:
    """Market-rules 4.6: b (1) sold 1000 Wh to a (0) at 200000; meters a +700, b -1000."""
    contracts, amount = contracts_from_trades(ints(0), ints(0), ints(1), ints(1000), ints(200_000), ints(1), 1, 2)
    assert amount.tolist() == [200_000]
    return settle_contracts(
        np.array([[700, 0]]), np.array([[0, 1000]]), contracts, RETAIL, FEED_IN, charges or Charges.none(),
        residuals=residuals,
    )  # fmt: skip


def test_accounts_and_kinds_are_those_of_the_results() -> None:
    assert SYSTEM_ACCOUNTS == record.SYSTEM_ACCOUNTS
    assert LEDGER_KINDS == record.LEDGER_KINDS


def test_the_worked_slot() -> None:
    posted = worked_slot()
    assert posted.kinds["contract"].tolist() == [[-200_000, 200_000, 0, 0, 0, 0]]
    assert posted.residual_wh.tolist() == [[-300, 0]]
    assert posted.kinds["residual"].tolist() == [[24_000, 0, -24_000, 0, 0, 0]]
    assert posted.accounts_u.tolist() == [[-176_000, 200_000, -24_000, 0, 0, 0]]
    assert (posted.retailer_sold_wh - posted.retailer_bought_wh).tolist() == [-300]
    check_laws(posted, np.array([[700, 0]]), np.array([[0, 1000]]), exchange_wh=ints(-300))


def test_the_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settlement.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Postings] = {}
    exec(code, names)
    assert names["posted"].accounts_u.tolist() == [[-176_000, 200_000, -24_000, 0, 0, 0]]


def test_the_worked_slot_with_charges() -> None:
    posted = worked_slot(
        charges=Charges(np.array(90_000), np.array(30_000), np.array(10_000), np.array(5_000), np.array(20_000))
    )
    # a's 700 Wh are all local: it bought 1000; b's 1000 Wh too
    assert posted.kinds["network"].tolist() == [[-21_000, -5_000, 0, 0, 26_000, 0]]
    assert posted.kinds["levies"].tolist() == [[-14_000, 0, 0, 0, 0, 14_000]]
    assert posted.lines.total.tolist() == [[176_000 + 35_000, -195_000]]
    assert posted.lines.taxable.tolist() == [[200_000 + 35_000, 5_000]]


def test_the_worked_slot_under_other_residual_rules() -> None:
    single = worked_slot(ResidualRule("imbalance_single", np.array(100_000)))
    assert single.kinds["residual"].tolist() == [[30_000, 0, -30_000, 0, 0, 0]]
    dual = worked_slot(ResidualRule("imbalance_dual", np.array(-50_000), np.array(400_000)))
    assert dual.kinds["residual"].tolist() == [[-15_000, 0, 15_000, 0, 0, 0]]  # a surplus that costs money
    # 10 % of 1000 Wh at the contract's 200000, the other 200 Wh at feed-in
    tolerant = worked_slot(ResidualRule(tolerance_micro_percent=10_000_000))
    assert tolerant.kinds["residual"].tolist() == [[20_000 + 16_000, 0, -36_000, 0, 0, 0]]


def test_netted_residuals_meet_at_the_mid_market_rate_first() -> None:
    # the example of 2.11 as residuals: a +4, b +3, c -5 kWh, r = 32 ct, f = 8 ct
    imported, exported = np.array([[4000, 3000, 0]]), np.array([[0, 0, 5000]])
    posted = settle_contracts(
        imported, exported, Contracts.none(1, 3), RETAIL, FEED_IN, Charges.none(), residuals=ResidualRule("netted")
    )
    # 656/7 and 492/7 ct, 100 ct; the retailer gets 64 ct
    assert posted.accounts_u.tolist() == [[-937_143, -702_857, 1_000_000, 640_000, 0, 0, 0]]
    assert (posted.retailer_sold_wh.tolist(), posted.retailer_bought_wh.tolist()) == ([2000], [0])
    apart = settle_contracts(imported, exported, Contracts.none(1, 3), RETAIL, FEED_IN, Charges.none())
    assert apart.accounts_u[0, 3] == 7 * 320_000 - 5 * 80_000  # individually the retailer earns the spread


def test_meter_based_pool_splits_into_local_and_retail_energy() -> None:
    imported, exported = np.array([[4000, 3000, 0]]), np.array([[0, 0, 5000]])
    local = np.array([[2857, 2143, 5000]])
    pay = np.array([[4000 * 1_640_000, 3000 * 1_640_000, -5000 * 7 * 200_000]])  # 164/7 ct, 20 ct
    posted = settle_sharing(
        imported, exported, local, pay, ints(7000), ints(2000 * 7 * 320_000), RETAIL, FEED_IN, Charges.none()
    )
    check_laws(posted, imported, exported, exchange_wh=ints(2000))
    assert posted.accounts_u.tolist() == [[-937_143, -702_857, 1_000_000, 640_000, 0, 0, 0]]
    assert posted.lines.retail_bought.tolist() == [[1143 * 320, 857 * 320, 0]]
    assert posted.lines.local_bought.tolist() == [[937_143 - 1143 * 320, 702_857 - 857 * 320, 0]]
    assert posted.lines.local_sold.tolist() == [[0, 0, -1_000_000]]


def test_a_rule_with_two_prices_leaves_the_difference_with_the_operator() -> None:
    # market-rules 2.4, R2 by trade reduction in kWh and ct: two buyers pay 8, two sellers get 6
    side = np.array([[1, 1, -1, -1]], np.int8)
    fill = np.full((1, 4), 1000)
    pay = np.array([[80_000, 80_000, -60_000, -60_000]])
    contracts = contracts_from_pool(
        fill, side, pay, ints(1), np.arange(4, dtype=np.int32), 4, np.arange(4), strong=False
    )
    posted = settle_contracts(
        np.array([[1000, 1000, 0, 0]]), np.array([[0, 0, 1000, 1000]]), contracts, RETAIL, FEED_IN, Charges.none()
    )
    assert posted.kinds["contract"].tolist() == [[-80_000, -80_000, 60_000, 60_000, 0, 40_000, 0, 0]]
    assert not posted.kinds["residual"].any()


def test_several_orders_of_a_member_are_one_share() -> None:
    side = np.array([[1, 1, -1, -1]], np.int8)
    # member 1 buys twice a third of a micro's worth, member 0 sells, and buys nothing
    contracts = contracts_from_pool(
        np.array([[1, 1, 1, 1]]), side, np.array([[1, 1, -1, -1]]), ints(3), np.array([1, 1, 0, 2], np.int32), 3,
        np.arange(3), strong=True,
    )  # fmt: skip
    assert contracts.bought_wh.tolist() == [[0, 2, 0]]
    assert contracts.sold_wh.tolist() == [[1, 0, 1]]
    assert contracts.paid_u.tolist() == [[0, 1, 0]]  # 2/3 rounds to 1
    assert contracts.received_u.tolist() == [[1, 0, 0]]  # tie: the lower id


def test_savings_of_a_strongly_balanced_pool_are_the_spread_times_the_energy_met_locally() -> None:
    imported, exported = np.array([[700, 450, 0, 0]]), np.array([[0, 0, 333, 500]])
    side, fill = np.array([[1, 1, -1, -1]], np.int8), np.array([[700, 133, 333, 500]])
    pay = fill * side * 543_211  # an odd price over an odd denominator
    contracts = contracts_from_pool(
        fill, side, pay, ints(3000), np.arange(4, dtype=np.int32), 4, np.arange(4), strong=True
    )
    posted = settle_contracts(imported, exported, contracts, RETAIL, FEED_IN, Charges.none())
    saved = no_market_bill_u(imported, exported, RETAIL, FEED_IN, Charges.none()) - posted.lines.total
    assert saved.sum() == 833 * (320 - 80)


def test_losses_are_bought_by_the_network() -> None:
    zero = np.zeros((1, 1), np.int64)
    posted = settle_contracts(
        zero, zero, Contracts.none(1, 1), RETAIL, FEED_IN, Charges.none(), loss_wh=ints(25), loss_price_u=100_100
    )
    assert posted.kinds["losses"].tolist() == [[0, 2502, 0, -2502, 0]]  # 2502.5 to the even one
    check_laws(posted, zero, zero, exchange_wh=ints(25))


# --- laws that must trip -------------------------------------------------------------------------------------------


def broken(law: str) -> Postings:
    good = worked_slot()
    one = ints(1)
    if law == "a":
        return replace(good, contracts=replace(good.contracts, bought_wh=good.contracts.bought_wh + 1))
    if law == "b":
        return replace(good, residual_wh=good.residual_wh + np.array([[0, 5]]))
    if law == "c":
        return replace(good, retailer_sold_wh=good.retailer_sold_wh + one)
    if law == "f":
        return replace(good, contracts=replace(good.contracts, paid_u=good.contracts.paid_u + 1))
    kinds = {kind: posted.copy() for kind, posted in good.kinds.items()}
    if law == "d":
        kinds["levies"][0, 0] += 7
    elif law == "e foreign":
        kinds["residual"][0, 2:5] += [3, 0, -3]  # balanced, but residuals are none of the network's business
    elif law == "e line":
        kinds["network"][0, [0, 1]] += [2, -2]
    return replace(good, kinds=kinds)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("a", r"slot 40: law \(a\).* 2 Wh"),
        ("b", r"slot 40: law \(b\).* 5 Wh"),
        ("c", r"slot 40: law \(c\).* 1 Wh"),
        ("d", r"slot 40: law \(d\).*levies: 7 micro"),
        ("e foreign", r"slot 40: law \(e\).*foreign.* -3 micro"),
        ("e line", r"slot 40: law \(e\).*member 0.* 2 micro"),
        ("f", r"slot 40: law \(f\).* micro"),
    ],
)
def test_a_broken_law_is_named_with_slot_and_difference(law: str, message: str) -> None:
    with pytest.raises(MarketError, match=message):
        check_laws(broken(law), np.array([[700, 0]]), np.array([[0, 1000]]), first_slot=40)


def test_energy_that_does_not_cross_the_connection_point_is_found() -> None:
    with pytest.raises(MarketError, match=r"slot 0: law \(b\).*connection point.* 4 Wh"):
        check_laws(worked_slot(), np.array([[700, 0]]), np.array([[0, 1000]]), exchange_wh=ints(-296))


# --- input that must be refused ------------------------------------------------------------------------------------


def test_wrong_meters_are_refused() -> None:
    none = Contracts.none(1, 2)
    good = np.zeros((1, 2), np.int64)
    with pytest.raises(MarketError, match="member 1: metered import is negative"):
        settle_contracts(np.array([[0, -1]]), good, none, RETAIL, FEED_IN, Charges.none())
    with pytest.raises(MarketError, match="whole Wh"):
        settle_contracts(np.array([[0.5, np.nan]]), good, none, RETAIL, FEED_IN, Charges.none())  # type: ignore[arg-type]
    with pytest.raises(MarketError, match="must be"):
        settle_contracts(np.zeros((2, 2), np.int64), good, none, RETAIL, FEED_IN, Charges.none())
    with pytest.raises(MarketError, match="do not fit"):
        settle_contracts(good, good, Contracts.none(2, 2), RETAIL, FEED_IN, Charges.none())
    with pytest.raises(MarketError, match="do not fit"):
        settle_contracts(good, good, none, ints(1, 2, 3), FEED_IN, Charges.none())


def test_unbalanced_contracts_are_refused() -> None:
    side = np.array([[1, -1]], np.int8)
    with pytest.raises(MarketError, match="bought minus sold energy of the contracts is 1 Wh"):
        contracts_from_pool(
            np.array([[6, 5]]), side, np.array([[6, -5]]), ints(1), np.arange(2, dtype=np.int32), 2, np.arange(2),
            strong=True,
        )  # fmt: skip
    for wrong in ((ints(1), ints(0), ints(1)), (ints(0), ints(3), ints(0)), (ints(0), ints(0), ints(-2))):
        with pytest.raises(MarketError, match="outside"):
            contracts_from_trades(*wrong, ints(5), ints(1), ints(1), 1, 2)
    with pytest.raises(MarketError, match="negative energy"):
        contracts_from_trades(ints(0), ints(0), ints(1), ints(-5), ints(1), ints(1), 1, 2)


def test_imbalance_prices_are_checked() -> None:
    with pytest.raises(MarketError, match="need imbalance prices"):
        worked_slot(ResidualRule("imbalance_single"))
    with pytest.raises(MarketError, match=r"slot 0 .*below"):
        worked_slot(ResidualRule("imbalance_dual", np.array(100), np.array(99)))
    with pytest.raises(MarketError, match="tolerance"):
        worked_slot(ResidualRule(tolerance_micro_percent=-1))


def test_sharing_that_is_not_balanced_or_exceeds_the_meters_is_refused() -> None:
    imported, exported = np.array([[1000, 0]]), np.array([[0, 1000]])
    pay, local = np.array([[200, -200]]), np.array([[1000, 1000]])

    def share(**change: Int) -> None:
        given = {"local_wh": local, "pay_num": pay, "pay_den": ints(1), "retailer_num": ints(0)} | change
        settle_sharing(imported, exported, **given, retail_u=RETAIL, feed_in_u=FEED_IN, charges=Charges.none())

    share()
    with pytest.raises(MarketError, match="differ by 5"):
        share(pay_num=pay + np.array([[5, 0]]))
    with pytest.raises(MarketError, match="1001 Wh shared locally of a net of 1000"):
        share(local_wh=local + 1)
