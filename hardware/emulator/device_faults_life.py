"""A device's life: it reboots, sleeps, trips and comes back (faults of group life that take time)."""

from __future__ import annotations

import math

from hardware.emulator.faults import FaultBoard
from hardware.emulator.surroundings import Surroundings

NIGHT = 0.005
"""Irradiance below which a device that sleeps at night is asleep."""


class Life:
    """Whether a device is up, tripped or asleep. Seconds are the device's own time.

    Parameters
    ----------
    board, around
        Its faults and what is around it.
    service_delay_s
        How long it waits before it feeds in again when the grid has come back.
    """

    def __init__(self, board: FaultBoard, around: Surroundings, service_delay_s: float) -> None:
        self._board = board
        self._around = around
        self.service_delay_s = service_delay_s
        self._played: set[int] = set()
        self._off_until = -math.inf
        self._partial_until = -math.inf
        self._partial_models = 1
        self._trip_until = -math.inf
        self._grid_was = True
        self._service_from = -math.inf
        self._asleep = False

    def begin_reboot(self, now_s: float, off_s: float) -> None:
        """Switch it off for ``off_s`` seconds; `step` says when it is back."""
        self._off_until = now_s + off_s

    def step(self, now_s: float) -> bool:
        """Look at faults and grid; True at the moment at which a reboot ends."""
        ended = -math.inf < self._off_until <= now_s
        if ended:
            if fault := self._board.strike("slow-boot", now_s):
                self._partial_until = self._off_until + fault.number("partial_s")
                self._partial_models = fault.whole("models")
            self._off_until = -math.inf
        if not self._board.quiet:
            for kind in ("reboot", "trip"):
                fault = self._board.lasting(kind, now_s)
                if fault is not None and fault.id not in self._played:
                    self._played.add(fault.id)
                    if kind == "reboot":
                        self.begin_reboot(now_s, fault.number("off_s"))
                    else:
                        self._trip_until = now_s + fault.number("return_s")
        sleepy = self._around.irradiance < NIGHT and self._board.standing("night-sleep", now_s) is not None
        self._asleep = sleepy and self._board.lasting("night-sleep", now_s) is not None
        if self._around.grid_present and not self._grid_was:
            self._service_from = now_s + self.service_delay_s
        self._grid_was = self._around.grid_present
        return ended

    def next_in(self, now_s: float) -> float:
        """Seconds until something changes by itself."""
        times = (self._off_until, self._trip_until, self._partial_until, self._service_from)
        return min((at - now_s for at in times if at > now_s), default=math.inf)

    def up(self, now_s: float) -> bool:
        """Whether it answers at all."""
        return now_s >= self._off_until and not self._asleep

    def tripped(self, now_s: float) -> bool:
        """Whether it has tripped."""
        return now_s < self._trip_until

    def waiting(self, now_s: float) -> bool:
        """Whether it waits after the grid came back."""
        return now_s < self._service_from

    def generating(self, now_s: float) -> bool:
        """Whether it may exchange power."""
        return self.up(now_s) and not self.tripped(now_s) and not self.waiting(now_s)

    def partial_models(self, now_s: float) -> int | None:
        """How many models are there while it boots slowly; None: all."""
        return self._partial_models if now_s < self._partial_until else None
