"""Bills months beside a running market: when one is settled its charges are posted, and again when it is corrected."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core import PeerwattError
from market.engine.commands import Done, PostCharges
from market.engine.engine import Overloaded
from peerwatt.api.billed import charges_of, month_of

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.engine.state import State
    from market.settlement import Period, PeriodTerms
    from peerwatt.api.service import HistoryPort

_log = logging.getLogger("peerwatt.billing")

EVERY_S = 5.0
"""How often the market is looked at [s of the wall clock]."""


@dataclass(frozen=True, slots=True)
class BillKeeper:
    """Posts the charges of settled months to the accounts of a market.

    Parameters
    ----------
    engine, history
        The market, and the slots that it no longer keeps.
    billing
        Calendar and tariffs.
    """

    engine: Engine
    history: HistoryPort
    billing: PeriodTerms

    async def run(self) -> None:
        """Keep at it until cancelled. What cannot be read or posted now is tried again."""
        while True:
            await self.try_posting()
            await asyncio.sleep(EVERY_S)

    async def try_posting(self) -> None:
        """`post_due`, where it can be done now."""
        try:
            await self.post_due()
        except (PeerwattError, Overloaded, OSError) as error:
            _log.warning("bills have to wait: %s", error)

    async def post_due(self) -> int:
        """Post what is due; how many months were posted, or posted anew.

        Raises
        ------
        PeerwattError, Overloaded, OSError
            If it cannot be done now; nothing is lost.
        """
        due = await self.engine.read(self._due)
        return sum([await self._post(period) for period in due])

    def _due(self, state: State) -> list[Period]:
        """Settled months of which something is settled that is not posted."""
        return [
            period
            for period in self.billing.periods()
            if period.end <= state.settled_until
            and ((charged := state.charged.get(period.name)) is None or charged.until_seq < _newest(state, period))
        ]

    async def _post(self, period: Period) -> bool:
        month = await month_of(self, period)
        command = PostCharges(period.name, period.first, period.end, month.until_seq, charges_of(month))
        reply = await self.engine.submit(command)
        if isinstance(reply, Done):
            return True
        _log.warning("the charges of %s have to wait: %s", period.name, reply.reason)  # somebody was erased meanwhile
        return False


def _newest(state: State, period: Period) -> int:
    """The last settlement of a slot of a month; slots that are no longer kept cannot be settled again."""
    slots = (state.slots.get(number) for number in range(max(period.first, state.dropped_until), period.end))
    return max((slot.versions[-1].seq for slot in slots if slot is not None and slot.versions), default=0)
