"""The bidder: one order for every slot that opens, a line for every slot that is over, readings after delivery."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from peerwatt.joining.plan import Plan
from peerwatt.joining.venue import Missed, Moment, News, Order, Outcome, Place, Refused, SlotNews, Venue
from peerwatt.wire.times import US, time_us

_OVER = frozenset({"cleared", "settled"})


@dataclass(frozen=True, slots=True)
class SlotLine:
    """What became of a slot; ``order`` None: nothing was to be traded, ``outcome`` None: see ``note``."""

    slot: str
    order: Order | None
    outcome: Outcome | None = None
    note: str = ""


@dataclass(slots=True)
class Tally:
    """A bidder's sums so far."""

    slots: int = 0
    bought_wh: int = 0
    sold_wh: int = 0
    amount_u: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Waiting:
    """Slots with an order of ours that have no outcome yet, and those whose delivery is to be reported."""

    bids: dict[str, Order] = field(default_factory=dict)
    cleared: dict[str, int] = field(default_factory=dict)  # slot -> record that said it cleared
    meters: dict[str, int] = field(default_factory=dict)  # slot -> end of delivery [microseconds]


class Bidder:
    """Trades a plan on a venue.

    Parameters
    ----------
    venue, plan
        Where and what.
    tell
        Told of every slot that is over.
    slots
        Leave after so many slots; None: stay.
    report_meter
        Report what the plan says as the meter's reading when a slot has been delivered.
    """

    def __init__(
        self,
        venue: Venue,
        plan: Plan,
        tell: Callable[[SlotLine], None],
        *,
        slots: int | None = None,
        report_meter: bool = False,
    ) -> None:
        self.tally = Tally()
        self._venue = venue
        self._plan = plan
        self._tell = tell
        self._slots = slots
        self._report_meter = report_meter
        self._keys = f"join-{secrets.token_hex(8)}"  # of this run: a slot's key is the same however often it is sent
        self._seen: set[str] = set()
        self._waiting = _Waiting()

    async def run(self, place: Place) -> None:
        """Bid until the wanted number of slots is over, or cancelled; `leave` afterwards."""
        async with aclosing(self._venue.news()) as news:
            async for piece in news:
                await self._take(piece, place)
                if self._done():
                    return
                _leave_if_told()

    async def leave(self) -> int | None:
        """Withdraw what is open; how many orders, None if it is not known."""
        return await self._venue.withdraw(f"{self._keys}-leave")

    def _done(self) -> bool:
        waiting = self._waiting
        return self._slots is not None and self.tally.slots >= self._slots and not waiting.bids and not waiting.meters

    async def _take(self, piece: News, place: Place) -> None:
        if isinstance(piece, Missed):
            for slot in await self._venue.open_slots():
                await self._bid(slot, place)
            for slot in list(self._waiting.bids):
                await self._ask(slot)
            return
        for slot in [slot for slot, seq in self._waiting.cleared.items() if seq < piece.seq]:
            await self._ask(slot)  # its outcome would have come with the same record
        if isinstance(piece, SlotNews):
            await self._slot(piece, place)
        elif isinstance(piece, Outcome):
            self._over(piece)
        elif isinstance(piece, Moment):
            await self._report(time_us(piece.at))

    async def _slot(self, news: SlotNews, place: Place) -> None:
        if news.state == "open":
            await self._bid(news.slot, place)
        elif news.slot in self._waiting.bids:
            if news.state == "void":
                self._finish(SlotLine(news.slot, self._waiting.bids.pop(news.slot), note="void"))
            elif news.state in _OVER:
                self._waiting.cleared.setdefault(news.slot, news.seq)

    async def _bid(self, slot: str, place: Place) -> None:
        if slot in self._seen or (self._slots is not None and len(self._seen) >= self._slots):
            return
        self._seen.add(slot)
        if self._report_meter:
            self._waiting.meters[slot] = time_us(slot) + place.slot_s * US
        order = self._plan.order(slot)
        if order is None:
            self._finish(SlotLine(slot, None))
            return
        answer = await self._venue.bid(order, f"{self._keys}-{slot}")
        if isinstance(answer, Refused):
            self.tally.refused += 1
            self._finish(SlotLine(slot, order, note=f"refused: {answer.detail or answer.code}"))
        else:
            self._waiting.bids[slot] = order

    async def _ask(self, slot: str) -> None:
        outcome = await self._venue.outcome(slot)
        if outcome is not None:
            self._over(outcome)

    def _over(self, outcome: Outcome) -> None:
        self._waiting.cleared.pop(outcome.slot, None)
        order = self._waiting.bids.pop(outcome.slot, None)
        if order is None:
            return  # not ours, or told before
        self.tally.bought_wh += outcome.bought_wh
        self.tally.sold_wh += outcome.sold_wh
        self.tally.amount_u += outcome.amount_u or 0
        self._finish(SlotLine(outcome.slot, order, outcome))

    def _finish(self, line: SlotLine) -> None:
        self.tally.slots += 1
        self._tell(line)

    async def _report(self, now_us: int) -> None:
        for slot in [slot for slot, end_us in self._waiting.meters.items() if end_us <= now_us]:
            net_wh = self._plan.profile.net_wh(slot)
            refused = await self._venue.report(slot, max(net_wh, 0), max(-net_wh, 0), f"{self._keys}-meter-{slot}")
            del self._waiting.meters[slot]
            if refused is not None:
                self._tell(SlotLine(slot, None, note=f"reading refused: {refused.detail or refused.code}"))


def _leave_if_told() -> None:
    """`asyncio.wait_for`, wherever it is used below, takes an answer for a cancellation if both come at once."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
