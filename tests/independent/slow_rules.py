"""Market rules, written a second time from the text of the specification and nothing else.

Plain Python over ``fractions.Fraction``: every rule is spelled as its definition reads, without any thought for speed.
The numbers in the section comments are those of the market rules' specification. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

Money = Fraction


@dataclass(frozen=True)
class SlowOrder:
    """One order of a call market: up to ``q`` Wh at no worse than ``p`` micro-currency per kWh."""

    oid: str
    agent: str
    buy: bool
    q: int
    p: int
    t: int = 0
    seq: int = 0


@dataclass
class SlowResult:
    """What a bid rule gives: energy by order, exact money by order and by agent, prices, pieces."""

    q_star: int
    fills: dict[str, int]
    order_payments: dict[str, Money]
    payments: dict[str, Money]
    price: Fraction | None
    pieces: list[tuple[str, str, int, Fraction]]
    welfare: Money
    surplus: Money
    interval: tuple[int, int] | None
    indicative: tuple[int, int] | None


# 4.6 and 0.1: the largest remainder -----------------------------------------------------------------------------------


def floor_fraction(x: Fraction) -> int:
    """Largest integer not above ``x``: toward minus infinity for negative numbers."""
    n = int(x)  # toward zero
    return n - 1 if n > x else n


def half_even(x: Fraction) -> int:
    """Nearest integer, exact halves to the even one."""
    low = floor_fraction(x)
    rest = x - low
    if rest > Fraction(1, 2):
        return low + 1
    if rest < Fraction(1, 2):
        return low
    return low if low % 2 == 0 else low + 1


def largest_remainder(shares: Sequence[Fraction], total: int | None = None) -> list[int]:
    """Whole numbers for exact shares; ``shares`` stand in the order in which ties are resolved.

    Without an imposed ``total`` it is the sum, half to even. Missing units go one each to the largest fractional parts
    (round by round if there are more of them than shares), units too many come from the smallest ones, ties in reverse.
    """
    shares = [Fraction(s) for s in shares]
    if total is None:
        total = half_even(sum(shares, Fraction(0)))
    whole = [floor_fraction(s) for s in shares]
    parts = [s - w for s, w in zip(shares, whole, strict=True)]
    if not shares:
        if total:
            raise ValueError("a total without anybody to bear it")
        return []
    up = sorted(range(len(shares)), key=lambda i: (-parts[i], i))
    missing = total - sum(whole)
    while missing > 0:
        for i in up[: min(missing, len(up))]:
            whole[i] += 1
        missing = total - sum(whole)
    while missing < 0:
        for i in up[::-1][: min(-missing, len(up))]:
            whole[i] -= 1
        missing = total - sum(whole)
    return whole


# 0.2 to 0.4: book, priority, efficient volume, clearing interval ------------------------------------------------------


def accepted(book: Iterable[SlowOrder]) -> tuple[list[SlowOrder], list[str]]:
    """Orders that count, and the ids of those that would cross an order of their own agent.

    Orders come in by (t, seq, id); the one that comes later is the one that would cross. An order of zero energy has no
    effect, so nothing can cross it and it crosses nothing.
    """
    kept: list[SlowOrder] = []
    refused: list[str] = []
    for order in sorted(book, key=lambda o: (o.t, o.seq, o.oid)):
        if order.q == 0:
            continue
        own = [o for o in kept if o.agent == order.agent and o.buy != order.buy]
        if any((order.p >= o.p) if order.buy else (o.p >= order.p) for o in own):
            refused.append(order.oid)
        else:
            kept.append(order)
    return kept, refused


def rank(book: Iterable[SlowOrder], buy: bool) -> list[SlowOrder]:
    """One side in canonical priority: best price, earlier t, lower seq, id in ASCII order."""
    return sorted((o for o in book if o.buy == buy), key=lambda o: (-o.p if buy else o.p, o.t, o.seq, o.oid))


def unit_price(ranked: Sequence[SlowOrder], n: int) -> int | None:
    """Price of the n-th unit (from 1) of ranked orders; None for a missing unit."""
    seen = 0
    for order in ranked:
        seen += order.q
        if n <= seen:
            return order.p
    return None


def efficient_volume(buys: Sequence[SlowOrder], sells: Sequence[SlowOrder], zero_surplus: bool = True) -> int:
    """Largest n with B(n) >= A(n) (``>`` without zero-surplus trades), 0 if none.

    Unit prices only change behind the last unit of an order, so checking these quantities is checking every one.
    """
    ends: set[int] = set()
    for side in (buys, sells):
        seen = 0
        for order in side:
            seen += order.q
            ends.add(seen)
    best = 0
    for n in ends:
        bid, ask = unit_price(buys, n), unit_price(sells, n)
        if bid is not None and ask is not None and (bid > ask or (zero_surplus and bid == ask)):
            best = max(best, n)
    return best


def efficient_volume_unit_by_unit(
    buys: Sequence[SlowOrder], sells: Sequence[SlowOrder], zero_surplus: bool = True
) -> int:
    """The same by writing both lists out Wh by Wh; for small books."""
    bids = [o.p for o in buys for _ in range(o.q)]
    asks = [o.p for o in sells for _ in range(o.q)]
    best = 0
    for n, (bid, ask) in enumerate(zip(bids, asks, strict=False), start=1):
        if bid > ask or (zero_surplus and bid == ask):
            best = n
    return best


def clearing_interval(buys: Sequence[SlowOrder], sells: Sequence[SlowOrder], q: int) -> tuple[int, int] | None:
    """``L = max(A(q), B(q+1))``, ``H = min(B(q), A(q+1))``, missing units left out; None for q = 0."""
    if q == 0:
        return None
    low = [p for p in (unit_price(sells, q), unit_price(buys, q + 1)) if p is not None]
    high = [p for p in (unit_price(buys, q), unit_price(sells, q + 1)) if p is not None]
    return max(low), min(high)


def welfare_unit_by_unit(buys: Sequence[SlowOrder], sells: Sequence[SlowOrder], q: int) -> Money:
    """Sum over n <= q of ``B(n) - A(n)``, as money [micro-currency]; for small books."""
    bids = [o.p for o in buys for _ in range(o.q)]
    asks = [o.p for o in sells for _ in range(o.q)]
    return Fraction(sum(b - a for b, a in zip(bids[:q], asks[:q], strict=True)), 1000)


def welfare_by_enumeration(book: Sequence[SlowOrder]) -> Money:
    """Best welfare over all whole-Wh fills with bought = sold; for tiny books."""
    best = 0
    for fills in product(*(range(o.q + 1) for o in book)):
        if sum(x if o.buy else -x for o, x in zip(book, fills, strict=True)) == 0:
            best = max(best, sum(o.p * x if o.buy else -o.p * x for o, x in zip(book, fills, strict=True)))
    return Fraction(best, 1000)


def dual_welfare(book: Sequence[SlowOrder]) -> tuple[Money, int, int]:
    """W* by the dual of the linear programme, and the lowest and highest price that reach it.

    ``min over p of sum q_b (p_b - p)^+ + sum q_s (p - p_s)^+`` is convex and piecewise linear with kinks at the order
    prices only, so the minimum and both ends of the set of minimisers (where bounded) are at order prices.
    """
    value: dict[int, int] = {}
    for p in {o.p for o in book if o.q}:
        value[p] = sum(o.q * max(0, o.p - p if o.buy else p - o.p) for o in book)
    best = min(value.values())
    at = [p for p, v in value.items() if v == best]
    return Fraction(best, 1000), min(at), max(at)


def fill_side(ranked: Sequence[SlowOrder], q: int, tie_break: str) -> dict[str, int]:
    """Who gets the q units of one side: by priority, or with the marginal price level shared in proportion."""
    fills: dict[str, int] = {}
    left = q
    if tie_break == "time":
        for order in ranked:
            fills[order.oid] = min(order.q, left)
            left -= fills[order.oid]
        return fills
    if q == 0:
        return {o.oid: 0 for o in ranked}
    margin = unit_price(ranked, q)
    level = [o for o in ranked if o.p == margin]
    for order in ranked:
        if order.p == margin:
            break
        fills[order.oid] = order.q
        left -= order.q
    size = sum(o.q for o in level)
    # 4.6: "ties: lower agent id"; among orders of one agent the canonical priority of 0.3 is all the text offers
    level.sort(key=lambda o: (o.agent, o.t, o.seq, o.oid))
    for order, wh in zip(level, largest_remainder([Fraction(o.q * left, size) for o in level], left), strict=True):
        fills[order.oid] = wh
    return {o.oid: fills.get(o.oid, 0) for o in ranked}


def walk_pieces(
    buys: Sequence[SlowOrder], sells: Sequence[SlowOrder], fills: Mapping[str, int]
) -> list[tuple[SlowOrder, SlowOrder, int]]:
    """2.2: best bid with best ask, each piece the minimum of what is left of the two fills."""
    left = dict(fills)
    pieces: list[tuple[SlowOrder, SlowOrder, int]] = []
    for buy in buys:
        for sell in sells:
            wh = min(left[buy.oid], left[sell.oid])
            if wh:
                pieces.append((buy, sell, wh))
                left[buy.oid] -= wh
                left[sell.oid] -= wh
    return pieces


# 2.1 and 2.2 ----------------------------------------------------------------------------------------------------------


@dataclass
class _Cleared:
    """Allocation of 2.1, shared by 2.1 and 2.2."""

    book: list[SlowOrder]
    buys: list[SlowOrder]
    sells: list[SlowOrder]
    q: int
    fills: dict[str, int] = field(default_factory=dict)

    def result(
        self,
        paid: Mapping[str, Money],
        price: Fraction | None,
        pieces: list[tuple[str, str, int, Fraction]],
        agents: Iterable[str],
    ) -> SlowResult:
        payments = dict.fromkeys(agents, Fraction(0))
        for order in self.book:
            payments[order.agent] += paid.get(order.oid, Fraction(0))
        sign = {o.oid: (1 if o.buy else -1) * o.p for o in self.book}
        indicative = None
        if self.q == 0 and self.buys and self.sells:
            indicative = (self.buys[0].p, self.sells[0].p)
        return SlowResult(
            q_star=self.q,
            fills=self.fills,
            order_payments=dict(paid),
            payments=payments,
            price=price,
            pieces=pieces,
            welfare=sum((Fraction(sign[i] * wh, 1000) for i, wh in self.fills.items()), Fraction(0)),
            surplus=sum(payments.values(), Fraction(0)),
            interval=clearing_interval(self.buys, self.sells, self.q),
            indicative=indicative,
        )


def _allocate(book: Iterable[SlowOrder], tie_break: str, zero_surplus: bool) -> _Cleared:
    kept, _ = accepted(book)
    buys, sells = rank(kept, True), rank(kept, False)
    q = efficient_volume(buys, sells, zero_surplus)
    fills = fill_side(buys, q, tie_break) | fill_side(sells, q, tie_break)
    return _Cleared(kept, buys, sells, q, fills)


def _money(price: Fraction | int, wh: int) -> Money:
    return Fraction(price) * wh / 1000


def uniform_price(
    book: Sequence[SlowOrder], k: Fraction = Fraction(1, 2), tie_break: str = "time", zero_surplus: bool = True
) -> SlowResult:
    """2.1: all Q* units at ``L + k (H - L)``; no price without trade."""
    done = _allocate(book, tie_break, zero_surplus)
    interval = clearing_interval(done.buys, done.sells, done.q)
    price = None if interval is None else interval[0] + k * (interval[1] - interval[0])
    paid: dict[str, Money] = {}
    for order in done.book:
        wh = done.fills[order.oid]
        if wh and price is not None:
            paid[order.oid] = _money(price, wh) * (1 if order.buy else -1)
    return done.result(paid, price, [], (o.agent for o in book))


def pay_as_bid(
    book: Sequence[SlowOrder], variant: str = "pure", tie_break: str = "time", zero_surplus: bool = True
) -> SlowResult:
    """2.2 ``pure``: buyers pay their bid, sellers get their ask. ``buyer_pays_bid``: sellers get the bid as well."""
    if variant == "buyer_pays_bid":
        return pair_price(book, Fraction(1), tie_break, zero_surplus)
    done = _allocate(book, tie_break, zero_surplus)
    paid = {o.oid: _money(o.p if o.buy else -o.p, done.fills[o.oid]) for o in done.book if done.fills[o.oid]}
    return done.result(paid, None, [], (o.agent for o in book))


def pair_price(
    book: Sequence[SlowOrder], k: Fraction = Fraction(1, 2), tie_break: str = "time", zero_surplus: bool = True
) -> SlowResult:
    """2.2 ``pair(k)``: each piece at ``(1-k) ask + k bid``."""
    done = _allocate(book, tie_break, zero_surplus)
    paid: dict[str, Money] = {}
    pieces: list[tuple[str, str, int, Fraction]] = []
    for buy, sell, wh in walk_pieces(done.buys, done.sells, done.fills):
        price = (1 - k) * sell.p + k * buy.p
        pieces.append((buy.oid, sell.oid, wh, price))
        paid[buy.oid] = paid.get(buy.oid, Fraction(0)) + _money(price, wh)
        paid[sell.oid] = paid.get(sell.oid, Fraction(0)) - _money(price, wh)
    return done.result(paid, None, pieces, (o.agent for o in book))


# 2.11 to 2.13: meters, one retail and one feed-in price ---------------------------------------------------------------


@dataclass(frozen=True)
class SlowShared:
    """Prices (None = nobody on that side), exact bills, and what the retailer is owed."""

    buy: Fraction | None
    sell: Fraction | None
    payments: dict[str, Money]
    retailer: Money


def demand_supply(net: Mapping[str, int]) -> tuple[int, int]:
    """``D`` and ``S`` of a slot, both positive."""
    return sum(n for n in net.values() if n > 0), sum(-n for n in net.values() if n < 0)


def _bills(net: Mapping[str, int], buy: Fraction | None, sell: Fraction | None, r: int, f: int) -> SlowShared:
    d, s = demand_supply(net)
    payments: dict[str, Money] = {}
    for member, n in net.items():
        if n > 0 and buy is not None:
            payments[member] = _money(buy, n)
        elif n < 0 and sell is not None:
            payments[member] = _money(sell, n)
        else:
            payments[member] = Fraction(0)
    return SlowShared(buy, sell, payments, _money(r, max(d - s, 0)) - _money(f, max(s - d, 0)))


def mid_market_rate(net: Mapping[str, int], r: int, f: int) -> SlowShared:
    """2.11: shared energy at the middle of the tariff, the long side carries the retailer."""
    d, s = demand_supply(net)
    m = Fraction(r + f, 2)
    buy: Fraction | None = m
    sell: Fraction | None = m
    if s < d:
        buy = (s * m + Fraction((d - s) * r)) / d
    elif s > d:
        sell = (d * m + Fraction((s - d) * f)) / s
    return _bills(net, buy if d else None, sell if s else None, r, f)


def supply_demand_ratio(net: Mapping[str, int], r: int, f: int, c: int = 0) -> SlowShared:
    """2.12: prices by ``x = S/D``; ``ValueError`` where the definition does not apply."""
    d, s = demand_supply(net)
    g = f + c
    if g < 0:
        raise ValueError("feed-in plus c is negative")
    if not 0 <= c <= r - f:
        raise ValueError("c lies outside [0, r - f]")
    if d == 0:
        return _bills(net, None, Fraction(f) if s else None, r, f)
    x = Fraction(s, d)
    if x > 1:
        return _bills(net, Fraction(f + c), f + c / x, r, f)
    sell = Fraction(r if x == 0 else 0) if g == 0 else Fraction(g * r) / ((r - g) * x + g)
    return _bills(net, sell * x + r * (1 - x), sell if s else None, r, f)


def bill_sharing(net: Mapping[str, int], r: int, f: int) -> SlowShared:
    """2.13, window of one slot: ``p_b = r I / D``, ``p_s = f E / S``."""
    d, s = demand_supply(net)
    buy = Fraction(r * max(d - s, 0), d) if d else None
    sell = Fraction(f * max(s - d, 0), s) if s else None
    return _bills(net, buy, sell, r, f)


# 2.26: energy sharing by keys -----------------------------------------------------------------------------------------


def _split(net: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Consumers' imports ``d_i`` and producers' exports ``g_j``, members in ASCII order."""
    members = sorted(net)
    return {m: net[m] for m in members if net[m] > 0}, {m: -net[m] for m in members if net[m] < 0}


def _whole(exact: Mapping[str, Fraction]) -> dict[str, int]:
    """Exact energies to whole Wh by largest remainder, ties by member id."""
    names = sorted(exact)
    return dict(zip(names, largest_remainder([exact[n] for n in names]), strict=True))


def level_fill(d: Mapping[str, int], weights: Mapping[str, Fraction], total: int) -> dict[str, Fraction]:
    """Hand out ``total`` in proportion to the weights, capped at ``d_i``; what a cap frees goes round again.

    Repeating "with the same shares among those with unmet demand" gives, round after round, amounts in proportion to
    the shares to everyone who is not full. The rounds end exactly: each one fills a member up or uses up the rest.
    """
    got = {m: Fraction(0) for m in d}
    left = Fraction(total)
    while left > 0:
        open_ = [m for m in d if got[m] < d[m] and weights.get(m, Fraction(0)) > 0]
        if not open_:
            break
        weight = sum(weights[m] for m in open_)
        # up to the point where the first of them is full
        step = min([left / weight] + [(d[m] - got[m]) / weights[m] for m in open_])
        for m in open_:
            got[m] += step * weights[m]
        left -= step * weight
    return got


def key_static(net: Mapping[str, int], shares: Mapping[str, Fraction], unused: str = "lost") -> dict[str, int]:
    """``a_i = min(d_i, k_i G)``; what that leaves is lost, or goes round again."""
    d, g = _split(net)
    total = sum(g.values())
    if unused == "lost":
        return _whole({m: min(Fraction(d[m]), shares.get(m, Fraction(0)) * total) for m in d})
    return _whole(level_fill(d, shares, total))


def key_ex_ante_variable(
    net: Mapping[str, int], series: Mapping[str, Sequence[Fraction]], slot: int, unused: str = "lost"
) -> dict[str, int]:
    """As ``static``, with the slot's shares."""
    return key_static(net, {m: values[slot] for m, values in series.items()}, unused)


def key_pro_rata(net: Mapping[str, int]) -> dict[str, int]:
    """``a_i = d_i min(1, G/D)``."""
    d, g = _split(net)
    if not d:
        return {}
    ratio = min(Fraction(1), Fraction(sum(g.values()), sum(d.values())))
    return _whole({m: d[m] * ratio for m in d})


def key_priority(net: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """Members in a stated order take ``min(d_i, what is left)``."""
    d, g = _split(net)
    left = sum(g.values())
    got = dict.fromkeys(d, 0)
    for member in [m for m in order if m in d] + [m for m in d if m not in order]:
        got[member] = min(d[member], left)
        left -= got[member]
    return got


def key_equal(net: Mapping[str, int]) -> dict[str, int]:
    """Level shares, capped at ``d_i``, the rest levelled again."""
    d, g = _split(net)
    return _whole(level_fill(d, {m: Fraction(1) for m in d}, sum(g.values())))


def key_per_pair(
    net: Mapping[str, int], shares: Mapping[str, Mapping[str, Fraction]], order: Sequence[str]
) -> dict[tuple[str, str], int]:
    """``a_ij = min(k_ij g_j, what i still needs)``, producers in a stated order, whole Wh per producer."""
    d, g = _split(net)
    need = dict(d)
    got: dict[tuple[str, str], int] = {}
    for j in [m for m in order if m in g] + [m for m in g if m not in order]:
        keys = shares.get(j, {})
        exact = {i: min(keys.get(i, Fraction(0)) * g[j], Fraction(need[i])) for i in d}
        for i, wh in _whole(exact).items():
            got[i, j] = wh
            need[i] -= wh
    return got


def shared_payments(
    net: Mapping[str, int],
    local: Mapping[str, int],
    price: Fraction,
    retail: Callable[[str], int],
    feed_in: Callable[[str], int],
) -> dict[str, Money]:
    """Shared energy at one price, the rest of each member with its own supplier."""
    payments: dict[str, Money] = {}
    for member, n in net.items():
        wh = local.get(member, 0)
        if n > 0:
            payments[member] = _money(price, wh) + _money(retail(member), n - wh)
        else:
            payments[member] = -_money(price, wh) - _money(feed_in(member), -n - wh)
    return payments
