"""What adds up over a slot of an outage: who was supplied how long, mean powers, and what was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from grid.island import kernel as k
from peerwatt.microgrid.outcome import Bool, Happening, SlotOutcome, TraceRow

if TYPE_CHECKING:
    from grid.island.world import Reading


class Tally:
    """Sums of one slot over the island's cycles."""

    def __init__(self, n_buildings: int) -> None:
        self._supplied_s = np.zeros(n_buildings)
        self._dark: list[tuple[float, Bool]] = []
        self._forming_kws = 0.0
        self._generated_kws = 0.0
        self._possible_kws = 0.0
        self._connected_s = 0.0
        self.trace: list[TraceRow] = []
        self.happenings: list[Happening] = []

    def add(self, seconds: float, supplied: Bool, closed: bool, after: Reading, possible_kw: float) -> None:
        """``seconds`` have passed: ``supplied`` and the switch as at their start, powers as at their end."""
        self._supplied_s += seconds * supplied
        dark = ~supplied
        if self._dark and np.array_equal(self._dark[-1][1], dark):
            self._dark[-1] = (self._dark[-1][0] + seconds, dark)
        else:
            self._dark.append((seconds, dark))
        forming, others = after.p_kw
        self._generated_kws += seconds * max(-float(others), 0.0)
        self._possible_kws += seconds * possible_kw
        if closed and float(after.bus[k.B_GV]) >= k.DEAD_PU:
            self._connected_s += seconds
        else:
            self._forming_kws += seconds * float(forming)

    def outcome(self, length_s: float) -> SlotOutcome:
        """The slot as it went."""
        share = min(self._generated_kws / self._possible_kws, 1.0) if self._possible_kws > 0 else 1.0
        return SlotOutcome(
            supplied=np.minimum(self._supplied_s / length_s, 1.0),
            generated=share if share < 0.995 else 1.0,
            forming_kw=self._forming_kws / length_s,
            connected=min(self._connected_s / length_s, 1.0),
            dark_steps=tuple(self._dark),
            trace=tuple(self.trace),
            happenings=tuple(self.happenings),
        )
