"""Figures of outages: power by source and what was shed, frequency, charge, and who was dark how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from peerwatt.report.data import Floats, ReportData
from peerwatt.report.figure import Figure, Panel, Spec, absent, axis, bars, column, layout, limit_lines, line
from peerwatt.report.page import Card, Cell, cards_html, table_html
from peerwatt.report.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from peerwatt.report.text import count, fixed, html, number

APART_S = 600.0
"""A pause of the trace that is longer than this parts two outages [s]."""
BAND_HZ = (49.0, 51.0)
"""Band drawn for comparison: EN 50160 wants +-2 % in 95 % of a week of a system without synchronous connection."""
MANY = {"shed": "were shed", "restore": "were restored"}
"""Kinds of event that come in flocks."""
NO_TRACE = "No outage was lived through as an island, so there is nothing to follow over its seconds."


@dataclass(frozen=True, slots=True)
class Episode:
    """One outage in the trace: its rows, its first second, and its name on the page."""

    rows: slice
    start_s: float
    label: str


def outages_html(data: ReportData) -> str:
    """Key figures and the list of what happened; empty where the run has no outages."""
    found = data.summary.get("reliability")
    if not found:
        return ""
    cards = [
        Card("SAIDI", f"{number(found['saidi_minutes'])} min", "mean minutes without supply per customer"),
        Card("SAIFI", number(found["saifi"]), "sustained interruptions (over 5 min) per customer"),
        Card("MAIFI", number(found["maifi"]), "momentary interruptions (up to 5 min) per customer"),
        Card("Unserved energy", f"{number(found['unserved_kwh'])} kWh", "load that would have been drawn"),
    ]
    rows = [[Cell(_when(data, at_s), at_s), Cell(text)] for at_s, text in told(found["events"])]
    caption = f"What happened in {count(found['outages'], 'outage')}"
    listed = table_html(caption, ["local time", "event"], rows, [False, False]) if rows else ""
    stands = (
        "The district stands alone when the grid is lost."
        if found["microgrid"]
        else ("The district cannot stand alone: without the grid above everybody is dark.")
    )
    dark = data.summary["reliability"]["customers"]
    lead = f"<p>{html(stands)} {html(count(dark, 'customer'))} are counted.</p>"
    return cards_html(cards) + lead + listed


def told(events: Sequence[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """What happened, in lines: loads that are shed or restored one after another share one; forecasts are left out."""
    lines: list[tuple[float, str]] = []
    for kind, group in groupby((e for e in events if e["kind"] != "energy"), key=lambda e: e["kind"]):
        part = list(group)
        if kind not in MANY or len(part) == 1:
            lines += [(e["at_s"], e["text"]) for e in part]
            continue
        lasts = part[-1]["at_s"] - part[0]["at_s"]
        names = [e["text"].split(" ", 1)[0] for e in part]
        lines.append((part[0]["at_s"], f"within {number(lasts)} s {MANY[kind]}: {', '.join(names)}"))
    return lines


def outage_figures(data: ReportData) -> list[Figure]:
    """Powers, frequency and charge by outage, and minutes without supply by building."""
    if not data.summary.get("reliability"):
        return []
    return [powers(data), frequency(data), charge(data), dark_minutes(data)]


def episodes(data: ReportData) -> list[Episode]:
    """The outages of the trace, in order."""
    at = data.outages.get("at_s", np.zeros(0))
    if not len(at):
        return []
    edges = [0, *(np.flatnonzero(np.diff(at) > APART_S) + 1).tolist(), len(at)]
    return [Episode(slice(a, b), float(at[a]), _when(data, float(at[a]))) for a, b in pairwise(edges)]


def _when(data: ReportData, at_s: float) -> str:
    start = datetime.fromisoformat(data.static.start_utc) + timedelta(seconds=float(at_s))
    local = start.astimezone(ZoneInfo(data.static.zone))
    return f"{local.day} {local:%B %Y, %H:%M:%S}"


def _panels(data: ReportData, draw: Callable[[dict[str, Floats], Floats], Spec]) -> tuple[Panel, ...]:
    found = []
    for episode in episodes(data):
        part = {name: np.asarray(values[episode.rows]) for name, values in data.outages.items() if name != "state"}
        found.append(Panel(episode.label, draw(part, (part["at_s"] - episode.start_s) / 60.0)))
    return tuple(found)


def _minutes() -> Spec:
    return axis("time since then [min]")


def powers(data: ReportData) -> Figure:
    """What supplies the island and what it draws."""
    id_, title = "outage-powers", "Power by source, and what is shed"
    shed = data.outages.get("shed_kw", np.zeros(0))
    if not len(shed):
        return absent(id_, title, NO_TRACE)

    def draw(part: dict[str, Floats], x: Floats) -> Spec:
        rows = (
            ("grid above", "exchange_kw", GREY),
            ("forming battery", "forming_kw", GREEN),
            ("PV and home batteries", "generated_kw", ORANGE),
            ("drawn", "load_kw", BLUE),
            ("shed", "shed_kw", VERMILION),
        )
        traces = [
            line(name, column(x), column(part[key]), colour, dash="dot" if key == "shed_kw" else "solid",
                 hovertemplate=f"%{{x:.2f}} min<br>{name} %{{y:.1f}} kW<extra></extra>")
            for name, key, colour in rows
        ]  # fmt: skip
        return {"data": traces, "layout": layout(_minutes(), axis("power [kW]", zeroline=True), height=380)}

    says = f"At most {fixed(float(shed.max()), 1)} kW of load were shed; without shed load nothing is drawn below zero."
    note = "Sources count above zero where they supply; a charging battery and a feed into the grid lie below."
    return Figure(id_, title, says, _panels(data, draw), shown="tabs", note=note)


def frequency(data: ReportData) -> Figure:
    """Frequency of the island."""
    id_, title = "outage-frequency", "Frequency"
    values = data.outages.get("frequency_hz", np.zeros(0))
    live = values[values > 0]
    if not len(live):
        return absent(id_, title, NO_TRACE)

    def draw(part: dict[str, Floats], x: Floats) -> Spec:
        hz = np.where(part["frequency_hz"] > 0, part["frequency_hz"], np.nan)
        traces = [line("frequency", column(x), column(hz, 6), PURPLE, hovertemplate="%{y:.3f} Hz<extra></extra>")]
        plan = layout(_minutes(), axis("frequency [Hz]"), height=300, shapes=limit_lines(BAND_HZ), showlegend=False)
        return {"data": traces, "layout": plan}

    says = f"Between {fixed(float(live.min()), 3)} and {fixed(float(live.max()), 3)} Hz while the district had voltage."
    note = "A gap is a district without voltage. Dashed: +-2 %, where EN 50160 wants a grid of its own 95 % of a week."
    return Figure(id_, title, says, _panels(data, draw), shown="tabs", note=note)


def charge(data: ReportData) -> Figure:
    """Stored share of the forming battery."""
    id_, title = "outage-charge", "State of charge of the forming battery"
    soc = data.outages.get("soc", np.zeros(0))
    if not len(soc):
        return absent(id_, title, NO_TRACE)

    def draw(part: dict[str, Floats], x: Floats) -> Spec:
        share = 100.0 * part["soc"]
        traces = [line("stored", column(x), column(share), GREEN, hovertemplate="%{y:.1f} %<extra></extra>")]
        plan = layout(_minutes(), axis("stored [%]", range=[0, 100]), height=300, showlegend=False)
        return {"data": traces, "layout": plan}

    says = f"It went down to {fixed(100 * float(soc.min()), 0)} % of its capacity."
    return Figure(id_, title, says, _panels(data, draw), shown="tabs")


def dark_minutes(data: ReportData) -> Figure:
    """Minutes without supply of every customer."""
    id_, title = "dark-minutes", "Minutes without supply by building"
    found = data.summary["reliability"]["by_building"]
    names = sorted(found, key=lambda name: (-found[name]["minutes"], name))
    minutes: NDArray[np.float64] = np.array([found[name]["minutes"] for name in names])
    if not minutes.any():
        return absent(id_, title, "Nobody was without supply for more than five minutes.")
    hover = "%{x}: %{y:.1f} min<extra></extra>"
    plan = layout(axis("building", type="category"), axis("without supply [min]"), height=320, showlegend=False)
    spec = {"data": [bars("without supply", names, column(minutes), BLUE, hovertemplate=hover)], "layout": plan}
    worst = f"{names[0]} the longest: {number(float(minutes[0]))} minutes"
    return Figure(id_, title, f"{count(int((minutes > 0).sum()), 'building')} were dark, {worst}.", (Panel("", spec),))
