"""The continuous double auction, written a second time from the text of the specification (2.9).

One list of resting orders in order of arrival, searched through for every event. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

GTC, IOC, FOK = "gtc", "ioc", "fok"


@dataclass(frozen=True)
class SlowLimit:
    """An order as it comes in; ``p`` None is a market order."""

    oid: str
    agent: str
    buy: bool
    q: int
    p: int | None
    tif: str = GTC
    aon: bool = False


@dataclass
class Answer:
    """What became of an event: ``rejected``, ``resting``, ``filled``, ``cancelled`` or ``killed``, and its trades."""

    state: str
    left: int = 0
    trades: list[tuple[str, str, int, int]] = field(default_factory=list)


@dataclass
class SlowBook:
    """An open book for one delivery slot; ``p_min`` and ``p_max`` are the band, ``gate`` closes it."""

    p_min: int
    p_max: int
    gate: int | None = None
    resting: list[SlowLimit] = field(default_factory=list)  # by arrival; ``q`` is what is left
    used: set[str] = field(default_factory=set)
    closed: bool = False

    def late(self, t: int) -> bool:
        """Gate closure: every event with ``t >= gate``."""
        return self.closed or (self.gate is not None and t >= self.gate)

    def ranked(self, buy: bool) -> list[SlowLimit]:
        """One side by price, then arrival (the sort is stable)."""
        side = [o for o in self.resting if o.buy == buy]
        return sorted(side, key=lambda o: -o.p if buy else o.p)  # type: ignore[operator]

    def _matches(self, order: SlowLimit) -> Iterator[tuple[SlowLimit, int] | None]:
        """The greedy walk: resting orders with the Wh traded; None where the order meets one of its own agent."""
        assert order.p is not None
        left = order.q
        for other in self.ranked(not order.buy):
            assert other.p is not None
            if not left or (order.p < other.p if order.buy else order.p > other.p):
                return
            if other.agent == order.agent:
                # also where the other order is all-or-nothing and would be skipped for its size: the text has both
                # "when the walk meets a resting order of the same agent" and "else skipped", and does not say which
                # comes first; this reading never leaves an agent's own orders crossed
                yield None
                return
            if other.aon and left < other.q:
                continue
            wh = min(left, other.q)
            left -= wh
            yield other, wh

    def submit(self, order: SlowLimit, t: int = 0) -> Answer:
        """A limit or a market order."""
        if self.late(t) or order.oid in self.used or order.q <= 0:
            return Answer("rejected")
        if order.p is None:
            order = replace(order, p=self.p_max if order.buy else self.p_min, tif=FOK if order.tif == FOK else IOC)
        elif not self.p_min <= order.p <= self.p_max:
            return Answer("rejected")
        self.used.add(order.oid)
        return self._enter(order)

    def _enter(self, order: SlowLimit) -> Answer:
        assert order.p is not None
        plan = list(self._matches(order))
        own = bool(plan) and plan[-1] is None
        matches = [m for m in plan if m is not None]
        left = order.q - sum(wh for _, wh in matches)
        if (order.tif == FOK or order.aon) and left:
            if own or order.tif != GTC:
                return Answer("killed", order.q)  # nothing traded, nothing rests
            self.resting.append(order)
            return Answer("resting", order.q)
        trades = []
        for other, wh in matches:
            assert other.p is not None
            pair = (order.oid, other.oid) if order.buy else (other.oid, order.oid)
            trades.append((*pair, wh, other.p))
            at = self.resting.index(other)
            self.resting[at : at + 1] = [replace(other, q=other.q - wh)] if other.q > wh else []
        if not left:
            return Answer("filled", 0, trades)
        if own or order.tif == IOC:
            return Answer("cancelled", left, trades)
        self.resting.append(replace(order, q=left))
        return Answer("resting", left, trades)

    def _find(self, oid: str) -> SlowLimit | None:
        return next((o for o in self.resting if o.oid == oid), None)

    def cancel(self, oid: str, t: int = 0) -> Answer:
        """Takes out what is left; unknown or finished: rejected."""
        order = self._find(oid)
        if self.late(t) or order is None:
            return Answer("rejected")
        self.resting.remove(order)
        return Answer("cancelled", order.q)

    def replace(self, oid: str, q: int | None = None, p: int | None = None, t: int = 0) -> Answer:
        """Same price and no more: in place. Otherwise out, and in anew. ``q <= 0``: cancel."""
        order = self._find(oid)
        if self.late(t) or order is None:
            return Answer("rejected")
        if q is not None and q <= 0:
            return self.cancel(oid, t)
        new = replace(order, q=order.q if q is None else q, p=order.p if p is None else p)
        assert new.p is not None
        if not self.p_min <= new.p <= self.p_max:
            return Answer("rejected")
        if new.p == order.p and new.q <= order.q:
            self.resting[self.resting.index(order)] = new
            return Answer("resting", new.q)
        self.resting.remove(order)
        return self._enter(new)

    def close(self) -> int:
        """At the gate all that rests expires; its sum."""
        total = sum(o.q for o in self.resting)
        self.resting, self.closed = [], True
        return total
