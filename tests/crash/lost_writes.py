"""Power loss for tests: programs run with a preloaded library, then every write that no sync confirmed is thrown away.

SIGKILL alone does not test a sync: the operating system still holds what was written and brings it to the disk later.
`LostWrites` keeps, beside a folder, what a disk would hold in the worst case (``lost_writes.c`` says what that is), and
puts it in the folder's place after the kill.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SECTOR = 512
_COUNTS_AT, _COUNTS_BYTES = 8, 5 * 8  # of the counts in ``struct table``
_SOURCE = Path(__file__).with_name("lost_writes.c")


class PreloadError(Exception):
    """There is no compiler, or no Linux, to make the library with; says which."""


@cache
def compile_library() -> Path:
    """The library, compiled once for this process; `PreloadError` says what is missing.

    It stands in a temporary folder of its own, where PostgreSQL's user finds it too: pytest's are closed to it.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        raise PreloadError("no C compiler, or no Linux: the library that loses unsynced writes cannot be made")
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-lost-writes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    library = folder / "lost_writes.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PreloadError(f"the library that loses unsynced writes does not compile here: {done.stderr[-500:]}")
    return library


@dataclass(frozen=True, slots=True)
class Lost:
    """What a loss of power took: bytes of files that differ from what was synced, and names that were not."""

    n_bytes: int
    n_names: int


class LostWrites:
    """A folder whose unsynced writes can be lost. Everything in it at the start counts as durable.

    No program may have the folder open in `prepare` and `lose_power`. The durable picture stands in
    ``FOLDER.durable``; programs that write into the folder under another user need a ``owner`` (uid, gid).
    """

    def __init__(self, folder: Path, library: Path, owner: tuple[int, int] | None = None) -> None:
        self.folder = folder.resolve()
        self.state = self.folder.with_name(self.folder.name + ".durable")
        self._library = library
        self._owner = owner
        self.prepare()

    def prepare(self) -> None:
        """Take the folder as it stands for durable."""
        shutil.rmtree(self.state, ignore_errors=True)
        content = self.state / "content"
        content.mkdir(parents=True)
        tree = self.state / "tree"
        tree.mkdir()
        for place, folders, files in os.walk(self.folder):
            here = tree / Path(place).relative_to(self.folder)
            for name in folders:
                source = Path(place, name)
                (here / name).symlink_to(source.readlink()) if source.is_symlink() else (here / name).mkdir()
            for name in files:
                source = Path(place, name)
                if source.is_symlink():
                    (here / name).symlink_to(source.readlink())
                elif source.is_file():
                    kept = content / str(source.stat().st_ino)
                    if not kept.exists():  # a second name of the same file
                        shutil.copy2(source, kept)
                    (here / name).hardlink_to(kept)
        self._give_away(self.state)

    def environment(self, fail: str = "") -> dict[str, str]:
        """Variables for the programs that write, none of which runs yet.

        ``fail`` as ``WHEN:WHAT:N``, see ``lost_writes.c``; events are counted from here on.
        """
        table = self.state / "table"
        if table.exists():
            with table.open("r+b") as file:
                file.seek(_COUNTS_AT)
                file.write(bytes(_COUNTS_BYTES))
        return {
            "LD_PRELOAD": str(self._library),
            "PEERWATT_LOST_WRITES": str(self.folder),
            "PEERWATT_LOST_WRITES_STATE": str(self.state),
            "PEERWATT_FAIL": fail,
        }

    def check_loaded(self) -> None:
        """Make sure that a program was started with the library: the loader passes over what it cannot read."""
        if not (self.state / "table").exists():
            raise AssertionError("the library that loses unsynced writes was not loaded")

    def lose_power(self, chance: random.Random | None = None, kept: float = 0.0) -> Lost:
        """Put what is durable in the folder's place; of the rest, each sector and name stays with probability ``kept``.

        A disk may have written any part of what nobody asked it to sync, in any order: with ``kept`` > 0 the unsynced
        writes are torn at random sectors of 512 bytes.
        """
        self.check_loaded()
        tree = self.state / "tree"
        lost = _compare(self.folder, tree, chance or random.Random(0), kept, self.state / "content")
        after = self.folder.with_name(self.folder.name + ".after")
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(tree, after, symlinks=True)
        for shared in after.rglob("*-shm"):  # rebuilt by SQLite from the log
            shared.unlink()
        shutil.copystat(self.folder, after)
        shutil.rmtree(self.folder)
        after.rename(self.folder)
        self._give_away(self.folder)
        self.prepare()
        return lost

    def _give_away(self, folder: Path) -> None:
        if self._owner is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *self._owner, follow_symlinks=False)


def _compare(real: Path, tree: Path, chance: random.Random, kept: float, content: Path) -> Lost:
    """Count what differs; with ``kept``, write part of it into ``tree``."""
    n_bytes = n_names = 0
    there = {path.relative_to(real) for path in real.rglob("*")}
    durable = {path.relative_to(tree) for path in tree.rglob("*")}
    for name in sorted(durable - there, reverse=True):  # removed, and nobody synced that
        n_names += 1
        target = tree / name
        if chance.random() < kept and not target.is_dir():
            target.unlink()
    for name in sorted(there):
        source, target = real / name, tree / name
        if source.is_symlink() or not source.is_file() or name.name.endswith("-shm"):
            continue
        if name not in durable:
            n_names += 1
            inode = content / str(source.stat().st_ino)
            if not (chance.random() < kept and inode.exists() and target.parent.is_dir()):
                continue
            shutil.copy2(inode, target)
        n_bytes += _tear(source, target, chance, kept)
    return Lost(n_bytes, n_names)


def _tear(source: Path, target: Path, chance: random.Random, kept: float) -> int:
    """Bytes of ``source`` that ``target`` lacks; sectors of them are copied with probability ``kept``."""
    new, old = source.read_bytes(), bytearray(target.read_bytes())
    if new == old:
        return 0
    missing = 0
    for at in range(0, len(new), SECTOR):
        sector = new[at : at + SECTOR]
        if old[at : at + len(sector)] != sector:
            missing += len(sector)
            if chance.random() < kept:
                old.extend(bytes(max(at + len(sector) - len(old), 0)))
                old[at : at + len(sector)] = sector
    if kept:
        target.write_bytes(bytes(old))
    return missing or len(old) - len(new)
