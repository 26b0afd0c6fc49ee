"""Declared against measured: a verdict on every property, with the smallest counterexample of what does not hold.

A search can refute a property and never prove it: "holds on N books" comes with the bound on how often it may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.statistics import Estimate, proportion_estimate
from market.audit.books import AuditBook, MeterBook
from market.audit.meter_outcome import MeterOutcome
from market.audit.misreport import Search
from market.audit.outcome import BookOutcome, binding_terms
from market.audit.properties import BUDGET_BROKEN, KIND_OF, TITLES, Evidence, measured_budget, refute
from market.audit.shrink import Counterexample, shrink
from market.registry import BidRule, Rule

Outcome = BookOutcome | MeterOutcome

HOLDS, REFUTED, SILENT_HOLDS, SILENT_FAILS, NONE = (
    "holds", "refuted", "not declared, holds", "not declared, fails", "not applicable",
)  # fmt: skip
"""The five verdicts."""

_ALWAYS = ("laws", "terms")  # every rule promises them by being a rule
_FEWEST = {True: 4, False: 1}  # books that are shrunk in search of the smallest, for what is declared and what not


@dataclass(frozen=True, slots=True)
class Verdict:
    """One property, declared against measured.

    Parameters
    ----------
    name, title
        Its name and words for it.
    declared
        What the rule declares: True, False, a budget, or None where there is nothing to declare.
    verdict
        Of the five.
    books, violations
        Books it was looked at on, and those on which it does not hold.
    share
        Violations over books with an interval; without one, how often it may fail at most.
    measured
        The budget that all books keep, for ``budget``; else empty.
    note
        Why it is not applicable.
    counterexample
        The smallest book found on which it does not hold.
    """

    name: str
    title: str
    declared: bool | str | None
    verdict: str
    books: int
    violations: int
    share: Estimate
    measured: str = ""
    note: str = ""
    counterexample: Counterexample | None = None

    def __str__(self) -> str:
        if self.verdict == NONE:
            return f"{NONE}: {self.note}" if self.note else NONE
        if self.violations:
            return f"{self.verdict} on {self.violations} of {self.books} books"
        return f"{self.verdict} on {self.books} books"

    @property
    def refuted(self) -> bool:
        """Whether something declared does not hold."""
        return self.verdict == REFUTED

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        example = None if self.counterexample is None else self.counterexample.as_dict()
        return {
            "property": self.name,
            "title": self.title,
            "declared": self.declared,
            "verdict": self.verdict,
            "words": str(self),
            "books": self.books,
            "violations": self.violations,
            "share": self.share.as_dict(),
            "measured": self.measured,
            "note": self.note,
            "counterexample": example,
        }


@dataclass(frozen=True, slots=True)
class _Looked:
    """Books a property was looked at on, and those that refute it."""

    books: int
    broken: tuple[Outcome, ...]
    note: str = ""
    measured: str = ""


def declared_of(rule: Rule, name: str) -> bool | str | None:
    """What a rule declares of a property; None where there is nothing to declare."""
    if name in _ALWAYS:
        return True
    if name == "budget":
        return rule.declares.budget
    if name in ("splitting", "identity"):
        return None
    return bool(getattr(rule.declares, name))


def judge(
    rule: Rule, outcomes: Sequence[Outcome], search: Search, told: Callable[[str], None] | None = None
) -> list[Verdict]:
    """A verdict on every property of ``TITLES``.

    Parameters
    ----------
    rule
        The rule.
    outcomes
        What it did on every book.
    search
        How finely misreports were searched.
    told
        Called with the name of each property that is being shrunk.
    """
    verdicts: list[Verdict] = []
    for name, title in TITLES.items():
        declared = declared_of(rule, name)
        looked = _look(rule, name, outcomes, search)
        share = proportion_estimate(len(looked.broken), looked.books)
        if not looked.books:
            verdicts.append(Verdict(name, title, declared, NONE, 0, 0, share, note=looked.note))
            continue
        claimed = declared not in (False, None, "none")
        verdict = (HOLDS, SILENT_HOLDS, REFUTED, SILENT_FAILS)[2 * bool(looked.broken) + (not claimed)]
        example = None
        if looked.broken:
            if told is not None:
                told(name)
            example = smallest(rule, name, looked.broken, search, _FEWEST[claimed])
        verdicts.append(
            Verdict(name, title, declared, verdict, looked.books, len(looked.broken), share, looked.measured,
                    looked.note, example)
        )  # fmt: skip
    return verdicts


def _look(rule: Rule, name: str, outcomes: Sequence[Outcome], search: Search) -> _Looked:
    if name == "laws":
        tried = [o for o in outcomes if o.refused is None]
        return _Looked(len(tried), tuple(o for o in tried if o.failure is not None), "the rule takes none of the books")
    done = [o for o in outcomes if o.measured]
    if not done:
        return _Looked(0, (), "no book was cleared")
    if name == "ir":
        return _Looked(len(done), tuple(o for o in done if o.worst_u < 0))
    if name == "efficient":
        return _Looked(len(done), tuple(o for o in done if o.welfare_u != o.optimum_u))
    if name == "budget":
        measured = measured_budget([o.surplus_u for o in done])
        held = _budget_held(rule)
        return _Looked(len(done), tuple(o for o in done if BUDGET_BROKEN[held](o.surplus_u)), measured=measured)
    if name == "terms":
        seen = [o for o in done if isinstance(o, BookOutcome) and o.term_breaches is not None and o.terms_seen]
        note = "the rule can keep no terms" if isinstance(rule, BidRule) else "meters carry no terms"
        return _Looked(len(seen), tuple(o for o in seen if isinstance(o, BookOutcome) and o.term_breaches), note)
    return _looked_reports(rule, name, done, search)


def _budget_held(rule: Rule) -> str:
    return rule.declares.budget if rule.declares.budget in BUDGET_BROKEN else "strong"


def _looked_reports(rule: Rule, name: str, done: Sequence[Outcome], search: Search) -> _Looked:
    kind = KIND_OF[name]
    if not isinstance(rule, BidRule):
        if name != "truthful_quantity":
            return _Looked(0, (), "the rule takes no reports")
        metered = [o for o in done if isinstance(o, MeterOutcome) and o.tried]
        return _Looked(len(metered), tuple(o for o in metered if o.waste is not None), "nothing was searched")
    if kind not in search.kinds:
        return _Looked(0, (), "not searched")
    books = [o for o in done if isinstance(o, BookOutcome) and kind in o.found]
    if name in ("truthful_price", "truthful_quantity"):
        books = [o for o in books if o.book.one_order_each]
    counted = 0 if name == "truthful_quantity" else 1
    tried = [o for o in books if o.found[kind].tried >= counted]
    # quantities may be refused but for zero: then only withdrawing was tried, which says nothing of quantities
    if name == "truthful_quantity":
        tried = [o for o in books if o.found[kind].tried > sum(1 for x in o.book.orders if x.e_wh)]
    note = "the rule takes no such report" if any(o.found[kind].not_applicable for o in books) else "no such book"
    return _Looked(len(tried), tuple(o for o in tried if o.gain_u(kind) > 0), note)


def smallest(
    rule: Rule, name: str, broken: Sequence[Outcome], search: Search, starts: int = 4
) -> Counterexample | None:
    """The smallest counterexample: ``starts`` books with the fewest orders are shrunk, the smallest outcome is kept."""
    thorough = Search(split=search.split, identity=search.identity, imbalance_u=search.imbalance_u)
    budget = _budget_held(rule)

    def refutes(book: AuditBook | MeterBook) -> Evidence | None:
        return refute(name, rule, book, thorough, budget)

    ranked = sorted(broken, key=lambda o: (_length(o.book), o.book.family, o.book.index))
    best: Counterexample | None = None
    for outcome in ranked[:starts]:
        book = outcome.book
        start = book
        if name == "terms" and isinstance(book, AuditBook) and isinstance(rule, BidRule):
            start = binding_terms(rule, book)
        found = shrink(name, start, refutes)
        if found is not None and (best is None or _size(found) < _size(best)):
            best = found
    return best


def _length(book: AuditBook | MeterBook) -> int:
    return len(book.orders) if isinstance(book, AuditBook) else len(book.meters.members)


def _size(example: Counterexample) -> tuple[int, int]:
    """Orders first, then the sum of the numbers."""
    book = example.evidence.book
    if isinstance(book, AuditBook):
        return len(book.orders), sum(o.e_wh + abs(o.price_u) for o in book.orders)
    m = book.meters
    return len(m.members), sum(abs(n) for n in m.net_wh) + sum(m.retail_u) + sum(m.feed_in_u)
