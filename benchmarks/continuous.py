"""Speed of the continuous double auction: compiled events per second, and how much faster than the plain reference."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.row import Outcome, Row
from market.continuous import EventColumns, OrderBook, replay
from market.continuous.events import AON, FOK, IOC, KEEP_E, KEEP_P, Kind

BAND = (80_000, 300_000)
TARGET = 300_000  # order events per second


def event_stream(
    n: int, *, seed: int = 0, agents: int = 200, tick_u: int = 100, all_types: bool = True
) -> EventColumns:
    """A stream of all kinds of events on one slot's book around a price that wanders.

    Of 100 events 63 are limit orders (of them 8 IOC, 5 FOK and 5 all-or-nothing, overlapping), 5 market orders, 18
    cancels and 14 replaces, these two of one of the last 2000 orders, which may be finished; few events are unusable.
    """
    rng = np.random.default_rng(seed)
    kinds = [Kind.LIMIT, Kind.MARKET, Kind.CANCEL, Kind.REPLACE]
    kind = rng.choice(kinds, n, p=[0.63, 0.05, 0.18, 0.14]).astype(np.int64)
    new = kind <= Kind.MARKET
    entered = np.cumsum(new)
    order = entered - 1
    back = np.minimum(rng.geometric(1 / 500, n), 2000)
    order = np.where(new, order, np.maximum(entered - back, 0))
    side = np.where(rng.random(n) < 0.5, 1, -1)
    middle = 190_000 + np.cumsum(rng.normal(0, 10 * tick_u, n))
    middle = np.clip(middle, BAND[0] + 20_000, BAND[1] - 20_000)
    # most orders stand a little behind the middle, some cross it
    price = middle - side * rng.normal(60 * tick_u, 60 * tick_u, n)
    price_u = (np.round(price / tick_u) * tick_u).astype(np.int64)
    flags = np.zeros(n, np.int64)
    if all_types:
        for bit, share in ((IOC, 0.08), (FOK, 0.05), (AON, 0.05)):
            flags |= np.where(rng.random(n) < share, bit, 0)
    keeps = np.where(rng.random(n) < 0.3, KEEP_E, 0) | np.where(rng.random(n) < 0.4, KEEP_P, 0)
    return EventColumns(
        kind=kind,
        agent=rng.integers(0, agents, n),
        order=order.astype(np.int64),
        side=side.astype(np.int64),
        e_wh=rng.integers(1, 5_000, n),
        price_u=price_u,
        flags=np.where(kind == Kind.REPLACE, keeps, flags),
        t=np.arange(n, dtype=np.int64),
    )


def order_events(folder: Path) -> Outcome:
    """Order events per second of the compiled path, all order types, beside the plain reference on the same stream."""
    low, high = BAND
    stream, short = event_stream(1_000_000), event_stream(50_000)
    replay(short, p_min_u=low, p_max_u=high)  # compiles
    fast, plain = [], []
    for _ in range(3):
        start = time.process_time()
        found = replay(stream, p_min_u=low, p_max_u=high)
        fast.append(len(stream) / (time.process_time() - start))
        events, book = short.events(), OrderBook(p_min_u=low, p_max_u=high)
        start = time.process_time()
        for event in events:
            book.apply(event)
        plain.append(len(short) / (time.process_time() - start))
    best, reference = sorted(fast)[1], sorted(plain)[1]
    return Outcome(
        f"{best / 1e6:.1f} million events/s; {best / reference:.0f} times the plain reference",
        f"at least {TARGET / 1e6:.1f} million events/s on one core",
        best >= TARGET,
        f"median of 3; 1,000,000 events of all kinds, {len(found.e_wh):,} trades; reference {reference:,.0f} events/s",
    )


ROWS = (Row("continuous double auction: order events", order_events),)
