"""A bench for tests of emulated devices: a virtual clock, points by name, reads and writes as a client does them."""

from __future__ import annotations

from typing import Any

from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device


class Bench:
    def __init__(self, kind: str = "hybrid", **settings: Any) -> None:
        self.now = 1000.0
        settings = {
            "noise": 0.0,
            **({"effect_s": 0.0} if kind in {"hybrid", "inverter", "battery"} else {}),
            **settings,
        }
        self.device: EmulatedDevice = build_device(kind, clock=lambda: self.now, **settings)
        self.block = self.device.holding
        self.board = self.device.board
        self.around = self.device.around

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.device.advance_to(self.now)

    def words(self, path: str) -> list[int]:
        """Registers of a point as a client reads them, at the place that the device's own map gives them."""
        for function, block in self.device.tables.items():
            if path in block:
                return self.device.read(function, block.address(path), block.cells[path].size)
        raise KeyError(path)

    def raw(self, path: str) -> int:
        number = 0
        for word in self.words(path):
            number = number << 16 | word
        return number

    def get(self, path: str) -> float:
        """Value of a point as a client reads it, scaled by the device's own factor."""
        block = next(block for block in self.device.tables.values() if path in block)
        value = block.value_of(block.cells[path], self.raw(path))
        assert value is not None, f"{path} is not implemented"
        return value

    def set(self, *values: tuple[str, float]) -> None:
        """Write points one after the other, each in a request of its own."""
        for path, value in values:
            cell = self.block.cells[path]
            number = self.block.encoded(cell, value)
            words = [(number >> (16 * (cell.size - 1 - i))) & 0xFFFF for i in range(cell.size)]
            self.device.write(6 if cell.size == 1 else 16, self.block.address(path), words)

    def limit(self, percent: float, timer_s: int = 0) -> None:
        """Limit the output by model 123, in the order timer, value, enable."""
        self.set(("123.WMaxLimPct_RvrtTms", timer_s), ("123.WMaxLimPct", percent), ("123.WMaxLim_Ena", 1))

    def power(self, watts: float, timer_s: int = 0) -> None:
        """Set the output by model 704, > 0 feeds in, in the order timer, value, enable."""
        self.set(("704.WSetRvrtTms", timer_s), ("704.WSet", watts), ("704.WSetEna", 1))

    @property
    def w(self) -> float:
        return self.get("103.W")
