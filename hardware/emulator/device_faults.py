"""What clients see of a device's registers, with the faults of group data: `FaultyWords`.

The device's own registers stay true; faults are laid over a copy when a client reads. A fault strikes, and is logged,
only in a read that touches the points it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hardware.emulator.faults import Fault, FaultBoard
from hardware.emulator.image import NO_FACTOR, Cell, RegisterBlock, absent

_MEASURING = frozenset({101, 102, 103, 111, 112, 113, 122, 160, 201, 202, 203, 204, 701, 713, 714, 802})
_NOT_MEASURED = frozenset({"ID", "L", "N", "NPrt", "Hb", "CtrlHb"})
_STATES = {"St": 0, "InvSt": -1, "DCSt": 0, "State": 0, "Sta": 0}
_SOC = frozenset({"SoC", "ChaState"})
_HEARTBEATS = frozenset({"DERHb", "Hb"})


def measured(cell: Cell) -> bool:
    """Whether a point is a measurement: on a plain map everything that cannot be written and is not identity."""
    if cell.writable or cell.kind in {"sunssf", "pad", "string", "count"}:
        return False
    model, dot, name = cell.path.partition(".")
    if dot and model.isdigit():
        return int(model) in _MEASURING and name not in _NOT_MEASURED
    return not cell.path.startswith("id_")


def _signed(cell: Cell, number: int) -> int:
    if cell.kind in {"int16", "int32", "int64"} and number >> (16 * cell.size - 1):
        return number - (1 << (16 * cell.size))
    return number


def _only(fault: Fault) -> Callable[[Fault], bool]:
    return lambda other: other.id == fault.id


class FaultyWords:
    """A client's view of one register block.

    Parameters
    ----------
    block
        The device's true registers.
    board
        Its faults.
    """

    def __init__(self, block: RegisterBlock, board: FaultBoard) -> None:
        self._block = block
        self._board = board
        self._found: dict[tuple[str, str], tuple[Cell, ...]] = {}
        self._first_s: dict[int, float] = {}
        self._kept: dict[int, dict[str, int]] = {}  # fault -> registers when it was first felt
        self._reads: dict[int, int] = {}

    def words(self, first: int, count: int, now_s: float) -> list[int]:
        """All words of the block as a client sees them that reads ``count`` from place ``first``."""
        words = list(self._block.words)
        for kind, play in self._plays().items():
            for fault in self._board.all_standing(kind, now_s):
                self._first_s.setdefault(fault.id, now_s)
                cells = [c for c in self._cells(fault) if c.at < first + count and first < c.at + c.size]
                self._remember(fault)
                if cells and self._board.strike(kind, now_s, _only(fault), address=first):
                    play(words, cells, fault, now_s)
        shift = self._board.strike("register-shift", now_s, address=first)
        if shift is not None:
            by = shift.whole("by")
            return words[by:] + [0] * by if by > 0 else [0] * -by + words[: len(words) + by]
        return words

    def _plays(self) -> Mapping[str, Callable[[list[int], list[Cell], Fault, float], None]]:
        return {
            "frozen": self._old,
            "soc-stuck": self._old,
            "stale-heartbeat": self._old,
            "counter-reset": self._reset,
            "counter-wrap": self._wrap,
            "drift": self._drift,
            "spike": self._spike,
            "soc-jump": self._jump,
            "factor-of-ten": self._power,
            "sign-flip": self._flip,
            "status-lies": self._lie,
            "moving-factor": self._move,
            "wrong-factor": self._wrong_factor,
            "unimplemented-factor": self._no_factor,
            "sentinel": self._absent,
            "nan-float": self._absent,
            "torn-read": self._torn,
            "word-swap": self._swap,
        }

    # --- which points ---------------------------------------------------------------------------------------------

    def _cells(self, fault: Fault) -> tuple[Cell, ...]:
        point = str(fault.params.get("point", ""))
        key = fault.kind, point
        if key not in self._found:
            self._found[key] = tuple(self._matching(fault.kind, point))
        return self._found[key]

    def _matching(self, kind: str, point: str) -> Iterable[Cell]:
        wanted = point.replace(":", ".")
        for cell in self._block:
            name = cell.path.rpartition(".")[2]
            model = cell.path.partition(".")[0]
            named = cell.path == wanted or (not wanted.partition(".")[2] and name == wanted) or wanted == ""
            if kind in {"frozen", "word-swap"}:
                hit = measured(cell) and named and (kind == "frozen" or cell.size > 1)
            elif kind in {"soc-stuck", "soc-jump"}:
                hit = name in _SOC
            elif kind == "stale-heartbeat":
                hit = name in _HEARTBEATS
            elif kind == "status-lies":
                hit = name in _STATES and measured(cell) and (name != "St" or model != "701")
            elif kind == "nan-float":
                hit = cell.kind == "float32" and named
            elif kind == "torn-read":
                hit = cell.size > 1 and cell.kind != "string" and named
            else:
                hit = named
            if hit:
                yield cell

    def _remember(self, fault: Fault) -> None:
        if fault.id not in self._kept:
            self._kept[fault.id] = {cell.path: self._block.unsigned(cell.path) for cell in self._cells(fault)}

    # --- what happens to them -------------------------------------------------------------------------------------

    @staticmethod
    def _now(words: list[int], cell: Cell) -> int:
        number = 0
        for word in words[cell.at : cell.at + cell.size]:
            number = number << 16 | word
        return number

    @staticmethod
    def _put(words: list[int], cell: Cell, number: int) -> None:
        for i in range(cell.size):
            words[cell.at + i] = (number >> (16 * (cell.size - 1 - i))) & 0xFFFF

    def _change(self, words: list[int], cell: Cell, change: Callable[[float], float]) -> None:
        value = self._block.value_of(cell, self._now(words, cell))
        if value is not None:
            self._put(words, cell, self._block.encoded(cell, change(value)))

    def _old(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._put(words, cell, self._kept[fault.id][cell.path])

    def _reset(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._put(words, cell, (self._now(words, cell) - self._kept[fault.id][cell.path]) % (1 << 16 * cell.size))

    def _wrap(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            gone = self._now(words, cell) - self._kept[fault.id][cell.path]
            self._put(words, cell, (gone - 3) % (1 << 16 * cell.size))

    def _drift(self, words: list[int], cells: list[Cell], fault: Fault, now_s: float) -> None:
        by = fault.number("per_s") * (now_s - self._first_s[fault.id])
        for cell in cells:
            self._change(words, cell, lambda value: value + by)

    def _spike(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._change(words, cell, lambda value: value + fault.number("by"))

    def _jump(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._change(words, cell, lambda value: min(max(value + 100.0 * fault.number("by"), 0.0), 100.0))

    def _power(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._change(words, cell, lambda value: value * 10.0 ** fault.whole("power"))

    def _flip(self, words: list[int], cells: list[Cell], _fault: Fault, _now_s: float) -> None:
        for cell in cells:
            if cell.kind == "float32":
                self._put(words, cell, self._now(words, cell) ^ 1 << 31)
            else:
                self._put(words, cell, -_signed(cell, self._now(words, cell)) % (1 << 16 * cell.size))

    def _lie(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            shift = _STATES[cell.path.rpartition(".")[2]]
            self._put(words, cell, max(0, fault.whole("state") + shift))

    def _move(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        reads = self._reads[fault.id] = self._reads.get(fault.id, 0) + 1
        if reads % 2:
            return
        by = fault.whole("by")
        for factor in cells:
            exponent = self._block.exponent(Cell("", 0, 1, "int16", factor_at=factor.at))
            if exponent is None:
                continue
            for cell in self._block:
                number = self._now(words, cell)
                if cell.factor_at == factor.at and number != absent(cell.kind, cell.size):
                    rescaled = round(_signed(cell, number) * 10.0**-by)
                    self._put(words, cell, rescaled % (1 << 16 * cell.size))
            words[factor.at] = (exponent + by) & 0xFFFF

    def _wrong_factor(self, words: list[int], cells: list[Cell], fault: Fault, _now_s: float) -> None:
        for cell in cells:
            if words[cell.at] != NO_FACTOR:
                words[cell.at] = (words[cell.at] + fault.whole("by")) & 0xFFFF

    def _no_factor(self, words: list[int], cells: list[Cell], _fault: Fault, _now_s: float) -> None:
        for cell in cells:
            words[cell.at] = NO_FACTOR

    def _absent(self, words: list[int], cells: list[Cell], _fault: Fault, _now_s: float) -> None:
        for cell in cells:
            self._put(words, cell, absent(cell.kind, cell.size))

    def _torn(self, words: list[int], cells: list[Cell], _fault: Fault, _now_s: float) -> None:
        """The high word is that of before the last carry into it (or of after the next one, before the first)."""
        for cell in cells:
            high = cell.at + cell.size - 2
            words[high] = words[high] - 1 if words[high] else 1

    def _swap(self, words: list[int], cells: list[Cell], _fault: Fault, _now_s: float) -> None:
        for cell in cells:
            words[cell.at : cell.at + cell.size] = reversed(words[cell.at : cell.at + cell.size])
