"""An emulated switch between a site and the grid, with a feedback contact and voltages on both sides.

==========  ======  ========  =====================================================================
register    type    access    meaning
==========  ======  ========  =====================================================================
0           uint16  write     command: 1 closed, 0 open; other values are refused (exception 3)
1           uint16  read      feedback contact: 1 closed, 0 open
2           uint16  read      voltage on the grid's side, mean of the phases [0.1 V]
3           uint16  read      voltage on the site's side [0.1 V]
4           uint16  read      frequency of the grid [0.01 Hz], 0 without one
5           uint16  read      operations since it was made
6-9         ASCII   read      ``PWSWITCH``: this map
==========  ======  ========  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hardware.emulator.device_port import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, Refusal
from hardware.emulator.faults import FaultBoard
from hardware.emulator.surroundings import NOMINAL_V, Surroundings

COMMAND, FEEDBACK, GRID_V, SITE_V, GRID_HZ, OPERATIONS, MARK = range(7)
END = 10
MARK_TEXT = "PWSWITCH"

_READ_HOLDING, _READ_INPUT = 3, 4
_WRITES = (6, 16)


class GridSwitch:
    """A switch; its site asks ``closed``, and tells both voltages through ``grid`` and ``site``.

    Parameters
    ----------
    unit
        Modbus unit.
    board
        Its faults: ``switch-welded`` and ``breaker-contradicts`` of the catalogue.
    clock
        Device time [s].
    operate_s
        How long it takes to move.
    """

    def __init__(self, unit: int, board: FaultBoard, clock: Callable[[], float], operate_s: float = 0.06) -> None:
        self.unit = unit
        self.board = board
        self.grid = Surroundings()
        self.site = Surroundings()
        self._clock = clock
        self._operate_s = operate_s
        self._commanded = True
        self._was = True
        self._moves_at_s = 0.0
        self._operations = 0

    @property
    def closed(self) -> bool:
        """Whether current can flow now."""
        now_s = self._clock()
        welded = self.board.lasting("switch-welded", now_s)
        if welded is not None:
            return welded.word("stuck") == "closed"
        return self._commanded if now_s >= self._moves_at_s else self._was

    def online(self) -> bool:
        """Always."""
        return True

    def read(self, function: int, address: int, count: int) -> list[int]:
        """Registers from ``address``. Raises Refusal."""
        if function not in (_READ_HOLDING, _READ_INPUT):
            raise Refusal(ILLEGAL_FUNCTION)
        if address < 0 or address + count > END:
            raise Refusal(ILLEGAL_ADDRESS)
        return self._registers()[address : address + count]

    def write(self, function: int, address: int, words: Sequence[int]) -> None:
        """Command it. Raises Refusal."""
        if function not in _WRITES:
            raise Refusal(ILLEGAL_FUNCTION)
        if address != COMMAND or len(words) != 1:
            raise Refusal(ILLEGAL_ADDRESS)
        if words[0] not in (0, 1):
            raise Refusal(ILLEGAL_VALUE)
        wanted = words[0] == 1
        if wanted != self._commanded:
            self._was = self.closed
            self._commanded = wanted
            self._moves_at_s = self._clock() + self._operate_s
            self._operations += 1

    def _registers(self) -> list[int]:
        feedback = self.closed
        if self.board.lasting("breaker-contradicts", self._clock()) is not None:
            feedback = not feedback
        grid_v = self.grid.mean_v_pu * NOMINAL_V if self.grid.grid_present else 0.0
        site_v = self.site.mean_v_pu * NOMINAL_V if self.site.grid_present else 0.0
        hz = self.grid.hz if self.grid.grid_present else 0.0
        values = [int(self._commanded), int(feedback), round(10 * grid_v), round(10 * site_v), round(100 * hz)]
        text = MARK_TEXT.encode("ascii")
        marks = [int.from_bytes(text[i : i + 2], "big") for i in range(0, len(text), 2)]
        return [*values, self._operations % 65536, *marks]
