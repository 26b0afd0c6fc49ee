"""The fault ``second-master``: somebody else writes a limit into the device from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hardware.emulator.device_port import Refusal

if TYPE_CHECKING:
    from hardware.emulator.inverter import DerDevice
    from hardware.emulator.site import EmulatedSite

_WRITE_MANY = 16
_LIMITS = (("704.WMaxLimPct", "704.WMaxLimPctEna"), ("123.WMaxLimPct", "123.WMaxLim_Ena"))


class SecondMaster:
    """Writes to one unit while the fault stands for it or for its site.

    It does what a careless energy manager would: writes value and enable of the limit, and no timer. Its requests reach
    the device as a client's do, but not over the wire: who has the port is not its concern.
    """

    def __init__(self, site: EmulatedSite, name: str, device: DerDevice) -> None:
        self._site = site
        self._name = name
        self._device = device
        self._next_s = 0.0

    def look(self) -> None:
        """Write, if it is time to; called with every tick."""
        now_s = self._site.now_s
        own, shared = self._device.board, self._site.board
        board = own if own.standing("second-master", now_s) is not None else shared
        if now_s < self._next_s or not self._device.online():
            return
        fault = board.strike("second-master", now_s, device=self._name)
        if fault is not None:
            self._next_s = now_s + fault.number("period_s")
            self._write(100.0 * fault.number("share"))

    def _write(self, percent: float) -> None:
        block = self._device.holding
        value, enable = next(pair for pair in _LIMITS if pair[0] in block)
        for path, wanted in ((value, percent), (enable, 1.0)):
            cell = block.cells[path]
            try:
                self._device.write(_WRITE_MANY, block.address(path), [block.encoded(cell, wanted)])
            except Refusal:
                return  # it meets the same refusals as anybody
