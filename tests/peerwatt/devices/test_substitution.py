"""A reading that is not good is not 0: the model's value stands in for it, flagged, counted and made good later."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from core import DeviceError, Quality
from peerwatt.cycle import SlotCycle
from peerwatt.devices.account import devices_summary
from peerwatt.devices.banks import Banks
from peerwatt.devices.opening import Place, opened_banks
from peerwatt.messages import Window
from peerwatt.plants import ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results.record import WindowRecord
from peerwatt.scenario import load_scenario
from peerwatt.system import System
from tests.peerwatt.devices.perfect_port import PerfectPort
from tests.peerwatt.devices.street20 import street

DAY = {"start": "2016-05-25T08:00", "end": "2016-05-25T14:00", "slot_minutes": 30, "zone": "Europe/Berlin"}
PLANT = {"kind": "emulated", "profile": "sunspec", "covers": ["battery"]}
HOURS = 0.5


def slots(system: System, banks: Banks) -> list[WindowRecord]:
    cycle = SlotCycle(system, ModelPlant(system, banks.batteries, banks.sources))
    found = []
    for slot in range(system.grid.n):
        closed = cycle.close(Window(slot, 1), cycle.open(Window(slot, 1)))
        assert closed is not None
        found.append(closed.record)
    return found


def with_port(port: PerfectPort) -> tuple[System, list[WindowRecord], dict[str, Any]]:
    system = prepare(load_scenario(street({"h02": PLANT}, time=DAY)))

    def own(place: Place, stack: ExitStack) -> PerfectPort:
        return port

    with opened_banks(system, speed=1.0, own=own) as banks:
        records = slots(system, banks)
        block = devices_summary(list(banks.accounts))
    assert block is not None
    return system, records, block


def charges(system: System, records: list[WindowRecord]) -> list[int]:
    b = system.building_ids.index("h02")
    return [int(record.charge_wh[0, b] - record.discharge_wh[0, b]) for record in records]


def test_a_device_that_does_as_it_is_told_changes_nothing() -> None:
    port = PerfectPort({})
    system, records, block = with_port(port)
    models = slots(system, Banks(*_models(system)))
    assert charges(system, records) == charges(system, models)
    assert sum(charges(system, records)) > 3_000
    assert block["deviation_kwh"] == 0.0 and block["substituted_slots"] == 0
    assert {control for control, _, _ in port.held} == {"power_w"}
    assert {expires for _, _, expires in port.held} == {1_830.0}, "the slot and a margin, never for ever"


def _models(system: System) -> Any:
    with opened_banks(system, speed=None) as banks:
        return banks.batteries, banks.sources


@pytest.mark.parametrize("quality", [*(q for q in Quality if q is not Quality.GOOD), None])
def test_r13_a_reading_that_is_not_good_is_substituted_flagged_and_counted(quality: Quality | None) -> None:
    port = PerfectPort({1: quality, 2: quality})
    system, records, block = with_port(port)
    models = slots(system, Banks(*_models(system)))
    found, wanted = charges(system, records), charges(system, models)
    assert wanted[1] > 0 and wanted[2] > 0, "else a 0 would not show"
    assert found[1] > 0 and found[2] > 0, "a failed reading is never 0"
    assert found == wanted, "this device did what the model does, so the substitute is the truth"
    device = block["by_device"][0]
    told = str(Quality.COMM_FAIL if quality is None else quality)
    assert device["substituted_slots"] == 2 and device["substituted_by_quality"] == {told: 2}
    assert device["last_reason"]
    assert block["substituted_kwh"] == (found[1] + found[2]) / 1000
    assert "stands in for it" in block["remark"]


def test_what_a_substitute_had_too_much_is_made_good() -> None:
    """The device sulks while nobody can read it; afterwards the sum is what its counters say."""

    class Sulking(PerfectPort):
        def hold(self, control: str, value: float, expires_s: float) -> None:
            super().hold(control, 0.0 if len(self.held) in (1, 2) else value, expires_s)

    port = Sulking({1: Quality.COMM_FAIL, 2: Quality.COMM_FAIL})
    system, records, block = with_port(port)
    found = charges(system, records)
    assert found[1] > 0 and found[2] > 0, "the substitute, which was too much"
    counted = sum(value * HOURS for _, value, _ in port.held)
    assert abs(sum(found) - counted) <= 1
    assert block["substituted_slots"] == 2


def test_a_set_point_that_does_not_get_through_is_counted() -> None:
    port = PerfectPort({})
    port.refuse = True
    system, records, block = with_port(port)
    assert charges(system, records) == [0] * system.grid.n, "what was measured is booked, not what was wished"
    assert block["refused_set_points"] == system.grid.n
    assert "not-armed" in block["by_device"][0]["last_reason"]
    assert not block["within_bound"] and "BEYOND" in block["remark"]


def test_the_run_does_not_begin_with_an_unknown_counter() -> None:
    with pytest.raises(DeviceError, match="battery device of h02 cannot be read"):
        with_port(PerfectPort({-2: Quality.COMM_FAIL}))


def test_measured_power_enters_the_same_power_flow() -> None:
    class Heavy(PerfectPort):
        def hold(self, control: str, value: float, expires_s: float) -> None:
            super().hold(control, 3_500.0, expires_s)

    system, records, _ = with_port(Heavy({}))
    models = slots(system, Banks(*_models(system)))
    b = system.building_ids.index("h02")
    heavy, light = (np.array([r.import_wh[0, b] - r.export_wh[0, b] for r in x]) for x in (records, models))
    assert (heavy - light).max() > 500
    voltages = [np.array([r.v_pu[0].mean() for r in x if r.v_pu is not None]) for x in (records, models)]
    assert (voltages[0] < voltages[1]).any()
