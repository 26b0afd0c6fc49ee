"""Random small districts under any rule: the run completes, its books verify, and energy is conserved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import peerwatt
from tests.peerwatt.districts import BATTERY, PROFILES, assert_verified, district, flat, home, plane

LOADS = sorted(name for name in PROFILES if name not in ("roof", "shift-q", "heat"))
BUSES = [f"Bus R{i}" for i in range(2, 19)]
DAY = "2016-05-25"

kilowatts = st.integers(0, 120).map(lambda tenths: tenths / 10)
loads = st.builds(lambda p, s: {"kind": "load", "profile": p, "scale": s}, st.sampled_from(LOADS), kilowatts)
heat = st.builds(lambda s: {"kind": "heat_pump", "profile": "heat", "scale": s}, kilowatts)
roofs = st.builds(lambda s: {"kind": "pv", "profile": "roof", "peak_kw": s}, kilowatts)
batteries = st.builds(
    lambda capacity, charge, discharge, soc: {
        **BATTERY, "capacity_kwh": capacity / 10, "charge_kw": charge / 10, "discharge_kw": discharge / 10,
        "initial_soc": soc / 100,
    },
    st.integers(1, 150), st.integers(1, 60), st.integers(1, 60), st.integers(5, 100),
)  # fmt: skip
cars = st.builds(
    lambda kw, arrival, hours, wanted: {
        "kind": "ev", "charge_kw": kw / 10,
        "sessions": [{"arrival": f"{DAY}T{arrival:02d}:07", "departure": f"{DAY}T{arrival + hours:02d}:52",
                      "energy_kwh": round(kw / 10 * hours * wanted / 100, 3)}],
    },
    st.integers(20, 110), st.integers(0, 14), st.integers(1, 9), st.integers(0, 100),
)  # fmt: skip
drawn_cars = st.builds(
    lambda kw, hour: {"kind": "ev", "charge_kw": kw, "drawn": {"arrival_hour": hour, "share_of_days": 1.0}},
    st.sampled_from([2.3, 3.7, 11.0]), st.integers(0, 23),
)  # fmt: skip
# one battery to a home at most: the law is checked on the sum by building
assets = st.builds(
    lambda some, battery: some + battery,
    st.lists(st.one_of(loads, heat, roofs, cars, drawn_cars), max_size=4),
    st.lists(batteries, max_size=1),
)
moments = st.integers(0, 23).map(lambda hour: f"{DAY}T{hour:02d}:20")
properties = st.fixed_dictionaries(
    {"bus": st.sampled_from(BUSES)},
    optional={
        "contract": st.just("other"),
        "export_limit_kw": st.sampled_from([0.0, 0.3, 2.0]),
        "power_factor": st.sampled_from([0.8, 0.95]),
        "metering_minutes": st.sampled_from([30, 60, 120]),
        "membership": st.one_of(
            st.builds(lambda m: {"joins": m}, moments), st.builds(lambda m: {"leaves": m}, moments)
        ),
        "strategy": st.sampled_from([{"kind": "zi_c"}, {"kind": "fixed_margin", "parameters": {"margin": 0.2}}]),
    },
)
BIDS = ["uniform_price", "pay_as_bid", "pair_price"]
keys = st.one_of(
    st.sampled_from(["pro_rata", "equal", "priority"]).map(lambda key: {"key": key}),
    st.sampled_from(["lost", "redistribute"]).map(
        lambda unused: {"key": "static", "unused": unused, "shares": {"h0": "1/3", "h1": "1/2"}}
    ),
    st.just({"key": "per_pair", "shares": {"h0": {"h1": "1/2"}, "h1": {"h0": 1}}}),
)
stages = st.one_of(
    st.builds(
        lambda rule, tie, zero: {"rule": rule, "parameters": {"tie_break": tie, "zero_surplus": zero}},
        st.sampled_from(BIDS), st.sampled_from(["time", "prorata", "random"]), st.booleans(),
    ),
    st.sampled_from(["no_market", "mid_market_rate", "bill_sharing", "supply_demand_ratio"]).map(
        lambda rule: {"rule": rule}
    ),
    keys.map(lambda parameters: {"rule": "sharing_keys", "parameters": parameters}),
)  # fmt: skip
residuals = st.sampled_from(
    [
        {},
        {"residuals": "netted", "tolerance_percent": 5},
        {"residuals": "imbalance_dual", "imbalance_price": {"flat_per_kwh": 0.05},
         "imbalance_price_short": {"flat_per_kwh": 0.5}},
    ]
)  # fmt: skip


@st.composite
def districts(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(2, 6))
    homes = [home(f"h{i}", *draw(assets), **draw(properties)) for i in range(n)]
    stage = draw(stages)
    alike = stage["rule"] == "supply_demand_ratio"  # it needs one price for all, and no negative feed-in price
    if alike:
        homes = [{k: v for k, v in h.items() if k != "contract"} for h in homes]
    charges = {"network": {"full_per_kwh": 0.07, "local_per_kwh": 0.03, "local_export_per_kwh": 0.001},
               "vat_percent": 19}  # fmt: skip
    retail = draw(st.integers(50 if alike else -50, 400)) / 1000
    return district(
        *homes,
        days=draw(st.integers(1, 2)),
        start=DAY,
        network={"source": "cigre:lv"},
        power_flow=draw(st.sampled_from(["batch", "none"])),
        seed=draw(st.integers(0, 2**40)),
        contracts={"default": flat(retail, retail - 0.05, **charges), "other": flat(retail + 0.013, retail - 0.08)},
        settlement={**draw(residuals), "loss_price": {"flat_per_kwh": 0.09}},
        market={"stages": [stage]},
    )


def assert_sound(run: peerwatt.Run) -> None:
    assert_verified(run)
    b = {c: plane(run, c) for c in run.table("buildings").columns if c.endswith("_wh")}
    assert all((values >= 0).all() for values in b.values())
    net = b["load_wh"] + b["heat_pump_wh"] + b["ev_wh"] + b["charge_wh"] - b["pv_wh"] - b["discharge_wh"]
    slots = run.table("slots")
    assert (net.sum(axis=1) + slots.loss_wh == slots.exchange_wh).all() or has_coarse_meters(run)
    assert net.sum() + slots.loss_wh.sum() == slots.exchange_wh.sum(), "meters spread readings, they lose nothing"
    assert not ((b["charge_wh"] > 0) & (b["discharge_wh"] > 0)).any()
    assert battery_distance_wh(run, b) < 2.0
    ledger = run.table("ledger").drop(columns=["slot", "account"]).to_numpy()
    assert not ledger.reshape(run.static.n_slots, -1, ledger.shape[1]).sum(axis=1).any()


def has_coarse_meters(run: peerwatt.Run) -> bool:
    return any("coarser" in remark for remark in run.static.remarks)


def battery_distance_wh(run: peerwatt.Run, b: dict[str, np.ndarray]) -> float:
    """Largest distance of the stored energy from the battery law in floating point, over any stretch [Wh]."""
    leak = 1.0 - (1.0 - float(str(BATTERY["self_discharge_per_day"]))) ** (run.static.slot_s / 86_400)
    eta_in, eta_out = float(str(BATTERY["efficiency_charge"])), float(str(BATTERY["efficiency_discharge"]))
    change = b["charge_wh"] * eta_in - b["discharge_wh"] / eta_out - leak * b["soc_wh"]
    expected = b["soc_wh"][:1] + np.cumsum(np.vstack([np.zeros_like(change[:1]), change[:-1]]), axis=0)
    return float(np.abs(expected - b["soc_wh"]).max())


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=15, **COMMON)
@given(scenario=districts())
@pytest.mark.slow
def test_a_random_district_runs_and_its_books_are_sound(
    scenario: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_sound(peerwatt.run(scenario, tmp_path_factory.mktemp("random") / "run"))


@pytest.mark.campaign
@settings(max_examples=200, **COMMON)
@given(scenario=districts())
def test_two_hundred_random_districts(scenario: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert_sound(peerwatt.run(scenario, tmp_path_factory.mktemp("random") / "run"))
