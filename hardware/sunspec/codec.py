"""Every SunSpec type, from registers and into them.

Decoding never raises for what registers can hold: a sentinel (*not implemented*) is None, and so is what is no number
(NaN, infinity) or no power of ten (a scale factor outside -10 .. 10). Encoding raises for everything that the type
cannot hold or that would read back as a sentinel; nothing is wrapped, cut or rounded.

Sentinels as in the SunSpec Device Information Model Specification: the lowest number of signed integers, all ones of
unsigned ones, enumerations and bit fields, zero of accumulators and addresses, NaN of floats, NUL of strings. Values of
an accumulator therefore start at 1. Bit fields may use all bits but the highest.
"""

from __future__ import annotations

import ipaddress
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import DeviceError

Raw = int | float | str
"""What a point holds before its scale factor is applied."""

SCALE_SENTINEL = 0x8000
SCALE_MOST = 10
"""Scale factors are powers of ten from -10 to 10."""

_WORD = 0xFFFF


@dataclass(frozen=True, slots=True)
class IntegerType:
    """Integers in ``size`` registers, high word first.

    ``sentinel`` is the value (after the sign) that means *not implemented*, None if every value is one; ``low`` and
    ``high`` are what may be written.
    """

    size: int
    signed: bool
    sentinel: int | None
    low: int
    high: int


def _unsigned(size: int) -> IntegerType:
    top = (1 << 16 * size) - 1
    return IntegerType(size, False, top, 0, top - 1)


def _signed(size: int) -> IntegerType:
    half = 1 << (16 * size - 1)
    return IntegerType(size, True, -half, -half + 1, half - 1)


def _counting(size: int) -> IntegerType:
    return IntegerType(size, False, 0, 1, (1 << 16 * size) - 1)


def _bits(size: int) -> IntegerType:
    return IntegerType(size, False, (1 << 16 * size) - 1, 0, (1 << (16 * size - 1)) - 1)


INTEGERS: Mapping[str, IntegerType] = {
    "int16": _signed(1),
    "int32": _signed(2),
    "int64": _signed(4),
    "uint16": _unsigned(1),
    "uint32": _unsigned(2),
    "uint64": _unsigned(4),
    "enum16": _unsigned(1),
    "enum32": _unsigned(2),
    "count": _unsigned(1),
    "acc16": _counting(1),
    "acc32": _counting(2),
    "acc64": _counting(4),
    "bitfield16": _bits(1),
    "bitfield32": _bits(2),
    "bitfield64": _bits(4),
    "sunssf": IntegerType(1, True, -SCALE_SENTINEL, -SCALE_MOST, SCALE_MOST),
}
"""Types that hold integers."""

_FLOATS: Mapping[str, tuple[int, str]] = {"float32": (2, ">f"), "float64": (4, ">d")}
_ADDRESSES: Mapping[str, int] = {"ipaddr": 2, "ipv6addr": 8, "eui48": 4}

TYPES = frozenset(INTEGERS) | frozenset(_FLOATS) | frozenset(_ADDRESSES) | {"string", "pad"}
"""Every type that is understood."""


def _refused(what: str, value: object, why: str) -> DeviceError:
    return DeviceError(f"{what} = {value!r} {why}; nothing was sent", local=True)


def joined(words: Sequence[int]) -> int:
    """The unsigned integer in registers, high word first."""
    value = 0
    for word in words:
        value = value << 16 | word
    return value


def split(value: int, size: int) -> tuple[int, ...]:
    """An integer, negative ones in two's complement, as ``size`` registers; the caller has checked that it fits."""
    return tuple(value >> shift & _WORD for shift in range(16 * (size - 1), -1, -16))


def _to_bytes(words: Sequence[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def _to_words(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode_integer(kind: IntegerType, words: Sequence[int]) -> int | None:
    """The integer in ``kind.size`` registers, None for the sentinel."""
    value = joined(words)
    if kind.signed and value >> (16 * kind.size - 1):
        value -= 1 << 16 * kind.size
    return None if value == kind.sentinel else value


def decode_scale(word: int) -> int | None:
    """A scale factor's power of ten; None for the sentinel and for what is outside -10 .. 10."""
    power = word - 0x10000 if word & 0x8000 else word
    return power if -SCALE_MOST <= power <= SCALE_MOST else None


def decode(kind: str, words: Sequence[int]) -> Raw | None:
    """What registers hold, before scaling; None when not implemented. See the module.

    Raises
    ------
    DeviceError
        Local, if the type is unknown or the number of registers is not that of the type.
    """
    if kind == "sunssf":
        return decode_scale(_measured(kind, words, 1)[0])
    if (integer := INTEGERS.get(kind)) is not None:
        return decode_integer(integer, _measured(kind, words, integer.size))
    if kind in _FLOATS:
        size, form = _FLOATS[kind]
        number: float = struct.unpack(form, _to_bytes(_measured(kind, words, size)))[0]
        return number if math.isfinite(number) else None
    if kind == "string":
        # What is behind the first NUL is left-over of a longer text. Devices write Latin-1 and worse.
        text = _to_bytes(words).partition(b"\0")[0].decode("utf-8", errors="replace")
        return text.strip() or None
    if kind in _ADDRESSES:
        return _decode_address(kind, _to_bytes(_measured(kind, words, _ADDRESSES[kind])))
    if kind == "pad":
        return None
    raise DeviceError(f"SunSpec type {kind!r} is not known", local=True)


def _measured(kind: str, words: Sequence[int], size: int) -> Sequence[int]:
    if len(words) != size:
        raise DeviceError(f"a {kind} has {size} registers, not {len(words)}", local=True)
    return words


def _decode_address(kind: str, data: bytes) -> str | None:
    if not any(data):
        return None
    if kind == "ipaddr":
        return str(ipaddress.IPv4Address(data))
    if kind == "ipv6addr":
        return str(ipaddress.IPv6Address(data))
    hardware = data[2:]
    return None if hardware == b"\xff" * 6 else hardware.hex(":").upper()


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode(kind: str, value: Raw, what: str, *, size: int | None = None) -> tuple[int, ...]:
    """Registers of an unscaled value.

    Parameters
    ----------
    kind
        SunSpec type.
    value
        Integer, float or text as `decode` gives it.
    what
        Name for messages.
    size
        Registers of a string, which have no size of their own.

    Raises
    ------
    DeviceError
        Local: the value does not fit, is no number, or would read as *not implemented*.
    """
    if (integer := INTEGERS.get(kind)) is not None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refused(what, value, "is no whole number")
        if not integer.low <= value <= integer.high:
            raise _refused(what, value, f"does not fit a {kind} ({integer.low} .. {integer.high})")
        return split(value, integer.size)
    if kind in _FLOATS:
        return _encode_float(kind, value, what)
    if kind in _ADDRESSES or kind == "string":
        if not isinstance(value, str):
            raise _refused(what, value, "is no text")
        return _encode_string(value, what, size) if kind == "string" else _encode_address(kind, value, what)
    if kind == "pad":
        raise _refused(what, value, "cannot be written: it is padding")
    raise DeviceError(f"SunSpec type {kind!r} is not known", local=True)


def _encode_float(kind: str, value: Raw, what: str) -> tuple[int, ...]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(what, value, "is no number")
    try:
        data = struct.pack(_FLOATS[kind][1], value)
    except (OverflowError, struct.error):
        data = b""
    if not data or not math.isfinite(struct.unpack(_FLOATS[kind][1], data)[0]):
        raise _refused(what, value, f"does not fit a {kind}")
    return _to_words(data)


def _encode_string(value: str, what: str, size: int | None) -> tuple[int, ...]:
    if size is None:
        raise DeviceError(f"{what}: how many registers has the text?", local=True)
    data = value.encode("utf-8")
    if not value or value != value.strip() or "\0" in value:
        raise _refused(what, value, "would read back as something else")
    if len(data) > 2 * size:
        raise _refused(what, value, f"does not fit {size} registers")
    return _to_words(data.ljust(2 * size, b"\0"))


def _encode_address(kind: str, value: str, what: str) -> tuple[int, ...]:
    make: Mapping[str, Callable[[str], bytes]] = {
        "ipaddr": lambda text: ipaddress.IPv4Address(text).packed,
        "ipv6addr": lambda text: ipaddress.IPv6Address(text).packed,
        "eui48": lambda text: b"\0\0" + bytes.fromhex(text.replace(":", "")),
    }
    try:
        data = make[kind](value)
    except ValueError as error:
        raise _refused(what, value, f"is no {kind}") from error
    if len(data) != 2 * _ADDRESSES[kind] or _decode_address(kind, data) is None:
        raise _refused(what, value, f"is no {kind} or means *not implemented*")
    return _to_words(data)


def not_implemented(kind: str, size: int = 1) -> tuple[int, ...]:
    """The registers by which a device says that it has no such point; ``size`` counts for strings only."""
    if (integer := INTEGERS.get(kind)) is not None:
        return split(integer.sentinel or 0, integer.size)
    if kind in _FLOATS:
        return _to_words(struct.pack(_FLOATS[kind][1], math.nan))
    if kind == "eui48":
        return (0, _WORD, _WORD, _WORD)
    if kind == "pad":
        return (SCALE_SENTINEL,)
    if kind in _ADDRESSES or kind == "string":
        return (0,) * _ADDRESSES.get(kind, size)
    raise DeviceError(f"SunSpec type {kind!r} is not known", local=True)


# --- scaling ----------------------------------------------------------------------------------------------------------

_POWERS = {power: 10.0**power for power in range(-SCALE_MOST, SCALE_MOST + 1)}
_NEARLY_WHOLE = 1e-9


def scaled(raw: float, exponent: int) -> float:
    """``raw * 10**exponent``; the correctly rounded quotient for negative powers, so that 2301 at -1 is 230.1."""
    return raw * _POWERS[exponent] if exponent >= 0 else raw / _POWERS[-exponent]


def unscaled(value: float, exponent: int, what: str, *, down: bool = False) -> int:
    """The whole number that stands for ``value`` at a power of ten: the nearest one, or with ``down`` never above it.

    Raises
    ------
    DeviceError
        Local, if ``value`` is NaN or infinite or ``exponent`` is no scale factor.
    """
    if not -SCALE_MOST <= exponent <= SCALE_MOST:
        raise DeviceError(f"{what}: 10**{exponent} is no scale factor; nothing was sent", local=True)
    if isinstance(value, bool) or not math.isfinite(value):
        raise _refused(what, value, "is no number")
    steps = scaled(value, -exponent)
    if not math.isfinite(steps):
        raise _refused(what, value, "does not fit")
    nearest = round(steps)
    # 0.29 / 0.01 is 28.999999999999996: an error of the division may not cost a whole step.
    if not down or nearest <= steps or nearest - steps <= _NEARLY_WHOLE * max(1.0, abs(steps)):
        return nearest
    return math.floor(steps)
