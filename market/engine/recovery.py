"""From a journal to a state, and from facts to records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from core.errors import JournalError
from market.engine import facts as f
from market.engine.apply import Applier, first_state
from market.engine.config import EngineConfig
from market.engine.state import State, decode_state, encode_state
from market.engine.turn import Decided
from market.journal.protocol import SCHEMA_VERSION, Draft, Head, Journal, Part, Record, Snapshot, chained
from market.journal.vault import Vault

_ENCODER = msgspec.json.Encoder()
_FACTS = msgspec.json.Decoder(f.AnyFact)
_PARTS = msgspec.json.Decoder(f.AnyPart)


def drafted(decided: Decided, vault: Vault) -> Draft:
    """A fact as a record's draft, its parts sealed."""
    kind = type(decided.fact).__name__.lower()
    parts = tuple(
        Part(member, vault.seal(member, kind, _ENCODER.encode(part))) for member, part in sorted(decided.parts.items())
    )
    return Draft(decided.at_us, kind, _ENCODER.encode(decided.fact), parts, decided.unique)


def fact_of(record: Record, vault: Vault | None) -> tuple[f.Fact, Mapping[int, f.Part | None]]:
    """A record's fact and parts; a part is None where its member is erased, or without a vault.

    Raises
    ------
    JournalError
        If the record is none that this software knows.
    """
    draft = record.draft
    try:
        fact: f.Fact = _FACTS.decode(draft.body)
        parts: dict[int, f.Part | None] = {}
        for part in draft.parts:
            plain = None if vault is None else vault.open(part.member, draft.kind, part.sealed)
            parts[part.member] = None if plain is None else _PARTS.decode(plain)
    except msgspec.DecodeError as error:
        raise JournalError(
            f"is not understood: {error}", seq=record.seq, remedy="open it with the version that wrote it"
        ) from error
    return fact, parts


def config_of(record: Record) -> EngineConfig:
    """The market's set-up, from a journal's first record.

    Raises
    ------
    JournalError
        If it is not a first record, or of a newer software.
    """
    fact, _ = fact_of(record, None)
    if not isinstance(fact, f.Genesis) or record.seq != 1:
        raise JournalError("is not a market's first record", seq=record.seq)
    if fact.schema > SCHEMA_VERSION:
        raise JournalError(
            f"is of format {fact.schema}, this software knows {SCHEMA_VERSION}", seq=1, remedy="use a newer peerwatt"
        )
    return msgspec.convert(fact.config, EngineConfig)


class Began(NamedTuple):
    """A snapshot: the record it was taken at (0: none), and the engine time of that."""

    seq: int
    at_us: int


async def recover(
    journal: Journal, vault: Vault, now_us: int, genesis: EngineConfig | None
) -> tuple[Applier, Head, Began]:
    """The state that a journal comes to, its head, and the snapshot it began with.

    An empty journal gets its first record.

    Every record after the snapshot is checked against the chain.
    """
    if journal.head.seq == 0:
        if genesis is None:
            raise JournalError("is empty", remedy="say which market it is to be")
        first = Decided(now_us, f.Genesis(msgspec.to_builtins(genesis)), {}, "genesis")
        await journal.append([chained(Head(), drafted(first, vault))])
    applier, head = await _start(journal, vault, genesis)
    began = Began(head.seq, applier.state.at_us)
    async for record in journal.read(head.seq):
        again = chained(head, record.draft)
        if (again.seq, again.digest) != (record.seq, record.digest):
            raise JournalError(
                "does not follow from the record before", seq=record.seq,
                remedy="the journal was changed or damaged: restore a backup; `peerwatt journal verify` says more",
            )  # fmt: skip
        applier.apply(record.seq, record.draft.at_us, *fact_of(record, vault))
        applier.news.clear()
        head = Head(record.seq, record.digest)
    if head != journal.head:
        raise JournalError("ends before its head", seq=head.seq, remedy="restore a backup")
    applier.touched.clear()
    return applier, head, began


async def _start(journal: Journal, vault: Vault, genesis: EngineConfig | None) -> tuple[Applier, Head]:
    """Where recovery begins: the newest snapshot that can be read and belongs to this chain, or before record 1."""
    config: EngineConfig | None = None
    async for record in journal.read(0, 1):
        config = config_of(record)
    assert config is not None, "a journal with a head has a first record"
    if genesis is not None and (other := _differences(config, genesis)):
        raise JournalError(
            f"belongs to another market: {other}",
            remedy="use the same scenario and options as when it was made, or another data folder",
        )
    snapshot = await journal.load_snapshot()
    if snapshot is not None and (state := await _state_of(snapshot, journal, vault)) is not None:
        return Applier(state), Head(snapshot.seq, snapshot.digest)
    return Applier(first_state(config)), Head()


def _differences(there: EngineConfig, asked: EngineConfig) -> str:
    """What two set-ups differ in, in words; empty if in nothing."""
    mine, yours = msgspec.to_builtins(there), msgspec.to_builtins(asked)
    names = [name for name in mine if mine[name] != yours[name]]
    return "; ".join(f"{name} is {mine[name]!r} in the journal and {yours[name]!r} here" for name in names)


async def _state_of(snapshot: Snapshot, journal: Journal, vault: Vault) -> State | None:
    plain = vault.open_snapshot(snapshot.sealed)
    if plain is None:
        return None
    async for record in journal.read(snapshot.seq - 1, snapshot.seq):
        if record.digest != snapshot.digest:
            return None
    try:
        state = decode_state(plain)
    except msgspec.DecodeError:
        return None  # of another version of this software; everything is in the journal
    return state if state.seq == snapshot.seq else None


async def save_snapshot(journal: Journal, vault: Vault, head: Head, state: State) -> None:
    """Keep the state at the journal's head."""
    await journal.save_snapshot(Snapshot(head.seq, head.digest, vault.seal_snapshot(encode_state(state))))
