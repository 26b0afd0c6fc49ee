"""What is to be known about a run's devices is said where it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from peerwatt.cli import main
from tests.peerwatt.devices.street20 import street


def test_the_run_says_how_far_its_devices_went_from_the_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    time = {"start": "2016-05-25T10:00", "end": "2016-05-25T11:00", "slot_minutes": 30, "zone": "Europe/Berlin"}
    file = tmp_path / "street.yaml"
    file.write_text(yaml.safe_dump(street({"h05": {"kind": "emulated", "covers": ["battery"]}}, time=time)))
    assert main(["run", str(file), "--out", str(tmp_path / "run"), "--speed", "100000", "--no-report"]) == 0
    assert "1 device stood among the models: " in capsys.readouterr().out
