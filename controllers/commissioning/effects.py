"""What is felt of an order: the reading that shows it, the levels that tell one cause from another, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from controllers.commissioning.bench import Bench, Written
from controllers.commissioning.facts import Behaviour
from core.quality import Quality
from hardware.driver import Control, Fallback, Order

_FED_IN = frozenset({"limit_w", "discharge_limit_w"})
_BAND = 0.02  # of the control's highest value (R8)
_LEAST = 0.1  # of the highest value has to flow before a limit on it can be seen
_STABLE = 3
_BASE_LOOKS = 5


class FailedError(Exception):
    """A step found something that must not be so; its text says what."""


class SkippedError(Exception):
    """A step cannot be done here; its text says why."""


def felt(control: Control, value: float) -> float:
    """What a reading means for a control: power fed in counts for limits on feeding in, anything else as it is."""
    return -value if control.name in _FED_IN else value


def band(control: Control) -> float:
    """How far from its value an order's effect may be, in the control's unit."""
    return _BAND * max(abs(control.low), abs(control.high))


def obeys(control: Control, value: float, seen: float) -> bool:
    """Whether what is felt is what was ordered."""
    if control.cap:
        return seen <= value + band(control)
    return abs(seen - value) <= band(control)


async def look(bench: Bench, control: Control) -> tuple[float, float] | None:
    """What is felt now and when it was so [s]; None if it could not be read well."""
    if not control.measured_by:
        raise SkippedError(f"no reading shows the effect of {control.name}")
    reading = (await bench.look(control.measured_by)).get(control.measured_by)
    if reading is None or reading.value is None or reading.quality is not Quality.GOOD:
        return None
    return felt(control, reading.value), reading.source_s


async def free(bench: Bench, control: Control) -> float:
    """What is felt without any order, the mean of a few looks; FailedError if it cannot be read."""
    seen: list[float] = []
    for _ in range(3 * _BASE_LOOKS):
        if (found := await look(bench, control)) is not None:
            seen.append(found[0])
        if len(seen) == _BASE_LOOKS:
            return sum(seen) / len(seen)
        await asyncio.sleep(bench.settings.poll_s)
    raise FailedError(f"{control.measured_by} cannot be read, so the effect of {control.name} is not to be seen")


async def until(
    bench: Bench, control: Control, met: Callable[[float], bool], *, from_s: float, max_s: float
) -> tuple[float | None, float | None]:
    """Wait until something is felt and stays.

    Returns
    -------
    tuple
        Seconds from ``from_s`` to the first look of those in which it stayed (None: not within ``max_s``), and what
        was felt last.
    """
    first: float | None = None
    looks, last = 0, None
    while True:
        if (found := await look(bench, control)) is not None:
            last, at_s = found
            if met(last):
                first = at_s - from_s if first is None else first
                looks += 1
                if looks >= _STABLE:
                    return first, last
            else:
                first, looks = None, 0
        if bench.now_s() - from_s > max_s:
            return None, last
        await asyncio.sleep(bench.settings.poll_s)


async def reached(bench: Bench, control: Control, value: float, written: Written) -> tuple[float | None, float | None]:
    """Wait until an order's value is felt; as `until`, from its last frame."""

    def met(seen: float) -> bool:
        return obeys(control, value, seen)

    return await until(bench, control, met, from_s=written.at_s, max_s=bench.settings.effect_max_s)


async def let_go(bench: Bench, control: Control, base: float) -> float | None:
    """Take a control back and wait until it is as free as ``base``; seconds, or None if it did not get there."""
    written = await bench.release(control.name)
    if not written.ok:
        return None
    near = max(band(control), 0.15 * abs(base))
    took_s, _ = await until(
        bench, control, lambda seen: abs(seen - base) <= near, from_s=written.at_s, max_s=bench.settings.effect_max_s
    )
    return took_s


# --- levels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Levels:
    """Values far enough from each other that what is felt tells which of them is in force."""

    free: float  # without an order
    test: float  # whose end is watched
    chosen: float  # fallback, where one can be chosen
    before: float  # an order given before, to be recognised should it come back

    def nearest(self, seen: float, candidates: dict[str, float]) -> str:
        """Name of the candidate that is felt, or ``elsewhere``."""
        name, distance = min(((name, abs(seen - value)) for name, value in candidates.items()), key=lambda one: one[1])
        apart = max(abs(self.free - self.test), abs(self.before - self.test))
        return name if distance <= 0.12 * apart else "elsewhere"


async def levels(bench: Bench, control: Control) -> Levels:
    """The levels to work with now; FailedError where too little flows to see a limit."""
    base = await free(bench, control)
    if control.cap:
        least = _LEAST * control.high
        if base < least:
            raise FailedError(
                f"{base:.0f} flow where at least {least:.0f} are needed to see {control.name}: "
                "come back when there is more"
            )
        return Levels(
            base, _on_grid(control, 0.25 * base), _on_grid(control, 0.5 * base), _on_grid(control, 0.75 * base)
        )
    if control.low < 0.0 < control.high:
        shares = [(0.3 * control.low), (0.15 * control.high), (0.3 * control.high)]
    else:
        shares = [control.low + share * (control.high - control.low) for share in (0.25, 0.5, 0.75)]
    apart = 0.1 * (control.high - control.low) / 2.0
    test, chosen, before = (
        _on_grid(control, value if abs(value - base) > apart else value + (2 * apart if value > base else -2 * apart))
        for value in shares
    )
    return Levels(base, test, chosen, before)


def _on_grid(control: Control, value: float) -> float:
    """The nearest value that the registers can hold, within what may be asked for."""
    steps = round(value / control.resolution)
    return min(control.high, max(control.low, steps * control.resolution))


# --- orders -----------------------------------------------------------------------------------------------------------


def long_timer(bench: Bench, control: Control) -> int:
    """A timer that does not run out while an effect is waited for [s]."""
    wanted = max(bench.settings.timer_s, round(3 * bench.settings.effect_max_s), 1)
    return min(wanted, control.timer_max_s)


def order_of(control: Control, value: float, timer_s: int, chosen: float | None = None) -> Order:
    """An order, with a chosen fallback where the control has one."""
    fallback = chosen if control.fallback is Fallback.CHOSEN else None
    return Order(control.name, value, timer_s, fallback)


async def why_not(bench: Bench, control: Control, written: Written) -> Behaviour:
    """What it means that an order was not read back; FailedError if the device simply refused.

    The timer may be what is missing, or every write may be dropped: that shows when the value alone is written, at a
    height at which it limits nothing and not yet enabled.
    """
    if written.failed == "timer":
        harmless = control.high - 3 * control.resolution if control.cap else 2 * control.resolution
        steps = bench.driver.encode(order_of(control, harmless, min(bench.settings.timer_s, control.timer_max_s)))
        alone = await bench.write(
            tuple(step for step in steps if step.purpose == "value"), control.name, "are writes taken at all"
        )
        await bench.release(control.name, "looking for the timer")
        if alone.ok:
            return Behaviour.NONE
        written = alone
    if written.acknowledged:
        return Behaviour.ACKNOWLEDGE_AND_DROP
    raise FailedError(f"{control.name}: {written.problem}")
