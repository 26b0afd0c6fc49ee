"""Comparison of runs: findings on hand-made summaries with known winners, the page, and tables for a terminal."""

from __future__ import annotations

import copy
import io
import re
import xml.sax.saxutils
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import RunError
from peerwatt.report import comparison_findings, comparison_table, summary_table, write_comparison
from peerwatt.report.comparison import (
    KPIS,
    arm_names,
    best_arms,
    changes,
    is_low_tech,
    members_share,
    reference_of,
    shown_kpis,
)
from peerwatt.report.comparison_page import small_multiples
from peerwatt.results import Run
from tests.peerwatt.test_report_page import _read, open_in_browser
from tests.peerwatt.test_report_synthetic import Recipe, make_run

MICRO = 1_000_000


def summary(rule: str, costs: list[int], *, peak_kw: float = 100.0, local_kwh: float = 0.0, name: str = "demo",
            key: str | None = None, network_u: int = 500 * MICRO) -> dict[str, Any]:  # fmt: skip
    """A summary with only what a comparison reads; ``costs`` in whole EUR per building."""
    paid = sum(costs)
    return {
        "run": {"rule": rule, "rule_parameters": {"key": key} if key else {}, "name": name, "title": "", "id": "x",
                "currency": "EUR", "start_utc": "2016-01-01T00:00:00+00:00", "slot_s": 900, "n_slots": 96, "seed": 1},
        "buildings": {
            f"h{i}": {"cost_u": c * MICRO, "bought_kwh": local_kwh / len(costs)} for i, c in enumerate(costs)
        },
        "money": {"cost_u": paid * MICRO, "savings": 0.0,
                  "accounts": {"retailer": {"total_u": paid * MICRO - network_u}, "network": {"total_u": network_u},
                               "state": {"total_u": 0}, "operator": {"total_u": 0}}},
        "energy": {"local_kwh": local_kwh},
        "self_supply": {"use_kwh": 1000.0, "alone_net_self_sufficiency": 0.2},
        "grid": {"peak_import_kw": peak_kw, "peak_reverse_kw": 50.0, "losses_kwh": 10.0},
        "violations": {"count": 0},
        "carbon": {"imports_kg": None},
        "savings": {"gini": None},
    }  # fmt: skip


@pytest.fixture
def arms() -> list[dict[str, Any]]:
    return [
        summary("no_market", [400, 300, 300]),
        summary("no_market", [390, 310, 290], name="demo-tou", peak_kw=80.0),
        summary("sharing_keys", [380, 280, 290], key="static", local_kwh=100.0),
        summary("uniform_price", [350, 310, 300], local_kwh=120.0, network_u=460 * MICRO),
    ]


def test_arms_are_told_apart_and_the_low_tech_ones_known(arms: list[dict[str, Any]]) -> None:
    assert arm_names(arms) == ["no market", "time-of-use tariff", "static key", "uniform price"]
    assert [is_low_tech(a) for a in arms] == [True, True, True, False]
    assert reference_of(arms) == 0
    assert reference_of(arms[::-1]) == 3
    twice = [arms[0], arms[3], summary("uniform_price", [1, 1, 1], name="other")]
    assert arm_names(twice)[1:] == ["uniform price (demo)", "uniform price (other)"]


def test_changes_are_measured_against_the_reference_arm(arms: list[dict[str, Any]]) -> None:
    assert changes(arms[3], arms[0]) == {"h0": -50.0, "h1": 10.0, "h2": 0.0}


def test_findings_say_where_trading_does_not_beat_the_low_tech_arms(arms: list[dict[str, Any]]) -> None:
    found = comparison_findings(arms)
    said = next(f for f in found if f.startswith("Uniform price beats"))
    none, tou, key = said.removesuffix(".").split(". It ")
    assert none == "Uniform price beats no market in 3 figures and falls behind in none"
    assert tou.startswith("does not beat the time-of-use tariff in number of") and "it is better in" in tou
    assert key.startswith("does not beat the static key in total cost of all buildings (960.00 EUR against 950")
    assert "number of buildings that pay more (1 against 0)" in key and key.endswith("it is better in 2 figures")
    assert "highest draw" not in said
    peak = next(f for f in found if "are not better than each of no market and the time-of-use tariff in" in f)
    assert (
        "highest draw from the grid above (100 kW; 100 kW with no market, 80.0 kW with the time-of-use tariff)" in peak
    )
    assert len(found) == len(set(found))


def test_money_alone_is_said_once(arms: list[dict[str, Any]]) -> None:
    found = comparison_findings([arms[0], *arms[2:]])
    said = (
        "The rules compared move only money here: energy flows, peaks, losses and violations are the same in every arm."
    )
    assert found[0] == said
    assert not [f for f in found[1:] if "reverse flow" in f or "losses" in f]
    for arm in arms:
        arm["run"]["n_buses"] = 0
    assert comparison_findings([arms[0], *arms[2:]])[0].endswith(
        "here: energy flows and peaks are the same in every arm."
    )
    arms[3]["grid"]["losses_kwh"] = 9.0
    arms[3]["run"]["n_buses"] = 5
    assert comparison_findings([arms[0], *arms[2:]])[0].startswith("No difference between the arms in highest draw")


def test_accounts_of_battery_and_operator_are_said(arms: list[dict[str, Any]]) -> None:
    arms[3]["money"]["community_storage_u"] = -12 * MICRO
    arms[3]["money"]["accounts"]["operator"]["total_u"] = 7 * MICRO
    arms[3]["buildings"]["h1"]["counted"] = arms[0]["buildings"]["h1"]["counted"] = False
    text = next(f for f in comparison_findings(arms) if f.startswith("With uniform price"))
    assert "none of 2 buildings pays more; the community battery, counted in, makes a loss of 12.00 EUR" in text
    assert text.endswith("and the operator 7.00 EUR more.")
    assert changes(arms[3], arms[0]) == {"h0": -50.0, "h2": 0.0}
    assert {"battery", "operator"} < {k.key for k in shown_kpis(arms)}
    assert not {"battery", "operator"} & {k.key for k in shown_kpis(arms[:3])}


def test_findings_say_who_pays_for_the_savings(arms: list[dict[str, Any]]) -> None:
    text = next(f for f in comparison_findings(arms) if f.startswith("With uniform price"))
    assert "40.00 EUR (4.0 %) less than with no market; 1 of 3 buildings pays more" in text
    assert text.endswith("in return the network receives 40.00 EUR less.")
    tou = next(f for f in comparison_findings(arms) if f.startswith("With the time-of-use tariff"))
    assert "pay 10.00 EUR (1.0 %) less" in tou


def test_findings_name_the_best_arm_of_each_figure(arms: list[dict[str, Any]]) -> None:
    found = comparison_findings(arms)
    assert any(
        f.startswith("Best at total cost of all buildings (950.00 EUR)") and f.endswith("static key.") for f in found
    )
    assert any("highest draw from the grid above (80.0 kW)" in f and f.endswith("time-of-use tariff.") for f in found)
    assert any("are the same in every arm but no market and the time-of-use tariff." in f for f in found)


def test_an_arm_that_changes_nothing_is_said_to_change_nothing(arms: list[dict[str, Any]]) -> None:
    idle = summary("uniform_price", [400, 300, 300])
    found = comparison_findings([arms[0], idle])
    same = "With uniform price all buildings together pay practically the same as with no market; none of 3 buildings"
    assert f"{same} pays more." in found
    assert any(f.startswith("Uniform price does not differ from no market in any figure compared") for f in found)


def test_an_arm_better_at_everything_beats(arms: list[dict[str, Any]]) -> None:
    star = summary("uniform_price", [1, 1, 1], peak_kw=1.0, local_kwh=300.0)
    star["grid"].update(peak_reverse_kw=1.0, losses_kwh=1.0)
    base = copy.deepcopy(arms[0])
    for run in (star, base):
        run["violations"]["count"] = None
    said = next(f for f in comparison_findings([base, star]) if f.startswith("Uniform price beats no market in"))
    assert said.endswith("and falls behind in none.")
    star["money"]["community_storage_u"] = -12 * MICRO
    start = "Uniform price does not beat no market in the account of the community battery (a loss of 12.00 EUR"
    assert any(f.startswith(start) for f in comparison_findings([base, star]))


def test_low_tech_arms_with_the_same_lists_stand_together(arms: list[dict[str, Any]]) -> None:
    found = comparison_findings([arms[0], {**arms[0], "run": {**arms[0]["run"], "name": "demo-tou"}}, *arms[2:]])
    # the reference has no losers, so its list lacks that figure
    assert not any("every figure" in f or "arm with a market" in f for f in found)
    keys = [arms[2], {**arms[2], "run": {**arms[2]["run"], "name": "again"}}]
    text = next(f for f in comparison_findings([arms[0], *keys, arms[3]]) if f.startswith("Uniform price beats"))
    assert "It does not beat the static key (demo) or the static key (again) in" in text


def test_what_a_community_battery_bought_is_not_used_twice(arms: list[dict[str, Any]]) -> None:
    inside = next(k for k in KPIS if k.key == "inside")
    assert inside.value(arms[3], arms[0]) == pytest.approx(0.2 + 0.12)
    arms[3]["buildings"]["h2"]["counted"] = False
    assert inside.value(arms[3], arms[0]) == pytest.approx(0.2 + 0.08)
    arms[3]["energy"].update(load_kwh=1000.0, heat_pump_kwh=0.0, ev_kwh=0.0)
    assert members_share(arms[3]) == "80.0 kWh of it by members, 8.0 % of use"
    arms[3]["buildings"]["h2"]["counted"] = True
    assert members_share(arms[3]) == "12.0 % of use"


def test_energy_flows_that_differ_are_not_called_the_same(arms: list[dict[str, Any]]) -> None:
    arms[3]["energy"]["charge_kwh"] = 5.0
    assert comparison_findings([arms[0], *arms[2:]])[0] == "Peaks, losses and violations are the same in every arm."


def test_figures_without_a_value_do_not_win() -> None:
    cost = KPIS[0]
    assert best_arms(cost, [None, 3.0, 2.0, 2.0 + 1e-9]) == [2, 3]
    assert best_arms(cost, [13_150.0, 13_155.0]) == [0]
    assert best_arms(cost, [None, 3.0]) == []


def test_order_of_the_arms_does_not_change_what_is_found(arms: list[dict[str, Any]]) -> None:
    def bag(found: list[str]) -> list[str]:
        return sorted(re.sub(r"(static key|uniform price) and (static key|uniform price)", "BOTH", f) for f in found)

    assert bag(comparison_findings(arms)) == bag(comparison_findings([arms[0], arms[3], arms[1], arms[2]]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(("run", "currency", "USD"), "currency"), (("run", "n_slots", 95), "number of slots"),
     (("run", "start_utc", "2017"), "first slot"), (("buildings", "h9", {"cost_u": 1}), "different buildings")],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    arms: list[dict[str, Any]], change: tuple[str, str, Any], reason: str
) -> None:
    arms[3][change[0]][change[1]] = change[2]
    with pytest.raises(RunError, match=reason):
        comparison_findings(arms)


def test_a_reference_is_needed(arms: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="without a market"):
        comparison_findings(arms[2:])
    with pytest.raises(RunError, match="at least two"):
        comparison_findings(arms[:1])


# --- page and terminal, on real run folders ---------------------------------------------------------------------------

_BASE = Recipe(n_homes=9, n_buses=8, n_slots=96 * 4, start="2016-06-01T00:00:00+02:00", pv_share=0.5)


def _folders(root: Path) -> list[Path]:
    recipes = {
        "none": replace(_BASE, rule="no_market", pairs=False, parameters={}),
        "key": replace(_BASE, rule="sharing_keys", shared=0.7, parameters={"key": "static"}),
        "uniform": _BASE,
    }
    return [make_run(root / name, recipe) for name, recipe in recipes.items()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _folders(tmp_path_factory.mktemp("arms"))


def test_the_page_holds_findings_table_and_drawings(folders: list[Path], tmp_path: Path) -> None:
    out = write_comparison(folders, tmp_path / "deep" / "comparison.html", sentences=["Said <first>."])
    page = out.read_text(encoding="utf-8")
    assert out.stat().st_size < 6_000_000
    assert "Said &lt;first&gt;." in page
    for finding in comparison_findings([Run(f).summary for f in folders]):
        assert xml.sax.saxutils.escape(finding, {"'": "&#x27;"}) in page
    reader = _read(page)
    assert not [t for t in reader.targets if not t.startswith("#")]
    assert reader.plots == 5  # costs, distribution, kinds of household, and the two figures in which these arms differ


def test_the_page_measures_savings_against_the_reference_arm(folders: list[Path], tmp_path: Path) -> None:
    page = write_comparison(folders, tmp_path / "c.html").read_text(encoding="utf-8")
    runs = [Run(f).summary for f in folders]
    saved = (runs[0]["money"]["cost_u"] - runs[2]["money"]["cost_u"]) / MICRO
    assert saved > 0
    assert f"\N{MINUS SIGN}{saved:.2f} EUR" in page


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_draws_the_comparison(folders: list[Path], tmp_path: Path) -> None:
    out = write_comparison(folders, tmp_path / "comparison.html")
    document, console = open_in_browser(out, tmp_path / "profile")
    assert not console
    assert len(re.findall(r'class="plot js-plotly-plot"', document)) == _read(out.read_text(encoding="utf-8")).plots


def _printed(item: Any) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(item)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_terminal_shows_operator_battery_and_small_amounts(folders: list[Path]) -> None:
    runs = [Run(f).summary for f in folders]
    runs.append({**runs[1], "run": {**runs[1]["run"], "rule_parameters": {"key": "equal"}}})
    for run in runs:
        run["energy"]["local_kwh"] = 12.5
        run["money"]["cost_u"] = 34_560_000
    small = _printed(comparison_table(runs))
    assert "34.56" in small and "traded" in small and "kWh" in small
    assert "suff. %" in small and "operator" not in small
    one = runs[2]
    one["money"].update(operator_surplus_u=-5_000_000, community_storage_u=-3_000_000)
    text = _printed(summary_table(one))
    for words in ("operator's account", "deficit", "loss of the battery", "3.00 EUR", "saved in all", "of 9 buildings"):
        assert words in text
    assert "with charging counted as use" in text


def test_no_head_of_the_terminal_is_cut(folders: list[Path]) -> None:
    runs = [Run(f).summary for f in folders]
    runs.append({**runs[1], "run": {**runs[1]["run"], "rule_parameters": {"key": "equal"}}})
    for i, run in enumerate(copy.deepcopy(runs)):
        run["money"].update(cost_u=-1_234_567 * MICRO, community_storage_u=-12_345 * MICRO)
        run["money"]["accounts"]["operator"]["total_u"] = -12_345 * MICRO
        run["grid"].update(peak_import_kw=1000.0 + i, peak_reverse_kw=2000.0 + i)
        runs[i] = run
    text = _printed(comparison_table(runs))
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for words in ("battery", "oper.", "traded", "suff. %", "peak", "back", "uniform", "1,234,567", "12,345"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_small_drawings_have_one_unit_each_and_peaks_a_true_reason(folders: list[Path]) -> None:
    runs = [Run(f).summary for f in folders]
    runs[2]["energy"]["local_kwh"] = 97_500.0
    figure = small_multiples(runs, arm_names(runs))
    spec = next(p.spec for p in figure.panels if p.label.startswith("Energy traded"))
    assert spec["layout"]["yaxis"]["title"]["text"] == "[MWh]"
    assert spec["data"][0]["text"][2] == "97.5 MWh" and spec["data"][0]["y"][2] == 97.5
    assert figure.sentence.endswith("as are the energy flows: the rules settle energy but do not move it.")
    runs[0]["energy"]["charge_kwh"] += 1
    assert small_multiples(runs, arm_names(runs)).sentence.endswith(" Peaks are the same in all arms.")


def test_runs_that_cannot_be_compared_are_named_by_their_folders(folders: list[Path], tmp_path: Path) -> None:
    short = make_run(tmp_path / "short", replace(_BASE, n_slots=96))
    with pytest.raises(RunError, match=f"{re.escape(str(folders[0]))} and {re.escape(str(short))} differ in number"):
        write_comparison([folders[0], short], tmp_path / "c.html")


def test_tables_fit_80_columns_and_keep_brackets(folders: list[Path]) -> None:
    runs = [Run(f).summary for f in folders]
    runs[2]["run"]["title"] = "[bold]not markup"
    one = _printed(summary_table(runs[2]))
    side_by_side = _printed(comparison_table(runs))
    turned = _printed(
        comparison_table([*runs, {**runs[1], "run": {**runs[1]["run"], "rule_parameters": {"key": "equal"}}}])
    )
    for text in (one, side_by_side, turned):
        assert max(len(line) for line in text.splitlines()) <= 80
    assert "[bold]not markup" in one
    assert "voltage [p.u.]" in one
    assert "static key" in side_by_side
    assert "equal key" in turned
