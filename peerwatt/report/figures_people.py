"""Figures of people: savings per building and per kind of household, and who supplied whom."""

from __future__ import annotations

import numpy as np

from peerwatt.report.data import EQUIPMENT, Floats, Group, Ints, ReportData
from peerwatt.report.figure import FOREGROUND, Figure, Panel, Spec, absent, axis, bars, column, layout
from peerwatt.report.palette import BLUE, EQUIPMENT_COLOURS, GREY, KINDS, with_alpha
from peerwatt.report.text import count, energy, label, money, percent
from peerwatt.report.wording import BATTERY_ACCOUNT, NOT_STATED, profit_or_loss

MAX_SELLERS, MAX_BUYERS = 10, 14
"""So many suppliers and buyers are shown by name in the sankey; the rest is bundled."""


def people_figures(data: ReportData) -> list[Figure]:
    """Savings per building, savings per kind, sankey."""
    return [savings(data), savings_by_kind(data), sankey(data)]


def kinds(data: ReportData) -> dict[str, str]:
    """Colour of each kind of household of the run; a kind has the same colour in every report."""
    found = {EQUIPMENT[key]: colour for key, colour in EQUIPMENT_COLOURS.items() if key != "community"}
    counted = {name for name, yes in zip(data.equipment, data.counted, strict=True) if yes}
    return {name: colour for name, colour in found.items() if name in counted}


def batteries_of_all(data: ReportData) -> list[int]:
    """Indices of the storage-only buildings."""
    return [i for i, building in enumerate(data.static.buildings) if building.community]


def savings_order(data: ReportData) -> list[int]:
    """Buildings in the order of the savings' bars: counted ones from most to least saved, then the batteries."""
    order = [int(i) for i in np.argsort(-data.savings, kind="stable") if data.counted[i]]
    return order + batteries_of_all(data)


def savings(data: ReportData) -> Figure:
    """Savings of every building against no market, sorted, coloured by kind."""
    id_, title = "savings", "Savings per building against no market"
    if data.static.rule == "no_market":
        return absent(
            id_, title, "This run is the reference itself: without a market there is nothing to save against."
        )
    values = data.savings
    if not values.any():
        return absent(id_, title, "No building saves or loses anything against no market in this run.")
    order, stores = savings_order(data), batteries_of_all(data)
    traces = []
    for name, colour in [
        *kinds(data).items(),
        *([(BATTERY_ACCOUNT, EQUIPMENT_COLOURS["community"])] if stores else []),
    ]:
        member = stores if name == BATTERY_ACCOUNT else [
            i for i in order if data.equipment[i] == name and i not in stores
        ]  # fmt: skip
        ids = [data.static.buildings[i].id for i in member]
        hover = f"%{{x}} ({name}): %{{y:,.2f}} {data.currency}<extra></extra>"
        traces.append(bars(name, ids, column(values[member], 2), colour, hovertemplate=hover))
    plan = layout(
        axis("building, from most to least saved", type="category", categoryorder="array",
             categoryarray=[data.static.buildings[i].id for i in order], showticklabels=len(order) <= 80),
        axis(f"savings [{data.currency}]", zeroline=True),
        height=400, bargap=0.15, barmode="overlay",
    )  # fmt: skip
    note = "Bill without a market at the same meters, less the bill of this run, over the whole span."
    if stores:
        note += (
            " The community battery is no household: it has a bar of its own at the right and counts in no figure here."
        )
    return Figure(id_, title, _savings_text(data, values), (Panel("", {"data": traces, "layout": plan}),), note=note)


def _savings_text(data: ReportData, values: Floats) -> str:
    def money_of(amount: float) -> str:
        return money(float(amount), data.currency)

    names = [b for b, yes in zip(data.static.buildings, data.counted, strict=True) if yes]
    n = len(names)
    stores = batteries_of_all(data)
    account = profit_or_loss(float(values[stores].sum()), data.currency)
    battery = f" The community battery makes {account}." if stores else ""
    values = values[data.counted]
    if not n:
        return f"No building but storage was a member.{battery}"
    won, lost = int((values > 0).sum()), int((values < 0).sum())
    best, worst = int(values.argmax()), int(values.argmin())
    text = f"{won} of {count(n, 'building')} save{'s' if won == 1 else ''} against no market"
    text += f", {money_of(values.mean())} on average; the most is {money_of(values[best])} ({names[best].id})"
    if lost:
        text += f", and {count(lost, 'building loses', 'buildings lose')}"
        text += f", at most {money_of(-values[worst])} ({names[worst].id})"
    elif n > 1:
        text += f", the least {money_of(values[worst])} ({names[worst].id}); none of these {n} loses"
    return f"{text}.{battery}"


def savings_by_kind(data: ReportData) -> Figure:
    """Mean, lowest and highest savings per kind of household, one tab per attribute."""
    id_, title = "savings-by-kind", "Who gains: savings by kind of household"
    if data.static.rule == "no_market":
        return absent(
            id_, title, "This run is the reference itself: without a market there is nothing to save against."
        )
    if not data.savings.any():
        return absent(id_, title, "No building saves or loses anything, so no kind of household does.")
    panels: list[Panel] = []
    for name, groups in data.groups.items():
        if len(groups) < 2 and len(data.groups) > 1 and panels:
            continue
        panels.append(_kind_panel(data, label(name), groups))
    if not panels:
        return absent(id_, title, "The scenario says nothing about the households, so there are no kinds to compare.")
    return Figure(id_, title, panels[0].sentence, tuple(panels), shown="tabs")


def _kind_panel(data: ReportData, name: str, groups: tuple[Group, ...]) -> Panel:
    ranked = sorted(groups, key=lambda g: (g.mean, g.name))
    names = [f"{g.name} ({g.n})" for g in ranked]
    reach = {"type": "scatter", "mode": "lines+markers", "name": "lowest to highest", "hoverinfo": "skip",
             "x": [v for g in ranked for v in (g.lowest, g.highest, None)],
             "y": [v for label_ in names for v in (label_, label_, None)],
             "marker": {"symbol": "line-ns-open", "size": 9, "color": FOREGROUND},
             "line": {"color": FOREGROUND, "width": 1.6}}  # fmt: skip
    hover = f"%{{y}}: mean %{{x:,.2f}} {data.currency}<extra></extra>"
    bar = bars(
        "mean", [round(g.mean, 2) for g in ranked], names, BLUE, orientation="h", hovertemplate=hover, width=0.55
    )
    plan = layout(axis(f"savings per building [{data.currency}]", zeroline=True), axis(name, type="category"),
                  height=150 + 38 * len(ranked))  # fmt: skip
    stated = [g for g in ranked if g.name != NOT_STATED] or ranked
    best, worst = stated[-1], stated[0]
    if best is worst:
        text = f"All buildings whose {name} is known are of one kind ({best.name}); "
        text += f"they save {money(best.mean, data.currency)} on average."
    else:
        text = (
            f"Highest mean savings by {name}: {best.name}, {money(best.mean, data.currency)} per building; "
            f"lowest: {worst.name}, {money(worst.mean, data.currency)}."
        )
    unknown = sum(g.n for g in ranked if g.name == NOT_STATED)
    if unknown and stated[0].name != NOT_STATED:
        mean = next(g.mean for g in ranked if g.name == NOT_STATED)
        text += f" Of {count(unknown, 'building')} it is not stated; they save {money(mean, data.currency)} on average."
    return Panel(name, {"data": [bar, reach], "layout": plan}, text)


def _bundle(values: Floats, keep: int) -> list[int]:
    order = [int(i) for i in np.argsort(-values, kind="stable") if values[i] > 0]
    return order if len(order) <= keep + 1 else order[:keep]


def sankey(data: ReportData) -> Figure:
    """Energy from suppliers (left) to buyers (right) inside the district, the smaller ones bundled."""
    id_, title = "flows", "Who supplied whom"
    flows = data.flows_wh
    if flows is None or not flows.any():
        return absent(id_, title, "No energy changed hands inside the district, so nobody supplied anybody.")
    names = [b.id for b in data.static.buildings]
    sold, bought = flows.sum(axis=1), flows.sum(axis=0)
    sellers, buyers = _bundle(sold, MAX_SELLERS), _bundle(bought, MAX_BUYERS)
    left = _grouping(sellers, sold)
    right = _grouping(buyers, bought)
    labels = [names[i] for i in sellers] + ([f"{left[1]} other suppliers"] if left[1] else [])
    n_left = len(labels)
    labels += [names[i] for i in buyers] + ([f"{right[1]} other buyers"] if right[1] else [])
    table = np.zeros((n_left, len(labels) - n_left))
    active_s, active_b = np.flatnonzero(sold > 0), np.flatnonzero(bought > 0)
    np.add.at(table, np.ix_(left[0][active_s], right[0][active_b]), flows[np.ix_(active_s, active_b)])
    source, target = np.nonzero(table > table.sum() * 2e-4)
    unit, scale = ("MWh", 1e6) if table.sum() >= 1e7 else ("kWh", 1e3)
    palette = [KINDS[i % 7] for i in range(len(sellers))] + [GREY] * (n_left - len(sellers))
    trace: Spec = {
        "type": "sankey",
        "arrangement": "fixed",
        "valuesuffix": f" {unit}",
        "valueformat": ",.4~g",
        "textfont": {"color": FOREGROUND, "size": 12},
        "node": {"label": labels, "pad": 8, "thickness": 14, "line": {"width": 0},
                 "color": palette + [GREY] * (len(labels) - n_left)},
        "link": {"source": source.tolist(), "target": (target + n_left).tolist(),
                 "value": [round(float(v), 4) for v in table[source, target] / scale],
                 "color": [with_alpha(palette[s], 0.4) for s in source]},
    }  # fmt: skip
    plan: Spec = {"height": max(320, 60 + 30 * max(n_left, len(labels) - n_left))}
    text = _sankey_text(data, flows)
    note = "Left: suppliers; right: buyers; width: energy over the whole span. Flows below 0.02 % are left out."
    if not data.static.traced:
        note = (
            f"An attribution, not a record: the {_unpaired(data)} no pairs. In each slot, every "
            "buyer's local energy is spread over the suppliers in proportion to what they delivered. " + note
        )
    heading = title if data.static.traced else f"{title} (attribution)"
    return Figure(id_, heading, text, (Panel("", {"data": [trace], "layout": plan}),), note=note)


def _unpaired(data: ReportData) -> str:
    """``rule uniform price has``: the stages' rules without pairs."""
    names = list(dict.fromkeys(label(rule) for _, rule, pairs in data.static.stages if not pairs))
    return f"rule {names[0]} has" if len(names) == 1 else f"rules {' and '.join(names)} have"


def _grouping(kept: list[int], values: Floats) -> tuple[Ints, int]:
    """Row of each member in the bundled table, and how many members are bundled."""
    place = np.full(len(values), len(kept), np.int64)
    place[kept] = np.arange(len(kept))
    return place, int((values > 0).sum()) - len(kept)


def _sankey_text(data: ReportData, flows: Floats) -> str:
    total = float(flows.sum())
    sold = flows.sum(axis=1)
    top = np.argsort(-sold, kind="stable")
    n_sellers, n_buyers = int((sold > 0).sum()), int((flows.sum(axis=0) > 0).sum())
    seller, buyer = np.unravel_index(int(flows.argmax()), flows.shape)
    names = data.static.buildings
    text = f"{count(n_sellers, 'building')} supplied {count(n_buyers, 'building')} with {energy(total)}"
    if n_sellers > 3:
        share = float(sold[top[:3]].sum()) / total
        text += f"; the three largest suppliers gave {percent(share, 0)} of it"
    largest = float(flows[seller, buyer])
    return f"{text}; the largest flow, {energy(largest)}, ran from {names[seller].id} to {names[buyer].id}."
