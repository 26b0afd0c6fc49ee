"""The command ``peerwatt audit``: what it prints and writes, its exit codes, and the audit of a scenario."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.statistics import Estimate, proportion_estimate
from market.audit import AuditBook, MeterBook, audit
from market.orders import Side
from market.registry import make_rule
from peerwatt import audit_command, audit_table
from peerwatt.audit_books import recorded_books, recorded_meters
from peerwatt.audit_scenario import ScenarioAudit, audit_scenario, of_run, savings_differences
from peerwatt.cli import main
from peerwatt.results.run import Run
from peerwatt.running import run
from tests.peerwatt.districts import district, flat, home, load, pv

LIAR = (Path(__file__).parents[1] / "market" / "rule_that_lies.txt").read_text(encoding="utf-8")


def small() -> dict[str, object]:
    return district(
        home("h1", load(), pv(9), household={"tenure": "owner", "income_band": "high"}),
        home("h2", load("family"), household={"tenure": "tenant", "income_band": "low"}),
        home("h3", load("senior"), household={"tenure": "tenant", "income_band": "low"}),
        home("h4", load("couple"), pv(7), household={"tenure": "owner"}, contract="cheap"),
        contracts={"default": flat(), "cheap": flat(0.28, 0.1)},
        outputs={"report": False, "statements": False, "tables": ["slots", "buildings", "violations"]},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(small(), tmp_path_factory.mktemp("audit") / "run", report=False)


def test_one_rule_in_eighty_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    code = main(["audit", "uniform_price", "--families", "thin,unit", "--quick", "--jobs", "1", "--json", str(file),
                 "--all-examples"])  # fmt: skip
    text = capsys.readouterr().out
    assert code == 0
    assert "uniform_price: declared and measured" in text
    assert "no claim" in text and "fails on 1" in text and "holds on 16 books" in text and "at most 18 %" in text
    assert "1 in every book" in text and "0.000 [0.000, 0.171]" in text
    assert "states" in text and "does not hold, and is not declared" in text
    tables = text.split("uniform_price, truthful in price")[0]
    assert max(len(line) for line in tables.splitlines()) <= 80
    document = json.loads(file.read_bytes())
    assert document["reports"][0]["rule"]["name"] == "uniform_price" and not document["differences"]
    assert document["reports"][0]["metrics"]["efficiency"]["value"] == 1.0


def test_rules_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "uniform_price", "pay_as_bid", "--families", "thin", "--quick", "--jobs", "1"]) == 0
    text = capsys.readouterr().out
    assert "uniform_price - pay_as_bid" in text and "p Holm" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.slow
def test_a_false_declaration_ends_with_1_and_its_counterexample(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "liar.py"
    file.write_text(LIAR.replace("NAME", "liar_of_the_command_tests"), encoding="utf-8")
    assert main(["audit", str(file), "--families", "thin,unit", "--quick", "--jobs", "1"]) == 1
    text = capsys.readouterr().out
    assert "refuted on" in text
    assert "liar_of_the_command_tests, individually rational: refuted. Smallest book found" in text
    assert main(["audit", str(file), "--families", "thin", "--quick", "--jobs", "1", "--quiet"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], "no rule is named"),
        (["audit", "no_such_rule"], "there is no rule named"),
        (["audit", "uniform_price", "--families", "wide"], "there is no family 'wide'"),
        (["audit", "uniform_price", "--parameter", "k=2"], "out of range"),
        (["audit", "uniform_price", "--json", "no/such/folder/x.json"], "there is no folder"),
        (["audit", "uniform_price", "--page", "."], ". is a folder"),
        (["audit", "uniform_price", "--days", "3"], "--days belongs to the run of a scenario"),
        (["audit", "uniform_price", "mid_market_rate", "--families", "unit"], "no family of meters is named, but unit"),
        (["audit", "no_such_file.py"], "there is no rule file no_such_file.py"),
        (["audit", "--scenario", "no-such-scenario"], "no shipped scenario 'no-such-scenario'"),
    ],
)
def test_mistakes_are_told(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--books", "0"], "'0' is not a whole number"),
        (["--books", "x"], "'x' is not"),
        (["--families", ","], "names no"),
    ],
)
def test_mistyped_options_are_told(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "uniform_price", *arguments])
    assert words in capsys.readouterr().err


def test_figures_say_why_they_have_no_interval() -> None:
    shown = audit_table.with_interval
    assert shown(Estimate(0.25, 0.1, 0.4, 9, "t")) == "0.250 \\[0.100, 0.400]"
    assert shown(Estimate(1.0, 1.0, 1.0, 9, "no spread")) == "1 in every book"
    assert shown(Estimate(0.125, 0.125, 0.125, 9, "no spread"), of="building") == "0.125 in every building"
    assert shown(Estimate(100.0, 100.0, 100.0, 9, "no spread"), 0) == "100 in every book"
    assert shown(Estimate(0.5, None, None, 1, "too few for an interval"), 2) == "0.50 (n = 1)"
    assert shown(Estimate(0.5, None, None, 4, "one observation carries the ratio")) == "0.500 (one book decides)"
    assert shown(None) == shown(Estimate(None, None, None, 0, "t")) == "-"
    assert audit_table.share_words(proportion_estimate(0, 72)) == "at most 5 %"
    assert audit_table.share_words(proportion_estimate(45, 64)) == "70 % [58, 80]"


def test_a_rules_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    """With k = 0 the price is the lowest possible: no buyer of one lot gains by its price."""
    rule = audit_command.ready_rule("uniform_price", {"k": "0", "tie_break": "prorata"})
    assert rule == make_rule("uniform_price", {"k": 0, "tie_break": "prorata"})
    report = audit(rule, families=["unit"], books=6)
    example = report.verdict("truthful_price").counterexample
    assert example is not None and example.evidence.detail.agent.startswith("s")  # type: ignore[union-attr]
    assert capsys.readouterr().out == ""


def test_slow_rules_are_searched_more_coarsely() -> None:
    assert audit_command.search_for(make_rule("uniform_price")).most is None
    assert audit_command.search_for(make_rule("uniform_price", {"tie_break": "random"})).most == 24
    assert audit_command.search_for(make_rule("uniform_price"), quick=True).most == 12
    assert audit_command.search_for(make_rule("bill_sharing")).most is None


# --- recorded books ---------------------------------------------------------------------------------------------------


def test_recorded_books_are_those_of_the_run(finished: Run) -> None:
    books = recorded_books(finished, 6, seed=3)
    assert len(books) == 6 and [b.index for b in books] == sorted(b.index for b in books)
    table = finished.table("buildings", ["slot", "building", "import_wh", "export_wh"])
    for book in books:
        rows = table[table["slot"] == book.index]
        net = dict(zip(rows["building"], rows["import_wh"] - rows["export_wh"], strict=True))
        assert {o.agent_id: int(o.side) * o.e_wh for o in book.orders} == {b: n for b, n in net.items() if n}
        for o in book.orders:
            retail, feed_in = (280_000, 100_000) if o.agent_id == "h4" else (320_000, 80_000)
            assert o.price_u == (retail if o.side == Side.BUY else feed_in)
        assert {o.side for o in book.orders} == {Side.BUY, Side.SELL}
    assert [b.orders for b in recorded_books(finished, 6, seed=3)] == [b.orders for b in books]
    assert [b.index for b in recorded_books(finished, 6, seed=4)] != [b.index for b in books]


def test_recorded_books_are_audited_as_a_family(finished: Run) -> None:
    books: list[AuditBook | MeterBook] = [*recorded_books(finished, 5), *recorded_meters(finished, 5)]
    report = audit("uniform_price", families=["thin"], books=2, recorded=books)
    assert report.families["recorded"]["cleared"] == 5
    assert audit("mid_market_rate", families=[], recorded=books).families["recorded"]["books"] == 5
    meters = recorded_meters(finished, 5)[0].meters
    assert meters.retail_u == (320_000, 320_000, 320_000, 280_000)
    assert np.sign(meters.net_wh).min() == -1


def test_violations_in_words() -> None:
    wires = {
        "under_voltage": {"count": 3, "worst": {"slot": 70, "element": "R11", "value": 0.8934, "excess": 0.0066}},
        "over_voltage": {"count": 0, "worst": None},
        "line_overload": {"count": 1, "worst": {"slot": 7, "element": "line 4", "value": 1.25, "excess": 0.25}},
    }
    checked = {"checked": True, "count": 4, "share_of_slots": 0.03, "by_kind": wires}
    found = ScenarioAudit("x", Path(), "EUR", (), checked, {}, {}, {})
    assert audit_table.feasibility_line(found) == (
        "x: 4 violations in 3.00% of slots of the AC power flow: under voltage 3, at worst 0.893 p.u. at bus R11 in "
        "slot 70; line overload 1, at worst 125% of the rating at line 4 in slot 7"
    )


# --- scenarios --------------------------------------------------------------------------------------------------------


def test_households_of_a_run(finished: Run) -> None:
    found = of_run(finished)
    everybody = found.households[0]
    assert everybody.kind == "all" and everybody.savings.n == 4
    saved = [b["savings"] for b in finished.summary["buildings"].values()]
    assert everybody.savings.value == pytest.approx(sum(saved) / 4)
    low = next(h for h in found.households if (h.kind, h.value) == ("income_band", "low"))
    assert low.savings.n == 2 and low.savings.value == pytest.approx((found.savings["h2"] + found.savings["h3"]) / 2)
    assert not any(h.value == "unknown" for h in found.households)
    assert found.feasibility["checked"] is False


def test_rules_are_compared_on_the_same_households(tmp_path: Path) -> None:
    audits = audit_scenario(small(), ["mid_market_rate", "bill_sharing"], tmp_path)
    assert [a.rule for a in audits] == ["mid_market_rate", "bill_sharing"]
    losers = [a.households[0].losers.value for a in audits]
    assert losers[0] == 0.0 and losers[1] is not None and losers[1] > 0, "sellers lose under bill sharing"
    (pair,) = savings_differences(audits)
    assert pair.n == 4 and pair.p_holm is not None and pair.difference.low is not None


@pytest.mark.slow
def test_audit_of_a_scenario(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    code = main(["audit", "--scenario", "street5", "--days", "1", "--out", str(tmp_path / "runs"), "--families", "thin",
                 "--quick", "--jobs", "1", "--json", str(file)])  # fmt: skip
    text = capsys.readouterr().out
    assert code == 0
    assert "who gains" in text and "paying more" in text and "limit is violated in any slot" in text
    document = json.loads(file.read_bytes())
    assert document["scenario"]["rules"][0]["feasibility"]["checked"] is True
    assert "recorded" in document["reports"][0]["families"]
    assert max(len(line) for line in text.splitlines() if not line.startswith("figures")) <= 80


@pytest.mark.slow
def test_a_rule_that_cannot_clear_the_scenario_is_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Trade reduction wants equal quantities: the others are audited, and it says why it is not."""
    file = tmp_path / "audit.json"
    common = ["--scenario", "street5", "--days", "1", "--out", str(tmp_path / "runs")]
    common += ["--families", "thin,unit", "--books", "1", "--quick", "--jobs", "1"]
    assert main(["audit", "trade_reduction", "uniform_price", *common, "--json", str(file)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "note: trade_reduction is not audited in the scenario: trade_reduction, slot 0: quantities differ" in text
    assert "uniform_price: who gains" in text and "trade_reduction: who gains" not in text
    document = json.loads(file.read_bytes())
    assert [a["rule"] for a in document["scenario"]["rules"]] == ["uniform_price"]
    assert document["reports"][0]["rule"]["name"] == "trade_reduction"
    assert document["reports"][0]["families"]["recorded"]["refused"] == 1
    assert main(["audit", "trade_reduction", *common]) == 0
    assert "no books were recorded, for no rule ran the scenario" in " ".join(capsys.readouterr().out.split())
    assert main(["audit", "uniform_price", *common, "--days", "2"]) == 2
    assert "add --overwrite to run the scenario anew" in capsys.readouterr().err
