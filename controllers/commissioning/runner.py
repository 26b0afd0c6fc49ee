"""The procedure from first look to record, and the way out of it, which is taken however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from controllers.commissioning import stage_identity, stage_limits, stage_measure, stage_reboot, stage_timer
from controllers.commissioning.bench import Bench
from controllers.commissioning.effects import FailedError, SkippedError
from controllers.commissioning.findings import Findings, Stage
from controllers.commissioning.record import Named, Record, StepRecord
from core.errors import DeviceError
from hardware.driver import Control

_TRACE_POINTS = 400


def _timer_s(bench: Bench) -> float:
    """The watched timer, as long as three in silence, three that are held, and some effects between."""
    per_control = bench.settings.timer_s * (1.2 + 3 * 1.5) + 5 * _effect_s(bench)
    return per_control * len(bench.controls)


def _effect_s(bench: Bench) -> float:
    return min(3.0, bench.settings.effect_max_s)


def _for_each(effects: float) -> Callable[[Bench], float]:
    return lambda bench: effects * _effect_s(bench) * max(1, len(bench.controls))


def _always(seconds: float) -> Callable[[Bench], float]:
    return lambda bench: seconds


STAGES: tuple[Stage, ...] = (
    Stage("people", "names, instrument, clock", stage_identity.people, _always(0.0)),
    Stage("identity", "who the device is", stage_identity.identity, _always(1.0)),
    Stage("sessions", "how many may talk to it at once", stage_identity.sessions, _always(3.0)),
    Stage("measurements", "can it be true what it measures", stage_measure.measurements, _always(1.0)),
    Stage("limits", "are orders obeyed, how fast, how exactly", stage_limits.limits, _for_each(5.0)),
    Stage("transformers", "does the meter see it, in the right direction", stage_measure.transformers, _for_each(3.0)),
    Stage("function codes", "writing by function 6 and 16", stage_limits.codes, _for_each(1.0)),
    Stage("timers", "what happens when nobody gives orders any more", stage_timer.timers, _timer_s),
    Stage("loss of power", "what stands after it", stage_reboot.reboot, _for_each(4.0)),
    Stage("emergency stop", "how fast an order is taken back", stage_limits.stop, _for_each(2.0)),
)
"""The steps, in their order."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the procedure is: step ``number`` of ``count`` begins, and about so many seconds are left."""

    number: int
    count: int
    stage: Stage
    left_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where the device is and how it is read, for the record."""

    address: str
    unit: int
    profile: str


async def commission(
    bench: Bench,
    place: Place,
    utc_now: Callable[[], datetime],
    *,
    stages: tuple[Stage, ...] = STAGES,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[StepRecord], None] = lambda _: None,
) -> Record:
    """Run the procedure and return its record. The device is left without an order of ours, also when cancelled.

    Parameters
    ----------
    bench
        The device, whoever stands beside it, and how patient to be.
    place
        For the record.
    utc_now
        The wall clock; only stamps are made with it.
    stages
        What to do.
    on_progress, on_step
        Called when a step begins, and with what came of it.

    Returns
    -------
    Record
        Not complete if it was cancelled in the middle: then the cancellation ends here.
    """
    findings = Findings()
    steps: list[StepRecord] = []
    controls: list[Control] = bench.controls  # refuses unknown names before anything is done
    complete = False
    left = [stage.estimate_s(bench) for stage in stages]
    try:
        for number, stage in enumerate(stages):
            on_progress(Progress(number + 1, len(stages), stage, sum(left[number:])))
            steps.append(await _run(bench, findings, stage, utc_now))
            on_step(steps[-1])
        complete = True
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        bench.technician.tell("interrupted: whatever was ordered is taken back")
    finally:
        out = await _way_out(bench, utc_now)
        steps.append(out)
        on_step(out)
        if bench.has_written:
            steps.append(await _put_back(bench, utc_now, released=out.outcome == "passed"))
            on_step(steps[-1])
    return Record(
        made_at=utc_now(),
        identity=Named.of(bench.driver.identity),
        address=place.address,
        unit=place.unit,
        profile=place.profile,
        technician=findings.technician,
        witness=findings.witness,
        instrument=findings.instrument,
        accepted=dict(findings.accepted),
        clock_offset_s=findings.clock_offset_s,
        sign=findings.sign,
        ct_direction=findings.ct_direction,
        phase_order=findings.phase_order,
        sessions=findings.sessions,
        controls={one.name: findings.controls[one.name] for one in controls if one.name in findings.controls},
        steps=tuple(steps),
        complete=complete,
        released=out.outcome == "passed",
    )


async def _run(bench: Bench, findings: Findings, stage: Stage, utc_now: Callable[[], datetime]) -> StepRecord:
    begun_at, begun_s = utc_now(), bench.now_s()
    bench.begin_traces()
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    try:
        text = await stage.run(bench, findings)
    except SkippedError as reason:
        outcome, text = "skipped", str(reason)
    except FailedError as reason:
        outcome, text = "failed", str(reason)
    except DeviceError as error:
        outcome, text = "failed", error.message
    return StepRecord(
        name=stage.name,
        outcome=outcome,
        text=text,
        begun_at=begun_at,
        lasted_s=round(bench.now_s() - begun_s, 3),
        traces={name: _thinned(points) for name, points in bench.traces.items()},
    )


async def _way_out(bench: Bench, utc_now: Callable[[], datetime]) -> StepRecord:
    """Take back whatever stands, and say whether that was read back."""
    begun_at, begun_s = utc_now(), bench.now_s()
    try:
        problem = await bench.release_all()
    except DeviceError as error:
        problem = error.message
    return StepRecord(
        name="way out",
        outcome="failed" if problem else "passed",
        text=f"NOT RELEASED: {problem}" if problem else "nothing of ours stands in the device, read back",
        begun_at=begun_at,
        lasted_s=round(bench.now_s() - begun_s, 3),
    )


async def _put_back(bench: Bench, utc_now: Callable[[], datetime], *, released: bool) -> StepRecord:
    """Put back what stood in the registers before, once nothing of ours is in force."""
    begun_at, begun_s = utc_now(), bench.now_s()
    outcome: Literal["passed", "failed", "skipped"] = "skipped"
    text = "nothing was put back while an order of ours may stand"
    if released:
        try:
            count, problem = await bench.put_back()
        except DeviceError as error:
            count, problem = 0, error.message
        outcome = "failed" if problem else "passed"
        text = (
            f"what stood in {count} registers before was put back, read back"
            if count
            else "every register is as it was"
        )
        if problem:
            text = f"could not be put back: {problem}" + (f"; {count} registers were" if count else "")
    return StepRecord(
        name="put back",
        outcome=outcome,
        text=text,
        begun_at=begun_at,
        lasted_s=round(bench.now_s() - begun_s, 3),
    )


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most `_TRACE_POINTS` of them, evenly; the last one always."""
    stride = -(-len(points) // _TRACE_POINTS) or 1
    kept = points[::stride]
    return tuple(kept if kept[-1:] == points[-1:] else [*kept, points[-1]])
