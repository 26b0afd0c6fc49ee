"""Clients and their keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from peerwatt.api.roles import ROLES
from peerwatt.store import secrets
from peerwatt.store.database import Database
from peerwatt.store.records import ApiKey, Client, Identity, NewKey, RegistryError
from peerwatt.store.schema import TEXT_LENGTH, ActsForRow, ClientRow, KeyRow
from peerwatt.store.settings import count_change, last_change

CLIENT_ID = re.compile(r"[a-z0-9][a-z0-9._~-]{0,127}")
_KEY_ID = re.compile(r"[a-z2-7]{8}")
PARTICIPANT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
MAX_KEYS = 100
"""Live keys a client may have."""

Listener = Callable[[str, Identity | None, int], None]
"""Told (client id, identity or None when it is revoked or gone, number of the change) after a change is durable."""


class Clients:
    """Who may ask. ``now`` is the wall clock; every change is told to the listeners before the call returns."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._listeners: list[Listener] = []
        self._changing = asyncio.Lock()  # so that listeners hear of changes in the order in which they became durable

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hear of every change made through this object; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def identities(self) -> tuple[list[Identity], int]:
        """Every live client with its live keys, and the number of the last change."""
        async with self._database.read() as session:
            number = await last_change(session)  # first: what is read after it is at least as new
            return await _identities(session), number

    async def change_number(self) -> int:
        """Number of the last change to a client or key, also by other processes."""
        async with self._database.read() as session:
            return await last_change(session)

    async def get(self, client: str) -> Client:
        """A client, also a revoked one; RegistryError if there is none."""
        async with self._database.read() as session:
            return await _client(session, client)

    async def find(self, *, participant: str | None = None, after: str = "", limit: int = 1000) -> list[Client]:
        """Clients in order of id, also revoked ones; with ``participant`` those that act for it by name."""
        wanted = select(ClientRow.id).where(ClientRow.id > after).order_by(ClientRow.id).limit(limit)
        if participant is not None:
            wanted = wanted.join(ActsForRow, ActsForRow.client == ClientRow.id).where(
                ActsForRow.participant == participant
            )
        async with self._database.read() as session:
            return [await _client(session, client) for client in await session.scalars(wanted)]

    async def keys(self, client: str | None = None, *, participant: str | None = None) -> list[ApiKey]:
        """Keys of a client, or of all that act for a participant by name, oldest first, also revoked ones."""
        wanted = select(KeyRow).order_by(KeyRow.created, KeyRow.id)
        if client is not None:
            wanted = wanted.where(KeyRow.client == client)
        if participant is not None:
            wanted = wanted.join(ActsForRow, ActsForRow.client == KeyRow.client).where(
                ActsForRow.participant == participant
            )
        async with self._database.read() as session:
            return [key_of(row) for row in await session.scalars(wanted)]

    async def key(self, key: str) -> ApiKey:
        """A key by its id; RegistryError if there is none."""
        async with self._database.read() as session:
            return key_of(await _key(session, key))

    async def secret_hash(self, client: str) -> str | None:
        """The scrypt hash of a live client's OAuth secret; None if it has none, or there is no such client."""
        if not CLIENT_ID.fullmatch(client):
            return None
        wanted = select(ClientRow.secret_hash).where(ClientRow.id == client, ClientRow.revoked.is_(None))
        async with self._database.read() as session:
            return await session.scalar(wanted)

    # --- changing -----------------------------------------------------------------------------------------------------

    async def add(
        self,
        client: str,
        role: str,
        *,
        participants: Iterable[str] = (),
        display_name: str = "",
        everybody: bool = False,
    ) -> Client:
        """Make a client.

        Raises
        ------
        RegistryError
            If there is one of that id (also a revoked one), or the role cannot act for those participants.
        """
        acts_for = frozenset(participants)
        _check(client, role, acts_for, display_name, everybody=everybody)

        async def make(session: AsyncSession) -> None:
            session.add(
                ClientRow(
                    id=client,
                    role=role,
                    display_name=display_name,
                    everybody=everybody,
                    created=self._now(),
                    version=1,
                )
            )
            await session.flush()
            session.add_all(ActsForRow(client=client, participant=name) for name in sorted(acts_for))

        try:
            await self._change(client, make)
        except IntegrityError as error:
            raise RegistryError("exists", f"there is a client {client!r} already") from error
        return await self.get(client)

    async def client_for(self, participant: str, role: str) -> Client:
        """The client ``PARTICIPANT~ROLE`` that acts for one participant, made if there is none."""
        name = f"{participant}~{role}"
        try:
            return await self.get(name)
        except RegistryError:
            pass
        try:
            return await self.add(name, role, participants=(participant,))
        except RegistryError as error:
            if error.reason != "exists":
                raise
            return await self.get(name)

    async def set_participants(self, client: str, participants: Iterable[str]) -> Client:
        """Say anew for whom a client acts; holds at once."""
        acts_for = frozenset(participants)

        async def change(session: AsyncSession) -> None:
            row = await _row(session, client)
            _check(client, row.role, acts_for, row.display_name, everybody=row.everybody)
            await session.execute(delete(ActsForRow).where(ActsForRow.client == client))
            session.add_all(ActsForRow(client=client, participant=name) for name in sorted(acts_for))

        await self._change(client, change)
        return await self.get(client)

    async def set_secret(self, client: str) -> str:
        """Give a client a new OAuth secret, told once; its old one and the tokens it has end at once."""
        secret = secrets.random_text()
        kept = await asyncio.to_thread(secrets.hash_secret, secret)

        async def change(session: AsyncSession) -> None:
            row = await _row(session, client)
            row.secret_hash = kept
            row.version += 1

        await self._change(client, change)
        return secret

    async def revoke(self, client: str) -> None:
        """End a client with all its keys and tokens, at once and for good."""

        async def change(session: AsyncSession) -> None:
            row = await _row(session, client)
            row.revoked = row.revoked or self._now()
            row.secret_hash = None
            row.version += 1
            ended = update(KeyRow).where(KeyRow.client == client, KeyRow.revoked.is_(None))
            await session.execute(ended.values(revoked=self._now()))

        await self._change(client, change)

    async def add_key(
        self, client: str, *, label: str = "", expires: datetime | None = None, text: secrets.KeyText | None = None
    ) -> NewKey:
        """Make an API key; its text is in the answer and nowhere else. ``text``: one that was made before.

        Raises
        ------
        RegistryError
            If there is no such live client, it has too many keys, or the expiry has passed.
        """
        now = self._now()
        if len(label) > TEXT_LENGTH or not label.isprintable():
            raise RegistryError("bad_value", f"a label is at most {TEXT_LENGTH} printable characters")
        if expires is not None and (expires.tzinfo is None or expires <= now):
            raise RegistryError("bad_value", "the key would have expired already")
        made = text or secrets.make_key()
        row = KeyRow(
            id=made.id,
            client=client,
            digest=made.digest,
            prefix=made.prefix,
            label=label,
            created=now,
            expires=expires,
        )

        async def add(session: AsyncSession) -> None:
            if (await _row(session, client)).revoked is not None:
                raise RegistryError("not_open", f"the client {client!r} is revoked")
            live = await session.scalars(select(KeyRow).where(KeyRow.client == client, KeyRow.revoked.is_(None)))
            if sum(1 for key in live if key.expires is None or key.expires > now) >= MAX_KEYS:
                raise RegistryError("too_many", f"a client has at most {MAX_KEYS} keys", remedy="revoke old ones")
            session.add(row)

        await self._change(client, add)
        return NewKey(made.text, key_of(row))

    async def revoke_key(self, key: str) -> ApiKey:
        """End a key at once, and the tokens of its client, which it may have got. A second time changes nothing."""
        owner = (await self.key(key)).client

        async def change(session: AsyncSession) -> None:
            row = await _key(session, key)
            if row.revoked is None:
                row.revoked = self._now()
                (await _row(session, owner)).version += 1

        await self._change(owner, change)
        return await self.key(key)

    async def note_used(self, used: dict[str, datetime]) -> None:
        """Write down when keys were last used; nobody is told of it."""
        if used:
            async with self._database.write() as session:
                for key, at in sorted(used.items()):
                    await session.execute(update(KeyRow).where(KeyRow.id == key).values(last_used=at))

    async def change_many(self, change: Callable[[AsyncSession], Awaitable[Iterable[str]]]) -> None:
        """Make a change that returns which clients it touched, and tell the listeners of each."""
        async with self._changing:
            async with self._database.write() as session:
                version = await count_change(session, self._now())
                touched = sorted(set(await change(session)))
                await session.flush()
                found = {client: await _identity(session, client) for client in touched}
            for client, identity in found.items():
                for listener in tuple(self._listeners):
                    listener(client, identity, version)

    async def _change(self, client: str, change: Callable[[AsyncSession], Awaitable[None]]) -> None:
        async def one(session: AsyncSession) -> tuple[str, ...]:
            await change(session)
            return (client,)

        await self.change_many(one)


def key_of(row: KeyRow) -> ApiKey:
    """A row of the table as what is handed out."""
    return ApiKey(
        row.id,
        row.client,
        row.digest,
        row.prefix,
        row.label,
        row.created,
        row.expires,
        row.last_used,
        row.revoked,
    )


def _check(client: str, role: str, participants: frozenset[str], display_name: str, *, everybody: bool) -> None:
    if not CLIENT_ID.fullmatch(client):
        raise RegistryError("bad_value", f"{client!r} is no id: small letters, digits, and . _ ~ - inside")
    if role not in ROLES:
        raise RegistryError("bad_value", f"there is no role {role!r}", remedy=f"one of {', '.join(ROLES)}")
    if len(display_name) > TEXT_LENGTH or not display_name.isprintable():
        raise RegistryError("bad_value", f"a display name is at most {TEXT_LENGTH} printable characters")
    reach = ROLES[role].reach
    if bad := sorted(name for name in participants if not PARTICIPANT_ID.fullmatch(name)):
        raise RegistryError("bad_value", f"{bad[0]!r} is no participant's id")
    if reach == "one" and len(participants) != 1:
        raise RegistryError("bad_value", f"a {role} acts for one participant", remedy="an aggregator acts for several")
    if everybody and reach != "any":
        raise RegistryError("bad_value", f"a {role} cannot be given all participants")
    if participants and reach in ("all", "none"):
        raise RegistryError("bad_value", f"a {role} does not act for single participants")


async def _row(session: AsyncSession, client: str) -> ClientRow:
    # Not everything that may stand in a URL can be asked of every database.
    row = await session.get(ClientRow, client) if CLIENT_ID.fullmatch(client) else None
    if row is None:
        raise RegistryError("unknown", f"there is no client {client!r}")
    return row


async def _key(session: AsyncSession, key: str) -> KeyRow:
    row = await session.get(KeyRow, key) if _KEY_ID.fullmatch(key) else None
    if row is None:
        raise RegistryError("unknown", f"there is no key {key!r}")
    return row


async def _client(session: AsyncSession, client: str) -> Client:
    row = await _row(session, client)
    names = await session.scalars(select(ActsForRow.participant).where(ActsForRow.client == client))
    return _client_of(row, frozenset(names))


def _client_of(row: ClientRow, participants: frozenset[str]) -> Client:
    return Client(
        row.id,
        row.role,
        row.display_name,
        participants,
        row.everybody,
        row.created,
        row.revoked,
        row.version,
        row.secret_hash is not None,
    )


async def _identity(session: AsyncSession, client: str) -> Identity | None:
    row = await session.get(ClientRow, client, populate_existing=True)
    if row is None or row.revoked is not None:
        return None
    names = await session.scalars(select(ActsForRow.participant).where(ActsForRow.client == client))
    keys = await session.scalars(
        select(KeyRow)
        .where(KeyRow.client == client, KeyRow.revoked.is_(None))
        .execution_options(populate_existing=True)
    )
    return Identity(_client_of(row, frozenset(names)), tuple(key_of(key) for key in keys))


async def _identities(session: AsyncSession) -> list[Identity]:
    """All at once: three queries, however many clients."""
    acts_for: dict[str, set[str]] = {}
    for link in await session.scalars(select(ActsForRow)):
        acts_for.setdefault(link.client, set()).add(link.participant)
    keys: dict[str, list[ApiKey]] = {}
    for key in await session.scalars(select(KeyRow).where(KeyRow.revoked.is_(None))):
        keys.setdefault(key.client, []).append(key_of(key))
    rows = await session.scalars(select(ClientRow).where(ClientRow.revoked.is_(None)).order_by(ClientRow.id))
    return [Identity(_client_of(row, frozenset(acts_for.get(row.id, ()))), tuple(keys.get(row.id, ()))) for row in rows]
