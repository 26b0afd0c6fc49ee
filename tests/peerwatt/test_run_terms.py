"""Members' own terms and standing contracts in whole runs: kept, booked exactly, told on statements, refused early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import ScenarioError
from tests.peerwatt.districts import (
    BATTERY,
    assert_verified,
    column_of,
    district,
    everything,
    flat,
    home,
    load,
    plane,
    pv,
    with_rule,
)
from tests.peerwatt.test_run_windows import assert_same_for

GIFT = {"id": "gift", "seller": "a", "buyer": "d", "share": 0.25, "price_per_kwh": 0}
DEAL = {"id": "deal", "seller": "c", "buyer": "b", "power_kw": 0.4, "formula": "mid_market"}
BANDS = [{"start": "12:00", "end": "14:00"}]


def small(**more: Any) -> dict[str, Any]:
    homes = [home("a", load(), pv(9)), home("b", load("couple", 6)), home("c", load("shift", 5), pv(5)),
             home("d", load("senior", 5))]  # fmt: skip
    for name, properties in more.pop("of", {}).items():
        homes[ord(name) - ord("a")].update(properties)
    return district(*homes, **more)


def run(scenario: dict[str, Any], folder: Path, **options: Any) -> peerwatt.Run:
    done = peerwatt.run(scenario, out=folder, **options)
    assert_verified(done)
    return done


def trades_of(done: peerwatt.Run, seller: str, buyer: str) -> Any:
    table = done.table("trades")
    return table[(table.seller == seller) & (table.buyer == buyer)]


def test_floors_and_ceilings_bound_every_price(tmp_path: Path) -> None:
    # b is a's only likely customer at 25 ct; a's floor moves the price, and d's ceiling keeps it out
    of = {"a": {"terms": {"floor_per_kwh": 0.25}}, "c": {"terms": {"floor_per_kwh": 0.25}},
          "d": {"terms": {"ceiling_per_kwh": 0.2}}}  # fmt: skip
    free = run(with_rule(small(), "pay_as_bid"), tmp_path / "free")
    bound = run(with_rule(small(of=of), "pay_as_bid"), tmp_path / "bound")
    assert free.table("trades").price_per_kwh.min() == pytest.approx(0.08)
    sold = bound.table("trades")
    assert len(sold) and sold[sold.seller != "pool"].price_per_kwh.min() == pytest.approx(0.25)
    assert "d" not in set(sold.buyer) and "d" in set(free.table("trades").buyer)


def test_opting_out_for_hours_and_for_good(tmp_path: Path) -> None:
    of = {"a": {"terms": {"opt_out": BANDS}}, "d": {"terms": {"opt_out": "always"}}}
    done = run(small(of=of), tmp_path / "r")
    local = 4 * np.arange(24)
    sold = plane(done, "sold_wh")[:, 0]
    out = np.zeros(96, bool)
    out[local[12] : local[14]] = True
    assert not sold[out].any() and sold[~out].any()
    assert not plane(done, "bought_wh")[:, column_of(done, "d")].any()
    # its bill is that without a market
    assert done.summary["buildings"]["d"]["savings_u"] == 0


RULES = ("uniform_price", "pay_as_bid", "pair_price", "energy_classes", "mid_market_rate", "sharing_keys", "no_market")


@pytest.mark.parametrize("rule", RULES)
def test_standing_contracts_are_served_before_any_rule(rule: str, tmp_path: Path) -> None:
    scenario = with_rule(small(standing_contracts=[GIFT, DEAL], contracts={"default": flat(0.32, 0.0801)}), rule)
    done = run(scenario, tmp_path / "r")
    net = plane(done, "import_wh") - plane(done, "export_wh")
    a, b, c, d = net.T
    gift = np.minimum(np.maximum(-a, 0) // 4, np.maximum(d, 0))
    deal = np.minimum(np.minimum(100, np.maximum(-c, 0)), np.maximum(b, 0))
    given, sold = trades_of(done, "a", "d"), trades_of(done, "c", "b")
    given, sold = given[given.amount_u == 0], sold[sold.price_num == 400_100]
    assert dict(zip(given.slot, given.e_wh, strict=True)) == {int(s): int(gift[s]) for s in np.flatnonzero(gift)}
    assert dict(zip(sold.slot, sold.e_wh, strict=True)) == {int(s): int(deal[s]) for s in np.flatnonzero(deal)}
    assert (sold.price_den == 2).all() and sold.amount_u.sum() > 0
    lines = [line for line in str(done.statement("d")).splitlines() if line.startswith("gift: from a")]
    assert lines and f"{gift.sum() / 1000:,.1f}" in lines[0] and " 0.00 " in lines[0]
    assert (
        "deal: to b" in str(done.statement("c")) and "standing" not in str(done.statement("c")).split("Your energy")[0]
    )


def test_a_run_without_standing_contracts_says_nothing_of_them(tmp_path: Path) -> None:
    assert "standing" not in str(run(small(), tmp_path / "r").statement("a"))


def test_share_of_everything_leaves_nothing_for_the_market(tmp_path: Path) -> None:
    every = [{**GIFT, "id": f"to-{x}", "buyer": x, "share": 1.0} for x in "bd"]
    done = run(small(standing_contracts=every), tmp_path / "r")
    trades = done.table("trades")
    net = plane(done, "import_wh") - plane(done, "export_wh")
    met = np.minimum(np.maximum(-net[:, 0], 0), np.maximum(net[:, [1, 3]], 0).sum(axis=1))
    assert trades[(trades.seller == "a") & (trades.amount_u == 0)].e_wh.sum() == met.sum()


def test_times_and_notice_of_a_contract(tmp_path: Path) -> None:
    day = "2016-05-25"
    timed = [
        {**GIFT, "start": f"{day}T12:00", "end": f"{day}T15:07"},
        {**GIFT, "id": "ended", "buyer": "b", "notice_given": "2016-05-20T13:00", "notice_days": 5},
    ]
    done = run(small(standing_contracts=timed), tmp_path / "r")
    gift, ended = trades_of(done, "a", "d"), trades_of(done, "a", "b")
    assert gift.slot.min() == 48 and gift.slot.max() == 60  # the slot that begins at 15:00 is the last
    assert ended[ended.amount_u == 0].slot.max() == 51


def test_a_contract_ends_with_membership_and_outlasts_an_opt_out(tmp_path: Path) -> None:
    of = {"a": {"membership": {"leaves": "2016-05-25T13:00"}, "terms": {"opt_out": "always"}}}
    done = run(small(of=of, standing_contracts=[GIFT]), tmp_path / "r")
    assert trades_of(done, "a", "d").slot.max() == 51
    assert set(done.table("trades").query("seller == 'a'").buyer) == {"d"}


def test_kept_back_charge_is_not_sold_by_a_community_battery(tmp_path: Path) -> None:
    def of(terms: dict[str, Any], folder: str) -> np.ndarray:
        homes = [home("a", load(), pv(9)), home("b", load("couple", 6)),
                 home("store", {**BATTERY, "initial_soc": 0.8}, terms=terms)]  # fmt: skip
        return plane(run(district(*homes, days=2), tmp_path / folder), "soc_wh")[:, 2]

    free, kept = of({}, "free"), of({"kept_back_soc": 0.5}, "kept")
    assert free.min() < 1000
    assert 3500 < kept.min() < 3800  # half of 7.3 kWh; only self-discharge goes below


def test_energy_classes_of_members_and_what_they_refuse(tmp_path: Path) -> None:
    of = {"a": {"energy_class": "green"}, "d": {"terms": {"refused_classes": ["green"]}},
          "b": {"class_premiums_per_kwh": {"green": 0.05}}}  # fmt: skip
    done = run(with_rule(small(of=of), "energy_classes", k=1), tmp_path / "r")
    assert not len(trades_of(done, "a", "d")) and len(trades_of(done, "c", "d"))
    assert trades_of(done, "a", "b").price_per_kwh.max() > 0.32  # with its premium b pays more than retail
    free = run(with_rule(small(), "energy_classes"), tmp_path / "free")
    assert len(trades_of(free, "a", "d"))


@pytest.mark.parametrize(
    ("rule", "terms", "told"),
    [
        ("mid_market_rate", {"floor_per_kwh": 0.1}, "floor_per_kwh: mid_market_rate cannot keep a floor"),
        ("bill_sharing", {"ceiling_per_kwh": 0.1}, "works on meters"),
        ("uniform_price", {"refused_classes": ["grid"]}, "refused_classes: uniform_price cannot refuse"),
    ],
)
def test_a_rule_that_cannot_keep_a_term_is_refused_before_the_run(
    rule: str, terms: dict[str, Any], told: str, tmp_path: Path
) -> None:
    scenario = with_rule(small(of={"b": {"terms": terms}}), rule)
    with pytest.raises(ScenarioError, match="building 'b' has the term") as caught:
        peerwatt.run(scenario, out=tmp_path / "r")
    assert told in str(caught.value) and "energy_classes" in str(caught.value.remedy)
    assert str(caught.value.path).startswith("buildings[1].terms")


def test_without_a_market_every_term_is_kept(tmp_path: Path) -> None:
    terms = {"floor_per_kwh": 0.1, "ceiling_per_kwh": 0.2, "refused_classes": ["grid"], "opt_out": BANDS}
    done = run(with_rule(small(of={"b": {"terms": terms}}), "no_market"), tmp_path / "r")
    assert not len(done.table("trades"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"u": 20_001},
        {"u": 20_001, "inner": "pay_as_bid"},
        {"u": 2_000_000, "charge": "distance", "inner": "pair_price"},
        {"u": 5_000, "charge": "distance", "measure": "transfer", "inner": "energy_classes"},
    ],
)
def test_charges_for_the_network_reach_its_account(parameters: dict[str, Any], tmp_path: Path) -> None:
    done = run(with_rule(everything(1), "network_charges", **parameters), tmp_path / "r")
    accounts = {name: entry["contract_u"] for name, entry in done.summary["money"]["accounts"].items()}
    local_wh = int(done.table("slots").local_wh.sum())
    assert accounts["network"] > 0 and (accounts["operator"] > 0) == (parameters.get("inner") == "pay_as_bid")
    if "charge" not in parameters:
        # exact but for the rounding of each slot's two sides
        assert abs(accounts["network"] - 20_001 * local_wh / 1000) <= done.static.n_slots


def test_bad_terms_and_contracts_are_told_with_their_place(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"standing_contracts": [{**GIFT, "buyer": "dd"}]}, "there is no building 'dd'"),
        ({"standing_contracts": [GIFT, GIFT]}, "the id 'gift' is taken"),
        ({"standing_contracts": [{**GIFT, "power_kw": 1}]}, "exactly one of share, power_kw, volume_kwh"),
        ({"standing_contracts": [{**GIFT, "formula": "mid_market"}]}, "exactly one of price_per_kwh"),
        ({"standing_contracts": [{**GIFT, "buyer": "a"}]}, "the same building"),
        ({"standing_contracts": [{**GIFT, "start": "2016-05-26", "end": "2016-05-25"}]}, "end is not after start"),
        ({"of": {"a": {"terms": {"opt_out": [{"start": "12:00", "end": "12:00"}]}}}}, "start and end are the same"),
        ({"of": {"a": {"terms": {"opt_out": "never"}}}}, "opt_out"),
    ]
    for changes, told in cases:
        with pytest.raises(ScenarioError, match=told):
            peerwatt.run(small(**changes), out=tmp_path / "r")


def test_everything_at_once_in_any_windows(tmp_path: Path) -> None:
    scenario = everything(1)
    terms = {"floor_per_kwh": 0.1, "opt_out": BANDS, "kept_back_soc": 0.3}
    scenario["place"] = [{"terms": terms, "ids": ["h01", "h10"]}]
    scenario["standing_contracts"] = [
        {**GIFT, "seller": "h01", "buyer": "h05"},
        {**DEAL, "seller": "h02", "buyer": "h07"},
        {"id": "c", "seller": "h11", "buyer": "h04", "volume_kwh": 0.05, "formula": "retail_minus",
         "discount_per_kwh": 0.02},
    ]  # fmt: skip
    for rule in ("uniform_price", "mid_market_rate"):
        chosen = with_rule(scenario, rule)
        if rule == "mid_market_rate":
            chosen["place"][0]["terms"].pop("floor_per_kwh")
            chosen = {**chosen, "buildings": [{**b, "contract": "tou"} for b in chosen["buildings"]]}
        done = run(chosen, tmp_path / rule)
        given = trades_of(done, "h01", "h05")
        assert len(given) and len(trades_of(done, "h11", "h04"))
        records = assert_same_for(chosen, [96, 20])
        assert records["standing_wh"].any(axis=0).all()
