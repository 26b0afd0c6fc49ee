"""The asynchronous engine: one writer that decides, journals, and only then answers.

    command -> decide and apply in memory -> one journal append for the whole group -> answers, news, readers

The state in memory may be ahead of the journal by one group, and nobody sees it then: answers wait for the append, and
readers get their turn between groups. Should an append fail, nothing of the group is answered and the engine stops for
good, since nobody knows what reached the disk; a new one starts from the journal. Overload is refused at the door.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from core.errors import JournalError, MarketError, PeerwattError
from market.engine import facts as f
from market.engine.apply import Applier
from market.engine.clearing import Wires
from market.engine.commands import Command, Done, Join, Refused, Reply, Tick
from market.engine.config import EngineConfig
from market.engine.facts import SlotPrices
from market.engine.looking import depth
from market.engine.ports import Clock, Forget, Held, Limits, Overloaded, Sink, Watcher
from market.engine.publication import Publication
from market.engine.recovery import Began, drafted, recover, save_snapshot
from market.engine.running import HANDLERS, join_fault
from market.engine.schedule import NEVER_US, next_due_us
from market.engine.state import ERASED, State
from market.engine.turn import Decided, Turn
from market.journal.protocol import Head, Journal, Record, chained
from market.journal.vault import Vault

__all__ = ["Clock", "Engine", "Limits", "Overloaded", "Watcher"]

T = TypeVar("T")

_NO_GATES: frozenset[tuple[str, int]] = frozenset()
_BOOK_EVERY_S = 0.5
_LONGEST_WAIT_S = 0.25
_SHORTEST_WAIT_S = 0.001


@dataclass(slots=True)
class _Waiting:
    command: Command
    future: asyncio.Future[Reply]


class Engine:
    """A live market. Make it with `open`, keep `run` running, end it with `stop`."""

    def __init__(
        self, journal: Journal, vault: Vault, clock: Clock, applier: Applier, head: Head,
        prices: Callable[[int], SlotPrices], wires: Wires | None, limits: Limits,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.vault = vault
        self.clock = clock
        self.limits = limits
        self.head = head
        self.broken: BaseException | None = None
        self.watcher: Watcher | None = None
        self.before_erase: list[Forget] = []
        self._applier = applier
        self._prices = prices
        self._wires = wires
        self._queue: list[_Waiting] = []
        self._reads: list[tuple[Callable[[State], Any], asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._busy = False
        self._stopping = False
        self._sinks: list[Sink] = []
        self._snapshot = Began(head.seq, applier.state.at_us)
        self._changed_books: set[tuple[str, int]] = set()
        self._hold: Held | None = None

    @classmethod
    async def open(
        cls,
        journal: Journal,
        vault: Vault,
        clock: Clock,
        *,
        genesis: EngineConfig | None = None,
        prices: Callable[[int], SlotPrices] | None = None,
        wires: Wires | None = None,
        limits: Limits | None = None,
    ) -> Engine:
        """Start from a journal: from its newest snapshot and what follows it, or as a new market.

        Parameters
        ----------
        journal, vault
            Open ones; closing them is the caller's.
        clock
            Engine time.
        genesis
            The market's set-up: needed for an empty journal, and compared with that of another.
        prices
            A slot's prices as it opens; default: none.
        wires
            For rules that look at the network.

        Raises
        ------
        JournalError
            If the journal is damaged, or another market's.
        MarketError
            If a rule cannot be had.
        """
        applier, head, began = await recover(journal, vault, clock(), genesis)
        no_prices = SlotPrices(())
        engine = cls(
            journal, vault, clock, applier, head, prices or (lambda slot: no_prices), wires, limits or Limits()
        )
        engine._snapshot = began
        await engine._drop_strangers()
        return engine

    # --- what others use ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> EngineConfig:
        """How the market is set up."""
        return self._applier.state.config

    @property
    def state(self) -> State:
        """The state; look at it inside `read` only."""
        return self._applier.state

    @property
    def waiting(self) -> int:
        """Commands in the queue."""
        return len(self._queue)

    def member_of(self, participant_id: str) -> int | None:
        """A participant's number."""
        return self.vault.member_of(participant_id)

    def participant_of(self, member: int) -> str | None:
        """A member's participant id; None once it is erased."""
        return self.vault.participant_of(member)

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Hand all further news to ``sink``, in order, once they are durable. Returns what ends it."""
        self._sinks.append(sink)

        def end() -> None:
            with suppress(ValueError):
                self._sinks.remove(sink)

        return end

    async def submit(self, command: Command) -> Reply:
        """Have a command carried out; its effects are durable when this returns.

        Raises
        ------
        Overloaded
            If too many wait. Nothing was done.
        JournalError
            If the engine has stopped. Whether the command's effects are durable is not known: ask again with the same
            idempotency key when there is a new engine.
        """
        if self.broken is not None or self._stopping:
            raise self._stopped()
        if len(self._queue) >= self.limits.queue:
            raise Overloaded(self.limits.retry_after_s)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(command, future))
        self._wake.set()
        return await future

    async def read(self, query: Callable[[State], T]) -> T:
        """What ``query`` finds in the state, of which everything is durable. It must be short and change nothing."""
        if not self._busy:
            if self.broken is not None:
                raise self._stopped()
            return query(self._applier.state)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._reads.append((query, future))
        return await future

    async def run(self, hold: Held | None = None) -> None:
        """Write and keep time until `stop`. ``hold`` names gates that wait for the neighbourhood's own bids.

        Raises
        ------
        JournalError
            When the journal fails: the engine is then broken.
        """
        self._hold = hold
        schedule = asyncio.create_task(self._keep_time())
        try:
            await self._finish_erasures()  # here and not on opening: whoever has to forget too has said so by now
            await self._write()
        except BaseException as error:
            self._break(error)
            raise
        finally:
            schedule.cancel()
            with suppress(asyncio.CancelledError):
                await schedule

    async def stop(self) -> None:
        """Answer what waits, take a snapshot, and let `run` return."""
        self._stopping = True
        self._wake.set()

    async def snapshot(self) -> None:
        """Take a snapshot of everything durable. For use between groups."""
        await save_snapshot(self.journal, self.vault, self.head, self._applier.state)
        self._snapshot = Began(self.head.seq, self._applier.state.at_us)

    @property
    def snapshot_age_s(self) -> float:
        """Engine time since the newest snapshot [s]; NaN without one."""
        return max(0, self.clock() - self._snapshot.at_us) / 1e6 if self._snapshot.seq else math.nan

    # --- the writer ---------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    break
                self._wake.clear()
                await self._wake.wait()
                continue
            group, self._queue = self._queue[: self.limits.group], self._queue[self.limits.group :]
            self._busy = True
            try:
                await self._carry_out(group)
            finally:
                self._busy = False
            self._serve_readers()
            if 0 < self.limits.snapshot_records <= self.head.seq - self._snapshot.seq:
                await self.snapshot()
            await asyncio.sleep(0)  # those who were answered, and readers, come first
        if self.limits.snapshot_records and self.head.seq > self._snapshot.seq:
            await self.snapshot()

    async def _carry_out(self, group: list[_Waiting]) -> None:
        """Decide a group, make it durable, then answer and tell."""
        replies: list[tuple[_Waiting, Reply | PeerwattError]] = []
        decided: list[Decided] = []
        try:
            replies += [(waiting, await self._decide(waiting.command, decided)) for waiting in group]
            records = self._chain(decided)
            if self.watcher is not None:
                self.watcher.group(len(group), len(records))
            if records:
                await self.journal.append(records)
                self.head = Head(records[-1].seq, records[-1].digest)
            if self.watcher is not None:
                self.watcher.committed()
            await self._after_commit(decided)
        except BaseException as error:
            self._break(error)
            for waiting in group:
                if not waiting.future.done():
                    waiting.future.set_exception(self._stopped())
            raise
        for waiting, reply in replies:
            self._answer(waiting, reply)
        self._tell()

    async def _decide(self, command: Command, decided: list[Decided]) -> Reply | PeerwattError:
        """Carry a command out on the state in memory. An error before its first fact is the caller's alone."""
        turn = Turn(self._applier, self.clock(), self._prices, self._wires)
        if isinstance(command, Join):
            refused = await self._prepare_join(turn, command)
            if refused is not None:
                return refused
        try:
            return HANDLERS[type(command)](turn, command)
        except MarketError as error:
            return error
        finally:
            decided += turn.decided

    async def _prepare_join(self, turn: Turn, command: Join) -> Refused | None:
        """Make the new member's key, durable before anything is sealed with it."""
        if (fault := join_fault(turn, command)) is not None:
            return fault
        if self.vault.member_of(command.participant_id) is not None:
            return Refused("bad_value", "there is a participant with this id")
        taken = max([*self.vault.members(), *self.vault.erased(), -1]) + 1
        turn.new_member = max(self._applier.state.next_member, taken)
        await self.vault.add(turn.new_member, command.participant_id)
        return None

    def _chain(self, decided: list[Decided]) -> list[Record]:
        records: list[Record] = []
        head = self.head
        for one in decided:
            record = chained(head, drafted(one, self.vault))
            records.append(record)
            head = Head(record.seq, record.digest)
        return records

    async def _after_commit(self, decided: list[Decided]) -> None:
        if any(isinstance(one.fact, f.Erased) for one in decided):
            await self._finish_erasures()

    async def _drop_strangers(self) -> None:
        """Destroy keys that were made for members whose joining a crash cut short. Their numbers stay unused."""
        for member in self.vault.members():
            if member not in self.state.members:
                await self.vault.erase(member)

    async def _finish_erasures(self) -> None:
        """Destroy the keys of erased members, wherever a crash left that undone, and every snapshot with their data."""
        gone = [m.member for m in self.state.members.values() if m.status == ERASED]
        known = [(m, pid) for m in gone if (pid := self.vault.participant_of(m)) is not None]
        for member, participant_id in known:
            for forget in self.before_erase:
                await forget(member, participant_id)
            await self.vault.erase(member)
        if known:
            await self.journal.drop_snapshots()
            await self.vault.rotate_snapshot_key()
            await self.snapshot()

    def _answer(self, waiting: _Waiting, reply: Reply | PeerwattError) -> None:
        if self.watcher is not None:
            outcome = "error" if isinstance(reply, PeerwattError) else "done"
            if isinstance(reply, Refused):
                outcome = reply.code
            elif isinstance(reply, Done) and reply.repeated:
                outcome = "repeated"
            self.watcher.command(type(waiting.command).__name__, outcome)
        if waiting.future.done():  # the client has gone
            return
        if isinstance(reply, PeerwattError):
            waiting.future.set_exception(reply)
        else:
            waiting.future.set_result(reply)

    def _tell(self) -> None:
        news, self._applier.news = self._applier.news, []
        self._changed_books |= self._applier.touched
        self._applier.touched = set()
        for sink in list(self._sinks):
            for one in news:
                sink(one)

    def _serve_readers(self) -> None:
        reads, self._reads = self._reads, []
        for query, future in reads:
            if future.done():
                continue
            try:
                future.set_result(query(self._applier.state))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)

    def _break(self, error: BaseException) -> None:
        self.broken = self.broken or error
        for waiting in self._queue:
            if not waiting.future.done():
                waiting.future.set_exception(self._stopped())
        self._queue = []
        for _, future in self._reads:
            if not future.done():
                future.set_exception(self._stopped())
        self._reads = []

    def _stopped(self) -> JournalError:
        reason = "is being stopped" if self.broken is None else f"has stopped: {self.broken}"
        return JournalError(f"the engine {reason}", remedy="start it again; it goes on from the journal")

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Send a tick whenever something is due, and news of changed books now and then."""
        loop = asyncio.get_running_loop()
        books_s = loop.time()
        while not self._stopping and self.broken is None:
            held = _NO_GATES if self._hold is None else self._hold()
            due = next_due_us(self._applier.state, held)
            left_us = due - self.clock()
            if left_us <= 0:
                with suppress(Overloaded, JournalError):
                    await self.submit(Tick(held))
            if self._changed_books and loop.time() >= books_s:
                began_s = loop.time()
                await self._tell_books()
                # deep books take long to add up: never more than a fiftieth of the time goes there
                books_s = loop.time() + max(_BOOK_EVERY_S, 50 * (loop.time() - began_s))
            wait_s = _LONGEST_WAIT_S if due == NEVER_US else self.clock.wall_s(max(left_us, 0))
            await asyncio.sleep(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))

    async def _tell_books(self) -> None:
        changed, self._changed_books = self._changed_books, set()
        if not self._sinks:
            return
        with suppress(JournalError):
            news = await self.read(lambda state: [(p, depth(state, *p)) for p in sorted(changed)])
            for (market, slot), levels in news:
                if levels is not None:
                    one = Publication(self.head.seq, self.clock(), "book", market, slot, -1, levels)
                    for sink in list(self._sinks):
                        sink(one)
