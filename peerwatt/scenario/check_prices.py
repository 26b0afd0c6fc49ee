"""Checks of tariffs and contracts: validity in order, feed-in never above retail, cents taken for euros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from core import ScenarioError, SlotGrid
from peerwatt.scenario.check_series import check_series
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.problems import Problems, YamlPath
from peerwatt.scenario.supply import EVERY_DAY, Contract, ContractTerms, Tariff, TariffBand
from peerwatt.scenario.times import resolve_moment

_DEAR_PER_KWH = 5.0
"""A supply price beyond this, in a currency of large units, is taken for cents written by mistake."""

_LARGE_UNITS = ("EUR", "USD", "GBP", "CHF", "AUD", "CAD")


def minute_of(clock: str) -> int:
    """Minutes from midnight (0..1440) of ``hh:mm``."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def check_tariff(tariff: Tariff, path: YamlPath, currency: str, problems: Problems) -> None:
    """Collect bands that are empty and series that are wrong."""
    for i, band in enumerate(tariff.bands):
        here = (*path, "bands", i)
        if band.start == band.end or minute_of(band.start) == 1440:
            problems.add(
                here, f"the band {band.start} to {band.end} has no length", "for the whole day: 00:00 to 24:00"
            )
        if not band.days or not band.months:
            problems.add(here, "the band has no days or no months", "leave the key out for all of them")
    if tariff.series is not None:
        check_series(tariff.series, (*path, "series"), problems, use="price", currency=currency)


def check_contract(
    contract: Contract, path: YamlPath, scenario: Scenario, slots: SlotGrid | None, problems: Problems
) -> None:
    """Collect contradictions in a contract: validity, bands, feed-in above retail, cents for euros."""
    starts: list[datetime] = []
    for i, terms in enumerate(contract.terms):
        here = (*path, "terms", i)
        _validity(terms, i, here, scenario, slots, starts, problems)
        for key, tariff in (("retail", terms.retail), ("feed_in", terms.feed_in)):
            check_tariff(tariff, (*here, key), scenario.currency, problems)
            _cents(tariff, (*here, key), scenario.currency, problems)
        _feed_in_above_retail(terms, here, path[-1], scenario.currency, problems)


def _validity(
    terms: ContractTerms,
    i: int,
    path: YamlPath,
    scenario: Scenario,
    slots: SlotGrid | None,
    starts: list[datetime],
    problems: Problems,
) -> None:
    here = (*path, "valid_from")
    if terms.valid_from is None:
        if i:
            problems.add(path, "later terms need valid_from", "add the date from which they hold")
        return
    try:
        start = resolve_moment(terms.valid_from, scenario.time.zone)
    except ScenarioError as error:
        if not error.message.startswith("there is no time zone"):
            problems.add(here, error.message, error.remedy)
        return
    if i == 0 and slots is not None and start > slots.start:
        problems.add(here, "no terms hold at the start of the run", "leave valid_from of the first terms out")
    if starts and start <= starts[-1]:
        problems.add(here, "is not later than the terms before it", "order the terms by valid_from")
    starts.append(start)


def _cents(tariff: Tariff, path: YamlPath, currency: str, problems: Problems) -> None:
    if currency not in _LARGE_UNITS:
        return
    prices = [("flat_per_kwh", tariff.flat_per_kwh), ("default_per_kwh", tariff.default_per_kwh)]
    for key, price in prices:
        if price is not None and abs(price) >= _DEAR_PER_KWH:
            problems.add((*path, key), *_in_cents(price, currency))
    for i, band in enumerate(tariff.bands):
        if abs(band.price_per_kwh) >= _DEAR_PER_KWH:
            problems.add((*path, "bands", i, "price_per_kwh"), *_in_cents(band.price_per_kwh, currency))


def _in_cents(price: float, currency: str) -> tuple[str, str]:
    return f"{price:g} {currency} per kWh looks like a price in cents", f"write {currency} per kWh: {price / 100:g}"


def _feed_in_above_retail(
    terms: ContractTerms, path: YamlPath, name: object, currency: str, problems: Problems
) -> None:
    """Every moment of the two time-of-use patterns is compared; series are compared when their data are read."""
    if terms.retail.series is not None or terms.feed_in.series is not None:
        return
    has_bands = bool(terms.retail.bands or terms.feed_in.bands)
    for moment in _moments(terms) if has_bands else [_Moment(1, 0, 0, 1)]:
        retail, feed_in = price_at(terms.retail, moment), price_at(terms.feed_in, moment)
        if retail < feed_in:
            when = f" ({moment})" if has_bands else ""
            problems.add(
                path,
                f"contract {name!r}: retail {retail:g} {currency}/kWh is below feed-in {feed_in:g} "
                f"{currency}/kWh{when}: who has both could earn by buying and feeding in again",
                "raise retail to at least feed-in, or lower feed-in; network charges and taxes do not count here",
            )
            return


@dataclass(frozen=True, slots=True)
class _Moment:
    """A local month (1..12), weekday (0 = Monday), minute of the day (0..1439), and the month of the day before."""

    month: int
    weekday: int
    minute: int
    month_before: int

    def __str__(self) -> str:
        return f"month {self.month}, {EVERY_DAY[self.weekday]}, {self.minute // 60:02d}:{self.minute % 60:02d}"


def _moments(terms: ContractTerms) -> Iterator[_Moment]:
    """One moment of every stretch in which both tariffs are constant; the first of a month has another month before."""
    cuts = {0}
    for tariff in (terms.retail, terms.feed_in):
        for band in tariff.bands:
            cuts |= {minute_of(band.start) % 1440, minute_of(band.end) % 1440}
    for month, weekday, minute in product(range(1, 13), range(7), sorted(cuts)):
        for before in (month, (month - 2) % 12 + 1):
            yield _Moment(month, weekday, minute, before)


def band_holds(band: TariffBand, at: _Moment) -> bool:
    """Whether a band applies; its days and months are those on which it starts, also for the hours after midnight."""
    start, end = minute_of(band.start), minute_of(band.end)
    today = EVERY_DAY[at.weekday] in band.days and at.month in band.months
    if start < end:
        return today and start <= at.minute < end
    yesterday = EVERY_DAY[at.weekday - 1] in band.days and at.month_before in band.months
    return (today and at.minute >= start) or (yesterday and at.minute < end)


def price_at(tariff: Tariff, at: _Moment) -> float:
    """Price [currency per kWh] of a flat or time-of-use tariff at a local moment."""
    if tariff.flat_per_kwh is not None:
        return tariff.flat_per_kwh
    for band in tariff.bands:
        if band_holds(band, at):
            return band.price_per_kwh
    return tariff.default_per_kwh or 0.0
