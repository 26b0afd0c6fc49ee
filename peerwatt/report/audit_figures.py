"""Pictures of an audit: efficiency against market size, gains by misreporting, who gains, households of a scenario.

Everything is read from the audit's JSON; an estimate there is a mapping with ``value``, ``low`` and ``high``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peerwatt.report.figure import QUIET, Figure, Panel, Spec, absent, axis, bars, layout
from peerwatt.report.palette import BLUE, GREY, KINDS, ORANGE, PURPLE, with_alpha
from peerwatt.report.text import NOTHING, count, fixed, html, label, listing, number

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

    def end(e: Mapping[str, Any], name: str, sign: float) -> float:
        return 0.0 if e[name] is None else max(0.0, round(sign * scale * (e[name] - e["value"]), 6))

    return {
        "type": "data", "symmetric": False, "thickness": 1.3, "width": 4,
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
    panels = (
        Panel("Welfare reached", efficiency, _size_words(known, "efficiency")),
        Panel("What the operator keeps", operator, _size_words(known, "operator")),
    )
    says = " ".join([panels[0].sentence, *_bound_words(known), panels[1].sentence])
    return Figure(id_, title, says, panels, note=note)


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
            "y": [round(100 * e["value"], 4) for e in estimates], "error_y": error_bars(estimates, 100.0),
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


def _bound_words(known: Sequence[tuple[str, Report, list[dict[str, Any]]]]) -> list[str]:
    said = []
    for name, r, points in known:
        if (r.get("sizes") or {}).get("bound_published"):
            below, books = sum(p["below"] for p in points), sum(p["efficiency"]["n"] for p in points)
            kept = f"kept on all {books:,} books" if not below else f"broken on {below:,} of {books:,} books"
            said.append(f"The bound 1 − 1/k published for {name} (k efficient trades) is {kept}.")
    return said


def _size_words(known: Sequence[tuple[str, Report, list[dict[str, Any]]]], figure: str) -> str:
    """One sentence: the flat rules together, the others at three sizes."""
    flat: dict[str, list[str]] = {}
    parts = []
    for name, _, points in known:
        values = {fixed(100 * p[figure]["value"], 1) for p in points}
        if len(values) == 1:
            flat.setdefault(values.pop(), []).append(name)
            continue
        picked = [points[0], points[len(points) // 2], points[-1]]
        parts.append(f"{name} " + ", ".join(f"{interval(p[figure], percent=True)} at n = {p['n']}" for p in picked))
    parts = [f"{listing(names)} {value} % at every size" for value, names in flat.items()] + parts
    head = (
        "Welfare reached, of what is possible" if figure == "efficiency" else "The operator's share (below 0: it pays)"
    )
    return f"{head}: {'; '.join(parts)}."


# --- gains by misreporting --------------------------------------------------------------------------------------------


def gain_figure(shown: Shown) -> Figure:
    """What an agent gains by another report, by kind: on average over books, and at most."""
    id_, title = "manipulation", "What a false report gains"
    kinds = [m for m in GAIN_KINDS if any(m in r["metrics"] for _, r in shown)]
    if not kinds:
        return absent(id_, title, "No misreports were searched.")
    mean, most = [], []
    words = []
    for k, (name, report) in enumerate(shown):
        found = {m: report["metrics"][m] for m in kinds if m in report["metrics"]}
        labels = [GAIN_KINDS[m] for m in found]
        estimates = list(found.values())
        hover = f"{html(name)}, %{{x}}: %{{y:.4~g}} % of W*<extra></extra>"
        values = [round(100 * e["value"], 4) for e in estimates]
        mean.append(bars(name, labels, values, colour(k), error_y=error_bars(estimates, 100.0), hovertemplate=hover))
        peaks = [max((v for v in report["books"].get(m, ()) if v is not None), default=0.0) for m in found]
        most.append(bars(name, labels, [round(100 * v, 4) for v in peaks], colour(k), hovertemplate=hover))
        words.append(_gain_words(name, report, found, dict(zip(found, peaks, strict=True))))
    x = axis("kind of deviation", type="category")
    panels = tuple(
        Panel(name, {"data": data, "layout": layout(dict(x), axis("gain [% of W*]", rangemode="tozero"),
                                                     height=380, barmode="group")})
        for name, data in (("Greatest gain of an agent, mean over books", mean), ("Greatest gain on any book", most))
    )  # fmt: skip
    note = (
        "Others stay truthful; what is found is a lower bound, for only a grid of reports is tried. Quantity includes "
        "stating nothing. Staying out: what the agent worst off would save by not taking part. Rules on meters: energy "
        "thrown away. W* is the welfare possible on the book."
    )
    return Figure(id_, title, " ".join(words), panels, note=note)


def _gain_words(name: str, report: Report, found: Mapping[str, Any], peaks: Mapping[str, float]) -> str:
    paying = [m for m in found if peaks[m] > 0]
    if not paying:
        tried = listing([GAIN_KINDS[m] for m in found])
        return f"{name}: nothing found to gain by {tried}." if tried else f"{name}: not searched."
    each = [f"{GAIN_KINDS[m]} {interval(found[m], percent=True)}, at most {number(100 * peaks[m])} %" for m in paying]
    words = f"{name}: of W*, by {'; '.join(each)}"
    if (mean := report["metrics"].get("gain_mean")) is not None and mean["value"] > 0:
        words += f"; the mean agent {interval(mean, percent=True)}"
    nothing = [GAIN_KINDS[m] for m in found if m not in paying]
    return words + (f"; nothing by {listing(nothing, 'or')}." if nothing else ".")


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
    words = []
    for name, r in known:
        parts = [f"{side_name(r, g['side'])} {interval(g['share'], percent=True)}" for g in r["gains"]]
        worse = [
            f"{interval(g['worse_off'], percent=True)} of {side_name(r, g['side'])}"
            for g in r["gains"]
            if g["worse_off"]["value"]
        ]
        losing = f"; worse off than alone: {listing(worse)}" if worse else "; nobody is worse off"
        words.append(f"{name}: of W*, {', '.join(parts)}{losing}.")
    panels = (Panel("How W* is shared, mean over books", _shares(known)), Panel("Gain of an agent", _boxes(known)))
    note = (
        "A gain is an agent's utility; under rules on meters what it saves beside being alone with its retailer. "
        "Right: 1 is an equal part of W*; box = middle half, whiskers = 5 to 95 % of agents, diamond = mean."
    )
    return Figure(id_, title, " ".join(words), panels, note=note)


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
            "x": [name for name, _ in rows], "y": [round(g["mean"], 4) for _, g in rows],
            "marker": {"symbol": "diamond", "size": 7, "color": shade},
            "hovertemplate": f"%{{x}}, {traders}, mean: %{{y:.3~g}}<extra></extra>",
        })  # fmt: skip
    plan = layout(axis("rule", type="category"), axis("gain / (W* / agents)", zeroline=True), height=400,
                  boxmode="group", scattermode="group")  # fmt: skip
    return {"data": traces, "layout": plan}


# --- a scenario -------------------------------------------------------------------------------------------------------


def household_figure(audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Mean savings by kind of household and rule, a tab for each way to tell households apart."""
    id_, title = "households", "Who gains and who loses in the scenario"
    kinds: dict[str, None] = {}
    for audit in audits:
        kinds.update(dict.fromkeys(h["kind"] for h in audit["households"] if h["kind"] != "all"))
    panels = tuple(_household_panel(kind, audits, names) for kind in kinds)
    if not panels:
        return absent(id_, title, "The scenario says nothing about its households, so there are no kinds to compare.")
    note = "Savings over the audited span beside the bill alone with the retailer; 95 % interval of the mean."
    return Figure(id_, title, panels[0].sentence, panels, shown="tabs", note=note)


def _household_panel(kind: str, audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Panel:
    currency = audits[0]["currency"]
    traces, ranked = [], []
    for k, (audit, name) in enumerate(zip(audits, names, strict=True)):
        rows = [h for h in audit["households"] if h["kind"] == kind and h["savings"]["value"] is not None]
        estimates = [h["savings"] for h in rows]
        labels = [f"{label(h['value'])} ({h['savings']['n']})" for h in rows]
        values = [round(e["value"], 4) for e in estimates]
        hover = f"{html(name)}, %{{x}}: %{{y:,.2f}} {html(currency)}<extra></extra>"
        traces.append(bars(name, labels, values, colour(k), error_y=error_bars(estimates), hovertemplate=hover))
        ranked += [(e["value"], h, name) for e, h in zip(estimates, rows, strict=True)]
    words = label(kind)
    best, worst = max(ranked, key=lambda x: x[0]), min(ranked, key=lambda x: x[0])
    losers = [
        f"{round(h['losers']['value'] * h['losers']['n'])} of {h['losers']['n']} {label(h['value'])} ({name})"
        for _, h, name in ranked
        if h["losers"]["value"]
    ]
    text = f"By {words}, mean savings are highest for {_said(best, currency)} and lowest for {_said(worst, currency)}. "
    text += f"Paying more than alone: {listing(losers)}." if losers else "Nobody pays more than alone."
    plan = layout(axis(words, type="category"), axis(f"mean saving [{currency}]", zeroline=True), height=400,
                  barmode="group")  # fmt: skip
    return Panel(words, {"data": traces, "layout": plan}, text)


def _said(row: tuple[float, Mapping[str, Any], str], currency: str) -> str:
    _, h, name = row
    of = count(h["savings"]["n"], "building")
    return f"{label(h['value'])} ({of}) under {name}, {interval(h['savings'], decimals=2)} {currency}"
