"""What holds the parts of a guardian's journal together: what each begins with, what is in it, what was pruned.

A part's first record says which part went before it, what stands (modes, leases, the newest order of each control) and
what was pruned. So the newest part alone tells all that older ones may be missing, and why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.guardian.journal_lines import PART, SUMMARY, Entry, Head, Segment, UnreadableError, decode, lines
from core.hashing import canonical_json

SEALED = "sealed"
PRUNED = "pruned"
STANDING = frozenset({"mode", "lease", "stop"})
"""Kinds of which the newest record stands until the next one."""
_LOCKOUT = "lockout"
_STATEMENTS = (b',"kind":"part",', b',"kind":"pruned",')
_ORDER = re.compile(r"^(?P<device>.+)-(?P<number>\d{1,15})$")


# --- what was pruned --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that were pruned: from ``first`` to ``last``, after which the chain stands at ``digest``.

    ``since`` and ``until`` are the earliest and latest times of theirs; ``at``, ``rule`` and ``by`` tell of the last
    pruning that made or widened the gap.
    """

    first: int
    last: int
    digest: bytes
    since: datetime
    until: datetime
    at: datetime
    rule: str
    by: str

    def __str__(self) -> str:
        return (
            f"records {self.first} to {self.last} ({self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}) were pruned, "
            f"the last of them on {self.at:%Y-%m-%d} by {self.by}, rule {self.rule}"
        )

    @property
    def head(self) -> Head:
        """The head after the last record that is gone."""
        return Head(self.last, self.digest)

    def holds(self, segment: Segment) -> bool:
        """Whether a part was pruned with it."""
        return self.first <= segment.first_seq <= self.last

    def body(self) -> dict[str, Any]:
        """As it stands in a record."""
        times = {name: getattr(self, name).isoformat() for name in ("since", "until", "at")}
        named = {"first": self.first, "last": self.last, "head": self.digest.hex(), "rule": self.rule, "by": self.by}
        return {**named, **times}

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Gap:
        """From a record; ValueError, KeyError or TypeError if it is none."""
        since, until, at = (datetime.fromisoformat(body[name]) for name in ("since", "until", "at"))
        digest = bytes.fromhex(body["head"])
        return cls(int(body["first"]), int(body["last"]), digest, since, until, at, str(body["rule"]), str(body["by"]))


def merged(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Gaps in order, those that touch made one."""
    found: list[Gap] = []
    for gap in sorted(gaps, key=lambda one: one.first):
        if found and found[-1].last + 1 == gap.first:
            old = found.pop()
            newest = max(old, gap, key=lambda one: one.at)
            since, until = min(old.since, gap.since), max(old.until, gap.until)
            gap = Gap(old.first, gap.last, gap.digest, since, until, newest.at, newest.rule, newest.by)
        found.append(gap)
    return tuple(found)


# --- what is carried on -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Carried:
    """What a journal carries from one part into the next; fed with every record.

    Parameters
    ----------
    standing
        The newest mode, lease and stop of each device and control.
    orders
        Of each register that was written: records of the newest intent, and of its read-back.
    gaps
        What was pruned.
    latest
        Latest time of any record so far; None before the first.
    seals
        Digests of packed files and of their indices, by the first record of the part, as far as they were read; not
        carried on.
    """

    standing: dict[str, Entry] = field(default_factory=dict)
    orders: dict[str, list[int]] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    latest: datetime | None = None
    seals: dict[int, set[str]] = field(default_factory=dict)
    _by_intent: dict[int, str] = field(default_factory=dict)

    def feed(self, entry: Entry) -> None:
        """Take a record into account; ValueError, KeyError or TypeError if a part's or pruning's is malformed."""
        self.latest = entry.at if self.latest is None else max(self.latest, entry.at)
        body = entry.body
        if entry.kind in STANDING:
            self.standing[f"{entry.kind} {entry.device} {body.get('control', '')}"] = entry
        elif entry.kind == "intent":
            key = " ".join(str(body.get(name, "")) for name in ("device", "control", "purpose", "address"))
            self._by_intent.pop(self.orders.get(key, [0])[0], None)
            self.orders[key] = [entry.seq]
            self._by_intent[entry.seq] = key
        elif entry.kind == "read_back":
            if (asked := self._by_intent.get(body.get("intent", 0))) is not None:
                self.orders[asked] = [self.orders[asked][0], entry.seq]
        elif entry.kind == SEALED:
            self.seals.setdefault(int(body["part"]), set()).update((str(body["sha256"]), str(body["index"])))
        elif entry.kind == PRUNED:
            self.gaps = _gaps(body)
            for part, digests in body["seals"].items():
                self.seals.setdefault(int(part), set()).update(digests)
        elif entry.kind == PART:
            self._take(body)

    def _take(self, body: Mapping[str, Any]) -> None:
        """A part's first record: what went before may never have been read."""
        self.gaps = _gaps(body)
        if body["latest"] is not None:
            before = datetime.fromisoformat(body["latest"])
            self.latest = before if self.latest is None else max(self.latest, before)
        self.orders = {str(key): [int(seq) for seq in seqs] for key, seqs in body["orders"].items()}
        self._by_intent = {seqs[0]: key for key, seqs in self.orders.items()}
        self.standing = {key: _stood(one) for key, one in body["standing"].items()}

    def body(self) -> dict[str, Any]:
        """Of a part's first record, without what it says of the part before."""
        standing = {
            key: {"seq": one.seq, "at": one.at.isoformat(), "kind": one.kind, "body": dict(one.body)}
            for key, one in self.standing.items()
        }
        return {
            "standing": standing,
            "orders": {key: list(seqs) for key, seqs in self.orders.items()},
            "pruned": [gap.body() for gap in self.gaps],
            "latest": None if self.latest is None else self.latest.isoformat(),
        }

    def stands(self) -> set[int]:
        """Records of what stands now: the newest order of every control with its read-back."""
        return {seq for seqs in self.orders.values() for seq in seqs}

    def lockouts(self) -> list[Entry]:
        """The records that locked out what is locked out now."""
        return [one for one in self.standing.values() if one.kind == "mode" and one.body.get("to") == _LOCKOUT]


def _gaps(body: Mapping[str, Any]) -> tuple[Gap, ...]:
    return tuple(Gap.parse(one) for one in body["pruned"])


def _stood(one: Mapping[str, Any]) -> Entry:
    at = datetime.fromisoformat(one["at"])
    return Entry(int(one["seq"]), at, 0.0, 0, str(one["kind"]), dict(one["body"]), b"")


def stated(files: Sequence[Segment]) -> tuple[Gap, ...]:
    """What the newest statement in a journal says of pruned records; not yet verified."""
    for segment in reversed(files):
        found = None
        with contextlib.suppress(UnreadableError):  # `verify` says so
            for _, line in lines(segment):
                if any(words in line for words in _STATEMENTS) and (entry := decode(line)) is not None:
                    found = entry if entry.kind in {PART, PRUNED} else found
        if found is not None:
            try:
                return _gaps(found.body)
            except (ValueError, KeyError, TypeError):
                return ()
    return ()


def kept(files: Sequence[Segment], gaps: Sequence[Gap]) -> list[Segment]:
    """The parts that were not pruned: one that was may still be there when its removal was interrupted."""
    return [one for one in files if not any(gap.holds(one) for gap in gaps)]


# --- the part that is being written -----------------------------------------------------------------------------------


class OpenPart:
    """The part that is being written: how long it is, and the digest of its bytes."""

    def __init__(self, first_seq: int, day: str, content: bytes = b"") -> None:
        self.first_seq = first_seq
        self.day = day
        self.n_bytes = len(content)
        self._sum = hashlib.sha256(content)

    def add(self, line: bytes) -> None:
        """Another line of it."""
        self.n_bytes += len(line)
        self._sum.update(line)

    def before(self, head: Head) -> dict[str, Any]:
        """What the next part says of it; ``head`` is that after its last record."""
        return {
            "first": self.first_seq,
            "last": head.seq,
            "head": head.digest.hex(),
            "bytes": self.n_bytes,
            "sha256": self._sum.hexdigest(),
        }


# --- what is in a part ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Index:
    """What is in a sealed part.

    Parameters
    ----------
    first, last, digest
        Its records, and the head after them.
    since, until
        Earliest and latest time in it; the wall clock may jump.
    latest
        Latest time in it or in any part before.
    devices, orders
        Those named in it; ``orders`` as ranges of numbers by what stands before the number.
    thinned
        How many of its records are only counted; None if nobody has looked yet.
    """

    first: int
    last: int
    digest: bytes
    since: datetime
    until: datetime
    latest: datetime
    devices: tuple[str, ...]
    orders: Mapping[str, Sequence[Sequence[int]]]
    thinned: int | None = None

    @property
    def head(self) -> Head:
        """The head after its last record."""
        return Head(self.last, self.digest)

    def has_order(self, order: str) -> bool:
        """Whether an order is named in it."""
        match = _ORDER.match(order)
        device, number = (order, 0) if match is None else (match["device"], int(match["number"]))
        return any(low <= number <= high for low, high in self.orders.get(device, ()))

    def content(self) -> bytes:
        """As a file."""
        times = {name: getattr(self, name).isoformat() for name in ("since", "until", "latest")}
        named = {"first": self.first, "last": self.last, "head": self.digest.hex(), "thinned": self.thinned}
        return canonical_json({**named, **times, "devices": list(self.devices), "orders": dict(self.orders)})

    @classmethod
    def load(cls, file: Path) -> Index | None:
        """Read it; None if it is missing or damaged: then the part itself has to be read."""
        try:
            body = json.loads(file.read_bytes())
            since, until, latest = (datetime.fromisoformat(body[name]) for name in ("since", "until", "latest"))
            devices, orders = tuple(body["devices"]), body["orders"]
            digest = bytes.fromhex(body["head"])
            return cls(body["first"], body["last"], digest, since, until, latest, devices, orders, body["thinned"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Indexing:
    """Makes the index of a part from its records."""

    def __init__(self) -> None:
        self._first: Entry | None = None
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._devices: set[str] = set()
        self._orders: dict[str, set[int]] = {}

    def feed(self, entry: Entry) -> None:
        """The next record."""
        self._first = self._first or entry
        self._since = entry.at if self._since is None else min(self._since, entry.at)
        self._until = entry.at if self._until is None else max(self._until, entry.at)
        self._devices.add(entry.device)
        if entry.kind == SUMMARY:
            self._until = max(self._until, datetime.fromisoformat(entry.body["until"]))
            for one in entry.body["routine"]:
                self._devices.add(one["device"])
                low, high = one["orders"]
                self._orders.setdefault(one["device"], set()).update(range(low, high + 1))
        if order := str(entry.body.get("order") or ""):
            match = _ORDER.match(order)
            device, number = (order, 0) if match is None else (match["device"], int(match["number"]))
            self._orders.setdefault(device, set()).add(number)

    def made(self, head: Head, latest: datetime) -> Index:
        """The index; ValueError if there was no record. ``latest`` is that of all parts up to this one."""
        if self._first is None or self._since is None or self._until is None:
            raise ValueError("there is no record in it")
        orders = {device: _ranges(numbers) for device, numbers in sorted(self._orders.items())}
        devices = tuple(sorted(self._devices - {""}))
        return Index(self._first.seq, head.seq, head.digest, self._since, self._until, latest, devices, orders)


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] + 1 == number:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
