"""How registers hold values: types, sentinels, units. The vocabulary of `hardware.profile_models`."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import DeviceError
from hardware.driver import CONTROLS, READINGS


@dataclass(frozen=True, slots=True)
class RegisterType:
    """A numeric type: how many registers, its `struct` letter, and its usual "I have no such value"."""

    words: int
    letter: str
    low: float
    high: float
    sentinel: int | None

    @property
    def is_float(self) -> bool:
        """Whether it is an IEEE 754 number."""
        return self.letter in "fd"


def _whole(words: int, letter: str, *, signed: bool) -> RegisterType:
    bits = 16 * words
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return RegisterType(words, letter, low, high, low if signed else high)


_F32_MAX = struct.unpack(">f", bytes.fromhex("7f7fffff"))[0]

TYPES: Mapping[str, RegisterType] = {
    "u16": _whole(1, "H", signed=False),
    "i16": _whole(1, "h", signed=True),
    "u32": _whole(2, "I", signed=False),
    "i32": _whole(2, "i", signed=True),
    "u64": _whole(4, "Q", signed=False),
    "i64": _whole(4, "q", signed=True),
    "f32": RegisterType(2, "f", -_F32_MAX, _F32_MAX, None),
    "f64": RegisterType(4, "d", -math.inf, math.inf, None),
}
"""Numeric register types by name. A float says "not implemented" with NaN."""

UNITS: Mapping[str, tuple[str, float]] = {
    "W": ("W", 1.0),
    "kW": ("W", 1e3),
    "VA": ("VA", 1.0),
    "kVA": ("VA", 1e3),
    "var": ("var", 1.0),
    "kvar": ("var", 1e3),
    "V": ("V", 1.0),
    "mV": ("V", 1e-3),
    "A": ("A", 1.0),
    "mA": ("A", 1e-3),
    "Hz": ("Hz", 1.0),
    "mHz": ("Hz", 1e-3),
    "Wh": ("Wh", 1.0),
    "kWh": ("Wh", 1e3),
    "MWh": ("Wh", 1e6),
    "%": ("1", 0.01),
    "1": ("1", 1.0),
    "degC": ("degC", 1.0),
    "s": ("s", 1.0),
    "min": ("s", 60.0),
    "number": ("number", 1.0),
}
"""Units that a device may count in: the quantity, and how many of its standard units one is."""

_PLAIN = {
    "state", "connected", "alarms", "limit_enabled", "power_enabled", "vehicle", "shed", "heartbeat", "connect",
    "closed", "load_on", "source_mode",
}  # fmt: skip
_RATIOS = {"pf", "soc", "droop"}
_ENDS = {"w": "W", "va": "VA", "var": "var", "hz": "Hz", "v": "V", "a": "A", "wh": "Wh", "c": "degC", "s": "s"}


def unit_of(name: str) -> str | None:
    """The standard unit of a reading or control; None for names with ``x_``, whose unit is their author's.

    Raises
    ------
    KeyError
        If it is no name of either.
    """
    if name.startswith("x_"):
        return None
    if name not in READINGS and name not in CONTROLS:
        raise KeyError(name)
    if name in _PLAIN:
        return "number"
    if name in _RATIOS:
        return "1"
    parts = name.split("_")
    if parts[-1] in {"a", "b", "c"} and parts[0] in _ENDS and len(parts) == 2:
        return _ENDS[parts[0]]  # w_a, v_b, a_c: the letter is the phase
    return _ENDS[parts[-1]]


def to_words(kind: str, raw: float, *, low_first: bool) -> tuple[int, ...]:
    """The registers that hold ``raw``.

    Raises
    ------
    DeviceError
        Local, if it does not fit; nothing is ever wrapped.
    """
    of = TYPES[kind]
    if not math.isfinite(raw) or not of.low <= raw <= of.high or (not of.is_float and raw != int(raw)):
        raise DeviceError(f"{raw!r} does not fit a register of type {kind}; nothing was sent", local=True)
    data = struct.pack(f">{of.letter}", raw if of.is_float else int(raw))
    words = struct.unpack(f">{of.words}H", data)
    return tuple(reversed(words)) if low_first else tuple(words)


def to_number(kind: str, words: tuple[int, ...], *, low_first: bool) -> float | int:
    """What the registers hold, unscaled; may be NaN or infinite for floats."""
    of = TYPES[kind]
    ordered = tuple(reversed(words)) if low_first else words
    number: float | int = struct.unpack(f">{of.letter}", struct.pack(f">{of.words}H", *ordered))[0]
    return number


def to_text(words: tuple[int, ...]) -> str:
    """ASCII in registers, two characters each, without padding."""
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return data.split(b"\0")[0].decode("ascii", "replace").strip()
