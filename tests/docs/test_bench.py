"""The bench tutorial, followed to the letter on the emulator; what its commands print is held against the page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import peerwatt
from tests.docs.pages import FENCE, ROOT

pytestmark = pytest.mark.campaign  # seven minutes: a guardian with its real timer, and a market in real time

PAGE = ROOT / "docs" / "bench.md"
EXAMPLES = ROOT / "examples" / "bench"
PORTS = ("5020", "5080", "8000")
"""Ports that the page and its files name; free ones stand in for them here."""
READY_S = 60.0
BLOCK_S = 420.0


@dataclass(frozen=True, slots=True)
class Done:
    """A block that was run: its section, its commands, what was printed, and what the page says was printed."""

    section: str
    command: str
    printed: str
    shown: str


@dataclass(slots=True)
class Desk:
    """The folder, the ports, and the terminals in which something runs on."""

    folder: Path
    ports: dict[str, str]
    open: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def told(self, text: str) -> str:
        """The text with the ports of this test."""
        return re.sub("|".join(rf"\b{port}\b" for port in PORTS), lambda found: self.ports[found[0]], text)

    @property
    def environment(self) -> dict[str, str]:
        here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": here, "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}

    def start(self, command: str, until: str) -> str:
        """Run something that goes on, in a process group of its own, until it says ``until``; what it said."""
        log = self.folder / f"terminal-{len(self.open)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.open.append(process)
        deadline = time.monotonic() + READY_S
        while until not in (said := log.read_text(encoding="utf-8")):
            assert process.poll() is None, f"{command}\n--- ended:\n{said}"
            assert time.monotonic() < deadline, f"{command}\n--- never said {until!r}:\n{said}"
            time.sleep(0.1)
        return said

    def run(self, language: str, command: str) -> str:
        """Run a block to its end; what it printed. Its process group is gone afterwards, whatever happened."""
        shell = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        process = subprocess.Popen(
            [*shell, command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=BLOCK_S)
        except BaseException:
            end_group(process)
            raise
        end_group(process)
        assert process.returncode == 0, f"{command}\n--- failed:\n{printed}"
        return printed

    def close(self) -> None:
        """End everything that still runs: guardians first, so that they leave their devices in order."""
        for process in reversed(self.open):
            end_group(process)


def end_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """SIGTERM to the group of a process that we started, SIGKILL to what is left of it."""
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + patience_s
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def free_ports() -> dict[str, str]:
    """A free port for each that the page names."""
    with_sockets = [socket.socket() for _ in PORTS]
    try:
        for one in with_sockets:
            one.bind(("127.0.0.1", 0))
        return {name: str(one.getsockname()[1]) for name, one in zip(PORTS, with_sockets, strict=True)}
    finally:
        for one in with_sockets:
            one.close()


def follow_bench(desk: Desk) -> list[Done]:
    """Do what the page says, in order."""
    page = PAGE.read_text(encoding="utf-8")
    done: list[Done] = []
    for found in FENCE.finditer(page):
        language, info, text = found.groups()
        section = re.findall(r"^## (.*)$", page[: found.start()], re.MULTILINE)[-1]
        if language == "text":
            last = done.pop()
            done.append(Done(last.section, last.command, last.printed, text))
        elif until := re.search(r"until=(\S+)", info):
            done.append(Done(section, text, desk.start(desk.told(text), until.group(1)), ""))
        elif language in {"bash", "python"}:
            done.append(Done(section, text, desk.run(language, desk.told(text)), ""))
    return done


def without_numbers(line: str) -> str:
    """A line as it would be in any run: digests and numbers are #, blanks are one."""
    line = re.sub(r"\b[0-9a-f]{16,}\b", "#", line)
    return " ".join(re.sub(r"\d+([.,:]\d+)*", "#", line.replace("-", " ")).split())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Done]]]:
    """A folder in which every step of the page was done, and what was printed."""
    folder = tmp_path_factory.mktemp("bench")
    desk = Desk(folder, free_ports())
    for file in EXAMPLES.iterdir():
        if file.is_file():
            (folder / file.name).write_text(desk.told(file.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    try:
        yield folder, follow_bench(desk)
    finally:
        desk.close()


def of_step(done: list[Done], number: int) -> str:
    """All that was printed in a step."""
    return "\n".join(one.printed for one in done if one.section.startswith(f"{number}. "))


def readings(printed: str, name: str) -> list[float]:
    """Values of a reading wherever it is printed, by `probe` or by `hold.py`, in order."""
    return [float(value) for value in re.findall(rf"(?:^|\s){name}\s+(-?[\d.]+) +\(?good", printed, re.MULTILINE)]


def test_what_the_page_shows_is_what_is_printed(bench: tuple[Path, list[Done]]) -> None:
    _, done = bench
    assert sum(1 for one in done if one.shown) >= 12
    for one in done:
        printed = [without_numbers(line) for line in one.printed.splitlines()]
        at = 0
        for line in filter(None, map(without_numbers, one.shown.splitlines())):
            there = next((i for i in range(at, len(printed)) if line in printed[i]), None)
            assert there is not None, f"{one.section}: {line!r} is not among\n{one.printed}"
            at = there + 1


def test_rehearsing_writes_nothing_and_an_armed_limit_is_obeyed(bench: tuple[Path, list[Done]]) -> None:
    _, done = bench
    rehearsed, armed = (one.printed for one in done if one.section.startswith("4. ") and "hold.py" in one.command)
    assert max(readings(rehearsed, "w")) < -8000
    assert readings(armed, "w")[-1] == pytest.approx(-5000, abs=100)
    left = readings(armed, "limit_left_s")[2:]
    assert max(left) >= 19.0, "the guardian sets the device's timer"
    assert min(left) >= 13.0, "and sets it anew long before its end"


def test_the_killed_guardians_inverter_falls_to_its_safe_value(bench: tuple[Path, list[Done]]) -> None:
    _, done = bench
    killed = next(one.printed for one in done if "kill -9" in one.command)
    before, after = readings(killed, "w")
    assert before == pytest.approx(-5000, abs=100)
    assert after == pytest.approx(-3000, abs=100)
    assert readings(of_step(done, 5), "w")[-1] < -8000, "armed again, it is held at its rating"


def test_the_stop_latches_and_a_person_clears_it(bench: tuple[Path, list[Done]]) -> None:
    _, done = bench
    step = of_step(done, 6)
    assert "1 of 1 devices: safe values written and read back" in step
    assert step.count("inverter-1: lockout") == 1
    assert step.rstrip().endswith("inverter-1: armed")


def test_what_the_device_measured_is_what_the_home_trades(bench: tuple[Path, list[Done]]) -> None:
    folder, done = bench
    run = peerwatt.Run(folder / "runs" / "street")
    (device,) = run.summary["devices"]["by_device"]
    assert device["refused_set_points"] == 0
    assert device["substituted_slots"] == 0
    assert device["within_bound"], device
    rows = run.table("buildings")
    home = rows[rows.building == "home-1"]
    assert home.charge_wh.sum() == round(device["measured_kwh"] * 1000) > 60, "metered, not planned"
    assert (home.export_wh == home.pv_wh - home.charge_wh - home.load_wh).all()
    assert home.sold_wh.sum() > 0
    assert "(market)" in of_step(done, 7)


def test_record_report_and_journal_stand(bench: tuple[Path, list[Done]]) -> None:
    folder, done = bench
    (record,) = (folder / "records").glob("*.json")
    assert record.with_suffix(".html").stat().st_size > 10_000
    assert re.search(r"\d+ records verify", of_step(done, 7))
    said = [log.read_text(encoding="utf-8") for log in sorted(folder.glob("terminal-*.log"))]
    guardians = [text for text in said if "READY" in text]
    assert [("ENDED" in text, "not safe" in text) for text in guardians] == [
        (False, False),  # killed
        (True, False),
        (True, False),
    ]
