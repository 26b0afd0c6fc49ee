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
    ours
        The registers as our last confirmed order left them; empty when nothing of ours is known to stand.
    checks
        What has to be read to see them, besides what is read anyway.
    confirmed_s
        When that order began [s, monotonic]: its timer ends no earlier than the timer's length after.
    unsure
        An order was broken off or not confirmed: what stands is not known, it has to be written anew.
    rivalry
        Foreign writes lately.
    """

    control: Control
    settings: ControlSettings
    rule: Rule
    effect_s: float = _DEFAULT_EFFECT_S
    standing: Standing = Standing()
    history: History = History()
    ours: dict[Register, int] = field(default_factory=dict)
    checks: tuple[Span, ...] = ()
    confirmed_s: float = -math.inf
    unsure: bool = False
    rivalry: Rivalry = Rivalry()
    generation: int = -1  # of the line, when the last order went out
    last_order: str = ""
    effect_noted: bool = False
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
        )

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
            return self.stands
        if self.unsure or self.standing.value is None or abs(value - self.standing.value) > self.rule.slack:
            return True
        return not self.control.flash and now_s - self.confirmed_s >= refresh_s

    def wrote(
        self, value: float | None, steps: Sequence[Step], begun_s: float, now_s: float, fast: Sequence[Span] = ()
    ) -> None:
        """An order or a release was confirmed; ``fast`` is what is read in every cycle anyway."""
        self.standing = self.standing.written(value, now_s)
        if value != self.history.newest:
            self.effect_noted = False
        self.history = self.history.written(value, now_s)
        self.ours = {} if value is None else left_behind(steps)
        self.checks = () if value is None else not_covered(steps, fast)
        self.confirmed_s = begun_s
        self.unsure = False

    def lost(self, value: float | None, now_s: float) -> None:
        """An order was broken off: it may stand, in part or whole."""
        self.history = self.history.written(None, now_s)
        self.standing = self.standing.written(value, now_s)
        self.ours, self.checks, self.unsure = {}, (), True

    def ended(self, now_s: float) -> None:
        """What we wrote stands no more: the device's timer has ended it, or the device was restarted."""
        self.standing = self.standing.written(None, now_s)
        self.history = self.history.written(None, now_s)
        self.ours, self.checks, self.unsure = {}, (), False

    def effect_missed(self, reading: Reading | None) -> str | None:
        """Why the device does not do what was ordered; empty if it does, None if that cannot be told now."""
        if reading is None or not reading.is_good or reading.value is None:
            return None
        tolerance = self.settings.effect_tolerance * max(abs(self.control.low), abs(self.control.high))
        self.history, why = missed(
            self.history,
            self.as_control(reading.value),
            now_s=reading.source_s,
            effect_s=self.effect_s,
            tolerance=max(tolerance, self.rule.resolution),
            cap=self.rule.cap,
        )
        return why


def _belief(control: Control, reading: Reading | None) -> Belief:
    if not control.measured_by:
        return Belief.GOOD
    if reading is None:
        return Belief.LOST
    if reading.quality in {Quality.GOOD, Quality.NOT_IMPLEMENTED}:
        return Belief.GOOD
    return Belief.FALSE if reading.quality is Quality.IMPLAUSIBLE else Belief.LOST
