"""Clients of every role, for admins: those who run the market or the grid, aggregators, meter gateways, programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from market.engine.commands import Act
from peerwatt import wire
from peerwatt.api.failures import failure
from peerwatt.api.lookup import Listing, actor, member_number, note_access, numbered, submit
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.api.roles import ROLES
from peerwatt.api.routes_participants import at_text, expiry, key_out
from peerwatt.store.records import Client, RegistryError
from peerwatt.wire.fields import Page

routes = Group("Clients")
ADMIN = "clients:admin"
OF_ONE = "~"
"""Stands in the ids of clients that were made with a participant's key: they are that participant's alone."""


def client_out(client: Client) -> wire.ClientOut:
    """A client on the wire."""
    role = ROLES.get(client.role)
    return wire.ClientOut(
        client=client.id,
        role=client.role,
        name=client.display_name,
        participants=sorted(client.participants),
        everybody=client.everybody or (role is not None and role.reach == "all"),
        has_secret=client.has_secret,
        created_at=at_text(client.created),
        revoked_at=None if client.revoked is None else at_text(client.revoked),
    )


async def _named(call: Call) -> Client:
    """The client in the path; 404 if there is none."""
    try:
        return await call.service.registry.clients.get(call.path["client"])
    except RegistryError:
        raise refuse("unknown_client", call.path["client"]) from None


async def _live(call: Call) -> Client:
    """The same; 409 if it was revoked."""
    client = await _named(call)
    if client.revoked is not None:
        raise refuse("no_longer_open", f"the client {client.id} was revoked")
    return client


def _check_members(call: Call, participants: Iterable[str]) -> None:
    """404 unless all of them are members."""
    for participant in participants:
        member_number(call.service, call.caller, participant)


async def _note(call: Call, action: str, client: Client, status: int, **more: Any) -> None:
    """Write what was done to a client into the audit log and into the access logs of those it acts for.

    The audit log names nobody: a client that acts for somebody by name stands there as its members' numbers, because
    its id may be made of a person's.
    """
    found = (call.service.engine.member_of(name) for name in client.participants)
    members = sorted(member for member in found if member is not None)
    about = {"members": members} if client.participants else {"client": client.id}
    await submit(call, Act(actor(call), action, {"role": client.role, **about, **more}))
    await note_access(call, sorted(client.participants), status)


@routes.get(
    "/clients", "listClients", "All clients",
    scope=ADMIN, answer=Page[wire.ClientOut], query=Paged,
)  # fmt: skip
async def list_clients(call: Call) -> Answer:
    """By id, also revoked ones."""
    query: Paged = call.query
    pager, what = call.service.pager, call.operation.path
    place = pager.position(what, query.cursor if isinstance(query.cursor, str) else None, str)
    after = "" if place is None else str(place[0])
    found = await call.service.registry.clients.find(after=after, limit=query.limit + 1)
    shown = found[: query.limit]
    cursor = pager.cursor(what, shown[-1].id) if len(found) > len(shown) else None
    return Answer(Page([client_out(client) for client in shown], cursor))


@routes.post(
    "/clients", "addClient", "Make a client",
    scope=ADMIN, body=wire.ClientIn, answer=wire.ClientOut, status=201, problems=(404, 409),
)  # fmt: skip
async def add_client(call: Call) -> Answer:
    """It can ask for nothing until it has a key or a secret. An id is used once, also after the client was revoked."""
    body: wire.ClientIn = call.body
    _check_members(call, body.participants)
    client = await call.service.registry.clients.add(
        body.client, body.role, participants=body.participants, display_name=body.name, everybody=body.everybody
    )
    await _note(call, "add_client", client, 201)
    return Answer(client_out(client))


@routes.get(
    "/clients/{client}", "getClient", "A client",
    scope=ADMIN, answer=wire.ClientOut, problems=(404,),
)  # fmt: skip
async def get_client(call: Call) -> Answer:
    """Also one that was revoked."""
    client = await _named(call)
    await note_access(call, sorted(client.participants))
    return Answer(client_out(client))


@routes.delete(
    "/clients/{client}", "revokeClient", "Revoke a client",
    scope=ADMIN, status=204, problems=(404, 409),
)  # fmt: skip
async def revoke_client(call: Call) -> Answer:
    """It ends at once and for good, with its keys, its secret, its tokens and the streams it has open."""
    client = await _live(call)
    await call.service.registry.clients.revoke(client.id)
    call.service.hub.end(client.id)
    await _note(call, "revoke_client", client, 204)
    return Answer()


@routes.put(
    "/clients/{client}/participants", "setClientParticipants", "Say anew for whom a client acts",
    scope=ADMIN, body=wire.ClientParticipantsIn, answer=wire.ClientOut, problems=(404, 409),
)  # fmt: skip
async def set_client_participants(call: Call) -> Answer:
    """It holds at once; streams of the client end, and show the new ones when it comes back."""
    body: wire.ClientParticipantsIn = call.body
    before = await _live(call)
    if OF_ONE in before.id:
        raise failure(409, "of_one", "The client is one participant's own", "make an aggregator for several")
    _check_members(call, body.participants)
    client = await call.service.registry.clients.set_participants(before.id, body.participants)
    call.service.hub.end(client.id)
    await _note(call, "set_client_participants", client, 200)
    await note_access(call, sorted(before.participants - client.participants))
    return Answer(client_out(client))


@routes.get(
    "/clients/{client}/keys", "listClientKeys", "A client's keys, without their texts",
    scope=ADMIN, answer=Page[wire.KeyOut], query=Paged, problems=(404,),
)  # fmt: skip
async def list_client_keys(call: Call) -> Answer:
    """Live ones, oldest first."""
    client = await _named(call)
    await note_access(call, sorted(client.participants))
    keys = await call.service.registry.clients.keys(client.id)
    out = [key_out(key, client.role, sorted(client.participants)) for key in keys if key.revoked is None]
    return Answer(Listing[wire.KeyOut](call).page(numbered(out)))


@routes.post(
    "/clients/{client}/keys", "addClientKey", "Make a key of a client",
    scope=ADMIN, body=wire.ClientKeyIn, answer=wire.KeyOut, status=201, problems=(404, 409),
)  # fmt: skip
async def add_client_key(call: Call) -> Answer:
    """Its text is in this answer and nowhere else. `DELETE /keys/{key}` revokes it."""
    body: wire.ClientKeyIn = call.body
    client = await _live(call)
    made = await call.service.registry.clients.add_key(client.id, label=body.label, expires=expiry(body))
    await _note(call, "add_client_key", client, 201, key=made.key.id)
    return Answer(key_out(made.key, client.role, sorted(client.participants), made.text))


@routes.post(
    "/clients/{client}:secret", "setClientSecret", "Give a client a new secret",
    scope=ADMIN, answer=wire.ClientSecretOut, problems=(404, 409),
)  # fmt: skip
async def set_client_secret(call: Call) -> Answer:
    """For access tokens; it is in this answer and nowhere else. The old one ends at once, with the tokens it gave."""
    client = await _live(call)
    secret = await call.service.registry.clients.set_secret(client.id)
    call.service.hub.end(client.id)
    await _note(call, "set_client_secret", client, 200)
    return Answer(wire.ClientSecretOut(client.id, secret))
