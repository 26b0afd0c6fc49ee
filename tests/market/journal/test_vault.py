"""Keys of persons: sealing, erasing without a trace, master keys."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import asyncpg
import pytest

from core.errors import JournalError
from market.journal.groups import pack_parts
from market.journal.opening import open_journal
from market.journal.protocol import Draft, Part, Snapshot
from market.journal.vault import Vault
from market.journal.vault_sqlite import SqliteVault
from market.journal.verify import verify
from market.journal.wrapping import VARIABLE, master_key
from tests.market.journal.pg import pg_cluster, require_cluster
from tests.market.journal.stores import Place, durable, fill, place

__all__ = ["durable", "pg_cluster", "place"]


def id_of(member: int) -> str:
    """An id that cannot be in a file by chance."""
    return f"participant-no-{member:05}-of-the-street"


def traces(folder: Path, needles: Iterable[bytes]) -> list[str]:
    """Which files of a folder hold one of the byte strings."""
    wanted = list(needles)
    files = [file for file in folder.rglob("*") if file.is_file()]
    contents = [(file, file.read_bytes()) for file in files]
    return sorted({file.name for file, content in contents for needle in wanted if needle in content})


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_what_is_sealed_opens_for_its_member_and_kind_alone(place: Place) -> None:
    vault = await place.vault()
    await vault.add(0, "alice")
    await vault.add(7, "bob")
    sealed = vault.seal(0, "ordered", b"what alice wants")
    assert b"alice" not in sealed
    assert sealed != vault.seal(0, "ordered", b"what alice wants")
    assert vault.open(0, "ordered", sealed) == b"what alice wants"
    for member, kind, content in [
        (7, "ordered", sealed),
        (0, "cleared", sealed),
        (0, "ordered", sealed[:-1]),
        (0, "ordered", sealed[:20]),
        (0, "ordered", b""),
        (0, "ordered", bytes([sealed[0] ^ 1]) + sealed[1:]),
        (0, "ordered", sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:]),
    ]:
        with pytest.raises(JournalError, match="does not open"):
            vault.open(member, kind, content)
    with pytest.raises(KeyError):
        vault.seal(3, "ordered", b"")
    assert vault.open(3, "ordered", sealed) is None
    await vault.close()


async def test_sealed_part_is_what_the_format_says(place: Place) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    vault = await place.vault()
    await vault.add(258, "alice")
    sealed = vault.seal(258, "ordered", b"plain")
    (entry,) = vault.entries()
    plain = AESGCM(entry.key).decrypt(sealed[:12], sealed[12:], b"\0\0\0\0\0\0\x01\x02ordered")
    assert plain == b"plain" and len(entry.key) == 32 and len(sealed) == 12 + 5 + 16
    await vault.close()


async def test_directory_survives_reopening(place: Place) -> None:
    vault = await place.vault()
    await vault.add(2, "carol")
    await vault.add_many([(0, "alice"), (1, "bob")])
    sealed = vault.seal(1, "ordered", b"x")
    snapshot = vault.seal_snapshot(b"state")
    await vault.close()
    vault = await place.vault()
    assert vault.members() == [0, 1, 2]
    assert [vault.participant_of(member) for member in range(4)] == ["alice", "bob", "carol", None]
    assert vault.member_of("carol") == 2 and vault.member_of("dave") is None
    assert vault.open(1, "ordered", sealed) == b"x"
    assert vault.open_snapshot(snapshot) == b"state"
    await vault.close()


@pytest.mark.parametrize(
    "people", [[(0, "other")], [(5, "alice")], [(5, "")], [(-1, "eve")], [(5, "eve"), (6, "eve")], [(4, "erased")]]
)
async def test_numbers_and_ids_in_use_are_refused(place: Place, people: list[tuple[int, str]]) -> None:
    vault = await place.vault()
    await vault.add_many([(0, "alice"), (4, "dora")])
    await vault.erase(4)
    with pytest.raises(JournalError):
        await vault.add_many(people)
    assert vault.members() == [0] and vault.participant_of(0) == "alice"
    await vault.add(5, "dora")  # the id is free again, the number is not
    await vault.close()


async def test_erased_person_is_gone_and_stays_so(place: Place) -> None:
    vault = await place.vault()
    await vault.add_many([(0, "alice"), (1, "bob")])
    sealed = [vault.seal(member, "ordered", b"x") for member in (0, 1)]
    await vault.erase(0)
    await vault.erase(0)
    await vault.erase(9)
    for _ in range(2):
        assert vault.open(0, "ordered", sealed[0]) is None
        assert vault.open(1, "ordered", sealed[1]) == b"x"
        assert vault.member_of("alice") is None and vault.participant_of(0) is None
        assert vault.members() == [1] and vault.erased() == [0, 9]
        with pytest.raises(KeyError):
            vault.seal(0, "ordered", b"x")
        await vault.close()
        vault = await place.vault()
    await vault.close()


async def test_snapshots_of_a_destroyed_key_do_not_open(place: Place) -> None:
    vault = await place.vault()
    old = vault.seal_snapshot(b"with alice")
    await vault.rotate_snapshot_key()
    new = vault.seal_snapshot(b"without")
    assert vault.open_snapshot(old) is None
    assert vault.open_snapshot(new) == b"without"
    assert vault.open_snapshot(new[:-1]) is None and vault.open_snapshot(b"") is None
    await vault.close()
    vault = await place.vault()
    assert vault.open_snapshot(old) is None and vault.open_snapshot(new) == b"without"
    await vault.close()


async def _erase_many(vault: Vault, count: int) -> tuple[list[bytes], list[bytes]]:
    """Fill a vault, erase a third; returns what must be gone, and what must be there."""
    for start in range(0, count, 50):  # out of order: pages split in the middle, where old copies would stay
        await vault.add_many(
            [(member * 7919 % count, id_of(member * 7919 % count)) for member in range(start, start + 50)]
        )
    entries = {entry.member: entry for entry in vault.entries()}
    gone = [entries[member] for member in range(0, count, 3)]
    kept = [entries[member] for member in range(count) if member % 3]
    for entry in gone[:20]:
        await vault.erase(entry.member)
    return (
        [needle for entry in gone[:20] for needle in (entry.key, entry.participant_id.encode())],
        [needle for entry in kept for needle in (entry.key, entry.participant_id.encode())],
    )


async def test_nothing_of_an_erased_person_is_left_in_any_file(tmp_path: Path) -> None:
    journal, vault = await open_journal(tmp_path)
    gone, kept = await _erase_many(vault, 500)
    assert traces(tmp_path, gone) == []
    assert traces(tmp_path, [kept[0], kept[-1]]) == ["vault.sqlite"]  # else the search would find nothing ever
    parts = (Part(1, vault.seal(1, "joined", id_of(1).encode())),)
    records = await fill(journal, 1, make=lambda n: Draft(n, "joined", b"{}", parts))
    await journal.save_snapshot(Snapshot(1, records[0].digest, vault.seal_snapshot(id_of(1).encode())))
    key = vault.entries()[0].key
    await vault.erase(1)
    await journal.drop_snapshots()
    assert traces(tmp_path, [key, id_of(1).encode()]) == []
    assert vault.open(1, "joined", parts[0].sealed) is None
    assert (await verify(journal)).ok
    assert traces(tmp_path, [pack_parts(parts)[-16:]]) != []  # the ciphertext stays, and with it the chain
    await journal.close()
    await vault.close()
    assert traces(tmp_path, [*gone, key, id_of(1).encode()]) == []


async def test_a_crash_in_the_middle_of_an_erasure_is_made_up_for(tmp_path: Path) -> None:
    file = tmp_path / "vault.sqlite"
    vault = await SqliteVault.at(file)
    await vault.add_many([(member, id_of(member)) for member in range(200)])
    entry = vault.entries()[77]
    # the row is deleted, and then nothing more is done: no new file, no emptied log
    vault._clean = lambda connection: None  # type: ignore[method-assign]
    await vault.erase(77)
    needles = [entry.key, entry.participant_id.encode()]
    assert traces(tmp_path, needles) != []
    for name in ("vault.sqlite", "vault.sqlite-wal"):  # what a crash would have left
        (tmp_path / name).rename(tmp_path / f"crashed-{name}")
    left = tmp_path / "left"
    left.mkdir()
    (tmp_path / "crashed-vault.sqlite").rename(left / "vault.sqlite")
    (tmp_path / "crashed-vault.sqlite-wal").rename(left / "vault.sqlite-wal")
    again = await SqliteVault.at(left / "vault.sqlite")
    assert traces(left, needles) == []
    assert again.participant_of(77) is None and len(again.members()) == 199
    await again.close()
    await vault.close()


@pytest.mark.slow
async def test_nothing_of_an_erased_person_is_left_in_postgresql_tables(tmp_path: Path) -> None:
    server = require_cluster()
    where = Place("postgresql", tmp_path)
    vault = await where.vault()
    # somebody's old transaction, which could still see the rows
    old = await asyncpg.connect(server.url())
    await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
    gone, kept = await _erase_many(vault, 100)
    admin = await asyncpg.connect(server.url())
    await admin.execute("CHECKPOINT")
    assert traces(server.data / "base", gone) == []
    assert traces(server.data / "base", [kept[0]]) != []
    for connection in (old, admin):
        await connection.close()
    await vault.close()


async def test_files_of_a_vault_are_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "vault.sqlite").touch(mode=0o644)
    vault = await SqliteVault.at(tmp_path / "vault.sqlite")
    await vault.add(0, "alice")
    modes = modes_in(tmp_path)
    assert modes["vault.sqlite-wal"] == 0o600
    assert set(modes.values()) == {0o600}
    await vault.close()


async def test_second_user_of_a_vault_is_refused(durable: Place) -> None:
    vault = await durable.vault()
    with pytest.raises(JournalError, match="another writer"):
        await durable.vault()
    await vault.add(0, "alice")
    reader = await durable.vault(write=False)
    assert reader.members() == [0]
    for change in (reader.add(1, "bob"), reader.erase(0), reader.rotate_snapshot_key()):
        with pytest.raises(JournalError, match="reading only"):
            await change
    await reader.close()
    await vault.close()
    with pytest.raises(JournalError, match="closed"):
        await vault.add(1, "bob")


async def test_master_key_wraps_what_is_stored(durable: Place) -> None:
    master, other = os.urandom(32), os.urandom(32)
    vault = await durable.vault()
    await vault.add(0, "alice")
    sealed = vault.seal(0, "ordered", b"x")
    snapshot = vault.seal_snapshot(b"state")
    await vault.close()
    vault = await durable.vault(master=master)  # wrapped from now on
    await vault.add(1, "bob")
    await vault.erase(1)
    await vault.close()
    for wrong, words in ((None, "none is given"), (other, "another master key")):
        with pytest.raises(JournalError, match=words) as caught:
            await durable.vault(master=wrong)
        assert VARIABLE in (caught.value.remedy or "")
    vault = await durable.vault(master=master)
    assert vault.open(0, "ordered", sealed) == b"x" and vault.open_snapshot(snapshot) == b"state"
    assert vault.participant_of(0) == "alice" and vault.erased() == [1]
    await vault.close()


async def test_wrapped_vault_shows_neither_keys_nor_ids(tmp_path: Path) -> None:
    vault = await SqliteVault.at(tmp_path / "vault.sqlite")
    await vault.add_many([(member, id_of(member)) for member in range(50)])
    needles = [needle for entry in vault.entries() for needle in (entry.key, entry.participant_id.encode())]
    await vault.close()
    assert traces(tmp_path, needles) == ["vault.sqlite"]
    vault = await SqliteVault.at(tmp_path / "vault.sqlite", master=os.urandom(32))
    assert traces(tmp_path, needles) == []
    await vault.close()


def test_master_key_from_the_environment() -> None:
    key = os.urandom(32)
    assert master_key({VARIABLE: base64.b64encode(key).decode()}) == key
    assert master_key({}) is None and master_key({VARIABLE: ""}) is None
    for text in ("secret", base64.b64encode(b"x" * 16).decode(), "ä"):
        with pytest.raises(JournalError, match="not a key") as caught:
            master_key({VARIABLE: text})
        assert text not in str(caught.value)


async def test_records_without_their_vault_are_not_opened(durable: Place) -> None:
    journal, vault = await open_journal(durable.where)
    await vault.add(0, "alice")
    await fill(journal, 3)
    await journal.close()
    await vault.close()
    if durable.kind == "sqlite":
        assert isinstance(durable.where, Path)
        (durable.where / "vault.sqlite").rename(durable.folder / "elsewhere")
    else:
        admin = await asyncpg.connect(require_cluster().url())
        schema = str(durable.where).rpartition("peerwatt_schema=")[2].partition("&")[0]
        await admin.execute(f"DROP SCHEMA {schema}_vault CASCADE")
        await admin.close()
    for write in (True, False):
        with pytest.raises(JournalError, match="no vault") as caught:
            await open_journal(durable.where, write=write)
        assert "restore" in (caught.value.remedy or "")
    journal = await durable.journal()  # the writer's lock was let go
    await journal.close()
