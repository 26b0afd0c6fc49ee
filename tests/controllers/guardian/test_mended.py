"""What three judges found in the guardian: reading after a stop, released and yet protected, power after a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controllers.guardian import views
from controllers.guardian.foreign import told
from controllers.guardian.settings import Mode
from core.quality import Quality
from hardware.driver import Order
from hardware.modbus.line import Line
from hardware.sunspec.driver import discover
from tests.controllers.faults_loop import run
from tests.controllers.guardian.inside import LIMIT, POWER, Inside, Notes, inside

HYBRID: Mapping[str, tuple[str, Mapping[str, Any]]] = {"d": ("hybrid", {})}
METERED: Mapping[str, tuple[str, Mapping[str, Any]]] = {**HYBRID, "m": ("meter", {"power_w": 12_000.0})}
LISTED: list[Mapping[str, Any]] = [{"id": "d", "controls": LIMIT}]
SAFE_W = 1000.0


def rearm(found: Inside, *, cleared: bool = False) -> None:
    guardian = found.guardian
    if cleared:
        guardian.clear("d", "T. Echnician")
    for mode in (Mode.REHEARSE, Mode.ARMED):
        guardian.change_mode("d", mode, "T. Echnician")


def shown(found: Inside) -> dict[str, Any]:
    one: dict[str, Any] = next(one for one in views.devices(found.guardian) if one["id"] == "d")["controls"]["limit_w"]
    return one


# --- a stop is no reason to look away --------------------------------------------------------------------------------


def test_after_a_stop_readings_follow_the_devices_and_nothing_is_written(tmp_path: Path) -> None:
    async def story() -> None:
        listed = [*LISTED, {"id": "m"}]
        async with inside(tmp_path, METERED, listed, connection={"export_w": 20_000.0, "meter": "m"}) as found:
            assert (await found.guardian.stop("trial", "T. Echnician"))["ok"]
            written = sum(kind == "intent" for kind, _ in found.notes.kept)
            await asyncio.sleep(20.0)
            units = found.guardian.units
            assert abs(units["d"].readings["w"].value + found.fed_in("d")) < 30.0  # type: ignore[operator]
            found.devices["d"].advance_to(asyncio.get_running_loop().time())
            now_s = asyncio.get_running_loop().time()
            for unit in units.values():
                reading = unit.readings["w"]
                assert reading.is_good and now_s - reading.source_s < 2.0, (unit.id, reading)
            assert found.guardian.exchange_w is not None
            assert sum(kind == "intent" for kind, _ in found.notes.kept) == written

    run(story())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_device_that_is_cut_off_around_a_stop_goes_stale(tmp_path: Path, when: str) -> None:
    async def story() -> None:
        listed = [*LISTED, {"id": "m"}]
        async with inside(tmp_path, METERED, listed) as found:
            boards = [one.board for one in found.devices.values()]
            if when == "before":
                for board in boards:
                    board.switch_on("drop-request")
            await found.guardian.stop("trial", "T. Echnician")
            for board in boards:
                board.switch_on("drop-request")
            for _ in range(60):
                await asyncio.sleep(1.0)
                now_s = asyncio.get_running_loop().time()
                for unit in found.guardian.units.values():
                    old = [r for r in unit.readings.values() if r.quality is Quality.GOOD and now_s - r.source_s > 200]
                    assert not old
                    power = unit.readings["w"]
                    assert power.quality is not Quality.GOOD or now_s - power.source_s <= 5.0, (unit.id, power)
            assert all(not unit.readings["w"].is_good for unit in found.guardian.units.values())

    run(story())


# --- released, and yet it falls to its safe value --------------------------------------------------------------------


async def dies(found: Inside) -> None:
    """The guardian is gone at once, as by SIGKILL."""
    found.guardian.ending.set()
    await asyncio.sleep(2.0)


@pytest.mark.parametrize("leased", [True, False])
def test_a_released_limit_falls_to_its_safe_value_when_the_guardian_dies(tmp_path: Path, leased: bool) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, LISTED) as found:
            if leased:
                found.lease("d", "limit_w", 3000.0, ttl_s=5.0)
                await asyncio.sleep(3.0)
                assert abs(found.fed_in("d") - 3000.0) < 100.0
            await asyncio.sleep(30.0)
            assert found.fed_in("d") > 7000.0, "not limited, for longer than its timer"
            assert shown(found)["value"] == 10_000.0 and "not limited" in shown(found)["why"]
            assert not found.alarms()
            await dies(found)
            await asyncio.sleep(12.0)
            assert found.fed_in("d") <= SAFE_W * 1.02

    run(story())


def test_a_top_that_may_not_be_asked_for_is_reached_by_the_ramp_all_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        controls = {"limit_w": {**LIMIT["limit_w"], "high": 6000.0, "ramp_per_s": 1000.0}}
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": controls}]) as found:
            found.lease("d", "limit_w", 3000.0, ttl_s=10.0)
            await asyncio.sleep(8.0)
            assert abs(found.fed_in("d") - 3000.0) < 100.0
            await asyncio.sleep(12.0)
            assert shown(found)["value"] == 10_000.0 and found.fed_in("d") > 7000.0

    run(story())


def test_a_target_that_is_released_with_a_safe_value_is_not_armed(tmp_path: Path) -> None:
    async def story() -> None:
        controls = {"power_w": {"safe": 0.0, "default": "released"}}
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": controls}], armed=False) as found:
            assert found.guardian.units["d"].mode is Mode.OBSERVE
            (why,) = found.guardian.units["d"].obstacles
            assert "give `default` a value" in why

    run(story())


# --- what an earlier life left --------------------------------------------------------------------------------------


def ordered(value: float, fallback: float, timer_s: int) -> Any:
    async def order(lines: dict[str, Line], _: object) -> None:
        driver = await discover(lambda span: lines["d"].read(1, span))
        for step in driver.encode(Order("limit_w", value, timer_s, fallback)):
            await lines["d"].write(1, step.frame)

    return order


def test_what_an_earlier_life_left_is_shown_and_taken_back_on_arming(tmp_path: Path) -> None:
    async def story() -> None:
        listed = [{**LISTED[0], "start_mode": "observe"}]
        before = ordered(SAFE_W, SAFE_W, 3600)
        async with inside(tmp_path, HYBRID, listed, before=before, armed=False) as found:
            await asyncio.sleep(2.0)
            assert found.fed_in("d") <= SAFE_W * 1.02
            assert shown(found)["value"] is None and shown(found)["found"] == SAFE_W
            rearm(found)
            await asyncio.sleep(4.0)
            assert found.fed_in("d") > 7000.0 and shown(found)["value"] == 10_000.0 and shown(found)["found"] is None

    run(story())


def test_a_lower_order_of_somebody_else_is_not_lifted_to_a_share(tmp_path: Path) -> None:
    async def story() -> None:
        before = ordered(4000.0, 2000.0, 3600)
        async with inside(tmp_path, HYBRID, LISTED, before=before, connection={"export_w": 6000.0}) as found:
            await asyncio.sleep(3.0)
            assert abs(found.fed_in("d") - 4000.0) < 100.0 and "found:limit_w" in found.alarms()
            assert shown(found)["found"] == 4000.0

    run(story())


def test_after_stop_clear_and_arming_it_is_at_its_default(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, LISTED) as found:
            await found.guardian.stop("trial", "T. Echnician")
            await asyncio.sleep(30.0)
            assert found.fed_in("d") <= SAFE_W * 1.02, "locked out: it stays where it is safe"
            rearm(found, cleared=True)
            await asyncio.sleep(4.0)
            assert found.fed_in("d") > 7000.0

    run(story())


# --- the answer to a stop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["", "no-effect"])
def test_r23_a_stop_says_whether_the_power_follows(tmp_path: Path, fault: str) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, LISTED) as found:
            if fault:
                found.devices["d"].board.switch_on(fault)
            answer = await found.guardian.stop("trial", "T. Echnician")
            assert answer["safe"] == 1 and not answer["failed"] and not answer["unmeasured"]
            assert answer["ok"] is (not fault) and answer["took_s"] <= 1.71
            if fault:
                assert "feeds in" in answer["unconfirmed_power"]["d"] and "kW" in answer["unconfirmed_power"]["d"]
                assert "not-followed" in found.alarms()
            else:
                assert not answer["unconfirmed_power"] and found.fed_in("d") <= SAFE_W * 1.02 + 200.0

    run(story())


def test_r23_a_stop_names_whose_power_it_cannot_measure(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, [{"id": "d", "controls": {**LIMIT, **POWER}}]) as found:
            unit = found.guardian.units["d"]
            decode = unit.driver.decode  # type: ignore[union-attr]

            def blind(samples: Any) -> Any:
                return {name: reading for name, reading in decode(samples).items() if name != "w"}

            unit.driver.decode = blind  # type: ignore[union-attr, method-assign]
            answer = await found.guardian.stop("trial", "T. Echnician")
            assert answer["ok"] and "d" in answer["unmeasured"] and not answer["unconfirmed_power"]

    run(story())


# --- words ------------------------------------------------------------------------------------------------------------


def test_what_is_read_back_wrong_is_said_in_few_words() -> None:
    assert told([]) == ""
    assert told([(40, 1, 2), (41, 3, 4)]) == "register 40 is 2, not 1; register 41 is 4, not 3"
    assert told([(at, 0, 1) for at in range(55)]).endswith("; and 51 more")


def test_alarms_blame_nobody_and_name_devices_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with inside(tmp_path, HYBRID, LISTED) as found:
            device = found.devices["d"]
            at = next(device.base + cell.at for cell in device.holding if cell.path == "704.WMaxLimPct")
            device.write(16, at, [5000])
            await asyncio.sleep(3.0)
            (why,) = [one["why"] for one in found.guardian.alarms if one["alarm"] == "foreign-write:limit_w"]
            assert why.startswith("changed, and not by us") and "device dropped the order" in why and len(why) < 200
            device.board.switch_on("serial-change")
            device.reboot(off_s=5.0)
            await asyncio.sleep(15.0)
            why = found.guardian.standing["d", "identity-changed"]
            assert "serial PW-0001" in why and "Identity(" not in why

    run(story())


# --- another master while we are about to write -----------------------------------------------------------------------


@dataclass
class Overtaken(Notes):
    """A journal while whose sync another master writes: after the cycle's reading, before our frame."""

    rival: Callable[[], None] = lambda: None
    at_purpose: str = ""
    intents: list[int] = field(default_factory=list)

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        number = await super().append(kind, body)
        if kind == "intent" and self.at_purpose and body["purpose"] == self.at_purpose:
            self.at_purpose = ""
            self.intents.append(number)
            self.rival()
        return number


@pytest.mark.parametrize("purpose", ["timer", "value", "enable"])
def test_r15_a_refresh_does_not_wipe_out_what_somebody_else_wrote_a_moment_before(tmp_path: Path, purpose: str) -> None:
    notes = Overtaken()

    async def story() -> None:
        async with inside(tmp_path, HYBRID, LISTED, notes=notes) as found:
            found.lease("d", "limit_w", 3000.0)
            await asyncio.sleep(4.5)
            device = found.devices["d"]
            register = {"timer": "WMaxLimPctRvrtTms", "value": "WMaxLimPct", "enable": "WMaxLimPctEna"}[purpose]
            at = next(device.base + cell.at for cell in device.holding if cell.path == f"704.{register}")
            notes.rival = lambda: device.write(16, at, {"timer": [0, 7777], "value": [7777], "enable": [0]}[purpose])
            notes.at_purpose = purpose
            await asyncio.sleep(5.0)
            assert notes.intents, "no refresh came"
            assert "foreign-write:limit_w" in {one["alarm"] for one in found.guardian.alarms}
            assert found.guardian.units["d"].mode is Mode.LOCKOUT
            answered = {body["intent"] for kind, body in notes.kept if kind == "response"}
            assert not answered & set(notes.intents), "ours went over it"

    run(story())
