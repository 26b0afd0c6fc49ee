"""Ways in which the guardian could have been brought to do, to leave or to say the wrong thing; each was one once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.guardian import views
from controllers.guardian.arbiter import Arbiter
from controllers.guardian.decide import Belief, DeviceImage, decide, part_of
from controllers.guardian.desk import Desk
from controllers.guardian.envelope import Rule, Standing
from controllers.guardian.guardian import Guardian
from controllers.guardian.held import Held
from controllers.guardian.ipc import Sockets
from controllers.guardian.messages import to_line
from controllers.guardian.settings import ConnectionSettings, ControlSettings, Mode
from hardware.driver import Control, Fallback, Frame, Order, Sample, Span
from hardware.modbus.line import Line, Priority, WriteOutcome
from tests.controllers.faults_loop import run
from tests.controllers.guardian.inside import LIMIT, POWER, Notes, inside

CAP = Control("limit_w", 0.0, 10_000.0, 1.0, Fallback.CHOSEN, 3600, "w", cap=True)
SAFE = ControlSettings.model_validate({"safe": 1000.0, "default": "released"})
HYBRID: Mapping[str, tuple[str, Mapping[str, Any]]] = {"d": ("hybrid", {})}


def held_of(control: Control = CAP, settings: ControlSettings = SAFE) -> Held:
    return Held(control, settings, Rule.of(control, settings, clamp=False, cycle_s=1.0))


def image_of(held: Held, **changes: Any) -> DeviceImage:
    found = DeviceImage("d", True, True, None, 10_000.0, 0.0, {"limit_w": held.image({})})
    return replace(found, **changes)


# --- views and sessions ----------------------------------------------------------------------------------------------


def test_what_is_shown_while_the_first_order_is_on_its_way_is_finite(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            held = found.guardian.units["d"].held["limit_w"]
            held.last_order, held.standing = "d-1", Standing()  # begun, and nothing confirmed yet
            (shown,) = views.devices(found.guardian)
            assert json.loads(to_line(shown))["controls"]["limit_w"]["written_age_s"] is None

    run(story())


async def test_a_view_that_fails_ends_no_session(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    lost: list[Any] = []
    guardian: Any = SimpleNamespace(
        site=SimpleNamespace(socket_dir=tmp_path), calm=asyncio.Event(), listeners=set(), drop=lost.append
    )
    guardian.calm.set()
    sockets = Sockets(guardian)

    async def broken(*_: object) -> Mapping[str, Any]:
        raise RuntimeError("oh")

    async def infinite(*_: object) -> Mapping[str, Any]:
        return {"age_s": float("inf")}

    sockets._handlers = {**sockets._handlers, "devices": broken, "status": infinite}
    server = await asyncio.start_unix_server(sockets._session, tmp_path / "s")
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(b'{"id":1,"op":"devices"}\n{"id":2,"op":"status"}\n{"id":1e999,"op":"ping"}\n{"id":4,"op":"ping"}\n')
    for _ in range(4):
        async with asyncio.timeout(5.0):
            sent.append(json.loads(await reader.readline()))
    assert [(one["id"], one["ok"]) for one in sent] == [(1, False), (2, False), (None, False), (4, True)]
    assert "RuntimeError: oh" in sent[0]["message"] and not lost
    writer.close()
    server.close()


# --- stop ------------------------------------------------------------------------------------------------------------


def test_r23_a_stop_is_latched_on_the_disk_before_it_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            found.guardian.units["d"].was_armed = False  # nothing to wait for
            answer = await found.guardian.stop("trial", "T. Echnician")
            assert answer["latched"]
            kept = json.loads((tmp_path / "state" / "lockout.json").read_text())
            assert kept["devices"] == ["d"] and kept["stopped"]["reason"] == "trial"

    run(story())


def test_r23_a_device_that_is_new_to_a_stopped_site_is_locked_out_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            await found.guardian.stop("trial", "T. Echnician")
        renamed = [{"id": "e", "controls": LIMIT}]
        async with inside(tmp_path, {"e": ("hybrid", {})}, renamed) as found:
            again = Guardian(found.guardian.site, found.lines, Notes(), lambda: datetime(2026, 6, 1, tzinfo=UTC))
            again.restore_lockouts()
            assert again.units["e"].mode is Mode.LOCKOUT

    run(story())


def test_r23_a_disk_that_hangs_holds_up_a_stop_once_and_not_at_every_step(tmp_path: Path) -> None:
    async def story() -> None:
        controls = {**LIMIT, **POWER}
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": controls}]) as found:
            found.notes.slow_s = 30.0
            answer = await found.guardian.stop("trial", "T. Echnician")
            assert answer["ok"] and answer["took_s"] < 1.0, answer
            assert abs(found.fed_in("d")) <= 1000.0 * 1.02

    run(story())


def test_r23_a_mute_unit_does_not_keep_the_others_on_its_line_from_their_safe_values(tmp_path: Path) -> None:
    async def story() -> None:
        devices = {name: ("battery", {"effect_s": 0.0}) for name in "abcd"}
        listed = [{"id": name, "controls": POWER} for name in devices]
        async with inside(tmp_path, devices, listed, one_line=True) as found:
            for name in devices:
                found.lease(name, "power_w", 1000.0, key=name)
            await asyncio.sleep(3.0)
            found.devices["a"].board.switch_on("drop-request")
            await asyncio.sleep(4.0)
            answer = await found.guardian.stop("trial", "T. Echnician")
            assert set(answer["failed"]) == {"a"} and answer["took_s"] < 2.0, answer
            assert all(abs(found.fed_in(name)) < 50.0 for name in "bcd")

    run(story())


def test_another_device_in_its_place_is_not_written_to_by_a_stop(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            found.lease("d", "limit_w", 3000.0)
            await asyncio.sleep(3.0)
            found.devices["d"].board.switch_on("serial-change")
            found.devices["d"].reboot(off_s=5.0)
            await asyncio.sleep(15.0)
            assert found.guardian.units["d"].mode is Mode.OBSERVE
            before = len(found.notes.kept)
            await found.guardian.stop("trial", "T. Echnician")
            assert not [kind for kind, _ in found.notes.kept[before:] if kind == "intent"]

    run(story())


def test_r28_a_wall_clock_that_jumps_by_days_moves_no_timer(tmp_path: Path) -> None:
    turned = [0]

    def jumping() -> datetime:
        turned[0] += 1
        return datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC) + timedelta(days=(-1) ** turned[0] * turned[0] % 7)

    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": POWER}], utc_now=jumping) as found:
            found.lease("d", "power_w", 2000.0, ttl_s=25.0)
            await asyncio.sleep(3.0)
            for _ in range(21):  # longer than two of the device's timers
                assert found.fed_in("d") < -1900.0
                await asyncio.sleep(1.0)
            await asyncio.sleep(4.0)
            assert abs(found.fed_in("d")) < 50.0
            assert not found.alarms() and turned[0] > 5

    run(story())


# --- orders broken off -----------------------------------------------------------------------------------------------


def test_a_lease_renewed_again_and_again_does_not_cut_its_own_order_short(tmp_path: Path) -> None:
    """Every part of an order sets the timer anew: cut short each time, it would keep the *old* value alive for ever."""

    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            found.notes.slow_s = 0.4
            for number in range(30):
                found.lease("d", "limit_w", 3000.0, key=f"k{number}")
                await asyncio.sleep(0.5)
            assert abs(found.fed_in("d") - 3000.0) < 100.0

    run(story())


def drop_values(line: Line, register: int) -> None:
    """Frames to this register are lost on their way, and so are their read-backs."""
    read, write = line.read, line.write

    async def lost_read(unit: int, span: Span, *, priority: Priority = Priority.READ, **rest: Any) -> Sample:
        covers = span.address <= register < span.address + span.count
        if covers and priority is not Priority.READ:
            return Sample(span, None, 0.0, 0.0, 0, "lost")
        return await read(unit, span, priority=priority, **rest)

    async def lost_write(unit: int, frame: Frame, **rest: Any) -> WriteOutcome:
        if frame.address <= register < frame.address + len(frame.words):
            return WriteOutcome(False, True, "lost", b"", b"", 0.0, 0.0)
        return await write(unit, frame, **rest)

    line.read, line.write = lost_read, lost_write  # type: ignore[method-assign]


def test_an_order_that_never_gets_through_does_not_keep_the_old_one_alive(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            found.lease("d", "limit_w", 6000.0)
            await asyncio.sleep(3.0)
            assert abs(found.fed_in("d") - 6000.0) < 100.0
            device = found.devices["d"]
            at = next(device.base + cell.at for cell in device.holding if cell.path == "704.WMaxLimPct")
            drop_values(found.lines["d"], at)
            found.lease("d", "limit_w", 2000.0, key="lower")
            await asyncio.sleep(35.0)  # a timer of trying, a timer to run out, and some
            assert found.fed_in("d") < 1000.0 * 1.02
            assert "unconfirmed:limit_w" in found.alarms()
            assert found.guardian.units["d"].mode is Mode.OBSERVE

    run(story())


def test_until_an_order_is_confirmed_the_one_before_is_reckoned_with() -> None:
    held = held_of()
    held.wrote(8000.0, (), 0.0, 0.0)
    held.lost(2000.0, 1.0)
    assert part_of(image_of(held, obeys=False)).export_w == 8000.0
    held.wrote(2000.0, (), 2.0, 2.0)
    assert part_of(image_of(held, obeys=False)).export_w == 2000.0
    held.lost(None, 3.0)
    assert part_of(image_of(held, obeys=False)).export_w == 10_000.0, "it may be released"


def test_what_is_written_off_because_it_cannot_be_true_is_no_longer_reckoned_to_obey() -> None:
    held = held_of()
    held.wrote(500.0, (), 0.0, 0.0)
    image = image_of(held)
    assert part_of(image).export_obeys
    doubted = replace(image.controls["limit_w"], belief=Belief.FALSE)
    part = part_of(replace(image, controls={"limit_w": doubted}))
    assert not part.export_obeys and part.export_w == 1000.0, "its timer brings it to its safe value"


def test_a_limit_is_not_released_where_the_device_could_exceed_its_share() -> None:
    """The settings' ``high`` says what may be asked for, not what a released device does."""
    settings = ControlSettings.model_validate({"safe": 1000.0, "default": "released", "high": 8000.0})
    held = held_of(settings=settings)
    connection = ConnectionSettings(export_w=9000.0)
    wish = decide(connection, None, [image_of(held)], Arbiter(lambda *_: True), 1.0)["d"]["limit_w"]
    assert wish.value == 8000.0
    free = decide(ConnectionSettings(export_w=10_000.0), None, [image_of(held)], Arbiter(lambda *_: True), 1.0)
    assert free["d"]["limit_w"].value == 10_000.0, "its top, for the sake of the timer"


# --- controls that share registers -----------------------------------------------------------------------------------


async def _nothing(*_: object) -> None:
    return None


def test_a_refresh_does_not_keep_a_neighbour_alive_that_was_given_up(tmp_path: Path) -> None:
    from controllers.guardian.decide import Wish

    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": {**LIMIT, **POWER}}]) as found:
            unit = found.guardian.units["d"]
            a, b = unit.held["limit_w"], unit.held["power_w"]
            a.ours, b.ours = {(3, 100): 20, (3, 101): 1}, {(3, 100): 20, (3, 102): 1}  # one timer for both
            written: list[str] = []

            async def note(held: Held, wish: Wish) -> None:
                written.append(held.control.name)

            unit._write = note  # type: ignore[method-assign]
            await unit.apply({"limit_w": Wish(None, hold_off=True), "power_w": Wish(1.0)})
            assert written == []
            b.ours = {(3, 200): 20}
            await unit.apply({"limit_w": Wish(None, hold_off=True), "power_w": Wish(1.0)})
            assert written == ["power_w"]

    run(story())


def test_an_order_that_changes_a_neighbours_registers_has_it_written_anew(tmp_path: Path) -> None:
    from controllers.guardian.writer import Ended, Outcome
    from hardware.driver import Step

    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": {**LIMIT, **POWER}}]) as found:
            unit = found.guardian.units["d"]
            b = unit.held["power_w"]
            b.ours, b.unsure = {(3, 101): 3, (3, 102): 1}, False
            step = Step("release", Frame(101, (0,)), Span(101, 1), (0,))
            unit._settle(unit.held["limit_w"], None, (step,), Outcome(Ended.DONE, "", 1), 0.0)
            assert b.unsure, "its enable was taken away: not only by the next refresh does it come back"

    run(story())


# --- what stands in a device -----------------------------------------------------------------------------------------


def test_after_an_outage_a_device_does_not_stay_at_its_fallback_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            free_w = found.fed_in("d")
            found.lease("d", "limit_w", 3000.0, ttl_s=10.0)
            await asyncio.sleep(3.0)
            fault = found.devices["d"].board.switch_on("drop-request")
            await asyncio.sleep(25.0)
            assert found.fed_in("d") < 1000.0 * 1.02
            found.devices["d"].board.switch_off(fault)
            await asyncio.sleep(15.0)
            assert found.fed_in("d") > free_w - 100.0, "nobody holds it: its default is to be released"

    run(story())


def test_an_order_of_somebody_else_that_stands_at_arming_is_said_and_left(tmp_path: Path) -> None:
    async def foreign(lines: dict[str, Line], _: object) -> None:
        from hardware.sunspec.driver import discover

        driver = await discover(lambda span: lines["d"].read(1, span))
        for step in driver.encode(Order("limit_w", 4000.0, 3600, 2000.0)):
            await lines["d"].write(1, step.frame)

    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}], before=foreign) as found:
            await asyncio.sleep(3.0)
            assert abs(found.fed_in("d") - 4000.0) < 100.0, "it may be the network operator's: not lifted by arming"
            assert "found:limit_w" in found.alarms()
            found.lease("d", "limit_w", 3000.0)
            await asyncio.sleep(4.0)
            assert abs(found.fed_in("d") - 3000.0) < 100.0 and "found:limit_w" not in found.alarms()

    run(story())


def test_what_a_disarmed_device_was_told_is_not_shown_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            found.lease("d", "limit_w", 3000.0)
            await asyncio.sleep(3.0)
            device = found.devices["d"]
            device.board.switch_on("ack-and-drop")
            found.lease("d", "limit_w", 2000.0, key="other")
            await asyncio.sleep(3.0)
            assert found.guardian.units["d"].mode is Mode.OBSERVE
            (why,) = [text for (_, name), text in found.guardian.standing.items() if name == "not-taken:limit_w"]
            assert "by its own timer" in why
            await asyncio.sleep(15.0)
            assert views.devices(found.guardian)[0]["controls"]["limit_w"]["value"] is None

    run(story())


def test_disarming_and_arming_does_not_forget_what_stands(tmp_path: Path) -> None:
    async def story() -> None:
        controls = {"power_w": {"safe": 0.0, "dwell_s": 60.0}}
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": controls}]) as found:
            found.lease("d", "power_w", 2000.0)
            await asyncio.sleep(3.0)
            for mode in (Mode.OBSERVE, Mode.REHEARSE, Mode.ARMED):
                found.guardian.change_mode("d", mode, "T. Echnician")
            found.lease("d", "power_w", -2000.0, key="flip")
            await asyncio.sleep(3.0)
            held = found.guardian.units["d"].held["power_w"]
            assert held.standing.value == 0.0 and "sign" in held.wished.why, "the dwell time still counts"

    run(story())


def test_a_record_that_is_withdrawn_disarms(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": LIMIT}]) as found:
            for file in (tmp_path / "records").glob("*.json"):
                file.unlink()
            await asyncio.sleep(65.0)
            assert found.guardian.units["d"].mode is Mode.OBSERVE and "not-commissioned" in found.alarms()

    run(story())


def test_a_storage_whose_charge_cannot_be_counted_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        listed = [{"id": "d", "controls": POWER, "soc": {"counted_by": "x_none"}}]
        async with inside(tmp_path, HYBRID, listed) as found:
            assert "soc-not-counted" in found.alarms()

    run(story())


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_r21_an_order_that_is_cancelled_while_its_counts_are_saved_leaves_the_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, loop = [0], [0], asyncio.get_running_loop()
    go = asyncio.Event()

    async def slow(_: Any, *__: Any) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        await asyncio.shield(loop.create_task(go.wait()))
        at_work[0] -= 1

    monkeypatch.setattr(asyncio, "to_thread", lambda *args: loop.create_task(slow(*args)))
    one = Desk(tmp_path, Notes(), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    first = asyncio.create_task(one.spend("d", [Frame(1, (1,))], 10))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.create_task(one.spend("d", [Frame(2, (1,))], 10))
    await asyncio.sleep(0.01)
    assert at_work[0] == most[0] == 1, "a thread cannot be cancelled: the next save waits for it"
    go.set()
    assert await second == ""
