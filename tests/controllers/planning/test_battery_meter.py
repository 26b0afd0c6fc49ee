"""What PV that can be held back makes of a slot's price: equal to the best that can be held back, at any exchange."""

from __future__ import annotations

import numpy as np
import pytest

from controllers.planning.battery_meter import meter
from controllers.planning.battery_slot_cost import exchange_cost


def least(draw: float, pv: float, buy: float, sell: float, take: float, give: float) -> float:
    """The least cost of a slot over what is held back; infinite where the limits cannot be kept."""
    found = np.inf
    for held in (0.0, pv, -draw, take - draw, -give - draw):  # the cost is straight in between
        g = draw + held
        if 0.0 <= held <= pv and -give - 1e-12 <= g <= take + 1e-12:
            found = min(found, buy * g if g > 0 else sell * g)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_slot_costs_what_the_best_curtailment_costs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = 60
    load, pv = rng.uniform(-0.5, 2.0, k), rng.uniform(0.0, 3.0, k) * (rng.random(k) < 0.7)
    buy = rng.uniform(-0.4, 0.4, k)
    sell = buy - rng.uniform(0.0, 0.5, k)
    take = np.where(rng.random(k) < 0.5, rng.uniform(0.0, 4.0, k), np.inf)
    give = np.where(rng.random(k) < 0.5, rng.uniform(0.0, 2.0, k), np.inf)
    seen = meter(*(x[None] for x in (load, pv, buy, sell, take, give)))
    tariff = [np.nan_to_num(np.asarray(x, np.float64)[0], nan=1e9, posinf=np.inf)
              for x in (seen.tariff.buy, seen.tariff.sell, seen.tariff.import_limit_kwh, seen.tariff.export_limit_kwh,
                        seen.tariff.import_excess, seen.tariff.export_excess)]  # fmt: skip
    most_in, most_out = np.asarray(seen.tariff.most_import_kwh)[0], np.asarray(seen.tariff.most_export_kwh)[0]
    compared = 0
    for i in np.flatnonzero(seen.exact):
        for battery in np.linspace(-5.0, 5.0, 41):
            g = float(seen.net[0, i] + battery)
            want = least(load[i] - pv[i] + battery, pv[i], buy[i], sell[i], take[i], give[i])
            assert np.isfinite(want) == bool(-most_out[i] - 1e-12 <= g <= most_in[i] + 1e-12)
            if np.isfinite(want):
                assert exchange_cost(g, *(x[i] for x in tariff)) == pytest.approx(want, abs=1e-12)
                compared += 1
    assert compared > 100


def test_what_three_kinks_cannot_say_is_told() -> None:
    load, pv, buy, sell, give = (np.array([[x, x]]) for x in (3.0, 1.0, -0.2, -0.3, 9.0))
    seen = meter(load, pv, buy, sell, np.array([[1.0, 2.5]]), give)
    np.testing.assert_array_equal(seen.exact, [False, True])  # 3 less 1 of PV is above 1, but not above 2.5
