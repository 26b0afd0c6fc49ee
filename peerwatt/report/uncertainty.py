"""How sure a comparison is: intervals of every figure over seeds, and paired tests between arms with effect sizes.

Two kinds of unit. Over **seeds**, a unit is one seed under which every arm ran: what the scenario draws by seed
differs, so a figure has an interval, and two arms are compared seed by seed. Within **one** comparison a unit is a
building: its costs under two arms are a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from core.statistics import Estimate, PairedDifference, holm_corrected, mean_estimate, paired_difference
from peerwatt.report.comparison import (
    MICRO,
    Kpi,
    Summary,
    changes,
    is_low_tech,
    kpi_values,
    reference_of,
    shown_kpis,
)

LEVEL = 0.05
"""Below this a p-value, corrected, counts as a difference."""


@dataclass(frozen=True, slots=True)
class FigureOverSeeds:
    """One key figure over seeds: an estimate per arm, and every pair of arms compared seed by seed."""

    kpi: Kpi
    estimates: tuple[Estimate, ...]
    pairs: tuple[PairedDifference, ...]


def over_seeds(per_seed: Sequence[Sequence[Summary]], arms: Sequence[str]) -> list[FigureOverSeeds]:
    """Every key figure with its interval over seeds, and paired tests between arms, Holm-corrected per figure.

    Parameters
    ----------
    per_seed
        For each seed the summaries of all arms, in the order of ``arms``.
    arms
        Names of the arms.
    """
    found: list[FigureOverSeeds] = []
    for kpi in shown_kpis(per_seed[0]):
        rows = [kpi_values(kpi, summaries) for summaries in per_seed]
        columns = [[row[a] for row in rows] for a in range(len(arms))]
        estimates = tuple(mean_estimate([v for v in column if v is not None]) for column in columns)
        pairs = [
            paired_difference(*both, names=(arms[a], arms[b]))
            for a, b in tested_pairs(per_seed[0])
            if (both := _complete(columns[a], columns[b]))[0]
        ]
        found.append(FigureOverSeeds(kpi, estimates, tuple(holm_corrected(pairs))))
    return found


def _complete(a: Sequence[float | None], b: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Values of the units for which both arms have one."""
    both = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return [x for x, _ in both], [y for _, y in both]


def over_buildings(summaries: Sequence[Summary], arms: Sequence[str]) -> list[PairedDifference]:
    """What a building pays under one arm less what it pays under another [currency], for every pair of arms.

    Storage-only buildings are left out, as in the savings. Pairs of two arms that need no trading are left out too.
    Holm's correction is over all pairs.
    """
    reference = summaries[reference_of(summaries)]
    counted = sorted(changes(reference, reference))
    costs = [[s["buildings"][b]["cost_u"] / MICRO for b in counted] for s in summaries]
    pairs = [paired_difference(costs[b], costs[a], names=(arms[b], arms[a])) for a, b in tested_pairs(summaries)]
    return holm_corrected(pairs)


def tested_pairs(summaries: Sequence[Summary]) -> list[tuple[int, int]]:
    """Positions of two arms of which at least one trades."""
    return [
        (a, b)
        for a, b in combinations(range(len(summaries)), 2)
        if not (is_low_tech(summaries[a]) and is_low_tech(summaries[b]))
    ]


def varies(figure: FigureOverSeeds) -> bool:
    """Whether a figure differs between arms or seeds."""
    known = [e for e in figure.estimates if e.value is not None]
    return any(e.low != e.high for e in known) or len({e.value for e in known}) > 1


def enough_seeds(pairs: int) -> int:
    """Seeds below which no pair of so many can reach the 5 % level by Wilcoxon's test and Holm's correction.

    The smallest p-value of the signed-rank test of n pairs is 2 / 2^n.
    """
    return math.ceil(math.log2(2 * max(pairs, 1) / LEVEL))


def effect_words(pair: PairedDifference) -> str:
    """The size of an effect in words (Cohen 1988): what d_z counts as."""
    if pair.d_z is None:
        return "none" if not pair.n_nonzero else "the same in every unit"
    size = abs(pair.d_z)
    return "very small" if size < 0.2 else "small" if size < 0.5 else "medium" if size < 0.8 else "large"


def as_json(figures: Sequence[FigureOverSeeds], arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """The study as plain data: every figure with estimates per arm and paired tests."""
    return {
        "format": 1,
        "seeds": list(seeds),
        "arms": list(arms),
        "figures": [
            {
                "key": f.kpi.key,
                "name": f.kpi.name,
                "better": f.kpi.better,
                "estimates": {arm: e.as_dict() for arm, e in zip(arms, f.estimates, strict=True)},
                "pairs": [p.as_dict() for p in f.pairs],
            }
            for f in figures
        ],
    }
