"""No kWh without an origin and none counted twice: in whole runs, through storage, trade and supply."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import peerwatt
from core import ScenarioError
from market.certificates import matched_share
from peerwatt.results import verify_run
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import (
    BATTERY,
    TABLES,
    assert_same_tables,
    assert_verified,
    district,
    everything,
    flat,
    home,
    load,
    pv,
    with_rule,
)
from tests.peerwatt.test_results_verify import add, forge
from tests.peerwatt.test_run_resume import PART, interrupt_at, three_parts
from tests.peerwatt.test_run_windows import assert_same_for

MIXES = {
    "residual_mix": {"lignite": 0.31, "wind": 0.275, "unknown": 0.415},
    "supplier_mix": {"tou": {"hydro": 0.7, "wind": 0.3}},
}


def with_origin(scenario: dict[str, Any], **origin: Any) -> dict[str, Any]:
    return scenario | {"origin": MIXES | origin}


def account(run: peerwatt.Run) -> pd.DataFrame:
    return run.table("certificates").groupby("origin", observed=False, sort=False).sum(numeric_only=True)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> peerwatt.Run:
    return peerwatt.run(with_origin(everything()), tmp_path_factory.mktemp("origin") / "run")


def test_every_wh_consumed_has_an_origin(pooled: peerwatt.Run) -> None:
    """Recomputed with pandas from the tables alone, apart from what ``verify`` does."""
    assert_verified(pooled)
    origins, buildings = pooled.table("origins"), pooled.table("buildings")
    use = (buildings.load_wh + buildings.heat_pump_wh + buildings.ev_wh).to_numpy()
    traced = origins.groupby(["slot", "building"], observed=False).consumed_wh.sum().to_numpy()
    assert np.array_equal(np.sort(traced), np.sort(use))
    assert origins.consumed_wh.min() > 0
    used = origins.groupby("origin", observed=False).consumed_wh.sum()
    assert (used > 0).all(), "every origin of the scenario reaches somebody"
    assert list(used.index) == ["local_solar", "lignite", "wind", "hydro", "unknown"]


def test_certificates_are_conserved_and_the_sums_are_the_summary(pooled: peerwatt.Run) -> None:
    rows, slots, block = account(pooled), pooled.table("slots"), pooled.summary["origin"]
    held = pooled.table("certificates").groupby("origin", observed=False, sort=False).held_wh.last()
    created = rows.opened_wh + rows.made_wh + rows.supplied_wh
    assert (created == rows.consumed_wh + rows.exported_wh + rows.lost_wh + held).all()
    assert rows.made_wh.to_dict() == {"local_solar": slots.pv_wh.sum()} | dict.fromkeys(rows.index[1:], 0)
    assert rows.passed_wh["local_solar"] > 0, "neighbours hand solar on"
    assert rows.lost_wh.sum() > slots.loss_wh.sum(), "batteries lose some as well"
    initial = pooled.table("buildings").query("slot == 0").soc_wh.sum()
    assert rows.opened_wh.to_dict() == dict.fromkeys(rows.index[:-1], 0) | {"unknown": initial}
    assert {k: v["consumed_kwh"] for k, v in block["by_origin"].items()} == (rows.consumed_wh / 1000).to_dict()
    ways = sum(block[f"from_{way}_kwh"] for way in ("own", "battery", "neighbours", "supplier"))
    assert ways == pytest.approx(block["consumed_kwh"]) == pooled.summary["self_supply"]["use_kwh"]


def test_buildings_get_the_mix_of_their_own_supplier(pooled: peerwatt.Run) -> None:
    used = pooled.table("origins").pivot_table(
        index="building", columns="origin", values="consumed_wh", aggfunc="sum", observed=False
    )
    assert used.loc["h11", "hydro"] > 0
    assert used.loc["h11", "lignite"] < used.loc["h11", "hydro"], "a battery of the neighbourhood may bring some"
    alone = used.loc["h05"]  # no PV, no battery: supply and neighbours
    assert alone["lignite"] / alone["wind"] == pytest.approx(0.31 / 0.275, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "origin"), [("pair_price", {"storage": "fifo"}), ("mid_market_rate", {}),
                                              ("uniform_price", {"certificates": "separate"})])  # fmt: skip
def test_windows_of_any_length_give_the_same_origins(rule: str, origin: dict[str, Any]) -> None:
    scenario = with_origin({**with_rule(everything(days=1), rule), "power_flow": "none"}, **origin)
    records = assert_same_for(scenario, [96, 1, 7])
    assert records["origin_wh"].sum() == sum(records[f"{name}_wh"].sum() for name in ("load", "heat_pump", "ev"))
    passed = records["certificates_wh"][:, 7].sum()
    assert (passed > 0) == (origin.get("certificates") != "separate")


@pytest.mark.slow
def test_interrupted_and_resumed_gives_the_same_origins(tmp_path: Path) -> None:
    scenario = with_origin(three_parts() | {"power_flow": "none"}, supplier_mix={}, storage="fifo")
    whole = peerwatt.run(scenario, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(scenario, tmp_path / "run", progress=interrupt_at(PART + 1))
    resumed = peerwatt.run(scenario, tmp_path / "run", resume=True)
    assert {"certificates", "origins"} <= set(TABLES)
    assert_same_tables(resumed, whole)
    assert resumed.summary == whole.summary
    assert_verified(resumed)
    assert resumed.summary["origin"]["by_origin"]["local_solar"]["held_kwh"] > 0


def test_without_market_and_battery_only_the_own_roof_is_local(tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(6)), home("h2", load("couple"))]
    run = peerwatt.run(with_rule(district(*homes), "no_market"), tmp_path / "run")
    buildings, rows = run.table("buildings"), account(run)
    alone = np.minimum(buildings.load_wh, buildings.pv_wh).sum()
    assert rows.consumed_wh.to_dict() == {"local_solar": alone, "grid": buildings.load_wh.sum() - alone, "unknown": 0}
    assert rows.exported_wh["local_solar"] == buildings.pv_wh.sum() - alone
    assert not rows.passed_wh.any()
    assert run.summary["buildings"]["h2"]["local_share"] == 0
    assert run.summary["origin"]["from_own_kwh"] == alone / 1000


def test_separate_certificates_stay_with_the_seller(tmp_path: Path) -> None:
    """The buyer gets energy alone, of the residual mix; the seller's certificates leave with nobody claiming them."""
    homes = [home("h1", load(), pv(9)), home("h2", load("couple", 8), contract="green")]
    contracts = {"default": flat(), "green": flat()}
    mixes = {"residual_mix": {"coal": 1.0}, "supplier_mix": {"green": {"wind": 1.0}}}
    runs = {
        kind: peerwatt.run(
            district(*homes, contracts=contracts, origin={**mixes, "certificates": kind}), tmp_path / kind
        )
        for kind in ("bundled", "separate")
    }
    local = int(runs["bundled"].summary["energy"]["local_kwh"] * 1000)
    bundled, separate = account(runs["bundled"]), account(runs["separate"])
    assert bundled.passed_wh["local_solar"] == local > 0
    assert not separate.passed_wh.any()
    assert separate.exported_wh["local_solar"] == bundled.exported_wh["local_solar"] + local
    h2 = runs["separate"].table("origins").query("building == 'h2'").groupby("origin", observed=False).consumed_wh.sum()
    assert h2["local_solar"] == 0
    assert h2["coal"] == local
    for run in runs.values():
        assert_verified(run)


def test_a_community_battery_hands_on_what_neighbours_charged(tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(12)), home("h2", load("couple", 5)), home("store", {**BATTERY, "initial_soc": 0.05})]
    run = peerwatt.run(district(*homes, days=2), tmp_path / "run")
    night = run.table("origins").query("slot > 76 and slot < 96 and building == 'h2' and origin == 'local_solar'")
    assert night.consumed_wh.sum() > 100, "sun of the day, by night, through a battery that trades"
    assert_verified(run)


def test_matching_is_that_of_the_slots(pooled: peerwatt.Run) -> None:
    slots, block = pooled.table("slots"), pooled.summary["origin"]["matching"]
    made, used = slots.pv_wh.tolist(), (slots.load_wh + slots.heat_pump_wh + slots.ev_wh).tolist()
    local = slots.start_utc.dt.tz_convert("Europe/Berlin")
    periods = {"slot": slots.slot, "hour": slots.start_utc.dt.floor("h"), "month": local.dt.month,
               "year": local.dt.year}  # fmt: skip
    for name, period in periods.items():
        share = matched_share(made, used, period.tolist())
        assert share is not None
        assert block[name] == pytest.approx(float(share), abs=1e-12), name
    assert block["slot"] < block["hour"] < block["month"]


def test_statements_say_where_electricity_came_from(pooled: peerwatt.Run) -> None:
    text = pooled.statement("h01").text
    assert "Where your electricity came from" in text
    rows = re.findall(r"^(.+?)  +([\d,.]+) +([\d.]+)%$", text.split("How it was made")[1], re.MULTILINE)
    *parts, total = [(name, float(kwh)) for name, kwh, _ in rows]
    assert {name for name, _ in parts} == {"Solar from the district", "Lignite", "Wind", "Unknown"}
    assert sum(kwh for _, kwh in parts) == pytest.approx(total[1], abs=0.3)
    assert "came from" not in pooled.statement("pool-battery").text, "it uses nothing itself"


FORGED = [
    ("origins", "consumed_wh", 5, "the origins of h"),
    ("origins", "consumed_wh", 5, "consumed and certificates cancelled differ by 3 Wh"),
    ("certificates", "consumed_wh", 200, "consumed and certificates cancelled differ by -3 Wh"),
    ("certificates", "consumed_wh", 200, "slot 40: 3 Wh of local_solar are counted twice"),
    ("certificates", "held_wh", 200, "slot 41: 3 Wh of local_solar are lost without a trace"),
    ("certificates", "made_wh", 200, "slot 40: 3 Wh more were made than metered"),
    ("certificates", "supplied_wh", 201, "is 3 Wh more than the district drew"),
    ("certificates", "exported_wh", 200, "kWh, the certificates sum to"),
]


@pytest.mark.parametrize("case", FORGED, ids=lambda case: f"{case[0]}.{case[1]}-{case[3][:12]}")
def test_a_forged_origin_is_found(case: tuple[str, str, int, str], pooled: peerwatt.Run, tmp_path: Path) -> None:
    table, column, row, message = case
    folder = Path(shutil.copytree(pooled.folder, tmp_path / "run"))
    forge(folder, table, 0, add(column, row, 3))
    assert message in str(verify_run(folder))


def test_a_run_that_keeps_no_such_table_still_has_the_figures(tmp_path: Path) -> None:
    tables = {"outputs": {"tables": ["slots"], "report": True, "statements": True}}
    run = peerwatt.run(district(home("h1", load(), pv(6)), **tables), tmp_path / "run")
    assert run.tables == ("slots", "bills")
    assert run.summary["origin"]["local_share"] > 0.1
    assert "The run kept no table of certificates" in (run.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"residual_mix": {"wind": 0.5, "coal": 0.4}}, "the shares sum to 0.9, not to 1"),
        ({"supplier_mix": {"nobody": {"wind": 1.0}}}, "there is no contract 'nobody'"),
        ({"supplier_mix": {"default": {"wind": 0.3}}}, "the shares sum to 0.3, not to 1"),
        ({"residual_mix": {"local_solar": 1.0}}, "local_solar is what the district's own PV generates"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(origin: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(message)) as refused:
        load_scenario(district(home("h1", load()), origin=origin))
    assert refused.value.remedy


@pytest.mark.slow
def test_a_year_of_semiurban_loses_no_certificate(tmp_path: Path) -> None:
    """The whole demonstration: every Wh used in 35,136 slots by 42 buildings has an origin, none is counted twice."""
    run = peerwatt.run("semiurban", tmp_path / "run", report=False)
    assert_verified(run)
    rows = account(run)
    held = run.table("certificates", ["origin", "held_wh"]).groupby("origin", observed=False, sort=False).held_wh.last()
    created = rows.opened_wh + rows.made_wh + rows.supplied_wh
    assert (created == rows.consumed_wh + rows.exported_wh + rows.lost_wh + held).all()
    slots = run.table("slots")
    assert rows.consumed_wh.sum() == (slots.load_wh + slots.heat_pump_wh + slots.ev_wh).sum()
    assert rows.made_wh["local_solar"] == slots.pv_wh.sum()
