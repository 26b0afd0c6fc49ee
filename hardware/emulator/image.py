"""Registers of an emulated device: a block of 16-bit words in which every point has its place.

`RegisterBlock` is any map; `sunspec_image` builds the one of a SunSpec device from the published model definitions:
``SunS``, the models one behind the other, the end model. Points are named ``"123.WMaxLimPct"`` (model and point) or
``"160.module[0].DCW"``. The encoding here is the emulator's own, not the driver's: one does not hide the other's
errors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import DeviceError
from hardware.emulator.device_port import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Refusal
from hardware.sunspec.definitions import ModelLayout

END_MODEL = (0xFFFF, 0)
NO_FACTOR = 0x8000

_SIZES = {
    "int16": 1, "uint16": 1, "acc16": 1, "enum16": 1, "bitfield16": 1, "sunssf": 1, "count": 1, "pad": 1,
    "int32": 2, "uint32": 2, "acc32": 2, "enum32": 2, "bitfield32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "acc64": 4, "float64": 4, "bitfield64": 4,
}  # fmt: skip
_SIGNED = frozenset({"int16", "int32", "int64", "sunssf"})
_ABSENT = {
    "int16": 1 << 15, "int32": 1 << 31, "int64": 1 << 63, "sunssf": NO_FACTOR, "pad": 0x8000, "float32": 0x7FC00000,
    "float64": 0x7FF8 << 48, "acc16": 0, "acc32": 0, "acc64": 0, "string": 0, "count": 0,
}  # fmt: skip


def absent(kind: str, size: int) -> int:
    """What the registers of a point hold that a device does not have, as one unsigned number, high word first."""
    found = _ABSENT.get(kind)
    return (1 << (16 * size)) - 1 if found is None else found


@dataclass(frozen=True, slots=True)
class Cell:
    """A point in a block.

    Parameters
    ----------
    path
        Its name.
    at
        First register, counted from the start of the block.
    size
        Registers.
    kind
        SunSpec type.
    scale
        Fixed power of ten: value = register x 10 ** scale.
    factor_at
        Place of the register that holds its power of ten; None without one.
    writable
        Whether a client may write it.
    symbols
        Values of an enumeration, empty otherwise: no other value is accepted.
    low, high
        What a client may write, in the unit of the value; infinite by default.
    """

    path: str
    at: int
    size: int
    kind: str
    scale: int = 0
    factor_at: int | None = None
    writable: bool = False
    symbols: frozenset[int] = frozenset()
    low: float = -math.inf
    high: float = math.inf


class RegisterBlock:
    """Words and the points in them. Values are numbers in their unit (scaled), strings, or None: not implemented.

    Parameters
    ----------
    words
        Initial registers, changed in place.
    cells
        Every point, by name.
    base
        Modbus address of the first word.
    """

    def __init__(self, words: list[int], cells: Mapping[str, Cell], base: int) -> None:
        self.words = words
        self.cells = dict(cells)
        self.base = base
        self._starts = {cell.at: cell for cell in self.cells.values()}

    def __contains__(self, path: object) -> bool:
        return path in self.cells

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells.values())

    def address(self, path: str) -> int:
        """Modbus address of the first register of a point."""
        return self.base + self.cells[path].at

    # --- raw registers --------------------------------------------------------------------------------------------

    def unsigned(self, path: str) -> int:
        """Registers of a point as one unsigned number, high word first."""
        cell = self.cells[path]
        return _joined(self.words[cell.at : cell.at + cell.size])

    def set_unsigned(self, path: str, number: int) -> None:
        """Set the registers of a point, high word first; what is too large wraps (counters do)."""
        self.put(self.cells[path], number)

    def put(self, cell: Cell, number: int) -> None:
        """`set_unsigned` for a cell."""
        at, size, words = cell.at, cell.size, self.words
        if size == 1:
            words[at] = number & 0xFFFF
            return
        for i in range(size):
            words[at + i] = (number >> (16 * (size - 1 - i))) & 0xFFFF

    # --- values ---------------------------------------------------------------------------------------------------

    def exponent(self, cell: Cell) -> int | None:
        """Power of ten of a point; None if the register that holds it says that there is none."""
        if cell.factor_at is None:
            return cell.scale
        word = self.words[cell.factor_at]
        return None if word == NO_FACTOR else word - 0x10000 if word >= 0x8000 else word

    def get(self, path: str) -> float | None:
        """Value of a point in its unit; None where registers say *not implemented* (in words or in the factor)."""
        return self.value_of(self.cells[path], self.unsigned(path))

    def value_of(self, cell: Cell, number: int) -> float | None:
        """What a point would say if its registers held ``number``."""
        exponent = self.exponent(cell)
        if exponent is None or (number == absent(cell.kind, cell.size) and not cell.kind.startswith("acc")):
            return None
        if cell.kind == "float32":
            found: float = struct.unpack(">f", number.to_bytes(4))[0]
            return None if math.isnan(found) else found
        if cell.kind in _SIGNED and number >> (16 * cell.size - 1):
            number -= 1 << (16 * cell.size)
        return number * 10.0**exponent if exponent else number

    def set(self, path: str, value: float | None) -> None:
        """Set a point to a value in its unit: rounded; held at the largest that fits; counters wrap; None is absent."""
        cell = self.cells.get(path)
        if cell is not None:
            self.put(cell, self.encoded(cell, value))

    def encoded(self, cell: Cell, value: float | None) -> int:
        """The registers of ``value`` as one unsigned number."""
        bits = 16 * cell.size
        kind = cell.kind
        if value is None or value != value:
            return absent(kind, cell.size)
        if kind == "float32":
            return int.from_bytes(struct.pack(">f", value))
        exponent = self.exponent(cell)
        if exponent is None:
            return absent(kind, cell.size)
        number = round(value if not exponent else value * 10.0**-exponent)
        if kind.startswith("acc"):
            return number % (1 << bits)
        if kind in _SIGNED:
            top = (1 << (bits - 1)) - 1
            return min(max(number, -top), top) % (1 << bits)
        return min(max(number, 0), (1 << bits) - 2)

    def text(self, path: str) -> str:
        """A string point."""
        cell = self.cells[path]
        return b"".join(w.to_bytes(2) for w in self.words[cell.at : cell.at + cell.size]).rstrip(b"\0").decode()

    def set_text(self, path: str, text: str) -> None:
        """Set a string point; what does not fit is cut off."""
        cell = self.cells[path]
        padded = text.encode("ascii", "replace")[: 2 * cell.size].ljust(2 * cell.size, b"\0")
        self.words[cell.at : cell.at + cell.size] = [
            int.from_bytes(padded[i : i + 2]) for i in range(0, len(padded), 2)
        ]

    # --- what clients do ------------------------------------------------------------------------------------------

    def read(self, address: int, count: int) -> list[int]:
        """Registers as a client reads them.

        Raises
        ------
        Refusal
            2, if one of them is not there.
        """
        first = address - self.base
        if first < 0 or count < 1 or first + count > len(self.words):
            raise Refusal(ILLEGAL_ADDRESS)
        return self.words[first : first + count]

    def writes(self, address: int, words: Sequence[int]) -> list[tuple[Cell, int]]:
        """The points that a client's write would change, in register order, with their new registers. Changes nothing.

        Raises
        ------
        Refusal
            2, if a register is not there, is read-only, or part of a longer point is left out; 3, if a value is not
            accepted: not of the enumeration, *not implemented*, or out of range.
        """
        found: list[tuple[Cell, int]] = []
        at, end = address - self.base, address - self.base + len(words)
        first = at
        while at < end:
            cell = self._starts.get(at)
            if cell is None or not cell.writable or at + cell.size > end:
                raise Refusal(ILLEGAL_ADDRESS)
            number = _joined(words[at - first : at - first + cell.size])
            self._check(cell, number)
            found.append((cell, number))
            at += cell.size
        return found

    def _check(self, cell: Cell, number: int) -> None:
        if cell.kind == "string":
            return
        value = self.value_of(cell, number)
        if value is None or (cell.symbols and number not in cell.symbols and not cell.kind.startswith("bitfield")):
            raise Refusal(ILLEGAL_VALUE)
        if not cell.low <= value <= cell.high:
            raise Refusal(ILLEGAL_VALUE)


def _joined(words: Sequence[int]) -> int:
    number = 0
    for word in words:
        number = number << 16 | word
    return number


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model in a device: its number, the points that count repeated groups, and repeats of groups without one."""

    model: int
    counts: Mapping[str, int] | None = None
    repeats: int = 0


LIMITS: Mapping[str, tuple[float, float]] = {
    "123.WMaxLimPct": (0.0, 100.0),
    "123.OutPFSet": (-1.0, 1.0),
    "123.VArWMaxPct": (-100.0, 100.0),
    "123.VArMaxPct": (-100.0, 100.0),
    "123.VArAvalPct": (-100.0, 100.0),
    "124.InWRte": (-100.0, 100.0),
    "124.OutWRte": (-100.0, 100.0),
    "124.MinRsvPct": (0.0, 100.0),
    "124.StorCtl_Mod": (0.0, 3.0),
    "704.WMaxLimPct": (0.0, 100.0),
    "704.WMaxLimPctRvrt": (0.0, 100.0),
    "704.WSetPct": (-100.0, 100.0),
    "704.WSetPctRvrt": (-100.0, 100.0),
    "704.VarSetPct": (-100.0, 100.0),
    "704.VarSetPctRvrt": (-100.0, 100.0),
}
"""What clients may write, in the unit of the point; everything else that its registers can hold is accepted."""


_ACTIVE_CURVE = ("Crv[0].", "Ctl[0].")
"""The first curve of a curve model is the active one: it is changed by adopting another."""


def sunspec_image(choices: Sequence[ModelChoice], base: int = 40000) -> RegisterBlock:
    """The registers of a SunSpec device, every point *not implemented* except ids, lengths and counts.

    Raises
    ------
    DeviceError
        Local: an unknown model, a model twice, or a missing count.
    """
    words = list(struct.unpack(">2H", b"SunS"))
    cells: dict[str, Cell] = {}
    for choice in choices:
        layout = ModelLayout.of(choice.model, choice.counts, repeats=choice.repeats)
        start = len(words)
        words.extend([0] * layout.words)
        for place in layout:
            path = f"{choice.model}.{place.path}"
            if path in cells:
                raise DeviceError(f"model {choice.model} is in the device twice", local=True)
            low, high = LIMITS.get(path, (-math.inf, math.inf))
            kind = place.type
            cells[path] = Cell(
                path=path,
                at=start + place.offset,
                size=place.size,
                kind=kind,
                scale=place.scale,
                factor_at=None if place.scale_offset is None else start + place.scale_offset,
                writable=place.definition.writable and not place.path.startswith(_ACTIVE_CURVE),
                symbols=frozenset(place.definition.symbols.values()) if kind.startswith("enum") else frozenset(),
                low=low,
                high=high,
            )
            number = absent(kind, place.size)
            for i in range(place.size):
                words[start + place.offset + i] = (number >> (16 * (place.size - 1 - i))) & 0xFFFF
        words[start : start + 2] = layout.start_words()
        for name, count in (choice.counts or {}).items():
            words[cells[f"{choice.model}.{name}"].at] = count
    words.extend(END_MODEL)
    return RegisterBlock(words, cells, base)


@dataclass(frozen=True, slots=True)
class PlainPoint:
    """A point of a register map that is not SunSpec's: ``kind`` as in SunSpec, value = register x 10 ** ``scale``."""

    name: str
    address: int
    kind: str
    scale: int = 0
    unit: str = ""
    writable: bool = False
    low: float = -math.inf
    high: float = math.inf
    meaning: str = ""


def points_markdown(points: Sequence[PlainPoint]) -> str:
    """A plain map as a Markdown table, for people: address, name, type, factor, unit, access, meaning."""
    lines = [
        "| Address | Point | Type | Factor | Unit | Access | Meaning |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for p in points:
        factor = f"{10.0**p.scale:g}" if p.scale else "1"
        access = "read, write" if p.writable else "read"
        lines.append(f"| {p.address} | `{p.name}` | {p.kind} | {factor} | {p.unit} | {access} | {p.meaning} |")
    return "\n".join(lines)


def plain_block(points: Sequence[PlainPoint], base: int = 0) -> RegisterBlock:
    """The registers of a plain map; those between points read as 0 and cannot be written.

    Raises
    ------
    DeviceError
        Local: two points share a register.
    """
    words = [0] * (max(point.address + _SIZES[point.kind] for point in points) - base)
    cells: dict[str, Cell] = {}
    taken: dict[int, str] = {}
    for point in points:
        size = _SIZES[point.kind]
        for register in range(point.address, point.address + size):
            if register in taken:
                raise DeviceError(f"{point.name} and {taken[register]} share register {register}", local=True)
            taken[register] = point.name
        cells[point.name] = Cell(
            path=point.name, at=point.address - base, size=size, kind=point.kind, scale=point.scale,
            writable=point.writable, low=point.low, high=point.high,
        )  # fmt: skip
    return RegisterBlock(words, cells, base)
