"""The network as the API shows it, element by element beside the driver's network states."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from core import GridError
from peerwatt.cycle import SlotCycle, physics
from peerwatt.live import neighbourhood
from peerwatt.live.network_view import network_out
from peerwatt.messages import Flows, NetworkState, Window
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from peerwatt.system import System
from tests.peerwatt.districts import district, home, load
from tests.peerwatt.live.serving import World


def street5(**changes: object) -> System:
    return prepare(load_scenario("street5", changes))


def test_elements_and_states_stand_in_the_same_order() -> None:
    system = street5()
    shown = network_out(system)
    assert shown is not None
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    window = Window(0, 48)
    closed = cycle.close(window, cycle.open(window))
    assert closed is not None
    record = closed.record
    assert record.v_pu is not None and record.branch_loading is not None
    assert len(shown.buses) == record.v_pu.shape[1] and len(shown.branches) == record.branch_loading.shape[1]
    assert {p: bus.bus for bus in shown.buses for p in bus.participants}.keys() == set(system.building_ids)
    (home_1,) = (bus for bus in shown.buses if "home-1" in bus.participants)
    names = {bus.id: bus.name for bus in system.static.buses}
    assert names[home_1.bus] == "Bus R11" and home_1.nominal_mv == 400_000
    ends = {bus.bus for bus in shown.buses}
    assert all({branch.from_bus, branch.to_bus} <= ends for branch in shown.branches)
    assert all((branch.rating_ma is None) == (branch.kind != "line") for branch in shown.branches)


def test_its_version_changes_with_its_content() -> None:
    one, same, other = (network_out(street5(**change)) for change in ({}, {}, {"network.v_max_pu": 1.05}))
    assert one is not None and same is not None and other is not None
    assert one.version == same.version != other.version
    assert other.buses[0].max_ppm == 1_050_000


def test_without_a_network_there_is_none() -> None:
    assert network_out(prepare(load_scenario(district(home("a", load()))))) is None


def test_a_power_flow_that_does_not_converge_is_told_and_the_market_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(system: System, flows: Flows, rest: np.ndarray, window: Window) -> tuple[NetworkState, np.ndarray]:
        if window.first == 2:
            raise GridError("does not converge", slot=2)
        return physics(system, flows, rest, window)

    monkeypatch.setattr(neighbourhood, "physics", failing)
    world = World("street5", {"time.days": None, "time.end": "2016-05-25T01:00"})
    state = asyncio.run(world.live())
    assert set(state.slots[1].network) == {"v_pu_milli", "loading_permille", "losses_w", "slack_w"}
    assert state.slots[2].network == {"failed": "slot 2: does not converge"} and state.slots[2].loss_wh == 0
    assert all(len(slot.versions) == 1 for slot in state.slots.values()), "every slot is settled all the same"
