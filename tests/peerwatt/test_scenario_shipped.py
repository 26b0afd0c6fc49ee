"""The scenarios that come with the package say what the documents promise of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from grid.datasets.registry import DATASETS
from market import rules
from peerwatt.scenario import (
    NetworkElements,
    check_names,
    expand,
    load_scenario,
    resolved_yaml,
    shipped_scenarios,
    slot_grid,
)
from peerwatt.scenario.models import Building, EvAsset, PvAsset, Series
from peerwatt.scenario.names import used_names

DOCS = Path(__file__).resolve().parents[2] / "docs" / "scenario.md"


def assets(buildings: tuple[Building, ...]) -> Counter[str]:
    return Counter(asset.kind for building in buildings for asset in building.assets)


def semiurban_elements() -> NetworkElements:
    from grid.network import Network
    from peerwatt.prepare.wires import network_elements

    return network_elements(Network.load("simbench:1-LV-semiurb4--2-sw"))


def test_the_documents_name_all_of_them() -> None:
    assert set(shipped_scenarios()) == {
        "street5", "semiurban", "semiurban-phases", "fontana", "fontana-consumers", "fontana-batteries", "nice_island"
    }  # fmt: skip
    page = DOCS.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in shipped_scenarios())


@pytest.mark.parametrize("name", shipped_scenarios())
def test_rules_and_data_sets_that_they_name_exist(name: str) -> None:
    loaded = load_scenario(name)
    assert loaded.scenario.name == name
    check_names(loaded, rules={rule.name for rule in rules()}, datasets=DATASETS)
    series = [p for p in loaded.scenario.profiles.values() if isinstance(p, Series)]
    assert all(DATASETS[s.dataset].column(s.column or "") for s in series if s.dataset is not None)
    assert len(used_names(loaded, "data set")) >= len(series)


def test_street5_is_five_homes_for_a_day() -> None:
    loaded = load_scenario("street5")
    assert slot_grid(loaded.scenario).n == 96
    assert assets(expand(loaded).buildings) == {"load": 5, "pv": 2, "battery": 1}
    emulated = load_scenario("street5", {"buildings[home-1].plant": "emulated"})
    assert [b.plant for b in emulated.scenario.buildings] == ["emulated"] + ["model"] * 4


def test_semiurban_is_a_year_of_the_district() -> None:
    loaded = load_scenario("semiurban")
    elements = semiurban_elements()
    buildings = expand(loaded, elements).buildings
    assert slot_grid(loaded.scenario).n == 35_136
    assert len(buildings) == 42
    kinds = assets(buildings)
    assert kinds["load"] + kinds["heat_pump"] == len(elements.loads) == 58
    assert kinds["battery"] > len(elements.storages) + 1
    assert kinds["ev"] == round(0.25 * 41)
    peak = sum(a.peak_kw for b in buildings for a in b.assets if isinstance(a, PvAsset))
    assert 250 < peak < 400  # the transformer is rated 400 kVA
    per_building = Counter(b.id for b in buildings for a in b.assets if a.kind == "battery")
    assert max(per_building.values()) == 1
    assert {b.contract for b in buildings} == {"default", "time-of-use", "heat-pump"}
    assert all(b.contract == "heat-pump" for b in buildings if any(a.kind == "heat_pump" for a in b.assets))
    community = next(b for b in buildings if b.id == "community-battery")
    name = dict(zip(elements.bus_ids, elements.bus_names, strict=True))[str(community.bus)]
    assert name == "LV4.101 Bus 32"


def test_another_seed_places_elsewhere_but_as_much() -> None:
    elements = semiurban_elements()
    one, two = (expand(load_scenario("semiurban", {"seed": seed}), elements).buildings for seed in (1, 2))
    cars = [{b.id for b in made if any(isinstance(a, EvAsset) for a in b.assets)} for made in (one, two)]
    assert cars[0] != cars[1]
    assert len(cars[0]) == len(cars[1])


def test_fontana_is_17_homes_in_hours() -> None:
    loaded = load_scenario("fontana")
    slots = slot_grid(loaded.scenario)
    assert (slots.n, slots.length_s, slots.start.isoformat()) == (8760, 3600, "2016-08-01T07:00:00+00:00")
    buildings = expand(loaded).buildings
    assert assets(buildings) == {"load": 17, "pv": 17}
    assert len({b.bus for b in buildings}) == 17
    flat = expand(load_scenario("fontana", {"place": [{"contract": "flat"}]})).buildings
    assert {b.contract for b in flat} == {"flat"}


def test_its_variants_change_what_they_say() -> None:
    base = load_scenario("fontana")
    consumers, batteries = load_scenario("fontana-consumers"), load_scenario("fontana-batteries")
    without = [b.id for b in expand(consumers).buildings if not any(a.kind == "pv" for a in b.assets)]
    assert without == ["h14", "h15"]
    assert assets(expand(batteries).buildings) == {"load": 17, "pv": 17, "battery": 17}
    for loaded in (consumers, batteries):
        same = loaded.scenario.model_copy(update={"name": "fontana", "title": base.scenario.title, "place": ()})
        assert resolved_yaml(same) == resolved_yaml(base.scenario)


def test_fontana_shares_as_the_comment_says() -> None:
    pd = pytest.importorskip("pandas")
    data = pd.read_parquet(DATASETS["fontana_homes"].path)
    for name, alone, shared in (("fontana", 0.5562, 0.7273), ("fontana-consumers", 0.5585, 0.7399)):
        loaded = load_scenario(name)
        load, pv = data[[]].copy(), data[[]].copy()
        for building in expand(loaded).buildings:
            pv[building.id] = 0.0
            for asset in building.assets:
                series = loaded.scenario.profiles[asset.profile]  # type: ignore[union-attr]
                assert isinstance(series, Series)
                (load if asset.kind == "load" else pv)[building.id] = data[series.column]
        own = load.where(load < pv, pv).to_numpy().sum() / pv.to_numpy().sum()
        together = load.sum(axis=1).clip(upper=pv.sum(axis=1)).sum() / pv.to_numpy().sum()
        assert (round(own, 4), round(together, 4)) == (alone, shared)


EXAMPLES = sorted({*DOCS.parents[1].glob("examples/*.yaml"), *DOCS.parents[1].glob("examples/**/scenario.yaml")})


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_are_read(file: Path) -> None:
    loaded = load_scenario(file)
    needs_network = loaded.scenario.buildings_from is not None and loaded.scenario.network.source != "none"
    buildings = expand(loaded, semiurban_elements() if needs_network else None).buildings
    assert len(buildings) >= 3
    check_names(loaded, rules={rule.name for rule in rules()}, datasets=DATASETS)


def test_own_homes_have_pv_where_their_file_has_it() -> None:
    loaded = load_scenario(DOCS.parents[1] / "examples" / "own-homes" / "scenario.yaml")
    made = {b.id: [a.kind for a in b.assets] for b in expand(loaded).buildings}
    assert made == {"anna": ["load", "pv"], "ben": ["load"], "carla": ["load", "pv"]}
    assert slot_grid(loaded.scenario).n == 98  # 30 October has 25 hours
