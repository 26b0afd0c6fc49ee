"""Exported files: out, verified without us, and in again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import JournalError
from market.journal.export import export_journal, import_journal, personal_records, read_file, verify_file
from market.journal.memory import MemoryJournal, MemoryVault
from market.journal.protocol import Draft, Head, Part
from market.journal.verify import verify
from tests.market.journal.stores import Place, draft, everything, fill, follow, head_of, place

__all__ = ["place"]

GUIDE = Path(__file__).parents[3] / "docs" / "journal.md"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def exported(file: Path, count: int = 12) -> MemoryJournal:
    journal = MemoryJournal()
    await fill(journal, count, make=lambda n: draft(n, unique="clear/é/1" if n == 5 else ""))
    await export_journal(journal, file)
    return journal


async def test_what_is_exported_can_be_imported(place: Place, tmp_path: Path) -> None:
    source = MemoryJournal()
    records = await fill(source, 1203)
    head = await export_journal(source, tmp_path / "a.jsonl")
    assert head == source.head and verify_file(tmp_path / "a.jsonl").head == head
    assert list(read_file(tmp_path / "a.jsonl")) == [*records, head]
    journal = await place.journal()
    report = await import_journal(tmp_path / "a.jsonl", journal)
    assert report.ok and journal.head == source.head
    assert await everything(journal) == records
    await export_journal(journal, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    with pytest.raises(JournalError, match="has 1203 records already"):
        await import_journal(tmp_path / "a.jsonl", journal)
    await journal.close()


async def test_empty_journal_makes_a_file(tmp_path: Path) -> None:
    await exported(tmp_path / "a.jsonl", 0)
    assert verify_file(tmp_path / "a.jsonl").ok
    journal = MemoryJournal()
    await import_journal(tmp_path / "a.jsonl", journal)
    assert journal.head == Head()


def program() -> str:
    """The program of the guide, as readers copy it."""
    return re.findall(r"```python\n(import base64.*?)```", GUIDE.read_text(), re.DOTALL)[0]


def run_guide(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", program(), str(file)], capture_output=True, text=True, check=False
    )


def changes(lines: list[str]) -> Iterator[tuple[str, int, list[str]]]:
    """Wrong files: what was done, the first wrong record, the lines. Line n is record n."""

    def with_record(number: int, **fields: object) -> list[str]:
        changed = json.loads(lines[number]) | fields
        return [*lines[:number], json.dumps(changed), *lines[number + 1 :]]

    record = json.loads(lines[8])
    sealed = record["parts"][1]["sealed"]
    other = ("A" if sealed[6] != "A" else "B").join([sealed[:6], sealed[7:]])
    yield "body", 8, with_record(8, body=record["body"].replace("8", "9"))
    yield "kind", 8, with_record(8, kind="cleared")
    yield "time", 8, with_record(8, at_us=record["at_us"] + 1)
    yield "unique", 5, with_record(5, unique="clear/e/1")
    yield "digest", 8, with_record(8, digest="00" + record["digest"][2:])
    yield "sealed", 8, with_record(8, parts=[record["parts"][0], {"member": 1, "sealed": other}])
    yield "member", 8, with_record(8, parts=[record["parts"][0], {"member": 2, "sealed": sealed}])
    yield "part gone", 8, with_record(8, parts=record["parts"][:1])
    yield "line gone", 8, lines[:8] + lines[9:]
    yield "lines swapped", 8, [*lines[:8], lines[9], lines[8], *lines[10:]]
    yield "line twice", 9, [*lines[:9], lines[8], *lines[9:]]
    yield "end gone", 9, lines[:9] + lines[-1:]
    yield "head gone", 13, lines[:-1]
    yield "cut", 9, lines[:9]


@pytest.mark.slow
async def test_changed_files_are_found_by_us_and_by_the_guides_program(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    await exported(whole)
    assert verify_file(whole).ok
    said = run_guide(whole)
    assert said.returncode == 0 and said.stdout.startswith("12 records, head ")
    assert verify_file(whole).head.digest.hex() in said.stdout
    lines = whole.read_text().splitlines()
    bad = tmp_path / "bad.jsonl"
    for what, seq, changed in changes(lines):
        bad.write_text("\n".join(changed) + "\n")
        fault = verify_file(bad).fault
        assert fault is not None and fault.seq == seq, what
        said = run_guide(bad)
        assert said.returncode == 1, what
        assert said.stderr.strip() in (f"record {seq} is wrong", f"the file ends after record {seq - 1}"), what
        journal = MemoryJournal()
        with pytest.raises(JournalError) as caught:
            await import_journal(bad, journal)
        assert caught.value.seq == seq and journal.head == Head()


def test_the_guides_program_is_short() -> None:
    assert len([line for line in program().splitlines() if line.strip()]) <= 16


async def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    await exported(file)
    lines = file.read_text().splitlines()
    for text in ("{", "[]", "{}", '{"seq": 3}', lines[3][:-9], lines[3].replace('"parts"', '"part"')):
        file.write_text("\n".join([*lines[:3], text, *lines[4:]]))
        fault = verify_file(file).fault
        assert fault is not None and fault.seq == 3, text


async def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for text, words in (
        ("", "not an exported journal"),
        ("hello\n", "not an exported journal"),
        ('{"format": "peerwatt journal", "schema": 2}\n', "newer"),
    ):
        file.write_text(text)
        with pytest.raises(JournalError, match=words) as caught:
            verify_file(file)
        assert caught.value.remedy
    with pytest.raises(JournalError, match="cannot be read"):
        verify_file(tmp_path / "none")


async def test_noted_heads_are_checked_in_files(tmp_path: Path) -> None:
    journal = await exported(tmp_path / "a.jsonl")
    records = await everything(journal)
    assert verify_file(tmp_path / "a.jsonl", noted=[head_of(records[:5])]).ok
    report = verify_file(tmp_path / "a.jsonl", noted=[Head(5, b"\x00" * 32)])
    assert report.fault is not None and report.fault.seq == 5


async def test_a_persons_own_export(tmp_path: Path) -> None:
    vault = MemoryVault()
    await vault.add_many([(0, "alice"), (1, "bob")])

    def make(number: int) -> Draft:
        members = {1: (0,), 2: (0, 1), 3: (1,), 4: ()}[number]
        parts = tuple(Part(m, vault.seal(m, "ordered", f'{{"of":{m},"n":{number}}}'.encode())) for m in members)
        return Draft(number, "ordered", b"{}", parts)

    journal = MemoryJournal()
    await journal.append(follow(Head(), 4, make=make))
    await export_journal(journal, tmp_path / "alice.jsonl", vault=vault, member=0)
    assert verify_file(tmp_path / "alice.jsonl").ok  # clear text stands beside, not in the chain
    text = (tmp_path / "alice.jsonl").read_text()
    assert '{\\"of\\":0,\\"n\\":2}' in text and '\\"of\\":1' not in text
    own = [line async for line in personal_records(journal, vault, 0)]
    assert [line["seq"] for line in own] == [1, 2]
    assert [part["member"] for line in own for part in line["parts"]] == [0, 0]
    assert [json.loads(line["parts"][0]["plain"]) for line in own] == [{"of": 0, "n": 1}, {"of": 0, "n": 2}]
    await vault.erase(0)
    assert ["plain" in line["parts"][0] async for line in personal_records(journal, vault, 0)] == [False, False]
    assert (await verify(journal)).ok


async def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    journal = await exported(file)
    before = file.read_bytes()
    journal.store.records[6] = journal.store.records[5]
    with pytest.raises(JournalError) as caught:
        await export_journal(journal, file)
    assert caught.value.seq == 7
    assert file.read_bytes() == before and names_in(tmp_path) == ["a.jsonl"]
    with pytest.raises(JournalError, match="cannot be written"):
        await export_journal(MemoryJournal(), tmp_path / "none" / "a.jsonl")
