"""Every SunSpec type: there and back, sentinels, refusals, and against pysunspec2's own codec."""

from __future__ import annotations

import ipaddress
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.sunspec.codec import INTEGERS, TYPES, decode, encode, not_implemented, scaled, unscaled

WORDS = {"float32": 2, "float64": 4, "ipaddr": 2, "ipv6addr": 8, "eui48": 4, "string": 8, "pad": 1}
WORDS |= {kind: integer.size for kind, integer in INTEGERS.items()}
words_of = {kind: st.lists(st.integers(0, 0xFFFF), min_size=size, max_size=size) for kind, size in WORDS.items()}
kind_and_words = st.sampled_from(sorted(TYPES)).flatmap(lambda kind: st.tuples(st.just(kind), words_of[kind]))


def encoded(kind: str, value, size: int | None = None) -> tuple[int, ...] | DeviceError:
    try:
        return encode(kind, value, "x", size=size)
    except DeviceError as error:
        return error


def is_refusal(result) -> bool:
    return isinstance(result, DeviceError) and result.local and "nothing was sent" in str(result)


@given(kind_and_words)
def test_r09_whatever_decodes_encodes_to_the_same_value_or_is_refused(case):
    kind, words = case
    value = decode(kind, words)
    if value is None:
        return
    again = encoded(kind, value, len(words))
    if isinstance(again, DeviceError):
        # Only bits that may not be set, and text that a device wrote badly, can be read and not written.
        assert is_refusal(again)
        assert kind == "string" or (kind.startswith("bitfield") and words[0] & 0x8000)
    else:
        assert decode(kind, again) == value


@given(st.sampled_from(sorted(INTEGERS)), st.integers(-(1 << 70), 1 << 70) | st.integers(-70000, 70000))
def test_r09_an_integer_is_encoded_exactly_or_refused(kind, value):
    words = encoded(kind, value)
    if isinstance(words, DeviceError):
        assert is_refusal(words)
        assert not INTEGERS[kind].low <= value <= INTEGERS[kind].high
    else:
        assert decode(kind, words) == value
        assert words != not_implemented(kind)


@given(st.sampled_from(["float32", "float64"]), st.floats())
def test_r09_a_float_is_encoded_to_a_number_or_refused(kind, value):
    words = encoded(kind, value)
    if isinstance(words, DeviceError):
        assert is_refusal(words)
        assert not math.isfinite(value) or abs(value) > 3.4e38
    else:
        assert decode(kind, words) == struct.unpack(">f" if kind == "float32" else ">d", bytes_of(words))[0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int16", 32768), ("int16", -32768), ("uint16", 65535), ("uint16", 65536), ("uint16", -1), ("uint16", 5.0),
        ("uint16", True), ("acc32", 0), ("enum16", 0xFFFF), ("bitfield16", 0x8000), ("sunssf", 11), ("sunssf", -32768),
        ("float32", math.nan), ("float32", math.inf), ("float32", 1e39), ("float64", -math.inf), ("float32", "5"),
        ("string", ""), ("string", "too long for it"), ("string", " edge"), ("ipaddr", "0.0.0.0"), ("ipaddr", "x"),
        ("eui48", "FF:FF:FF:FF:FF:FF"), ("eui48", "00:11"), ("pad", 0), ("int16", "7"), ("nonsense", 1),
    ],
)  # fmt: skip
def test_r09_what_cannot_be_held_is_refused(kind, value):
    with pytest.raises(DeviceError) as error:
        encode(kind, value, "point", size=4)
    assert error.value.local


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_r10_sentinels_are_not_implemented(kind):
    assert decode(kind, not_implemented(kind, 4)) is None


def test_r10_sentinels_by_hand():
    for kind, words in [
        ("int16", [0x8000]), ("uint16", [0xFFFF]), ("int32", [0x8000, 0]), ("uint32", [0xFFFF, 0xFFFF]),
        ("float32", [0x7FC0, 0]), ("float32", [0xFFC0, 1]), ("sunssf", [0x8000]), ("sunssf", [11]), ("acc32", [0, 0]),
        ("uint64", [0xFFFF] * 4), ("float32", [0x7F80, 0]), ("enum16", [0xFFFF]), ("string", [0, 0x4142]),
    ]:  # fmt: skip
        assert decode(kind, words) is None, kind
    assert decode("uint16", [0x8000]) == 32768
    assert decode("int16", [0xFFFF]) == -1
    assert decode("int32", [0xFFFF, 0x8000]) == -32768
    assert decode("string", [0x5065, 0x6572, 0x0041]) == "Peer"
    assert decode("sunssf", [0xFFFE]) == -2


def bytes_of(words) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


@given(kind_and_words)
def test_agrees_with_pysunspec2(case):
    mb = pytest.importorskip("sunspec2.mb")
    kind, words = case
    info = mb.point_type_info.get(kind)
    ours = decode(kind, words)
    if info is None or kind in {"string", "pad"}:
        return
    theirs = info.data_to(bytes_of(words))
    implemented = theirs is not None and info.is_impl(theirs)
    if kind == "sunssf":  # we take only powers that a scale factor may have
        implemented = implemented and -10 <= theirs <= 10
    if kind.startswith("float") and theirs is not None:  # infinity is no measurement
        implemented = math.isfinite(theirs)
    if kind == "ipv6addr" and implemented:
        theirs = str(ipaddress.IPv6Address(bytes_of(words)))
    if kind == "ipaddr" and implemented:
        theirs = str(ipaddress.IPv4Address(theirs))
    if kind == "eui48" and implemented and ours is None:  # only its two filling bytes differ from zero
        assert bytes_of(words)[2:] in (b"\0" * 6, b"\xff" * 6)
        return
    assert (ours is not None) == implemented
    if implemented:
        assert ours == theirs
        if kind not in {"ipaddr", "ipv6addr", "eui48"} and not (kind.startswith("bitfield") and words[0] & 0x8000):
            assert bytes_of(encode(kind, ours, kind)) == info.to_data(theirs)


@given(st.text(min_size=1, max_size=8))
def test_text_goes_there_and_back_or_is_refused(text):
    mb = pytest.importorskip("sunspec2.mb")
    try:
        words = encode("string", text, "x", size=8)
    except DeviceError:
        return
    assert decode("string", words) == text
    assert mb.data_to_str(bytes_of(words)) == text


@given(st.integers(-32767, 32767), st.integers(-10, 10))
def test_scaling_goes_there_and_back(raw, power):
    assert unscaled(scaled(raw, power), power, "x") == raw
    assert unscaled(scaled(raw, power), power, "x", down=True) == raw


@given(st.floats(0, 1e9), st.integers(-4, 4))
def test_rounding_down_never_gives_more_than_was_asked_for(value, power):
    back = scaled(unscaled(value, power, "x", down=True), power)
    assert back <= value * (1 + 1e-8) + 1e-8 * 10.0**power
    assert value - back < 10.0**power * (1 + 1e-6) + 1e-8 * value


@pytest.mark.parametrize(("value", "power"), [(math.nan, 0), (math.inf, 0), (1.0, 11), (1.0, -32768), (1e305, -10)])
def test_r09_what_cannot_be_scaled_is_refused(value, power):
    with pytest.raises(DeviceError) as error:
        unscaled(value, power, "x")
    assert error.value.local


def test_known_tenths_are_exact():
    assert scaled(2301, -1) == 230.1
    assert unscaled(0.29, -2, "x", down=True) == 29
