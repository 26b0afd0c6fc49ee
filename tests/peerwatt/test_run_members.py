"""Members that come and go, meters coarser than the slot, export limits and cars, read from the tables of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from tests.peerwatt.districts import (
    BATTERY,
    assert_verified,
    battery_law_breach_wh,
    column_of,
    district,
    home,
    load,
    plane,
    pv,
    with_rule,
)

DAY = "2016-05-25"
BID_RULES = ["uniform_price", "pair_price", "pay_as_bid"]


@pytest.mark.parametrize("rule", [*BID_RULES, "mid_market_rate", "bill_sharing", "sharing_keys"])
def test_members_trade_only_while_they_are_members(rule: str, tmp_path: Path) -> None:
    """h2 joins within slot 40 (so from slot 41), h3 leaves at the start of slot 52."""
    homes = [
        home("h1", load(), pv(9)),
        home("h2", load("couple"), membership={"joins": f"{DAY}T10:07"}),
        home("h3", load(), pv(7), membership={"leaves": f"{DAY}T13:00"}),
        home("h4", load("shift", 6)),
    ]
    parameters = {"tie_break": "prorata"} if rule in BID_RULES else {}
    run = peerwatt.run(with_rule(district(*homes), rule, **parameters), tmp_path / "run")
    assert_verified(run)
    trades = run.table("trades")
    bought, sold = plane(run, "bought_wh"), plane(run, "sold_wh")
    net = plane(run, "import_wh") - plane(run, "export_wh")
    ledger = {kind: plane(run, f"{kind}_u", "ledger") for kind in ("contract", "residual")}
    outside = {"h2": slice(0, 41), "h3": slice(52, 96)}
    inside = {"h2": slice(41, 96), "h3": slice(0, 52)}
    for name, slots in outside.items():
        i = column_of(run, name)
        mine = trades[(trades.buyer == name) | (trades.seller == name)]
        assert not mine.slot.isin(range(slots.start, slots.stop)).any()
        assert not bought[slots, i].any() and not sold[slots, i].any()
        assert not ledger["contract"][slots, i].any()
        alone = [round(-int(e) * (320 if e > 0 else 80)) for e in net[slots, i]]
        assert ledger["residual"][slots, i].tolist() == alone, "outside, the retailer supplies at its own prices"
        assert net[slots, i].any()
        assert bought[inside[name], i].any() or sold[inside[name], i].any()


def test_a_meter_of_an_hour_is_spread_evenly_or_by_profile_and_its_total_is_exact(tmp_path: Path) -> None:
    by_profile = {"metering_minutes": 60, "metering_spread": "profile", "spread_profile": "shop"}
    homes = [
        home("flat", load(), pv(5), metering_minutes=60),
        home("shaped", load("couple"), pv(4), **by_profile),
        home("exact", load("senior"), pv(6)),
        home("other", load("shift")),
        home("shop", load("shop", 1.0)),
    ]
    run = peerwatt.run(district(*homes), tmp_path / "run")
    assert_verified(run)
    true = plane(run, "load_wh") - plane(run, "pv_wh")
    for sign, register in ((1, "import_wh"), (-1, "export_wh")):
        read, real = plane(run, register), np.maximum(sign * true, 0)
        assert (read[:, 2:] == real[:, 2:]).all()
        assert (read.reshape(24, 4, 5).sum(axis=1) == real.reshape(24, 4, 5).sum(axis=1)).all()
        hours = read[:, 0].reshape(24, 4)
        assert (hours.max(axis=1) - hours.min(axis=1) <= 1).all() and (np.diff(hours, axis=1) <= 0).all()
        weight = plane(run, "load_wh")[:, 4].reshape(24, 4)
        total = real[:, 1].reshape(24, 4).sum(axis=1, keepdims=True)
        share = total * weight / weight.sum(axis=1, keepdims=True)
        # the shop's Wh are the weights, rounded: an error of 1 in some hundred
        assert np.abs(read[:, 1].reshape(24, 4) - share).max() <= 1 + total.max() / weight.sum(axis=1).min()
    assert (plane(run, "import_wh") != np.maximum(true, 0))[:, :2].any(axis=0).all()


def test_residuals_follow_the_reading_not_the_plan(tmp_path: Path) -> None:
    homes = [home("coarse", load(), pv(8), metering_minutes=60), home("b", load("couple", 6)), home("c", load("shift"))]
    run = peerwatt.run(district(*homes), tmp_path / "run")
    position = plane(run, "bought_wh") - plane(run, "sold_wh")
    residual = plane(run, "import_wh") - plane(run, "export_wh") - position
    planned = plane(run, "load_wh") - plane(run, "pv_wh")
    assert (np.abs(position) <= np.abs(planned)).all() and (position * planned >= 0).all(), "bids are the plan"
    posted = plane(run, "residual_u", "ledger")[:, :3]
    assert (posted == np.where(residual > 0, -residual * 320, -residual * 80)).all()
    both = (plane(run, "import_wh") > 0) & (plane(run, "export_wh") > 0)
    assert both[:, 0].any(), "an hour with both directions is spread over slots with both"


def test_an_export_limit_curtails_no_more_than_it_must(tmp_path: Path) -> None:
    homes = [
        home("tight", load(), pv(9), export_limit_kw=1.5),
        home("zero", load("couple"), pv(6), BATTERY, export_limit_kw=0),
        home("free", load("senior"), pv(6)),
    ]
    run = peerwatt.run(district(*homes), tmp_path / "run")
    assert_verified(run)
    exported, curtailed = plane(run, "export_wh"), plane(run, "curtailed_wh")
    for i, limit_wh in ((0, 375), (1, 0)):
        assert exported[:, i].max() == limit_wh or limit_wh == 0
        assert (exported[:, i] <= limit_wh).all()
        cut = curtailed[:, i] > 0
        assert cut.any() and (exported[cut, i] == limit_wh).all(), "nothing is curtailed while there is room"
    assert not curtailed[:, 2].any()
    assert plane(run, "charge_wh")[:, 1].any(), "what would be curtailed is stored first"


def test_a_community_battery_does_not_store_what_a_limit_keeps_back_nor_export_beyond_its_own(tmp_path: Path) -> None:
    store = {**BATTERY, "capacity_kwh": 40, "charge_kw": 20, "discharge_kw": 20}
    homes = [
        home("tight", load(), pv(9), export_limit_kw=1.0),
        home("b", load("couple", 2)),
        home("evening", load("shift", 30)),
        home("store", store, export_limit_kw=1.2),
    ]
    run = peerwatt.run(district(*homes, days=2), tmp_path / "run")
    assert_verified(run)
    assert (plane(run, "export_wh")[:, 3] <= 300).all() and plane(run, "export_wh")[:, 3].max() == 300
    charge = plane(run, "charge_wh")[:, 3]
    assert charge.any()
    others = (plane(run, "export_wh") - plane(run, "import_wh"))[:, :3].sum(axis=1)
    assert (charge <= np.maximum(others, 0)).all(), "the battery would draw from the grid to store"
    assert battery_law_breach_wh(run) < 2


def session(arrival: str, departure: str, energy_kwh: float) -> dict[str, Any]:
    return {"arrival": f"{DAY}T{arrival}", "departure": f"{DAY}T{departure}", "energy_kwh": energy_kwh}


def test_a_car_that_cannot_be_served_is_reported(tmp_path: Path) -> None:
    """The stay holds 15 whole quarter hours: 13.875 kWh of the 15 wanted."""
    car = {"kind": "ev", "charge_kw": 3.7, "sessions": [session("08:05", "12:14", 15.0)]}
    run = peerwatt.run(district(home("h1", load(), car)), tmp_path / "run")
    assert_verified(run)
    charged = plane(run, "ev_wh")[:, 0]
    assert charged.sum() == 13_875
    assert np.flatnonzero(charged).tolist() == list(range(33, 48))
    assert run.summary["energy"]["ev_undelivered_kwh"] == pytest.approx(1.125)


def test_sessions_of_a_file_are_those_listed(tmp_path: Path) -> None:
    stays = [session("07:10", "09:40", 3.0), session("17:30", "23:00", 9.5)]
    rows = [f"{s['arrival']},{s['departure']},{s['energy_kwh']}" for s in stays]
    (tmp_path / "car.csv").write_text("\n".join(["arrival,departure,energy_kwh", *rows]) + "\n")
    listed = {"kind": "ev", "charge_kw": 3.7, "sessions": stays}
    read = {"kind": "ev", "charge_kw": 3.7, "sessions_file": str(tmp_path / "car.csv")}
    a = peerwatt.run(district(home("h1", load(), listed)), tmp_path / "listed")
    b = peerwatt.run(district(home("h1", load(), read)), tmp_path / "read")
    assert plane(a, "ev_wh").sum() == 12_500
    assert (plane(a, "ev_wh") == plane(b, "ev_wh")).all()
    assert a.static.run_id != b.static.run_id
