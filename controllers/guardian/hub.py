"""What a device's runtime needs of its guardian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from controllers.guardian.arbiter import Lease
from controllers.guardian.settings import Mode
from controllers.guardian.writer import Notes
from hardware.driver import Frame


class Hub(Protocol):
    """A guardian, as one of its devices sees it."""

    notes: Notes

    def raise_alarm(self, device: str, alarm: str, why: str) -> bool:
        """Say that something is wrong; said once until it is cleared. Returns whether it is news."""
        ...

    def clear_alarm(self, device: str, alarm: str) -> None:
        """It is right again."""
        ...

    def move(self, device: str, mode: Mode, who: str, why: str) -> None:
        """Bring a device down into a mode."""
        ...

    def writes_stopped(self) -> str:
        """Why nothing may be written to anybody; empty if it may."""
        ...

    def lives(self, lease: Lease) -> bool:
        """Whether a lease still counts."""
        ...

    async def spend(self, device: str, frames: list[Frame], limit: int) -> str:
        """Count writes against the day's budget, durably; why they may not be, or empty."""
        ...

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write down soon; nobody waits."""
        ...

    def journal_lost(self, why: str) -> None:
        """The journal takes nothing more."""
        ...
