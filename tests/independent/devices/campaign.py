"""Guardians killed at random: ``python -m tests.independent.devices.campaign [--kills 50] [--timer 2] [--seed 1]``.

Each time a guardian is armed and holds a limit for a lease; then it gets SIGKILL (one in five times SIGSTOP): some
time after the lease, or with one certain frame of an order on the wire. mbpoll watches the power the whole time: it has
to be at the safe value within the timer, the lateness on the device's record, and one second. Afterwards the journal
has to verify and to hold every frame that was seen. Prints a table; the exit code is 1 if anything was not as promised.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.independent.devices.chain import (
    GRACE_S,
    SAFE_W,
    TOLERANCE_W,
    Bench,
    Guardian,
    bench,
    commission,
    disorder,
    recorded_lateness_s,
)
from tests.independent.devices.running import peerwatt
from tests.independent.devices.tap import WRITES, WireFrame
from tests.independent.devices.wire_and_journal import differences, last_run, records


@dataclass
class Death:
    """What one kill led to."""

    how: str
    limit_w: int
    late_s: float
    allowed_s: float
    seen_hz: float
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Was every promise kept?"""
        return not self.faults and self.late_s <= self.allowed_s


def lower(guardian: Guardian, number: signal.Signals) -> float:
    """Kill or stop all of the guardian; the moment."""
    os.killpg(guardian.pid, number)
    return time.monotonic()


def frame_trigger(
    guardian: Guardian, number: signal.Signals, nth: int
) -> tuple[Callable[[WireFrame], None], list[float]]:
    """For the go-between: kill the guardian with its nth writing frame from now on the wire."""
    count, moments = itertools.count(1), list[float]()

    def look(frame: WireFrame) -> None:
        if frame.is_request and frame.function in WRITES and next(count) == nth:
            moments.append(lower(guardian, number))

    return look, moments


def one_death(table: Bench, guardian: Guardian, chance: random.Random, timer_s: int, lateness_s: float) -> Death:
    """Start, arm, lease, kill, watch."""
    number = signal.SIGSTOP if chance.random() < 0.2 else signal.SIGKILL
    limit_w = chance.choice([chance.randrange(200, 2_500, 10), chance.randrange(3_500, 7_900, 10)])
    first = len(table.tap.frames)
    guardian.start()
    with guardian.session() as session:
        guardian.arm(session)
        at_frame = chance.random() < 0.5
        if at_frame:
            nth = chance.randint(1, 8)
            table.tap.on_frame, moments = frame_trigger(guardian, number, nth)
            how = f"{number.name} at frame {nth}"
            session.lease(limit_w)
            end = time.monotonic() + 10
            while not moments and time.monotonic() < end:
                time.sleep(0.01)
            died = moments[0] if moments else lower(guardian, number)
        else:
            session.lease(limit_w)
            wait_s = chance.uniform(0, 2.5 * timer_s)
            how = f"{number.name} after {wait_s:.2f} s"
            time.sleep(wait_s)
            died = lower(guardian, number)
        table.tap.on_frame = None
        allowed_s = timer_s + lateness_s + GRACE_S
        late_s = table.late_s(died, allowed_s + 1.5)
        death = Death(how, limit_w, late_s, allowed_s, table.power.rate_hz(died, died + allowed_s))
        death.faults += after_death(table, died)
        guardian.kill()
    death.faults += audit(table, guardian, first, timer_s)
    done = peerwatt("journal", "verify", str(guardian.journal))
    if done.returncode:
        death.faults.append(f"journal verify: {done.stdout} {done.stderr}".strip())
    return death


def after_death(table: Bench, died: float) -> list[str]:
    """Frames of a dead guardian, and registers that are not those of the safe value."""
    faults = [f"frame after death: {f.raw.hex()}" for f in table.tap.writes() if f.at > died + 0.1]
    enable, limit, fallback, _, _ = table.limit_registers()
    if enable != 1 or limit != fallback:
        faults.append(f"registers: enable {enable}, limit {limit}, fallback {fallback}")
    if abs(table.now() - SAFE_W) > TOLERANCE_W:
        faults.append(f"{table.now()} W in the end")
    return faults


def audit(table: Bench, guardian: Guardian, first: int, timer_s: int) -> list[str]:
    """The order of frames since number `first`, and the journal of the last run against them."""
    table.tap.settle()
    new = table.tap.frames[first:]
    faults = list[str]()
    for connection in {frame.connection for frame in new}:
        faults += disorder([f for f in new if f.connection == connection], table.models[704], timer_s)
    seen = [frame for frame in new if frame.is_request and frame.function in WRITES]
    return faults + differences(last_run(records(guardian.journal)), seen)


def run(kills: int, timer_s: int, seed: int, folder: Path, say: Callable[[str], None]) -> list[Death]:
    """The whole campaign on one emulator, one record and one site."""
    chance = random.Random(seed)
    deaths = list[Death]()
    with bench(folder) as table:
        code, said = commission(table.address, folder / "records", timer_s=timer_s)
        assert code == 0, said
        lateness_s = recorded_lateness_s(folder / "records", timer_s)
        say(f"timer {timer_s} s, lateness on record {lateness_s:.2f} s, safe value {SAFE_W} W")
        guardian = Guardian(folder / "site", table.address, folder / "records", timer_s=timer_s)
        for i in range(kills):
            try:
                deaths.append(one_death(table, guardian, chance, timer_s, lateness_s))
            except (AssertionError, OSError) as error:
                deaths.append(Death("not come so far", 0, 0.0, 0.0, 0.0, [f"{type(error).__name__}: {error}"]))
            finally:
                guardian.kill()
                table.tap.on_frame = None
            d = deaths[-1]
            said = "; ".join(d.faults[:5])
            say(
                f"{i + 1:3d} {'ok ' if d.ok else 'BAD'} {d.how:22s} limit {d.limit_w:5d} W: safe after"
                f" {d.late_s:5.2f} s (allowed {d.allowed_s:.2f}), watched at {d.seen_hz:.1f} Hz {said}"
            )
    return deaths


def say(line: str) -> None:
    """To the terminal, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--timer", type=int, default=2, help="[s]")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        deaths = run(args.kills, args.timer, args.seed, Path(folder), say)
    worst = max((death.late_s for death in deaths), default=0.0)
    bad = sum(not death.ok for death in deaths)
    say(f"{len(deaths)} killed, {bad} not as promised, slowest {worst:.2f} s")
    return 1 if bad or threading.active_count() > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
