"""A battery in real time without a socket: it does what it is told, counts exactly, and fails to be read on demand."""

from __future__ import annotations

from collections.abc import Mapping

from core import DeviceError, Quality, Reading


class PerfectPort:
    """A battery that does what it is told and counts exactly; ``failing`` says what is wrong with a reading."""

    def __init__(self, failing: Mapping[int, Quality | None], hours: float = 0.5) -> None:
        self.reads = -2  # the one that opens, and the one that begins the run
        self.held: list[tuple[str, float, float]] = []
        self.refuse = False
        self._failing = failing
        self._hours = hours
        self._drawn = 10_000.0
        self._fed = 500.0
        self.age_s = 0.0
        self.jump: dict[int, float] = {}  # to which reading its counter of energy drawn is set anew

    def measure(self) -> Mapping[str, Reading]:
        slot, self.reads = self.reads, self.reads + 1
        if slot >= 0 and self.held:
            energy = self.held[-1][1] * self._hours
            self._drawn += max(energy, 0.0)
            self._fed += max(-energy, 0.0)
        self._drawn = self.jump.get(slot, self._drawn)
        quality = self._failing.get(slot, Quality.GOOD)
        if quality is None:
            raise DeviceError("the line is cut", local=False)
        bad = quality is not Quality.GOOD
        at_s = self.now_s() - self.age_s
        without = quality in (Quality.COMM_FAIL, Quality.NOT_IMPLEMENTED)
        return {
            name: Reading(
                None if bad and without else value, quality, at_s, at_s, slot, "as the test says" if bad else ""
            )
            for name, value in (("imported_wh", self._drawn), ("exported_wh", self._fed))
        }

    def now_s(self) -> float:
        return (self.reads + 1) * self._hours * 3600.0

    def hold(self, control: str, value: float, expires_s: float) -> None:
        if self.refuse:
            raise DeviceError("not-armed: bench-1 is in observe", local=False)
        self.held.append((control, value, expires_s))

    def release(self, control: str) -> None:
        raise AssertionError("a battery is never released by the plant")

    def shine(self, available_w: float) -> None:
        raise AssertionError("a battery has no sun")

    def close(self) -> None:
        pass
