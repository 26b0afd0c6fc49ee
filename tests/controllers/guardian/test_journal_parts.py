"""The parts of the guardian's journal: sealed, packed, thinned, pruned by rule, and still one chain that tells all."""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.guardian import journal_keeping
from controllers.guardian.journal import Head, Report, explain, explain_order, read, verify
from controllers.guardian.journal_keeping import Live, pack_apart, parts_of, prunable
from controllers.guardian.journal_lines import day_of, encode, head_bytes, segment_name, segments
from controllers.guardian.journal_packing import draft
from controllers.guardian.settings import KeepingSettings, load_site
from core.errors import JournalError, ScenarioError
from peerwatt.cli import main
from tests.controllers.guardian.keeping_lab import BEGIN, DAY, Lab
from tests.controllers.guardian.rig import Bench, until


def _names(folder: Path) -> list[str]:
    return [one.path.name for one in segments(folder)]


# --- packed -----------------------------------------------------------------------------------------------------------


async def test_sealed_parts_are_packed_and_read_as_before(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()
    await lab.days(3)
    before = [(one.seq, one.kind, one.body, one.digest) for one in read(tmp_path)]
    files = _names(tmp_path)
    assert [name.endswith(".xz") for name in files] == [True, True, True, False]
    for one in segments(tmp_path)[1:-1]:
        assert len(one.path.read_bytes()) * 3 < len(lzma.decompress(one.path.read_bytes())) and one.index.exists()
    report = verify(tmp_path)
    assert report.ok and report.records == before[-1][0] and not report.carried.gaps
    lines = b"".join(lzma.decompress((tmp_path / name).read_bytes()) for name in files[:-1])
    lines += (tmp_path / files[-1]).read_bytes()
    assert lines.count(b"\n") == len(before)
    await lab.close()
    again = await lab.open(whole=False)
    assert [(one.seq, one.kind, one.body, one.digest) for one in read(tmp_path)][: len(before)] == before
    await again.days(1)
    await again.close()
    assert verify(tmp_path).ok


async def test_a_part_begins_with_the_one_before_and_with_what_stands(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()
    await lab.mode("armed")
    await lab.days(2)
    first = next(iter(read(tmp_path, since=BEGIN + 2 * DAY)))
    files = segments(tmp_path)
    plain = lzma.decompress(files[1].path.read_bytes())
    assert first.kind == "part" and first.body["before"]["first"] == files[1].first_seq
    assert first.body["before"]["bytes"] == len(plain)
    assert plain.endswith(first.body["before"]["head"].encode() + b'"}\n')
    assert [one["body"]["to"] for one in first.body["standing"].values()] == ["armed"]
    assert set(first.body["orders"]) == {"inv limit_w timer 40100", "inv limit_w value 40200"}
    await lab.close()


async def test_an_old_journal_goes_on_as_the_first_part(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()
    for _ in range(10):
        await lab.order()
    await lab.close()
    old = _names(tmp_path)
    lab.now += DAY
    await lab.open(whole=False)
    await lab.order()
    await lab.keeper.turn()
    assert _names(tmp_path)[0] == old[0] + ".xz" and len(old) == 1
    assert verify(tmp_path).ok and len(list(read(tmp_path))) == verify(tmp_path).records
    await lab.close()


def _old(folder: Path, n_files: int) -> None:
    """A journal as it was written before there were parts: files by day, nothing at their beginning."""
    folder.mkdir()
    head, days = Head(), [BEGIN + number * DAY for number in range(n_files)]
    for at in days:
        text, first = b"", head.seq + 1
        for number in range(8):
            kind = "mode" if number == 2 else "alarm"
            body = {"device": "inv", "to": "armed", "alarm": f"of {at:%d}"}
            line, head = encode(head, kind, body, at=at + timedelta(minutes=number), mono_s=1.0, synced=head.seq)
            text += line
        (folder / segment_name(first, day_of(at))).write_bytes(text)
    (folder / "head").write_bytes(head_bytes(head))


async def test_an_old_journal_of_many_files_is_sealed_and_pruned(tmp_path: Path) -> None:
    _old(tmp_path / "j", 6)
    lab = await Lab(tmp_path / "j", KeepingSettings(days=4, alarm_free_mb=0), BEGIN + 5 * DAY).open(whole=False)
    assert len(lab.journal.carried.standing) == 1  # it was read from the beginning, once
    told = explain(lab.folder, "inv", BEGIN + 4 * DAY + timedelta(minutes=3), length_s=200.0)
    assert [one.body["alarm"] for one in told.entries] == ["of 05"] * 4 and len(told.standing) == 1
    await lab.days(1)
    assert str(explain(lab.folder, "inv", told.since, length_s=200.0)) == str(told)
    await lab.days(4)
    report = verify(lab.folder)
    assert report.ok and report.carried.gaps[0].first == 1 and segments(lab.folder)[0].is_packed
    before = report.carried.gaps[0].last
    await lab.days(5)
    assert verify(lab.folder).ok and verify(lab.folder).carried.gaps[0].last > before
    await lab.close()


def test_an_old_journal_s_parts_may_be_pruned_up_to_one_that_does_not_say_what_was_before_it(tmp_path: Path) -> None:
    async def lived() -> None:
        lab = await Lab(tmp_path / "j", KeepingSettings(days=8, alarm_free_mb=0), BEGIN + 5 * DAY).open()
        await lab.days(6)
        await lab.close()

    _old(tmp_path / "j", 6)
    asyncio.run(lived())
    report, first = verify(tmp_path / "j"), next(iter(read(tmp_path / "j")))
    assert report.ok and first.kind == "alarm" and first.seq == report.carried.gaps[0].last + 1 > 1


@pytest.mark.slow
async def test_a_process_of_its_own_packs_and_what_cannot_be_packed_stays(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("user")
    (elsewhere / "core.py").write_text("raise SystemExit('a file of the user was imported instead of ours')")
    monkeypatch.chdir(elsewhere)
    lab = await Lab(tmp_path).open()
    for _ in range(3):
        await lab.order()
    lab.now += DAY
    await lab.order()
    lab.keeper._pack = pack_apart
    await lab.keeper.turn()
    assert _names(tmp_path)[0].endswith(".xz") and verify(tmp_path).ok and await lab.keeper.verify_all() == ""
    lab.now += DAY
    await lab.order()
    sound = segments(tmp_path)[1].path
    content = sound.read_bytes()
    sound.write_bytes(content.replace(b'"ok":true', b'"ok":null', 1))
    with pytest.raises(JournalError, match="was changed"):
        await lab.keeper.turn()
    assert sound.exists() and "DAMAGED" in await lab.keeper.verify_all()
    sound.write_bytes(content)
    assert await lab.keeper.verify_all() == "" and await lab.keeper.turn() == ""
    assert not sound.exists() and verify(tmp_path).ok
    await lab.close()


# --- damage -----------------------------------------------------------------------------------------------------------


async def _sealed(folder: Path, **keeping: Any) -> Head:
    lab = await Lab(folder, KeepingSettings(alarm_free_mb=0, **keeping)).open()
    await lab.days(6)
    await lab.close()
    assert verify(folder).ok
    return lab.journal.head


def _rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(lzma.compress(change(lzma.decompress(file.read_bytes()))))


def _swap(folder: Path) -> None:
    one, other = segments(folder)[1:3]
    first, second = one.path.read_bytes(), other.path.read_bytes()
    one.path.write_bytes(second)
    other.path.write_bytes(first)


def _unpacked(folder: Path) -> None:
    """A thinned part is put there as if it had never been sealed."""
    part = segments(folder)[1]
    part.plain.write_bytes(lzma.decompress(part.path.read_bytes()))


DAMAGES: list[Callable[[Path], object]] = [
    lambda folder: segments(folder)[0].path.unlink(),
    lambda folder: segments(folder)[2].path.unlink(),
    lambda folder: segments(folder)[-1].path.unlink(),
    lambda folder: segments(folder)[2].path.rename(folder / "000000000900-20260304.jsonl.xz"),
    _swap,
    lambda folder: segments(folder)[1].path.write_bytes(segments(folder)[1].path.read_bytes()[:-40]),
    lambda folder: segments(folder)[1].path.write_bytes(segments(folder)[1].path.read_bytes() + bytes(16)),
    lambda folder: _rewrite(segments(folder)[1].path, lambda content: content),  # packed anew, the same records
    lambda folder: _rewrite(segments(folder)[1].path, lambda content: content.replace(b'"count":', b'"count":1', 1)),
    lambda folder: _rewrite(segments(folder)[2].path, lambda content: content.replace(b"guardian", b"gardener")),
    lambda folder: segments(folder)[1].index.write_bytes(b"{}"),
]


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("damage", range(len(DAMAGES)))
async def test_r25_what_is_done_to_a_sealed_part_is_found(tmp_path: Path, damage: int, thinned: bool) -> None:
    await _sealed(tmp_path, summarise_after_days=1 if thinned else None)
    DAMAGES[damage](tmp_path)
    report = verify(tmp_path)
    assert report.fault is not None, report


@pytest.mark.slow
async def test_r25_any_flipped_byte_of_a_packed_part_or_its_index_is_found(tmp_path: Path) -> None:
    await _sealed(tmp_path, summarise_after_days=1)
    part = segments(tmp_path)[1]
    for file in (part.path, part.index):
        content = file.read_bytes()
        for place in range(0, len(content), 7):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            report = verify(tmp_path)
            assert report.fault is not None and report.fault.seq >= part.first_seq, f"byte {place} of {file.name}"
        file.write_bytes(content)
    assert verify(tmp_path).ok


async def test_a_summary_in_a_part_that_was_not_sealed_is_found(tmp_path: Path) -> None:
    await _sealed(tmp_path, summarise_after_days=1)
    _unpacked(tmp_path)
    report = verify(tmp_path)
    assert report.fault is not None and "in a part that was not sealed" in report.fault.reason


# --- pruned -----------------------------------------------------------------------------------------------------------


async def test_pruned_parts_are_named_and_the_chain_goes_on(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=3, alarm_free_mb=0)).open()
    await lab.days(8)
    report = verify(tmp_path)
    assert report.ok and len(report.carried.gaps) == 1
    gap = report.carried.gaps[0]
    files = segments(tmp_path)
    assert gap.first == 1 and gap.last == files[0].first_seq - 1 and len(files) == 3
    assert gap.rule == "days: 3" and gap.by == "guardian of lab" and gap.at.date() == lab.now.date()
    text = str(report)
    assert f"records 1 to {gap.last} (2026-03-01 to" in text and "by guardian of lab, rule days: 3" in text
    entries = list(read(tmp_path))
    assert entries[0].seq == files[0].first_seq and entries[0].body["before"]["head"] == gap.digest.hex()
    assert [one.seq for one in entries] == list(range(entries[0].seq, report.records + 1))
    told = str(explain(tmp_path, "inv", BEGIN + DAY))
    assert "not all of that time is kept" in told and "rule days: 3" in told
    await lab.close()
    assert (await lab.open(whole=False)).journal.carried.gaps[0].last >= gap.last
    await lab.close()
    # a part removed by somebody else is none that was pruned
    segments(tmp_path)[0].path.unlink()
    assert "is missing" in str(verify(tmp_path))


async def test_a_statement_that_nobody_made_does_not_help(tmp_path: Path) -> None:
    """Whoever removes parts and puts a record of it at the end breaks the chain there."""
    await _sealed(tmp_path)
    donor = tmp_path / "donor"
    lab = await Lab(donor, KeepingSettings(days=3, alarm_free_mb=0)).open()
    await lab.days(8)
    await lab.close()
    stated = next(line for line in segments(donor)[-1].path.read_bytes().splitlines() if b'"kind":"pruned"' in line)
    shutil.rmtree(donor)
    segments(tmp_path)[0].path.unlink()
    last = segments(tmp_path)[-1].path
    last.write_bytes(last.read_bytes() + stated + b"\n")
    assert verify(tmp_path).fault is not None


async def test_heads_that_were_noted_are_compared_or_said_not_to_be(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=3, alarm_free_mb=0)).open()
    await lab.order()
    early = lab.journal.head
    await lab.days(8)
    late = lab.journal.head
    await lab.close()
    report = verify(tmp_path, noted=[early, late])
    assert report.ok and report.unheld == (early.seq,) and f"noted heads that are not kept: {early.seq}" in str(report)
    assert not verify(tmp_path, noted=[Head(late.seq, bytes(32))]).ok


@pytest.mark.slow
async def test_what_is_about_a_lockout_or_stands_is_never_pruned_or_summarised(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=2, summarise_after_days=1, alarm_free_mb=0)).open()
    await lab.order(device="old")  # nobody refreshes it: it is what stands
    standing = lab.journal.head.seq
    await lab.days(4)
    await lab.journal.append("alarm", {"device": "inv", "alarm": "foreign-write:limit_w", "why": "x"})
    locked = await lab.mode("lockout")
    await lab.days(9)
    seqs = {one.seq for one in read(tmp_path)}
    assert {standing, *range(locked - 12 * 6, locked + 1)} <= seqs  # the day before it too, and whole
    report = verify(tmp_path)
    assert report.ok and len(report.carried.gaps) == 2  # before the lockout and after it, both said
    assert locked in {one.seq for one in explain(tmp_path, "inv", lab.now - DAY).standing}
    await lab.mode("observe")
    await lab.days(1)
    assert locked not in {one.seq for one in read(tmp_path)} and verify(tmp_path).ok
    await lab.order(device="old")
    await lab.days(3)
    report = verify(tmp_path)
    assert report.ok and standing not in {one.seq for one in read(tmp_path)}  # another stands instead
    await lab.close()


async def test_a_limit_of_megabytes_takes_the_oldest_first(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()
    await lab.days(6)
    known = parts_of(tmp_path)
    live = Live.of(lab.journal.carried)
    big = [type(one)(one.segment, one.index, 40_000_000) for one in known]
    found = prunable(big, KeepingSettings(days=None, megabytes=170), live, lab.now)
    assert [part.segment.first_seq for part, _, _ in found] == [one.segment.first_seq for one in known[:3]]
    assert {rule for _, _, rule in found} == {"megabytes: 170"}
    newest = prunable(big, KeepingSettings(days=None, megabytes=50), live, lab.now)
    assert len(newest) == 5  # never the newest two days
    await lab.close()


async def test_a_wall_clock_that_jumps_prunes_nothing_in_haste(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=30, alarm_free_mb=0)).open()
    await lab.days(5)
    kept = len(segments(tmp_path))
    lab.now += timedelta(days=5000)
    await lab.order()
    assert await lab.keeper.turn() == ""
    assert len(segments(tmp_path)) == kept + 1 and not verify(tmp_path).carried.gaps
    await lab.close()


async def test_a_file_that_is_not_what_its_index_says_is_not_pruned(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=4, alarm_free_mb=0)).open()
    await lab.days(3)
    index = segments(tmp_path)[0].index
    content = index.read_bytes()
    at = content.index(b'"head":"') + 8
    index.write_bytes(content[:at] + (b"0" if content[at : at + 1] != b"0" else b"1") + content[at + 1 :])
    lab.keeper._listed = None
    lab.now += 2 * DAY
    await lab.order()
    lab.now += DAY
    await lab.order()
    with pytest.raises(JournalError, match="is not what its index says"):
        await lab.keeper.turn()
    index.unlink()
    lab.keeper._listed = None
    assert f"parts whose index cannot be read are not pruned: {index.name}" in await lab.keeper.turn()
    assert segments(tmp_path)[0].first_seq == 1
    await lab.close()


@pytest.mark.slow
async def test_of_a_damaged_journal_nothing_is_pruned(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=3, alarm_free_mb=0)).open()
    await lab.days(2)
    part = segments(tmp_path)[1]
    _rewrite(part.path, lambda content: content.replace(b"guardian", b"gardener"))
    assert "DAMAGED" in await lab.keeper.verify_all()
    await lab.days(4)
    assert segments(tmp_path)[0].first_seq == 1
    await lab.close()


# --- thinned ----------------------------------------------------------------------------------------------------------


async def test_routine_is_counted_and_everything_else_stays_whole(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(summarise_after_days=1, alarm_free_mb=0)).open()
    for _ in range(20):
        await lab.order()
    other = await lab.order(2000.0)
    for _ in range(5):
        await lab.order(2000.0)
    person = [await lab.order(1000.0, level="person") for _ in range(5)]
    refused = await lab.order(2000.0, ok=False)
    again = await lab.order(2000.0)
    await lab.journal.append("alarm", {"device": "inv", "alarm": "a", "why": "b"})
    for _ in range(10):
        await lab.order(2000.0)
    whole = {one.seq: one for one in read(tmp_path)}
    head = lab.journal.head
    await lab.days(3, orders=1)
    report = verify(tmp_path, noted=[head])
    assert report.ok and report.summarised > 150 and "routine records in sealed parts are only counted" in str(report)
    entries = [one for one in read(tmp_path) if one.seq <= head.seq]
    summaries = [one for one in entries if one.kind == "summary"]
    covered = {seq for one in summaries for seq in range(one.seq, one.body["last"] + 1)}
    kept = {one.seq: one for one in entries if one.kind != "summary"}
    assert covered | kept.keys() == whole.keys() and not covered & kept.keys()
    assert all(kept[seq] == whole[seq] for seq in kept)
    for order in (other, *person, refused, again, "inv-1", f"inv-{lab.orders - 3}"):
        assert any(one.body.get("order") == order for one in kept.values()), order
    assert {whole[seq].kind for seq in covered} == {"intent", "response", "read_back"}
    assert sum(one["count"] for summary in summaries for one in summary.body["routine"]) * 3 == len(covered)
    told = str(explain(tmp_path, "inv", BEGIN))
    assert "routine records, confirmed as expected" in told and "value limit_w 3000.0 of inv for guardian" in told
    assert "summary" in str(explain_order(tmp_path, "inv-10"))
    await lab.close()


async def test_nothing_is_summarised_unless_it_is_asked_for(tmp_path: Path) -> None:
    await _sealed(tmp_path)
    assert verify(tmp_path).summarised == 0


def test_a_site_says_how_much_is_kept_and_nothing_hasty(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    site = "name: lab\ndevices: [{id: a, address: 'tcp://127.0.0.1:1'}]\n"
    file.write_text(site)
    assert load_site(file).journal_keeping == KeepingSettings(
        days=365, megabytes=None, summarise_after_days=None, alarm_free_mb=2000
    )
    file.write_text(site + "journal_keeping: {days: null, megabytes: 5000, summarise_after_days: 7}\n")
    assert load_site(file).journal_keeping.megabytes == 5000
    for hasty in ("days: 1", "megabytes: 3", "summarise_after_days: 0", "alarm_free_mb: -1", "day: 30"):
        file.write_text(site + f"journal_keeping: {{{hasty}}}\n")
        with pytest.raises(ScenarioError, match="journal_keeping"):
            load_site(file)


# --- the disk ---------------------------------------------------------------------------------------------------------


async def test_a_low_disk_is_said_in_time_and_unsaid(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(alarm_free_mb=10**9)).open()
    await lab.keeper.turn()
    assert "MB are free where the journal is" in lab.alarms["disk-low"]
    lab.keeper._keeping = KeepingSettings(alarm_free_mb=0)
    await lab.keeper.turn()
    assert not lab.alarms
    await lab.close()


# --- explaining -------------------------------------------------------------------------------------------------------


async def test_explaining_reads_from_the_end_and_no_older_part(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()
    await lab.mode("armed")
    await lab.days(5)
    at = lab.now - timedelta(seconds=8)
    order = f"inv-{lab.orders - 1}"
    await lab.close()
    for one in segments(tmp_path)[:-1]:
        one.path.write_bytes(b"unreadable")
    told = explain(tmp_path, "inv", at)
    assert [one.body["order"] for one in told.entries if one.kind == "intent"][0::2] == [order, f"inv-{lab.orders}"]
    assert [one.body["to"] for one in told.standing] == ["armed"]
    assert {one.body["order"] for one in explain_order(tmp_path, order).entries} == {order}
    with pytest.raises(JournalError, match="holds no order"):
        explain_order(tmp_path, "inv-99999")


async def test_an_order_s_name_means_the_newest_of_that_name(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, segment_bytes=6000).open()
    for _ in range(9):
        await lab.order(3000.0)
    await lab.close()
    lab.orders = 0
    await lab.open()
    for _ in range(9):
        await lab.order(1000.0)
    await lab.keeper.turn()
    for number in range(1, 10):
        entries = explain_order(tmp_path, f"inv-{number}").entries
        assert len(entries) == 6 and {one.body.get("value", 1000.0) for one in entries} == {1000.0}
    await lab.close()


async def test_every_minute_is_told_the_same_before_and_after_it_is_packed(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, segment_bytes=5000).open()
    times = []
    for number in range(30):
        lab.now += timedelta(minutes=20)
        if number % 7 == 0:
            await lab.mode(("armed", "observe")[number % 2])
        if number == 12:
            lab.now -= timedelta(hours=3)  # the wall clock is put right
        times.append(lab.now)
        await lab.order(1000.0 * (number % 3))
    before = [str(explain(tmp_path, "inv", at - timedelta(seconds=30))) for at in times]
    assert await lab.keeper.turn() == "" and sum(one.is_packed for one in segments(tmp_path)) > 8
    assert [str(explain(tmp_path, "inv", at - timedelta(seconds=30))) for at in times] == before
    assert all("value limit_w" in one for one in before)
    await lab.close()


# --- beside the control cycle -----------------------------------------------------------------------------------------


async def test_no_frame_waits_for_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the keeper is stuck in, records are synced as ever."""
    lab = await Lab(tmp_path).open()
    await lab.order()
    lab.now += DAY
    await lab.order()
    packed, placed = asyncio.Event(), threading.Event()
    pack, place = lab.keeper._pack, journal_keeping.put_in_place

    async def slow_pack(folder: Path, first_seq: int, thinned: bool) -> dict[str, Any]:
        await packed.wait()
        return await pack(folder, first_seq, thinned)

    def slow_place(folder: Path, sealed: dict[str, Any]) -> None:
        assert placed.wait(20.0)
        place(folder, sealed)

    lab.keeper._pack = slow_pack
    monkeypatch.setattr(journal_keeping, "put_in_place", slow_place)
    turn = asyncio.create_task(lab.keeper.turn())
    for _ in range(5):
        await lab.order()
    before = lab.journal.head.seq
    packed.set()
    while not any(entry.kind == "sealed" for entry in read(tmp_path)):
        await lab.order()
    for _ in range(5):
        await lab.order()
    assert lab.journal.head.seq >= before + 30 and not turn.done()
    placed.set()
    assert await turn == "" and verify(tmp_path).ok and segments(tmp_path)[0].is_packed
    await lab.close()


async def test_a_part_whose_end_is_not_on_the_disk_yet_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await Lab(tmp_path).open()
    await lab.order()
    go_on, sync = threading.Event(), os.fdatasync

    def slow(handle: int) -> None:
        assert go_on.wait(20.0)
        sync(handle)

    with monkeypatch.context() as slowly:
        slowly.setattr(os, "fdatasync", slow)
        late = [asyncio.create_task(lab.journal.append("alarm", {}))]  # at the disk, and held up there
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late.append(asyncio.create_task(lab.journal.append("alarm", {"why": "the end of the part"})))
        await asyncio.sleep(0)
        lab.now += DAY
        late.append(asyncio.create_task(lab.journal.append("alarm", {"why": "begins a part"})))
        await asyncio.sleep(0)
        await lab.keeper.turn()
        assert [one.is_packed for one in segments(tmp_path)] == [False]
        with pytest.raises(JournalError, match="is not whole"):
            draft(tmp_path, 1)
        go_on.set()
        last = (await asyncio.gather(*late))[-1]
    await lab.keeper.turn()
    assert [one.is_packed for one in segments(tmp_path)] == [True, False]
    assert verify(tmp_path).ok and {one.seq for one in read(tmp_path)} >= set(range(1, last + 1))
    await lab.close()


@pytest.mark.slow
async def test_it_verifies_at_any_moment_while_parts_are_packed_summarised_and_pruned(tmp_path: Path) -> None:
    lab = await Lab(tmp_path, KeepingSettings(days=3, summarise_after_days=1, alarm_free_mb=0)).open()
    over, found = threading.Event(), list[Report]()

    def look() -> None:
        while not over.is_set():
            found.append(verify(tmp_path))

    looking = asyncio.create_task(asyncio.to_thread(look))
    await lab.days(15, orders=6)
    over.set()
    await looking
    await lab.close()
    assert len(found) > 5 and [str(one) for one in found if not one.ok] == []
    assert found[-1].carried.gaps and found[-1].summarised


async def test_a_keeper_that_breaks_says_so(tmp_path: Path) -> None:
    lab = await Lab(tmp_path).open()

    async def broken(*_: object) -> dict[str, Any]:
        raise KeyError("an error of ours")

    lab.keeper._pack = broken
    lab.now += DAY
    await lab.order()
    lab.keeper.start()
    await until(lambda: "KeyError" in lab.alarms.get("journal-keeping", ""))
    await lab.close()


async def test_a_journal_that_failed_is_left_alone_by_its_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await Lab(tmp_path, KeepingSettings(alarm_free_mb=10**9)).open()
    await lab.order()
    lab.now += DAY

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(JournalError, match="takes nothing more"):
            await lab.order()
    assert await lab.keeper.turn() == "" and "disk-low" in lab.alarms
    assert segments(tmp_path)[0].path.suffix == ".jsonl"
    await lab.close()


@pytest.mark.slow
async def test_a_guardian_packs_what_an_earlier_one_left_and_says_what_is_damaged(inverter: Bench) -> None:
    folder = inverter.site.journal
    lab = await Lab(folder).open()
    await lab.order()
    for _ in range(3):
        lab.now += DAY
        await lab.order()
    await lab.close()
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await until(lambda: sum(one.is_packed for one in segments(folder)) == 4)
        assert not (await client.status())["standing"]
    assert verify(folder).ok
    segments(folder)[1].path.unlink()
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)  # the newest parts are whole: it runs, and says what is missing

        async def said() -> bool:
            return "journal-damaged" in [one["alarm"] for one in (await client.status())["standing"]]

        for _ in range(200):
            if await said():
                break
            await asyncio.sleep(0.05)
        assert await said()


# --- commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_read_all_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "j", tmp_path / "out.jsonl"

    async def written() -> str:
        lab = await Lab(folder, KeepingSettings(days=4, summarise_after_days=2, alarm_free_mb=0)).open()
        await lab.days(7)
        await lab.close()
        return f"inv-{lab.orders - 3}"

    order = asyncio.run(written())
    assert main(["journal", "verify", str(folder)]) == 0
    assert "were pruned" in (text := capsys.readouterr().out) and "are only counted" in text
    assert main(["journal", "explain", str(folder), "--order", order]) == 0
    assert f"order={order}" in (text := capsys.readouterr().out) and "limit_w 3000.0 for guardian (default)" in text
    assert main(["journal", "explain", str(folder), "--device", "inv", "--at", "2026-03-03T08:00"]) == 0
    assert "not all of that time is kept" in capsys.readouterr().out
    assert main(["journal", "explain", str(folder), "--at", "2026-03-03T08:00"]) == 2
    assert main(["journal", "export", str(folder), "--out", str(out)]) == 0
    assert "not in it: records 1 to" in capsys.readouterr().out
    assert [json.loads(line)["seq"] for line in out.read_bytes().splitlines()] == [one.seq for one in read(folder)]
    assert main(["journal", "export", str(folder), "--out", str(out)]) == 2  # it is there already
    segments(folder)[0].path.unlink()
    assert main(["journal", "verify", str(folder)]) == 1


@pytest.mark.slow
def test_the_page_s_program_verifies_sealed_parts_without_us(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "device-journal.md"
    (program,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)

    async def written() -> None:
        lab = await Lab(tmp_path / "journal", KeepingSettings(days=4, summarise_after_days=2, alarm_free_mb=0)).open()
        await lab.mode("lockout")
        await lab.days(9)
        await lab.close()

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    asyncio.run(written())
    folder = tmp_path / "journal"
    report = verify(folder)
    assert report.ok and len(report.carried.gaps) == 1 and report.summarised and report.carried.gaps[0].first > 1
    done = run()
    assert done.returncode == 0, done.stderr
    for number in (1, -3):
        part = segments(folder)[number]
        content = part.path.read_bytes()
        _rewrite(part.path, lambda text: text.replace(b'"guardian"', b'"gardener"'))
        assert run().returncode and not verify(folder).ok
        part.path.unlink()
        assert run().returncode and not verify(folder).ok
        part.path.write_bytes(content)
    assert run().returncode == 0
