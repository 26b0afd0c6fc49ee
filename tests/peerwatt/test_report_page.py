"""The report of synthetic runs: complete, self-contained, true to the tables, and sensible when parts are missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peerwatt.report import write_pictures, write_report
from peerwatt.report.data import ReportData
from peerwatt.report.figure import Figure
from peerwatt.report.load import load_report_data
from peerwatt.report.page import figures_json
from peerwatt.report.sections import violations_html
from peerwatt.report.write import MAX_BYTES, render_report, report_figures
from peerwatt.results import Run
from tests.peerwatt.test_report_synthetic import Recipe, make_run

FORTNIGHT = Recipe(
    n_homes=20, n_buses=14, start="2016-03-20T00:00:00+01:00", n_slots=96 * 14 - 4, stress=12.0, pv_share=0.5
)
"""Two weeks with the spring clock change and with broken limits."""

ODD: dict[str, Recipe] = {
    "two buildings, no PV, no network": Recipe(
        n_homes=2, network=False, pv_share=0, ev_share=0, battery_share=0, carbon=False, kinds=False, n_slots=96,
        start="2016-06-01T00:00:00+02:00", remarks=(),
    ),
    "one slot": Recipe(n_homes=3, n_buses=5, n_slots=1, start="2016-06-01T12:00:00+02:00"),
    "no market": Recipe(rule="no_market", n_homes=6, n_buses=8, n_slots=96 * 2, pairs=False, parameters={}),
    "a key, yen, no positions, southern summer": Recipe(
        rule="sharing_keys", n_homes=6, n_buses=8, n_slots=24 * 70, slot_s=3600, currency="JPY", positions=False,
        zone="Australia/Sydney", start="2016-12-01T00:00:00+11:00", parameters={"key": "static"},
    ),
    "a pool on meters": Recipe(rule="mid_market_rate", n_homes=6, n_buses=8, n_slots=96 * 3, parameters={}),
    "long slots": Recipe(n_homes=4, n_buses=6, n_slots=30, slot_s=43200),
}  # fmt: skip


@pytest.fixture(scope="module")
def fortnight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "fortnight", FORTNIGHT)


@pytest.fixture(scope="module")
def data(fortnight: Path) -> ReportData:
    return load_report_data(fortnight)


@pytest.fixture(scope="module", params=sorted(ODD))
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return load_report_data(make_run(tmp_path_factory.mktemp("odd") / "run", ODD[request.param]))


def figure(data: ReportData, id_: str) -> Figure:
    return next(f for figures in report_figures(data).values() for f in figures if f.id == id_)


def numbers(values: Any) -> np.ndarray:
    if isinstance(values, dict):
        import base64

        flat = np.frombuffer(base64.b64decode(values["bdata"]), "<f4").astype(float)
        return flat.reshape([int(n) for n in values["shape"].split(",")]) if "shape" in values else flat
    return np.array([np.nan if v is None else v for v in values], float)


# --- what every figure has ------------------------------------------------------------------------------------------

UNIT = re.compile(r"\[[^\]]+\]")
NAMES_OR_TIMES = re.compile(r"^(local time|month|day|bus|line or transformer|building|arm|tenure|income band|roof|"
                            r"vulnerable|equipment)")  # fmt: skip


def check_figure(found: Figure) -> None:
    if found.missing:
        assert found.missing.endswith(".")
        return
    assert found.sentence[0].isupper() or found.sentence[0].isdigit()
    assert found.sentence.endswith(".")
    for text in (found.sentence, found.note, *(p.sentence for p in found.panels)):
        assert not re.search(r"\bnan\b|None|\binf\b|\{|\}|  ", text), text
    for panel in found.panels:
        plan = panel.spec["layout"]
        for name, value in plan.items():
            if re.match(r"^[xy]axis\d*$", name) and value.get("visible", True):
                title = value["title"]["text"]
                assert UNIT.search(title) or NAMES_OR_TIMES.match(title), f"{found.id}: {title}"
        assert panel.spec["data"], f"{found.id} draws nothing"
        for trace in panel.spec["data"]:
            for bar in (trace.get("colorbar"), trace.get("marker", {}).get("colorbar")):
                assert bar is None or UNIT.search(bar["title"]["text"])
            if trace["type"] == "sankey":
                assert trace["valuesuffix"].strip() in ("kWh", "MWh")


def test_every_figure_has_units_and_a_sentence(data: ReportData) -> None:
    figures = [f for group in report_figures(data).values() for f in group]
    assert len(figures) >= 13
    assert not [f.id for f in figures if f.missing], "this run has everything"
    assert len({f.id for f in figures}) == len(figures)
    for found in figures:
        check_figure(found)


def test_odd_runs_say_why_something_is_missing(odd: ReportData) -> None:
    for group in report_figures(odd).values():
        for found in group:
            check_figure(found)
    page = render_report(odd)
    assert not re.search(r"\bnan\b", re.sub(r"<script.*?</script>", "", page, flags=re.S).lower())
    assert len(page.encode()) < MAX_BYTES


def test_reasons_name_the_cause(tmp_path: Path) -> None:
    bare = load_report_data(make_run(tmp_path / "bare", ODD["two buildings, no PV, no network"]))
    assert "names no network" in figure(bare, "voltage-bands").missing
    assert "No energy was traded" in figure(bare, "price").missing
    assert "nobody supplied anybody" in figure(bare, "flows").missing
    assert "no carbon intensity" in figure(bare, "carbon").missing
    assert "no generation" in figure(bare, "balance").sentence


# --- true to the tables -----------------------------------------------------------------------------------------------


def test_the_voltage_sentence_names_value_time_and_bus(fortnight: Path, data: ReportData) -> None:
    run = Run(fortnight)
    buses = run.table("buses")
    row = buses.loc[buses["v_pu"].idxmax()]
    start = run.table("slots").set_index("slot").loc[row["slot"], "start_utc"].tz_convert("Europe/Berlin")
    name = next(b.name for b in run.static.buses if b.id == row["bus"])
    text = figure(data, "voltage-bands").sentence
    assert f"and {row['v_pu']:.3f} p.u." in text
    assert f"the highest occurs on {start.day} {start:%B %Y}, {start:%H:%M} local time at {name}" in text
    assert figure(data, "voltage-bands").note.startswith("15-minute means; not an EN 50160 assessment")


def test_bands_hold_what_the_histograms_say(fortnight: Path, data: ReportData) -> None:
    table = Run(fortnight).table("buses").pivot(index="slot", columns="bus", values="v_pu")
    order = [b.id for b in data.static.buses]
    assert data.voltage is not None
    for name, share in (("lowest", 0.0), ("p05", 0.05), ("median", 0.5), ("p95", 0.95), ("highest", 1.0)):
        expected = table[order].quantile(share, interpolation="nearest").to_numpy()
        assert np.abs(getattr(data.voltage, name) - expected).max() < 0.0011, name


def test_snapshots_are_the_slots_they_claim_to_be(fortnight: Path, data: ReportData) -> None:
    run = Run(fortnight)
    buses, branches = run.table("buses"), run.table("branches")
    assert [s.key for s in data.snapshots] == ["highest_voltage", "lowest_voltage", "highest_loading"]
    for shot in data.snapshots:
        assert np.array_equal(shot.v_pu, buses.loc[buses["slot"] == shot.slot, "v_pu"].to_numpy(float))
        assert np.array_equal(shot.loading, branches.loc[branches["slot"] == shot.slot, "loading"].to_numpy(float))
    assert data.snapshots[0].v_pu.max() == buses["v_pu"].max()
    assert data.snapshots[1].v_pu.min() == buses["v_pu"].min()
    assert data.snapshots[2].loading.max() == branches["loading"].max()


def test_the_balance_is_level_and_complete(data: ReportData) -> None:
    sums = [numbers(trace["y"]) for trace in figure(data, "balance").panels[0].spec["data"]]
    up = sum(np.maximum(s, 0) for s in sums)
    down = sum(np.minimum(s, 0) for s in sums)
    assert np.allclose(up, -np.asarray(down), atol=1e-3 * len(sums))
    assert np.asarray(up).sum() > 0


def test_the_price_map_is_in_local_time(fortnight: Path, data: ReportData) -> None:
    slots = Run(fortnight).table("slots")
    slots = slots[slots["local_wh"] > 0].assign(local=slots["start_utc"].dt.tz_convert("Europe/Berlin"))
    slots["worth"] = slots["price_per_kwh"] * slots["local_wh"]
    sums = slots.groupby([slots["local"].dt.date, slots["local"].dt.hour])[["worth", "local_wh"]].sum()
    expected = sums["worth"] / sums["local_wh"]
    hour = slots["local"].dt.hour
    often = hour.value_counts() >= 0.02 * len(slots)  # hours with hardly a trade are not named
    by_hour = slots.groupby(hour)[["worth", "local_wh"]].sum().loc[often[often].index]
    lowest = (by_hour["worth"] / by_hour["local_wh"]).idxmin()
    assert f"the price is lowest from {lowest:02d}:00" in figure(data, "price-map").sentence
    trace = figure(data, "price-map").panels[0].spec["data"][0]
    table = numbers(trace["z"])
    for (day, hour), price in expected.items():
        assert table[trace["y"].index(str(day)), hour] == pytest.approx(price, rel=1e-6)
    assert np.isfinite(table).sum() == len(expected)


def test_the_duration_curve_starts_at_the_peak_and_counts_reverse_hours(fortnight: Path, data: ReportData) -> None:
    kw = Run(fortnight).table("slots", ["exchange_wh"])["exchange_wh"] / 250
    found = figure(data, "duration")
    curve = numbers(found.panels[0].spec["data"][0]["y"])
    assert curve[0] == pytest.approx(kw.max(), rel=1e-6)
    assert curve[-1] == pytest.approx(kw.min(), rel=1e-6)
    assert (np.diff(curve) <= 0).all()
    assert f"flows back during {(kw < 0).sum() / 4:.3g} h" in found.sentence


def test_savings_are_sorted_and_add_up(fortnight: Path, data: ReportData) -> None:
    run = Run(fortnight)
    found = figure(data, "savings").panels[0].spec
    order = found["layout"]["xaxis"]["categoryarray"]
    by_id = {x: y for trace in found["data"] for x, y in zip(trace["x"], numbers(trace["y"]), strict=True)}
    values = [by_id[i] for i in order]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(run.summary["money"]["savings"], abs=0.2)


def test_the_sankey_bundles_and_keeps_the_total(fortnight: Path, data: ReportData) -> None:
    trades = Run(fortnight).table("trades")
    found = figure(data, "flows")
    trace = found.panels[0].spec["data"][0]
    total = sum(trace["link"]["value"]) * (1000 if trace["valuesuffix"] == " MWh" else 1)
    assert total == pytest.approx(trades["e_wh"].sum() / 1000, rel=0.01)
    assert max(trace["link"]["target"]) < len(trace["node"]["label"]) == len(trace["node"]["color"])
    assert "attribution" not in found.title
    assert min(trace["link"]["source"]) == 0


def test_a_rule_without_pairs_is_labelled_as_attribution(tmp_path: Path) -> None:
    pool = load_report_data(make_run(tmp_path / "pool", ODD["a pool on meters"]))
    found = figure(pool, "flows")
    assert found.title.endswith("(attribution)")
    assert found.note.startswith("An attribution, not a record")


def test_violations_are_listed_with_place_time_size_and_who(fortnight: Path, data: ReportData) -> None:
    table = Run(fortnight).table("violations")
    assert len(table) > 50
    worst = table.loc[(table["excess"] / table["limit"]).idxmax()]
    assert len(data.violations) == 50
    assert data.violations[0]["excess"] == worst["excess"]
    page = violations_html(data)
    rows = re.findall(r"<tbody>(.*)</tbody>", page, flags=re.S)[0].split("<tr>")[1:]
    assert len(rows) == 50
    assert f"{worst['excess']:.4f} p.u." in rows[0] or f"{worst['excess'] * 100:.1f} %" in rows[0]
    assert data.when(int(worst["slot"])) in rows[0]
    assert worst["contributors"] in rows[0]


# --- the file ---------------------------------------------------------------------------------------------------------


class _Loads(HTMLParser):
    """Everything in the markup that could make a browser load something, scripts' text aside."""

    ATTRIBUTES = frozenset({"src", "href", "srcset", "data", "poster", "action", "formaction", "background", "ping"})

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.styles = ""
        self.plots = 0
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        assert tag not in ("link", "base", "iframe", "object", "embed", "img"), tag
        for name, value in attrs:
            if name in self.ATTRIBUTES:
                self.targets.append(value or "")
            if name == "style":
                self.styles += value or ""
            self.plots += name == "class" and value == "plot"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles += data


def _read(page: str) -> _Loads:
    reader = _Loads()
    reader.feed(page)
    return reader


def test_the_page_loads_nothing(fortnight: Path) -> None:
    page = write_report(fortnight).read_text(encoding="utf-8")
    reader = _read(page)
    assert reader.targets
    assert not [t for t in reader.targets if not t.startswith("#")]
    assert "url(" not in reader.styles
    assert "@import" not in reader.styles
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1


def test_names_cannot_break_out_of_the_markup(tmp_path: Path) -> None:
    recipe = Recipe(n_homes=3, n_buses=5, n_slots=96, title="</script><script>alert('x')</script> & <b>")
    page = render_report(load_report_data(make_run(tmp_path / "run", recipe)))
    assert "alert('x')" not in page
    assert "&lt;/script&gt;&lt;script&gt;" in page
    hostile = figures_json([Figure("a", "A", "S.", _hostile_panels())])
    assert "</" not in hostile
    assert json.loads(hostile)["a"][0]["spec"]["data"][0]["name"] == "</script>"


def _hostile_panels() -> Any:
    from peerwatt.report.figure import Panel

    return (Panel("", {"data": [{"name": "</script>"}], "layout": {}}),)


def test_the_same_run_gives_the_same_page(fortnight: Path) -> None:
    assert write_report(fortnight).read_bytes() == write_report(fortnight).read_bytes()


def test_every_section_of_the_contents_exists(fortnight: Path) -> None:
    page = write_report(fortnight).read_text(encoding="utf-8")
    for target in re.findall(r'href="#([\w-]+)"', page):
        assert len(re.findall(rf'id="{target}"', page)) == 1, target


def test_the_report_can_be_written_before_the_manifest(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", Recipe(n_homes=3, n_buses=5, n_slots=96))
    (folder / "manifest.json").unlink()
    (folder / "INCOMPLETE").write_text("{}")
    assert "numpy" in write_report(folder).read_text(encoding="utf-8")


def test_tables_that_were_not_kept_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", Recipe(n_homes=3, n_buses=5, n_slots=96 * 2))
    for table in ("slots", "buses", "violations"):
        shutil.rmtree(folder / f"{table}.parquet")
    lean = load_report_data(folder)
    assert "no table of slots" in figure(lean, "balance").missing
    assert figure(lean, "voltage-bands").panels
    assert len(figure(lean, "network").panels) == 2
    assert render_report(lean)


def test_pictures_are_svg_without_references(fortnight: Path, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ET

    paths = write_pictures(Run(fortnight), tmp_path / "pictures")
    assert [p.name for p in paths] == ["network.svg", "price.svg", "balance.svg", "savings.svg"]
    for path in paths:
        root = ET.fromstring(path.read_text(encoding="utf-8"))
        assert root.attrib["aria-label"].endswith(".")
        assert not [k for e in root.iter() for k in e.attrib if k.endswith("href")]


@pytest.mark.slow
def test_a_year_of_quarter_hours_stays_below_six_megabytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "year", Recipe())
    size = write_report(folder).stat().st_size
    assert 4_800_000 < size < MAX_BYTES


# --- in a browser -----------------------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def open_in_browser(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, without any network, and what the console said."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--window-size=1200,900",
        "--enable-logging=stderr", "--virtual-time-budget=30000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_draws_every_figure_without_complaint(fortnight: Path, tmp_path: Path) -> None:
    page = write_report(fortnight)
    wanted = _read(page.read_text(encoding="utf-8")).plots
    document, console = open_in_browser(page, tmp_path / "profile")
    assert not console
    assert 'data-ready="true"' in document
    assert len(re.findall(r'class="plot js-plotly-plot"', document)) == wanted >= 13


def test_frames_of_the_fortnight_are_as_expected(data: ReportData) -> None:
    assert data.n_days == 14
    assert data.span == "20 March 2016 to 2 April 2016"
    assert pd.Timestamp(str(data.local.date[-1])).day == 2
