"""Parts of one's own in a run: a rule in a file or class, controllers by name, other strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from controllers import battery_controller, ev_controller
from controllers.forecast import Forecast
from market import registry
from peerwatt import cli
from tests.peerwatt.districts import (
    BATTERY,
    assert_same_tables,
    assert_verified,
    battery_law_breach_wh,
    district,
    home,
    load,
    plane,
    pv,
    with_rule,
)

RULE = Path(__file__).with_name("rule_of_ones_own.txt").read_text()


@pytest.fixture(autouse=True)
def _rules_of_a_test_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_rules", dict(registry.rule_classes()))


def street(**more: Any) -> dict[str, Any]:
    return district(home("h1", load(), pv(9)), home("h2", load("couple")), home("h3", load("shift", 6)), **more)


def rule_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(RULE.replace("NAME", name))
    return path


def assert_posted_price(run: peerwatt.Run, name: str, price_per_kwh: float = 0.2) -> None:
    assert_verified(run)
    slots = run.table("slots")
    assert run.static.rule == name
    traded = slots.local_wh > 0
    assert traded.sum() > 10
    assert set(slots.price_per_kwh[traded]) == {price_per_kwh}


def test_a_rule_in_a_file_runs_by_command_and_leaves_its_place_in_the_resolved_scenario(tmp_path: Path) -> None:
    path = rule_file(tmp_path, "by_command")
    (tmp_path / "street.yaml").write_text("extends: street5\nname: mine\n")
    arguments = ["run", str(tmp_path / "street.yaml"), "--rule", str(path), "--quiet", "--no-report"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    run = peerwatt.Run(tmp_path / "out")
    assert_posted_price(run, "by_command")
    again = peerwatt.run(run.folder / "scenario.yaml", tmp_path / "again", report=False)
    assert_same_tables(run, again)


def test_a_rule_file_beside_the_scenario_with_its_parameters(tmp_path: Path) -> None:
    rule_file(tmp_path, "beside")
    text = "extends: street5\nname: mine\nmarket: {stages: [{rule: beside.py, parameters: {price_u: 150000}}]}\n"
    (tmp_path / "street.yaml").write_text(text)
    run = peerwatt.run(tmp_path / "street.yaml", tmp_path / "out", report=False)
    assert_posted_price(run, "beside", 0.15)
    assert run.static.rule_parameters == {"price_u": 150_000}


def test_a_class_and_an_instance_from_a_notebook(tmp_path: Path) -> None:
    from market.registry import load_rule_file

    (cls,) = load_rule_file(rule_file(tmp_path, "notebook"))
    assert_posted_price(peerwatt.run(street(), tmp_path / "class", rule=cls), "notebook")
    made = cls(price_u=110_000)  # type: ignore[call-arg]
    assert_posted_price(peerwatt.run(street(), tmp_path / "instance", rule=made), "notebook", 0.11)


def test_a_rule_file_that_was_changed_is_another_run(tmp_path: Path) -> None:
    path = rule_file(tmp_path, "changing")
    first = peerwatt.run(with_rule(street(), str(path)), tmp_path / "a")
    path.write_text(path.read_text().replace("200_000", "210_000 + 0"))
    second = peerwatt.run(with_rule(street(), str(path)), tmp_path / "b")
    assert first.static.run_id != second.static.run_id
    assert_posted_price(second, "changing", 0.21)
    with pytest.raises(peerwatt.PeerwattError):
        peerwatt.run(with_rule(street(), str(path)), tmp_path / "a", resume=True)


BROKEN = {
    "no python": ("def (:\n", "SyntaxError"),
    "no rule": ("x = 1\n", "registers no rule"),
    "an error of its own": ("raise KeyError('mine')\n", "KeyError"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_file_is_told_plainly(broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, word = BROKEN[broken]
    (tmp_path / "mine.py").write_text(text)
    arguments = ["run", "street5", "--rule", str(tmp_path / "mine.py"), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(arguments) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert word in told and "what to do" in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_a_rule_that_breaks_a_law_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "generous.py"
    path.write_text(RULE.replace("NAME", "generous").replace("got = min(q, left[s]) if s else 0", "got = q"))
    with pytest.raises(peerwatt.PeerwattError) as stopped:
        peerwatt.run(street(), tmp_path / "out", rule=str(path))
    assert "slot" in str(stopped.value)
    assert not (tmp_path / "out").exists()


@battery_controller("test-evening-only", about="covers deficits, never charges")
def evening_only(columns: Any, state: Any, forecast: Forecast) -> np.ndarray:
    return np.minimum(forecast.surplus_wh[:, columns.building], 0)


@ev_controller("test-half-power", about="charges with half the power")
def half_power(columns: Any, sessions: Any, state: Any, forecast: Forecast) -> np.ndarray:
    return np.tile(columns.charge_max_wh // 2, (forecast.n_slots, 1))


def test_controllers_by_name_drive_their_assets(tmp_path: Path) -> None:
    stay = {"arrival": "2016-05-25T08:00", "departure": "2016-05-25T16:00", "energy_kwh": 6.0}
    car = {"kind": "ev", "charge_kw": 4.0, "sessions": [stay]}
    homes = [
        home("h1", load(), pv(9), {**BATTERY, "initial_soc": 0.9, "controller": "test-evening-only"}),
        home("h2", load(), pv(9), BATTERY),
        home("h3", load(), {**car, "controller": "test-half-power"}),
        home("h4", load(), car),
    ]
    run = peerwatt.run(district(*homes), tmp_path / "run")
    assert_verified(run)
    charged, given, cars = (plane(run, c) for c in ("charge_wh", "discharge_wh", "ev_wh"))
    assert not charged[:, 0].any() and given[:, 0].any() and charged[:, 1].any()
    assert battery_law_breach_wh(run) < 2
    assert cars[:, 2].max() == 500 and cars[:, 3].max() == 1000
    assert cars[:, 2].sum() == cars[:, 3].sum() == 6000
    everywhere = {"controllers": {"battery": "test-evening-only", "ev": "test-half-power"}}
    default = peerwatt.run(district(*homes, **everywhere), tmp_path / "default")
    assert not plane(default, "charge_wh").any() and plane(default, "ev_wh").max() == 500


def strategic(kind: str, *more: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return street(strategies={"default": {"kind": kind, "parameters": parameters}}) | {
        "buildings": [*street()["buildings"], *more],
        "market": {"stages": [{"rule": "pay_as_bid", "parameters": {"variant": "bid"}}]},
    }


def paid_prices(run: peerwatt.Run, building: str) -> dict[int, float]:
    trades = run.table("trades")
    mine = trades[trades.buyer == building]
    return dict(zip(mine.slot, mine.price_per_kwh, strict=True))


def test_a_fixed_margin_shades_what_buyers_pay(tmp_path: Path) -> None:
    """Buyers pay their bids: 0.32 less a tenth."""
    scenario = with_rule(strategic("fixed_margin", margin=0.1), "pair_price", k=1)
    run = peerwatt.run(scenario, tmp_path / "run")
    assert_verified(run)
    assert set(run.table("trades").price_per_kwh) == {0.288}


def test_random_bids_lie_in_the_band_and_do_not_change_when_a_neighbour_moves_in(tmp_path: Path) -> None:
    """With price place 1 a pair trades at the buyer's bid; sells of the newcomer come after the others' in id."""
    newcomer = home("h9", load("senior", 3))
    runs = [
        peerwatt.run(with_rule(strategic("zi_c", *more), "pair_price", k=1), tmp_path / str(len(more)))
        for more in ((), (newcomer,))
    ]
    assert_verified(runs[0])
    common = 0
    for building in ("h2", "h3"):
        before, after = (paid_prices(run, building) for run in runs)
        both = before.keys() & after.keys()
        assert all(before[slot] == after[slot] for slot in both)
        assert all(0.08 <= price <= 0.32 for price in before.values())
        assert len(set(before.values())) > len(before) // 2, "prices are drawn"
        common += len(both)
    assert common > 20
    other = peerwatt.run({**with_rule(strategic("zi_c"), "pair_price", k=1), "seed": 8}, tmp_path / "seed")
    assert paid_prices(other, "h3") != paid_prices(runs[0], "h3")
