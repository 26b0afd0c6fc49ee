"""The clock drivers: the one place where the wall clock is read. A lint test bans it everywhere else.

A run is a plain SimPy environment. ``run_virtual`` lets it jump from event to event; ``run_paced`` holds it back so
that simulated time follows the wall clock, without blocking the event loop. Model code cannot tell one from the other.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.errors import RunError

if TYPE_CHECKING:
    import simpy

Message = Callable[[], None]
"""What an inbox holds: called with the environment standing at the simulated moment at which it came in."""

_NOW_S = 1e-9  # a wait shorter than this is no wait: it would be lost in the rounding of the clock
_FIRST_EDGE_S = 1e-4
_EDGES_PER_OCTAVE = 8
_N_BINS = 8 * 24  # up to 1e-4 * 2**24 s, half an hour


class Stopwatch:
    """Measures durations with the monotonic clock, which no clock change moves."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the stopwatch was made or restarted."""
        return time.monotonic() - self._started

    def restart(self) -> None:
        """Count from zero again."""
        self._started = time.monotonic()


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the events of a paced run were, in wall-clock seconds.

    ``n`` events were paced, ``n_late`` of them beyond ``tolerance_s``. ``p99_s`` is exact to 10 %, and never too low.
    """

    n: int
    n_late: int
    tolerance_s: float
    p99_s: float
    max_s: float


class LatenessCounter:
    """Counts into logarithmic bins, so that a run of years needs no more memory than one of minutes."""

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s
        self._bins = [0] * (_N_BINS + 1)
        self._n = self._n_late = 0
        self._max_s = 0.0

    def add(self, late_s: float) -> None:
        """One event, so late [s]."""
        self._n += 1
        self._n_late += late_s > self._tolerance_s
        self._max_s = max(self._max_s, late_s)
        place = 0 if late_s <= _FIRST_EDGE_S else math.ceil(_EDGES_PER_OCTAVE * math.log2(late_s / _FIRST_EDGE_S))
        self._bins[min(place, _N_BINS)] += 1

    def result(self) -> Lateness:
        """What was counted so far."""
        return Lateness(self._n, self._n_late, self._tolerance_s, self.quantile_s(0.99), self._max_s)

    def quantile_s(self, share: float) -> float:
        """The lateness that ``share`` of the events kept [s]; exact to 10 %, and never too low; 0 without events."""
        missing = math.ceil(share * self._n)
        for place, count in enumerate(self._bins):
            missing -= count
            if missing <= 0:
                return min(self._max_s, _FIRST_EDGE_S * 2 ** (place / _EDGES_PER_OCTAVE))
        return self._max_s


@contextmanager
def _errors_as_raised() -> Iterator[None]:
    """SimPy raises a copy of a process's error, made of its ``args`` alone; place and remedy are in the original."""
    try:
        yield
    except BaseException as error:
        original = error.__cause__
        if type(original) is type(error) and original.args == error.args:
            raise original from original.__cause__
        raise


def run_virtual(env: simpy.Environment, until: float) -> None:
    """Run ``env`` up to simulated second ``until`` as fast as it goes; events at ``until`` itself stay for later."""
    if until > env.now:
        with _errors_as_raised():
            env.run(until)


async def run_paced(
    env: simpy.Environment,
    until: float,
    factor: float = 1.0,
    inbox: asyncio.Queue[Message] | None = None,
    *,
    strict: bool = False,
    tolerance_s: float = 0.1,
) -> Lateness:
    """Run ``env`` up to ``until`` so that ``factor`` simulated seconds pass per second of the wall clock.

    The events, their order and their simulated times are those of ``run_virtual``; the wait for the next one leaves the
    event loop free and is cut short by a message in ``inbox``, which is called at the simulated moment it came in.

    Parameters
    ----------
    env
        A SimPy environment whose time is in seconds. Events at ``until`` itself stay for later.
    until
        Simulated second at which to stop.
    factor
        Simulated seconds per wall-clock second, > 0.
    inbox
        Messages from outside (operator commands, device events). Those still waiting at the end stay in the queue.
    strict
        Raise as soon as an event is late by more than ``tolerance_s``, instead of only counting it.
    tolerance_s
        Wall-clock seconds beyond which an event counts as late.

    Returns
    -------
    Lateness
        How well the wall clock was followed.

    Raises
    ------
    ValueError
        If ``factor`` is not positive and finite.
    RunError
        If ``strict`` and an event was late.
    """
    if not (factor > 0.0 and math.isfinite(factor)):
        raise ValueError(f"the speed factor must be positive and finite, not {factor}")
    pacer = _Pacer(env, until, factor, LatenessCounter(tolerance_s), tolerance_s if strict else math.inf)
    if inbox is None:
        await pacer.run_alone()
    else:
        await pacer.run_with(inbox)
    run_virtual(env, until)  # nothing is left before `until`: this only sets the clock to it
    return pacer.lateness.result()


class _Pacer:
    """One paced stretch: the pairing of simulated and loop time, and what may be done when."""

    def __init__(
        self, env: simpy.Environment, until: float, factor: float, lateness: LatenessCounter, limit_s: float
    ) -> None:
        self.lateness = lateness
        self._env = env
        self._until = until
        self._factor = factor
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._origin_s = self._loop.time()  # the loop's clock is monotonic, and tests can replace it
        self._origin_env_s = float(env.now)

    def simulated_now(self) -> float:
        """Simulated second that belongs to this moment."""
        return self._origin_env_s + (self._loop.time() - self._origin_s) * self._factor

    def wait_s(self) -> float:
        """Wall-clock seconds until the next event, or the end, is due; negative if it is overdue."""
        due = min(float(self._env.peek()), self._until)
        return self._origin_s + (due - self._origin_env_s) / self._factor - self._loop.time()

    def ended(self) -> bool:
        """Whether the end has come and nothing before it is left."""
        return self._env.peek() >= self._until and self.wait_s() <= _NOW_S

    def step_due(self) -> None:
        """Carry out the next event if there is one before the end and its time has come."""
        if self._env.peek() < self._until and self.wait_s() <= _NOW_S:
            self._step()

    def take(self, message: Message) -> None:
        """Bring the environment to this moment, overdue events first, and call the message."""
        moment = min(self.simulated_now(), self._until)
        while self._env.peek() <= moment and self._env.peek() < self._until:
            self._step()
        run_virtual(self._env, moment)
        message()

    def _step(self) -> None:
        late_s = max(-self.wait_s(), 0.0)
        self.lateness.add(late_s)
        if late_s > self._limit_s:
            raise RunError(
                f"the event at simulated second {self._env.peek():g} came {late_s:.3f} s late",
                remedy="choose a smaller speed factor, or run without strict pacing",
            )
        with _errors_as_raised():
            self._env.step()

    async def run_alone(self) -> None:
        while not self.ended():
            await asyncio.sleep(max(self.wait_s(), 0.0))
            self.step_due()

    async def run_with(self, inbox: asyncio.Queue[Message]) -> None:
        getter = asyncio.create_task(inbox.get())
        try:
            while not self.ended():
                # One getter lives across waits: a cancelled get could lose the message it was just handed.
                await asyncio.wait({getter}, timeout=max(self.wait_s(), 0.0))
                if getter.done():
                    message, getter = getter.result(), asyncio.create_task(inbox.get())
                    self.take(message)
                self.step_due()
        finally:
            if not getter.cancel():
                inbox.put_nowait(getter.result())


# --- engine time ------------------------------------------------------------------------------------------------------

US_PER_S = 1_000_000
PPM = 1_000_000


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def utc_now_us() -> int:
    """The wall clock [microseconds since 1970, UTC]."""
    return time.time_ns() // 1000


class EngineClock:
    """Engine time [microseconds since 1970, UTC] beside the monotonic clock: it never jumps and never goes back.

    It stands still until `start`.

    Parameters
    ----------
    engine_us
        Engine time until then.
    factor_ppm
        Millionths of an engine second that pass per second of the wall clock; more than 0.
    """

    def __init__(self, engine_us: int, factor_ppm: int = PPM) -> None:
        if factor_ppm <= 0:
            raise ValueError(f"the speed factor must be positive, not {factor_ppm} millionths")
        self._engine_us = engine_us
        self._factor_ppm = factor_ppm
        self._origin_ns: int | None = None

    def start(self, engine_us: int) -> None:
        """Let time run from ``engine_us`` on; ValueError if that lies in the past."""
        if engine_us < self():
            raise ValueError(f"engine time would go back from {self()} to {engine_us}")
        self._engine_us = engine_us
        self._origin_ns = time.monotonic_ns()

    def __call__(self) -> int:
        """Engine time now."""
        if self._origin_ns is None:
            return self._engine_us
        return self._engine_us + (time.monotonic_ns() - self._origin_ns) * self._factor_ppm // (1000 * PPM)

    @property
    def speed(self) -> float:
        """Engine seconds per second of the wall clock, once it has started."""
        return self._factor_ppm / PPM

    def wall_s(self, engine_us: int) -> float:
        """How many seconds of the wall clock ``engine_us`` of engine time take."""
        return engine_us / US_PER_S * PPM / self._factor_ppm

    async def until(self, at_us: int) -> int:
        """Wait for a moment of engine time; returns how late it is then, in engine microseconds."""
        while (left := at_us - self()) > 0:  # noqa: ASYNC110 - a coarse timer may wake a little early
            await asyncio.sleep(self.wall_s(left))
        return -left


class SteppedClock:
    """Engine time that stands still until somebody waits: then it is as late as that. For runs as fast as they go."""

    def __init__(self, engine_us: int) -> None:
        self._engine_us = engine_us

    def __call__(self) -> int:
        """Engine time now."""
        return self._engine_us

    def wall_s(self, engine_us: int) -> float:
        """No time of the wall clock passes."""
        return 0.0

    async def until(self, at_us: int) -> int:
        """Go on to a moment of engine time, at once; others get their turn first."""
        await asyncio.sleep(0)
        self._engine_us = max(self._engine_us, at_us)
        return self._engine_us - at_us
