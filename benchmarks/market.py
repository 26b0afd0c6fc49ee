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


def cooperative(folder: Path) -> Outcome:
    """The Shapley value of a slot: exact for 15 members by enumeration, sampled for 200."""
    from core.keyed_random import keyed_generator
    from market import share
    from market.rules._coalitions import shapley_value

    rng = keyed_generator(0, "shapley benchmark")
    nets = [int(n) for n in rng.integers(-3000, 3000, 200)]

    def cost(coalition: int) -> int:
        net = sum(n for i, n in enumerate(nets[:15]) if coalition >> i & 1)
        return 320_000 * net if net > 0 else 80_000 * net

    costs = [cost(c) for c in range(2**15)]
    exact_s = _best_s(lambda: shapley_value(costs), 1)
    members = {f"m{i:03d}": n for i, n in enumerate(nets)}
    found: list[Any] = []
    sampled_s = _best_s(lambda: found.append(share("shapley", members, 320_000, 80_000)), 1)
    worth = sum(abs(float(v)) for v in found[-1].standalone_u.values()) / len(members)
    half = max(float(h) for h in found[-1].diagnostics["half_width_u"].values())
    return Outcome(
        f"{exact_s:.2f} s; {sampled_s:.2f} s to {100 * half / worth:.1f} %",
        "5 s; 60 s to 2 %",
        exact_s <= 5 and sampled_s <= 60 and half <= 0.02 * worth,
        "n = 15 over all 32,768 coalitions of any game; n = 200 sampled: half the widest 95 % interval, mean bill 1",
    )


ROWS = (
    Row("call auction: 1,000 orders over an argsort", call_auction),
    Row("call auction: 10,000 orders", large_book),
    Row("call auction: a year of 100 participants", year_of_books),
    Row("Shapley value: 15 members exactly, 200 sampled", cooperative),
)
