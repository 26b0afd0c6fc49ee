"""A comparison over seeds as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peerwatt.report.paired import p_words, signed
from peerwatt.report.seeds_page import interval_words
from peerwatt.report.text import MINUS, NOTHING
from peerwatt.report.uncertainty import FigureOverSeeds, effect_words, varies

if TYPE_CHECKING:
    from rich.table import Table

MAIN = ("cost", "inside", "violations", "gini")
"""Figures whose paired tests the terminal shows; the page has all."""


def seeds_table(figures: Sequence[FigureOverSeeds], arms: Sequence[str], currency: str) -> list[Table]:
    """Means with intervals, a block per figure and a row per arm; then the paired tests of the main figures."""
    from rich.table import Table

    means = Table("figure", "arm", "mean [95 % interval]", box=None, pad_edge=False)
    for f in figures:
        if not varies(f):
            continue
        for k, (arm, e) in enumerate(zip(arms, f.estimates, strict=True)):
            means.add_row(f.kpi.name if k == 0 else "", arm, interval_words(f.kpi, e, currency))
    tests = Table("figure", "arms", "difference", "p (Holm)", "d_z", "effect", box=None, pad_edge=False)
    for f in figures:
        if f.kpi.key not in MAIN:
            continue
        for p in f.pairs:
            if p.difference.value is None or not p.n_nonzero:
                continue
            tests.add_row(
                f.kpi.name, f"{p.first} {MINUS} {p.second}", signed(p.difference.value), p_words(p.p_holm),
                NOTHING if p.d_z is None else signed(p.d_z), effect_words(p),
            )  # fmt: skip
    return [means, tests] if tests.row_count else [means]
