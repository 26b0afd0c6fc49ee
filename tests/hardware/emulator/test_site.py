"""A site of emulated devices: the meter sees what the inverters do; each fault of the site is felt and logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core import DeviceError
from hardware.emulator.faults import CATALOGUE, FaultLog
from hardware.emulator.fleet_settings import BaseLoad as Load
from hardware.emulator.fleet_settings import Device, Node, Site
from hardware.emulator.second_master import SecondMaster
from hardware.emulator.site import EmulatedSite

QUIET: dict[str, Any] = {"noise": 0.0}


class Bench:
    """A site on a clock of the test's own."""

    def __init__(self, **changes: Any) -> None:
        self.now_s = 0.0
        self.logs: dict[str, FaultLog] = {}
        devices = (
            Device(id="roof", kind="inverter", node="shed", settings=QUIET),
            Device(id="cellar", kind="battery", node="shed", phase="b", settings=QUIET),
            Device(id="meter", kind="meter", settings=QUIET),
            Device(id="breaker", kind="switch"),
        )
        settings = {
            "id": "bench",
            "nodes": (Node(id="shed", r_ohm=0.2, x_ohm=0.1),),
            "loads": (Load(w=900.0, phase="a"),),
            "devices": devices,
        }
        self.site = EmulatedSite(Site(**(settings | changes)), lambda: self.now_s, 1, self.log)
        self.later(1.0)

    def log(self, name: str) -> FaultLog:
        return self.logs.setdefault(name, FaultLog())

    def later(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / 0.25))):
            self.now_s += 0.25
            self.site.step()

    def on(self, name: str, kind: str, **params: float | str) -> None:
        self.site.board_for(name, kind).switch_on(kind, **params)
        self.later(0.5)

    def meter(self, point: str) -> float:
        return self.value("meter", f"203.{point}")

    def value(self, name: str, path: str) -> float:
        device = self.site.devices[name]
        device.read(3, 40000, 2)  # a client looks: measurements are brought up to date
        value = device.holding.get(path)
        assert value is not None
        return value


def test_the_meter_sees_the_inverter_the_load_and_the_losses_of_the_line() -> None:
    bench = Bench()
    roof_w = bench.site.devices["roof"].power_w  # type: ignore[attr-defined]
    assert roof_w < -8000.0
    i_a = -roof_w / 3.0 / (230.0 * bench.site.devices["roof"].around.v_pu[0])
    losses_w = 3.0 * 0.2 * i_a**2
    assert bench.meter("W") == pytest.approx(900.0 + roof_w + losses_w, abs=3.0)
    assert bench.meter("WphA") == pytest.approx(900.0 + (roof_w + losses_w) / 3.0, abs=3.0)
    assert bench.meter("WphB") == pytest.approx((roof_w + losses_w) / 3.0, abs=3.0)
    # the line lifts the voltage at the inverter and not at the meter
    assert bench.value("roof", "103.PhVphA") > 231.5
    assert bench.meter("PhVphA") == pytest.approx(230.0, abs=0.1)


def test_a_limit_written_into_the_inverter_shows_on_the_meter() -> None:
    bench = Bench()
    before = bench.meter("W")
    roof = bench.site.devices["roof"]
    block = roof.holding
    roof.write(16, block.address("123.WMaxLimPct"), [block.encoded(block.cells["123.WMaxLimPct"], 20.0)])
    roof.write(16, block.address("123.WMaxLim_Ena"), [1])
    bench.later(4.0)
    assert bench.value("roof", "103.W") == pytest.approx(2000.0, abs=1.0)
    assert bench.meter("W") == pytest.approx(before + 6790.0, abs=100.0)


def test_a_battery_on_one_phase_moves_that_phase_alone() -> None:
    bench = Bench()
    before = [bench.meter(f"Wph{phase}") for phase in "ABC"]
    cellar = bench.site.devices["cellar"]
    block = cellar.holding
    for path, value in (("704.WSet", -3000.0), ("704.WSetEna", 1.0)):
        cellar.write(16, block.address(path), _words(block, path, value))
    bench.later(4.0)
    after = [bench.meter(f"Wph{phase}") for phase in "ABC"]
    assert after[1] - before[1] > 2500.0
    assert after[0] - before[0] == pytest.approx(0.0, abs=20.0)
    assert after[2] - before[2] == pytest.approx(0.0, abs=20.0)


def _words(block: Any, path: str, value: float) -> list[int]:
    cell = block.cells[path]
    number = block.encoded(cell, value)
    return [(number >> (16 * (cell.size - 1 - i))) & 0xFFFF for i in range(cell.size)]


def test_the_day_has_a_night() -> None:
    bench = Bench(irradiance="day", hour=0.0)
    assert bench.site.sun(0.0) == 0.0
    assert bench.site.sun(12 * 3600.0) == pytest.approx(1.0)
    assert bench.site.devices["roof"].power_w >= -1.0  # type: ignore[attr-defined]


# --- faults -----------------------------------------------------------------------------------------------------------


def _meter_lost(bench: Bench) -> None:
    assert bench.site.devices["meter"].online()
    bench.on("bench", "meter-lost")
    assert not bench.site.devices["meter"].online()


def _meter_sign(bench: Bench) -> None:
    before = bench.meter("W")
    bench.on("meter", "meter-sign")
    assert bench.meter("W") == pytest.approx(-before, abs=50.0) and before < -1000.0


def _phase_swap(bench: Bench) -> None:
    a, b = bench.meter("WphA"), bench.meter("WphB")
    bench.on("bench", "phase-swap", phases="ab")
    assert (bench.meter("WphA"), bench.meter("WphB")) == (pytest.approx(b, abs=20.0), pytest.approx(a, abs=20.0))


def _grid_loss(bench: Bench) -> None:
    bench.on("bench", "grid-loss")
    bench.later(2.0)
    assert bench.site.devices["roof"].power_w == 0.0  # type: ignore[attr-defined]
    assert bench.meter("W") == 0.0 and bench.meter("PhVphA") == 0.0


def _frequency(bench: Bench) -> None:
    bench.on("bench", "frequency-excursion", hz=51.0)
    assert bench.meter("Hz") == pytest.approx(51.0)


def _voltage(bench: Bench) -> None:
    bench.on("bench", "voltage-excursion", v_pu=1.15)
    assert bench.meter("PhVphA") == pytest.approx(264.5, abs=0.2)


def _welded(bench: Bench) -> None:
    bench.on("breaker", "switch-welded", stuck="closed")
    switch = bench.site.switch
    assert switch is not None
    switch.write(6, 0, [0])
    bench.later(1.0)
    assert switch.read(3, 0, 2) == [0, 1] and bench.meter("PhVphA") > 200.0


def _contradicts(bench: Bench) -> None:
    bench.on("breaker", "breaker-contradicts")
    switch = bench.site.switch
    assert switch is not None
    assert switch.read(3, 0, 2) == [1, 0] and bench.meter("PhVphA") > 200.0


def _second_master(bench: Bench) -> None:
    roof = bench.site.devices["roof"]
    rival = SecondMaster(bench.site, "roof", roof)  # type: ignore[arg-type]
    bench.on("roof", "second-master", period_s=10.0, share=0.3)
    rival.look()
    assert bench.value("roof", "704.WMaxLimPct") == pytest.approx(30.0)
    bench.later(4.0)
    assert bench.value("roof", "103.W") == pytest.approx(3000.0, abs=5.0)
    written = len(bench.site.board.log)
    rival.look()
    assert len(bench.site.board.log) == written  # not before its period is over
    bench.later(8.0)
    rival.look()
    assert len(bench.site.board.log) == written + 1


CASES: dict[str, Callable[[Bench], None]] = {
    "meter-lost": _meter_lost,
    "meter-sign": _meter_sign,
    "phase-swap": _phase_swap,
    "grid-loss": _grid_loss,
    "frequency-excursion": _frequency,
    "voltage-excursion": _voltage,
    "switch-welded": _welded,
    "breaker-contradicts": _contradicts,
    "second-master": _second_master,
}


@pytest.mark.parametrize("kind", [kind.name for kind in CATALOGUE.values() if kind.group == "site"])
def test_every_fault_of_a_site_is_felt_and_logged(kind: str) -> None:
    bench = Bench()
    CASES[kind](bench)
    entries = [entry for log in bench.logs.values() for entry in log.entries(kind)]
    assert entries and entries[0].at_s > 0.0


def test_the_switch_opens_and_the_site_goes_dark() -> None:
    bench = Bench()
    switch = bench.site.switch
    assert switch is not None
    assert switch.read(3, 0, 4) == [1, 1, 2300, 2300]
    switch.write(6, 0, [0])
    assert switch.closed  # it takes its time
    bench.later(1.0)
    assert switch.read(3, 0, 5) == [0, 0, 2300, 0, 5000]
    assert bench.meter("PhVphA") == 0.0
    switch.write(6, 0, [1])
    bench.later(1.0)
    assert bench.meter("PhVphA") > 200.0 and switch.read(3, 5, 1) == [2]


def test_what_is_wrong_in_a_site_is_said() -> None:
    with pytest.raises(DeviceError, match="roof: inverter: rating_w"):
        Bench(devices=(Device(id="roof", kind="inverter", settings={"rating_w": -1}),))
    with pytest.raises(DeviceError, match="has no switch"):
        Bench(devices=(Device(id="roof", kind="inverter"),)).site.board_for("roof", "switch-welded")
    with pytest.raises(DeviceError, match="irradiance cannot be 'dusk'"):
        Bench().site.set_surroundings({"irradiance": "dusk"})
    with pytest.raises(DeviceError, match="has no 'rain'"):
        Bench().site.set_surroundings({"rain": 1})


def test_a_loop_of_its_own_brings_the_exchange_of_the_site_to_zero() -> None:
    bench = Bench()
    assert bench.meter("W") < -7000.0
    bench.site.devices["roof"].board.switch_on("own-loop", gain=0.5, period_s=2.0)
    bench.later(60.0)
    assert bench.meter("W") == pytest.approx(0.0, abs=60.0)
