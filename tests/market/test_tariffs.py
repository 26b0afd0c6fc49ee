"""Tariffs as price series: decimal text, local wall-clock bands, days of 92 and 100 quarter hours, validity."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core.errors import ScenarioError
from core.slots import SlotGrid
from market.tariffs import (
    BandSpec,
    TariffSpec,
    TermsSpec,
    clock_minutes,
    daily_charge_u,
    resolve_contract,
    tariff_prices_u,
    to_micro,
    valid_term,
)

BERLIN = "Europe/Berlin"
SYDNEY = "Australia/Sydney"


def local_day(day: date, zone: str, days: int = 1, minutes: int = 15) -> SlotGrid:
    """Quarter hours from local midnight to local midnight."""
    edges = (day, day + timedelta(days=days))
    start, end = (datetime(d.year, d.month, d.day, tzinfo=ZoneInfo(zone)).astimezone(UTC) for d in edges)
    return SlotGrid(start, minutes * 60, int((end - start).total_seconds()) // (minutes * 60))


def slow_price(grid: SlotGrid, zone: str, tariff: TariffSpec) -> list[int]:
    """An independent reading of the bands, slot by slot with datetime objects."""
    prices = []
    for k in range(grid.n):
        local = grid.start_of(k).astimezone(ZoneInfo(zone))
        minute = local.hour * 60 + local.minute
        price = tariff.default_u
        for band in tariff.bands:
            wraps = band.end_minute <= band.start_minute
            day = local.date()
            if wraps and minute < band.end_minute and not minute >= band.start_minute:
                day -= timedelta(days=1)
                inside = True
            else:
                inside = minute >= band.start_minute and (wraps or minute < band.end_minute)
            if inside and day.weekday() in band.weekdays and day.month in band.months:
                price = band.price_u
                break
        prices.append(price)
    return prices


@pytest.mark.parametrize(
    ("value", "want"),
    [(0.30, 300_000), ("0.30", 300_000), (0.1 + 0.2, 300_000), (-0.05, -50_000), ("0.0000005", 0), ("0.0000015", 2),
     (Decimal("0.3333335"), 333_334), (0, 0), (32, 32_000_000), (1e-7, 0)],
)  # fmt: skip
def test_prices_are_rounded_half_even_from_decimal_text(value: float | str | Decimal, want: int) -> None:
    assert to_micro(value) == want


@pytest.mark.parametrize("value", ["nan", "inf", "abc", float("nan")])
def test_what_is_no_price_is_refused(value: float | str) -> None:
    with pytest.raises(ScenarioError, match="finite"):
        to_micro(value)


def test_clock_texts() -> None:
    assert [clock_minutes(t) for t in ("00:00", "06:30", "24:00")] == [0, 390, 1440]
    for wrong in ("24:15", "6", "06:60", "-1:00", "a:b"):
        with pytest.raises(ScenarioError, match="time of day"):
            clock_minutes(wrong)


@pytest.mark.parametrize(
    ("day", "zone", "slots", "in_band"),
    [
        (date(2021, 3, 28), BERLIN, 92, 0),  # 02:00..03:00 does not exist
        (date(2021, 10, 31), BERLIN, 100, 8),  # and occurs twice
        (date(2021, 10, 3), SYDNEY, 92, 0),
        (date(2021, 4, 4), SYDNEY, 100, 8),
        (date(2021, 6, 1), BERLIN, 96, 4),
    ],
)
def test_days_with_a_clock_change(day: date, zone: str, slots: int, in_band: int) -> None:
    grid = local_day(day, zone)
    assert grid.n == slots
    night = TariffSpec(default_u=300_000, bands=(BandSpec(100_000, 120, 180),))
    prices = tariff_prices_u(night, grid, zone)
    assert int((prices == 100_000).sum()) == in_band
    evening = tariff_prices_u(TariffSpec(300_000, (BandSpec(400_000, 17 * 60, 20 * 60),)), grid, zone)
    assert int((evening == 400_000).sum()) == 12  # the evening has its three hours on every day
    start = datetime(day.year, day.month, day.day, 17, tzinfo=ZoneInfo(zone))
    assert int(np.argmax(evening == 400_000)) == grid.index_of(start)


@pytest.mark.parametrize("zone", [BERLIN, SYDNEY, "Asia/Kolkata", "America/St_Johns"])
def test_bands_equal_a_slow_reading_over_both_clock_changes(zone: str) -> None:
    tariff = TariffSpec(
        default_u=250_000,
        bands=(
            BandSpec(500_000, 17 * 60, 20 * 60, weekdays=(0, 1, 2, 3, 4)),
            BandSpec(50_000, 22 * 60, 6 * 60, weekdays=(4, 5)),  # Friday and Saturday nights
            BandSpec(150_000, 23 * 60 + 30, 2 * 60 + 30, months=(3, 10)),
            BandSpec(90_000, 0, 1440, weekdays=(6,)),
        ),
    )
    for first in (date(2021, 3, 25), date(2021, 9, 29), date(2021, 10, 28)):
        grid = local_day(first, zone, days=8)
        assert tariff_prices_u(tariff, grid, zone).tolist() == slow_price(grid, zone, tariff)


def test_a_band_over_midnight_belongs_to_the_day_it_starts_on() -> None:
    grid = local_day(date(2021, 6, 4), BERLIN, days=2)  # Friday, Saturday
    prices = tariff_prices_u(TariffSpec(2, (BandSpec(1, 22 * 60, 6 * 60, weekdays=(4,)),)), grid, BERLIN)
    cheap = np.flatnonzero(prices == 1)
    assert cheap.tolist() == list(range(88, 96 + 24))
    new_year = local_day(date(2021, 12, 31), BERLIN, days=2)
    december = tariff_prices_u(TariffSpec(2, (BandSpec(1, 22 * 60, 6 * 60, months=(12,)),)), new_year, BERLIN)
    assert int((december == 1).sum()) == 8 + 24 + 24  # the morning of 31 December, and the night into January


def test_the_first_band_that_matches_wins() -> None:
    grid = local_day(date(2021, 6, 1), BERLIN)
    bands = (BandSpec(1, 600, 660), BandSpec(2, 600, 720))
    prices = tariff_prices_u(TariffSpec(9, bands), grid, BERLIN)
    assert [int((prices == p).sum()) for p in (1, 2, 9)] == [4, 4, 88]


def test_series_with_markup() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 3600, 4)
    series = TariffSpec(series_per_kwh=np.array([0.1, 0.2, -0.05, 0.1]), markup_per_kwh=0.2)
    assert tariff_prices_u(series, grid, "UTC").tolist() == [300_000, 400_000, 150_000, 300_000]
    with pytest.raises(ScenarioError, match="slot 1"):
        tariff_prices_u(TariffSpec(series_per_kwh=np.array([0.1, np.nan, 0.1, 0.1])), grid, "UTC")
    with pytest.raises(ScenarioError, match="3 values for 4 slots"):
        tariff_prices_u(TariffSpec(series_per_kwh=np.zeros(3)), grid, "UTC")


def test_terms_change_in_the_middle_of_a_run_and_of_a_day() -> None:
    grid = local_day(date(2021, 3, 27), BERLIN, days=3)  # the clock changes on the 28th
    terms = [
        TermsSpec(TariffSpec(300_000), fixed_per_day=0.1, vat_percent=19),
        TermsSpec(
            TariffSpec(310_000),
            valid_from=date(2021, 3, 28),
            fixed_per_day=0.2,
            levies_per_kwh=(("a", 0.01), ("b", 0.02)),
        ),
        TermsSpec(TariffSpec(320_000), valid_from=datetime.fromisoformat("2021-03-28T12:07"), local_import_per_kwh=0.03,
                  full_import_per_kwh=0.08, demand_per_kw_month=4.5, vat_percent=7.7),
    ]  # fmt: skip
    got = resolve_contract(terms, grid, BERLIN)
    # the 28th has 92 slots; noon is 11 hours after its midnight, and 12:07 counts from the slot at 12:15
    change = 96 + 44 + 1
    assert got.retail_u.tolist() == [300_000] * 96 + [310_000] * (change - 96) + [320_000] * (grid.n - change)
    assert set(got.levies_u[96:change].tolist()) == {30_000}
    assert not got.levies_u[change:].any()
    assert (got.local_import_u[change], got.full_import_u[change]) == (30_000, 80_000)
    assert (got.vat_micro_percent[0], got.vat_micro_percent[-1]) == (19_000_000, 7_700_000)
    assert got.demand_u[-1] == 4_500_000
    # one charge per local day, at the rate of the day's first slot
    assert {int(k): int(got.fixed_u[k]) for k in np.flatnonzero(got.fixed_u)} == {0: 100_000, 96: 200_000}
    rates = np.full(grid.n, 7, np.int64)
    assert np.flatnonzero(daily_charge_u(rates, grid, BERLIN)).tolist() == [0, 96, 188]


def test_the_local_level_defaults_to_the_full_one() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 3600, 2)
    got = resolve_contract([TermsSpec(TariffSpec(1), full_import_per_kwh=0.08)], grid, "UTC")
    assert got.local_import_u.tolist() == [80_000, 80_000]


def test_a_moment_with_an_offset_is_taken_as_it_is() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 3600, 4)
    assert valid_term([None, datetime(2021, 1, 1, 2, tzinfo=UTC)], grid, BERLIN).tolist() == [0, 0, 1, 1]
    assert valid_term([None, datetime.fromisoformat("2021-01-01T02:00")], grid, BERLIN).tolist() == [0, 1, 1, 1]


def test_wrong_validity_is_refused() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 3600, 4)
    with pytest.raises(ScenarioError, match="in force at the start"):
        valid_term([date(2021, 1, 2)], grid, "UTC")
    with pytest.raises(ScenarioError, match="do not come after"):
        valid_term([None, date(2021, 1, 2), date(2021, 1, 2)], grid, "UTC")
    with pytest.raises(ScenarioError, match="without a date"):
        valid_term([date(2020, 1, 2), None], grid, "UTC")
    with pytest.raises(ScenarioError, match="at least one"):
        valid_term([], grid, "UTC")
