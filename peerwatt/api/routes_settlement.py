"""Money: statements, settled slots in all versions, disputes, and members in default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from market.engine.commands import DecideDispute, DeclareDefault, OpenDispute, Reading, Reinstate, WriteOff
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views_money as views
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import (
    Listing,
    actor,
    member_number,
    name_of,
    note_access,
    own_member,
    own_members,
    personal_member,
    slot_index,
    submit,
)
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.api.routes_markets import RangeQuery, slot_range, text
from peerwatt.api.service import Past
from peerwatt.api.settled import settled_result, statement
from peerwatt.wire.fields import In, Page
from peerwatt.wire.times import time_text

routes = Group("Settlement")
OWN = "statements:read"
OPERATE = "settlement:operate"


class StatementQuery(In):
    """Which slots a statement is over."""

    from_: wire.Time | UnsetType = field(name="from", default=UNSET)
    to: wire.Time | UnsetType = UNSET


class DisputesQuery(Paged):
    """Which disputes."""

    status: (
        Annotated[
            str,
            Meta(pattern="^(open|upheld|rejected)$", description="Only disputes in this state.", examples=["open"]),
        ]
        | UnsetType
    ) = UNSET


@routes.get(
    "/participants/{participant}/statement", "getStatement", "A participant's account over a time",
    scope=OWN, answer=views.StatementFull, query=StatementQuery, problems=(404,),
    description="Settled slots in their newest versions, with what the same meters would have cost without a market.",
)  # fmt: skip
async def get_statement(call: Call) -> Answer:
    """Totals over slots, from the journal's state and from history."""
    participant = call.path["participant"]
    member = await personal_member(call, participant)
    first, end = slot_range(call, call.query)
    return Answer(await statement(call.service, participant, member, first, end))


@routes.get(
    "/participants/{participant}/settlements", "listSettlements", "A participant's settled slots, every version",
    scope=OWN, answer=Page[views.SettlementFull], query=RangeQuery, problems=(404,),
)  # fmt: skip
async def list_settlements(call: Call) -> Answer:
    """By slot, then by version; each further version with its difference lines."""
    service, query, participant = call.service, call.query, call.path["participant"]
    member = await personal_member(call, participant)
    first, end = slot_range(call, query)
    listing = Listing[views.SettlementFull](call, parts=2)
    start = listing.start(first)

    def look(state: State) -> tuple[list[views.SettlementFull], int]:
        found: list[views.SettlementFull] = []
        for slot in sorted(s for s in state.slots if start <= s < end):
            found += views.settlements_of(service.names, participant, member, state.slots[slot])
            if len(found) > listing.limit + 1_000:
                break
        return found, state.dropped_until

    recent, kept_from = await service.engine.read(look)
    older: list[views.SettlementFull] = []
    if service.history is not None and start < kept_from:
        past = await service.history.settled(member, start, min(end, kept_from), listing.limit + 2)
        before: Past | None = None
        for one in past:
            same = before is not None and before.slot == one.slot
            last = before.own if before is not None and same else None
            older.append(views.settlement_out(service.names, participant, one.slot, one.version, one.own, last))
            before = one
    rows = (((service.names.index(s.slot), s.version), s) for s in (*older, *recent))
    return Answer(listing.page(rows))


@routes.get(
    "/settlements", "listSlotSettlements", "Settled slots over all members",
    scope="settlement:read", answer=Page[wire.SlotSettlementOut], query=RangeQuery,
)  # fmt: skip
async def list_slot_settlements(call: Call) -> Answer:
    """Slots that are still kept, in their newest version."""
    service, query = call.service, call.query
    first, end = slot_range(call, query)
    listing = Listing[wire.SlotSettlementOut](call)
    start = first if listing.after is None else max(first, listing.after[0] + 1)

    def look(state: State) -> list[wire.SlotSettlementOut]:
        found: list[wire.SlotSettlementOut] = []
        for slot in sorted(s for s in state.slots if start <= s < end):
            found += views.slot_versions(service.names, state.slots[slot])[-1:]
            if len(found) > listing.limit:
                break
        return found

    found = await service.engine.read(look)
    items = [await settled_result(service, item) for item in found[: listing.limit]]
    more = len(found) > listing.limit
    return Answer(Page(items, listing.cursor((service.names.index(items[-1].slot),)) if more else None))


@routes.get(
    "/settlements/{slot}", "getSlotSettlement", "All versions of a slot's settlement",
    scope="settlement:read", answer=wire.SlotVersionsOut, problems=(404,),
)  # fmt: skip
async def get_slot_settlement(call: Call) -> Answer:
    """Oldest first, each with its difference to the one before."""
    service, name = call.service, call.path["slot"]
    slot = slot_index(service, name)

    def look(state: State) -> list[wire.SlotSettlementOut]:
        kept = state.slots.get(slot)
        return [] if kept is None else views.slot_versions(service.names, kept)

    found = await service.engine.read(look)
    if not found:
        raise unknown("settlement", f"{name} is not settled, or no longer kept")
    return Answer(wire.SlotVersionsOut(service.names.text(slot), [await settled_result(service, v) for v in found]))


# --- disputes ---------------------------------------------------------------------------------------------------------


@routes.post(
    "/participants/{participant}/disputes", "openDispute", "Dispute a line of a bill",
    scope=OWN, body=wire.DisputeIn, answer=wire.DisputeOut, status=201, keyed=True, problems=(403, 404, 409),
)  # fmt: skip
async def open_dispute(call: Call) -> Answer:
    """An objection to a line of a settled slot, or to the meter reading behind it."""
    body: wire.DisputeIn = call.body
    participant = call.path["participant"]
    member = await own_member(call, participant)
    slot = slot_index(call.service, body.slot)
    reply = await submit(call, OpenDispute(member, slot, body.line, body.text, call.idempotency))
    number = reply.answer[0] if isinstance(reply.answer, tuple) else reply.answer
    opened = wire.DisputeOut(
        dispute_id=str(number),
        participant=participant,
        slot=call.service.names.text(slot),
        line=body.line,
        text=body.text,
        status="open",
        opened_at=time_text(reply.at_us),
    )
    return Answer(opened, repeated=reply.repeated)


@routes.get("/disputes", "listDisputes", "Disputes", scope=OWN, answer=Page[wire.DisputeOut], query=DisputesQuery)
async def list_disputes(call: Call) -> Answer:
    """One's own; an operator's: all."""
    service, query, who = call.service, call.query, call.caller
    status = text(query.status)
    everybody = who.all_participants
    own = own_members(service, who)
    name, listing = name_of(service), Listing[wire.DisputeOut](call)

    def look(state: State) -> Page[wire.DisputeOut]:
        def rows() -> Iterator[tuple[tuple[int, ...], wire.DisputeOut]]:
            for number, dispute in sorted(state.disputes.items()):
                if everybody or dispute.member in own:
                    seen = views.dispute_out(service.names, name(dispute.member), dispute)
                    if status is None or seen.status == status:
                        yield (number,), seen

        return listing.page(rows())

    page = await service.engine.read(look)
    await note_access(call, sorted({dispute.participant for dispute in page.items}))
    return Answer(page)


@routes.post(
    "/disputes/{dispute}:decide", "decideDispute", "Decide a dispute",
    scope=OPERATE, body=wire.DecisionIn, answer=wire.DisputeOut, problems=(404, 409),
)  # fmt: skip
async def decide_dispute(call: Call) -> Answer:
    """An upheld one is followed by a new version of the slot; with a reading, that is what it is settled on."""
    body: wire.DecisionIn = call.body
    service, text_ = call.service, call.path["dispute"]
    number = int(text_) if text_.isascii() and text_.isdigit() and len(text_) < 16 else 0

    def look(state: State) -> tuple[int, int] | None:
        dispute = state.disputes.get(number)
        return None if dispute is None else (dispute.member, dispute.slot)

    found = await service.engine.read(look)
    if found is None:
        raise refuse("unknown_dispute", text_)
    reading = None
    if body.reading is not None:
        reading = Reading(*found, body.reading.import_wh, body.reading.export_wh, _CORRECTED, service.clock())
    await submit(call, DecideDispute(number, body.upheld, body.text, actor(call), reading))
    name = name_of(service)

    def decided(state: State) -> wire.DisputeOut:
        dispute = state.disputes.get(number)
        if dispute is None:
            raise refuse("unknown_dispute", text_)
        return views.dispute_out(service.names, name(dispute.member), dispute)

    return Answer(await service.engine.read(decided))


_CORRECTED = 4
"""Place of ``corrected`` among the qualities of readings."""


# --- default ----------------------------------------------------------------------------------------------------------


@routes.post(
    "/participants/{participant}:default", "declareDefault", "Declare a member in default",
    scope=OPERATE, body=wire.DefaultIn, answer=wire.DoneOut, problems=(404, 409),
)  # fmt: skip
async def declare_default(call: Call) -> Answer:
    """Its open orders are cancelled and new ones refused; contracts stand and are settled."""
    member = member_number(call.service, call.caller, call.path["participant"])
    reply = await submit(call, DeclareDefault(member, call.body.reason, actor(call)))
    return Answer(wire.DoneOut(reply.seq, time_text(reply.at_us)))


@routes.post(
    "/participants/{participant}:write-off", "writeOff", "Take over what a member in default owes",
    scope=OPERATE, answer=wire.WriteOffOut, problems=(404, 409),
)  # fmt: skip
async def write_off(call: Call) -> Answer:
    """The operator's account takes it over."""
    service = call.service
    member = member_number(service, call.caller, call.path["participant"])

    def owed(state: State) -> int:
        return -state.balance_u(member)

    before = await service.engine.read(owed)
    reply = await submit(call, WriteOff(member, actor(call)))
    amount = reply.answer if isinstance(reply.answer, int) else before
    return Answer(wire.WriteOffOut(reply.seq, time_text(reply.at_us), amount))


@routes.post(
    "/participants/{participant}:reinstate", "reinstate", "End a default",
    scope=OPERATE, answer=wire.DoneOut, problems=(404, 409),
)  # fmt: skip
async def reinstate(call: Call) -> Answer:
    """The member may trade again."""
    member = member_number(call.service, call.caller, call.path["participant"])
    reply = await submit(call, Reinstate(member, actor(call)))
    return Answer(wire.DoneOut(reply.seq, time_text(reply.at_us)))
