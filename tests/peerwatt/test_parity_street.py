"""Parity of contexts in a street of twenty-two homes, five of which are emulated devices over Modbus TCP.

The same file in virtual time (all models) and paced by the wall clock (four batteries and four PV plants behind real
sockets, zero-latency profile): the same run id, and the same bytes in every table.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy

import peerwatt
from core import DeviceError
from peerwatt.clocks import run_paced, run_virtual
from peerwatt.cycle import SlotCycle
from peerwatt.devices.opening import opened_banks
from peerwatt.devices.recorded import RecordedPlant, Recording, RecordingPlant
from peerwatt.messages import Closed
from peerwatt.plants import ModelPlant, Plant
from peerwatt.prepare import prepare
from peerwatt.results.verify import verify_run
from peerwatt.scenario import load_scenario
from peerwatt.simulate import slot_process
from peerwatt.system import System
from tests.peerwatt.devices.street20 import EMULATED, street
from tests.peerwatt.districts import TABLES

SPEED = 90_000


def table_bytes(run: peerwatt.Run, table: str) -> list[bytes]:
    return [part.read_bytes() for part in sorted((run.folder / f"{table}.parquet").iterdir())]


@pytest.mark.slow
def test_most_homes_modelled_some_emulated_same_bytes(tmp_path: Path) -> None:
    virtual = peerwatt.run(street(), tmp_path / "virtual", report=False)
    paced = peerwatt.run(street(), tmp_path / "paced", report=False, speed=SPEED)
    assert virtual.static.run_id == paced.static.run_id == peerwatt.run(
        street({}), tmp_path / "models", report=False
    ).static.run_id  # fmt: skip
    for table in TABLES:
        assert table_bytes(virtual, table) == table_bytes(paced, table), table
    columns = ["charge_wh", "discharge_wh", "pv_wh", "curtailed_wh"]
    made = paced.table("buildings").groupby("building", observed=True)[columns].sum()
    moved = made["charge_wh"] + made["discharge_wh"]
    assert (moved.loc[["h02", "h05", "h14", "h20"]] > 1_000).all(), "the batteries have something to do"
    assert (made.loc[["h02", "h08", "h14", "h20"], "pv_wh"] > 1_000).all()
    assert made.loc["h08", "curtailed_wh"] > 1_000, "an emulated PV plant holds something back"
    assert np.ptp(paced.table("buses")["v_pu"]) > 0, "and all of it flows through one network"
    told = paced.summary["devices"]
    assert (told["count"], told["deviation_kwh"], told["bound_kwh"], told["within_bound"]) == (8, 0.0, 0.0, True)
    assert {(d["building"], d["asset"]) for d in told["by_device"]} == {
        ("h02", "battery"), ("h05", "battery"), ("h14", "battery"), ("h20", "battery"),
        ("h02", "pv"), ("h08", "pv"), ("h14", "pv"), ("h20", "pv"),
    }  # fmt: skip
    assert "devices" not in virtual.summary


@pytest.mark.slow
def test_scaled_devices_deviate_within_their_bound(tmp_path: Path) -> None:
    """A small device for a large asset: a register's step is that many Wh of the building, and no more is lost."""
    plants = {name: {"kind": "emulated", "scale": scale} for name, scale in (("h02", 10.0), ("h14", 2.5), ("h20", 0.4))}
    scenario = street(plants, outputs={"report": True, "statements": False})
    virtual = peerwatt.run(scenario, tmp_path / "virtual", report=False)
    paced = peerwatt.run(scenario, tmp_path / "paced", speed=SPEED)
    assert virtual.static.run_id == paced.static.run_id
    told = paced.summary["devices"]
    assert told["count"] == 6
    assert 0 < told["deviation_kwh"] <= told["bound_kwh"]
    assert all(device["within_bound"] for device in told["by_device"])
    columns = ["charge_wh", "discharge_wh", "pv_wh"]
    a, b = (run.table("buildings").groupby("building", observed=True)[columns].sum() for run in (virtual, paced))
    for name in plants:
        assert (abs(a.loc[name] - b.loc[name]) <= 40 + 0.01 * a.loc[name]).all(), (a.loc[name], b.loc[name])
    assert verify_run(paced.folder).ok, str(verify_run(paced.folder))
    assert "stood among the models" in (paced.folder / "report.html").read_text()
    assert told["remark"] in paced.summary["notes"]


def records(system: System, plant: Plant, speed: float | None) -> list[Closed]:
    """Every settled slot, one by one, in virtual time or paced by the wall clock."""
    env = simpy.Environment()
    found: list[Closed] = []
    env.process(slot_process(env, SlotCycle(system, plant), found.append, 0, 1))
    until = (system.grid.n + 1) * system.grid.length_s
    if speed is None:
        run_virtual(env, until)
    else:
        asyncio.run(run_paced(env, until, speed))
    return found


def assert_same(a: Any, b: Any, place: str = "") -> None:
    """Equal to the bit, down to each array."""
    assert type(a) is type(b), place
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), place
    elif is_dataclass(a):
        for f in fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name), f"{place}.{f.name}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{k}]")
    elif isinstance(a, dict):
        assert_same(list(a.items()), list(b.items()), place)
    else:
        assert a == b, place


@pytest.mark.slow
def test_the_same_measurements_replayed_give_the_same_books_in_every_context() -> None:
    """Devices that deviate make measurements; those, told again, make the same books, prices and ledgers."""
    plants = {"h02": {"kind": "emulated", "scale": 7.0}, "h20": {"kind": "emulated", "scale": 3.0}}
    system = prepare(load_scenario(street(plants, time={
        "start": "2016-05-25T08:00", "end": "2016-05-25T20:00", "slot_minutes": 30, "zone": "Europe/Berlin"
    })))  # fmt: skip
    with opened_banks(system, speed=SPEED) as banks:
        recording = RecordingPlant(ModelPlant(system, banks.batteries, banks.sources))
        measured = records(system, recording, SPEED)
    assert any(account.deviation_wh for account in banks.accounts), "else this would prove nothing"
    told = recording.recording
    for speed in (None, SPEED):
        assert_same(records(system, RecordedPlant(told), speed), measured)
    models = records(system, ModelPlant(system, *_models(system)), None)
    with pytest.raises(AssertionError):
        assert_same(models, measured)


def _models(system: System) -> tuple[Any, Any]:
    with opened_banks(system, speed=None) as banks:
        return banks.batteries, banks.sources


def test_a_recording_ends_where_it_ends() -> None:
    from core import RunError
    from peerwatt.messages import Window

    with pytest.raises(RunError, match="slot 0"):
        RecordedPlant(Recording()).forecast(Window(0, 1))


def test_a_guardians_device_needs_a_guardian(tmp_path: Path) -> None:
    plants = {"h02": {"kind": "real", "device": "bench-1"}}
    with pytest.raises(DeviceError, match="bench-1") as caught:
        peerwatt.run(street(plants), tmp_path / "a", report=False, speed=1.0)
    assert "--guardian" in (caught.value.remedy or "")
    with pytest.raises(DeviceError, match="does not run 60 times as fast"):
        peerwatt.run(street(plants), tmp_path / "a", report=False, speed=60.0)
    virtual = peerwatt.run(street(plants), tmp_path / "b", report=False)  # a simulation takes models
    assert json.loads((virtual.folder / "manifest.json").read_text())["run_id"] == virtual.static.run_id


def test_the_street_is_mostly_modelled() -> None:
    assert len(street()["buildings"]) >= 20
    assert 3 <= len(EMULATED) <= 5
