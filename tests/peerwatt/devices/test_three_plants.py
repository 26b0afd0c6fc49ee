"""R30: one scenario file on models, on emulators of this process, and on a device known by its address alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import DeviceError
from peerwatt.results.verify import verify_run
from tests.peerwatt.devices.street20 import street

pytestmark = pytest.mark.timed

SPEED = 600.0
TIME = {"start": "2016-05-25T09:00", "end": "2016-05-25T11:00", "slot_minutes": 30, "zone": "Europe/Berlin"}
SUNSPEC = {"kind": "emulated", "profile": "sunspec"}
COLUMNS = ["charge_wh", "discharge_wh", "pv_wh"]

FLEET = """
name: bench
speed: {speed}
sites:
  - devices:
      - id: bench-1
        kind: battery
        settings: {{capacity_wh: 730, soc: 0.14, min_soc: 0.05, charge_w: 310, discharge_w: 270, rating_w: 400,
                   efficiency: 0.935, ramp_w_per_s: 400}}
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tenth of h02's battery, emulated in a process of its own; its address."""
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "fleet.yaml"
    file.write_text(FLEET.format(speed=SPEED))
    command = [sys.executable, "-m", "peerwatt", "emulate", str(file), "--quiet"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    ) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"(tcp://\S+) unit 1", process.stdout.readline())
            assert found is not None, "the emulator says where it listens"
            yield found[1]
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.slow
def test_sunspec_devices_in_real_time_keep_to_their_bound(tmp_path: Path) -> None:
    """Batteries and PV as emulated SunSpec devices, one of them ten times smaller than what it stands for."""
    plants = {"h02": SUNSPEC | {"scale": 10.0}, "h14": SUNSPEC, "h10": SUNSPEC}
    time = TIME | {"start": "2016-05-25T10:00"}
    for attempt in ("once", "again"):  # 2,400 times faster than life, a processor that is busy for a moment is an hour
        run = peerwatt.run(street(plants, time=time), tmp_path / attempt, report=False, speed=2_400)
        told = run.summary["devices"]
        if told["within_bound"]:
            break
    assert told["count"] == 5 and told["within_bound"], told["remark"]
    assert told["substituted_slots"] == 0 and told["refused_set_points"] == 0
    assert 0 < told["deviation_kwh"] < told["bound_kwh"]
    for device in told["by_device"]:
        assert abs(device["measured_kwh"]) > 0.2, device
    curtailed = run.table("buildings").query("building == 'h10'")
    assert curtailed["curtailed_wh"].sum() > 500, "a limit was held"
    pv = next(d for d in told["by_device"] if (d["building"], d["asset"]) == ("h10", "pv"))
    assert pv["deviation_kwh"] < 0.1 * abs(pv["expected_kwh"]) + 0.5


def traces(run: peerwatt.Run, home: str) -> Any:
    table = run.table("buildings")
    return table[table["building"] == home][COLUMNS].to_numpy(np.int64)


@pytest.mark.slow
def test_r30_one_file_on_the_model_on_emulators_and_on_a_device_at_an_address(tmp_path: Path, elsewhere: str) -> None:
    """Three traces; the differences are reported against a stated bound, and the run ids are one."""
    away = {"kind": "emulated", "address": elsewhere, "scale": 10.0}
    runs = {
        name: peerwatt.run(street({"h02": plant}, time=TIME), tmp_path / name, report=False, speed=speed)
        for name, plant, speed in (
            ("model", "model", None),
            ("zero-latency", "emulated", SPEED),
            ("emulated", SUNSPEC, SPEED),
            ("elsewhere", away, SPEED),
        )
    }
    assert len({run.static.run_id for run in runs.values()}) == 1
    model = traces(runs["model"], "h02")
    assert model[:, 0].sum() > 500 and model[:, 2].sum() > 1_000
    assert np.array_equal(traces(runs["zero-latency"], "h02"), model)
    for name in ("emulated", "elsewhere"):
        told = runs[name].summary["devices"]
        assert told["within_bound"], told["remark"]
        assert told["substituted_slots"] == 0 and told["refused_set_points"] == 0, told
        assert told["bound_kwh"] < 0.35 * model.sum() / 1000, "a bound that says something"
        battery = next(d for d in told["by_device"] if d["asset"] == "battery")
        assert abs(battery["measured_kwh"]) > 0.3
        gap_wh = np.abs(traces(runs[name], "h02") - model).sum()
        assert gap_wh <= 2000 * told["bound_kwh"], (name, gap_wh, told["bound_kwh"])
        assert verify_run(runs[name].folder).ok, str(verify_run(runs[name].folder))
    others = [home for home in model_homes(runs["model"]) if home != "h02"]
    for name, run in runs.items():
        for home in others:
            assert np.array_equal(traces(run, home), traces(runs["model"], home)), (name, home)
    assert runs["elsewhere"].summary["devices"]["by_device"][0]["device"] == elsewhere


def model_homes(run: peerwatt.Run) -> list[str]:
    return [building.id for building in run.static.buildings]


@pytest.mark.slow
def test_what_does_not_call_itself_emulated_is_not_written_to(tmp_path: Path) -> None:
    """A real inverter's address in the wrong place of a scenario: refused before anything is written."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.format(speed=SPEED).replace("rating_w: 400,", 'rating_w: 400, manufacturer: "ACME",'))
    command = [sys.executable, "-m", "peerwatt", "emulate", str(file), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            plant = {"kind": "emulated", "address": address, "scale": 10.0}
            with pytest.raises(DeviceError, match="'ACME'") as caught:
                peerwatt.run(street({"h02": plant}, time=TIME), tmp_path / "run", report=False, speed=SPEED)
            assert "guardian" in (caught.value.remedy or "")
        finally:
            process.terminate()
            process.wait(20)
