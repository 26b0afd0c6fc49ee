"""Reliability of supply in comparisons: table, page, JSON and sentences, for rules and for controllers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from peerwatt import cli
from peerwatt.comparing import compare
from peerwatt.controller_study import compare_controllers, study_tables
from peerwatt.report import comparison_findings
from peerwatt.report.comparison import KPIS, comparison_document, kpi_values, shown_kpis
from peerwatt.scenario import load_scenario
from tests.peerwatt.test_report_comparison import summary

KEYS = ("saidi", "saifi", "caidi", "unserved")


def with_supply(arm: dict[str, Any], minutes: float, unserved_kwh: float, saifi: float = 1.0) -> dict[str, Any]:
    caidi = minutes / saifi if saifi else None
    figures = {"saidi_minutes": minutes, "saifi": saifi, "caidi_minutes": caidi, "unserved_kwh": unserved_kwh}
    return {**copy.deepcopy(arm), "reliability": figures}


@pytest.fixture
def arms() -> list[dict[str, Any]]:
    return [
        summary("no_market", [400, 300]),
        summary("uniform_price", [350, 310], local_kwh=120.0),
        summary("mid_market_rate", [340, 300], local_kwh=120.0),
    ]


def test_without_outages_nothing_is_said_of_them(arms: list[dict[str, Any]]) -> None:
    assert not [k for k in shown_kpis(arms) if k.key in KEYS]
    assert "suppl" not in " ".join(comparison_findings(arms)) and len({k.key for k in KPIS}) == len(KPIS)


def test_arms_are_told_by_how_long_customers_were_without_supply(arms: list[dict[str, Any]]) -> None:
    dark = [with_supply(arms[0], 405.0, 280.0, 2.0), *(with_supply(arm, 61.84, 41.0) for arm in arms[1:])]
    assert [k.key for k in shown_kpis(dark) if k.key in KEYS] == list(KEYS)
    found = comparison_findings(dark)
    assert (
        "In the outages a customer was on average without supply for 61.8 min (41.0 kWh of load not supplied) with "
        "uniform price and mid market rate and 405 min (280 kWh of load not supplied) with no market." in found
    )
    better = next(f for f in found if f.startswith("Whatever the rule or key, the other arms are better"))
    assert "time without supply (SAIDI) (61.8 min; 405 min with no market)" in better
    document = comparison_document(dark, ["none", "uniform", "mid"], found)
    figures = {row["key"]: row["values"] for row in document["figures"]}
    assert figures["saidi"] == {"none": 405.0, "uniform": 61.84, "mid": 61.84}
    assert figures["caidi"]["none"] == 202.5 and document["reference"] == "none"
    assert json.loads(json.dumps(document)) == document


def test_equal_arms_are_told_once_and_no_interruption_has_no_length(arms: list[dict[str, Any]]) -> None:
    same = [with_supply(arm, 0.0, 0.0, 0.0) for arm in arms]
    found = comparison_findings(same)
    assert sum("without supply for 0 min (0 kWh of load not supplied), in every arm." in f for f in found) == 1
    assert "interruptions of supply are the same in every arm" in found[0]
    caidi = next(k for k in KPIS if k.key == "caidi")
    assert kpi_values(caidi, same) == [None] * 3 and caidi not in shown_kpis(same)


# --- runs -------------------------------------------------------------------------------------------------------------


def held_by_a_home(battery: dict[str, Any]) -> dict[str, Any]:
    """`street5` whose grid fails before dawn; the small battery of home-1 can hold it."""
    homes = load_scenario("street5").scenario.model_dump(mode="json", exclude_unset=True)["buildings"]
    homes[0]["assets"][2] |= {"min_soc": 0.05} | battery
    return {
        "extends": "street5", "name": "dawn", "buildings": homes, "power_flow": "none",
        "outages": [{"at": "2016-05-25 03:00", "minutes": 170}], "microgrid": {"forming": "home-1"},
    }  # fmt: skip


@pytest.mark.slow
def test_rules_are_compared_by_their_outages_on_page_terminal_and_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dark.yaml"
    scenario = held_by_a_home({"initial_soc": 0.3}) | {"microgrid": None}
    scenario["outages"] = [{"at": "2016-05-25 07:00", "minutes": 40}]
    path.write_text(yaml.safe_dump(scenario))
    out = tmp_path / "out"
    assert cli.main(["compare", str(path), "--rules", "uniform_price", "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    sentence = "In the outages a customer was on average without supply for 40.0 min"
    document = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert sentence in said and "SAIDI" in said and "in every arm" in said
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert sentence in page and "Time without supply (SAIDI)" in page and "Load not supplied" in page
    figures = {row["key"]: row["values"] for row in document["figures"]}
    assert set(figures["saidi"].values()) == {40.0} and set(figures["saifi"].values()) == {1.0}
    assert any(text.startswith(sentence) for text in document["findings"])


@pytest.mark.slow
def test_a_controller_that_keeps_its_charge_survives_longer_and_that_is_seen(tmp_path: Path) -> None:
    """The greedy one has given the evening's charge to its own home by three; the idle one still has it."""
    study = compare_controllers(
        held_by_a_home({"initial_soc": 0.8, "capacity_kwh": 4}), tmp_path, ["greedy_self_consumption", "idle"]
    )
    greedy, idle = (study.supply(name)["uniform price"] for name in ("greedy_self_consumption", "idle"))
    assert idle["saidi_minutes"] == 0.0 and (idle["unserved_kwh"] or 0.0) < 0.02  # a dip at most
    assert (greedy["saidi_minutes"] or 0.0) > 5.0 and (greedy["unserved_kwh"] or 0.0) > 0.05
    sentence = next(s for s in study.sentences if s.startswith("In the outages"))
    assert "0.0 min on average under idle" in sentence and "under greedy_self_consumption" in sentence
    assert "with a grid that never fails idle costs" in sentence
    document = json.loads(study.figures.read_text())
    assert document["controllers"]["idle"]["reliability"]["no market"]["saidi_minutes"] == 0.0
    assert sentence in document["sentences"]
    titles = [str(table.title) for table in study_tables(study)]
    assert any("SAIDI" in title for title in titles) and len(titles) == 3
    for name in ("greedy-self-consumption", "idle"):
        assert "Time without supply (SAIDI)" in (tmp_path / name / "comparison.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_controllers_of_a_district_whose_grid_never_fails_have_no_such_table(tmp_path: Path) -> None:
    scenario = {**held_by_a_home({}), "outages": [], "microgrid": None}
    study = compare_controllers(scenario, tmp_path, ["greedy_self_consumption", "idle"], report=False)
    assert len(study_tables(study)) == 2 and not study.supply("idle")
    assert "reliability" not in study.document()["controllers"]["idle"]
    assert not [s for s in study.sentences if "outage" in s]
    assert compare(scenario, tmp_path / "rules", rules=["uniform_price"], report=False).page is None
