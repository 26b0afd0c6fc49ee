"""What a bidding strategy is: a frozen dataclass of parameters that prices a known quantity.

A strategy sees its own state and what the rule publishes, nothing else (`Strategy.observes`). Randomness comes keyed by
(seed, agent, slot). What it learns in a session is an explicit state: it goes in and comes out, the strategy stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.orders import Order, Side
from market.terms import Terms

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What the owner of a battery knows when it quotes a slot; energies in Wh.

    ``stored_wh`` counts in the battery; ``charge_wh`` and ``discharge_wh`` are what its power allows in this slot at
    the connection point. ``live_buy_wh`` and ``live_sell_wh`` are own orders that may still trade, other than
    those that the quote replaces.
    """

    stored_wh: int
    charge_wh: int
    discharge_wh: int
    live_buy_wh: int = 0
    live_sell_wh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an agent knows when it quotes one slot.

    ``net_wh`` is its planned position [Wh], positive draws (it buys), negative feeds in (it sells). ``value_u`` is the
    limit of its buying, ``cost_u`` of its selling, ``p_min_u..p_max_u`` the band [micro-currency per kWh]. ``update``
    numbers the quotes of a continuous session from 0; None in a call market, where one quote counts.
    """

    agent_id: str
    slot: int
    net_wh: int
    value_u: int
    cost_u: int
    p_min_u: int
    p_max_u: int
    seed: int = 0
    update: int | None = None
    terms: Terms = field(default_factory=Terms)
    storage: Storage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shout:
    """A published event of a continuous market: somebody bid or asked, and it was accepted or not.

    ``price_u`` is the shouted price, of an accepted shout the price of the trade [micro-currency per kWh].
    """

    slot: int
    side: Side
    price_u: int
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A trade of one's own: ``e_wh`` bought or sold at ``price_u``; ``left_wh`` is what is still to be traded."""

    slot: int
    side: Side
    e_wh: int
    price_u: Fraction
    left_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a settled slot came to for the agent: ``paid_u`` [micro-currency], negative = received."""

    slot: int
    import_wh: int
    export_wh: int
    paid_u: int


@dataclass(frozen=True, slots=True)
class Draws:
    """Uniform numbers keyed by (seed, strategy, agent, slot), and by the update in a continuous session."""

    seed: int
    agent_ids: tuple[str, ...]
    first_slot: int
    n_slots: int
    purpose: str
    update: int | None = None

    def __call__(self) -> NDArray[np.float64]:
        """(S, B) in [0, 1)."""
        from core.keyed_random import slot_uniforms

        more = () if self.update is None else ("update", self.update)
        out = np.empty((self.n_slots, len(self.agent_ids)))
        for b, agent in enumerate(self.agent_ids):
            keys = ("quote", self.purpose, agent, *more)
            out[:, b] = slot_uniforms(self.seed, *keys, first=self.first_slot, n=self.n_slots)
        return out


@dataclass(frozen=True, slots=True)
class StoredWorth:
    """What plans say of stored energy, (S, B) each [micro-currency per kWh]: charging is worth ``bid_u``, discharging
    costs ``ask_u``, wear included; where ``known``.
    """

    bid_u: Int
    ask_u: Int
    known: NDArray[np.bool_]

    def of(self, members: Int) -> StoredWorth:
        """The columns ``members``."""
        return StoredWorth(self.bid_u[:, members], self.ask_u[:, members], self.known[:, members])


@dataclass(frozen=True, slots=True)
class Asked:
    """Columns (S, B) that a strategy prices; see `Strategy.quote_batch`. ``limit_u`` is that of the side it is on."""

    net_wh: Int
    limit_u: Int
    buys: NDArray[np.bool_]
    p_min_u: Int
    p_max_u: Int
    draws: Draws
    update: int | None = None
    stored: StoredWorth | None = None


class Strategy(ABC):
    """A bidding strategy; subclasses are frozen dataclasses registered with ``@register_strategy``.

    In a session a driver calls `start` once, `quote` when it is the agent's turn, and the three ``on_`` methods with
    what happens; each of those gives the next state. Strategies that do not learn have the state None.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    observes: ClassVar[tuple[str, ...]] = ("own limit",)
    """What it looks at beside its own quantity and terms; a row of the privacy table."""
    sessions_only: ClassVar[bool] = False
    """Whether it cannot price columns of slots, so that it is of no use in a run's call market."""

    @abstractmethod
    def prices(self, asked: Asked) -> Int:
        """Prices (S, B) of what is asked for [micro-currency per kWh]."""

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
        update: int | None = None,
        terms: Sequence[Terms | None] | None = None,
        stored: StoredWorth | None = None,
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
        update
            Number of the quote in a continuous session, from 0; None in a call market.
        terms
            Own terms of each agent; no price goes against them.
        stored
            What the agents' plans say of stored energy; None where nobody has one.

        Raises
        ------
        MarketError
            For columns that are not whole numbers or do not fit together, or a strategy that cannot quote columns.
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
        draws = Draws(seed, tuple(agent_ids), first_slot, net.shape[0], self.name, update)
        asked = Asked(net.astype(np.int64), np.where(buys, value, cost), buys, low, high, draws, update, stored)
        price_u = np.asarray(self.prices(asked), np.int64)
        return price_u if terms is None else respect_terms(price_u, buys, terms)

    def price_path(self, rounds: int, net_wh: Int, value_u: Int, cost_u: Int, p_min_u: Int, p_max_u: Int,
                   **key: Any) -> Int:  # fmt: skip
        """Prices of the updates 0 .. rounds - 1 of a continuous session, (R, S, B); arguments as `quote_batch`."""
        columns = (net_wh, value_u, cost_u, p_min_u, p_max_u)
        return np.stack([self.quote_batch(*columns, **{**key, "update": k}) for k in range(rounds)])

    def start(self, seen: Observation) -> Any:
        """The state at the beginning of a session."""
        return None

    def quote(self, seen: Observation, state: Any = None) -> list[Order]:
        """Orders for one slot: one for the whole position, none for an empty one. Same price as in a batch."""
        if not seen.net_wh:
            return []
        one = [np.array([[v]], np.int64) for v in (seen.net_wh, seen.value_u, seen.cost_u, seen.p_min_u, seen.p_max_u)]
        price = self.quote_batch(
            *one, first_slot=seen.slot, seed=seen.seed, agent_ids=[seen.agent_id], update=seen.update,
            terms=[seen.terms],
        )  # fmt: skip
        return [order_of(seen, Side.BUY if seen.net_wh > 0 else Side.SELL, abs(seen.net_wh), int(price[0, 0]))]

    def on_market_data(self, state: Any, event: Shout) -> Any:
        """The state after a published event."""
        return state

    def on_fill(self, state: Any, fill: Fill) -> Any:
        """The state after a trade of one's own."""
        return state

    def on_settlement(self, state: Any, statement: Statement) -> Any:
        """The state after a slot was settled."""
        return state


def order_of(seen: Observation, side: Side, e_wh: int, price_u: int, suffix: str = "") -> Order:
    """An order of the observing agent; its id is made of agent, slot, the update in a session, and ``suffix``."""
    update = "" if seen.update is None else f":{seen.update}"
    name = f"{seen.agent_id}:{seen.slot}{update}{suffix}"
    return Order(order_id=name, agent_id=seen.agent_id, side=side, e_wh=e_wh, price_u=price_u, slot=seen.slot)


def respect_terms(price_u: Int, buys: NDArray[np.bool_], terms: Sequence[Terms | None]) -> Int:
    """Prices (S, B) that go against nobody's terms: no sale below the floor, no purchase above the ceiling.

    Parameters
    ----------
    price_u
        (S, B) prices [micro-currency per kWh].
    buys
        (S, B), or (B,), whether the order buys.
    terms
        One per agent, None for none. A floor above the price band leaves a price outside it: such an order cannot
        trade there, which is what the term asks for.

    Raises
    ------
    MarketError
        If there are not as many terms as agents.
    """
    if len(terms) != price_u.shape[-1]:
        raise MarketError(f"{len(terms)} terms for {price_u.shape[-1]} agents", remedy="give one per agent, or None")
    whole = np.iinfo(np.int64)
    floor = np.array([whole.min if t is None or t.floor_u is None else t.floor_u for t in terms], np.int64)
    ceiling = np.array([whole.max if t is None or t.ceiling_u is None else t.ceiling_u for t in terms], np.int64)
    return np.where(buys, np.minimum(price_u, ceiling), np.maximum(price_u, floor))


def whole_price(price: float | Fraction, *, buys: bool) -> int:
    """A price as a whole number on the safe side: a buyer's is rounded down, a seller's up."""
    from math import ceil, floor

    return floor(price) if buys else ceil(price)
