"""What a journal says happened, against what clients were told: nothing lost, nothing doubled, each slot cleared once.

Reads the records themselves, not the engine's state: order numbers, gates and sums are worked out here a second time.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from market.engine.facts import (
    AmendedPart,
    CancelledPart,
    Cleared,
    ClearedPart,
    Erased,
    Gated,
    Joined,
    JoinedPart,
    MeasuredPart,
    Opened,
    Ordered,
    OrderedPart,
    Settled,
    SettledPart,
    Voided,
)
from market.journal.protocol import Head, Journal, Record
from market.journal.vault import Vault
from market.journal.verify import verify
from tests.crash.clients import Memory, Request

PART_TYPES = {
    "ordered": OrderedPart,
    "amended": AmendedPart,
    "cancelled": CancelledPart,
    "measured": MeasuredPart,
    "cleared": ClearedPart,
    "settled": SettledPart,
    "joined": JoinedPart,
}
KEYED = ("ordered", "amended", "cancelled", "measured")


@dataclass
class History:
    """The journal, read once."""

    keys: dict[tuple[int, bytes], list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    numbers: dict[tuple[int, bytes], list[int]] = field(default_factory=dict)
    where: dict[int, tuple[str, int]] = field(default_factory=dict)
    opened: Counter[tuple[str, int]] = field(default_factory=Counter)
    gated: Counter[tuple[str, int]] = field(default_factory=Counter)
    cleared: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    settled: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    voided: Counter[tuple[str, int]] = field(default_factory=Counter)
    joined: Counter[int] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    erased: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    next_order: int = 1

    def take(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        """One record with those of its parts that still open."""
        getattr(self, f"_{record.draft.kind}", self._other)(record, parts)
        if record.draft.kind in KEYED:
            for member, part in parts:
                if part.key:
                    self.keys[member, part.key].append((record.seq, part))

    def _other(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        """Nothing is checked of the other kinds."""

    def _joined(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        self.joined[msgspec.json.decode(record.draft.body, type=Joined).member] += 1
        self.names.update(part.participant_id for _, part in parts)

    def _erased(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        self.erased.add(msgspec.json.decode(record.draft.body, type=Erased).member)

    def _voided(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Voided)
        self.voided[fact.market, fact.slot] += 1

    def _opened(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Opened)
        self.opened[fact.market, fact.slot] += 1

    def _ordered(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Ordered)
        place = f"record {record.seq}"
        if fact.first != self.next_order:
            self.wrong.append(f"{place} begins with order {fact.first} where {self.next_order} is next")
        self.next_order = fact.first + sum(count for _, count in fact.count)
        for member, part in parts:
            numbers = list(range(part.first, part.first + len(part.rows)))
            self.numbers[member, part.key] = numbers
            if not fact.first <= part.first <= self.next_order - len(part.rows) or not self.where.keys().isdisjoint(
                numbers
            ):
                self.wrong.append(f"{place} gives orders numbers that are not theirs")
            for number, row in zip(numbers, part.rows, strict=True):
                self.where[number] = fact.market, row[1]
                if self.gated[fact.market, row[1]]:
                    self.wrong.append(f"{place}: an order for {fact.market} {row[1]} behind its gate")

    def _gated(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Gated)
        self.gated[fact.market, fact.slot] += 1

    def _cleared(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Cleared)
        place = f"record {record.seq}: {fact.market} {fact.slot}"
        self.cleared[fact.market, fact.slot, fact.version] += 1
        if self.voided[fact.market, fact.slot]:
            self.wrong.append(f"{place} was cleared though it is void")
        if not self.gated[fact.market, fact.slot]:
            self.wrong.append(f"{place} was cleared before its gate closed")
        if len(parts) < len(record.draft.parts):
            return  # an erased member's share is not readable any more
        found = [part for _, part in parts]
        for number, _ in (fill for part in found for fill in part.fills):
            if self.where.get(number) != (fact.market, fact.slot):
                self.wrong.append(f"{place} fills order {number}, which is of {self.where.get(number)}")
        energy_wh = sum(p.bought_wh - p.sold_wh for p in found) + fact.retailer_bought_wh - fact.retailer_sold_wh
        money_u = sum(p.received_u - p.paid_u for p in found) + fact.operator_u + fact.network_u + fact.retailer_u
        if energy_wh or money_u:
            self.wrong.append(f"{place} leaves {energy_wh} Wh and {money_u} micro-currency over")

    def _settled(self, record: Record, parts: list[tuple[int, Any]]) -> None:
        fact = msgspec.json.decode(record.draft.body, type=Settled)
        self.settled[fact.slot].append(fact.version)
        if len(parts) == len(record.draft.parts):
            over_u = sum(map(sum, fact.accounts_u)) + sum(sum(part.posted_u) for _, part in parts)
            if over_u:
                self.wrong.append(f"record {record.seq}: the settlement of slot {fact.slot} leaves {over_u} over")


def opened_parts(record: Record, vault: Vault) -> list[tuple[int, Any]]:
    """The parts of a record whose persons are not erased."""
    kind = PART_TYPES.get(record.draft.kind)
    if kind is None:
        return []
    found = []
    for part in record.draft.parts:
        plain = vault.open(part.member, record.draft.kind, part.sealed)
        if plain is not None:
            found.append((part.member, msgspec.json.decode(plain, type=kind)))
    return found


@dataclass
class Outcome:
    """Figures of a campaign; all but the counts of good things should be zero."""

    acknowledged: int = 0
    orders: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    stored_unacknowledged: int = 0
    stored_never_told: int = 0
    slots_cleared: int = 0
    cleared_twice: int = 0
    not_cleared: int = 0
    erased: int = 0
    records: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.changed or self.cleared_twice or self.not_cleared or self.wrong)


async def check(journal: Journal, vault: Vault, memory: Memory, heads: Sequence[Head] = ()) -> Outcome:
    """Everything the journal must say of what clients were told.

    Parameters
    ----------
    heads
        What the service named as its head from time to time: durable then, so the chain must run through them.
    """
    history = History()
    async for record in journal.read():
        history.take(record, opened_parts(record, vault))
    report = await verify(journal, noted=heads)
    outcome = judge(history, memory)
    outcome.records = report.records
    outcome.erased = len(history.erased)
    with_key = set(vault.members())
    outcome.wrong += [f"erased member {m} still has a key" for m in sorted(history.erased & with_key)]
    outcome.wrong += [f"member {m} has lost its key" for m in sorted(set(history.joined) - history.erased - with_key)]
    if not report.ok:
        outcome.wrong.append(str(report))
    return outcome


def judge(history: History, memory: Memory) -> Outcome:
    """The journal's history against the clients' memory."""
    outcome = Outcome(acknowledged=len(memory.acknowledged), orders=memory.orders)
    outcome.stored_unacknowledged = memory.stored_unacknowledged
    outcome.wrong = [*memory.wrong, *history.wrong]
    told = set()
    for request in memory.acknowledged:
        place = request.member, hashlib.sha256(request.key.encode()).digest()[:16]
        told.add(place)
        found = history.keys.get(place, [])
        if not found:
            outcome.lost += 1
            outcome.wrong.append(f"lost: {request.key} {request.body} was answered {request.answer}")
        outcome.doubled += len(found) > 1
        if len(found) == 1:
            outcome.changed += not _is_as_told(request, *found[0], history.numbers.get(place, []))
    outcome.doubled += sum(len(found) > 1 for place, found in history.keys.items() if place not in told)
    outcome.stored_never_told = len(set(history.keys) - told)
    _judge_slots(history, outcome)
    return outcome


def _judge_slots(history: History, outcome: Outcome) -> None:
    first = Counter((market, slot) for market, slot, version in history.cleared.elements() if version == 1)
    outcome.slots_cleared = len(first)
    outcome.cleared_twice = sum(n > 1 for n in first.values()) + sum(n > 1 for n in history.gated.values())
    waiting = {market: max(slot for m, slot in history.gated if m == market) for market, _ in history.gated}
    for market, slot in history.opened:  # those before the last gate must all be done
        if slot < waiting.get(market, -1) and first[market, slot] == 0 and not history.voided[market, slot]:
            outcome.not_cleared += 1
    outcome.wrong += [f"{place} was opened {n} times" for place, n in history.opened.items() if n > 1]
    outcome.wrong += [f"{name} joined {n} times" for name, n in history.names.items() if n > 1]
    outcome.wrong += [f"member {member} joined {n} times" for member, n in history.joined.items() if n > 1]
    for slot, versions in history.settled.items():
        if versions != list(range(1, len(versions) + 1)):
            outcome.wrong.append(f"slot {slot} was settled in versions {versions}")


def _is_as_told(request: Request, seq: int, part: Any, numbers: Iterable[int]) -> bool:
    """Whether a record says what its client was told."""
    assert request.answer is not None
    told_seq, _, answer = request.answer
    if told_seq < seq:  # the record, or a later one of the same command
        return False
    if not isinstance(part, OrderedPart):
        return request.body["do"] != "enter"
    if request.body["do"] != "enter":
        return False
    asked = request.body["orders"]
    rows = {index: (number, rest) for number, (index, *rest) in zip(numbers, part.rows, strict=True)}
    rejected = dict(part.rejected)
    if len(asked) != len(rows) + len(rejected) or len(answer) != len(asked):
        return False
    for index, (order, (number, code)) in enumerate(zip(asked, answer, strict=True)):
        if index in rejected:
            if not code:
                return False
        elif code or (number, order) != (rows[index][0], rows[index][1][:4]):
            return False
    return True
