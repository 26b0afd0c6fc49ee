"""Reading a guardian's journal: is it whole, what happened to a device, and who wanted it and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from controllers.guardian.journal_lines import (
    Entry,
    Head,
    Segment,
    decode,
    is_journal,
    lines,
    link,
    read_head,
    segments,
)
from core.errors import JournalError

VERIFY = "run `peerwatt journal verify` and keep the folder as evidence; begin a new journal in another folder"
"""Remedy where a journal does not verify."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong: the record, why, and where it should stand."""

    seq: int
    reason: str
    file: Path
    line: int = 0  # from 1; 0 where no line is to be named

    def __str__(self) -> str:
        place = f"{self.file.name} line {self.line}" if self.line else self.file.name
        return f"record {self.seq} {self.reason} ({place})"


@dataclass(frozen=True, slots=True)
class Torn:
    """What a loss of power left of records that nobody was told of."""

    segment: Segment
    place: int  # bytes of the file that are sound
    left: int  # bytes after them

    def __str__(self) -> str:
        return f"{self.left} bytes of an unfinished record at the end of {self.segment.path.name}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found."""

    folder: Path
    records: int
    head: Head
    fault: Fault | None = None
    torn: Torn | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that was acknowledged is there and unchanged."""
        return self.fault is None

    def __str__(self) -> str:
        if self.fault is not None:
            return f"{self.folder}: DAMAGED: {self.fault}; {self.records} records before it verify"
        text = f"{self.folder}: {self.records} records verify, head {self.head}"
        return text if self.torn is None else f"{text}\nnot counted: {self.torn}"


def verify(folder: Path | str, *, noted: Sequence[Head] = ()) -> Report:
    """Compare every byte of a journal with its digests; it may be in use.

    Parameters
    ----------
    folder
        The journal's.
    noted
        Heads written down elsewhere, through which the chain must run.

    Raises
    ------
    JournalError
        If there is no journal or it cannot be read. Damage is not raised, it is in the report.
    """
    folder = Path(folder)
    if not is_journal(folder):
        raise JournalError("holds no journal of a guardian", journal=folder, remedy="name the folder of a journal")
    promised = read_head(folder)  # before the records: it never runs ahead of them
    return check(folder, promised, noted=noted)


def check(folder: Path, promised: Head | str, *, noted: Sequence[Head] = (), newest: int | None = None) -> Report:
    """See `verify`; ``promised`` is what `read_head` said. With ``newest``, only so many files, the last ones."""
    files = segments(folder)
    if isinstance(promised, str):
        return Report(folder, 0, Head(), Fault(0, promised, folder))
    walk = _Walk([promised, *noted])
    if newest is not None and len(files) > newest:
        walk.head = _last_head(files[-newest - 1])
        files = files[-newest:]
    for number, segment in enumerate(files):
        if (found := walk.through(segment, last=number == len(files) - 1)) is not None:
            if isinstance(found, Torn):
                return walk.report(folder, files, torn=found)
            return Report(folder, walk.head.seq, walk.head, found)
    return walk.report(folder, files)


class _Walk:
    """One pass over the files, in order."""

    def __init__(self, known: Sequence[Head]) -> None:
        self.head = Head()
        self._known: dict[int, set[bytes]] = {}
        for one in known:
            self._known.setdefault(one.seq, set()).add(one.digest)
        self._acknowledged = known[0].seq

    def through(self, segment: Segment, *, last: bool) -> Fault | Torn | None:
        if not self.head.seq and segment.first_seq != 1:
            return Fault(1, f"is missing: the oldest file begins with record {segment.first_seq}", segment.path)
        first = True
        for number, (place, line) in enumerate(lines(segment), start=1):
            found = link(self.head, line)
            if isinstance(found, Entry) and first and (reason := segment.problem(found)):
                found = reason
            if isinstance(found, str):
                fault = Fault(self.head.seq + 1, found, segment.path, number)
                return (self._torn(segment, place) if last else None) or fault
            first = False
            self.head = Head(found.seq, found.digest)
            self._acknowledged = max(self._acknowledged, found.synced)
            if (expected := self._known.get(found.seq)) and expected != {found.digest}:
                return Fault(found.seq, "was written anew: a digest noted for it is another", segment.path, number)
        if first and not last:
            return Fault(self.head.seq + 1, "is missing: the file is empty", segment.path)
        return None

    def _torn(self, segment: Segment, place: int) -> Torn | None:
        """The rest of the last file, if nobody can have been told that it is on the disk."""
        wrong = self.head.seq + 1
        later = (entry for at, line in lines(segment) if at > place and (entry := decode(line)) is not None)
        if wrong <= self._acknowledged or any(entry.synced >= wrong for entry in later):
            return None
        return Torn(segment, place, segment.path.stat().st_size - place)

    def report(self, folder: Path, files: Sequence[Segment], torn: Torn | None = None) -> Report:
        ahead = max(self._known)
        place = files[-1].path if files else folder
        fault = None
        if ahead > self.head.seq:
            reason = f"is missing: the journal ends before it, and record {ahead} was on the disk"
            fault = Fault(self.head.seq + 1, reason, place)
        return Report(folder, self.head.seq, self.head, fault, None if fault else torn)


def _last_head(segment: Segment) -> Head:
    entry = None
    for _, line in lines(segment):
        entry = decode(line)
    if entry is None:
        raise JournalError("ends with what is no record", journal=segment.path, remedy=VERIFY)
    return Head(entry.seq, entry.digest)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(
    folder: Path | str,
    since: datetime | None = None,
    until: datetime | None = None,
    device: str | None = None,
) -> Iterator[Entry]:
    """The records of a journal in their order; it may be in use, and is not verified here.

    Parameters
    ----------
    folder
        The journal's.
    since, until
        Only records written at or after, and before these moments of the wall clock (aware).
    device
        Only records about this device, and those about no device (modes, stops, the journal itself).

    Raises
    ------
    JournalError
        At a line that is no record, unless it is the last one, still being written.
    """
    files = segments(Path(folder))
    for number, segment in enumerate(files):
        for _, line in lines(segment):
            entry = decode(line)
            if entry is None:
                if number == len(files) - 1 and not line.endswith(b"\n"):
                    return
                raise JournalError("holds a line that is no record", journal=segment.path, remedy=VERIFY)
            if (since is not None and entry.at < since) or (until is not None and entry.at >= until):
                continue
            if device is None or entry.device in {"", device}:
                yield entry


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to a device in a minute; its text says who, why, what bytes, what came back, what happened."""

    device: str
    since: datetime
    until: datetime
    entries: tuple[Entry, ...]
    standing: tuple[Entry, ...]  # the last lease of each control and the last mode before the minute

    def __str__(self) -> str:
        head = f"{self.device}, {self.since:%Y-%m-%d %H:%M:%S} to {self.until:%H:%M:%S} UTC"
        before = [f"  {_told(entry)}" for entry in self.standing]
        inside = [f"  {_told(entry)}" for entry in self.entries]
        return "\n".join(
            [head, "before:", *(before or ["  nothing is recorded"]), "then:", *(inside or ["  nothing is recorded"])]
        )


def explain(folder: Path | str, device: str, minute: datetime, *, length_s: float = 60.0) -> Explanation:
    """Who wanted what of a device and why, which bytes went out, what came back and what happened.

    Parameters
    ----------
    folder
        The journal's.
    device
        Its id.
    minute
        Begin, aware; ``length_s`` [s] from there are told.
    """
    until = minute + timedelta(seconds=length_s)
    standing: dict[str, Entry] = {}
    inside: list[Entry] = []
    for entry in read(folder, None, until, device):
        if entry.at >= minute:
            inside.append(entry)
        elif entry.kind in {"lease", "mode", "stop"}:
            standing[f"{entry.kind} {entry.body.get('control', '')}"] = entry
    order = tuple(sorted(standing.values(), key=lambda entry: entry.seq))
    return Explanation(device, minute, until, tuple(inside), order)


def _told(entry: Entry) -> str:
    """One line of an explanation: the facts that everybody asks for first, then whatever else the record holds."""
    body = dict(entry.body)
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


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(f"{one:04x}" if isinstance(one, int) else str(one) for one in value) + "]"
    return str(value)
