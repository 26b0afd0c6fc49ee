"""Prices of a window: each building's contract, looked up in the prices resolved for the whole run."""

from __future__ import annotations

import numpy as np

from market.settlement import Charges
from peerwatt.messages import Int, Prices, Window
from peerwatt.system import Supply, System


def per_building(supply: Supply, name: str, window: Window) -> Int:
    """Column ``name`` of every building's contract in ``window``, int64 (S, B)."""
    span = slice(window.first, window.first + window.n)
    columns = np.stack([getattr(contract, name)[span] for contract in supply.contracts], axis=1)
    gathered: Int = columns[:, supply.contract_of]
    return gathered


def window_prices(system: System, window: Window) -> Prices:
    """All prices that hold in ``window``, int64 micro-currency per kWh."""
    supply = system.supply
    span = slice(window.first, window.first + window.n)
    charges = Charges(
        full_import_u=per_building(supply, "full_import_u", window),
        local_import_u=per_building(supply, "local_import_u", window),
        full_export_u=per_building(supply, "full_export_u", window),
        local_export_u=per_building(supply, "local_export_u", window),
        levies_u=per_building(supply, "levies_u", window),
    )
    return Prices(
        retail_u=per_building(supply, "retail_u", window),
        feed_in_u=per_building(supply, "feed_in_u", window),
        charges=charges,
        loss_u=supply.loss_u[span],
        imbalance_u=None if supply.imbalance_u is None else supply.imbalance_u[span],
        imbalance_short_u=None if supply.imbalance_short_u is None else supply.imbalance_short_u[span],
    )
