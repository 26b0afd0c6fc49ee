"""Every fault that devices play (map, data, control, timers, life): a client sees its effect, and it is logged."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.emulator.device_port import Refusal
from hardware.emulator.faults import CATALOGUE
from tests.effort import effort
from tests.hardware.emulator.device_bench import Bench

MAP_FAULTS = {"end-without-length", "wrong-model-length", "vendor-model", "map-change"}
PLAYED = MAP_FAULTS | {k.name for k in CATALOGUE.values() if k.group in {"data", "control", "timers", "life"}}
CASES: dict[str, Callable[[], Bench]] = {}


def case(name: str) -> Callable[[Callable[[Bench], None]], None]:
    """Registers a case that gets a 10 kW hybrid in the sun: 8790 W fed in, 5 kW of battery."""

    def keep(play: Callable[[Bench], None]) -> None:
        def run() -> Bench:
            bench = Bench()
            play(bench)
            return bench

        assert name not in CASES
        CASES[name] = run

    return keep


def test_every_fault_has_a_case() -> None:
    assert set(CASES) == PLAYED


@pytest.mark.parametrize("name", sorted(PLAYED))
def test_fault_is_seen_and_logged(name: str) -> None:
    bench = CASES[name]()
    assert bench.board.log.counts[name] > 0
    entry = bench.board.log.entries(name)[0]
    assert entry.unit == 1 and entry.at_s >= 1000.0


def test_nothing_is_logged_without_faults() -> None:
    bench = Bench()
    bench.limit(50, 5)
    bench.wait(10)
    bench.device.read(3, 40000, 100)
    assert len(bench.board.log) == 0


WRITABLE = sorted((40000 + cell.at, cell.size) for cell in Bench().block if cell.writable)
WORD = st.one_of(st.integers(0, 30), st.sampled_from([100, 5000, 10_000, 0x8000, 0xFFFF]), st.integers(0, 0xFFFF))


@settings(max_examples=effort(60, everyday=12), deadline=None)
@given(
    faults=st.lists(st.sampled_from(sorted(PLAYED)), max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(WRITABLE), WORD, WORD), max_size=40),
)
def test_whatever_is_written_and_broken_it_answers_like_a_device(
    faults: list[str], steps: list[tuple[int, tuple[int, int], int, int]]
) -> None:
    b = Bench()
    for kind in faults:
        b.board.switch_on(kind, probability=0.7, seed=1)
    for seconds, (address, size), high, low in steps:
        b.wait(seconds)
        with contextlib.suppress(Refusal):
            b.device.write(16, address, [*[0] * (size - 2), high, low] if size > 1 else [low])
        with contextlib.suppress(Refusal):
            answer = b.device.read(3, address - 60, 120)
            assert len(answer) == 120 and all(0 <= word <= 0xFFFF for word in answer)
        assert abs(b.block.get("103.W") or 0.0) <= 10_000
        assert 5.0 <= (b.block.get("713.SoC") or 0.0) <= 100.0


# --- map --------------------------------------------------------------------------------------------------------------


def scan(bench: Bench) -> dict[int, tuple[int, int]]:
    """Models by number: address of the ID register and length; as a client walks them."""
    assert bench.device.read(3, 40000, 2) == [0x5375, 0x6E53]
    found: dict[int, tuple[int, int]] = {}
    at = 40002
    while (model := bench.device.read(3, at, 1)[0]) != 0xFFFF:
        length = bench.device.read(3, at + 1, 1)[0]
        found[model] = (at, length)
        at += length + 2
    return found


@case("end-without-length")
def _(b: Bench) -> None:
    end = 40000 + len(b.block.words) - 2
    assert b.device.read(3, end, 2) == [0xFFFF, 0]
    b.board.switch_on("end-without-length")
    assert b.device.read(3, end, 1) == [0xFFFF]
    with pytest.raises(Refusal, match="0x02"):
        b.device.read(3, end, 2)


@case("wrong-model-length")
def _(b: Bench) -> None:
    at, length = scan(b)[103]
    b.board.switch_on("wrong-model-length", model=103, by=-2)
    assert b.device.read(3, at, 2) == [103, length - 2]


@case("vendor-model")
def _(b: Bench) -> None:
    before = scan(b)
    b.board.switch_on("vendor-model", before=701, length=20)
    after = scan(b)
    assert list(after) == [*list(before)[: list(before).index(701)], 64_123, *list(before)[list(before).index(701) :]]
    assert after[701] == (before[701][0] + 22, before[701][1]) and after[123] == before[123]
    # Writes find the moved registers, and the vendor's cannot be written.
    moved = b.block.address("704.WMaxLimPct") + 22
    b.device.write(6, moved, [4000])
    assert b.block.get("704.WMaxLimPct") == pytest.approx(40.0)
    with pytest.raises(Refusal, match="0x02"):
        b.device.write(6, before[701][0] + 5, [1])
    assert (after[64_123][0], 22) in b.device.blocks


@case("map-change")
def _(b: Bench) -> None:
    before = scan(b)
    b.board.switch_on("map-change", registers=10, firmware="2.0.0")
    after = scan(b)
    assert after[1] == before[1] and after[103][0] == before[103][0] + 10
    assert bytes(b"".join(w.to_bytes(2) for w in b.words("1.Vr"))).rstrip(b"\0") == b"2.0.0"


# --- data -------------------------------------------------------------------------------------------------------------


@case("sentinel")
def _(b: Bench) -> None:
    b.board.switch_on("sentinel", point="103:W")
    assert b.raw("103.W") == 0x8000 and b.raw("701.W") == 8790


@case("unimplemented-factor")
def _(b: Bench) -> None:
    b.board.switch_on("unimplemented-factor", point="103:W_SF")
    assert b.raw("103.W_SF") == 0x8000 and b.raw("103.W") == 8790


@case("moving-factor")
def _(b: Bench) -> None:
    b.board.switch_on("moving-factor", point="103:W_SF")
    first = b.block.address("103.W")
    pairs = {tuple(b.device.read(3, first, 2)) for _ in range(4)}
    assert pairs == {(8790, 0), (879, 1)}


@case("wrong-factor")
def _(b: Bench) -> None:
    b.board.switch_on("wrong-factor", point="103:W_SF", by=2)
    assert b.device.read(3, b.block.address("103.W"), 2) == [8790, 2]


@case("word-swap")
def _(b: Bench) -> None:
    b.board.switch_on("word-swap")
    assert b.words("103.WH") == [1_234_567 % 65_536, 1_234_567 // 65_536]


@case("register-shift")
def _(b: Bench) -> None:
    true = b.device.read(3, 40070, 21)
    b.board.switch_on("register-shift", by=1)
    assert b.device.read(3, 40070, 20) == true[1:]


@case("sign-flip")
def _(b: Bench) -> None:
    b.board.switch_on("sign-flip")
    assert b.get("103.W") == b.get("701.W") == -8790


@case("factor-of-ten")
def _(b: Bench) -> None:
    b.board.switch_on("factor-of-ten", power=-1)
    assert b.get("103.W") == 879


@case("spike")
def _(b: Bench) -> None:
    b.board.switch_on("spike", probability=0.5, seed=3)
    assert {b.get("103.W") for _ in range(20)} == {8790.0, 28790.0}


@case("frozen")
def _(b: Bench) -> None:
    b.board.switch_on("frozen")
    b.device.read(3, 40000, 100)
    b.limit(20)
    b.wait(10)
    assert b.w == 8790 and b.block.get("103.W") == 2000
    assert b.get("123.WMaxLimPct") == 20  # settings are not measurements


@case("drift")
def _(b: Bench) -> None:
    b.board.switch_on("drift", per_s=-10)
    assert b.get("103.W") == 8790
    b.wait(30)
    assert b.get("103.W") == 8790 - 300


@case("counter-reset")
def _(b: Bench) -> None:
    assert b.get("103.WH") == 1_234_567
    b.board.switch_on("counter-reset")
    assert b.get("103.WH") == 0
    b.wait(3600)
    assert b.get("103.WH") == pytest.approx(8790, abs=2)


@case("counter-wrap")
def _(b: Bench) -> None:
    b.board.switch_on("counter-wrap")
    assert b.raw("103.WH") > 0xFFFF_FF00
    b.wait(60)
    assert b.raw("103.WH") == pytest.approx(8790 / 60, abs=5)


@case("soc-stuck")
def _(b: Bench) -> None:
    b.board.switch_on("soc-stuck")
    assert b.get("713.SoC") == 50
    b.power(10_000)
    b.wait(3600)
    assert b.get("713.SoC") == b.get("802.SoC") == b.get("124.ChaState") == 50
    assert b.get("713.WHAvail") < 4000  # the other source tells the truth


@case("soc-jump")
def _(b: Bench) -> None:
    b.board.switch_on("soc-jump", by=-0.3)
    assert b.get("713.SoC") == 20


@case("status-lies")
def _(b: Bench) -> None:
    b.set(("123.Conn", 0))
    b.wait(1)
    assert b.get("103.St") == 1 and b.get("701.InvSt") == 0
    b.board.switch_on("status-lies", state=4)
    assert b.get("103.St") == 4 and b.get("701.InvSt") == 3 and b.w == 0


@case("stale-heartbeat")
def _(b: Bench) -> None:
    before = b.get("715.DERHb")
    b.wait(5)
    assert b.get("715.DERHb") == before + 5
    b.board.switch_on("stale-heartbeat")
    b.get("715.DERHb")
    b.wait(5)
    assert b.get("715.DERHb") == b.get("802.Hb") == before + 5
    assert b.block.get("715.DERHb") == before + 10


@case("torn-read")
def _(b: Bench) -> None:
    b.board.switch_on("torn-read")
    assert b.get("103.WH") == 1_234_567 - 65_536


def _nan_float() -> Bench:
    bench = Bench("sdm630")
    bench.board.switch_on("nan-float", point="W")
    assert bench.raw("W") == 0x7FC00000 and math.isfinite(bench.get("VA"))
    inverter = Bench("inverter", floats=True)
    inverter.board.switch_on("nan-float", point="113:W")
    assert inverter.raw("113.W") == 0x7FC00000
    return bench


CASES["nan-float"] = _nan_float


# --- control ----------------------------------------------------------------------------------------------------------


@case("ack-and-drop")
def _(b: Bench) -> None:
    b.board.switch_on("ack-and-drop")
    b.limit(50, 20)
    b.wait(5)
    assert b.get("123.WMaxLimPct") == 100 and b.get("123.WMaxLim_Ena") == 0 and b.w == 8790


@case("no-effect")
def _(b: Bench) -> None:
    b.board.switch_on("no-effect")
    b.limit(50)
    b.wait(5)
    assert b.get("123.WMaxLimPct") == 50 and b.get("123.WMaxLim_Ena") == 1 and b.w == 8790


@case("silent-clamp")
def _(b: Bench) -> None:
    b.board.switch_on("silent-clamp", low=0.4, high=0.9)
    b.limit(20)
    b.wait(5)
    assert b.get("123.WMaxLimPct") == 40 and b.w == 4000
    b.set(("704.WSet", -9500.0))
    assert b.get("704.WSet") == -9000


@case("slow-ramp")
def _(b: Bench) -> None:
    b.board.switch_on("slow-ramp", w_per_s=100)
    b.limit(50)
    b.wait(10)
    assert b.w == pytest.approx(8790 - 1000, abs=110)


@case("offset")
def _(b: Bench) -> None:
    b.board.switch_on("offset", w=300)
    b.limit(50)
    b.wait(10)
    assert b.w == 5300


@case("dead-band")
def _(b: Bench) -> None:
    b.limit(50)
    b.board.switch_on("dead-band", w=500)
    b.wait(5)
    b.set(("123.WMaxLimPct", 46))
    b.wait(5)
    assert b.w == 5000
    b.set(("123.WMaxLimPct", 44))
    b.wait(5)
    assert b.w == 4400


@case("minimum-power")
def _(b: Bench) -> None:
    b.board.switch_on("minimum-power", w=1000)
    b.limit(2)
    b.wait(5)
    assert b.w == 1000


@case("zero-is-standby")
def _(b: Bench) -> None:
    b.board.switch_on("zero-is-standby", return_s=30)
    b.limit(0)
    b.wait(5)
    assert b.w == 0 and b.get("103.St") == 8
    b.set(("123.WMaxLimPct", 50))
    b.wait(25)
    assert b.w == 0
    b.wait(10)
    assert b.w == 5000


@case("ignores-enable")
def _(b: Bench) -> None:
    b.board.switch_on("ignores-enable")
    b.set(("123.WMaxLimPct", 30))
    b.wait(5)
    assert b.get("123.WMaxLim_Ena") == 0 and b.w == 3000


@case("needs-order")
def _(b: Bench) -> None:
    b.board.switch_on("needs-order")
    b.set(("123.WMaxLim_Ena", 1), ("123.WMaxLimPct", 30))
    b.wait(5)
    assert b.w == 8790
    b.set(("123.WMaxLimPct", 30), ("123.WMaxLim_Ena", 1))
    b.wait(5)
    assert b.w == 3000


@case("percent-of-wmax")
def _(b: Bench) -> None:
    b.board.switch_on("percent-of-wmax", share=0.7)
    b.limit(50)
    b.wait(5)
    assert b.w == 3500


@case("own-loop")
def _(b: Bench) -> None:
    b.board.switch_on("own-loop", gain=0.5, period_s=2)
    b.wait(60)
    assert abs(b.w) < 200  # it takes its own output for the exchange, and pulls it to zero


@case("opposite-sign")
def _(b: Bench) -> None:
    b.board.switch_on("opposite-sign")
    b.power(-3000)
    b.wait(5)
    assert b.w == 3000


@case("ripple-priority")
def _(b: Bench) -> None:
    b.board.switch_on("ripple-priority", share=0.3)
    b.limit(80)
    b.wait(5)
    assert b.w == 3000


@case("locked-registers")
def _(b: Bench) -> None:
    b.board.switch_on("locked-registers", code=2)
    with pytest.raises(Refusal, match="0x02"):
        b.limit(50)


# --- timers -----------------------------------------------------------------------------------------------------------


@case("no-timer")
def _(b: Bench) -> None:
    b.board.switch_on("no-timer")
    b.wait(0.1)
    with pytest.raises(Refusal, match="0x02"):
        b.set(("123.WMaxLimPct_RvrtTms", 5))
    b.set(("123.WMaxLimPct", 50), ("123.WMaxLim_Ena", 1))
    b.wait(60)
    assert b.w == 5000


@case("cosmetic-timer")
def _(b: Bench) -> None:
    b.board.switch_on("cosmetic-timer")
    b.power(2000, 10)
    b.wait(4)
    assert b.get("704.WSetRvrtRem") == 6
    b.wait(60)
    assert b.w == 2000 and b.get("704.WSetEna") == 1 and b.get("704.WSetRvrtRem") == 0


@case("late-timer")
def _(b: Bench) -> None:
    b.board.switch_on("late-timer", factor=1.5)
    b.limit(50, 20)
    b.wait(29)
    assert b.w == 5000
    b.wait(4)
    assert b.w == 8790


@case("seconds-for-minutes")
def _(b: Bench) -> None:
    b.board.switch_on("seconds-for-minutes")
    b.limit(50, 2)
    b.wait(119)
    assert b.w == 5000
    b.wait(4)
    assert b.w == 8790


@case("rearmed-by-read")
def _(b: Bench) -> None:
    b.board.switch_on("rearmed-by-read")
    b.limit(50, 10)
    for _ in range(5):
        b.wait(8)
        assert b.w == 5000
    b.wait(10.1)
    assert b.block.get("123.WMaxLim_Ena") == 0 and b.block.get("103.W") == 5000
    b.wait(1)
    assert b.w == 8790


@case("rearmed-by-write")
def _(b: Bench) -> None:
    b.board.switch_on("rearmed-by-write")
    b.limit(50, 10)
    for _ in range(5):
        b.wait(8)
        b.set(("802.CtrlHb", 7))
        assert b.w == 5000
    b.wait(12)
    assert b.get("123.WMaxLim_Ena") == 0


@case("rearmed-by-same-point")
def _(b: Bench) -> None:
    b.board.switch_on("rearmed-by-same-point")
    b.limit(50, 10)
    b.wait(8)
    b.set(("123.WMaxLimPct", 50))
    b.wait(8)
    assert b.get("123.WMaxLim_Ena") == 1
    b.set(("123.WMaxLim_Ena", 1), ("123.WMaxLimPct_RvrtTms", 10))  # would do in a standard device
    b.wait(3)
    assert b.get("123.WMaxLim_Ena") == 0


@case("timer-persisted")
def _(b: Bench) -> None:
    b.board.switch_on("timer-persisted")
    b.limit(50, 100)
    b.device.reboot(30)
    b.wait(31)
    b.wait(10)
    assert b.w == 5000 and b.get("123.WMaxLimPct_RvrtTms") == 100
    b.wait(95)
    assert b.w == 8790


@case("revert-to-last")
def _(b: Bench) -> None:
    b.board.switch_on("revert-to-last")
    b.limit(60, 10)
    b.wait(1)
    b.limit(30, 10)
    b.wait(5)
    assert b.w == 3000
    b.wait(10)
    assert b.get("123.WMaxLim_Ena") == 1 and b.w == 6000


@case("remaining-stands")
def _(b: Bench) -> None:
    b.board.switch_on("remaining-stands")
    b.power(2000, 10)
    b.wait(6)
    assert b.get("704.WSetRvrtRem") == 10
    b.wait(5)
    assert b.get("704.WSetEna") == 0


# --- life -------------------------------------------------------------------------------------------------------------


@case("reboot")
def _(b: Bench) -> None:
    b.limit(50)
    b.wait(5)
    b.board.switch_on("reboot", off_s=40)
    b.wait(1)
    assert not b.device.online()
    b.wait(38)
    assert not b.device.online()
    b.wait(2)
    assert b.device.online() and b.get("123.WMaxLim_Ena") == 0 and b.get("123.WMaxLimPct") == 100
    b.wait(10)
    assert b.w == 8790  # one fault is one reboot, and the limit is gone


@case("slow-boot")
def _(b: Bench) -> None:
    whole = scan(b)
    b.board.switch_on("slow-boot", partial_s=30, models=3)
    b.device.reboot(30)
    b.wait(31)
    assert list(scan(b)) == list(whole)[:3]
    with pytest.raises(Refusal, match="0x02"):
        b.set(("123.WMaxLimPct", 50))
    b.wait(30)
    assert scan(b) == whole


@case("night-sleep")
def _(b: Bench) -> None:
    b.board.switch_on("night-sleep")
    b.wait(1)
    assert b.device.online()
    b.around.irradiance = 0.0
    b.wait(1)
    assert not b.device.online()
    b.around.irradiance = 0.3
    b.wait(1)
    assert b.device.online()


@case("derate")
def _(b: Bench) -> None:
    b.board.switch_on("derate", share=0.5)
    b.wait(5)
    assert b.w == 5000 and int(b.get("103.Evt1")) & 1 << 7


@case("trip")
def _(b: Bench) -> None:
    b.board.switch_on("trip", return_s=300)
    b.wait(1)
    assert b.w == 0 and b.get("103.St") == 7 and b.device.online()
    b.wait(297)
    assert b.w == 0
    b.wait(10)
    assert b.w == 8790


@case("firmware-change")
def _(b: Bench) -> None:
    b.board.switch_on("firmware-change", version="7.7")
    assert b.words("1.Vr")[:2] == [0x372E, 0x3700]


@case("serial-change")
def _(b: Bench) -> None:
    b.board.switch_on("serial-change", serial="XY")
    assert b.words("1.SN")[:2] == [0x5859, 0]


@case("clock-wrong")
def _(b: Bench) -> None:
    b.wait(10)
    assert b.get("122.Tms") == 10
    b.board.switch_on("clock-wrong", by_s=3600)
    b.wait(1)
    assert b.get("122.Tms") == 3611


@case("flash-worn")
def _(b: Bench) -> None:
    b.board.switch_on("flash-worn", code=4)
    with pytest.raises(Refusal, match="0x04"):
        b.limit(50)


@case("local-takeover")
def _(b: Bench) -> None:
    b.board.switch_on("local-takeover", share=-0.2)
    b.limit(50)
    b.wait(10)
    assert b.w == -2000 and b.get("715.LocRemCtl") == 1
