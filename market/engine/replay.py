"""A live market lived again from its journal: every book, price and ledger computed anew, held against the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from core.errors import JournalError
from market.engine import facts as f
from market.engine.apply import Applier, first_state
from market.engine.clearing import clear_slot
from market.engine.recovery import config_of, fact_of
from market.engine.settlement import settle_slot
from market.engine.state import State
from market.journal.protocol import Head, Journal, chained
from market.journal.vault import Vault

_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found.

    Parameters
    ----------
    state
        The state at the end.
    head
        The last record.
    state_digest, output_digest
        SHA-256 of the state, and of everything the market told on the way: equal in every process.
    cleared, settled
        Slots whose books were cleared, and versions of slots that were settled.
    recomputed
        Of these, those computed anew and found equal.
    taken
        Those that were taken as recorded: a member is erased, or an optimiser or the network was in the rule.
    """

    state: State
    head: Head
    state_digest: str
    output_digest: str
    cleared: int
    settled: int
    recomputed: int
    taken: int


async def replay(
    journal: Journal, vault: Vault | None, *, until: int | None = None, progress: Callable[[int], None] | None = None
) -> Replay:
    """Go through a journal from its first record.

    Parameters
    ----------
    journal, vault
        Without a vault everybody is as if erased: books cannot be computed anew, ledgers still have to balance.
    until
        The last record to look at.
    progress
        Called with the number of each record now and then.

    Raises
    ------
    JournalError
        Naming the first record that breaks the chain, does not follow from what was before, or says of a book or a
        ledger something else than what it comes to.
    """
    judge = _Judge(vault)
    async for record in journal.read(0, until):
        again = chained(judge.head, record.draft)
        if (again.seq, again.digest) != (record.seq, record.digest):
            raise JournalError("does not follow from the record before: the journal was changed", seq=record.seq)
        if judge.applier is None:
            judge.applier = Applier(first_state(config_of(record)))
        judge.take(record.seq, record.draft.at_us, *fact_of(record, vault))
        judge.head = Head(record.seq, record.digest)
        if progress is not None and record.seq % 1000 == 0:
            progress(record.seq)
    if judge.applier is None:
        raise JournalError("is empty", remedy="name a journal that a market has written")
    return judge.found()


class _Judge:
    """Applies facts and computes anew what can be computed."""

    def __init__(self, vault: Vault | None) -> None:
        self.vault = vault
        self.head = Head()
        self.applier: Applier | None = None
        self.cleared = self.settled = self.recomputed = self.taken = 0
        self._output = hashlib.sha256()

    def take(self, seq: int, at_us: int, fact: f.Fact, parts: Mapping[int, f.Part | None]) -> None:
        assert self.applier is not None
        if isinstance(fact, f.Cleared):
            self.cleared += 1
            self._judge(seq, fact, parts, self._clear(fact))
        elif isinstance(fact, f.Settled):
            self.settled += 1
            self._judge(seq, fact, parts, self._settle(fact))
        self.applier.apply(seq, at_us, fact, parts)
        if imbalance := self.applier.state.imbalance_u():
            raise JournalError(f"leaves {imbalance} micro-currency without an owner", seq=seq)
        for news in self.applier.news:
            self._output.update(
                _ENCODER.encode((news.seq, news.at_us, news.topic, news.market, news.slot, news.member, news.data))
            )
        self.applier.news.clear()
        self.applier.touched.clear()

    def _clear(self, fact: f.Cleared) -> tuple[f.Fact, dict[int, f.Part]] | None:
        assert self.applier is not None
        state = self.applier.state
        book = state.markets[fact.market].books.get(fact.slot)
        if fact.recorded or book is None or book.erased:
            return None
        return clear_slot(state, self.applier.caches, fact.market, fact.slot)

    def _settle(self, fact: f.Settled) -> tuple[f.Fact, dict[int, f.Part]] | None:
        assert self.applier is not None
        state = self.applier.state
        slot = state.slots[fact.slot]
        return None if slot.erased else settle_slot(state, self.applier.caches, fact.slot, fact.reason)

    def _judge(
        self, seq: int, fact: f.Fact, parts: Mapping[int, f.Part | None], anew: tuple[f.Fact, dict[int, f.Part]] | None
    ) -> None:
        if anew is None or any(part is None for part in parts.values()):
            self.taken += 1
            return
        if anew != (fact, dict(parts)):
            raise JournalError(
                f"says of slot {getattr(fact, 'slot', '?')} something else than what its orders and meters come to",
                seq=seq,
                remedy="replay with the software version that wrote the journal; if it was, the journal is forged",
            )
        self.recomputed += 1

    def found(self) -> Replay:
        assert self.applier is not None
        state = self.applier.state
        return Replay(
            state, self.head, state.digest(), self._output.hexdigest(), self.cleared, self.settled, self.recomputed,
            self.taken,
        )  # fmt: skip
