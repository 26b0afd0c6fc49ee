"""Plans reckon with what a kWh costs in the end, tax included."""

from __future__ import annotations

import numpy as np

from peerwatt.messages import Window
from peerwatt.planning_task import marginal_prices
from peerwatt.prepare import prepare
from peerwatt.prices import window_prices
from peerwatt.scenario import load_scenario


def test_tax_is_part_of_what_a_kwh_costs_and_not_of_what_it_earns() -> None:
    scenario = {
        "extends": "street5", "name": "taxed",
        "contracts": {"default": {"terms": [{
            "retail": {"flat_per_kwh": 0.20}, "feed_in": {"flat_per_kwh": 0.08}, "network": {"full_per_kwh": 0.08},
            "levies_per_kwh": {"tax": 0.02}, "vat_percent": 19,
        }]}},
    }  # fmt: skip
    system = prepare(load_scenario(scenario))
    window = Window(3, 2)
    buy, sell = marginal_prices(system, window)
    assert buy.shape == (2, system.n_buildings)
    assert np.allclose(buy, (0.20 + 0.08 + 0.02) * 1.19) and np.allclose(sell, 0.08)
    assert (window_prices(system, window).retail_u == 200_000).all()
