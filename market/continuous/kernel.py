"""Compiled continuous double auction on columns of events: the same answers as `market.continuous.order_book`.

How the book lies in memory. Every price that can ever rest is known beforehand, so prices become dense levels, counted
from the best one on either side. A level is a doubly linked queue of orders (links are columns of the order table); a
tree of 64-bit words over the levels (a bit per level that is not empty, above it a bit per word that is not zero, and
so on) finds the next level from any place without taking anything out: so all-or-nothing orders are passed by and keep
their rank, which a heap could not do. The words also carry the divisible quantity and the number of all-or-nothing
orders below them, so that whether a fill-or-kill order can be filled is mostly read off whole words.

Cost of an event: O(log levels) with base 64, plus the trades made, plus the all-or-nothing orders passed by. The check
of an order that wants all or nothing is linear in the orders walked only where its agent rests on the other side, and
within words that hold all-or-nothing orders. Memory is laid out once; nothing is allocated per event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions
from numpy.typing import NDArray

from core.kernel_constants import ZERO
from market.continuous.events import AON, FOK, IOC, KEEP_E, KEEP_P, Kind, Reason, Status

Int = NDArray[np.int64]
Words = NDArray[np.uint64]
F = TypeVar("F", bound=Callable[..., Any])


_OPTIONS: dict[str, Any] = {"cache": True}
if hasattr(DefaultOptions, "_nrt"):
    _OPTIONS["_nrt"] = False


def njit_in_place(function: F) -> F:
    """Compile a function that allocates nothing, without counting references to the arrays handed to it.

    Counting them takes four fifths of the time of an event; a numba without that option compiles it the usual way.
    """
    return cast(F, njit(**_OPTIONS)(function))


class Tables(NamedTuple):
    """The book: (n_orders, 8) orders, (2, L, 4) levels, (2, W) words, (2, W, 2) sums, (T+1,) offsets, (n_agents, 2)."""

    orders: Int
    levels: Int
    words: Words
    sums: Int
    offset: Int
    own: Int


# columns of Tables.orders; a status of 0 says that the id was never taken in
LEFT, AGENT, SIDE, KEY, NEXT, PREV, INDIVISIBLE, STATUS = range(8)
# columns of Tables.levels; WH is what is divisible, COUNT the number of orders that are not
HEAD, TAIL, WH, COUNT = range(4)

_LIMIT, _MARKET, _CANCEL, _REPLACE = int(Kind.LIMIT), int(Kind.MARKET), int(Kind.CANCEL), int(Kind.REPLACE)
REJECTED, RESTING, FILLED = int(Status.REJECTED), int(Status.RESTING), int(Status.FILLED)
CANCELLED, KILLED, EXPIRED, CLOSED = (
    int(Status.CANCELLED),
    int(Status.KILLED),
    int(Status.EXPIRED),
    int(Status.CLOSED),
)
_NONE, _GATED, _DUPLICATE, _NO_QUANTITY = (
    int(Reason.NONE),
    int(Reason.GATE_CLOSED),
    int(Reason.DUPLICATE_ID),
    int(Reason.QUANTITY_NOT_POSITIVE),
)
_BELOW, _ABOVE, _UNKNOWN, _FINISHED = (
    int(Reason.PRICE_BELOW_BAND),
    int(Reason.PRICE_ABOVE_BAND),
    int(Reason.UNKNOWN_ID),
    int(Reason.FINISHED_ID),
)
_REQUESTED, _UNFILLED, _NOT_FILLABLE = int(Reason.REQUESTED), int(Reason.UNFILLED), int(Reason.NOT_FILLABLE)
_SELF_MATCH, _KEPT = int(Reason.SELF_MATCH), int(Reason.PRIORITY_KEPT)

_ONE = np.uint64(1)
_DEBRUIJN = np.uint64(0x03F79D71B4CB0A89)
_SHIFT = np.uint64(58)
_POSITIONS = np.zeros(64, np.int64)
for _i in range(64):
    _POSITIONS[(((1 << _i) * int(_DEBRUIJN)) & (2**64 - 1)) >> 58] = _i

_SHORT, _FILLS, _OWN = 0, 1, 2


def make_tables(n_orders: int, n_levels: int, n_agents: int) -> Tables:
    """An empty book for so many orders, price levels and agents."""
    offset, n = [0], max(n_levels, 1)
    while True:
        n = (n + 63) // 64
        offset.append(offset[-1] + n)
        if n == 1:
            break
    levels = np.zeros((2, max(n_levels, 1), 4), np.int64)
    levels[:, :, :2] = -1
    return Tables(
        np.zeros((n_orders, 8), np.int64),
        levels,
        np.zeros((2, offset[-1]), np.uint64),
        np.zeros((2, offset[-1], 2), np.int64),
        np.array(offset, np.int64),
        np.zeros((n_agents, 2), np.int64),
    )


@njit_in_place
def _lowest(word: np.uint64) -> int:
    """Position of the lowest set bit (Leiserson, Prokop & Randall 1998)."""
    return int(_POSITIONS[((word & (~word + _ONE)) * _DEBRUIJN) >> _SHIFT])


@njit_in_place
def next_level(book: Tables, side: int, start: int) -> int:
    """First level from ``start`` on with an order, or -1."""
    k, tier, tiers = start, 0, len(book.offset) - 1
    while tier < tiers:
        w = k >> 6
        if w >= book.offset[tier + 1] - book.offset[tier]:
            return -1
        word = book.words[side, book.offset[tier] + w] >> np.uint64(k & 63)
        if word:
            k += _lowest(word)
            while tier > 0:
                tier -= 1
                k = (k << 6) + _lowest(book.words[side, book.offset[tier] + k])
            return k
        k = w + 1
        tier += 1
    return -1


@njit_in_place
def _account(book: Tables, side: int, key: int, wh: int, count: int) -> None:
    """Add to the sums of a level and of the words above it."""
    book.levels[side, key, WH] += wh
    book.levels[side, key, COUNT] += count
    for tier in range(len(book.offset) - 1):
        key >>= 6
        book.sums[side, book.offset[tier] + key, 0] += wh
        book.sums[side, book.offset[tier] + key, 1] += count


@njit_in_place
def _account_order(book: Tables, o: int, sign: int) -> None:
    """Add an order's quantity to the sums (sign 1), or take it out (-1)."""
    side, key = book.orders[o, SIDE], book.orders[o, KEY]
    if book.orders[o, INDIVISIBLE]:
        _account(book, side, key, 0, sign)
    else:
        _account(book, side, key, sign * book.orders[o, LEFT], 0)


@njit_in_place
def _link(book: Tables, o: int) -> None:
    """Put an order at the back of its level."""
    orders, side, key = book.orders, book.orders[o, SIDE], book.orders[o, KEY]
    tail = book.levels[side, key, TAIL]
    orders[o, NEXT], orders[o, PREV] = -1, tail
    book.levels[side, key, TAIL] = o
    if tail >= 0:
        orders[tail, NEXT] = o
    else:
        book.levels[side, key, HEAD] = o
        k = key
        for tier in range(len(book.offset) - 1):
            w = book.offset[tier] + (k >> 6)
            before = book.words[side, w]
            book.words[side, w] = before | (_ONE << np.uint64(k & 63))
            if before:
                break
            k >>= 6
    orders[o, STATUS] = RESTING
    book.own[orders[o, AGENT], side] += 1
    _account_order(book, o, 1)


@njit_in_place
def _unlink(book: Tables, o: int) -> None:
    """Take a resting order out; its quantity is still the one that is accounted for."""
    orders, side, key = book.orders, book.orders[o, SIDE], book.orders[o, KEY]
    _account_order(book, o, -1)
    book.own[orders[o, AGENT], side] -= 1
    after, before = orders[o, NEXT], orders[o, PREV]
    if before >= 0:
        orders[before, NEXT] = after
    else:
        book.levels[side, key, HEAD] = after
    if after >= 0:
        orders[after, PREV] = before
    else:
        book.levels[side, key, TAIL] = before
    if before < 0 and after < 0:
        k = key
        for tier in range(len(book.offset) - 1):
            w = book.offset[tier] + (k >> 6)
            left = book.words[side, w] & ~(_ONE << np.uint64(k & 63))
            book.words[side, w] = left
            if left:
                break
            k >>= 6


@njit_in_place
def _block(book: Tables, side: int, key: int, last: int) -> tuple[int, int]:
    """The largest word around ``key`` that holds no all-or-nothing order and nothing after level ``last``.

    Returns its divisible quantity and the level after it; of the level alone where no word fits, and (-1, 0) where not
    even the level does. A walk comes into a word at its first order, and a word once refused is refused again, so
    nothing is counted twice.
    """
    if book.levels[side, key, COUNT]:
        return -1, 0
    wh, past = book.levels[side, key, WH], key + 1
    for tier in range(len(book.offset) - 1):
        shift = 6 * (tier + 1)
        w = book.offset[tier] + (key >> shift)
        stop = ((key >> shift) + 1) << shift
        if min(stop, book.levels.shape[1]) - 1 > last or book.sums[side, w, 1]:
            break
        wh, past = book.sums[side, w, 0], stop
    return wh, past


@njit_in_place
def _fillable(book: Tables, agent: int, side: int, last: int, left: int) -> int:
    """Whether the greedy walk over ``side`` down to level ``last`` fills ``left``, or comes to ``agent`` before."""
    orders, seen = book.orders, 0
    alone = book.own[agent, side] == 0
    key = next_level(book, side, 0)
    while 0 <= key <= last:
        wh, past = _block(book, side, key, last) if alone else (-1, 0)
        if wh >= 0:
            left -= wh
            if left <= 0:
                return _FILLS
            seen = past
        else:
            r = book.levels[side, key, HEAD]
            while r >= 0:
                if orders[r, AGENT] == agent:
                    return _OWN
                if not orders[r, INDIVISIBLE] or orders[r, LEFT] <= left:
                    left -= orders[r, LEFT]
                if left <= 0:
                    return _FILLS
                r = orders[r, NEXT]
            seen = key + 1
        key = next_level(book, side, seen)
    return _SHORT


@njit_in_place
def _walk(book: Tables, o: int, last: int, prices: Int, trades: Int, n: int) -> tuple[int, bool]:
    """Trade an incoming order against the other side down to level ``last``; trades so far, whether it met its own."""
    orders, side = book.orders, 1 - book.orders[o, SIDE]
    agent, left = orders[o, AGENT], orders[o, LEFT]
    met, key = False, next_level(book, side, 0)
    while 0 <= key <= last and left > 0 and not met:
        price = prices[key] if side == 1 else prices[book.levels.shape[1] - 1 - key]
        r = book.levels[side, key, HEAD]
        while r >= 0 and left > 0:
            after, wh = orders[r, NEXT], orders[r, LEFT]
            if orders[r, AGENT] == agent:
                met = True
                break
            if orders[r, INDIVISIBLE] and wh > left:
                r = after
                continue
            if wh <= left:
                _unlink(book, r)
                orders[r, LEFT], orders[r, STATUS] = 0, FILLED
            else:
                wh = left
                orders[r, LEFT] -= wh
                _account(book, side, key, -wh, 0)
            left -= wh
            trades[n, 0], trades[n, 1] = (r, o) if side == 0 else (o, r)
            trades[n, 2], trades[n, 3] = wh, price
            n += 1
            r = after
        key = next_level(book, side, key + 1)
    orders[o, LEFT] = left
    return n, met


@njit_in_place
def enter(book: Tables, o: int, last: int, flags: int, prices: Int, trades: Int, n: int) -> tuple[int, int, int]:
    """Bring in an order whose row is filled: status, reason, trades so far. ``last`` = deepest level it crosses."""
    orders = book.orders
    whole = flags & (AON | FOK)
    if whole:
        found = _fillable(book, orders[o, AGENT], 1 - orders[o, SIDE], last, orders[o, LEFT])
        if found == _OWN:
            orders[o, STATUS] = KILLED
            return KILLED, _SELF_MATCH, n
        if found == _SHORT and flags & (FOK | IOC):
            orders[o, STATUS] = KILLED
            return KILLED, _NOT_FILLABLE, n
        if found == _SHORT:
            _link(book, o)
            return RESTING, _NONE, n
    n, met = _walk(book, o, last, prices, trades, n)
    if orders[o, LEFT] == 0:
        orders[o, STATUS] = FILLED
        return FILLED, _NONE, n
    if met or flags & (FOK | IOC):
        orders[o, STATUS] = CANCELLED
        return CANCELLED, _SELF_MATCH if met else _UNFILLED, n
    _link(book, o)
    return RESTING, _NONE, n


@njit_in_place
def expire(book: Tables) -> int:
    """Take everything out as expired, best first; the quantity [Wh], bought and sold together."""
    total = 0
    for side in range(2):
        key = next_level(book, side, 0)
        while key >= 0:
            o = book.levels[side, key, HEAD]
            total += book.orders[o, LEFT]
            _unlink(book, o)
            book.orders[o, STATUS] = EXPIRED
            key = next_level(book, side, key)
    return total


@njit(cache=True)
def ranked(book: Tables, side: int) -> Int:
    """The resting orders of a side in rank."""
    found = np.empty(book.own[:, side].sum(), np.int64)
    n, key = 0, next_level(book, side, 0)
    while key >= 0:
        o = book.levels[side, key, HEAD]
        while o >= 0:
            found[n] = o
            n += 1
            o = book.orders[o, NEXT]
        key = next_level(book, side, key + 1)
    return found


@njit_in_place
def replace(
    book: Tables, o: int, e_wh: int, level: int, prices: Int, trades: Int, n: int
) -> tuple[int, int, int]:  # fmt: skip
    """Replace a resting order, ``level`` counted in rising prices: status, reason, trades so far."""
    orders, top = book.orders, book.levels.shape[1] - 1
    if e_wh <= 0:
        _unlink(book, o)
        orders[o, STATUS] = CANCELLED
        return CANCELLED, _REQUESTED, n
    key = level if orders[o, SIDE] == 1 else top - level
    if key == orders[o, KEY] and e_wh <= orders[o, LEFT]:
        if not orders[o, INDIVISIBLE]:
            _account(book, orders[o, SIDE], key, e_wh - orders[o, LEFT], 0)
        orders[o, LEFT] = e_wh
        return RESTING, _KEPT, n
    _unlink(book, o)
    orders[o, LEFT], orders[o, KEY] = e_wh, key
    return enter(book, o, top - key, AON if orders[o, INDIVISIBLE] else 0, prices, trades, n)


@njit_in_place
def submit(
    book: Tables, o: int, agent: int, side: int, e_wh: int, level: int, flags: int, prices: Int, trades: Int, n: int
) -> tuple[int, int, int]:
    """Enter a new order with ``side`` +1 or -1, at ``level`` of rising prices (-1 = at any price, never resting)."""
    orders, top = book.orders, book.levels.shape[1] - 1
    orders[o, LEFT], orders[o, AGENT], orders[o, SIDE] = e_wh, agent, 0 if side > 0 else 1
    orders[o, INDIVISIBLE] = flags & AON
    if level < 0:
        return enter(book, o, top, flags if flags & FOK else flags | IOC, prices, trades, n)
    orders[o, KEY] = level if side < 0 else top - level
    return enter(book, o, top - orders[o, KEY], flags, prices, trades, n)


@njit_in_place
def run_events(kinds: Int, agent: Int, order: Int, side: Int, quantity_wh: Int, price_u: Int, bits: Int, t: Int,
               level: Int, book: Tables, prices: Int, p_min: int, p_max: int, gate: int, has_gate: bool,
               answers: Int, trades: Int) -> int:  # fmt: skip
    """Answer every event.

    The first eight are the columns of `EventColumns`; ``level`` (n,) is the position of the price among the rising
    ``prices`` (-1 = outside the band). ``answers`` (n, 4) takes status, reason, remaining Wh and the number of trades
    made up to and including the event, ``trades`` buyer, seller, Wh and price. Returns the number of trades.
    """
    orders, n, closed, top = book.orders, ZERO, False, book.levels.shape[1] - 1
    for i in range(len(kinds)):
        kind, o, e_wh, price, flags, at = kinds[i], order[i], quantity_wh[i], price_u[i], bits[i], level[i]
        status, reason, remaining = REJECTED, _NONE, 0
        if closed or (has_gate and t[i] >= gate and kind <= _REPLACE):
            reason = _GATED
        elif kind <= _MARKET:
            if orders[o, STATUS]:
                reason = _DUPLICATE
            elif e_wh <= 0:
                reason = _NO_QUANTITY
            elif kind == _LIMIT and price < p_min:
                reason = _BELOW
            elif kind == _LIMIT and price > p_max:
                reason = _ABOVE
            else:
                at = at if kind == _LIMIT else -1
                status, reason, n = submit(book, o, agent[i], side[i], e_wh, at, flags, prices, trades, n)
                remaining = orders[o, LEFT]
        elif kind <= _REPLACE:
            left = 0 if kind == _CANCEL else orders[o, LEFT] if flags & KEEP_E else e_wh
            keep = kind == _CANCEL or left <= 0 or flags & KEEP_P
            if orders[o, STATUS] != RESTING:
                reason = _FINISHED if orders[o, STATUS] else _UNKNOWN
            elif not keep and price < p_min:
                reason = _BELOW
            elif not keep and price > p_max:
                reason = _ABOVE
            else:
                if keep:
                    at = orders[o, KEY] if orders[o, SIDE] == 1 else top - orders[o, KEY]
                status, reason, n = replace(book, o, left, at, prices, trades, n)
                remaining = orders[o, LEFT]
        else:
            closed, status, remaining = True, CLOSED, expire(book)
        answers[i, 0], answers[i, 1], answers[i, 2], answers[i, 3] = status, reason, remaining, n
    return n
