"""What a journal is: records in a hash chain, appended in groups that are on the disk before the call returns.

A record's public body never names a person: people stand in it as member numbers. What is personal is a sealed part per
member, encrypted under that person's key (`market.journal.vault`). Destroying the key erases the person, while the
chain, which covers the ciphertext, still verifies.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.hashing import chain_digest

SCHEMA_VERSION = 1
"""Of the records' format; a journal of an older one is upgraded when it is opened."""

GENESIS_HASH = hashlib.sha256(b"peerwatt journal 1").digest()
"""What the first record links to."""


@dataclass(frozen=True, slots=True)
class Part:
    """The personal part of a record for one member.

    Parameters
    ----------
    member
        The person's pseudonym: its number in this journal.
    sealed
        12 bytes of nonce, then AES-256-GCM ciphertext and tag; additional data are the member number (8 bytes, big
        endian) and the record's kind.
    """

    member: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before it has a place in the chain.

    Parameters
    ----------
    at_us
        Engine time [microseconds since 1970, UTC]; never falls along the chain.
    kind
        What happened: the tag of its fact.
    body
        The public part, canonical JSON.
    parts
        Personal parts, by rising member number.
    unique
        A name that may occur once in a journal (``clear/spot/17/1``), or empty. A second record with it is refused by
        the store itself, whatever the engine believes.
    """

    at_us: int
    kind: str
    body: bytes
    parts: tuple[Part, ...] = ()
    unique: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A record with its place: ``seq`` counts from 1 without gaps, ``digest`` covers it and all before it."""

    seq: int
    draft: Draft
    digest: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: number and digest of its last record; (0, GENESIS_HASH) when empty."""

    seq: int = 0
    digest: bytes = GENESIS_HASH


_HEADER = struct.Struct(">QqII")


def chained(head: Head, draft: Draft) -> Record:
    """``draft`` linked to ``head``.

    The digest is SHA-256 over: the digest before (32 bytes); seq (u64), at_us (i64), length of the kind and number of
    parts (u32 each), all big endian; the kind; SHA-256 of the body; SHA-256 of ``unique``; and for each part its member
    (u64, big endian) and SHA-256 of its sealed bytes. docs/journal.md says the same for those who verify without us.
    """
    seq = head.seq + 1
    kind = draft.kind.encode()
    digest = chain_digest(
        head.digest,
        _HEADER.pack(seq, draft.at_us, len(kind), len(draft.parts)),
        kind,
        hashlib.sha256(draft.body).digest(),
        hashlib.sha256(draft.unique.encode()).digest(),
        *(part.member.to_bytes(8, "big") + hashlib.sha256(part.sealed).digest() for part in draft.parts),
    )
    return Record(seq, draft, digest)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state at a record, so that a restart need not begin at the first one. Disposable: it can be made again.

    ``sealed`` is encrypted under the vault's snapshot key, which changes when a person is erased.
    """

    seq: int
    digest: bytes
    sealed: bytes


class Journal(Protocol):
    """A store of records. One writer; readers may be many.

    Errors raised: `core.errors.JournalError` with place, reason and remedy: damaged, of a newer schema, already open by
    another writer, out of disk, or a broken promise (gap, second use of a ``unique`` name). After an error in `append`
    the journal takes nothing more until it is opened anew: nobody knows what reached the disk.
    """

    @property
    def head(self) -> Head:
        """The last durable record."""

    async def append(self, records: Sequence[Record]) -> None:
        """Make all of them durable, or none: when this returns, they survive SIGKILL and loss of power."""

    def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        """Records ``after < seq <= until`` in order, in bounded memory."""

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; older ones than the last two go."""

    async def load_snapshot(self) -> Snapshot | None:
        """The newest snapshot."""

    async def drop_snapshots(self) -> None:
        """Forget all snapshots, leaving nothing of them in the store's files."""

    async def close(self) -> None:
        """Let go of the store and of the writer's lock."""
