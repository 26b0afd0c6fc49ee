"""Interrupted at any point and resumed, a run is the run it would have been; nothing half done passes for a run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import peerwatt
from core import RunError
from peerwatt import cli
from peerwatt.results import layout, parts
from tests.peerwatt.districts import BATTERY, assert_same_tables, assert_verified, district, files_of, home, load, pv
from tests.repo.files import ROOT

PART = 2688


def three_parts(**more: Any) -> dict[str, Any]:
    """Six thousand slots of ten minutes, with state in every place that has any."""
    car = {"kind": "ev", "charge_kw": 3.7, "drawn": {}}
    homes = [
        home("h1", load(), pv(7), BATTERY, bus="Bus R11"),
        home("h2", load("couple"), car, bus="Bus R15", metering_minutes=60),
        home("h3", load("senior"), pv(3), bus="Bus R17"),
        home("store", BATTERY, bus="Bus R3"),
    ]
    scenario = district(*homes, network={"source": "cigre:lv"}, power_flow="batch", **more)
    scenario["time"] = {"start": "2016-03-01", "days": 42, "slot_minutes": 10, "zone": "Europe/Berlin"}
    return scenario


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    return peerwatt.run(three_parts(), tmp_path_factory.mktemp("whole") / "run")


def interrupt_at(slot: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        assert total == 6042  # the hour of the clock change is missing
        if done >= slot:
            raise KeyboardInterrupt

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("slot", [1, PART + 1])
def test_interrupted_and_resumed_gives_the_same_bytes(slot: int, whole: peerwatt.Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(three_parts(), out, progress=interrupt_at(slot))
    assert (out / "INCOMPLETE").is_file()
    with pytest.raises(RunError, match="was interrupted") as refused:
        peerwatt.Run(out)
    assert refused.value.remedy is not None and "resume" in refused.value.remedy
    seen: list[int] = []
    resumed = peerwatt.run(three_parts(), out, resume=True, progress=lambda done, _total: seen.append(done))
    assert seen[0] == (2 * PART if slot == 1 else 6042), "the finished windows were run again"
    assert_same_tables(resumed, whole)
    assert resumed.summary == whole.summary
    ours, theirs = files_of(resumed.folder), files_of(whole.folder)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_resume_of_nothing_starts_and_of_a_finished_run_takes_it_as_it_is(tmp_path: Path) -> None:
    small = district(home("h1", load()))
    run = peerwatt.run(small, tmp_path / "run", resume=True)
    assert_verified(run)
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    peerwatt.run(small, run.folder, resume=True)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before
    with pytest.raises(RunError) as refused:
        peerwatt.run({**small, "seed": 8}, run.folder, resume=True)
    assert refused.value.remedy is not None
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 8}, {"settlement": {"loss_price": {"flat_per_kwh": 0.2}}}])
def test_resume_of_another_scenario_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(three_parts(), tmp_path / "run", progress=interrupt_at(1))
    before = files_of(tmp_path / "run")
    with pytest.raises(RunError, match="another scenario") as refused:
        peerwatt.run(three_parts(**change), tmp_path / "run", resume=True)
    assert refused.value.remedy is not None
    assert files_of(tmp_path / "run") == before


def test_overwriting_keeps_the_old_run_until_the_new_one_is_finished(tmp_path: Path) -> None:
    old_scenario = district(home("h1", load()))
    old = peerwatt.run(old_scenario, tmp_path / "run")
    before, was = files_of(old.folder), old.summary

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    new_scenario = district(home("h1", load(scale=5)))
    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(new_scenario, old.folder, overwrite=True, progress=stop)
    assert files_of(old.folder) == before
    assert_verified(peerwatt.Run(old.folder))
    new = peerwatt.run(new_scenario, old.folder, overwrite=True)
    assert new.summary != was
    assert_verified(new)
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "nothing is left beside it"


def test_without_overwrite_a_finished_run_stays(tmp_path: Path) -> None:
    run = peerwatt.run(district(home("h1", load())), tmp_path / "run")
    before = files_of(run.folder)
    with pytest.raises(RunError) as refused:
        peerwatt.run(district(home("h1", load(scale=5))), run.folder)
    assert refused.value.remedy is not None and "overwrite" in refused.value.remedy
    assert files_of(run.folder) == before


CUTS: dict[str, tuple[object, str, int]] = {
    "between the parts of two tables": (parts.PartWriter, "close_part", 10),
    "in the middle of the ending": (layout, "write_atomic", 12),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", CUTS)
def test_cut_off_while_writing(
    where: str, whole: peerwatt.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, at = CUTS[where]
    real = getattr(place, name)
    calls = 0

    def cut(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, cut)
        with pytest.raises(KeyboardInterrupt):
            peerwatt.run(three_parts(), tmp_path / "run")
    with pytest.raises(RunError):
        peerwatt.Run(tmp_path / "run")
    resumed = peerwatt.run(three_parts(), tmp_path / "run", resume=True)
    assert_same_tables(resumed, whole)
    assert_verified(resumed)


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bytes(
    whole: peerwatt.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL while the second part of a table is being written: no handler runs, files are cut off."""
    scenario = tmp_path / "three.yaml"
    scenario.write_text(yaml.safe_dump(three_parts()))
    code = (
        f"import os, signal, sys; sys.path.append({str(ROOT)!r})\n"
        "from peerwatt.results import parts\n"
        "real = parts.PartWriter.write\n"
        "def write(self, columns):\n"
        "    real(self, columns)\n"
        "    if (self.table, self.part) == ('ledger', 1):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "parts.PartWriter.write = write\n"
        "from peerwatt.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["run", str(scenario), "--out", str(tmp_path / "run"), "--no-report", "--quiet"]
    killed = subprocess.run([sys.executable, "-P", "-c", code, *arguments], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "checkpoint.npz").is_file()
    assert cli.main(["verify", str(tmp_path / "run")]) == cli.USER_ERROR
    assert "resume" in capsys.readouterr().err
    assert cli.main([*arguments, "--resume"]) == 0
    assert_same_tables(peerwatt.Run(tmp_path / "run"), whole)
