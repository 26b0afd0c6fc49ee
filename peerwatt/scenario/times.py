"""Local moments of a scenario as instants, and its slot grid: daylight saving is never guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from core import ScenarioError, SlotGrid
from peerwatt.scenario.models import TimeSpan
from peerwatt.scenario.problems import choose


@cache
def zone_of(name: str) -> ZoneInfo:
    """The time zone called ``name``.

    Raises
    ------
    ScenarioError
        If there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        words = [zone for zone in available_timezones() if zone[:1] == name[:1]] or sorted(available_timezones())
        remedy = choose(name, words, what="time zone") + " (IANA names)"
        raise ScenarioError(f"there is no time zone {name!r}", remedy=remedy) from None


def wall_clock(moment: date | datetime) -> datetime:
    """A date as its midnight; a date-time as it is."""
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time())


def resolve_moment(moment: date | datetime, zone: str) -> datetime:
    """``moment`` as an aware UTC instant; a naive one is local time in ``zone``, a date its midnight.

    Raises
    ------
    ScenarioError
        If the local time does not exist (spring) or exists twice (autumn); it is never guessed.
    """
    local = wall_clock(moment)
    if local.tzinfo is not None:
        return local.astimezone(UTC)
    tz = zone_of(zone)
    first, second = (local.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return first
    text = local.isoformat(timespec="minutes")
    if first.astimezone(tz).replace(tzinfo=None) != local:  # in a gap neither fold comes back to the same wall clock
        after = max(first, second).astimezone(tz)
        raise ScenarioError(
            f"{text} does not exist in {zone}: the clock is put forward over it",
            remedy=f"use a time that exists, or write the offset, e.g. {after.isoformat(timespec='minutes')}",
        )
    offsets = [instant.astimezone(tz).isoformat(timespec="minutes") for instant in (first, second)]
    raise ScenarioError(
        f"{text} exists twice in {zone}: the clock is put back over it",
        remedy=f"write the offset: {offsets[0]} or {offsets[1]}",
    )


def span_of(span: TimeSpan) -> tuple[datetime, datetime]:
    """Start and end of the run (aware UTC). ``days`` are local calendar days: the wall clock is the same at the end.

    Raises
    ------
    ScenarioError
        If a moment does not exist or is ambiguous, or the end is not after the start. ``path`` is the key to mend.
    """
    try:
        start = resolve_moment(span.start, span.zone)
    except ScenarioError as error:
        raise _at("time.start", error) from None
    if span.end is not None:
        try:
            end = resolve_moment(span.end, span.zone)
        except ScenarioError as error:
            raise _at("time.end", error) from None
    else:
        local = start.astimezone(zone_of(span.zone)).replace(tzinfo=None)
        try:
            end = resolve_moment(local + timedelta(days=span.days or 0), span.zone)
        except ScenarioError as error:
            raise ScenarioError(
                f"the end after {span.days} days is no clear moment: {error.message}",
                path="time.days",
                remedy="name the end with its offset instead of days",
            ) from None
        except OverflowError:
            raise ScenarioError("the run ends after the year 9999", path="time.days", remedy="lower days") from None
    if end <= start:
        raise ScenarioError(
            f"the end ({end.isoformat()}) is not after the start ({start.isoformat()})",
            path="time.end",
            remedy="name a later end; it is the first moment that is not run any more",
        )
    return start, end


def _at(path: str, error: ScenarioError) -> ScenarioError:
    return ScenarioError(error.message, path=path, remedy=error.remedy)


def slot_grid_of(span: TimeSpan) -> SlotGrid:
    """The slots of a time span.

    Raises
    ------
    ScenarioError
        As `span_of`; if the start is not on a slot boundary of the local clock, or the length is not whole slots.
    """
    start, end = span_of(span)
    length_s = span.slot_minutes * 60
    local = start.astimezone(zone_of(span.zone))
    if (local.minute * 60 + local.second) % min(length_s, 3600):
        raise ScenarioError(
            f"the start {local.isoformat()} is not on the boundary of a {span.slot_minutes} minute slot",
            path="time.start",
            remedy="begin at a full slot of the local clock",
        )
    n, rest = divmod(int((end - start).total_seconds()), length_s)
    if rest:
        path = "time.end" if span.end is not None else "time.days"
        raise ScenarioError(
            f"the run is not a whole number of {span.slot_minutes} minute slots: {rest // 60} minutes are left over",
            path=path,
            remedy=f"end at {(start + timedelta(seconds=n * length_s)).astimezone(zone_of(span.zone)).isoformat()}"
            if n
            else "run at least one slot",
        )
    return SlotGrid(start, length_s, n)
