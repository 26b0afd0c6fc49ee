"""The page on emulators says what the catalogue and the scripts really are."""

from pathlib import Path

from hardware.emulator.fault_script import script_markdown
from hardware.emulator.faults import catalogue_markdown

PAGE = Path(__file__).parents[3] / "docs" / "emulators.md"


def test_the_page_has_the_catalogue_and_the_format_as_they_are():
    text = PAGE.read_text(encoding="utf-8")
    assert catalogue_markdown().strip() in text, "write catalogue_markdown() into the page again"
    assert script_markdown().strip() in text, "write script_markdown() into the page again"
