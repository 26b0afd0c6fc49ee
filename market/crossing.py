"""Where ranked demand and ranked supply meet: Q*, W*, the clearing interval [L, H], who is filled.

Everything here is exact: Python integers in, Python integers out. The compiled twin for many slots is
`market.rules._bid_kernels`; the two must give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core.lattice import largest_remainder
from market.book import Book, Context
from market.result import Money, exact

TIE_BREAKS = ("time", "prorata", "random")
RETAILER_INDEX = -1
"""Stands for the retailer among order positions."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), on 64-bit words."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def tie_hash(seed: int, slot: int, key: int) -> int:
    """Rank of an order among equal prices under ``tie_break=random``: keyed, so that orders do not shift others."""
    h = _mix((seed + _GOLDEN) & _MASK)
    h = _mix(h ^ (slot & _MASK))
    return _mix(h ^ key)


@dataclass(frozen=True, slots=True)
class Rung:
    """An order in rank: its position in the book (or ``RETAILER_INDEX``), price and quantity."""

    index: int
    price_u: int
    e_wh: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """The efficient trade of a book.

    Parameters
    ----------
    volume_wh
        Q* [Wh], the retailer's part included when it stands in the book.
    welfare_wu
        W* times 1000: sum of price times Wh, bought minus sold.
    low_u, high_u
        The clearing interval [L, H]; None when nothing trades.
    indicative_u
        (best bid, best ask) when both sides are present and nothing trades.
    fills
        Wh by position in the book.
    buys, sells
        Ranked rungs with their filled quantity.
    import_wh, export_wh
        The retailer's fills.
    """

    volume_wh: int
    welfare_wu: int
    low_u: int | None
    high_u: int | None
    indicative_u: tuple[int, int] | None
    fills: tuple[int, ...]
    buys: tuple[Rung, ...]
    sells: tuple[Rung, ...]
    import_wh: int
    export_wh: int

    @property
    def welfare_u(self) -> Money:
        """W* in micro-currency, exact."""
        return exact(self.welfare_wu, 1000)

    def price_at(self, k: Fraction) -> Fraction | None:
        """L + k (H - L), None when nothing trades."""
        if self.low_u is None or self.high_u is None:
            return None
        return self.low_u + k * (self.high_u - self.low_u)

    def pieces(self) -> list[tuple[Rung, Rung, int]]:
        """Best bid with best ask, step by step: (buy, sell, Wh), walking the filled quantities in rank."""
        pieces: list[tuple[Rung, Rung, int]] = []
        i = j = 0
        left_b = self.buys[0].e_wh if self.buys else 0
        left_a = self.sells[0].e_wh if self.sells else 0
        while i < len(self.buys) and j < len(self.sells):
            wh = min(left_b, left_a)
            if wh:
                pieces.append((self.buys[i], self.sells[j], wh))
            left_b -= wh
            left_a -= wh
            if not left_b:
                i += 1
                left_b = self.buys[i].e_wh if i < len(self.buys) else 0
            if not left_a:
                j += 1
                left_a = self.sells[j].e_wh if j < len(self.sells) else 0
        return pieces


def ranked(book: Book, side: int, tie_break: str = "time", *, slot: int = 0, seed: int = 0) -> list[Rung]:
    """Orders of one side with a quantity, best first: buys by falling, sells by rising price, then the tie-break."""

    def rank(i: int) -> tuple[int, ...]:
        head = -side * book.price_u[i]
        if tie_break == "random":
            return (head, tie_hash(seed, slot, book.order_key[i]), book.id_rank[i])
        return (head, book.t[i], book.seq[i], book.id_rank[i])

    return [Rung(i, book.price_u[i], book.e_wh[i]) for i in sorted(book.indices(side), key=rank)]


def with_backstop(buys: list[Rung], sells: list[Rung], context: Context) -> tuple[list[Rung], list[Rung]]:
    """Both ranked lists with the retailer behind the orders at its prices, in the quantity it can be asked for.

    The retailer never trades with itself, also where retail equals feed-in.
    """
    retail, feed_in = context.retailer_prices()
    imported = sum(b.e_wh for b in buys if b.price_u >= retail) - sum(s.e_wh for s in sells if s.price_u <= retail)
    exported = sum(s.e_wh for s in sells if s.price_u <= feed_in) - sum(b.e_wh for b in buys if b.price_u >= feed_in)
    if imported > 0:
        at = sum(s.price_u <= retail for s in sells)
        sells = [*sells[:at], Rung(RETAILER_INDEX, retail, imported), *sells[at:]]
    if exported > 0:
        at = sum(b.price_u >= feed_in for b in buys)
        buys = [*buys[:at], Rung(RETAILER_INDEX, feed_in, exported), *buys[at:]]
    return buys, sells


def _walk(buys: Sequence[Rung], sells: Sequence[Rung], strict: bool) -> tuple[int, list[int], list[int]]:
    """Q* and the fills along both ranks; ``strict`` leaves out units without surplus."""
    buy_fill, sell_fill = [0] * len(buys), [0] * len(sells)
    i = j = volume = 0
    while i < len(buys) and j < len(sells):
        if buys[i].price_u < sells[j].price_u or (strict and buys[i].price_u == sells[j].price_u):
            break
        wh = min(buys[i].e_wh - buy_fill[i], sells[j].e_wh - sell_fill[j])
        buy_fill[i] += wh
        sell_fill[j] += wh
        volume += wh
        i += buy_fill[i] == buys[i].e_wh
        j += sell_fill[j] == sells[j].e_wh
    return volume, buy_fill, sell_fill


def _ends(rungs: Sequence[Rung], fill: Sequence[int]) -> tuple[int | None, int | None]:
    """Prices of the last unit filled and of the first one not filled."""
    last: int | None = None
    for rung, wh in zip(rungs, fill, strict=True):
        if wh:
            last = rung.price_u
        if wh < rung.e_wh:
            return last, rung.price_u
    return last, None


def _share_margin(book: Book, rungs: Sequence[Rung], fill: list[int]) -> list[int]:
    """Orders at the marginal price share its filled quantity in proportion to their size, on the lattice."""
    filled = [m for m, wh in enumerate(fill) if wh]
    if not filled:
        return fill
    level = rungs[filled[-1]].price_u
    group = [m for m, r in enumerate(rungs) if r.price_u == level and r.index != RETAILER_INDEX]
    group.sort(key=lambda m: (book.agent_rank[rungs[m].index], book.id_rank[rungs[m].index]))
    total, size = sum(fill[m] for m in group), sum(rungs[m].e_wh for m in group)
    if total == size:
        return fill
    caps = [rungs[m].e_wh for m in group]
    shares = [Fraction(q * total, size) for q in caps]
    result = list(fill)
    for m, wh in zip(group, largest_remainder(shares, total, caps=caps), strict=True):
        result[m] = wh
    return result


def cross(
    book: Book,
    context: Context | None = None,
    *,
    tie_break: str = "time",
    seed: int = 0,
    zero_surplus: bool = True,
) -> Crossing:
    """The efficient volume, welfare, clearing interval and fills of a book (market-rules 0.3, 0.4, 0.5).

    ``Q*``, ``W*``, ``L`` and ``H`` do not depend on the tie-break; who is filled at the marginal price does.
    ``zero_surplus=False`` leaves out units whose bid equals their ask.
    """
    context = Context() if context is None else context
    buys = ranked(book, 1, tie_break, slot=context.slot, seed=seed)
    sells = ranked(book, -1, tie_break, slot=context.slot, seed=seed)
    if context.in_book:
        buys, sells = with_backstop(buys, sells, context)
    volume, buy_fill, sell_fill = _walk(buys, sells, not zero_surplus)
    last_b, next_b = _ends(buys, buy_fill)
    last_a, next_a = _ends(sells, sell_fill)
    if context.in_book:
        retail, feed_in = context.retailer_prices()
        next_b = feed_in if next_b is None else max(next_b, feed_in)
        next_a = retail if next_a is None else min(next_a, retail)
    low = high = indicative = None
    if last_a is not None and last_b is not None:
        low = last_a if next_b is None else max(last_a, next_b)
        high = last_b if next_a is None else min(last_b, next_a)
    elif next_b is not None and next_a is not None:
        indicative = (next_b, next_a)
    if tie_break == "prorata":
        buy_fill = _share_margin(book, buys, buy_fill)
        sell_fill = _share_margin(book, sells, sell_fill)
    fills, retailer = [0] * len(book), [0, 0]
    welfare = 0
    for side, rungs, fill in ((1, buys, buy_fill), (-1, sells, sell_fill)):
        for rung, wh in zip(rungs, fill, strict=True):
            welfare += side * rung.price_u * wh
            if rung.index == RETAILER_INDEX:
                retailer[side > 0] += wh
            else:
                fills[rung.index] = wh
    return Crossing(
        volume, welfare, low, high, indicative, tuple(fills),
        tuple(Rung(r.index, r.price_u, wh) for r, wh in zip(buys, buy_fill, strict=True)),
        tuple(Rung(r.index, r.price_u, wh) for r, wh in zip(sells, sell_fill, strict=True)),
        retailer[0], retailer[1],
    )  # fmt: skip
