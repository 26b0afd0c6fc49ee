"""Checks of the data folder and its disk: what a sync costs and whether it means anything, room, who may read."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peerwatt.clocks import Stopwatch
from peerwatt.doctor.finding import Finding, fail, ok, warn

N_SYNCS = 200
RECORD_BYTES = 200
SLOW_MS = 10.0
FREE_MS = 0.01
"""A median below this is no disk: the fastest one with a protected cache takes several times as long."""
FEW_BYTES = 1 << 30
NO_BYTES = 100 << 20

VOLATILE = {"tmpfs", "ramfs", "devtmpfs", "zram"}
LAYERED = {"overlay", "aufs", "unionfs"}
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"}

SECRETS = ("admin.key", "vault.sqlite", "vault.sqlite-wal")
"""Files of a data folder that nobody else may read."""


def standing_folder(folder: Path) -> Path:
    """``folder``, or the nearest folder above it that exists."""
    folder = folder.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_folder(folder: Path) -> Finding:
    """Whether the data folder is there, or can be made, and can be written."""
    place = standing_folder(folder)
    if folder.exists() and not folder.is_dir():
        return fail("data folder", f"{folder} is a file", "name a folder with --data")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return fail("data folder", f"{place} cannot be read and written", f"give it to this user: chown $USER {place}")
    if place != folder.absolute():
        return ok("data folder", f"{folder} is not there yet; it can be made in {place}")
    return ok("data folder", f"{folder} can be read and written")


# --- syncs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SyncCost:
    """Milliseconds of an append of 200 bytes that is on the disk when it returns: median, 99th percentile, worst."""

    p50_ms: float
    p99_ms: float
    max_ms: float


def measure_syncs(folder: Path, n: int = N_SYNCS) -> SyncCost:
    """Append and sync ``n`` times in a file of ``folder`` that is removed again; OSError if that fails."""
    sync = getattr(os, "fdatasync", os.fsync)
    took_ms: list[float] = []
    handle, name = tempfile.mkstemp(prefix=".peerwatt-doctor-", dir=folder)
    try:
        watch = Stopwatch()
        for _ in range(n):
            watch.restart()
            os.write(handle, bytes(RECORD_BYTES))
            sync(handle)
            took_ms.append(watch.elapsed_s() * 1000.0)
    finally:
        os.close(handle)
        Path(name).unlink()
    took_ms.sort()
    return SyncCost(took_ms[n // 2], took_ms[min(n - 1, n * 99 // 100)], took_ms[-1])


def check_syncs(folder: Path, measure: Callable[[Path], SyncCost] = measure_syncs) -> Finding:
    """What a durable append costs on the data folder's disk, and whether it can be true."""
    place = standing_folder(folder)
    try:
        cost = measure(place)
    except OSError as error:
        return fail("sync", f"{place} takes no synced writes: {error.strerror}", "check the disk and its free space")
    sentence = f"a synced append takes {cost.p50_ms:.2f} ms (median), {cost.p99_ms:.2f} ms (99th percentile)"
    figures = {"p50_ms": round(cost.p50_ms, 4), "p99_ms": round(cost.p99_ms, 4), "max_ms": round(cost.max_ms, 4)}
    if cost.p50_ms < FREE_MS:
        remedy = "make sure that the disk really writes: no volatile write cache, no eatmydata, no `nobarrier`"
        return warn("sync", f"{sentence}: too little for a disk", remedy, **figures)
    if cost.p99_ms > SLOW_MS:
        remedy = "orders are answered after a sync: put the data on an SSD, or send batches"
        return warn("sync", f"{sentence}: slow", remedy, **figures)
    return ok("sync", sentence, **figures)


# --- the file system --------------------------------------------------------------------------------------------------


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Type of the file system on which ``folder`` stands; None where the system does not tell."""
    place = standing_folder(folder).resolve()
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        mount, dash, kind = line.partition(" - ")
        point = Path(mount.split()[4].replace("\\040", " "))
        if dash and (point == place or point in place.parents):
            depth = len(point.parts)
            if best is None or depth >= best[0]:  # of two mounts on one place the later one counts
                best = depth, kind.split()[0]
    return None if best is None else best[1]


def check_file_system(folder: Path, kind: Callable[[Path], str | None] = file_system_of) -> Finding:
    """Whether the data folder's file system keeps what it is given."""
    found = kind(folder)
    if found is None:
        return ok("file system", "its type is not told here")
    if found in VOLATILE:
        sentence = f"{folder} is on {found}: in memory, gone when the machine stops"
        return warn("file system", sentence, "choose a folder on a disk", type=found)
    if found in LAYERED:
        sentence = f"{folder} is on {found}: a container's own layer, gone with the container"
        return warn("file system", sentence, "mount a volume there", type=found)
    if found in REMOTE:
        sentence = f"{folder} is on {found}: SQLite's log needs a local disk"
        return fail("file system", sentence, "choose a local disk, or --journal postgresql://...", type=found)
    return ok("file system", f"{found}", type=found)


def check_space(folder: Path, free_bytes: int | None = None) -> Finding:
    """Free space for the data; ``free_bytes`` None asks the disk."""
    if free_bytes is None:
        room = os.statvfs(standing_folder(folder))
        free_bytes = room.f_bavail * room.f_frsize
    sentence = f"{free_bytes / (1 << 30):,.1f} GiB free"
    remedy = "make room: a full disk stops the market"
    if free_bytes < NO_BYTES:
        return fail("disk space", sentence, remedy, free_bytes=free_bytes)
    if free_bytes < FEW_BYTES:
        return warn("disk space", sentence, remedy, free_bytes=free_bytes)
    return ok("disk space", sentence, free_bytes=free_bytes)


def check_modes(folder: Path) -> Finding:
    """Whether keys are readable by their owner alone."""
    there = [path for name in SECRETS if (path := folder / name).is_file()]
    open_ones = [path for path in there if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if open_ones:
        names = " ".join(path.name for path in open_ones)
        sentence = f"others may read {names}: whoever has them can decrypt or operate the market"
        remedy = f"chmod 600 {' '.join(map(str, open_ones))}, then make new keys if anybody did read them"
        return fail("keys", sentence, remedy, files=[path.name for path in open_ones])
    if not there:
        return ok("keys", "no key files yet: they are made at the first start")
    return ok("keys", f"{' and '.join(path.name for path in there)}: readable by the owner alone")
