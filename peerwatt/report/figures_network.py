"""Figures of the network: voltages per bus and over time, loading of branches, and its picture."""

from __future__ import annotations

from collections import Counter

import numpy as np

from peerwatt.report import timeline
from peerwatt.report.data import Floats, Ints, ReportData, Snapshot
from peerwatt.report.figure import (
    FOREGROUND,
    LIMIT,
    NO_SLOTS,
    Figure,
    Panel,
    Spec,
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
from peerwatt.report.palette import BLUE, ORANGE, SKY, VERMILION, VIRIDIS, VOLTAGE, colour_of, plotly_scale, with_alpha
from peerwatt.report.places import bus_places, hops
from peerwatt.report.svg import network_svg
from peerwatt.report.text import count, percent, plain, volts, with_kind

_CAVEAT = "15-minute means; not an EN 50160 assessment"
_CLASSES = 12
MAX_BRANCHES = 40
"""So many of the most loaded branches are shown as bars."""

SNAPSHOT_WORDS = {
    "highest_voltage": "highest voltage",
    "lowest_voltage": "lowest voltage",
    "highest_loading": "highest loading",
}
"""Names of the network picture's variants."""


def network_figures(data: ReportData) -> list[Figure]:
    """Voltages, picture, loading; each says why when the run has no network."""
    return [voltage_bands(data), voltage_time(data), picture(data), loading(data)]


def _no_network(data: ReportData) -> str:
    if not data.static.buses:
        return "The scenario names no network, so there are no voltages and no loadings."
    return "This run was made without power flow, so there are no voltages and no loadings."


def interval_note(data: ReportData) -> str:
    """What the averaging interval means for voltages and loadings."""
    minutes = data.grid.length_s / 60
    text = _CAVEAT if minutes == 15 else f"{plain(minutes)}-minute means; not an EN 50160 assessment"
    phases = (
        " Balanced network: the three phases are taken as equal."
        if data.static.phases == 1
        else " Voltages from phase to neutral, over all phases; loadings are those of the highest phase."
    )
    return f"{text}.{phases}"


def limits(data: ReportData) -> tuple[Floats, Floats]:
    """Lower and upper voltage limit of every bus [p.u.]."""
    low = np.array([b.v_min_pu for b in data.static.buses], np.float64)
    return low, np.array([b.v_max_pu for b in data.static.buses], np.float64)


def voltage_bands(data: ReportData) -> Figure:
    """Spread of every bus's voltage, ordered by its distance from the grid above."""
    id_, title = "voltage-bands", "Voltage of every bus"
    spread = data.voltage
    if spread is None:
        return absent(id_, title, _no_network(data))
    distance = hops(data.static)
    order = np.lexsort((np.arange(len(distance)), -spread.median, distance))
    buses = [data.static.buses[i] for i in order]
    names = [_short(b.name or b.id, b.id) for b in buses]
    about = [f"{b.name} ({b.id}), {count(int(distance[i]), 'branch', 'branches')} from the grid above"
             for b, i in zip(buses, order, strict=True)]  # fmt: skip
    traces = []
    for name, low, high, colour, width in (
        ("lowest to highest", spread.lowest, spread.highest, with_alpha(SKY, 0.55), 0.35),
        ("middle 90 % of the time", spread.p05, spread.p95, BLUE, 0.7),
    ):
        traces.append(
            bars(name, names, column((high - low)[order], 6), colour, base=column(low[order], 6), width=width,
                 customdata=column(high[order], 6), hovertext=about,
                 hovertemplate=f"%{{hovertext}}<br>%{{base:.4f}} to %{{customdata:.4f}} p.u.<extra>{name}</extra>")
        )  # fmt: skip
    traces.append({"type": "scatter", "mode": "markers", "name": "median", "x": names,
                   "y": column(spread.median[order], 6), "hovertext": about,
                   "hovertemplate": "%{hovertext}<br>median %{y:.4f} p.u.<extra></extra>",
                   "marker": {"color": ORANGE, "size": 6, "symbol": "diamond"}})  # fmt: skip
    low, high = limits(data)
    traces += [_limit_trace(names, values[order]) for values in (low, high)]
    reach = _voltage_range(np.r_[spread.lowest, spread.highest], low, high)
    plan = layout(
        axis("bus, from the grid above outwards", type="category", showticklabels=len(names) <= 60),
        axis("voltage [p.u.]", range=reach), height=460, barmode="overlay",
    )  # fmt: skip
    note = interval_note(data) + f" Dashed: limits ({_limit_words(low, high)})."
    return Figure(id_, title, _voltage_text(data), (Panel("", {"data": traces, "layout": plan}),), note=note)


def _limit_trace(names: list[str], values: Floats) -> Spec:
    """A limit as a dashed line that steps from bus to bus."""
    return line("limit", names, column(values, 4), LIMIT, dash="dash", width=1.5, shape="hvh", showlegend=False,
                hovertemplate="limit %{y:.4~g} p.u.<extra></extra>")  # fmt: skip


def common_limits(data: ReportData) -> list[float]:
    """The pair of voltage limits that most buses have [p.u.]."""
    pairs = [(b.v_min_pu, b.v_max_pu) for b in data.static.buses]
    low, high = max(sorted(set(pairs)), key=Counter(pairs).__getitem__)
    return [low, high]


def _short(name: str, fallback: str, size: int = 22) -> str:
    name = name or fallback
    return name if len(name) <= size else "…" + name[-(size - 1) :]


def _voltage_range(values: Floats, low: Floats, high: Floats) -> list[float]:
    """Data and all limits with a margin: a limit that is drawn and named must be seen."""
    bottom, top = float(values.min()), float(values.max())
    bottom, top = min(bottom, float(low.min())), max(top, float(high.max()))
    room = 0.06 * max(top - bottom, 0.01)
    return [bottom - room, top + room]


def _limit_words(low: Floats, high: Floats) -> str:
    """Both limits where all buses have the same, else their ranges: limits differ by bus."""
    if np.ptp(low) == 0 and np.ptp(high) == 0:
        return f"{plain(float(low[0]))} and {plain(float(high[0]))} p.u."

    def words(values: Floats) -> str:
        a, b = float(values.min()), float(values.max())
        return plain(a) if a == b else f"{plain(a)} to {plain(b)}"

    return f"lower limits {words(low)}, upper {words(high)} p.u., by bus"


def _snapshot(data: ReportData, key: str) -> Snapshot | None:
    return next((s for s in data.snapshots if s.key == key), None)


def _voltage_text(data: ReportData) -> str:
    spread = data.voltage
    if spread is None:
        return ""
    bottom, top = int(spread.lowest.argmin()), int(spread.highest.argmax())
    low, high = limits(data)
    text = f"Voltage stays between {volts(float(spread.lowest[bottom]))} and {volts(float(spread.highest[top]))} p.u."
    names = data.static.buses
    highest, lowest = _snapshot(data, "highest_voltage"), _snapshot(data, "lowest_voltage")
    text += f"; the highest occurs{_on(data, highest)} at {names[top].name or names[top].id}"
    text += f", the lowest{_on(data, lowest)} at {names[bottom].name or names[bottom].id}"
    outside = int(((spread.highest > high + 1e-9) | (spread.lowest < low - 1e-9)).sum())
    verdict = f"{count(outside, 'bus leaves', 'buses leave')} the limits" if outside else "no bus leaves the limits"
    return f"{text}; {verdict}."


def _on(data: ReportData, snapshot: Snapshot | None) -> str:
    return "" if snapshot is None else f" on {data.when(snapshot.slot)} local time"


def voltage_time(data: ReportData) -> Figure:
    """Lowest and highest voltage of the network over time."""
    id_, title = "voltage-time", "Lowest and highest voltage over time"
    if data.voltage is not None and not data.slots:
        return absent(id_, title, NO_SLOTS)
    low, high = data.column("v_min_pu"), data.column("v_max_pu")
    if low is None or high is None:
        return absent(id_, title, _no_network(data))
    bins = timeline.for_lines(data)
    bottom, top = bins.lowest(low), bins.highest(high)
    traces = band("between the lowest and the highest bus", bins.x, column(bottom, 5), column(top, 5),
                  with_alpha(SKY, 0.3), "p.u.")  # fmt: skip
    hover = "%{x}<br>%{y:.4f} p.u.<extra></extra>"
    traces.append(line(f"highest of the {bins.word}", bins.x, column(top, 5), VERMILION, hovertemplate=hover))
    traces.append(line(f"lowest of the {bins.word}", bins.x, column(bottom, 5), BLUE, hovertemplate=hover))
    mean = data.column("v_mean_pu")
    if mean is not None:
        traces.append(line("mean of all buses", bins.x, column(bins.mean(mean), 5), FOREGROUND, width=1.2, dash="dot",
                           hovertemplate=hover))  # fmt: skip
    bounds = common_limits(data)
    plan = layout(
        time_axis(data.static.zone),
        axis("voltage [p.u.]", range=_voltage_range(np.r_[bottom, top], np.array(bounds[:1]), np.array(bounds[1:]))),
        shapes=limit_lines(bounds),
    )
    width = high - low
    widest = int(np.nanargmax(width))
    text = (
        f"The buses lie furthest apart on {data.when(widest)} local time: "
        f"{volts(float(low[widest]))} to {volts(float(high[widest]))} p.u. in the same slot; "
        f"on average they spread over {volts(float(np.nanmean(width)))} p.u."
    )
    return Figure(id_, title, text.rstrip(".") + ".", (Panel("", {"data": traces, "layout": plan}),),
                  note=interval_note(data) + " Dashed: limits of most buses.")  # fmt: skip


def picture(data: ReportData) -> Figure:
    """The network coloured by voltage and loading, one tab per telling slot and one per extreme of the run."""
    id_, title = "network", "The network"
    if data.voltage is None or data.loading is None:
        return absent(id_, title, _no_network(data))
    whole = "year" if data.n_days > 350 else "run"
    panels = [_picture_panel(data, SNAPSHOT_WORDS[s.key], s.v_pu, s.loading, s) for s in data.snapshots]
    panels.append(_picture_panel(data, f"the {whole}'s highest values", data.voltage.highest, data.loading.highest))
    panels.append(_picture_panel(data, f"the {whole}'s lowest voltages", data.voltage.lowest, data.loading.highest))
    _, geographic = bus_places(data.static)
    note = "Dots: voltage; lines: loading (100 % = rated); squares on lines: transformers. "
    note += "Drawn at the positions of the network file. " if geographic else "Positions are unknown: drawn as a tree. "
    first = data.snapshots[0] if data.snapshots else Snapshot("", 0, data.voltage.highest, data.loading.highest)
    drawing = network_svg(data.static, first.v_pu, first.loading, title=panels[0].sentence)
    return Figure(id_, title, panels[0].sentence, tuple(panels), shown="tabs", note=note + interval_note(data),
                  fallback=drawing)  # fmt: skip


def _picture_panel(data: ReportData, name: str, v_pu: Floats, load: Floats, at: Snapshot | None = None) -> Panel:
    places, _ = bus_places(data.static)
    low, high = voltage_scale(limits(data), v_pu)
    top = loading_scale(load)
    phases = None if at is None else at.v_phases
    traces = [*_branch_traces(data, places, load, top), _bus_trace(data, places, v_pu, low, high, phases),
              _loading_bar(top)]  # fmt: skip
    blank = {"visible": False}
    plan: Spec = {"height": 560, "xaxis": blank, "yaxis": {**blank, "scaleanchor": "x"}, "showlegend": False,
                  "hovermode": "closest", "dragmode": "pan"}  # fmt: skip
    top_bus, top_branch = int(v_pu.argmax()), int(load.argmax()) if len(load) else -1
    low_bus = int(v_pu.argmin())
    buses, branches = data.static.buses, data.static.branches
    when = "Over all slots, each element by itself, the" if at is None else f"On {data.when(at.slot)} local time the"
    what = "voltage" if phases is None else "voltage of each bus's phase nearest to a limit"
    text = (
        f"{when} {what} lies between {volts(float(v_pu[low_bus]))} p.u. ({buses[low_bus].name or buses[low_bus].id}) "
    )
    text += f"and {volts(float(v_pu[top_bus]))} p.u. ({buses[top_bus].name or buses[top_bus].id})"
    if top_branch >= 0:
        branch = branches[top_branch]
        name_of = with_kind(branch.kind, branch.name or branch.id)
        text += f"; the most loaded is {name_of} with {percent(float(load[top_branch]))}"
    return Panel(name, {"data": traces, "layout": plan}, text + ".")


def voltage_scale(bounds: tuple[Floats, Floats], v_pu: Floats) -> tuple[float, float]:
    """Ends of the colour scale of voltages: symmetric around 1 p.u., at least 0.03 wide and not beyond the limits."""
    reach = max(float(np.abs(v_pu - 1.0).max()) if len(v_pu) else 0.0, 0.03)
    reach = min(reach, max(float(np.abs(bounds[0] - 1).max()), float(np.abs(bounds[1] - 1).max()), 0.03))
    return 1.0 - reach, 1.0 + reach


def loading_scale(load: Floats) -> float:
    """Upper end of the colour scale of loading: the next of 10, 25, 50, 75, 100 % above the highest, or the highest."""
    highest = float(load.max()) if len(load) else 0.0
    return next((step for step in (0.1, 0.25, 0.5, 0.75, 1.0) if highest <= step), highest)


def _branch_traces(data: ReportData, places: Floats, load: Floats, top: float) -> list[Spec]:
    """Lines grouped into classes of loading (a trace each would be slow), and markers that carry the hover text."""
    level = np.minimum((load / top * _CLASSES).astype(np.int64), _CLASSES - 1) if top else np.zeros(len(load), np.int64)
    traces = [_segments(data, places, np.arange(len(load)), "var(--rule)", 6.0)]  # an edge: dark colours in dark mode
    for step in np.unique(level):
        colour = colour_of((step + 0.5) / _CLASSES, 0.0, 1.0, VIRIDIS)
        traces.append(_segments(data, places, np.flatnonzero(level == step), colour, 3.5))
    ends = [(places[b.from_bus] + places[b.to_bus]) / 2 for b in data.static.branches]
    words = [
        f"{with_kind(b.kind, b.name)} ({b.id})<br>loading {percent(float(v))}, limit {percent(b.loading_max, 0)}"
        for b, v in zip(data.static.branches, load, strict=True)
    ]
    transformer = [b.kind == "transformer" for b in data.static.branches]
    traces.append({
        "type": "scatter", "mode": "markers", "x": [round(float(p[0]), 4) for p in ends],
        "y": [round(float(p[1]), 4) for p in ends], "text": words, "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": ["square" if t else "circle" for t in transformer],
                   "size": [13 if t else 9 for t in transformer],
                   "opacity": [1.0 if t else 0.0 for t in transformer],
                   "color": [colour_of(float(v), 0.0, top, VIRIDIS) for v in load]},
    })  # fmt: skip
    return traces


def _segments(data: ReportData, places: Floats, chosen: Ints, colour: str, width: float) -> Spec:
    """Some branches as one trace of separate lines."""
    x: list[float | None] = []
    y: list[float | None] = []
    for i in chosen:
        branch = data.static.branches[int(i)]
        for bus in (branch.from_bus, branch.to_bus):
            x.append(round(float(places[bus, 0]), 4))
            y.append(round(float(places[bus, 1]), 4))
        x.append(None)
        y.append(None)
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip",
            "line": {"color": colour, "width": width}}  # fmt: skip


def _bus_trace(data: ReportData, places: Floats, v_pu: Floats, low: float, high: float, phases: Floats | None) -> Spec:
    at: dict[int, list[str]] = {}
    for building in data.static.buildings:
        at.setdefault(building.bus, []).append(building.id)
    words = []
    for i, bus in enumerate(data.static.buses):
        homes = at.get(i, [])
        shown = ", ".join(homes[:4]) + (f" and {len(homes) - 4} more" if len(homes) > 4 else "")
        by_phase = "" if phases is None else "a {:.4f}, b {:.4f}, c {:.4f} p.u.<br>".format(*phases[i])
        words.append(f"{bus.name} ({bus.id})<br>{by_phase or f'{v_pu[i]:.4f} p.u.<br>'}{shown or 'no building'}")
    outside = [not b.v_min_pu <= v <= b.v_max_pu for b, v in zip(data.static.buses, v_pu, strict=True)]
    return {
        "type": "scatter", "mode": "markers", "x": column(places[:, 0]), "y": column(places[:, 1]), "text": words,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": [15 if i in at else 10 for i in range(len(words))], "color": column(v_pu, 5), "cmin": low,
                   "opacity": 1,
                   "cmax": high, "colorscale": plotly_scale(VOLTAGE),
                   "line": {"color": [LIMIT if o else FOREGROUND for o in outside],
                            "width": [3 if o else 1 for o in outside]},
                   "colorbar": {"title": {"text": "voltage<br>[p.u.]<br> "}, "thickness": 12, "len": 0.47, "y": 0.98,
                                "yanchor": "top", "tickformat": ".3~f"}},
    }  # fmt: skip


def _loading_bar(top: float) -> Spec:
    """A trace without points that carries the colour bar of loading."""
    bar = {"title": {"text": "loading<br>[%]<br> "}, "thickness": 12, "len": 0.47, "y": 0.0, "yanchor": "bottom"}
    return {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip",
            "marker": {"color": [0.0], "cmin": 0.0, "cmax": top * 100, "colorscale": plotly_scale(VIRIDIS),
                       "showscale": True, "colorbar": bar}}  # fmt: skip


def loading(data: ReportData) -> Figure:
    """Highest and typical loading of every line and transformer."""
    id_, title = "loading", "Loading of lines and transformers"
    spread = data.loading
    if spread is None or not len(spread.highest):
        return absent(id_, title, _no_network(data))
    branches = data.static.branches
    order = np.argsort(-spread.highest, kind="stable")[:MAX_BRANCHES]
    names = [_short(branches[i].name or branches[i].id, branches[i].id) for i in order]
    about = [f"{with_kind(branches[i].kind, branches[i].name)} ({branches[i].id})" for i in order]
    traces = []
    for name, values, colour, width in (
        ("highest", spread.highest, with_alpha(SKY, 0.6), 0.75),
        ("below this for 95 % of the time", spread.p95, BLUE, 0.45),
    ):
        hover = f"%{{hovertext}}<br>{name}: %{{y:.1f}} %<extra></extra>"
        traces.append(bars(name, names, column(values[order] * 100, 2), colour, width=width, hovertext=about,
                           hovertemplate=hover))  # fmt: skip
    bounds = sorted({branches[i].loading_max * 100 for i in order})
    peak = float(spread.highest[order[0]]) * 100
    plan = layout(
        axis("line or transformer", type="category", showticklabels=len(names) <= 60),
        axis("loading [% of rated]", rangemode="tozero"), barmode="overlay", height=420,
        shapes=limit_lines([b for b in bounds if b <= 1.5 * peak]),
    )  # fmt: skip
    over = int((spread.highest > np.array([b.loading_max for b in branches]) + 1e-9).sum())
    first = branches[int(order[0])]
    snapshot = _snapshot(data, "highest_loading")
    text = f"The most loaded is {with_kind(first.kind, first.name or first.id)}: {percent(peak / 100)} of its rating"
    text += f"{_on(data, snapshot)}; "
    text += (
        f"{count(over, 'branch exceeds its limit', 'branches exceed their limits')}" if over else "no limit is exceeded"
    )
    rest = len(branches) - len(order)
    note = interval_note(data) + (
        f" The {count(rest, 'less loaded branch', 'less loaded branches')} are left out." if rest else ""
    )
    return Figure(id_, title, text + ".", (Panel("", {"data": traces, "layout": plan}),), note=note)
