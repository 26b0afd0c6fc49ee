"""Keeps the history beside a running market: follows the journal, and writes each day when it is over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from core import PeerwattError
from market.engine.recovery import fact_of
from peerwatt.history import KINDS, History

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from market.journal.protocol import Journal
    from market.journal.vault import Vault
    from market.settlement import SettledRows
    from peerwatt.api.service import Past, SlotVersions
    from peerwatt.history import HistoryWriter

_log = logging.getLogger("peerwatt.history")

EVERY_S = 5.0
"""How often the journal is looked at."""


class HistoryKeeper:
    """Takes the journal's records to a `HistoryWriter`.

    Parameters
    ----------
    writer
        The history's.
    journal, vault
        Durable records, and what opens their personal parts.
    clock
        Engine time [microseconds since 1970, UTC].
    """

    def __init__(self, writer: HistoryWriter, journal: Journal, vault: Vault, clock: Callable[[], int]) -> None:
        self.history = History(writer.folder, writer.slots, writer.recent)
        """What has been kept so far."""
        self._writer = writer
        self._journal = journal
        self._vault = vault
        self._clock = clock
        self._taken = writer.after
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Keep it until cancelled. What cannot be read or written now is tried again: the journal has it all."""
        while True:
            await self._try()
            await asyncio.sleep(EVERY_S)

    async def _try(self) -> None:
        try:
            await self.catch_up()
        except (PeerwattError, OSError) as error:
            _log.warning("the history has to wait: %s", error)

    async def catch_up(self) -> None:
        """Take what is durable and write what is due.

        Raises
        ------
        RunError, OSError
            If it cannot be written; nothing is lost.
        """
        async with self._busy:
            await self._take()
            await self._writer.write_due(self._clock())

    async def _follow(self) -> None:
        """Take what is durable; nothing is written."""
        async with self._busy:
            await self._take()

    async def _take(self) -> None:
        async for record in self._journal.read(self._taken, self._journal.head.seq):
            if record.draft.kind in KINDS:
                self._writer.take(record.seq, record.draft.at_us, *fact_of(record, self._vault))
            self._taken = record.seq

    async def forget(self, member: int, participant_id: str) -> None:
        """A member is erased: its rows go before its key does, or as soon as they can be written again."""
        await self._try()

    # --- slots that the engine no longer keeps, for the API -----------------------------------------------------------

    async def settled(self, member: int, first: int, end: int, limit: int | None = None) -> list[Past]:
        """`History.settled`, with everything that is durable now."""
        await self._follow()
        return await self.history.settled(member, first, end, limit)

    async def rows(self, members: Sequence[int], first: int, end: int) -> SettledRows:
        """`History.rows`, with everything that is durable now."""
        await self._follow()
        return await self.history.rows(members, first, end)

    async def versions(self, first: int, end: int) -> SlotVersions:
        """`History.versions`, with everything that is durable now."""
        await self._follow()
        return await self.history.versions(first, end)
