"""How late the stages of a live slot cycle are, by the wall clock: a result of the service like any other.

Of each slot three moments are due: its gate at its start, its set-points at its start too, its meters at its end. The
service counts how long after that they were done. Slots that the service was too late for altogether are counted, and
left out of the percentiles: what they show is how long it was down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peerwatt.clocks import LatenessCounter
from peerwatt.results.layout import write_atomic

GATE, DISPATCH, METER = "gate", "dispatch", "meter"
STAGES = {
    GATE: "from a slot's start until it is cleared and durable",
    DISPATCH: "from a slot's start until its set-points are taken by the plant",
    METER: "from a slot's end until its meter readings are durable",
}
LATE_S = 0.1
"""A stage that is done later than this counts as late [s of the wall clock]."""

LATENESS_FILE = "lateness.json"
_QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}
_MS = 1000.0


class StageLateness:
    """Counts the lateness of each stage."""

    def __init__(self) -> None:
        self._stages = {stage: LatenessCounter(LATE_S) for stage in STAGES}
        self.missed = 0
        """Slots that were over before their gate could be served."""

    def add(self, stage: str, late_s: float) -> None:
        """A stage was done, so late [s]; one of `STAGES`."""
        self._stages[stage].add(late_s)

    def gate(self, gate_s: float, dispatch_s: float, *, missed: bool) -> None:
        """A gate was served and its set-points went out, so late [s]; or the slot was missed."""
        if missed:
            self.miss()
        else:
            self.add(GATE, gate_s)
            self.add(DISPATCH, dispatch_s)

    def miss(self) -> None:
        """A slot was over before its gate could be served."""
        self.missed += 1

    def summary(self) -> dict[str, Any]:
        """By stage: how many were done, how many late; if any were done, percentiles (exact to 10 %) and latest [s]."""
        told: dict[str, Any] = {"late_beyond_s": LATE_S, "missed_slots": self.missed}
        for stage, counter in self._stages.items():
            found = counter.result()
            told[stage] = {"n": found.n, "late": found.n_late}
            if found.n:
                shares = {name: round(counter.quantile_s(share), 6) for name, share in _QUANTILES.items()}
                told[stage] |= {**shares, "max_s": round(found.max_s, 6)}
        return told

    def quantile_s(self, share: float) -> Mapping[str, float]:
        """The lateness that ``share`` of the slots kept, by stage that was done at all [s]."""
        return {stage: counter.quantile_s(share) for stage, counter in self._done()}

    def max_s(self) -> Mapping[str, float]:
        """The latest, by stage that was done at all [s]."""
        return {stage: counter.result().max_s for stage, counter in self._done()}

    def _done(self) -> list[tuple[str, LatenessCounter]]:
        return [(stage, counter) for stage, counter in self._stages.items() if counter.result().n]

    def save(self, folder: Path) -> None:
        """Write the summary of this life of the service into its data folder."""
        text = json.dumps(self.summary(), indent=2, allow_nan=False)
        write_atomic(folder / LATENESS_FILE, f"{text}\n".encode())


def lateness_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary for people, a line for each stage; empty if nothing was done."""
    lines = []
    for stage in STAGES:
        found = summary[stage]
        if found["n"]:
            p50, p90, p99, most = (f"{_MS * found[key]:.0f}" for key in (*_QUANTILES, "max_s"))
            lines.append(
                f"late {stage:<9} half within {p50} ms, 90 % within {p90} ms, 99 % within {p99} ms, latest {most} ms; "
                f"{found['late']} of {found['n']} beyond {_MS * summary['late_beyond_s']:.0f} ms"
            )
    if summary["missed_slots"]:
        lines.append(f"missed         {summary['missed_slots']} slots were over before their gate could be served")
    return lines
