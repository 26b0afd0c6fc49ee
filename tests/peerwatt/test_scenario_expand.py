"""Buildings of folders and networks, and what is placed by seed without reshuffling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import ScenarioError
from peerwatt.scenario import (
    NetworkElements,
    NetworkLoad,
    NetworkSgen,
    NetworkStorage,
    check_names,
    expand,
    expand_buildings,
    load_scenario,
)
from peerwatt.scenario.models import BatteryAsset, Building, HeatPumpAsset, LoadAsset, PvAsset, Series

COMMON: dict[str, Any] = {
    "name": "x",
    "time": {"start": "2016-06-01", "days": 1},
    "contracts": {
        "default": {"terms": [{"retail": {"flat_per_kwh": 0.3}}]},
        "tou": {"terms": [{"retail": {"flat_per_kwh": 0.2}}]},
    },
    "profiles": {"base": {"constant": 0.4, "unit": "kW"}, "sun": {"constant": 0.1, "unit": "kW"}},
}

NETWORK = NetworkElements(
    bus_ids=("0", "1", "2", "3", "4"),
    bus_names=("MV", "busbar", "pole", "pole", "4"),
    loads=(
        NetworkLoad("Load 1", "2", 4.000000000000001, 1.6, "H0-B"),
        NetworkLoad("Load 2", "1", 16.7, 6.6, "G4-A"),
        NetworkLoad("Load 3", "2", 3.0, 1.2, "H0-A"),
        NetworkLoad("Load 4", "2", 2.0, 0.8, "Air_Parallel_2"),
        NetworkLoad("Load 5", "3", 3.7, 1.5, "HLS_A_3.7"),
    ),
    sgens=(NetworkSgen("SGen 1", "2", 8.7, "PV5"), NetworkSgen("SGen 2", "4", 30.0, "PV5")),
    storages=(NetworkStorage("Storage 1", "1", 5.0, 5.0, 10.0), NetworkStorage("Storage 2", "4", 50.0, 50.0, 100.0)),
)


def buildings(elements: NetworkElements | None = None, **rest: Any) -> dict[str, Building]:
    made = expand_buildings(load_scenario({**COMMON, **rest}), elements)
    return {building.id: building for building in made}


def homes(n: int, **rest: Any) -> dict[str, Building]:
    listed = [{"id": f"h{i:03d}", "assets": [{"kind": "load", "profile": "base"}]} for i in range(n)]
    return buildings(buildings=listed, **rest)


# --- network --------------------------------------------------------------------------------------------------------


def test_one_building_per_load_with_what_stands_at_its_bus() -> None:
    source = {"network": {"source": "simbench:1-LV-semiurb4--2-sw"}, "buildings_from": {"kind": "network"}}
    loaded = load_scenario({**COMMON, **source})
    expanded = expand(loaded, NETWORK)
    made = {building.id: building for building in expanded.buildings}
    assert list(made) == ["h1", "h2", "h3", "h4", "h5", "pv-2", "bat-2"]
    load, pv = made["h1"].assets
    assert load == LoadAsset(
        profile="simbench:H0-B_pload", scale=4.0, reactive_profile="simbench:H0-B_qload", reactive_scale=1.6
    )
    assert pv == PvAsset(profile="simbench:PV5", peak_kw=8.7)
    assert [asset.kind for asset in made["h2"].assets] == ["load", "battery"]
    assert (made["h2"].household.tenure, made["h1"].household.tenure) == ("business", None)
    assert isinstance(made["h4"].assets[0], HeatPumpAsset)
    assert made["pv-2"].bus == made["bat-2"].bus == "4"
    assert expanded.profiles["simbench:H0-B_pload"] == Series(dataset="simbench_semiurb4_2016", column="H0-B_pload")


def test_other_simbench_networks_bring_their_own_profiles() -> None:
    loaded = load_scenario({**COMMON, "network": {"source": "simbench:1-LV-rural1--0-sw"}, "buildings_from": {}})
    series = expand(loaded, NETWORK).profiles["simbench:PV5"]
    assert series == Series(dataset="simbench:1-LV-rural1--0-sw", column="PV5")


def test_devices_join_the_building_at_their_bus_where_there_is_one() -> None:
    source = {"kind": "network", "devices": "join", "include_pv": False, "include_storage": False}
    made = buildings(NETWORK, network={"source": "simbench:a"}, buildings_from=source)
    assert list(made) == ["h1", "h2", "h3", "h5"]
    assert [asset.kind for asset in made["h1"].assets] == ["load", "heat_pump"]
    assert made["h1"].assets[1].reactive_scale == 0.8  # type: ignore[union-attr]


def test_a_network_without_profiles_needs_one() -> None:
    bare = NetworkElements(("0",), ("a",), (NetworkLoad("Load R1", "0", 8.0),))
    with pytest.raises(ScenarioError, match="'Load R1' at bus 0 has no profile"):
        buildings(bare, network={"source": "cigre:lv"}, buildings_from={"kind": "network"})
    made = buildings(bare, network={"source": "cigre:lv"}, buildings_from={"kind": "network", "profile": "base"})
    assert made["h1"].assets == (LoadAsset(profile="base", scale=8.0),)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (NetworkElements(("0",), ("a",)), "has no loads"),
        (NetworkElements(("0",), ("a",), (NetworkLoad("L", "0", -8.0, 0, "H0-A"),)), "draws -8 kW"),
        (
            NetworkElements(("0",), ("a",), (NetworkLoad("L", "0", 8.0, 0, "H0-A"),), (NetworkSgen("G", "0", 5.0),)),
            "generator 'G' at bus 0 has no profile",
        ),
    ],
)
def test_networks_that_make_no_buildings(elements: NetworkElements, message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        buildings(elements, network={"source": "simbench:a"}, buildings_from={"kind": "network"})
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("bus", "found"),
    [("busbar", "1"), (3, "3"), ("#4", "4"), ("4", "4"), ("pole", "not clear"), ("pol", "no bus 'pol'")],
)
def test_buses_by_name_and_index(bus: str | int, found: str) -> None:
    listed = [{"id": "a", "bus": bus}]
    if found.isdecimal():
        assert buildings(NETWORK, network={"source": "cigre:lv"}, buildings=listed)["a"].bus == found
        return
    with pytest.raises(ScenarioError, match=found) as caught:
        buildings(NETWORK, network={"source": "cigre:lv"}, buildings=listed)
    assert caught.value.path == "buildings[0].bus"
    assert "pole" in (caught.value.remedy or "") or "'#2', '#3'" in (caught.value.remedy or "")


# --- folder ---------------------------------------------------------------------------------------------------------

FOLDER = {
    "load": {"column": "kwh", "unit": "kWh", "sign": "load"},
    "pv": {"column": "sun", "unit": "kWh", "sign": "load"},
}


def folder_of(tmp_path: Path, files: dict[str, str]) -> str:
    folder = tmp_path / "homes"
    folder.mkdir()
    for name, header in files.items():
        (folder / name).write_text(f"{header}\n2016-06-01T00:00,1,2\n")
    return str(folder)


def test_one_building_per_file(tmp_path: Path) -> None:
    files = {"Ben 2.csv": "time;kwh", "anna.csv": "# a comment\ntime,kwh,sun", "notes.txt": "x"}
    folder = folder_of(tmp_path, files)
    like = {"contract": "tou", "assets": [{"kind": "battery", "capacity_kwh": 5, "charge_kw": 2, "discharge_kw": 2}]}
    source = {**FOLDER, "folder": folder, "time_zone": "Europe/Berlin", "fill": "linear", "like": like}
    expanded = expand(load_scenario({**COMMON, "buildings_from": source}))
    made = {building.id: building for building in expanded.buildings}
    assert set(made) == {"anna", "ben-2"}
    assert [asset.kind for asset in made["anna"].assets] == ["load", "pv", "battery"]
    assert [asset.kind for asset in made["ben-2"].assets] == ["load", "battery"]
    assert made["anna"].contract == "tou"
    series = expanded.profiles["folder:anna:load"]
    assert series == Series(
        file=f"{folder}/anna.csv", column="kwh", unit="kWh", sign="load", time_zone="Europe/Berlin", fill="linear"
    )


def test_parquet_files_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "homes"
    folder.mkdir()
    pq.write_table(pa.table({"time": [1], "kwh": [1.0]}), folder / "anna.parquet")
    made = buildings(buildings_from={**FOLDER, "folder": str(folder), "pattern": "*.parquet"})
    assert [asset.kind for asset in made["anna"].assets] == ["load"]


def test_homes_go_to_the_buses_with_loads_in_turn(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"{name}.csv": "time,kwh" for name in "abcd"})
    net = {"network": {"source": "cigre:lv"}}
    made = buildings(NETWORK, **net, buildings_from={**FOLDER, "folder": folder})
    assert [building.bus for building in made.values()] == ["2", "1", "3", "2"]
    made = buildings(NETWORK, **net, buildings_from={**FOLDER, "folder": folder, "buses": [4, "busbar"]})
    assert [building.bus for building in made.values()] == ["4", "1", "4", "1"]


def test_errors_name_each_file(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, {"a.csv": "time,kw", "b.csv": "time,kwh", "ä.csv": "time,kwh", "c.csv": "", "B.csv": "t,kwh"}
    )
    with pytest.raises(ScenarioError) as caught:
        buildings(buildings_from={**FOLDER, "folder": folder})
    found = {Path(str(e.file)).name: e for e in caught.value.problems}  # type: ignore[attr-defined]
    assert set(found) == {"a.csv", "ä.csv", "b.csv", "c.csv"}
    assert found["a.csv"].path == "kwh"
    assert "'kw'" in (found["a.csv"].remedy or "")
    assert "second time" in found["b.csv"].message


def test_a_missing_column_of_pv_is_remarked_and_a_misspelt_one_refused(tmp_path: Path) -> None:
    files = {"a.csv": "time,kwh,Einspeisung", "b.csv": "time,kwh", "c.csv": "time,kwh,hp"}
    folder = folder_of(tmp_path, files)
    source = {**FOLDER, "pv": {"column": "Einspeisung", "unit": "kWh", "sign": "load"}, "folder": folder}
    expanded = expand(load_scenario({**COMMON, "buildings_from": source}))
    assert [len(building.assets) for building in expanded.buildings] == [2, 1, 1]
    assert expanded.remarks == ("b.csv, c.csv have no column 'Einspeisung': taken as without PV",)
    (Path(folder) / "b.csv").write_text("time,kwh,Einspeisng\n2016-06-01T00:00,1,2\n")
    with pytest.raises(ScenarioError, match="has no column 'Einspeisung'") as caught:
        expand(load_scenario({**COMMON, "buildings_from": source}))
    assert (caught.value.file, caught.value.path) == (f"{folder}/b.csv", "Einspeisng")
    assert "did you mean 'Einspeisng'" in (caught.value.remedy or "")


def test_lines_above_the_tables_of_a_folder_are_skipped(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.csv": "Meter 4711\n\ntime,kwh,sun"})
    with pytest.raises(ScenarioError) as caught:
        buildings(buildings_from={**FOLDER, "folder": folder})
    assert "skip_rows: 2" in (caught.value.remedy or "")
    expanded = expand(load_scenario({**COMMON, "buildings_from": {**FOLDER, "folder": folder, "skip_rows": 2}}))
    assert [series.skip_rows for series in expanded.profiles.values() if isinstance(series, Series)] == [2, 2]


def test_all_wrong_buses_are_told() -> None:
    listed = [{"id": f"h{i}", "bus": f"pol{i}" if i % 2 else "busbar"} for i in range(10)]
    with pytest.raises(ScenarioError) as caught:
        buildings(NETWORK, network={"source": "cigre:lv"}, buildings=listed)
    found = caught.value.problems  # type: ignore[attr-defined]
    assert [error.path for error in found] == [f"buildings[{i}].bus" for i in (1, 3, 5, 7, 9)]


def test_memberships_outside_the_run_are_remarked() -> None:
    listed = [
        {"id": "early", "membership": {"leaves": "2016-06-01"}},
        {"id": "late", "membership": {"joins": "2016-06-02"}},
        {"id": "in", "membership": {"joins": "2016-06-01T12:00", "leaves": "2016-07-01"}},
    ]
    said = expand(load_scenario({**COMMON, "buildings": listed})).remarks
    assert said == (
        "Never in the market, joining only after the run's end: late.",
        "Never in the market, having left before its start: early.",
    )


def test_a_folder_without_files_says_what_is_there(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.tsv": "time,kwh"})
    with pytest.raises(ScenarioError, match=r"matches '\*\.csv'; it holds a\.tsv"):
        buildings(buildings_from={**FOLDER, "folder": folder})


def test_ids_from_two_places_must_differ(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.csv": "time,kwh"})
    with pytest.raises(ScenarioError, match="'a' comes from two places"):
        buildings(buildings=[{"id": "a"}], buildings_from={**FOLDER, "folder": folder})


# --- placing --------------------------------------------------------------------------------------------------------

BATTERY = {"kind": "battery", "capacity_kwh": 8, "charge_kw": 4, "discharge_kw": 4}


def with_battery(made: dict[str, Building]) -> set[str]:
    return {name for name, building in made.items() if any(a.kind == "battery" for a in building.assets)}


def test_shares_are_rounded_to_whole_buildings() -> None:
    assert len(with_battery(homes(10, place=[{"asset": BATTERY, "share": 0.25}]))) == 3
    assert len(with_battery(homes(10, place=[{"asset": BATTERY}]))) == 10
    assert not with_battery(homes(10, place=[{"asset": BATTERY, "share": 0.0}]))


def test_one_more_building_does_not_reshuffle_the_others() -> None:
    place = [{"asset": BATTERY, "share": 0.4, "size_spread": 0.3}]
    fewer, more = homes(50, place=place), homes(51, place=place)
    moved = with_battery(fewer) ^ (with_battery(more) - {"h050"})
    assert len(moved) <= 1
    for name in with_battery(fewer) & with_battery(more):
        assert fewer[name] == more[name]


def test_seeds_and_placements_draw_differently() -> None:
    place = [{"asset": BATTERY, "share": 0.5}]
    first = with_battery(homes(40, place=place, seed=1))
    assert first == with_battery(homes(40, place=place, seed=1))
    assert first != with_battery(homes(40, place=place, seed=2))
    second = with_battery(homes(40, place=[{"contract": "tou", "share": 0.5}, *place], seed=1))
    assert first != second


def test_conditions_see_earlier_placements() -> None:
    pv = {"asset": {"kind": "pv", "profile": "sun", "peak_kw": 5}, "share": 0.3}
    made = homes(
        20,
        place=[
            pv,
            {"asset": BATTERY, "among": "with_pv", "share": 0.5},
            {"asset": {**BATTERY, "capacity_kwh": 1}, "among": ["with_pv", "without_battery"]},
            {"contract": "tou", "among": "without_pv"},
        ],
    )
    assert len(with_battery(made)) == 6
    sizes = sorted(a.capacity_kwh for b in made.values() for a in b.assets if isinstance(a, BatteryAsset))
    assert sizes == [1, 1, 1, 8, 8, 8]
    assert sum(building.contract == "tou" for building in made.values()) == 14


def test_sizes_spread_evenly_and_together() -> None:
    made = homes(200, place=[{"asset": BATTERY, "size_spread": 0.5}])
    batteries = [a for b in made.values() for a in b.assets if isinstance(a, BatteryAsset)]
    sizes = [battery.capacity_kwh for battery in batteries]
    assert 4 <= min(sizes) < 4.5
    assert 11.5 < max(sizes) <= 12
    assert abs(sum(sizes) / len(sizes) - 8) < 0.5
    assert all(abs(b.charge_kw * 2 - b.capacity_kwh) < 0.01 and b.charge_kw == b.discharge_kw for b in batteries)


def test_lone_batteries_are_no_homes_but_can_be_named() -> None:
    listed = [{"id": "community", "assets": [BATTERY]}, {"id": "a1", "assets": [{"kind": "load", "profile": "base"}]}]
    made = buildings(buildings=listed, place=[{"contract": "tou"}])
    assert {name: b.contract for name, b in made.items()} == {"community": "default", "a1": "tou"}
    made = buildings(
        buildings=listed, place=[{"contract": "tou", "ids": ["c*"]}, {"remove": ["battery"], "ids": ["c*"]}]
    )
    assert made["community"].contract == "tou"
    assert made["community"].assets == ()


def test_a_pattern_that_matches_nobody_is_refused() -> None:
    with pytest.raises(ScenarioError, match="'g1' matches no building") as caught:
        homes(2, place=[{"contract": "tou", "ids": ["h000", "g1"]}])
    assert caught.value.path == "place[0].ids[1]"


def test_strategies_by_place_then_id_then_default() -> None:
    strategies = {"default": {"kind": "truthful"}, "by_building": {"h000": {"kind": "a"}, "h001": {"kind": "b"}}}
    made = homes(3, strategies=strategies, place=[{"strategy": {"kind": "c"}, "ids": ["h001"]}])
    assert [building.strategy.kind for building in made.values() if building.strategy] == ["a", "c", "truthful"]


def test_households_are_drawn_by_shares_and_stay_with_their_building() -> None:
    mix = {"tenant": 0.4, "social": 0.1, "income_low": 0.2, "income_high": 0.3, "vulnerable": 0.1, "roof": 0.5}
    fewer, more = homes(300, household_mix=mix), homes(301, household_mix=mix)
    assert all(more[name] == building for name, building in fewer.items())
    drawn = [building.household for building in fewer.values()]
    assert abs(sum(h.tenure == "tenant" for h in drawn) / 300 - 0.4) < 0.1
    assert abs(sum(h.tenure == "social" for h in drawn) / 300 - 0.1) < 0.06
    assert abs(sum(h.income_band == "high" for h in drawn) / 300 - 0.3) < 0.1
    stated = buildings(
        buildings=[{"id": "a", "household": {"tenure": "owner"}, "assets": [{"kind": "load", "profile": "base"}]}],
        household_mix=mix,
    )
    assert stated["a"].household.income_band is None


def test_pv_means_a_roof() -> None:
    pv = {"asset": {"kind": "pv", "profile": "sun"}}
    made = homes(20, place=[pv], household_mix={"roof": 0.0})
    assert all(building.household.roof for building in made.values())


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_of_other_parts_are_checked_where_they_stand() -> None:
    loaded = load_scenario(
        {
            **COMMON,
            "buildings": [
                {"id": "a", "strategy": {"kind": "truthfull"}, "assets": [{**BATTERY, "controller": "gredy"}]}
            ],
            "market": {"stages": [{"rule": "uniform_pric"}]},
            "carbon": {"grid": {"dataset": "carbon_monthly_europe", "column": "DE_lca"}},
        }
    )
    check_names(loaded)
    with pytest.raises(ScenarioError) as caught:
        check_names(
            loaded,
            rules=["uniform_price"],
            strategies=["truthful"],
            controllers=["greedy", "greedy_self_consumption", "greedy_community", "charge_on_arrival", "thermostat"],
            datasets=["carbon_monthly_europa"],
        )
    found = {e.path: e.remedy for e in caught.value.problems}  # type: ignore[attr-defined]
    assert set(found) == {
        "market.stages[0].rule",
        "buildings[0].strategy.kind",
        "buildings[0].assets[0].controller",
        "carbon.grid.dataset",
    }
    assert all("did you mean" in str(remedy) for remedy in found.values())
