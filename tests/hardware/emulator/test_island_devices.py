"""Devices of an emulated island on a clock of the test's own: registers, orders, and their dead men."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from core import DeviceError
from grid.island import kernel as k
from hardware.emulator.device_port import Refusal
from hardware.emulator.fault_log import FaultLog
from hardware.emulator.fleet_settings import Site
from hardware.emulator.island_points import BLOCK_POINTS, SOURCE_POINTS, SWITCH_POINTS
from hardware.emulator.island_site import IslandSite
from hardware.profile import load_profile

STORE = {"rating_w": 50_000, "charge_w": 50_000, "capacity_wh": 100_000, "noise": 0}
DEVICES: list[dict[str, Any]] = [
    {"id": "breaker", "kind": "island-switch", "settings": {"noise": 0}},
    {"id": "battery", "kind": "source", "settings": STORE},
    {"id": "homes", "kind": "load-block", "settings": {"power_w": 30_000, "noise": 0}},
]
MODE, REFERENCE, POWER, WATCHDOG, SAFE_MODE = 40, 41, 44, 46, 47
ORDER, ORDER_WATCHDOG, ORDER_SAFE, ORDER_LEFT = 40, 41, 42, 43


class Bench:
    """The island and the test's clock."""

    def __init__(self, **site: Any) -> None:
        self.now_s = 0.0
        logs: dict[str, FaultLog] = {}
        settings = Site.model_validate({"id": "yard", "physics": "island", "devices": DEVICES} | site)
        log_of: Callable[[str], FaultLog] = lambda name: logs.setdefault(name, FaultLog())  # noqa: E731
        self.site = IslandSite(settings, lambda: self.now_s, 1, log_of)

    def wait(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s = min(end_s, self.now_s + self.site.tick_s)
            self.site.step()

    def read(self, device: str, address: int, count: int = 1) -> list[int]:
        return self.site.devices[device].read(3, address, count)

    def write(self, device: str, address: int, *words: int) -> None:
        self.site.devices[device].write(16, address, words)

    def contacts(self) -> list[int]:
        return self.read("breaker", 16, 2)

    def island(self) -> None:
        """Battery forms beside the grid, then the switch opens."""
        self.write("battery", MODE, 2)
        self.wait(0.2)
        self.write("breaker", ORDER, 0)
        self.wait(1.0)


def test_a_source_holds_the_island_and_its_dead_man_sets_the_written_reference() -> None:
    bench = Bench()
    assert bench.contacts() == [1, 0]
    bench.write("battery", WATCHDOG, 2)
    bench.write("battery", SAFE_MODE, 2)
    bench.island()
    assert bench.contacts() == [0, 1] and bench.read("battery", 24) == [1]
    bench.write("battery", REFERENCE, 50_300)
    bench.wait(1.5)
    assert bench.read("battery", REFERENCE) == [50_300]
    assert bench.read("breaker", 22)[0] == pytest.approx(50_300 - 500 * 30 / 50, abs=20)  # f = reference - droop
    bench.wait(1.0)
    assert bench.read("battery", MODE, 2) == [2, 50_000] and bench.read("battery", 51) == [0]
    assert bench.read("breaker", 22)[0] == pytest.approx(49_700, abs=20)


@pytest.mark.parametrize(("safe", "mode", "state", "forming"), [(0, 0, 0, 0), (1, 1, 2, 0), (2, 2, 2, 1)])
def test_each_safe_state_of_a_source(safe: int, mode: int, state: int, forming: int) -> None:
    bench = Bench()
    bench.write("battery", WATCHDOG, 1)
    bench.write("battery", SAFE_MODE, safe)
    bench.write("battery", MODE, 2)
    bench.wait(0.9)
    assert bench.read("battery", 23, 2) == [2, 1]
    bench.wait(0.3)
    assert bench.read("battery", MODE) == [mode] and bench.read("battery", 23, 2) == [state, forming]


def test_without_a_dead_man_an_order_stands() -> None:
    bench = Bench()
    bench.write("battery", POWER, 0xFFFF, 0xD8F0)  # gives 10 kW
    bench.wait(60.0)
    assert bench.site.physics.world.read().p_kw[0] == pytest.approx(-10.0, abs=0.1)


@pytest.mark.parametrize(("safe", "on"), [(0, 0), (2, 1)])
def test_a_block_sheds_or_stays_as_written(safe: int, on: int) -> None:
    bench = Bench()
    bench.write("homes", ORDER_WATCHDOG, 1)
    bench.write("homes", ORDER_SAFE, safe)
    bench.wait(0.9)
    assert bench.read("homes", 20) == [1] and bench.read("homes", ORDER_LEFT) == [1]
    bench.wait(0.3)
    assert bench.read("homes", 20) == [on] and bench.read("homes", ORDER) == [safe]
    assert bench.read("homes", 18, 2) == [0, 30_000]  # what it would draw


def test_the_switch_never_closes_by_itself_nor_out_of_step() -> None:
    bench = Bench(hz=50.05)
    for device in ("breaker", "homes"):
        with pytest.raises(Refusal) as refused:
            bench.write(device, ORDER_SAFE, 1)
        assert refused.value.code == 3
    bench.island()
    world = bench.site.physics.world
    while abs(world.bus[k.B_ANGLE]) < 60.0:
        bench.wait(0.1)
    assert bench.read("breaker", 27) == [0]
    with pytest.raises(Refusal) as refused:
        bench.write("breaker", ORDER, 1)
    assert refused.value.code == 4 and bench.read("breaker", ORDER) == [0]
    bench.site.board.switch_on("grid-loss")
    bench.wait(0.1)
    assert bench.read("breaker", 18, 3) == [0, 0xFFFF, 0xFFFF] and bench.read("breaker", 24) == [0x8000]
    with pytest.raises(Refusal):
        bench.write("breaker", ORDER, 1)  # a live island onto a dead grid


def test_forming_and_powers_are_refused_where_they_make_no_sense() -> None:
    bench = Bench()
    bench.write("battery", MODE, 0)
    with pytest.raises(Refusal):
        bench.write("battery", MODE, 2)  # it stands still
    bench.write("battery", MODE, 3)
    bench.wait(0.7)
    bench.write("battery", MODE, 2)
    bench.wait(0.1)
    with pytest.raises(Refusal):
        bench.write("battery", POWER, 0, 1000)  # its droop decides


def test_faults_of_switch_and_dead_man() -> None:
    bench = Bench()
    bench.site.board_for("yard", "switch-welded").switch_on("switch-welded")
    bench.write("breaker", ORDER, 0)
    bench.wait(0.5)
    assert bench.contacts() == [1, 0]
    bench.site.board_for("yard", "breaker-contradicts").switch_on("breaker-contradicts")
    bench.wait(0.1)
    assert bench.contacts() == [0, 0]
    bench.site.devices["homes"].board.switch_on("cosmetic-timer")
    bench.write("homes", ORDER_SAFE, 0)
    bench.write("homes", ORDER_WATCHDOG, 1)
    bench.wait(3.0)
    assert bench.read("homes", 20) == [1]


def test_what_makes_no_island_is_refused() -> None:
    with pytest.raises(ValidationError, match="one island-switch"):
        Bench(devices=DEVICES[1:])
    with pytest.raises(ValidationError, match="has no load"):
        Bench(devices=[*DEVICES, {"id": "x", "kind": "load"}])
    with pytest.raises(DeviceError, match="rating_w"):
        Bench(devices=[DEVICES[0], {"id": "x", "kind": "source", "settings": {"rating_w": -1}}])


@pytest.mark.parametrize(
    ("profile", "points"),
    [
        ("emulated-source", SOURCE_POINTS),
        ("emulated-island-switch", SWITCH_POINTS),
        ("emulated-load-block", BLOCK_POINTS),
    ],
)
def test_profiles_and_maps_agree_on_addresses(profile: str, points: tuple[Any, ...]) -> None:
    loaded = load_profile(profile)
    starts = {point.address for point in points}
    assert {point.address for point in loaded.points.values()} <= starts
    writable = {point.address for point in points if point.writable}
    for control in loaded.controls.values():
        timer = control.timer.address if control.timer else control.value.address
        assert {control.value.address, timer} <= writable
