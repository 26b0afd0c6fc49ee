"""What the guardian remembers of one control of a device while it holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controllers.guardian.decide import Belief, ControlImage, Wish
from controllers.guardian.effect import History, missed
from controllers.guardian.envelope import Rule, Standing
from controllers.guardian.foreign import Register, Rivalry, left_behind, not_covered
from controllers.guardian.settings import ControlSettings
from core.quality import Quality, Reading
from hardware.driver import Control, Fallback, Order, Span, Step

_FED_IN = frozenset({"limit_w", "discharge_limit_w"})
_DEFAULT_EFFECT_S = 5.0


@dataclass(slots=True)
class Held:
    """One control. Changed by its device's own task only.

    Parameters
    ----------
    control, settings, rule
        What the device offers, what the site allows, and both in one.
    effect_s
        Time the device needs to obey [s].
    standing, history
        What stands in the device by our writing, and what did before.
    possible
        What may stand in it while that is not known for certain; None is released, or anybody's.
    ours
        The registers as our last confirmed order left them; empty when nothing of ours is known to stand.
    checks
        What has to be read to see them, besides what is read anyway.
    confirmed_s
        When that order began [s, monotonic]: its timer ends no earlier than the timer's length after.
    unsure
        An order was broken off or not confirmed: what stands is not known, it has to be written anew.
    inherited
        Armed, and nothing written since: an order of an earlier life or of somebody else may stand in it.
    rivalry
        Foreign writes lately.
    """

    control: Control
    settings: ControlSettings
    rule: Rule
    effect_s: float = _DEFAULT_EFFECT_S
    standing: Standing = Standing()
    history: History = History()
    possible: tuple[float | None, ...] = (None,)
    ours: dict[Register, int] = field(default_factory=dict)
    checks: tuple[Span, ...] = ()
    confirmed_s: float = -math.inf
    unsure: bool = False
    inherited: bool = False
    rivalry: Rivalry = Rivalry()
    tried_s: float = -math.inf  # the last order that was broken off
    trouble_s: float = -math.inf  # the first of a row of them
    generation: int = -1  # of the line, when the last order went out
    last_order: str = ""
    effect_noted: bool = False
    disbelieved: int = 0  # cycles in a row in which what is measured was not believed
    wished: Wish = Wish(None)
    rehearsed: float | None = None

    @property
    def stands(self) -> bool:
        """Whether something of ours may stand in the device."""
        return self.unsure or self.standing.value is not None

    def image(self, readings: Mapping[str, Reading]) -> ControlImage:
        """For the decisions of a cycle."""
        reading = readings.get(self.control.measured_by) if self.control.measured_by else None
        measured = None
        if reading is not None and reading.is_good and reading.value is not None:
            measured = self.as_control(reading.value)
        return ControlImage(
            self.control.name,
            self.rule,
            self.standing,
            measured,
            _belief(self.control, reading),
            self.settings.safe_value,
            self.highest,
        )

    @property
    def highest(self) -> float | None:
        """The highest value that may stand in it; None if it may be released."""
        known = [value for value in self.possible if value is not None]
        return max(known) if len(known) == len(self.possible) else None

    def as_control(self, measured: float) -> float:
        """A reading in the control's sign: what is fed in counts up for limits on feeding in."""
        return -measured if self.control.name in _FED_IN else measured

    def order(self, value: float, timer_s: int) -> Order:
        """Hold it at ``value``; where the fallback can be chosen, it is the safe value."""
        chosen = self.settings.safe_value if self.control.fallback is Fallback.CHOSEN else None
        return Order(self.control.name, value, timer_s, chosen)

    def due(self, value: float | None, now_s: float, refresh_s: float) -> bool:
        """Whether something has to be written: another value, or the same again before the timer ends."""
        if value is None:
            return self.stands or self.inherited
        if (
            self.unsure
            or self.inherited
            or self.standing.value is None
            or abs(value - self.standing.value) > self.rule.slack
        ):
            return True
        return not self.control.flash and now_s - self.confirmed_s >= refresh_s

    def wrote(
        self, value: float | None, steps: Sequence[Step], begun_s: float, now_s: float, fast: Sequence[Span] = ()
    ) -> None:
        """An order or a release was confirmed; ``fast`` is what is read in every cycle anyway."""
        self.standing = self.standing.written(value, now_s)
        self.possible = (value,)
        if value != self.history.newest:
            self.effect_noted = False
        self.history = self.history.written(value, now_s)
        self.ours = {} if value is None else left_behind(steps)
        self.checks = () if value is None else not_covered(steps, fast)
        self.confirmed_s = begun_s
        self.unsure = self.inherited = False
        self.tried_s = -math.inf

    def lost(self, value: float | None, now_s: float) -> None:
        """An order was broken off: it may stand, in part or whole."""
        self.history = self.history.written(None, now_s)
        self.standing = self.standing.written(value, now_s)
        self.possible = (*dict.fromkeys((*self.possible, value)),)
        self.ours, self.checks, self.unsure = {}, (), True

    def given_up(self, now_s: float, timer_s: float) -> bool:
        """After an order was broken off: whether that has now gone on for a timer's length.

        Each attempt sets the timer anew, and so would keep alive what stood before for as long as it is tried.
        """
        if now_s - self.tried_s > timer_s:
            self.trouble_s = now_s
        self.tried_s = now_s
        return now_s - self.trouble_s > timer_s

    def ended(self, now_s: float) -> None:
        """What we wrote stands no more: the device's timer has ended it, or the device was restarted."""
        self.standing = self.standing.written(None, now_s)
        self.history = self.history.written(None, now_s)
        self.possible = (None,)
        self.ours, self.checks, self.unsure = {}, (), False

    def found(self, readings: Mapping[str, Reading]) -> float | None:
        """The value of an order that stands in it though none of ours does, where the device says so."""
        enabled = readings.get(f"{self.control.name.removesuffix('_w')}_enabled")
        value = readings.get(self.control.name)
        if self.stands or enabled is None or value is None or not (enabled.is_good and value.is_good):
            return None
        return value.value if enabled.value == 1.0 else None

    def is_idle(self, readings: Mapping[str, Reading]) -> bool:
        """Whether the device itself says that no order is in force."""
        enabled = readings.get(f"{self.control.name.removesuffix('_w')}_enabled")
        return enabled is not None and enabled.is_good and enabled.value == 0.0

    def obeys(self, reading: Reading | None, value: float) -> bool | None:
        """Whether what is measured is ``value``, or below it for limits; None if that cannot be told."""
        if reading is None or not reading.is_good or reading.value is None:
            return None
        measured, tolerance = self.as_control(reading.value), self.tolerance
        return measured <= value + tolerance and (self.rule.cap or measured >= value - tolerance)

    @property
    def tolerance(self) -> float:
        """How far off the effect may be, in the control's unit."""
        share = self.settings.effect_tolerance * max(abs(self.control.low), abs(self.control.high))
        return max(share, self.rule.resolution)

    def is_safe(self, value: float) -> bool:
        """Whether that is the value it falls back to."""
        safe = self.settings.safe_value
        return safe is not None and abs(value - safe) <= 2.0 * self.rule.resolution

    def effect_missed(self, reading: Reading | None) -> str | None:
        """Why the device does not do what was ordered; empty if it does, None if that cannot be told now."""
        if reading is None or not reading.is_good or reading.value is None:
            return None
        self.history, why = missed(
            self.history,
            self.as_control(reading.value),
            now_s=reading.source_s,
            effect_s=self.effect_s,
            tolerance=self.tolerance,
            cap=self.rule.cap,
        )
        return why


def _belief(control: Control, reading: Reading | None) -> Belief:
    if not control.measured_by:
        return Belief.GOOD
    if reading is None:
        return Belief.LOST
    if reading.quality is Quality.GOOD:
        return Belief.GOOD
    return Belief.FALSE if reading.quality is Quality.IMPLAUSIBLE else Belief.LOST
