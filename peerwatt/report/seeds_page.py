"""The page of a comparison over seeds: every figure with its interval, every pair of arms with its test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.statistics import Estimate
from peerwatt.report.comparison import Kpi, Summary, reference_of
from peerwatt.report.figure import Figure, Panel, axis, layout
from peerwatt.report.page import Cell, Section, figure_html, list_html, page_html, table_html
from peerwatt.report.paired import pairs_table, signed
from peerwatt.report.palette import GREY, KINDS
from peerwatt.report.text import NOTHING, count, fixed, html, listing
from peerwatt.report.uncertainty import LEVEL, FigureOverSeeds, enough_seeds, varies
from peerwatt.results.record import RunStatic


def write_seeds_page(
    static: RunStatic,
    per_seed: Sequence[Sequence[Summary]],
    arms: Sequence[str],
    seeds: Sequence[int],
    figures: Sequence[FigureOverSeeds],
    sentences: Sequence[str],
    out: Path,
) -> Path:
    """Write the page; ``per_seed`` holds for each seed the summaries of all ``arms``."""
    currency = static.currency
    reference = arms[reference_of(per_seed[0])]
    drawn = [_intervals(f, arms, reference, currency) for f in figures if varies(f)]
    said = list_html(_findings(figures, sentences), "findings")
    pairs = [(f.kpi, p) for f in figures for p in f.pairs]
    sections = [
        Section("findings", "What the seeds say", f'<div class="box">{said}</div>'),
        Section("table", "Key figures", estimates_table(figures, arms, currency)),
        Section("figures", "Intervals", "".join(map(figure_html, drawn)) or "<p>No figure varies over seeds.</p>"),
        Section("pairs", "Arms against each other", pairs_table(pairs, currency)),
    ]
    page = page_html(
        title=f"{static.title or static.name}: rules compared over seeds",
        brand="peerwatt comparison",
        lead=(
            f"{count(len(static.buildings), 'building')}, {count(len(arms), 'arm')}, {count(len(seeds), 'seed')}. "
            f"Arms: {listing(list(arms))}. What is drawn by seed differs between seeds and is the same for all arms of "
            "a seed."
        ),
        facts=[("Seeds", f"{seeds[0]} to {seeds[-1]}"), ("Reference", reference), ("Currency", currency)],
        sections=sections,
        figures=drawn,
        footer="Made by peerwatt. This page is complete in itself and loads nothing.",
    )
    out.write_text(page, encoding="utf-8")
    return out


def interval_words(kpi: Kpi, estimate: Estimate, currency: str) -> str:
    """``12.3 [11.9, 12.7]`` in the words of a key figure."""
    if estimate.value is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{kpi.show(estimate.value, currency)} (no interval)"
    if estimate.low == estimate.high:
        return f"{_show(kpi, estimate.value, currency)} (all the same)"
    ends = " to ".join(_show(kpi, v, currency) for v in (estimate.low, estimate.high))
    return f"{_show(kpi, estimate.value, currency)} [{ends}]"


def _show(kpi: Kpi, value: float, currency: str) -> str:
    """Means of counts are no whole numbers."""
    return fixed(value, 1) if kpi.key in ("losers", "violations") else kpi.show(value, currency)


def estimates_table(figures: Sequence[FigureOverSeeds], arms: Sequence[str], currency: str) -> str:
    """A row per key figure, a column per arm: mean and 95 % interval over seeds."""
    rows = []
    for f in figures:
        way = {"low": "lower is better", "high": "higher is better", "none": ""}[f.kpi.better]
        head = Cell(
            f.kpi.name, markup=f'{html(f.kpi.name[:1].upper() + f.kpi.name[1:])}<span class="delta">{way}</span>'
        )
        cells = [Cell(interval_words(f.kpi, e, currency), e.value) for e in f.estimates]
        rows.append([head, *cells])
    caption = "Mean over seeds [95 % interval of the mean, Student's t]."
    return f'<div class="box sticky">{table_html(caption, ["Figure", *arms], rows, [False] + [True] * len(arms))}</div>'


def _findings(figures: Sequence[FigureOverSeeds], sentences: Sequence[str]) -> list[str]:
    """What is sure and what is not, figure by figure."""
    said = list(sentences)
    for f in figures:
        if f.pairs and f.pairs[0].n < enough_seeds(len(f.pairs)):
            continue  # no test of this many pairs can find anything: the sentences say so
        sure = [p for p in f.pairs if p.p_holm is not None and p.p_holm < LEVEL and p.difference.value]
        open_ = [p for p in f.pairs if p.p_holm is not None and p.p_holm >= LEVEL and p.n_nonzero]
        if not sure and not open_:
            continue
        name = f.kpi.name[:1].upper() + f.kpi.name[1:]
        words = f"{name}: {len(sure)} of {len(f.pairs)} pairs of arms differ at the 5 % level"
        if sure:
            largest = max(sure, key=lambda p: abs(p.difference.value or 0.0))
            words += f", most of all {largest.first} and {largest.second} ({signed(largest.difference.value or 0.0)})"
        if open_:
            words += f"; not settled: {listing([f'{p.first} against {p.second}' for p in open_[:4]])}"
            words += " and others" if len(open_) > 4 else ""
        said.append(words + ".")
    return said


def _intervals(figure: FigureOverSeeds, arms: Sequence[str], reference: str, currency: str) -> Figure:
    """Dots with error bars, one per arm."""
    kpi = figure.kpi
    known = [(a, e) for a, e in zip(arms, figure.estimates, strict=True) if e.value is not None]
    free = iter(KINDS[:-1] * (1 + len(arms) // 7))
    colours = [GREY if a == reference else next(free) for a, _ in known]
    values = [round(e.value or 0.0, 6) for _, e in known]
    ends = [
        (v if e.low is None else e.low, v if e.high is None else e.high)
        for (_, e), v in zip(known, values, strict=True)
    ]
    up = [round(high - v, 6) for (_, high), v in zip(ends, values, strict=True)]
    down = [round(v - low, 6) for (low, _), v in zip(ends, values, strict=True)]
    trace = {
        "type": "scatter", "mode": "markers", "x": [a for a, _ in known], "y": values,
        "marker": {"size": 10, "color": colours}, "showlegend": False,
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 6, "array": up, "arrayminus": down,
        },
        "hovertemplate": "%{x}: %{y:,.4~g}<extra></extra>",
    }  # fmt: skip
    plan = layout(axis("arm", type="category"), axis(kpi.name), height=300)
    words = "; ".join(f"{a} {interval_words(kpi, e, currency)}" for a, e in known)
    return Figure(f"seeds-{kpi.key}", kpi.name[:1].upper() + kpi.name[1:], f"{words}.",
                  (Panel("", {"data": [trace], "layout": plan}),))  # fmt: skip
