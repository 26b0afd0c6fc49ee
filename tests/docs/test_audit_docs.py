"""The page on the audit: its snippet runs, and it names every property, metric and family, and what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from market.audit import FAMILIES, METER_FAMILIES
from market.audit.metrics import METRICS
from market.audit.misreport import PERCENT
from market.audit.properties import TITLES
from market.audit.run import BOOKS, QUICK, QUICK_BOOKS
from market.rules.random_pairs import RandomPairs
from peerwatt.audit_command import search_for
from tests.docs.pages import ROOT, follow

PAGE = ROOT / "docs" / "audit.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_snippet_runs(tmp_path: Path) -> None:
    (printed,) = follow(PAGE, tmp_path)
    assert re.match(r"not declared, fails on \d of 8 books\n  b\d\d buys", printed)


def test_every_metric_has_its_row() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", TEXT, re.MULTILINE)
    assert [row for row in rows if row in {m.title for m in METRICS.values()}] == [m.title for m in METRICS.values()]


def test_every_property_and_family_is_named() -> None:
    titles = set(TITLES.values()) - {"truthful in price", "truthful in quantity"}
    assert "truthful in price, in quantity" in TEXT
    assert not [title for title in titles if title not in TEXT]
    assert not [name for name in (*FAMILIES, *METER_FAMILIES) if f"`{name}`" not in TEXT]


def test_numbers_are_those_of_the_code() -> None:
    *first, last = PERCENT[1:]
    assert f"0 (withdrawing), {', '.join(map(str, first))} and {last} %" in TEXT
    assert f"with {BOOKS} books each" in TEXT and f"tried at {QUICK.most}, on {QUICK_BOOKS} books" in TEXT
    assert f"are tried at {search_for(RandomPairs()).most} prices" in TEXT.replace("\n", " ")


def test_the_sections_of_the_page_are_listed() -> None:
    source = (ROOT / "peerwatt" / "report" / "audit_page.py").read_text(encoding="utf-8")
    sections = re.findall(r'Section\("\w+", "([^"]+)"', source)
    assert len(sections) > 8
    assert not [title for title in sections if f"| {title} |" not in TEXT]
