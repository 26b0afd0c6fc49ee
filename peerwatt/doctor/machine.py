"""Checks of the machine: Python and its packages, cores and memory, open files, time zones."""

from __future__ import annotations

import operator
import os
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from peerwatt.doctor.finding import Finding, fail, ok, warn

MIB = 1024 * 1024
FEW_MIB = 512
FEW_FILES = 2048  # a thousand readers of the stream, and room for the rest

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(;.*)?$")
_BOUND = re.compile(r"(>=|==|<=|<|>|!=|~=)\s*([\w.+!]+)")


def release(version: str) -> tuple[int, ...]:
    """The numbers a version begins with, without zeros at the end: ``2.10.0rc1`` -> (2, 10)."""
    head = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(n) for n in head.group().split(".")] if head else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def satisfies(version: str, bounds: str) -> bool:
    """Whether ``version`` lies within ``>=``, ``==`` and ``<`` bounds; other operators are not judged."""
    mine = release(version)
    holds = {">=": operator.ge, "==": operator.eq, "<": operator.lt}
    return all(holds[sign](mine, release(text)) for sign, text in _BOUND.findall(bounds) if sign in holds)


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Whether this Python is one that peerwatt is made for."""
    from importlib.metadata import metadata

    bounds = metadata("peerwatt")["Requires-Python"] or ""
    mine = platform.python_version()
    sentence = f"Python {mine} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"
    if not satisfies(mine, bounds):
        return fail(
            "python", f"{sentence}; {bounds} is needed", "make the environment with a newer Python", version=mine
        )
    return ok("python", sentence, version=mine)


def check_packages(
    requirements: Iterable[str] | None = None, installed: Callable[[str], str | None] = _installed
) -> Finding:
    """Whether every package is there in a version that peerwatt was tested with.

    Parameters
    ----------
    requirements
        As in a package's metadata; None: peerwatt's own, without extras.
    installed
        Version of a package, or None.
    """
    from importlib.metadata import requires

    wrong: list[str] = []
    n = 0
    for text in (requires("peerwatt") or []) if requirements is None else requirements:
        found = _REQUIREMENT.match(text)
        if found is None or "extra" in (found[3] or ""):
            continue
        n += 1
        version = installed(found[1])
        if version is None:
            wrong.append(f"{found[1]} is missing")
        elif not satisfies(version, found[2]):
            wrong.append(f"{found[1]} {version} is not {found[2].strip()}")
    if wrong:
        return fail("packages", "; ".join(wrong), "install the versions of requirements.lock: make setup", wrong=wrong)
    return ok("packages", f"all {n} packages stand at a tested version or above", packages=n)


def check_machine(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Cores this process may use, and free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free_mib = _memory_mib(meminfo, "MemAvailable")
    if free_mib is None:
        return ok("cores and memory", f"{cores} cores; free memory is not told here", cores=cores)
    sentence = f"{cores} core{'s' * (cores > 1)}, {free_mib:,} MiB of memory free"
    figures = {"cores": cores, "free_memory_mib": free_mib}
    if free_mib < FEW_MIB:
        return warn("cores and memory", sentence, f"keep {FEW_MIB} MiB free for a neighbourhood", **figures)
    return ok("cores and memory", sentence, **figures)


def _memory_mib(meminfo: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) // 1024 if found else None


def check_open_files(limit: int | None = None) -> Finding:
    """How many files and connections may be open; ``limit`` None asks the system."""
    if limit is None:
        try:
            import resource
        except ImportError:  # Windows knows no such limit
            return ok("open files", "no limit on open files here")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return ok("open files", "no limit on open files")
    if limit < FEW_FILES:
        return warn(
            "open files",
            f"at most {limit} files and connections may be open; a thousand readers of the stream need {FEW_FILES}",
            f"raise it: ulimit -n {2 * FEW_FILES}, or LimitNOFILE={2 * FEW_FILES} in the systemd unit",
            limit=limit,
        )
    return ok("open files", f"{limit:,} files and connections may be open", limit=limit)


def check_time_zones(zone: str = "Europe/Berlin") -> Finding:
    """Whether time zone data are there and right at one clock change."""
    from datetime import UTC, datetime, timedelta
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    remedy = "install the package tzdata"
    try:
        local = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError):
        return fail("time zones", f"no data of {zone}", remedy)
    before, after = datetime(2016, 3, 27, 0, 59, tzinfo=UTC), datetime(2016, 3, 27, 1, tzinfo=UTC)
    offsets = (before.astimezone(local).utcoffset(), after.astimezone(local).utcoffset())
    if zone == "Europe/Berlin" and offsets != (timedelta(hours=1), timedelta(hours=2)):
        return fail("time zones", f"the data of {zone} miss the clock change of 27 March 2016", remedy)
    return ok("time zones", "time zone data are there")
