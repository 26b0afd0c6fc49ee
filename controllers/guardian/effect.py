"""Does the device do what it was told? The measured power has to follow what is written, in time. Pure.

For as long as a value may take to show (twice the effect time), the one before may still be seen: so what is measured
has to lie between the lowest and the highest value written in that time, give or take the tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_FULL = 64


@dataclass(frozen=True, slots=True)
class History:
    """The values of a control and until when each stood [s, monotonic]; the last one still stands (infinity).

    None is released: anything may be measured then.
    """

    values: tuple[tuple[float | None, float], ...] = ((None, math.inf),)

    @property
    def newest(self) -> float | None:
        """The value that stands."""
        return self.values[-1][0]

    @property
    def settled(self) -> bool:
        """Whether no other value can be seen any more."""
        return len(self.values) == 1

    def written(self, value: float | None, now_s: float) -> History:
        """After a write at ``now_s``."""
        if value == self.newest:
            return self
        return History((*self.values[:-1], (self.newest, now_s), (value, math.inf))[-_FULL:])

    def since(self, from_s: float) -> History:
        """Without what had gone before ``from_s``."""
        return History(tuple(entry for entry in self.values if entry[1] >= from_s))


def missed(
    history: History, measured: float, *, now_s: float, effect_s: float, tolerance: float, cap: bool
) -> tuple[History, str]:
    """Why what is measured does not follow what was written; empty if it does, or has time left.

    Parameters
    ----------
    history
        What was written; comes back without what is too old to matter.
    measured
        In the control's unit and sign.
    now_s
        When it was true [s, monotonic].
    effect_s
        Time the device needs [s]; twice that is allowed.
    tolerance
        In the control's unit.
    cap
        Whether the control is a limit: less is right too.
    """
    history = history.since(now_s - 2.0 * effect_s)
    values = [value for value, _ in history.values]
    bounds = [value for value in values if value is not None]
    if len(bounds) < len(values):
        return history, ""
    low = -math.inf if cap else min(bounds) - tolerance
    high = max(bounds) + tolerance
    if low <= measured <= high:
        return history, ""
    return history, f"{measured:g} is measured, {bounds[-1]:g} was ordered"
