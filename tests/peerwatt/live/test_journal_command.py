"""`peerwatt journal`: what it finds, what it writes, and what it says, on the folder of a market that was served."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from market.engine.commands import Erase
from market.journal.opening import open_journal
from market.journal.protocol import Record
from peerwatt import cli
from peerwatt.live.journal_tools import ledger_sums
from tests.peerwatt.districts import BATTERY, district, home, load, pv
from tests.peerwatt.live.serving import World

GONE = "villa-kunterbunt"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of two hours, in which one of three members was erased."""
    folder = tmp_path_factory.mktemp("served") / "data"
    world = World(district(
        home("z", load(), pv(9), BATTERY), home("a", load("couple"), pv(6)), home(GONE, load("senior", 6)),
        time={"start": "2016-05-25T10:00", "end": "2016-05-25T12:00", "slot_minutes": 15, "zone": "Europe/Berlin"},
    ))  # fmt: skip

    async def serve() -> None:
        async with world.life(place=folder) as (engine, driver):
            await driver.run(asyncio.Event(), 4)
            number = engine.member_of(GONE)
            assert number is not None
            await engine.submit(Erase(number, "admin"))
            await driver.run(asyncio.Event())

    asyncio.run(serve())
    return folder


@pytest.fixture
def data(served: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    copy = tmp_path / "data"
    copy.mkdir()
    for name in ("journal.sqlite", "vault.sqlite"):
        (copy / name).write_bytes((served / name).read_bytes())
    return copy


def journal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = cli.main(["journal", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out + told.err


def damage(data: Path) -> None:
    """One byte of one settlement's public part."""
    with sqlite3.connect(data / "journal.sqlite") as store:
        seq, body = store.execute("SELECT seq, body FROM records WHERE kind = 'settled' ORDER BY seq").fetchone()
        changed = body.replace(b'"loss_wh":0', b'"loss_wh":1')
        assert changed != body
        store.execute("UPDATE records SET body = ? WHERE seq = ?", (changed, seq))
    store.close()


def test_verify_tells_the_head_and_the_ledger(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = journal(capsys, "verify", data)
    assert code == 0
    assert "records verified, head" in told and "with erased members are left to a replay" in told
    seq, digest = told.split("head ")[1].split()[:2]
    assert journal(capsys, "verify", data, "--noted", f"{seq}:{digest}")[0] == 0
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    code, told = journal(capsys, "verify", data, "--noted", f"{seq}:{other}")
    assert code == 1 and "rewritten" in told
    assert journal(capsys, "verify", data, "--noted", "nonsense")[0] == 2


def test_one_changed_byte_is_found(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(data)
    code, told = journal(capsys, "verify", data)
    assert code == 1 and "DAMAGED" in told
    code, told = journal(capsys, "replay", data)
    assert code == 1 and "DIFFERS" in told


def test_replay_computes_everything_that_can_be_computed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = journal(capsys, "replay", data)
    assert code == 0 and "8 slots cleared" in told
    again = journal(capsys, "replay", data)[1]
    assert again == told
    code, part = journal(capsys, "replay", data, "--until", "60")
    assert code == 0 and part.startswith("60 records replayed") and part.splitlines()[2] != told.splitlines()[2]


def test_export_of_everything_and_of_a_person(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, person = tmp_path / "whole.jsonl", tmp_path / "person.jsonl"
    assert journal(capsys, "export", data, "--out", whole)[0] == 0
    assert '"plain"' not in whole.read_text()
    code, _ = journal(capsys, "export", data, "--out", person, "--person", "a")
    rows = [json.loads(line) for line in person.read_text().splitlines()]
    assert code == 0 and {part["member"] for row in rows for part in row["parts"]} == {0}
    assert {"joined", "ordered", "measured", "settled"} <= {row["kind"] for row in rows}
    assert person.stat().st_mode & 0o077 == 0
    code, told = journal(capsys, "export", data, "--out", person, "--person", GONE)
    assert code == 2 and "there is no participant" in told


def test_backup_and_restore_come_to_the_same_state(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, back, bare = tmp_path / "kept", tmp_path / "back", tmp_path / "bare"
    assert journal(capsys, "backup", data, "--out", kept)[0] == 0
    code, told = journal(capsys, "restore", kept, back)
    assert code == 0 and "with the keys of 2 persons" in told
    assert journal(capsys, "replay", back) == journal(capsys, "replay", data)
    code, told = journal(capsys, "restore", kept, back)
    assert code == 2 and "already" in told, "nothing is overwritten"
    assert journal(capsys, "backup", data, "--out", bare, "--without-keys")[0] == 0
    assert [p.name for p in bare.iterdir()] == ["journal.sqlite"]
    code, told = journal(capsys, "restore", tmp_path / "nothing", tmp_path / "new")
    assert code == 2 and "holds no backup" in told


def test_erasure_leaves_nothing(data: Path, served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = journal(capsys, "erase-check", served, "--name", GONE)
    assert code == 0 and "LEFT" not in told
    assert "personal parts of theirs open no more" in told and " 0 personal" not in told
    (data / "note.txt").write_text(f"who lived in {GONE}?")
    code, told = journal(capsys, "erase-check", data, "--name", GONE)
    assert code == 1 and "note.txt" in told


@pytest.mark.parametrize(
    ("total", "gone", "said"),
    [(30, False, "0 settlements and 1 months sum"), (31, False, "postings of demand are 1 micro-currency off zero"),
     (31, True, "1 with erased members are left to a replay")],
)  # fmt: skip
def test_months_that_do_not_balance_are_found(total: int, gone: bool, said: str) -> None:
    """What members pay by the month is what the accounts receive; of erased members only a replay knows."""

    def record(kind: str, body: dict[str, Any], parts: list[tuple[int, bytes]]) -> SimpleNamespace:
        sealed = [SimpleNamespace(member=member, sealed=part) for member, part in parts]
        return SimpleNamespace(seq=7, draft=SimpleNamespace(kind=kind, body=json.dumps(body).encode(), parts=sealed))

    class Posted:
        async def read(self) -> AsyncIterator[SimpleNamespace]:
            if gone:
                yield record("erased", {}, [])
            parts = [(0, b'{"charges_u": [1, 10, 3]}'), (1, b'{"charges_u": [1, 20, 4]}')]
            yield record("chargesposted", {"charges_u": [2, total, 7]}, parts)

    vault = SimpleNamespace(open=lambda member, kind, sealed: sealed)
    assert said in str(asyncio.run(ledger_sums(Posted(), vault)))  # type: ignore[arg-type]


def test_an_unbalanced_ledger_is_found(data: Path) -> None:
    class Forged:
        """The journal with one more micro-euro for the retailer, and a chain that nobody looks at."""

        def __init__(self, records: list[Record]) -> None:
            self._records = records

        async def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
            for record in self._records:
                yield record

    async def look() -> tuple[list[tuple[int, str, int]], list[tuple[int, str, int]]]:
        store, vault = await open_journal(data, write=False)
        try:
            records = [record async for record in store.read()]
            honest = await ledger_sums(store, vault)
            at = next(i for i, r in enumerate(records) if r.draft.kind == "settled" and len(r.draft.parts) == 2)
            body = json.loads(records[at].draft.body)
            body["accounts_u"][0][0] += 1
            draft = replace(records[at].draft, body=json.dumps(body).encode())
            records[at] = replace(records[at], draft=draft)
            forged = await ledger_sums(Forged(records), vault)  # type: ignore[arg-type]
            return honest.wrong, forged.wrong
        finally:
            await vault.close()
            await store.close()

    honest, forged = asyncio.run(look())
    assert honest == [] and [(kind, off) for _, kind, off in forged] == [("contract", 1)]
