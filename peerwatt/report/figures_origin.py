"""The figure of origins: what consumed energy was made of, after storage and trade, over the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peerwatt.report import timeline
from peerwatt.report.data import ReportData
from peerwatt.report.figure import Figure, Panel, absent, axis, bars, column, layout, time_axis
from peerwatt.report.palette import BLUE, GREEN, GREY, KINDS, MINT, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from peerwatt.report.text import energy, percent
from peerwatt.results.statements_origin import origin_words

_COLOURS = {
    "local_solar": ORANGE, "grid": GREY, "unknown": MINT, "wind": SKY, "solar": YELLOW, "hydro": BLUE,
    "biomass": GREEN, "nuclear": PURPLE, "lignite": VERMILION,
}  # fmt: skip

_NONE = "The run kept no table of certificates (`outputs: tables`), so origins cannot be shown over time."


def origins(data: ReportData) -> Figure:
    """Consumption by origin, stacked by month."""
    id_, title = "origin", "Where the electricity came from"
    if not data.origins:
        return absent(id_, title, _NONE)
    bins = timeline.for_bars(data)
    sums = {name: bins.total(wh) for name, wh in data.origins.items() if wh.any()}
    if not sums:
        return absent(id_, title, "Nothing was used.")
    top = float(np.sum(list(sums.values()), axis=0).max())
    unit, scale = ("MWh", 1e6) if top >= 2e6 else ("kWh", 1e3)
    colours = _colours(list(sums))
    hover = f"%{{x}}<br>%{{fullData.name}}: %{{y:.4~g}} {unit}<extra></extra>"
    traces = [
        bars(origin_words(name), bins.x, column(wh / scale), colours[name], hovertemplate=hover)
        for name, wh in sums.items()
    ]
    x = axis(bins.word, type="category") if bins.word == "month" else time_axis(data.static.zone)
    plan = layout(x, axis(f"used [{unit} per {bins.word}]", rangemode="tozero"), barmode="stack", bargap=0.15)
    note = (
        "Certificates of origin follow the energy through batteries and from neighbour to neighbour, each counted "
        "once. What suppliers deliver has the mix they state. Unknown: what a supplier cannot name, and what stood in "
        "batteries before the run."
    )
    return Figure(id_, title, _text(data), (Panel("", {"data": traces, "layout": plan}),), note=note)


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per origin: its own where it has one, else those that are left."""
    left = iter([c for c in KINDS if c not in {_COLOURS.get(name) for name in names}] * len(names) or KINDS)
    return {name: _COLOURS[name] if name in _COLOURS else next(left) for name in names}


def _text(data: ReportData) -> str:
    block = data.summary["origin"]
    shares = {name: o["share"] for name, o in block["by_origin"].items() if o["consumed_kwh"]}
    ranked = sorted(shares, key=lambda name: -shares[name])
    said = [f"{percent(shares[name])} {_lower(origin_words(name))}" for name in ranked[:3]]
    rest = 1 - sum(shares[name] for name in ranked[:3])
    said += [f"{percent(rest)} other"] if len(ranked) > 3 else []
    text = f"Of the {energy(block['consumed_kwh'] * 1000)} used, {', '.join(said)}"
    match = block["matching"]
    if match["year"]:
        fine = "slot" if match["hour"] is None else "hour"
        coarse = ("year", "month") if data.n_days > 31 else ("year",)
        counted = [f"{percent(match[p])} counted by {p if data.n_days > 31 else 'the whole run'}" for p in coarse]
        text += (
            f". Before storage, certificates of the district's own generation cover {', '.join(counted)} and "
            f"{percent(match[fine])} by {fine}"
        )
    return text + "."


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]
