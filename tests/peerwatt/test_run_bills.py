"""A second, slow opinion on bills: recomputed with pandas and plain integers from the tables that a run wrote."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import peerwatt
from tests.peerwatt.districts import assert_verified, district, home, load, pv

TARIFF: dict[str, Any] = {
    "terms": [
        {
            "retail": {
                "default_per_kwh": 0.2117,
                "bands": [
                    {"start": "22:00", "end": "06:00", "days": ["mon", "tue", "wed", "thu", "fri"],
                     "price_per_kwh": 0.1613},
                    {"start": "11:00", "end": "15:00", "months": [4, 5, 6, 7, 8, 9], "price_per_kwh": 0.1499},
                    {"start": "02:00", "end": "03:30", "days": ["sun"], "price_per_kwh": 0.0931},
                    {"start": "17:00", "end": "21:00", "price_per_kwh": 0.2719},
                ],
            },
            "feed_in": {"flat_per_kwh": 0.0803},
            "network": {"full_per_kwh": 0.0811, "export_per_kwh": 0.0017, "fixed_per_day": 0.1337,
                        "demand_per_kw_month": 3.21},
            "levies_per_kwh": {"tax": 0.0205, "heat": 0.00277},
            "vat_percent": 19,
        },
        {
            "valid_from": "2016-07-15T12:00",
            "retail": {"flat_per_kwh": 0.3001},
            "feed_in": {"default_per_kwh": 0.0501, "bands": [{"start": "10:00", "end": "14:00",
                                                              "price_per_kwh": 0.0307}]},
            "network": {"full_per_kwh": 0.0907, "fixed_per_day": 0.1441, "demand_per_kw_month": 4.57},
            "levies_per_kwh": {"tax": 0.0205},
            "vat_percent": 16,
        },
    ]
}  # fmt: skip
CHANGE = datetime.fromisoformat("2016-07-15T12:00")  # on the wall
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def micro(value: float) -> int:
    return int(Fraction(str(value)) * 1_000_000)


def minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def price_u(tariff: dict[str, Any], local: datetime) -> int:
    """The price at a local moment, band by band as a person would read it."""
    if "flat_per_kwh" in tariff:
        return micro(tariff["flat_per_kwh"])
    now = local.hour * 60 + local.minute
    before = local - pd.Timedelta(days=1)
    for band in tariff["bands"]:
        start, end = minutes(band["start"]), minutes(band["end"])
        wraps = end <= start

        def on(day: datetime, band: dict[str, Any] = band) -> bool:
            return DAYS[day.weekday()] in band.get("days", DAYS) and day.month in band.get("months", range(1, 13))

        today = on(local) and start <= now and (wraps or now < end)
        if today or (wraps and on(before) and now < end):
            return micro(band["price_per_kwh"])
    return micro(tariff["default_per_kwh"])


def line_u(price: int, e_wh: int) -> int:
    return round(Fraction(price * e_wh, 1000))  # half to even


def recomputed(run: peerwatt.Run) -> dict[tuple[str, str], dict[str, int]]:
    """Bill lines by building and month, from energies and the clock alone."""
    energy = run.table("buildings", ["slot", "building", "import_wh", "export_wh"])
    start = run.table("slots", ["slot", "start_utc"]).set_index("slot").start_utc
    wall = start.dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    lines: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    taxed: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    peak: dict[tuple[str, str], tuple[int, int]] = {}
    hours = Fraction(run.static.slot_s, 3600)
    for slot, building, imported, exported in energy.itertuples(index=False):
        local = wall[slot]
        terms = TARIFF["terms"][local >= CHANGE]
        key = (building, f"{local:%Y-%m}")
        bill, network = lines[key], terms["network"]
        net = imported - exported
        retail = line_u(price_u(terms["retail"], local), max(net, 0))
        charge = line_u(micro(network["full_per_kwh"]), imported)
        charge += line_u(micro(network.get("export_per_kwh", 0)), exported)
        levies = line_u(sum(micro(v) for v in terms["levies_per_kwh"].values()), imported)
        first_of_day = slot == 0 or wall[slot - 1].date() != local.date()
        fixed = micro(network["fixed_per_day"]) if first_of_day else 0
        for name, amount in (("retail_bought", retail), ("network", charge), ("levies", levies), ("fixed", fixed)):
            bill[name] += amount
            taxed[key] += Fraction(amount * terms["vat_percent"], 100)
        bill["retail_sold"] -= line_u(price_u(terms["feed_in"], local), max(-net, 0))
        if imported > peak.get(key, (0, 0))[0]:
            peak[key] = (imported, slot)
    for key, (highest, slot) in peak.items():
        terms = TARIFF["terms"][wall[slot] >= CHANGE]
        demand = round(Fraction(micro(terms["network"]["demand_per_kw_month"]) * highest, 1000) / hours)
        lines[key]["demand"] = demand
        lines[key]["vat"] = round(taxed[key] + Fraction(demand * terms["vat_percent"], 100))
    return lines


@pytest.mark.slow
def test_every_bill_under_time_of_use_over_both_clock_changes_is_recomputed_exactly(tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(7)), home("h2", load("couple", 5)), home("h3", load("shift", 3), pv(2))]
    scenario = district(*homes, contracts={"default": TARIFF}, market={"stages": [{"rule": "no_market"}]})
    scenario["time"] = {"start": "2016-03-19", "end": "2016-11-06T07:30", "slot_minutes": 30, "zone": "Europe/Berlin"}
    run = peerwatt.run(scenario, tmp_path / "run")
    assert_verified(run)
    expected = recomputed(run)
    bills = run.table("bills")
    assert len(bills) == len(expected) == 3 * 9
    for bill in bills.to_dict("records"):
        lines = expected[bill["building"], bill["period"]]
        ours = {name: bill[f"{name}_u"] for name in lines}
        assert ours == dict(lines), (bill["building"], bill["period"])
        assert bill["total_u"] == bill["baseline_total_u"] == sum(lines.values())
        assert bill["saving_u"] == 0


@pytest.mark.parametrize("rule", ["uniform_price", "pair_price", "mid_market_rate"])
def test_the_bill_without_a_market_is_the_same_whatever_the_rule(rule: str, tmp_path: Path) -> None:
    homes = [home("h1", load(), pv(7)), home("h2", load("couple", 5)), home("h3", load("shift", 3), pv(2))]
    more = {"contracts": {"default": TARIFF}, "days": 40, "start": "2016-06-20"}
    alone = peerwatt.run(district(*homes, **more, market={"stages": [{"rule": "no_market"}]}), tmp_path / "alone")
    traded = peerwatt.run(district(*homes, **more, market={"stages": [{"rule": rule}]}), tmp_path / "traded")
    a, b = alone.table("bills"), traded.table("bills")
    assert (b.baseline_total_u == a.total_u).all()
    assert (b.saving_u == a.total_u - b.total_u).all()
    assert b.saving_u.sum() > 0
