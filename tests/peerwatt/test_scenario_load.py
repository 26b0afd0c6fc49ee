"""Bad scenarios are refused with file, line, path and remedy; YAML's traps are closed; all problems come together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from core import ScenarioError
from peerwatt.scenario import ScenarioProblems, load_scenario

GOOD = """\
format: 1
name: street
time: {start: 2016-06-01, days: 1, zone: Europe/Berlin}
profiles:
  base: {constant: 0.4, unit: kW}
contracts:
  default:
    terms:
      - retail: {flat_per_kwh: 0.30}
        feed_in: {flat_per_kwh: 0.08}
buildings:
  - id: anna
    assets:
      - {kind: load, profile: base, scale: 2}
      - {kind: battery, capacity_kwh: 5, charge_kw: 3, discharge_kw: 3}
  - id: ben
    metering_minutes: 60
    assets:
      - {kind: load, profile: base}
"""

# ruff: noqa: E501 - one case per line

# what is wrong: text to replace, its replacement, line, path, words of the message, words of the remedy
# fmt: off
BAD: dict[str, tuple[str, str, int, str, str, str]] = {
    "unknown key": ("days: 1", "day: 1", 3, "time.day", "unknown key", "did you mean 'days'"),
    "unknown key at the top": ("name: street", "name: street\nmarkt: {}", 3, "markt", "unknown key", "'market'"),
    "wrong unit in a name": ("capacity_kwh: 5", "capacity_wh: 5000", 15, "capacity_wh", "unit", "capacity_kwh: 5"),
    "unit left out": ("capacity_kwh: 5", "capacity: 5", 15, "capacity", "unit", "capacity_kwh"),
    "unit of time": ("days: 1", "days: 1, slot_hours: 1", 3, "time.slot_hours", "unit", "slot_minutes: 60"),
    "unit in the value": ("charge_kw: 3", "charge_kw: 3kW", 15, "charge_kw", "number", "the unit is in the name"),
    "decimal comma": ("scale: 2", "scale: '2,5'", 14, "scale", "number", "2.5"),
    "number as text": ("days: 1", "days: '1'", 3, "time.days", "whole number", "without quotes"),
    "NaN": ("scale: 2", "scale: .nan", 14, "scale", "no finite number", "leave the key out"),
    "infinity": ("capacity_kwh: 5", "capacity_kwh: .inf", 15, "capacity_kwh", "no finite number", "number"),
    "overflow": ("capacity_kwh: 5", "capacity_kwh: 1e999", 15, "capacity_kwh", "no finite number", "number"),
    "negative load": ("scale: 2", "scale: -2", 14, "assets[0].scale", "at least 0", "asset of kind pv"),
    "share in percent": ("capacity_kwh: 5", "capacity_kwh: 5, initial_soc: 50", 15, "initial_soc", "at most 1", "0.5"),
    "key twice": ("name: street", "name: street\nname: road", 3, "name", "given twice, first in line 2", "remove"),
    "missing key": (", charge_kw: 3", "", 15, "charge_kw", "missing", "add `charge_kw`"),
    "missing time": ("time: {start: 2016-06-01, days: 1, zone: Europe/Berlin}\n", "", 1, "time", "missing", "add"),
    "no kind": ("kind: load, profile: base, scale: 2", "profile: base", 14, "assets[0]", "'kind' is missing", "load"),
    "kind that does not exist": ("kind: battery", "kind: batery", 15, "assets[1]", "does not exist", "'battery'"),
    "id in capitals": ("id: anna", "id: Anna", 12, "buildings[0].id", "no valid id", "lower-case"),
    "currency": ("name: street", "name: street\ncurrency: €", 3, "currency", "no currency code", "EUR"),
    "no such choice": ("name: street", "name: street\npower_flow: pandpower", 3, "power_flow", "none of", "pandapower"),
    "no such day": ("2016-06-01", "2016-06-31", 3, "time.start", "no moment", "write e.g."),
    "date in another form": ("2016-06-01", "01.06.2016", 3, "time.start", "no moment", "2016-01-31"),
    "decimal comma in a mapping": ("flat_per_kwh: 0.08", "flat_per_kwh: 0,08", 10, "feed_in", "decimal comma", "0.08 for 0,08"),
    "data set": ("{constant: 0.4, unit: kW}", "{dataset: fontana_hmes, column: x}", 5, "profiles.base.dataset", "no shipped data set", "fontana_homes"),
    "column of a data set": (
        "{constant: 0.4, unit: kW}",
        "{dataset: fontana_homes, column: load_kwh_h1}",
        5,
        "profiles.base.column",
        "fontana_homes has no column 'load_kwh_h1'",
        "did you mean 'load_kwh_h",
    ),
    "weather": (
        "{constant: 0.4, unit: kW}",
        "{weather: weather_aachen_2020, latitude: 50, longitude: 6}",
        5,
        "profiles.base.weather",
        "no shipped data set",
        "weather_aachen_2021",
    ),
    "two lengths": ("days: 1", "days: 1, end: 2016-06-02", 3, "time", "exactly one of end, days", "keep one"),
    "odd slot": ("days: 1", "days: 1, slot_minutes: 7", 3, "time", "divide 60", "15"),
    "list for a mapping": ("{constant: 0.4, unit: kW}", "[0.4]", 5, "profiles.base", "mapping, not a list", "key: value"),
    "no source": ("{constant: 0.4, unit: kW}", "{unit: kW}", 5, "profiles.base", "exactly one of dataset", "add one"),
    "no unit": ("constant: 0.4, unit: kW", "constant: 0.4", 5, "profiles.base", "unit", "unit: kWh"),
    "unknown unit": ("unit: kW", "unit: kilowatt", 5, "profiles.base.unit", "kilowatt", "kW"),
    "unit in lower case": ("unit: kW", "unit: kwh", 5, "profiles.base.unit", "kwh", "did you mean kWh"),
    "time zone": ("Europe/Berlin", "Europe/Berlim", 3, "time.zone", "no time zone", "Europe/Berlin"),
    "missing profile": ("profile: base, scale", "profile: bas, scale", 14, "profile", "no profile 'bas'", "'base'"),
    "missing contract": ("id: ben", "id: ben\n    contract: tou", 17, "contract", "no contract 'tou'", "default"),
    "same id": ("id: ben", "id: anna", 16, "buildings[1].id", "taken by buildings[0]", "own id"),
    "id of an account": ("id: ben", "id: retailer", 16, "buildings[1].id", "account", "another id"),
    "metering": ("metering_minutes: 60", "metering_minutes: 20", 17, "metering_minutes", "no multiple", "15 or 30"),
    "metering past the end": ("metering_minutes: 60", "metering_minutes: 2160", 17, "metering", "whole number", "run"),
    "spread without profile": ("metering_minutes: 60", "metering_spread: profile", 17, "metering_spread", "needs", "name"),
    "start off the slots": ("2016-06-01", "2016-06-01T00:05", 3, "time.start", "boundary", "full slot"),
    "end before start": ("days: 1", "end: 2016-05-31", 3, "time.end", "not after the start", "later end"),
    "part of a slot": ("days: 1", "end: 2016-06-01T01:10", 3, "time.end", "10 minutes are left over", "01:00"),
    "skipped hour": ("2016-06-01", "2016-03-27T02:30", 3, "time.start", "does not exist", "03:30+02:00"),
    "repeated hour": ("2016-06-01", "2016-10-30T02:30", 3, "time.start", "exists twice", "02:30+01:00"),
    "r below f": ("flat_per_kwh: 0.30", "flat_per_kwh: 0.05", 9, "terms[0]", "retail 0.05 EUR/kWh is below feed-in 0.08", "raise"),
    "cents": ("flat_per_kwh: 0.30", "flat_per_kwh: 32", 9, "retail.flat_per_kwh", "looks like a price in cents", "0.32"),
    "a band below feed-in": (
        "{flat_per_kwh: 0.30}",
        "{default_per_kwh: 0.3, bands: [{start: '22:00', end: '06:00', days: [fri], price_per_kwh: 0.02}]}",
        9,
        "terms[0]",
        "retail 0.02 EUR/kWh is below feed-in 0.08 EUR/kWh (month 1, fri, 22:00)",
        "lower feed-in",
    ),
    "bands without default": (
        "{flat_per_kwh: 0.30}",
        "{bands: [{start: '22:00', price_per_kwh: 0.2}]}",
        9,
        "retail",
        "default_per_kwh",
        "add default_per_kwh",
    ),
    "bad clock": (
        "{flat_per_kwh: 0.30}",
        "{default_per_kwh: 0.3, bands: [{start: 25:00, price_per_kwh: 0.2}]}",
        9,
        "bands[0].start",
        "'25:00' is no time of day",
        "hh:mm",
    ),
    "later terms without a date": (
        "feed_in: {flat_per_kwh: 0.08}",
        "feed_in: {flat_per_kwh: 0.08}\n      - retail: {flat_per_kwh: 0.31}",
        11,
        "terms[1]",
        "need valid_from",
        "add the date",
    ),
    "file that is not there": (
        "{constant: 0.4, unit: kW}",
        "{file: meter.csv, column: a, unit: kWh, sign: load}",
        5,
        "profiles.base.file",
        "no file",
        "check the path",
    ),
    "network without bus": ("name: street", "name: street\nnetwork: {source: 'cigre:lv'}", 13, "buildings[0]", "no bus", "bus"),
    "network that does not exist": ("name: street", "name: street\nnetwork: {source: cigri:lv}", 3, "source", "cigri", "cigre"),
    "limits": ("name: street", "name: street\nnetwork: {v_min_pu: 1.1, v_max_pu: 0.9}", 3, "v_min_pu", "not below", "0.9"),
    "charge": ("capacity_kwh: 5", "capacity_kwh: 5, min_soc: 0.6", 15, "initial_soc", "not between 0.6 and 1", "change"),
    "imbalance price": ("name: street", "name: street\nsettlement: {residuals: imbalance_dual}", 3, "residuals", "needs", "add"),
    "strategy for nobody": (
        "name: street",
        "name: street\nstrategies: {by_building: {bem: {kind: zi_c}}}",
        3,
        "strategies.by_building.bem",
        "no building 'bem'",
        "'ben'",
    ),
    "a stay that does not fit": (
        "- {kind: load, profile: base}",
        "- {kind: ev, charge_kw: 2, sessions: [{arrival: 2016-06-01T18:00, departure: 2016-06-01T20:00, energy_kwh: 5}]}",
        19,
        "sessions[0].energy_kwh",
        "do not fit into 2 h at 2 kW",
        "lower energy_kwh",
    ),
    "leaves before it joins": (
        "id: ben",
        "id: ben\n    membership: {joins: 2016-06-03, leaves: 2016-06-02}",
        17,
        "membership.leaves",
        "not after joins",
        "later",
    ),
    "places nothing": ("name: street", "name: street\nplace: [{share: 0.5}]", 3, "place[0]", "at least one of asset", "add one"),
}
# fmt: on


def write(folder: Path, text: str, name: str = "street.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def problems_of(source: Any, **overrides: Any) -> tuple[ScenarioError, ...]:
    with pytest.raises(ScenarioProblems) as caught:
        load_scenario(source, **overrides)
    return caught.value.problems


def test_the_good_one_loads(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path, GOOD))
    assert [building.id for building in loaded.scenario.buildings] == ["anna", "ben"]
    assert loaded.base_dir == tmp_path
    assert loaded.lines["buildings", 1, "metering_minutes"].line == 17


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_file_line_path_and_remedy(case: str, tmp_path: Path) -> None:
    old, new, line, path, message, remedy = BAD[case]
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new, 1))
    error = problems_of(file)[0]
    assert error.file == str(file)
    assert path in (error.path or "")
    assert error.line == line, str(error)
    assert message in error.message
    assert remedy in (error.remedy or ""), str(error)


@pytest.mark.parametrize("case", BAD)
def test_one_mistake_is_one_problem(case: str, tmp_path: Path) -> None:
    old, new = BAD[case][:2]
    found = problems_of(write(tmp_path, GOOD.replace(old, new, 1)))
    paths = {error.path for error in found}
    buildings_too = case == "network without bus"  # both buildings lack one
    assert len(paths) == 1 + buildings_too, [str(error) for error in found]


def test_all_problems_of_a_file_come_together_in_order(tmp_path: Path) -> None:
    text = GOOD.replace("days: 1", "dais: 1").replace("scale: 2", "scale: .nan").replace("id: ben", "id: Ben")
    file = write(tmp_path, text.replace("name: street", "name: street\nname: again"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    lines = [error.line for error in caught.value.problems]  # type: ignore[attr-defined]
    assert lines == sorted(lines)
    assert set(lines) == {3, 4, 15, 17}
    assert caught.value.place() == f"{file}:3: name"
    assert str(caught.value).count("what to do:") == len(lines)


def test_what_else_is_wrong_is_told_with_unknown_keys(tmp_path: Path) -> None:
    text = GOOD.replace("id: ben", "id: ben\n    contrat: default\n    colour: red").replace(
        "profile: base}", "profile: bas}"
    )
    found = problems_of(write(tmp_path, text.replace("capacity_kwh: 5", "capacity_wh: 5000")))
    assert [(e.line, e.path) for e in found] == [
        (15, "buildings[0].assets[1].capacity_wh"),
        (17, "buildings[1].contrat"),
        (18, "buildings[1].colour"),
        (21, "buildings[1].assets[0].profile"),
    ]


def test_a_column_below_lines_of_a_portal_is_found(tmp_path: Path) -> None:
    (tmp_path / "meter.csv").write_text("Export\nMeter;4711\n\ntime;use\n2016-06-01T00:00;1\n")
    series = "{file: meter.csv, column: use, unit: kWh, sign: load, time_zone: UTC}"
    (error,) = problems_of(write(tmp_path, GOOD.replace("{constant: 0.4, unit: kW}", series)))
    assert (error.path, error.line) == ("profiles.base.column", 5)
    assert error.message == "meter.csv has no column 'use'"
    assert "line 4 names it" in (error.remedy or "") and "skip_rows: 3" in (error.remedy or "")
    series = series.replace("unit", "skip_rows: 3, unit")
    assert load_scenario(write(tmp_path, GOOD.replace("{constant: 0.4, unit: kW}", series)))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: a\n\ttime: 1\n", 2, "tab"),
        ("name: [a, b\ntime: 1\n", 2, "not valid YAML"),
        ("name: a\n time: 1\n", 2, "not valid YAML"),
        ("name: 'a\n", 2, "not valid YAML"),
        ("name: a\n---\nname: b\n", 2, "more than one document"),
        ("name: *nowhere\n", 1, "undefined alias"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("", 1, "is empty"),
        ("name: &a [*a]\n", 1, "inside its own anchor"),
    ],
)
def test_syntax_errors_have_a_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(file)
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert caught.value.remedy


@pytest.mark.slow
def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ScenarioError, match="too many values"):
        load_scenario(write(tmp_path, "\n".join(["a0: &a0 [x]", *levels])))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ScenarioError, match="UTF-8"):
        load_scenario(file)


def test_words_of_old_yaml_stay_words(tmp_path: Path) -> None:
    text = GOOD.replace("name: street", "name: 'no'\ntitle: on").replace("base", "off").replace("anna", "no")
    text = text.replace("id: ben", "id: '007'\n    bus: 010")
    scenario = load_scenario(write(tmp_path, text)).scenario
    assert (scenario.name, scenario.title) == ("no", "on")
    assert list(scenario.profiles) == ["off"]
    assert scenario.buildings[1].id == "007"
    assert scenario.buildings[1].bus == "010"


def test_clock_times_need_no_quotes(tmp_path: Path) -> None:
    bands = "{default_per_kwh: 0.3, bands: [{start: 22:30, end: 06:00, price_per_kwh: 0.2}]}"
    scenario = load_scenario(write(tmp_path, GOOD.replace("{flat_per_kwh: 0.30}", bands))).scenario
    band = scenario.contracts["default"].terms[0].retail.bands[0]
    assert (band.start, band.end) == ("22:30", "06:00")


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = GOOD.replace("- {kind: load, profile: base, scale: 2}", "- &it {kind: load, profile: base, scale: 2}")
    text = text.replace("- {kind: load, profile: base}", "- {<<: *it, scale: 3}")
    scenario = load_scenario(write(tmp_path, text)).scenario
    assert scenario.buildings[1].assets[0].scale == 3  # type: ignore[union-attr]
    assert scenario.buildings[0].assets[0].scale == 2  # type: ignore[union-attr]


def test_a_missing_file_and_an_unknown_name_say_what_is_near(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(ScenarioError, match="no such scenario file") as caught:
        load_scenario(tmp_path / "stret.yaml")
    assert "street.yaml" in (caught.value.remedy or "")
    with pytest.raises(ScenarioError, match="no shipped scenario") as caught:
        load_scenario("semiurbn")
    assert "'semiurban'" in (caught.value.remedy or "")


def test_a_mapping_is_checked_as_strictly() -> None:
    base = {"name": "a", "time": {"start": "2016-01-01", "days": 1}, "buildings": [{"id": "b"}]}
    error = problems_of({**base, "seed": math.nan})[0]
    assert (error.path, error.file, error.line) == ("seed", None, None)
    assert problems_of({**base, "seed": object()})[0].path == "seed"
    assert "no contract 'default'" in problems_of(base)[0].message


def test_overrides_by_path_and_id(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    changes = {
        "buildings[ben].plant": "emulated",
        "buildings[0].assets[0].scale": 7,
        "time.days": None,
        "time": {"end": "2016-06-03"},
        "market.stages[0].rule": "no_market",  # the file has no stages
        "strategies.by_building.ben.kind": "zi_c",
    }
    scenario = load_scenario(file, changes).scenario
    assert scenario.buildings[1].plant == "emulated"
    assert scenario.buildings[0].assets[0].scale == 7  # type: ignore[union-attr]
    assert (scenario.time.days, str(scenario.time.end)) == (None, "2016-06-03")
    assert scenario.market.stages[0].rule == "no_market"


def test_a_bad_override_is_named_without_a_line(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    error = problems_of(file, overrides={"time.days": -1})[0]
    assert (error.path, error.line) == ("time.days", None)
    with pytest.raises(ScenarioError, match="names no entry") as caught:
        load_scenario(file, {"buildings[bem].plant": "emulated"})
    assert "'ben'" in (caught.value.remedy or "")


def test_another_rule_does_not_take_over_parameters(tmp_path: Path) -> None:
    stages = "name: street\nmarket: {stages: [{rule: uniform_price, parameters: {k: 0.3}}]}"
    text = GOOD.replace("name: street", stages + "\nstrategies: {default: {kind: zi_c, parameters: {low: 1}}}")
    file = write(tmp_path, text)

    def stage(**changes: Any) -> tuple[str, dict[str, Any]]:
        found = load_scenario(file, changes).scenario.market.stages[0]
        return found.rule, found.parameters

    rule, k, all_of_it = "market.stages[0].rule", "market.stages[0].parameters.k", "market.stages[0].parameters"
    assert stage(**{rule: "no_market"}) == ("no_market", {})
    assert stage(**{rule: "uniform_price"}) == ("uniform_price", {"k": 0.3})
    assert stage(**{k: 0.5, rule: "pair_price"}) == ("pair_price", {"k": 0.5})
    assert stage(**{all_of_it: {"tie_break": "time"}, rule: "pair_price"}) == ("pair_price", {"tie_break": "time"})
    strategy = load_scenario(file, {"strategies.default.kind": "truthful"}).scenario.strategies.default
    assert (strategy.kind, strategy.parameters) == ("truthful", {})
