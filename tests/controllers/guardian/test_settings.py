"""A site's file: what is wrong in it is said with its line, and what a SunSpec device does not say of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from controllers.guardian.settings import load_site
from core import ScenarioError
from tests.controllers.faults_loop import run
from tests.controllers.guardian.inside import inside

SITE = """name: lab
devices:
  - id: a
    address: tcp://127.0.0.1:1
    refresh: 5
    sunspec: {single_write: true}
"""


def test_unknown_keys_are_named_with_their_line_and_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    with pytest.raises(ScenarioError) as caught:
        load_site(file)
    said = str(caught.value)
    assert "site.yaml:5: devices[0].refresh" in said and "did you mean 'refresh_s'?" in said
    assert "site.yaml:6: devices[0].sunspec.single_write" in said and "did you mean 'single_writes'?" in said


def test_sunspec_options_belong_to_sunspec_devices(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    device = {"id": "a", "address": "tcp://127.0.0.1:1", "profile": "sdm630", "sunspec": {"part": 1}}
    file.write_text(yaml.safe_dump({"name": "lab", "devices": [device]}))
    with pytest.raises(ScenarioError, match="this one is 'sdm630'"):
        load_site(file)
    file.write_text("name: lab\ndevices: []\n")
    with pytest.raises(ScenarioError, match="one device at least"):
        load_site(file)


def test_a_device_that_takes_single_writes_only_is_told_one_register_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        # Model 123: the timers of 704 have two registers each, which one write cannot set.
        listed = [{"id": "d", "controls": {"limit_w": {"safe": "released"}}, "sunspec": {"single_writes": True}}]
        async with inside(tmp_path, {"d": ("hybrid", {"leave_out": (704,)})}, listed) as found:
            found.devices["d"].board.switch_on("only-fc06")
            found.lease("d", "limit_w", 3000.0)
            await asyncio.sleep(4.0)
            assert abs(found.fed_in("d") - 3000.0) < 100.0
            functions = {body["function"] for kind, body in found.notes.kept if kind == "intent"}
            assert functions == {6} and not found.alarms()

    run(story())
