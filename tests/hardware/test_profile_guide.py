"""The guide to a device of one's own, followed to the letter, and the texts that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks_of, follow

PAGE = ROOT / "docs" / "add-a-device.md"


@pytest.mark.slow  # seven processes that start anew
def test_the_guide_does_what_it_shows(tmp_path: Path) -> None:
    printed = [text for text in follow(PAGE, tmp_path) if text]
    shown = [block.text for block in blocks_of(PAGE) if block.language == "text"]
    assert printed == shown
    assert (tmp_path / "profile.schema.json").stat().st_size > 5_000
