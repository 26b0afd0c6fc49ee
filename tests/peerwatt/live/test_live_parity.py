"""Served with modelled members only, a scenario comes to the prices, trades and ledger of its simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from market.engine.state import NETWORK, OPERATOR, RETAILER, STATE, State
from tests.peerwatt.districts import BATTERY, district, everything, flat, home, load, pv, with_rule
from tests.peerwatt.live.serving import World

KINDS = ("contract", "residual", "network", "levies", "losses")
BEHIND = (RETAILER, OPERATOR, NETWORK, STATE)


def hold_against_the_run(world: World, state: State, run: peerwatt.Run) -> None:
    """Prices, fills, meters and every posting of every account, slot by slot."""
    system = world.system
    n, rank = system.n_buildings, system.id_rank.tolist()
    ledger = run.table("ledger")
    posted = {k: ledger[f"{k}_u"].to_numpy().reshape(system.grid.n, n + len(BEHIND)) for k in KINDS}
    buildings = run.table("buildings")
    plane = {c: buildings[c].to_numpy().reshape(system.grid.n, n) for c in ("bought_wh", "sold_wh")}
    market = state.markets[world.config.markets[0].market_id]
    slots = run.table("slots")
    for slot in range(system.grid.n):
        (version,) = state.slots[slot].versions
        for b, member in enumerate(rank):
            settled = version.members[member]
            assert settled.posted_u == tuple(int(posted[k][slot, b]) for k in KINDS), (slot, system.building_ids[b])
            assert (settled.local_bought_wh, settled.local_sold_wh) == (
                plane["bought_wh"][slot, b], plane["sold_wh"][slot, b])  # fmt: skip
        behind = [[int(posted[k][slot, n + i]) for i in range(len(BEHIND))] for k in KINDS]
        assert [list(row) for row in version.accounts_u] == behind, slot
        assert version.loss_wh == int(slots["loss_wh"].iloc[slot])
        result = market.books[slot].result
        assert result is not None
        # of a continuous rule, and where a rule names none, the run tells the mean of what was paid, rounded
        if result.price_num is not None and run.static.rule != "continuous_double_auction":
            num, den = int(slots["price_num"].iloc[slot]), int(slots["price_den"].iloc[slot])
            assert result.price_num * den == num * result.price_den, slot
    totals = {account: state.ledger.get(account, [0] * 6)[:5] for account in (*range(n), *BEHIND)}
    for b, member in enumerate(rank):
        assert totals[member] == [int(posted[k][:, b].sum()) for k in KINDS]
    assert state.imbalance_u() == 0


def serve_and_run(
    scenario: str | Mapping[str, Any], folder: Path, overrides: Mapping[str, Any] | None = None
) -> tuple[World, State, peerwatt.Run]:
    world = World(scenario, overrides)
    state = asyncio.run(world.live())
    run = peerwatt.run(scenario, folder / "run", overrides=overrides, report=False)
    return world, state, run


@pytest.mark.slow
def test_street5(tmp_path: Path) -> None:
    world, state, run = serve_and_run("street5", tmp_path)
    hold_against_the_run(world, state, run)
    market = state.markets["spot"]
    prices = run.table("slots")["price_num"]
    for slot in range(96):
        assert (market.books[slot].result.price_num is None) == np.isnan(float(prices.iloc[slot]))  # type: ignore[union-attr]
    traded = [s for s in range(96) if market.books[s].result.volume_wh]  # type: ignore[union-attr]
    assert len(traded) > 20, "a sunny day has trades"
    assert sorted(r.slot for r in world.reports) == list(range(96))


@pytest.mark.slow
def test_a_few_hours_of_semiurban(tmp_path: Path) -> None:
    hours = {"time.start": "2016-05-25T09:00", "time.days": None, "time.end": "2016-05-25T13:00"}
    hold_against_the_run(*serve_and_run("semiurban", tmp_path, hours))


def fine_meters(scenario: dict[str, Any]) -> dict[str, Any]:
    for building in scenario["buildings"]:
        for key in ("metering_minutes", "metering_spread", "spread_profile"):
            building.pop(key, None)
    return scenario


@pytest.mark.slow
def test_cars_heat_pumps_charges_levies_losses_and_members_that_come_and_go(tmp_path: Path) -> None:
    hold_against_the_run(*serve_and_run(fine_meters(everything(1)), tmp_path))


@pytest.mark.slow
def test_own_terms_and_standing_contracts(tmp_path: Path) -> None:
    scenario = district(
        home("z", load(), pv(9), BATTERY, terms={"floor_per_kwh": 0.11}),
        home("a", load(), pv(3), terms={"opt_out": [{"start": "10:00", "end": "12:00"}], "ceiling_per_kwh": 0.3}),
        home("m", load("senior")),
        home("k", load("couple")),
        standing_contracts=[
            {"id": "gift", "seller": "z", "buyer": "m", "share": 0.25, "price_per_kwh": 0},
            {"id": "half-way", "seller": "z", "buyer": "k", "power_kw": 0.4, "formula": "mid_market",
             "start": "2016-05-25T11:00"},
        ],
    )  # fmt: skip
    world, state, run = serve_and_run(scenario, tmp_path)
    hold_against_the_run(world, state, run)
    assert any(v.standing for s in state.slots.values() for v in s.versions[0].members.values())


RULES = ("pay_as_bid", "mid_market_rate", "continuous_double_auction", "sharing_keys")  # one of every kind
MORE_RULES = (
    "pair_price", "supply_demand_ratio", "no_market", "huang", "bill_sharing", "volume_max_matching", "shapley",
    "proportional", "vcg", "periodic_call",
)  # fmt: skip


@pytest.mark.parametrize("rule", [*RULES, *(pytest.param(rule, marks=pytest.mark.slow) for rule in MORE_RULES)])
def test_other_rules(rule: str, tmp_path: Path) -> None:
    few = district(
        home("b", load(), pv(9), BATTERY), home("a", load("couple"), pv(3)), home("d", load("senior")),
        home("c", load("shift", 6)), contracts={"default": flat(0.2003, 0.0799)},
        settlement={"residuals": "netted"},
    )  # fmt: skip
    hold_against_the_run(*serve_and_run(with_rule(few, rule), tmp_path))


SLOW = [pytest.param(rule, marks=pytest.mark.slow) for rule in ("network_charges", "operating_envelopes")]


@pytest.mark.parametrize("rule", [pytest.param("lindistflow", marks=pytest.mark.slow), *SLOW])
def test_rules_that_look_at_the_network(rule: str, tmp_path: Path) -> None:
    scenario = with_rule(fine_meters(everything(1)), rule)
    scenario["network"]["loading_max"] = 0.02
    hold_against_the_run(*serve_and_run(scenario, tmp_path))
