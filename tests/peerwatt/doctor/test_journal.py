"""``peerwatt doctor`` on journals: a sound one is called sound, a damaged one is found, and nothing is written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from market.journal.protocol import Draft, Head, Snapshot, chained
from market.journal.sqlite import SqliteJournal
from market.journal.vault_sqlite import SqliteVault
from peerwatt.doctor import Finding, Status, examine
from peerwatt.doctor.journal import check_journal
from peerwatt.doctor_command import add_doctor

OK, WARN, FAIL = Status.OK, Status.WARN, Status.FAIL


async def _write(folder: Path, n: int, snapshot_at: int = 0) -> Head:
    journal = await SqliteJournal.at(folder / "journal.sqlite")
    vault = await SqliteVault.at(folder / "vault.sqlite")
    for i in range(n):
        record = chained(journal.head, Draft(1_000_000 + i, "note", b'{"n":%d}' % i))
        await journal.append([record])
        if record.seq == snapshot_at:
            await journal.save_snapshot(Snapshot(record.seq, record.digest, b"sealed"))
    head = journal.head
    await journal.close()
    await vault.close()
    return head


def _remove(folder: Path, name: str) -> None:
    for file in folder.glob(f"{name}*"):
        file.unlink()


def _by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


async def test_no_journal_is_no_fault(tmp_path: Path) -> None:
    assert [f.status for f in await check_journal(tmp_path)] == [OK]


async def test_a_sound_journal_is_verified_to_its_head(tmp_path: Path) -> None:
    head = await _write(tmp_path, 30, snapshot_at=20)
    found = _by_check(await check_journal(tmp_path))
    assert {f.status for f in found.values()} == {OK}
    assert found["journal chain"].figures == {"records": 30, "head": 30, "digest": head.digest.hex()}
    assert found["snapshot"].figures == {"behind": 10}


async def test_one_changed_byte_is_found_and_named(tmp_path: Path) -> None:
    await _write(tmp_path, 30)
    with sqlite3.connect(tmp_path / "journal.sqlite") as base:
        base.execute("update records set body = ? where seq = 17", (b'{"n":99}',))
    base.close()
    found = _by_check(await check_journal(tmp_path))["journal chain"]
    assert found.status == FAIL
    assert found.figures["first_wrong"] == 17


async def test_a_file_that_is_no_journal_fails(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    assert [f.status for f in await check_journal(tmp_path)] == [FAIL]


async def test_a_journal_without_its_keys_fails(tmp_path: Path) -> None:
    await _write(tmp_path, 3)
    _remove(tmp_path, "vault.sqlite")
    assert _by_check(await check_journal(tmp_path))["vault"].status == FAIL


async def test_keys_without_their_journal_fail(tmp_path: Path) -> None:
    await _write(tmp_path, 3)
    _remove(tmp_path, "journal.sqlite")
    assert [f.status for f in await check_journal(tmp_path)] == [FAIL]


async def test_a_journal_that_is_in_use_can_be_checked(tmp_path: Path) -> None:
    await _write(tmp_path, 3)
    journal = await SqliteJournal.at(tmp_path / "journal.sqlite")
    try:
        assert _by_check(await check_journal(tmp_path))["journal chain"].status == OK
    finally:
        await journal.close()


# --- the command ------------------------------------------------------------------------------------------------------


def _parse(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    commands = parser.add_subparsers()

    def add_command(commands: Any, name: str, summary: str, handler: Any) -> ArgumentParser:
        command: ArgumentParser = commands.add_parser(name, help=summary)
        command.set_defaults(handler=handler)
        return command

    add_doctor(commands, add_command)
    return parser.parse_args(["doctor", *arguments])


@pytest.mark.slow
def test_the_command_names_every_check_and_fails_for_a_damaged_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_write(tmp_path, 5))
    args = _parse("--data", str(tmp_path), "--port", "0")
    assert args.handler(args) == 0
    sound = capsys.readouterr().out
    with sqlite3.connect(tmp_path / "journal.sqlite") as base:
        base.execute("update records set at_us = at_us + 1 where seq = 3")
    base.close()
    assert args.handler(args) == 1
    damaged = capsys.readouterr().out
    assert "journal chain" in sound
    assert "damaged: record 3" in damaged
    assert "what to do" in damaged


def test_json_holds_the_findings_with_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = _parse("--data", str(tmp_path / "yet"), "--json", "--port", "0")
    assert args.handler(args) == 0
    found = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["sync"]["figures"]["p50_ms"] > 0
    assert found["python"]["status"] == "ok"
    assert not (tmp_path / "yet").exists()


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    asyncio.run(_write(tmp_path, 5))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    examine(tmp_path, port=0)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {name for name in after if name.endswith(("-wal", "-shm"))} | set(before) >= set(after)
    assert all(after[name] == at for name, at in before.items())
