"""A scenario changes another: merging, places of errors, paths of data, circles, and older formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import ScenarioError
from peerwatt.scenario import load_scenario
from peerwatt.scenario.migrate import MIGRATIONS
from peerwatt.scenario.models import FORMAT, FolderBuildings, Series, WeatherPv

BASE = """\
format: 1
name: base
title: the one below
time: {start: 2016-06-01, days: 1}
seed: 3
profiles:
  base: {file: data/meter.csv, column: kwh, unit: kWh, sign: load, time_zone: UTC}
  sun: {weather: data/sky.csv, latitude: 50, longitude: 6}
  shipped: {weather: weather_aachen_2021, latitude: 50, longitude: 6}
contracts:
  default: {terms: [{retail: {flat_per_kwh: 0.30}}]}
buildings:
  - {id: anna, assets: [{kind: load, profile: base}]}
  - {id: ben, assets: [{kind: load, profile: base, scale: 2}, {kind: ev, sessions_file: data/car.csv}]}
"""


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """The folder ``below`` with base.yaml and its data."""
    folder = tmp_path / "below"
    (folder / "data").mkdir(parents=True)
    for name in ("meter.csv", "sky.csv", "car.csv"):
        (folder / "data" / name).write_text("time,kwh\n2016-06-01,1\n")
    (folder / "base.yaml").write_text(BASE)
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_three_lines_change_a_study(below: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "mine.yaml", "extends: below/base.yaml\nname: mine\nseed: 4\n")
    mine, base = load_scenario(file).scenario, load_scenario(below / "base.yaml").scenario
    assert mine == base.model_copy(update={"name": "mine", "seed": 4})


def test_mappings_merge_lists_are_replaced_null_goes_back(below: Path, tmp_path: Path) -> None:
    text = """\
extends: below/base.yaml
title: null
time: {slot_minutes: 30}
profiles:
  base: {file: null, column: null, sign: null, time_zone: null, constant: 1}
  sun: null
contracts:
  other: {terms: [{retail: {flat_per_kwh: 0.2}}]}
buildings:
  - {id: carla, contract: other}
"""
    scenario = load_scenario(write(tmp_path, "mine.yaml", text)).scenario
    assert scenario.title == ""
    assert (scenario.time.days, scenario.time.slot_minutes) == (1, 30)
    assert scenario.profiles["base"] == Series(constant=1, unit="kWh")
    assert list(scenario.profiles) == ["base", "shipped"]
    assert list(scenario.contracts) == ["default", "other"]
    assert [building.id for building in scenario.buildings] == ["carla"]


def test_data_paths_stay_relative_to_the_file_in_which_they_stand(below: Path, tmp_path: Path) -> None:
    (tmp_path / "homes").mkdir()
    (tmp_path / "net.json").write_text("{}")
    text = """\
extends: below/base.yaml
network: {source: "pandapower:net.json"}
buildings: []
buildings_from: {folder: homes, load: {column: a, unit: kWh, sign: load}}
"""
    scenario = load_scenario(write(tmp_path, "mine.yaml", text)).scenario
    base = scenario.profiles["base"]
    sun, shipped = scenario.profiles["sun"], scenario.profiles["shipped"]
    assert isinstance(base, Series)
    assert base.file == str(below / "data" / "meter.csv")
    assert isinstance(sun, WeatherPv)
    assert sun.weather == str(below / "data" / "sky.csv")
    assert isinstance(shipped, WeatherPv)
    assert shipped.weather == "weather_aachen_2021"
    assert isinstance(scenario.buildings_from, FolderBuildings)
    assert scenario.buildings_from.folder == str(tmp_path / "homes")
    assert scenario.network.source == f"pandapower:{tmp_path / 'net.json'}"
    car = load_scenario(below / "base.yaml").scenario.buildings[1].assets[1]
    assert car.sessions_file == str(below / "data" / "car.csv")  # type: ignore[union-attr]


def test_an_error_in_an_inherited_part_names_the_file_where_it_stands(below: Path, tmp_path: Path) -> None:
    text = BASE.replace("scale: 2", "scale: -2").replace("days: 1", "day: 1").replace("seed: 3", "name: twice")
    write(below, "base.yaml", text)
    file = write(tmp_path, "mine.yaml", "extends: below/base.yaml\nname: mine\nseed: -1\ntime: {days: 1}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    found = {(error.file, error.line, error.path) for error in caught.value.problems}  # type: ignore[attr-defined]
    base = str(below / "base.yaml")
    assert (base, 14, "buildings[1].assets[0].scale") in found
    assert (base, 4, "time.day") in found
    assert (base, 5, "name") in found
    assert (str(file), 3, "seed") in found


def test_a_cross_check_blames_the_line_that_wins(below: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "mine.yaml", "extends: below/base.yaml\nname: mine\ncontracts:\n  default: null\n")
    with pytest.raises(ScenarioError, match="no contract 'default'") as caught:
        load_scenario(file)
    assert (caught.value.file, caught.value.line) == (str(below / "base.yaml"), 13)


def test_a_chain_and_a_shipped_name(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: street5\nname: a\nseed: 8\n")
    file = write(tmp_path, "b.yaml", "extends: a.yaml\nname: b\ntime: {days: 2}\n")
    scenario = load_scenario(file).scenario
    street = load_scenario("street5").scenario
    assert (scenario.name, scenario.seed, scenario.time.days) == ("b", 8, 2)
    assert scenario.buildings == street.buildings
    assert scenario.extends is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: a.yaml"}, "circle"),
        ({"a": "extends: b.yaml", "b": "extends: c.yaml", "c": "extends: b.yaml"}, "circle"),
        ({"a": "extends: z.yaml"}, "no such scenario file"),
        ({"a": "extends: semiurbn"}, "no shipped scenario"),
        ({"a": "extends: [x]"}, "must be the name or path"),
    ],
)
def test_chains_that_lead_nowhere(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        write(tmp_path, f"{name}.yaml", f"name: {name}\n{text}\n")
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(tmp_path / "a.yaml")
    assert caught.value.line == 2
    assert caught.value.path == "extends"
    assert caught.value.remedy


def test_format_0_is_migrated_with_its_lines(below: Path) -> None:
    text = BASE.replace("format: 1", "format: 0\nslot_length_minutes: 30\ntime_zone: Europe/Berlin")
    scenario = load_scenario(write(below, "old.yaml", text)).scenario
    assert (scenario.format, scenario.time.slot_minutes, scenario.time.zone) == (1, 30, "Europe/Berlin")
    file = write(below, "old.yaml", text.replace("minutes: 30", "minutes: 7.5"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert (caught.value.line, caught.value.path) == (2, "time.slot_minutes")


def test_a_key_of_format_0_beside_its_successor_is_refused(below: Path) -> None:
    text = BASE.replace("format: 1", "format: 0\nslot_length_minutes: 30").replace(
        "days: 1", "days: 1, slot_minutes: 15"
    )
    with pytest.raises(ScenarioError, match="which is given too"):
        load_scenario(write(below, "old.yaml", text))


def test_files_of_a_chain_have_their_own_formats(below: Path, tmp_path: Path) -> None:
    write(below, "base.yaml", BASE.replace("format: 1", "format: 0\nslot_length_minutes: 30"))
    file = write(tmp_path, "mine.yaml", "format: 1\nextends: below/base.yaml\nname: mine\n")
    assert load_scenario(file).scenario.time.slot_minutes == 30


@pytest.mark.parametrize(("stated", "message"), [(FORMAT + 1, "newer"), (-1, "unknown"), ("one", "none of")])
def test_other_formats_are_refused(stated: object, message: str, below: Path) -> None:
    file = write(below, "other.yaml", BASE.replace("format: 1", f"format: {stated}"))
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(file)
    assert (caught.value.line, caught.value.path) == (1, "format")
    assert caught.value.remedy


def test_every_older_format_has_a_step() -> None:
    assert sorted(MIGRATIONS) == list(range(FORMAT))


def test_a_length_that_is_inherited_is_named_with_its_place(below: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "mine.yaml", "extends: below/base.yaml\nname: mine\ntime: {end: 2016-06-03}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    message = str(caught.value)
    assert f"'days' ({below / 'base.yaml'}:4)" in message and f"'end' ({file}:3)" in message
    assert "add `days: null` beside `end`" in message
    file.write_text("extends: below/base.yaml\nname: mine\ntime: {end: 2016-06-03, days: null}\n")
    assert load_scenario(file).scenario.time.days is None
    with pytest.raises(ScenarioError, match=r"'end' \(an override\)"):
        load_scenario(below / "base.yaml", {"time.end": "2016-06-03"})
