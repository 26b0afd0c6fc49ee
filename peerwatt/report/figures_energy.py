"""Figures of energy: balance by month and over a mean day, duration curves, exchange by day and hour, carbon."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peerwatt.report import timeline
from peerwatt.report.data import Floats, Ints, ReportData
from peerwatt.report.figure import (
    FOREGROUND,
    NO_SLOTS,
    Figure,
    Panel,
    Spec,
    absent,
    axis,
    bars,
    column,
    layout,
    line,
    time_axis,
)
from peerwatt.report.palette import (
    BLUE,
    GREEN,
    GREY,
    MINT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    VOLTAGE,
    YELLOW,
    plotly_scale,
)
from peerwatt.report.text import energy, mass, number, percent, plain

_SOURCES = (("pv_wh", "PV", ORANGE), ("discharge_wh", "batteries", GREEN), ("drawn_wh", "grid above", GREY))
_USES = (
    ("load_wh", "household use", BLUE),
    ("heat_pump_wh", "heat pumps", VERMILION),
    ("ev_wh", "electric cars", PURPLE),
    ("charge_wh", "into batteries", MINT),
    ("fed_wh", "to the grid above", SKY),
    ("loss_wh", "network losses", YELLOW),
)


def energy_figures(data: ReportData) -> list[Figure]:
    """Balance, mean days, exchange over the run, duration curves."""
    return [balance(data), mean_days(data), exchange_map(data), duration(data)]


def with_exchange(data: ReportData) -> dict[str, Floats]:
    """The slot columns, with the exchange split into what is drawn from and fed to the grid above."""
    exchange = data.slots["exchange_wh"]
    return {**data.slots, "drawn_wh": np.maximum(exchange, 0.0), "fed_wh": np.maximum(-exchange, 0.0)}


def _unit(largest_wh: float) -> tuple[str, float]:
    return ("MWh", 1e6) if largest_wh >= 2e6 else (("kWh", 1e3) if largest_wh >= 2e3 else ("Wh", 1.0))


def balance(data: ReportData) -> Figure:
    """Where energy came from (up) and went (down), stacked by month."""
    id_, title = "balance", "Energy balance of the district"
    if not data.slots:
        return absent(id_, title, NO_SLOTS)
    columns = with_exchange(data)
    bins = timeline.for_bars(data)
    parts = [(*part, 1.0) for part in _SOURCES] + [(*part, -1.0) for part in _USES]
    sums = {key: bins.total(columns[key]) for key, _, _, _ in parts}
    top = max(float(sum(sums[key] for key, _, _ in side).max()) for side in (_SOURCES, _USES))  # type: ignore[union-attr]
    unit, scale = _unit(top)
    traces = []
    for key, name, colour, sign in parts:
        if not sums[key].any():
            continue
        hover = f"%{{x}}<br>{name}: %{{customdata:.4~g}} {unit}<extra></extra>"
        traces.append(
            bars(name, bins.x, column(sign * sums[key] / scale), colour, hovertemplate=hover,
                 customdata=column(sums[key] / scale))
        )  # fmt: skip
    x = axis(bins.word, type="category") if bins.word == "month" else time_axis(data.static.zone)
    plan = layout(
        x, axis(f"energy [{unit} per {bins.word}]", zeroline=True), height=430, barmode="relative", bargap=0.15
    )
    note = "Above zero: where energy came from; below: where it went. Both sides are equal in every slot."
    return Figure(id_, title, _balance_text(data, columns),
                  (Panel("", {"data": traces, "layout": plan}),), note=note)  # fmt: skip


def _balance_text(data: ReportData, columns: dict[str, Floats]) -> str:
    used = sum(data.total(key) for key in ("load_wh", "heat_pump_wh", "ev_wh"))
    pv, drawn = data.total("pv_wh"), float(np.nansum(columns["drawn_wh"]))
    fed = float(np.nansum(columns["fed_wh"]))
    text = f"The district used {energy(used)} and drew {energy(drawn)} from the grid above"
    if pv <= 0:
        return f"{text}; it has no generation of its own."
    text += f"; PV made {energy(pv)}, of which {energy(fed)} ({percent(fed / pv)}) left the district"
    curtailed = data.total("curtailed_wh")
    if curtailed > 0:
        text += f" and {energy(curtailed)} more was curtailed"
    return text + "."


def mean_days(data: ReportData) -> Figure:
    """Mean power over the local day, for each quarter of the year."""
    id_, title = "mean-days", "A mean day in each season"
    if not data.slots:
        return absent(id_, title, NO_SLOTS)
    if data.hours > 6:
        return absent(id_, title, f"Slots of {plain(data.hours)} hours are too long to show a day.")
    columns = with_exchange(data)
    place, names = timeline.minute_bin(data)
    factor = 1.0 / (data.hours * 1e3)
    parts = [part for part in _SOURCES if columns[part[0]].any()]
    use = sum(columns[key] for key in ("load_wh", "heat_pump_wh", "ev_wh"))
    panels, texts, peak = [], [], 0.0
    for season, mask in timeline.seasons(data):
        row = np.zeros(int(mask.sum()), np.int64)

        def mean(values: Floats, row: Ints = row, mask: NDArray[np.bool_] = mask) -> Floats:
            return np.asarray(timeline.mean_by(row, 1, place[mask], len(names), values[mask])[0] * factor)

        traces: list[Spec] = []
        stack = np.zeros(len(names))
        for key, name, colour in parts:
            values = mean(columns[key])
            stack += np.nan_to_num(values)
            hover = f"%{{x}} {name}: %{{y:.4~g}} kW<extra></extra>"
            traces.append(line(name, names, column(values), colour, stackgroup="a", fillcolor=colour, width=0,
                               hovertemplate=hover))  # fmt: skip
        demand = mean(np.asarray(use))
        hover = "%{x} used: %{y:.4~g} kW<extra></extra>"
        traces.append(line("use", names, column(demand), FOREGROUND, width=2.2,
                           hovertemplate=hover))  # fmt: skip
        peak = max(peak, float(stack.max()))
        texts.append((season, int(np.nanargmax(demand)), float(np.nanmax(demand))))
        plan = layout(axis("local time of day", dtick=max(1, len(names) // 6), type="category"),
                      axis("mean power [kW]", rangemode="tozero"), height=300)  # fmt: skip
        panels.append(Panel(season, {"data": traces, "layout": plan}))
    for panel in panels:
        panel.spec["layout"]["yaxis"]["range"] = [0, peak * 1.05 or 1.0]
    busiest = max(texts, key=lambda item: item[2])
    where = "" if len(texts) == 1 else f" in {busiest[0]}"
    text = f"Mean use is highest{where} at {names[busiest[1]]} with {number(busiest[2])} kW"
    if data.total("pv_wh") > 0:
        text += "; what lies above the line of use is charged into batteries, fed to the grid above or lost"
    note = "Line: what households, heat pumps and cars use. Areas: where the energy came from. Mean of each clock time."
    return Figure(id_, title, text + ".", tuple(panels), note=note)


def exchange_map(data: ReportData) -> Figure:
    """Power through the connection point, day by hour."""
    id_, title = "exchange", "Exchange with the grid above, day by day"
    if not data.slots:
        return absent(id_, title, NO_SLOTS)
    if data.hours > 1:
        return absent(id_, title, f"Slots of {plain(data.hours)} hours are too long to show by hour.")
    power = data.slots["exchange_wh"] / (data.hours * 1e3)
    day = (data.local.date - data.local.date[0]).astype(np.int64)
    table = timeline.mean_by(day, data.n_days, data.local.minute // 60, 24, power).T
    reach = float(np.nanmax(np.abs(table))) or 1.0
    trace: Spec = {
        "type": "heatmap",
        "z": column(table),
        "x": timeline.by_day(data).x,
        "y": list(range(24)),
        "colorscale": plotly_scale(VOLTAGE[::-1]),
        "zmin": -reach,
        "zmax": reach,
        "colorbar": {"title": {"text": "power<br>[kW]<br> "}, "thickness": 12},
        "hovertemplate": "%{x}, from %{y}:00<br>%{z:.4~g} kW<extra></extra>",
    }
    kind = {"type": "category"} if data.n_days < 4 else {}
    plan = layout(time_axis(data.static.zone, **kind), axis("local hour of the day [h]", dtick=6), height=340)
    back = float((power < 0).mean())
    text = f"The district feeds the grid above in {percent(back)} of the slots"
    if back > 0:
        hours = np.bincount(data.local.minute[power < 0] // 60, minlength=24)
        text += f", most often from {int(hours.argmax()):02d}:00"
    else:
        text = "The district draws from the grid above in every slot"
    note = "Blue: drawn from the grid above. Red: fed into it. Hourly means."
    # drawn is positive in the load convention, so the scale is turned round: red is what pushes voltages up
    return Figure(id_, title, text + ".", (Panel("", {"data": [trace], "layout": plan}),), note=note)


def duration(data: ReportData) -> Figure:
    """Exchange and residual load, each sorted from high to low."""
    id_, title = "duration", "Duration curves"
    if not data.slots:
        return absent(id_, title, NO_SLOTS)
    columns = data.slots
    factor = 1.0 / (data.hours * 1e3)
    residual = sum(columns[k] for k in ("load_wh", "heat_pump_wh", "ev_wh")) - columns["pv_wh"]
    exchange = columns["exchange_wh"] * factor
    n = data.grid.n
    take = np.unique(np.round(np.linspace(0, n - 1, min(n, 500))).astype(np.int64))
    x = column((take + 0.5) * data.hours if n < 500 else take * data.hours * n / max(n - 1, 1), 2)
    hover = "%{y:.4~g} kW or more during %{x:.4~g} h<extra></extra>"
    flows = np.sort(exchange)[::-1]
    traces = [
        line("exchange with the grid above", x, column(flows[take]), BLUE, width=2.4, hovertemplate=hover),
        line("residual load (use less PV, before batteries)", x,
             column(np.sort(np.asarray(residual) * factor)[::-1][take]), ORANGE, dash="dot", hovertemplate=hover),
    ]  # fmt: skip
    plan = layout(axis("time [h]", range=[0, n * data.hours]), axis("power [kW]", zeroline=True))
    top, low = int(exchange.argmax()), int(exchange.argmin())
    text = f"The highest draw is {number(float(exchange[top]))} kW on {data.when(top)}"
    if exchange[low] < 0:
        hours = float((exchange < 0).sum()) * data.hours
        text += (
            f"; power flows back during {number(hours)} h, at most {number(float(-exchange[low]))} kW "
            f"on {data.when(low)}"
        )
    else:
        text += "; power never flows back"
    note = "Sorted from high to low: each point says for how many hours the power was at least that high. Slot means."
    return Figure(id_, title, text + ".", (Panel("", {"data": traces, "layout": plan}),), note=note)


def carbon(data: ReportData) -> Figure:
    """Emissions of what the grid supplies, against the same use supplied by the grid alone."""
    id_, title = "carbon", "CO₂ of the grid's supply"
    intensity = data.column("carbon_kg_per_kwh")
    if intensity is None:
        return absent(id_, title, "The scenario states no carbon intensity of the grid, so emissions are not computed.")
    bins = timeline.for_bars(data)
    columns = with_exchange(data)
    use = np.asarray(sum(columns[k] for k in ("load_wh", "heat_pump_wh", "ev_wh")))
    emitted = bins.total(columns["drawn_wh"] / 1e3 * intensity)
    alone = bins.total(use / 1e3 * intensity)
    hover = "%{x}: %{y:.4~g} kg<extra>%{fullData.name}</extra>"
    traces = [
        bars("drawn from the grid above", bins.x, column(emitted), BLUE, hovertemplate=hover),
        bars("had the grid supplied all use", bins.x, column(alone), GREY, hovertemplate=hover),
    ]
    x = axis(bins.word, type="category") if bins.word == "month" else time_axis(data.static.zone)
    plan = layout(x, axis(f"emissions [kg CO₂ per {bins.word}]", rangemode="tozero"), barmode="group", bargap=0.2)
    total, all_ = float(emitted.sum()), float(alone.sum())
    text = f"What the district drew from the grid above stands for {mass(total)} of CO₂"
    if all_ > 0:
        text += f", {percent(1 - total / all_)} less than if the grid had supplied all its use"
    note = (
        "Intensity of the slot times energy drawn. Energy fed back earns no credit; making plants is not counted."
        " The key figure 'avoided' values all PV that stayed inside, also what batteries and the network lost of it, "
        "at the time it was made; the saving named here counts only use, at the time of use."
    )
    return Figure(id_, title, text + ".", (Panel("", {"data": traces, "layout": plan}),), note=note)
