"""Row of the network-constrained market: its own time beside that of the solver on the very same programs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.row import Outcome, Row

N_BUSES, N_BIDDERS, N_SLOTS = 100, 100, 200


def _books() -> Any:
    """A random feeder of low voltage with limits that bind, and a new book of all bidders in every slot."""
    from market.book import BookBatch
    from market.feeder import Feeder

    rng = np.random.default_rng(0)
    n, m, s = N_BUSES, N_BIDDERS, N_SLOTS
    feeder = Feeder(
        nodes=tuple(f"n{j}" for j in range(n)),
        parent=np.array([-1] + [int(rng.integers(max(0, j - 6), j)) for j in range(1, n)]),
        r_pu=np.r_[0, rng.uniform(1e-4, 3e-4, n - 1)],
        x_pu=np.r_[0, rng.uniform(0.5e-4, 1.5e-4, n - 1)],
        cap_pu=np.r_[np.inf, np.full(n - 1, 6.0)],
        v_min_pu=0.995,
        v_max_pu=1.005,
        slot_h=0.25,
    )
    return BookBatch(
        side=rng.choice([-1, 1], (s, m)).astype(np.int8),
        e_wh=rng.integers(50, 1500, (s, m)),
        price_u=rng.integers(80_000, 300_000, (s, m)),
        member=np.arange(m, dtype=np.int32),
        t=np.zeros(m, np.int64),
        seq=np.zeros(m, np.int64),
        order_rank=np.arange(m),
        retail_u=np.full(s, 300_000),
        feed_in_u=np.full(s, 80_000),
        node=tuple(f"n{1 + i % (n - 1)}" for i in range(m)),
        feeder=feeder,
    )


def _programs(book: Any) -> tuple[Any, list[tuple[Any, Any, Any]]]:
    """The first program as the rule makes it, and costs and bounds of each slot's."""
    from core.linear_program import LinearProgram
    from market.rules._nodal import NodalProgram

    made: list[tuple[Any, ...]] = []
    slots: list[tuple[Any, Any, Any]] = []
    solve = NodalProgram.solve

    def listen(program: NodalProgram, slot: Any, limits: Any, **options: Any) -> Any:
        cost = np.zeros(program.columns)
        cost[: len(program.node)] = slot.price_u / 1000.0 + slot.tilt
        low, high = program.bounds(slot, limits)
        if not made:
            made.append((cost, low, high, *program.rows, *program.row_bounds(slot, limits)))
        slots.append((cost, low, high))
        return solve(program, slot, limits, **options)

    from market.registry import make_rule

    with patch.object(NodalProgram, "solve", listen):
        make_rule("lindistflow").clear_batch(book)  # type: ignore[attr-defined]
    return LinearProgram(*made[0], maximise=True), slots


def _solver_s(program: Any, slots: list[tuple[Any, Any, Any]]) -> tuple[float, float]:
    """Seconds of all slots, each from the basis before it: with its new numbers, and of the solver's run alone."""
    total = alone = 0.0
    solver = program._solver  # noqa: SLF001 - nothing of ours shall stand between
    every = np.arange(len(slots[0][0]), dtype=np.int32)
    for cost, low, high in slots:
        start = time.perf_counter()
        solver.changeColsCost(len(every), every, cost)
        solver.changeColsBounds(len(every), every, low, high)
        middle = time.perf_counter()
        solver.run()
        alone += time.perf_counter() - middle
        np.array(solver.getSolution().col_value)
        total += time.perf_counter() - start
    return total, alone


def nodal_clearing(folder: Path) -> Outcome:
    """A 100-bus feeder with 100 bidders whose limits bind, over HiGHS on the same programs from warm starts."""
    from market.registry import make_rule

    book = _books()
    rule: Any = make_rule("lindistflow")
    program, slots = _programs(book)
    found = rule.clear_batch(book)
    bound = int((~found.has_price).sum())  # prices differ between nodes
    own = solver = alone = float("inf")
    for _ in range(9):  # the machine varies more than the two do: best of each
        start = time.perf_counter()
        rule.clear_batch(book)
        own = min(own, time.perf_counter() - start)
        both, run = _solver_s(program, slots)
        solver, alone = min(solver, both), min(alone, run)
    own, solver, alone = (1e3 * part / N_SLOTS for part in (own, solver, alone))
    return Outcome(
        f"{own / solver:.2f} times ({own:.2f} ms a slot)",
        "at most 2 times HiGHS' own warm solve",
        own <= 2 * solver,
        f"best of 9; limits bind in {bound} of {N_SLOTS} slots; HiGHS takes its new numbers, runs and gives its answer "
        f"in {solver:.2f} ms, its run alone {alone:.2f} ms",
    )


ROWS = (Row("nodal clearing of a feeder, 100 buses and 100 bidders, over warm HiGHS", nodal_clearing),)
