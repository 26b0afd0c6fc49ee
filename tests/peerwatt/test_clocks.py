"""Virtual and paced runs are the same run; pacing follows its clock, takes messages in time and owns up to lateness.

wall   0 ----------- 1.5 ------- 2 ------- 3     factor 10
sim    0     10      15  20          25    30
       tick  tick    |   tick        tick
                  message
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import simpy

from core.errors import RunError
from peerwatt.clocks import Lateness, Stopwatch, run_paced, run_virtual

RunVirtual = Callable[[Coroutine[Any, Any, Any]], Any]
Log = list[tuple[float, str]]


def _model(log: Log) -> simpy.Environment:
    """Two processes with coinciding events, and a store between them: order matters."""
    env = simpy.Environment()
    store = simpy.Store(env)

    def producer() -> Iterator[Any]:
        for i in range(6):
            log.append((env.now, f"put {i}"))
            yield store.put(i)
            yield env.timeout(5)

    def consumer() -> Iterator[Any]:
        while True:
            item = yield store.get()
            log.append((env.now, f"got {item}"))
            yield env.timeout(10)

    env.process(producer())
    env.process(consumer())
    return env


def test_paced_and_virtual_runs_have_the_same_event_log(run_on_virtual_time: RunVirtual) -> None:
    virtual: Log = []
    env = _model(virtual)
    run_virtual(env, 30.0)

    for factor in (0.5, 3.0, 1000.0):
        paced: Log = []
        paced_env = _model(paced)
        lateness = run_on_virtual_time(run_paced(paced_env, 30.0, factor))
        assert paced == virtual
        assert paced_env.now == env.now == 30.0
        assert lateness.n > len(virtual)
        assert lateness.max_s < 1e-6  # nothing takes time on a virtual loop: never late
    assert (25.0, "put 5") in virtual
    assert len(virtual) == 9


def test_a_stretch_ends_before_its_end_and_the_next_takes_over(run_on_virtual_time: RunVirtual) -> None:
    whole: Log = []
    run_virtual(_model(whole), 31.0)

    cut: Log = []
    env = _model(cut)
    run_on_virtual_time(run_paced(env, 10.0, 60.0))
    assert max(t for t, _ in cut) < 10.0  # events at 10 itself wait
    run_virtual(env, 20.0)
    run_on_virtual_time(run_paced(env, 31.0, 60.0))
    assert cut == whole


def test_pacing_takes_as_long_as_the_factor_says(run_on_virtual_time: RunVirtual) -> None:
    async def measure() -> tuple[float, list[float]]:
        loop = asyncio.get_running_loop()
        env = simpy.Environment()
        seen: list[float] = []

        def ticks() -> Iterator[Any]:
            while True:
                yield env.timeout(60)
                seen.append(loop.time())

        env.process(ticks())
        await run_paced(env, 240.0, 120.0)
        return loop.time(), seen

    took_s, seen = run_on_virtual_time(measure())
    assert took_s == pytest.approx(2.0)
    assert seen == pytest.approx([0.5, 1.0, 1.5])


def test_a_message_is_taken_at_its_simulated_moment(run_on_virtual_time: RunVirtual) -> None:
    async def scene() -> Log:
        log: Log = []
        env = simpy.Environment()
        wake = simpy.Store(env)
        inbox: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

        def ticks() -> Iterator[Any]:
            for _ in range(3):
                yield env.timeout(10)
                log.append((env.now, "tick"))

        def operator() -> Iterator[Any]:
            while True:
                order = yield wake.get()
                log.append((env.now, order))
                yield env.timeout(10)
                log.append((env.now, f"{order} over"))

        async def outside() -> None:
            await asyncio.sleep(1.5)
            await inbox.put(lambda: wake.put("stop") and None)

        env.process(ticks())
        env.process(operator())
        sender = asyncio.create_task(outside())
        await run_paced(env, 35.0, 10.0, inbox)
        await sender
        return log

    log = run_on_virtual_time(scene())
    assert [what for _, what in log] == ["tick", "stop", "tick", "stop over", "tick"]
    assert [when for when, _ in log] == pytest.approx([10.0, 15.0, 20.0, 25.0, 30.0])


def test_a_message_does_not_overtake_overdue_events_and_a_later_one_stays(run_on_virtual_time: RunVirtual) -> None:
    async def scene() -> tuple[list[str], int]:
        env = simpy.Environment()
        seen: list[str] = []
        inbox: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

        def stall() -> Iterator[Any]:
            yield env.timeout(1)
            asyncio.get_running_loop().clock.now += 5.0  # type: ignore[attr-defined]  # a step that blocks for 5 s
            inbox.put_nowait(lambda: seen.append("message"))

        def tick() -> Iterator[Any]:
            yield env.timeout(2)
            seen.append("tick at 2")
            yield env.timeout(2)
            seen.append("tick at 4")

        env.process(stall())
        env.process(tick())
        await run_paced(env, 10.0, 1.0, inbox)
        inbox.put_nowait(lambda: seen.append("too late"))
        await asyncio.sleep(1.0)
        return seen, inbox.qsize()

    seen, left = run_on_virtual_time(scene())
    assert seen == ["tick at 2", "tick at 4", "message"]
    assert left == 1  # the pacer let go of the queue


def _blocking_model(block_s: float) -> simpy.Environment:
    env = simpy.Environment()

    def process() -> Iterator[Any]:
        for i in range(200):
            yield env.timeout(1)
            if i == 100:
                asyncio.get_running_loop().clock.now += block_s  # type: ignore[attr-defined]

    env.process(process())
    return env


def test_lateness_is_counted(run_on_virtual_time: RunVirtual) -> None:
    lateness: Lateness = run_on_virtual_time(run_paced(_blocking_model(10.5), 300.0, 1.0))
    assert lateness.n_late == 10  # the ten ticks after the stall of 10.5 s: 9.5, 8.5 ... 0.5 s late
    assert lateness.max_s == pytest.approx(9.5)
    assert lateness.n == 202  # 200 ticks, the start and the end of the process
    assert 7.5 <= lateness.p99_s <= 7.5 * 1.1  # the third largest of 202


def test_strict_pacing_raises(run_on_virtual_time: RunVirtual) -> None:
    with pytest.raises(RunError, match="late"):
        run_on_virtual_time(run_paced(_blocking_model(10.5), 300.0, 1.0, strict=True, tolerance_s=1.0))
    fine = run_on_virtual_time(run_paced(_blocking_model(1.5), 300.0, 1.0, strict=True, tolerance_s=1.0))
    assert fine.n_late == 0


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_speed_is_refused(factor: float, run_on_virtual_time: RunVirtual) -> None:
    with pytest.raises(ValueError, match="factor"):
        run_on_virtual_time(run_paced(simpy.Environment(), 1.0, factor))


async def test_the_real_loop_stays_alive_and_follows_the_wall_clock() -> None:
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    log: Log = []
    pulse = asyncio.create_task(heartbeat())
    started = time.monotonic()
    watch = Stopwatch()
    await run_paced(_model(log), 30.0, 150.0)
    assert watch.elapsed_s() == pytest.approx(time.monotonic() - started, abs=0.05)
    assert watch.elapsed_s() >= 0.2
    pulse.cancel()
    assert beats >= 5
    assert len(log) == 9
