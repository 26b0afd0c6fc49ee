"""The examples for running it as a service say what the command understands, and the unit gives nothing away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from peerwatt.cli import build_parser

FOLDER = Path(__file__).parents[3] / "examples" / "service"


def test_the_unit_starts_the_command() -> None:
    unit = (FOLDER / "peerwatt.service").read_text()
    (start,) = re.findall(r"^ExecStart=\S+/peerwatt (.*)$", unit, re.MULTILINE)
    words = start.replace("${SCENARIO}", "street5").replace("${STATE_DIRECTORY}", "/var/lib/peerwatt")
    args = build_parser().parse_args(words.replace("$OPTIONS", "--speed 1 --port 8000").split())
    assert args.command == "serve" and args.data == Path("/var/lib/peerwatt")


def test_the_unit_is_hardened() -> None:
    """By the system's own judgement where it is installed; by name everywhere."""
    file = FOLDER / "peerwatt.service"
    lines = set(file.read_text().splitlines())
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "StateDirectory=peerwatt", "NoNewPrivileges=yes"):
        assert line in lines
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(file)], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"Overall exposure level for peerwatt.service: ([0-9.]+)", told)
    if found is None:
        pytest.skip("this systemd-analyze does not judge files")
    assert float(found[1]) < 2.0, told


def test_the_container_starts_the_command() -> None:
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    words = [
        w for key in ("ENTRYPOINT ", "CMD ") for ln in lines if ln.startswith(key) for w in json.loads(ln[len(key) :])
    ]
    args = build_parser().parse_args(words[1:])
    assert words[0] == "peerwatt" and args.command == "serve" and args.scenario == "street5"


def test_the_composition_starts_the_command() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    args = build_parser().parse_args(["serve", *services["market"]["command"]])
    assert args.behind_proxy and args.mqtt_plain and args.journal.startswith("postgresql://")
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    assert {"PGPASSWORD", "PEERWATT_MQTT_PASSWORD"} <= set(services["market"]["environment"])
