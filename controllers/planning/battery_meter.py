"""What PV that may be held back makes of the price of a battery's exchange: still three kinks, and a tariff says them.

With g the draw before anything is held back, a slot costs the least of ``f(g + u)`` over ``0 <= u <= pv``, where
``f(x)`` is ``buy x`` above 0 and ``sell x`` below, from minus the export limit to the import limit:

- ``sell >= 0``: as it stands, but what lies beyond the export limit is not paid, down to ``-pv - export limit``;
- ``sell < 0 <= buy``: nothing from 0 down to ``-pv``, then what is fed in is paid for;
- ``buy < 0``: as if there were no PV up to the import limit, then ``buy x import limit`` as far as PV replaces more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_plan import Tariff

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Meter:
    """``net`` load for a plan of a battery (n, k) and its ``tariff``, all fields (n, k); ``exact`` (k,).

    Not exact is a column with a slot in which drawing is paid for and the load exceeds the import limit and PV: there
    all PV is used, a plan that is possible and may cost more than needed.
    """

    net: Float
    tariff: Tariff
    exact: Bool


def meter(load: Float, pv: Float, buy: Float, sell: Float, take: Float, give: Float) -> Meter:
    """Prices of batteries behind meters with ``load`` (negative: fed in), PV, prices and both limits, (n, k)."""
    net = load - pv
    over = net > take
    paid = (buy < 0) & ~over
    free = (sell < 0) & (buy >= 0)
    tariff = Tariff(
        buy=buy,
        sell=np.where(free, 0.0, sell),
        import_limit_kwh=take,
        export_limit_kwh=np.where(free, pv, give),
        import_excess=np.where(paid, -buy, np.nan),
        export_excess=np.where(free, -sell, np.where(sell >= 0, sell, np.nan)),
        most_import_kwh=np.where(paid, take + pv, take),
        most_export_kwh=np.where(paid | (sell < 0) & ~free, give, give + pv),
    )
    return Meter(np.where(paid, load, net), tariff, np.asarray(~(over & (buy < 0)).any(axis=0)))
