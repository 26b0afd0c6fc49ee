"""The supervisor over devices: its own process, Modbus on real sockets, devices whose site is one island.

Judged by the island's own record and by mbpoll, never by what the process says of itself alone.
"""

from __future__ import annotations

import asyncio
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from controllers.guardian.journal import verify
from grid.island import kernel as k
from tests.controllers.microgrid.on_devices import TIMER_S, Yard, yards

pytestmark = pytest.mark.timed

LIMIT_S = 0.2
"""G2: two island cycles."""
LATENCY_S = 0.25
"""Of an emulated device and of this machine under load: site step, contactor, a late cycle."""


@pytest.mark.slow
async def test_an_outage_is_ridden_through_and_the_grid_met_in_step(tmp_path: Path) -> None:
    async with yards(tmp_path, "yard", hz=50.02) as (yard,):
        yard.write_site()
        await yard.start()
        yard.fault("grid-loss")
        await yard.told("-> islanded")
        lost_s = yard.at("black", "switch")
        assert yard.at("load-off", "pool") - lost_s < LIMIT_S + LATENCY_S  # G2
        assert yard.at("energised", "switch") - lost_s < 2.0 * LIMIT_S + LATENCY_S
        assert yard.at("opened", "switch") < yard.at("energised", "switch")  # nobody feeds the dead grid
        assert [e.device for e in yard.world.events if e.what == "load-off"] == ["yard-pool"]  # no higher priority
        yard.mended()
        await yard.told("reconnecting -> connected")
        closing = next(e for e in yard.world.events if e.what == "closed")
        assert abs(closing.angle_deg) < 20.0 and abs(closing.f_hz - 50.02) < 0.3 and closing.value < 1.0  # G5
        await yard.told("pool is restored")
        status = await yard.status()
        assert status["state"] == "connected" and not status["problems"]
        await yard.kill()
        assert (await asyncio.to_thread(verify, yard.folder / "journal")).fault is None


@pytest.mark.slow
@pytest.mark.campaign  # its steps have seconds only, which a machine full of other tests does not always keep
async def test_a_planned_island_goes_black_and_starts_again(tmp_path: Path) -> None:
    async with yards(tmp_path, "yard") as (yard,):
        yard.write_site()
        await yard.start()
        await yard.order("island")
        await yard.told("planned-out -> islanded")
        opening = next(e for e in yard.world.events if e.what == "opened")
        assert abs(opening.exchange_kw) < 0.02 * 100.0  # G1
        assert not any(e.what == "black" for e in yard.world.events)  # nobody noticed
        yard.fault("grid-loss")
        yard.part._switch_on("yard-battery", {"kind": "trip", "for_s": 0.5, "return_s": 0.5})
        await yard.told("-> black")
        assert yard.at("tripped", "battery") > 0.0
        await asyncio.sleep(0.6)
        await yard.until(lambda: yard.world.loads[:, k.L_ON].sum() == 0.0)
        await yard.order("black-start")
        await yard.told("starting -> islanded")
        started_s = max(e.t_s for e in yard.world.events if (e.what, e.device) == ("started", "yard-battery"))
        happened = [(e.what, e.device) for e in yard.world.events if e.t_s >= started_s]  # a slow machine tries twice
        up = ("started", "energised", "load-on")
        rising = [one for one in happened if one[0] in up and one[1] != "yard-roof"]
        first = [("started", "yard-battery"), ("energised", "switch"), ("load-on", "yard-clinic")]
        assert rising[:3] == first  # G6: one leads, then one block at a time; one too large for now is passed over
        times_s = [e.t_s for e in yard.world.events if e.t_s >= started_s and e.what == "load-on"]
        assert len(times_s) >= 2 and min(b - a for a, b in pairwise(times_s)) > 0.3


async def _islanded(yard: Yard) -> None:
    yard.fault("grid-loss")
    await yard.told("-> islanded")
    await asyncio.sleep(1.5)  # the secondary control has moved the reference: falling back shows


async def _stands_still(yard: Yard) -> None:
    """R3: a process that stands still is a dead one to its devices, and sheds nobody when it goes on."""
    found = await yard.status()
    assert yard.process is not None
    yard.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(TIMER_S + 0.5)
    wrong = await asyncio.gather(*(yard.stands(device, safe) for device, safe in found["safe"].items()))
    yard.process.send_signal(signal.SIGCONT)
    assert not [text for text in wrong if text]
    await asyncio.sleep(1.5)
    after = await yard.status()
    assert after["cycle"]["pauses"] and not after["problems"] and after["state"] == "islanded"
    assert not any("homes" in line or "clinic" in line for line in yard.said)


async def _planned(yard: Yard) -> None:
    await yard.order("island")
    await yard.told("-> planned-out")
    await yard.until(lambda: yard.world.read().p_kw[0] < -5.0)  # it has begun to take over


async def _starting(yard: Yard) -> None:
    yard.fault("grid-loss")
    await yard.told("-> islanded")
    yard.part._switch_on(f"{yard.name}-battery", {"kind": "trip", "for_s": 0.5, "return_s": 0.5})
    await yard.told("-> black")
    await yard.until(lambda: yard.world.loads[:, k.L_ON].sum() == 0.0)
    await asyncio.sleep(0.5)
    await yard.order("black-start")
    await yard.until(lambda: yard.world.loads[:, k.L_ON].sum() == 1.0)  # the clinic is on, the homes are not


async def _dies(yard: Yard, state: str) -> None:
    """Kill it; its devices have to reach what was written into them, by their own timers."""
    found = await yard.status()
    assert found["state"] == state and all(found["written"].values()), found
    await yard.kill()
    await asyncio.sleep(TIMER_S + 0.5)
    wrong = await asyncio.gather(*(yard.stands(device, safe) for device, safe in found["safe"].items()))
    assert not [text for text in wrong if text]
    reading = yard.world.read()
    if state == "planned-out":
        assert reading.closed and abs(reading.p_kw[0]) < 0.5  # the grid carries on, the battery rests
    else:
        assert not reading.closed and reading.live and abs(reading.bus[k.B_F] - 50.0) < 0.6


@pytest.mark.slow
async def test_killed_its_devices_fall_back_to_what_was_written(tmp_path: Path) -> None:
    """G7, in three states at once, and the next process takes up where the island stands."""
    async with yards(tmp_path, "one", "two", "three") as (one, two, three):
        ways = ((one, _islanded, "islanded"), (two, _planned, "planned-out"), (three, _starting, "starting"))
        for yard, _, _ in ways:
            yard.write_site()

        async def run(yard: Yard, lead: object, state: str) -> None:
            await yard.start()
            await lead(yard)  # type: ignore[operator]
            if yard is one:
                await _stands_still(yard)
            await _dies(yard, state)

        await asyncio.gather(*(run(*way) for way in ways))
        assert one.world.loads[:, k.L_ON].tolist() == [1.0, 1.0, 0.0]
        await one.start()
        assert "-> islanded: taken up" in await one.told("taken up")


@pytest.mark.slow
async def test_a_second_master_is_refused_and_an_end_in_order_commands_nothing(tmp_path: Path) -> None:
    async with yards(tmp_path, "yard") as (yard,):
        yard.write_site()
        await yard.start()
        other = Yard(yard.part, "yard", tmp_path / "other", yard.port)
        other.write_site()
        second = await asyncio.create_subprocess_exec(
            "python", "-m", "peerwatt", "microgrid", str(other.file), stderr=asyncio.subprocess.PIPE
        )
        _, said = await second.communicate()
        assert second.returncode == 2 and b"held by" in said
        await yard.order("stop")
        await yard.told("-> lockout")
        assert yard.process is not None
        yard.process.terminate()
        assert await yard.process.wait() == 0
        await yard.start()  # a lockout is latched over a restart
        assert (await yard.status())["state"] == "lockout"
        await yard.order("clear")
        await yard.told("-> connected")
