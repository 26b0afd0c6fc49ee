"""The guardian's desk: alarms, what is written down, who listens, and what is kept for the next start."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from controllers.guardian.budget import WriteBudget, save_text
from controllers.guardian.writer import Notes
from core import JournalError
from hardware.driver import Frame

_ALARMS_KEPT = 100
_BUDGET_FILE = "budget.json"

Event = Mapping[str, Any]
T = TypeVar("T")


class Desk:
    """Alarms, journal, listeners and the day's budget of writes.

    Parameters
    ----------
    state
        Folder of what survives a restart.
    notes
        The journal, open.
    utc_now
        Wall clock, for people and the day of the budget only.

    Raises
    ------
    OSError, ValueError
        If the counts of an earlier start cannot be read.
    """

    def __init__(self, state: Path, notes: Notes, utc_now: Callable[[], datetime]) -> None:
        self.notes = notes
        self.alarms: deque[dict[str, Any]] = deque(maxlen=_ALARMS_KEPT)
        self.standing: dict[tuple[str, str], str] = {}
        self.listeners: set[Callable[[Event], None]] = set()
        self.journal_why = ""
        self.registers_written = 0
        self._state = state
        self._utc_now = utc_now
        self._budget = WriteBudget.load(state / _BUDGET_FILE)
        self._budget_lock = asyncio.Lock()
        self._alarm_numbers = itertools.count(1)
        self._background: set[asyncio.Task[Any]] = set()

    def raise_alarm(self, device: str, alarm: str, why: str) -> bool:
        """Say that something is wrong; once, until it is cleared."""
        if (device, alarm) in self.standing:
            return False
        self.standing[device, alarm] = why
        at = self._utc_now().isoformat()
        entry = {"seq": next(self._alarm_numbers), "device": device, "alarm": alarm, "why": why, "at": at}
        self.alarms.append(entry)
        self.note("alarm", {"device": device, "alarm": alarm, "why": why})
        self.tell({"event": "alarm", **entry})
        return True

    def clear_alarm(self, device: str, alarm: str) -> None:
        """It is right again; may be said anew."""
        self.standing.pop((device, alarm), None)

    def journal_lost(self, why: str) -> None:
        """The journal takes nothing more: nothing is written to any device, their timers take over (R3)."""
        if not self.journal_why:
            self.journal_why = why
            self.raise_alarm("", "journal-lost", f"{why}; nothing is written any more, the devices' timers run out")

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write down soon; nobody waits."""
        if not self.journal_why:
            self._later(self._append(kind, dict(body)))

    async def _append(self, kind: str, body: Mapping[str, Any]) -> None:
        try:
            await self.notes.append(kind, body)
        except JournalError as error:
            self.journal_lost(str(error))

    def tell(self, event: Event) -> None:
        """Send an event to everybody who watches."""
        for listener in tuple(self.listeners):
            listener(event)

    def _later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def spend(self, device: str, frames: Iterable[Frame], limit: int) -> str:
        """Count writes against the day's budget, durably before they go out; why they may not, or empty."""
        registers = [frame.address + place for frame in frames for place in range(len(frame.words))]
        self._budget.turn(self._utc_now())
        if why := self._budget.refusal(device, registers, limit):
            return why
        self.registers_written += len(registers)
        if self._budget.spend(device, registers, limit):
            # Its own task: an order may be cancelled, the thread that saves cannot be, and two must not save at once.
            return await asyncio.shield(self._later(self._save_budget()))
        return ""

    async def _save_budget(self) -> str:
        async with self._budget_lock:
            try:
                await asyncio.to_thread(save_text, self._state / _BUDGET_FILE, self._budget.content())
            except OSError as error:
                why = f"the counts of writes cannot be kept: {error.strerror}"
                self.journal_lost(why)
                return why
        return ""

    async def settled(self) -> None:
        """Wait a moment for what is still being written down, and leave the rest."""
        if self._background:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.gather(*self._background, return_exceptions=True)
        for task in self._background:
            task.cancel()
