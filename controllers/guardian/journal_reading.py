"""Reading a guardian's journal: is it whole over all its parts, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from controllers.guardian.journal_lines import (
    PART,
    SUMMARY,
    Entry,
    Head,
    Segment,
    UnreadableError,
    decode,
    is_journal,
    lines,
    link,
    read_head,
    segments,
)
from controllers.guardian.journal_parts import Carried, Gap, Index, kept, stated
from core.errors import JournalError
from core.hashing import file_sha256

VERIFY = "run `peerwatt journal verify` and keep the folder as evidence; begin a new journal in another folder"
"""Remedy where a journal does not verify."""
_TRIES = 3  # of a journal whose parts are packed or pruned while it is verified


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
    """What `verify` found.

    Parameters
    ----------
    folder, head
        The journal's, and the head after its last sound record.
    records
        Number of that record.
    fault, torn
        What is wrong, and what is merely unfinished.
    carried
        What the last sound record leaves behind, pruned records with it.
    summarised
        Routine records that are only counted.
    unheld
        Heads noted elsewhere that cannot be compared any more: their records were pruned or summarised.
    """

    folder: Path
    records: int
    head: Head
    fault: Fault | None = None
    torn: Torn | None = None
    carried: Carried = field(default_factory=Carried)
    summarised: int = 0
    unheld: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was acknowledged is there and unchanged."""
        return self.fault is None

    def __str__(self) -> str:
        if self.fault is not None:
            return f"{self.folder}: DAMAGED: {self.fault}; {self.records} records before it verify"
        found = [f"{self.folder}: {self.records} records verify, head {self.head}"]
        found += [f"of them, {gap}" for gap in self.carried.gaps]
        if self.summarised:
            found.append(f"of them, {self.summarised} routine records in sealed parts are only counted")
        if self.unheld:
            found.append(
                f"noted heads that are not kept: {', '.join(map(str, self.unheld))}; the chain goes on from them"
            )
        if self.torn is not None:
            found.append(f"not counted: {self.torn}")
        return "\n".join(found)


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
    for _ in range(_TRIES):
        parts = [one.path for one in segments(folder)]
        promised = read_head(folder)  # before the records: it never runs ahead of them
        report = check(folder, promised, noted=noted)
        if report.ok or parts == [one.path for one in segments(folder)]:
            break
    return report


def check(folder: Path, promised: Head | str, *, noted: Sequence[Head] = (), newest: int | None = None) -> Report:
    """See `verify`; ``promised`` is what `read_head` said. With ``newest``, only so many parts, the last ones.

    A journal whose parts do not yet begin with what stands is read from its beginning all the same.
    """
    files = segments(folder)
    if isinstance(promised, str):
        return Report(folder, 0, Head(), Fault(0, promised, folder))
    gaps = stated(files)
    files = kept(files, gaps)
    walk = _Walk([promised, *noted], gaps)
    if newest is not None and len(files) > newest and (before := before_of(files[-newest])) is not None:
        walk.head = before
        files = files[-newest:]
    for number, segment in enumerate(files):
        try:
            found = walk.through(segment, last=number == len(files) - 1)
        except UnreadableError as error:
            found = Fault(walk.head.seq + 1, error.message, segment.path)
        except FileNotFoundError:
            found = Fault(walk.head.seq + 1, "is missing: its file was removed meanwhile", segment.path)
        if isinstance(found, Torn):
            return walk.report(folder, files, torn=found)
        if found is not None:
            return Report(folder, walk.head.seq, walk.head, found)
    return walk.report(folder, files)


def before_of(segment: Segment) -> Head | None:
    """The head before a part, as its first record says; None if that does not say it."""
    first = next((decode(line) for _, line in islice(lines(segment), 1)), None)
    if first is None or first.kind != PART:
        return None
    try:
        before = first.body["before"]
        return Head(int(before["last"]), bytes.fromhex(before["head"]))
    except (ValueError, KeyError, TypeError):
        return None


class _Walk:
    """One pass over the parts, in order."""

    def __init__(self, known: Sequence[Head], gaps: Sequence[Gap]) -> None:
        self.head = Head()
        self.carried = Carried()
        self._gaps = gaps
        self._crossed: list[Gap] = []
        self._known: dict[int, set[bytes]] = {}
        for one in known:
            self._known.setdefault(one.seq, set()).add(one.digest)
        self._acknowledged = known[0].seq
        self._summarised = 0
        self._unheld: list[int] = []
        self._sum: str | None = None  # of the part before, where all of it was read
        self._digests: list[tuple[Segment, Path, str]] = []

    def through(self, segment: Segment, *, last: bool) -> Fault | Torn | None:
        self._cross(segment)
        if not self.head.seq and segment.first_seq != 1:
            return Fault(1, f"is missing: the oldest file begins with record {segment.first_seq}", segment.path)
        if segment.is_packed:
            files = [one for one in (segment.packed, segment.index) if one.exists()]
            self._digests += [(segment, one, file_sha256(one)) for one in files]
        first, whole, running = True, True, hashlib.sha256()
        for number, (place, line) in enumerate(lines(segment), start=1):
            found = link(self.head, line, packed=segment.is_packed)
            if isinstance(found, Entry) and (reason := self._misplaced(segment, found, first=first)):
                found = reason
            if isinstance(found, str):
                fault = Fault(self.head.seq + 1, found, segment.path, number)
                return (self._torn(segment, place) if last else None) or fault
            first = False
            running.update(line)
            whole = whole and found.kind != SUMMARY
            self.head = self._counted(found)
            self._acknowledged = max(self._acknowledged, found.synced)
            if (expected := self._known.get(self.head.seq)) and expected != {found.digest}:
                return Fault(self.head.seq, "was written anew: a digest noted for it is another", segment.path, number)
        if first and not last:
            return Fault(self.head.seq + 1, "is missing: the file is empty", segment.path)
        self._sum = running.hexdigest() if whole else None
        return None

    def _cross(self, segment: Segment) -> None:
        """Go on behind records that were pruned, if those before this part are said to be."""
        for gap in self._gaps:
            if gap.first == self.head.seq + 1 and gap.last == segment.first_seq - 1:
                self._crossed.append(gap)
                self._unheld += [seq for seq in self._known if gap.first <= seq < gap.last]
                self.head, self._sum = gap.head, None

    def _misplaced(self, segment: Segment, entry: Entry, *, first: bool) -> str:
        """Why a record cannot stand where it does; empty if it can. What it says is taken into account."""
        if first and (reason := segment.problem(entry)):
            return reason
        try:
            if entry.kind == PART:
                before = entry.body["before"]
                known = (before["last"], before["head"], before["sha256"] if self._sum else None)
                if not first or known != (self.head.seq, self.head.digest.hex(), self._sum):
                    return "does not follow what stands before it: it says that another part does"
            self.carried.feed(entry)
        except (ValueError, KeyError, TypeError) as error:
            return f"cannot be true: {error!r}"
        return ""

    def _counted(self, entry: Entry) -> Head:
        head = entry.head
        if entry.kind == SUMMARY:
            self._summarised += head.seq - entry.seq + 1
            self._unheld += [seq for seq in self._known if entry.seq <= seq < head.seq]
        return head

    def _torn(self, segment: Segment, place: int) -> Torn | None:
        """The rest of the last file, if nobody can have been told that it is on the disk."""
        wrong = self.head.seq + 1
        later = (entry for at, line in lines(segment) if at > place and (entry := decode(line)) is not None)
        if wrong <= self._acknowledged or any(entry.synced >= wrong for entry in later):
            return None
        return Torn(segment, place, segment.path.stat().st_size - place)

    def report(self, folder: Path, files: Sequence[Segment], torn: Torn | None = None) -> Report:
        fault = self._behind(files[-1].path if files else folder) or self._unstated(folder) or self._unsealed()
        sound = None if fault else torn
        unheld = tuple(sorted(self._unheld))
        return Report(folder, self.head.seq, self.head, fault, sound, self.carried, self._summarised, unheld)

    def _behind(self, place: Path) -> Fault | None:
        ahead = max(self._known)
        if ahead <= self.head.seq:
            return None
        reason = f"is missing: the journal ends before it, and record {ahead} was on the disk"
        return Fault(self.head.seq + 1, reason, place)

    def _unstated(self, folder: Path) -> Fault | None:
        """A gap that nothing in the verified chain speaks of."""
        for gap in self._crossed:
            if not any(_covers(stated_, gap) for stated_ in self.carried.gaps):
                return Fault(gap.first, f"is missing: nothing says that records up to {gap.last} were pruned", folder)
        return None

    def _unsealed(self) -> Fault | None:
        """A packed file that is not the one whose digest was written into the chain."""
        for segment, file, digest in self._digests:
            if digest not in self.carried.seals.get(segment.first_seq, ()):
                return Fault(segment.first_seq, "begins a part whose file was changed after it was sealed", file)
        return None


def _covers(stated_: Gap, gap: Gap) -> bool:
    inside = stated_.first <= gap.first and gap.last <= stated_.last
    return inside and (gap.last < stated_.last or gap.digest == stated_.digest)


# --- reading ----------------------------------------------------------------------------------------------------------

_AT = len(b'{"at":"')
_STAMP = len("2026-11-23T08:05:00.000000")


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
    files = kept(files, stated(files))
    for number, segment in enumerate(files):
        index = Index.load(segment.index) if segment.is_packed else None
        if index is not None and (
            (since is not None and index.until < since) or (until is not None and index.since >= until)
        ):
            continue
        for entry in within(segment, since, until, last=number == len(files) - 1):
            if device is None or entry.device in {"", device}:
                yield entry


def export(folder: Path | str, out: Path) -> tuple[int, int, tuple[Gap, ...]]:
    """Write all parts as they were before they were packed into one file; it may be in use, and is not verified here.

    Returns
    -------
    tuple[int, int, tuple[Gap, ...]]
        Lines written, the last record, and what was pruned: the lines behind a gap go on from the digest it ended with.

    Raises
    ------
    JournalError
        If the journal cannot be read, or the file is there or cannot be written.
    """
    if not is_journal(Path(folder)):
        raise JournalError("holds no journal of a guardian", journal=folder, remedy="name the folder of a journal")
    files = segments(Path(folder))
    gaps = stated(files)
    written, head = 0, 0
    try:
        with out.open("xb") as stream:
            for segment in kept(files, gaps):
                for _, line in lines(segment):
                    if (entry := decode(line)) is None:
                        break  # the end, still being written; `verify` tells whether it is more than that
                    stream.write(line)
                    written, head = written + 1, entry.head.seq
    except OSError as error:
        raise JournalError(f"cannot be written: {error.strerror or error}", journal=out) from error
    return written, head, gaps


def within(
    segment: Segment,
    since: datetime | None,
    until: datetime | None,
    *,
    last: bool,
    earlier: Sequence[bytes] = (),
) -> Iterator[Entry]:
    """The records of one part in a time; see `read`. Lines of other times are told by their first bytes.

    Those before ``since`` come too where one of the byte strings ``earlier`` is in them.
    """
    low, high = _stamp(since), _stamp(until)
    for _, line in lines(segment):
        if (stamp := stamp_of(line)) and b',"kind":"summary",' not in line:
            if high is not None and stamp >= high:
                continue
            if low is not None and stamp < low and not any(words in line for words in earlier):
                continue
        entry = decode(line)
        if entry is None:
            if last and not line.endswith(b"\n"):
                return
            raise JournalError("holds a line that is no record", journal=segment.path, remedy=VERIFY)
        wanted = since is None or ends(entry) >= since or any(words in line for words in earlier)
        if wanted and (until is None or entry.at < until):
            yield entry


def stamp_of(line: bytes) -> bytes:
    """When a line was written, as text that can be compared; empty if it is no whole line."""
    return line[_AT : _AT + _STAMP] if line.startswith(b'{"at":"') and line.endswith(b"\n") else b""


def _stamp(at: datetime | None) -> bytes | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").encode()[:_STAMP]


def ends(entry: Entry) -> datetime:
    """When a record was written, or the last one that a summary stands for."""
    return datetime.fromisoformat(entry.body["until"]) if entry.kind == SUMMARY else entry.at
