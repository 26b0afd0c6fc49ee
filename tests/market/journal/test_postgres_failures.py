"""What can go wrong with a database server: lost links, a second writer, settings that forget."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from core.errors import JournalError
from market.journal.opening import open_journal
from market.journal.postgres import PostgresJournal
from market.journal.postgres_link import Address
from market.journal.protocol import Head
from market.journal.verify import verify
from tests.market.journal.pg import Cluster, new_url, pg_cluster, pg_url
from tests.market.journal.stores import everything, fill, follow

__all__ = ["pg_cluster", "pg_url"]


async def admin(server: Cluster, sql: str, *values: object) -> object:
    link = await asyncpg.connect(server.url())
    try:
        return await link.fetchval(sql, *values)
    finally:
        await link.close()


def pid_of(journal: PostgresJournal) -> int:
    assert journal._connection is not None
    return journal._connection.get_server_pid()


async def end_link(server: Cluster, journal: PostgresJournal) -> None:
    """End the writer's session, and wait until the server has let go of its lock."""
    pid = pid_of(journal)
    assert await admin(server, "SELECT pg_terminate_backend($1, 10000)", pid)


async def test_lost_connection_is_a_lost_lock(pg_cluster: Cluster, pg_url: str) -> None:
    journal = await PostgresJournal.at(pg_url)
    records = await fill(journal, 3)
    await end_link(pg_cluster, journal)
    other = await PostgresJournal.at(pg_url)
    records += await fill(other, 1)
    with pytest.raises(JournalError, match="lock, was lost") as caught:
        await fill(journal, 1)
    assert caught.value.remedy and "tester" in str(caught.value.journal)
    with pytest.raises(JournalError, match="takes nothing more"):
        await fill(journal, 1)
    records += await fill(other, 1)
    assert await everything(other) == records
    await journal.close()
    await other.close()


async def test_link_cut_during_an_append(pg_cluster: Cluster, pg_url: str) -> None:
    """The server ends while the statement runs: it cannot be known whether it was committed, so nothing goes on."""
    journal = await PostgresJournal.at(pg_url)
    schema = journal.address.schema
    await fill(journal, 2)
    blocker = await asyncpg.connect(pg_cluster.url())
    await blocker.execute(f"BEGIN; LOCK {schema}.head")
    append = asyncio.create_task(fill(journal, 1))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"
    pid = pid_of(journal)
    for _ in range(1000):
        if await admin(pg_cluster, waiting, pid) == 1:
            break
    assert not append.done()
    await end_link(pg_cluster, journal)
    with pytest.raises(JournalError):
        await append
    with pytest.raises(JournalError, match="takes nothing more"):
        await fill(journal, 1)
    await blocker.close()
    await journal.close()
    again = await PostgresJournal.at(pg_url)
    assert await everything(again) == follow(Head(), again.head.seq) and again.head.seq in (2, 3)
    await again.close()


async def test_a_writer_that_was_replaced_writes_nothing(pg_cluster: Cluster, pg_url: str) -> None:
    """Even where locks do not work (a pooler that shares sessions): the head is fenced."""
    journal = await PostgresJournal.at(pg_url)
    records = await fill(journal, 3)
    await admin(pg_cluster, f"UPDATE {journal.address.schema}.head SET writer = 'somebody else'")
    with pytest.raises(JournalError, match="another writer took over"):
        await fill(journal, 2)
    assert await everything(journal) == records
    assert (await verify(journal)).ok
    await journal.close()


async def test_head_moved_by_somebody_else_stops_the_writer(pg_cluster: Cluster, pg_url: str) -> None:
    journal = await PostgresJournal.at(pg_url)
    await fill(journal, 3)
    await admin(pg_cluster, f"UPDATE {journal.address.schema}.head SET seq = 4")
    with pytest.raises(JournalError, match="another writer took over"):
        await fill(journal, 1)
    await journal.close()


async def test_reading_outlives_a_lost_connection(pg_cluster: Cluster, pg_url: str) -> None:
    journal = await PostgresJournal.at(pg_url)
    records = await fill(journal, 3)
    assert await everything(journal) == records
    assert journal._side is not None
    await admin(pg_cluster, "SELECT pg_terminate_backend($1, 10000)", journal._side.get_server_pid())
    with suppress(JournalError):  # the loss may be noticed by the next statement only
        assert await everything(journal) == records
    assert await everything(journal) == records
    await fill(journal, 1)
    await journal.close()


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync", "full_page_writes"])
async def test_servers_that_forget_are_refused(pg_cluster: Cluster, setting: str) -> None:
    if setting == "synchronous_commit":
        url, unsafe = new_url(synchronous_commit="off"), new_url(synchronous_commit="off", peerwatt_unsafe="1")
    else:
        url, unsafe = new_url(), new_url(peerwatt_unsafe="1")
        await set_for_all(pg_cluster, setting, "off")
    try:
        with pytest.raises(JournalError, match=f"{setting}=off") as caught:
            await open_journal(url)
        assert setting in (caught.value.remedy or "")
        journal, vault = await open_journal(unsafe)
        await fill(journal, 1)
        await journal.close()
        await vault.close()
    finally:
        if setting != "synchronous_commit":
            await set_for_all(pg_cluster, setting, "on")
    journal, vault = await open_journal(new_url(synchronous_commit="local"))
    await journal.close()
    await vault.close()


async def set_for_all(server: Cluster, setting: str, value: str) -> None:
    await admin(server, f"ALTER SYSTEM SET {setting} = {value}")
    await admin(server, "SELECT pg_reload_conf()")
    for _ in range(1000):  # new sessions see it once the server has read it
        if await admin(server, f"SHOW {setting}") == value:
            return
    raise AssertionError(f"{setting} does not become {value}")


async def test_two_journals_in_one_database(pg_cluster: Cluster) -> None:
    first, second = await PostgresJournal.at(new_url()), await PostgresJournal.at(new_url())
    await fill(first, 2)
    await fill(second, 3)
    assert (first.head.seq, second.head.seq) == (2, 3)
    await first.close()
    await second.close()


async def test_user_without_rights_is_told(pg_cluster: Cluster, pg_url: str) -> None:
    journal = await PostgresJournal.at(pg_url)
    await journal.close()
    await admin(pg_cluster, "DROP ROLE IF EXISTS stranger")
    await admin(pg_cluster, "CREATE ROLE stranger LOGIN")
    with pytest.raises(JournalError, match="permission denied") as caught:
        await PostgresJournal.at(pg_url.replace("tester@", "stranger@"))
    assert "right" in (caught.value.remedy or "")
    with pytest.raises(JournalError, match="no journal"):
        await PostgresJournal.at(new_url(), write=False)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:1/db",
        "postgresql:///db?host=/nowhere&user=me&password=secret",
        "postgresql://me:secret@host:port/db",
        "postgresql://me:secret@host/db?peerwatt_schema=a;b",
        "postgresql://me:secret@host/db?peerwatt_colour=red",
        "mysql://me:secret@host/db",
    ],
)
async def test_bad_addresses_are_told_without_passwords(url: str) -> None:
    with pytest.raises(JournalError) as caught:
        await PostgresJournal.at(url)
    assert caught.value.remedy and "secret" not in str(caught.value)


def test_addresses() -> None:
    address = Address.parse("postgresql://me:secret@db.example:5433/market?sslmode=require&peerwatt_schema=spot")
    assert address.dsn == "postgresql://me:secret@db.example:5433/market?sslmode=require"
    assert address.place == "postgresql://me@db.example:5433/market schema spot"
    assert (address.schema, address.unsafe) == ("spot", False)
    address = Address.parse("postgresql:///market?host=%2Frun%2Fpostgresql&peerwatt_unsafe=1")
    assert address.dsn == "postgresql:///market?host=%2Frun%2Fpostgresql"
    assert (address.schema, address.unsafe) == ("peerwatt", True)
