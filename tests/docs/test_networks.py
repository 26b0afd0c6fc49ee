"""The snippet of the page on networks, run as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, follow


@pytest.mark.slow
def test_the_snippet_of_the_networks_page_runs(tmp_path: Path) -> None:
    printed = "\n".join(follow(ROOT / "docs" / "networks.md", tmp_path))
    assert printed.startswith("44 ('")
    assert "kWh lost" in printed
