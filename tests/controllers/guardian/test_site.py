"""Sites of several devices, on real sockets: rivals inside, ramps, the meter lost, the clock moved, stop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controllers.guardian.client import GuardianClient, GuardianError, stop_site
from controllers.guardian.journal import read
from controllers.guardian.process import run_guardian
from core import DeviceError
from tests.controllers.guardian.rig import Bench, bench, mbpoll, model_at, needs_mbpoll, output_w, until

pytestmark = pytest.mark.timed

POWER = {"power_w": {"safe": 0.0, "dwell_s": 0.0}}
SETPOINT = 24  # offset of WSet (two registers) in model 704, from the specification


@pytest.fixture
async def battery(tmp_path: Path) -> AsyncIterator[Bench]:
    """A 5 kW battery that obeys at once, commissioned."""
    async with bench(tmp_path, {"battery": ("battery", {"ramp_w_per_s": 50_000.0, "effect_s": 0.0})}) as found:
        await found.commission()
        found.write_site([{"id": "battery", "controls": POWER}])
        yield found


@pytest.mark.slow
async def test_r14_fifty_race_and_exactly_one_stream_reaches_the_wire(battery: Bench) -> None:
    at = await model_at(battery.servers["battery"], 704)
    async with battery.guardian() as running, running.client() as client:
        await running.armed(client)

        async def rival(number: int) -> tuple[bool, str, object]:
            value = 1000.0 + 10.0 * number
            name = f"rival-{number}"
            answer = await client.lease("battery", "power_w", value, level="market", owner=name, ttl_s=20.0)
            return answer.granted, name, answer.holder

        answers = await asyncio.gather(*(rival(number) for number in range(50)))
        held = [name for granted, name, _ in answers if granted]
        assert len(held) == 1
        assert {str(holder["owner"]) for granted, _, holder in answers if not granted} == set(held)  # type: ignore[index]
        value = 1000 + 10 * int(held[0].split("-")[1])
        await until(lambda: abs(output_w(battery.devices["battery"]) + value) < 30.0)
        await asyncio.sleep(1.5)
        written = {words for _, address, words in battery.frames["battery"].writes() if address == at + SETPOINT - 1}
        values = {words[-1] for words in written}
        assert 65_536 - value in values, "charging is negative"
        assert values <= {0, 65_536 - value}, "one stream; at rest before it, if the lease did not come with the arming"
        with pytest.raises(GuardianError, match="there is no lease"):
            await client.release("L999")


@needs_mbpoll
@pytest.mark.slow
async def test_r18_a_step_reaches_the_wire_by_the_ramp_and_stop_is_exempt(battery: Bench) -> None:
    battery.write_site([{"id": "battery", "controls": {"power_w": {**POWER["power_w"], "ramp_per_s": 500.0}}}])
    server, loop = battery.servers["battery"], asyncio.get_running_loop()
    at = await model_at(server, 704)
    async with battery.guardian() as running, running.client() as client:
        await running.armed(client)
        await client.lease("battery", "power_w", 1500.0, level="market", owner="m", ttl_s=20.0)
        seen: list[tuple[float, int]] = []
        while loop.time() < (seen[0][0] if seen else loop.time()) + 9.0 and (not seen or seen[-1][1] != 1500):
            _, low = await mbpoll(server, at + SETPOINT, count=2)
            seen.append((loop.time(), (65_536 - low) % 65_536))
            await asyncio.sleep(0.05)
        assert seen[-1][1] == 1500
        for (early_s, early), (late_s, late) in zip(seen, seen[10:], strict=False):
            # Steps come once a cycle (0.2 s): over any stretch no more than the ramp and one step.
            assert late - early <= 500.0 * (late_s - early_s) + 0.2 * 500.0 + 1.0
        steps = {b - a for (_, a), (_, b) in itertools.pairwise(seen)}
        assert len(steps) > 2, "it came in steps"
        begun = loop.time()
        stopped = await stop_site(battery.site.stop_socket, "trial", "T. Echnician")
        assert stopped["ok"] and loop.time() - begun < 2.0
        assert await mbpoll(server, at + SETPOINT, count=2) == [0, 0]


@pytest.mark.slow
async def test_r19_a_jump_of_the_state_of_charge_ends_discharging(tmp_path: Path) -> None:
    settings = {"ramp_w_per_s": 50_000.0, "effect_s": 0.0, "soc": 0.6}
    async with bench(tmp_path, {"battery": ("battery", settings)}) as found:
        await found.commission()
        found.write_site([{"id": "battery", "controls": POWER, "soc": {"low": 0.1, "high": 0.95}}])
        device = found.devices["battery"]
        async with found.guardian() as running, running.client() as client:
            await running.armed(client)
            await client.lease("battery", "power_w", -2000.0, level="market", owner="m", ttl_s=30.0)
            await until(lambda: output_w(device) > 1900.0)
            device.board.switch_on("soc-jump", by=-0.2)

            async def said() -> bool:
                return "soc-disagrees" in {one["alarm"] for one in (await client.status())["standing"]}

            await until(lambda: abs(output_w(device)) < 50.0, what=client.devices)
            await client.lease("battery", "power_w", 1500.0, level="market", owner="m", ttl_s=30.0)
            await until(said)
            await until(lambda: output_w(device) < -1400.0)


@pytest.mark.slow
async def test_r22_the_limit_holds_with_the_meter_lost(tmp_path: Path) -> None:
    inverter = ("hybrid", {"ramp_w_per_s": 50_000.0})
    devices = {"a": inverter, "b": inverter, "meter": ("meter", {"power_w": -2000.0})}
    async with bench(tmp_path, devices) as found:
        del found.devices["meter"]
        await found.commission()
        controls = {"limit_w": {"safe": 2000.0, "default": "released"}}
        found.write_site(
            [{"id": "a", "controls": controls}, {"id": "b", "controls": controls}, {"id": "meter"}],
            connection={"export_w": 6000.0, "meter": "meter"},
        )
        a, b = found.devices["a"], found.devices["b"]
        async with found.guardian() as running, running.client() as client:
            await running.armed(client, 2)
            # At full feed-in the meter shows 15.6 kW of load: nothing has to be limited.
            await until(lambda: output_w(a) + output_w(b) > 17_000.0)
            found.servers["meter"].board.switch_on("drop-answer")
            took = await until(lambda: output_w(a) + output_w(b) < 6000.0 * 1.02, what=client.devices)
            assert took < 3 * 0.2 + 2.0, "stale after three cycles, then written"
            assert output_w(a) + output_w(b) > 5800.0
            standing = [(one["device"], one["alarm"]) for one in (await client.status())["standing"]]
            assert ("meter", "meter-lost") in standing


@pytest.mark.slow
async def test_r28_a_wall_clock_that_jumps_moves_nothing(battery: Bench) -> None:
    """Runs in this process, since its wall clock is ours to turn: back and forth by days, forty times a second."""
    turned = 0

    def utc_now() -> datetime:
        nonlocal turned
        turned += 1
        return datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC) + timedelta(days=(-1) ** turned * turned % 7)

    ready = asyncio.Event()
    running = asyncio.create_task(
        run_guardian(battery.site, utc_now, lambda text: ready.set() if "READY" in text else None)
    )
    await ready.wait()
    device, loop = battery.devices["battery"], asyncio.get_running_loop()
    async with GuardianClient(battery.site.socket, "test") as client:

        async def armed() -> bool:
            return bool((await client.status())["modes"] == {"battery": "armed"})

        await until(armed)
        await client.lease("battery", "power_w", 2000.0, level="market", owner="m", ttl_s=3.0)
        begun = loop.time()
        await until(lambda: output_w(device) < -1900.0)
        while loop.time() - begun < 2.8:
            assert output_w(device) < -1900.0, "held by refreshes, longer than the device's timer"
            await asyncio.sleep(0.05)
        await until(lambda: abs(output_w(device)) < 50.0, within_s=1.0)
        assert loop.time() - begun > 2.9
        assert (await client.status())["standing"] == []
    assert turned > 20
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.slow
async def test_r23_stop_is_latched_over_a_restart_and_cleared_by_a_person(battery: Bench) -> None:
    async with battery.guardian() as running, running.client() as client:
        await running.armed(client)
        await client.lease("battery", "power_w", 2000.0, level="operator", owner="m", ttl_s=30.0)
        device = battery.devices["battery"]
        await until(lambda: output_w(device) < -1900.0)
        _, writer = await asyncio.open_unix_connection(battery.site.stop_socket)
        writer.write(b"\xffanything")  # no wrong way to use it
        await until(lambda: abs(output_w(device)) < 50.0, within_s=2.0)
        writer.close()
        refused = await client.lease("battery", "power_w", 2000.0, level="operator", owner="m", ttl_s=30.0)
        assert refused.code == "locked-out"
        folder = battery.site.journal
        await until(lambda: any('"done"' in file.read_text() for file in folder.iterdir() if file.is_file()))
        running.process.kill()
        await running.process.wait()
    async with battery.guardian() as running, running.client() as client:
        await until(lambda: known(client))
        status = await client.status()
        assert status["stopped"] and status["modes"] == {"battery": "lockout"}, "start_mode does not undo a stop"
        with pytest.raises(GuardianError) as caught:
            await client.mode("battery", "rehearse", "T. Echnician")
        assert caught.value.code == "locked-out"
        await client.clear("all", "T. Echnician")
        assert not (await client.status())["stopped"]
        await client.mode("battery", "rehearse", "T. Echnician")
        await client.mode("battery", "armed", "T. Echnician")
        assert await running.end() == 0
    kinds = [(entry.kind, entry.body.get("event")) for entry in read(battery.site.journal)]
    assert ("stop", "pressed") in kinds and ("stop", "done") in kinds and ("stop", "cleared") in kinds


@pytest.mark.slow
async def test_r21_a_spent_budget_ends_in_the_safe_value_and_a_restart_forgives_nothing(battery: Bench) -> None:
    controls = {"power_w": {**POWER["power_w"], "writes_per_day": 12}}
    battery.write_site([{"id": "battery", "controls": controls}])
    server, device = battery.servers["battery"], battery.devices["battery"]
    at = await model_at(server, 704)

    def most_written() -> int:
        counts: dict[int, int] = {}
        for _, address, words in battery.frames["battery"].writes():
            for register in range(address, address + len(words)):
                counts[register] = counts.get(register, 0) + 1
        return max(counts.values(), default=0)

    async def spent(client: GuardianClient) -> bool:
        return "budget:power_w" in {one["alarm"] for one in (await client.status())["standing"]}

    async with battery.guardian() as running, running.client() as client:
        await running.armed(client)
        await client.lease("battery", "power_w", 2000.0, level="market", owner="m", ttl_s=60.0)
        await until(lambda: output_w(device) < -1900.0)
        await asyncio.sleep(1.0)
        running.process.kill()  # in the middle of the day, its counts half spent
        await running.process.wait()
    async with battery.guardian() as running, running.client() as client:
        await running.armed(client)
        await client.lease("battery", "power_w", 2000.0, level="market", owner="m", ttl_s=60.0)
        await until(lambda: spent(client), what=client.status)
        await until(lambda: abs(output_w(device)) < 50.0, within_s=4.0)  # nobody refreshes it: its timer
        assert most_written() <= 12
        (enabled,) = await mbpoll(server, at + 22)
        assert enabled in {0, 1}
        stopped = await stop_site(battery.site.stop_socket, "trial", "T. Echnician")
        assert stopped["ok"], "a stop has no budget"


async def known(client: GuardianClient) -> bool:
    return (await client.devices())[0]["identity"] is not None


@pytest.mark.slow
async def test_nothing_arms_without_a_record_of_this_firmware(tmp_path: Path) -> None:
    async with bench(tmp_path, {"battery": ("battery", {"firmware": "1.0.0"})}) as found:
        await found.commission()
        found.write_site([{"id": "battery", "controls": POWER}])
        (tmp_path / "records").rename(tmp_path / "not-yet")
        async with found.guardian() as running, running.client() as client:
            await until(lambda: known(client))
            await client.mode("battery", "rehearse", "T. Echnician")
            with pytest.raises(GuardianError, match="no commissioning record") as caught:
                await client.mode("battery", "armed", "T. Echnician")
            assert caught.value.code == "not-commissioned"
            (tmp_path / "not-yet").rename(tmp_path / "records")
            assert await client.mode("battery", "armed", "T. Echnician") == {"battery": "armed"}
            found.devices["battery"].board.switch_on("firmware-change")
            found.devices["battery"].reboot(off_s=0.5)

            async def disarmed() -> bool:
                return bool((await client.status())["modes"] == {"battery": "observe"})

            await until(disarmed, what=client.status)
            with pytest.raises(DeviceError):
                await client.mode("battery", "armed", "T. Echnician")
