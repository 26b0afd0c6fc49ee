"""Comparisons: the low-tech arms are always there, cost what they should, and finished runs lie side by side."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

import peerwatt
from market import registry
from peerwatt import cli
from tests.peerwatt.districts import BATTERY, assert_verified, district, flat, home, load, pv, with_rule

LOW_TECH = ("no market", "time-of-use tariff", "static key")


@pytest.fixture(autouse=True)
def _rules_of_a_test_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_rules", dict(registry.rule_classes()))


def street(**more: Any) -> dict[str, Any]:
    homes = [
        home("h1", load(), pv(9), BATTERY),
        home("h2", load("couple"), pv(4)),
        home("h3", load("shift", 6)),
        home("h4", load("senior", 5)),
    ]
    return district(*homes, days=2, **more)


def write(folder: Path, scenario: dict[str, Any]) -> Path:
    path = folder / "street.yaml"
    path.write_text(yaml.safe_dump(scenario))
    return path


def by_name(comparison: Any) -> dict[str, peerwatt.Run]:
    return dict(zip(comparison.names, comparison.runs, strict=True))


@pytest.mark.slow
def test_the_low_tech_arms_stand_beside_the_rules_and_the_page_is_written(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    comparison = peerwatt.compare(
        street(),
        tmp_path / "out",
        rules=["uniform_price", "mid_market_rate"],
        progress=lambda d, n: seen.append((d, n)),
    )
    assert comparison.names == (*LOW_TECH, "uniform price", "mid market rate")
    for run in comparison.runs:
        assert_verified(run)
    assert comparison.page == tmp_path / "out" / "comparison.html"
    text = comparison.page.read_text()
    assert all(name in text for name in LOW_TECH)
    assert len(text.encode()) < 6_000_000
    assert seen[-1][0] == seen[-1][1] and [d for d, _ in seen] == sorted(d for d, _ in seen)
    rules = [run.static.rule for run in comparison.runs]
    assert rules == ["no_market", "no_market", "sharing_keys", "uniform_price", "mid_market_rate"]


def test_a_rule_keeps_the_scenarios_parameters_only_if_it_is_the_scenarios_rule(tmp_path: Path) -> None:
    comparison = peerwatt.compare(
        with_rule(street(), "uniform_price", k=1), tmp_path / "out", rules=["uniform_price", "pair_price"]
    )
    runs = by_name(comparison)
    assert runs["uniform price"].static.rule_parameters["k"] == "1"
    assert runs["pair price"].static.rule_parameters["k"] == "1/2"


TWO_FLAT = {"default": flat(0.32, 0.08), "dear": flat(0.41, 0.02, vat_percent=19)}


@pytest.mark.parametrize("contracts", [{"default": flat(0.32, 0.08)}, TWO_FLAT], ids=["one price", "two prices"])
def test_the_time_of_use_arm_costs_the_district_what_flat_prices_cost(
    contracts: dict[str, Any], tmp_path: Path
) -> None:
    scenario = street(contracts=contracts)
    if len(contracts) > 1:
        scenario["buildings"][2]["contract"] = "dear"
    runs = by_name(peerwatt.compare(scenario, tmp_path / "out", rules=[], report=False))
    flat_u, varied_u = (
        int(runs[name].table("bills").retail_bought_u.sum() + runs[name].table("bills").vat_u.sum())
        for name in LOW_TECH[:2]
    )
    assert varied_u == pytest.approx(flat_u, rel=1e-5)
    each = [runs[name].table("bills").retail_bought_u.to_numpy() for name in LOW_TECH[:2]]
    assert (each[0] != each[1]).all(), "who consumes when now matters"
    price = runs[LOW_TECH[1]].table("bills").retail_bought_u.sum() / runs[LOW_TECH[1]].table("bills").import_wh.sum()
    assert price > 0


def test_the_time_of_use_arm_follows_a_contract_whose_flat_price_changes(tmp_path: Path) -> None:
    terms = flat(0.32, 0.08)["terms"] + [{**flat(0.38, 0.05)["terms"][0], "valid_from": "2016-05-26"}]
    runs = by_name(
        peerwatt.compare(street(contracts={"default": {"terms": terms}}), tmp_path / "out", rules=[], report=False)
    )
    costs = [int(runs[name].table("bills").retail_bought_u.sum()) for name in LOW_TECH[:2]]
    assert costs[1] == pytest.approx(costs[0], rel=1e-5)


def test_a_tariff_that_varies_already_is_its_own_time_of_use_arm(tmp_path: Path) -> None:
    bands = [{"start": "17:00", "end": "21:00", "price_per_kwh": 0.4}]
    terms = [{"retail": {"default_per_kwh": 0.3, "bands": bands}, "feed_in": {"flat_per_kwh": 0.08}}]
    seen: list[tuple[int, int]] = []
    comparison = peerwatt.compare(
        street(contracts={"default": {"terms": terms}}), tmp_path / "out", rules=["mid_market_rate"],
        progress=lambda d, n: seen.append((d, n)),
    )  # fmt: skip
    assert comparison.names == ("no market", "static key", "mid market rate")
    assert comparison.page is not None and "vary with time already" in comparison.page.read_text()
    assert seen[-1][0] == seen[-1][1]


def test_the_static_key_is_each_buildings_part_of_all_imports_and_at_most_one(tmp_path: Path) -> None:
    runs = by_name(peerwatt.compare(street(), tmp_path / "out", rules=[], report=False))
    shares = {k: Fraction(str(v)) for k, v in dict(runs["static key"].static.rule_parameters["shares"]).items()}  # type: ignore[call-overload]
    imported = {k: row["import_kwh"] for k, row in runs["no market"].summary["buildings"].items()}
    assert set(shares) == {name for name, kwh in imported.items() if kwh > 0}
    assert Fraction(999_990, 1_000_000) < sum(shares.values()) <= 1
    for name, share in shares.items():
        assert float(share) == pytest.approx(imported[name] / sum(imported.values()), abs=2e-6)


@pytest.mark.slow
def test_a_community_battery_serves_where_there_is_a_market_and_costs_the_low_tech_arms_nothing(tmp_path: Path) -> None:
    scenario = street()
    scenario["buildings"].append(home("shared", BATTERY))
    done = peerwatt.compare(scenario, tmp_path / "cmp", rules=["mid_market_rate", "supply_demand_ratio"], report=False)
    arms = dict(zip(done.names, done.runs, strict=True))
    for name in LOW_TECH:
        row = arms[name].summary["buildings"]["shared"]
        assert (row["charge_kwh"], row["cost_u"]) == (0, 0), name
    assert arms["mid market rate"].summary["buildings"]["shared"]["charge_kwh"] > 0
    assert any("stands idle" in sentence for sentence in done.sentences)


def test_a_rule_that_cannot_be_run_is_left_out_with_its_reason(tmp_path: Path) -> None:
    scenario = street()
    terms = scenario["contracts"]["default"]["terms"][0]
    scenario["contracts"]["other"] = {"terms": [{**terms, "retail": {"flat_per_kwh": 0.27}}]}
    scenario["buildings"][2]["contract"] = "other"
    done = peerwatt.compare(scenario, tmp_path / "cmp", rules=["supply_demand_ratio", "uniform_price"], report=False)
    assert done.names[-1] == "uniform price"
    assert "supply demand ratio" not in done.names
    assert any("supply demand ratio is left out" in s and "tariffs differ" in s for s in done.sentences)


def test_arms_do_not_need_the_tables_that_the_scenario_leaves_out(tmp_path: Path) -> None:
    scenario = street(outputs={"report": False, "statements": False, "tables": ["ledger"]})
    runs = by_name(peerwatt.compare(scenario, tmp_path / "out", rules=["bill_sharing"]))
    assert set(runs) == {*LOW_TECH, "bill sharing"}


def test_finished_runs_are_laid_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rule in ("uniform_price", "no_market"):
        peerwatt.run(with_rule(street(), rule), tmp_path / rule)
    folders = [str(tmp_path / rule) for rule in ("uniform_price", "no_market")]
    assert cli.main(["compare", *folders, "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "comparison.html").is_file()
    out = capsys.readouterr().out
    assert "uniform price" in out and "no market" in out


@pytest.mark.slow
def test_the_command_compares_rules_and_says_so_where_trading_does_not_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, street())
    arguments = ["compare", str(path), "--rules", "uniform_price,mid_market_rate", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*LOW_TECH, "uniform price", "mid market rate"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "arms").glob("*/manifest.json")}
    assert len(before) == 5
    assert cli.main(arguments) == 0, "finished arms are taken as they are"
    assert {p: p.stat().st_mtime_ns for p in before} == before
    write(tmp_path, street(seed=8))
    assert cli.main(arguments) == cli.USER_ERROR
    assert "overwrite" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--rules", "uniform_prize"], "uniform_price"),
        (["--rules", "none.py"], "none.py"),
        (["--rules", "uniform_price", "--set", "seeed=1"], "seeed"),
    ],
)
def test_a_wrong_comparison_is_refused_before_anything_runs(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, street())
    assert cli.main(["compare", str(path), "--out", str(tmp_path / "out"), *arguments]) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert word in told and "what to do" in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_two_rules_of_one_name_do_not_share_an_arm(tmp_path: Path) -> None:
    text = Path(__file__).with_name("rule_of_ones_own.txt").read_text()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text.replace("NAME", f"mine_{folder}"))
    rules = [str(tmp_path / folder / "mine.py") for folder in ("a", "b")]
    comparison = peerwatt.compare(street(), tmp_path / "out", rules=rules, report=False)
    assert [r.static.rule for r in comparison.runs[3:]] == ["mine_a", "mine_b"]
    assert len(set(comparison.names)) == 5
