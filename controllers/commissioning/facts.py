"""What was measured of a control and its timer, and what that is called."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

_TARDY = 1.1  # a timer that takes more than this times itself is late
_MINUTES = 30.0  # more than this times itself: it counts minutes


class Behaviour(enum.StrEnum):
    """What a device's timer was seen to do. A device may show several."""

    STANDARD = "standard"  # runs out in time, begins anew with every order
    NONE = "none"  # the driver knows of no timer
    COSMETIC = "cosmetic"  # takes the timer and never acts on it
    LATE = "late"  # runs out, later than told
    SECONDS_FOR_MINUTES = "seconds-for-minutes"  # takes the number of seconds for minutes
    REARMED_BY_ANYTHING = "rearmed-by-anything"  # any message, a reading too, starts it anew
    REARMED_BY_ANY_WRITE = "rearmed-by-any-write"  # so does a write to another point
    SAME_POINT_ONLY = "same-point-only"  # only a write of the value starts it anew, not one of the timer
    NOT_REARMED = "not-rearmed"  # not even the whole order starts it anew
    PERSISTED = "persisted"  # the order outlives a reboot
    ACKNOWLEDGE_AND_DROP = "acknowledge-and-drop"  # says yes and does nothing
    REVERT_TO_LAST = "revert-to-last"  # falls back to the order before, not to a default


MEANINGS: Mapping[Behaviour, str] = {
    Behaviour.STANDARD: "the order ends when its timer has run out, and each new order starts the timer anew",
    Behaviour.NONE: "there is no timer: the last order stands until somebody takes it back",
    Behaviour.COSMETIC: "the timer is taken and shown, and nothing happens when it has run out",
    Behaviour.LATE: "the order ends later than its timer says",
    Behaviour.SECONDS_FOR_MINUTES: "the timer counts minutes where seconds were written",
    Behaviour.REARMED_BY_ANYTHING: "any message keeps the order alive, also that of somebody who only reads",
    Behaviour.REARMED_BY_ANY_WRITE: "a write to another point keeps the order alive",
    Behaviour.SAME_POINT_ONLY: "only writing the value again keeps the order alive; writing the timer does not",
    Behaviour.NOT_REARMED: "nothing keeps the order alive beyond its first timer: it cannot be held",
    Behaviour.PERSISTED: "the order still stands after a loss of power",
    Behaviour.ACKNOWLEDGE_AND_DROP: "the device says that it took the order, and nothing is read back or happens",
    Behaviour.REVERT_TO_LAST: "when the timer has run out, the order before it comes back",
}
"""What each behaviour means, for people."""


class Frozen(BaseModel):
    """A model that is not changed any more."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tried(Frozen):
    """One value that a control was set to and what came of it."""

    value: float
    measured: float | None  # of the reading that shows the effect, when it had settled
    effect_s: float | None  # from the last write until the effect was there; None: there was none
    error: float | None  # how far beyond the value (a cap) or from it (a target), in the control's unit
    ok: bool


class TimerFacts(Frozen):
    """What a control's timer was measured to do. Times in seconds from the last write."""

    set_s: int
    shown_s: float | None = None  # what the device says it is set to
    counts: bool | None = None  # whether the device counts down where one can read it
    waited_s: float
    resolution_s: float  # how exact the times are, the delay of any effect among it
    expired_s: float | None = None  # when the order began to end; None: not within `waited_s`
    settled_s: float | None = None  # when what it fell back to was reached
    expires_while_read: bool | None = None  # whether it ends while somebody keeps reading
    held_by_order: bool | None = None  # whether the whole order, repeated, keeps it alive
    held_by_timer: bool | None = None  # whether the timer alone does
    held_by_other: bool | None = None  # whether a write to another point does
    fell_to: Literal["released", "chosen", "last", "elsewhere"] | None = None
    fell_to_value: float | None = None  # of the reading that shows the effect
    chosen: float | None = None  # the fallback value that was written beforehand
    survives_reboot: bool | None = None  # None: not tried
    expired_after_reboot_s: float | None = None

    @property
    def late_s(self) -> float | None:
        """How long after its timer the order had ended for good; None if it did not."""
        ends = [at for at in (self.expired_s, self.settled_s) if at is not None]
        return max(0.0, max(ends) - self.set_s) if ends else None

    def lateness_s(self, timer_s: float) -> float | None:
        """How late it has to be expected to be with another timer: by the factor measured, never less than measured."""
        late = self.late_s
        if late is None or self.expired_s is None:
            return None
        return max(late, (self.expired_s / self.set_s - 1.0) * timer_s)


class ControlRecord(Frozen):
    """What was measured of one control."""

    control: str
    tried: tuple[Tried, ...] = ()
    effect_s: float | None = None  # the slowest
    accuracy: float | None = None  # the worst error, in the control's unit
    minimum: float | None = None  # the lowest value that was obeyed
    timer: TimerFacts | None = None
    behaviours: tuple[Behaviour, ...] = ()
    writes_06: bool | None = None
    writes_16: bool | None = None
    stop_s: float | None = None  # emergency stop: from the call until the effect

    @property
    def text(self) -> str:
        """The behaviours in words."""
        return "; ".join(f"{one.value}: {MEANINGS[one]}" for one in self.behaviours)


def behaviours(facts: TimerFacts) -> tuple[Behaviour, ...]:
    """What a timer's measurements mean. Acknowledge-and-drop and a missing timer are seen before there are any."""
    found: list[Behaviour] = []
    if facts.expired_s is None:
        found.append(Behaviour.COSMETIC)
    else:
        if facts.expired_s > _MINUTES * facts.set_s:
            found.append(Behaviour.SECONDS_FOR_MINUTES)
        elif facts.expired_s - facts.resolution_s > _TARDY * facts.set_s:
            found.append(Behaviour.LATE)
        if facts.expires_while_read is False:
            found.append(Behaviour.REARMED_BY_ANYTHING)
        elif facts.held_by_other:
            found.append(Behaviour.REARMED_BY_ANY_WRITE)
        if facts.held_by_order is False:
            found.append(Behaviour.NOT_REARMED)
        elif facts.held_by_timer is False:
            found.append(Behaviour.SAME_POINT_ONLY)
        if facts.fell_to == "last":
            found.append(Behaviour.REVERT_TO_LAST)
    if facts.survives_reboot:
        found.append(Behaviour.PERSISTED)
    return tuple(found) or (Behaviour.STANDARD,)
