"""Fleets of emulated devices: their files, the part that one process runs, and the command with its HTTP control."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from core import DeviceError, ScenarioError
from hardware.emulator.fleet import FleetPart
from hardware.emulator.fleet_settings import Device, Fleet, Site, default_fleet, expanded, load_fleet
from peerwatt.emulating.processes import dealt_out

FLEET = """\
name: lab
speed: 20
processes: 2
control_port: 0
log: faults.jsonl
sites:
  - id: bench
    loads: [{w: 500}]
    devices:
      - id: roof
        kind: inverter
        settings: {noise: 0}
        faults:
          - {kind: spike, at_s: 0, params: {by: 5000}}
          - {kind: session-limit, at_s: 0, params: {sessions: 1}}
      - {id: meter, kind: meter, settings: {noise: 0}}
  - id: street
    devices:
      - {id: car, kind: charger, count: 3}
"""


def words(port: int, address: int, count: int, unit: int = 1) -> list[int]:
    """Read with another master: mbpoll."""
    done = subprocess.run(
        ["mbpoll", "-0", "-1", "-q", "-m", "tcp", "-a", str(unit), "-t", "4:hex", "-r", str(address), "-c", str(count),
         "-p", str(port), "127.0.0.1"],
        capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    return [int(line.split("0x")[1], 16) for line in done.stdout.splitlines() if "0x" in line]


async def test_a_part_listens_plays_its_scripts_and_logs(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET)
    part = FleetPart(load_fleet(file), ["bench"], str(tmp_path / "faults.jsonl"))
    listening = await part.start()
    try:
        assert [(device["id"], device["kind"]) for device in listening] == [("roof", "inverter"), ("meter", "meter")]
        roof, meter = (int(device["address"].rpartition(":")[2]) for device in listening)
        assert await asyncio.to_thread(words, meter, 40000, 2) == [0x5375, 0x6E53]
        await asyncio.to_thread(words, roof, 40000, 50)
        await asyncio.to_thread(words, roof, 40050, 50)
        kinds = {entry["kind"] for entry in part.answer("log", {"device": "roof"})}
        assert kinds >= {"spike"}
        lines = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
        assert {(line["device"], line["kind"]) for line in lines} >= {("roof", "spike")}
        number = part.answer("switch_on", {"id": "meter", "fault": {"kind": "meter-lost", "for_s": 5}})
        assert number == 1
        with pytest.raises(DeviceError, match="for_s cannot be"):
            part.answer("switch_on", {"id": "meter", "fault": {"kind": "frozen", "for_s": -1}})
        with pytest.raises(DeviceError, match="no 'roof-9' here"):
            part.answer("switch_off", {"id": "roof-9"})
    finally:
        await part.stop()
    with pytest.raises(subprocess.CalledProcessError):
        await asyncio.to_thread(words, meter, 40000, 2)


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    first = FleetPart(default_fleet(0), ["site"])
    port = int((await first.start())[0]["address"].rpartition(":")[2])
    second = FleetPart(default_fleet(port), ["site"])
    with pytest.raises(DeviceError, match=str(port)):
        await second.start()
    await first.stop()


def test_a_count_makes_devices_on_ports_in_a_row() -> None:
    site = Site(devices=(Device(id="pv", kind="inverter", port=6000, count=3),))
    assert [(device.id, device.port) for device in expanded(site)] == [("pv-1", 6000), ("pv-2", 6001), ("pv-3", 6002)]


def test_sites_are_dealt_out_by_their_size() -> None:
    sites = tuple(Site(id=f"s{n}", devices=(Device(id=f"d{n}", kind="load", count=n),)) for n in (5, 1, 2, 3))
    assert dealt_out(Fleet(processes=2, sites=sites)) == [("s5", "s1"), ("s3", "s2")]
    assert len(dealt_out(Fleet(processes=9, sites=sites))) == 4


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("kind: charger", "kind: toaster", 19, "sites[1].devices[0].kind"),
        ("count: 3}", "count: 0}", 19, "greater than or equal to 1"),
        ("speed: 20", "sped: 20", 2, "sped: the key 'sped' is unknown"),
        ("id: car", "id: meter", None, "a name stands twice: meter"),
        ("{by: 5000}", "{bye: 1}", 14, "spike has no parameter 'bye'"),
        ("loads: [{w: 500}]", "loads: [{w: 500, node: shed}]", 7, "no node 'shed'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(
    tmp_path: Path, old: str, new: str, line: int | None, reason: str
) -> None:
    file = tmp_path / "fleet.yaml"
    text = FLEET.replace(old, new, 1)
    if old == "id: car":
        text = text.replace("count: 3", "count: 1")
    file.write_text(text)
    with pytest.raises(ScenarioError) as error:
        load_fleet(file)
    assert reason in str(error.value)
    assert line is None or f"fleet.yaml:{line}:" in str(error.value)


@contextmanager
def emulating(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`peerwatt emulate` in a process of its own; the lines up to and with its last address."""
    command = [sys.executable, "-m", "peerwatt", "emulate", *arguments, "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline()]
        yield process, lines
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_command_without_a_file_and_its_end() -> None:
    with emulating("--port", "0") as (process, lines):
        address = lines[0].split()[0]
        assert address.startswith("tcp://127.0.0.1:") and "hybrid" in lines[0]
        port = int(address.rpartition(":")[2])
        assert words(port, 40000, 4) == [0x5375, 0x6E53, 1, 66]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        with pytest.raises(subprocess.CalledProcessError):
            words(port, 40000, 2)


@pytest.mark.slow
def test_the_control_switches_faults_over_processes(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with emulating(str(tmp_path / "fleet.yaml")) as (process, lines):
        assert process.stdout is not None
        while not lines[-1].startswith("control "):
            lines.append(process.stdout.readline())
            assert lines[-1], "the command ended"
        with httpx.Client(base_url=lines[-1].split()[1]) as control:
            devices = {device["id"]: device for device in control.get("/devices").json()}
            assert list(devices) == ["roof", "meter", "car-1", "car-2", "car-3"]
            assert len(control.get("/catalogue").json()) > 60
            roof, car = (int(devices[name]["address"].rpartition(":")[2]) for name in ("meter", "car-2"))
            before = words(car, 0, 4)
            made = control.post("/devices/car-2/faults", json={"kind": "exception-4", "for_s": 1e6})
            assert made.status_code == 201, made.text
            with pytest.raises(subprocess.CalledProcessError):
                words(car, 0, 4)
            assert control.delete("/devices/car-2/faults").status_code == 204
            assert words(car, 0, 4) == before
            log = control.get("/log", params={"kind": "exception-4"}).json()
            assert log and {entry["device"] for entry in log} == {"car-2"}
            assert control.put("/sites/bench", json={"v_pu": 1.05}).json()["v_pu"] == 1.05
            refused = control.post("/devices/car-2/faults", json={"kind": "exception-9"})
            assert refused.status_code == 422 and "did you mean" in refused.json()["detail"]
            assert control.get("/devices", headers={"Host": "evil.example"}).status_code == 400
            assert control.post("/devices/nobody/faults", json={"kind": "frozen"}).status_code == 422
            assert words(roof, 40000, 2) == [0x5375, 0x6E53]
            assert control.post("/stop").status_code == 202
        assert process.wait(20) == 0
    assert '"exception-4"' in (tmp_path / "faults.jsonl").read_text()
