"""The properties an audit measures, each as a question to one book: is it refuted here, and by what?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from core.errors import MarketError
from market.audit.books import AuditBook, MeterBook
from market.audit.meter_outcome import Waste, measure_meters, unfit_meters
from market.audit.misreport import Deviation, Search, search_book
from market.audit.outcome import same_in_batch, term_breaches, truthful, unfit
from market.facade import clear
from market.registry import BidRule, MeterRule, Rule
from market.terms import within_terms

TITLES: Mapping[str, str] = {
    "laws": "energy balance and sums",
    "ir": "individually rational",
    "budget": "operator's budget",
    "efficient": "efficient",
    "truthful_price": "truthful in price",
    "truthful_quantity": "truthful in quantity",
    "splitting": "splitting does not pay",
    "identity": "a second name does not pay",
    "terms": "members' own terms kept",
}
"""What is measured, in the order in which it is told."""

KIND_OF: Mapping[str, str] = {
    "truthful_price": "price",
    "truthful_quantity": "quantity",
    "splitting": "split",
    "identity": "identity",
}
"""Properties that a misreport search refutes, and the kind of report that does."""

BUDGET_BROKEN = {
    "strong": lambda surplus: surplus != 0,
    "weak": lambda surplus: surplus < 0,
    "deficit": lambda surplus: surplus > 0,
}
"""Budget -> whether an operator's surplus breaks it."""


KEEPS: Mapping[str, tuple[str, ...]] = {
    "strong": ("strong", "weak", "deficit"),
    "weak": ("weak",),
    "deficit": ("deficit",),
    "none": (),
}
"""Measured budget -> declared budgets that it keeps."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a property does not hold on a book.

    ``detail`` is the report that gains, where there is one.
    """

    book: AuditBook | MeterBook
    sentence: str
    detail: Deviation | Waste | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        detail = None if self.detail is None else self.detail.as_dict()
        return {"book": self.book.as_dict(), "sentence": self.sentence, "deviation": detail}


def measured_budget(surpluses: list[Fraction]) -> str:
    """The strongest budget that a list of surpluses keeps: strong, weak, deficit or none."""
    for name in ("strong", "weak", "deficit"):
        if not any(BUDGET_BROKEN[name](s) for s in surpluses):
            return name
    return "none"


def refute(
    name: str, rule: Rule, book: AuditBook | MeterBook, search: Search, budget: str = "strong"
) -> Evidence | None:
    """What refutes a property on one book, or None; None also where the rule does not take the book.

    Parameters
    ----------
    name
        Of ``TITLES``.
    rule, book
        A rule on orders with its book, or a rule on meters with meters.
    search
        How finely misreports are searched.
    budget
        The budget that is held against the result.
    """
    if isinstance(rule, BidRule) and isinstance(book, AuditBook):
        return _refute_orders(name, rule, book, search, budget)
    if isinstance(rule, MeterRule) and isinstance(book, MeterBook):
        return _refute_meters(name, rule, book, budget)
    return None


def _refute_orders(name: str, rule: BidRule, book: AuditBook, search: Search, budget: str) -> Evidence | None:
    try:
        if unfit(rule, book) is not None:
            return None
        if name in KIND_OF:
            if name in ("truthful_price", "truthful_quantity") and not book.one_order_each:
                return None
            kind = KIND_OF[name]
            best = search_book(rule, book, kind, search.only(kind)).best
            return None if best is None else Evidence(book, f"{best.agent} {best}", best)
        result = clear(rule, book.orders, context=book.context)
        if name == "laws":
            people = truthful(book, result)["people"]
            same_in_batch(book, people, {kind: search_book(rule, book, kind, search) for kind in search.kinds})
    except MarketError as error:
        return Evidence(book, error.message) if name == "laws" else None
    figures = truthful(book, result)
    surplus = figures["surplus_u"]
    if name == "ir":
        agent, person = min(figures["people"].items(), key=lambda x: x[1].utility_u, default=("", None))
        if person is not None and person.utility_u < 0:
            return Evidence(book, f"{agent} is left with a utility of {person.utility_u}, below zero")
    elif name == "budget" and budget in BUDGET_BROKEN and BUDGET_BROKEN[budget](surplus):
        return Evidence(book, f"the operator is left with {surplus}, against a {budget} budget")
    elif name == "efficient" and figures["welfare_u"] != figures["optimum_u"]:
        return Evidence(book, f"welfare is {figures['welfare_u']}, possible are {figures['optimum_u']}")
    elif name == "terms":
        breaches, _ = term_breaches(book, result)
        if breaches and within_terms(book.orders, book.context.terms) == list(book.orders):
            return Evidence(book, "; ".join(breaches))  # whoever asks for less than its own floor shows nothing
    return None


def _refute_meters(name: str, rule: MeterRule, book: MeterBook, budget: str) -> Evidence | None:
    try:
        if unfit_meters(rule, book) is not None:
            return None
    except MarketError as error:
        return Evidence(book, error.message) if name == "laws" else None
    found = measure_meters(rule, book, waste=name == "truthful_quantity")
    if name == "laws":
        return None if found.failure is None else Evidence(book, found.failure)
    if found.failure is not None:
        return None
    if name == "ir" and found.worst_u < 0:
        member, saving = min(found.savings.items(), key=lambda x: x[1])
        bill, alone = found.bills[member], found.alone[member]
        return Evidence(book, f"{member} pays {bill} instead of {alone} alone, {-saving} more")
    if name == "budget" and budget in BUDGET_BROKEN and BUDGET_BROKEN[budget](found.surplus_u):
        return Evidence(book, f"the operator is left with {found.surplus_u}, against a {budget} budget")
    if name == "efficient" and found.welfare_u != found.optimum_u:
        return Evidence(book, f"the members save {found.welfare_u}, possible are {found.optimum_u}")
    if name == "truthful_quantity" and found.waste is not None:
        return Evidence(book, str(found.waste), found.waste)
    return None
