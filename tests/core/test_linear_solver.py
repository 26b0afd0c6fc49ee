"""The solver of small programs: optima, what it says without one, and no memory of what came before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core import PeerwattError
from core.linear_solver import EqualityProgram, EqualitySolver


def chain(seed: int, n: int = 30) -> EqualityProgram:
    """Buy x_t at a random price, up to 1, and store it (s_t, up to 2) to serve 0.4 in each slot, or pay 9 (g_t)."""
    rng = np.random.default_rng(seed)
    rows = np.arange(n, dtype=np.int32)
    last = n - 1
    stored = [np.array([t, t + 1] if t < last else [t], np.int32) for t in range(n)]
    return EqualityProgram(
        cost=np.concatenate([rng.uniform(0, 1, n).round(1), np.zeros(n), np.full(n, 9.0)]),
        lower=np.zeros(3 * n),
        upper=np.concatenate([np.ones(n), np.full(n, 2.0), np.full(n, np.inf)]),
        start=np.concatenate([np.arange(n), n + 2 * np.arange(n), 3 * n - 1 + np.arange(n + 1)]).astype(np.int32),
        index=np.concatenate([rows, *stored, rows]),
        value=np.concatenate([np.ones(n), *([[-1.0, 1.0]] * last), [-1.0], np.ones(n)]),
        rhs=np.full(n, 0.4),
        basic=np.repeat([False, False, True], n),
    )  # fmt: skip


def answer(solver: EqualitySolver, program: EqualityProgram, *, warm: bool = True) -> tuple[bytes, ...]:
    solver.load(program, warm=warm)
    found = solver.solve(column_duals=True)
    assert found.optimal
    return found.x.tobytes(), found.row_dual.tobytes(), found.column_dual.tobytes()


def test_nothing_before_has_a_say_in_the_next() -> None:
    programs = [chain(seed) for seed in range(12)]
    fresh = [answer(EqualitySolver(), program) for program in programs]
    solver = EqualitySolver()
    assert [answer(solver, program) for program in programs] == fresh
    assert [answer(solver, program) for program in reversed(programs)] == fresh[::-1]


def test_cold_and_warm_cost_the_same_and_changes_take_effect() -> None:
    solver, program = EqualitySolver(), chain(5)
    solver.load(program)
    warm = solver.solve()
    solver.load(program, warm=False)
    assert solver.solve().objective == pytest.approx(warm.objective, rel=1e-12)
    assert np.isnan(warm.column_dual).all()
    solver.set_costs(program.cost * 2)
    assert solver.solve(primal=True).objective == pytest.approx(2 * warm.objective)
    upper = program.upper.copy()
    upper[:60] = 0.0  # nothing to buy or to store: all comes at 9
    solver.set_bounds(program.lower, upper)
    assert solver.solve().objective == pytest.approx(2 * 9 * 0.4 * 30)


def test_without_a_solution_it_says_so() -> None:
    solver, program = EqualitySolver(), chain(5)
    solver.load(replace(program, upper=np.zeros(90)))
    found = solver.solve()
    assert found.status == "infeasible"
    assert np.isnan(found.x).all()


def test_nonsense_is_refused() -> None:
    with pytest.raises(PeerwattError, match="refuses"):
        EqualitySolver().load(replace(chain(1), index=np.full(119, 99, np.int32)))
