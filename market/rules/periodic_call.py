"""Periodic call auction: orders are cleared every m minutes and what is left carries over (market-rules 2.10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar

from core.errors import MarketError
from market.book import Book, BookBatch, Context
from market.orders import RETAILER, Order, Rejection, admit
from market.registry import (
    BidRule,
    Declares,
    choice_parameter,
    fraction_parameter,
    integer_parameter,
    parameter,
    register_rule,
)
from market.result import BatchClearing, Result
from market.rules._crossed import CrossedRule
from market.rules.pair_price import PairPrice
from market.rules.uniform_price import UniformPrice

_INNER: Mapping[str, type[UniformPrice] | type[PairPrice]] = {"uniform_price": UniformPrice, "pair_price": PairPrice}


@register_rule
@dataclass(frozen=True, kw_only=True)
class PeriodicCallAuction(CrossedRule):
    """`uniform_price` or `pair_price`, called every ``every_min`` minutes until the gate.

    As a rule on one book it clears that call. What is carried from call to call is kept by `PeriodicCall`: orders rest
    until they are cancelled or the gate closes (GTC) and keep their first arrival time; those flagged ``ioc`` take part
    in one call only. What is declared holds for each call on the orders then present.
    """

    name: ClassVar[str] = "periodic_call"
    summary: ClassVar[str] = "a call every few minutes; orders that are left stay for the next one"
    section: ClassVar[str] = "2.10"
    source: ClassVar[str] = "as uniform_price and pair_price"
    flags: ClassVar[frozenset[str]] = frozenset({"ioc"})
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", efficient=True, multi_round=True,
        reveals={"operator": ("limit price", "quantity"), "all": ("price of each call",)},
    )  # fmt: skip

    pricing: str = parameter("uniform_price", "what each call is: uniform_price or pair_price")
    k: Fraction = parameter(Fraction(1, 2), "of that rule")
    every_min: int = parameter(15, "minutes from call to call")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice_parameter(self.name, "pricing", self.pricing, tuple(_INNER))
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))
        integer_parameter(self.name, "every_min", self.every_min, 1)

    @property
    def pairs(self) -> bool:
        """As the rule that is called."""
        return self._inner().pairs

    def _inner(self) -> UniformPrice | PairPrice:
        return _INNER[self.pricing](
            k=self.k, tie_break=self.tie_break, zero_surplus=self.zero_surplus, seed=self.seed
        )  # fmt: skip

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one call; see `market.registry.BidRule.clear`."""
        return replace(self._inner().clear(book, context), rule=self.name)

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots of one call each, compiled; equal to `clear` slot by slot."""
        return self._inner().clear_batch(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicCall:
    """The calls of one delivery slot as a value: every event gives the next state; no clock, no input or output.

    Calls take place every ``every_s`` after opening, and a last one at the gate, so that no order given before the gate
    goes without one. Events at or after the gate are rejected, cancels included; after the last call `expire` hands out
    what is left (market-rules 2.9, 2.10). Times are whole seconds of any clock.

    Parameters
    ----------
    rule
        What clears each call: any rule on orders.
    opens_s, gate_s, every_s
        From when orders are taken, until before when, and the time between calls.
    context
        Slot, price band and prices of the retailer.
    live
        What rests: order id -> order with its remaining quantity and its first arrival time as ``t``.
    used
        Ids that were given once; they are never taken again.
    called_s
        Time of the last call; None before the first.
    now_s
        Time of the last event; no event may lie before it.
    """

    rule: BidRule
    opens_s: int
    gate_s: int
    every_s: int
    context: Context = field(default_factory=Context)
    live: Mapping[str, Order] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    called_s: int | None = None
    now_s: int | None = None

    def __post_init__(self) -> None:
        if self.every_s < 1 or self.gate_s <= self.opens_s:
            raise MarketError("calls need a positive distance and a gate after the opening", remedy="see PeriodicCall")

    @property
    def next_call_s(self) -> int | None:
        """When the next call is due; None after the one at the gate."""
        last = self.opens_s if self.called_s is None else self.called_s
        return None if self.called_s == self.gate_s else min(last + self.every_s, self.gate_s)

    def submit(self, orders: Iterable[object], now_s: int) -> tuple[PeriodicCall, tuple[Rejection, ...]]:
        """Take orders that arrive at ``now_s``: that is their ``t``, whatever they state; ``seq`` and id order them.

        Returns
        -------
        the next state, and the orders that were refused

        Raises
        ------
        MarketError
            When time runs backwards or a call is overdue.
        """
        self._in_time(now_s)
        arrived = [replace(o, t=now_s) if isinstance(o, Order) else o for o in orders]
        low, high = self.context.band
        reserved = frozenset({RETAILER}) if self.context.in_book else frozenset()
        sound, refused = admit(
            arrived, p_min_u=low, p_max_u=high, slot=self.context.slot, flags=self.rule.flags, reserved=reserved
        )
        if not self.opens_s <= now_s < self.gate_s:
            late = [Rejection(o.order_id, o.agent_id, "market_closed", f"at {now_s}") for o in sound]
            return replace(self, now_s=now_s), (*refused, *late)
        again = [Rejection(o.order_id, o.agent_id, "duplicate_id") for o in sound if o.order_id in self.used]
        fresh = [o for o in sound if o.order_id not in self.used]
        agents = {o.agent_id for o in fresh}
        own = [o for o in self.live.values() if o.agent_id in agents]
        # what rests came earlier, so that it stays and the new order is the one that crosses
        _, crossing = admit([*(replace(o, t=-(2**62)) for o in own), *fresh], flags=self.rule.flags)
        bad = {r.order_id for r in crossing}
        taken = {o.order_id: o for o in fresh if o.order_id not in bad}
        resting = {oid: o for oid, o in taken.items() if o.e_wh}
        state = replace(self, live={**self.live, **resting}, used=self.used | taken.keys(), now_s=now_s)
        return state, (*refused, *again, *crossing)

    def cancel(self, order_id: str, now_s: int) -> tuple[PeriodicCall, int | None]:
        """Withdraw what rests of an order.

        Returns
        -------
        the next state, and the Wh withdrawn; None = rejected: nothing of that id rests, or the gate is closed

        Raises
        ------
        MarketError
            When time runs backwards or a call is overdue.
        """
        self._in_time(now_s)
        if order_id not in self.live or now_s >= self.gate_s:
            return replace(self, now_s=now_s), None
        rest = {oid: o for oid, o in self.live.items() if oid != order_id}
        return replace(self, live=rest, now_s=now_s), self.live[order_id].e_wh

    def call(self, now_s: int) -> tuple[PeriodicCall, Result]:
        """Clear what rests; the remainders stay, except of orders flagged ``ioc``.

        Raises
        ------
        MarketError
            When no call is due at ``now_s``, or the rule refuses or fails.
        """
        from market.facade import clear

        if now_s != self.next_call_s:
            due = "none is" if self.next_call_s is None else f"the next is at {self.next_call_s}"
            raise MarketError(f"no call is due at {now_s}: {due}", remedy="call at next_call_s")
        result = clear(self.rule, self.live.values(), context=self.context)
        left = {oid: o.e_wh - result.fills.get(oid, 0) for oid, o in self.live.items() if "ioc" not in o.flags}
        rest = {oid: replace(self.live[oid], e_wh=wh) for oid, wh in left.items() if wh}
        return replace(self, live=rest, called_s=now_s, now_s=now_s), result

    def expire(self, now_s: int) -> tuple[PeriodicCall, Mapping[str, Order]]:
        """Clear the book at the gate, after the last call.

        Returns
        -------
        the empty state, and what passes on to the next stage or the retailer

        Raises
        ------
        MarketError
            Before the gate, or while the last call is still due.
        """
        if now_s < self.gate_s or self.next_call_s is not None:
            raise MarketError(
                f"the book cannot expire at {now_s}", remedy=f"after the call at the gate ({self.gate_s})"
            )
        return replace(self, live={}, now_s=now_s), dict(self.live)

    def _in_time(self, now_s: int) -> None:
        if self.now_s is not None and now_s < self.now_s:
            raise MarketError(f"an event at {now_s} after one at {self.now_s}", remedy="give events in order of time")
        if self.next_call_s is not None and now_s > self.next_call_s:
            raise MarketError(f"the call at {self.next_call_s} is overdue at {now_s}", remedy="call first")
