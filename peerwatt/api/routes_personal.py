"""A person's data: everything that is kept of it, who looked at it, and its erasure."""

from __future__ import annotations

from typing import Any

import msgspec

from market.engine.commands import Act, Erase
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views, views_money
from peerwatt.api.failures import failure
from peerwatt.api.lookup import Listing, actor, member_number, name_of, personal_member, submit
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.routes_participants import at_text
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Personal data")
READ = "personal:read"


@routes.get(
    "/participants/{participant}/personal-data", "getPersonalData", "Everything that is kept of a participant",
    scope=READ, answer=wire.PersonalDataOut, problems=(404,),
)  # fmt: skip
async def personal_data(call: Call) -> Answer:
    """What stands in the market's state, its personal parts of the journal's records, and the registry's rows."""
    service, participant = call.service, call.path["participant"]
    member = await personal_member(call, participant)
    data = await service.engine.read(lambda state: _of_state(call, state, member, participant))
    data["journal"] = await _of_journal(call, member)
    for kind, rows in (await service.registry.personal_data(participant)).items():
        data[f"registry_{kind}"] = rows
    await submit(call, Act(actor(call), "export_personal_data", {"member": member}))
    return Answer(wire.PersonalDataOut(participant, time_text(service.clock()), data))


def _of_state(call: Call, state: State, member: int, participant: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind, as the routes show them one by one."""
    names, known = call.service.names, state.members.get(member)
    name = name_of(call.service)
    found: dict[str, list[Any]] = {
        "member": [] if known is None else [views.participant_out(state.config, names, known, participant)],
        "terms": [] if known is None else [views.terms_out(names, known, participant)],
        "orders": [
            views.order_out(names, market_id, participant, order)
            for market_id, market in state.markets.items()
            for order in views.orders_of(market, member, None)
        ],
        "readings": [
            views.reading_out(names, participant, slot, state.slots[slot].readings[member])
            for slot in sorted(state.slots)
            if member in state.slots[slot].readings
        ],
        "settlements": [
            settled
            for slot in sorted(state.slots)
            for settled in views_money.settlements_of(names, participant, member, state.slots[slot])
        ],
        "disputes": [
            views_money.dispute_out(names, participant, dispute)
            for dispute in state.disputes.values()
            if dispute.member == member
        ],
        "contracts": [
            views_money.contract_out(names, contract, name, call.service.now_slot())
            for contract in state.standing.values()
            if member in {contract.seller, contract.buyer}
        ],
        "envelopes": [
            views_money.envelope_out(names, state, participant, envelope)
            for envelope in state.envelopes.get(member, ())
        ],
    }
    return {kind: [msgspec.to_builtins(row) for row in rows] for kind, rows in found.items()}


async def _of_journal(call: Call, member: int) -> list[dict[str, Any]]:
    """What the journal's records say of the member alone, oldest first."""
    service, found = call.service, []
    async for record in service.journal.read(0, service.engine.head.seq):
        for part in record.draft.parts:
            if part.member == member:
                plain = service.vault.open(member, record.draft.kind, part.sealed)
                if plain is not None:
                    at = time_text(record.draft.at_us)
                    found.append({"seq": record.seq, "at": at, "kind": record.draft.kind, "data": _decoded(plain)})
    return found


def _decoded(plain: bytes) -> Any:
    return msgspec.json.decode(plain)


@routes.get(
    "/participants/{participant}/access-log", "listAccess", "Who looked at a participant's data or changed it",
    scope=READ, answer=Page[wire.AccessLogOut], query=Paged, problems=(404,),
)  # fmt: skip
async def access_log(call: Call) -> Answer:
    """Newest first."""
    participant = call.path["participant"]
    await personal_member(call, participant)
    listing = Listing[wire.AccessLogOut](call)
    before = None if listing.after is None else listing.after[0]
    lines = await call.service.registry.access.of(participant, before=before, limit=listing.limit + 1)
    items = [
        wire.AccessLogOut(at_text(line.at), line.client, line.role, line.action, line.status)
        for line in lines[: listing.limit]
    ]
    more = len(lines) > listing.limit
    return Answer(Page(items, listing.cursor((lines[listing.limit - 1].id,)) if more else None))


@routes.post(
    "/participants/{participant}:erase", "eraseParticipant", "Erase a participant",
    scope="personal:erase", body=wire.EraseIn, answer=wire.ErasedOut, problems=(404, 409),
    description="The participant leaves, its clients' keys end at once, and its key and everything that is its alone "
    "are destroyed as soon as nothing depends on them: when its last slot is settled and every book in which it had an "
    "order has cleared. `state` is `erased` if that was now, else `pending`: it will be done by itself. No way back.",
)  # fmt: skip
async def erase(call: Call) -> Answer:
    """The id has to be said once more."""
    body: wire.EraseIn = call.body
    service, participant = call.service, call.path["participant"]
    member = member_number(service, call.caller, participant)
    if body.confirm != participant:
        raise failure(422, "not_confirmed", "The id in the body is not that of the participant", body.confirm)
    reply = await submit(call, Erase(member, actor(call)))
    await service.shut_out(participant)
    at = time_text(reply.at_us)
    return Answer(wire.ErasedOut(reply.seq, at, "erased" if reply.answer == "erased" else "pending"))
