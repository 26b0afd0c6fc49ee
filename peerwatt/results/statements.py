"""The statement of a building: what a resident paid, to whom, at what price, and what the market saved.

A statement is the same few tables as plain text and as one printable page without scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import RunError, round_half_even
from peerwatt.results import layout
from peerwatt.results.envelopes import envelope_lines
from peerwatt.results.record import LEDGER_KINDS, BuildingInfo, RunStatic
from peerwatt.results.statement_page import PAGE
from peerwatt.results.statements_market import gross_entries, market_names, neighbour_sentence, parts_sentence
from peerwatt.results.statements_origin import origin_tables

if TYPE_CHECKING:
    from peerwatt.results.run import Run

Ints = NDArray[np.int64]

_MICRO = 1_000_000
_MOST_NEIGHBOURS = 40


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence that says what to see, and a table; the first column holds words, the others figures."""

    heading: str
    sentence: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement of one building. ``str(statement)`` is its plain text."""

    building: str
    title: str
    intro: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """Plain text, tables in columns."""
        lines = [self.title, "=" * len(self.title), "", *self.intro, ""]
        for section in self.sections:
            lines += [section.heading, "-" * len(section.heading), section.sentence, "", *_text_table(section), ""]
        return "\n".join([*lines, "Notes", "-----", *(f"* {note}" for note in self.notes), ""])

    @property
    def html(self) -> str:
        """A self-contained page for screen and paper."""
        body = [f"<h1>{escape(self.title)}</h1>", *(f"<p class=short>{escape(line)}</p>" for line in self.intro)]
        for section in self.sections:
            body += [f"<h2>{escape(section.heading)}</h2>", f"<p>{escape(section.sentence)}</p>", _html_table(section)]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        body.append(f"<h2>Notes</h2><ul>{notes}</ul>")
        return PAGE.replace("{title}", escape(self.title)).replace("{body}", "\n".join(body))

    def _repr_html_(self) -> str:
        return self.html


def _text_table(section: Section) -> list[str]:
    rows = [section.header, *section.rows, *((section.total,) if section.total else ())]
    widths = [max(len(row[c]) for row in rows) for c in range(len(section.header))]
    lines = [
        "  ".join(cell.rjust(w) if c else cell.ljust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    rule = "-" * len(lines[0])
    body = [lines[0], rule, *lines[1 : len(section.rows) + 1]]
    return [*body, rule, lines[-1]] if section.total else body


def _html_table(section: Section) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in section.header)

    def row(cells: tuple[str, ...]) -> str:
        rest = "".join(
            f'<td data-head="{escape(head)}">{escape(cell)}</td>'
            for head, cell in zip(section.header[1:], cells[1:], strict=True)
        )
        return f'<tr><th scope="row">{escape(cells[0])}</th>{rest}</tr>'

    body = "".join(row(cells) for cells in section.rows)
    foot = f"<tfoot>{row(section.total)}</tfoot>" if section.total else ""
    caption = f"<caption>{escape(section.heading)}</caption>"
    kind = " class=many" if len(section.header) > 6 else ""
    return (
        f"<div class=wide><table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table></div>"
    )


def make_statement(run: Run, building: str) -> Statement:
    """The statement of one building.

    Raises
    ------
    RunError
        If the run has no such building.
    """
    ids = [b.id for b in run.static.buildings]
    if building not in ids:
        raise RunError(f"there is no building {building}", remedy=f"buildings are: {', '.join(ids[:20])}")
    return _Maker(run).statement(ids.index(building))


def write_statements(run: Run) -> None:
    """Write the statements of all buildings into the run folder, as pages and as text."""
    maker = _Maker(run)
    for i, building in enumerate(run.static.buildings):
        statement = maker.statement(i)
        for suffix, content in (("html", statement.html), ("txt", statement.text)):
            layout.write_atomic(
                run.folder / layout.STATEMENTS / f"{building.id}.{suffix}", content.encode(), durable=False
            )


class _Maker:
    """Reads once what all statements of a run need."""

    def __init__(self, run: Run) -> None:
        self.static: RunStatic = run.static
        self.values = run.aggregates
        self.gross = self.static.gross and "month_contract_bought_wh" in self.values
        self.months = [str(month) for month in self.values["months"]]
        self.bills = run.table("bills") if "bills" in run.tables else None
        self.savings = run.summary["buildings"]
        self.pool_only = _settled_in_pool(self.static, self.values["month_posting_u"])

    def statement(self, i: int) -> Statement:
        building = self.static.buildings[i]
        return Statement(
            building.id,
            f"Electricity statement of {building.id}, {self._span()}",
            self._intro(building),
            (self._bill(i), self._prices(i), *self._standing(i), *self._neighbours(i), *self._origin(i)),
            self._notes(building),
        )

    def _span(self) -> str:
        first, last = self.months[0], self.months[-1]
        return first if first == last else f"{first} to {last}"

    def _intro(self, building: BuildingInfo) -> tuple[str, ...]:
        block, unit = self.savings[building.id], self.static.currency
        cost, before, saved = block["cost_u"], block["baseline_u"], block["savings_u"]
        market = f"Market: {self.static.title or self.static.name}; rule: {self.static.rule_words}."
        if building.community:
            made = f"made a profit of {_money(saved)}" if saved >= 0 else f"made a loss of {_money(-saved)}"
            return (f"The community battery {made} {unit} against no market.", market)
        paid = f"You paid {_money(cost)} {unit}" if cost >= 0 else f"You were credited {_money(-cost)} {unit}"
        would = "paid" if before >= 0 else "been credited"
        without = f"Without the market you would have {would} {_money(abs(before))} {unit}"
        if saved > 0:
            effect = f"the market saved you {_money(saved)} {unit}."
        elif saved < 0:
            effect = f"the market cost you {_money(-saved)} {unit} more."
        else:
            effect = "the market made no difference to you."
        return (f"{paid}. {without}: {effect}", market)

    def _bill(self, i: int) -> Section:
        """The bill by month."""
        columns = self._bill_columns(i)
        header = ("Month", *columns)
        rows = tuple(
            (month, *(_money(int(column[m])) for column in columns.values())) for m, month in enumerate(self.months)
        )
        total = ("Sum", *(_money(int(column.sum())) for column in columns.values()))
        sentence = (
            f"What you paid (+) and were credited (-) in {self.static.currency}, by month; Total is the sum of the "
            "columns before it, Saved is Without market minus Total."
        )
        return Section("Your bill", sentence, header, rows, total)

    def _bill_columns(self, i: int) -> dict[str, Ints]:
        bought, sold = market_names(self.static)
        if self.bills is None:
            posted = -self.values["month_posting_u"][:, :, i]
            kind = dict(zip(LEDGER_KINDS, posted.T, strict=True))
            local = "Shared pool" if self.pool_only else "Market" if "market" in bought else "Neighbours"
            columns = {
                local: kind["contract"], "Retailer": kind["residual"], "Network": kind["network"],
                "Taxes and levies": kind["levies"],
            }  # fmt: skip
            if kind["losses"].any():
                columns["Network losses"] = kind["losses"]
            total, before = posted.sum(axis=1), self.values["month_baseline_u"][:, i]
        else:
            own = self._own_bills(i)
            columns = {
                bought.replace("Bought from", "From"): own("local_bought_u"),
                sold.replace("Sold to", "To"): own("local_sold_u"),
                "From retailer": own("retail_bought_u"), "To retailer": own("retail_sold_u"),
                "Network": own("network_u"), "Taxes and levies": own("levies_u"),
            }  # fmt: skip
            for name, line in (("Fixed charge", "fixed_u"), ("Peak charge", "demand_u"), ("VAT", "vat_u")):
                if own(line).any():
                    columns[name] = own(line)
            total, before = own("total_u"), own("baseline_total_u")
        return columns | {"Total": total, "Without market": before, "Saved": before - total}

    def _own_bills(self, i: int) -> Callable[[str], Ints]:
        """Columns of the building's bills, one entry per month of the run."""
        assert self.bills is not None
        rows = self.bills[self.bills["building"] == self.static.buildings[i].id]
        at = np.array([self.months.index(period) for period in rows["period"]], dtype=np.int64)

        def own(column: str) -> Ints:
            values = np.zeros(len(self.months), np.int64)
            np.add.at(values, at, rows[column].to_numpy())
            return values

        return own

    def _prices(self, i: int) -> Section:
        """Energy and average price by counterparty."""
        wh = {name: int(self.values[f"month_{name}_wh"][:, i].sum()) for name in
              ("bought", "sold", "retail_bought", "retail_sold", "import", "export")}  # fmt: skip
        if self.bills is not None:
            own = self._own_bills(i)
            paid = {name: int(own(f"{name}_u").sum()) for name in
                    ("local_bought", "local_sold", "retail_bought", "retail_sold")}  # fmt: skip
        else:
            kind = dict(zip(LEDGER_KINDS, -self.values["month_posting_u"][:, :, i].sum(axis=0), strict=True))
            paid = {"local_bought": int(self.values["month_purchase_u"][:, i].sum()),
                    "local_sold": -int(self.values["month_sale_u"][:, i].sum())}  # fmt: skip
            rest = [int(self.values[f"month_{'residual' if self.gross else 'retail'}_{way}_wh"][:, i].sum())
                    for way in ("bought", "sold")]  # fmt: skip
            if not all(rest):
                paid["retail_bought" if rest[0] else "retail_sold"] = int(kind["residual"])
        entries: list[tuple[str, int, int | None]]
        if self.pool_only and self.bills is None:
            entries = [("Bought from the shared pool", wh["import"], paid["local_bought"]),
                       ("Sold to the shared pool", wh["export"], paid["local_sold"])]  # fmt: skip
        elif self.gross:
            entries = gross_entries(self.static, self.values, i, paid, by_role=self.bills is not None)
        else:
            entries = [("Bought from neighbours", wh["bought"], paid["local_bought"]),
                       ("Sold to neighbours", wh["sold"], paid["local_sold"]),
                       ("Bought from the retailer", wh["retail_bought"], paid.get("retail_bought")),
                       ("Sold to the retailer", wh["retail_sold"], paid.get("retail_sold"))]  # fmt: skip
        unit = self.static.currency
        rows = tuple(
            (
                name,
                _kwh(e_wh),
                "" if u is None else _money(u),
                _price(None if name.startswith("Traded") else u, e_wh, sale=name.startswith("Sold")),
            )
            for name, e_wh, u in entries
        )
        sentence = "Your energy and its average price before network charges and taxes."
        if self.gross and (parts := parts_sentence(self.static, self.values, i)):
            sentence = f"{sentence} {parts}"
        return Section("Your energy", sentence, ("", "Energy [kWh]", f"Amount [{unit}]", f"Price [{unit}/kWh]"), rows)

    def _standing(self, i: int) -> list[Section]:
        """The building's standing contracts, a line each; contained in what neighbours delivered and were paid."""
        unit = self.static.currency
        rows = []
        for k, (name, seller, buyer) in enumerate(self.static.standing):
            if i not in (seller, buyer):
                continue
            wh = int(self.values["month_standing_wh"][:, k].sum())
            paid = int(self.values["month_standing_u"][:, k].sum())
            gives = i == seller
            other = self.static.buildings[buyer if gives else seller].id
            words = f"{name}: {'to' if gives else 'from'} {other}"
            rows.append((words, _kwh(wh), _money(-paid if gives else paid), _price(paid, wh)))
        if not rows:
            return []
        sentence = (
            "Settled before the market, at their own price. These lines are part of what you bought and sold above."
        )
        header = ("Contract", "Energy [kWh]", f"Amount [{unit}]", f"Price [{unit}/kWh]")
        return [Section("Your standing contracts", sentence, header, tuple(rows))]

    def _neighbours(self, i: int) -> list[Section]:
        """Who delivered to and bought from the building: exact where trades have pairs, else an attribution."""
        flow = self.values["attribution_wh"]
        money = self.values["attribution_u"] if self.static.traced else None
        sections = []
        for heading, wh, u in (
            ("Who delivered to you", flow[:, i], None if money is None else money[:, i]),
            ("Whom you delivered to", flow[i], None if money is None else money[i]),
        ):
            order = [int(j) for j in np.argsort(-wh, kind="stable") if wh[j] > 0]
            if not order:
                continue
            sentence = neighbour_sentence(self.static)
            rows = [self._neighbour(self.static.buildings[j].id, float(wh[j]), None if u is None else int(u[j]))
                    for j in order[:_MOST_NEIGHBOURS]]  # fmt: skip
            rest = order[_MOST_NEIGHBOURS:]
            if rest:
                others = "1 other" if len(rest) == 1 else f"{len(rest)} others"
                rows.append(self._neighbour(others, float(wh[rest].sum()),
                                            None if u is None else int(u[rest].sum())))  # fmt: skip
            total = self._neighbour("Sum", float(wh[order].sum()), None if u is None else int(u[order].sum()))
            unit = self.static.currency
            header: tuple[str, ...] = ("Neighbour", "Energy [kWh]")
            if u is not None:
                header += (f"Amount [{unit}]", f"Price [{unit}/kWh]")
            sections.append(Section(heading, sentence, header, tuple(rows), total))
        return sections

    def _neighbour(self, name: str, wh: float, amount_u: int | None) -> tuple[str, ...]:
        cells = (name, _kwh(wh))
        return cells if amount_u is None else (*cells, _money(amount_u), _price(amount_u, wh))

    def _origin(self, i: int) -> list[Section]:
        """By which way the building's electricity came, and how it was made."""
        return [Section(*table) for table in origin_tables(self.static, self.values, i)]

    def _notes(self, building: BuildingInfo) -> tuple[str, ...]:
        unit = self.static.currency
        notes: list[str] = [
            f"Amounts are in {unit}, energies in kWh. Months by local time ({self.static.zone}); a cut month counts "
            "for what it has. Figures are rounded for this page, so sums may differ in the last digit; the books are "
            "exact.",
        ]
        if building.community:
            notes.append("'Without market' a community battery has nobody to serve: it stands idle and pays nothing.")
        else:
            notes.append("'Without market' is what the same meter readings would have cost under your supply contract "
                         "alone.")  # fmt: skip
            notes.append("What you consumed of your own generation behind your meter is on no bill.")
        if self.bills is None:
            notes.append("Charges per day and per peak, and tax on the invoice, are not part of this statement.")
        if self.pool_only:
            notes.append("Under this rule one shared price covers neighbours' energy and the retailer's part.")
        notes += envelope_lines(self.static, self.values, self.static.buildings.index(building))
        if self.static.notices:
            notes.append("The readings come from the data named in NOTICE.txt beside the statements' folder.")
        return tuple(notes)


def _settled_in_pool(static: RunStatic, postings: Ints) -> bool:
    """Whether a rule on meters settled everything in its pool, so that nothing is left as residual."""
    return static.meter_based and not postings[:, LEDGER_KINDS.index("residual")].any()


def _money(amount_u: int) -> str:
    """Currency with two digits, rounded half to even, exact for any size."""
    cents = round_half_even(Fraction(amount_u, _MICRO // 100))
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _kwh(wh: float) -> str:
    return f"{wh / 1000:,.1f}"


def _price(amount_u: int | None, wh: float, *, sale: bool = False) -> str:
    """Average price in currency per kWh; of a sale the price received. Empty without energy."""
    if amount_u is None or wh <= 0:
        return ""
    return f"{(-amount_u if sale else amount_u) * 1000 / wh / _MICRO:.4f}"


def statement_files(buildings: Sequence[BuildingInfo]) -> list[str]:
    """Names of the statement pages of a run, relative to its folder."""
    return [f"{layout.STATEMENTS}/{building.id}.html" for building in buildings]
