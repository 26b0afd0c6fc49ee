"""From an older layout to this one. There was none: the layout here is made up, the way to it is the real one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core.errors import JournalError
from market.journal.groups import pack_parts
from market.journal.opening import open_journal
from market.journal.postgres import _SCHEMA as POSTGRES_SCHEMA
from market.journal.postgres import PostgresJournal
from market.journal.protocol import Head, Record
from market.journal.sqlite import _SCHEMA as SQLITE_SCHEMA
from market.journal.sqlite import SqliteJournal
from market.journal.upgrade import steps_from
from market.journal.verify import verify
from tests.market.journal.pg import new_url, require_cluster
from tests.market.journal.stores import draft, everything, fill, follow, head_of

RECORDS = follow(Head(), 30, make=lambda n: draft(n, unique=f"once/{n}" if n % 4 == 0 else ""))

# Version 0: digests as hexadecimal text, empty names instead of none, the head in `meta`.
_OLD = """
CREATE TABLE {s}meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {s}events (n integer PRIMARY KEY, t bigint, what text, body {blob}, parts {blob}, name text, digest text);
"""


def _rows(records: Iterable[Record]) -> list[tuple[Any, ...]]:
    return [
        (
            one.seq,
            one.draft.at_us,
            one.draft.kind,
            one.draft.body,
            pack_parts(one.draft.parts),
            one.draft.unique,
            one.digest.hex(),
        )
        for one in records
    ]


def old_sqlite(file: Path, records: list[Record]) -> None:
    with sqlite3.connect(file) as connection:
        connection.executescript(_OLD.format(s="", blob="blob"))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", _rows(records))
        head = head_of(records)
        rows = [("schema", "0"), ("head", f"{head.seq} {head.digest.hex()}")]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
    connection.close()


def sqlite_step(connection: sqlite3.Connection) -> None:
    for statement in SQLITE_SCHEMA.split(";\n"):
        if "CREATE TABLE meta" not in statement:
            connection.execute(statement)
    for row in connection.execute("SELECT * FROM events ORDER BY n").fetchall():
        name = row[5].decode() or None
        values = (*row[:2], row[2].decode(), *row[3:5], name, bytes.fromhex(row[6].decode()))
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    (head,) = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
    seq, digest = head.decode().split()
    connection.execute("INSERT INTO head VALUES (1, ?, ?)", (int(seq), bytes.fromhex(digest)))
    connection.execute("DELETE FROM meta WHERE name = 'head'")
    connection.execute("DROP TABLE events")


def tables(file: Path) -> set[str]:
    connection = sqlite3.connect(file)
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names


async def test_sqlite_is_upgraded_when_opened(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    old_sqlite(file, RECORDS)
    journal = await SqliteJournal.at(file, steps={0: sqlite_step})
    assert await everything(journal) == RECORDS
    await fill(journal, 2)
    with pytest.raises(JournalError, match="once/4"):
        await fill(journal, 1, make=lambda n: draft(n, unique="once/4"))
    await journal.close()
    assert tables(file) == {"meta", "records", "head"}
    journal = await SqliteJournal.at(file)  # no step is needed any more
    assert (await verify(journal)).records == 32
    await journal.close()


async def test_upgrade_that_would_change_a_record_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    old_sqlite(file, RECORDS)

    def careless(connection: sqlite3.Connection) -> None:
        sqlite_step(connection)
        connection.execute("UPDATE records SET body = trim(body) || ' ' WHERE seq = 17")

    def bytes_for_text(connection: sqlite3.Connection) -> None:
        sqlite_step(connection)
        connection.execute("UPDATE records SET unique_name = CAST('once/4' AS BLOB) WHERE seq = 4")

    def forgetful(connection: sqlite3.Connection) -> None:
        sqlite_step(connection)
        connection.execute("DELETE FROM records WHERE seq = 30")

    for step, seq in ((careless, 17), (forgetful, 30)):
        with pytest.raises(JournalError) as caught:
            await SqliteJournal.at(file, steps={0: step})
        assert caught.value.seq == seq
        assert tables(file) == {"meta", "events"}
    with pytest.raises(JournalError, match="CHECK"):
        await SqliteJournal.at(file, steps={0: bytes_for_text})
    journal = await SqliteJournal.at(file, steps={0: sqlite_step})
    assert journal.head == head_of(RECORDS)
    await journal.close()


async def test_reading_alone_upgrades_nothing(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    old_sqlite(file, RECORDS)
    with pytest.raises(JournalError, match="version 0"):
        await SqliteJournal.at(file, write=False)
    assert tables(file) == {"meta", "events"}


async def test_newer_or_unknown_layouts_are_refused(tmp_path: Path) -> None:
    journal, vault = await open_journal(tmp_path)
    await fill(journal, 1)
    await journal.close()
    await vault.close()
    for file, statement, words in (
        ("journal.sqlite", "UPDATE meta SET value = '2' WHERE name = 'schema'", "version 2, newer"),
        ("journal.sqlite", "UPDATE meta SET value = '0' WHERE name = 'schema'", "no way from version 0"),
        ("journal.sqlite", "DELETE FROM meta", "version is missing"),
        ("journal.sqlite", "DROP TABLE meta", "version is missing"),
    ):
        with sqlite3.connect(tmp_path / file) as connection:
            connection.execute(statement)
        connection.close()
        for write in (True, False):
            with pytest.raises(JournalError, match=words) as caught:
                await open_journal(tmp_path, write=write)
            assert caught.value.remedy
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / "journal.sqlite") as connection:
        connection.execute("CREATE TABLE stamps (country TEXT)")
    connection.close()
    with pytest.raises(JournalError, match="version is missing"):
        await open_journal(tmp_path / "other")
    assert tables(tmp_path / "other" / "journal.sqlite") == {"stamps"}


async def test_newer_vault_is_refused(tmp_path: Path) -> None:
    journal, vault = await open_journal(tmp_path)
    await journal.close()
    await vault.close()
    with sqlite3.connect(tmp_path / "vault.sqlite") as connection:
        connection.execute("UPDATE meta SET value = CAST('2' AS BLOB) WHERE name = 'schema'")
    connection.close()
    with pytest.raises(JournalError, match="newer"):
        await open_journal(tmp_path)


def test_steps_are_taken_in_turn() -> None:
    assert steps_from(0, {0: "a", 1: "b", 2: "c"}, "x", wanted=2) == ["a", "b"]
    assert steps_from(2, {0: "a"}, "x", wanted=2) == []
    with pytest.raises(JournalError, match="from version 1 on"):
        steps_from(0, {0: "a"}, "x", wanted=2)


async def _old_postgres(url: str, records: list[Record]) -> str:
    schema = url.rpartition("peerwatt_schema=")[2].partition("&")[0]
    link = await asyncpg.connect(require_cluster().url())
    await link.execute(f"CREATE SCHEMA {schema};" + _OLD.format(s=f"{schema}.", blob="bytea"))
    await link.executemany(f"INSERT INTO {schema}.events VALUES ($1, $2, $3, $4, $5, $6, $7)", _rows(records))
    head = head_of(records)
    await link.executemany(
        f"INSERT INTO {schema}.meta VALUES ($1, $2)", [("schema", "0"), ("head", f"{head.seq} {head.digest.hex()}")]
    )
    await link.close()
    return schema


async def postgres_step(link: Any, schema: str) -> None:
    text = POSTGRES_SCHEMA.format(s=schema)
    await link.execute(text.replace(f"CREATE TABLE {schema}.meta (name text PRIMARY KEY, value text NOT NULL);", ""))
    await link.execute(
        f"INSERT INTO {schema}.records SELECT n, t, what, body, parts, nullif(name, ''), decode(digest, 'hex') "
        f"FROM {schema}.events"
    )
    seq, digest = (await link.fetchval(f"SELECT value FROM {schema}.meta WHERE name = 'head'")).split()
    await link.execute(f"INSERT INTO {schema}.head VALUES (1, $1, $2, '')", int(seq), bytes.fromhex(digest))
    await link.execute(f"DELETE FROM {schema}.meta WHERE name = 'head'; DROP TABLE {schema}.events")


async def test_postgresql_is_upgraded_when_opened() -> None:
    url = new_url()
    schema = await _old_postgres(url, RECORDS)

    async def careless(link: Any, schema: str) -> None:
        await postgres_step(link, schema)
        await link.execute(f"UPDATE {schema}.records SET kind = kind || 's' WHERE seq = 9")

    with pytest.raises(JournalError) as caught:
        await PostgresJournal.at(url, steps={0: careless})
    assert caught.value.seq == 9
    with pytest.raises(JournalError, match="no way from version 0"):
        await PostgresJournal.at(url)
    journal = await PostgresJournal.at(url, steps={0: postgres_step})
    assert await everything(journal) == RECORDS
    await fill(journal, 2)
    await journal.close()
    journal = await PostgresJournal.at(url)
    assert (await verify(journal)).records == 32
    await journal.close()
    link = await asyncpg.connect(require_cluster().url())
    await link.execute(f"UPDATE {schema}.meta SET value = '2'")
    await link.close()
    with pytest.raises(JournalError, match="version 2, newer"):
        await PostgresJournal.at(url)
