"""When does an order end by itself, what keeps it alive, and where does the device go then? Watched, not believed.

First somebody keeps reading while the order is left alone: if it ends, reading does not keep it alive and its end is
known to a look. If it does not, the same is done in silence, with one look at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from controllers.commissioning.bench import Bench, Written
from controllers.commissioning.effects import (
    FailedError,
    Levels,
    band,
    let_go,
    levels,
    long_timer,
    look,
    order_of,
    reached,
    until,
)
from controllers.commissioning.facts import TimerFacts, behaviours
from controllers.commissioning.findings import Findings
from controllers.commissioning.stage_limits import obedient
from core.quality import Quality
from hardware.driver import Control, Fallback

_LEFT = {"limit_w": "limit_left_s", "power_w": "power_left_s"}
_SHOWN = {"limit_w": "limit_timer_s", "power_w": "power_timer_s"}
_SILENT = (1.3, 2.0)  # timers long
_ACT_AT, _LOOK_AT = 0.55, 1.4  # timers long: something is done, and whether the order still stands
_TO_MINUTES = 62.0
_TOO_LATE = 5.0
_DELAY = 0.2
_SLACK_S = 0.3


async def timers(bench: Bench, findings: Findings) -> str:
    """Measure the timer of every control that obeys."""
    said: list[str] = []
    for control in obedient(bench, findings):
        known = findings.controls[control.name]
        timer_s = max(bench.settings.timer_s, round(2.0 * (known.effect_s or 0.0) + 0.5))
        if timer_s > control.timer_max_s:
            raise FailedError(f"{control.name}: its timer of at most {control.timer_max_s} s ends before its effect")
        plan = await levels(bench, control)
        try:
            facts = await _Timing(bench, control, timer_s, plan).facts()
        finally:
            await let_go(bench, control, plan.free)
        found = behaviours(facts)
        findings.add(control.name, timer=facts, behaviours=found)
        said.append(f"{control.name}: {', '.join(found)}; {_told(facts)}")
    return "; ".join(said)


def _told(facts: TimerFacts) -> str:
    if facts.expired_s is None:
        return f"told {facts.set_s} s, it had not ended after {facts.waited_s:.1f} s"
    silent = "" if facts.expires_while_read else ", and only in silence"
    where = "" if facts.fell_to is None else f", fell to {facts.fell_to}"
    return f"told {facts.set_s} s, it ended after {facts.expired_s:.2f} s{silent}{where}"


@dataclass(frozen=True, slots=True)
class _End:
    """How an order ended: seconds from its last frame, and what is felt since."""

    expired_s: float | None
    settled_s: float | None
    seen: float | None
    resolution_s: float
    waited_s: float


class _Timing:
    """The measurements of one timer."""

    def __init__(self, bench: Bench, control: Control, timer_s: int, plan: Levels) -> None:
        self._bench = bench
        self._control = control
        self._timer_s = timer_s
        self._plan = plan

    async def facts(self) -> TimerFacts:
        """Everything about it."""
        await self._ordered(self._plan.before, long_timer(self._bench, self._control))  # to be known if it comes back
        written = await self._ordered(self._plan.test, self._timer_s)
        shown, left = await self._shown(), await self._left()
        end, counts = await self._watched(written, left)
        while_read = end.expired_s is not None
        if not while_read:
            end = await self._silent()
        fell_to, fell_value = self._fell(end)
        facts = TimerFacts(
            set_s=self._timer_s,
            shown_s=shown,
            counts=counts,
            waited_s=round(end.waited_s, 3),
            resolution_s=round(end.resolution_s, 3),
            expired_s=_rounded(end.expired_s),
            settled_s=_rounded(end.settled_s),
            expires_while_read=None if end.expired_s is None else while_read,
            fell_to=fell_to,
            fell_to_value=fell_value,
            chosen=self._plan.chosen if self._control.fallback is Fallback.CHOSEN else None,
        )
        if end.expired_s is None or end.expired_s > _TOO_LATE * self._timer_s:
            return facts  # nothing will be armed on this: what keeps it alive need not be waited for
        return await self._held(facts, end.expired_s)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _ordered(self, value: float, timer_s: int) -> Written:
        order = order_of(self._control, value, timer_s, self._plan.chosen)
        written = await self._bench.order(order, f"a timer of {timer_s} s is watched")
        if not written.ok:
            raise FailedError(f"{self._control.name}: {written.problem}")
        return written

    async def _shown(self) -> float | None:
        name = _SHOWN.get(self._control.name, "")
        reading = (await self._bench.look(name)).get(name) if name else None
        return reading.value if reading is not None and reading.quality is Quality.GOOD else None

    async def _left(self) -> float | None:
        name = _LEFT.get(self._control.name, "")
        reading = (await self._bench.look(name)).get(name) if name else None
        return reading.value if reading is not None and reading.quality is Quality.GOOD else None

    def _stands(self, seen: float) -> bool:
        """Whether the watched order is what is felt."""
        plan, control = self._plan, self._control
        slack = max(2.0 * band(control), 0.15 * abs(plan.before - plan.test))
        return seen <= plan.test + slack if control.cap else abs(seen - plan.test) <= slack

    # --- how it ends --------------------------------------------------------------------------------------------------

    async def _watched(self, written: Written, first_left: float | None) -> tuple[_End, bool | None]:
        """Keep looking until the order has ended; also whether the seconds left are counted."""
        bench, control = self._bench, self._control
        took_s, _ = await reached(bench, control, self._plan.test, written)
        if took_s is None:
            raise FailedError(f"{control.name}: {self._plan.test:g} has no effect any more")
        patience_s = bench.settings.patience * self._timer_s + 1.0
        last_good_s, counts, looked = took_s, None, bench.now_s()
        while True:
            found = await look(bench, control)
            if found is not None:
                seen, at_s = found[0], found[1] - written.at_s
                if not self._stands(seen):
                    delay_s = min(took_s, _DELAY * self._timer_s)  # an end is seen as late as any effect is
                    return await self._end(written, at_s, at_s - last_good_s + delay_s), counts
                last_good_s = at_s
            now_s = bench.now_s()
            if first_left and now_s - looked > 0.2 * self._timer_s:
                looked, left = now_s, await self._left()
                counts = counts or (left is not None and left < first_left)
                slow = 0.2 * (now_s - written.at_s)
                if left and 0.0 < (first_left - left) < slow:
                    patience_s = _TO_MINUTES * self._timer_s  # it counts far too slowly: minutes for seconds
            if now_s - written.at_s > patience_s:
                if not bench.settings.minutes or patience_s >= _TO_MINUTES * self._timer_s:
                    return _End(None, None, None, bench.settings.poll_s, now_s - written.at_s), counts
                patience_s = _TO_MINUTES * self._timer_s
            await asyncio.sleep(bench.settings.poll_s)

    async def _end(self, written: Written, expired_s: float, resolution_s: float) -> _End:
        """It has begun to end: wait until what it falls to is reached, which is when it no longer moves."""
        last: list[float] = []

        def steady(seen: float) -> bool:
            last.append(seen)
            return len(last) > 2 and max(last[-3:]) - min(last[-3:]) <= band(self._control) / 2.0

        settled_s, seen = await until(
            self._bench,
            self._control,
            steady,
            from_s=written.at_s,
            max_s=expired_s + self._bench.settings.effect_max_s,
        )
        waited_s = self._bench.now_s() - written.at_s
        return _End(expired_s, settled_s, seen, max(resolution_s, self._bench.settings.poll_s), waited_s)

    async def _silent(self) -> _End:
        """Order, be silent, look once; longer if it still stands."""
        waits = [share * self._timer_s + _SLACK_S for share in _SILENT]
        if self._bench.settings.patience > _SILENT[-1]:
            waits.append(self._bench.settings.patience * self._timer_s + _SLACK_S)
        for wait_s in waits:
            written = await self._ordered(self._plan.test, self._timer_s)
            await self._sleep_until(written.at_s + wait_s)
            found = await look(self._bench, self._control)
            if found is not None and not self._stands(found[0]):
                return await self._end(written, wait_s, wait_s - self._timer_s)
        return _End(None, None, None, self._bench.settings.poll_s, waits[-1])

    def _fell(self, end: _End) -> tuple[str | None, float | None]:
        if end.expired_s is None or end.seen is None:
            return None, None
        candidates = {"released": self._plan.free, "last": self._plan.before}
        if self._control.fallback is Fallback.CHOSEN:
            candidates["chosen"] = self._plan.chosen
        return self._plan.nearest(end.seen, candidates), round(end.seen, 3)

    # --- what keeps it alive ------------------------------------------------------------------------------------------

    async def _held(self, facts: TimerFacts, expired_s: float) -> TimerFacts:
        silent = facts.expires_while_read is False
        if silent:
            expired_s -= facts.resolution_s  # then it is known from one look only, and that it lasted its timer
        by_order = await self._still_there(expired_s, self._repeat, silent=silent)
        by_timer = by_other = None
        if not silent:  # there, whatever is written keeps it alive
            by_timer = await self._still_there(expired_s, self._timer_alone)
            if next(self._others(), None) is not None:
                by_other = await self._still_there(expired_s, self._other)
        return facts.model_copy(
            update={"held_by_order": by_order, "held_by_timer": by_timer, "held_by_other": by_other}
        )

    async def _still_there(
        self, expired_s: float, act: Callable[[], Awaitable[Written]], *, silent: bool = False
    ) -> bool:
        """Whether the order outlives its time if something is done in the middle of it."""
        for _ in range(3):
            written = await self._ordered(self._plan.test, self._timer_s)
            await self._sleep_until(written.at_s + _ACT_AT * expired_s)
            done = await act()
            if not done.ok:
                raise FailedError(f"{self._control.name}: {done.problem}")
            if done.at_s - written.at_s > 0.8 * expired_s:
                continue  # too slow to mean anything: once more
            await self._sleep_until(written.at_s + _LOOK_AT * expired_s)
            found = await look(self._bench, self._control)
            if found is not None and found[1] - done.at_s < 0.97 * expired_s:
                return self._stands(found[0])
        raise FailedError(f"{self._control.name}: the line is too slow to tell what keeps an order alive")

    async def _repeat(self) -> Written:
        return await self._ordered(self._plan.test, self._timer_s)

    async def _timer_alone(self) -> Written:
        order = order_of(self._control, self._plan.test, self._timer_s, self._plan.chosen)
        steps = tuple(step for step in self._bench.driver.encode(order) if step.purpose == "timer")
        return await self._bench.write(steps, self._control.name, "does the timer alone keep it alive")

    def _others(self) -> Iterator[str]:
        return (name for name in self._bench.driver.controls if name != self._control.name)

    async def _other(self) -> Written:
        other = next(self._others())
        return await self._bench.write(self._bench.driver.release(other), other, "does another point keep it alive")

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._bench.now_s()))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
