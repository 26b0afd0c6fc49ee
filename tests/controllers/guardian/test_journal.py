"""The guardian's journal: durable before it says so, one writer, and no byte of it can be changed unseen."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controllers.guardian import journal as journal_module
from controllers.guardian.journal import GuardianJournal, Head, explain, is_journal, read, verify
from core.errors import JournalError


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=10)
        return self.now


async def _written(folder: Path, n: int = 30, **options: object) -> Head:
    journal = await GuardianJournal.open(folder, Clock(), **options)  # type: ignore[arg-type]
    for number in range(n):
        await journal.append("intent", {"device": f"d{number % 2}", "words": [number, 0xFFFF], "why": "a test"})
    await journal.close()
    return journal.head


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


async def test_what_is_appended_can_be_read_and_verifies(tmp_path: Path) -> None:
    head = await _written(tmp_path / "j")
    entries = list(read(tmp_path / "j"))
    assert [entry.seq for entry in entries] == list(range(1, 33))
    assert [entry.kind for entry in entries] == ["opened", *["intent"] * 30, "closed"]
    report = verify(tmp_path / "j")
    assert report.ok and report.head == head and report.records == 32
    assert Head.parse(str(head)) == head
    assert [entry.body["words"][0] for entry in read(tmp_path / "j", device="d1") if entry.device] == list(
        range(1, 30, 2)
    )


async def test_appends_awaited_together_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    sync = os.fdatasync
    journal = await GuardianJournal.open(tmp_path, Clock())
    monkeypatch.setattr(os, "fdatasync", lambda handle: (syncs.append(handle), sync(handle)))
    assert await asyncio.gather(*(journal.append("reading", {"n": n}) for n in range(50))) == list(range(2, 52))
    assert len(syncs) == 1
    await journal.append("reading", {})
    assert len(syncs) == 2
    await journal.close()


async def test_a_record_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0
    sync = os.fdatasync

    def remember(handle: int) -> None:
        nonlocal synced
        sync(handle)
        synced = os.fstat(handle).st_size

    journal = await GuardianJournal.open(tmp_path, Clock())
    monkeypatch.setattr(os, "fdatasync", remember)
    for number in range(5):
        seq = await journal.append("intent", {"n": number})
        content = _files(tmp_path)[0].read_bytes()[:synced]
        assert f'"seq":{seq},'.encode() in content.splitlines()[-1]
    await journal.close()


async def test_it_goes_on_where_it_ended_and_rotates_by_size_and_day(tmp_path: Path) -> None:
    await _written(tmp_path, segment_bytes=2000)
    assert len(_files(tmp_path)) > 3
    clock = Clock()
    clock.now += timedelta(days=1)
    head = verify(tmp_path).records
    async with await GuardianJournal.open(tmp_path, clock) as journal:
        assert await journal.append("alarm", {}) == head + 3  # after the part's first record and that it was opened
    name = f"{head + 1:012d}-20261124.jsonl"
    assert _files(tmp_path)[-1].name == name
    clock.now -= timedelta(days=3)  # the wall clock jumps back: the chain goes on in the same file
    async with await GuardianJournal.open(tmp_path, clock):
        pass
    assert _files(tmp_path)[-1].name == name
    assert verify(tmp_path).ok and verify(tmp_path).records == head + 6


async def test_a_journal_that_lost_power_while_it_was_begun_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "head").touch()
    async with await GuardianJournal.open(tmp_path, Clock()) as journal:
        assert journal.head.seq == 1
    (_files(tmp_path)[0]).unlink()
    with pytest.raises(JournalError, match="does not verify"):
        await GuardianJournal.open(tmp_path, Clock())


async def test_there_is_one_writer(tmp_path: Path) -> None:
    journal = await GuardianJournal.open(tmp_path, Clock())
    with pytest.raises(JournalError, match=f"another writer has it open .process {os.getpid()}"):
        await GuardianJournal.open(tmp_path, Clock())
    await journal.close()
    await (await GuardianJournal.open(tmp_path, Clock())).close()


@pytest.mark.parametrize("body", [{"w": float("nan")}, {"w": float("inf")}, {"w": b"x"}, {"w": {1, 2}}])
async def test_what_is_no_json_is_refused_and_the_journal_goes_on(tmp_path: Path, body: dict[str, object]) -> None:
    journal = await GuardianJournal.open(tmp_path, Clock())
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append("reading", body)
    assert await journal.append("reading", {}) == 2
    await journal.close()
    assert verify(tmp_path).ok


async def test_after_a_failed_append_nothing_is_taken_until_it_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await GuardianJournal.open(tmp_path, Clock())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        results = await asyncio.gather(*(journal.append("intent", {}) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(result, JournalError) and "No space left" in str(result) for result in results)
    with pytest.raises(JournalError, match="takes nothing more"):
        await journal.append("intent", {})
    assert journal.failure is not None
    await journal.close()
    async with await GuardianJournal.open(tmp_path, Clock()) as again:
        await again.append("intent", {})
    assert verify(tmp_path).ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_stops_it_and_leaves_it_whole(small_disk: Path) -> None:
    journal = await GuardianJournal.open(small_disk / "j", Clock())
    acknowledged: list[int] = []
    with pytest.raises(JournalError, match="No space left"):
        await _fill(journal, acknowledged)
    await journal.close()
    report = verify(small_disk / "j")
    assert report.ok and report.records >= acknowledged[-1] > 20


async def _fill(journal: GuardianJournal, acknowledged: list[int]) -> None:
    while True:
        acknowledged.append(await journal.append("reading", {"raw": "x" * 1000}))


async def test_a_cancelled_caller_breaks_no_chain(tmp_path: Path) -> None:
    journal = await GuardianJournal.open(tmp_path, Clock())
    tasks = [asyncio.create_task(journal.append("intent", {"n": n})) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await journal.close()
    assert verify(tmp_path).ok and verify(tmp_path).records == 22


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_r25_any_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    """R25: an edit is found, whichever byte of whichever file it is."""
    await _written(tmp_path, n=6, segment_bytes=900)
    assert len(_files(tmp_path)) > 1
    for file in [*_files(tmp_path), tmp_path / "head"]:
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            report = verify(tmp_path)
            assert not report.ok and report.fault is not None, f"byte {place} of {file.name}"
            if file.suffix == ".jsonl" and report.fault.file == file:
                assert abs(report.fault.line - content[:place].count(b"\n") - 1) <= 1
        file.write_bytes(content)
    assert verify(tmp_path).ok


async def test_r25_a_flipped_byte_refuses_to_open(tmp_path: Path) -> None:
    await _written(tmp_path, n=6)
    file = _files(tmp_path)[0]
    content = file.read_bytes()
    for place in random.Random(5).sample(range(len(content)), 40):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])
        with pytest.raises(JournalError, match="does not verify"):
            await GuardianJournal.open(tmp_path, Clock())
    file.write_bytes(content)
    await (await GuardianJournal.open(tmp_path, Clock())).close()


def _swap(folder: Path) -> None:
    file = _files(folder)[1]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def _drop_line(folder: Path) -> None:
    file = _files(folder)[1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def _shorten(folder: Path) -> None:
    os.truncate(_files(folder)[-1], _files(folder)[-1].stat().st_size - 3)


def _drop_last_record(folder: Path) -> None:
    file = _files(folder)[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def _forge(folder: Path) -> None:
    """Rewrite the last record with a digest that fits: only a head that was noted tells."""
    from controllers.guardian.journal_lines import encode, segments

    entries = list(read(folder))
    last = entries[-1]
    line, _ = encode(
        Head(entries[-2].seq, entries[-2].digest), "closed", {"by": "x"}, at=last.at, mono_s=last.mono_s, synced=1
    )
    file = segments(folder)[-1].path
    file.write_bytes(b"".join([*file.read_bytes().splitlines(keepends=True)[:-1], line]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_swap, "stands in its place"),
        (_drop_line, "stands in its place"),
        (_shorten, "is cut off"),
        (_drop_last_record, "the journal ends before it"),
        (lambda folder: _files(folder)[0].unlink(), "the oldest file begins with record"),
        (lambda folder: _files(folder)[1].unlink(), "stands in its place"),
        (lambda folder: _files(folder)[-1].unlink(), "the journal ends before it"),
        (lambda folder: (folder / "head").unlink(), "is missing"),
        (lambda folder: _files(folder)[1].rename(folder / "000000000099-20261123.jsonl"), "is missing"),
        (lambda folder: _files(folder)[0].write_bytes(b""), "the file is empty"),
        (_forge, "was written anew"),
    ],
)
async def test_r25_truncation_removal_and_reordering_are_found(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    """R25: truncation or an edit is found, and such a journal is not written to."""
    await _written(tmp_path, n=20, segment_bytes=1500)
    damage(tmp_path)
    report = verify(tmp_path)
    assert report.fault is not None and words in report.fault.reason and "DAMAGED" in str(report)
    with pytest.raises(JournalError, match="does not verify"):
        await GuardianJournal.open(tmp_path, Clock())


async def test_a_journal_cut_with_its_head_is_found_by_a_head_noted_elsewhere(tmp_path: Path) -> None:
    head = await _written(tmp_path, n=20)
    older = tmp_path / "older"
    shutil.copytree(tmp_path, older, ignore=shutil.ignore_patterns("older"))
    lines = _files(older)[0].read_bytes().splitlines(keepends=True)[:5]
    _files(older)[0].write_bytes(b"".join(lines))
    digest = json.loads(lines[-1])["~"]
    (older / "head").write_text(f"{5:020d} {digest}\n")
    assert verify(older).ok
    assert not verify(older, noted=[head]).ok
    assert verify(tmp_path, noted=[head]).ok
    assert not verify(tmp_path, noted=[Head(5, bytes(32))]).ok


@pytest.mark.parametrize("rest", [b'{"at":"2026', b"\x00" * 4096, b'{"at":1}\n\x00\x00'])
async def test_a_torn_end_that_nobody_was_told_of_is_cut_off_and_noted(tmp_path: Path, rest: bytes) -> None:
    head = await _written(tmp_path, n=5)
    with _files(tmp_path)[0].open("ab") as stream:
        stream.write(rest)
    report = verify(tmp_path)
    assert report.ok and report.torn is not None and report.head == head
    async with await GuardianJournal.open(tmp_path, Clock()):
        pass
    noted = [entry for entry in read(tmp_path) if entry.kind == "repaired"]
    assert [entry.body["bytes"] for entry in noted] == [len(rest)]
    assert verify(tmp_path).ok and verify(tmp_path).torn is None


async def test_a_hole_before_a_record_written_later_is_no_torn_end(tmp_path: Path) -> None:
    """The head's file may lag after a loss of power: what a later record calls synced was acknowledged."""
    await _written(tmp_path, n=10)
    lines = _files(tmp_path)[0].read_bytes().splitlines(keepends=True)
    _files(tmp_path)[0].write_bytes(b"".join([*lines[:4], b"\x00" * len(lines[4]), *lines[5:]]))
    (tmp_path / "head").write_text(f"{4:020d} {json.loads(lines[3])['~']}\n")
    with pytest.raises(JournalError, match="record 5 is not a record"):
        await GuardianJournal.open(tmp_path, Clock())


_CRASHING = """
import asyncio, sys
from datetime import UTC, datetime
from controllers.guardian.journal import GuardianJournal

async def main():
    journal = await GuardianJournal.open(sys.argv[1], lambda: datetime(2026, 1, 1, tzinfo=UTC), segment_bytes=4000)
    while True:
        done = await asyncio.gather(*(journal.append("intent", {"x": "y" * 300}) for _ in range(5)))
        print(done[-1], flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_what_was_acknowledged_before_sigkill_is_there(tmp_path: Path) -> None:
    for round_ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CRASHING, str(tmp_path / "j"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        last = b""
        for _ in range(4 + round_):
            last = await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = (await process.stdout.read()).split()
        await process.wait()
        acknowledged = int([last, *rest][-1])
        report = verify(tmp_path / "j")
        assert report.ok and report.records >= acknowledged
    async with await GuardianJournal.open(tmp_path / "j", Clock(), whole=False) as journal:
        assert journal.head.seq > report.records
    assert verify(tmp_path / "j").ok


# --- explaining -------------------------------------------------------------------------------------------------------


async def test_r25_explain_tells_who_why_what_came_back_and_what_happened(tmp_path: Path) -> None:
    clock = Clock()
    async with await GuardianJournal.open(tmp_path, clock) as journal:
        lease = {"event": "granted", "control": "limit_w", "value": 3000, "owner": "dso-7", "level": "operator"}
        await journal.append("lease", {"device": "inv", **lease, "why": "order 12 of the grid operator"})
        clock.now = datetime(2026, 11, 23, 8, 5, 10, tzinfo=UTC)
        intent = {"device": "inv", "order": "o1", "control": "limit_w", "value": 3000, "owner": "dso-7"}
        seq = await journal.append(
            "intent", {**intent, "level": "operator", "purpose": "value", "unit": 1, "address": 40300, "words": [3000]}
        )
        back = {"device": "inv", "order": "o1", "intent": seq, "ok": True}
        await journal.append("response", {**back, "request": "0001000000060106", "response": "000100"})
        await journal.append("read_back", {**back, "words": [3000], "expected": [3000]})
        await journal.append("effect", {**back, "reading": "w", "measured": -2990.0})
        await journal.append("intent", {"device": "other", "control": "limit_w"})
    told = str(explain(tmp_path, "inv", datetime(2026, 11, 23, 8, 5, tzinfo=UTC)))
    before, _, then = told.partition("then:")
    assert "granted limit_w 3000 for dso-7 (operator) because order 12 of the grid operator" in before
    for words in ("value limit_w 3000 for dso-7 (operator)", "words=[0bb8]", "request=0001000000060106", "-2990.0"):
        assert words in then
    assert "other" not in told
    nothing = explain(tmp_path, "inv", datetime(2026, 11, 23, 9, 0, tzinfo=UTC))
    assert not nothing.entries and "nothing is recorded" in str(nothing)


def test_a_folder_without_a_journal_is_told_so(tmp_path: Path) -> None:
    assert not is_journal(tmp_path)
    with pytest.raises(JournalError, match="holds no journal of a guardian"):
        verify(tmp_path)
    assert set(journal_module.KINDS) >= {"intent", "response", "read_back", "effect"}


async def test_the_page_s_program_verifies_a_journal_without_us(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "device-journal.md"
    (program,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    await _written(tmp_path / "journal", segment_bytes=2000)
    command = [sys.executable, "-c", program]
    assert await (await asyncio.create_subprocess_exec(*command, cwd=tmp_path)).wait() == 0
    file = _files(tmp_path / "journal")[1]
    file.write_bytes(file.read_bytes().replace(b"a test", b"a jest", 1))
    changed = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    assert b"AssertionError" in (await changed.communicate())[1]


def test_the_command_verifies_and_explains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peerwatt.cli import main

    head = asyncio.run(_written(tmp_path / "j"))
    folder = str(tmp_path / "j")
    assert main(["journal", "verify", folder, "--noted", str(head)]) == 0
    assert f"head {head}" in capsys.readouterr().out
    assert main(["journal", "explain", folder, "--device", "d1", "--at", "2026-11-23T08:00"]) == 0
    assert "because a test" in capsys.readouterr().out
    assert main(["journal", "explain", folder, "--device", "d1", "--at", "yesterday"]) == 2
    _files(tmp_path / "j")[0].write_bytes(b"x")
    assert main(["journal", "verify", folder]) == 1
    assert "DAMAGED" in capsys.readouterr().out
