"""The tables as the models say, however old the registry was; on both databases."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from core.errors import ServiceError
from peerwatt.store import database
from peerwatt.store.registry import Registry
from peerwatt.store.schema import Base
from tests.peerwatt.store.places import START, HandClock, clock, place

__all__ = ["clock", "place"]


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def _engine(where: str | Path) -> AsyncEngine:
    return database._engine(where, migrating=True)


async def _run(where: str | Path, what: Any, *arguments: Any) -> Any:
    engine = _engine(where)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(what, *arguments)
    finally:
        await engine.dispose()


def _differences(connection: Connection) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, Base.metadata)


async def test_the_migrations_make_what_the_models_say(place: str | Path, clock: HandClock) -> None:
    await (await Registry.open(place, clock)).close()
    assert await _run(place, _differences) == []


def _old_registry(connection: Connection) -> None:
    database.bring_up(connection, "0001")
    for statement in (
        f"INSERT INTO clients VALUES ('h1~resident', 'resident', 'Ada', false, {_us(START)}, NULL, NULL)",
        "INSERT INTO acts_for VALUES ('h1~resident', 'h1')",
        "INSERT INTO keys VALUES ('abcd2345', 'h1~resident', :digest, 'pw_abcd2345_xyzw', 'hall', 1, NULL, NULL, NULL)",
        "INSERT INTO access_log VALUES (1, 'desk', 'h1', 'GET statement', 1000000)",
    ):
        values = {"digest": b"\x01" * 32} if ":digest" in statement else {}
        connection.execute(text(statement), values)
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval('access_log_id_seq', 1)"))


async def test_an_older_registry_is_upgraded_with_all_that_is_in_it(place: str | Path, clock: HandClock) -> None:
    await _run(place, _old_registry)
    registry = await Registry.open(place, clock)
    found, number = await registry.clients.identities()
    assert number == 0
    assert [(one.client.id, one.client.participants, one.client.version) for one in found] == [
        ("h1~resident", {"h1"}, 1)
    ]
    assert found[0].client.created == START
    assert [key.id for key in found[0].keys] == ["abcd2345"], "copying clients over did not empty the table of keys"
    await registry.access.note("desk", "operator", "h1", "later")
    assert [(line.action, line.role, line.status) for line in await registry.access.of("h1")] == [
        ("later", "operator", 200),
        ("GET statement", "", 0),
    ]
    await registry.clients.revoke("h1~resident")
    await registry.close()
    assert await _run(place, _differences) == []


async def test_two_who_open_a_new_registry_at_once_make_it_once(place: str | Path, clock: HandClock) -> None:
    both = await asyncio.gather(*(Registry.open(place, clock) for _ in range(3)))
    await both[0].clients.client_for("h1", "resident")
    assert len((await both[2].clients.identities())[0]) == 1
    for registry in both:
        await registry.close()


async def test_a_registry_of_a_newer_version_is_left_alone(place: str | Path, clock: HandClock) -> None:
    await (await Registry.open(place, clock)).close()
    await _run(place, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ServiceError, match="newer version of peerwatt"):
        await Registry.open(place, clock)


async def test_a_migration_that_fails_leaves_the_old_registry(
    place: str | Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _run(place, _old_registry)
    from alembic.operations import Operations

    def breaks(*_: Any, **__: Any) -> None:
        raise ServiceError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "create_table", breaks)
        with pytest.raises(ServiceError, match="disk is full"):
            await Registry.open(place, clock)
    columns = await _run(place, lambda connection: connection.execute(text("SELECT * FROM clients")).keys())
    assert "version" not in columns
    registry = await Registry.open(place, clock)
    assert (await registry.clients.get("h1~resident")).version == 1
    await registry.close()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("mysql://localhost/x", "unknown"),
        ("postgresql://nobody@127.0.0.1:1/x", "cannot do it"),
        ("/proc/nowhere/registry.sqlite", "cannot be opened"),
    ],
)
async def test_a_place_that_is_none_is_told(where: str, says: str, clock: HandClock) -> None:
    with pytest.raises(ServiceError, match=says) as raised:
        await Registry.open(where, clock)
    assert raised.value.remedy


async def test_a_file_that_is_no_registry_is_told(tmp_path: Path, clock: HandClock) -> None:
    other = tmp_path / "registry.sqlite"
    other.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(ServiceError):
        await Registry.open(other, clock)


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_the_file_is_its_owners_alone(tmp_path: Path, clock: HandClock) -> None:
    registry = await Registry.open(tmp_path / "registry.sqlite", clock)
    await registry.clients.client_for("h1", "resident")
    modes = _modes(tmp_path)
    assert set(modes.values()) == {0o600}, modes
    await registry.close()
