"""Statements of runs whose contracts are more than deliveries between neighbours: every line is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import peerwatt
from peerwatt.report.load import load_report_data
from peerwatt.report.write import render_report
from peerwatt.results import Statement
from peerwatt.results.statements import _Maker
from tests.peerwatt.districts import assert_verified, district, home, load, plane, pv

HOMES = [home("a", load(), pv(9)), home("b", load("couple")), home("c", load("shift", 6)),
         home("d", load("shop", 5), pv(3))]  # fmt: skip
STAGES: list[dict[str, Any]] = [
    {"name": "day-ahead", "rule": "uniform_price", "gate": {"days_before": 1, "at": "12:00"}, "slot_minutes": 60},
    {"name": "intraday", "rule": "pair_price", "gate": {"minutes_before": 60}},
    {"name": "spot", "rule": "uniform_price"},
]  # fmt: skip
NOISE = {"kind": "noise", "load_percent": 40, "pv_percent": 50}


def energy(statement: Statement) -> dict[str, tuple[str, ...]]:
    section = next(s for s in statement.sections if s.heading == "Your energy")
    return {row[0]: row[1:] for row in section.rows}


def kwh(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    market = {"stages": STAGES, "forecast": NOISE}
    run = peerwatt.run(district(*HOMES, market=market), tmp_path_factory.mktemp("staged") / "run")
    assert_verified(run)
    return run


@pytest.mark.parametrize("rule", ["uniform_price", "pay_as_bid"])
def test_the_retailer_in_the_book_is_part_of_the_market_line(rule: str, tmp_path: Path) -> None:
    run = peerwatt.run(district(*HOMES, market={"stages": [{"rule": rule}], "backstop": "in_book"}), tmp_path / "run")
    statement, i = run.statement("b"), 1
    rows = energy(statement)
    drawn, near = plane(run, "import_wh")[:, i].sum() / 1000, plane(run, "bought_wh")[:, i].sum() / 1000
    assert 0 < near < drawn - 0.2
    paid = -plane(run, "contract_u", "ledger")[:, i].sum() / 1e6
    bought = rows["Bought in the market"]
    assert kwh(bought[0]) == pytest.approx(drawn, abs=0.051), "b has no generation and no retailer beside the market"
    assert kwh(bought[1]) == pytest.approx(paid, abs=0.0051)
    assert 0.08 <= float(bought[2]) == pytest.approx(paid / drawn, abs=1e-4)
    assert float(bought[2]) <= 0.32
    assert rows["Bought from the retailer outside the market"] == ("0.0", "0.00", "")
    words = f"{near:,.1f} kWh came from neighbours and {drawn - near:,.1f} kWh came from the retailer"
    assert words in statement.text and words in statement.html
    assert "Bought in the market" in statement.html and "From neighbours" not in statement.text


def test_what_is_sold_on_keeps_its_price(staged: peerwatt.Run) -> None:
    trades = staged.table("trades")
    passed = 0.0
    for building in staged.static.buildings:
        statement = staged.statement(building.id)
        rows = energy(statement)
        for line, side in (("Bought in the market", "buyer"), ("Sold in the market", "seller")):
            own = trades[trades[side] == building.id]
            e_kwh, amount = own.e_wh.sum() / 1000, own.amount_u.sum() / 1e6
            assert kwh(rows[line][0]) == pytest.approx(e_kwh, abs=0.051)
            assert abs(kwh(rows[line][1])) == pytest.approx(amount, abs=0.0051)
            if e_kwh:
                assert 0.08 <= float(rows[line][2]) <= 0.32, "between feed-in and retail, as every deal was"
        net = trades[trades.buyer == building.id].e_wh.sum() / 1000
        passed += net - plane(staged, "bought_wh")[:, staged.static.accounts.index(building.id)].sum() / 1000
    assert passed > 0.2, "the case is there: somebody sold on"
    assert "kWh you sold again" in staged.statement("b").text


def test_every_stage_and_its_rule_are_named(staged: peerwatt.Run) -> None:
    words = "uniform price, after day-ahead (uniform price) and intraday (pair price)"
    statement = staged.statement("b")
    assert f"rule: {words}." in statement.text and words in statement.html
    assert "the rule has no pairs" not in statement.text
    assert "(day-ahead, spot) has no pairs" in statement.text
    assert words in render_report(load_report_data(staged))


def test_standing_contracts_alone_say_who_supplied_whom(tmp_path: Path) -> None:
    deal = {"id": "deal", "seller": "a", "buyer": "c", "price_per_kwh": 0.2, "power_kw": 0.4}
    scenario = district(*HOMES, market={"stages": [{"rule": "no_market"}]}, standing_contracts=[deal])
    run = peerwatt.run(scenario, tmp_path / "run")
    text = run.statement("c").text
    assert "An attribution" not in text and "As traded, neighbour by neighbour." in text
    delivered = next(s for s in run.statement("c").sections if s.heading == "Who delivered to you")
    assert [row[0] for row in delivered.rows] == ["a"] and delivered.rows[0][3] == "0.2000"
    assert not any("attribution" in remark for remark in run.static.remarks)


def test_without_invoices_market_money_is_net_and_has_no_unit_price(staged: peerwatt.Run) -> None:
    maker = _Maker(staged)
    maker.bills = None
    rows = energy(maker.statement(1))
    e_kwh, amount, price = rows["Traded, bought less sold"]
    position = energy(staged.statement("b"))
    assert kwh(e_kwh) == pytest.approx(
        kwh(position["Bought in the market"][0]) - kwh(position["Sold in the market"][0]), abs=0.11
    )
    assert kwh(amount) == pytest.approx(-plane(staged, "contract_u", "ledger")[:, 1].sum() / 1e6, abs=0.0051)
    assert price == ""
