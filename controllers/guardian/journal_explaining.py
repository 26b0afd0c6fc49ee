"""Explaining a guardian's journal: what happened to a device, who wanted it and why. Read from the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controllers.guardian.journal_lines import (
    PART,
    SUMMARY,
    Entry,
    Segment,
    decode,
    lines,
    segments,
)
from controllers.guardian.journal_parts import PRUNED, SEALED, STANDING, Carried, Gap, Index, kept, stated
from controllers.guardian.journal_reading import ends, stamp_of, within
from core.errors import JournalError

_OF_THE_JOURNAL = frozenset({PART, SEALED, PRUNED})
_EARLIER = tuple(f',"kind":"{kind}",'.encode() for kind in (*sorted(STANDING), PART))
_OPENED = b',"kind":"opened",'
_TICK = timedelta(microseconds=1)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to a device in a minute; its text says who, why, what bytes, what came back, what happened."""

    device: str
    since: datetime
    until: datetime
    entries: tuple[Entry, ...]
    standing: tuple[Entry, ...]  # the last lease of each control and the last mode before the minute
    gaps: tuple[Gap, ...] = ()  # records of that time that were pruned

    def __str__(self) -> str:
        head = f"{self.device}, {self.since:%Y-%m-%d %H:%M:%S} to {self.until:%H:%M:%S} UTC"
        before = [f"  {_told(entry)}" for entry in self.standing]
        inside = [f"  {_told(entry)}" for entry in self.entries]
        gone = [f"  not all of that time is kept: {gap}" for gap in self.gaps]
        nothing = ["  nothing is recorded"]
        return "\n".join([head, "before:", *(before or nothing), "then:", *(gone + inside or nothing)])


def explain(folder: Path | str, device: str, minute: datetime, *, length_s: float = 60.0) -> Explanation:
    """Who wanted what of a device and why, which bytes went out, what came back and what happened.

    Parameters
    ----------
    folder
        The journal's; it may be in use, and is not verified here.
    device
        Its id.
    minute
        Begin, aware; ``length_s`` [s] from there are told.

    Raises
    ------
    JournalError
        If it cannot be read.
    """
    files, gaps = _kept(Path(folder))
    return _explained(files, gaps, device, minute, minute + timedelta(seconds=length_s))


def explain_order(folder: Path | str, order: str) -> Explanation:
    """What became of an order: the newest of that name, since a guardian that starts anew counts from 1 again.

    Parameters
    ----------
    folder
        The journal's.
    order
        As the records name it, ``inverter-1-17``.

    Raises
    ------
    JournalError
        If there is no such order, or the journal cannot be read.
    """
    files, gaps = _kept(Path(folder))
    for at in range(len(files) - 1, -1, -1):
        found, begun = _of_order(files[at], order)
        if found:
            if begun and at:
                found = [*_of_order(files[at - 1], order, to_end=True)[0], *found]
            break
    else:
        gone = "".join(f"; {gap}" for gap in gaps)
        raise JournalError(f"holds no order {order!r}{gone}", journal=folder, remedy="look for its time: --at")
    device = next((one.device for one in found if one.device), order.rpartition("-")[0])
    told = _explained(files, gaps, device, found[0].at, max(ends(one) for one in found) + _TICK)
    wanted = {one.seq for one in found}
    return replace(told, entries=tuple(one for one in told.entries if one.seq in wanted))


def _of_order(segment: Segment, order: str, *, to_end: bool = False) -> tuple[list[Entry], bool]:
    """The newest records of an order in a part, and whether they may have begun in the part before.

    With ``to_end``, only those that go on in the part after.
    """
    index = Index.load(segment.index) if segment.is_packed else None
    if index is not None and not index.has_order(order):
        return [], False
    wanted = f'"order":{json.dumps(order, ensure_ascii=False)}'.encode()
    found: list[Entry] = []
    begun, over = True, False
    for _, line in lines(segment):
        if _OPENED in line:
            begun, over = False, True
            continue
        entry = decode(line) if wanted in line or b',"kind":"summary",' in line else None
        if entry is not None and (entry.body.get("order") == order or _counts(entry, order)):
            found = [entry] if over else [*found, entry]
            over = False
    if to_end and over:
        return [], False
    return found, begun


def _counts(entry: Entry, order: str) -> bool:
    """Whether a summary stands for an order."""
    device, _, number = order.rpartition("-")
    return entry.kind == SUMMARY and any(
        one["device"] == device and number.isdecimal() and one["orders"][0] <= int(number) <= one["orders"][1]
        for one in entry.body["routine"]
    )


def _kept(folder: Path) -> tuple[list[Segment], tuple[Gap, ...]]:
    files = segments(folder)
    gaps = stated(files)
    return kept(files, gaps), gaps


def _explained(
    files: Sequence[Segment], gaps: Sequence[Gap], device: str, since: datetime, until: datetime
) -> Explanation:
    carried = Carried()
    inside: list[Entry] = []
    for at in range(_begin(files, since, until), len(files)):
        index = _index(files[at])
        if index is not None and index.since >= until:
            continue
        for entry in within(files[at], since, until, last=at == len(files) - 1, earlier=_EARLIER):
            if ends(entry) < since or entry.kind == PART:
                carried.feed(entry)
            elif entry.kind not in _OF_THE_JOURNAL and _is_about(entry, device):
                inside.append(entry)
    standing: dict[str, Entry] = {}
    for entry in sorted(carried.standing.values(), key=lambda one: one.seq):
        if entry.device in {"", device} and entry.at < since:
            standing[f"{entry.kind} {entry.body.get('control', '')}"] = entry
    order = tuple(sorted(standing.values(), key=lambda one: one.seq))
    gone = tuple(gap for gap in gaps if gap.since < until and gap.until >= since)
    return Explanation(device, since, until, tuple(inside), order, gone)


def _is_about(entry: Entry, device: str) -> bool:
    if entry.kind == SUMMARY:
        return any(one["device"] == device for one in entry.body["routine"])
    return entry.device in {"", device}


def _index(segment: Segment) -> Index | None:
    return Index.load(segment.index) if segment.is_packed else None


def _begin(files: Sequence[Segment], since: datetime, until: datetime) -> int:
    """The part to begin with: from there on nothing of that time is missed, and what stood before it is known."""
    overlapping = before = None
    for at in range(len(files) - 1, -1, -1):
        low, high, latest = _span(files[at])
        if low < until and high >= since:
            overlapping = at
        elif low < until and before is None:
            before = at
        if latest is not None and latest < since:
            break  # nothing in this part or in any before
    begin = before if overlapping is None else overlapping
    if begin is None:
        return len(files)
    while begin and not _is_part(_first(files[begin])):
        begin -= 1
    return begin


def _span(segment: Segment) -> tuple[datetime, datetime, datetime | None]:
    """Earliest and latest time in a part, and the latest in any up to it; None where that is not told."""
    if (index := _index(segment)) is not None:
        return index.since, index.until, index.latest
    stamps = [found for _, line in lines(segment) if (found := stamp_of(line))]
    if not stamps:
        return _NEVER, _NEVER, None
    low, high = (datetime.fromisoformat(one.decode() + "+00:00") for one in (min(stamps), max(stamps)))
    first = _first(segment)
    if first is None or not _is_part(first) or first.body.get("latest") is None:
        return low, high, None
    return low, high, max(high, datetime.fromisoformat(first.body["latest"]))


def _first(segment: Segment) -> Entry | None:
    return next((decode(line) for _, line in lines(segment)), None)


def _is_part(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == PART


def _told(entry: Entry) -> str:
    """One line of an explanation: the facts that everybody asks for first, then whatever else the record holds."""
    body = dict(entry.body)
    if entry.kind == SUMMARY:
        return _told_summary(entry)
    body.pop("device", None)
    words = [f"{entry.at:%H:%M:%S.%f}"[:-3], f"#{entry.seq}", f"{entry.kind:<9}"]
    what = [str(body.pop(key)) for key in ("event", "purpose", "control", "value") if body.get(key) is not None]
    words += what
    if (owner := body.pop("owner", None)) is not None:
        level = body.pop("level", None)
        words.append(f"for {owner}" + (f" ({level})" if level else ""))
    if why := body.pop("why", None):
        words.append(f"because {why}")
    words += [f"{key}={_short(value)}" for key, value in body.items() if value not in (None, "", [], {})]
    return " ".join(words)


def _told_summary(entry: Entry) -> str:
    body = entry.body
    parts = [
        f"{one['purpose']} {one['control']} {one['value']} of {one['device']} for {one['owner']} ({one['level']}) "
        f"{one['count']} times, orders {one['orders'][0]} to {one['orders'][1]}"
        for one in body["routine"]
    ]
    until = datetime.fromisoformat(body["until"])
    head = f"{entry.at:%H:%M:%S.%f}"[:-3] + f" #{entry.seq} to #{body['last']} until {until:%H:%M:%S}"
    return f"{head} summary: {body['count']} routine records, confirmed as expected: {'; '.join(parts)}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(f"{one:04x}" if isinstance(one, int) else str(one) for one in value) + "]"
    return str(value)
