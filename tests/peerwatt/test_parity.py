"""Parity of contexts: virtual time and the wall clock with a battery behind Modbus TCP give the same books.

simulate   |---------------- one window ----------------|
shadow     |-|-|-|-| ... one slot at a time, set-points over a real socket
"""

from __future__ import annotations

from pathlib import Path

import pytest

import peerwatt

TABLES = (
    "slots",
    "buildings",
    "trades",
    "buses",
    "branches",
    "ledger",
    "violations",
    "certificates",
    "origins",
    "bills",
)
EMULATED = {"buildings[home-1].plant": "emulated"}


def bytes_of(run: peerwatt.Run, table: str) -> list[bytes]:
    return [part.read_bytes() for part in sorted((run.folder / f"{table}.parquet").iterdir())]


def assert_same_books(a: peerwatt.Run, b: peerwatt.Run) -> None:
    assert a.static.run_id == b.static.run_id
    for table in TABLES:
        assert bytes_of(a, table) == bytes_of(b, table), table


@pytest.mark.slow
def test_paced_with_a_battery_behind_modbus_gives_the_same_bytes(tmp_path: Path) -> None:
    virtual = peerwatt.run("street5", tmp_path / "virtual", overrides=EMULATED, report=False)
    paced = peerwatt.run("street5", tmp_path / "paced", overrides=EMULATED, report=False, speed=20_000)
    assert virtual.table("buildings").charge_wh.sum() > 0, "the battery must have something to do"
    assert_same_books(virtual, paced)


@pytest.mark.campaign
def test_a_day_a_thousand_times_faster_than_the_wall_clock(tmp_path: Path) -> None:
    virtual = peerwatt.run("street5", tmp_path / "virtual", overrides=EMULATED, report=False)
    paced = peerwatt.run("street5", tmp_path / "paced", overrides=EMULATED, report=False, speed=1_000)
    assert_same_books(virtual, paced)
