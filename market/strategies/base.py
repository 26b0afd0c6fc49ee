"""What a bidding strategy is: a frozen dataclass of parameters that prices a known quantity.

A strategy sees its own state and what the rule publishes, nothing else. Randomness comes keyed by (seed, agent, slot).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.orders import Order, Side

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an agent knows when it quotes one slot.

    ``net_wh`` is its planned position [Wh], positive draws (it buys), negative feeds in (it sells). ``value_u`` is the
    limit of its buying, ``cost_u`` of its selling, ``p_min_u..p_max_u`` the band [micro-currency per kWh].
    """

    agent_id: str
    slot: int
    net_wh: int
    value_u: int
    cost_u: int
    p_min_u: int
    p_max_u: int
    seed: int = 0


class Strategy(ABC):
    """A bidding strategy; subclasses are frozen dataclasses registered with ``@register_strategy``."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @abstractmethod
    def prices(self, limit_u: Int, buys: NDArray[np.bool_], p_min_u: Int, p_max_u: Int, draws: Draws) -> Int:
        """Prices (S, B) from limits, sides and band. ``draws()`` gives uniforms (S, B) in [0, 1)."""

    def quote_batch(
        self,
        net_wh: Int,
        value_u: Int,
        cost_u: Int,
        p_min_u: Int,
        p_max_u: Int,
        *,
        first_slot: int = 0,
        seed: int = 0,
        agent_ids: Sequence[str],
    ) -> Int:
        """Limit prices of S slots and B agents [micro-currency per kWh], int64 (S, B).

        Parameters
        ----------
        net_wh
            (S, B) planned position [Wh]: positive buys, negative sells; 0 is priced as a buyer's.
        value_u, cost_u
            Limits of buying and selling, broadcastable to (S, B): in the loop retail and feed-in price.
        p_min_u, p_max_u
            Price band, broadcastable to (S, B).
        first_slot, seed, agent_ids
            Key of the randomness: a slot's draw does not depend on how slots are cut into windows, nor on other agents.

        Raises
        ------
        MarketError
            For columns that are not whole numbers or do not fit together.
        """
        net = np.asarray(net_wh)
        columns = [np.asarray(c) for c in (value_u, cost_u, p_min_u, p_max_u)]
        if net.ndim != 2 or net.shape[1] != len(agent_ids):
            raise MarketError(
                f"net_wh has shape {net.shape} for {len(agent_ids)} agents", remedy="give (n_slots, n_agents)"
            )
        if any(c.dtype.kind not in "iu" for c in (net, *columns)):
            raise MarketError("a column of quote_batch is not whole", remedy="energies and prices are integers")
        value, cost, low, high = (np.broadcast_to(c.astype(np.int64), net.shape) for c in columns)
        buys = net >= 0
        draws = Draws(seed, tuple(agent_ids), first_slot, net.shape[0], self.name)
        return np.asarray(self.prices(np.where(buys, value, cost), buys, low, high, draws), np.int64)

    def quote(self, seen: Observation) -> list[Order]:
        """Orders for one slot: one for the whole position, none for an empty one. Same price as in a batch."""
        if not seen.net_wh:
            return []
        one = [np.array([[v]], np.int64) for v in (seen.net_wh, seen.value_u, seen.cost_u, seen.p_min_u, seen.p_max_u)]
        price = self.quote_batch(*one, first_slot=seen.slot, seed=seen.seed, agent_ids=[seen.agent_id])
        return [
            Order(
                order_id=f"{seen.agent_id}:{seen.slot}",
                agent_id=seen.agent_id,
                side=Side.BUY if seen.net_wh > 0 else Side.SELL,
                e_wh=abs(seen.net_wh),
                price_u=int(price[0, 0]),
                slot=seen.slot,
            )
        ]


@dataclass(frozen=True, slots=True)
class Draws:
    """Uniform numbers keyed by (seed, strategy, agent, slot)."""

    seed: int
    agent_ids: tuple[str, ...]
    first_slot: int
    n_slots: int
    purpose: str

    def __call__(self) -> NDArray[np.float64]:
        """(S, B) in [0, 1)."""
        from core.keyed_random import slot_uniforms

        out = np.empty((self.n_slots, len(self.agent_ids)))
        for b, agent in enumerate(self.agent_ids):
            out[:, b] = slot_uniforms(self.seed, "quote", self.purpose, agent, first=self.first_slot, n=self.n_slots)
        return out
