"""Curves of models 705, 706, 711, 712: written by the handshake, obeyed by the emulator, judged by pysunspec2."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from typing import Any

import pytest

from core.errors import DeviceError
from hardware.driver import Frame, Sample, Span
from hardware.emulator.faults import FaultLog
from hardware.emulator.fleet_settings import Device, Node, Site
from hardware.emulator.inverter import DerDevice
from hardware.emulator.server import EmulatorServer
from hardware.emulator.site import EmulatedSite
from hardware.sunspec.curves import (
    COMPLETED,
    DROOP,
    VOLT_VAR,
    VOLT_WATT,
    WATT_VAR,
    CurveModel,
    CurvePoints,
    DroopNumbers,
    Pause,
    read_curves,
    write_curve,
)
from hardware.sunspec.definitions import ModelLayout
from hardware.sunspec.scan import Found, scan
from tests.hardware.emulator.device_bench import Bench

VAR = CurvePoints(
    points=((92.0, 30.0), (98.0, 0.0), (102.0, 0.0), (108.0, -44.0)),
    reference="VA_MAX_PCT",
    priority="REACTIVE",
    response_s=5.0,
)
WATT = CurvePoints(points=((106.0, 100.0), (110.0, 20.0)), reference="W_MAX_PCT", response_s=10.0)
BY_WATT = CurvePoints(points=((20.0, 0.0), (50.0, 0.0), (100.0, -40.0)), reference="VA_MAX_PCT", priority="ACTIVE")
DROP = DroopNumbers(over_band_hz=0.25, under_band_hz=0.1, over_k=0.04, under_k=0.05, response_s=2.0, least_percent=10)
WANTED = {VOLT_VAR: VAR, VOLT_WATT: WATT, WATT_VAR: BY_WATT, DROOP: DROP}


class Carrier:
    """Carries an exchange to a device in memory, and can spoil it."""

    def __init__(self, bench: Bench, *, most: int = 125) -> None:
        self.bench, self.most = bench, most
        self.frames: list[Frame] = []
        self.silent_after = math.inf
        self.swallow: set[int] = set()
        self.slow_polls = 0
        self.result_at = -1

    def run(self, exchange: Generator[Any, Any, Any]) -> Any:
        answer = None
        try:
            while True:
                answer = self._do(exchange.send(answer))
        except StopIteration as end:
            return end.value

    def _do(self, ask: Span | Frame | Pause) -> Sample | None:
        if isinstance(ask, Pause):
            self.bench.wait(ask.seconds)
            self.slow_polls -= 1
            return None
        if isinstance(ask, Frame):
            self.frames.append(ask)
            if ask.address not in self.swallow:
                self.bench.device.write(ask.function, ask.address, ask.words)
            return None
        assert ask.count <= self.most
        if len(self.frames) > self.silent_after:
            return Sample(ask, None, 0.0, 0.0, 0, "timed out")
        words = list(self.bench.device.read(ask.function, ask.address, ask.count))
        if self.slow_polls > 0 and ask.address <= self.result_at < ask.address + ask.count and self.frames:
            words[self.result_at - ask.address] = 0
        return Sample(ask, tuple(words), 0.0, 0.0, 0)

    def found(self, model: int) -> Found:
        parts = self.run(scan(max_registers=self.most)).parts()
        return next(one for one in parts[0] if one.model == model)

    def model(self, model: int) -> CurveModel:
        return self.run(read_curves(self.found(model), self.most))


@pytest.mark.parametrize("most", [125, 40, 16])
@pytest.mark.parametrize("model", WANTED)
def test_what_was_written_is_in_force_and_read_back(model: int, most: int) -> None:
    carrier = Carrier(Bench("inverter"), most=most)
    before = carrier.model(model)
    assert not before.enabled and before.count == 3
    after = carrier.run(write_curve(before, WANTED[model]))
    assert after.enabled and after.result == COMPLETED
    assert after.active == after.stored(2) == WANTED[model]
    assert after.stored(3) == before.stored(3)
    assert carrier.model(model).active == WANTED[model]


def test_a_written_volt_var_curve_moves_the_vars_along_it() -> None:
    b = Bench("inverter")
    carrier = Carrier(b)
    carrier.run(write_curve(carrier.model(VOLT_VAR), VAR))
    for v, percent in (
        (0.90, 30.0),
        (0.92, 30.0),
        (0.95, 15.0),
        (1.0, 0.0),
        (1.05, -22.0),
        (1.08, -44.0),
        (1.1, -44.0),
    ):
        b.around.v_pu = (v, v, v)
        b.wait(1)
        assert b.get("701.Var") == pytest.approx(percent / 100 * 11_000, abs=1.0), v


def test_on_a_long_line_the_written_curve_holds_its_own_voltage_down() -> None:
    """In a site voltage and vars depend on each other; they settle where the network and the curve meet."""
    now = 0.0
    inverter = Device(id="roof", kind="inverter", node="shed", settings={"noise": 0.0, "effect_s": 0.0})
    shed = Node(id="shed", r_ohm=0.5, x_ohm=0.4)
    site = EmulatedSite(Site(id="line", nodes=(shed,), devices=(inverter,)), lambda: now, 1, lambda _: FaultLog())

    def settled() -> tuple[float, float]:
        nonlocal now
        for _ in range(200):
            now += 0.25
            site.step()
        roof = site.devices["roof"]
        assert isinstance(roof, DerDevice)
        return roof.around.mean_v_pu, -roof.power_var / 11_000

    v_before, var_before = settled()
    assert v_before > 1.02 and var_before == 0.0
    bench = Bench("inverter")
    bench.device = site.devices["roof"]
    curve = CurvePoints(
        points=((98.0, 20.0), (100.0, 0.0), (106.0, -44.0)), reference="VA_MAX_PCT", priority="REACTIVE"
    )
    carrier = Carrier(bench)
    carrier.run(write_curve(carrier.model(VOLT_VAR), curve))
    v_after, var_after = settled()
    assert v_after < v_before - 0.004
    assert var_after == pytest.approx(-0.44 * (v_after - 1.0) / 0.06, abs=1e-3)


def test_references_shift_and_priority_are_obeyed() -> None:
    b = Bench("inverter", rating_va=10_000.0)
    b.around.irradiance = 1.2
    b.around.v_pu = (1.1, 1.1, 1.1)
    carrier = Carrier(b)
    for reference, base in (("W_MAX_PCT", 10_000), ("VAR_MAX_PCT", 4_400), ("VA_MAX_PCT", 10_000)):
        curve = CurvePoints(points=VAR.points, reference=reference, priority="REACTIVE")
        carrier.run(write_curve(carrier.model(VOLT_VAR), curve))
        b.wait(1)
        var = 0.44 * base
        assert b.get("701.Var") == pytest.approx(-var, abs=1.0)
        assert b.get("701.W") == pytest.approx(math.sqrt(10_000**2 - var**2), abs=1.0)
    first = CurvePoints(points=VAR.points, reference="VA_MAX_PCT", priority="ACTIVE")
    carrier.run(write_curve(carrier.model(VOLT_VAR), first))
    b.wait(1)
    assert b.get("701.W") == 10_000 and b.get("701.Var") == 0
    b.around.irradiance = 0.5
    b.around.v_pu = (1.05, 1.05, 1.05)
    moved = CurvePoints(points=VAR.points, reference="VA_MAX_PCT", priority="ACTIVE", v_ref=103.0)
    carrier.run(write_curve(carrier.model(VOLT_VAR), moved))
    b.wait(1)
    assert b.get("701.Var") == 0  # 105 % is 102 % of a curve moved by 3 %


def test_volt_watt_watt_var_and_droop_are_obeyed() -> None:
    b = Bench("inverter")
    b.around.irradiance = 1.2
    carrier = Carrier(b)
    carrier.run(write_curve(carrier.model(VOLT_WATT), WATT))
    b.around.v_pu = (1.08, 1.08, 1.08)
    b.wait(1)
    assert b.get("701.W") == pytest.approx(6_000, abs=1)
    carrier.run(write_curve(carrier.model(WATT_VAR), BY_WATT))
    b.wait(1)
    b.wait(1)  # watt-var follows the active power of a step before
    assert b.get("701.Var") == pytest.approx(-0.08 * 11_000, abs=15)
    b.around.v_pu = (1.0, 1.0, 1.0)
    carrier.run(write_curve(carrier.model(DROOP), DROP))
    for hz, share in ((50.25, 1.0), (50.75, 0.75), (51.25, 0.5)):
        b.around.hz = hz
        b.wait(1)
        assert b.get("701.W") == pytest.approx(share * 10_000, abs=2)
    b.around.hz = 52.9
    b.wait(1)
    assert b.get("701.W") == pytest.approx(1_000, abs=2)


def test_a_timer_takes_the_curve_back_to_one_that_is_kept() -> None:
    b = Bench("inverter")
    carrier = Carrier(b)
    flat = CurvePoints(points=((90.0, 10.0), (110.0, 10.0)), reference="VA_MAX_PCT", priority="ACTIVE")
    carrier.run(write_curve(carrier.model(VOLT_VAR), flat, enable=False))
    after = carrier.run(write_curve(carrier.model(VOLT_VAR), VAR, timer_s=30, fallback=2))
    assert after.active == after.stored(3) == VAR and after.stored(2).points == flat.points  # type: ignore[union-attr]
    b.around.v_pu = (1.08, 1.08, 1.08)
    b.wait(29)
    assert b.get("701.Var") == pytest.approx(-4_840, abs=1)
    b.wait(2)
    assert b.get("701.Var") == pytest.approx(1_100, abs=1)


def test_the_order_is_timer_values_request_enable() -> None:
    carrier = Carrier(Bench("inverter"))
    standing = carrier.model(VOLT_VAR)
    carrier.frames.clear()
    carrier.run(write_curve(standing, VAR, timer_s=60))
    at = {carrier.bench.block.address(f"705.{path}"): path for path in ("RvrtTms", "AdptCrvReq", "Ena")}
    order = [at.get(frame.address, "curve") for frame in carrier.frames]
    assert order[0] == "RvrtTms" and order[-2:] == ["AdptCrvReq", "Ena"] and set(order[1:-2]) == {"curve"}


def test_a_device_that_takes_its_time_is_waited_for() -> None:
    carrier = Carrier(Bench("inverter"))
    standing = carrier.model(VOLT_VAR)
    carrier.result_at, carrier.slow_polls = carrier.bench.block.address("705.AdptCrvRslt"), 3
    assert carrier.run(write_curve(standing, VAR)).enabled
    carrier.slow_polls = 100
    with pytest.raises(DeviceError, match="had not taken it after 5"):
        carrier.run(write_curve(carrier.model(VOLT_VAR), VAR, polls=5))


def test_what_was_not_taken_is_noticed_and_nothing_enabled() -> None:
    carrier = Carrier(Bench("inverter"))
    standing = carrier.model(VOLT_VAR)
    carrier.swallow = {carrier.bench.block.address("705.Crv[1].Pt[0].V")}
    with pytest.raises(DeviceError, match="something else is read back"):
        carrier.run(write_curve(standing, VAR))
    carrier.swallow = {carrier.bench.block.address("705.AdptCrvReq")}
    with pytest.raises(DeviceError, match="something else is read back"):
        carrier.run(write_curve(standing, VAR))
    carrier.swallow = set()
    carrier.silent_after = len(carrier.frames) + 1
    with pytest.raises(DeviceError, match="timed out"):
        carrier.run(write_curve(standing, VAR))
    assert carrier.bench.get("705.Ena") == 0


def test_a_lie_about_the_curve_in_force_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = Carrier(Bench("inverter"))
    monkeypatch.setattr("hardware.emulator.inverter.adopt_curve", lambda *_: True)
    with pytest.raises(DeviceError, match="another one in force"):
        carrier.run(write_curve(carrier.model(VOLT_VAR), VAR))
    monkeypatch.setattr("hardware.emulator.inverter.adopt_curve", lambda *_: False)
    with pytest.raises(DeviceError, match="refused"):
        carrier.run(write_curve(carrier.model(VOLT_VAR), VAR))


def test_what_cannot_be_stored_is_refused_before_anything_is_sent() -> None:
    carrier = Carrier(Bench("inverter"))
    for model, wanted, text in (
        (VOLT_VAR, CurvePoints(points=(*VAR.points, (110.0, -44.0)), reference="VA_MAX_PCT"), "1 to 4 points"),
        (VOLT_VAR, CurvePoints(points=VAR.points, reference="W_AVAL_PCT"), "knows"),
        (VOLT_WATT, CurvePoints(points=WATT.points, reference="W_MAX_PCT", priority="ACTIVE"), "Pri"),
        (VOLT_VAR, DROP, "takes points"),
        (VOLT_VAR, CurvePoints(points=((108.0, 30.0), (98.0, 0.0)), reference="VA_MAX_PCT"), "run backwards"),
        (DROOP, VAR, "takes a droop"),
        (WATT_VAR, CurvePoints(points=((0.0, 5e4),), reference="VA_MAX_PCT"), "does not fit|refused|sent"),
    ):
        standing = carrier.model(model)
        with pytest.raises(DeviceError, match=text):
            standing.steps(2, wanted)
    assert not carrier.frames
    with pytest.raises(DeviceError, match="no curves"):
        carrier.run(read_curves(Found(701, 40_000, 1, None, (701, 1))))
    layout = ModelLayout.of(VOLT_VAR, {"NCrv": 1, "NPt": 2})
    with pytest.raises(DeviceError, match="something else"):
        carrier.run(read_curves(Found(VOLT_VAR, 40_000, layout.length, None, (VOLT_VAR, layout.length))))


async def test_pysunspec2_reads_what_we_wrote_and_we_what_it_writes() -> None:
    client = pytest.importorskip("sunspec2.modbus.client")
    b = Bench("inverter")
    carrier = Carrier(b)
    for model, wanted in WANTED.items():
        carrier.run(write_curve(carrier.model(model), wanted))

    def judge(port: int) -> None:
        device = client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=5)
        try:
            device.scan()
            var, watt = device.DERVoltVar[0], device.DERVoltWatt[0]
            by_watt, drop = device.DERWattVar[0], device.DERFreqDroop[0]
            for model in (var, watt, by_watt, drop):
                assert model.Ena.cvalue == 1
            assert var.AdptCrvRslt.cvalue == watt.AdptCrvRslt.cvalue == by_watt.AdptCrvRslt.cvalue == 1
            for seen, wanted, x, y in ((var, VAR, "V", "Var"), (watt, WATT, "V", "W"), (by_watt, BY_WATT, "W", "Var")):
                curve = seen.Crv[0]
                assert curve.ActPt.cvalue == len(wanted.points)
                got = [
                    (getattr(curve.Pt[i], x).cvalue, getattr(curve.Pt[i], y).cvalue) for i in range(len(wanted.points))
                ]
                assert got == [pytest.approx(point) for point in wanted.points]
            assert var.Crv[0].DeptRef.cvalue == 3 and var.Crv[0].Pri.cvalue == 1 and var.Crv[0].RspTms.cvalue == 5
            assert by_watt.Crv[0].Pri.cvalue == 0 and watt.Crv[0].DeptRef.cvalue == 0
            ctl = drop.Ctl[0]
            assert (ctl.DbOf.cvalue, ctl.DbUf.cvalue) == (pytest.approx(0.25), pytest.approx(0.1))
            assert (ctl.KOf.cvalue, ctl.KUf.cvalue, ctl.PMin.cvalue) == (pytest.approx(0.04), pytest.approx(0.05), 10)
            other = var.Crv[2]
            other.ActPt.cvalue = 2
            for i, (v, q) in enumerate(((95.0, 12.0), (105.0, -12.0))):
                other.Pt[i].V.cvalue, other.Pt[i].Var.cvalue = v, q
            other.write()
            var.AdptCrvReq.cvalue = 3
            var.write()
        finally:
            device.close()

    async with EmulatorServer((b.device,), clock=lambda: b.now) as server:
        await asyncio.wait_for(asyncio.to_thread(judge, server.port), 30)
    active = carrier.model(VOLT_VAR).active
    assert isinstance(active, CurvePoints) and active.points == ((95.0, 12.0), (105.0, -12.0))
