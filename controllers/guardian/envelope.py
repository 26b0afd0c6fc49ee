"""What may leave at all: the last word on every value, whoever wanted it.

`shape` takes what the arbiter found and gives what is written: inside nameplate and settings, inside what protection
allows now (`Band`), never faster than the ramp, not flipping between charging and discharging. Pure: the state goes in
and comes out. Protection and stop are exempt from the ramp: a breach is not prolonged for smoothness' sake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from controllers.guardian.settings import ControlSettings
from hardware.driver import Control, Fallback

_EXACT = 1e-6
"""Nearer to a step of the registers than this share of it is on it."""


@dataclass(frozen=True, slots=True)
class Band:
    """What a control may be now, in its unit, and why not more."""

    low: float
    high: float
    why: str = ""

    def below(self, high: float, why: str) -> Band:
        """At most ``high``; where that leaves nothing, ``high`` alone."""
        return self if high >= self.high else Band(min(self.low, high), high, why)

    def above(self, low: float, why: str) -> Band:
        """At least ``low``; where that leaves nothing, ``low`` alone."""
        return self if low <= self.low else Band(low, max(self.high, low), why)

    def nearest(self, value: float) -> float:
        """The value in it that is nearest."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Rule:
    """The unchanging bounds of a control: nameplate and settings in one.

    Parameters
    ----------
    low, high
        What may be asked for: the device's own range, narrowed by the settings.
    slack
        Half a step of the registers: nearer than this is equal.
    resolution
        That step. Limits are rounded down to it.
    cap
        A limit (True) or a target.
    at_rest
        Where it is held without a lease; None is released.
    clamp
        Whether a target out of bounds is brought to the nearest one inside, instead of going to rest.
    free
        The top of the device's own range: what a limit is when it is released, whatever the settings narrow.
    step_s
        Length of a cycle [s]: a ramp makes up for no more time than that, however long nothing was written.
    timed
        Rest is `free`, held with a running timer, where the settings say released: else nothing would bring it to its
        safe value when the guardian dies.
    """

    low: float
    high: float
    slack: float
    resolution: float
    cap: bool
    at_rest: float | None
    clamp: bool
    step_s: float
    ramp_per_s: float | None
    dead_band: float
    dwell_s: float
    free: float
    timed: bool = False

    @classmethod
    def of(cls, control: Control, settings: ControlSettings, *, clamp: bool, cycle_s: float) -> Rule:
        """The rule of a device's control under its settings.

        Raises
        ------
        ValueError
            If the settings leave nothing, or the values of rest or safety lie outside; says which.
        """
        low = control.low if settings.low is None else max(control.low, settings.low)
        high = control.high if settings.high is None else min(control.high, settings.high)
        if not low <= high:
            raise ValueError(f"{control.name}: settings and device have no value in common")
        for name, value in (("default", settings.at_rest), ("safe", settings.safe_value)):
            if value is not None and not low <= value <= high:
                raise ValueError(f"{control.name}: {name} {value:g} lies outside {low:g} .. {high:g}")
        timed = needs_timer(control, settings) and control.cap and not control.flash
        return cls(
            low=low,
            high=high,
            slack=control.resolution / 2,
            resolution=control.resolution,
            cap=control.cap,
            at_rest=control.high if timed else settings.at_rest,
            clamp=clamp,
            step_s=cycle_s,
            ramp_per_s=settings.ramp_per_s,
            dead_band=settings.dead_band,
            dwell_s=settings.dwell_s,
            free=control.high,
            timed=timed,
        )

    def is_free(self, value: float | None) -> bool:
        """Whether that is no limit at all: released, or held at its top for the sake of the timer."""
        return value is None or (self.timed and value >= self.free - self.slack)

    def band(self) -> Band:
        """All that may be asked for."""
        return Band(self.low, self.high)

    def reach(self) -> Band:
        """All that it can be, released too."""
        return Band(self.low, max(self.high, self.free)) if self.cap else self.band()

    def refusal(self, value: float) -> str:
        """Why ``value`` cannot be asked for; empty if it can."""
        if not math.isfinite(value):
            return "it is no finite number"
        if not self.low - self.slack <= value <= self.high + self.slack:
            return f"{value:g} lies outside {self.low:g} .. {self.high:g}"
        return ""


def needs_timer(control: Control, settings: ControlSettings) -> bool:
    """Whether released is not enough at rest: only a running timer leads to the value that is its safe one."""
    return settings.at_rest is None and settings.safe_value is not None and control.fallback is Fallback.CHOSEN


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands in the device by our writing, and when it flipped last.

    Parameters
    ----------
    value
        Last value written; None when released or never written.
    at_s
        When [s, monotonic].
    sign
        Of the last value that was not 0 (targets): -1, +1, or 0 if there was none.
    flipped_s
        When that sign came up [s, monotonic].
    """

    value: float | None = None
    at_s: float = -math.inf
    sign: int = 0
    flipped_s: float = -math.inf

    def written(self, value: float | None, now_s: float) -> Standing:
        """After a write of ``value``."""
        sign = 0 if value is None or value == 0.0 else int(math.copysign(1.0, value))
        if sign in {0, self.sign}:
            return replace(self, value=value, at_s=now_s)
        return Standing(value, now_s, sign, now_s)


@dataclass(frozen=True, slots=True)
class Shaped:
    """What is to be written: a value or None (release), and why it is not what was wanted (empty if it is)."""

    value: float | None
    why: str = ""


def shape(
    rule: Rule, standing: Standing, wanted: float | None, band: Band, now_s: float, measured: float | None = None
) -> Shaped:
    """The value that may be written now.

    Parameters
    ----------
    rule, standing
        Bounds of the control, and what stands in the device.
    wanted
        What the arbiter found, or None for released.
    band
        What protection allows now.
    now_s
        Monotonic time [s].
    measured
        The value that the control would have to have to change nothing now (for a limit on feeding in: what is fed
        in), where it is known: a ramp begins there when nothing stands.
    """
    value, why = _bounded(rule, wanted, band)
    if value is None:
        return _ramped_release(rule, standing, band, now_s, why)
    if not rule.cap:
        value, why = _unflipped(rule, standing, value, band, now_s, why)
    ramped = _ramped(rule, standing, value, band, now_s, measured)
    if not rule.cap and abs(ramped) < rule.dead_band and band.low <= 0.0 <= band.high:
        ramped = 0.0  # on its way through
    if ramped != value:
        why = why or f"on its way to {value:g}"
    if rule.is_free(value) and ramped > rule.high:  # nothing in between may be asked for
        return Shaped(rule.free, why if ramped == value else "")
    if not rule.low - rule.slack <= ramped <= rule.high + rule.slack:
        return Shaped(rule.band().nearest(ramped), f"the device cannot hold {ramped:g} ({band.why})")
    if rule.cap:  # the registers would round to the nearest: that may be more
        ramped = max(math.floor(ramped / rule.resolution + _EXACT) * rule.resolution, rule.low)
    return Shaped(ramped, why)


def _bounded(rule: Rule, wanted: float | None, band: Band) -> tuple[float | None, str]:
    """What is wanted, inside the band; None is released."""
    why = ""
    if wanted is not None and not rule.is_free(wanted) and (refusal := rule.refusal(wanted)):
        wanted, why = rule.at_rest, f"{refusal}; at rest instead"
    if wanted is None or rule.is_free(wanted):
        if rule.cap and band.why and band.high < rule.free:
            return min(band.high, rule.high), band.why
        return wanted, why
    inside = band.nearest(wanted)
    if abs(inside - wanted) <= rule.slack:
        return inside, why
    if rule.cap or rule.clamp or rule.at_rest is None:
        return inside, why or band.why or "out of bounds"
    return band.nearest(rule.at_rest), f"{wanted:g} cannot be held ({band.why or 'out of bounds'}); at rest instead"


def _unflipped(rule: Rule, standing: Standing, value: float, band: Band, now_s: float, why: str) -> tuple[float, str]:
    """``value``, or 0 while it is too small or its sign may not change yet."""
    if not band.low <= 0.0 <= band.high:
        return value, why
    if abs(value) < rule.dead_band:
        return 0.0, why if value == 0.0 else f"{value:g} lies in the dead band"
    if value * standing.sign < 0.0 and now_s - standing.flipped_s < rule.dwell_s:
        left_s = rule.dwell_s - (now_s - standing.flipped_s)
        return 0.0, f"its sign may change in {left_s:.1f} s"
    return value, why


def _ramped(rule: Rule, standing: Standing, value: float, band: Band, now_s: float, measured: float | None) -> float:
    """``value``, or as far towards it as the ramp allows from where it stands. Getting into the band takes no ramp."""
    if rule.ramp_per_s is None:
        return value
    start = standing.value
    if start is None:
        start = measured if measured is not None else (rule.high if rule.cap else 0.0)
        if rule.cap and start <= value:
            return value  # a limit above what is fed in changes nothing at once
    start = band.nearest(start)
    step = 0.0 if standing.value is None else rule.ramp_per_s * _elapsed_s(rule, standing, now_s)
    return min(max(value, start - step), start + step)


def _ramped_release(rule: Rule, standing: Standing, band: Band, now_s: float, why: str) -> Shaped:
    """Released; a limit goes up to its top by the ramp first."""
    if rule.ramp_per_s is None or not rule.cap or standing.value is None:
        return Shaped(None, why)
    value = band.nearest(standing.value) + rule.ramp_per_s * _elapsed_s(rule, standing, now_s)
    return Shaped(None, why) if value >= rule.high else Shaped(value, "on its way to being released")


def _elapsed_s(rule: Rule, standing: Standing, now_s: float) -> float:
    """Time that a ramp may make up for [s]."""
    return min(max(now_s - standing.at_s, 0.0), rule.step_s)
