"""A run whose grid fails: who is dark how long, what is not drawn, and that books and windows stay sound."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import ScenarioError
from peerwatt.microgrid.outages import REST_S, OutageSpan, outage_spans
from peerwatt.microgrid.reliability import Reliability
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import assert_same_tables, assert_verified
from tests.peerwatt.test_run_windows import assert_equal, drive

FAULT = {"at": "2016-05-25 10:07", "minutes": 40}


def street(*outages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"extends": "street5", "name": "dark-street", "outages": list(outages), **more}


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    return peerwatt.run(street(FAULT), tmp_path_factory.mktemp("dark") / "run", report=False)


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    return peerwatt.run("street5", tmp_path_factory.mktemp("lit") / "run", report=False)


def test_everybody_is_dark_for_as_long_as_the_grid_is(dark: peerwatt.Run) -> None:
    found = dark.summary["reliability"]
    assert found["saidi_minutes"] == 40.0 and found["saifi"] == 1.0 and found["maifi"] == 0.0
    assert {b["minutes"] for b in found["by_building"].values()} == {40.0} and found["customers"] == 5
    assert [e["kind"] for e in found["events"]] == ["grid-lost", "grid-back"]
    assert found["events"][0]["at_s"] == 10 * 3600 + 7 * 60


def test_a_part_of_a_slot_loses_that_part_of_its_load(dark: peerwatt.Run, lit: peerwatt.Run) -> None:
    loads = [run.table("buildings").pivot(index="slot", columns="building", values="load_wh") for run in (dark, lit)]
    less = (loads[1] - loads[0]).to_numpy()
    full = loads[1].to_numpy()
    shares = {40: 8 / 15, 41: 1.0, 42: 1.0, 43: 2 / 15}  # 10:07 to 10:47
    for slot in range(96):
        lost = full[slot] * shares.get(slot, 0.0)
        assert np.abs(less[slot] - lost).max() <= 1.0, slot
    assert abs(less.sum() / 1000 - dark.summary["reliability"]["unserved_kwh"]) < 1e-9


def test_nothing_flows_in_a_dark_slot_and_nobody_trades(dark: peerwatt.Run) -> None:
    slots = dark.table("slots").set_index("slot")
    for name in ("load_wh", "pv_wh", "charge_wh", "discharge_wh", "import_wh", "export_wh", "exchange_wh", "loss_wh"):
        assert (slots.loc[[41, 42], name] == 0).all(), name
    assert (slots.loc[[41, 42], "curtailed_wh"] > 0).all()
    trades = dark.table("trades")
    assert not trades["slot"].isin([41, 42]).any()
    assert trades["slot"].isin([39]).any() and trades["slot"].isin([44]).any()


def test_a_dark_network_has_no_voltage_and_breaks_no_limit(dark: peerwatt.Run) -> None:
    buses = dark.table("buses")
    assert (buses[buses["slot"].isin([41, 42])]["v_pu"] == 0).all() and (buses[buses["slot"] == 40]["v_pu"] > 0.9).all()
    assert dark.summary["grid"]["v_min_pu"] > 0.9 and dark.summary["violations"]["slots"] == 0


def test_the_books_of_the_run_are_sound(dark: peerwatt.Run) -> None:
    assert_verified(dark)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 7, 96])
def test_windows_have_no_say(length: int) -> None:
    scenario = street(FAULT, {"at": "2016-05-25 20:00", "minutes": 3})
    whole, bills = drive(scenario, 2688)
    cut, others = drive(scenario, length)
    assert_equal(whole, cut)
    assert np.array_equal(bills.total_u, others.total_u)


def test_a_short_interruption_is_momentary() -> None:
    counts = Reliability.of(2)
    both, one = np.array([True, True]), np.array([False, True])
    counts.pass_time(both, 300.0)
    counts.pass_time(one, 0.5)
    counts.pass_time(np.zeros(2, np.bool_), 60.0)
    counts.pass_time(both, 3600.0)
    counts.finish()
    assert counts.momentary.tolist() == [1, 0] and counts.sustained.tolist() == [1, 2]
    assert counts.sustained_s.tolist() == [3600.0, 3900.5]


def test_drawn_outages_come_by_seed_and_keep_apart() -> None:
    drawn = {"per_year": 200, "mean_minutes": 90}
    scenario = {"extends": "semiurban", "name": "drawn", "drawn_outages": drawn, "outages": [
        {"at": "2016-05-25 10:00", "minutes": 600}]}  # fmt: skip
    loaded = load_scenario(scenario)
    grid = prepare(load_scenario({**scenario, "power_flow": "none"})).grid
    spans = outage_spans(loaded.scenario, grid)
    assert spans == outage_spans(loaded.scenario, grid)
    other = outage_spans(load_scenario({**scenario, "seed": 7}).scenario, grid)
    assert spans != other and 170 < len(spans) < 230
    mean_s = np.mean([span.end_s - span.start_s for span in spans])
    assert 60 * 70 < mean_s < 60 * 115
    for one, following in itertools.pairwise(spans):
        assert following.start_s >= one.end_s + REST_S
    assert any(span.end_s - span.start_s == 36000.0 for span in spans)


def test_dark_shares_add_up_however_the_slot_is_cut() -> None:
    from peerwatt.microgrid.dark import Dark
    from peerwatt.microgrid.outcome import SlotPowers

    course = Dark((OutageSpan(100.0, 400.0), OutageSpan(2000.0, 2300.5), OutageSpan(500.0, 900.0, planned=True)), 3)
    powers = SlotPowers(np.ones(3), np.zeros(3), 0.0)
    dark_s = sum(
        seconds
        for start in range(0, 3600, 900)
        for seconds, dark in course.run_slot(start, 900.0, powers).dark_steps
        if dark.all()
    )
    assert dark_s == 600.5


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"outages": [{"at": "2016-06-25 10:00", "minutes": 5}]}, "outages", "does not lie within the run"),
        ({"outages": [FAULT, {"at": "2016-05-25 10:50", "minutes": 5}]}, "outages", "only 180 s after"),
        ({"outages": [FAULT, {"at": "2016-05-25 10:20", "minutes": 5}]}, "outages", "before the end of"),
        ({"outages": [FAULT], "microgrid": {"forming": "home-1", "floor_soc": 0.01}}, "microgrid.floor_soc", "trips"),
        ({"outages": [FAULT | {"kind": "planned", "black": True}]}, "outages", "black"),
        ({"outages": [FAULT], "microgrid": {"forming": "home-9"}}, "microgrid.forming", "did you mean"),
        ({"outages": [FAULT], "microgrid": {"forming": "home-2"}}, "microgrid.forming", "0 batteries"),
        ({"outages": [FAULT], "microgrid": {"forming": "home-1", "priorities": {"x*": 1}}}, "x*", "no building"),
        ({"outages": [FAULT], "microgrid": {"forming": "home-1", "market": "reprice"}}, "microgrid", "island_price"),
        (
            {
                "outages": [FAULT],
                "microgrid": {"forming": "home-1"},
                "network": {"source": "cigre:lv", "phases": "three"},
            },
            "microgrid",
            "balanced",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(changes: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        prepare(load_scenario({"extends": "street5", "name": "bad", **changes}))
    told = str(caught.value)
    assert place in told and words in told


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stood(tmp_path: Path) -> None:
    scenario = street(FAULT, {"at": "2016-06-20 05:00", "minutes": 20}, time={"start": "2016-05-25", "days": 40,
                      "slot_minutes": 15, "zone": "Europe/Berlin"})  # fmt: skip
    whole = peerwatt.run(scenario, tmp_path / "whole", report=False)

    def stop(done: int, total: int) -> None:
        if done > 2700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(scenario, tmp_path / "parts", report=False, progress=stop)
    parts = peerwatt.run(scenario, tmp_path / "parts", report=False, resume=True)
    assert parts.summary == whole.summary
    assert_same_tables(parts, whole)
