"""Outages of a run as seconds since its start: listed ones, and ones drawn by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from core import ScenarioError
from core.keyed_random import keyed_generator

if TYPE_CHECKING:
    from core import SlotGrid
    from peerwatt.scenario.microgrid import DrawnOutages
    from peerwatt.scenario.models import Scenario

YEAR_S = 8766 * 3600
REST_S = 900
"""So long after the grid's return the next outage begins at the earliest: the district has to be back by then."""


@dataclass(frozen=True, slots=True)
class OutageSpan:
    """One outage [s since the run's start]; ``planned``: an order to island; ``black``: the forming source trips."""

    start_s: float
    end_s: float
    planned: bool = False
    black: bool = False


def outage_spans(scenario: Scenario, grid: SlotGrid) -> tuple[OutageSpan, ...]:
    """All outages that touch the run, in order.

    Raises
    ------
    ScenarioError
        If a moment does not exist, or two listed outages overlap or follow too closely.
    """
    from peerwatt.scenario.times import resolve_moment

    run_s = float(grid.n * grid.length_s)
    listed: list[OutageSpan] = []
    for i, outage in enumerate(scenario.outages):
        try:
            start = (resolve_moment(outage.at, scenario.time.zone) - grid.start).total_seconds()
        except ScenarioError as error:
            raise ScenarioError(error.message, path=f"outages[{i}].at", remedy=error.remedy) from error
        span = OutageSpan(start, start + outage.minutes * 60.0, outage.kind == "planned", outage.black)
        if span.start_s < 0 or span.end_s > run_s:
            raise ScenarioError(
                f"the outage at {outage.at} for {outage.minutes:g} minutes does not lie within the run",
                path=f"outages[{i}]",
                remedy="an outage begins and ends within the run; move it, or run longer",
            )
        listed.append(span)
    listed.sort(key=lambda span: span.start_s)
    for one, other in pairwise(listed):
        if other.start_s < one.end_s + REST_S:
            gap_s = other.start_s - one.end_s
            how = "before the end of" if gap_s < 0 else f"only {gap_s:.0f} s after"
            raise ScenarioError(
                f"an outage begins {how} the one before it ({other.start_s:.0f} s into the run)",
                path="outages",
                remedy=f"leave at least {REST_S} s between them, for the district to reconnect",
            )
    if scenario.drawn_outages is not None:
        listed += _apart(_drawn(scenario.drawn_outages, run_s, scenario.seed), listed)
    return tuple(sorted(listed, key=lambda span: span.start_s))


def _drawn(draw: DrawnOutages, run_s: float, seed: int) -> list[OutageSpan]:
    """A Poisson process: exponential gaps, exponential durations of at least a second."""
    rng = keyed_generator(seed, "outages")
    spans: list[OutageSpan] = []
    at = 0.0
    while True:
        at += float(rng.exponential(YEAR_S / draw.per_year))
        lasts = max(float(rng.exponential(draw.mean_minutes * 60.0)), 1.0)
        black = bool(rng.random() < draw.black_share)
        if at + lasts >= run_s:
            return spans
        spans.append(OutageSpan(round(at), round(at + lasts), False, black))


def _apart(drawn: Sequence[OutageSpan], listed: Sequence[OutageSpan]) -> list[OutageSpan]:
    """Drawn outages that keep their distance from the listed ones and from each other; the others are left out."""
    kept = list(listed)
    for span in drawn:
        if all(span.start_s >= other.end_s + REST_S or other.start_s >= span.end_s + REST_S for other in kept):
            kept.append(span)
    return kept[len(listed) :]
