"""What stands when the device comes back from a loss of power: nothing, or the order from before."""

from __future__ import annotations

import asyncio

from controllers.commissioning.bench import Bench
from controllers.commissioning.effects import (
    FailedError,
    Levels,
    SkippedError,
    band,
    let_go,
    levels,
    look,
    order_of,
    reached,
)
from controllers.commissioning.facts import behaviours
from controllers.commissioning.findings import Findings
from controllers.commissioning.record import PERSISTENCE, UNTRIED
from controllers.commissioning.stage_limits import obedient
from controllers.commissioning.technician import ACTIONS, QUESTIONS
from core.quality import Quality
from hardware.driver import Control, Group

_IN_FORCE = {"limit_w": "limit_enabled", "power_w": "power_enabled"}
_BACK = 6.0  # as long as this times the time named, it is waited for
_BACK_S = 20.0


async def reboot(bench: Bench, findings: Findings) -> str:
    """Take the power away with orders standing, and see what stands when it is back.

    Where nobody does, it stays unknown: a technician may accept that, by name, on the record.
    """
    try:
        return await _reboot(bench, findings)
    except SkippedError as reason:
        if not any(one.timer is not None for one in findings.controls.values()):
            raise
        raise SkippedError(f"{reason}; {await _accepted(bench, findings)}") from reason


async def _accepted(bench: Bench, findings: Findings) -> str:
    answer = (await bench.technician.answer(QUESTIONS["accept_untested"])).replace(",", " ").split()
    if unknown := [word for word in answer if word != PERSISTENCE]:
        raise FailedError(f"accept_untested: {unknown[0]!r} cannot be accepted untested, only {PERSISTENCE}")
    if not answer or not findings.technician:
        return f"{UNTRIED}, and nothing is armed on that"
    findings.accepted[PERSISTENCE] = findings.technician
    return f"{UNTRIED}, accepted by {findings.technician}"


async def _reboot(bench: Bench, findings: Findings) -> str:
    answer = (await bench.technician.answer(QUESTIONS["reboot_s"])).strip()
    controls = [one for one in obedient(bench, findings) if findings.controls[one.name].timer is not None]
    if not answer or not controls:
        raise SkippedError("nobody takes the power away" if controls else "no timer was measured")
    try:
        away_s = float(answer)
    except ValueError as error:
        raise FailedError(f"reboot_s: {answer!r} is no time") from error
    said: list[str] = []
    for control in controls:
        plan = await levels(bench, control)
        try:
            said.append(f"{control.name}: {await _one(bench, findings, control, plan, away_s)}")
        finally:
            await let_go(bench, control, plan.free)
    return "; ".join(said)


async def _one(bench: Bench, findings: Findings, control: Control, plan: Levels, away_s: float) -> str:
    timer_s = min(control.timer_max_s, round(2.0 * away_s) + 2 * bench.settings.timer_s + 2)
    written = await bench.order(order_of(control, plan.test, timer_s, control.high), "does it outlive a loss of power")
    if not written.ok:
        raise FailedError(f"{control.name}: {written.problem}")
    await reached(bench, control, plan.test, written)
    if not await bench.technician.act("power_cycle", ACTIONS["power_cycle"]):
        raise SkippedError("nobody takes the power away")
    back_s = await _back(bench, bench.now_s() + _BACK * away_s + _BACK_S)
    survives = await _stands(bench, control, plan, back_s)
    ended_s = await _ended(bench, control, plan, back_s, timer_s) if survives else None
    facts = findings.controls[control.name].timer
    if facts is not None:
        facts = facts.model_copy(update={"survives_reboot": survives, "expired_after_reboot_s": ended_s})
        findings.add(control.name, timer=facts, behaviours=behaviours(facts))
    if not survives:
        return "gone after a loss of power"
    end = "and did not end" if ended_s is None else f"and ended {ended_s:.1f} s later, with a timer of {timer_s} s"
    return f"outlives a loss of power {end}"


async def _back(bench: Bench, due_s: float) -> float:
    """When the device answers again, after it was gone or at once if that was not to be seen [s]."""
    while bench.now_s() < due_s:
        readings = await bench.measure(Group.FAST)
        if any(reading.is_good for reading in readings.values()):
            return bench.now_s()
        await asyncio.sleep(max(0.2, bench.settings.poll_s))
    raise FailedError("it did not come back after the loss of power")


async def _stands(bench: Bench, control: Control, plan: Levels, back_s: float) -> bool:
    """Whether the order is in force: as the device says, if it does, or as is felt once power flows again."""
    while True:
        said = await _said(bench, control)
        if said is not None:
            return said
        found = await look(bench, control)
        if found is not None and abs(found[0]) > band(control):
            await asyncio.sleep(3 * bench.settings.poll_s)
            again = await look(bench, control)
            if again is not None:
                return abs(again[0] - plan.test) <= 2 * band(control)
        if bench.now_s() - back_s > bench.settings.effect_max_s:
            raise FailedError(f"{control.name}: it is back and nothing flows, so what stands is not to be seen")
        await asyncio.sleep(bench.settings.poll_s)


async def _said(bench: Bench, control: Control) -> bool | None:
    name = _IN_FORCE.get(control.name, "")
    reading = (await bench.look(name)).get(name) if name else None
    if reading is None or reading.value is None or reading.quality is not Quality.GOOD:
        return None
    return reading.value > 0.5


async def _ended(bench: Bench, control: Control, plan: Levels, back_s: float, timer_s: int) -> float | None:
    """Seconds after it came back at which the order had ended; None if it had not in a timer and a half."""
    while (now_s := bench.now_s()) - back_s < 1.5 * timer_s + 2.0:
        said = await _said(bench, control)
        found = await look(bench, control)
        gone = found is not None and abs(found[0] - plan.test) > 3 * band(control) + 0.1 * abs(plan.free - plan.test)
        if said is False or (said is None and gone):
            return round(now_s - back_s, 3)
        await asyncio.sleep(bench.settings.poll_s)
    return None
