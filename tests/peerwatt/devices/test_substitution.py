"""A reading that is not good is not 0: the model's value stands in for it, flagged, counted and made good later."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import pytest

from core import DeviceError, Quality
from market.engine.facts import QUALITIES
from peerwatt.cycle import SlotCycle
from peerwatt.devices.account import devices_summary
from peerwatt.devices.banks import Banks
from peerwatt.devices.opening import Place, opened_banks
from peerwatt.live.genesis import Roll
from peerwatt.live.readings import sourced_readings
from peerwatt.messages import Meters, Window
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
    assert (block["deviation_kwh"], block["slots_beyond_bound"]) == (0.0, 0), "held against all three slots together"
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


class Dying(PerfectPort):
    """Dead from the reading of slot 1 on: it can neither be read nor told."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(range(1, 100), Quality.COMM_FAIL))

    def hold(self, control: str, value: float, expires_s: float) -> None:
        self.refuse = self.reads > 1
        super().hold(control, value, expires_s)


def test_what_a_dead_device_was_only_wished_to_do_is_not_booked() -> None:
    """What it confirmed last stands for 30 s of the slot after, as long as its timer lets it; then it is at rest."""
    port = Dying()
    system, records, block = with_port(port)
    found = charges(system, records)
    wanted = charges(system, slots(system, Banks(*_models(system))))
    assert found[:2] == wanted[:2] and wanted[1] > 600, "it was told these, and took them"
    assert sum(wanted[2:]) > 1_000, "else there would be nothing to book"
    assert found[2] == round(wanted[1] * 30 / 1_800), "the set-point of before outlives its slot by 30 s"
    assert found[3:] == [0] * (system.grid.n - 3)
    assert block["refused_set_points"] == system.grid.n - 2
    assert block["substituted_slots"] == system.grid.n - 1


def test_of_a_dead_source_what_the_sun_gives_is_booked() -> None:
    """A limit that it did not take does not hold it back: the model's value without it."""

    class Dark(PerfectPort):
        def release(self, control: str) -> None:
            self.hold(control, 0.0, 0.0)

        def shine(self, available_w: float) -> None:
            pass

    port = Dark(dict.fromkeys(range(100), Quality.COMM_FAIL))
    port.refuse = True
    system = prepare(load_scenario(street({"h10": PLANT | {"covers": ["pv"]}}, time=DAY)))
    with opened_banks(system, speed=1.0, own=lambda place, stack: port) as banks:
        records = slots(system, banks)
    b = system.building_ids.index("h10")
    models = slots(system, Banks(*_models(system)))
    made = [int(record.pv_wh[0, b]) for record in records]
    held_back = [int(record.curtailed_wh[0, b]) for record in models]
    assert sum(held_back) > 500, "there was a limit to be held"
    assert made == [int(r.pv_wh[0, b]) + cut for r, cut in zip(models, held_back, strict=True)]


def test_a_good_reading_that_is_old_is_not_one_of_the_slots_end() -> None:
    """A guardian that hangs tells its last readings, good by name: they are stale for the books."""

    class Hanging(PerfectPort):
        def measure(self) -> Any:
            self.age_s = 900.0 if self.reads in (1, 2) else 8.0
            return super().measure()

    system, _, block = with_port(Hanging({}))
    device = block["by_device"][0]
    assert device["substituted_by_quality"] == {"stale": 2}
    assert "900 s before" in device["last_reason"]
    assert (device["compared_slots"], device["caught_up_slots"]) == (system.grid.n - 2, 1)


def test_a_replaced_device_is_no_energy() -> None:
    port = PerfectPort({1: Quality.COMM_FAIL})
    port.jump = {2: 900_000.0}
    system, records, block = with_port(port)
    assert charges(system, records) == charges(system, slots(system, Banks(*_models(system))))
    assert block["by_device"][0]["substituted_by_quality"] == {"comm-fail": 1, "implausible": 1}
    assert "another device" in block["by_device"][0]["last_reason"]


def test_one_slot_beyond_its_bound_is_said() -> None:
    """The sum of the run would be within: the bound is each slot's."""

    class Odd(PerfectPort):
        def hold(self, control: str, value: float, expires_s: float) -> None:
            super().hold(control, value + (400.0 if len(self.held) == 3 else 0.0), expires_s)

    system, _, block = with_port(Odd({1: Quality.COMM_FAIL}))
    assert block["deviation_kwh"] < block["bound_kwh"], "which used to hide it"
    assert (block["slots_beyond_bound"], block["within_bound"]) == (1, False)
    compared = system.grid.n - 1
    assert block["compared_slots"] == compared
    assert f"BEYOND the stated bound in 1 of {compared} slots" in block["remark"]


def test_a_slot_that_makes_good_is_flagged_in_the_live_markets_readings() -> None:
    """Substituted, then corrected (it has in it what the substitute was off by), then good."""
    system = prepare(load_scenario(street({"h02": PLANT}, time=DAY)))
    roll = Roll(tuple(range(system.n_buildings)))
    port, found = PerfectPort({1: Quality.COMM_FAIL}), []
    with opened_banks(system, speed=1.0, own=lambda place, stack: port) as banks:
        cycle = SlotCycle(system, ModelPlant(system, banks.batteries, banks.sources))
        for slot in range(4):
            closed = cycle.close(Window(slot, 1), cycle.open(Window(slot, 1)))
            assert closed is not None
            meters = cast(Meters, closed.record)  # it has the same columns
            told = sourced_readings(system, roll, banks, meters, slot, 0, frozenset(roll.member_of))
            assert {reading.quality for reading in told["model"]} == {0} and len(told["device"]) == 1
            found += [QUALITIES[reading.quality] for reading in told["device"]]
    assert found == ["good", "substituted", "corrected", "good"]
