"""The README's commands and snippets, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from market.registry import rule_classes
from tests.docs.pages import ROOT, blocks_of, follow


@pytest.mark.slow
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("", encoding="utf-8")  # the environment is the one the tests run in
    printed = "\n".join(follow(ROOT / "README.md", tmp_path))
    assert "uniform_price" in printed
    assert (tmp_path / "runs" / "my-street" / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_pages_have_blocks_to_run(page: str) -> None:
    assert sum(block.language == "bash" for block in blocks_of(ROOT / page)) >= 1


def test_every_shipped_rule_is_listed_once() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("rules are shipped:") : text.index("## How the layers fit")]
    shipped = [name for name, cls in rule_classes().items() if cls.__module__.startswith("market.rules.")]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(shipped)
    assert f"{len(shipped)} rules are shipped" in text
