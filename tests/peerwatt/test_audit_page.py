"""The page of an audit: every verdict on it, nothing loaded from elsewhere, names that cannot break out."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core import RunError
from core.hashing import canonical_json
from market.audit import Search, audit
from market.audit.report import AuditComparison
from market.audit.run import differences
from market.registry import Declares, make_rule
from market.rules.uniform_price import UniformPrice
from peerwatt.report.audit_examples import _orders_table, book_figure, exact
from peerwatt.report.audit_figures import gain_lines, interval, people_figure, size_figure, size_lines
from peerwatt.report.audit_page import _estimate_cell, findings, render_audit, write_audit_page
from peerwatt.report.text import html
from tests.peerwatt.test_report_page import _read, open_in_browser

RULES = ("uniform_price", "trade_reduction", "huang", "vcg", "bill_sharing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Liar(UniformPrice):
    """A uniform price that calls itself truthful."""

    name: ClassVar[str] = "liar"
    declares: ClassVar[Declares] = dataclasses.replace(UniformPrice.declares, truthful_price=True)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A small real audit of rules of every kind, as it comes back from its file."""
    rules = [*map(make_rule, RULES), Liar()]
    reports = [
        audit(r, families=["uniform", "unit", "retailer", "mixed"], books=4, misreports=Search(most=6), sizes=True)
        for r in rules
    ]
    whole = AuditComparison(reports=tuple(reports), differences=differences(reports)).as_dict()
    loaded: dict[str, Any] = json.loads(canonical_json(whole))
    return loaded


def estimate(value: float, low: float | None = None, high: float | None = None, n: int = 9) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "method": "t"}


@pytest.fixture
def with_scenario(document: dict[str, Any]) -> dict[str, Any]:
    """The audit with the figures of a made-up scenario."""

    def household(kind: str, value: str, saving: float, losers: float) -> dict[str, Any]:
        return {"kind": kind, "value": value, "savings": estimate(saving, saving - 1, saving + 1),
                "losers": estimate(losers, 0.0, 1.0)}  # fmt: skip

    worst = {"slot": 3, "element": "line <7>", "value": 1.25, "excess": 0.25}
    wires = {"line_overload": {"count": 4, "worst": worst}, "under_voltage": {"count": 0, "worst": None}}
    checked = {"checked": True, "count": 4, "slots": 2, "share_of_slots": 0.01, "by_kind": wires}
    unchecked: dict[str, Any] = {"checked": False, "count": None, "slots": None, "share_of_slots": None, "by_kind": {}}
    audits = [
        {"rule": rule, "currency": "EUR", "feasibility": found,
         "households": [household("all", "all", 2.5, share), household("tenure", "tenant", 1.25, share),
                        household("equipment", "pv_battery", -3.0, share)]}
        for rule, found, share in (("uniform_price", checked, 0.0), ("bill_sharing", unchecked, 1 / 3))
    ]  # fmt: skip
    return {**document, "scenario": {"rules": audits, "differences": []}}


def shown(document: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(r["rule"]["name"].replace("_", " "), r) for r in document["reports"]]


def report_of(document: dict[str, Any], name: str) -> Any:
    return next(r for r in document["reports"] if r["rule"]["name"] == name)


# --- what is on it ----------------------------------------------------------------------------------------------------


def test_every_verdict_is_on_the_page(document: dict[str, Any]) -> None:
    page = render_audit(document)
    for report in document["reports"]:
        for verdict in report["verdicts"]:
            assert html(verdict["words"]) in page, (report["rule"]["name"], verdict["property"])
            if verdict["counterexample"]:
                assert html(verdict["counterexample"]["sentence"])[1:] in page
    assert "declared and refuted" in page
    assert page.count('class="verdict refuted"') >= 2, "in the table and with its counterexample"


def test_findings_name_what_is_refuted_and_prove_nothing(document: dict[str, Any]) -> None:
    said = findings(shown(document))
    lies = [line for line in said if line.startswith("liar: declared 'truthful in price' is refuted on")]
    assert len(lies) == 1 and "Smallest book found: " in lies[0]
    assert not [line for line in said if "refuted on" in line and not line.startswith("liar")]
    assert said[-1].startswith("Finding nothing proves nothing")
    assert any(line.startswith("bill sharing: not declared, and does not hold: 'individually r") for line in said)


def test_counterexample_is_a_book_with_both_utilities(document: dict[str, Any]) -> None:
    page = render_audit(document)
    verdict = next(v for v in report_of(document, "liar")["verdicts"] if v["verdict"] == "refuted")
    deviation = verdict["counterexample"]["deviation"]
    assert exact(deviation["earned_u"]) != exact(deviation["honest_u"])
    block = page[page.index('<span class="verdict refuted">' + html(verdict["words"])) :]
    block = block[: block.index('<p class="note">')]
    assert "states instead" in block
    for key in ("honest_u", "earned_u", "gain_u"):
        assert f"<dd>{exact(deviation[key])} µ</dd>" in block


def test_terms_and_classes_stand_beside_the_orders() -> None:
    orders = [
        {"id": "b", "agent": "b", "side": "buy", "e_wh": 2, "price_u": 7, "t": 0},
        {"id": "s", "agent": "s", "side": "sell", "e_wh": 2, "price_u": 3, "t": 0, "attributes": {"class": "grey"}},
    ]
    own = {"b": {"ceiling_u": 7, "refused_classes": ["grey"]}, "s": {"floor_u": 3}}
    markup = _orders_table({"orders": orders, "context": {"slot": 0, "backstop": "after", "terms": own}}, None)
    assert "Own terms: b buys for no more than 7 and buys nothing of class grey; s sells for no less than 3." in markup
    assert "<td>sells (grey)</td>" in markup


def test_figures_without_an_interval_say_why() -> None:
    assert "the same on every book" in str(_estimate_cell(estimate(1.0, 1.0, 1.0)).markup)
    alone = {**estimate(1.0, n=1), "method": "too few for an interval"}
    assert "too few for an interval" in str(_estimate_cell(alone).markup)
    assert "[0.5 to 1.5" in str(_estimate_cell(estimate(1.0, 0.5, 1.5)).markup).replace("0.500", "0.5").replace(
        "50]", "5"
    )


def test_exact_amounts_keep_their_worth() -> None:
    assert exact("1/2000") == "0.0005"
    assert exact("-3") == "\N{MINUS SIGN}3"
    assert exact("1/3") == "1/3 ≈ 0.33333"
    assert exact("12345") == "12,345"


def test_interval_words() -> None:
    assert interval(estimate(0.242, 0.211, 0.272), percent=True) == "24.2 % [21.1 to 27.2 %]"
    assert interval(estimate(1.0, 1.0, 1.0), percent=True) == "100.0 %"
    assert interval(None) == interval({**estimate(1.0), "value": None}) == "–"


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_efficiency_is_drawn_against_size_with_the_published_bound(document: dict[str, Any]) -> None:
    figure = size_figure(shown(document))
    traces = {t["name"]: t for t in figure.panels[0].spec["data"]}
    assert set(traces) == {"uniform price", "trade reduction", "huang", "vcg", "bill sharing", "liar", "1 − 1/k"}
    reduction, bound = traces["trade reduction"], traces["1 − 1/k"]
    assert reduction["x"][0] == 2 and reduction["x"][-1] == 50
    assert all(b <= y for b, y in zip(bound["y"], reduction["y"], strict=True))
    assert reduction["error_y"]["array"][0] > 1.0, "at n = 2 the interval is wide"
    assert set(traces["vcg"]["y"]) == {100.0}
    operator = {t["name"]: t["y"] for t in figure.panels[1].spec["data"]}
    assert operator["vcg"][0] < -40 and operator["trade reduction"][0] > 0
    words = next(line for line in size_lines(shown(document)) if line.startswith("trade reduction"))
    assert "is kept on all 9,000 books" in words


def test_without_sizes_the_books_of_the_audit_are_drawn(document: dict[str, Any]) -> None:
    bare = copy.deepcopy(document)
    for report in bare["reports"]:
        report["sizes"] = None
    figure = size_figure(shown(bare))
    assert figure.panels[0].spec["layout"]["xaxis"]["title"]["text"] == "agents"
    assert figure.panels[0].spec["data"][0]["x"] == sorted(map(int, bare["reports"][0]["by_size"]))
    assert "families of books" in figure.note


def test_gains_are_told_apart_from_what_was_not_tried(document: dict[str, Any]) -> None:
    lines = {line.partition(":")[0]: line for line in gain_lines(shown(document))}
    assert lines["uniform price"].startswith("uniform price: price ")
    assert "nothing found by price or staying out" in lines["trade reduction"]
    assert "not applicable: quantity and splitting" in lines["trade reduction"]
    assert "at most" not in lines["vcg"] and "nothing found by price, quantity" in lines["vcg"]
    assert "staying out" in lines["bill sharing"].partition("nothing")[0]


def test_parts_of_w_add_up(document: dict[str, Any]) -> None:
    """What buyers, sellers and the operator get is what the rule makes of W*: all of it under efficient rules."""
    data = people_figure(shown(document)).panels[0].spec["data"]
    for name in ("uniform price", "vcg", "bill sharing"):
        parts = [t["y"][t["x"].index(name)] for t in data]
        assert sum(p for p in parts if p is not None) == pytest.approx(100.0, abs=0.01), name
    losers = report_of(document, "bill_sharing")["gains"]
    producers = next(g for g in losers if g["side"] == "sellers")
    assert producers["worse_off"]["value"] > 0.5 and producers["share"]["value"] < 0


def test_the_drawn_book_shows_crossing_and_fills(document: dict[str, Any]) -> None:
    figure = book_figure(shown(document))
    assert [p.label for p in figure.panels] == [name for name, _ in shown(document)]
    panels = {p.label: p for p in figure.panels}
    example = next(e for e in report_of(document, "trade_reduction")["examples"] if e["family"] == "unit")
    traces = {t["name"]: t for t in panels["trade reduction"].spec["data"]}
    assert max(x for x in traces["demand"]["x"]) == sum(o["e_wh"] for o in example["orders"] if o["side"] == "buy")
    drawn = [b - a for a, b in zip(traces["filled demand"]["x"][::3], traces["filled demand"]["x"][1::3], strict=True)]
    assert sum(drawn) == sum(example["fills"].get(o["id"], 0) for o in example["orders"] if o["side"] == "buy")
    assert {"buyers pay", "sellers get"} <= set(traces), "two prices"
    assert "price" in {t["name"] for t in panels["uniform price"].spec["data"]}
    assert re.search(r"Q\* = [\d,]+ Wh", panels["vcg"].sentence)
    assert {t["name"] for t in panels["bill sharing"].spec["data"]} == {"alone with the retailer", "under the rule"}


def test_scenario_households_and_wires(with_scenario: dict[str, Any]) -> None:
    page = render_audit(with_scenario)
    assert "In the scenario, bill sharing saves a building 2.50 [1.50 to 3.50] EUR on average; 3 of 9 pay more" in page
    assert "uniform price: 4 violations, in 1.00 % of slots" in page
    assert "bill sharing: no power flow was made" in page
    assert "worst 1.25 at line &lt;7&gt;" in page
    assert "By equipment, mean savings are highest for PV and battery" in page, "also what the other tabs show"
    assert "tenure: tenants" in page and "equipment: PV and battery" in page


def test_what_a_scenario_could_not_add_is_said(with_scenario: dict[str, Any]) -> None:
    note = "trade_reduction is not audited in the scenario: quantities differ"
    none: list[Any] = []
    for rules in (with_scenario["scenario"]["rules"], none):
        page = render_audit({**with_scenario, "scenario": {"rules": rules, "differences": [], "notes": [note]}})
        section = page[page.index('<section id="scenario">') :]
        assert f"{note}." in section[: section.index("</section>")]


def test_privacy_and_communication(document: dict[str, Any]) -> None:
    page = render_audit(document)
    section = page[page.index('<section id="privacy">') : page.index('<section id="books">')]
    assert "everybody learns" in section and "operator learns" in section
    assert "limit price, quantity" in section and "net energy" in section
    assert "bill sharing 2.00 messages with 40.0 B of payload per agent and slot, in 1 round" in section


# --- the file ---------------------------------------------------------------------------------------------------------


def test_one_rule_alone_and_sections(document: dict[str, Any], tmp_path: Path) -> None:
    out = write_audit_page(report_of(document, "vcg"), tmp_path / "deep" / "vcg.html")
    page = out.read_text(encoding="utf-8")
    assert "<title>vcg: audit</title>" in page
    assert 'id="pairs"' not in page
    for target in re.findall(r'href="#([\w-]+)"', page):
        assert len(re.findall(rf'id="{target}"', page)) == 1, target


def test_the_page_loads_nothing(with_scenario: dict[str, Any]) -> None:
    page = render_audit(with_scenario)
    reader = _read(page)
    assert reader.targets and not [t for t in reader.targets if not t.startswith("#")]
    assert "url(" not in reader.styles and "@import" not in reader.styles
    assert "default-src 'none'" in page
    assert page == render_audit(with_scenario)


def test_names_cannot_break_out(with_scenario: dict[str, Any]) -> None:
    hostile = copy.deepcopy(with_scenario)
    bad = "</script><script>alert('x')</script><b>"
    hostile["reports"][0]["rule"] |= {"name": bad, "summary": bad, "source": bad}
    hostile["reports"][0]["verdicts"][0]["words"] = bad
    hostile["scenario"]["rules"][0]["rule"] = bad
    hostile["scenario"]["rules"][0]["households"][1]["value"] = bad
    page = render_audit(hostile)
    assert "alert('x')" not in page.replace("\\u003cscript>alert('x')", "")
    assert "&lt;/script&gt;&lt;script&gt;alert(&#x27;x&#x27;)" in page
    assert page.count("</script>") == render_audit(with_scenario).count("</script>")


def test_what_is_no_audit_is_refused() -> None:
    for wrong in ({}, {"format": 2, "reports": []}, {"format": 1}):
        with pytest.raises(RunError, match="not an audit"):
            render_audit(wrong)


@pytest.mark.browser
def test_a_browser_draws_the_audit(with_scenario: dict[str, Any], tmp_path: Path) -> None:
    out = write_audit_page(with_scenario, tmp_path / "audit.html")
    document, console = open_in_browser(out, tmp_path / "profile")
    assert not console
    assert 'data-ready="true"' in document
    wanted = _read(out.read_text(encoding="utf-8")).plots
    assert len(re.findall(r'class="plot js-plotly-plot"', document)) == wanted >= 8
