"""After a participant is erased, nothing of it is in the registry's files."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import ServiceError
from peerwatt.store.records import RegistryError
from peerwatt.store.registry import Registry
from tests.market.journal.pg import require_cluster
from tests.peerwatt.store.places import START, HandClock, clock, place, registry

__all__ = ["clock", "place", "registry"]

PERSON = "zz-erasable-house-77"
LABEL = "Grandmother Quillfeather's kettle"


async def _live(registry: Registry) -> str:
    """A person with everything the registry can know, among others; returns the id of its key."""
    await registry.clients.add("dawn-ltd", "aggregator", participants=(PERSON, "h1"), display_name="Dawn Ltd")
    await registry.clients.add("desk", "operator")
    await registry.clients.client_for("h1", "resident")
    own = await registry.clients.client_for(PERSON, "resident")
    await registry.clients.add("qf-app", "aggregator", participants=(PERSON,), display_name="Quillfeather app")
    key = await registry.clients.add_key(own.id, label=LABEL)
    await registry.clients.set_secret(own.id)
    for number in range(40):  # several pages, moved about as they grow
        await registry.access.note("desk", "operator", PERSON, f"GET participants/{PERSON}/statement {number}")
        await registry.access.note("qf-app", "aggregator", "h1", "POST offer")
        if number < 20:
            await registry.offers.add(PERSON, "h1", {"note": f"{LABEL} {number}"}, START + timedelta(days=1))
            await registry.offers.add("h1", PERSON, {}, START + timedelta(days=1))
    return key.key.id


def _traces(folder: Path, *needles: bytes) -> list[str]:
    return [
        f"{path.name}: {needle!r}"
        for path in folder.rglob("*")
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes()
    ]


@pytest.mark.slow
async def test_nothing_is_left_in_the_files(tmp_path: Path, clock: HandClock) -> None:
    registry = await Registry.open(tmp_path / "registry.sqlite", clock)
    key = await _live(registry)
    needles = (PERSON.encode(), b"Quillfeather", key.encode(), b"qf-app")
    assert len(_traces(tmp_path, *needles)) >= 4
    await registry.forget_participant(PERSON)
    assert _traces(tmp_path, *needles) == [], "while the registry is open"
    await registry.close()
    assert _traces(tmp_path, *needles) == [], "after it was closed"


@pytest.mark.slow
async def test_nothing_is_left_in_the_tables_and_others_keep_theirs(
    place: str | Path, registry: Registry, clock: HandClock
) -> None:
    key = await _live(registry)
    heard: dict[str, bool] = {}
    registry.clients.subscribe(lambda client, identity, _: heard.__setitem__(client, identity is not None))
    personal = await registry.personal_data(PERSON)
    assert {kind: len(rows) for kind, rows in personal.items()} == {
        "clients": 3,
        "keys": 1,
        "offers": 40,
        "access_log": 40,
    }
    assert "digest" not in str(personal) and "scrypt" not in str(personal)

    await registry.forget_participant(PERSON)

    assert heard == {f"{PERSON}~resident": False, "qf-app": False, "dawn-ltd": True}
    assert {kind: len(rows) for kind, rows in (await registry.personal_data(PERSON)).items()} == {
        "clients": 0,
        "keys": 0,
        "offers": 0,
        "access_log": 0,
    }
    assert {client.id for client in await registry.clients.find()} == {"dawn-ltd", "desk", "h1~resident"}
    assert (await registry.clients.get("dawn-ltd")).participants == {"h1"}
    with pytest.raises(RegistryError):
        await registry.clients.key(key)
    assert {line.client for line in await registry.access.of("h1")} == {"erased"}
    await registry.forget_participant(PERSON)


@pytest.mark.slow
async def test_nothing_is_left_in_the_tables_files_of_postgresql(clock: HandClock) -> None:
    server = require_cluster()
    registry = await Registry.open(server.url(peerwatt_schema="forgetting"), clock)
    await _live(registry)
    needles = (PERSON.encode(), b"Quillfeather")
    base = server.data / "base"
    _checkpoint(server.url())
    assert _traces(base, *needles)
    await registry.forget_participant(PERSON)
    await registry.close()
    _checkpoint(server.url())
    assert _traces(base, *needles) == []


def _checkpoint(url: str) -> None:
    """Write all pages, and delete the files of tables that were rewritten."""
    import asyncio
    import threading

    import asyncpg

    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("CHECKPOINT")
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()


@pytest.mark.slow
async def test_a_reader_that_keeps_the_old_file_alive_is_told(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerwatt.store.database._BUSY_MS", 50)
    registry = await Registry.open(tmp_path / "registry.sqlite", clock)
    await _live(registry)
    reader = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM clients").fetchone()
    with pytest.raises(ServiceError, match="another process") as raised:
        await registry.forget_participant(PERSON)
    assert raised.value.remedy == "close it and erase again"
    reader.close()
    await registry.forget_participant(PERSON)
    assert _traces(tmp_path, PERSON.encode()) == []
    await registry.close()
