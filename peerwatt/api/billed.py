"""Months' bills of a live market: computed from what is settled, in the journal's state and in history.

Nothing of a bill is stored: it follows from the versions of its slots and the scenario's tariffs alone, so a replayed
journal gives the same bills. A month is closed when its last slot is settled. What is settled again after that makes
further versions, one for each moment at which something of the member's month was corrected; older versions stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from core import ServiceError
from market.engine.facts import QUALITIES
from market.engine.state import ERASED, NOT_CHARGED, Charges, SettledVersion, State
from market.settlement import (
    BILL_LINES,
    SYSTEM_ACCOUNTS,
    Period,
    PeriodBills,
    PeriodTerms,
    SettledRows,
    bill_period,
)
from peerwatt.api.problems import refuse
from peerwatt.api.service import SlotVersions

if TYPE_CHECKING:
    from peerwatt.api.service import EnginePort, HistoryPort

MONTH_CLOSED = "the month is settled"
SO_FAR = "the month is not over"
PERIOD_LINES = ("fixed", "demand", "vat")
SUBSTITUTED = QUALITIES.index("substituted")
_TOGETHER = 64
"""Members whose slots are in memory at once when a month is added up over all."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a version of a slot says beside the members' parts."""

    seq: int
    at_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A month's settled slots of some members: ``rows`` in all versions, ``said`` by (slot, version).

    ``posted_seq`` is the last settlement that is in the charges which are posted to the accounts.
    """

    period: Period
    members: tuple[int, ...]
    contract: tuple[int, ...]
    idle: tuple[bool, ...]
    rows: SettledRows
    said: dict[tuple[int, int], Said]
    settled_until: int
    posted_seq: int

    @property
    def closed(self) -> bool:
        """Whether every slot of the month is settled."""
        return self.settled_until >= self.period.end


@dataclass(frozen=True, slots=True)
class Bill:
    """A version of a member's bill; version 0 is provisional. It is row 0 of ``made``.

    ``posted``: its charges by the month, or those of a later version, stand in the member's account. ``substituted``
    slots rest on a substitute of the meter.
    """

    version: int
    reason: str
    at_us: int
    seq: int
    posted: bool
    substituted: int
    made: PeriodBills


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """A month over all members: how many have a bill, sums of the lines, and what every account receives.

    ``substituted`` of the members' settled slots, together, rest on a substitute of the meter.
    """

    slots: int
    members: int
    substituted: int
    closed: bool
    lines_u: dict[str, int]
    accounts_u: dict[str, int]


class Source(Protocol):
    """What bills are read from; `peerwatt.api.service.Service` is one."""

    @property
    def engine(self) -> EnginePort:
        """The market."""

    @property
    def history(self) -> HistoryPort | None:
        """Settled slots that it no longer keeps."""

    @property
    def billing(self) -> PeriodTerms | None:
        """Calendar and tariffs."""


def terms_of(source: Source) -> PeriodTerms:
    """What the service bills by; 503 if it bills no months."""
    if source.billing is None:
        raise refuse("unavailable", "this service makes no bills of months")
    return source.billing


async def settled_of(source: Source, period: Period, members: Sequence[int]) -> Settled:
    """What is settled of a month for some members, from the state and, of slots that it let go, from history."""

    def look(state: State) -> tuple[Settled, int]:
        versions = _kept(state, period)
        rows = SettledRows.of(list(_rows(versions, members)))
        who = [state.members[m] for m in members]
        contract, idle = tuple(m.contract for m in who), tuple(m.storage_only for m in who)
        charged = state.charged.get(period.name)
        posted_seq = 0 if charged is None else charged.until_seq
        found = Settled(
            period, tuple(members), contract, idle, rows, _said(_columns(versions)), state.settled_until, posted_seq
        )  # fmt: skip
        return found, state.dropped_until

    recent, kept_from = await source.engine.read(look)
    if period.first >= kept_from:
        return recent
    if source.history is None:
        raise refuse("unavailable", "slots of this month are no longer kept")
    end = min(period.end, kept_from)
    older = await source.history.rows(members, period.first, end)
    said = _said(await source.history.versions(period.first, end)) | recent.said
    return replace(recent, rows=older.and_also(recent.rows), said=said)


def _rows(versions: Sequence[tuple[int, SettledVersion]], members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for slot, version in versions:
        for member in members:
            if (own := version.members.get(member)) is not None:
                yield (
                    slot, member, version.version, own.import_wh, own.export_wh, own.local_bought_wh,
                    own.local_sold_wh, own.baseline_u, own.quality, *own.lines_u,
                )  # fmt: skip


def _said(versions: SlotVersions) -> dict[tuple[int, int], Said]:
    keys = zip(versions.slot.tolist(), versions.version.tolist(), strict=True)
    values = map(Said, versions.seq.tolist(), versions.at_us.tolist(), versions.reason)
    return dict(zip(keys, values, strict=True))


def _kept(state: State, period: Period) -> list[tuple[int, SettledVersion]]:
    """Versions of the slots of a month that the engine still keeps, by slot and version."""
    slots = (state.slots.get(number) for number in range(max(period.first, state.dropped_until), period.end))
    return [(slot.slot, version) for slot in slots if slot is not None for version in slot.versions]


def _columns(versions: Sequence[tuple[int, SettledVersion]]) -> SlotVersions:
    table = np.array([(slot, v.version, v.seq, v.at_us) for slot, v in versions], np.int64).reshape(-1, 4)
    accounts = [[sum(kinds) for kinds in zip(*v.accounts_u, strict=True)] for _, v in versions]
    slot, version, seq, at_us = table.T
    reasons = [v.reason for _, v in versions]
    return SlotVersions(
        slot, version, seq, at_us, reasons, np.array(accounts, np.int64).reshape(-1, len(SYSTEM_ACCOUNTS))
    )


def _bills(terms: PeriodTerms, settled: Settled, rows: SettledRows) -> PeriodBills:
    """Bills of all members of ``settled``, in their order, of one version of each slot."""
    place = {member: i for i, member in enumerate(settled.members)}
    columns = np.array([place[member] for member in rows.member.tolist()], np.int64)
    return bill_period(terms, settled.period, settled.contract, replace(rows, member=columns), settled.idle)


def versions_of(terms: PeriodTerms, settled: Settled) -> list[Bill]:
    """All versions of the bill of a single member, oldest first; none if nothing of it is settled."""
    rows, said = settled.rows, settled.said
    if not rows.slot.size:
        return []
    at = [said[key] for key in zip(rows.slot.tolist(), rows.version.tolist(), strict=True)]
    seq = np.array([one.seq for one in at], np.int64)

    def bill(version: int, reason: str, until: int, at_us: int) -> Bill:
        chosen = rows.where(seq <= until).newest()
        substituted = int((chosen.quality == SUBSTITUTED).sum())
        made = _bills(terms, settled, chosen)
        return Bill(version, reason, at_us, until, until <= settled.posted_seq, substituted, made)

    if not settled.closed:
        last = max(at, key=lambda one: one.seq)
        return [bill(0, SO_FAR, last.seq, last.at_us)]
    first = said[settled.period.end - 1, 1]
    found = [bill(1, MONTH_CLOSED, first.seq, first.at_us)]
    later: dict[int, Said] = {}
    for k in np.flatnonzero(_changes(rows) & (seq > first.seq)).tolist():
        one = later.setdefault(at[k].at_us, at[k])
        later[one.at_us] = max(one, at[k], key=lambda said: said.seq)
    for at_us, last in sorted(later.items()):
        found.append(bill(len(found) + 1, last.reason, last.seq, at_us))
    return found


def _changes(rows: SettledRows) -> NDArray[np.bool_]:
    """Which rows of one member say something else than the version of their slot before, ``(n,)``."""
    order = np.lexsort((rows.version, rows.slot))
    mine, before = rows.where(order[1:]), rows.where(order[:-1])
    found = np.ones(len(order), np.bool_)
    found[order[1:]] = ~mine.same_as(before)
    return found


async def bills_of(source: Source, member: int, period: Period) -> list[Bill]:
    """All versions of a member's bill of a month, oldest first; none if nothing of it is settled."""
    settled = await settled_of(source, period, [member])
    return await asyncio.to_thread(versions_of, terms_of(source), settled)


# --- over all members -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Month:
    """A month over all members in the newest versions: bills of some members at a time.

    ``slots`` are settled, ``until_seq`` is the last settlement that is in it, ``substituted`` counts the members' slots
    with a substituted meter, ``accounts_u`` is what retailer, operator,
    network and state receive of the slots.
    """

    slots: int
    until_seq: int
    substituted: int
    accounts_u: list[int]
    bills: list[tuple[tuple[int, ...], PeriodBills]]


async def month_of(source: Source, period: Period) -> Month:
    """Bill everybody. What is settled meanwhile is not in it."""
    terms = terms_of(source)
    found = await _newest(source, period)
    held = np.zeros(period.end - period.first, np.int64)
    held[found.slot - period.first] = found.version
    living: list[int] = await source.engine.read(
        lambda state: [m.member for m in state.members.values() if m.status != ERASED]
    )
    bills, substituted = [], 0
    for k in range(0, len(living), _TOGETHER):
        settled = await settled_of(source, period, living[k : k + _TOGETHER])
        rows = settled.rows.where(settled.rows.version == held[settled.rows.slot - period.first])
        substituted += int((rows.quality == SUBSTITUTED).sum())
        bills.append((settled.members, await asyncio.to_thread(_bills, terms, settled, rows)))
    until_seq = int(found.seq.max(initial=0))
    return Month(found.slot.size, until_seq, substituted, found.accounts_u.sum(axis=0).tolist(), bills)


def charges_of(month: Month) -> tuple[tuple[int, Charges], ...]:
    """What each member of whom a slot is settled pays of fixed charges, demand charges and tax."""
    found: list[tuple[int, Charges]] = []
    for members, made in month.bills:
        fixed, demand, vat = (made.bills.lines_u[name].tolist() for name in PERIOD_LINES)
        found += [
            (member, (fixed[i], demand[i], vat[i])) for i, member in enumerate(members) if made.slots[i] > 0
        ]  # fmt: skip
    return tuple(found)


async def sums_of(source: Source, period: Period) -> PeriodSums:
    """A month over all members in the newest versions; all accounts add up to nothing.

    What erased members were billed is the rest: where there are any, that it is zero proves nothing (a replay does).

    Raises
    ------
    ServiceError
        If they do not, though nobody was erased: something is broken.
    """
    month = await month_of(source, period)
    lines = dict.fromkeys((*BILL_LINES, *PERIOD_LINES), 0)
    accounts = dict.fromkeys(("members", *SYSTEM_ACCOUNTS), 0)
    for members, made in month.bills:
        for name, line in made.bills.lines_u.items():
            lines[name] += int(line.sum())
        for posted in made.bills.postings_u.values():
            _receive(accounts, posted[:, len(members) :].sum(axis=0).tolist())
    accounts["members"] = -sum(lines.values())
    _receive(accounts, month.accounts_u)
    somebody_erased, gone_u = await source.engine.read(lambda state: _of_erased(state, period))
    _receive(accounts, (0, 0, gone_u[0] + gone_u[1], gone_u[2]))
    rest = -sum(accounts.values())
    if rest and not somebody_erased:
        raise ServiceError(
            f"the accounts of {period.name} add up to {-rest} micro", remedy="run `peerwatt journal verify` on the data"
        )
    billed = sum(int((made.slots > 0).sum()) for _, made in month.bills)
    closed = month.slots == period.end - period.first
    return PeriodSums(month.slots, billed, month.substituted, closed, lines, {**accounts, "erased": rest})


def _receive(accounts: dict[str, int], amounts: Sequence[int]) -> None:
    for name, amount in zip(SYSTEM_ACCOUNTS, amounts, strict=True):
        accounts[name] += amount


def _of_erased(state: State, period: Period) -> tuple[bool, Charges]:
    """Whether anybody was erased, and what such members were charged by the month."""
    charged = state.charged.get(period.name)
    some = any(member.status == ERASED for member in state.members.values())
    return some, NOT_CHARGED if charged is None else charged.gone_u


async def _newest(source: Source, period: Period) -> SlotVersions:
    """The newest version of each settled slot, by slot."""
    recent, kept_from = await source.engine.read(lambda state: (_kept(state, period), state.dropped_until))
    found = _columns(recent)
    if period.first < kept_from and source.history is not None:
        older = await source.history.versions(period.first, min(period.end, kept_from))
        pairs = ((getattr(older, name), getattr(found, name)) for name in ("slot", "version", "seq", "at_us"))
        both = [np.concatenate(pair) for pair in pairs]
        accounts = np.concatenate((older.accounts_u, found.accounts_u))
        found = SlotVersions(both[0], both[1], both[2], both[3], older.reason + found.reason, accounts)
    last = np.append(found.slot[1:] != found.slot[:-1], True)[: found.slot.size]
    return SlotVersions(
        found.slot[last], found.version[last], found.seq[last], found.at_us[last], [], found.accounts_u[last]
    )
