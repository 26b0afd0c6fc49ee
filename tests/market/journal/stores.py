"""The three back ends under one name, and records to put into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from market.journal.memory import MemoryJournal, MemoryStore, MemoryVault
from market.journal.opening import open_records, open_vault
from market.journal.protocol import Draft, Head, Journal, Part, Record, chained
from market.journal.vault import Vault
from tests.market.journal.pg import new_url

ALL = ("memory", "sqlite", "postgresql")
DURABLE = ("sqlite", "postgresql")


class Place:
    """Somewhere a journal and a vault can be opened again and again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.where: str | Path = new_url() if kind == "postgresql" else folder / "live"
        self._store = MemoryStore()
        self._vault = MemoryVault()

    async def journal(self, *, write: bool = True) -> Journal:
        if self.kind == "memory":
            return MemoryJournal(self._store)
        return await open_records(self.where, write=write)

    async def vault(self, *, master: bytes | None = None, write: bool = True) -> Vault:
        if self.kind == "memory":
            return self._vault
        return await open_vault(self.where, write=write, create=True, master=master)


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


def draft(number: int, *, unique: str = "") -> Draft:
    """A draft unlike every other number's, with none to two parts."""
    parts = tuple(Part(member, bytes([member, number % 251]) * (20 + number % 7)) for member in range(number % 3))
    return Draft(1_000_000 + number, f"kind{number % 5}", f'{{"n":{number},"ü":"é"}}'.encode(), parts, unique)


def follow(head: Head, count: int, *, make: Callable[[int], Draft] = draft) -> list[Record]:
    """``count`` records after ``head``."""
    records: list[Record] = []
    for _ in range(count):
        record = chained(head, make(head.seq + 1))
        records.append(record)
        head = Head(record.seq, record.digest)
    return records


async def fill(journal: Journal, count: int, *, make: Callable[[int], Draft] = draft) -> list[Record]:
    records = follow(journal.head, count, make=make)
    await journal.append(records)
    return records


async def everything(journal: Journal, after: int = 0, until: int | None = None) -> list[Record]:
    return [record async for record in journal.read(after, until)]


def head_of(records: Sequence[Record]) -> Head:
    return Head(records[-1].seq, records[-1].digest) if records else Head()
