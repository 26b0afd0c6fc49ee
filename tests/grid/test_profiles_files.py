"""Files of a user: time zones, clock changes, units, signs, gaps, and every mistake with line and remedy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core import ScenarioError, SlotGrid
from grid.datasets import dataset
from grid.profiles import ProfileTable, SeriesRef, load_profiles


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def write(folder: Path, lines: list[str], name: str = "a.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def local_rows(zone: str, start: datetime, n: int, step_s: int, form: str = "%Y-%m-%d %H:%M") -> list[str]:
    """Wall-clock stamps of n consecutive intervals; value = position."""
    tz = ZoneInfo(zone)
    return [f"{(start + timedelta(seconds=i * step_s)).astimezone(tz).strftime(form)},{i}" for i in range(n)]


def load(folder: Path, grid: SlotGrid, zone: str = "UTC", **ref: object) -> ProfileTable:
    given: dict[str, object] = {"kind": "energy", "file": "a.csv", "column": "e", "unit": "kWh", "sign": "load"}
    return load_profiles({"p": SeriesRef(**(given | ref))}, grid, zone, folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Sydney", "Australia/Adelaide"])
@pytest.mark.parametrize("step_s", [900, 3600])
@pytest.mark.parametrize("stamp", ["start", "end"])
def test_a_local_clock_is_followed_across_both_changes(tmp_path: Path, zone: str, step_s: int, stamp: str) -> None:
    start = utc(2016, 1, 1)
    n = 366 * 86_400 // step_s
    shift = timedelta(seconds=step_s if stamp == "end" else 0)
    write(tmp_path, ["t,e", *local_rows(zone, start + shift, n, step_s)])
    table = load(tmp_path, SlotGrid(start, step_s, n), time_zone=zone, stamp=stamp)
    assert np.array_equal(table.values[:, 0], np.arange(n))
    assert table.reports[0].gaps == ()
    assert table.reports[0].covers == ("2016-01-01T00:00:00Z", "2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("zone", "form", "remedy"),
    [
        ("Europe/Berlin", "%d.%m.%Y %H:%M", "Etc/GMT-1"),
        ("Australia/Sydney", "%Y-%m-%dT%H:%M:%S", "Etc/GMT-10"),
        ("America/New_York", "%Y-%m-%d %H:%M", "Etc/GMT+5"),
        ("Australia/Adelaide", "%Y-%m-%d %H:%M", "+09:30"),
    ],
)
def test_standard_time_all_year_is_noticed_and_the_remedy_works(
    tmp_path: Path, zone: str, form: str, remedy: str
) -> None:
    tz = ZoneInfo(zone)
    winter = min((datetime(2016, m, 1, tzinfo=tz).utcoffset() or timedelta()) for m in (1, 7))
    n = 366 * 24
    stamps = [(utc(2016, 1, 1) + timedelta(hours=i)).strftime(form) for i in range(n)]
    write(tmp_path, ["t,e", *(f"{s},{i}" for i, s in enumerate(stamps))])
    grid = SlotGrid(utc(2016, 1, 1) - winter, 3600, n) if not winter.seconds % 3600 else None
    with pytest.raises(ScenarioError, match="does not exist") as caught:
        load(tmp_path, grid or SlotGrid(utc(2016, 1, 2), 3600, 24), time_zone=zone)
    assert caught.value.line is not None
    assert remedy in (caught.value.remedy or "")
    if grid is not None:
        assert np.array_equal(load(tmp_path, grid, time_zone=remedy).values[:, 0], np.arange(n))


def october(passes: str) -> list[str]:
    """Quarter hours of 2016-10-30 in Berlin, the repeated hour as told."""
    before = [f"2016-10-30 {h:02d}:{m:02d}" for h in (0, 1) for m in (0, 15, 30, 45)]
    hour = [f"2016-10-30 02:{m:02d}" for m in (0, 15, 30, 45)]
    after = [f"2016-10-30 {h:02d}:{m:02d}" for h in range(3, 24) for m in (0, 15, 30, 45)]
    middle = {"twice": hour + hour, "once": hour, "woven": sorted(hour + hour)}[passes]
    return ["t,e", *(f"{s},1" for s in before + middle + after)]


def test_the_repeated_hour_is_read_by_the_order_of_rows(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2016, 10, 29, 22), 900, 100)
    write(tmp_path, october("twice"))
    assert load(tmp_path, grid, time_zone="Europe/Berlin").values.sum() == 100.0
    write(tmp_path, october("woven"))
    with pytest.raises(ScenarioError, match=r"cannot be told apart: its rows step back 4 times"):
        load(tmp_path, grid, time_zone="Europe/Berlin")


def test_a_repeated_hour_that_is_there_once_is_a_gap(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2016, 10, 29, 22), 900, 100)
    write(tmp_path, october("once"))
    with pytest.raises(
        ScenarioError, match=r"1 gap with 4 missing values.*from 2016-10-30T02:00:00\+01:00 to"
    ) as caught:
        load(tmp_path, grid, time_zone="Europe/Berlin")
    assert "Etc/GMT-1" in (caught.value.remedy or "")
    assert caught.value.line == 13  # of the row before the gap
    table = load(tmp_path, grid, time_zone="Europe/Berlin", fill="linear")
    assert table.values.sum() == 100.0
    report = table.reports[0]
    assert (report.filled, report.method) == (4, "linear")
    assert report.gaps[0].start == "2016-10-30T02:00:00+01:00"
    assert any("read as its first pass" in s for s in table.remarks())


def test_stamps_with_offset_need_no_zone(tmp_path: Path) -> None:
    tz = ZoneInfo("Europe/Berlin")
    rows = [(utc(2016, 10, 29, 12) + timedelta(hours=i)).astimezone(tz) for i in range(48)]
    write(tmp_path, ["t,e", *(f"{r.isoformat()},{i}" for i, r in enumerate(rows))])
    table = load(tmp_path, SlotGrid(utc(2016, 10, 29, 12), 3600, 48))
    assert np.array_equal(table.values[:, 0], np.arange(48))


def test_days_of_local_midnights_are_regular(tmp_path: Path) -> None:
    write(tmp_path, ["t,e", *(f"2016-10-{d:02d},{24 + (d == 30)}" for d in range(28, 32)), "2016-11-01,24"])
    grid = SlotGrid(utc(2016, 10, 27, 22), 3600, 24 * 4 + 1)
    table = load(tmp_path, grid, time_zone="Europe/Berlin")
    assert table.values[:, 0] == pytest.approx(np.ones(97))  # 25 kWh on the day of 25 hours


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("kWh", 1.0), ("Wh", 1e-3), ("MWh", 1e3), ("kW", 0.5), ("W", 0.5e-3), ("MW", 0.5e3), ("W/kWp", 0.5e-3)],
)
def test_units_of_energy_and_power(tmp_path: Path, unit: str, factor: float) -> None:
    write(tmp_path, ["t,e", *(f"2020-01-01T{h:02d}:{m:02d}Z,{h + 1}" for h in range(4) for m in (0, 30))])
    table = load(tmp_path, SlotGrid(utc(2020, 1, 1), 1800, 8), unit=unit)
    assert table.values[:, 0] == pytest.approx(np.repeat([1, 2, 3, 4], 2) * factor, rel=1e-15)


@pytest.mark.parametrize(
    ("kind", "unit", "factor"),
    [
        ("price", "EUR/MWh", 1e-3),
        ("price", "ct/kWh", 1e-2),
        ("price", "USD/kWh", 1.0),
        ("carbon", "g/kWh", 1e-3),
        ("carbon", "gCO2eq/kWh", 1e-3),
        ("carbon", "kg/MWh", 1e-3),
        ("carbon", "t/MWh", 1.0),
        ("level", "kg/kWh", 1.0),
    ],
)
def test_units_of_levels(tmp_path: Path, kind: str, unit: str, factor: float) -> None:
    write(tmp_path, ["t,e", "2020-01-01T00:00Z,-40", "2020-01-01T01:00Z,80"])
    table = load(tmp_path, SlotGrid(utc(2020, 1, 1), 1800, 4), kind=kind, unit=unit, sign=None)
    assert table.values[:, 0] == pytest.approx(np.array([-40, -40, 80, 80]) * factor, rel=1e-15)
    assert table.reports[0].currency == ("EUR" if unit[:3] == "EUR" else "USD" if unit[:3] == "USD" else None)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("energy", "kwh"), ("energy", "EUR/MWh"), ("price", "kWh"), ("price", "g/kWh"), ("carbon", "EUR/kWh")],
)
def test_a_wrong_unit_names_the_known_ones(tmp_path: Path, kind: str, unit: str) -> None:
    write(tmp_path, ["t,e", "2020-01-01T00:00Z,1", "2020-01-01T01:00Z,1"])
    with pytest.raises(ScenarioError, match="is not a unit of") as caught:
        load(tmp_path, SlotGrid(utc(2020, 1, 1), 3600, 2), kind=kind, unit=unit)
    known = {"energy": "kWh", "price": "EUR/MWh", "carbon": "g/kWh"}[kind]
    assert known in (caught.value.remedy or "")


def test_the_sign_is_declared_and_turned(tmp_path: Path) -> None:
    write(tmp_path, ["t,e", "2020-01-01T00:00Z,-2", "2020-01-01T01:00Z,0"])
    grid = SlotGrid(utc(2020, 1, 1), 3600, 2)
    turned = load(tmp_path, grid, sign="load", flow="generation").values[:, 0]
    assert turned.tolist() == [2.0, 0.0]
    assert not np.signbit(turned).any()
    with pytest.raises(ScenarioError, match=r"negative load: -2 kW at 2020-01-01T00:00:00Z") as caught:
        load(tmp_path, grid)
    assert (caught.value.line, "sign: generation" in (caught.value.remedy or "")) == (2, True)
    with pytest.raises(ScenarioError, match="the sign of column 'e' is missing"):
        load(tmp_path, grid, sign=None)


def test_an_inverters_standby_is_zero_and_more_is_an_error(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2020, 1, 1), 3600, 2)
    write(tmp_path, ["t,e", "2020-01-01T00:00Z,-0.9", "2020-01-01T01:00Z,500"])
    assert load(tmp_path, grid, unit="W", sign="generation", flow="generation").values[:, 0].tolist() == [0.0, 0.5]
    write(tmp_path, ["t,e", "2020-01-01T00:00Z,500", "2020-01-01T01:00Z,-1.1"])
    with pytest.raises(ScenarioError, match="negative PV generation") as caught:
        load(tmp_path, grid, unit="W", sign="generation", flow="generation")
    assert caught.value.line == 3


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    write(
        tmp_path,
        ["# a remark", "", '"Zeit";"e"', "01.01.2020 00:00;1,25", "01.01.2020 01:00; 0,5", "", "01.01.2020 02:00;2"],
    )
    table = load(tmp_path, SlotGrid(utc(2019, 12, 31, 23), 3600, 3), time_zone="Europe/Berlin")
    assert table.values[:, 0].tolist() == [1.25, 0.5, 2.0]


def test_parquet_with_index_and_naive_stamps(tmp_path: Path) -> None:
    import pandas as pd

    times = pd.date_range("2016-10-29", "2016-10-31", freq="15min", tz="Europe/Berlin", inclusive="left", name="t")
    frame = pd.DataFrame({"e": np.arange(len(times)) * 1.0}, index=times)
    frame.to_parquet(tmp_path / "aware.parquet")
    frame.reset_index().assign(t=lambda f: f.t.dt.tz_localize(None)).to_parquet(tmp_path / "naive.parquet")
    grid = SlotGrid(utc(2016, 10, 28, 22), 900, len(times))
    for name, zone in (("aware.parquet", None), ("naive.parquet", "Europe/Berlin")):
        column = "t" if zone else None
        table = load(tmp_path, grid, file=name, time_zone=zone, time_column=column)
        assert np.array_equal(table.values[:, 0], np.arange(len(times)))


HOURS = [f"2020-01-01T{h:02d}:00Z" for h in range(24)]


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ([f"{HOURS[0]},1", f"{HOURS[1]},x1", f"{HOURS[2]},1"], 3, "'x1', which is not a number"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},", f"{HOURS[2]},1"], 3, "1 gap with 1 missing values"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},NaN", f"{HOURS[2]},1"], 3, "1 gap with 1 missing values"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},inf", f"{HOURS[2]},1"], 3, "infinite"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},1", f"{HOURS[1]},1"], 4, "appears twice"),
        ([f"{HOURS[1]},1", f"{HOURS[0]},1", f"{HOURS[2]},1"], 3, "lies before the one above"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},1", f"{HOURS[2]},1", "2020-01-01T03:10Z,1"], 5, "irregular time step"),
        ([f"{HOURS[0]},1", "yesterday,1", f"{HOURS[2]},1"], 3, "'yesterday', which is no time stamp"),
        ([f"{HOURS[0]},1", "2020-02-30T00:00Z,1"], 3, "no time stamp"),
        ([f"{HOURS[0]},1", "2020-01-01T01:00,1", f"{HOURS[2]},1"], 3, "has no offset"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},1,7", f"{HOURS[2]},1"], 3, "has 3 cells, the header 2"),
        ([f"{HOURS[0]},1"], None, "one row"),
        ([], None, "no rows"),
    ],
)
def test_mistakes_are_named_with_line_and_remedy(
    tmp_path: Path, rows: list[str], line: int | None, message: str
) -> None:
    write(tmp_path, ["t,e", *rows])
    with pytest.raises(ScenarioError, match=message) as caught:
        load(tmp_path, SlotGrid(utc(2020, 1, 1), 3600, 3))
    assert caught.value.line == line
    assert caught.value.remedy
    assert caught.value.path == "profiles.p"


def test_missing_things_name_what_is_near(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2020, 1, 1), 3600, 2)
    write(tmp_path, ["t,load_h01,load_h02", f"{HOURS[0]},1,2", f"{HOURS[1]},1,2"], "homes.csv")
    for ref, message, remedy in [
        ({"file": "home.csv"}, "no such file", "homes.csv"),
        ({"file": "homes.csv", "column": "load_h1"}, "no column 'load_h1'", "load_h01"),
        ({"file": "homes.csv", "column": None}, "column is missing", "load_h01, load_h02"),
        ({"file": "homes.csv", "column": "load_h01", "unit": None}, "unit is missing", "kWh"),
        ({"file": "homes.csv", "column": "load_h01", "time_column": "time"}, "no column 'time'", "t, load_h01"),
        ({"file": "homes.xlsx"}, "no such file", "homes.csv"),
        ({"file": None, "dataset": "fontana_home", "unit": None, "sign": None}, "no shipped data set", "fontana_homes"),
        ({"file": None}, "no single source", "exactly one"),
    ]:
        with pytest.raises(ScenarioError, match=message) as caught:
            load(tmp_path, grid, **ref)
        assert remedy in (caught.value.remedy or "")


def test_naive_stamps_need_a_zone_and_the_zone_a_name(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2020, 1, 1), 3600, 2)
    write(tmp_path, ["t,e", "2020-01-01 00:00,1", "2020-01-01 01:00,1"])
    with pytest.raises(ScenarioError, match="without offset"):
        load(tmp_path, grid)
    with pytest.raises(ScenarioError, match="unknown time zone") as caught:
        load(tmp_path, grid, time_zone="Europe/Berln")
    assert "Europe/Berlin" in (caught.value.remedy or "")


def test_a_file_that_is_too_short_says_what_it_covers(tmp_path: Path) -> None:
    write(tmp_path, ["t,e", *(f"{h},1" for h in HOURS)])
    with pytest.raises(ScenarioError, match=r"covers 2020-01-01T00:00:00Z to 2020-01-02T00:00:00Z, the run needs"):
        load(tmp_path, SlotGrid(utc(2020, 1, 1), 3600, 25))


def test_an_ambiguous_order_of_day_and_month(tmp_path: Path) -> None:
    grid = SlotGrid(utc(2020, 3, 1), 86_400, 14)
    write(tmp_path, ["t,e", *(f"{d:02d}/03/2020,{d}" for d in range(1, 15))])
    assert load(tmp_path, grid, time_zone="UTC").values[:, 0].tolist() == list(range(1, 15))
    write(tmp_path, ["t,e", *(f"03/{d:02d}/2020,{d}" for d in range(1, 15))])
    assert load(tmp_path, grid, time_zone="UTC").values[:, 0].tolist() == list(range(1, 15))
    write(tmp_path, ["t,e", *(f"03/{d:02d}/2020,{d}" for d in range(1, 5))])
    with pytest.raises(ScenarioError, match="which number of '03/01/2020' is the month"):
        load(tmp_path, grid, time_zone="UTC")


def gap_file(folder: Path, missing: set[int], n: int = 24 * 15) -> None:
    rows = [f"{(utc(2020, 1, 1) + timedelta(hours=i)).isoformat()},{i}" for i in range(n) if i not in missing]
    write(folder, ["t,e", *rows])


def test_gaps_are_filled_by_the_named_method_and_reported(tmp_path: Path) -> None:
    missing = {30, 31, 200}
    gap_file(tmp_path, missing)
    grid = SlotGrid(utc(2020, 1, 1), 3600, 24 * 15)
    with pytest.raises(ScenarioError, match=r"2 gaps with 3 missing values, the first from 2020-01-02T06:00:00Z"):
        load(tmp_path, grid)
    want = {
        "zero": [0, 0, 0],
        "linear": [30, 31, 200],
        "previous_day": [6, 7, 176],
    }
    for method, values in want.items():
        table = load(tmp_path, grid, fill=method)
        assert table.values[[30, 31, 200], 0].tolist() == pytest.approx(values)
        assert [g.intervals for g in table.reports[0].gaps] == [2, 1]
        assert f"filled by {method}" in table.remarks()[0]
    with pytest.raises(ScenarioError, match="cannot be filled by previous_week"):
        load(tmp_path, grid, fill="previous_week")
    late = SlotGrid(utc(2020, 1, 8), 3600, 24 * 8)
    table = load(tmp_path, late, fill="previous_week")
    assert table.values[200 - 168, 0] == 32.0
    assert table.reports[0].filled == 1  # gaps outside the run do not matter
    assert load(tmp_path, SlotGrid(utc(2020, 1, 10), 3600, 48)).reports[0].gaps == ()


def test_profiles_of_a_simbench_network_that_is_not_shipped_need_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ScenarioError, match="not shipped") as caught:
        dataset("simbench:1-LV-rural1--0-sw", path="profiles.x")
    assert "peerwatt[simbench]" in str(caught.value)
    assert caught.value.path == "profiles.x"
