"""What shipped rules declare survives a quick audit; tests of the table of measured rules do it for all of them."""

from __future__ import annotations

import pkgutil

import pytest

import market.rules
from market.audit import Search, audit
from market.registry import rule_class, rule_classes

SHIPPED = sorted(
    name for name, cls in rule_classes().items() if cls.__module__.startswith(f"{market.rules.__name__}.")
)  # fmt: skip
FAST = ("uniform_price", "pay_as_bid", "pair_price", "vcg", "mcafee", "mid_market_rate", "bill_sharing")


def test_every_file_of_rules_is_audited() -> None:
    files = {info.name for info in pkgutil.iter_modules(market.rules.__path__) if not info.name.startswith("_")}
    assert {rule_class(name).__module__.rsplit(".", 1)[1] for name in SHIPPED} <= files
    assert set(FAST) <= set(SHIPPED) and len(SHIPPED) >= 20


def keeps_its_word(name: str, books: int) -> None:
    report = audit(name, books=books, misreports=Search(most=8))
    assert not report.failed, [str(v.counterexample) for v in report.verdicts if v.refuted]
    assert sum(f["cleared"] for f in report.families.values()) > 0, "it was tried on something"
    assert not any(f["failed"] for f in report.families.values())


@pytest.mark.parametrize("name", FAST)
def test_declarations_survive(name: str) -> None:
    keeps_its_word(name, 2)
