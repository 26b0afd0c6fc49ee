"""One real guardian process against one emulated inverter over TCP, judged by mbpoll: from lease to safe value."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys

import pytest

from controllers.guardian.client import GuardianClient, GuardianError
from controllers.guardian.journal import read, verify
from tests.controllers.guardian.conftest import LIMIT
from tests.controllers.guardian.rig import REPO, Bench, mbpoll, model_at, needs_mbpoll, output_w, until

pytestmark = pytest.mark.timed

TIMER_S, LATE_S = 2.0, 1.0  # of the device; the recorded lateness and effect, and the bench's own

# Offsets in model 704, copied by hand from the specification.
ENA, LIMIT_PCT, RVRT, RVRT_ENA, RVRT_TMS = 14, 15, 16, 17, 18


async def hold(client: GuardianClient, value: float = 3000.0, *, ttl_s: float = 30.0, level: str = "market") -> str:
    answer = await client.lease("inverter", "limit_w", value, level=level, owner="m", ttl_s=ttl_s)
    assert answer.granted, answer
    return answer.lease


async def limited(bench: Bench, watts: float, **kwargs: float) -> float:
    device = bench.devices["inverter"]
    return await until(lambda: abs(output_w(device) - watts) < 150.0, what=lambda: output_w(device), **kwargs)


@pytest.mark.slow
@needs_mbpoll
async def test_r01_the_timer_is_set_and_read_back_before_any_value(inverter: Bench) -> None:
    server, frames = inverter.servers["inverter"], inverter.frames["inverter"]
    at = await model_at(server, 704)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client)
        await limited(inverter, 3000.0)
        kinds = []
        for _, _, function, rest in frames.seen:
            first, count = int.from_bytes(rest[:2]), int.from_bytes(rest[2:4]) if function != 6 else 1
            covered = range(first, first + count)
            if function in {6, 16}:
                kinds.append("timer" if at + RVRT_TMS in covered else "value" if at + LIMIT_PCT in covered else "other")
                if at + ENA in covered and at + LIMIT_PCT not in covered:
                    kinds[-1] = "enable"
            elif at + RVRT_TMS + 1 in covered and kinds and kinds[-1] == "timer":
                kinds.append("read back")
        first = kinds.index("timer")
        assert kinds[first + 1] == "read back"
        assert first < kinds.index("value") and first < (kinds.index("enable") if "enable" in kinds else 1_000)
        ena, pct, rvrt, rvrt_ena, _, tms = await mbpoll(server, at + ENA, count=6)
        assert (ena, tms) == (1, 2) and rvrt_ena == 1 and rvrt * 3 == pct, "2 s, and falls back to a third of it"


@pytest.mark.slow
@needs_mbpoll
async def test_r02_after_sigkill_the_device_is_at_its_safe_value_in_time(inverter: Bench) -> None:
    server = inverter.servers["inverter"]
    at = await model_at(server, 704)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client)
        await limited(inverter, 3000.0)
        await asyncio.sleep(TIMER_S + 0.5)
        await limited(inverter, 3000.0, within_s=0.1)  # it is refreshed: longer than the timer
        (held,) = await mbpoll(server, at + LIMIT_PCT)
        running.process.kill()
        took = await limited(inverter, 1000.0, within_s=TIMER_S + LATE_S)
        assert took > 0.5, "by its own timer, not by anything of ours"
        assert await mbpoll(server, at + ENA, count=2) == [1, held // 3], "1000 W are a third of what was held"
        w = (await mbpoll(server, 40084))[0]  # 103.W, in watts
        assert w <= 1000.0 + 0.02 * 10_000.0


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_r02_a_limit_that_is_released_by_default_is_safe_in_time_too(
    inverter: Bench, end: signal.Signals
) -> None:
    """``{safe: 1000, default: released}``: after a lease has ended nothing is limited, and yet the timer runs."""
    device = inverter.devices["inverter"]
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client, ttl_s=1.0)
        await limited(inverter, 3000.0)
        await until(lambda: output_w(device) > 7000.0)
        await asyncio.sleep(2 * TIMER_S)
        assert output_w(device) > 7000.0, "not limited, for longer than the timer"
        status = await client.status()
        assert not status["standing"] and not status["unprotected"]
        running.process.send_signal(end)
        assert await limited(inverter, 1000.0, within_s=TIMER_S + LATE_S) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["stopped", "disk", "unplugged"])
async def test_r03_whatever_else_happens_the_result_is_the_same(inverter: Bench, trouble: str) -> None:
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client)
        await limited(inverter, 3000.0)
        if trouble == "stopped":
            running.process.send_signal(signal.SIGSTOP)
        elif trouble == "disk":
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file grows any more
        else:
            await inverter.servers["inverter"].stop()
        took = await limited(inverter, 1000.0, within_s=TIMER_S + LATE_S)
        assert took > 0.5
        if trouble == "disk":
            status = await client.status()
            assert not status["journal_ok"] and status["modes"] == {"inverter": "observe"}
            assert "journal-lost" in [one["alarm"] for one in status["alarms"]]
            writes = len(inverter.frames["inverter"].writes())
            await asyncio.sleep(1.0)
            assert len(inverter.frames["inverter"].writes()) == writes, "what cannot be written down is not done"


ENGINE = """
import asyncio, sys
from pathlib import Path
from controllers.guardian.client import GuardianClient
async def main():
    async with GuardianClient(Path(sys.argv[1]), "engine") as guardian:
        answer = await guardian.lease("inverter", "limit_w", 3000.0, level="market", owner="engine", ttl_s=60.0)
        print("HELD", answer.granted, flush=True)
        await asyncio.sleep(60.0)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_r04_a_dead_or_silent_engine_leaves_the_default_and_the_links_stay_up(
    inverter: Bench, end: signal.Signals
) -> None:
    cycle_s = 0.5
    inverter.write_site([{"id": "inverter", "controls": LIMIT}], cycle_s=cycle_s)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        engine = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENGINE, str(inverter.site.socket), stdout=asyncio.subprocess.PIPE, cwd=REPO
        )
        try:
            assert engine.stdout is not None
            assert await engine.stdout.readline() == b"HELD True\n"
            await limited(inverter, 3000.0)
            connections = inverter.servers["inverter"].counters.sessions
            engine.send_signal(end)
            silence_s = 0.0 if end is signal.SIGKILL else inverter.site.client_silent_s * 1.25
            at_rest = await until(lambda: output_w(inverter.devices["inverter"]) > 5000.0)
            # 2 cycles; then the device's own effect time of 0.2 s and the bench's slack.
            assert at_rest < silence_s + 2 * cycle_s + 0.2 + 0.4
            assert inverter.servers["inverter"].counters.sessions == connections
            assert (await client.status())["modes"] == {"inverter": "armed"}
        finally:
            if engine.returncode is None:
                engine.kill()
            await engine.wait()


@pytest.mark.slow
@needs_mbpoll
async def test_r05_sigterm_leaves_safe_values_a_sound_journal_and_says_so(inverter: Bench) -> None:
    server, loop = inverter.servers["inverter"], asyncio.get_running_loop()
    at = await model_at(server, 704)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client)
        await limited(inverter, 3000.0)
        (held,) = await mbpoll(server, at + LIMIT_PCT)
        begun = loop.time()
        assert await running.end() == 0
        assert loop.time() - begun < 5.0
    ena, pct = await mbpoll(server, at + ENA, count=2)
    assert (ena, pct) == (1, held // 3), "1000 W are a third of what was held"
    await limited(inverter, 1000.0, within_s=0.5)
    report = verify(inverter.site.journal)
    assert report.ok and [entry.kind for entry in read(inverter.site.journal)][-1] == "closed"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["ack-and-drop", "silent-clamp"])
async def test_r07_what_is_not_taken_is_tried_twice_then_said_and_the_device_disarmed(
    inverter: Bench, fault: str
) -> None:
    device = inverter.devices["inverter"]
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        device.board.switch_on(fault, **({"high": 0.2} if fault == "silent-clamp" else {}))
        before = len(inverter.frames["inverter"].writes())
        await hold(client)
        await until(lambda: disarmed(client))
        writes = inverter.frames["inverter"].writes()[before:]
        assert writes[-1][1:] == writes[-2][1:], "the same frame once more"
        assert len(writes) == len({write[1:] for write in writes}) + 1, "and only once more"
        alarms = (await client.status())["alarms"]
        assert [one["alarm"] for one in alarms] == ["not-taken:limit_w"]
        refused = await client.lease("inverter", "limit_w", 2000.0, level="market", owner="m", ttl_s=5.0)
        assert refused.code == "not-armed"


async def disarmed(client: GuardianClient) -> bool:
    return bool((await client.status())["modes"]["inverter"] == "observe")


@pytest.mark.slow
async def test_r08_an_order_without_an_effect_is_said(inverter: Bench) -> None:
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        inverter.devices["inverter"].board.switch_on("no-effect")
        await hold(client)

        async def said() -> bool:
            return [one["alarm"] for one in (await client.status())["alarms"]] == ["no-effect:limit_w"]

        took = await until(said)
        assert took > 2 * 0.6, "not before twice the recorded effect time"
        assert took < 2 * 0.6 + 1.5


@pytest.mark.slow
@needs_mbpoll
@pytest.mark.parametrize("policy", ["alarm", "yield", "retake"])
async def test_r15_somebody_elses_write_is_seen_and_answered_by_policy(inverter: Bench, policy: str) -> None:
    server = inverter.servers["inverter"]
    settings = {"limit_w": {"safe": 1000.0, "default": "released"}}
    inverter.write_site([{"id": "inverter", "controls": settings, "on_foreign_write": policy}])
    at = await model_at(server, 704)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client)
        await limited(inverter, 3000.0)
        (ours,) = await mbpoll(server, at + LIMIT_PCT)
        for write in range(1, 5 if policy == "retake" else 2):

            async def noticed(write: int = write) -> bool:
                status = await client.status()
                foreign = [one for one in status["alarms"] if one["alarm"] == "foreign-write:limit_w"]
                return len(foreign) == write

            # One that falls into a silence of the device, or into the millisecond before a refresh, cannot be seen.
            for _ in range(3):
                await mbpoll(server, at + LIMIT_PCT, ours * 2)
                with contextlib.suppress(AssertionError):
                    await until(noticed, within_s=2 * 0.2 + 1.0)
                    break
            else:
                pytest.fail("three writes of another master, and none was noticed")
            if policy == "retake" and write < 4:
                await until(lambda: mine(server, at, ours))
        expected = {"alarm": "lockout", "yield": "observe", "retake": "lockout"}[policy]
        assert (await client.status())["modes"] == {"inverter": expected}
        if expected == "lockout":
            with pytest.raises(GuardianError, match="locked out") as caught:
                await client.mode("inverter", "rehearse", "T. Echnician")
            assert caught.value.code == "locked-out"
            assert await client.clear("inverter", "T. Echnician") == {"inverter": "observe"}


async def mine(server: object, at: int, ours: int) -> bool:
    return await mbpoll(server, at + LIMIT_PCT) == [ours]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("lease_lives", [True, False])
async def test_r27_after_a_reboot_nothing_is_written_before_the_state_was_read(
    inverter: Bench, lease_lives: bool
) -> None:
    device, frames = inverter.devices["inverter"], inverter.frames["inverter"]
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        await hold(client, ttl_s=30.0 if lease_lives else 1.5)
        await limited(inverter, 3000.0)
        device.board.switch_on("reboot", off_s=4.0)
        await until(lambda: not device.online())
        await until(device.online)
        back = len(frames.seen)
        await until(lambda: len(frames.seen) > back, within_s=5.0)
        if lease_lives:
            await limited(inverter, 3000.0, within_s=10.0)
        else:  # its default, held with a timer; the lease that has ended is never written again
            await until(lambda: output_w(device) > 7000.0 and frames.writes(), within_s=10.0)
            await asyncio.sleep(1.0)
            assert output_w(device) > 7000.0
        reads = 0
        for _, _, function, _ in frames.seen[back:]:
            if function in {6, 16}:
                break
            reads += 1
        assert reads >= 3, "recognised and read before the first write"
        assert not any(one["alarm"].startswith("foreign") for one in (await client.status())["alarms"])
