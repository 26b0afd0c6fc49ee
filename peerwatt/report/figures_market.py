"""Figures of the market: price and volume over time, and the price by month and hour."""

from __future__ import annotations

import numpy as np

from peerwatt.report import timeline
from peerwatt.report.data import Floats, ReportData
from peerwatt.report.figure import (
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
from peerwatt.report.palette import BLUE, GREEN, VIRIDIS, plotly_scale, with_alpha
from peerwatt.report.text import MONTHS, count, energy, label, number, percent, plain

RARE = 0.02
"""Hours with a smaller share of the slots with trade are not named as the cheapest or dearest."""

ONE_PRICE = 0.3
"""From this share of the energy on it is said that it changed hands at one and the same price."""


def market_figures(data: ReportData) -> list[Figure]:
    """Price and volume, then the price's daily and yearly shape."""
    return [price_and_volume(data), price_map(data)]


def _no_price(data: ReportData) -> str:
    rule = label(data.static.rule)
    if data.static.rule == "no_market":
        return (
            "Without a market nobody trades inside the district: every kilowatt-hour is bought from or sold to the "
            "retailer."
        )
    if not data.total("volume_wh"):
        return f"No energy was traded under {rule} in this run, so there is no price to show."
    return f"The rule {rule} does not set a price per slot, so there is no price to show."


def price_and_volume(data: ReportData) -> Figure:
    """Price (mean and spread) above, traded energy below, on one time axis."""
    id_, title = "price", "Price and traded energy"
    if not data.slots:
        return absent(id_, title, NO_SLOTS)
    price = data.column("price")
    traded = data.total("volume_wh")
    if traded <= 0:
        return absent(id_, title, _no_price(data))
    bins = timeline.for_lines(data)
    volume = bins.total(data.slots["volume_wh"])
    unit, scale = ("MWh", 1e6) if volume.max() >= 1e6 else ("kWh", 1e3)
    hover = f"%{{x}}<br>%{{y:.4~g}} {unit}<extra></extra>"
    traces: list[Spec] = []
    if price is not None:
        traces += _price_traces(data, bins, price)
    traces.append(
        bars(f"traded in the {bins.word}", bins.x, column(volume / scale), GREEN, yaxis="y2", hovertemplate=hover)
    )
    plan = layout(
        time_axis(data.static.zone, anchor="y2"),
        axis(f"price [{data.price_unit}]", domain=[0.42, 1.0]),
        height=460,
        yaxis2=axis(f"traded [{unit} per {bins.word}]", domain=[0.0, 0.32], rangemode="tozero"),
        bargap=0.1,
    )
    if price is None:
        plan["yaxis2"]["domain"] = [0.0, 1.0]
        del plan["yaxis"]
    return Figure(id_, title, _price_sentence(data, price, traded), (Panel("", {"data": traces, "layout": plan}),),
                  note="Drag to zoom, double-click to return." + _pairs_note(data, price))  # fmt: skip


def _price_traces(data: ReportData, bins: timeline.Bins, price: Floats) -> list[Spec]:
    """The mean line, below it the spread of each bin as a floating bar: a day without a price leaves a gap."""
    traces: list[Spec] = []
    mean = bins.mean(price, data.slots["volume_wh"])
    if bins.word != "slot":
        low, high = bins.lowest(price), bins.highest(price)
        hover = f"%{{x}}<br>%{{base:.4~g}} to %{{customdata:.4~g}} {data.price_unit}<extra></extra>"
        width = (86_400_000 if bins.word == "day" else 3_600_000) * 1.02  # in ms; a hair more closes the seams
        traces.append(
            bars(f"lowest to highest of the {bins.word}", bins.x, column(high - low, 6), with_alpha(BLUE, 0.22),
                 base=column(low, 6), customdata=column(high, 6), width=width, hovertemplate=hover)
        )  # fmt: skip
    name = "price" if bins.word == "slot" else f"mean of the {bins.word}, weighted by energy"
    template = f"%{{x}}<br>%{{y:.4~g}} {data.price_unit}<extra></extra>"
    trace = line(name, bins.x, column(mean, 6), BLUE, hovertemplate=template)
    if np.isnan(mean).any():  # a lone value between gaps would not show as a line
        trace |= {"mode": "lines+markers", "marker": {"size": 3.5, "color": BLUE}}
    return [*traces, trace]


def _pairs_note(data: ReportData, price: Floats | None) -> str:
    if price is not None and data.static.pairs and data.static.rule != "uniform_price":
        return " Trades of this rule have prices of their own; the line is their mean weighted by energy."
    return ""


def _price_sentence(data: ReportData, price: Floats | None, traded: float) -> str:
    used = data.slots["volume_wh"] > 0
    share = float(used.mean())
    text = f"{energy(traded)} changed hands inside the district, in {percent(share)} of {count(data.grid.n, 'slot')}"
    if price is None:
        return f"{text}. {_no_price(data)}"
    weights = np.where(np.isfinite(price), data.slots["volume_wh"], 0.0)
    mean = float(np.nansum(price * weights) / weights.sum()) if weights.sum() else float(np.nanmean(price))
    low, high = int(np.nanargmin(price)), int(np.nanargmax(price))
    if price[high] - price[low] < 5e-7:
        return f"{text}, always at {number(mean, 4)} {data.price_unit}."
    text += (
        f", at {number(mean)} {data.price_unit} on average by energy; the price moved between "
        f"{number(float(price[low]))} (first on {data.when(low)}) and {number(float(price[high]))} {data.price_unit} "
        f"(first on {data.when(high)})."
    )
    return text + _one_price(data, price, weights)


def _one_price(data: ReportData, price: Floats, weights: Floats) -> str:
    """The price at which more than ``ONE_PRICE`` of the energy changed hands, if there is one."""
    known = np.isfinite(price) & (weights > 0)
    if not known.any():
        return ""
    levels, place = np.unique(np.round(price[known], 7), return_inverse=True)
    sums = np.bincount(place, weights[known])
    top = int(sums.argmax())
    share = float(sums[top] / sums.sum())
    if share <= ONE_PRICE:
        return ""
    mean = " (a slot's mean)" if data.static.pairs and data.static.rule != "uniform_price" else ""
    level = f"{plain(float(levels[top]))} {data.price_unit}{mean}"
    return f" {percent(share, 0)} of the energy changed hands at exactly {level}."


def price_map(data: ReportData) -> Figure:
    """Mean price by local hour, one row per month (per day in a short run)."""
    id_, title = "price-map", "Price by time of day"
    price = data.column("price")
    if price is None:
        return absent(id_, title, _no_price(data))
    if data.hours > 1:
        return absent(id_, title, f"Slots of {plain(data.hours)} hours are too long for a price by hour.")
    hour = data.local.minute // 60
    if data.n_days > 62:
        rows, names = data.local.month - 1, list(MONTHS)
        word = "month"
    else:
        rows = (data.local.date - data.local.date[0]).astype(np.int64)
        names = [str(data.local.date[0] + np.timedelta64(i, "D")) for i in range(data.n_days)]
        word = "day"
    volume = np.nan_to_num(data.slots["volume_wh"])
    table = timeline.mean_by(rows, len(names), hour, 24, price, volume)
    trace: Spec = {
        "type": "heatmap",
        "z": column(table),
        "x": list(range(24)),
        "y": names,
        "colorscale": plotly_scale(VIRIDIS),
        "colorbar": {"title": {"text": f"price<br>[{data.price_unit}]<br> "}, "thickness": 12},
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": f"%{{y}}, from %{{x}}:00<br>%{{z:.4~g}} {data.price_unit}<extra></extra>",
    }
    plan = layout(
        axis(f"local hour of the day [h] ({data.static.zone})", dtick=3),
        axis(word, autorange="reversed", type="category"),
        height=max(200, min(560, 130 + 24 * len(names))),
    )
    profile = timeline.mean_by(np.zeros_like(hour), 1, hour, 24, price, volume)[0]
    slots = np.bincount(hour[np.isfinite(price)], minlength=24)
    profile = np.where(slots >= RARE * slots.sum(), profile, np.nan)  # an hour with a handful of trades says nothing
    low, high = int(np.nanargmin(profile)), int(np.nanargmax(profile))
    if profile[high] - profile[low] < 5e-7:
        text = f"The price is the same in every hour of the day: {number(float(profile[low]), 4)} {data.price_unit}."
    else:
        text = (
            f"Averaged by energy over the run, the price is lowest from {low:02d}:00 "
            f"({number(float(profile[low]))} {data.price_unit}) and highest from {high:02d}:00 "
            f"({number(float(profile[high]))} {data.price_unit})."
        )
    note = "Mean weighted by energy over the slots that had a price; empty cells had none. The sentence leaves out "
    note += f"hours with less than {percent(RARE, 0)} of the slots with trade."
    return Figure(id_, title, text, (Panel("", {"data": [trace], "layout": plan}),), note=note)
