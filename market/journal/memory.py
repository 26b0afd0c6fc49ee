"""Journal and vault in memory: the whole contract but the disk. For tests of the engine and for replays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from core.errors import JournalError
from market.journal.groups import Writer, second_use
from market.journal.protocol import Head, Record, Snapshot
from market.journal.vault import Entry, Keyring, new_key

Hook = Callable[[Sequence[Record]], Awaitable[None]]
_KEPT_SNAPSHOTS = 2


class MemoryStore:
    """What stays when a `MemoryJournal` is closed, or "crashes": its disk, so to say."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.names: set[str] = set()
        self.snapshots: list[Snapshot] = []
        self.writer: MemoryJournal | None = None


class MemoryJournal:
    """A journal in a list.

    Parameters
    ----------
    store
        What an earlier one left behind; a new one if None. JournalError while another journal writes to it.
    before, after
        Awaited with each group before it is taken, and after it is taken but before `append` returns. They may wait;
        raising in ``before`` is an append that failed with nothing on the disk, in ``after`` one whose caller never
        learned that everything is there. Both may be set later.
    """

    def __init__(
        self, store: MemoryStore | None = None, *, before: Hook | None = None, after: Hook | None = None
    ) -> None:
        self.store = MemoryStore() if store is None else store
        if self.store.writer is not None:
            raise JournalError("another writer has it open", journal="memory", remedy="close that one first")
        self.store.writer = self
        self.before = before
        self.after = after
        records = self.store.records
        head = Head(records[-1].seq, records[-1].digest) if records else Head()
        self._writer = Writer("memory", head, records[-1].draft.at_us if records else -(2**63))

    @property
    def head(self) -> Head:
        """See `market.journal.protocol.Journal`."""
        return self._writer.head

    async def append(self, records: Sequence[Record]) -> None:
        """See `market.journal.protocol.Journal`."""
        writer = self._writer
        writer.admit(records)
        if not records:
            writer.busy = False
            return
        try:
            if self.before is not None:
                await self.before(records)
            self._take(records)
            if self.after is not None:
                await self.after(records)
        except BaseException as error:
            failed = writer.fail(str(error) or type(error).__name__)
            if isinstance(error, JournalError) or not isinstance(error, Exception):
                raise
            raise failed from error
        writer.done(records)

    def _take(self, records: Sequence[Record]) -> None:
        names: set[str] = set()
        for record in records:
            name = record.draft.unique
            if name in self.store.names or name in names:
                raise JournalError(second_use(name), journal="memory", seq=record.seq)
            if name:
                names.add(name)
        if self.store.writer is not self:
            raise JournalError("has another writer by now", journal="memory")
        self.store.names.update(names)
        self.store.records.extend(records)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        """See `market.journal.protocol.Journal`."""
        end = self.head.seq if until is None else min(until, self.head.seq)
        for place in range(after, end):
            yield self.store.records[place]

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `market.journal.protocol.Journal`."""
        kept = [old for old in self.store.snapshots if old.seq != snapshot.seq]
        self.store.snapshots = sorted([*kept, snapshot], key=lambda one: one.seq)[-_KEPT_SNAPSHOTS:]

    async def load_snapshot(self) -> Snapshot | None:
        """See `market.journal.protocol.Journal`."""
        for snapshot in reversed(self.store.snapshots):
            records = self.store.records
            if 0 < snapshot.seq <= len(records) and records[snapshot.seq - 1].digest == snapshot.digest:
                return snapshot
        return None

    async def drop_snapshots(self) -> None:
        """See `market.journal.protocol.Journal`."""
        self.store.snapshots = []

    async def close(self) -> None:
        """See `market.journal.protocol.Journal`."""
        self._writer.closed = True
        if self.store.writer is self:
            self.store.writer = None

    def crash(self) -> MemoryStore:
        """Be gone without closing; returns what is left, to be opened anew. Later appends here fail."""
        self.store.writer = None
        self._writer.failure = "the process is gone"
        return self.store


class MemoryVault(Keyring):
    """A vault that keeps nothing: see `market.journal.vault.Vault`. Closing it does not empty it."""

    def __init__(self) -> None:
        super().__init__("memory", (), (), new_key())

    async def add(self, member: int, participant_id: str) -> None:
        """See `market.journal.vault.Vault`."""
        await self.add_many([(member, participant_id)])

    async def add_many(self, people: Sequence[tuple[int, str]]) -> None:
        """See `market.journal.vault.Vault`."""
        await self.load([self._new_entry(member, participant_id) for member, participant_id in people], ())

    async def load(self, entries: Sequence[Entry], erased: Iterable[int]) -> None:
        """See `market.journal.vault.Vault`."""
        self._check_new(entries)
        self._take_over(entries, erased)

    async def erase(self, member: int) -> None:
        """See `market.journal.vault.Vault`."""
        self._forget(member)

    async def rotate_snapshot_key(self) -> None:
        """See `market.journal.vault.Vault`."""
        self._snapshot_key = new_key()

    async def close(self) -> None:
        """See `market.journal.vault.Vault`."""
