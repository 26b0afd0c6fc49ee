"""Journal and vault in SQLite, killed at every kind of sync on a disk that then loses all it was not told to keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import JournalError
from tests.crash.lost_writes import LostWrites, PreloadError, compile_library
from tests.crash.postgres import NoServerError, Postgres
from tests.crash.stores import CARELESS, append_to_server_until, append_until, broken_promises, lose

SHORT = [("fsync", n) for n in (1, 2, 5, 9, 17, 30)] + [("synced", n) for n in (1, 4, 11, 25)] + [("dirsync", 2)]


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return compile_library()
    except PreloadError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> LostWrites:
    (tmp_path / "data").mkdir()
    return LostWrites(tmp_path / "data", library)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        server = Postgres()
    except NoServerError as reason:
        pytest.skip(str(reason))
    yield server
    server.close()


def _empty(server: Postgres) -> None:
    """A server without a journal."""
    if server.is_running:
        server.stop()
    server.start()
    server.execute("drop schema if exists peerwatt cascade", "drop schema if exists peerwatt_vault cascade")
    server.stop()


async def test_undisturbed_everything_is_durable_when_it_is_said(disk: LostWrites) -> None:
    told = append_until(disk, "")
    assert told.is_done, told.error
    disk.lose_power()
    assert await broken_promises(disk.folder, told) == []


@pytest.mark.slow
@pytest.mark.parametrize(("when", "n"), SHORT)
async def test_killed_at_a_sync_with_its_power_gone_a_store_keeps_its_word(disk: LostWrites, when: str, n: int) -> None:
    told = append_until(disk, f"{when}:KILL:{n}")
    assert told.is_killed, told.error
    lose(disk, n)
    assert await broken_promises(disk.folder, told) == []


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("n", [9, 20])
async def test_after_a_failed_sync_nothing_more_is_promised(disk: LostWrites, error: str, n: int) -> None:
    told = append_until(disk, f"fsync:{error}:{n}")
    assert not told.is_killed
    assert told.exit_code == 1
    assert "JournalError" in told.error
    lose(disk, n)
    assert await broken_promises(disk.folder, told) == []


@pytest.mark.slow
async def test_a_full_disk_loses_nothing_that_was_promised(disk: LostWrites) -> None:
    told = append_until(disk, "write:ENOSPC:120+")
    assert told.exit_code == 1
    assert "JournalError" in told.error
    lose(disk, 1)
    assert await broken_promises(disk.folder, told) == []


@pytest.mark.slow
@pytest.mark.parametrize("fail", ["", "synced:KILL:41", "fsync:EIO:60"])
async def test_a_server_whose_disk_dies_with_its_power_gone_keeps_its_word(
    server: Postgres, library: Path, fail: str
) -> None:
    _empty(server)
    disk = LostWrites(server.data, library, server.owner)
    told = append_to_server_until(server, disk, fail)
    assert told.is_done == (not fail), told.error
    lose(disk, len(fail))
    server.start()
    assert await broken_promises(server.url, told) == []


@pytest.mark.parametrize("what", CARELESS)
async def test_a_store_that_promises_too_early_is_found_out(disk: LostWrites, what: str) -> None:
    told = append_until(disk, "write:KILL:150" if what.startswith("commits") else "", CARELESS[what])
    assert told.lines, told.error
    disk.lose_power()
    try:
        wrong = await broken_promises(disk.folder, told)
    except JournalError as error:
        wrong = [str(error)]
    assert wrong
