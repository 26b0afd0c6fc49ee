"""What the report says, and of whom: the community battery apart from homes, prices by energy, defaults left out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peerwatt.report.data import ReportData
from peerwatt.report.figures_network import _limit_words, _voltage_range
from peerwatt.report.figures_people import kinds
from peerwatt.report.load import load_report_data
from peerwatt.report.palette import EQUIPMENT_COLOURS
from peerwatt.report.sections import header_facts, key_figures, lead, making_html
from peerwatt.report.wording import BATTERY_ACCOUNT
from peerwatt.report.write import render_report
from peerwatt.results import RunWriter
from peerwatt.results.schemas import SLOT_TABLES
from peerwatt.results.testing import MadeUpRun, made_up_static
from tests.peerwatt.test_report_page import FORTNIGHT, figure
from tests.peerwatt.test_report_synthetic import Recipe, make_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return load_report_data(make_run(tmp_path_factory.mktemp("runs") / "fortnight", FORTNIGHT))


# --- the community battery stands apart -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_battery(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    made_up = MadeUpRun.of(made_up_static(7, 96 * 3))
    writer = RunWriter(tmp_path_factory.mktemp("runs") / "battery", made_up.static, SLOT_TABLES)
    writer.write(made_up.record(0, 96 * 3))
    return load_report_data(writer.finish(bills=made_up.bills()))


def test_the_community_battery_has_a_bar_and_words_of_its_own(with_battery: ReportData) -> None:
    found = figure(with_battery, "savings")
    plan, traces = found.panels[0].spec["layout"], {t["name"]: t for t in found.panels[0].spec["data"]}
    assert plan["xaxis"]["categoryarray"][-1] == "h06"
    battery = traces[BATTERY_ACCOUNT]
    assert battery["x"] == ["h06"]
    assert battery["marker"]["color"] == EQUIPMENT_COLOURS["community"]
    assert all("h06" not in t["x"] for name, t in traces.items() if name != BATTERY_ACCOUNT)
    assert " of 6 buildings save" in found.sentence
    assert re.search(r"The community battery makes a (profit|loss) of [\d,.]+ EUR\.$", found.sentence)
    assert figure(with_battery, "savings-by-kind").panels
    assert sum(g.n for g in with_battery.groups["tenure"]) == 6
    cards = key_figures(with_battery)
    for words in ("Saved by the buildings", "of the community battery", "Saved in the whole district"):
        assert words in cards
    assert "of the community battery counted in" in lead(with_battery)


def test_kinds_of_equipment_have_one_colour_in_every_report(data: ReportData, with_battery: ReportData) -> None:
    here, there = kinds(data), kinds(with_battery)
    assert {here[name] == there[name] for name in here.keys() & there.keys()} == {True}
    assert len(set(EQUIPMENT_COLOURS.values())) == len(EQUIPMENT_COLOURS)


def test_what_is_not_stated_is_said(with_battery: ReportData) -> None:
    tenure = next(p for p in figure(with_battery, "savings-by-kind").panels if p.label == "tenure")
    assert "Of 1 building it is not stated" in tenure.sentence


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_header_leaves_defaults_out(data: ReportData) -> None:
    usual = {"k": "1/2", "seed": 0, "tie_break": "time", "zero_surplus": True}
    for chosen, words in ((usual, "uniform price"), (usual | {"k": "1/3"}, "uniform price (k = 1/3)")):
        changed = replace(data, static=replace(data.static, rule_parameters=chosen))
        assert header_facts(changed)[0] == ("Market rule", words)
        assert "seed = 0" in making_html(changed)


def test_the_commands_leave_the_folder_as_it_is(data: ReportData) -> None:
    assert "--out ../again" in making_html(data)


def test_one_price_for_much_of_the_energy_is_said(data: ReportData) -> None:
    price = np.linspace(0.1, 0.3, data.grid.n)
    volume = np.ones(data.grid.n)
    price[: data.grid.n * 4 // 10] = 0.08
    often = replace(data, slots={**data.slots, "price": price, "volume_wh": volume})
    assert "40 % of the energy changed hands at exactly 0.08 EUR/kWh." in figure(often, "price").sentence
    volume[: data.grid.n * 4 // 10] = 0.5  # a quarter of the energy
    assert "exactly" not in figure(often, "price").sentence


def test_hours_with_few_trades_are_not_named(data: ReportData) -> None:
    hour = data.local.minute // 60
    price = 0.2 + 0.001 * hour
    volume = np.ones(data.grid.n)
    price[np.flatnonzero(hour == 12)[:3]] = 0.01
    price[np.flatnonzero(hour == 12)[3:]] = np.nan
    found = figure(replace(data, slots={**data.slots, "price": price, "volume_wh": volume}), "price-map")
    assert "lowest from 00:00" in found.sentence


def test_both_limits_lie_inside_the_axis() -> None:
    bottom, top = _voltage_range(np.array([0.99, 1.01]), np.array([0.9, 0.95]), np.array([1.1, 1.1]))
    assert 0.85 < bottom < 0.9 and 1.1 < top < 1.15


def test_limits_that_differ_by_bus_are_given_as_ranges() -> None:
    same, other = np.array([0.9, 0.9]), np.array([0.9, 0.965])
    assert _limit_words(same, same + 0.2) == "0.9 and 1.1 p.u."
    assert _limit_words(other, np.array([1.1, 1.055])) == "lower limits 0.9 to 0.965, upper 1.055 to 1.1 p.u., by bus"


def test_without_a_network_its_section_is_one_sentence(tmp_path: Path) -> None:
    page = render_report(load_report_data(make_run(tmp_path / "run", Recipe(n_homes=3, network=False, n_slots=96))))
    assert page.count("names no network") == 1
    assert 'id="violations"' not in page
