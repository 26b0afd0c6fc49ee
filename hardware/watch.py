"""Which readings of a device can be believed: stale, frozen and implausible ones are called so (R11, R12, R13).

A `Watch` belongs to one device and sees its readings every cycle. It never changes a value and never gives an old one a
new stamp: it changes the quality, or hands out an older reading with all its old stamps. Its rules:

* **A failed read** brings back the last good reading, *stale*, with its old value, stamps and sequence; once that is
  ``forget_s`` old, or if there never was one, the failure itself: *comm-fail*, no value. A failure is never 0.
* **Age** is counted from the source time. A value older than ``stale_cycles`` cycles is *stale*, also when it only just
  arrived; one that is older than what is known already is dropped.
* **Frozen** is a point that is noisy by nature and came back ``frozen_after`` times with the same value. Noise grows
  with the value and may be lost in the steps of a register: below 5 % of the rating, or where that is not known, it is
  frozen only when frequency or voltage stand still too.
* **Implausible** is what breaks its bounds, contradicts its own sample or moves too fast. A frequency, voltage or power
  out of bounds condemns every value of the same sample: that is how a shifted or zeroed block is noticed.
* Three rejected in a row condemn a point until three good ones came in a row; failures count neither way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from core.quality import WITHOUT_VALUE, Quality, Reading
from hardware.driver import Driver, Group, Ratings, Sample
from hardware.watch_checks import (
    ALIVE,
    CURRENTS,
    FROZEN_AFTER,
    POWERS,
    WatchSettings,
    bounds_of,
    contradictions,
    highest_w,
    out_of_bounds,
    paces_of,
)

_SAME_CLOCK_S = 1e-6
_SMALL = 0.05  # of the rating: below it noise may be smaller than a step of the registers


class _Point:
    """What is remembered of one point."""

    __slots__ = (
        "agreeing",
        "base",
        "condemned",
        "doubted",
        "good_run",
        "last_good",
        "newest_s",
        "out",
        "rejected_run",
        "same",
        "seen",
    )

    def __init__(self) -> None:
        self.newest_s = float("-inf")  # source time of the newest reading that brought a value
        self.last_good: Reading | None = None
        self.out: Reading | None = None  # what was said of it last
        self.base: Reading | None = None  # what moves are measured from: the last one that was not rejected
        self.doubted: Reading | None = None  # the last one rejected for moving too fast
        self.agreeing = 0  # doubted ones in a row that agree with each other
        self.seen: float | None = None
        self.same = 0  # identical values in a row
        self.rejected_run = 0
        self.good_run = 0
        self.condemned = False


class Watch:
    """Judges the readings of one device, cycle after cycle. Pure: time comes in, nothing is read or written.

    Parameters
    ----------
    ratings
        Nameplate of the device; what it does not say is not checked.
    settings
        How strict to be.
    """

    def __init__(self, ratings: Ratings, settings: WatchSettings | None = None) -> None:
        self.settings = settings if settings is not None else WatchSettings()
        own = self.settings.frozen_after
        self._frozen_after = FROZEN_AFTER if own is None else own
        self._bounds = bounds_of(ratings, self.settings)
        self._paces = paces_of(ratings, self.settings)
        self._slack_w = max(10.0, 0.01 * (highest_w(ratings) or 0.0))
        self._points: dict[str, _Point] = {}
        self._largest: dict[str, float | None] = dict.fromkeys(POWERS, highest_w(ratings))
        self._largest |= dict.fromkeys(CURRENTS, ratings.a)

    def judge(self, now_s: float, readings: Mapping[str, Reading]) -> dict[str, Reading]:
        """What may be said now of every point seen so far, whether it was read in this cycle or not.

        Parameters
        ----------
        now_s
            Monotonic time [s], on the clock of the readings' stamps.
        readings
            What `hardware.driver.Driver.decode` made of this cycle's samples.
        """
        points = self._points
        new = [
            (name, reading)
            for name, reading in readings.items()
            if reading.value is not None and ((point := points.get(name)) is None or reading.source_s > point.newest_s)
        ]
        suspects = out_of_bounds(new, self._bounds, self.settings)
        for name, why in contradictions(dict(new), self._slack_w).items():
            suspects.setdefault(name, why)
        for name, reading in new:
            point = points.get(name)
            if point is None:
                point = points[name] = _Point()
            point.out = self._value(now_s, name, reading, point, suspects.get(name, ""))
        for name, reading in readings.items():
            if reading.value is None:
                point = points.setdefault(name, _Point())
                point.out = self._missing(now_s, reading, point)
        return {
            name: out if out.source_s + self.settings.cycle_s > now_s else self._aged(now_s, name, point, out)
            for name, point in points.items()
            if (out := point.out) is not None
        }

    def _value(self, now_s: float, name: str, reading: Reading, point: _Point, why: str) -> Reading:
        """Judge a new reading with a value."""
        if reading.source_s > now_s + _SAME_CLOCK_S:  # and does not keep true ones out until then
            return self._rejected(reading, point, f"its stamp lies {reading.source_s - now_s:g} s ahead")
        point.newest_s = reading.source_s
        if not why and now_s - reading.source_s > self._patience_s(name):
            return _as(reading, Quality.STALE, f"it was {now_s - reading.source_s:.3g} s old when it came")
        if not why:
            why = self._too_fast(name, reading, point)
        if why:
            return self._rejected(reading, point, why)
        point.base = reading
        point.rejected_run = 0
        if point.condemned:
            point.good_run += 1
            if point.good_run < self.settings.recover:
                done = f"{point.good_run} of {self.settings.recover} good readings after a run of rejected ones"
                return _as(reading, Quality.IMPLAUSIBLE, done)
            point.condemned = False
        point.same = point.same + 1 if point.seen == reading.value else 1
        point.seen = reading.value
        if self._is_frozen(name, reading, point):
            return _as(reading, Quality.FROZEN, f"the same value came {point.same} times")
        if reading.quality is Quality.GOOD:
            point.last_good = reading
        return reading

    def _too_fast(self, name: str, reading: Reading, point: _Point) -> str:
        """Why the move from the last believed value is impossible, or nothing."""
        pace, base, value = self._paces.get(name), point.base, reading.value
        if pace is None or base is None or base.value is None or value is None:
            return ""
        if not pace.breaks(base.value, value, reading.source_s - base.source_s):
            point.doubted = None
            return ""
        before = point.doubted
        agrees = (
            before is not None
            and before.value is not None
            and not pace.breaks(before.value, value, reading.source_s - before.source_s)
        )
        point.agreeing = point.agreeing + 1 if agrees else 1
        point.doubted = reading
        if point.agreeing >= self.settings.settle:
            point.doubted = None
            return ""
        seconds = reading.source_s - base.source_s
        return f"it moved from {base.value:g} to {value:g} in {seconds:.3g} s"

    def _rejected(self, reading: Reading, point: _Point, why: str) -> Reading:
        point.good_run = 0
        point.same, point.seen = 0, None
        point.rejected_run += 1
        if point.rejected_run >= self.settings.reject:
            point.condemned = True
        return _as(reading, Quality.IMPLAUSIBLE, why)

    def _is_frozen(self, name: str, reading: Reading, point: _Point) -> bool:
        limit = self._frozen_after.get(name)
        if limit is None or point.same < limit:
            return False
        return not self._may_rest(name, reading.value or 0.0) or any(
            (other := self._points.get(alive)) is not None and other.same >= self._frozen_after.get(alive, 1 << 30)
            for alive in ALIVE
        )

    def _may_rest(self, name: str, value: float) -> bool:
        """Whether a value is so small that its noise may not show."""
        if value == 0.0:
            return True
        most = self._largest.get(name, 0.0)  # 0 for what is no power and no current
        return most is None or abs(value) < _SMALL * most

    def _missing(self, now_s: float, reading: Reading, point: _Point) -> Reading:
        """Judge a reading without a value."""
        if reading.quality is Quality.NOT_IMPLEMENTED:
            return reading
        last = point.last_good
        if last is None or now_s - last.source_s > self.settings.forget_s:
            return reading
        return _as(last, Quality.STALE, f"{reading.reason or 'it could not be read'}; the value is an older one")

    def _aged(self, now_s: float, name: str, point: _Point, out: Reading) -> Reading:
        """What was said earlier, seen from now."""
        if out.quality in WITHOUT_VALUE:
            return out
        age_s = now_s - out.source_s
        if age_s > self.settings.forget_s and age_s > self._patience_s(name):
            why = f"no new value for {age_s:.4g} s"
            point.out = Reading(None, Quality.COMM_FAIL, out.source_s, out.received_s, out.sequence, why)
        elif out.quality is Quality.GOOD and age_s > self._patience_s(name):
            point.out = _as(out, Quality.STALE, f"no new value for {age_s:.3g} s")
        else:
            return out
        return point.out

    def _patience_s(self, name: str) -> float:
        settings = self.settings
        period_s = settings.slow_cycle_s if name in settings.slow else settings.cycle_s
        return settings.stale_cycles * period_s


def _as(reading: Reading, quality: Quality, reason: str) -> Reading:
    """The same value with the same stamps, and another quality."""
    return Reading(reading.value, quality, reading.source_s, reading.received_s, reading.sequence, reason)


def watch_for(driver: Driver, settings: WatchSettings | None = None) -> Watch:
    """A `Watch` that knows the device: its ratings, and which of its values are read slowly.

    Takes the profile's own ``frozen_after`` unless ``settings`` has one.
    """
    chosen = settings if settings is not None else WatchSettings()
    fast, slow = (_names(driver, group) for group in (Group.FAST, Group.SLOW))
    if not chosen.slow:
        chosen = replace(chosen, slow=frozenset(slow - fast))
    own = getattr(driver, "frozen_after", None)
    if own is not None and chosen.frozen_after is None:
        chosen = replace(chosen, frozen_after=own)
    return Watch(driver.ratings, chosen)


def _names(driver: Driver, group: Group) -> set[str]:
    failed = {span: Sample(span, None, 0.0, 0.0, 0, "not asked") for span in driver.spans(group)}
    return set(driver.decode(failed))
