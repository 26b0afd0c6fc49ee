"""The library that loses unsynced writes does: programs that sync keep what they were told is safe, others lose it."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.lost_writes import LostWrites, PreloadError, compile_library

ROWS = """
import os, sqlite3, sys
level, n, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
base = sqlite3.connect(os.path.join(folder, "rows.sqlite"), isolation_level=None)
base.execute("pragma journal_mode=wal")
base.execute(f"pragma synchronous={level}")
base.execute("create table if not exists rows (i integer primary key, text blob)")
for _ in range(n):
    i = base.execute("insert into rows (text) values (randomblob(700)) returning i").fetchone()[0]
    print(i, flush=True)
os.kill(os.getpid(), 9)
"""

FILES = """
import os, sys
os.chdir(sys.argv[1])
exec(sys.argv[2])
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return compile_library()
    except PreloadError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> LostWrites:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_bytes(b"old" * 1000)
    (folder / "other").write_bytes(b"other")
    return LostWrites(folder, library)


def _run(disk: LostWrites, *arguments: str, fail: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | disk.environment(fail)
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def _write(disk: LostWrites, program: str, fail: str = "") -> None:
    done = _run(disk, FILES, str(disk.folder), program, fail=fail)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _names(disk: LostWrites) -> set[str]:
    return {path.name for path in disk.folder.iterdir()}


def test_a_program_without_the_library_is_noticed(disk: LostWrites) -> None:
    with pytest.raises(AssertionError, match="not loaded"):
        disk.lose_power()


def test_what_was_there_before_stays(disk: LostWrites) -> None:
    _write(disk, "pass")
    lost = disk.lose_power()
    assert (lost.n_bytes, lost.n_names) == (0, 0)
    assert (disk.folder / "old").read_bytes() == b"old" * 1000
    assert _names(disk) == {"old", "other"}


def test_a_write_without_a_sync_is_lost(disk: LostWrites) -> None:
    _write(disk, "f = open('old', 'r+b', 0); f.seek(3); f.write(b'NEW')")
    assert (disk.folder / "old").read_bytes()[:9] == b"oldNEWold"
    assert disk.lose_power().n_bytes
    assert (disk.folder / "old").read_bytes() == b"old" * 1000


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_a_synced_write_stays_and_the_one_after_it_is_lost(disk: LostWrites, sync: str) -> None:
    _write(disk, f"f = open('old', 'r+b', 0); f.write(b'NEW'); os.{sync}(f.fileno()); f.write(b'GONE')")
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:12] == b"NEWoldoldold"


def test_a_sync_of_one_file_is_none_of_another(disk: LostWrites) -> None:
    _write(
        disk,
        "a = open('old', 'r+b', 0); b = open('other', 'r+b', 0); a.write(b'A'); b.write(b'B'); os.fsync(b.fileno())",
    )
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:3] == b"old"
    assert (disk.folder / "other").read_bytes() == b"Bther"


def test_a_sync_covers_what_another_process_wrote(disk: LostWrites) -> None:
    _write(disk, "f = open('old', 'r+b', 0); f.write(b'NEW')")
    _write(disk, "f = open('old', 'rb'); os.fsync(f.fileno())")
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:6] == b"NEWold"


@pytest.mark.parametrize(
    ("write", "start"),
    [
        ("os.pwrite(fd, b'NEW', 3)", b"oldNEWold"),
        ("os.writev(fd, [b'N', b'EW'])", b"NEWoldold"),
        ("os.pwritev(fd, [b'N', b'EW'], 3)", b"oldNEWold"),
        ("os.lseek(fd, 6, 0); os.sendfile(fd, os.open('other', os.O_RDONLY), 0, 3)", b"oldoldoth"),
        ("os.copy_file_range(os.open('other', os.O_RDONLY), fd, 3, 0, 3)", b"oldothold"),
    ],
)
@pytest.mark.parametrize("is_synced", [False, True])
def test_every_way_of_writing_is_seen(disk: LostWrites, write: str, start: bytes, is_synced: bool) -> None:
    _write(disk, f"fd = os.open('old', os.O_RDWR); {write}" + ("; os.fsync(fd)" if is_synced else ""))
    assert (disk.folder / "old").read_bytes()[:9] == start
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:9] == (start if is_synced else b"oldoldold")


def test_writes_with_o_dsync_stay(disk: LostWrites) -> None:
    _write(disk, "os.write(os.open('old', os.O_RDWR | os.O_DSYNC), b'NEW')")
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:6] == b"NEWold"


@pytest.mark.parametrize(
    ("cut", "length"),
    [
        ("f.truncate(6)", 3000),
        ("f.truncate(6); os.fsync(f.fileno())", 6),
        ("f.truncate(6); os.fsync(f.fileno()); f.truncate(4000)", 6),
        ("os.truncate('old', 9)", 3000),
        ("os.posix_fallocate(f.fileno(), 0, 5000)", 3000),
        ("os.posix_fallocate(f.fileno(), 0, 5000); os.fsync(f.fileno())", 5000),
        ("open('old', 'wb').close()", 3000),
    ],
)
def test_lengths_need_a_sync_too(disk: LostWrites, cut: str, length: int) -> None:
    _write(disk, f"f = open('old', 'r+b', 0); {cut}")
    disk.lose_power()
    assert (disk.folder / "old").stat().st_size == length


def test_what_stood_behind_a_cut_does_not_come_back(disk: LostWrites) -> None:
    _write(disk, "f = open('old', 'r+b', 0); f.truncate(3); f.seek(6); f.write(b'END'); os.fsync(f.fileno())")
    disk.lose_power()
    assert (disk.folder / "old").read_bytes() == b"old\0\0\0END"


FOLDER = "d = os.open('.', os.O_RDONLY); os.fsync(d)"


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("f = open('new', 'wb', 0); f.write(b'x'); os.fsync(f.fileno())", {"old", "other"}),
        (f"f = open('new', 'wb', 0); {FOLDER}", {"old", "other", "new"}),
        ("os.unlink('old')", {"old", "other"}),
        (f"os.unlink('old'); {FOLDER}", {"other"}),
        ("os.rename('old', 'newer')", {"old", "other"}),
        (f"os.rename('old', 'newer'); {FOLDER}", {"newer", "other"}),
        (f"os.mkdir('sub'); {FOLDER}", {"old", "other", "sub"}),
        ("os.mkdir('sub')", {"old", "other"}),
    ],
)
def test_names_need_a_sync_of_their_folder(disk: LostWrites, program: str, names: set[str]) -> None:
    _write(disk, program)
    disk.lose_power()
    assert _names(disk) == names


def test_replacing_a_file_safely_takes_a_sync_of_the_file_before_and_of_the_folder_after(disk: LostWrites) -> None:
    careless = f"f = open('t', 'wb', 0); f.write(b'new'); os.rename('t', 'other'); {FOLDER}"
    _write(disk, careless)
    disk.lose_power()
    assert (disk.folder / "other").read_bytes() == b""
    careful = f"f = open('t', 'wb', 0); f.write(b'newer'); os.fsync(f.fileno()); os.rename('t', 'other'); {FOLDER}"
    _write(disk, careful)
    disk.lose_power()
    assert (disk.folder / "other").read_bytes() == b"newer"


def test_a_new_file_with_the_number_of_a_removed_one_is_new(disk: LostWrites) -> None:
    again = "\n".join(
        (
            "number = os.stat('old').st_ino; os.unlink('old')",
            "for i in range(500):",
            "    f = open(f'try{i}', 'wb', 0)",
            "    if os.fstat(f.fileno()).st_ino == number: os.rename(f'try{i}', 'mine'); break",
            "f.write(b'unsynced')",
            FOLDER,
        )
    )
    _write(disk, again)
    if "mine" not in _names(disk):
        pytest.skip("this file system does not use numbers of files again")
    disk.lose_power()
    assert (disk.folder / "mine").read_bytes() == b""


def test_torn_writes_keep_whole_sectors_of_either(disk: LostWrites) -> None:
    (disk.folder / "old").write_bytes(b"a" * 64 * 512)
    disk.prepare()
    _write(disk, "f = open('old', 'r+b', 0); f.write(b'b' * 64 * 512)")
    disk.lose_power(random.Random(5), kept=0.5)
    data = (disk.folder / "old").read_bytes()
    sectors = {data[i : i + 512] for i in range(0, len(data), 512)}
    assert sectors == {b"a" * 512, b"b" * 512}


def test_a_failed_sync_fails_once_and_loses_for_good_what_it_should_have_kept(disk: LostWrites) -> None:
    program = "\n".join(
        (
            "f = open('old', 'r+b', 0); f.write(b'ONE'); os.fsync(f.fileno()); f.write(b'TWO')",
            "try: os.fsync(f.fileno())",
            f"except OSError as error: assert error.errno == {errno.ENOSPC}",
            "else: raise SystemExit('the sync went well')",
            "os.fsync(f.fileno()); f.write(b'THR'); os.fsync(f.fileno())",
        )
    )
    _write(disk, program, fail="fsync:ENOSPC:2")
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:12] == b"ONEoldTHRold"


@pytest.mark.parametrize(("when", "stays"), [("fsync:KILL:1", b"oldold"), ("synced:KILL:1", b"NEWold")])
def test_a_program_can_be_killed_before_and_after_a_sync(disk: LostWrites, when: str, stays: bytes) -> None:
    program = "f = open('old', 'r+b', 0); f.write(b'NEW'); os.fsync(f.fileno()); open('reached', 'w')"
    _write(disk, program, fail=when)
    assert "reached" not in _names(disk)
    disk.lose_power()
    assert (disk.folder / "old").read_bytes()[:6] == stays


def test_events_are_counted_anew_for_the_next_programs(disk: LostWrites) -> None:
    program = "f = open('old', 'r+b', 0); f.write(b'NEW'); os.fsync(f.fileno()); open('reached', 'w')"
    _write(disk, program, fail="fsync:KILL:2")
    assert "reached" in _names(disk)
    _write(disk, program + "; os.fsync(f.fileno()); open('beyond', 'w')", fail="fsync:KILL:2")
    assert "beyond" not in _names(disk)


def test_a_full_disk_stays_full(disk: LostWrites) -> None:
    program = "\n".join(
        (
            "f = open('old', 'r+b', 0); f.write(b'ONE')",
            "for _ in range(2):",
            "    try: f.write(b'TWO')",
            f"    except OSError as error: assert error.errno == {errno.ENOSPC}",
            "    else: raise SystemExit('the write went well')",
        )
    )
    _write(disk, program, fail="write:ENOSPC:2+")


@pytest.mark.parametrize("kept", [0.0, 0.5])
@pytest.mark.parametrize(("level", "loses"), [("full", False), ("normal", True), ("off", True)])
def test_sqlite_keeps_with_full_what_it_acknowledged_and_loses_without(
    tmp_path: Path, library: Path, level: str, loses: bool, kept: float
) -> None:
    (tmp_path / "data").mkdir()
    disk = LostWrites(tmp_path / "data", library)
    told: list[int] = []
    for life in range(3):
        done = _run(disk, ROWS, level, "200", str(disk.folder))
        assert done.returncode == -signal.SIGKILL, done.stderr
        told += [int(line) for line in done.stdout.split()]
        disk.lose_power(random.Random(life), kept)
    base = sqlite3.connect(disk.folder / "rows.sqlite")
    try:
        found = [i for (i,) in base.execute("select i from rows order by i")]
    except sqlite3.Error:  # the table itself, or the whole file, is gone
        found = []
    base.close()
    lost = len(told) - len(set(told) & set(found))
    assert len(told) == 600
    assert (lost > 0) == loses, f"{lost} of {len(told)} lost with synchronous={level}"
    if not loses:
        assert found == list(range(1, 601))
