"""Sessions of a continuous market: every slot's orders enter one after another, and may be quoted anew in rounds.

In round 0 each order of a slot is entered at its price; in each later round every order that still rests is replaced
at its new price, its quantity kept. `session` does so for one slot by the plain `OrderBook`, `clear_rounds` for many
slots at once, compiled; both give the same trades in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import MarketError
from market.book import Book, BookBatch, Context, Int
from market.continuous.events import AON, FLAGS, FOK, IOC, Ack
from market.continuous.order_book import OrderBook
from market.crossing import tie_hash
from market.orders import Order, Side
from market.result import BatchClearing, Exact, Trade, TradeBatch
from market.rules.by_slot import exact_column
from market.terms import Terms

ARRIVALS = ("book", "random")
ROUND_KEY = 0x9E3779B97F4A7C15
"""Times the round, xor the order's key, enters the keyed order of arrival; round 0 has the order's own key."""

_MASK = 2**64 - 1
_SAFE = 2**62


@dataclass(frozen=True, slots=True)
class Session:
    """A slot's book after its last round, the answers by round in order of arrival, and the trades as they came."""

    book: OrderBook
    acks: list[list[Ack]]
    trades: list[Trade]


def arrivals(book: Book, slot: int, arrival: str, seed: int, update: int) -> list[int]:
    """Positions of a book's orders in order of arrival: by (t, seq, id), or ``random`` by a keyed hash."""
    if arrival == "random":
        shift = (update * ROUND_KEY) & _MASK
        keys = [tie_hash(seed, slot, key ^ shift) for key in book.order_key]
        return sorted(range(len(book)), key=lambda i: (keys[i], book.id_rank[i]))
    return sorted(range(len(book)), key=lambda i: (book.t[i], book.seq[i], book.id_rank[i]))


def market_limit(side: int, band: tuple[int | None, int | None], own: Terms | None) -> int | None:
    """Up to where a market order goes: the band's end, or its agent's ceiling or floor where that is tighter.

    None = any price.
    """
    low, high = band
    term = None if own is None else own.ceiling_u if side > 0 else own.floor_u
    given = [x for x in (high if side > 0 else low, term) if x is not None]
    return (min(given) if side > 0 else max(given)) if given else None


def session(
    book: Book, context: Context, quotes: Sequence[Sequence[int]], *, arrival: str = "book", seed: int = 0
) -> Session:
    """Play one slot.

    Parameters
    ----------
    book, context
        Orders of the slot (their prices are not looked at), and its band.
    quotes
        Of each round the price of every order [micro-currency per kWh], by position in the book.
    arrival, seed
        In which order orders come in each round, see `arrivals`.
    """
    p_min, p_max = context.band
    market = OrderBook(p_min_u=p_min, p_max_u=p_max)
    acks: list[list[Ack]] = []
    flags = book.flags or (frozenset(),) * len(book)
    for update, prices in enumerate(quotes):
        answers: list[Ack] = []
        for i in arrivals(book, context.slot, arrival, seed, update):
            if not update:
                order = Order(
                    order_id=book.order_ids[i], agent_id=book.agent_ids[i], side=Side(book.side[i]),
                    e_wh=book.e_wh[i], price_u=prices[i], flags=flags[i],
                )  # fmt: skip
                answers.append(market.submit(_within_terms(order, context)))
            else:
                answers.append(market.replace(book.order_ids[i], price_u=prices[i]))
        acks.append(answers)
    trades = [trade for answers in acks for ack in answers for trade in ack.trades]
    return Session(market, acks, trades)


def _within_terms(order: Order, context: Context) -> Order:
    """A market order of an agent with terms goes no further than these; others are bound by their own prices."""
    limit = market_limit(order.side, context.band, context.terms.get(order.agent_id))
    if "market" not in order.flags or order.agent_id not in context.terms or limit is None:
        return order
    return replace(order, price_u=limit, flags=(order.flags - {"market"}) | {"ioc"})


def clear_rounds(batch: BookBatch, price_u: Int, *, arrival: str = "random", seed: int = 0) -> BatchClearing:
    """Play R rounds of quotes in every slot of a batch, compiled.

    Parameters
    ----------
    batch
        Orders (S, N); ``batch.price_u`` is not looked at. A batch carries no band: market orders trade at any price
        that their members' terms allow. Limits are the caller's: quotes have to be within their members' terms.
        Orders with ``ioc``, ``fok`` or ``market`` take part in the first round only.
    price_u
        (R, S, N) quotes [micro-currency per kWh].
    arrival, seed
        ``random``: in each slot and round another order of arrival, by a keyed hash of seed, slot, order id and round.
        ``book``: by (t, seq, id) in every round.

    Returns
    -------
    BatchClearing
        With trades, by slot and in each slot as they were made, each at the resting order's price.

    Raises
    ------
    MarketError
        For prices that are not whole or do not fit the batch, an unknown arrival, and a retailer in the book.
    """
    if price_u.dtype.kind not in "iu" or price_u.ndim != 3 or price_u.shape[1:] != batch.side.shape:
        raise MarketError(
            f"price_u has shape {price_u.shape} and type {price_u.dtype}",
            remedy=f"give whole prices of shape (n_rounds, {batch.n_slots}, {batch.n_orders})",
        )
    if arrival not in ARRIVALS:
        raise MarketError(f"arrival is {arrival!r}", remedy=f"choose one of {', '.join(ARRIVALS)}")
    if batch.in_book:
        raise MarketError("the retailer cannot stand in the continuous market", remedy="use backstop 'after'")
    energy = int(batch.e_wh.max(initial=0)) * (batch.n_orders + 1)
    price = max(abs(int(price_u.max(initial=0))), abs(int(price_u.min(initial=0))), 1)
    if energy * price >= _SAFE:
        return _by_slot(batch, price_u, arrival, seed)
    return _compiled(batch, price_u, arrival, seed)


def _compiled(batch: BookBatch, price_u: Int, arrival: str, seed: int) -> BatchClearing:
    from market.continuous._rounds_kernel import run_rounds
    from market.continuous.kernel import make_tables

    n_slots, n = batch.n_slots, batch.n_orders
    random = arrival == "random"
    first = np.lexsort((batch.order_rank,)) if random else np.lexsort((batch.order_rank, batch.seq, batch.t))
    bits = _bits(batch)
    price_u = _market_prices(batch, price_u, bits)
    fill: Int = np.zeros((n_slots, n), np.int64)
    pay: Int = np.zeros((n_slots, n), np.int64)
    member = np.unique(batch.member, return_inverse=True)[1].astype(np.int64)
    table = make_tables(n, price_u.shape[0] * n, 1 + int(member.max(initial=0)))
    rows = run_rounds(
        np.ascontiguousarray(batch.side, np.int8), np.ascontiguousarray(batch.e_wh, np.int64),
        np.ascontiguousarray(price_u, np.int64), member,
        bits & ~MARKET, first.astype(np.int64), batch.keys() if random else np.zeros(n, np.uint64),
        table, np.uint64(seed), batch.first_slot, random, fill, pay,
    )  # fmt: skip
    return _clearing(batch, fill, pay, _trades(rows))


def _market_prices(batch: BookBatch, price_u: Int, bits: Int) -> Int:
    """Quotes with market orders at their limits, or beyond every price where they have none; they never rest."""
    columns = [int(i) for i in np.flatnonzero((bits > 0) & ((bits & MARKET) > 0))]
    if columns:
        price_u = price_u.astype(np.int64)
    for i in columns:
        own = None if batch.agent_ids is None else batch.terms.get(batch.agent_ids[int(batch.member[i])])
        for side in (1, -1):
            limit = market_limit(side, (None, None), own)
            price_u[:, batch.side[:, i] == side, i] = side * _SAFE if limit is None else limit
        bits[i] |= 0 if bits[i] & FOK else IOC
    return price_u


def _trades(rows: Int) -> TradeBatch:
    """Columns of rows (slot, buyer, seller, Wh, price, 1)."""
    return TradeBatch(*(np.ascontiguousarray(rows[:, c]) for c in range(6)))


def _clearing(batch: BookBatch, fill: Int, pay: Exact, trades: TradeBatch) -> BatchClearing:
    none = np.zeros(batch.n_slots, np.int64)
    return BatchClearing(
        fill_wh=fill,
        price_num=none,
        price_den=np.ones(batch.n_slots, np.int64),
        has_price=np.zeros(batch.n_slots, np.bool_),
        pay_num=pay,
        pay_den=np.full(batch.n_slots, 1000, np.int64),
        trades=trades,
        kind="bilateral",
        import_wh=none.copy(),
        export_wh=none.copy(),
        retailer_num=none.copy(),
    )


MARKET, REFUSED = 32, -1
"""Beside the bits of `EventColumns.flags`: a market order, and an order with a flag that is not known here."""


def _bits(batch: BookBatch) -> Int:
    """(N,) flags of each order column as bits."""
    values = {"aon": AON, "ioc": IOC, "fok": FOK, "market": MARKET}
    if batch.flags is None:
        return np.zeros(batch.n_orders, np.int64)
    rows = [REFUSED if set(flags) - FLAGS else sum(values[flag] for flag in flags) for flags in batch.flags]
    return np.array(rows, np.int64)


def _by_slot(batch: BookBatch, price_u: Int, arrival: str, seed: int) -> BatchClearing:
    """The slow road: numbers that are not proven to fit 64 bits, slot by slot through `session`."""
    fill = np.zeros((batch.n_slots, batch.n_orders), np.int64)
    pay = [0] * (batch.n_slots * batch.n_orders)
    rows: list[tuple[int, ...]] = []
    for s in range(batch.n_slots):
        book, context, columns = batch.row(s)
        quotes = [[int(prices[s, c]) for c in columns] for prices in price_u]
        where = dict(zip(book.order_ids, columns, strict=True))
        for trade in session(book, context, quotes, arrival=arrival, seed=seed).trades:
            buy, sell = where[trade.buy_id], where[trade.sell_id]
            amount = trade.price_u.numerator * trade.e_wh
            fill[s, buy] += trade.e_wh
            fill[s, sell] += trade.e_wh
            pay[s * batch.n_orders + buy] += amount
            pay[s * batch.n_orders + sell] -= amount
            rows.append((s, buy, sell, trade.e_wh, trade.price_u.numerator, 1))
    table = np.array(rows, np.int64).reshape(-1, 6)
    return _clearing(batch, fill, exact_column(pay, fill.shape), _trades(table))
