"""Row of the network-constrained market: its own time, prices and payments included, beside that of the solver."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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


def _program(book: Any) -> Any:
    """HiGHS with the feeder as it is usually written: a flow and a voltage per line, all limits as bounds of columns.

    Orders are signed columns (a sale is negative), so that from slot to slot only costs and bounds change.
    """
    import highspy as library

    from market.rules._radial import Radial

    highspy: Any = library  # it has no complete types
    tree = Radial(book.feeder)
    n, m = tree.n, len(book.node)
    flow, drop = m + 1, m + n  # the columns of line j are flow + j and drop + j, j = 1..n-1; two before are the grid's
    balance: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    drops: list[list[tuple[int, float]]] = []
    for j in range(1, n):
        above = int(tree.parent[j])
        balance[j].append((flow + j, 1.0))
        balance[above].append((flow + j, -1.0))
        upper = [(drop + above, -1.0)] if above else []
        drops.append([(drop + j, 1.0), *upper, (flow + j, -float(tree.r[j]))])
    for i, place in enumerate([*(book.feeder.index[x] for x in book.node), 0, 0]):
        balance[place].append((i, -1.0))
    rows = [sorted(row) for row in balance + drops]
    solver = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off")):
        solver.setOptionValue(name, value)
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = drop + n, len(rows)
    program.col_cost_, program.col_lower_, program.col_upper_ = (
        np.zeros(drop + n),
        np.zeros(drop + n),
        np.zeros(drop + n),
    )
    program.row_lower_ = program.row_upper_ = np.zeros(len(rows))
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    program.a_matrix_.index_ = np.array([i for row in rows for i, _ in row], np.int32)
    program.a_matrix_.value_ = np.array([x for row in rows for _, x in row])
    program.sense_ = highspy.ObjSense.kMaximize
    solver.passModel(program)
    return solver


def _slots(book: Any) -> list[tuple[Any, Any, Any]]:
    """Costs and bounds of each slot's program [kWh; micro per kWh in thousandths]."""
    from market.rules._radial import Radial

    tree = Radial(book.feeder)
    limits = tree.limits()
    out = []
    for s in range(len(book.side)):
        signed = book.side[s] * book.e_wh[s]
        flows = limits.cap_wh[1:] / 1000
        low = np.concatenate([np.minimum(signed, 0) / 1000, [-np.inf, 0], -flows, limits.low[1:]])
        high = np.concatenate([np.maximum(signed, 0) / 1000, [0, np.inf], flows, limits.high[1:]])
        price = np.concatenate([book.price_u[s], [book.retail_u[s], book.feed_in_u[s]]]) / 1000
        out.append((np.concatenate([price, np.zeros(len(low) - len(price))]), low, high))
    return out


def _solver_s(solver: Any, slots: list[tuple[Any, Any, Any]]) -> tuple[float, Any]:
    """Seconds of all slots, each from the basis before it: new numbers, run, answer; and the optima [micro]."""
    every = np.arange(len(slots[0][0]), dtype=np.int32)
    optima = []
    start = time.perf_counter()
    for cost, low, high in slots:
        solver.changeColsCost(len(every), every, cost)
        solver.changeColsBounds(len(every), every, low, high)
        solver.run()
        np.array(solver.getSolution().col_value)
        optima.append(solver.getObjectiveValue())
    return time.perf_counter() - start, 1000 * np.array(optima)


def nodal_clearing(folder: Path) -> Outcome:
    """A 100-bus feeder with 100 bidders whose limits bind, over HiGHS on the same programs from warm starts."""
    from market.registry import make_rule

    book = _books()
    rule: Any = make_rule("lindistflow")
    found = rule.clear_batch(book)
    solver, slots = _program(book), _slots(book)
    bound = int((~found.has_price).sum())  # prices differ between nodes
    _, optima = _solver_s(solver, slots)
    welfare = (found.fill_wh * book.side * book.price_u).sum(1) - found.import_wh * book.retail_u
    welfare = (welfare + found.export_wh * book.feed_in_u) / 1000
    if not np.allclose(welfare, optima, rtol=1e-4):  # whole Wh
        raise AssertionError("the rule and the solver do not agree on the optima")
    own = solver_s = float("inf")
    for _ in range(9):  # the machine varies more than the two do: best of each
        start = time.perf_counter()
        rule.clear_batch(book)
        own = min(own, time.perf_counter() - start)
        solver_s = min(solver_s, _solver_s(solver, slots)[0])
    own, solver_s = (1e3 * part / N_SLOTS for part in (own, solver_s))
    return Outcome(
        f"{own / solver_s:.2f} times ({own:.2f} ms a slot)",
        "at most 2 times HiGHS' own warm solve",
        own <= 2 * solver_s,
        f"best of 9; limits bind in {bound} of {N_SLOTS} slots; HiGHS takes its new numbers, runs and gives its answer "
        f"in {solver_s:.2f} ms; both find the same optima",
    )


ROWS = (Row("nodal clearing of a feeder, 100 buses and 100 bidders, over warm HiGHS", nodal_clearing),)
