"""Numbers that cannot be what they are declared to be; lines above a table; years that stand for others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core import ScenarioError, SlotGrid
from grid.datasets import DATASETS
from grid.profiles import ProfileTable, SeriesRef, WeatherPvRef, load_profiles

DAY = SlotGrid(datetime(2020, 1, 1, tzinfo=UTC), 3600, 24)


def write(folder: Path, values: list[float | str], above: str = "", mark: str = ",") -> None:
    rows = [f"2020-01-01T{h:02d}:00Z{mark}{v}" for h, v in enumerate(values)]
    (folder / "home.csv").write_text(above + f"time{mark}use\n" + "\n".join(rows) + "\n", encoding="utf-8")


def load(folder: Path, **given: object) -> ProfileTable:
    ref = {"kind": "energy", "file": "home.csv", "column": "use", "unit": "kWh", "sign": "load", **given}
    return load_profiles({"p": SeriesRef(**ref)}, DAY, "Europe/Berlin", folder)  # type: ignore[arg-type]


def home() -> list[float | str]:
    return [round(0.2 + 0.05 * (h % 7), 3) for h in range(24)]


def test_watt_hours_declared_as_kilowatt_hours_are_remarked(tmp_path: Path) -> None:
    write(tmp_path, home())
    assert load(tmp_path).remarks() == ()
    write(tmp_path, [float(v) * 1000 for v in home()])
    (said,) = load(tmp_path).remarks()
    assert (
        said.startswith("home.csv, column 'use': read as kWh, its mean is 338 kW and its highest value 500 kW")
        and "Check the unit" in said
    )
    assert load(tmp_path, unit="Wh").remarks() == ()


def test_one_wild_cell_is_an_error_with_its_line(tmp_path: Path) -> None:
    values = home()
    values[5] = 9_999_999
    write(tmp_path, values)
    with pytest.raises(ScenarioError, match=r"column 'use': 1e\+07 kW from 2020-01-01T06:00:00\+01:00") as caught:
        load(tmp_path)
    assert (caught.value.line, str(caught.value.file)) == (7, str(tmp_path / "home.csv"))
    assert "leave the cell empty" in (caught.value.remedy or "")
    values[5] = ""
    write(tmp_path, values)
    assert load(tmp_path, fill="linear").remarks()[0].startswith("p: 1 missing values")
    plant: list[float | str] = [120.0 if h % 5 == 0 else 0.05 for h in range(24)]  # a fast charger: rests, then draws
    write(tmp_path, plant)
    assert load(tmp_path).values.max() == 120.0


def test_pv_cannot_yield_more_than_the_sun_gives(tmp_path: Path) -> None:
    write(tmp_path, [0.9 if 8 <= h <= 15 else 0 for h in range(24)])
    pv = {"sign": "generation", "flow": "generation", "unit": "kWh/kWp"}
    assert load(tmp_path, **pv).remarks() == ()
    write(tmp_path, [4.5 if 8 <= h <= 15 else 0 for h in range(24)])
    with pytest.raises(ScenarioError, match=r"a yield of 4.5 kWh per kWp and hour") as caught:
        load(tmp_path, **pv)
    assert (caught.value.line, "say kWh" in (caught.value.remedy or "")) == (10, True)
    assert load(tmp_path, **{**pv, "unit": "kWh"}).remarks() == ()


def test_lines_above_the_table_are_noticed_and_skipped(tmp_path: Path) -> None:
    above = "Export of the portal\nMeter;1EMH0012\n\n"
    write(tmp_path, home(), above, ";")
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path)
    assert "say skip_rows: 3" in (caught.value.remedy or ""), caught.value
    assert load(tmp_path, skip_rows=3).column("p").sum() == pytest.approx(sum(float(v) for v in home()))
    write(tmp_path, home(), "Meter;1EMH0012\n", ";")  # as wide as the table
    with pytest.raises(ScenarioError, match="no column 'use'") as caught:
        load(tmp_path)
    assert "say skip_rows: 1" in (caught.value.remedy or "")
    values = home()
    values[2] = "x"
    write(tmp_path, values, above, ";")
    with pytest.raises(ScenarioError, match="not a number") as caught:
        load(tmp_path, skip_rows=3)
    assert caught.value.line == 7


def test_a_unit_in_another_case_is_guessed(tmp_path: Path) -> None:
    write(tmp_path, home())
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, unit="kwh")
    assert (caught.value.remedy or "").startswith("did you mean kWh?")


def test_a_year_that_stands_for_another_is_named() -> None:
    carbon = SeriesRef("carbon", dataset="carbon_monthly_europe", column="DE_lca", repeat_year=True)
    sun = WeatherPvRef("weather_aachen_2021", 50.8, 6.1, repeat_year=True)
    table = load_profiles({"c": carbon, "s": sun}, DAY, "Europe/Berlin", Path())
    assert "carbon_monthly_europe: values of 2023 stand for 2020 (repeat_year)" in table.remarks()
    assert "weather_aachen_2021: values of 2021 stand for 2020 (repeat_year)" in table.remarks()
    own = SlotGrid(datetime(2023, 5, 1, tzinfo=UTC), 3600, 24)
    same = load_profiles({"c": carbon}, own, "Europe/Berlin", Path())
    assert not any("stand for" in said for said in same.remarks())


@pytest.mark.parametrize("name", ["fontana_homes", "vermont_homes", "simbench_semiurb4_2016"])
def test_shipped_data_lie_far_below_the_limits(name: str) -> None:
    pd = pytest.importorskip("pandas")
    shipped = DATASETS[name]
    data = pd.read_parquet(shipped.path).select_dtypes("number").to_numpy() * (3600 / shipped.step_s)
    assert np.nanmax(np.abs(data)) < 50.0
