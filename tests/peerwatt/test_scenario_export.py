"""Scenarios written out: schema, resolved YAML, digest, template, documentation; all of it can be read again."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core import ScenarioError
from core.hashing import file_sha256
from peerwatt.prepare.prepare import prepare
from peerwatt.scenario import (
    data_files,
    expand,
    init_text,
    json_schema,
    load_scenario,
    resolved_yaml,
    scenario_digest,
    shipped_scenarios,
    slot_grid,
    write_template,
)
from peerwatt.scenario.reference import models_in_order, with_reference
from peerwatt.scenario.source import parse_document
from tests.effort import effort

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "scenario.md"

# --- any valid scenario ---------------------------------------------------------------------------------------------

ids = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
names = st.text(max_size=12).map("n".__add__)
price = st.floats(0.1, 4.9)
share = st.floats(0, 1)
positive = st.floats(1e-3, 1e4)
days = st.lists(st.sampled_from(["mon", "tue", "sat"]), min_size=1, max_size=3)
clock = st.sampled_from(["00:00", "06:30", "22:00"])
band = st.fixed_dictionaries({"start": clock, "end": st.just("23:15"), "days": days, "price_per_kwh": price})
tariff = st.one_of(
    st.fixed_dictionaries({"flat_per_kwh": price}),
    st.fixed_dictionaries({"default_per_kwh": price, "bands": st.lists(band, max_size=2)}),
    st.just({"series": {"dataset": "day_ahead_nl", "column": "price_eur_per_mwh"}, "markup_per_kwh": 0.1}),
)
terms = st.fixed_dictionaries(
    {"retail": tariff},
    optional={
        "network": st.fixed_dictionaries({"full_per_kwh": price}),
        "levies_per_kwh": st.dictionaries(names, price),
    },
)
load = st.fixed_dictionaries({"kind": st.just("load"), "profile": st.just("p"), "scale": st.floats(0, 1e6)})
battery = st.fixed_dictionaries(
    {"kind": st.just("battery"), "capacity_kwh": positive, "charge_kw": positive, "discharge_kw": positive},
    optional={"initial_soc": share, "efficiency_charge": st.floats(0.01, 1), "controller": names},
)
car = st.fixed_dictionaries(
    {"kind": st.just("ev"), "drawn": st.fixed_dictionaries({}, optional={"energy_kwh": positive, "days": days})}
)
asset = st.one_of(load, battery, car)
building = st.fixed_dictionaries(
    {"id": ids.filter(lambda i: i not in ("retailer", "operator", "network", "state")), "contract": st.just("c")},
    optional={
        "assets": st.lists(asset, max_size=3),
        "bus": names | st.integers(0, 99),
        "household": st.fixed_dictionaries({}, optional={"roof": st.booleans(), "tenure": st.just("social")}),
        "membership": st.fixed_dictionaries({}, optional={"joins": st.dates().map(str)}),
        "strategy": st.fixed_dictionaries(
            {"kind": names}, optional={"parameters": st.dictionaries(names, st.floats(-1, 1) | names | st.booleans())}
        ),
        "plant": st.sampled_from(["model", "emulated"]),
        "export_limit_kw": st.floats(0, 100),
    },
)
scenarios = st.fixed_dictionaries(
    {
        "name": ids,
        "time": st.fixed_dictionaries(
            {"start": st.dates(date(1950, 1, 1), date(2100, 1, 1)).map(str), "days": st.integers(1, 400)},
            optional={"slot_minutes": st.sampled_from([5, 15, 30, 60])},
        ),
        "profiles": st.just({"p": {"constant": 1.0, "unit": "kW"}}),
        "contracts": st.fixed_dictionaries({"c": st.fixed_dictionaries({"terms": st.tuples(terms).map(list)})}),
        "buildings": st.lists(building, min_size=1, max_size=4, unique_by=lambda b: b["id"]),
    },
    optional={
        "title": names,
        "seed": st.integers(0, 2**80),
        "place": st.lists(st.fixed_dictionaries({"asset": battery, "share": share, "size_spread": share}), max_size=2),
        "settlement": st.just({"residuals": "imbalance_single", "imbalance_price": {"flat_per_kwh": -0.5}}),
    },
)


@pytest.mark.slow
@given(scenarios)
@settings(max_examples=effort(60, everyday=12), deadline=None)
def test_any_valid_scenario_survives_writing_and_reading(value: dict[str, Any]) -> None:
    scenario = load_scenario(value).scenario
    text = resolved_yaml(scenario)
    again = load_scenario(parse_document(text, file=None, base_dir=Path.cwd()).value).scenario
    assert again == scenario
    assert resolved_yaml(again) == text
    assert scenario_digest(again) == scenario_digest(scenario)
    plain = yaml.safe_dump(value)  # as another program would write it
    assume(not re.search(r"\b\d+e\d+\b", plain))  # text to YAML 1.1, a number to 1.2: there is no right answer
    assert load_scenario(parse_document(plain, file=None, base_dir=Path.cwd()).value).scenario == scenario


@given(scenarios)
@settings(max_examples=20, deadline=None)
def test_expansion_never_loses_a_building(value: dict[str, Any]) -> None:
    loaded = load_scenario(value)
    assert [b.id for b in expand(loaded).buildings] == [b["id"] for b in value["buildings"]]


# --- resolved YAML and digest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_survive(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name).scenario
    file = tmp_path / "resolved.yaml"
    file.write_text(resolved_yaml(scenario), encoding="utf-8")
    assert load_scenario(file).scenario == scenario


@pytest.mark.parametrize(
    "text", ["\x85", "\u2028", "\ufeff", "a\nb ", "-1e5", ".5", "no", "null", "", " a", "ä:b", "a #b", "0x1"]
)
def test_any_text_comes_back(text: str, tmp_path: Path) -> None:
    scenario = load_scenario("street5", {"title": text, "market.stages[0].parameters": {f"k{text}": text}}).scenario
    (tmp_path / "a.yaml").write_text(resolved_yaml(scenario), encoding="utf-8")
    assert load_scenario(tmp_path / "a.yaml").scenario == scenario


def test_every_default_is_written() -> None:
    written = yaml.safe_load(resolved_yaml(load_scenario("street5").scenario))
    assert set(written) == set(type(load_scenario("street5").scenario).model_fields) - {"extends"}
    assert next(iter(written["buildings"][0])) == "id"
    assert written["buildings"][2]["assets"][0]["reactive_scale"] == 1.0


def own_data(folder: Path, kwh: float = 1.0) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.csv").write_text(f"time,kwh\n2016-06-01,{kwh}\n2016-06-02,1\n")
    (folder / "homes").mkdir()
    (folder / "homes" / "b.csv").write_text("time,kwh\n2016-06-01,1\n2016-06-02,1\n")
    file = folder / "own.yaml"
    file.write_text(
        """\
name: own
time: {start: 2016-06-01, days: 1}
contracts: {default: {terms: [{retail: {flat_per_kwh: 0.3}}]}}
profiles: {a: {file: data/a.csv, column: kwh, unit: kWh, sign: load, time_zone: UTC}}
buildings: [{id: a, assets: [{kind: load, profile: a}]}]
buildings_from: {folder: homes, time_zone: UTC, load: {column: kwh, unit: kWh, sign: load}}
"""
    )
    return file


def digest_of(file: Path, **overrides: Any) -> str:
    loaded = load_scenario(file, {key.replace("__", "."): value for key, value in overrides.items()})
    expanded = expand(loaded)
    files = data_files(loaded.scenario, expanded.buildings, expanded.profiles)
    return scenario_digest(loaded.scenario, {path: file_sha256(path) for path in files})


def test_data_files_are_listed_once(tmp_path: Path) -> None:
    loaded = load_scenario(own_data(tmp_path))
    expanded = expand(loaded)
    files = data_files(loaded.scenario, expanded.buildings, expanded.profiles)
    assert files == (tmp_path / "data" / "a.csv", tmp_path / "homes" / "b.csv")


def test_the_digest_names_content_not_place_or_context(tmp_path: Path) -> None:
    here = digest_of(own_data(tmp_path / "here"))
    assert here == digest_of(own_data(tmp_path / "there"))
    file = tmp_path / "here" / "own.yaml"
    assert here == digest_of(file, **{"buildings[a].plant": "emulated"})
    assert here != digest_of(file, seed=1)
    assert here != digest_of(file, time__days=2)
    assert here != digest_of(own_data(tmp_path / "other", kwh=2.0))
    (tmp_path / "here" / "homes" / "b.csv").write_text("time,kwh\n2016-06-01,9\n2016-06-02,1\n")
    assert here != digest_of(file)


def test_a_file_without_hash_is_an_error(tmp_path: Path) -> None:
    loaded = load_scenario(own_data(tmp_path))
    with pytest.raises(KeyError):
        scenario_digest(loaded.scenario, {})


def test_paths_can_be_written_relative_to_the_run(tmp_path: Path) -> None:
    scenario = load_scenario(own_data(tmp_path / "in")).scenario
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    text = resolved_yaml(scenario, relative_to=run)
    assert str(tmp_path) not in text
    (run / "scenario.yaml").write_text(text)
    assert load_scenario(run / "scenario.yaml").scenario == scenario


# --- schema ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_schema_is_valid_and_takes_what_the_loader_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in shipped_scenarios():
        file = ROOT / "peerwatt" / "scenarios" / f"{name}.yaml"
        value = parse_document(file.read_text(encoding="utf-8"), file=file, base_dir=file.parent).value
        assert not [error.message for error in validator.iter_errors(value)], name
    good = parse_document(init_text("a"), file=None, base_dir=ROOT).value
    assert validator.is_valid(good)
    for key, value in (("seed", -1), ("markt", {}), ("time", {"start": "x", "days": 1}), ("name", "A B")):
        assert not validator.is_valid({**good, key: value}), key


def test_every_key_is_explained() -> None:
    fields = [(m.__name__, name, f) for m in models_in_order() for name, f in m.model_fields.items()]
    assert not [f"{model}.{name}" for model, name, field in fields if not field.description]
    assert all(model.__doc__ for model in models_in_order())
    assert {"Scenario", "WeatherPv", "EvSessions", "TariffBand", "FolderColumn"} <= {
        m.__name__ for m in models_in_order()
    }


# --- template -------------------------------------------------------------------------------------------------------


def test_the_template_loads_as_it_is(tmp_path: Path) -> None:
    file = write_template("my-street", tmp_path)
    loaded = load_scenario(file)
    assert (loaded.scenario.name, slot_grid(loaded.scenario).n) == ("my-street", 24)
    assert len(expand(loaded).buildings) == 5


def test_the_template_does_not_overwrite(tmp_path: Path) -> None:
    write_template("a", tmp_path)
    with pytest.raises(ScenarioError, match="exists already"):
        write_template("a", tmp_path)
    write_template("a", tmp_path, overwrite=True)
    with pytest.raises(ScenarioError, match="no name of a scenario"):
        init_text("My Street")


LINES = init_text("a").splitlines()
ALTERNATIVE = re.compile(r"#((?:  )*)(- \{?)?([\w-]+):")


def depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def alternatives() -> list[tuple[int, int]]:
    """First and last line (exclusive) of every setting of the template that is commented out."""
    found = []
    for first, line in enumerate(LINES):
        match = ALTERNATIVE.match(line)
        if match is None or any(a < first < b for a, b in found):
            continue
        last = first + 1
        while last < len(LINES) and LINES[last].startswith("#  ") and depth(LINES[last][1:]) > depth(line[1:]):
            last += 1
        found.append((first, last))
    return found


def taken(first: int, last: int) -> str:
    """The template with one alternative in the place of what it replaces."""
    block = [line[1:] for line in LINES[first:last]]
    before, i = LINES[:first], first - 1
    while i >= 0 and (LINES[i].startswith("#") or depth(LINES[i]) >= depth(block[0])):
        entry = block[0].lstrip().startswith("- {rule")  # a stage replaces the stage
        same = LINES[i].startswith(block[0][: block[0].index(":") + 1])
        if same or (entry and depth(LINES[i]) >= depth(block[0]) and not LINES[i].startswith("#")):
            before[i] = ""
        i -= 1
    return "\n".join([*before, *block, *LINES[last:]])


def test_the_alternatives_of_the_template_are_found() -> None:
    keys = [m[3] for first, _ in alternatives() if (m := ALTERNATIVE.match(LINES[first]))]
    assert {"source", "days", "place", "time-of-use", "dynamic", "by_building", "tables", "membership", "rule"} <= set(
        keys
    )
    assert len(keys) >= 20


DAY_OF_HOMES = "".join(f"2016-10-04T{h:02d}:00-08:00,0.{h:02d},0.0\n" for h in range(24))


def folder_for(folder: Path) -> Path:
    """What the alternatives of the template read beside it."""
    (folder / "homes").mkdir()
    for name in ("meter.csv", "homes/anna.csv", "homes/ben.csv"):
        (folder / name).write_text(f"time,consumption,feed\n{DAY_OF_HOMES}")
    return folder / "a.yaml"


@pytest.mark.parametrize(("first", "last"), alternatives(), ids=[LINES[a].strip("# ")[:30] for a, _ in alternatives()])
def test_every_alternative_of_the_template_runs(first: int, last: int, tmp_path: Path) -> None:
    text = taken(first, last)
    if "kind: network" in LINES[first]:
        text = text.replace("source: cigre:lv", "source: simbench:1-LV-semiurb4--2-sw", 1)
    if LINES[first].startswith("#extends"):
        text = text.replace("  days: 1\n", "  days: 1\n  end: null\n", 1)
    file = folder_for(tmp_path)
    file.write_text(text)
    loaded = load_scenario(file)
    assert loaded.scenario != load_scenario(parse_document(init_text("a"), file=None, base_dir=ROOT).value).scenario
    if LINES[first].startswith("#extends"):
        return  # a year: read, not prepared
    n = len(prepare(loaded).building_ids)
    assert n == {"folder": 7, "network": 63}.get(str(getattr(loaded.scenario.buildings_from, "kind", "")), 5)


CHANGED: dict[str, dict[str, Any]] = {
    "pv-roof": {"place": [{"asset": {"kind": "pv", "profile": "pv-roof", "peak_kw": 5}}]},
    "time-of-use": {"place": [{"contract": "time-of-use"}]},
    "dynamic": {"place": [{"contract": "dynamic"}]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_what_an_alternative_defines_can_be_used(name: str, tmp_path: Path) -> None:
    file = folder_for(tmp_path)
    file.write_text(taken(*next((a, b) for a, b in alternatives() if LINES[a].startswith(f"#  {name}:"))))
    system = prepare(load_scenario(file, CHANGED[name]))
    assert (system.wires is not None, len(system.building_ids)) == (True, 5)
    terms = load_scenario(file, CHANGED[name]).scenario.contracts
    (plain,) = terms["default"].terms
    for other in terms.get(name, terms["default"]).terms:  # nothing makes one contract cheaper but its price
        assert (other.network, other.levies_per_kwh, other.vat_percent) == (
            plain.network,
            plain.levies_per_kwh,
            plain.vat_percent,
        )
        assert other.feed_in.flat_per_kwh == 0.08 or other.feed_in.series is not None


# --- documentation --------------------------------------------------------------------------------------------------


def test_the_reference_is_that_of_the_models() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert with_reference(page) == page, "run: python -m peerwatt.scenario.reference docs/scenario.md"


@pytest.mark.slow
def test_the_examples_of_the_page_are_read(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "anna.csv").write_text("time,consumption,feed\n")
    (tmp_path / "prices.csv").write_text("time,price\n")
    for i, block in enumerate(blocks):
        head = "" if "extends" in block else "extends: fontana\n"
        file = tmp_path / f"{i}.yaml"
        if "time-of-use" in block:
            block += "contracts: {time-of-use: {terms: [{retail: {flat_per_kwh: 0.3}}]}}\n"
        file.write_text(head + block)
        overrides = {"currency": "EUR"} if "prices" in block else None
        assert load_scenario(file, overrides).scenario != load_scenario("fontana").scenario
    tariff = load_scenario(tmp_path / "0.yaml", {"currency": "EUR"}).scenario.contracts["default"]
    assert len(tariff.terms) == 2
