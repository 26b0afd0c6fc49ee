"""Rows of the call markets: one large book, and a year of small ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Outcome, Row


def _best_s(step: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs [s], after one that compiles."""
    step()
    shortest = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def _books(n_orders: int, n_slots: int = 1) -> Any:
    from market.book import BookBatch

    rng = np.random.default_rng(0)
    shape = (n_slots, n_orders)
    return BookBatch(
        side=rng.choice([-1, 1], shape).astype(np.int8),
        e_wh=rng.integers(1, 5000, shape),
        price_u=rng.integers(80_000, 320_000, shape),
        member=np.arange(n_orders, dtype=np.int32),
        t=np.arange(n_orders),
        seq=np.zeros(n_orders, np.int64),
        order_rank=np.arange(n_orders),
    )


def call_auction(folder: Path) -> Outcome:
    """A book of 1,000 orders as columns, beside sorting its prices once."""
    from market.registry import make_rule

    rule, book = make_rule("uniform_price"), _books(1000)
    sort_s = _best_s(lambda: np.argsort(book.price_u[0]), 300)
    clear_s = _best_s(lambda: rule.clear_batch(book), 300)  # type: ignore[attr-defined]
    budget_s = 3 * sort_s + 20e-6
    return Outcome(
        f"{clear_s * 1e6:.0f} us = {clear_s / sort_s:.1f} argsorts of {sort_s * 1e6:.0f} us",
        f"3 argsorts and 20 us: {budget_s * 1e6:.0f} us",
        clear_s <= budget_s,
        "uniform_price, fills, payments and price of every order; best of 300",
    )


def large_book(folder: Path) -> Outcome:
    """10,000 orders: as columns, and through the facade with every mapping by id."""
    from market import Order, Side, clear
    from market.registry import make_rule

    rule, book = make_rule("uniform_price"), _books(10_000)
    orders = [
        Order(
            order_id=f"o{i}",
            agent_id=f"a{i}",
            side=Side(int(book.side[0, i])),
            e_wh=int(book.e_wh[0, i]),
            price_u=int(book.price_u[0, i]),
            t=i,
        )
        for i in range(10_000)
    ]
    columns_s = _best_s(lambda: rule.clear_batch(book), 50)  # type: ignore[attr-defined]
    facade_s = _best_s(lambda: clear("uniform_price", orders), 10)
    return Outcome(
        f"{columns_s * 1e3:.2f} ms as columns, {facade_s * 1e3:.0f} ms from Order objects to every mapping",
        "10 ms, 60 ms",
        columns_s <= 0.010 and facade_s <= 0.060,
        "uniform_price; the facade admits the orders, clears, builds fills and payments by id, checks the laws",
    )


def year_of_books(folder: Path) -> Outcome:
    """A year of 100 participants, compiled."""
    from market.registry import make_rule

    rule, book = make_rule("uniform_price"), _books(100, 35_136)
    seconds = _best_s(lambda: rule.clear_batch(book), 3)  # type: ignore[attr-defined]
    return Outcome(f"{seconds:.2f} s", "1 s", seconds <= 1.0, "35,136 books of 100 orders, uniform_price, one core")


ROWS = (
    Row("call auction: 1,000 orders over an argsort", call_auction),
    Row("call auction: 10,000 orders", large_book),
    Row("call auction: a year of 100 participants", year_of_books),
)
