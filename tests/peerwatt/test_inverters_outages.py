"""Inverter functions in outages: an island's voltages are answered too, dark inverters answer nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from tests.peerwatt.districts import assert_verified, home, plane
from tests.peerwatt.test_envelopes_run import DAY
from tests.peerwatt.test_run_inverters import (
    BUSES,
    STEEP_X,
    STEEP_Y,
    VAR_X,
    VAR_Y,
    PlainLoop,
    inverter,
    lines,
    stressed,
)
from tests.peerwatt.test_run_windows import assert_same_for, drive

pytestmark = pytest.mark.slow  # the supervisor and the island's milliseconds

NOON = {"at": f"{DAY} 11:05", "minutes": 60, "kind": "planned"}
WHOLE = slice(9, 12)
"""Slots of the run that are an island throughout: 11:15 to 12:00."""
HOLDS = "Bus R2"


def island(inverters: dict[str, Any] | None, *outages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Three large PV plants and a battery at the beginning of their feeder that can take it all."""
    scenario = stressed(inverters)
    battery = {"kind": "battery", "capacity_kwh": 900, "charge_kw": 400, "discharge_kw": 400, "initial_soc": 0.4}
    scenario["buildings"].append(home("store", battery, bus=HOLDS))
    time = {"start": f"{DAY}T09:00", "end": f"{DAY}T14:00", "slot_minutes": 15, "zone": "Europe/Berlin"}
    microgrid = {"forming": "store", "floor_soc": 0.1}
    return {**scenario, "time": time, "outages": list(outages), "microgrid": microgrid, **more}


class IslandLoop(PlainLoop):
    """The same wires in pandapower, held at 1.0 p.u. by a source at the battery's bus."""

    def __init__(self) -> None:
        super().__init__()
        bus = int(self.network.bus_ids[self.network.bus_index(HOLDS)])
        self.net.ext_grid["bus"], self.net.ext_grid["vm_pu"] = bus, 1.0


@pytest.mark.parametrize(("x", "y"), [(VAR_X, VAR_Y), ((0.9, 0.99, 1.005, 1.02), (0.44, 0.0, 0.0, -0.44))])
def test_volt_var_in_an_island_is_what_an_independent_loop_finds(tmp_path: Path, x: Any, y: Any) -> None:
    run = peerwatt.run(island(inverter(x, y), NOON), tmp_path / "run", report=False)
    net, q, v = lines(run)
    q = q[:, : len(BUSES)]
    loop = IslandLoop()
    ids = [b.id for b in run.static.buses]
    at = [ids.index(str(b)) for b in loop.bus]
    for slot in range(WHOLE.start, WHOLE.stop):
        found = loop.volt_var(net[slot, : len(BUSES)], x, y, 0.5)
        assert np.abs(found - q[slot]).max() < 2e-4
        assert np.abs(loop.volts(net[slot, : len(BUSES)], found) - v[slot, at]).max() < 1e-6
    slots = run.table("slots").set_index("slot")
    assert (slots.loc[9:11, "exchange_wh"] == 0).all() and (slots.loc[9:11, "loss_wh"] > 0).all()
    assert run.summary["inverters"]["not_converged_slots"] == 0
    if x != VAR_X:
        assert np.abs(q[WHOLE]).max() > 2.0
    assert_verified(run)


def test_a_curve_far_too_steep_for_plain_iteration_balances_an_island_too(tmp_path: Path) -> None:
    run = peerwatt.run(island(inverter(STEEP_X, STEEP_Y), NOON), tmp_path / "run", report=False)
    assert run.summary["inverters"]["not_converged_slots"] == 0
    assert (run.table("slots").set_index("slot").loc[9:11, "exchange_wh"] == 0).all()
    assert_verified(run)


def test_what_inverters_curtail_in_an_island_is_not_stored_by_the_battery(tmp_path: Path) -> None:
    """Volt-watt between 1.005 and 1.03 p.u.: nothing crosses the switch all the same, and every Wh has its reason."""
    watt = inverter(watt=True)
    watt["settings"]["volt_watt"]["curve"]["x"] = [1.005, 1.03]
    run = peerwatt.run(island(watt, NOON), tmp_path / "run")
    assert_verified(run)
    rows = run.table("inverters").set_index("slot").loc[9:11]
    assert (rows["voltage_wh"] > 0).any() and (rows["converged"] == 1).all()
    slots = run.table("slots").set_index("slot").loc[9:11]
    assert (slots["exchange_wh"] == 0).all()
    free, _ = drive(island(None, NOON), 20)
    assert (plane(run, "charge_wh")[WHOLE, 3] < free["charge_wh"][WHOLE, 3]).all()


def test_a_full_battery_holds_back_what_inverters_leave(tmp_path: Path) -> None:
    watt = inverter(watt=True)
    watt["settings"]["volt_watt"]["curve"]["x"] = [1.005, 1.03]
    scenario = island(watt, NOON)
    scenario["buildings"][-1]["assets"][0] |= {"initial_soc": 1.0, "efficiency_charge": 1.0}
    run = peerwatt.run(scenario, tmp_path / "run", report=False)
    assert_verified(run)
    slots = run.table("slots").set_index("slot").loc[9:11]
    assert (slots["exchange_wh"] == 0).all() and (slots["charge_wh"] == 0).all()
    assert run.summary["reliability"]["curtailed_kwh"] > 50


def test_inverters_without_supply_answer_nothing() -> None:
    """Dark from 11:05 to 12:05 without a microgrid: slots 9 to 11 throughout."""
    dark = NOON | {"kind": "fault"}
    always = inverter((0.9, 0.95, 0.96, 1.1), (0.44, 0.0, -0.2, -0.44))  # absorbs at any voltage of a day
    records, _ = drive(island(always, dark, microgrid=None), 20)
    lit, _ = drive(island(always, microgrid=None), 20)
    assert not records["inverter_q_kvar"][WHOLE].any() and (lit["inverter_q_kvar"] > 1.0).all()
    q = records["inverter_q_kvar"]
    assert (q[8] > 0).all() and (q[8] < lit["inverter_q_kvar"][8]).all(), "five minutes of fifteen"
    assert np.array_equal(records["inverter_q_kvar"][:8], lit["inverter_q_kvar"][:8])


def test_voltages_of_a_dark_network_are_in_no_summary(tmp_path: Path) -> None:
    night = {"start": f"{DAY}T00:00", "end": f"{DAY}T01:00", "slot_minutes": 15, "zone": "Europe/Berlin"}
    fault = {"at": f"{DAY} 00:00", "minutes": 60}
    run = peerwatt.run(island(inverter(), fault, microgrid=None, time=night), tmp_path / "run", report=False)
    block = run.summary["inverters"]
    assert block["q_kvarh"] == 0.0 and block["iterations_max"] == 0
    assert block["v_with_pu"] == block["v_without_pu"] == [None, None]


def test_the_battery_that_holds_the_voltage_does_not_answer_it() -> None:
    curve = inverter((0.9, 0.95, 0.96, 1.1), (0.44, 0.0, -0.2, -0.44))
    scenario = island(curve, NOON)
    scenario["buildings"][-1]["assets"][0]["inverter"] = {"rating_kva": 500.0}
    records, _ = drive(scenario, 20)
    own = records["inverter_q_kvar"][:, 3]
    assert not own[WHOLE].any() and (own[:8] > 1.0).all() and (own[13:] > 1.0).any()
    assert not records["exchange_wh"][WHOLE].any()


def test_windows_have_no_say_where_inverters_meet_an_outage() -> None:
    limits = [{"export_kw": 60.0, "reason": "the feeder"}, {"buildings": ["store"], "import_kw": 100.0}]
    records = assert_same_for(island(inverter(watt=True), NOON, envelopes=limits), [96, 7, 1])
    assert not records["exchange_wh"][WHOLE].any()
    assert (records["import_wh"][WHOLE, 3] <= 25_000).all()
