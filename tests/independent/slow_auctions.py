"""Auctions on orders, written a second time from the text of the specification: 2.3 to 2.8, 2.10 and 2.25.

As in ``slow_rules``: plain Python over ``fractions.Fraction``, each rule spelled as its definition reads, and nothing
of the package imported. Where a rule draws lots, what is computed is the set of everything a draw may give.
``RANDOM_BOOKS`` at the end are the books that the comparisons draw from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise, permutations, product

from tests.independent.slow_rules import (
    Money,
    SlowOrder,
    accepted,
    clearing_interval,
    efficient_volume,
    fill_side,
    floor_fraction,
    largest_remainder,
    rank,
)

F = Fraction
ZERO = Fraction(0)


class NotApplicableError(Exception):
    """The rule is not defined for this book."""


@dataclass
class Outcome:
    """Energy by order, exact money by agent (only what is not zero), and the prices a rule states."""

    fills: dict[str, int] = field(default_factory=dict)
    payments: dict[str, Money] = field(default_factory=dict)
    buy_price: Fraction | None = None
    sell_price: Fraction | None = None
    welfare: Money = ZERO

    @property
    def surplus(self) -> Money:
        """What the operator keeps."""
        return sum(self.payments.values(), ZERO)

    def key(self) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, Money], ...]]:
        """Hashable: what trades and what is paid."""
        return tuple(sorted(self.fills.items())), tuple(sorted(self.payments.items()))


def outcome(
    book: Iterable[SlowOrder],
    fills: Mapping[str, int],
    payments: Mapping[str, Money],
    buy_price: Fraction | int | None = None,
    sell_price: Fraction | int | None = None,
) -> Outcome:
    """Fills and payments without zeros, with the reported welfare."""
    worth = {o.oid: o.p if o.buy else -o.p for o in book}
    return Outcome(
        {i: x for i, x in fills.items() if x},
        {a: F(x) for a, x in payments.items() if x},
        None if buy_price is None else F(buy_price),
        None if sell_price is None else F(sell_price),
        sum((F(worth[i] * x, 1000) for i, x in fills.items()), ZERO),
    )


def at_prices(
    book: Sequence[SlowOrder], fills: Mapping[str, int], buy: Fraction | int | None, sell: Fraction | int | None
) -> Outcome:
    """Every buyer pays one price and every seller gets one."""
    paid: dict[str, Money] = {}
    for o in book:
        x = fills.get(o.oid, 0)
        if x:
            price = buy if o.buy else sell
            assert price is not None
            paid[o.agent] = paid.get(o.agent, ZERO) + F(price) * x / 1000 * (1 if o.buy else -1)
    return outcome(book, fills, paid, buy, sell)


# 2.3 and 2.4: equal lots, one order per agent -------------------------------------------------------------------------


@dataclass
class _Lots:
    """Both sides ranked, the common lot, and the number k of efficient trades."""

    buys: list[SlowOrder]
    sells: list[SlowOrder]
    lot: int
    k: int

    @property
    def book(self) -> list[SlowOrder]:
        return self.buys + self.sells


def one_order_per_agent(book: Iterable[SlowOrder]) -> list[SlowOrder]:
    """Orders with a quantity, one of each agent at most."""
    live = [o for o in book if o.q]
    if len({o.agent for o in live}) < len(live):
        raise NotApplicableError("an agent has several orders")
    return live


def _lots(book: Iterable[SlowOrder]) -> _Lots:
    live = one_order_per_agent(book)
    if len({o.q for o in live}) > 1:
        raise NotApplicableError("quantities differ")
    buys, sells = rank(live, True), rank(live, False)
    k = 0
    while k < min(len(buys), len(sells)) and buys[k].p >= sells[k].p:
        k += 1
    return _Lots(buys, sells, live[0].q if live else 0, k)


def _lot_fills(lots: _Lots, buys: Iterable[SlowOrder], sells: Iterable[SlowOrder]) -> dict[str, int]:
    return {o.oid: lots.lot for o in [*buys, *sells]}


def _reduced(lots: _Lots) -> Outcome:
    k = lots.k
    if k <= 1:
        return Outcome()
    fills = _lot_fills(lots, lots.buys[: k - 1], lots.sells[: k - 1])
    return at_prices(lots.book, fills, lots.buys[k - 1].p, lots.sells[k - 1].p)


def trade_reduction(book: Iterable[SlowOrder]) -> Outcome:
    """2.3: the first k-1 of k trade; buyers pay ``b_k``, sellers get ``s_k``."""
    return _reduced(_lots(book))


def mcafee(book: Iterable[SlowOrder]) -> Outcome:
    """2.4: all k at ``p0 = (b_{k+1} + s_{k+1}) / 2`` if both exist and ``s_k <= p0 <= b_k``, else reduction."""
    lots = _lots(book)
    k = lots.k
    if k and len(lots.buys) > k and len(lots.sells) > k:
        p0 = F(lots.buys[k].p + lots.sells[k].p, 2)
        if lots.sells[k - 1].p <= p0 <= lots.buys[k - 1].p:
            return at_prices(lots.book, _lot_fills(lots, lots.buys[:k], lots.sells[:k]), p0, p0)
    return _reduced(lots)


def sbba(book: Iterable[SlowOrder]) -> list[Outcome]:
    """2.4: one price ``min(s_{k+1}, b_k)``; every outcome of the draw among the k sellers.

    Where both are equal the text says the price *is* ``s_{k+1}``, so all k trade.
    """
    lots = _lots(book)
    k = lots.k
    if k == 0:
        return [Outcome()]
    b = lots.buys[k - 1].p
    if len(lots.sells) > k and lots.sells[k].p <= b:
        s = lots.sells[k].p
        return [at_prices(lots.book, _lot_fills(lots, lots.buys[:k], lots.sells[:k]), s, s)]
    if k == 1:
        return [Outcome()]
    return [
        at_prices(
            lots.book, _lot_fills(lots, lots.buys[: k - 1], [s for j, s in enumerate(lots.sells[:k]) if j != out]), b, b
        )
        for out in range(k)
    ]


# 2.5: Huang -----------------------------------------------------------------------------------------------------------


def level_cuts(sizes: Sequence[int], total: int) -> list[Fraction]:
    """Cut ``sizes`` down to ``total`` by equal absolute amounts, none below zero: the repeated cuts as written."""
    left = [F(x) for x in sizes]
    gap = sum(left, ZERO) - total
    while gap > 0:
        positive = [i for i, x in enumerate(left) if x > 0]
        cut = min([*(left[i] for i in positive), gap / len(positive)])
        for i in positive:
            left[i] -= cut
        gap -= cut * len(positive)
    return left


@dataclass
class Huang:
    """The result of 2.5 with its exact, possibly rational, fills."""

    exact: dict[str, Fraction]
    rounded: Outcome
    volume: int


def _holder(ranked: Sequence[SlowOrder], unit: int) -> int:
    """Index of the order that holds the unit (from 1)."""
    seen = 0
    for i, o in enumerate(ranked):
        seen += o.q
        if unit <= seen:
            return i
    raise ValueError("no such unit")


def huang(book: Iterable[SlowOrder]) -> Huang:
    """2.5: orders before the marginal ones trade, the long side is cut level; whole Wh by largest remainder."""
    live = one_order_per_agent(book)
    buys, sells = rank(live, True), rank(live, False)
    q = efficient_volume(buys, sells)
    if q == 0:
        return Huang({}, Outcome(), 0)
    big_k, big_l = _holder(buys, q), _holder(sells, q)
    sides = [buys[:big_k], sells[:big_l]]
    volume = min(sum(o.q for o in side) for side in sides)
    exact: dict[str, Fraction] = {}
    whole: dict[str, int] = {}
    for side in sides:
        ordered = sorted(side, key=lambda o: (o.agent, o.oid))  # 4.6: ties go to the lower agent id
        cut = level_cuts([o.q for o in ordered], volume) if ordered else []
        exact.update({o.oid: x for o, x in zip(ordered, cut, strict=True)})
        whole.update({o.oid: x for o, x in zip(ordered, largest_remainder(cut, volume) if cut else [], strict=True)})
    if volume == 0:
        return Huang(exact, Outcome(), 0)
    return Huang(exact, at_prices(live, whole, buys[big_k].p, sells[big_l].p), volume)


# 2.7: VCG -------------------------------------------------------------------------------------------------------------


def best_welfare(book: Iterable[SlowOrder]) -> Money:
    """``W*``: one clearing."""
    live = list(book)
    buys, sells = rank(live, True), rank(live, False)
    q = efficient_volume(buys, sells)
    fills = fill_side(buys, q, "time") | fill_side(sells, q, "time")
    return sum((F((o.p if o.buy else -o.p) * fills[o.oid], 1000) for o in live), ZERO)


def vcg(
    book: Sequence[SlowOrder], tie_break: str = "time", zero_surplus: bool = True, cover: str = "none"
) -> tuple[Outcome, Money]:
    """2.7 by n+1 clearings: agent i pays ``W*(without i) - (W* - own part)``; with the deficit before its cover.

    ``equal_fee``: every agent of the book bears the same part of the deficit. ``redistribution``: agent i bears one
    n-th of the deficit that the others alone would have.
    """
    agents = sorted({o.agent for o in book})
    kept, _ = accepted(book)
    fills, pays = _vcg(kept, tie_break, zero_surplus)
    deficit = -sum(pays.values(), ZERO)
    for agent in agents:
        if cover == "equal_fee":
            pays[agent] = pays.get(agent, ZERO) + deficit / len(agents)
        elif cover == "redistribution":
            _, others = _vcg([o for o in kept if o.agent != agent], tie_break, zero_surplus)
            pays[agent] = pays.get(agent, ZERO) - sum(others.values(), ZERO) / len(agents)
    return outcome(kept, fills, pays), deficit


def _vcg(kept: Sequence[SlowOrder], tie_break: str, zero_surplus: bool) -> tuple[dict[str, int], dict[str, Money]]:
    buys, sells = rank(kept, True), rank(kept, False)
    q = efficient_volume(buys, sells, zero_surplus)
    fills = fill_side(buys, q, tie_break) | fill_side(sells, q, tie_break)
    worth = {o.oid: F((o.p if o.buy else -o.p) * fills[o.oid], 1000) for o in kept}
    total = sum(worth.values(), ZERO)
    pays: dict[str, Money] = {}
    for agent in {o.agent for o in kept}:
        own = sum((worth[o.oid] for o in kept if o.agent == agent), ZERO)
        pays[agent] = best_welfare(o for o in kept if o.agent != agent) - (total - own)
    return fills, pays


# 2.6: MUDA ------------------------------------------------------------------------------------------------------------


def half_price(half: Sequence[SlowOrder]) -> Fraction | None:
    """Midpoint of the clearing interval, or of best bid and best ask; None for a one-sided half."""
    buys, sells = rank(half, True), rank(half, False)
    if not buys or not sells:
        return None
    interval = clearing_interval(buys, sells, efficient_volume(buys, sells)) or (buys[0].p, sells[0].p)
    return F(interval[0] + interval[1], 2)


def _gain(p: Fraction, o: SlowOrder) -> Fraction:
    return o.p - p if o.buy else p - o.p


def _take(orders: Sequence[SlowOrder], left: int) -> dict[str, int]:
    """Orders in turn, each as much as it wants, until nothing is left."""
    fills: dict[str, int] = {}
    for o in orders:
        x = min(o.q, left)
        left -= x
        if x:
            fills[o.oid] = x
    return fills


def _short_and_long(half: Sequence[SlowOrder], p: Fraction) -> tuple[list[SlowOrder], list[SlowOrder], int]:
    buys = [o for o in rank(half, True) if o.p >= p]
    sells = [o for o in rank(half, False) if o.p <= p]
    short, long_ = (buys, sells) if sum(o.q for o in buys) <= sum(o.q for o in sells) else (sells, buys)
    return short, long_, sum(o.q for o in short)


def muda_half_vickrey(half: Sequence[SlowOrder], p: Fraction | None) -> Outcome:
    """Long side by best price; a winner also pays what the others would gain without it."""
    if p is None:
        return Outcome()
    short, long_, volume = _short_and_long(half, p)
    fills = {o.oid: o.q for o in short} | _take(long_, volume)
    pays: dict[str, Money] = {}
    for o in [*short, *long_]:
        pays[o.agent] = pays.get(o.agent, ZERO) + p * fills.get(o.oid, 0) / 1000 * (1 if o.buy else -1)
    for agent in {o.agent for o in long_ if fills.get(o.oid)}:
        others = [o for o in long_ if o.agent != agent]
        without = _take(others, volume)
        pays[agent] += sum((_gain(p, o) * (without.get(o.oid, 0) - fills.get(o.oid, 0)) / 1000 for o in others), ZERO)
    return outcome(half, fills, pays)


def muda_half_lottery(half: Sequence[SlowOrder], p: Fraction | None) -> list[Outcome]:
    """Every order of the long side's agents; an agent in turn serves its own orders by its best price."""
    if p is None:
        return [Outcome()]
    short, long_, volume = _short_and_long(half, p)
    found: dict[object, Outcome] = {}
    for turn in permutations(sorted({o.agent for o in long_})):
        ordered = [o for agent in turn for o in long_ if o.agent == agent]
        done = at_prices(half, {o.oid: o.q for o in short} | _take(ordered, volume), p, p)
        found[done.key()] = done
    return list(found.values())


def join(*parts: Outcome) -> Outcome:
    """Two halves as one result."""
    fills: dict[str, int] = {}
    pays: dict[str, Money] = {}
    for part in parts:
        fills |= part.fills
        for agent, x in part.payments.items():
            pays[agent] = pays.get(agent, ZERO) + x
    return Outcome(fills, {a: x for a, x in pays.items() if x}, welfare=sum((p.welfare for p in parts), ZERO))


def muda(book: Sequence[SlowOrder], left: Iterable[str], variant: str) -> list[Outcome]:
    """2.6 for given coins: everything the rule may give."""
    kept, _ = accepted(book)
    first = set(left)
    halves = [[o for o in kept if o.agent in first], [o for o in kept if o.agent not in first]]
    prices = [half_price(half) for half in halves]
    if variant == "vickrey":
        parts = [[muda_half_vickrey(half, p)] for half, p in zip(halves, prices[::-1], strict=True)]
    else:
        parts = [muda_half_lottery(half, p) for half, p in zip(halves, prices[::-1], strict=True)]
    return [join(a, b) for a, b in product(*parts)]


def splits(book: Iterable[SlowOrder]) -> Iterator[tuple[str, ...]]:
    """All 2^n left halves."""
    agents = sorted({o.agent for o in book})
    for coins in product((False, True), repeat=len(agents)):
        yield tuple(a for a, c in zip(agents, coins, strict=True) if c)


# 2.8: one-sided Vickrey -----------------------------------------------------------------------------------------------


def vickrey(book: Sequence[SlowOrder], units: int, reserve: int | None = None, side: str = "procure") -> Outcome:
    """2.8: winners by best price, each paid (paying) what the others' displaced units cost (are worth).

    A sale without a reserve: a unit that nobody wants is worth 0, and a bid below 0 takes nothing (not in the text).
    """
    buy = side == "sell"
    if buy and reserve is None:
        reserve = 0
    live = rank((o for o in book if o.q and o.buy == buy), buy)
    if reserve is not None:
        live = [o for o in live if (o.p >= reserve if buy else o.p <= reserve)]

    def best(orders: Sequence[SlowOrder]) -> tuple[dict[str, int], int]:
        fills = _take(orders, units)
        money = sum(o.p * fills.get(o.oid, 0) for o in orders)
        missing = units - sum(fills.values())
        if missing and reserve is None:
            raise NotApplicableError("the quantity cannot be met")
        return fills, money + missing * (reserve or 0)

    fills, total = best(live)
    pays: dict[str, Money] = {}
    for agent in {o.agent for o in live if fills.get(o.oid)}:
        own = sum(o.p * fills.get(o.oid, 0) for o in live if o.agent == agent)
        _, without = best([o for o in live if o.agent != agent])
        pays[agent] = F(without - (total - own), 1000) * (1 if buy else -1)
    return outcome(book, fills, pays)


# 2.25: baselines ------------------------------------------------------------------------------------------------------


def block_optimum(book: Sequence[SlowOrder], blocks: Iterable[str]) -> Money:
    """The highest welfare with some orders all or nothing: every choice of blocks, the rest by trying all fills."""
    kept, _ = accepted(book)
    names = set(blocks)
    ranges = [(0, o.q) if o.oid in names else range(o.q + 1) for o in kept]
    best = 0
    for fills in product(*ranges):
        if sum(x if o.buy else -x for o, x in zip(kept, fills, strict=True)) == 0:
            best = max(best, sum((o.p if o.buy else -o.p) * x for o, x in zip(kept, fills, strict=True)))
    return F(best, 1000)


def random_pairs(book: Sequence[SlowOrder]) -> set[tuple[tuple[str, str, int], ...]]:
    """All that drawing feasible pairs until none is left can give, as sorted (buy, sell, Wh); small books only."""
    kept, _ = accepted(book)
    found: set[tuple[tuple[str, str, int], ...]] = set()
    seen: set[object] = set()

    def go(left: dict[str, int], done: dict[tuple[str, str], int]) -> None:
        state = (tuple(sorted(left.items())), tuple(sorted(done.items())))
        if state in seen:
            return
        seen.add(state)
        pairs = feasible_pairs(kept, left)
        if not pairs:
            found.add(tuple((b, s, x) for (b, s), x in sorted(done.items())))
        for b, s in pairs:
            x = min(left[b.oid], left[s.oid])
            go(left | {b.oid: left[b.oid] - x, s.oid: left[s.oid] - x}, done | {(b.oid, s.oid): x})

    go({o.oid: o.q for o in kept}, {})
    return found


def feasible_pairs(book: Sequence[SlowOrder], left: Mapping[str, int]) -> list[tuple[SlowOrder, SlowOrder]]:
    """Bid at least the ask, both with quantity left, two agents."""
    return [
        (b, s)
        for b in book
        for s in book
        if b.buy and not s.buy and b.p >= s.p and b.agent != s.agent and left[b.oid] and left[s.oid]
    ]


# 2.10: periodic calls -------------------------------------------------------------------------------------------------


@dataclass
class PeriodicBook:
    """What rests between calls: orders with what is left of them and their first arrival."""

    call: Callable[[Sequence[SlowOrder]], Mapping[str, int]]
    live: dict[str, SlowOrder] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)

    def submit(self, order: SlowOrder, now: int, *, ioc: bool = False) -> None:
        """Take an order in; its time is its arrival."""
        self.live[order.oid] = replace(order, t=now)
        if ioc:
            self.once.add(order.oid)

    def cancel(self, oid: str) -> int | None:
        """What was left of the order; None for none."""
        gone = self.live.pop(oid, None)
        return None if gone is None else gone.q

    def clear(self) -> dict[str, int]:
        """One call."""
        fills = {i: x for i, x in self.call(list(self.live.values())).items() if x}
        for oid, order in list(self.live.items()):
            rest = order.q - fills.get(oid, 0)
            if rest and oid not in self.once:
                self.live[oid] = replace(order, q=rest)
            else:
                del self.live[oid]
        return fills


# Books ----------------------------------------------------------------------------------------------------------------


def draw_book(
    rng: random.Random, n: int, q: tuple[int, int], p: tuple[int, int], *, agents: int = 0, sides: str = "bs"
) -> list[SlowOrder]:
    """Orders with few distinct times; ids and agents in no order that goes with price or time."""
    ids = rng.sample(range(100, 1000), n)
    names = rng.sample(range(100, 1000), n)
    return [
        SlowOrder(
            f"o{ids[i]}",
            f"m{rng.randrange(agents)}" if agents else f"a{names[i]}",
            rng.choice(sides) == "b",
            rng.randint(*q),
            rng.randint(*p),
            rng.randrange(3),
            rng.randrange(2),
        )
        for i in range(n)
    ]


def _exact_meet(rng: random.Random) -> list[SlowOrder]:
    """Both sides have the same cumulative quantities, so that marginal units end in the same place."""
    book = []
    for i in range(rng.randint(1, 5)):
        size, low = rng.randint(1, 9), rng.randint(-3, 12)
        book.append(SlowOrder(f"b{i}", f"b{i}", True, size, low + rng.randint(-1, 6), rng.randrange(2), i))
        book.append(SlowOrder(f"s{i}", f"s{i}", False, size, low, rng.randrange(2), i))
    return book


def _lot_book(rng: random.Random) -> list[SlowOrder]:
    lot = rng.choice((1, 1, 2, 1000))
    return [replace(o, q=lot) for o in draw_book(rng, rng.randint(0, 14), (1, 1), (-3, rng.choice((3, 12))))]


LOT_BOOKS: dict[str, Callable[[random.Random], list[SlowOrder]]] = {
    "lots": _lot_book,
    "lots_and_nothing": lambda rng: draw_book(rng, rng.randint(2, 12), (0, 1), (0, 8)),
    "lots_one_sided": lambda rng: draw_book(rng, rng.randint(0, 5), (1, 1), (0, 4), sides=rng.choice("bs")),
    "lots_one_price": lambda rng: draw_book(rng, rng.randint(2, 9), (1, 1), (4, 4)),
    "lots_large": lambda rng: [
        replace(o, q=9 * 10**18) for o in draw_book(rng, rng.randint(2, 9), (1, 1), (-(9 * 10**18), 9 * 10**18))
    ],
}
AGENT_BOOKS: dict[str, Callable[[random.Random], list[SlowOrder]]] = {
    "plain": lambda rng: draw_book(rng, rng.randint(2, 12), (1, 9), (0, 30)),
    "ties": lambda rng: draw_book(rng, rng.randint(3, 14), (0, 6), (4, 7)),
    "crossing": lambda rng: [
        replace(o, p=o.p + (8 if o.buy else 0)) for o in draw_book(rng, rng.randint(4, 14), (1, 12), (0, 9))
    ],
    "equal_prices": lambda rng: draw_book(rng, rng.randint(2, 9), (0, 7), (3, 3)),
    "exact_meet": _exact_meet,
    "zeros": lambda rng: draw_book(rng, rng.randint(1, 10), (0, 1), (0, 6)),
    "negative": lambda rng: draw_book(rng, rng.randint(2, 12), (0, 8), (-20, 5)),
    "one_sided": lambda rng: draw_book(rng, rng.randint(0, 6), (0, 5), (0, 9), sides=rng.choice("bs")),
    "large": lambda rng: draw_book(rng, rng.randint(2, 10), (1, 10**10), (-(10**6), 10**7)),
    "huge": lambda rng: draw_book(rng, rng.randint(2, 8), (1, 9 * 10**18), (-(9 * 10**18), 9 * 10**18)),
    "one_giant": lambda rng: [
        *draw_book(rng, rng.randint(2, 8), (1, 3), (1, 5)),
        SlowOrder("giant", "giant", rng.random() < 0.5, 10**12, 3),
    ],
}
SEVERAL_BOOKS: dict[str, Callable[[random.Random], list[SlowOrder]]] = {
    "several": lambda rng: draw_book(rng, rng.randint(2, 14), (0, 6), (0, 10), agents=4),
    "several_wide": lambda rng: [
        replace(o, p=o.p if o.buy else o.p + 3, q=o.q) for o in draw_book(rng, 12, (1, 5), (0, 12), agents=5)
    ],
    "two_agents": lambda rng: draw_book(rng, rng.randint(2, 8), (1, 5), (0, 6), agents=2),
}
RANDOM_BOOKS = LOT_BOOKS | AGENT_BOOKS | SEVERAL_BOOKS


def cut_ties_keep_sizes(exact: Mapping[str, Fraction], whole: Mapping[str, int], size: Mapping[str, int]) -> bool:
    """0.1: whole Wh within one of the exact ones, never above the order, in the order of sizes."""
    near = all(floor_fraction(x) <= whole.get(i, 0) <= min(floor_fraction(x) + 1, size[i]) for i, x in exact.items())
    ordered = sorted(exact, key=lambda i: size[i])
    return near and all(whole.get(a, 0) <= whole.get(b, 0) for a, b in pairwise(ordered) if size[a] < size[b])
