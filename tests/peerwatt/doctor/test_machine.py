"""``peerwatt doctor`` on the machine, its disk and its clock: what is wrong is found, what is right is left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from peerwatt.doctor import Status
from peerwatt.doctor.clock import Discipline, check_steps, check_synchronised, clocks_apart_s, read_discipline
from peerwatt.doctor.disk import (
    SyncCost,
    check_file_system,
    check_folder,
    check_modes,
    check_space,
    check_syncs,
    file_system_of,
    measure_syncs,
)
from peerwatt.doctor.machine import (
    check_machine,
    check_open_files,
    check_packages,
    check_python,
    check_time_zones,
    release,
    satisfies,
)

OK, WARN, FAIL = Status.OK, Status.WARN, Status.FAIL


# --- Python and packages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "bounds", "holds"),
    [
        ("2.5", ">=2.5", True),
        ("2.5.0", ">=2.5", True),
        ("2.4.9", ">=2.5", False),
        ("2.10", ">=2.9", True),
        ("3.5.6", "==3.5.6", True),
        ("3.5.7", "==3.5.6", False),
        ("3.14.1", ">=3.11,<3.15", True),
        ("3.15.0rc1", ">=3.11,<3.15", False),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_by_number(version: str, bounds: str, holds: bool) -> None:
    assert satisfies(version, bounds) is holds


def test_a_release_is_what_a_version_begins_with() -> None:
    assert release("2.10.0rc1") == (2, 10)


def test_this_environment_is_the_one_peerwatt_is_tested_in() -> None:
    assert check_python().status == OK
    assert check_packages().status == OK


def test_a_package_that_is_old_or_missing_is_named() -> None:
    there = {"fastapi": "0.90", "uvicorn": "0.54"}
    wanted = ["fastapi>=0.140", "uvicorn>=0.54", "sqlalchemy[asyncio]>=2.1", 'pytest>=9; extra == "dev"']
    found = check_packages(wanted, there.get)
    assert found.status == FAIL
    assert found.figures["wrong"] == ["fastapi 0.90 is not >=0.140", "sqlalchemy is missing"]
    assert check_packages(["uvicorn>=0.54"], there.get).status == OK


def test_little_memory_is_told(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  900000 kB\nMemAvailable:  204800 kB\n")
    found = check_machine(meminfo)
    assert (found.status, found.figures["free_memory_mib"]) == (WARN, 200)
    assert check_machine().figures["cores"] >= 1


def test_few_open_files_are_told() -> None:
    assert check_open_files(1024).status == WARN
    assert check_open_files(65_536).status == OK
    assert check_open_files().check == "open files"


def test_missing_time_zones_are_told() -> None:
    assert check_time_zones().status == OK
    assert check_time_zones("Europe/Atlantis").status == FAIL


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_syncs_are_measured_on_the_disk_and_leave_nothing_behind(tmp_path: Path) -> None:
    cost = measure_syncs(tmp_path, 20)
    assert 0 < cost.p50_ms <= cost.p99_ms <= cost.max_ms
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cost", "status"),
    [
        (SyncCost(0.08, 0.7, 3.0), OK),
        (SyncCost(0.001, 0.002, 0.01), WARN),  # no disk is that fast
        (SyncCost(9.0, 25.0, 60.0), WARN),
        (SyncCost(2.0, 10.5, 11.0), WARN),
    ],
)
def test_the_cost_of_syncs_is_judged(tmp_path: Path, cost: SyncCost, status: Status) -> None:
    assert check_syncs(tmp_path, lambda _: cost).status == status


def test_a_disk_that_takes_no_writes_fails(tmp_path: Path) -> None:
    def full(_: Path) -> SyncCost:
        raise OSError(28, "No space left on device")

    found = check_syncs(tmp_path, full)
    assert found.status == FAIL
    assert "No space left" in found.sentence


def test_a_folder_in_memory_is_told(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:25 / {tmp_path} rw - tmpfs tmpfs rw\n"
        "31 22 0:26 / /elsewhere rw - nfs4 server:/ rw\n"
    )
    assert file_system_of(tmp_path / "not" / "there", mounts) == "tmpfs"
    assert file_system_of(Path("/"), mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("kind", "status"), [("ext4", OK), ("tmpfs", WARN), ("overlay", WARN), ("nfs4", FAIL), (None, OK)]
)
def test_the_file_system_is_judged(tmp_path: Path, kind: str | None, status: Status) -> None:
    assert check_file_system(tmp_path, lambda _: kind).status == status


def test_a_real_memory_file_system_is_seen() -> None:
    shared = Path("/dev/shm")
    if file_system_of(shared) != "tmpfs":
        pytest.skip("no file system in memory on this machine")
    assert check_file_system(shared).status == WARN


def test_space_is_judged(tmp_path: Path) -> None:
    assert check_space(tmp_path, 5 << 30).status == OK
    assert check_space(tmp_path, 500 << 20).status == WARN
    assert check_space(tmp_path, 5 << 20).status == FAIL
    assert check_space(tmp_path / "not" / "yet").figures["free_bytes"] > 0


def test_a_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert check_folder(tmp_path / "data").status == FAIL
    assert check_folder(tmp_path / "yet").status == OK
    assert check_folder(tmp_path).status == OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_nobody_may_write_fails(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert check_folder(tmp_path / "data").status == FAIL
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_folder_that_may_not_be_read_fails_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert check_folder(tmp_path).status == FAIL


def test_keys_that_others_may_read_fail(tmp_path: Path) -> None:
    assert check_modes(tmp_path).status == OK
    key, vault = tmp_path / "admin.key", tmp_path / "vault.sqlite"
    key.write_text("x")
    vault.write_text("x")
    key.chmod(0o600)
    vault.chmod(0o600)
    assert check_modes(tmp_path).status == OK
    vault.chmod(0o640)
    found = check_modes(tmp_path)
    assert (found.status, found.figures["files"]) == (FAIL, ["vault.sqlite"])


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discipline", "status"),
    [
        (Discipline(True, 0.02, 3.0), OK),
        (Discipline(True, 4.0, 3.0), WARN),
        (Discipline(False, 16.0, 0.0), WARN),
        (None, WARN),
    ],
)
def test_a_clock_that_follows_nobody_is_told(discipline: Discipline | None, status: Status) -> None:
    assert check_synchronised(lambda: discipline).status == status


def test_the_kernel_is_really_asked() -> None:
    found = read_discipline()
    if found is None:
        pytest.skip("this system has no adjtimex, or does not allow it")
    assert 0.0 <= found.max_error_s < 1e4
    assert abs(found.rate_ppm) <= 500.0


def test_a_clock_that_is_set_while_we_look_is_told() -> None:
    assert check_steps(lambda: 0.0001).status == OK
    assert check_steps(lambda: -3600.0).status == WARN
    assert abs(clocks_apart_s(0.01)) < 60.0
