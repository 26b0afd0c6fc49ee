"""What can be asked of a data folder, or of a journal in a database, while nobody or somebody serves it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import JournalError
from market.journal.opening import JOURNAL_FILE, VAULT_FILE, is_database, open_journal, open_records
from market.journal.verify import verify

if TYPE_CHECKING:
    from market.engine.replay import Replay
    from market.journal.protocol import Head, Journal, Record
    from market.journal.vault import Vault
    from market.journal.verify import Report

REGISTRY_FILE = "registry.sqlite"
EXPORTED_FILE = "journal.jsonl"
ERASED = "erased"
SETTLED = "settled"
CHARGED = "chargesposted"
_CHARGES = ("fixed", "demand", "vat")


@dataclass(slots=True)
class Sums:
    """What the postings of settled slots and months add up to.

    Parameters
    ----------
    checked, months, sealed
        Versions of slots and of months whose postings were all readable, and those with parts of erased members.
    wrong
        (record, kind of posting, what it is off zero [micro-currency]).
    """

    checked: int = 0
    months: int = 0
    sealed: int = 0
    wrong: list[tuple[int, str, int]] = field(default_factory=list)

    def __str__(self) -> str:
        if self.wrong:
            seq, kind, off = self.wrong[0]
            return f"DAMAGED: record {seq}: postings of {kind} are {off} micro-currency off zero"
        left_out = f"; {self.sealed} with erased members are left to a replay" if self.sealed else ""
        checked = f"{self.checked} settlements and {self.months} months"
        return f"ledger: {checked} sum to zero in every kind of posting{left_out}"


async def verify_all(where: str | Path, noted: Sequence[Head] = ()) -> tuple[Report, Sums | None]:
    """Chain, numbers, digests, head and unique names; then the ledger, if the chain is sound and the vault is there.

    Raises
    ------
    JournalError
        If there is no journal.
    """
    records = await open_records(where)
    try:
        report = await verify(records, noted=noted)
    finally:
        await records.close()
    if not report.ok:
        return report, None
    journal, vault = await open_journal(where, write=False)
    try:
        return report, await ledger_sums(journal, vault)
    finally:
        await vault.close()
        await journal.close()


async def ledger_sums(journal: Journal, vault: Vault) -> Sums:
    """Whether each version of each slot's and month's settlement sums to zero over all accounts, kind by kind."""
    from market.settlement import LEDGER_KINDS

    sums, somebody_gone = Sums(), False
    async for record in journal.read():
        kind, body = record.draft.kind, record.draft.body
        somebody_gone = somebody_gone or kind == ERASED
        if kind not in {SETTLED, CHARGED}:
            continue
        parts = [vault.open(part.member, kind, part.sealed) for part in record.draft.parts]
        opened = [json.loads(plain) for plain in parts if plain is not None]
        if len(opened) < len(parts) or (kind == CHARGED and somebody_gone):  # a month's total has theirs in it
            sums.sealed += 1
        elif kind == SETTLED:
            totals = [sum(row) for row in json.loads(body)["accounts_u"]]
            sums.checked += 1
            sums.wrong += _off(record.seq, LEDGER_KINDS, totals, [part["posted_u"] for part in opened])
        else:
            paid = [[-amount for amount in part["charges_u"]] for part in opened]
            sums.months += 1
            sums.wrong += _off(record.seq, _CHARGES, json.loads(body)["charges_u"], paid)
    return sums


def _off(
    seq: int, kinds: Sequence[str], totals: Sequence[int], parts: Sequence[Sequence[int]]
) -> list[tuple[int, str, int]]:
    """What a record's accounts and members' parts are off zero, kind by kind."""
    sums = [sum(amounts) for amounts in zip(totals, *parts, strict=True)]
    return [(seq, kind, off) for kind, off in zip(kinds, sums, strict=True) if off]


# --- replay -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to; ``fault`` is None if everything computed anew is as recorded."""

    found: Replay | None
    fault: JournalError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.fault is None

    def __str__(self) -> str:
        found = self.found
        if found is None:
            return f"DIFFERS: {self.fault}"
        return (
            f"{found.head.seq} records replayed, head {found.head.seq}:{found.head.digest.hex()}\n"
            f"{found.cleared} slots cleared, {found.settled} settlements: {found.recomputed} computed anew and equal, "
            f"{found.taken} taken as recorded\n"
            f"state  {found.state_digest}\noutput {found.output_digest}"
        )


async def replay(where: str | Path, until: int | None = None) -> Replayed:
    """Live a journal again in this process and compare every book, price and ledger with the record.

    Raises
    ------
    JournalError
        If there is no journal.
    """
    from market.engine.replay import replay as live_again

    journal, vault = await open_journal(where, write=False)
    try:
        return Replayed(await live_again(journal, vault, until=until))
    except JournalError as error:
        return Replayed(None, error)
    finally:
        await vault.close()
        await journal.close()


# --- erasure ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Erasures:
    """What is left of erased persons, and of anybody's name in the open.

    Parameters
    ----------
    members
        Numbers of those who were erased.
    unreadable
        Personal parts of theirs that nobody can open any more.
    left
        What should not be there, in words.
    """

    members: list[int] = field(default_factory=list)
    unreadable: int = 0
    left: list[str] = field(default_factory=list)


async def erase_check(where: str | Path, names: Sequence[str] = ()) -> Erasures:
    """Look for what an erasure must not leave: keys, readable parts, snapshots, ids in clear text.

    Parameters
    ----------
    where
        Data folder or address.
    names
        Ids of erased persons, which the vault does not know any more: searched for in every file of a data folder.

    Raises
    ------
    JournalError
        If there is no journal, or it is damaged.
    """
    journal, vault = await open_journal(where, write=False)
    found = Erasures()
    try:
        known = {vault.participant_of(member) for member in vault.members()} - {None}
        gone: dict[int, int] = {}
        records: list[Record] = []
        async for record in journal.read():
            if record.draft.kind == ERASED:
                gone[int(json.loads(record.draft.body)["member"])] = record.seq
            told = {*_strings(json.loads(record.draft.body)), record.draft.unique}
            words = {word for text in told for word in re.split(r"[^\w-]+", text)}
            if named := (told | words) & (known | set(names)):
                found.left.append(f"record {record.seq} says {sorted(map(str, named))[0]!r} in its public part")
            if record.draft.parts:
                records.append(record)
        found.members = sorted(gone)
        _look_at_parts(found, records, vault, set(gone))
        snapshot = await journal.load_snapshot()
        older = snapshot is not None and snapshot.seq < max(gone.values(), default=0)
        if snapshot is not None and older and vault.open_snapshot(snapshot.sealed) is not None:
            found.left.append(f"the snapshot at record {snapshot.seq} is from before an erasure, and opens")
    finally:
        await vault.close()
        await journal.close()
    if not is_database(where):
        found.left += _in_files(Path(where), names)
    return found


def _look_at_parts(found: Erasures, records: list[Record], vault: Vault, gone: set[int]) -> None:
    for member in gone & set(vault.members()):
        found.left.append(f"the vault still has the key of member {member}")
    for record in records:
        for part in record.draft.parts:
            if part.member in gone:
                if vault.open(part.member, record.draft.kind, part.sealed) is None:
                    found.unreadable += 1
                else:
                    found.left.append(f"record {record.seq}: the part of member {part.member} opens")


def _strings(value: Any) -> set[str]:
    """Every text within a JSON value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {text for item in value.values() for text in _strings(item)}
    if isinstance(value, list):
        return {text for item in value for text in _strings(item)}
    return set()


def _in_files(folder: Path, names: Sequence[str]) -> list[str]:
    """Names in the bytes of any file of a data folder, also where SQLite only marked a page as free."""
    left = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()) if names else []:
        content = path.read_bytes()
        left += [f"{path.relative_to(folder)} holds {name!r}" for name in names if name.encode() in content]
    return left


# --- a person's records -----------------------------------------------------------------------------------------------


async def export_person(where: str | Path, file: Path, participant_id: str) -> int:
    """Write everything that the journal says about a person, in clear text, a record a line; returns their number.

    Raises
    ------
    JournalError
        If there is no such person.
    """
    from market.journal.export import personal_records

    journal, vault = await open_journal(where, write=False)
    try:
        member = vault.member_of(participant_id)
        if member is None:
            raise JournalError(
                f"there is no participant {participant_id!r}", journal=str(where), remedy="choose an id of a member"
            )
        lines = [json.dumps(line, ensure_ascii=False) + "\n" async for line in personal_records(journal, vault, member)]
    finally:
        await vault.close()
        await journal.close()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    return len(lines)


async def export_all(where: str | Path, file: Path) -> Head:
    """Write the whole journal, personal parts sealed; returns its head."""
    from market.journal.export import export_journal

    journal = await open_records(where)
    try:
        return await export_journal(journal, file)
    finally:
        await journal.close()


# --- backup and restore -----------------------------------------------------------------------------------------------


async def backup(where: str | Path, folder: Path, *, keys: bool = True) -> Report:
    """Back up journal, vault and registry into a folder, while they may be in use; everything is verified.

    Parameters
    ----------
    where
        Data folder or address.
    folder
        Made if it is missing; older backups in it are replaced.
    keys
        Whether the vault comes along. A backup without keys is no secret, and restores public facts only.

    Raises
    ------
    JournalError
        If the journal does not verify or cannot be read.
    """
    from market.journal.backup import backup_journal, backup_vault

    _make_folder(folder)
    report = await backup_journal(where, folder / (EXPORTED_FILE if is_database(where) else JOURNAL_FILE))
    if keys:
        await backup_vault(where, folder / VAULT_FILE)
    if not is_database(where) and (registry := Path(where) / REGISTRY_FILE).is_file():
        _copy_database(registry, folder / REGISTRY_FILE)
    return report


async def restore(folder: Path, where: str | Path) -> tuple[Report, int]:
    """Fill a new data folder or database from a backup; returns what was verified and how many persons came back.

    Raises
    ------
    JournalError
        If the backup is missing or damaged, or the target is not empty.
    """
    from market.journal.backup import restore_journal, restore_vault

    files = [folder / name for name in (JOURNAL_FILE, EXPORTED_FILE) if (folder / name).is_file()]
    if not files:
        raise JournalError("holds no backup", journal=folder, remedy="name a folder of `peerwatt journal backup`")
    if not is_database(where):
        _make_folder(Path(where))
    report = await restore_journal(files[0], where)
    vault = folder / VAULT_FILE
    persons = await restore_vault(vault if vault.is_file() else None, where)
    if not is_database(where) and (folder / REGISTRY_FILE).is_file():
        _copy_database(folder / REGISTRY_FILE, Path(where) / REGISTRY_FILE)
    return report, persons


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a SQLite file that may be in use, readable by its owner only."""
    draft = target.with_name(target.name + ".tmp")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600))
    try:
        address = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as live, closing(sqlite3.connect(draft)) as copy:
            live.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        draft.replace(target)
    except sqlite3.Error as error:
        raise JournalError(f"cannot be copied: {error}", journal=source) from error
    finally:
        draft.unlink(missing_ok=True)
