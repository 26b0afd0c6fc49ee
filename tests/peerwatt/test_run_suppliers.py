"""Several retailers: what each of them sold and earned, and how they compete inside the book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import MarketError
from market.settlement.suppliers import best_offers
from tests.peerwatt.districts import assert_verified, district, flat, home, load, plane, pv

HOMES = [
    home("a", load(), pv(9), contract="east"),
    home("b", load("couple"), contract="west"),
    home("c", load("shift", 6), contract="west"),
    home("d", load("shop", 5), contract="none"),
]
CONTRACTS: dict[str, Any] = {
    "east": {**flat(0.30, 0.09), "supplier": "East Power"},
    "west": {**flat(0.33, 0.07), "supplier": "West Power"},
    "none": flat(0.31, 0.08),
}


def run(folder: Path, **market: Any) -> peerwatt.Run:
    found = peerwatt.run(district(*HOMES, contracts=CONTRACTS, market=market), folder)
    assert_verified(found)
    return found


def retailer_u(found: peerwatt.Run) -> int:
    names = [*(b.id for b in found.static.buildings), "retailer"]
    ledger = found.table("ledger")
    columns = [c for c in ledger.columns if c.endswith("_u")]
    rows = ledger[ledger.account == "retailer"]
    assert len(names) == 5
    return int(rows[columns].to_numpy().sum())


def test_every_posting_of_the_retailers_account_belongs_to_a_supplier(tmp_path: Path) -> None:
    found = run(tmp_path / "run", stages=[{"rule": "uniform_price"}])
    told = found.summary["suppliers"]
    assert set(told["of"]) == {"East Power", "West Power", "other"}
    assert sum(s["received_u"] for s in told["of"].values()) + told["rest_u"] == retailer_u(found)
    net = plane(found, "import_wh") - plane(found, "export_wh")
    residual = net - plane(found, "bought_wh") + plane(found, "sold_wh")
    west = np.maximum(residual[:, 1:3], 0).sum() / 1000
    assert told["of"]["West Power"]["sold_kwh"] == pytest.approx(west)
    assert told["of"]["other"]["received_u"] == int((residual[:, 3] * 310).sum())


def test_suppliers_compete_in_the_book(tmp_path: Path) -> None:
    found = run(tmp_path / "run", stages=[{"rule": "uniform_price"}], backstop="in_book")
    told = found.summary["suppliers"]
    assert sum(s["received_u"] for s in told["of"].values()) + told["rest_u"] == retailer_u(found)
    # East Power has the lowest retail price and pays most for what is fed in: it wins every slot
    assert told["of"]["East Power"]["sold_kwh"] > 0
    assert told["of"]["West Power"]["sold_kwh"] == told["of"]["other"]["sold_kwh"] == 0
    assert found.table("slots").price_num.dropna().between(90_000 * 2, 300_000 * 2).all()


def test_without_names_nothing_is_told(tmp_path: Path) -> None:
    homes = [{**h, "contract": "default"} for h in HOMES]
    found = peerwatt.run(district(*homes), tmp_path / "run")
    assert "suppliers" not in found.summary


def test_best_offers() -> None:
    retail, feed_in = np.array([[300, 280, 290], [300, 300, 300]]), np.array([[70, 80, 90], [80, 80, 80]])
    best = best_offers(retail, feed_in, np.array([1, 0, 1]))
    assert best.retail_u.tolist() == [280, 300] and best.feed_in_u.tolist() == [90, 80]
    assert best.seller.tolist() == [0, 0] and best.buyer.tolist() == [1, 0], "ties go to the one listed first"
    with pytest.raises(MarketError, match="slot 7"):
        best_offers(np.array([[100, 50]]), np.array([[10, 60]]), np.array([0, 1]), 7)
