"""Pictures of an audit: efficiency against market size, gains by misreporting, who gains, households of a scenario.

Everything is read from the audit's JSON; an estimate there is a mapping with ``value``, ``low`` and ``high``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peerwatt.report.figure import QUIET, Figure, Panel, Spec, absent, axis, bars, layout
from peerwatt.report.palette import BLUE, GREY, KINDS, ORANGE, PURPLE, with_alpha
from peerwatt.report.text import NOTHING, fixed, html, listing, number

Report = Mapping[str, Any]
Shown = Sequence[tuple[str, Report]]
"""Name on the page and report of each rule."""

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash")

GAIN_KINDS = {
    "gain_price": "price",
    "gain_quantity": "quantity",
    "gain_split": "splitting",
    "gain_identity": "second name",
    "ir_depth": "staying out",
}
"""Metric -> kind of deviation. What staying out gains is what the agent worst off loses by taking part."""

_PROPERTY = {
    "gain_price": "truthful_price",
    "gain_quantity": "truthful_quantity",
    "gain_split": "splitting",
    "gain_identity": "identity",
}


def colour(k: int) -> str:
    """Colour of rule ``k``."""
    return KINDS[k % (len(KINDS) - 1)]


def interval(estimate: Mapping[str, Any] | None, *, percent: bool = False, decimals: int | None = None) -> str:
    """``24.2 % [21.1 to 27.2 %]``; the value alone where the sample has no spread; a dash for nothing."""
    if estimate is None or estimate["value"] is None:
        return NOTHING

    def show(x: float) -> str:
        if percent:
            return fixed(100 * x, 1 if decimals is None else decimals)
        return number(x) if decimals is None else fixed(x, decimals)

    unit = " %" if percent else ""
    low, high = estimate["low"], estimate["high"]
    value = show(estimate["value"]) + unit
    return value if low is None or high is None or low == high else f"{value} [{show(low)} to {show(high)}{unit}]"


def error_bars(estimates: Sequence[Mapping[str, Any]], scale: float = 1.0) -> Spec:
    """Asymmetric error bars of estimates with values."""

    def end(e: Mapping[str, Any], name: str, sign: float) -> float | None:
        length = 0.0 if e[name] is None else round(sign * scale * (e[name] - e["value"]), 6)
        return length if length > 0 else None

    return {
        "type": "data", "symmetric": False, "thickness": 1.3, "width": 4, "color": QUIET,
        "array": [end(e, "high", 1.0) for e in estimates], "arrayminus": [end(e, "low", -1.0) for e in estimates],
    }  # fmt: skip


# --- efficiency against market size -----------------------------------------------------------------------------------


def size_figure(shown: Shown) -> Figure:
    """Efficiency and the operator's share against the number of agents."""
    id_, title = "market-size", "Efficiency against market size"
    known = [(name, r, points) for name, r in shown if (points := _points(r))]
    if not known:
        return absent(id_, title, "No rule was measured at different market sizes.")
    own = all(r.get("sizes") for _, r, _ in known)
    efficiency, operator = _size_panel(known, shown, "efficiency"), _size_panel(known, shown, "operator")
    if (bound := _bound(known)) is not None:
        efficiency["data"].append(bound)
    note = (
        "n buyers and n sellers with one equal lot each, limits uniform; rules on meters: n consumers and n producers "
        "of any size. W summed over books over W* summed, jackknife interval of 95 %."
        if own
        else "All families of books of so many agents together; 95 % interval."
    )
    panels = (Panel("Welfare reached", efficiency), Panel("What the operator keeps", operator))
    return Figure(id_, title, _size_says(known), panels, note=note)


def size_lines(shown: Shown) -> list[str]:
    """The same in words, a line for each rule."""
    said = []
    for name, report in shown:
        points = _points(report)
        if not points:
            reason = next((p["reason"] for p in (report.get("sizes") or {}).get("points", ()) if p["reason"]), "")
            said.append(f"{name}: not measured by size{f' ({reason})' if reason else ''}.")
            continue
        words = f"{name}: welfare reached {_over_sizes(points, 'efficiency')}; "
        words += f"the operator's share of W* {_over_sizes(points, 'operator')}."
        if (report.get("sizes") or {}).get("bound_published"):
            below, books = sum(p["below"] for p in points), sum(p["efficiency"]["n"] for p in points)
            kept = f"kept on all {books:,} books" if not below else f"broken on {below:,} of {books:,} books"
            words += f" The published bound 1 − 1/k (k efficient trades) is {kept}."
        said.append(words)
    return said


def _over_sizes(points: Sequence[Mapping[str, Any]], figure: str) -> str:
    if len({fixed(100 * p[figure]["value"], 1) for p in points}) == 1:
        return f"{fixed(100 * points[0][figure]['value'], 1)} % at every size"
    picked = (points[0], points[len(points) // 2], points[-1])
    return ", ".join(f"{interval(p[figure], percent=True)} at n = {p['n']}" for p in picked)


def _size_says(known: Sequence[tuple[str, Report, list[dict[str, Any]]]]) -> str:
    full = [name for name, _, points in known if all(p["efficiency"]["value"] >= 0.9999 for p in points)]
    rest = [(name, points) for name, _, points in known if name not in full]
    words = f"All that is possible is reached at every size by {listing(full)}." if full else ""
    for name, points in rest:
        first, last = points[0], points[-1]
        words += f" {name} reaches {fixed(100 * first['efficiency']['value'], 1)} % at n = {first['n']} and "
        words += f"{fixed(100 * last['efficiency']['value'], 1)} % at n = {last['n']}."
    return words.strip()


def _points(report: Report) -> list[dict[str, Any]]:
    """(n, efficiency, operator) of the sizes with values: own measurements, else those of the audit's books."""
    if report.get("sizes"):
        return [dict(p) for p in report["sizes"]["points"] if p["efficiency"]["value"] is not None]
    found = [
        {"n": int(n), "efficiency": e["efficiency"], "operator": e["operator_share"], "bound": None, "below": 0}
        for n, e in report["by_size"].items()
        if "efficiency" in e and "operator_share" in e
    ]
    return sorted(found, key=lambda p: p["n"])


def _size_panel(known: Sequence[tuple[str, Report, list[dict[str, Any]]]], shown: Shown, figure: str) -> Spec:
    names = [name for name, _ in shown]
    own = all(r.get("sizes") for _, r, _ in known)
    traces: list[Spec] = []
    for name, _, points in known:
        k = names.index(name)
        estimates = [p[figure] for p in points]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": name, "x": [p["n"] for p in points],
            "y": [round(100 * e["value"], 4) for e in estimates],
            "error_y": {**error_bars(estimates, 100.0), "color": colour(k)},
            "line": {"color": colour(k), "width": 1.8, "dash": _DASHES[k % len(_DASHES)]},
            "marker": {"color": colour(k), "size": 7, "symbol": _SYMBOLS[k % len(_SYMBOLS)]},
            "hovertemplate": f"{html(name)}, n = %{{x}}: %{{y:.4~g}} %<extra></extra>",
        })  # fmt: skip
    ticks = [2, 3, 5, 10, 20, 50]
    x = axis("agents on each side" if own else "agents", type="log", tickvals=ticks, ticktext=[str(t) for t in ticks])
    y = axis("share of W* [%]", rangemode="tozero", zeroline=True)
    return {"data": traces, "layout": layout(x, y, height=400)}


def _bound(known: Sequence[tuple[str, Report, list[dict[str, Any]]]]) -> Spec | None:
    """1 - 1/k on the same books, where it is published for one of the rules."""
    promised = [points for _, r, points in known if (r.get("sizes") or {}).get("bound_published")]
    points = [p for p in promised[0] if p["bound"] is not None] if promised else []
    if not points:
        return None
    return {
        "type": "scatter", "mode": "lines", "name": "1 − 1/k", "x": [p["n"] for p in points],
        "y": [round(100 * p["bound"], 4) for p in points], "line": {"color": QUIET, "width": 1.5, "dash": "dash"},
        "hovertemplate": "1 − 1/k, n = %{x}: %{y:.4~g} %<extra></extra>",
    }  # fmt: skip


# --- gains by misreporting --------------------------------------------------------------------------------------------


def gain_figure(shown: Shown) -> Figure:
    """What an agent gains by another report, by kind: on average over books, and at most."""
    id_, title = "manipulation", "What a deviation gains"
    searched = [_gains(report) for _, report in shown]
    if not any(searched):
        return absent(id_, title, "No misreports were searched.")
    mean, most = [], []
    for k, ((name, report), found) in enumerate(zip(shown, searched, strict=True)):
        labels = [GAIN_KINDS[m] for m in found]
        hover = f"{html(name)}, %{{x}}: %{{y:.4~g}} % of W*<extra></extra>"
        values = [round(100 * e["value"], 4) for e in found.values()]
        error = error_bars(list(found.values()), 100.0)
        mean.append(bars(name, labels, values, colour(k), error_y=error, hovertemplate=hover))
        peaks = [round(100 * _peak(report, m), 4) for m in found]
        most.append(bars(name, labels, peaks, colour(k), hovertemplate=hover))
    kinds = [words for m, words in GAIN_KINDS.items() if any(m in found for found in searched)]
    x = axis("kind of deviation", type="category", categoryorder="array", categoryarray=kinds)
    panels = tuple(
        Panel(head, {"data": data, "layout": layout(dict(x), axis("gain [% of W*]", rangemode="tozero"),
                                                      height=380, barmode="group")})
        for head, data in (("Greatest gain of an agent, mean over books", mean), ("Greatest gain on any book", most))
    )  # fmt: skip
    note = (
        "Others stay truthful; what is found is a lower bound, for only a grid of reports is tried. Quantity includes "
        "stating nothing. Staying out: what the agent worst off would save by not taking part. Rules on meters: energy "
        "thrown away. W* is the welfare possible on the book. No bar: nothing found, or not applicable (the words say "
        "which)."
    )
    return Figure(id_, title, _gain_says(shown, searched), panels, note=note)


def _gains(report: Report) -> dict[str, Mapping[str, Any]]:
    """Metric -> estimate of the kinds of deviation that the rule was searched for."""
    verdicts = {v["property"]: v["verdict"] for v in report["verdicts"]}
    return {
        m: report["metrics"][m]
        for m in GAIN_KINDS
        if m in report["metrics"] and verdicts.get(_PROPERTY.get(m, "")) != "not applicable"
    }


def _peak(report: Report, metric: str) -> float:
    return max((v for v in report["books"].get(metric, ()) if v is not None), default=0.0)


def _gain_says(shown: Shown, searched: Sequence[Mapping[str, Any]]) -> str:
    """Who can gain most, and where nothing was found."""
    ranked = [(found[m]["value"], name, m) for (name, _), found in zip(shown, searched, strict=True) for m in found]
    value, name, metric = max(ranked, key=lambda x: x[0])
    none = [
        name for (name, report), found in zip(shown, searched, strict=True)
        if found and not any(_peak(report, m) > 0 for m in found)
    ]  # fmt: skip
    words = ""
    if value > 0:
        words = (
            f"The most is gained by {GAIN_KINDS[metric]} under {name}: {fixed(100 * value, 1)} % of W* for the agent "
        )
        words += "that gains most, on average over books."
    return (words + (f" Nothing was found to gain under {listing(none)}." if none else "")).strip()


def gain_lines(shown: Shown) -> list[str]:
    """The same in words, a line for each rule."""
    said = []
    for name, report in shown:
        found = _gains(report)
        paying = [m for m in found if _peak(report, m) > 0]
        nothing = [GAIN_KINDS[m] for m in found if m not in paying]
        parts = [
            f"{GAIN_KINDS[m]} {interval(found[m], percent=True)} of W*, at most {number(100 * _peak(report, m))} %"
            for m in paying
        ]
        if paying and (mean := report["metrics"].get("gain_mean")) is not None and mean["value"] > 0:
            parts.append(f"the mean agent by its best report {interval(mean, percent=True)}")
        if nothing:
            parts.append(f"nothing found by {listing(nothing, 'or')}")
        kinds = [words for m, words in GAIN_KINDS.items() if m not in found and m != "gain_identity"]
        if kinds:
            parts.append(f"not applicable: {listing(kinds)}")
        said.append(f"{name}: {'; '.join(parts)}.")
    return said


# --- who gains --------------------------------------------------------------------------------------------------------


def side_name(report: Report, side: str) -> str:
    """What a side is called: rules on meters know consumers and producers."""
    if report["rule"]["meter_based"]:
        return {"buyers": "consumers", "sellers": "producers"}.get(side, side)
    return {"both": "agents on both sides"}.get(side, side)


def people_figure(shown: Shown) -> Figure:
    """How W* is shared, and how evenly agents gain."""
    id_, title = "who-gains", "Who gains by trading"
    known = [(name, r) for name, r in shown if r.get("gains")]
    if not known:
        return absent(id_, title, "No book was cleared in which anything could be gained.")
    panels = (Panel("How W* is shared, mean over books", _shares(known)), Panel("Gain of an agent", _boxes(known)))
    note = (
        "A gain is an agent's utility; under rules on meters what it saves beside being alone with its retailer. "
        "Gain of an agent: 1 is an equal part of W*; box = middle half, whiskers = 5 to 95 % of agents, diamond = mean."
    )
    losing = [
        f"{fixed(100 * g['worse_off']['value'], 1)} % of {side_name(r, g['side'])} under {name}"
        for name, r in known
        for g in r["gains"]
        if g["worse_off"]["value"]
    ]
    says = f"Worse off than without the rule: {listing(losing)}." if losing else "Nobody is worse off by taking part."
    return Figure(id_, title, says, panels, note=note)


def people_lines(shown: Shown) -> list[str]:
    """The same in words, a line for each rule."""
    said = []
    for name, r in shown:
        parts = [
            f"{side_name(r, g['side'])} get {interval(g['share'], percent=True)} of W*" for g in r.get("gains", ())
        ]
        worse = [
            f"{interval(g['worse_off'], percent=True)} of {side_name(r, g['side'])} are worse off"
            for g in r.get("gains", ())
            if g["worse_off"]["value"]
        ]
        if parts:
            said.append(f"{name}: {'; '.join([*parts, *(worse or ['nobody is worse off'])])}.")
    return said


_SIDES = {
    "buyers": ("buyers, consumers", BLUE),
    "sellers": ("sellers, producers", ORANGE),
    "both": ("both sides", PURPLE),
}


def _shares(known: Shown) -> Spec:
    names = [name for name, _ in known]
    traces: list[Spec] = []
    for side, (traders, shade) in _SIDES.items():
        found = [next((g for g in r["gains"] if g["side"] == side), None) for _, r in known]
        if not any(found):
            continue
        values = [None if g is None else round(100 * g["share"]["value"], 3) for g in found]
        hover = f"%{{x}}, {traders}: %{{y:.4~g}} % of W*<extra></extra>"
        traces.append(bars(traders, names, values, shade, hovertemplate=hover))
    kept = [_mean(r["books"].get("operator_share", ())) for _, r in known]
    hover = "%{x}, operator: %{y:.4~g} % of W*<extra></extra>"
    traces.append(bars("operator", names, [round(100 * v, 3) for v in kept], GREY, hovertemplate=hover))
    return {
        "data": traces,
        "layout": layout(axis("rule", type="category"), axis("share of W* [%]", zeroline=True), height=400,
                         barmode="relative"),
    }  # fmt: skip


def _mean(values: Iterable[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else 0.0


def _boxes(known: Shown) -> Spec:
    traces: list[Spec] = []
    for side, (traders, shade) in _SIDES.items():
        rows = [(name, g) for name, r in known for g in r["gains"] if g["side"] == side]
        if not rows:
            continue
        cuts = {q: [round(g["quantiles"][q], 4) for _, g in rows] for q in ("5", "25", "50", "75", "95")}
        traces.append({
            "type": "box", "name": traders, "x": [name for name, _ in rows], "q1": cuts["25"], "median": cuts["50"],
            "q3": cuts["75"], "lowerfence": cuts["5"], "upperfence": cuts["95"], "boxpoints": False,
            "line": {"color": shade, "width": 1.5}, "fillcolor": with_alpha(shade, 0.18), "hoverinfo": "y+name",
            "offsetgroup": side,
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "markers", "name": traders, "showlegend": False, "offsetgroup": side,
            "x": [name for name, _ in rows], "y": [round(g["mean"]["value"], 4) for _, g in rows],
            "marker": {"symbol": "diamond", "size": 7, "color": shade},
            "hovertemplate": f"%{{x}}, {traders}, mean: %{{y:.3~g}}<extra></extra>",
        })  # fmt: skip
    plan = layout(axis("rule", type="category"), axis("gain / (W* / agents)", zeroline=True), height=400,
                  boxmode="group", scattermode="group")  # fmt: skip
    return {"data": traces, "layout": plan}
