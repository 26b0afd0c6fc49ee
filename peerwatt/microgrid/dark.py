"""Outages of a district that cannot stand alone: nobody has supply until the grid is back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.microgrid.outages import OutageSpan
from peerwatt.microgrid.outcome import Happening, SlotOutcome, SlotPowers


class Dark:
    """Every building is dark from the grid's loss to its return; planned islanding does not exist here."""

    settled = True

    def __init__(self, spans: tuple[OutageSpan, ...], n_buildings: int) -> None:
        self._spans = spans
        self._n = n_buildings

    def run_slot(self, start_s: float, length_s: float, powers: SlotPowers) -> SlotOutcome:
        """The parts of the slot inside an outage are dark."""
        end_s = start_s + length_s
        steps: list[tuple[float, np.ndarray]] = []
        happenings: list[Happening] = []
        here = start_s
        for span in self._inside(start_s, end_s):
            begin, end = max(span.start_s, start_s), min(span.end_s, end_s)
            steps += [(begin - here, np.zeros(self._n, np.bool_)), (end - begin, np.ones(self._n, np.bool_))]
            here = end
            if span.start_s >= start_s:
                happenings.append(Happening(span.start_s, "grid-lost", "the grid is lost; the district is dark"))
            if span.end_s <= end_s:
                happenings.append(Happening(span.end_s, "grid-back", "the grid is back"))
        steps.append((end_s - here, np.zeros(self._n, np.bool_)))
        dark_s = sum(seconds for seconds, dark in steps if dark.all())
        share = 1.0 - dark_s / length_s
        kept = tuple(step for step in steps if step[0] > 0)
        return SlotOutcome(np.full(self._n, share), 1.0, 0.0, share, kept, happenings=tuple(happenings))

    def _inside(self, start_s: float, end_s: float) -> Iterator[OutageSpan]:
        return (s for s in self._spans if not s.planned and s.start_s < end_s and s.end_s > start_s)
