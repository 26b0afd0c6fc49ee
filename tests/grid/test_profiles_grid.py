"""From a series to slots: energy is conserved, levels are held; repeated years, weather, shipped data, the cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import ScenarioError, SlotGrid
from grid.datasets import DATASETS, dataset_notice, read_csv_table
from grid.profiles import SeriesRef, WeatherPvRef, load_profiles
from grid.profiles.axis import contiguous_axis
from grid.profiles.files import TableFile
from grid.profiles.resample import overlap_pieces


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def hourly(folder: Path, start: datetime, values: list[float], step_s: int = 3600, name: str = "a.csv") -> str:
    rows = [f"{(start + timedelta(seconds=i * step_s)).isoformat()},{v!r}" for i, v in enumerate(values)]
    (folder / name).write_text("\n".join(["t,e", *rows]) + "\n", encoding="utf-8")
    return name


ENERGY = SeriesRef("energy", file="a.csv", column="e", unit="kWh", sign="load")
PRICE = SeriesRef("price", file="a.csv", column="e", unit="EUR/kWh")

lengths = st.sampled_from([60, 300, 600, 900, 1200, 1800, 3600, 7200, 86_400])


@settings(max_examples=60, deadline=None)
@given(
    step_s=lengths,
    slot_s=lengths,
    shift_s=st.integers(0, 7200),
    values=st.lists(st.floats(0, 50), min_size=2, max_size=30),
)
def test_energy_is_conserved_and_levels_are_means(
    tmp_path_factory: pytest.TempPathFactory, step_s: int, slot_s: int, shift_s: int, values: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("t,e\n2020-01-01,1\n", encoding="utf-8")
    table = TableFile(path)
    start = int(utc(2020, 1, 1).timestamp())
    axis = contiguous_axis(start - shift_s, step_s, len(values))
    n = (len(values) * step_s - shift_s) // slot_s
    if n <= 0:
        return
    pieces = overlap_pieces(table, axis, SlotGrid(utc(2020, 1, 1), slot_s, n))
    series = np.array(values)
    # exact by hand: cumulative energy at each slot edge
    total = np.concatenate(([0.0], np.cumsum(series)))
    edges = start + slot_s * np.arange(n + 1)
    want = np.diff(np.interp(edges, axis.edge_s, total))
    got = pieces.energies(series, axis)
    assert got == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert got.sum() == pytest.approx(want.sum(), rel=1e-12, abs=1e-12)
    assert pieces.means(series) == pytest.approx(want * step_s / slot_s, rel=1e-9, abs=1e-9)


def test_aligned_series_come_through_bit_for_bit(tmp_path: Path) -> None:
    values = [0.1, 0.2, 0.3, 1 / 3, 0.7, 1e-9]
    hourly(tmp_path, utc(2020, 1, 1), values)
    same = load_profiles({"p": ENERGY}, SlotGrid(utc(2020, 1, 1), 3600, 6), "UTC", tmp_path).values[:, 0]
    assert same.tolist() == values
    fine = load_profiles({"p": ENERGY}, SlotGrid(utc(2020, 1, 1), 900, 24), "UTC", tmp_path).values[:, 0]
    assert fine.reshape(6, 4).sum(axis=1).tolist() == values
    held = load_profiles({"p": PRICE}, SlotGrid(utc(2020, 1, 1), 900, 24), "UTC", tmp_path).values[:, 0]
    assert held.tolist() == np.repeat(values, 4).tolist()


def test_intervals_that_do_not_align_are_split_by_overlap(tmp_path: Path) -> None:
    hourly(tmp_path, utc(2019, 12, 31, 23, 40), [6.0, 12.0, 3.0])
    energy = load_profiles({"p": ENERGY, "q": PRICE}, SlotGrid(utc(2020, 1, 1), 3600, 2), "UTC", tmp_path)
    assert energy.column("p") == pytest.approx([6 * 2 / 3 + 12 / 3, 12 * 2 / 3 + 3 / 3])
    assert energy.column("q") == pytest.approx([(6 * 2 + 12) / 3, (12 * 2 + 3) / 3])


def test_constants(tmp_path: Path) -> None:
    refs = {
        "base": SeriesRef("energy", constant=0.4, unit="kW"),
        "slot": SeriesRef("energy", constant=100, unit="Wh"),
        "price": SeriesRef("price", constant=30, unit="ct/kWh"),
        "q": SeriesRef("reactive", constant=-0.2, unit="kvar"),
        "mean": SeriesRef("power", constant=0.1, unit="kWh"),
    }
    table = load_profiles(refs, SlotGrid(utc(2020, 1, 1), 900, 4), "UTC", tmp_path)
    assert table.values[0] == pytest.approx([0.1, 0.1, 0.3, -0.05, 0.4])
    with pytest.raises(ScenarioError, match="negative load"):
        load_profiles(
            {"p": SeriesRef("energy", constant=-1, unit="kW")}, SlotGrid(utc(2020, 1, 1), 900, 4), "UTC", tmp_path
        )


# --- repeated years -------------------------------------------------------------------------------------------------


def year_file(folder: Path, zone: str, year: int) -> None:
    """Hours of a local year; the value tells month, day and hour of the wall clock."""
    tz = ZoneInfo(zone)
    start, end = datetime(year, 1, 1, tzinfo=tz).astimezone(UTC), datetime(year + 1, 1, 1, tzinfo=tz).astimezone(UTC)
    values = []
    moment = start
    while moment < end:
        local = moment.astimezone(tz)
        values.append(float(local.month * 10_000 + local.day * 100 + local.hour))
        moment += timedelta(hours=1)
    hourly(folder, start, values)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Sydney"])
@pytest.mark.parametrize(("source", "target"), [(2015, 2016), (2016, 2015), (2016, 2016)])
def test_a_year_is_repeated_by_local_month_day_and_time(tmp_path: Path, zone: str, source: int, target: int) -> None:
    year_file(tmp_path, zone, source)
    tz = ZoneInfo(zone)
    start = datetime(target, 1, 1, tzinfo=tz).astimezone(UTC)
    end = datetime(target + 1, 1, 1, tzinfo=tz).astimezone(UTC)
    grid = SlotGrid(start, 900, int((end - start).total_seconds()) // 900)
    ref = SeriesRef("price", file="a.csv", column="e", unit="EUR/kWh", repeat_year=True)
    got = load_profiles({"p": ref}, grid, zone, tmp_path).values[:, 0]
    local = [grid.start_of(i).astimezone(tz) for i in range(grid.n)]
    day = [28 if (m.month, m.day) == (2, 29) and source % 4 else m.day for m in local]
    want = np.array([m.month * 10_000 + d * 100 + m.hour for m, d in zip(local, day, strict=True)], dtype=float)
    odd = np.flatnonzero(got != want)
    # only the hour that the source's own clock skips may differ: it takes the hour after
    assert len(odd) <= 4
    assert (got[odd] == want[odd] + 1).all()
    if source == target:
        assert len(odd) == 0


def test_repeating_needs_exactly_one_year(tmp_path: Path) -> None:
    ref = SeriesRef("price", file="a.csv", column="e", unit="EUR/kWh", repeat_year=True)
    grid = SlotGrid(utc(2020, 6, 1), 3600, 24)
    hourly(tmp_path, utc(2019, 1, 1), [1.0] * 24 * 100)
    with pytest.raises(ScenarioError, match="lacks the time of year of 2020-06-01"):
        load_profiles({"p": ref}, grid, "UTC", tmp_path)
    hourly(tmp_path, utc(2019, 1, 1), [1.0] * 24 * 500)
    with pytest.raises(ScenarioError, match="repeat_year needs one year"):
        load_profiles({"p": ref}, grid, "UTC", tmp_path)


# --- shipped data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in DATASETS if DATASETS[n].path.exists()])
def test_the_registry_tells_the_truth_about_every_file(name: str) -> None:
    shipped = DATASETS[name]
    table = TableFile(shipped.path)
    numbers = [c for c in table.names if c != shipped.time_column]
    assert all(shipped.column(c) is not None for c in numbers)
    used = [c for c in shipped.columns if any(shipped.column(n) == c for n in numbers)]
    assert len(used) == len(shipped.columns)
    weather = ("degC", "hPa", "m/s", "deg", "percent", "W/m2")
    usable = [c for c in numbers if (known := shipped.column(c)) and known.unit not in weather]
    start, end = datetime.fromisoformat(shipped.start), datetime.fromisoformat(shipped.end)
    step = shipped.step_s or 86_400
    grid = SlotGrid(start, step, int((end - start).total_seconds()) // step)
    refs = {
        c: SeriesRef(known.kind, flow=known.sign or "load", dataset=name, column=c, fill="linear")
        for c in usable[:6]
        if (known := shipped.column(c))
    }
    loaded = load_profiles(refs, grid, "UTC", Path())
    assert np.isfinite(loaded.values).all()
    assert sum(r.filled for r in loaded.reports) == (2 if name == "day_ahead_nl" else 0)
    assert loaded.notices == ((dataset_notice(name),) if refs else ())
    assert shipped.licence in dataset_notice(name)


def test_fontana_gives_the_published_shares() -> None:
    homes = [row["home"] for row in read_csv_table("fontana_17homes_meta.csv")]
    refs = {f"load {h}": SeriesRef("energy", dataset="fontana_homes", column=f"load_kwh_{h}") for h in homes}
    refs |= {
        f"pv {h}": SeriesRef("energy", flow="generation", dataset="fontana_homes", column=f"pv_kwh_{h}") for h in homes
    }
    table = load_profiles(refs, SlotGrid(utc(2016, 8, 1, 7), 3600, 8760), "America/Los_Angeles", Path())
    load, pv = table.values[:, :17], table.values[:, 17:]
    alone, shared = np.minimum(load, pv).sum(), np.minimum(load.sum(axis=1), pv.sum(axis=1)).sum()
    assert round(100 * alone / pv.sum(), 2) == 55.62
    assert round(100 * shared / pv.sum(), 2) == 72.73
    assert round(100 * alone / load.sum(), 2) == 33.91
    assert round(100 * shared / load.sum(), 2) == 44.34
    assert any("flatter" in s for s in table.remarks())


def test_a_data_set_brings_its_own_unit() -> None:
    ref = SeriesRef("energy", dataset="fontana_homes", column="load_kwh_h01", unit="Wh")
    with pytest.raises(ScenarioError, match=r"unit 'Wh' is not that of fontana_homes.load_kwh_h01"):
        load_profiles({"p": ref}, SlotGrid(utc(2016, 8, 2), 3600, 24), "UTC", Path())


# --- weather --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pv_of_weather_has_the_sun_where_it_belongs() -> None:
    grid = SlotGrid(utc(2021, 1, 1), 900, 35_040)
    south = WeatherPvRef("weather_aachen_2021", 50.78, 6.08)
    refs = {
        "south": south,
        "east": WeatherPvRef("weather_aachen_2021", 50.78, 6.08, azimuth_deg=90),
        "west": WeatherPvRef("weather_aachen_2021", 50.78, 6.08, azimuth_deg=270),
        "lossless": WeatherPvRef("weather_aachen_2021", 50.78, 6.08, losses_percent=0),
        "again": WeatherPvRef("weather_aachen_2021", 50.78, 6.08, repeat_year=True),
    }
    table = load_profiles(refs, grid, "Europe/Berlin", Path())
    year = dict(zip(table.names, table.values.sum(axis=0), strict=True))
    assert 850 < year["south"] < 1150  # kWh/kWp, what a roof in Aachen yields
    assert year["lossless"] > year["south"] / 0.86 * 0.97
    assert year["south"] > year["east"] > 500
    hours = (np.arange(grid.n) % 96) / 4 + 0.125
    centre = {n: float((table.column(n) * hours).sum() / year[n]) for n in ("south", "east", "west")}
    assert centre["east"] < centre["south"] < centre["west"]
    assert abs(centre["south"] - 11.6) < 0.5  # solar noon at 6 degrees east is about 11:36 UTC
    assert table.values.min() >= 0
    night = (hours < 2) | (hours > 22.5)
    assert table.values[night].max() == 0
    assert year["again"] == pytest.approx(year["south"], rel=1e-9)


def test_weather_from_beam_and_diffuse_agrees_with_the_measured_homes() -> None:
    grid = SlotGrid(utc(2016, 8, 1, 7), 3600, 8760)
    refs = {
        "model": WeatherPvRef("fontana_context", 34.1, -117.4, tilt_deg=20),
        "measured": SeriesRef("energy", flow="generation", dataset="fontana_homes", column="pv_kwh_h07"),
    }
    table = load_profiles(refs, grid, "UTC", Path())
    assert np.corrcoef(table.values.T)[0, 1] > 0.8
    assert 1500 < table.column("model").sum() < 2400


def test_weather_files_are_checked(tmp_path: Path) -> None:
    hourly(tmp_path, utc(2021, 1, 1), [1.0] * 24)
    with pytest.raises(ScenarioError, match="is no weather for PV") as caught:
        load_profiles({"pv": WeatherPvRef("a.csv", 50, 6)}, SlotGrid(utc(2021, 1, 1), 3600, 24), "UTC", tmp_path)
    assert "ghi_w_m2" in (caught.value.remedy or "")


# --- the cache ------------------------------------------------------------------------------------------------------


def test_the_cache_gives_the_same_and_notices_a_changed_file(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    grid = SlotGrid(utc(2020, 1, 1), 900, 16)
    hourly(tmp_path, utc(2020, 1, 1), [1.0, 2.0, 3.0, 4.0])
    cold = load_profiles({"p": ENERGY, "c": PRICE}, grid, "UTC", tmp_path, cache)
    warm = load_profiles({"p": ENERGY, "c": PRICE}, grid, "UTC", tmp_path, cache)
    assert isinstance(warm.values, np.memmap)
    assert warm.values.flags.c_contiguous
    assert np.array_equal(cold.values, warm.values)
    assert (warm.names, warm.reports, warm.notices) == (cold.names, cold.reports, cold.notices)
    assert np.array_equal(warm.window(4, 8), cold.values[4:12])
    assert len(list(cache.iterdir())) == 2
    hourly(tmp_path, utc(2020, 1, 1), [1.0, 2.0, 3.0, 5.0])
    changed = load_profiles({"p": ENERGY, "c": PRICE}, grid, "UTC", tmp_path, cache)
    assert changed.values.sum() != cold.values.sum()
    assert len(list(cache.iterdir())) == 4


def test_a_broken_cache_is_made_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    grid = SlotGrid(utc(2020, 1, 1), 3600, 4)
    hourly(tmp_path, utc(2020, 1, 1), [1.0, 2.0, 3.0, 4.0])
    load_profiles({"p": ENERGY}, grid, "UTC", tmp_path, cache)
    for path in cache.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:40])
    assert load_profiles({"p": ENERGY}, grid, "UTC", tmp_path, cache).values[:, 0].tolist() == [1, 2, 3, 4]
