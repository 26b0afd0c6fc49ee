"""A solver (HiGHS) that takes one small linear program after another, each from a basis that is told to it; and one for
programs in which some columns are whole.

Nothing of a program before has a say in the next: the same program gives the same bytes, alone or among others, in any
order, on any thread. Source: Q. Huangfu & J. A. J. Hall (2018), Math. Program. Comput. 10, 119-142,
doi:10.1007/s12532-017-0130-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import PeerwattError
from core.linear_program import LpSolution

Float = NDArray[np.float64]
Index = NDArray[np.int32]

DEVEX = 1
DUAL, PRIMAL = 1, 4
COLUMNWISE, MINIMISE = 1, 1


@dataclass(frozen=True, slots=True)
class EqualityProgram:
    """``min cost x``, ``A x = rhs``, ``lower <= x <= upper``: n columns, m rows.

    Parameters
    ----------
    cost, lower, upper
        (n,) columns.
    start, index, value
        A by columns (CSC): entries of column j are ``start[j]:start[j + 1]``.
    rhs
        (m,) right-hand sides.
    basic
        (n,) bool, m of them true: the columns of the basis to start from.
    """

    cost: Float
    lower: Float
    upper: Float
    start: Index
    index: Index
    value: Float
    rhs: Float
    basic: NDArray[np.bool_]


class EqualitySolver:
    """Solves one `EqualityProgram` after another; `set_costs` and `set_bounds` change the last and keep its basis."""

    def __init__(self) -> None:
        import highspy as library

        self._highs: Any = library  # it has no complete types
        self._solver: Any = self._highs.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),  # the same bytes on every machine
            ("random_seed", 0),
            ("presolve", "off"),
            ("simplex_scale_strategy", 0),  # tolerances mean what they say
            ("simplex_dual_edge_weight_strategy", DEVEX),  # steepest edge would first work out its weights
            ("primal_feasibility_tolerance", 1e-9),
            ("dual_feasibility_tolerance", 1e-9),
        ):
            self._solver.setOptionValue(name, value)
        self._every = np.zeros(0, np.int32)
        self._rows = 0

    def load(self, program: EqualityProgram, *, warm: bool = True) -> None:
        """Take a program in place of the last; ``warm``: start from its basis, else from that of the rows.

        Raises
        ------
        PeerwattError
            If its numbers or shapes are refused.
        """
        n, m = len(program.cost), len(program.rhs)
        self._every, self._rows = np.arange(n, dtype=np.int32), m
        status = self._solver.passModel(
            n, m, len(program.value), COLUMNWISE, MINIMISE, 0.0, program.cost, program.lower, program.upper,
            program.rhs, program.rhs, program.start, program.index, program.value, np.zeros(n, np.int32),
        )  # fmt: skip
        if status == self._highs.HighsStatus.kError:
            raise PeerwattError("the solver refuses the linear program", remedy="check its shapes and numbers")
        if warm:
            self._solver.setBasis(self._basis(program.basic))

    def _basis(self, basic: NDArray[np.bool_]) -> Any:
        kinds = self._highs.HighsBasisStatus
        basis = self._highs.HighsBasis()
        basis.col_status = [kinds.kBasic if b else kinds.kLower for b in basic.tolist()]
        basis.row_status = [kinds.kLower] * self._rows
        basis.valid, basis.alien = True, False
        return basis

    def set_costs(self, cost: Float) -> None:
        """(n,) new costs."""
        self._solver.changeColsCost(len(cost), self._every, cost)

    def set_bounds(self, lower: Float, upper: Float) -> None:
        """(n,) new bounds of the columns."""
        self._solver.changeColsBounds(len(lower), self._every, lower, upper)

    def solve(self, *, primal: bool = False, column_duals: bool = False) -> LpSolution:
        """Solve from the basis at hand, by the dual simplex or, where that basis keeps all bounds, by the primal.

        Without ``column_duals`` those are NaN and not fetched.
        """
        self._solver.setOptionValue("simplex_strategy", PRIMAL if primal else DUAL)
        self._solver.run()
        status = self._solver.getModelStatus()
        kinds = self._highs.HighsModelStatus
        if status != kinds.kOptimal:
            nothing = np.full(len(self._every), np.nan)
            name = "infeasible" if status == kinds.kInfeasible else str(status)
            return LpSolution(name, nothing, float("nan"), np.full(self._rows, np.nan), nothing)
        found = self._solver.getSolution()
        return LpSolution(
            "optimal",
            np.array(found.col_value, np.float64),
            float(self._solver.getObjectiveValue()),
            np.array(found.row_dual, np.float64),
            np.array(found.col_dual, np.float64) if column_duals else np.full(len(self._every), np.nan),
        )


@dataclass(frozen=True, slots=True)
class MixedSolution:
    """Outcome of `solve_mixed`.

    ``status`` ``optimal``, ``limit`` (of nodes, before the optimum was proven), ``infeasible`` or what the solver
    says; ``x`` (n,) the best point found, NaN if none; ``objective`` there, infinite if none; ``bound`` below which
    none lies.
    """

    status: str
    x: Float
    objective: float
    bound: float


def solve_mixed(program: EqualityProgram, whole: NDArray[np.bool_], *, nodes: int, gap: float) -> MixedSolution:
    """Solve a program whose columns ``whole`` (n,) are integers, by branch and bound; its starting basis is not used.

    Stops when ``gap`` (in units of the objective) is proven, or after ``nodes`` nodes; never by the clock, so the same
    program gives the same bytes.

    Raises
    ------
    PeerwattError
        If its numbers or shapes are refused.
    """
    import highspy as library

    highs: Any = library
    solver: Any = highs.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 0),
        ("mip_feasibility_tolerance", 1e-7),  # finer ones have been seen to lose optima
        ("mip_rel_gap", 0.0),
        ("mip_abs_gap", gap),
        ("mip_max_nodes", nodes),
        ("mip_allow_restart", False),  # in programs of some hundred columns these four cost more than they save
        ("mip_heuristic_run_rins", False),
        ("mip_heuristic_run_rens", False),
        ("mip_pscost_minreliable", 4),
    ):
        solver.setOptionValue(name, value)
    n, m = len(program.cost), len(program.rhs)
    status = solver.passModel(
        n, m, len(program.value), COLUMNWISE, MINIMISE, 0.0, program.cost, program.lower, program.upper, program.rhs,
        program.rhs, program.start, program.index, program.value, whole.astype(np.int32),
    )  # fmt: skip
    if status == highs.HighsStatus.kError:
        raise PeerwattError("the solver refuses the mixed-integer program", remedy="check its shapes and numbers")
    solver.run()
    kinds, status, info = highs.HighsModelStatus, solver.getModelStatus(), solver.getInfo()
    names = {
        kinds.kOptimal: "optimal",
        kinds.kInfeasible: "infeasible",
        kinds.kUnboundedOrInfeasible: "infeasible",  # its columns have two bounds
        kinds.kSolutionLimit: "limit",
    }
    found = info.primal_solution_status == int(highs.SolutionStatus.kSolutionStatusFeasible)
    return MixedSolution(
        names.get(status, str(status)),
        np.array(solver.getSolution().col_value, np.float64) if found else np.full(n, np.nan),
        float(info.objective_function_value) if found else float("inf"),
        float(info.mip_dual_bound),
    )
