"""A run in which the district stands alone: exact balance, who is shed, the frozen market, and the same on any cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import peerwatt
from grid.standing_alone import standing_alone
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import assert_verified
from tests.peerwatt.test_run_windows import assert_equal, drive

pytestmark = pytest.mark.slow  # the supervisor and the island's milliseconds

STORE = {
    "id": "store", "bus": "Bus R1", "terms": {"kept_back_soc": 0.4},
    "assets": [{"kind": "battery", "capacity_kwh": 30, "charge_kw": 15, "discharge_kw": 15, "min_soc": 0.05,
                "initial_soc": 0.6}],
}  # fmt: skip


def island(*outages: dict[str, Any], store: dict[str, Any] = STORE, **more: Any) -> dict[str, Any]:
    street = load_scenario("street5").scenario.model_dump(mode="json", exclude_unset=True)
    microgrid = {"forming": "store", "priorities": {"home-5": 1, "home-1": 9}} | more.pop("microgrid", {})
    return {
        "extends": "street5", "name": "island", "buildings": [*street["buildings"], store], "outages": list(outages),
        "microgrid": microgrid, **more,
    }  # fmt: skip


NOON = {"at": "2016-05-25 11:50", "minutes": 100, "kind": "planned"}
NIGHT = {"at": "2016-05-25 21:10", "minutes": 60}
BLACK = {"at": "2016-05-25 03:05", "minutes": 50, "black": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    return peerwatt.run(island(NOON, NIGHT, BLACK), tmp_path_factory.mktemp("island") / "run")


def slots_of(run: peerwatt.Run) -> Any:
    return run.table("slots").set_index("slot")


def test_nothing_crosses_the_switch_of_an_island(run: peerwatt.Run) -> None:
    slots = slots_of(run)
    whole = [*range(48, 53), *range(85, 88)]  # 12:00 to 13:15 and 21:15 to 22:00
    assert (slots.loc[whole, "exchange_wh"] == 0).all()
    assert (slots.loc[whole, "loss_wh"] >= 0).all() and (slots.loc[whole, "import_wh"] > 0).all()
    assert (slots["exchange_wh"].drop(range(44, 56)).drop(range(84, 92)).drop(range(12, 18)) != 0).any()


def test_the_island_has_voltages_of_its_own_source(run: peerwatt.Run) -> None:
    buses = run.table("buses")
    at = buses[(buses["slot"] == 50)].set_index("bus")["v_pu"]
    system = prepare(load_scenario(island(NOON)))
    assert system.wires is not None and system.outages is not None and system.outages.alone is not None
    home = int(system.wires.bus[system.building_ids.index("store")])
    assert abs(float(at[system.wires.network.bus_ids[home]]) - 1.0) < 1e-6


def test_the_books_of_an_island_are_sound(run: peerwatt.Run) -> None:
    assert_verified(run)


def test_the_market_is_frozen_and_metered_energy_shared_at_the_mid_market_rate(run: peerwatt.Run) -> None:
    slots = slots_of(run)
    price = slots.loc[[49, 50, 51], "price_per_kwh"].to_numpy()
    assert np.allclose(price, (0.32 + 0.08) / 2)
    ledger = run.table("ledger")
    row = ledger[(ledger["slot"] == 50) & (ledger["account"] == "retailer")].iloc[0]
    loss_wh = int(slots.loc[50, "loss_wh"])
    assert row["contract_u"] == 0 and row["residual_u"] == -80 * loss_wh  # who made the losses gets feed-in for them


def test_an_order_to_island_darkens_nobody_and_a_black_start_everybody_for_a_moment(run: peerwatt.Run) -> None:
    found = run.summary["reliability"]
    assert found["microgrid"] and found["outages"] == 3
    assert found["saidi_minutes"] == 0.0 and found["maifi"] >= 1.0
    told = [event["text"] for event in found["events"]]
    states = [text for text in told if " -> " in text]
    for step in ("connected -> planned-out", "planned-out -> islanded", "islanded -> reconnecting",
                 "unplanned-out -> islanded", "black -> starting", "starting -> islanded"):  # fmt: skip
        assert any(step in text for text in states), (step, states)
    assert states[-1].startswith("reconnecting -> connected")


def test_the_trace_shows_frequency_powers_and_charge(run: peerwatt.Run) -> None:
    from peerwatt.microgrid.story import read_trace

    trace = read_trace(run.folder)
    live = trace["frequency_hz"] > 0
    assert trace["frequency_hz"][live].min() > 47.5 and trace["frequency_hz"].max() < 51.5
    assert (np.diff(trace["at_s"]) > 0).all() and set(trace["state"]) >= {"islanded", "starting", "reconnecting"}
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "SAIDI" in page and 'id="outage-frequency"' in page


def test_an_empty_battery_sheds_by_priority_and_serves_the_first_longest(tmp_path_factory: Any) -> None:
    small = STORE | {"assets": [STORE["assets"][0] | {"capacity_kwh": 2.5, "initial_soc": 0.5}]}
    scenario = island({"at": "2016-05-25 20:00", "minutes": 180}, store=small)
    run = peerwatt.run(scenario, tmp_path_factory.mktemp("empty") / "run", report=False)
    found = run.summary["reliability"]["by_building"]
    assert found["home-1"]["minutes"] > found["home-3"]["minutes"] > found["home-5"]["minutes"] or (
        found["home-1"]["minutes"] > found["home-5"]["minutes"] and found["home-3"]["minutes"] > 0
    )
    shed = [e["text"].split(" ")[0] for e in run.summary["reliability"]["events"] if e["kind"] == "shed"]
    assert shed and shed[0] == "home-1" and shed[-1] == "home-5"
    lowest = run.table("buildings").query("building == 'store'")["soc_wh"].min()
    assert lowest >= 0.05 * 2500 - 1
    assert_verified(run)


def test_a_published_price_holds_for_everybody(tmp_path_factory: Any) -> None:
    scenario = island(NOON, microgrid={"market": "reprice", "island_price_per_kwh": 0.25})
    run = peerwatt.run(scenario, tmp_path_factory.mktemp("price") / "run", report=False)
    assert np.allclose(slots_of(run).loc[[49, 50, 51], "price_per_kwh"].to_numpy(), 0.25)
    assert_verified(run)


def test_reactive_power_is_part_of_an_islands_losses(tmp_path_factory: Any) -> None:
    scenario = island(NOON)
    for building in scenario["buildings"]:
        building["power_factor"] = 0.8
    run = peerwatt.run(scenario, tmp_path_factory.mktemp("reactive") / "run", report=False)
    assert (slots_of(run).loc[48:52, "exchange_wh"] == 0).all()


def test_nobody_charges_for_a_fault_before_it_comes(tmp_path_factory: Any) -> None:
    empty = STORE | {"assets": [STORE["assets"][0] | {"initial_soc": 0.05}]}
    dark = {"at": "2016-05-25 02:12", "minutes": 60}
    run = peerwatt.run(island(dark, store=empty), tmp_path_factory.mktemp("before") / "run", report=False)
    stored = run.table("buildings").query("building == 'store'").set_index("slot")
    assert (stored.loc[:11, "charge_wh"] == 0).all() and (stored.loc[:11, "discharge_wh"] == 0).all()


def test_windows_and_repetition_have_no_say() -> None:
    scenario = island(NIGHT)
    whole, bills = drive(scenario, 2688)
    again, others = drive(scenario, 5)
    assert_equal(whole, again)
    assert np.array_equal(bills.total_u, others.total_u)


def test_a_network_of_an_island_is_that_of_its_source() -> None:
    system = prepare(load_scenario(island(NOON)))
    assert system.wires is not None and system.outages is not None
    network, alone = system.wires.network, system.outages.alone
    assert alone is not None
    p_kw = np.zeros((1, network.n_buses))
    p_kw[0, int(system.wires.bus[2])] = 10.0
    flow = alone.power_flow(p_kw, np.zeros_like(p_kw))
    assert abs(float(flow.slack_p_kw[0]) - 10.0 - float(flow.losses_kw[0])) < 1e-9 and float(flow.losses_kw[0]) > 0
    reference = alone.power_flow(p_kw, np.zeros_like(p_kw))
    assert reference.v_pu[0, int(alone.feeding_buses[0])] == pytest.approx(1.0, abs=1e-9)
    assert standing_alone(network, int(alone.feeding_buses[0])).feeding_buses.tolist() == alone.feeding_buses.tolist()
