"""Supply contracts as price series: flat, time-of-use or given prices become whole micro-currency per kWh and slot.

Time-of-use bands are in local wall-clock time of a zone, so a day may have 92 or 100 quarter hours. A slot has the
price that holds at its start. Prices are rounded once, half to even, from their decimal text (0.30 is 300000 exactly).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from core.errors import ScenarioError
from core.slots import LocalTime, SlotGrid

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Moment = date | datetime | None
"""A local date (its midnight), a local date-time, an aware instant, or None for "since ever"."""

MICRO = 1_000_000
DAY_MINUTES = 1440
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def to_micro(value: float | int | str | Decimal) -> int:
    """``value`` times a million, rounded half to even from its decimal text: 0.30 -> 300000, "-0.0000005" -> 0.

    Raises
    ------
    ScenarioError
        If it is not a finite number.
    """
    try:
        exact = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        exact = Decimal("nan")
    if not exact.is_finite():
        raise ScenarioError(f"{value!r} is not a finite number", remedy="write a price such as 0.30")
    return int((exact * MICRO).to_integral_value(ROUND_HALF_EVEN))


def clock_minutes(text: str) -> int:
    """Minute of the day of a wall-clock text ``HH:MM`` (``24:00`` is 1440).

    Raises
    ------
    ScenarioError
        If the text is no such time.
    """
    hours, _, minutes = text.partition(":")
    if hours.isdecimal() and minutes.isdecimal() and int(minutes) < 60:
        minute = int(hours) * 60 + int(minutes)
        if minute <= DAY_MINUTES:
            return minute
    raise ScenarioError(f"{text!r} is not a time of day", remedy="write HH:MM between 00:00 and 24:00")


@dataclass(frozen=True, slots=True)
class BandSpec:
    """A time-of-use band ``[start, end)`` in minutes of the local day; ``end <= start`` wraps over midnight.

    ``weekdays`` (0 = Monday) and ``months`` (1..12) are those of the day on which the band starts: Friday 22:00 to
    06:00 holds on Saturday morning as well.
    """

    price_u: int
    start_minute: int = 0
    end_minute: int = DAY_MINUTES
    weekdays: tuple[int, ...] = tuple(range(7))
    months: tuple[int, ...] = tuple(range(1, 13))


@dataclass(frozen=True, slots=True, eq=False)
class TariffSpec:
    """A price over time [micro-currency per kWh]: bands (the first that matches wins), else ``default_u``, or a series.

    ``series_per_kwh`` holds a price [currency per kWh] for every slot of the grid, on which ``markup_per_kwh`` is added
    before rounding; with a series, ``default_u`` and ``bands`` are not used.
    """

    default_u: int = 0
    bands: tuple[BandSpec, ...] = ()
    series_per_kwh: NDArray[np.float64] | None = None
    markup_per_kwh: float | str | Decimal = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TermsSpec:
    """The terms of a supply contract from ``valid_from`` on; prices per kWh in the scenario's currency.

    ``local_import_per_kwh`` None means the full charge. ``levies_per_kwh`` is by name. ``fixed_per_day`` and
    ``demand_per_kw_month`` are per day and per kW of the billing month's highest import.
    """

    retail: TariffSpec
    feed_in: TariffSpec = field(default_factory=TariffSpec)
    valid_from: Moment = None
    full_import_per_kwh: float = 0.0
    local_import_per_kwh: float | None = None
    full_export_per_kwh: float = 0.0
    local_export_per_kwh: float = 0.0
    levies_per_kwh: tuple[tuple[str, float], ...] = ()
    fixed_per_day: float = 0.0
    demand_per_kw_month: float = 0.0
    vat_percent: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ContractPrices:
    """One contract resolved on a slot grid: int64 ``(n_slots,)`` each.

    Energy prices in micro-currency per kWh. ``fixed_u`` is the fixed charge of a local day [micro-currency], booked in
    the day's first slot of the run and 0 in the others. ``demand_u`` is micro-currency per kW and month.
    ``vat_micro_percent`` is the tax rate in millionths of a percent.
    """

    retail_u: Int
    feed_in_u: Int
    full_import_u: Int
    local_import_u: Int
    full_export_u: Int
    local_export_u: Int
    levies_u: Int
    fixed_u: Int
    demand_u: Int
    vat_micro_percent: Int


def band_mask(band: BandSpec, local: LocalTime) -> Bool:
    """Which slots start inside ``band``, ``(n_slots,)``."""
    yesterday = local.date - np.timedelta64(1, "D")
    today_on = _day_matches(band, local.date)
    if band.end_minute > band.start_minute:
        return today_on & (local.minute >= band.start_minute) & (local.minute < band.end_minute)
    evening = today_on & (local.minute >= band.start_minute)
    morning = _day_matches(band, yesterday) & (local.minute < band.end_minute)
    matched: Bool = evening | morning
    return matched


def _day_matches(band: BandSpec, days: NDArray[np.datetime64]) -> Bool:
    weekday = (days.astype("datetime64[D]").astype(np.int64) + 3) % 7  # day 0, 1970-01-01, was a Thursday
    month = days.astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.isin(weekday, band.weekdays) & np.isin(month, band.months)


def tariff_prices_u(tariff: TariffSpec, grid: SlotGrid, zone: str) -> Int:
    """Price of every slot of ``grid``, int64 ``(n_slots,)`` [micro-currency per kWh].

    Raises
    ------
    ScenarioError
        If a series has another length than the grid, or holds a value that is not finite.
    """
    if tariff.series_per_kwh is not None:
        return _series_u(tariff.series_per_kwh, tariff.markup_per_kwh, grid.n)
    prices = np.full(grid.n, tariff.default_u, np.int64)
    if tariff.bands:
        local = grid.local_time(zone)
        for band in reversed(tariff.bands):  # the first band wins: it is written last
            prices[band_mask(band, local)] = band.price_u
    return prices


def _series_u(values: NDArray[np.float64], markup: float | str | Decimal, n: int) -> Int:
    if values.shape != (n,):
        raise ScenarioError(f"a price series has {values.size} values for {n} slots")
    if not np.isfinite(values).all():
        raise ScenarioError(
            f"a price series has no value in slot {int(np.argmin(np.isfinite(values)))}",
            remedy="fill gaps by a named method, or shorten the run",
        )
    added = Decimal(str(markup))
    distinct, where = np.unique(values, return_inverse=True)
    rounded = np.array([to_micro(Decimal(str(float(v))) + added) for v in distinct], np.int64)
    return rounded[where]


def instant(moment: date | datetime, zone: str) -> datetime:
    """``moment`` as an aware UTC instant; naive moments are local time in ``zone``, dates its local midnight.

    A local time that occurs twice is the first one; one that the clock skips is read with the offset before the skip.
    """
    stamp = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    return (stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def valid_term(valid_from: Sequence[Moment], grid: SlotGrid, zone: str) -> Int:
    """Index of the terms in force at every slot's start, ``(n_slots,)``.

    A term holds from the first slot that starts at or after its moment. The first may be None: since ever.

    Raises
    ------
    ScenarioError
        If the moments do not ascend, or none is in force when the grid starts.
    """
    if not valid_from:
        raise ScenarioError("a contract needs at least one set of terms")
    starts = grid.starts_utc().astype(np.int64)
    seconds: list[float] = []
    for k, moment in enumerate(valid_from):
        if moment is None and k:
            raise ScenarioError("only the first terms may go without a date", path=f"terms[{k}].valid_from")
        seconds.append(float("-inf") if moment is None else instant(moment, zone).timestamp())
    for k in range(1, len(seconds)):
        if seconds[k] <= seconds[k - 1]:
            raise ScenarioError(
                f"terms valid from {valid_from[k]} do not come after those from {valid_from[k - 1]}",
                path=f"terms[{k}].valid_from",
                remedy="list the terms of a contract in order of validity",
            )
    index: Int = np.searchsorted(np.array(seconds), starts.astype(np.float64), side="right").astype(np.int64) - 1
    if grid.n and index[0] < 0:
        raise ScenarioError(
            f"no terms are in force at the start of the run, {grid.start.isoformat()}",
            path="terms[0].valid_from",
            remedy="leave the date of the first terms out, or start the run later",
        )
    return index


def resolve_contract(terms: Sequence[TermsSpec], grid: SlotGrid, zone: str) -> ContractPrices:
    """Prices and charges of a contract in every slot of ``grid`` (the whole run, so that windows are slices of it).

    Raises
    ------
    ScenarioError
        See `valid_term` and `tariff_prices_u`.
    """
    index = valid_term([t.valid_from for t in terms], grid, zone)

    def tariff(specs: list[TariffSpec]) -> Int:
        prices = np.zeros(grid.n, np.int64)
        for k, spec in enumerate(specs):
            held = index == k
            if held.any():
                prices[held] = tariff_prices_u(spec, grid, zone)[held]
        return prices

    def rate(values: list[int]) -> Int:
        return np.array(values, np.int64)[index]

    near = [t.full_import_per_kwh if t.local_import_per_kwh is None else t.local_import_per_kwh for t in terms]
    return ContractPrices(
        retail_u=tariff([t.retail for t in terms]),
        feed_in_u=tariff([t.feed_in for t in terms]),
        full_import_u=rate([to_micro(t.full_import_per_kwh) for t in terms]),
        local_import_u=rate([to_micro(v) for v in near]),
        full_export_u=rate([to_micro(t.full_export_per_kwh) for t in terms]),
        local_export_u=rate([to_micro(t.local_export_per_kwh) for t in terms]),
        levies_u=rate([sum(to_micro(value) for _, value in t.levies_per_kwh) for t in terms]),
        fixed_u=daily_charge_u(rate([to_micro(t.fixed_per_day) for t in terms]), grid, zone),
        demand_u=rate([to_micro(t.demand_per_kw_month) for t in terms]),
        vat_micro_percent=rate([to_micro(t.vat_percent) for t in terms]),
    )


def daily_charge_u(rate_u: Int, grid: SlotGrid, zone: str) -> Int:
    """A charge per local day: the rate in force at the first slot of each local day in the grid, 0 in other slots.

    A day that the run cuts counts in full. Shape ``(n_slots,)`` [micro-currency].
    """
    first = np.ones(grid.n, np.bool_)
    days = grid.local_time(zone).date
    first[1:] = days[1:] != days[:-1]
    charge: Int = np.where(first, rate_u, 0)
    return charge
