"""Statements over many slots, and what a settlement's record adds to the state: from the journal and from history."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

import msgspec

from market.engine.state import N_LINES, Settlement, State
from peerwatt import wire
from peerwatt.api.views_money import StatementFull, lines_out

if TYPE_CHECKING:
    from peerwatt.api.service import Service

_KEPT_RESULTS = 10_000


class _Result(msgspec.Struct):
    """What is wanted of a record's body."""

    result: bytes


async def settled_result(service: Service, settled: wire.SlotSettlementOut) -> wire.SlotSettlementOut:
    """The same with the digest of its result, which stands in the journal's record."""
    known = service.settled_results
    if settled.seq not in known:
        async for record in service.journal.read(settled.seq - 1, settled.seq):
            if len(known) >= _KEPT_RESULTS:
                known.clear()
            known[settled.seq] = msgspec.json.decode(record.draft.body, type=_Result).result.hex()
    return msgspec.structs.replace(settled, result=known[settled.seq])


class Totals:
    """Sums over settled slots of one member."""

    def __init__(self) -> None:
        self.slots = 0
        self.lines_u: tuple[int, ...] = (0,) * N_LINES
        self.import_wh = self.export_wh = self.bought_wh = self.sold_wh = self.baseline_u = 0

    def add(self, own: Settlement) -> None:
        """One more slot."""
        self.slots += 1
        self.lines_u = tuple(map(add, self.lines_u, own.lines_u))
        self.import_wh += own.import_wh
        self.export_wh += own.export_wh
        self.bought_wh += own.bought_wh
        self.sold_wh += own.sold_wh
        self.baseline_u += own.baseline_u


async def statement(service: Service, participant: str, member: int, first: int, end: int) -> StatementFull:
    """A member's account over slots ``first`` to ``end`` (not included), in the newest versions."""

    def look(state: State) -> tuple[Totals, int, int]:
        totals = Totals()
        for slot in range(max(first, state.dropped_until), min(end, state.settled_until)):
            kept = state.slots.get(slot)
            if kept is not None and kept.versions and (own := kept.versions[-1].members.get(member)) is not None:
                totals.add(own)
        return totals, state.balance_u(member), state.dropped_until

    totals, balance_u, kept_from = await service.engine.read(look)
    if service.history is not None and first < kept_from:
        past = await service.history.settled(member, first, min(end, kept_from))
        for own in {one.slot: one.own for one in past}.values():  # the newest version of each slot
            totals.add(own)
    total_u = sum(totals.lines_u)
    return StatementFull(
        participant=participant,
        currency=service.currency,
        from_=service.names.text(first),
        to=service.names.text(max(first, end)),
        slots=totals.slots,
        import_wh=totals.import_wh,
        export_wh=totals.export_wh,
        bought_wh=totals.bought_wh,
        sold_wh=totals.sold_wh,
        lines=lines_out(totals.lines_u),
        total_u=total_u,
        balance_u=-balance_u,
        baseline_u=totals.baseline_u,
        saving_u=totals.baseline_u - total_u,
    )
