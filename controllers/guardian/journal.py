"""The guardian's journal: what it intends is on the disk before a frame leaves, and what came back follows.

One writer, one chain of digests over all parts, one sync for all that wait together. Once an append failed (full disk,
broken disk) nothing more is taken until the journal is opened again: a guardian that cannot write down what it does
stops doing it, and the devices' own timers take over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.guardian.journal_explaining import Explanation, explain, explain_order
from controllers.guardian.journal_files import Files, Opened, open_files
from controllers.guardian.journal_lines import PART, SUMMARY, Entry, Head, day_of, encode, is_journal
from controllers.guardian.journal_parts import PRUNED, SEALED, Carried, OpenPart
from controllers.guardian.journal_reading import Report, export, read, verify
from core.errors import JournalError

__all__ = [
    "KINDS",
    "Entry",
    "Explanation",
    "GuardianJournal",
    "Head",
    "Report",
    "explain",
    "explain_order",
    "export",
    "is_journal",
    "read",
    "verify",
]

KINDS: Mapping[str, str] = {
    "opened": "the journal was opened: process, records found",
    "repaired": "what a loss of power left of records that nobody was told of was cut off: file, bytes",
    "closed": "the journal was closed in order",
    "mode": "of one device or of all: from, to, who, why",
    "lease": "device, control, event (granted, refused, expired, released), owner, level, value, expires_s, why",
    "intent": "before a frame leaves: device, order, control, value, owner, level, why, purpose, unit, function, "
    "address, words",
    "response": "what came back: device, order, intent (its record), sent, ok, problem, request and response (hex)",
    "read_back": "device, order, intent, words, expected, ok, problem",
    "effect": "device, order, control, reading, measured, ok, why",
    "reading": "device, values (name: [value, quality]), and raw registers where they are kept",
    "alarm": "device or none, alarm, why",
    "stop": "event (pressed, done, cleared), who, why",
    "step": "of a commissioning: device, step, event, why",
    PART: "a part's first record: the part before it, what stands, what was pruned, the latest time so far",
    SEALED: "a part was compressed: part, last, head, records, thinned, bytes, sha256 of its file, index of its index",
    PRUNED: "before parts are removed: parts, rule, by, and all that was pruned so far",
}
"""Kinds of records and the keys of their bodies. Others may be written; `explain` tells all of them."""

_REOPEN = "mend the cause, then start the guardian again: the journal is read from the disk and checked"
_SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A line on its way to the disk; ``begins`` the part that it is the first of. Nobody waits for a part's own."""

    line: bytes
    head: Head
    begins: OpenPart | None
    durable: asyncio.Future[None] | None


class GuardianJournal:
    """A journal open for writing; made by `open`."""

    def __init__(
        self, opened: Opened, segment_bytes: int, utc_now: Callable[[], datetime], executor: ThreadPoolExecutor
    ) -> None:
        self._files: Files = opened.files
        self._utc_now = utc_now
        self._executor = executor
        self._limit = segment_bytes
        self._head = opened.report.head  # of what was handed over
        self._synced = opened.report.head
        self._part = opened.part
        self._begins: OpenPart | None = None
        self._open_part = 0 if opened.part is None else opened.part.first_seq
        self._carried = opened.report.carried
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._failure: str | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path | str,
        utc_now: Callable[[], datetime],
        *,
        segment_bytes: int = _SEGMENT_BYTES,
        whole: bool = True,
    ) -> GuardianJournal:
        """Open a journal for writing, or begin one; what it finds is verified, a torn end is cut off and noted.

        Parameters
        ----------
        folder
            Made if it is not there.
        utc_now
            The wall clock, aware.
        segment_bytes
            A part that has grown beyond this is followed by a new one, as it is by a new day.
        whole
            Verify everything; False: the newest two parts only, for a quick restart.

        Raises
        ------
        JournalError
            If somebody else writes to it, it does not verify, or it cannot be written.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(executor, open_files, Path(folder), whole)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        journal = cls(opened, segment_bytes, utc_now, executor)
        try:
            if (torn := opened.report.torn) is not None:
                await journal.append("repaired", {"file": torn.segment.path.name, "bytes": torn.left})
            await journal.append("opened", {"process": os.getpid(), "records": opened.report.records})
        except BaseException:
            await journal._end()
            raise
        return journal

    @property
    def head(self) -> Head:
        """The last record on the disk. Note it elsewhere from time to time."""
        return self._synced

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._files.folder

    @property
    def carried(self) -> Carried:
        """What stands, after all records handed over. Not to be changed."""
        return self._carried

    @property
    def open_part(self) -> int:
        """First record of the newest part on the disk; 0 if there is none. All parts before it are whole and sealed."""
        return self._open_part

    @property
    def failure(self) -> str | None:
        """Why it takes nothing more; None while it does."""
        return self._failure

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        """Write a record down; returns its number once it is on the disk. Those awaited together share one sync.

        Parameters
        ----------
        kind
            One of `KINDS`.
        body
            JSON: text, numbers that are finite, lists, mappings.

        Raises
        ------
        JournalError
            If ``body`` is not JSON (the journal goes on), or the journal is closed, or this or an earlier append
            failed (it takes nothing more until it is opened again).
        """
        seq, durable = self._put(kind, body)
        await durable
        return seq

    def _put(self, kind: str, body: Mapping[str, Any]) -> tuple[int, asyncio.Future[None]]:
        if self._closed:
            raise JournalError("is closed", journal=self._files.folder)
        if self._failure is not None:
            raise self._refusal()
        if kind in {PART, SUMMARY}:
            raise JournalError(f"writes records of kind {kind} by itself", journal=self._files.folder)
        loop = asyncio.get_running_loop()
        at = self._utc_now()
        self._begin_part(at)
        durable = loop.create_future()
        self._add(kind, body, at, durable)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._commit)  # not at once: what is appended in the same turn goes along
        return self._head.seq, durable

    def _begin_part(self, at: datetime) -> None:
        """Begin a part if the last one is full or of another day; its first record says what went before."""
        before, day = self._part, day_of(at)
        if before is not None and before.n_bytes < self._limit and day <= before.day:
            return
        self._part = self._begins = OpenPart(self._head.seq + 1, day)
        if before is not None:
            self._add(PART, {"before": before.before(self._head), **self._carried.body()}, at, None)

    def _add(self, kind: str, body: Mapping[str, Any], at: datetime, durable: asyncio.Future[None] | None) -> None:
        """Another link of the chain; nothing has changed if it cannot be."""
        mono_s, synced = asyncio.get_running_loop().time(), self._synced.seq
        line, head = encode(self._head, kind, body, at=at, mono_s=mono_s, synced=synced)
        try:
            self._carried.feed(Entry(head.seq, at, mono_s, synced, kind, dict(body), head.digest))
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"a record of kind {kind} cannot be written: {error!r}", seq=head.seq) from error
        self._head = head
        if self._part is not None:
            self._part.add(line)
        self._waiting.append(_Waiting(line, head, self._begins, durable))
        self._begins = None

    def _commit(self) -> None:
        """Hand what waits for one part to the thread. No task: a task could be cancelled between two links."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting
        n = next((i for i, one in enumerate(waiting) if i and one.begins is not None), len(waiting))
        group, self._waiting = waiting[:n], waiting[n:]
        data = b"".join([one.line for one in group])
        job = self._executor.submit(self._files.write, data, group[-1].head, group[0].begins)
        job.add_done_callback(lambda done: loop.call_soon_threadsafe(self._committed, group, done.exception()))

    def _committed(self, group: list[_Waiting], error: BaseException | None) -> None:
        if error is not None:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            self._failure = f"record {group[0].head.seq} could not be written: {reason}"
            group, self._waiting = [*group, *self._waiting], []
        else:
            self._synced = group[-1].head
            if group[0].begins is not None:
                self._open_part = group[0].begins.first_seq
        for one in group:
            if one.durable is None or one.durable.done():  # whoever waited was cancelled
                continue
            if error is None:
                one.durable.set_result(None)
            else:
                one.durable.set_exception(self._refusal())
        if self._waiting:
            self._commit()
        else:
            self._busy = False

    def _refusal(self) -> JournalError:
        return JournalError(f"takes nothing more: {self._failure}", journal=self._files.folder, remedy=_REOPEN)

    async def close(self) -> None:
        """Write a last record, sync, and let the next writer in; a journal that failed is only let go."""
        if self._closed:
            return
        try:
            if self._failure is None:
                _, durable = self._put("closed", {"process": os.getpid()})
                self._closed = True
                await durable
        finally:
            await self._end()

    async def _end(self) -> None:
        self._closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._files.close)
        finally:
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> GuardianJournal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
