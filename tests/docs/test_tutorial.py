"""The tutorial, followed to the letter; its results recomputed from the meter files by hand, in local time."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import peerwatt
from tests.docs.pages import ROOT, follow

pytestmark = pytest.mark.slow

BERLIN = ZoneInfo("Europe/Berlin")
FEED_IN_U = 80_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every step of the tutorial was done."""
    folder = tmp_path_factory.mktemp("tutorial")
    printed = "\n".join(follow(ROOT / "docs" / "tutorial.md", folder))
    assert "self-sufficiency" in printed
    return folder


def retail_u(local: datetime) -> int:
    """The tutorial's tariff, read off its page."""
    if local.weekday() < 5 and 17 <= local.hour < 20:
        return 410_000
    if 4 <= local.month <= 9 and 11 <= local.hour < 15:
        return 190_000
    return 280_000


def arm(place: Path, name: str) -> peerwatt.Run:
    return peerwatt.Run(place / "runs" / "compare" / "arms" / name)


def meters(run: peerwatt.Run) -> tuple[list[str], np.ndarray]:
    """Buildings and their metered net energy (slots, buildings) [Wh]."""
    table = run.table("buildings", ["slot", "building", "import_wh", "export_wh"])
    net = (table.import_wh - table.export_wh).to_numpy().reshape(run.static.n_slots, -1)
    return [b.id for b in run.static.buildings], net


def local_starts(run: peerwatt.Run) -> list[datetime]:
    start = datetime.fromisoformat(run.static.start_utc).timestamp()
    return [datetime.fromtimestamp(start + 1800 * i, tz=BERLIN) for i in range(run.static.n_slots)]


def test_every_reading_lands_in_its_slot_across_both_clock_changes(place: Path) -> None:
    run = peerwatt.Run(place / "runs" / "street")
    table = run.table("buildings")
    assert run.static.n_slots == 366 * 48
    clock = [f"{local:%Y-%m-%d %H:%M}" for local in local_starts(run)]
    assert clock.count("2024-10-27 02:30") == 2
    assert clock.count("2024-03-31 02:30") == 0
    for home in ("anna", "ben", "carla", "dora"):
        rows = pd.read_csv(place / "homes" / f"{home}.csv")
        assert rows.time.tolist() == clock, "a file in local time has just the wall clock's stamps, in order"
        of_home = table[table.building == home]
        for column, kwh in (("load_wh", "load_kwh"), ("pv_wh", "pv_kwh")):
            given = rows[kwh].to_numpy() * 1000 if kwh in rows else np.zeros(len(rows))
            drift = np.cumsum(of_home[column].to_numpy()) - np.cumsum(given)
            assert np.abs(drift).max() < 1.0, f"{home} {column}: whole Wh never run ahead or behind by one"


def test_the_bill_without_a_market_is_the_meter_times_the_tariff_on_the_wall_clock(place: Path) -> None:
    run = arm(place, "no-market")
    names, net = meters(run)
    prices = [retail_u(local) for local in local_starts(run)]
    for i, name in enumerate(names):
        owed = sum(
            round(Fraction(price * int(wh), 1000)) if wh > 0 else round(Fraction(FEED_IN_U * int(wh), 1000))
            for price, wh in zip(prices, net[:, i], strict=True)
        )
        assert run.summary["buildings"][name]["cost_u"] == owed


@pytest.mark.parametrize("rule", ["mid-market-rate", "uniform-price"])
def test_both_rules_give_what_their_definition_gives(place: Path, rule: str) -> None:
    run = arm(place, rule)
    names, net = meters(run)
    exact = [Fraction(0)] * len(names)
    matched_money = 0
    for local, row in zip(local_starts(run), net.tolist(), strict=True):
        retail = retail_u(local)
        demand, supply = sum(n for n in row if n > 0), -sum(n for n in row if n < 0)
        matched_money += (retail - FEED_IN_U) * min(demand, supply)
        middle = Fraction(retail + FEED_IN_U, 2)
        local_price = (
            middle
            if rule == "mid-market-rate" or demand == supply
            else Fraction(retail if demand > supply else FEED_IN_U)
        )
        near = min(demand, supply)
        for i, n in enumerate(row):
            if n > 0:
                exact[i] += n * (near * local_price + (demand - near) * retail) / demand / 1000
            elif n < 0:
                exact[i] += n * (near * local_price + (supply - near) * FEED_IN_U) / supply / 1000
    costs = {name: run.summary["buildings"][name]["cost_u"] for name in names}
    alone = arm(place, "no-market").summary["money"]["cost_u"]
    assert alone - sum(costs.values()) == Fraction(matched_money, 1000), "savings are the spread times what was matched"
    for name, owed in zip(names, exact, strict=True):
        # fills and money are whole, so a Wh or a micro may move between neighbours in a slot
        assert abs(costs[name] - owed) < abs(owed) * Fraction(1, 1000), name


def test_the_comparison_names_the_low_tech_arms_and_stands_on_its_own(place: Path) -> None:
    page = (place / "runs" / "compare" / "comparison.html").read_text(encoding="utf-8")
    for words in ("no market", "static key", "uniform price", "mid market rate"):
        assert words in page
    assert 'src="http' not in page
    assert "does not beat" in page
