"""Limits at connection points in outages: kept in islands too, counted where the island's balance goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import peerwatt
from peerwatt.cycle import SlotCycle
from peerwatt.messages import Window
from peerwatt.microgrid.islanding import Islanding
from peerwatt.microgrid.outcome import SlotOutcome, SlotPowers
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results.record import ENVELOPE_COLUMNS, ISLAND_COLUMNS
from peerwatt.results.verify import verify_run
from peerwatt.scenario import load_scenario
from peerwatt.simulate import windows
from peerwatt.system import System
from tests.peerwatt.districts import BATTERY, PROFILES, assert_verified, district, home, load, plane, pv
from tests.peerwatt.planned import AIR, CAR, WARM
from tests.peerwatt.test_envelopes_run import CONSTANT, DAY, draws, makes
from tests.peerwatt.test_run_windows import assert_equal, assert_same_for, drive, joined

pytestmark = pytest.mark.slow  # the supervisor and the island's milliseconds

PLACE = {name: k for k, name in enumerate((*ENVELOPE_COLUMNS, *ISLAND_COLUMNS))}
LONG = {"at": f"{DAY} 09:50", "minutes": 130, "kind": "planned"}
"""From within slot 3 to within slot 12 of `steady`: slots 4 to 11 are an island throughout."""
WHOLE = slice(4, 12)


def store(**more: Any) -> dict[str, Any]:
    battery = {"kind": "battery", "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20, "initial_soc": 0.5}
    return home("store", battery | {"efficiency_charge": 1.0, "efficiency_discharge": 1.0} | more)


def steady(*homes: dict[str, Any], battery: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Homes whose loads and PV never change, and a battery that can hold them, from 9:00 to 13:00: 16 slots."""
    time = {"start": f"{DAY}T09:00", "end": f"{DAY}T13:00", "slot_minutes": 15, "zone": "Europe/Berlin"}
    island = {"outages": [LONG], "microgrid": {"forming": "store", "floor_soc": 0.1}}
    return district(*homes, store(**(battery or {})), **{"profiles": CONSTANT, "time": time, **island, **more})


def told(records: dict[str, Any], name: str, building: int) -> list[int]:
    found: list[int] = records["envelopes"][:, building, PLACE[name]].tolist()
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_generation_that_an_island_holds_back_is_let_in_for_the_own_limit_of_drawing() -> None:
    """The battery is full and 3 kW of 6 have no taker; a may draw 1 kW only and keeps its PV, b gives up more."""
    homes = home("a", draws(2), makes(2)), home("b", makes(4)), home("c", draws(1))
    full, limit = {"initial_soc": 1.0}, {"buildings": ["a"], "import_kw": 0.25}
    free, _ = drive(steady(*homes, battery=full), 16)
    kept, _ = drive(steady(*homes, battery=full, envelopes=[limit]), 16)
    assert (free["import_wh"][WHOLE, 0] > 63).all(), "without a limit all share alike"
    assert (kept["import_wh"][WHOLE, 0] <= 63).all()
    assert (kept["pv_wh"][WHOLE, 0] >= 437).all() and (kept["pv_wh"][WHOLE, 1] < free["pv_wh"][WHOLE, 1]).all()
    for records in (free, kept):
        assert not records["exchange_wh"][WHOLE].any()
        assert (np.abs(records["pv_wh"][WHOLE][1:].sum(axis=1) - 735) <= 20).all(), "as much as is taken in all"
    assert not any(told(kept, "import_excess_wh", 0))


def test_the_forming_battery_charges_no_more_than_its_building_may_draw(tmp_path: Path) -> None:
    """3 kW are left over; the building of the battery may draw 1 kW, so that 2 kW are held back by the others."""
    homes = home("a", draws(1), makes(3)), home("b", makes(1), export_limit_kw=0.6)
    limit = {"buildings": ["store"], "import_kw": 1.0, "reason": "its cable"}
    run = peerwatt.run(steady(*homes, envelopes=[limit]), tmp_path / "run", report=False)
    assert_verified(run)
    charged, curtailed = plane(run, "charge_wh")[WHOLE, 2], plane(run, "curtailed_wh")[WHOLE]
    assert (charged <= 250).all() and (charged >= 245).all()
    assert (curtailed[:, :2] > 0).all(), "both give way, in proportion"
    assert (curtailed.sum(axis=1) >= 750 + 100 - 350).all()
    islands = run.table("islands")
    assert islands["building"].unique().tolist() == ["store"] and not islands["import_island_wh"][WHOLE].any()
    assert run.summary["reliability"]["curtailed_kwh"] >= 8 * 0.4
    assert run.summary["energy"]["curtailed_kwh"] > run.summary["reliability"]["curtailed_kwh"]
    assert run.summary["envelopes"]["excess_kwh"] == {"import": 0.0, "export": 0.0}


def test_cars_wait_for_the_limit_of_the_forming_building_and_fixed_load_is_counted(tmp_path: Path) -> None:
    """The battery may give 1 kW. A car of 4 kW waits, 2 kW of load do not: 1 kW is beyond, for the island's sake."""
    stay = {"arrival": f"{DAY}T09:00", "departure": f"{DAY}T23:00", "energy_kwh": 40.0}
    car = {"kind": "ev", "charge_kw": 4.0, "sessions": [stay], "controller": "charge_on_arrival"}
    homes = home("a", draws(0.5), car), home("b", draws(1.5))
    limit = {"buildings": ["store"], "export_kw": 1.0, "reason": "its cable"}
    run = peerwatt.run(steady(*homes, envelopes=[limit]), tmp_path / "run", report=False)
    assert_verified(run)
    assert not plane(run, "ev_wh")[WHOLE].any() and plane(run, "ev_wh")[1, 0] == 1000
    assert (plane(run, "load_wh")[WHOLE, :2] == [125, 375]).all()
    rows = run.table("islands").set_index("slot")
    assert (rows.loc[4:11, "export_island_wh"] == 250).all()
    block = run.summary["envelopes"]
    assert block["island_excess_kwh"] == block["excess_kwh"] and block["excess_kwh"]["export"] >= 2.0
    assert any("by the battery that held an island in balance" in note for note in run.summary["notes"])


def test_what_an_outage_curtails_has_its_reason_beside_envelope_and_own_limit(tmp_path: Path) -> None:
    """Dark from 10:07 to 10:47: of 1000 Wh 250 are kept back for the envelope while there is supply, the rest lost."""
    scenario = steady(
        home("a", draws(1), makes(4), export_limit_kw=2.5), outages=[{"at": f"{DAY} 10:07", "minutes": 40}],
        microgrid=None, market={"stages": [{"rule": "no_market"}]}, envelopes=[{"buildings": ["a"], "export_kw": 2.0}],
    )  # fmt: skip
    run = peerwatt.run(scenario, tmp_path / "run")
    assert_verified(run)
    kept = run.table("envelopes").set_index("slot")
    assert kept["envelope_wh"].tolist()[3:6] == kept["own_limit_wh"].tolist()[3:6] == [125, 58, 0]  # 7 of 15 minutes
    assert run.table("islands")["island_wh"].tolist()[3:6] == [0, 535, 1000]
    curtailed = run.summary["envelopes"]["curtailed_kwh"]
    assert sum(curtailed.values()) == pytest.approx(run.summary["energy"]["curtailed_kwh"], abs=0.005)
    assert curtailed["island"] == run.summary["reliability"]["curtailed_kwh"] > 2.5
    assert "of your PV was curtailed (island: in an outage); it is on no bill" in str(run.statement("a"))


def test_limits_without_outages_have_no_table_of_islands(tmp_path: Path) -> None:
    scenario = steady(home("a", draws(1)), envelopes=[{"import_kw": 9}], outages=[], microgrid=None)
    run = peerwatt.run(scenario, tmp_path / "run", report=False)
    assert "islands" not in run.tables and "envelopes" in run.tables
    assert "island" not in run.summary["envelopes"]["curtailed_kwh"]
    assert "island_excess_kwh" not in run.summary["envelopes"]


def test_limits_that_never_bind_change_nothing_in_an_outage() -> None:
    homes = home("a", draws(2), makes(5), BATTERY), home("b", draws(1), makes(4))
    free, bills = drive(steady(*homes), 16)
    wide, same = drive(steady(*homes, envelopes=[{"import_kw": 1e4, "export_kw": 1e4}]), 16)
    rows = wide.pop("envelopes")
    assert not rows[:, :, [PLACE["import_excess_wh"], PLACE["export_excess_wh"], *range(4, 10)]].any()
    assert_equal(free, wide)
    assert bills.total_u.tolist() == same.total_u.tolist()


# --- any envelopes, any outages ---------------------------------------------------------------------------------------


def busy(outages: list[dict[str, Any]], envelopes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Homes with every kind of device and a battery that forms."""
    feeding = {**CAR, "discharge_kw": 5.0, "floor_kwh": 4.0, "controller": "charge_on_arrival"}
    homes = [
        home("a", load(), pv(9), BATTERY, bus="Bus R11"),
        home("b", load("couple"), pv(6), BATTERY, feeding, bus="Bus R15", export_limit_kw=1.7),
        home("c", load("shift", 6), CAR, bus="Bus R16", import_limit_kw=3.0),
        home("d", load("couple"), pv(5), BATTERY, WARM, bus="Bus R17"),
        home("e", load("senior"), pv(8), bus="Bus R18"),
        home("store", {**BATTERY, "capacity_kwh": 30, "charge_kw": 12, "discharge_kw": 12, "initial_soc": 0.5,
                       "min_soc": 0.05}, bus="Bus R1"),
    ]  # fmt: skip
    extra = {"profiles": PROFILES | {"air": AIR}, "outages": outages, "envelopes": envelopes}
    microgrid = {"forming": "store", "priorities": {"e": 1, "c": 9}, "floor_soc": 0.1}
    return district(*homes, **{**extra, "microgrid": microgrid, **more})


NETWORK = {"power_flow": "batch", "network": {"source": "cigre:lv"}}
NOON = {"at": f"{DAY} 10:50", "minutes": 130}
EVENING = {"at": f"{DAY} 18:10", "minutes": 75, "black": True}
TIGHT = [
    {"import_kw": 1.0, "export_kw": 0.7, "daily_start": "10:00", "daily_end": "14:00"},
    {"buildings": ["store"], "import_kw": 2.0, "export_kw": 1.0},
    {"buildings": ["c", "b"], "import_kw": 0.5, "daily_start": "17:00", "daily_end": "21:00"},
]


def assert_limits_are_kept(records: dict[str, Any], scenario: dict[str, Any]) -> None:
    """Nothing beyond a limit but fixed load, and what the forming battery's building moves and the island counts."""
    system = prepare(load_scenario(scenario))
    assert system.envelopes is not None and system.outages is not None
    rows = np.flatnonzero(system.envelopes.limited)
    told = {name: records["envelopes"][:, :, k] for name, k in PLACE.items()}
    forming = rows == system.building_ids.index("store")
    net = (records["import_wh"] - records["export_wh"])[:, rows]
    fixed = (records["load_wh"] + records["heat_pump_wh"] - records["pv_wh"] - records["discharge_wh"])[:, rows]
    for way, sign in (("import", 1), ("export", -1)):
        limit = told[f"{way}_limit_wh"]
        beyond = np.where(limit >= 0, np.maximum(sign * net - limit, 0), 0)
        assert np.array_equal(beyond, told[f"{way}_excess_wh"])
        assert (told[f"{way}_island_wh"] <= beyond).all() and not told[f"{way}_island_wh"][:, ~forming].any()
        others = beyond[:, ~forming] > 0
        if way == "export":
            assert not others.any()
        for name in ("ev_wh", "charge_wh"):
            assert not records[name][:, rows][:, ~forming][others].any(), f"{name} beyond a limit of {way}"
        assert (sign * fixed[:, ~forming] - limit[:, ~forming])[others].min(initial=1) > 0
    assert_nobody_could_help(records, system, told["export_island_wh"][:, forming].sum(axis=1) > 0)
    curtailed = records["curtailed_wh"][:, rows]
    assert (told["island_wh"] + told["envelope_wh"] + told["own_limit_wh"] <= curtailed).all()


def assert_nobody_could_help(records: dict[str, Any], system: System, beyond: Any) -> None:
    """In islands in which the forming building feeds in too much nobody else charges a car or a battery, or heats.

    Judged at buildings that may feed in as much as they like: others may be at their own limits.
    """
    assert system.envelopes is not None
    island = np.flatnonzero(beyond & (records["exchange_wh"] == 0))
    limits = system.envelopes.at(Window(0, system.grid.n), records["load_wh"], records["pv_wh"])
    free = limits.export_by[island] < 0
    free[:, system.building_ids.index("store")] = False
    assert not (records["ev_wh"] + records["charge_wh"])[island][free].any()
    heated = system.heating.columns.building
    assert not records["heat"][island][:, :, 0][free[:, heated]].any()


def assert_energy_balances(records: dict[str, Any], scenario: dict[str, Any]) -> None:
    """Every Wh at every building and at the switch, and all generation that the sun offers."""
    drawn = sum(records[name] for name in ("load_wh", "heat_pump_wh", "ev_wh", "charge_wh"))
    net = drawn - records["pv_wh"] - records["discharge_wh"]
    assert np.array_equal(net, records["import_wh"] - records["export_wh"])
    assert np.array_equal(net.sum(axis=1) + records["loss_wh"], records["exchange_wh"])
    length_s = prepare(load_scenario(scenario)).grid.length_s
    for outage in scenario["outages"]:
        hour, minute = (int(x) for x in outage["at"][-5:].split(":"))
        start_s = hour * 3600 + minute * 60
        inside = slice(-(-start_s // length_s), int((start_s + outage["minutes"] * 60) // length_s))
        assert not records["exchange_wh"][inside].any(), "nothing crosses an open switch"
    offered, _ = drive({**scenario, "outages": [], "microgrid": None, "envelopes": []}, 96)
    assert np.array_equal(
        records["pv_wh"] + records["curtailed_wh"], offered["pv_wh"] + offered["curtailed_wh"]
    )  # fmt: skip


@pytest.mark.parametrize("wires", [{}, NETWORK], ids=["no wires", "network"])
def test_windows_have_no_say_where_limits_and_outages_meet(wires: dict[str, Any]) -> None:
    scenario = busy([NOON] if wires else [NOON, EVENING], TIGHT, **wires)
    records = assert_same_for(scenario, [96, 7, 1])
    assert_limits_are_kept(records, scenario)
    assert_energy_balances(records, scenario)
    sums = dict(zip(PLACE, records["envelopes"].sum(axis=(0, 1)).tolist(), strict=True))
    assert sums["island_wh"] > 0 and sums["envelope_wh"] > 0


def test_the_run_of_it_is_verified(tmp_path: Path) -> None:
    run = peerwatt.run(busy([NOON], TIGHT, **NETWORK), tmp_path / "run")
    assert_verified(run)
    assert {"envelopes", "islands"} <= set(run.tables)
    islands = run.table("islands")
    assert len(islands) == len(run.table("envelopes")) and islands["island_wh"].sum() > 0
    assert "what islands curtailed and exceeded is told once" in verify_run(run.folder).checks


def test_an_interrupted_run_goes_on_with_what_islands_did(tmp_path: Path) -> None:
    time = {"start": DAY, "days": 32, "slot_minutes": 15, "zone": "Europe/Berlin"}
    homes = home("a", draws(1), makes(4)), home("b", draws(2))
    limits = [{"import_kw": 1.0, "export_kw": 1.0}]
    scenario = steady(*homes, time=time, envelopes=limits, outages=[NOON], microgrid=None)
    whole = peerwatt.run(scenario, tmp_path / "whole", report=False)

    def stop(done: int, total: int) -> None:
        if done > 2700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(scenario, tmp_path / "parts", report=False, progress=stop)
    parts = peerwatt.run(scenario, tmp_path / "parts", report=False, resume=True)
    assert parts.summary == whole.summary
    assert parts.table("islands").equals(whole.table("islands")) and whole.table("islands")["island_wh"].any()


POWER = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 1.0, 2.5, 6.0]))
HOURS = st.sampled_from(["00:00", "05:00", "10:00", "12:30", "16:00", "20:00"])


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    limits = draw(st.tuples(POWER, POWER).filter(lambda pair: pair != (None, None)))
    start, end = draw(st.lists(HOURS, min_size=2, max_size=2, unique=True))
    buildings = draw(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "store", "*"]), min_size=1, unique=True))
    found = {"buildings": buildings, "daily_start": start, "daily_end": end, "import_kw": limits[0]}
    return found | {"export_kw": limits[1]}


@st.composite
def outages(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for first, last in ((1, 9), (12, 21)):  # well apart
        at = draw(st.integers(first * 60, (last - 3) * 60))
        black = draw(st.booleans())
        kind = "fault" if black else draw(st.sampled_from(["fault", "planned"]))
        minutes = draw(st.integers(3, 150))
        found.append({"at": f"{DAY} {at // 60:02}:{at % 60:02}", "minutes": minutes, "kind": kind, "black": black})
    return found[: draw(st.integers(1, 2))]


class Fates:
    """A course of outages by dice: who is supplied how long, what is let in, what the forming battery did."""

    settled = True

    def __init__(self, seed: int, n_buildings: int) -> None:
        self._seed, self._n = seed, n_buildings

    def run_slot(self, start_s: float, length_s: float, powers: SlotPowers) -> SlotOutcome:
        rng = np.random.default_rng([self._seed, int(start_s)])
        connected = float(rng.choice([0.0, 0.0, 0.4]))
        return SlotOutcome(
            supplied=np.maximum(rng.choice([0.0, 0.37, 1.0, 1.0], self._n), connected),
            generated=float(rng.choice([0.0, 0.3, 0.8, 1.0])),
            forming_kw=float(rng.uniform(-4.0, 4.0)) * (1.0 - connected),
            connected=connected,
            dark_steps=(),
        )


def held(limits: list[dict[str, Any]], soc: float, lost: list[dict[str, Any]], dice: int | None = None) -> None:
    """A day under these outages and envelopes, from this charge of the forming battery, keeps to all limits."""
    scenario = busy(lost, limits)
    scenario["buildings"][-1]["assets"][0]["initial_soc"] = soc
    system = prepare(load_scenario(scenario))
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    if dice is not None:
        assert system.outages is not None
        cycle.islanding = Islanding(system, system.outages, Fates(dice, system.n_buildings))
    closed = [cycle.close(w, cycle.open(w)) for w in windows(0, system.grid.n, 96, cycle.islanding)]
    records = joined([one.record for one in closed if one is not None])
    assert_limits_are_kept(records, scenario)
    drawn = sum(records[name] for name in ("load_wh", "heat_pump_wh", "ev_wh", "charge_wh"))
    net = drawn - records["pv_wh"] - records["discharge_wh"]
    assert np.array_equal(net, records["import_wh"] - records["export_wh"])
    assert np.array_equal(net.sum(axis=1) + records["loss_wh"], records["exchange_wh"])


LIMITS = st.lists(envelopes(), min_size=1, max_size=3)
SOC = st.sampled_from([0.1, 0.5, 1.0])
SLOW: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}


@settings(max_examples=15, **SLOW)
@given(LIMITS, SOC, st.integers(0, 2**31))
def test_no_exchange_outside_an_envelope_but_what_is_counted(limits: Any, soc: float, dice: int) -> None:
    held(limits, soc, [{"at": f"{DAY} 00:10", "minutes": 23 * 60}], dice)


@settings(max_examples=2, derandomize=True, **SLOW)
@given(LIMITS, SOC, outages())
def test_nor_under_the_supervisor(limits: Any, soc: float, lost: list[dict[str, Any]]) -> None:
    held(limits, soc, lost)


@pytest.mark.campaign
@settings(max_examples=30, **SLOW)
@given(LIMITS, SOC, outages())
def test_nor_under_the_supervisor_on_many_days(limits: Any, soc: float, lost: list[dict[str, Any]]) -> None:
    held(limits, soc, lost)
