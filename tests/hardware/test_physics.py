"""A device behind Modbus does with set-points what the model does with requests: Wh by Wh, remainders included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import DeviceError, keyed_generator
from grid.assets.battery import BatteryColumns, BatteryState, battery_columns, initial_state, step_batteries
from hardware import (
    BatteryClient,
    BlockingStorage,
    EmulatedBattery,
    KernelBattery,
    LoopThread,
    exact_set_point_w,
)

SLOT_S = 900


def _battery() -> tuple[BatteryColumns, BatteryState]:
    columns = battery_columns(
        building=[0],
        capacity_kwh=[7.3],
        charge_kw=[4.1],
        discharge_kw=[3.7],
        efficiency_charge=[0.957],
        efficiency_discharge=[0.943],
        self_discharge_per_day=[0.01],
        wear_per_kwh=[0.0],
        min_soc=[0.1],
        max_soc=[0.95],
        slot_s=SLOT_S,
    )
    return columns, initial_state(columns, [0.5])


def test_a_day_over_the_wire_equals_the_model() -> None:
    columns, state = _battery()
    request_wh = keyed_generator(1, "requests").integers(-1500, 1500, (96, 1))
    request_wh[::7] = 0
    flows, end = step_batteries(columns, state, request_wh)
    assert flows.charge_wh.any() and flows.discharge_wh.any()
    assert (flows.charge_wh - flows.discharge_wh != request_wh).any()  # limits were met: clipping is compared too

    done = []
    with EmulatedBattery(KernelBattery(columns, state, SLOT_S)) as battery, LoopThread() as thread:
        storage = BlockingStorage(BatteryClient(battery.host, battery.port), thread)
        storage.connect()
        last = storage.read()
        for wanted_wh in request_wh[:, 0]:
            storage.set_power(exact_set_point_w(int(wanted_wh), SLOT_S))
            storage.advance(SLOT_S)
            now = storage.read()
            done.append((now.charged_wh - last.charged_wh, now.discharged_wh - last.discharged_wh, last.stored_wh))
            last = now
        storage.close()
    model = np.column_stack([flows.charge_wh, flows.discharge_wh, flows.e_start_wh])
    assert np.array_equal(np.array(done), model)
    assert last.stored_wh == end.e_wh[0]


def test_the_state_that_was_handed_in_is_not_touched() -> None:
    columns, state = _battery()
    before = state.copy()
    KernelBattery(columns, state, SLOT_S).advance(4_000, SLOT_S)
    assert state.e_wh == before.e_wh
    assert state.rem_charge == before.rem_charge


def test_several_slots_at_once_equal_one_after_the_other() -> None:
    columns, state = _battery()
    at_once = KernelBattery(columns, state, SLOT_S)
    stepwise = KernelBattery(columns, state, SLOT_S)
    whole = at_once.advance(1_000, 4 * SLOT_S)
    parts = [stepwise.advance(1_000, SLOT_S) for _ in range(4)]
    assert whole.charge_wh == sum(part.charge_wh for part in parts)
    assert whole.stored_wh == parts[-1].stored_wh


@pytest.mark.parametrize(("set_point_w", "seconds"), [(4_000, 450), (1, SLOT_S)])
def test_what_the_slot_cannot_say_exactly_is_refused(set_point_w: int, seconds: int) -> None:
    battery = KernelBattery(*_battery(), SLOT_S)
    with pytest.raises(DeviceError) as caught:
        battery.advance(set_point_w, seconds)
    assert caught.value.local


@given(st.integers(-(10**7), 10**7), st.sampled_from([60, 300, 900, 1800, 3600]))
def test_slots_that_divide_an_hour_always_have_an_exact_set_point(request_wh: int, slot_s: int) -> None:
    assert exact_set_point_w(request_wh, slot_s) * slot_s == request_wh * 3600


def test_longer_slots_may_have_none() -> None:
    assert exact_set_point_w(-4, 7200) == -2
    with pytest.raises(DeviceError, match="no whole number of watts"):
        exact_set_point_w(3, 7200)
