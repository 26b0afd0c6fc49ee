"""Integers in 16-bit registers, high word first. What does not fit is refused, never wrapped."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import DeviceError

WORD = 1 << 16


def _checked(value: int, low: int, high: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DeviceError(f"{what} must be a whole number, not {value!r}", local=True)
    if not low <= value <= high:
        raise DeviceError(f"{what} = {value} does not fit its register ({low} .. {high}); nothing was sent", local=True)
    return value


def encode_u16(value: int, what: str) -> list[int]:
    """One register. Raises ``DeviceError`` (local) if ``value`` does not fit."""
    return [_checked(value, 0, WORD - 1, what)]


def encode_i32(value: int, what: str) -> list[int]:
    """Two registers, two's complement. Raises ``DeviceError`` (local) if ``value`` does not fit."""
    return list(divmod(_checked(value, -(1 << 31), (1 << 31) - 1, what) % (1 << 32), WORD))


def encode_u32(value: int, what: str) -> list[int]:
    """Two registers. Raises ``DeviceError`` (local) if ``value`` does not fit."""
    return list(divmod(_checked(value, 0, (1 << 32) - 1, what), WORD))


def decode_u32(words: Sequence[int]) -> int:
    """The unsigned integer in two registers."""
    high, low = words
    return high * WORD + low


def decode_i32(words: Sequence[int]) -> int:
    """The signed integer in two registers."""
    value = decode_u32(words)
    return value - (1 << 32) if value >= 1 << 31 else value
