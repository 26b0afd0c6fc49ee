"""A false declaration is refuted in every property, with a counterexample that nothing can be taken from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from market.audit import AuditBook, AuditReport, MeterBook, Search, audit
from market.audit.properties import refute
from market.registry import Rule, load_rule_file, make_rule

LIES = ("ir", "budget", "efficient", "truthful_price", "truthful_quantity")
TEXT = (Path(__file__).parent / "rule_that_lies.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Rule:
    file = tmp_path_factory.mktemp("rules") / "liar.py"
    file.write_text(TEXT.replace("NAME", "liar_of_the_audit_tests"), encoding="utf-8")
    (rule,) = load_rule_file(file)
    return make_rule(rule)


@pytest.fixture(scope="module")
def report(liar: Rule) -> AuditReport:
    return audit(liar, families=["uniform", "unit", "thin"], books=6, misreports=Search(most=12))


def smaller(book: AuditBook | MeterBook) -> Iterator[AuditBook]:
    """Every book with one order less, or one number lower."""
    assert isinstance(book, AuditBook)
    orders = book.orders
    for i, o in enumerate(orders):
        yield book.with_orders([*orders[:i], *orders[i + 1 :]])
        for e_wh in range(o.e_wh):
            yield book.with_orders([*orders[:i], replace(o, e_wh=e_wh), *orders[i + 1 :]])
        for price_u in range(o.price_u):
            yield book.with_orders([*orders[:i], replace(o, price_u=price_u), *orders[i + 1 :]])


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.slow
def test_each_lie_is_refuted_by_a_minimal_book(report: AuditReport, liar: Rule, lie: str) -> None:
    verdict = report.verdict(lie)
    assert verdict.verdict == "refuted" and verdict.violations > 0
    example = verdict.counterexample
    assert example is not None and example.smallest
    book = example.evidence.book
    assert isinstance(book, AuditBook) and len(book.orders) <= 3
    assert max(max(o.e_wh, o.price_u) for o in book.orders) <= 10, str(example)
    thorough = Search()
    assert refute(lie, liar, book, thorough) is not None
    tried = list(smaller(book))
    assert tried
    for less in tried:
        assert refute(lie, liar, less, thorough) is None, f"{less.orders} refutes {lie} too"


def test_the_report_fails_and_says_why(report: AuditReport) -> None:
    assert report.failed
    # who does not keep ir as declared breaks members' ceilings too
    assert {v.name for v in report.verdicts if v.refuted} == {*LIES, "terms"}
    assert report.verdict("laws").verdict == "holds"
    text = str(report.verdict("ir").counterexample)
    assert " Wh at " in text and "below zero" in text


def test_broken_terms_are_shown(report: AuditReport) -> None:
    example = report.verdict("terms").counterexample
    assert example is not None and example.smallest
    book = example.evidence.book
    assert isinstance(book, AuditBook)
    ((agent, terms),) = book.context.terms.items()
    assert terms.ceiling_u is not None and terms.ceiling_u <= 10
    assert max(max(o.e_wh, abs(o.price_u)) for o in book.orders) <= 10, "terms get smaller with the prices"
    assert all(o.price_u <= terms.ceiling_u for o in book.orders if o.agent_id == agent), "it asked for nothing else"
    text = str(example)
    assert f"own terms: {agent} buys for no more than {terms.ceiling_u}" in text
    assert f"-> {agent} pays 3 for " in text and f"above its ceiling of {terms.ceiling_u}" in text
    assert example.as_dict()["book"]["context"]["terms"] == {agent: {"ceiling_u": terms.ceiling_u}}


@pytest.mark.slow
def test_the_same_counterexample_every_time(report: AuditReport, liar: Rule) -> None:
    again = audit(liar, families=["uniform", "unit", "thin"], books=6, misreports=Search(most=12))
    assert again.to_json() == report.to_json()


BROKEN = """
from dataclasses import dataclass
from typing import ClassVar

from market.registry import BidRule, Declares, register_rule
from market.result import Result


@register_rule
@dataclass(frozen=True, kw_only=True)
class Broken(BidRule):
    name: ClassVar[str] = "broken_of_the_audit_tests"
    declares: ClassVar[Declares] = Declares(budget="none")

    def clear(self, book, context):
        if len(book) > 3:
            raise ZeroDivisionError("too many")
        return Result(fills={x: min(q, 1) for x, q in zip(book.order_ids, book.e_wh)}, payments={})
"""


def test_a_rule_that_breaks_laws_or_raises_is_refuted(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN, encoding="utf-8")
    (rule,) = load_rule_file(file)
    report = audit(rule, families=["uniform"], books=4, misreports=Search(most=4))
    laws = report.verdict("laws")
    assert laws.verdict == "refuted" and laws.violations == 4
    assert laws.counterexample is not None
    assert len(laws.counterexample.evidence.book.orders) == 1  # type: ignore[union-attr]
    assert "bought minus sold" in laws.counterexample.evidence.sentence
    assert report.verdict("ir").verdict == "not applicable"
