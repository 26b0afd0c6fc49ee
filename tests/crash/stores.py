"""Kills `tests.crash.appender` at a chosen sync, takes the power away, and looks whether what it said still holds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from market.journal.opening import open_journal
from market.journal.protocol import Draft, Head, chained
from market.journal.verify import verify
from tests.crash.lost_writes import Lost, LostWrites
from tests.crash.postgres import Postgres
from tests.repo.files import ROOT


@dataclass(frozen=True, slots=True)
class Told:
    """What a process said before it died."""

    lines: list[dict[str, Any]]
    exit_code: int
    error: str

    @property
    def is_killed(self) -> bool:
        """Whether it was killed before its end."""
        return self.exit_code == -signal.SIGKILL

    @property
    def is_done(self) -> bool:
        """Whether it came to its end."""
        return bool(self.lines) and "done" in self.lines[-1]


CARELESS = {
    "commits do not wait for the disk": """
import market.journal.sqlite_files as files
def careless(connection, file, secret):
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
files._make_durable = careless
""",
    "names are not synced": """
import os
synced = os.fsync
os.fsync = lambda handle: None if os.path.isdir(f"/proc/self/fd/{handle}") else synced(handle)
""",
    "snapshots are not synced": """
import os
os.fsync = lambda handle: None
""",
}
"""Stores that promise too early: what has to be changed for that, run before the appender."""


def append_until(disk: LostWrites, fail: str, careless: str = "") -> Told:
    """Run the appender on a SQLite disk that fails, or kills, as ``fail`` says."""
    return _append(str(disk.folder), disk.environment(fail), careless)


def append_to_server_until(server: Postgres, disk: LostWrites, fail: str) -> Told:
    """Run the appender against a PostgreSQL server whose disk fails, or kills one of its processes; then kill it."""
    server.start(disk.environment(fail))
    try:
        return _append(server.url, {}, "")
    finally:
        server.kill()


def _append(where: str, environment: dict[str, str], careless: str) -> Told:
    program = f"{careless}\nimport runpy\nrunpy.run_module('tests.crash.appender', run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-c", program, where],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    lines = [msgspec.json.decode(line) for line in done.stdout.splitlines(keepends=True) if line.endswith(b"\n")]
    return Told(lines, done.returncode, done.stderr.decode(errors="replace"))


async def broken_promises(where: Path | str, told: Told) -> list[str]:
    """Open journal and vault again: which of the things said do not hold; and whether both still take something."""
    journal, vault = await open_journal(where)
    wrong: list[str] = []
    try:
        heads = [Head(line["head"][0], bytes.fromhex(line["head"][1])) for line in told.lines if "head" in line]
        report = await verify(journal, noted=heads)
        if not report.ok:
            wrong.append(str(report))
        erased = {line["erased"] for line in told.lines if "erased" in line}
        members = set(vault.members())
        wrong += [f"member {m} is gone" for m in _said(told, "added") - erased - members if not _began(told, m)]
        wrong += [f"member {m} is back" for m in erased & members]
        snapshot = await journal.load_snapshot()
        last = [line["snapshot"] for line in told.lines if "snapshot" in line]
        is_on_its_way_out = not told.is_done and bool(last) and "snapshot" in told.lines[-1]
        if last and last[-1] and not is_on_its_way_out and (snapshot is None or snapshot.seq < last[-1]):
            wrong.append(f"the snapshot of record {last[-1]} is gone")
        if erased and snapshot is not None and snapshot.seq < min(_erasures(told)):
            wrong.append("a snapshot from before an erasure is back")
        if told.lines and "opened" in told.lines[0]:
            record = chained(journal.head, Draft(1 << 50, "again", b"{}"))
            await journal.append([record])
            await vault.add(1000, "newcomer")
    finally:
        await journal.close()
        await vault.close()
    return wrong


def _said(told: Told, what: str) -> set[int]:
    return {line[what] for line in told.lines if what in line}


def _began(told: Told, member: int) -> bool:
    """Whether the erasure of a member was going on when the process died: then either is right."""
    dropped = [i for i, line in enumerate(told.lines) if line.get("snapshot") == 0]
    if not dropped or any("erased" in line for line in told.lines[dropped[-1] :]):
        return False
    before = sorted({line["added"] for line in told.lines[: dropped[-1]] if "added" in line})
    return member == before[-2]


def _erasures(told: Told) -> list[int]:
    """The head at each erasure."""
    heads, last = [], 0
    for line in told.lines:
        last = line["head"][0] if "head" in line else last
        if "erased" in line:
            heads.append(last)
    return heads


def lose(disk: LostWrites, seed: int) -> Lost:
    """Half of the runs keep nothing unsynced, the others a random part of it."""
    chance = random.Random(seed)
    return disk.lose_power(chance, chance.choice((0.0, 0.5)))
