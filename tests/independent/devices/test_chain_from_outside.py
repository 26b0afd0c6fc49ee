"""Emulator, commissioning, guardian and journal together, watched by mbpoll, a recording go-between and tcpdump."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.independent.devices import mbpoll
from tests.independent.devices import registers as r
from tests.independent.devices.campaign import one_death
from tests.independent.devices.chain import (
    DEVICE,
    GRACE_S,
    SAFE_W,
    SUN_W,
    Bench,
    Guardian,
    GuardianRefusedError,
    behaviours,
    bench,
    commission,
    copy_records,
    disorder,
    record_file,
    recorded_lateness_s,
)
from tests.independent.devices.running import peerwatt, until
from tests.independent.devices.wire_and_journal import differences, last_run, records, tcpdump

pytestmark = [pytest.mark.slow, pytest.mark.timed]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("bench")) as table:
        yield table


@pytest.fixture(scope="module")
def commissioned(table: Bench) -> Path:
    """Records of the emulated inverter, made over the go-between; its frames are held to the order of R1."""
    folder = table.folder / "records"
    first = len(table.tap.frames)
    code, said = commission(table.address, folder)
    assert code == 0, said
    table.tap.settle()
    new = table.tap.frames[first:]
    faults = [
        fault
        for connection in {frame.connection for frame in new}
        for fault in disorder([f for f in new if f.connection == connection], table.models[704], 2)
    ]
    assert faults == []
    seen = [frame for frame in new if frame.is_request and frame.function in (6, 16)]
    assert seen, "commissioning wrote nothing"
    assert differences(last_run(records(folder / "journal")), seen) == []
    return folder


@pytest.fixture
def guardian(table: Bench, commissioned: Path, tmp_path: Path) -> Iterator[Guardian]:
    guardian = Guardian(tmp_path / "site", table.address, commissioned)
    try:
        yield guardian
    finally:
        guardian.kill()


def test_commissioning_tells_the_truth_and_leaves_the_device_free(table: Bench, commissioned: Path) -> None:
    assert behaviours(commissioned) == {"standard"}
    record = json.loads(record_file(commissioned).read_text())["record"]
    assert record["identity"]["serial"]
    assert record["witness"] == "W. Judge"
    assert record["instrument"] == {"name": "mbpoll", "serial": "M-1", "calibrated_on": "2026-03-01"}
    limit = record["controls"]["limit_w"]
    assert 2.0 <= limit["timer"]["expired_s"] <= 2.5
    assert abs(limit["timer"]["fell_to_value"] - limit["timer"]["chosen"]) <= 100
    assert all(abs(tried["measured"] - tried["value"]) <= 100 for tried in limit["tried"])
    table.wait_for_watts(SUN_W, 10_500, 5)
    assert table.limit_registers()[0] == 0


def test_timer_limit_read_back_effect_and_the_end(table: Bench, guardian: Guardian) -> None:
    first = len(table.tap.frames)
    with tcpdump(table.folder / "loopback.pcap", table.tap.port) as dump:
        guardian.start()
        with guardian.session() as session:
            assert session.mode() == "observe"
            time.sleep(1)
            assert not [f for f in table.tap.frames[first:] if f.is_request and f.function in (6, 16)]
            for word, says in (("rehearse", "rehearse"), ("arm", "armed")):
                done = peerwatt("guardian", str(guardian.site), word, "--who", "T. Judge")
                assert (done.returncode, says in done.stdout) == (0, True), done.stdout + done.stderr
            session.lease(6_000)
            table.wait_for_watts(5_900, 6_120, 4)
            assert table.limit_registers() == (1, 6_000, SAFE_W, 1, 2)
            assert session.control()["value"] == 6_000
            effects = until(
                lambda: [
                    f for f in records(guardian.journal) if f["kind"] == "effect" and f["body"]["measured"] < -5_800
                ],
                "the effect to be in the journal",
                5,
            )
            assert effects[-1]["body"]["ok"]
            told = time.monotonic()
            assert guardian.end(6) == 0
            assert time.monotonic() - told <= 5
            table.wait_for_watts(0, SAFE_W + 60, 1)
        table.tap.settle()
    new = table.tap.frames[first:]
    for connection in {frame.connection for frame in new}:
        assert disorder([f for f in new if f.connection == connection], table.models[704], 2) == []
    seen = [frame for frame in new if frame.is_request and frame.function in (6, 16)]
    assert len(seen) >= 8
    assert differences(records(guardian.journal), seen) == []
    if dump is not None:
        assert dump.write_frames() == [frame.raw for frame in seen]
    assert peerwatt("journal", "verify", str(guardian.journal)).returncode == 0


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_killed_or_stopped_it_leaves_the_device_safe(
    table: Bench, guardian: Guardian, commissioned: Path, seed: int
) -> None:
    death = one_death(table, guardian, random.Random(seed), 2, recorded_lateness_s(commissioned, 2))
    assert death.ok, death


def test_stopped_for_a_while_it_does_not_go_on_with_an_old_order(table: Bench, guardian: Guardian) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(7_000, ttl_s=3)
        table.wait_for_watts(6_900, 7_140, 5)
        guardian.signal(signal.SIGSTOP)
        died = time.monotonic()
        assert table.late_s(died, 5) <= 2 + 0.5 + GRACE_S
    first = len(table.tap.frames)
    guardian.signal(signal.SIGCONT)
    time.sleep(3)  # twelve cycles, in which nothing may come
    old = [f.raw.hex() for f in table.tap.frames[first:] if f.is_request and f.function in (6, 16) and 7_000 in f.words]
    assert old == []
    assert table.is_safe(table.power.looks[-1])


@pytest.mark.campaign
def test_a_real_timer_of_20_s(table: Bench, commissioned: Path, tmp_path: Path) -> None:
    guardian = Guardian(tmp_path / "site", table.address, commissioned, timer_s=20, cycle_s=1.0)
    guardian.start()
    try:
        with guardian.session() as session:
            guardian.arm(session)
            session.lease(6_500, ttl_s=60)
            table.wait_for_watts(6_400, 6_630, 6)
            assert table.limit_registers() == (1, 6_500, SAFE_W, 1, 20)
            time.sleep(7)  # over a refresh
            assert 6_400 <= table.now() <= 6_630
            guardian.signal(signal.SIGKILL)
            died = time.monotonic()
            allowed_s = 20 + recorded_lateness_s(commissioned, 20) + GRACE_S
            late_s = table.late_s(died, allowed_s + 2)
            assert 14 <= late_s <= allowed_s, "a timer was left to run, and ran out"
    finally:
        guardian.kill()


def refusal(table: Bench, folder: Path, address: str, kept: Path, *, seen: bool = True) -> str:
    """Why the guardian does not arm, by its list and by its answer; nothing was written meanwhile."""
    guardian = Guardian(folder, address, kept)
    before = len(table.tap.writes())
    guardian.start()
    try:
        with guardian.session() as session:
            if seen:
                until(lambda: session.ask("devices")["devices"][0]["identity"], "the device to be seen")
            session.ask("mode", device=DEVICE, mode="rehearse", who="judge")
            with pytest.raises(GuardianRefusedError) as caught:
                session.ask("mode", device=DEVICE, mode="armed", who="judge")
            answer = caught.value.args[0]
            assert answer["code"] == "not-commissioned", answer
            listed = session.ask("devices")["devices"][0]["not_armable"]
            assert listed, "it cannot be armed, and the list of devices does not say why"
            session.lease(4_000)  # heard in rehearsal, and never written
            time.sleep(1)
            assert session.mode() == "rehearse"
        assert len(table.tap.writes()) == before
    finally:
        guardian.kill()
    return str(answer["message"])


def test_without_a_record_nothing_arms(table: Bench, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "commission" in refusal(table, tmp_path / "site", table.address, tmp_path / "none")


@pytest.mark.parametrize("fault", [{"kind": "serial-change"}, {"kind": "firmware-change"}])
def test_with_the_record_of_another_device_nothing_arms(
    table: Bench, commissioned: Path, tmp_path: Path, fault: dict[str, str]
) -> None:
    table.emulator.fault(**fault)
    try:
        said = refusal(table, tmp_path / "site", table.address, commissioned)
        assert "record" in said
    finally:
        table.emulator.heal()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"standard"', '"late"'), ('"expired_s": ', '"expired_s": 0'), ('"witness": "W. Judge"', '"witness": "W. Other"')],
    ids=["behaviour", "figure", "witness"],
)
def test_with_an_edited_record_nothing_arms(
    table: Bench, commissioned: Path, tmp_path: Path, old: str, new: str
) -> None:
    kept = copy_records(commissioned, tmp_path / "records")
    text = record_file(kept).read_text()
    parsed = json.loads(text)
    edited = text.replace(old, new, 1) if old in text else json.dumps(parsed).replace(old, new, 1)
    if '"expired_s": 0' in new:
        edited = edited.replace('"expired_s": 02', '"expired_s": 1', 1)
    assert json.loads(edited) != parsed
    record_file(kept).write_text(edited)
    refusal(table, tmp_path / "site", table.address, kept)


@pytest.mark.parametrize(
    ("fault", "behaviour"),
    [
        pytest.param("cosmetic-timer", "cosmetic", marks=pytest.mark.campaign),  # three minutes of patience
        ("ack-and-drop", "acknowledge-and-drop"),
    ],
)
def test_a_timer_that_only_looks_like_one_does_not_arm(
    table: Bench, tmp_path: Path, fault: str, behaviour: str
) -> None:
    table.emulator.fault(fault)
    try:
        commission(table.address, tmp_path / "records")
        assert behaviour in behaviours(tmp_path / "records")
        refusal(table, tmp_path / "site", table.address, tmp_path / "records")
    finally:
        table.emulator.heal()


@pytest.mark.parametrize("kind", ["firmware-change", "serial-change"])
def test_another_device_behind_the_address_disarms(table: Bench, guardian: Guardian, kind: str) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(6_000, ttl_s=60)
        table.wait_for_watts(5_900, 6_120, 5)
        table.tap.unplugged.set()  # somebody changes the device, or its firmware, and plugs it in again
        time.sleep(1.5)
        table.emulator.fault(kind)
        try:
            first = len(table.tap.frames)
            table.tap.unplugged.clear()
            until(lambda: session.mode() == "observe", "the guardian to notice", 10)
            written = [f.raw.hex() for f in table.tap.frames[first:] if f.is_request and f.function in (6, 16)]
            assert written == []
            table.wait_for_watts(0, SAFE_W + 60, 2 + 0.5 + GRACE_S)
        finally:
            table.emulator.heal()


def test_a_flipped_byte_and_a_cut_in_the_journal_are_found(table: Bench, guardian: Guardian, tmp_path: Path) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(5_000)
        time.sleep(1)
        assert guardian.end() == 0
    (segment,) = guardian.journal.glob("*.jsonl")
    content = segment.read_bytes()
    assert peerwatt("journal", "verify", str(guardian.journal)).returncode == 0
    chance = random.Random(4)
    for i in range(6):
        copy = tmp_path / f"copy{i}"
        shutil.copytree(guardian.journal, copy)
        at = chance.randrange(len(content))
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << chance.randrange(8)
        cut_off = bytes(spoilt) if i < 4 else content[: content.rindex(b"\n", 0, at) + 1]
        (copy / segment.name).write_bytes(cut_off)
        done = peerwatt("journal", "verify", str(copy))
        assert done.returncode == 1, (i, at, done.stdout, done.stderr)
        assert segment.name in done.stdout + done.stderr or i >= 4


def test_with_a_full_disk_the_timer_takes_over(table: Bench, guardian: Guardian) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(6_000, ttl_s=60)
        table.wait_for_watts(5_900, 6_120, 5)
        (segment,) = guardian.journal.glob("*.jsonl")
        most = segment.stat().st_size + 5_000
        resource.prlimit(guardian.pid, resource.RLIMIT_FSIZE, (most, most))  # as a full disk: the write fails
        until(lambda: not session.ask("status")["journal_ok"], "the journal to be full")
        full = time.monotonic()
        assert table.late_s(full, 5) <= 2 + 0.5 + GRACE_S
        assert [f.raw.hex() for f in table.tap.writes() if f.at > full + 0.5] == []
        assert session.mode() != "armed"
        stopped = peerwatt("stop", str(guardian.site), "--reason", "full disk")
        assert "1 of 1" in stopped.stdout


def test_unplugged_the_timer_takes_over_and_nothing_is_reissued_blindly(table: Bench, guardian: Guardian) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(6_000, ttl_s=4)
        table.wait_for_watts(5_900, 6_120, 5)
        table.tap.unplugged.set()
        lost = time.monotonic()
        assert table.late_s(lost, 5) <= 2 + 0.5 + GRACE_S
        first = len(table.tap.frames)
        table.tap.unplugged.clear()
        until(lambda: any(not f.is_request for f in table.tap.frames[first:]), "an answer of the device")
        time.sleep(3)
        new = table.tap.frames[first:]
        answered = next(f.at for f in new if not f.is_request and f.function == 3)
        writes = [f for f in new if f.is_request and f.function in (6, 16)]
        assert all(f.at > answered for f in writes), "written before anything was read"
        assert not [f for f in writes if 6_000 in f.words], "the lease was over"


def test_a_stop_is_heard_and_latched(table: Bench, guardian: Guardian) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(6_500, ttl_s=60)
        table.wait_for_watts(6_400, 6_630, 5)
        told = time.monotonic()
        stopped = peerwatt("stop", str(guardian.site), "--reason", "smoke", "--who", "T. Judge")
        assert (stopped.returncode, session.mode()) == (0, "lockout"), stopped.stdout + stopped.stderr
        assert table.late_s(told, 5) <= 2 + 1.5  # with the start of the command
        with pytest.raises(GuardianRefusedError):
            session.lease(6_000)
    guardian.kill()
    guardian.start()
    with guardian.session() as session:
        assert session.mode() == "lockout", "the stop was forgotten over a restart"
        assert session.ask("clear", device=DEVICE, who="T. Judge")["modes"] == {DEVICE: "observe"}


def test_a_second_master_is_noticed_and_a_second_guardian_refused(
    table: Bench, guardian: Guardian, tmp_path: Path
) -> None:
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        session.lease(6_000, ttl_s=60)
        table.wait_for_watts(5_900, 6_120, 5)
        second = Guardian(tmp_path / "second", table.address, tmp_path)
        done = peerwatt("guardian", str(second.site), patience_s=20)
        assert done.returncode != 0
        assert str(guardian.pid) in done.stderr
        for tries_left in (2, 1, 0):  # one within the millisecond before a refresh is written over
            mbpoll.write(table.emulator.port, table.models[704] + r.LIM_704_PCT, 9_000)
            try:
                until(lambda: session.mode() == "lockout", "the other master to be noticed", 2 * 0.25 + 2)
                break
            except AssertionError:
                if not tries_left:
                    raise
        table.wait_for_watts(0, SAFE_W + 60, 2 + 0.5 + GRACE_S)
