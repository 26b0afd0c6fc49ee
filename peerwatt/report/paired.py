"""Paired tests as a table of a page and as sentences."""

from __future__ import annotations

from collections.abc import Sequence

from core.statistics import PairedDifference
from peerwatt.report.comparison import Kpi, Summary, reference_of
from peerwatt.report.page import Cell, table_html
from peerwatt.report.text import MINUS, NOTHING, money
from peerwatt.report.uncertainty import effect_words, enough_seeds, over_buildings


def pairs_table(
    pairs: Sequence[tuple[Kpi | str | None, PairedDifference]], currency: str, *, units: str = "Arms"
) -> str:
    """A row per pair of arms, or of what ``units`` names: mean difference, interval, corrected p and effect sizes."""
    rows = []
    for kpi, pair in pairs:
        d, mean = pair.difference, pair.difference.value
        if mean is None:
            continue
        ends = NOTHING if d.low is None or d.high is None else f"{signed(d.low)} to {signed(d.high)}"
        rows.append([
            Cell(kpi.name if isinstance(kpi, Kpi) else kpi or ""), Cell(f"{pair.first} {MINUS} {pair.second}"),
            Cell(signed(mean), mean), Cell(ends), Cell(p_words(pair.p_holm), pair.p_holm),
            Cell(NOTHING if pair.d_z is None else signed(pair.d_z), pair.d_z), Cell(effect_words(pair)),
            Cell(NOTHING if pair.rank_biserial is None else signed(pair.rank_biserial), pair.rank_biserial),
        ])  # fmt: skip
    unit = f" [{currency} or the figure's unit]" if currency else ""
    heads = ["Figure", units, f"Difference{unit}", "95 % interval", "p (Holm)", "d_z",
             "Effect", "Rank-biserial"]  # fmt: skip
    caption = (
        "Paired differences: Wilcoxon's signed-rank test, p corrected by Holm per figure; Cohen's d_z; matched pairs."
    )
    right = [False, False, True, True, True, True, False, True]
    if not any(label for label, _ in pairs):  # one figure alone needs no column for its name
        heads, right, rows = heads[1:], right[1:], [row[1:] for row in rows]
    return f'<div class="box">{table_html(caption, heads, rows, right)}</div>'


def p_words(p: float | None) -> str:
    """A p-value as one reads it."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """Three significant digits with a sign."""
    text = f"{abs(value):,.3g}"
    return "0" if value == 0 else f"{'+' if value > 0 else MINUS}{text}"


def reference_sentences(summaries: Sequence[Summary], arms: Sequence[str]) -> list[str]:
    """One sentence for each arm against the reference: what a building pays more or less, and how sure that is."""
    reference, currency = arms[reference_of(summaries)], str(summaries[0]["run"]["currency"])
    said = []
    pairs = over_buildings(summaries, arms)
    for pair in pairs:
        d = pair.difference
        if reference not in (pair.first, pair.second) or d.value is None:
            continue
        flip = -1.0 if pair.first == reference else 1.0
        arm = pair.second if pair.first == reference else pair.first
        words = f"{arm}: {money(flip * d.value, currency, signed=True)} per building against {reference}"
        if d.low is not None and d.high is not None:
            low, high = sorted((flip * d.low, flip * d.high))
            words += f" [{money(low, currency, signed=True)} to {money(high, currency, signed=True)}]"
        if pair.n < enough_seeds(len(pairs)):
            words += ", too few buildings for a test"
        elif pair.p_holm is not None:
            words += f", p {'' if pair.p_holm < 0.001 else '= '}{p_words(pair.p_holm)}"
        if pair.d_z is not None:
            words += f", d_z {signed(flip * pair.d_z)} ({effect_words(pair)})"
        said.append(words + ".")
    return said
