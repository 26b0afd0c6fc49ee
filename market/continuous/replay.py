"""Whole streams of events at once: `replay` answers columns of events by the compiled kernel."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.continuous.events import KEEP_P, Ack, EventColumns, Kind, Reason, Status
from market.result import Trade

Int = NDArray[np.int64]

SAFE_WH = 2.0**61
"""The compiled path sums quantities in 64 bits; beyond this total it refuses, and `OrderBook` has to do the work."""

_OPEN = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class EventOutcome:
    """Answers to n events, and the book after the last.

    Parameters
    ----------
    status, reason
        (n,) of each event, see `Status` and `Reason`.
    remaining_wh
        (n,) as in `Ack` [Wh].
    first_trade
        (n + 1,): the trades of event i are rows ``first_trade[i]`` to ``first_trade[i + 1]``.
    buy_order, sell_order, e_wh, price_u
        Of every trade, in the order in which they were made: order indices, [Wh], [micro-currency per kWh].
    order_status, order_left_wh
        (n_orders,) where each order stands in the end (0 = never taken in), and its remainder as in `OrderState`.
    buys, sells
        Indices of the orders that rest in the end, in rank.
    """

    status: Int
    reason: Int
    remaining_wh: Int
    first_trade: Int
    buy_order: Int
    sell_order: Int
    e_wh: Int
    price_u: Int
    order_status: Int
    order_left_wh: Int
    buys: Int
    sells: Int

    def ack(self, columns: EventColumns, i: int) -> Ack:
        """The answer to event i as `OrderBook` gives it."""
        trades = tuple(
            Trade(
                columns.order_name(int(self.buy_order[k])),
                columns.order_name(int(self.sell_order[k])),
                int(self.e_wh[k]),
                Fraction(int(self.price_u[k])),
            )
            for k in range(int(self.first_trade[i]), int(self.first_trade[i + 1]))
        )
        name = "" if columns.kind[i] == Kind.GATE else columns.order_name(int(columns.order[i]))
        return Ack(name, Status(self.status[i]), Reason(self.reason[i]), int(self.remaining_wh[i]), trades)


def replay(
    columns: EventColumns, *, p_min_u: int | None = None, p_max_u: int | None = None, gate_t: int | None = None
) -> EventOutcome:
    """Answer a stream of events from an empty book; the answers are those of `OrderBook`, event for event.

    Parameters
    ----------
    columns
        The events in order of arrival.
    p_min_u, p_max_u, gate_t
        As for `OrderBook`.

    Returns
    -------
    EventOutcome

    Raises
    ------
    MarketError
        If the band is empty, or all quantities together do not fit 64 bits.
    """
    if p_min_u is not None and p_max_u is not None and p_min_u > p_max_u:
        raise MarketError(f"the band {p_min_u}..{p_max_u} is empty", remedy="give p_min_u <= p_max_u")
    if float(np.maximum(columns.e_wh, 0).sum(dtype=np.float64)) >= SAFE_WH:
        raise MarketError("the quantities together do not fit 64 bits", remedy="use OrderBook for this stream")
    from market.continuous.kernel import LEFT, STATUS, make_tables, ranked, run_events

    low, high = _clipped(p_min_u, -_OPEN - 1), _clipped(p_max_u, _OPEN)
    prices, level = _levels(columns, low, high)
    entries = int(np.count_nonzero((columns.kind <= Kind.MARKET) | (columns.kind == Kind.REPLACE)))
    answers = np.empty((len(columns), 4), np.int64)
    trades = np.empty((2 * entries + 1, 4), np.int64)  # each trade uses up an entry or a resting one
    book = make_tables(columns.n_orders, len(prices), columns.n_agents)
    c = columns
    made = run_events(
        c.kind, c.agent, c.order, c.side, c.e_wh, c.price_u, c.flags, c.t, level, book, prices, low, high,
        _clipped(gate_t, 0), gate_t is not None, answers, trades,
    )  # fmt: skip
    first = np.zeros(len(columns) + 1, np.int64)
    first[1:] = answers[:, 3]
    return EventOutcome(
        status=answers[:, 0],
        reason=answers[:, 1],
        remaining_wh=answers[:, 2],
        first_trade=first,
        buy_order=trades[:made, 0],
        sell_order=trades[:made, 1],
        e_wh=trades[:made, 2],
        price_u=trades[:made, 3],
        order_status=book.orders[:, STATUS],
        order_left_wh=book.orders[:, LEFT],
        buys=ranked(book, 0),
        sells=ranked(book, 1),
    )


def _clipped(value: int | None, default: int) -> int:
    """A bound within 64 bits; one beyond them bounds nothing more than the last number within."""
    return default if value is None else max(-_OPEN - 1, min(_OPEN, int(value)))


def _levels(columns: EventColumns, low: int, high: int) -> tuple[Int, Int]:
    """Every price that may ever rest, rising, and the position of each event's price among them (-1 = none)."""
    p = columns.price_u
    priced = (columns.kind == Kind.LIMIT) | ((columns.kind == Kind.REPLACE) & ((columns.flags & KEEP_P) == 0))
    priced &= (p >= low) & (p <= high)
    prices = np.unique(p[priced])
    level = np.full(len(columns), -1, np.int64)
    level[priced] = np.searchsorted(prices, p[priced])
    return prices, level
