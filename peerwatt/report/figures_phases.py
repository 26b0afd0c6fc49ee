"""Figures of a network that is solved phase by phase: voltage of each phase, unbalance, load of phases and neutral."""

from __future__ import annotations

import numpy as np

from peerwatt.report import timeline
from peerwatt.report.data import Floats, PhaseData, ReportData
from peerwatt.report.figure import (
    NO_SLOTS,
    Figure,
    Panel,
    absent,
    axis,
    band,
    bars,
    column,
    layout,
    limit_lines,
    line,
    time_axis,
)
from peerwatt.report.figures_network import common_limits
from peerwatt.report.palette import BLUE, GREEN, GREY, ORANGE, SKY, with_alpha
from peerwatt.report.places import hops
from peerwatt.report.text import count, listing, percent, plain, volts, with_kind
from peerwatt.results.phases import PHASES, UNBALANCE_MAX

COLOURS = {"a": BLUE, "b": ORANGE, "c": GREEN}
"""Colours of the phases."""

MAX_BRANCHES = 24
"""So many branches are shown with a bar for each phase and the neutral."""


def phase_figures(data: ReportData) -> list[Figure]:
    """Figures beyond those of a balanced network; none for such a run."""
    if data.phases is None:
        return []
    phases = data.phases
    return [by_bus(data, phases), over_time(data, phases), unbalance(data, phases), conductors(data, phases)]


def _means(data: ReportData) -> str:
    return f"{plain(data.grid.length_s / 60)}-minute means; not an EN 50160 assessment."


def _buses(data: ReportData, key: Floats) -> tuple[np.ndarray, list[str], list[str]]:
    """Order of the buses from the grid above outwards, their names, and a line about each."""
    distance = hops(data.static)
    order = np.lexsort((np.arange(len(distance)), -key, distance))
    buses = [data.static.buses[i] for i in order]
    names = [(b.name or b.id)[-22:] for b in buses]
    about = [f"{b.name} ({b.id}), {count(int(distance[i]), 'branch', 'branches')} from the grid above"
             for b, i in zip(buses, order, strict=True)]  # fmt: skip
    return order, names, about


def by_bus(data: ReportData, phases: PhaseData) -> Figure:
    """Lowest to highest voltage of each phase at every bus."""
    order, names, about = _buses(data, phases.highest.max(axis=1))
    traces = []
    for k, phase in enumerate(PHASES):
        low, high = phases.lowest[order, k], phases.highest[order, k]
        traces.append(
            bars(f"phase {phase}", names, column(high - low, 6), COLOURS[phase], base=column(low, 6),
                 customdata=column(high, 6), hovertext=about,
                 hovertemplate=f"%{{hovertext}}<br>%{{base:.4f}} to %{{customdata:.4f}} p.u.<extra>{phase}</extra>")
        )  # fmt: skip
    bounds = common_limits(data)
    seen = [float(phases.lowest.min()), float(phases.highest.max())]
    reach = _reach(seen, bounds)
    plan = layout(
        axis("bus, from the grid above outwards", type="category", showticklabels=len(names) <= 60),
        axis("voltage to neutral [p.u.]", range=reach), height=460, barmode="group", bargap=0.25, bargroupgap=0.0,
        shapes=limit_lines([b for b in bounds if reach[0] <= b <= reach[1]]),
    )  # fmt: skip
    ends = zip(PHASES, phases.lowest.min(axis=0).tolist(), phases.highest.max(axis=0).tolist(), strict=True)
    said = listing([f"in phase {phase} between {volts(low)} and {volts(high)}" for phase, low, high in ends])
    apart = (phases.highest.max(axis=1) - phases.lowest.min(axis=1)).argmax()
    bus = data.static.buses[int(apart)]
    text = f"Over the run voltages lie {said} p.u.; the widest range of all has {bus.name or bus.id}."
    note = f"Bars: lowest to highest of the run, from phase to neutral. {_limit_words(bounds, reach)} {_means(data)}"
    return Figure(
        "voltage-phases", "Voltage of each phase", text, (Panel("", {"data": traces, "layout": plan}),), note=note
    )


def _reach(seen: list[float], bounds: list[float]) -> list[float]:
    """Data with a margin, and the limits where they are not far off."""
    room = max(seen[1] - seen[0], 0.01)
    low = bounds[0] if seen[0] - bounds[0] < room else seen[0]
    high = bounds[1] if bounds[1] - seen[1] < room else seen[1]
    return [min(low, seen[0]) - 0.06 * room, max(high, seen[1]) + 0.06 * room]


def _limit_words(bounds: list[float], reach: list[float]) -> str:
    """Where the limits of most buses are, drawn or not."""
    text = f"The limits of most buses are {plain(bounds[0])} and {plain(bounds[1])} p.u."
    drawn = [reach[0] <= b <= reach[1] for b in bounds]
    return text + (" (dashed)." if all(drawn) else " (dashed: the nearer)." if any(drawn) else ", beyond the drawing.")


def over_time(data: ReportData, phases: PhaseData) -> Figure:
    """Lowest and highest voltage of each phase over time, a drawing for each phase."""
    id_, title = "voltage-phases-time", "Each phase over time"
    if not phases.slots:
        return absent(id_, title, NO_SLOTS)
    bins = timeline.for_lines(data)
    ends = {
        p: (bins.lowest(phases.slots[f"v_{p}_min_pu"]), bins.highest(phases.slots[f"v_{p}_max_pu"])) for p in PHASES
    }
    seen = [
        min(float(np.nanmin(low)) for low, _ in ends.values()),
        max(float(np.nanmax(high)) for _, high in ends.values()),
    ]
    bounds = common_limits(data)
    reach = _reach(seen, bounds)
    panels = []
    for phase in PHASES:
        low, high = (column(values, 5) for values in ends[phase])
        traces = band(
            f"phase {phase}, lowest to highest bus", bins.x, low, high, with_alpha(COLOURS[phase], 0.35), "p.u."
        )
        traces += [line(name, bins.x, y, COLOURS[phase], width=1.2, showlegend=False, hoverinfo="skip")
                   for name, y in (("lowest", low), ("highest", high))]  # fmt: skip
        plan = layout(
            time_axis(data.static.zone), axis("voltage to neutral [p.u.]", range=reach), height=260,
            shapes=limit_lines([b for b in bounds if reach[0] <= b <= reach[1]]),
        )  # fmt: skip
        panels.append(Panel(f"phase {phase}", {"data": traces, "layout": plan}))
    gap = np.max([phases.slots[f"v_{p}_max_pu"] for p in PHASES], axis=0)
    gap = gap - np.min([phases.slots[f"v_{p}_min_pu"] for p in PHASES], axis=0)
    at = int(np.nanargmax(gap))
    text = (
        f"The phases lie furthest apart on {data.when(at)} local time: {volts(float(gap[at]))} p.u. between the "
        f"highest and the lowest of all buses; on average {volts(float(np.nanmean(gap)))} p.u."
    )
    return Figure(
        id_,
        title,
        text.rstrip(".") + ".",
        tuple(panels),
        shown="tabs",
        note=f"Extremes of the {bins.word} over all buses. {_limit_words(bounds, reach)} {_means(data)}",
    )


def unbalance(data: ReportData, phases: PhaseData) -> Figure:
    """Voltage unbalance factor of every bus."""
    order, names, about = _buses(data, phases.unbalance_max)
    traces = [
        bars(name, names, column(values[order] * 100, 4), colour, width=width, hovertext=about,
             hovertemplate="%{hovertext}<br>" + name + ": %{y:.2f} %<extra></extra>")
        for name, values, colour, width in (
            ("highest", phases.unbalance_max, with_alpha(SKY, 0.6), 0.75),
            ("below this for 95 % of the time", phases.unbalance_p95, BLUE, 0.45),
        )
    ]  # fmt: skip
    limit = UNBALANCE_MAX * 100
    top = max(float(phases.unbalance_max.max()) * 100, limit)
    plan = layout(
        axis("bus, from the grid above outwards", type="category", showticklabels=len(names) <= 60),
        axis("voltage unbalance factor [%]", range=[0, 1.08 * top]), barmode="overlay", height=380,
        shapes=limit_lines([limit]),
    )  # fmt: skip
    worst = int(phases.unbalance_max.argmax())
    bus, over = data.static.buses[worst], int((phases.unbalance_max > UNBALANCE_MAX).sum())
    text = (
        f"The highest unbalance is {percent(float(phases.unbalance_max[worst]), 2)}, at {bus.name or bus.id}; for 95 % "
        f"of the time it stays below {percent(float(phases.unbalance_p95.max()), 2)} at every bus; "
    )
    text += f"{count(over, 'bus exceeds', 'buses exceed')} 2 %." if over else "no bus exceeds 2 %."
    note = (
        "Negative- over positive-sequence voltage. Dashed: the 2 % that EN 50160 allows in 95 % of the ten-minute "
        "values of a week. " + _means(data)
    )
    return Figure(
        "unbalance", "Unbalance of every bus", text, (Panel("", {"data": traces, "layout": plan}),), note=note
    )


def conductors(data: ReportData, phases: PhaseData) -> Figure:
    """Highest loading of each phase and of the neutral of the most loaded branches."""
    id_, title = "conductors", "Phases and neutral of the most loaded branches"
    branches = data.static.branches
    if not branches:
        return absent(id_, title, "The network has no lines and no transformers.")
    highest = np.maximum(phases.loading.max(axis=1), phases.neutral)
    order = np.argsort(-highest, kind="stable")[:MAX_BRANCHES]
    names = [(branches[i].name or branches[i].id)[-22:] for i in order]
    about = [f"{with_kind(branches[i].kind, branches[i].name)} ({branches[i].id})" for i in order]
    shown = [(f"phase {p}", phases.loading[order, k], COLOURS[p]) for k, p in enumerate(PHASES)]
    traces = [
        bars(name, names, column(values * 100, 2), colour, hovertext=about,
             hovertemplate="%{hovertext}<br>" + name + ": %{y:.1f} % of the rated current<extra></extra>")
        for name, values, colour in (*shown, ("neutral", phases.neutral[order], GREY))
    ]  # fmt: skip
    bounds = sorted({branches[i].loading_max * 100 for i in order})
    peak = float(highest[order[0]]) * 100
    plan = layout(
        axis("line or transformer", type="category"), axis("highest loading [% of rated current]", rangemode="tozero"),
        barmode="group", bargap=0.25, bargroupgap=0.0, height=420,
        shapes=limit_lines([b for b in bounds if b <= 1.5 * peak]),
    )  # fmt: skip
    at = int(phases.neutral.argmax())
    more = int((phases.neutral > phases.loading.max(axis=1)).sum())
    text = (
        f"The neutral carries most at {with_kind(branches[at].kind, branches[at].name or branches[at].id)}: "
        f"{percent(float(phases.neutral[at]))} of the rated current of a phase. "
    )
    text += (
        f"At {more} of {count(len(branches), 'branch', 'branches')} it reaches more than any phase: feed-in on one "
        "phase and load on another add up in it."
        if more
        else "At no branch does it reach more than the highest phase."
    )
    note = "Highest of the run, each by itself. The neutral is taken as one of the phases' section. " + _means(data)
    return Figure(id_, title, text, (Panel("", {"data": traces, "layout": plan}),), note=note)
