"""The page on the origin of energy: its examples run, its scenario loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from peerwatt.scenario import load_scenario
from tests.docs.pages import ROOT, blocks_of, follow
from tests.peerwatt.districts import district, flat, home, load

PAGE = ROOT / "docs" / "origin.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    assert follow(PAGE, tmp_path)


def test_the_scenario_part_is_understood() -> None:
    (part,) = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    contracts = {"default": flat(), "green": flat()}
    scenario = load_scenario(district(home("h1", load()), contracts=contracts, **yaml.safe_load(part))).scenario
    assert scenario.origin.storage == "fifo"
    assert scenario.origin.supplier_mix["green"] == {"hydro": 0.7, "wind": 0.3}
