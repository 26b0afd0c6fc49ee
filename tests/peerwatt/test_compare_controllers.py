"""Controllers side by side: costs by one yardstick, the community optimum below all, low-tech arms beside each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from core import ScenarioError
from peerwatt import cli
from peerwatt.comparing import NO_MARKET
from peerwatt.controller_gaps import community_costs, controller_costs, end_values, saved_by_exchange
from peerwatt.controller_study import WORTH_PER_YEAR, compare_controllers, controlled_by
from peerwatt.low_tech import STATIC_KEY
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import BATTERY, PROFILES, flat, home, load, pv
from tests.peerwatt.planned import AIR, CAR, WARM, street

THREE = ("greedy_self_consumption", "battery_optimum", "building_optimum")


def with_heat(days: int) -> dict[str, Any]:
    more = street(days=days, profiles=PROFILES | {"air": AIR})
    more["buildings"].append(home("warm", load("couple"), pv(5), BATTERY, WARM, CAR))
    return more


def test_no_controller_costs_less_than_the_community_optimum() -> None:
    found = {}
    for name in THREE:
        system = prepare(load_scenario(with_heat(3), controlled_by(name)))
        found[name] = controller_costs(system)
    best = community_costs(system)
    for cost in found.values():
        assert best.alone < cost.shared <= cost.alone
        assert cost.missing_kwh == pytest.approx(0.0, abs=0.01)
    assert found["building_optimum"].alone < found["battery_optimum"].alone < found["greedy_self_consumption"].alone
    assert best.missing_kwh == pytest.approx(0.0, abs=0.01)
    assert best.discomfort_kh == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_rolling_days_come_close_to_one_program_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    system = prepare(load_scenario(with_heat(4)))
    rolling = community_costs(system).alone
    monkeypatch.setattr("peerwatt.controller_gaps.HORIZON_H", 96.0)
    at_once = community_costs(system).alone
    assert at_once <= rolling + 1e-3  # whole Wh at the seams
    assert rolling - at_once < 0.02 * abs(at_once)
    assert (end_values(system) > 0).all()


def test_a_building_by_itself_with_one_tariff_is_its_own_community() -> None:
    """Against the bills: without stores nothing can be planned, and both are what the meters cost."""
    made = street(days=1)
    made["buildings"] = [home("only", load("family", 3.0), pv(2.0))]
    system = prepare(load_scenario(made))
    cost, best = controller_costs(system), community_costs(system)
    assert best.alone == pytest.approx(cost.alone, abs=1e-3)
    assert cost.shared == cost.alone


def test_tax_is_part_of_what_a_kwh_costs() -> None:
    made = street(days=1)
    taxed = street(days=1)
    taxed["contracts"] = {"default": {"terms": [{**flat(0.30, 0.0)["terms"][0], "vat_percent": 20.0}]}}
    made["contracts"] = {"default": flat(0.36, 0.0)}
    costs = [controller_costs(prepare(load_scenario(m))).alone for m in (made, taxed)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6) and costs[0] > 0


def test_exchange_by_hand() -> None:
    buy, sell = np.array([[0.4, 0.2, 0.3, 0.3]]), np.array([[0.1, 0.1, 0.25, 0.05]])
    drawn, fed = np.array([[1.0, 2.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 1.0, 1.5]])
    # 0.05 goes first: 1.0 at 0.4 and 0.5 at 0.2; then 0.25 against 0.2: nobody would
    assert saved_by_exchange(buy, sell, drawn, fed) == pytest.approx(1.0 * 0.35 + 0.5 * 0.15)


@pytest.mark.slow
def test_the_command_runs_low_tech_arms_beside_each_controller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "street.yaml"
    path.write_text(yaml.safe_dump(street(days=1)))
    out = tmp_path / "out"
    code = cli.main(
        [
            "compare",
            str(path),
            "--controllers",
            "greedy_self_consumption,building_optimum",
            "--out",
            str(out),
            "--no-report",
        ]
    )
    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    document = json.loads((out / "controllers.json").read_text())
    for name in ("greedy_self_consumption", "building_optimum"):
        of = document["controllers"][name]
        assert {NO_MARKET, STATIC_KEY} <= set(of["bills"])
        assert of["above_community_optimum"] == pytest.approx(of["shared"] - document["community_optimum"]["alone"])
        assert (out / name.replace("_", "-") / "arms" / "no-market" / "summary.json").is_file()
    assert all(" ".join(sentence.split()) in said for sentence in document["sentences"])


@pytest.mark.slow
@pytest.mark.parametrize(("buy", "pays"), [("flat", False), ("spread", True)])
def test_a_plain_sentence_says_whether_cleverness_pays(tmp_path: Path, buy: str, pays: bool) -> None:
    made = street(days=2)
    if buy == "flat":
        made["contracts"] = {"default": flat(0.30, 0.08)}
        for one in made["buildings"]:
            one["assets"] = [asset for asset in one["assets"] if asset["kind"] != "ev"]
    study = compare_controllers(made, tmp_path, ["greedy_self_consumption", "building_optimum"], report=False)
    saved = study.costs["greedy_self_consumption"].alone - study.costs["building_optimum"].alone
    assert (saved / study.years / study.steered >= WORTH_PER_YEAR) is pays
    assert ("does not pay" in study.sentences[0]) is not pays


def test_an_unknown_controller_is_refused_with_a_hint() -> None:
    with pytest.raises(ScenarioError, match="no controller is called 'batery_optimum'") as caught:
        controlled_by("batery_optimum")
    assert "battery_optimum" in str(caught.value.remedy)
