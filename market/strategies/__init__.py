"""One file per bidding strategy; every module here is imported when strategies are looked up by name.

`quote_batch` prices many slots of one strategy's members; `market.registry.make_strategy` gives the strategy itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


def quote_batch(
    strategy: str,
    net_wh: Int,
    value_u: Int,
    cost_u: Int,
    p_min_u: Int,
    p_max_u: Int,
    *,
    first_slot: int = 0,
    seed: int = 0,
    agent_ids: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
) -> Int:
    """Limit prices of many slots [micro-currency per kWh], (S, B); see `base.Strategy.quote_batch`."""
    from market.registry import make_strategy

    prices: Int = make_strategy(strategy, parameters).quote_batch(
        net_wh, value_u, cost_u, p_min_u, p_max_u, first_slot=first_slot, seed=seed, agent_ids=agent_ids
    )
    return prices


__all__ = ["quote_batch"]
