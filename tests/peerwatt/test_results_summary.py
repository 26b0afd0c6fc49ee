"""Key figures against slow recomputation from the tables with pandas and plain loops; fairness on known values."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerwatt.results import Run, RunWriter
from peerwatt.results.fairness import gini, jain
from peerwatt.results.record import WindowRecord
from peerwatt.results.remarks import readable_remarks
from peerwatt.results.schemas import SLOT_TABLES
from peerwatt.results.testing import MadeUpRun, made_up_static

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
N_SLOTS = 700  # seven days around the end of a month, with the clock change of March


def make(folder: Path, *, pairs: bool, bills: bool) -> tuple[MadeUpRun, Run]:
    made_up = MadeUpRun.of(made_up_static(7, N_SLOTS, pairs=pairs))
    writer = RunWriter(folder, made_up.static, SLOT_TABLES, 96)
    for slot in range(0, N_SLOTS, 100):
        writer.write(made_up.record(slot, 100))
    return made_up, Run(writer.finish(bills=made_up.bills() if bills else None))


@pytest.fixture(scope="module")
def by_pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUpRun, Run]:
    return make(tmp_path_factory.mktemp("runs") / "pairs", pairs=True, bills=True)


@pytest.fixture(scope="module")
def by_pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUpRun, Run]:
    return make(tmp_path_factory.mktemp("runs") / "pool", pairs=False, bills=False)


# --- fairness ---------------------------------------------------------------------------------------------------------


def test_gini_and_jain_of_one_to_four() -> None:
    assert gini([3, 1, 4, 2]) == Fraction(1, 4)
    assert jain([3, 1, 4, 2]) == Fraction(5, 6)


def test_equal_and_single_values() -> None:
    assert gini([5, 5, 5]) == 0
    assert jain([5, 5, 5]) == 1
    assert gini([0, 0, 9]) == Fraction(2, 3)
    assert jain([0, 0, 9]) == Fraction(1, 3)


def test_undefined_fairness_is_none() -> None:
    assert gini([]) is None
    assert gini([1, -1]) is None
    assert gini([-3, 1]) is None
    assert jain([]) is None
    assert jain([0, 0]) is None


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12))
def test_fairness_by_definition(x: list[int]) -> None:
    n, total = len(x), sum(x)
    if total > 0:
        assert gini(x) == Fraction(sum(abs(a - b) for a in x for b in x), 2 * n * total)
    if any(x):
        assert jain(x) == Fraction(total**2, n * sum(a * a for a in x))


# --- key figures ------------------------------------------------------------------------------------------------------


def test_energy_totals(by_pairs: tuple[MadeUpRun, Run]) -> None:
    _, run = by_pairs
    buildings, energy = run.table("buildings"), run.summary["energy"]
    for name in ("load", "heat_pump", "ev", "pv", "curtailed", "charge", "discharge", "import", "export"):
        assert energy[f"{name}_kwh"] == buildings[f"{name}_wh"].sum() / 1000
    assert energy["local_kwh"] == buildings["sold_wh"].sum() / 1000 > 0
    assert energy["n_trades"] == len(run.table("trades"))
    assert energy["ev_undelivered_kwh"] == by_pairs[0].whole.undelivered_wh.sum() / 1000


def test_self_supply_alone_and_shared(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    frame = run.table("buildings")
    frame["demand"] = frame["load_wh"] + frame["heat_pump_wh"] + frame["ev_wh"] + frame["charge_wh"]
    frame["generation"] = frame["pv_wh"] + frame["discharge_wh"]
    frame["alone"] = frame[["demand", "generation"]].min(axis=1)
    frame["member"] = made_up.whole.active.ravel()
    inside = frame[frame["member"]].groupby("slot")[["demand", "generation"]].sum().min(axis=1).sum()
    shared = inside + frame.loc[~frame["member"], "alone"].sum()
    assert not frame["member"].all()
    block = run.summary["self_supply"]
    for name, wh in (("alone", frame["alone"].sum()), ("shared", shared)):
        assert block[f"{name}_kwh"] == wh / 1000
        assert block[f"{name}_self_consumption"] == pytest.approx(wh / frame["generation"].sum(), rel=1e-12)
        assert block[f"{name}_self_sufficiency"] == pytest.approx(wh / frame["demand"].sum(), rel=1e-12)
    one = frame[frame["building"] == "h01"]
    assert run.summary["buildings"]["h01"]["self_consumption"] == one["alone"].sum() / one["generation"].sum()
    without_pv = run.summary["buildings"]["h05"]
    assert without_pv["self_consumption"] is None
    assert without_pv["self_sufficiency"] == 0


def test_net_supply_counts_no_energy_twice(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    whole, block = made_up.whole, run.summary["self_supply"]
    use, pv = whole.load_wh.sum() + whole.heat_pump_wh.sum() + whole.ev_wh.sum(), whole.pv_wh.sum()
    drawn = fed = 0
    for net, member in zip(whole.import_wh - whole.export_wh, whole.active, strict=True):
        crossing = [int(net[member].sum()), *net[~member].tolist()]
        drawn += sum(x for x in crossing if x > 0)
        fed -= sum(x for x in crossing if x < 0)
    assert block["use_kwh"] == use / 1000
    assert block["net_self_sufficiency"] == pytest.approx(1 - drawn / use, rel=1e-12)
    assert block["net_self_consumption"] == pytest.approx(1 - fed / pv, rel=1e-12)
    assert block["alone_net_self_sufficiency"] == pytest.approx(1 - whole.import_wh[:, :6].sum() / use_of(whole, 6))
    assert block["net_self_sufficiency"] != pytest.approx(block["shared_self_sufficiency"], abs=1e-3)


def use_of(whole: WindowRecord, homes: int) -> int:
    return int((whole.load_wh + whole.heat_pump_wh + whole.ev_wh)[:, :homes].sum())


def test_net_supply_equals_the_shared_one_without_batteries(tmp_path: Path) -> None:
    static = made_up_static(5, 96, network=False)
    record = MadeUpRun.of(static).record(0, 96)
    net = record.import_wh - record.export_wh - record.charge_wh + record.discharge_wh
    bare = replace(record, charge_wh=record.charge_wh * 0, discharge_wh=record.discharge_wh * 0,
                   import_wh=np.maximum(net, 0), export_wh=np.maximum(-net, 0))  # fmt: skip
    writer = RunWriter(tmp_path / "run", static, ("slots",))
    writer.write(bare)
    block = Run(writer.finish()).summary["self_supply"]
    for key in ("self_sufficiency", "self_consumption"):
        assert 0 < block[f"net_{key}"] < 1
        assert block[f"net_{key}"] == pytest.approx(block[f"shared_{key}"], rel=1e-12)


def test_remarks_of_one_data_set_make_one_sentence() -> None:
    said = ["set_one: monthly means", "slots are long", "set_one: values are even", "Already done.",
            "anna.csv, bert.csv have no column 'pv'"]  # fmt: skip
    assert readable_remarks(said) == [
        "Data set set_one: monthly means; values are even.",
        "Slots are long.",
        "Already done.",
        "anna.csv, bert.csv have no column 'pv'.",
    ]


def _check_prices(run: Run, price: pd.Series, wh: pd.Series) -> None:
    block = run.summary["prices"]
    assert block["slots_with_trade"] == block["slots_with_price"] == len(price)
    assert block["slots_without_trade"] == N_SLOTS - len(price) > 0
    assert block["volume_weighted_mean_per_kwh"] == pytest.approx((price * wh).sum() / wh.sum(), rel=1e-12)
    assert block["mean_per_kwh"] == pytest.approx(price.mean(), rel=1e-12)
    assert block["std_per_kwh"] == pytest.approx(price.std(ddof=0), rel=1e-9)
    assert block["mean_absolute_change_per_kwh"] == pytest.approx(price.diff().abs().mean(), rel=1e-9)
    assert (block["lowest_per_kwh"], block["highest_per_kwh"]) == pytest.approx((price.min(), price.max()))


def test_prices_of_a_rule_with_one_price(by_pool: tuple[MadeUpRun, Run]) -> None:
    slots = by_pool[1].table("slots").dropna(subset=["price_per_kwh"])
    assert (slots["price_per_kwh"] == slots["price_num"] / slots["price_den"] / 1e6).all()
    _check_prices(by_pool[1], slots["price_per_kwh"], slots["local_wh"])


def test_prices_of_a_rule_with_pairs(by_pairs: tuple[MadeUpRun, Run]) -> None:
    run = by_pairs[1]
    trades = run.table("trades")
    trades["worth"] = trades["e_wh"] * trades["price_per_kwh"]
    sums = trades.groupby("slot")[["e_wh", "worth"]].sum()
    _check_prices(run, sums["worth"] / sums["e_wh"], sums["e_wh"])


def test_grid_figures(by_pairs: tuple[MadeUpRun, Run]) -> None:
    _, run = by_pairs
    slots, block = run.table("slots"), run.summary["grid"]
    exchange = slots["exchange_wh"]
    assert block["drawn_kwh"] == exchange.clip(lower=0).sum() / 1000
    assert block["reverse_kwh"] == -exchange.clip(upper=0).sum() / 1000
    assert block["peak_import_kw"] == pytest.approx(exchange.max() * 4 / 1000)
    assert block["peak_reverse_kw"] == pytest.approx(-exchange.min() * 4 / 1000)
    starts = slots["start_utc"]
    assert pd.Timestamp(block["peak_import_start_utc"]) == starts[exchange.idxmax()]
    assert pd.Timestamp(block["peak_reverse_start_utc"]) == starts[exchange.idxmin()]
    assert block["losses_kwh"] == slots["loss_wh"].sum() / 1000
    assert block["losses_share"] == pytest.approx(slots["loss_wh"].sum() / slots["import_wh"].sum())
    v = run.table("buses")["v_pu"]
    assert block["v_min_pu"] == pytest.approx(v.min(), abs=1e-6)
    assert block["v_max_pu"] == pytest.approx(v.max(), abs=1e-6)
    assert block["averaging_interval_s"] == 900
    assert any("15-minute means; not an EN 50160" in note for note in run.summary["notes"])
    branches = run.table("branches").groupby("branch", observed=True)["loading"].max()
    assert block["max_transformer_loading"] == pytest.approx(branches["transformer 0"], rel=1e-6)
    assert block["max_line_loading"] == pytest.approx(branches.drop("transformer 0").max(), rel=1e-6)


def test_violations_in_the_summary(by_pairs: tuple[MadeUpRun, Run]) -> None:
    _, run = by_pairs
    found, block = run.table("violations"), run.summary["violations"]
    assert block["count"] == len(found) > 0
    assert block["slots"] == found["slot"].nunique()
    assert block["share_of_slots"] == pytest.approx(found["slot"].nunique() / N_SLOTS)
    for kind, of_kind in block["by_kind"].items():
        rows = found[found["kind"] == kind]
        assert of_kind["count"] == len(rows)
        if len(rows):
            worst = rows.loc[rows["excess"].idxmax()]
            assert {k: of_kind["worst"][k] for k in ("slot", "element", "value", "excess")} == dict(
                worst[["slot", "element", "value", "excess"]]
            )
        else:
            assert of_kind["worst"] is None


def test_carbon(by_pairs: tuple[MadeUpRun, Run]) -> None:
    _, run = by_pairs
    slots = run.table("slots")
    drawn, fed = slots["exchange_wh"].clip(lower=0), -slots["exchange_wh"].clip(upper=0)
    used = (slots["pv_wh"] - fed).clip(lower=0)
    block = run.summary["carbon"]
    assert block["imports_kg"] == pytest.approx((drawn * slots["carbon_kg_per_kwh"]).sum() / 1000, rel=1e-12)
    assert block["avoided_by_pv_kg"] == pytest.approx((used * slots["carbon_kg_per_kwh"]).sum() / 1000, rel=1e-12)


def test_savings_from_bills(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    bills = run.table("bills").groupby("building", observed=True)[["total_u", "baseline_total_u", "saving_u"]].sum()
    for building, row in bills.iterrows():
        block = run.summary["buildings"][building]
        assert [block["cost_u"], block["baseline_u"], block["savings_u"]] == row.tolist()
    counted = [b.id for b in made_up.static.buildings if not b.community]
    x = bills["saving_u"][counted].tolist()
    block = run.summary["savings"]
    assert block["counted_buildings"] == len(x) == 6
    assert block["gini"] == pytest.approx(float(gini(x) or 0))
    assert block["jain"] == pytest.approx(float(jain(x) or 0))
    assert block["negative"] == sum(v < 0 for v in x)
    assert run.summary["money"]["savings_u"] == bills["saving_u"].sum()
    owners = [b.id for b in made_up.static.buildings if b.tenure == "owner"]
    group = block["by_kind"]["tenure"]["owner"]
    assert (group["n"], group["savings_u"]) == (2, bills["saving_u"][owners].sum())
    assert set(block["by_kind"]["equipment"]) == {"pv", "pv_battery", "none"}
    for groups in block["by_kind"].values():
        assert sum(g["n"] for g in groups.values()) == 6
        assert sum(g["savings_u"] for g in groups.values()) == sum(x)
    assert [i for i, b in run.summary["buildings"].items() if not b["counted"]] == ["h06"]
    money = run.summary["money"]
    assert money["members_savings_u"] == sum(x)
    assert money["community_storage_u"] == bills["saving_u"]["h06"]
    assert money["members_savings_u"] + money["community_storage_u"] == money["savings_u"]


def test_costs_from_slots_without_bills(by_pool: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pool
    ledger = run.table("ledger")
    kinds = ["contract_u", "residual_u", "network_u", "levies_u", "losses_u"]
    sums = ledger.groupby("account", observed=True)[kinds].sum()
    for i, building in enumerate(made_up.static.buildings):
        block = run.summary["buildings"][building.id]
        assert block["cost_u"] == -sums.loc[building.id].sum()
        assert block["baseline_u"] == made_up.whole.baseline_u[:, i].sum()
    accounts = run.summary["money"]["accounts"]
    for account in ("retailer", "operator", "network", "state"):
        assert {k: accounts[account][k] for k in kinds} == sums.loc[account].to_dict()
    assert sum(a["total_u"] for a in accounts.values()) == 0
    assert run.summary["money"]["costs_from"] == "slots"


def test_accounts_balance_with_bills_too(by_pairs: tuple[MadeUpRun, Run]) -> None:
    accounts = by_pairs[1].summary["money"]["accounts"]
    for key in accounts["state"]:
        assert sum(a[key] for a in accounts.values()) == 0
    assert accounts["buildings"]["total_u"] == -by_pairs[1].summary["money"]["cost_u"]


# --- aggregates -------------------------------------------------------------------------------------------------------


def test_months_and_hours_are_local(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    slots = run.table("slots")
    local = slots["start_utc"].dt.tz_convert("Europe/Berlin")
    month = local.dt.strftime("%Y-%m")
    a = run.aggregates
    assert a["months"].tolist() == ["2016-03", "2016-04"]
    for m, label in enumerate(a["months"]):
        here = month == label
        assert a["month_pv_wh"][m].sum() == slots.loc[here, "pv_wh"].sum()
        assert a["month_local_wh"][m] == slots.loc[here, "local_wh"].sum()
        assert a["month_loss_wh"][m] == slots.loc[here, "loss_wh"].sum()
        assert np.array_equal(a["month_baseline_u"][m], made_up.whole.baseline_u[here.to_numpy()].sum(axis=0))
        assert np.array_equal(
            a["month_posting_u"][m, 2], made_up.whole.postings_u["network"][here.to_numpy()].sum(axis=0)
        )
        for hour in range(24):
            cell = here & (local.dt.hour == hour)
            assert a["profile_slots"][m, hour] == cell.sum()
            assert a["profile_pv_wh"][m, hour] == slots.loc[cell, "pv_wh"].sum()
            assert a["profile_v_max_sum"][m, hour] == pytest.approx(slots.loc[cell, "v_max_pu"].sum(), abs=1e-4)
    assert a["profile_slots"][0, 2] == 4 * 5  # 27 March has no 02:00


def test_attribution_of_pairs_is_exact(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    ids = [b.id for b in made_up.static.buildings]
    trades = run.table("trades")
    table = trades.pivot_table("e_wh", "seller", "buyer", "sum", fill_value=0, observed=True)
    money = trades.pivot_table("amount_u", "seller", "buyer", "sum", fill_value=0, observed=True)
    for (s, seller), (b, buyer) in itertools.product(enumerate(ids), enumerate(ids)):
        expected = table[buyer].get(seller, 0) if buyer in table else 0
        assert run.aggregates["attribution_wh"][s, b] == expected
        assert run.aggregates["attribution_u"][s, b] == (money[buyer].get(seller, 0) if buyer in money else 0)


def test_attribution_of_a_pool_is_pro_rata(by_pool: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pool
    expected = np.zeros((7, 7))
    for bought, sold in zip(made_up.whole.bought_wh, made_up.whole.sold_wh, strict=True):
        if bought.sum():
            expected += np.outer(sold, bought) / bought.sum()
    assert np.allclose(run.aggregates["attribution_wh"], expected, rtol=1e-12)
    assert np.allclose(expected.sum(axis=0), made_up.whole.bought_wh.sum(axis=0))
    assert not run.aggregates["attribution_u"].any()


def test_histograms_hold_every_slot(by_pairs: tuple[MadeUpRun, Run]) -> None:
    made_up, run = by_pairs
    v = made_up.whole.v_pu
    assert v is not None
    for bus in range(v.shape[1]):
        counts, _ = np.histogram(v[:, bus], bins=0.5 + 0.001 * np.arange(1001))
        assert counts.sum() == N_SLOTS
        assert np.abs(run.aggregates["bus_histogram"][bus] - counts).sum() <= 2  # a value on an edge
    loading = made_up.whole.branch_loading
    assert loading is not None
    assert (run.aggregates["branch_histogram"].sum(axis=1) == N_SLOTS).all()
    assert np.allclose(run.aggregates["branch_sum_loading"], loading.sum(axis=0))
    assert np.allclose(run.aggregates["bus_sum_pu"] / run.aggregates["bus_slots"], v.mean(axis=0))


# --- documentation ----------------------------------------------------------------------------------------------------


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted keys with place-holders for names of the district."""
    if isinstance(value, dict) and value and path[:2] not in {("run", "rule_parameters")}:
        for key, inner in value.items():
            part = key
            if path in {("money", "accounts"), ("buildings",)}:
                part = {"accounts": "<account>", "buildings": "<id>"}[path[-1]]
            elif path == ("violations", "by_kind") or (path[:2] == ("savings", "by_kind") and len(path) == 3):
                part = "<kind>"
            elif path == ("savings", "by_kind"):
                part = "<attribute>"
            elif path == ("origin", "by_origin"):
                part = "<origin>"
            elif path == ("undefined",):
                return
            yield from _paths(inner, (*path, part))
    else:
        yield ".".join(path)


def test_every_key_figure_is_documented(by_pairs: tuple[MadeUpRun, Run], by_pool: tuple[MadeUpRun, Run]) -> None:
    documented = set(re.findall(r"`([^`\n]+)`", DOCUMENT.read_text(encoding="utf-8")))
    for _, run in (by_pairs, by_pool):
        written = set(_paths(run.summary))
        assert len(written) > 80
        assert written <= documented, sorted(written - documented)
        for name in run.aggregates:
            energy = re.fullmatch(r"(month|profile)_(\w+)_wh", name)
            by_energy = energy is not None and f"{energy[1]}_<energy>_wh" in documented and energy[2] in documented
            assert name in documented or by_energy, name


def test_undefined_figures_have_a_reason(tmp_path: Path) -> None:
    made_up = MadeUpRun.of(made_up_static(1, 96, network=False))
    writer = RunWriter(tmp_path / "run", made_up.static, ("slots",))
    writer.write(made_up.record(0, 96))
    summary = Run(writer.finish()).summary
    assert summary["prices"]["mean_per_kwh"] is None
    assert "no slot has a price" in summary["undefined"]["prices.mean_per_kwh"]
    assert json.dumps(summary, allow_nan=False)


def test_no_generation_is_undefined_not_zero(tmp_path: Path) -> None:
    made_up = MadeUpRun.of(made_up_static(3, 8, network=False))  # two hours of the night
    writer = RunWriter(tmp_path / "run", made_up.static, ("slots",))
    record = made_up.record(0, 8)
    record.discharge_wh[:] = 0
    writer.write(record)
    summary = Run(writer.finish()).summary
    assert summary["self_supply"]["alone_self_consumption"] is None
    assert summary["undefined"]["self_supply.alone_self_consumption"] == "there is no generation"
    assert summary["self_supply"]["alone_self_sufficiency"] == 0
