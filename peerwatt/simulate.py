"""The run's clock: one SimPy process that opens each window at its gate and closes it after delivery.

The same process runs in virtual time (``simulate``) and paced by the wall clock (``shadow``): only its driver differs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from peerwatt.cycle import SlotCycle
from peerwatt.messages import Closed, Window

if TYPE_CHECKING:
    import simpy

    from peerwatt.microgrid.islanding import Islanding

Sink = Callable[[Closed], None]

SIMULATION_WINDOW = 2688
"""Slots per window in virtual time (four weeks of quarter hours): memory stays flat, batches stay efficient."""


def windows(first: int, n_slots: int, length: int, islanding: Islanding | None = None) -> Iterator[Window]:
    """Cut slots ``first .. n_slots - 1`` into windows that end at multiples of ``length``, and at outages.

    A slot that an outage touches is a window of its own; asked for one by one, since an outage takes the time it takes.
    """
    while first < n_slots:
        window = Window(first, min((first // length + 1) * length, n_slots) - first)
        if islanding is not None:
            window = islanding.cut(window)
        yield window
        first += window.n


def slot_process(
    env: simpy.Environment, cycle: SlotCycle, sink: Sink, first: int, window_slots: int
) -> Generator[simpy.Event, Any, None]:
    """Drive ``cycle`` through every window from slot ``first``; simulated time is seconds since the run's start."""
    grid = cycle.system.grid
    for window in windows(first, grid.n, window_slots, cycle.islanding):
        gate_s = window.first * grid.length_s
        if gate_s > env.now:
            yield env.timeout(gate_s - env.now)
        opened = cycle.open(window)
        yield env.timeout(window.n * grid.length_s)
        done = cycle.close(window, opened)
        if done is not None:
            sink(done)
