"""Zero intelligence plus: a margin that learns from every shout it hears (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from core.errors import MarketError
from core.keyed_random import slot_uniforms
from market.orders import Order, Side
from market.registry import integer_parameter, parameter, register_strategy
from market.strategies.base import Asked, Fill, Int, Observation, Shout, Strategy, order_of, respect_terms, whole_price

RELATIVE = 0.05
"""Largest relative step beyond a shouted price that a target takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipState:
    """What a ZIP trader carries from event to event.

    ``limit`` and the prices made of it are ``shift_u`` above the market's, where margins would otherwise be undefined
    (a limit of 0 or less). ``absolute`` is the largest absolute step of a target, in micro-currency per kWh.
    """

    agent_id: str
    seed: int
    slot: int
    buys: bool
    limit: float
    shift_u: int
    margin: float
    momentum: float
    beta: float
    gamma: float
    absolute: float
    heard: int = 0
    active: bool = True

    @property
    def price(self) -> float:
        """Its present price ``l (1 + mu)`` [micro-currency per kWh]."""
        return self.limit * (1.0 + self.margin) - self.shift_u


@register_strategy
@dataclass(frozen=True, kw_only=True)
class ZeroIntelligencePlus(Strategy):
    """Price ``l (1 + mu)``; after every shout the margin mu moves towards a target beside the shouted price.

    Nature and first margin of a trader are drawn by (seed, agent): beta in U(0.1, 0.5), gamma in U(0, 0.1), the size of
    mu in U(0.05, 0.35). The absolute part of a target is U(0, 0.05) in a market of prices around 2; here it scales with
    half of ``typical_u``. A trader whose price equals an accepted shout takes the first of the two rules that would
    apply: it raises its margin. It learns in the order of the shouts, so it quotes sessions only, not columns of slots;
    `carry` takes what it learnt into the next slot.

    Source: D. Cliff (1997), Minimal-intelligence agents for bargaining behaviors in market-based environments, HP.
    """

    name: ClassVar[str] = "zip"
    summary: ClassVar[str] = "margin that learns from every shout; for continuous sessions"
    source: ClassVar[str] = "Cliff 1997; Cliff & Bruten 1997"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "price band", "price, side and acceptance of every shout")
    sessions_only: ClassVar[bool] = True

    typical_u: Any = parameter(None, "a typical price [micro-currency per kWh]; none: the middle of the band")

    def __post_init__(self) -> None:
        if self.typical_u is not None:
            integer_parameter(self.name, "typical_u", self.typical_u, 1)

    def prices(self, asked: Asked) -> Int:
        """Refused: learning goes from shout to shout."""
        raise MarketError(
            "strategy zip learns from shout to shout and cannot price a window of slots at once",
            remedy="use it in a continuous session (start, quote, on_market_data), or choose zi_c or linear_ramp",
        )

    def start(self, seen: Observation) -> ZipState:
        """A trader that has heard nothing yet."""
        nature, first, speed = (float(x) for x in slot_uniforms(seen.seed, "zip", seen.agent_id, first=0, n=3))
        buys = seen.net_wh >= 0
        limit_u = seen.value_u if buys else seen.cost_u
        shift_u = max(0, 1 - seen.p_min_u) if limit_u <= 0 else 0
        if limit_u + shift_u <= 0:
            raise MarketError(
                f"{seen.agent_id}: limit {limit_u} lies below the price band", remedy="widen the band, or do not quote"
            )
        size = 0.05 + 0.30 * first
        typical = (seen.p_min_u + seen.p_max_u) / 2 + shift_u if self.typical_u is None else float(self.typical_u)
        return ZipState(
            agent_id=seen.agent_id, seed=seen.seed, slot=seen.slot, buys=buys, limit=float(limit_u + shift_u),
            shift_u=shift_u, margin=-size if buys else size, momentum=0.0, beta=0.1 + 0.4 * nature, gamma=0.1 * speed,
            absolute=RELATIVE * abs(typical) / 2, active=seen.net_wh != 0,
        )  # fmt: skip

    def carry(self, state: ZipState, seen: Observation) -> ZipState:
        """The state for another slot: a fresh position on the same side, with the margin learnt."""
        fresh = self.start(seen)
        if fresh.buys != state.buys:
            return fresh
        return replace(fresh, margin=state.margin, momentum=state.momentum)

    def quote(self, seen: Observation, state: ZipState | None = None) -> list[Order]:
        """One order for what is left, at the present price, within band, limit and terms."""
        import numpy as np

        if not seen.net_wh:
            return []
        now = self.start(seen) if state is None else state
        inside = min(max(whole_price(now.price, buys=now.buys), seen.p_min_u), seen.p_max_u)
        price_u = min(inside, seen.value_u) if now.buys else max(inside, seen.cost_u)
        kept = respect_terms(np.array([price_u], np.int64), np.array([now.buys]), [seen.terms])
        return [order_of(seen, Side.BUY if now.buys else Side.SELL, abs(seen.net_wh), int(kept[0]))]

    def on_market_data(self, state: ZipState, event: Shout) -> ZipState:
        """The margin after a shout; see `adapt`."""
        keys = ("zip", "shout", state.agent_id, state.slot)
        relative, absolute = (float(x) for x in slot_uniforms(state.seed, *keys, first=2 * state.heard, n=2))
        margin, momentum = adapt(
            state.buys, state.active, state.limit, state.margin, state.momentum, state.beta, state.gamma,
            state.absolute * absolute, event.side == Side.BUY, event.accepted, float(event.price_u + state.shift_u),
            RELATIVE * relative,
        )  # fmt: skip
        return replace(state, margin=margin, momentum=momentum, heard=state.heard + 1)

    def on_fill(self, state: ZipState, fill: Fill) -> ZipState:
        """Out of the market once nothing is left to trade."""
        return replace(state, active=fill.left_wh > 0)


def adapt(
    buys: bool,
    active: bool,
    limit: float,
    margin: float,
    momentum: float,
    beta: float,
    gamma: float,
    absolute: float,
    bid: bool,
    accepted: bool,
    shouted: float,
    relative: float,
) -> tuple[float, float]:
    """Margin and momentum after a shout (Cliff 1997); plain arithmetic, so that a simulation may compile it.

    Parameters
    ----------
    buys, active, limit, margin, momentum, beta, gamma
        The trader; ``active`` while it has something to trade; its price is ``limit (1 + margin)``, ``limit > 0``.
    bid, accepted, shouted
        The shout: whether it was a bid, whether somebody took it, and its price.
    absolute, relative
        Drawn steps >= 0 of the target beyond the shouted price, in price units and as a share of it.
    """
    price = limit * (1.0 + margin)
    move = 0.0  # of the price: 1 up, -1 down
    if buys:
        if accepted and price >= shouted:
            move = -1.0
        elif active and price <= shouted and bid != accepted:  # an accepted ask, or a bid that nobody took
            move = 1.0
    elif accepted and price <= shouted:
        move = 1.0
    elif active and price >= shouted and bid == accepted:  # an accepted bid, or an ask that nobody took
        move = -1.0
    if move == 0.0:
        return margin, momentum
    target = (1.0 + move * relative) * shouted + move * absolute
    momentum = gamma * momentum + (1.0 - gamma) * beta * (target - price)
    margin = (price + momentum) / limit - 1.0
    return (min(max(margin, -1.0), 0.0) if buys else max(margin, 0.0)), momentum
