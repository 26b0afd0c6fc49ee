"""Checks of the journal: is its chain whole, how far behind is its snapshot, are the keys beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import JournalError
from peerwatt.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from market.journal.protocol import Journal

FAR_RECORDS = 1_000_000
"""Records after the newest snapshot from which on a restart takes noticeably long."""


async def check_journal(data: Path, url: str | None = None) -> list[Finding]:
    """Verify the journal in ``data``, or at a PostgreSQL address, from its first record to its head.

    Reads only; the service may run meanwhile.
    """
    from market.journal.opening import JOURNAL_FILE, VAULT_FILE, open_records

    if url is None and not (data / JOURNAL_FILE).is_file():
        if (data / VAULT_FILE).is_file():
            sentence = f"{data} holds keys of persons, but the journal they belong to is missing"
            return [fail("journal", sentence, "restore the journal from its last backup")]
        return [ok("journal", "no journal yet: it is made at the first start")]
    where = data if url is None else url
    try:
        journal = await open_records(where)
    except JournalError as error:
        return [_cannot_be_opened("journal", error)]
    try:
        return [await _chain(journal), await _snapshot(journal), await _vault(where, journal.head.seq)]
    finally:
        await journal.close()


def _cannot_be_opened(check: str, error: JournalError) -> Finding:
    sentence = f"{error.place()}: {error.message}" if error.place() else error.message
    return fail(check, sentence, error.remedy or "look at the place, and at who may read it")


async def _chain(journal: Journal) -> Finding:
    from market.journal.verify import verify

    report = await verify(journal)
    figures = {"records": report.records, "head": report.head.seq, "digest": report.head.digest.hex()}
    if report.fault is not None:
        remedy = "stop the market and restore the last backup that verifies: peerwatt journal verify"
        return fail("journal chain", f"damaged: {report.fault}", remedy, first_wrong=report.fault.seq, **figures)
    return ok("journal chain", f"{report.records:,} records are whole, head {report.head.digest.hex()[:16]}", **figures)


async def _snapshot(journal: Journal) -> Finding:
    try:
        snapshot = await journal.load_snapshot()
    except JournalError as error:
        return warn("snapshot", f"cannot be read: {error.message}", "none: it is made again")
    behind = journal.head.seq - (0 if snapshot is None else snapshot.seq)
    where = "there is none" if snapshot is None else f"the newest is at record {snapshot.seq:,}"
    sentence = f"{where}; a restart replays {behind:,} records"
    if behind > FAR_RECORDS:
        return warn("snapshot", sentence, "restart the service in order once: it then leaves a snapshot", behind=behind)
    return ok("snapshot", sentence, behind=behind)


async def _vault(where: Path | str, n_records: int) -> Finding:
    """Whether the persons' keys open."""
    from market.journal.opening import open_vault

    try:
        vault = await open_vault(where)
    except JournalError as error:
        if not n_records:
            return ok("vault", "no keys of persons yet")
        found = _cannot_be_opened("vault", error)
        return fail(found.check, f"{found.sentence}; nothing personal can be read, bills included", found.remedy)
    n = len(vault.members())
    await vault.close()
    return ok("vault", f"the keys of {n:,} persons are there", persons=n)
