"""Whether what the device measures can be true, and whether a meter sees what really happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from controllers.commissioning.bench import Bench
from controllers.commissioning.effects import FailedError, SkippedError, let_go, levels, long_timer, order_of, reached
from controllers.commissioning.findings import Findings
from controllers.commissioning.technician import ACTIONS, QUESTIONS
from core.quality import Reading
from hardware.driver import Group

_PHASES = ("a", "b", "c")
_RANGES = {"v_a": (90.0, 300.0), "v_b": (90.0, 300.0), "v_c": (90.0, 300.0), "hz": (45.0, 65.0), "soc": (0.0, 1.0)}
_SETTLE_LOOKS = 10


def _values(readings: Mapping[str, Reading]) -> dict[str, float]:
    return {name: one.value for name, one in readings.items() if one.is_good and one.value is not None}


async def measurements(bench: Bench, findings: Findings) -> str:
    """Read everything and hold it against ratings, physics, and the second instrument."""
    readings = await bench.measure(Group.FAST, Group.SLOW)
    seen = _values(readings)
    failed = {name: one.reason for name, one in readings.items() if not one.is_good and one.value is not None}
    wrong = [f"{name} is not to be trusted: {why}" for name, why in failed.items()]
    if "w" not in seen:
        raise FailedError("; ".join(["no power is measured", *wrong]))
    wrong += _physics(seen, bench.driver.ratings.w)
    if seen.get("dc_w", 0.0) > 0.05 * (bench.driver.ratings.w or 1e9) and seen["w"] > 0.0 and "soc" not in seen:
        findings.sign = "opposite"
        wrong.append(f"it generates {seen['dc_w']:.0f} W and says that it draws {seen['w']:.0f} W")
    said = f"{len(seen)} values read well, w {seen['w']:.0f} W"
    if bench.meter is not None:
        other = _values(await bench.meter())
        if "w" in other:
            said += f", the instrument says {other['w']:.0f} W ({seen['w'] - other['w']:+.0f} W)"
    if wrong:
        raise FailedError("; ".join(wrong))
    return said


def _physics(seen: Mapping[str, float], rated_w: float | None) -> list[str]:
    wrong = [
        f"{name} = {seen[name]:g} lies outside {low:g} .. {high:g}"
        for name, (low, high) in _RANGES.items()
        if name in seen and not (low <= seen[name] <= high or (name.startswith("v_") and seen[name] == 0.0))
    ]
    power = abs(seen["w"])
    slack = 0.02 * (rated_w or power) + 1.0
    if rated_w is not None and power > 1.2 * rated_w:
        wrong.append(f"w = {seen['w']:.0f} W is beyond 1.2 times the rating of {rated_w:.0f} W")
    if "va" in seen and seen["va"] + slack < power:
        wrong.append(f"va = {seen['va']:.0f} is less than w = {seen['w']:.0f}")
    phases = [seen[f"w_{phase}"] for phase in _PHASES if f"w_{phase}" in seen]
    if len(phases) == 3 and abs(sum(phases) - seen["w"]) > 2 * slack:
        wrong.append(f"the phases sum to {sum(phases):.0f} W, the whole is {seen['w']:.0f} W")
    return wrong


# --- current transformers and phases ----------------------------------------------------------------------------------


async def transformers(bench: Bench, findings: Findings) -> str:
    """Switch a known load and see whether the meter sees it: in the right direction, on the right phase.

    Without a load, a limit that the device is known to obey stands in for it, where there is a meter to watch.
    """
    if bench.meter is None and bench.driver.controls:
        raise SkippedError("no meter was named: current transformers are not looked at")
    power = (await bench.technician.answer(QUESTIONS["load_step_w"])).strip()
    if not power:
        return await _by_limit(bench, findings)
    try:
        step_w = float(power)
    except ValueError as error:
        raise FailedError(f"load_step_w: {power!r} is no power") from error
    phases = (await bench.technician.answer(QUESTIONS["load_step_phases"])).strip().lower() or "abc"
    before = await _settled(bench)
    if not await bench.technician.act("load_on", f"{ACTIONS['load_on']}: {step_w:g} W on {phases}"):
        raise SkippedError("nobody switched a load")
    after = await _settled(bench)
    if not await bench.technician.act("load_off", ACTIONS["load_off"]):
        bench.technician.tell("the load is still on")
    change = after.get("w", 0.0) - before.get("w", 0.0)
    said = f"a load of {step_w:g} W on {phases} changed the meter by {change:+.0f} W"
    findings.ct_direction = _direction(change, step_w)
    both = [one for one in _PHASES if f"w_{one}" in after and f"w_{one}" in before]
    by_phase = {one: after[f"w_{one}"] - before[f"w_{one}"] for one in both}
    if len(by_phase) == 3 and len(phases) < 3:
        moved = "".join(one for one, delta in by_phase.items() if abs(delta) > 0.5 * step_w / len(phases))
        findings.phase_order = "right" if moved == "".join(sorted(phases)) else "wrong"
        said += f", seen on phase {moved or 'none'}"
    if findings.ct_direction != "right" or findings.phase_order == "wrong":
        raise FailedError(f"{said}: direction {findings.ct_direction}, phases {findings.phase_order}")
    return said


def _direction(change_w: float, expected_w: float) -> Literal["right", "reversed", "unknown"]:
    """How a meter's change compares to what must have changed."""
    if change_w > 0.5 * expected_w:
        return "right"
    return "reversed" if change_w < -0.5 * expected_w else "unknown"


async def _settled(bench: Bench) -> dict[str, float]:
    """What the meter says when it has had time to see it: the mean of its last looks."""
    sums: dict[str, list[float]] = {}
    for look in range(2 * _SETTLE_LOOKS):
        seen = _values(await bench.meter()) if bench.meter is not None else _values(await bench.measure(Group.FAST))
        for name, value in seen.items():
            if look >= _SETTLE_LOOKS:
                sums.setdefault(name, []).append(value)
            if name == "w":
                bench.trace("meter_w", value)
        await asyncio.sleep(bench.settings.poll_s)
    return {name: sum(values) / len(values) for name, values in sums.items()}


async def _by_limit(bench: Bench, findings: Findings) -> str:
    control = next((one for one in bench.controls if one.name == "limit_w"), None)
    if bench.meter is None or control is None:
        raise SkippedError("no load can be switched, and no limit stands in for it")
    plan = await levels(bench, control)
    before = await _settled(bench)
    written = await bench.order(order_of(control, plan.test, long_timer(bench, control)), "does the meter see it")
    try:
        if not written.ok:
            raise SkippedError(f"no limit stands in for a load: {written.problem}")
        took_s, seen = await reached(bench, control, plan.test, written)
        if took_s is None or seen is None:
            raise SkippedError("the limit has no effect, so the meter has nothing to see")
        after = await _settled(bench)
    finally:
        await let_go(bench, control, plan.free)
    change, expected = after.get("w", 0.0) - before.get("w", 0.0), plan.free - seen
    findings.ct_direction = _direction(change, expected)
    said = f"the device fed in {expected:.0f} W less and the meter moved by {change:+.0f} W"
    if findings.ct_direction != "right":
        raise FailedError(f"{said}: direction {findings.ct_direction}")
    return f"{said}; the phases were not looked at"
