"""Books of an audit as a reader sees them: the smallest counterexamples as tables, one book as supply and demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from market.audit.books import terms_said
from peerwatt.report.audit_figures import Report, Shown
from peerwatt.report.figure import LIMIT, QUIET, Figure, Panel, Spec, absent, axis, bars, layout
from peerwatt.report.page import Cell
from peerwatt.report.palette import BLUE, GREEN, GREY, ORANGE, with_alpha
from peerwatt.report.text import MINUS, count, fixed, html, label, number, percent, sentence

_PREFERRED = ("uniform", "unit", "mixed", "symmetric", "ties", "flat_supply")
Point = tuple[float | None, float | None]


# --- counterexamples --------------------------------------------------------------------------------------------------


def counterexamples_html(shown: Shown) -> str:
    """For every rule the smallest book on which each property fails: what is refuted first."""
    parts = []
    for name, report in shown:
        found = [v for v in report["verdicts"] if v["counterexample"]]
        found.sort(key=lambda v: v["verdict"] != "refuted")
        if found:
            cards = "".join(_card(v) for v in found)
            parts.append(f'<div class="box"><h3>{html(name)}</h3><div class="examples">{cards}</div></div>')
        else:
            parts.append(
                f'<div class="box"><h3>{html(name)}</h3><p class="missing">No counterexample was found to any property '
                "that was looked at. That proves nothing about other books.</p></div>"
            )
    return "".join(parts)


def _card(verdict: Mapping[str, Any]) -> str:
    example = verdict["counterexample"]
    refuted = verdict["verdict"] == "refuted"
    kind = "refuted" if refuted else "open"
    head = f'{html(verdict["title"])}: <span class="verdict {kind}">{html(verdict["words"])}</span>'
    deviation = example["deviation"]
    book = example["book"]
    table = _meters_table(book, deviation) if "meters" in book else _orders_table(book, deviation)
    start = f"{label(example['from']['family'])} {example['from']['index']}"
    made = f"From book {start}, shrunk in {count(example['tries'], 'try', 'tries')}"
    made += "." if example["smallest"] else "; shrinking stopped early, a smaller one may exist."
    return (
        f'<div class="example"><h4>{head}</h4>{table}<p class="says">{html(_sentence(example))}</p>'
        f'{_utilities(deviation)}<p class="note">{html(made)}</p></div>'
    )


def _sentence(example: Mapping[str, Any]) -> str:
    """What happens on the book; a capital first unless it is an agent's name."""
    text = str(example["sentence"])
    book = example["book"]
    names = {o["agent"] for o in book.get("orders", ())} | {m["member"] for m in book.get("meters", ())}
    return f"{text}." if text.partition(" ")[0] in names else sentence(text)


def _orders_table(book: Mapping[str, Any], deviation: Mapping[str, Any] | None) -> str:
    rows = []
    flagged = any(o.get("flags") for o in book["orders"])
    for o in book["orders"]:
        changed = deviation is not None and o["id"] == deviation["truth"]["id"]
        rows.append(_order_row(o, "true" if deviation is not None else "", flagged, changed))
        if deviation is not None and changed:
            rows += [_order_row(r, "states instead", flagged, True) for r in deviation["reports"]]
    heads = ["Agent", "Side", "Energy [Wh]", "Limit [µ/kWh]"] + (["Flags"] if flagged else [])
    heads += ["Order"] if deviation is not None else []
    if deviation is None:
        rows = [r[:-1] for r in rows]
    numeric = [h.endswith("]") for h in heads]
    caption = count(len(book["orders"]), "order")
    if book["context"].get("backstop") == "in_book" and "retail_u" in book["context"]:
        context = book["context"]
        caption += f"; the retailer sells at {context['retail_u']} and buys at {context['feed_in_u']}"
    table = _small_table(f"{caption}.", heads, rows, numeric)
    own = [f"{agent} {terms_said(terms)}" for agent, terms in sorted(book["context"].get("terms", {}).items())]
    return table + (f'<p class="note">Own terms: {html("; ".join(own))}.</p>' if own else "")


def _order_row(o: Mapping[str, Any], told: str, flagged: bool, strong: bool) -> list[Cell]:
    class_ = f" ({of})" if (of := o.get("attributes", {}).get("class")) is not None else ""
    row = [
        Cell(o["agent"], strong=strong),
        Cell("buys" if o["side"] == "buy" else f"sells{class_}", strong=strong),
        Cell(f"{o['e_wh']:,}", o["e_wh"], strong=strong),
        Cell(whole(o["price_u"]), o["price_u"], strong=strong),
    ]
    row += [Cell(", ".join(o.get("flags", ())), strong=strong)] if flagged else []
    return [*row, Cell(told, strong=strong)]


def _meters_table(book: Mapping[str, Any], deviation: Mapping[str, Any] | None) -> str:
    rows = []
    for m in book["meters"]:
        changed = deviation is not None and m["member"] == deviation["member"]
        rows.append(_meter_row(m, "true" if deviation is not None else "", changed))
        if deviation is not None and changed:
            rows.append(_meter_row({**m, "net_wh": deviation["metered_wh"]}, "meters instead", True))
    heads = ["Member", "Meter", "Energy [Wh]", "Retail [µ/kWh]", "Feed-in [µ/kWh]", "Reading"]
    if deviation is None:
        heads, rows = heads[:-1], [r[:-1] for r in rows]
    return _small_table(f"{count(len(book['meters']), 'member')}.", heads, rows, [h.endswith("]") for h in heads])


def _meter_row(m: Mapping[str, Any], told: str, strong: bool) -> list[Cell]:
    numbers = (abs(m["net_wh"]), m["retail_u"], m["feed_in_u"])
    verb = "draws" if m["net_wh"] > 0 else "feeds in" if m["net_wh"] < 0 else "nothing"
    cells = [Cell(whole(x), x, strong=strong) for x in numbers]
    return [Cell(m["member"], strong=strong), Cell(verb, strong=strong), *cells, Cell(told, strong=strong)]


def _utilities(deviation: Mapping[str, Any] | None) -> str:
    """What the truth and the other report are worth, side by side."""
    if deviation is None:
        return ""
    if "bill_u" in deviation:
        rows = [("Bill, true reading", "honest_u"), ("Bill, other reading", "bill_u"), ("Saved", "gain_u")]
    else:
        rows = [("Utility, truthful", "honest_u"), ("Utility, deviating", "earned_u"), ("Gain", "gain_u")]
    cells = "".join(f"<div><dt>{name}</dt><dd>{html(exact(deviation[key]))} µ</dd></div>" for name, key in rows)
    return f'<dl class="facts">{cells}</dl>'


def _small_table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], numeric: Sequence[bool]) -> str:
    """A table that keeps its order: what is stated instead stands below the truth."""

    def cell(c: Cell, right: bool) -> str:
        kind = f' class="{"n " if right else ""}{"best" if c.strong else ""}"' if right or c.strong else ""
        return f"<td{kind}>{html(c.text)}</td>"

    head = "".join(
        f'<th scope="col"{" class=n" if n else ""}>{html(h)}</th>' for h, n in zip(heads, numeric, strict=True)
    )
    body = "".join("<tr>" + "".join(cell(c, n) for c, n in zip(r, numeric, strict=True)) + "</tr>" for r in rows)
    return (
        f'<div class="scroll"><table><caption>{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def whole(value: int) -> str:
    """A whole number with thousands separated."""
    return fixed(value, 0)


def exact(text: str) -> str:
    """An exact amount: a whole number, a short decimal, or a fraction with its decimals."""
    value = Fraction(text)
    if value.denominator == 1:
        return whole(int(value))
    decimal = f"{float(value):.8g}".replace("-", MINUS)
    if "e" not in decimal and Fraction(f"{float(value):.8g}") == value:
        return decimal
    return f"{text.replace('-', MINUS)} ≈ {number(float(value), 5)}" if len(text) < 16 else number(float(value), 6)


# --- one book drawn ---------------------------------------------------------------------------------------------------


def book_figure(shown: Shown) -> Figure:
    """One book under every rule, a tab each: the same book where several rules take it."""
    id_, title = "book", "One book drawn"
    families: dict[tuple[bool, str], int] = {}
    for _, report in shown:
        for example in report["examples"]:
            key = "meters" in example, example["family"]
            families[key] = families.get(key, 0) + 1
    panels = []
    for name, report in shown:
        example = _picked(report, families)
        if example is not None:
            draw = _meters_panel if "meters" in example else _curves_panel
            panels.append(draw(name, example))
    if not panels:
        return absent(id_, title, "No rule cleared a book.")
    note = (
        "Orders ranked by price; thick = what the rule fills of them. Band: the prices [L, H] at which supply meets "
        "demand, up to Q*. Prices are what each trader pays or gets per kWh. Rules on meters: bills with and without "
        "the rule. Money in micro-currency (µ)."
    )
    return Figure(id_, title, panels[0].sentence, tuple(panels), shown="tabs", note=note)


def _picked(report: Report, families: Mapping[tuple[bool, str], int]) -> Mapping[str, Any] | None:
    """The example of the family that most rules share."""
    found: dict[str, Mapping[str, Any]] = {e["family"]: e for e in report["examples"]}
    if not found:
        return None
    order = {f: k for k, f in enumerate(_PREFERRED)}
    meters = bool(report["rule"]["meter_based"])
    return found[min(found, key=lambda f: (-families[meters, f], order.get(f, len(order)), f))]


def _curves_panel(name: str, example: Mapping[str, Any]) -> Panel:
    sides = {side: [o for o in example["orders"] if o["side"] == side and o["e_wh"]] for side in ("buy", "sell")}
    sides["buy"].sort(key=lambda o: (-o["price_u"], o["t"], o["id"]))
    sides["sell"].sort(key=lambda o: (o["price_u"], o["t"], o["id"]))
    paid = _unit_prices(example)
    data = [
        _curve("demand", sides["buy"], BLUE), _filled("filled demand", sides["buy"], example["fills"], BLUE),
        _curve("supply", sides["sell"], ORANGE), _filled("filled supply", sides["sell"], example["fills"], ORANGE),
    ]  # fmt: skip
    data += _price_traces(sides, example["fills"], paid)
    crossing = _crossing(example)
    shapes, notes = _marks(crossing)
    plan = layout(axis("energy [Wh]", rangemode="tozero"), axis("price [µ/kWh]"), height=460, shapes=shapes,
                  annotations=notes)  # fmt: skip
    return Panel(name, {"data": data, "layout": plan}, _book_words(name, example, paid, crossing))


def _crossing(example: Mapping[str, Any]) -> Any:
    """Q* and [L, H] of the book (market-rules 0.4)."""
    from market.book import Book, Context
    from market.crossing import cross
    from market.orders import Order, Side

    orders = [
        Order(order_id=o["id"], agent_id=o["agent"], side=Side.BUY if o["side"] == "buy" else Side.SELL,
              e_wh=o["e_wh"], price_u=o["price_u"], t=o["t"])
        for o in example["orders"]
    ]  # fmt: skip
    context = example["context"]
    if context.get("backstop") != "in_book":
        return cross(Book.from_orders(orders))
    wide = {"p_min_u": -(2**62), "p_max_u": 2**62}  # a band is wanted with the retailer; it does not move the crossing
    around = {"retail_u": context["retail_u"], "feed_in_u": context["feed_in_u"], "backstop": "in_book", **wide}
    return cross(Book.from_orders(orders), Context.of(around))


def _curve(name: str, orders: Sequence[Mapping[str, Any]], shade: str) -> Spec:
    points: list[Point] = []
    at = 0
    for o in orders:
        points += [(at, o["price_u"]), (at + o["e_wh"], o["price_u"])]
        at += o["e_wh"]
    return _lines(name, points, shade, width=1.6)


def _filled(name: str, orders: Sequence[Mapping[str, Any]], fills: Mapping[str, int], shade: str) -> Spec:
    at = 0
    points: list[Point] = []
    for o in orders:
        if fill := fills.get(o["id"], 0):
            points += [(at, o["price_u"]), (at + fill, o["price_u"]), (None, None)]
        at += o["e_wh"]
    return _lines(name, points, with_alpha(shade, 0.45), width=8)


def _lines(name: str, points: Sequence[Point], shade: str, *, width: float, dash: str = "solid") -> Spec:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": [x for x, _ in points], "y": [y for _, y in points],
        "line": {"color": shade, "width": width, "dash": dash}, "connectgaps": False,
        "hovertemplate": f"{name}: %{{x:,}} Wh, %{{y:,.6~g}} µ/kWh<extra></extra>",
    }  # fmt: skip


def _unit_prices(example: Mapping[str, Any]) -> dict[str, float]:
    """What each agent with a trade pays or gets per kWh."""
    filled: dict[str, int] = {}
    for o in example["orders"]:
        filled[o["agent"]] = filled.get(o["agent"], 0) + example["fills"].get(o["id"], 0)
    payments = example["payments_u"]
    return {a: abs(float(1000 * Fraction(payments.get(a, "0")) / wh)) for a, wh in filled.items() if wh}


def _price_traces(
    sides: Mapping[str, Sequence[Mapping[str, Any]]], fills: Mapping[str, int], paid: Mapping[str, float]
) -> list[Spec]:
    """One line where everybody has the same price, else a line for each side."""
    volume = max((sum(fills.get(o["id"], 0) for o in orders) for orders in sides.values()), default=0)
    if paid and max(paid.values()) - min(paid.values()) <= 1e-9 * max(map(abs, paid.values())):
        price = next(iter(paid.values()))
        return [_lines("price", [(0, price), (volume, price)], GREEN, width=2.2)]
    traces = []
    for side, name, dash in (("buy", "buyers pay", "solid"), ("sell", "sellers get", "dot")):
        at = 0
        points: list[Point] = []
        for o in sides[side]:
            if fill := fills.get(o["id"], 0):
                points += [(at, paid[o["agent"]]), (at + fill, paid[o["agent"]]), (None, None)]
            at += o["e_wh"]
        if points:
            traces.append(_lines(name, points, GREEN, width=2.2, dash=dash))
    return traces


def _marks(crossing: Any) -> tuple[list[Spec], list[Spec]]:
    """Q* as an upright line and [L, H] as a band."""
    if crossing.low_u is None or crossing.high_u is None:
        return [], []
    q, low, high = crossing.volume_wh, crossing.low_u, crossing.high_u
    band = {"type": "rect", "x0": 0, "x1": q, "y0": low, "y1": high, "line": {"color": QUIET, "width": 0.6},
            "fillcolor": with_alpha(GREY, 0.2), "layer": "below"}  # fmt: skip
    upright = {"type": "line", "x0": q, "x1": q, "yref": "paper", "y0": 0, "y1": 1,
               "line": {"color": LIMIT, "width": 1.3, "dash": "dash"}}  # fmt: skip
    told = {"x": q, "y": 1, "yref": "paper", "text": f"Q* = {whole(q)} Wh", "showarrow": False, "xanchor": "left",
            "yanchor": "top", "xshift": 4, "font": {"color": LIMIT}}  # fmt: skip
    return [band, upright], [told]


def _book_words(name: str, example: Mapping[str, Any], paid: Mapping[str, float], crossing: Any) -> str:
    words = f"Book {example['index']} of the family {label(example['family'])} under {name}: "
    if crossing.low_u is None:
        words += "no bid reaches an ask, so nothing can be gained. "
    else:
        low, high = whole(crossing.low_u), whole(crossing.high_u)
        any_price = f"at {low}" if low == high else f"at any price from L = {low} to H = {high}"
        words += f"supply meets demand at Q* = {whole(crossing.volume_wh)} Wh, {any_price} µ per kWh. "
    buyers = {o["agent"] for o in example["orders"] if o["side"] == "buy"}
    volume = sum(example["fills"].get(o["id"], 0) for o in example["orders"] if o["side"] == "buy")
    pay = _range([p for a, p in paid.items() if a in buyers])
    get = _range([p for a, p in paid.items() if a not in buyers])
    words += f"The rule trades {whole(volume)} Wh"
    words += f"; buyers pay {pay}, sellers get {get}. " if paid else ". "
    welfare, best = Fraction(example["welfare_u"]), Fraction(example["optimum_u"])
    reached = f" ({percent(float(welfare / best))})" if best else ""
    words += f"Welfare is {number(float(welfare))} of {number(float(best))} possible{reached}; "
    return words + f"the operator keeps {number(float(Fraction(example['surplus_u'])))}."


def _range(prices: Sequence[float]) -> str:
    if not prices:
        return "nothing"
    low, high = (whole(int(p)) if p == int(p) else number(p, 4) for p in (min(prices), max(prices)))
    return low if low == high else f"{low} to {high}"


def _meters_panel(name: str, example: Mapping[str, Any]) -> Panel:
    members = [m["member"] for m in example["meters"]]
    alone = {m: float(Fraction(example["alone_u"][m])) for m in members}
    bills = {m: float(Fraction(example["payments_u"][m])) for m in members}
    data = [
        bars("alone with the retailer", members, [round(alone[m], 4) for m in members], GREY,
             hovertemplate="%{x} alone: %{y:,.4~g} µ<extra></extra>"),
        bars("under the rule", members, [round(bills[m], 4) for m in members], BLUE,
             hovertemplate="%{x} under the rule: %{y:,.4~g} µ<extra></extra>"),
    ]  # fmt: skip
    losers = [m for m in members if Fraction(example["payments_u"][m]) > Fraction(example["alone_u"][m])]
    words = f"Meters {example['index']} of the family {label(example['family'])} under {name}: "
    words += f"{count(len(members), 'member')} together save {number(float(Fraction(example['welfare_u'])))} of "
    words += f"{number(float(Fraction(example['optimum_u'])))} µ possible; "
    words += f"{count(len(losers), 'member')} pay more than alone." if losers else "nobody pays more than alone."
    plan = layout(axis("member", type="category"), axis("bill [µ]", zeroline=True), height=420, barmode="group")
    return Panel(name, {"data": data, "layout": plan}, words)
