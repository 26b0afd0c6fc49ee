"""Whether orders are obeyed: several values each, how fast, how exactly; by which function codes; and the way out."""

from __future__ import annotations

from dataclasses import replace

from controllers.commissioning.bench import Bench, Written
from controllers.commissioning.effects import (
    FailedError,
    SkippedError,
    band,
    free,
    let_go,
    levels,
    long_timer,
    order_of,
    reached,
    until,
    why_not,
)
from controllers.commissioning.facts import MEANINGS, Behaviour, Tried
from controllers.commissioning.findings import Findings
from controllers.commissioning.technician import QUESTIONS
from hardware.driver import Control, Fallback, Order, Step

_SHARES = (0.75, 0.5, 0.25, 0.0)


async def limits(bench: Bench, findings: Findings) -> str:
    """Try several values of every control and watch what comes of them."""
    if not bench.controls:
        raise SkippedError("it can be told nothing that is tried")
    said: list[str] = []
    failures: list[str] = []
    for control in bench.controls:
        try:
            said.append(f"{control.name}: {await _limits_of(bench, findings, control)}")
        except (FailedError, SkippedError) as reason:
            findings.add(control.name)
            failures.append(f"{control.name}: {reason}")
    if failures:
        raise FailedError("; ".join([*failures, *said]))
    return "; ".join(said)


async def _limits_of(bench: Bench, findings: Findings, control: Control) -> str:
    if control.fallback is Fallback.NONE or control.timer_max_s < 1:
        findings.add(control.name, behaviours=(Behaviour.NONE,))
        raise FailedError(f"{MEANINGS[Behaviour.NONE]}; nothing was written")
    plan = await levels(bench, control)
    if control.cap:
        values = [round(share * plan.free / control.resolution) * control.resolution for share in _SHARES]
    else:
        values = [plan.before, plan.test, plan.chosen]
    tried: list[Tried] = []
    try:
        for value in values:
            order = order_of(control, value, long_timer(bench, control), control.high if control.cap else value)
            written = await bench.order(order, f"is {value:g} obeyed")
            if not written.ok:
                behaviour = await why_not(bench, control, written)
                findings.add(control.name, behaviours=(behaviour,))
                raise FailedError(f"{behaviour.value}: {MEANINGS[behaviour]} ({written.problem})")
            tried.append(await _tried(bench, findings, control, value, plan.free, written))
    finally:
        took_s = await let_go(bench, control, plan.free)
    seen = [one for one in tried if one.ok]
    effects = [one.effect_s for one in seen if one.effect_s is not None]
    errors = [one.error for one in seen if one.error is not None]
    findings.add(
        control.name,
        tried=tuple(tried),
        effect_s=max(effects, default=None),
        accuracy=max(map(abs, errors), default=None),
        minimum=min((one.value for one in seen), default=None),
    )
    if wrong := [one for one in tried if not one.ok]:
        gave = [f"{one.value:g} gave {'nothing' if one.measured is None else round(one.measured)}" for one in wrong]
        told = ", ".join(gave)
        raise FailedError(f"not obeyed: {told}")
    if took_s is None:
        raise FailedError(f"released, and it did not come back to {plan.free:.0f}")
    return f"{len(tried)} values obeyed within {max(effects):.2f} s; let go in {took_s:.2f} s{_below(control, tried)}"


def _below(control: Control, tried: list[Tried]) -> str:
    """A remark where every limit is undercut although more flows without one: safe, and not what was ordered."""
    if not control.cap:
        return ""
    higher = [one for one in tried if one.measured is not None and one.value > 4.0 * band(control)]
    shares = [one.measured / one.value for one in higher if one.measured is not None]
    if len(shares) < 2 or max(one.value - (one.measured or 0.0) for one in higher) < 2.0 * band(control):
        return ""
    if max(shares) > 0.95:
        return ""
    return f"; stays at {100 * max(shares):.0f} % or less of every limit: are its percentages of another power?"


async def _tried(
    bench: Bench, findings: Findings, control: Control, value: float, base: float, written: Written
) -> Tried:
    took_s, seen = await reached(bench, control, value, written)
    error = None if seen is None else seen - value
    if control.cap and error is not None and took_s is not None:
        error = max(0.0, error)
    if not control.cap and seen is not None and abs(value - base) > 3 * band(control):
        moved = (seen - base) / (value - base)
        if moved < -0.5:
            findings.sign = "opposite"
        elif took_s is not None and findings.sign == "unknown":
            findings.sign = "right"
    if control.name == "limit_w" and took_s is not None and findings.sign == "unknown" and base > 0:
        findings.sign = "right"
    return Tried(value=value, measured=seen, effect_s=took_s, error=error, ok=took_s is not None)


# --- function codes ---------------------------------------------------------------------------------------------------


async def codes(bench: Bench, findings: Findings) -> str:
    """Write one register by function 6 and by function 16, each another value, and read it back."""
    said: list[str] = []
    for control in obedient(bench, findings):
        plan = await levels(bench, control)
        written = await bench.order(order_of(control, plan.before, long_timer(bench, control), control.high), "codes")
        try:
            by_6 = await _code(bench, control, 6, plan.test) if written.ok else None
            by_16 = await _code(bench, control, 16, plan.chosen) if written.ok else None
        finally:
            await let_go(bench, control, plan.free)
        findings.add(control.name, writes_06=by_6, writes_16=by_16)
        words = {True: "yes", False: "no", None: "not possible"}
        said.append(f"{control.name}: function 6 {words[by_6]}, function 16 {words[by_16]}")
    return "; ".join(said)


async def _code(bench: Bench, control: Control, function: int, value: float) -> bool | None:
    steps = bench.driver.encode(order_of(control, value, long_timer(bench, control), control.high))
    step: Step | None = next((step for step in steps if step.purpose == "value"), None)
    if step is None or (function == 6 and len(step.frame.words) > 1):
        return None
    own = replace(step, frame=replace(step.frame, function=function))
    return (await bench.write((own,), control.name, f"is function {function} taken")).ok


def obedient(bench: Bench, findings: Findings) -> list[Control]:
    """Controls that obeyed every value; SkippedError if there is none."""
    found = [
        control
        for control in bench.controls
        if (known := findings.controls.get(control.name)) and known.tried and all(one.ok for one in known.tried)
    ]
    if not found:
        raise SkippedError("no control obeyed its values")
    return found


# --- emergency stop ---------------------------------------------------------------------------------------------------


async def stop(bench: Bench, findings: Findings) -> str:
    """Take an order back at once and see how long its effect lasts; disconnect as well, where that is allowed."""
    said: list[str] = []
    for control in obedient(bench, findings):
        plan = await levels(bench, control)
        written = await bench.order(
            order_of(control, plan.test, long_timer(bench, control), control.high), "to be stopped"
        )
        if not written.ok:
            await bench.release(control.name)
            raise FailedError(f"{control.name}: {written.problem}")
        await reached(bench, control, plan.test, written)
        took_s = await let_go(bench, control, plan.free)
        if took_s is None:
            raise FailedError(f"{control.name}: released, and it did not come back to {plan.free:.0f}")
        findings.add(control.name, stop_s=round(took_s, 3))
        said.append(f"{control.name} released in {took_s:.2f} s")
    allowed = (await bench.technician.answer(QUESTIONS["disconnect"])).strip().lower() in {"yes", "y", "true"}
    if "connect" in bench.driver.controls and allowed:
        said.append(await _disconnect(bench))
    return "; ".join(said)


async def _disconnect(bench: Bench) -> str:
    switch = bench.driver.controls["connect"]
    shown = replace(switch, measured_by="w", low=0.0, high=bench.driver.ratings.w or 1000.0)
    base = await free(bench, shown)
    written = await bench.order(Order("connect", 0.0, min(switch.timer_max_s, 600)), "disconnected for the test")
    try:
        if not written.ok:
            raise FailedError(f"connect: {written.problem}")
        took_s, seen = await until(
            bench, shown, lambda one: abs(one) <= band(shown), from_s=written.at_s, max_s=bench.settings.effect_max_s
        )
    finally:
        await bench.release("connect")
    if took_s is None:
        raise FailedError(f"told to disconnect, and {seen or 0.0:.0f} W of {base:.0f} W still flow")
    return f"disconnected in {took_s:.2f} s"
