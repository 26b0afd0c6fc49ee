"""Register images of emulated devices: places, encodings, sentinels, counters that wrap, what clients may write."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.emulator.device_port import Refusal
from hardware.emulator.device_settings import BatterySettings, HybridSettings, InverterSettings
from hardware.emulator.image import ModelChoice, PlainPoint, RegisterBlock, plain_block, sunspec_image
from hardware.emulator.inverter_setup import inverter_image, inverter_models
from hardware.sunspec.definitions import definition
from tests.hardware.emulator.device_bench import Bench


@pytest.fixture
def block() -> RegisterBlock:
    block = sunspec_image([ModelChoice(1), ModelChoice(103), ModelChoice(123), ModelChoice(701), ModelChoice(704)])
    for path in ("103.W_SF", "103.A_SF", "103.WH_SF", "701.W_SF", "701.TotWh_SF", "704.WSet_SF"):
        block.set_unsigned(path, 0)
    block.set_unsigned("123.WMaxLimPct_SF", -2 & 0xFFFF)
    return block


def test_places_are_those_of_the_specification(block: RegisterBlock) -> None:
    """Addresses copied by hand from the SunSpec information models."""
    assert block.read(40000, 4) == [0x5375, 0x6E53, 1, 66]
    assert block.read(40070, 2) == [103, 50]
    assert block.address("103.W") == 40070 + 14 and block.address("103.WH") == 40070 + 24
    assert block.address("103.St") == 40070 + 38
    assert block.read(40122, 2) == [123, 24]
    assert block.address("123.WMaxLimPct") == 40122 + 5 and block.address("123.WMaxLimPct_RvrtTms") == 40122 + 7
    assert block.address("123.WMaxLim_Ena") == 40122 + 9 and block.address("123.WMaxLimPct_SF") == 40122 + 23
    assert block.words[-2:] == [0xFFFF, 0]


def test_everything_begins_as_not_implemented(block: RegisterBlock) -> None:
    assert block.get("103.Hz") is None and block.unsigned("103.W") == 0x8000
    assert block.unsigned("701.Hz") == 0xFFFF_FFFF and block.unsigned("704.WSet") == 0x8000_0000
    assert block.unsigned("103.Hz_SF") == 0x8000 and block.unsigned("103.WH") == 0
    block.set("103.Hz", 50.0)  # its factor says: not implemented
    assert block.get("103.Hz") is None
    block.set("103.W", 5.0)
    block.set("103.W", None)
    assert block.unsigned("103.W") == 0x8000
    block.set("103.NoSuchPoint", 1.0)  # devices set what they know; what the map lacks is left out


@given(st.integers(-32_767, 32_767))
def test_signed_values_survive(number: int) -> None:
    block = plain_block([PlainPoint("x", 0, "int16", -1)])
    block.set("x", number / 10)
    assert block.get("x") == pytest.approx(number / 10)


def test_values_stop_at_the_largest_that_fits(block: RegisterBlock) -> None:
    block.set("103.W", 1e6)
    assert block.get("103.W") == 32_767
    block.set("103.W", -1e6)
    assert block.get("103.W") == -32_767  # not the sentinel
    block.set("103.A", 1e6)
    assert block.unsigned("103.A") == 0xFFFE


def test_counters_wrap(block: RegisterBlock) -> None:
    block.set("103.WH", 2.0**32 + 5)
    assert block.unsigned("103.WH") == 5 and block.get("103.WH") == 5
    block.set("701.TotWhInj", 5e9)
    assert block.get("701.TotWhInj") == 5e9


def test_strings_and_floats(block: RegisterBlock) -> None:
    block.set_text("1.SN", "A" * 40)
    assert block.text("1.SN") == "A" * 32
    block.set_text("1.SN", "SN-1")
    assert block.text("1.SN") == "SN-1"
    floats = plain_block([PlainPoint("f", 2, "float32")])
    floats.set("f", -1.5)
    assert floats.read(0, 4) == [0, 0, 0xBFC0, 0]
    floats.set("f", math.nan)
    assert floats.get("f") is None


def test_reads_outside_are_refused(block: RegisterBlock) -> None:
    end = 40000 + len(block.words)
    assert block.read(end - 1, 1) == [0]
    for address, count in ((39999, 1), (end, 1), (end - 1, 2), (0, 1)):
        with pytest.raises(Refusal) as refused:
            block.read(address, count)
        assert refused.value.code == 2


@pytest.mark.parametrize(
    ("path", "words", "code"),
    [
        ("103.W", [1], 2),  # read-only
        ("1.Mn", [0x4141], 2),  # read-only
        ("123.WMaxLimPct_SF", [0], 2),  # a factor
        ("704.WSet", [1], 2),  # half of a 32-bit value
        ("123.WMaxLimPct", [10_001], 3),  # more than 100 %
        ("123.WMaxLimPct", [0xFFFF], 3),  # the sentinel
        ("123.WMaxLim_Ena", [2], 3),  # not of the enumeration
        ("123.WMaxLimPct_RvrtTms", [0xFFFF], 3),
        ("704.WSet", [0x8000, 0], 3),
        ("123.VArPct_Ena", [1, 0], 2),  # runs into a factor
    ],
)
def test_bad_writes_are_refused(block: RegisterBlock, path: str, words: list[int], code: int) -> None:
    before = list(block.words)
    with pytest.raises(Refusal) as refused:
        block.writes(block.address(path), words)
    assert refused.value.code == code and block.words == before


def test_one_write_may_cover_several_points(block: RegisterBlock) -> None:
    changes = block.writes(block.address("123.WMaxLimPct"), [5000, 0, 20, 0, 1])
    assert [(cell.path, number) for cell, number in changes] == [
        ("123.WMaxLimPct", 5000),
        ("123.WMaxLimPct_WinTms", 0),
        ("123.WMaxLimPct_RvrtTms", 20),
        ("123.WMaxLimPct_RmpTms", 0),
        ("123.WMaxLim_Ena", 1),
    ]


def test_default_hybrid_has_the_promised_models() -> None:
    promised = (1, 103, 120, 121, 122, 123, 124, 160, 701, 702, 703, 704, 705, 706, 711, 712, 713, 714, 715, 802)
    assert inverter_models(HybridSettings()) == promised
    assert 124 not in inverter_models(InverterSettings()) and 160 not in inverter_models(BatterySettings())
    assert inverter_models(HybridSettings(leave_out=(704, 715, 1)))[0] == 1
    assert not {704, 715} & set(inverter_models(HybridSettings(leave_out=(704, 715))))


@pytest.mark.parametrize("kind", ["hybrid", "inverter", "battery", "meter"])
def test_every_mandatory_point_is_there(kind: str) -> None:
    bench = Bench(kind)
    models = {int(cell.path.partition(".")[0]) for cell in bench.block}
    assert len(models) > 1
    for model in models:
        for point in definition(model).group.points:
            path = f"{model}.{point.name}"
            if point.mandatory and point.type != "string":
                assert bench.block.get(path) is not None, path
            if point.mandatory and point.type == "string":
                assert bench.block.text(path), path


def test_factors_fit_the_rating() -> None:
    for rating in (1_500.0, 10_000.0, 250_000.0, 2_500_000.0):
        block = inverter_image(HybridSettings(rating_w=rating, charge_w=rating, discharge_w=rating, capacity_wh=rating))
        assert block.get("702.WMax") == pytest.approx(rating, rel=0.01)
        assert block.get("120.WHRtg") == pytest.approx(rating, rel=0.01)
        block.set("103.W", -rating)
        assert block.get("103.W") == pytest.approx(-rating, rel=0.01)


def test_nonsense_maps_are_refused() -> None:
    with pytest.raises(DeviceError, match="twice"):
        sunspec_image([ModelChoice(1), ModelChoice(1)])
    with pytest.raises(DeviceError, match="share register 1"):
        plain_block([PlainPoint("a", 0, "uint32"), PlainPoint("b", 1, "uint16")])
