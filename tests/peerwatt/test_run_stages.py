"""Markets in stages and levels through whole runs: positions add up, gates are kept, the laws hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import ScenarioError
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import assert_verified, district, everything, home, load, plane, pv
from tests.peerwatt.test_run_windows import assert_same_for

NOON_BEFORE = {"days_before": 1, "at": "12:00"}
THREE_STAGES: list[dict[str, Any]] = [
    {"name": "day-ahead", "rule": "uniform_price", "gate": NOON_BEFORE, "slot_minutes": 60},
    {"name": "intraday", "rule": "pair_price", "opens": {"minutes_before": 180}, "gate": {"minutes_before": 60},
     "every_minutes": 60, "slot_minutes": 30},
    {"name": "spot", "rule": "uniform_price"},
]  # fmt: skip
NOISE = {"kind": "noise", "load_percent": 40, "pv_percent": 50}


def staged(market: dict[str, Any], **more: Any) -> dict[str, Any]:
    homes = [
        home("a", load(), pv(9)),
        home("b", load("couple")),
        home("c", load("shift", 6)),
        home("d", load("shop", 5), pv(3)),
    ]
    return district(*homes, market=market, **more)


def test_positions_of_all_stages_add_up(tmp_path: Path) -> None:
    """What is metered beyond the contracts is what the last stage could not match: the forecast's errors are traded."""
    run = peerwatt.run(staged({"stages": THREE_STAGES, "forecast": NOISE}), tmp_path / "run")
    assert_verified(run)
    trades = run.table("trades")
    assert set(trades.deal) == {"day-ahead", "intraday", "spot"}
    net = plane(run, "import_wh") - plane(run, "export_wh")
    contract = np.zeros_like(net)
    place = {b.id: i for i, b in enumerate(run.static.buildings)}
    for t in trades.itertuples():
        if t.buyer in place:
            contract[t.slot, place[t.buyer]] += t.e_wh
        if t.seller in place:
            contract[t.slot, place[t.seller]] -= t.e_wh
    assert not contract.sum(axis=1).any()
    residual = net - contract
    # all residuals of a slot point one way: the spot market has matched whatever could be matched
    assert ((residual >= 0).all(axis=1) | (residual <= 0).all(axis=1)).all()
    # somebody bought ahead what it sold again
    pool = trades[(trades.buyer == "pool") | (trades.seller == "pool")]
    both = pool.groupby("slot").apply(lambda x: bool(set(x.buyer) & set(x.seller) - {"pool"}), include_groups=False)
    assert both.any()


def test_with_perfect_knowledge_the_stages_change_nothing_but_the_dates_of_trades(tmp_path: Path) -> None:
    """Without errors and without batteries, one stage ahead of the same rule trades all that there is to trade."""
    ahead = {"name": "ahead", "rule": "uniform_price", "gate": {"minutes_before": 60}}
    one = peerwatt.run(staged({"stages": [{"rule": "uniform_price"}]}), tmp_path / "one")
    two = peerwatt.run(staged({"stages": [ahead, {"rule": "uniform_price"}]}), tmp_path / "two")
    assert_verified(two)
    # planned energies are rounded without the remainders that meters carry: a few Wh are left to the spot market
    gap = np.abs(plane(one, "contract_u", "ledger") - plane(two, "contract_u", "ledger"))
    assert gap.max() <= 6 * 320  # Wh at the highest price
    assert abs(one.summary["energy"]["local_kwh"] - two.summary["energy"]["local_kwh"]) < 0.2


@pytest.mark.parametrize("forecast", [NOISE, {"kind": "yesterday"}], ids=["noise", "yesterday"])
@pytest.mark.slow
def test_stages_do_not_depend_on_windows(forecast: dict[str, Any]) -> None:
    scenario = {**everything(days=2), "power_flow": "none", "market": {"stages": THREE_STAGES, "forecast": forecast}}
    records = assert_same_for(scenario, [192, 7, 1])
    assert records["bought_wh"].any()


def test_levels_trade_in_the_street_first_and_charge_what_goes_up(tmp_path: Path) -> None:
    levels = [
        {"name": "street", "by": "groups", "groups": {"north": ["a", "b"], "south": ["c", "d"]}},
        {"name": "district", "charge_per_kwh": 0.05},
    ]
    free = peerwatt.run(staged({"levels": levels[1:]}), tmp_path / "free")
    run = peerwatt.run(staged({"levels": levels}), tmp_path / "run")
    for each in (free, run):
        assert_verified(each)
    network = len(run.static.buildings) + 2
    in_street, without = (plane(r, "contract_u", "ledger")[:, network].sum() for r in (run, free))
    assert 0 < in_street < without, "what is traded in the street pays no charge"
    assert set(run.table("trades").deal) == {"spot, street", "spot, district"}
    local = free.table("slots").local_wh.to_numpy()
    charges = plane(free, "contract_u", "ledger")[:, network]
    assert np.abs(charges - local * 50).max() <= 2, "0.05 per kWh is 50 micro per Wh, rounded per seller"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"stages": [{"rule": "mid_market_rate", "name": "a"}, {"rule": "uniform_price", "name": "b"}]}, "works on meters"),
    ({"stages": [{"name": "a"}, {"rule": "mid_market_rate", "name": "b"}]}, "cannot follow other stages"),
    ({"stages": [{"name": "a"}, {"name": "a"}]}, "same name"),
    ({"stages": [{"name": "a", "slot_minutes": 20}, {"name": "b"}]}, "do not fit"),
    ({"stages": [{"name": "a"}, {"name": "b", "slot_minutes": 60}]}, "the slots themselves"),
    ({"stages": [{"name": "a", "gate": {"days_before": 0, "at": "12:00"}}, {"name": "b"}]}, "after delivery"),
    ({"stages": [{"name": "a", "gate": {"minutes_before": 5}}, {"name": "b", "gate": {"minutes_before": 60}},
                 {"name": "c"}]}, "comes before"),
    ({"stages": [{"name": "a", "opens": {"minutes_before": 5}, "gate": {"minutes_before": 60}}, {"name": "b"}]},
     "opens after"),
    ({"stages": [{"name": "a", "every_minutes": 5}, {"name": "b"}]}, "need an opening"),
    ({"stages": [{"name": "a", "gate": {"at": "12:00"}}]}, "days_before and at"),
    ({"levels": [{"name": "x", "by": "groups", "groups": {"g": ["nobody"]}}]}, "no building"),
    ({"levels": [{"name": "x", "by": "groups", "groups": {"g": ["a"], "h": ["a"]}}]}, "two markets"),
    ({"levels": [{"name": "x", "by": "feeder"}]}, "need a network"),
    ({"levels": [{"name": "x"}], "stages": [{"rule": "bill_sharing"}]}, "works on meters"),
    ({"levels": [{"name": "x"}, {"name": "y", "by": "groups", "groups": {"g": ["a"], "h": ["b"]}}]}, "torn apart"),
]  # fmt: skip


@pytest.mark.parametrize(("market", "words"), BAD, ids=[words for _, words in BAD])
def test_contradictions_are_told_with_their_place(market: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words) as caught:
        prepare(load_scenario(staged(market)))
    assert "market" in str(caught.value)


@pytest.mark.parametrize("forecast", ["perfect", "noise"])
def test_a_continuous_intraday_session_with_ramping_quotes(forecast: str, tmp_path: Path) -> None:
    """Both sides start far from their limits and give way by equal steps: they meet in the middle of 0.08 and 0.32."""
    ramp = {"strategies": {"default": {"kind": "linear_ramp", "parameters": {"updates": 6}}}}
    stages = [
        {"name": "intraday", "rule": "continuous_double_auction", "rounds": 7, "opens": {"minutes_before": 90},
         "gate": {"minutes_before": 30}, "slot_minutes": 30},
        {"name": "spot", "rule": "continuous_double_auction", "rounds": 4},
    ]  # fmt: skip
    run = peerwatt.run(staged({"stages": stages, "forecast": {"kind": forecast}}, **ramp), tmp_path / "run")
    assert_verified(run)
    trades = run.table("trades")
    assert "intraday" in set(trades.deal)
    assert (trades.price_num == 200_000 * trades.price_den).all()
    if forecast == "noise":
        assert "spot" in set(trades.deal)


@pytest.mark.slow
def test_continuous_sessions_do_not_depend_on_windows() -> None:
    stages = [{"name": "intraday", "rule": "continuous_double_auction", "rounds": 3, "gate": {"minutes_before": 60}},
              {"name": "spot", "rule": "continuous_double_auction", "rounds": 3}]  # fmt: skip
    more = {"strategies": {"default": {"kind": "zi_c"}}}
    records = assert_same_for(staged({"stages": stages, "forecast": NOISE}, **more), [96, 7, 1])
    assert records["trades.e_wh"].any()


def test_rounds_need_a_continuous_rule() -> None:
    with pytest.raises(ScenarioError, match="takes one quote"):
        prepare(load_scenario(staged({"stages": [{"rule": "uniform_price", "rounds": 3}]})))


def test_without_a_market_everybody_pays_its_own_tariff_whatever_imbalance_costs(tmp_path: Path) -> None:
    prices = {"residuals": "imbalance_dual", "imbalance_price": {"flat_per_kwh": 0.05},
              "imbalance_price_short": {"flat_per_kwh": 0.5}}  # fmt: skip
    run = peerwatt.run(staged({"stages": [{"rule": "no_market"}]}, settlement=prices), tmp_path / "run")
    assert_verified(run)
    assert run.summary["money"]["savings_u"] == 0


@pytest.mark.slow
def test_a_comparison_keeps_stages_and_levels(tmp_path: Path) -> None:
    levels = [{"name": "street", "by": "groups", "groups": {"north": ["a", "b"], "south": ["c", "d"]}},
              {"name": "district", "charge_per_kwh": 0.02}]  # fmt: skip
    scenario = staged({"stages": THREE_STAGES, "levels": levels, "forecast": NOISE})
    study = peerwatt.compare(scenario, tmp_path / "out", rules=["pay_as_bid", "mid_market_rate"], report=False)
    runs = dict(zip(study.names, study.runs, strict=True))
    assert {d.split(", ")[0] for d in runs["pay as bid"].table("trades").deal} == {"day-ahead", "intraday", "spot"}
    assert set(runs["mid market rate"].table("trades").deal) == {"spot"}
    assert any("mid market rate" in s and "stands alone" in s for s in study.sentences)


def test_a_term_that_the_static_key_cannot_keep_leaves_that_arm_out(tmp_path: Path) -> None:
    scenario = staged({})
    scenario["buildings"][0]["terms"] = {"floor_per_kwh": 0.1}
    study = peerwatt.compare(scenario, tmp_path / "out", rules=["uniform_price", "mid_market_rate"], report=False)
    assert study.names == ("no market", "time-of-use tariff", "uniform price")
    assert sum("left out" in s for s in study.sentences) == 2


def test_a_rule_for_one_partys_request_is_no_stage() -> None:
    with pytest.raises(ScenarioError, match="no market of slots"):
        prepare(load_scenario(staged({"stages": [{"rule": "vickrey"}]})))
