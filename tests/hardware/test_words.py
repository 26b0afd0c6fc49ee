"""Integers survive their registers, and what does not fit never reaches them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.modbus.words import decode_i32, decode_u32, encode_i32, encode_u16, encode_u32


@given(st.integers(-(2**31), 2**31 - 1))
def test_int32_round_trip(value: int) -> None:
    words = encode_i32(value, "x")
    assert all(0 <= word < 2**16 for word in words)
    assert decode_i32(words) == value


@given(st.integers(0, 2**32 - 1))
def test_uint32_round_trip(value: int) -> None:
    assert decode_u32(encode_u32(value, "x")) == value


def test_known_words() -> None:
    assert encode_i32(-2, "x") == [0xFFFF, 0xFFFE]
    assert encode_i32(70_000, "x") == [1, 4464]
    assert encode_u16(900, "x") == [900]


@given(st.integers())
def test_what_does_not_fit_is_refused(value: int) -> None:
    for encode, low, high in (
        (encode_u16, 0, 2**16 - 1),
        (encode_i32, -(2**31), 2**31 - 1),
        (encode_u32, 0, 2**32 - 1),
    ):
        outside = value + (high + 1 if value >= 0 else low)
        with pytest.raises(DeviceError) as caught:
            encode(outside, "x")
        assert caught.value.local


@pytest.mark.parametrize("value", [1.0, float("nan"), "5", True, None])
def test_only_whole_numbers_are_taken(value: object) -> None:
    with pytest.raises(DeviceError, match="whole number"):
        encode_i32(value, "x")  # type: ignore[arg-type]
