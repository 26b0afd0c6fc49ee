"""Every rule through a whole run: laws hold, trades are the ledger, and the savings of local energy are exact."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import peerwatt
from market.registry import rule_classes
from tests.effort import effort
from tests.peerwatt.districts import (
    assert_verified,
    district,
    everything,
    flat,
    home,
    load,
    plane,
    pv,
    with_rule,
)
from tests.peerwatt.rule_cases import CANNOT, MORE, ONE_PER_RULE, Case, names

OURS = {name: rule for name, rule in rule_classes().items() if rule.__module__.startswith("market.rules.")}
CASES = [*ONE_PER_RULE, *(pytest.param(case, marks=pytest.mark.slow) for case in MORE)]
ONE_PRICE = {"supply_demand_ratio", "bill_sharing", "shapley", "proportional"}


def test_no_registered_rule_is_left_out() -> None:
    assert {rule for rule, _ in ONE_PER_RULE} == set(OURS) - set(CANNOT)
    assert {rule for rule, _ in MORE} <= set(OURS) - set(CANNOT)


@pytest.mark.parametrize("rule", CANNOT)
def test_rules_that_cannot_clear_slots_say_why(rule: str, tmp_path: Path) -> None:
    with pytest.raises(peerwatt.PeerwattError, match=CANNOT[rule]) as refused:
        peerwatt.run(with_rule(everything(1), rule), tmp_path / "run")
    assert refused.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=names)
def test_two_days_with_everything_in_it(case: Case, tmp_path: Path) -> None:
    rule, parameters = case
    run = peerwatt.run(with_rule(everything(one_contract=rule in ONE_PRICE), rule, **parameters), tmp_path / "run")
    assert_verified(run)
    traded = run.table("slots").local_wh.sum()
    assert (traded == 0) == (rule == "no_market")
    assert_trades_are_the_ledger(run, between_members=rule != "network_charges")


def assert_trades_are_the_ledger(run: peerwatt.Run, *, between_members: bool = True) -> None:
    """Per slot and building: what trades say was paid and received is the ledger's contract column, and the energy is
    what the building is said to have bought and sold. ``between_members``: pairs owe nobody else anything."""
    trades = run.table("trades")
    ids = [b.id for b in run.static.buildings]
    place = {name: i for i, name in enumerate(ids)}
    shape = (run.static.n_slots, len(ids))
    money, bought, sold = (np.zeros(shape, np.int64) for _ in range(3))
    for t in trades.itertuples():
        if t.buyer in place:
            money[t.slot, place[t.buyer]] -= t.amount_u
            bought[t.slot, place[t.buyer]] += t.e_wh
        if t.seller in place:
            money[t.slot, place[t.seller]] += t.amount_u
            sold[t.slot, place[t.seller]] += t.e_wh
    contract = plane(run, "contract_u", "ledger")
    assert (money == contract[:, : len(ids)]).all()
    assert (bought == plane(run, "bought_wh")).all()
    assert (sold == plane(run, "sold_wh")).all()
    if run.static.pairs and between_members:
        assert not contract[:, len(ids) :].any(), "pairs pay each other, nobody else"
        assert set(trades.buyer) | set(trades.seller) <= set(ids)


# --- the savings identity ---------------------------------------------------------------------------------------------

BALANCED: list[Case] = [
    ("uniform_price", {"k": 0}),
    ("uniform_price", {"k": "1/2", "tie_break": "prorata"}),
    ("uniform_price", {"k": 1}),
    ("pair_price", {"k": "1/2"}),
    ("mid_market_rate", {}),
    ("supply_demand_ratio", {}),
    ("supply_demand_ratio", {"c": 20_000}),
    ("bill_sharing", {}),
    ("sharing_keys", {"key": "pro_rata"}),
    ("sharing_keys", {"key": "equal", "price": "free"}),
    ("sharing_keys", {"key": "priority", "price": "contract", "price_u": 123_457}),
    ("shapley", {}),
    ("proportional", {}),
    ("continuous_double_auction", {"arrival": "random"}),
    ("periodic_call", {"pricing": "pair_price"}),
    ("central_optimum", {}),
    ("random_pairs", {}),
    ("volume_max_matching", {"k": "1/7"}),
    ("energy_classes", {}),
    ("preference_price", {}),
    ("pay_as_bid", {"redistribute": "equal"}),
    ("vcg", {"cover": "equal_fee"}),
]
NOT_ALL_IS_TRADED = {
    "no_market": "trades nothing",
    "muda": "gives up trades between its two halves",
    "sbba": "is for equal lots",
    "vickrey": "is for one side",
    "operating_envelopes": "needs a network, whose limits hold trades back",
}
"""Strongly balanced rules to which the identity does not apply, and why."""


def assert_savings_identity(run: peerwatt.Run, retail_u: int, feed_in_u: int) -> int:
    """Total savings are (retail - feed-in) times the energy that neighbours delivered, which is all that can be
    matched: per slot the smaller of all shortfalls and all surpluses. Returns that energy [Wh]."""
    net = plane(run, "import_wh") - plane(run, "export_wh")
    matched_wh = int(np.minimum(np.maximum(net, 0).sum(axis=1), np.maximum(-net, 0).sum(axis=1)).sum())
    assert int(run.table("slots").local_wh.sum()) == matched_wh
    savings_u = int(run.table("bills").saving_u.sum())
    assert savings_u * 1000 == (retail_u - feed_in_u) * matched_wh
    assert run.summary["money"]["savings_u"] == savings_u
    return matched_wh


def test_every_strongly_balanced_rule_is_among_those_with_the_identity() -> None:
    strong = {name for name, rule in OURS.items() if rule.declares.budget == "strong"}
    assert strong - set(NOT_ALL_IS_TRADED) <= {rule for rule, _ in BALANCED}
    assert set(NOT_ALL_IS_TRADED) <= strong


DAYS = effort(31, everyday=7)
FONTANA_MONTH = {
    "time": {"start": "2017-05-01", "end": None, "days": DAYS, "slot_minutes": 60, "zone": "Etc/GMT+8"},
    "power_flow": "none",
    "network": None,
    "contracts": {"default": flat(0.257, 0.041)},
    "outputs": {"report": False, "statements": False, "tables": ["slots", "buildings", "ledger"]},
}


@pytest.mark.parametrize("case", [
    pytest.param(c, id=names(c), marks=[] if i % 3 == 0 else pytest.mark.slow) for i, c in enumerate(BALANCED)
])  # fmt: skip
def test_savings_are_exact_on_a_month_of_measured_homes(case: Case, tmp_path: Path) -> None:
    rule, parameters = case
    stage = {"market": None, "market.stages": [{"rule": rule, "parameters": parameters}]}
    run = peerwatt.run("fontana", tmp_path / "run", overrides=FONTANA_MONTH | stage)
    assert run.static.n_slots == DAYS * 24
    assert assert_savings_identity(run, 257_000, 41_000) > 1_000_000 * DAYS / 31


def csv_profiles(folder: Path, nets: list[list[int]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Homes whose hourly net energies [Wh] stand in a CSV file: positive is load, negative PV."""
    with (folder / "homes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *(f"{kind}{i}" for i in range(len(nets)) for kind in ("load", "pv"))])
        for hour, row in enumerate(zip(*nets, strict=True)):
            cells = [x for net in row for x in (max(net, 0), max(-net, 0))]
            writer.writerow([f"2021-06-01T{hour:02d}:00Z", *cells])
    profiles: dict[str, Any] = {}
    homes = []
    for i in range(len(nets)):
        for kind, sign in (("load", "load"), ("pv", "generation")):
            column = f"{kind}{i}"
            profiles[column] = {"file": str(folder / "homes.csv"), "column": column, "unit": "Wh", "sign": sign}
        homes.append(home(f"h{i}", {"kind": "load", "profile": f"load{i}"}, {"kind": "pv", "profile": f"pv{i}"}))
    return profiles, homes


NETS = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(-9_000, 9_000), min_size=24, max_size=24), min_size=n, max_size=n)
)


@pytest.mark.slow
@settings(
    max_examples=effort(12, everyday=4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(nets=NETS, case=st.sampled_from(BALANCED), prices=st.tuples(st.integers(0, 300), st.integers(21, 300)))
def test_savings_are_exact_for_any_profiles(
    nets: list[list[int]], case: Case, prices: tuple[int, int], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    feed_in, spread = prices
    profiles, homes = csv_profiles(folder, nets)
    retail = feed_in + spread
    scenario = district(
        *homes,
        profiles=profiles,
        contracts={"default": flat(retail / 1000, feed_in / 1000)},
        time={"start": "2021-06-01T00:00Z", "days": 1, "slot_minutes": 60, "zone": "UTC"},
    )
    run = peerwatt.run(with_rule(scenario, case[0], **case[1]), folder / "run")
    assert (plane(run, "import_wh") - plane(run, "export_wh") == np.array(nets).T).all()
    assert_savings_identity(run, retail * 1000, feed_in * 1000)
    assert_trades_are_the_ledger(run)


# --- residuals --------------------------------------------------------------------------------------------------------


def coarse_district(settlement: Mapping[str, Any], backstop: str = "after") -> dict[str, Any]:
    """Four homes of which two are read once an hour, so that contract and meter differ."""
    return district(
        home("h1", load(), pv(8), metering_minutes=60),
        home("h2", load("couple", 6), metering_minutes=60),
        home("h3", load("senior"), pv(3)),
        home("h4", load("shift")),
        settlement=dict(settlement),
        market={"stages": [{"rule": "uniform_price"}], "backstop": backstop},
    )


IMBALANCE = {"imbalance_price": {"flat_per_kwh": 0.15}, "imbalance_price_short": {"flat_per_kwh": 0.41}}
MODES: dict[str, dict[str, Any]] = {
    "individual": {},
    "netted": {"residuals": "netted"},
    "imbalance_single": {"residuals": "imbalance_single", "imbalance_price": IMBALANCE["imbalance_price"]},
    "imbalance_dual": {"residuals": "imbalance_dual", **IMBALANCE},
    "tolerance": {"tolerance_percent": 10},
}


def half_even(exact: Fraction) -> int:
    return round(exact)


def contract_position_wh(run: peerwatt.Run) -> np.ndarray:
    return plane(run, "bought_wh") - plane(run, "sold_wh")


@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("netted", "tolerance")])
def test_residuals_are_settled_at_the_prices_of_their_mode(mode: str, tmp_path: Path) -> None:
    run = peerwatt.run(coarse_district(MODES[mode]), tmp_path / "run")
    assert_verified(run)
    short_u, long_u = {"individual": (320_000, 80_000), "imbalance_single": (150_000, 150_000)}.get(
        mode, (410_000, 150_000)
    )
    residual = plane(run, "import_wh") - plane(run, "export_wh") - contract_position_wh(run)
    assert (residual > 0).any() and (residual < 0).any()
    expected = [half_even(Fraction(-int(r) * (short_u if r > 0 else long_u), 1000)) for r in residual.ravel()]
    assert plane(run, "residual_u", "ledger")[:, :4].ravel().tolist() == expected


def test_netted_residuals_meet_each_other_at_the_middle_first(tmp_path: Path) -> None:
    alone = peerwatt.run(coarse_district(MODES["individual"]), tmp_path / "alone")
    netted = peerwatt.run(coarse_district(MODES["netted"]), tmp_path / "netted")
    assert_verified(netted)
    assert (contract_position_wh(alone) == contract_position_wh(netted)).all()
    residual = plane(alone, "import_wh") - plane(alone, "export_wh") - contract_position_wh(alone)
    cancelled = np.minimum(np.maximum(residual, 0).sum(axis=1), np.maximum(-residual, 0).sum(axis=1))
    assert cancelled.any()
    retailer = [plane(r, "residual_u", "ledger")[:, 4] for r in (alone, netted)]
    assert ((retailer[0] - retailer[1]) * 1000 == cancelled * 240_000).all(), "the retailer loses the spread on it"


def test_a_tolerance_is_settled_at_the_contract_price(tmp_path: Path) -> None:
    run = peerwatt.run(coarse_district(MODES["tolerance"]), tmp_path / "run")
    assert_verified(run)
    position = contract_position_wh(run)
    residual = plane(run, "import_wh") - plane(run, "export_wh") - position
    contract, posted = plane(run, "contract_u", "ledger"), plane(run, "residual_u", "ledger")
    seen = 0
    for t, i in np.argwhere(residual != 0):
        r, c = int(residual[t, i]), abs(int(position[t, i]))
        inside = min(abs(r), c * 10 // 100) * (1 if r > 0 else -1)
        rest = r - inside
        price = Fraction(abs(int(contract[t, i])), c) if c else Fraction(0)
        due = half_even(price * inside) + half_even(Fraction(rest * (320_000 if rest > 0 else 80_000), 1000))
        assert posted[t, i] == -due
        seen += inside != 0
    assert seen > 10


def test_the_retailer_in_the_book_takes_what_is_left_and_sets_the_price(tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(8)), home("h2", load("couple")), home("h3", load("senior"))]
    more = {"market": {"stages": [{"rule": "uniform_price"}], "backstop": "in_book"}}
    inside = peerwatt.run(district(*homes, **more), tmp_path / "inside")
    after = peerwatt.run(district(*homes), tmp_path / "after")
    for run in (inside, after):
        assert_verified(run)
    assert (inside.table("slots").local_wh == after.table("slots").local_wh).all()
    assert not plane(inside, "residual_u", "ledger").any(), "the book left nothing over"
    net = (plane(inside, "import_wh") - plane(inside, "export_wh")).sum(axis=1)
    slots = inside.table("slots")
    price = (slots.price_num / slots.price_den).to_numpy()
    local = slots.local_wh.to_numpy() > 0
    assert (price[local & (net > 0)] == 320_000).all() and (price[local & (net < 0)] == 80_000).all()
    assert int(inside.table("bills").saving_u.sum()) == int(after.table("bills").saving_u.sum())


def test_the_retailer_in_the_book_is_refused_where_prices_differ(tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(8)), home("h2", load(), contract="other")]
    more = {
        "market": {"stages": [{"rule": "uniform_price"}], "backstop": "in_book"},
        "contracts": {"default": flat(), "other": flat(0.4)},
    }
    with pytest.raises(peerwatt.PeerwattError) as refused:
        peerwatt.run(district(*homes, **more), tmp_path / "run")
    assert refused.value.remedy is not None
