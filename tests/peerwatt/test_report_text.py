"""Words, colours, places and time lines of the report, one by one."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from core import SlotGrid
from peerwatt.report import network_svg, text, timeline
from peerwatt.report.data import ReportData
from peerwatt.report.figure import Figure, Panel, absent, column
from peerwatt.report.palette import GREY, VIRIDIS, colour_of, mix
from peerwatt.report.places import bus_places, hops
from peerwatt.results.static import slot_grid
from tests.peerwatt.test_report_synthetic import Recipe, make_static

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.0, "0"), (1234567.8, "1,234,568"), (12.345, "12.3"), (0.0123456, "0.0123"), (-2.5, MINUS + "2.50"),
     (0.99999, "1.00"), (None, "–"), (math.nan, "–")],
)  # fmt: skip
def test_number_keeps_three_digits(value: float | None, expected: str) -> None:
    assert text.number(value) == expected


def test_units_follow_the_size() -> None:
    assert [text.energy(x) for x in (12, 1500, 2_500_000, 3.2e9)] == ["12.0 Wh", "1.50 kWh", "2.50 MWh", "3.20 GWh"]
    assert text.mass(999.0) == "999 kg"
    assert text.mass(1500.0) == "1.50 t"


def test_money_shows_cents_only_below_a_thousand() -> None:
    assert text.money(-12.344, "EUR") == f"{MINUS}12.34 EUR"
    assert text.money(12345.6, "JPY") == "12,346 JPY"
    assert text.money(0.001, "EUR", signed=True) == "+0.00 EUR"
    assert text.money(-0.001, "EUR") == "0.00 EUR"


def test_kind_is_not_said_twice() -> None:
    assert text.with_kind("line", "Line 3") == "Line 3"
    assert text.with_kind("line", "NA2XY 12") == "line NA2XY 12"


def test_markup_in_names_is_made_harmless() -> None:
    assert text.html("<script>\"x\"&'y'") == "&lt;script&gt;&quot;x&quot;&amp;&#x27;y&#x27;"


def test_colours_run_over_the_scale() -> None:
    assert colour_of(0.0, 0.0, 1.0) == VIRIDIS[0]
    assert colour_of(9.9, 0.0, 1.0) == VIRIDIS[-1]
    assert colour_of(math.nan, 0.0, 1.0) == GREY
    assert mix("#000000", "#FFFFFF", 0.5) in ("#808080", "#7F7F7F")


def test_a_figure_has_drawings_or_a_reason_and_drawings_have_a_sentence() -> None:
    panel = Panel("", {"data": [], "layout": {}})
    with pytest.raises(ValueError, match="sentence"):
        Figure("a", "A", panels=(panel,))
    with pytest.raises(ValueError, match="reason"):
        Figure("a", "A")
    with pytest.raises(ValueError, match="not both"):
        Figure("a", "A", sentence="S.", panels=(panel,), missing="no data")
    assert absent("a", "A", "no data").missing == "no data"


def test_long_columns_are_packed_and_short_ones_are_lists_without_nan() -> None:
    assert column([1.0, math.nan]) == [1.0, None]
    packed = column(np.arange(100.0))
    assert isinstance(packed, dict)
    assert packed["dtype"] == "f4"


def test_unknown_positions_give_a_tree_below_the_grid_above() -> None:
    static = make_static(Recipe(positions=False, n_buses=14))
    places, geographic = bus_places(static)
    assert not geographic
    assert np.isfinite(places).all()
    assert len(np.unique(places.round(6), axis=0)) == 14
    depth = hops(static)
    assert depth.tolist()[:7] == [0, 1, 2, 2, 2, 2, 3]
    for branch in static.branches:
        assert places[branch.from_bus, 1] > places[branch.to_bus, 1]


def test_a_transformer_is_not_drawn_as_long_as_a_street() -> None:
    static = make_static(Recipe(n_buses=14))
    far = replace(static.buses[0], x=5000.0, y=5000.0)
    static = replace(static, buses=(far, *static.buses[1:]))
    places, geographic = bus_places(static)
    lengths = [np.hypot(*(places[b.from_bus] - places[b.to_bus])) for b in static.branches]
    assert geographic
    assert lengths[0] <= 1.5 * float(np.median(lengths[1:]))


def test_network_svg_is_well_formed_and_complete() -> None:
    static = make_static(Recipe(n_buses=14))
    svg = network_svg(static, np.linspace(0.88, 1.05, 14), np.linspace(0.1, 1.3, 13), title="Volts & <loads>")
    root = ET.fromstring(svg)
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("circle") == 14
    assert names.count("line") == 13
    assert root.attrib["aria-label"] == "Volts & <loads>"
    assert "href" not in svg.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(ValueError, match="one voltage per bus"):
        network_svg(static, np.ones(3), np.ones(13))


def _data(recipe: Recipe) -> ReportData:
    static = make_static(recipe)
    grid: SlotGrid = slot_grid(static)
    return ReportData(
        static=static, grid=grid, local=grid.local_time(static.zone), summary={}, manifest={}, scenario="", slots={},
        savings=np.zeros(0), counted=np.zeros(0, np.bool_),
        equipment=(), groups={}, voltage=None, loading=None, snapshots=(), flows_wh=None,
        violations=(),
    )  # fmt: skip


def test_local_days_have_92_and_100_quarters_when_the_clock_changes() -> None:
    year = timeline.by_day(_data(Recipe(network=False)))
    assert year.n == 366
    lengths = dict(zip(year.x, np.diff(np.r_[year.start, year.n_slots]).tolist(), strict=True))
    assert lengths["2016-03-27"] == 92
    assert lengths["2016-10-30"] == 100
    assert sorted(set(lengths.values())) == [92, 96, 100]


def test_the_hour_that_autumn_has_twice_stays_two_bins() -> None:
    hours = timeline.by_hour(_data(Recipe(network=False, start="2016-10-30T00:00:00+02:00", n_slots=100)))
    assert hours.n == 25
    assert hours.x.count("2016-10-30 02:00") == 2


def test_bins_ignore_slots_without_a_value() -> None:
    data = _data(Recipe(network=False, n_slots=8, slot_s=21600))
    bins = timeline.by_day(data)
    values = np.array([1.0, np.nan, 3.0, 4.0, np.nan, np.nan, np.nan, np.nan])
    assert bins.mean(values, np.array([1, 9, 3, 0, 1, 1, 1, 1.0]))[0] == 2.5
    assert np.isnan(bins.mean(values)[1])
    assert bins.total(values).tolist() == [8.0, 0.0]
    assert bins.highest(values)[0] == 4.0
    assert data.when(0) == "1 January 2016, 00:00"
