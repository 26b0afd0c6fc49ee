"""Members, their keys, and roles: the operator's administration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from market.engine.commands import Act, Join, Leave
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views
from peerwatt.api.failures import failure
from peerwatt.api.lookup import (
    Listing,
    actor,
    member_number,
    member_of,
    name_of,
    note_access,
    numbered,
    personal_member,
    slot_index,
    submit,
)
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.api.roles import ROLES
from peerwatt.api.routes_markets import moment_us
from peerwatt.store.records import ApiKey, RegistryError
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Participants")
ADMIN = "participants:admin"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
OF_PARTICIPANTS = frozenset({"resident", "meter", "aggregator"})
"""Roles whose keys act for participants; keys of other roles are an admin's to give."""


def at_text(at: datetime) -> str:
    """A time of the registry on the wire."""
    return time_text((at - _EPOCH) // _US)


@routes.get(
    "/participants", "listParticipants", "All members",
    scope=ADMIN, answer=Page[wire.ParticipantOut], query=Paged,
)  # fmt: skip
async def list_participants(call: Call) -> Answer:
    """By number; an erased one has no name any more."""
    service = call.service
    name, listing = name_of(service), Listing[wire.ParticipantOut](call)

    def look(state: State) -> Page[wire.ParticipantOut]:
        rows = (
            ((number,), views.participant_out(state.config, service.names, member, name(number)))
            for number, member in sorted(state.members.items())
        )
        return listing.page(rows)

    return Answer(await service.engine.read(look))


@routes.post(
    "/participants", "addParticipant", "Make a new member",
    scope=ADMIN, body=wire.ParticipantIn, answer=wire.ParticipantOut, status=201, problems=(404, 409),
)  # fmt: skip
async def add_participant(call: Call) -> Answer:
    """It takes part from the next slot to open, or from the one that is named."""
    body: wire.ParticipantIn = call.body
    service = call.service
    if body.participant == "me" or body.participant.startswith("erased-"):
        raise failure(422, "reserved_id", "This id stands for something else", body.participant)
    from_slot = None if body.from_slot is None else slot_index(service, body.from_slot)
    tariffs = await service.engine.read(_tariffs)
    if tariffs is not None and body.contract >= tariffs:
        raise refuse("bad_value", f"contract: there are {tariffs}, counted from 0")
    if service.engine.member_of(body.participant) is not None:
        raise refuse("exists", body.participant)
    await submit(call, Join(body.participant, body.contract, from_slot, body.node))
    member = member_number(service, call.caller, body.participant)
    await submit(call, Act(actor(call), "add_participant", {"member": member}))

    def look(state: State) -> wire.ParticipantOut:
        found = member_of(state, member, body.participant)
        return views.participant_out(state.config, service.names, found, body.participant)

    return Answer(await service.engine.read(look))


def _tariffs(state: State) -> int | None:
    """How many retail tariffs there are; None before any slot has opened."""
    newest = max(state.slots, default=None)
    return None if newest is None else len(state.slots[newest].prices.contracts)


@routes.delete(
    "/participants/{participant}", "removeParticipant", "Let a member leave",
    scope=ADMIN, status=204, problems=(403, 404, 409),
)  # fmt: skip
async def remove_participant(call: Call) -> Answer:
    """From the next slot that is not yet past its gate. What it owes and is owed stays."""
    member = member_number(call.service, call.caller, call.path["participant"])
    await submit(call, Leave(member))
    await submit(call, Act(actor(call), "remove_participant", {"member": member}))
    return Answer()


# --- keys -------------------------------------------------------------------------------------------------------------


def key_out(key: ApiKey, role: str, participants: list[str], text: str | None = None) -> wire.KeyOut:
    """A key on the wire; ``text`` only in the answer that makes it."""
    return wire.KeyOut(
        key_id=key.id,
        role=role,
        participants=participants,
        label=key.label,
        created_at=at_text(key.created),
        expires_at=None if key.expires is None else at_text(key.expires),
        key=text,
    )


def expiry(body: wire.KeyIn | wire.ClientKeyIn) -> datetime | None:
    """When a new key ends; None: when it is deleted."""
    if body.expires_at is None:
        return None
    return _EPOCH + timedelta(microseconds=moment_us(body.expires_at, "expires_at"))


@routes.get(
    "/participants/{participant}/keys", "listKeys", "A participant's keys, without their texts",
    scope=ADMIN, answer=Page[wire.KeyOut], query=Paged, problems=(404,),
)  # fmt: skip
async def list_keys(call: Call) -> Answer:
    """Live keys of every client that acts for the participant, oldest first."""
    clients, participant = call.service.registry.clients, call.path["participant"]
    await personal_member(call, participant)
    acting = {client.id: client for client in await clients.find(participant=participant)}
    live = [key for key in await clients.keys(participant=participant) if key.revoked is None]
    out = [key_out(key, acting[key.client].role, sorted(acting[key.client].participants)) for key in live]
    return Answer(Listing[wire.KeyOut](call).page(numbered(out)))


@routes.post(
    "/participants/{participant}/keys", "addKey", "Make a key",
    scope=ADMIN, body=wire.KeyIn, answer=wire.KeyOut, status=201, problems=(403, 404, 409),
)  # fmt: skip
async def add_key(call: Call) -> Answer:
    """Its text is in this answer and nowhere else. Keys of operators' roles are an admin's to give."""
    body: wire.KeyIn = call.body
    service, participant, who = call.service, call.path["participant"], call.caller
    member = member_number(service, who, participant)
    if body.role not in OF_PARTICIPANTS:
        raise failure(422, "bad_role", "Keys of a participant act for it", f"{body.role} acts for nobody by name")
    expires = expiry(body)
    if await service.engine.read(lambda state: state.members[member].erasing):
        raise refuse("not_legal_now", "the participant is to be erased")
    client = await service.registry.clients.client_for(participant, body.role)
    made = await service.registry.clients.add_key(client.id, label=body.label, expires=expires)
    await submit(call, Act(actor(call), "add_key", {"member": member, "key": made.key.id, "role": body.role}))
    await note_access(call, [participant], 201)
    return Answer(key_out(made.key, body.role, [participant], made.text))


@routes.delete("/keys/{key}", "deleteKey", "Revoke a key", scope=ADMIN, status=204, problems=(403, 404, 409))
async def delete_key(call: Call) -> Answer:
    """It ends at once, with the streams it has open. Only an admin revokes keys that are not participants'."""
    clients, who = call.service.registry.clients, call.caller
    try:
        key = await clients.key(call.path["key"])
        client = await clients.get(key.client)
    except RegistryError:
        raise refuse("unknown_key", call.path["key"]) from None
    if key.revoked is not None:
        raise refuse("unknown_key", key.id)
    if client.role not in OF_PARTICIPANTS and who.role != "admin":
        raise refuse("forbidden", f"a key of the role {client.role} is an admin's to revoke")
    await clients.revoke_key(key.id)
    call.service.hub.end(client.id)
    await submit(call, Act(actor(call), "delete_key", {"key": key.id}))
    return Answer()


@routes.get("/roles", "listRoles", "Roles and what they may do", scope=ADMIN, answer=Page[wire.RoleOut], query=Paged)
async def list_roles(call: Call) -> Answer:
    """Every role with its scopes."""
    found = [wire.RoleOut(name, sorted(role.scopes)) for name, role in ROLES.items()]
    return Answer(Listing[wire.RoleOut](call).page(numbered(found)))
