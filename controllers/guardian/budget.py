"""How often each register may be written in a day, counted over restarts.

What is kept on the disk is never less than what was written: counts are set aside in blocks before they are used, so a
crash costs at most a block, and never forgives one. Pure, but for `load` and `save`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

_BLOCKS_PER_DAY = 500


class WriteBudget:
    """Writes of a day (UTC), by device and register.

    Parameters
    ----------
    day
        The day that ``set_aside`` belongs to (``2026-03-29``), or empty.
    set_aside
        Counts kept on the disk, by ``device/register``.
    """

    def __init__(self, day: str = "", set_aside: Mapping[str, int] | None = None) -> None:
        self._day = day
        self._set_aside = dict(set_aside or {})
        self._spent = dict(self._set_aside)

    def turn(self, now: datetime) -> None:
        """Begin a new day if there is one. A clock that goes back forgives nothing."""
        day = now.date().isoformat()
        if day > self._day:
            self._day = day
            self._set_aside.clear()
            self._spent.clear()

    def refusal(self, device: str, registers: Iterable[int], limit: int) -> str:
        """Why these registers may not be written again today; empty if they may."""
        for register in registers:
            if self._spent.get(_key(device, register), 0) >= limit:
                return f"register {register} has been written {limit} times today"
        return ""

    def spend(self, device: str, registers: Iterable[int], limit: int) -> bool:
        """Count a write; returns whether counts have to be saved before it goes out."""
        save = False
        for register in registers:
            key = _key(device, register)
            spent = self._spent[key] = self._spent.get(key, 0) + 1
            if spent > self._set_aside.get(key, 0):
                block = max(1, limit // _BLOCKS_PER_DAY)
                self._set_aside[key] = spent - 1 + min(block, max(limit - spent + 1, 1))
                save = True
        return save

    def spent(self, device: str) -> dict[int, int]:
        """Writes of today by register."""
        found = ([*key.rsplit("/", 1), str(count)] for key, count in self._spent.items())
        return {int(register): int(count) for name, register, count in found if name == device}

    def content(self) -> str:
        """What is to be kept."""
        return json.dumps({"day": self._day, "set_aside": self._set_aside})

    @classmethod
    def load(cls, file: Path) -> WriteBudget:
        """What was kept; nothing if there is no file.

        Raises
        ------
        OSError, ValueError
            If the file cannot be read or is damaged: counts are not forgiven for that.
        """
        if not file.exists():
            return cls()
        kept = json.loads(file.read_text(encoding="utf-8"))
        return cls(str(kept["day"]), {str(key): int(count) for key, count in kept["set_aside"].items()})


def save_text(file: Path, content: str) -> None:
    """Replace a small file durably: the old one or the new one is there, whatever happens. OSError if it fails."""
    draft = file.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _key(device: str, register: int) -> str:
    return f"{device}/{register}"
