"""Linear programs over columns: with `linear_solver` all that talks to the solver (HiGHS; Huangfu & Hall 2018).

A program is kept between solves, so that a change of prices or limits starts from the last basis.
Source: Q. Huangfu & J. A. J. Hall (2018), Math. Program. Comput. 10, 119-142, doi:10.1007/s12532-017-0130-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import PeerwattError

Float = NDArray[np.float64]
Index = NDArray[np.int32]

INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class LpSolution:
    """Outcome of a solve: n columns, m rows.

    Parameters
    ----------
    status
        ``optimal``, ``infeasible``, ``unbounded``, or what the solver says.
    x, objective
        (n,) values and the objective; NaN where there is no solution.
    row_dual, column_dual
        (m,) and (n,): change of the objective per unit of a row's bound or of a column's.
    """

    status: str
    x: Float
    objective: float
    row_dual: Float
    column_dual: Float

    @property
    def optimal(self) -> bool:
        """Whether there is a solution."""
        return self.status == "optimal"


class LinearProgram:
    """``min`` (or ``max``) ``cost x``, ``row_lower <= A x <= row_upper``, ``lower <= x <= upper``.

    Parameters
    ----------
    cost, lower, upper
        (n,) columns.
    row_start, row_index, row_value
        A by rows (CSR): entries of row i are ``row_start[i]:row_start[i + 1]``.
    row_lower, row_upper
        (m,) bounds of the rows.
    maximise
        Direction.
    integer
        (n,) columns that must be whole; None = none. Then there are no duals.
    presolve
        Off is faster for the small programs of a slot and keeps warm starts.
    """

    def __init__(
        self,
        cost: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
        row_start: ArrayLike,
        row_index: ArrayLike,
        row_value: ArrayLike,
        row_lower: ArrayLike,
        row_upper: ArrayLike,
        *,
        maximise: bool = False,
        integer: NDArray[np.bool_] | None = None,
        presolve: bool = False,
    ) -> None:
        import highspy as library

        highspy: Any = library  # it has no complete types

        self._kinds = highspy.HighsModelStatus
        program = highspy.HighsLp()
        program.num_col_ = len(np.asarray(cost))
        program.num_row_ = len(np.asarray(row_lower))
        program.col_cost_ = np.asarray(cost, np.float64)
        program.col_lower_ = _bounds(lower)
        program.col_upper_ = _bounds(upper)
        program.row_lower_ = _bounds(row_lower)
        program.row_upper_ = _bounds(row_upper)
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = np.asarray(row_start, np.int32)
        program.a_matrix_.index_ = np.asarray(row_index, np.int32)
        program.a_matrix_.value_ = np.asarray(row_value, np.float64)
        program.sense_ = highspy.ObjSense.kMaximize if maximise else highspy.ObjSense.kMinimize
        if integer is not None and integer.any():
            program.integrality_ = [
                highspy.HighsVarType.kInteger if whole else highspy.HighsVarType.kContinuous for whole in integer
            ]
        self._n, self._m = int(program.num_col_), int(program.num_row_)
        self._every = np.arange(self._n, dtype=np.int32)
        self._solver: Any = highspy.Highs()
        self._solver.setOptionValue("output_flag", False)
        self._solver.setOptionValue("threads", 1)  # the same bytes on every machine
        self._solver.setOptionValue("random_seed", 0)
        self._solver.setOptionValue("presolve", "on" if presolve else "off")
        self._solver.setOptionValue("mip_rel_gap", 0.0)
        self._solver.setOptionValue("mip_abs_gap", 0.0)
        self._solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
        self._solver.setOptionValue("dual_feasibility_tolerance", 1e-9)
        if self._solver.passModel(program) == highspy.HighsStatus.kError:
            raise PeerwattError("the solver refuses the linear program", remedy="check its shapes and numbers")

    def set_costs(self, cost: ArrayLike) -> None:
        """(n,) new costs."""
        self._solver.changeColsCost(self._n, self._every, np.asarray(cost, np.float64))

    def set_bounds(self, lower: ArrayLike, upper: ArrayLike) -> None:
        """(n,) new bounds of the columns."""
        self._solver.changeColsBounds(self._n, self._every, _bounds(lower), _bounds(upper))

    def set_row_bounds(self, lower: ArrayLike, upper: ArrayLike) -> None:
        """(m,) new bounds of the rows."""
        every = np.arange(self._m, dtype=np.int32)
        self._solver.changeRowsBounds(self._m, every, _bounds(lower), _bounds(upper))

    def forget(self) -> None:
        """Start the next solve from nothing, so that its vertex does not depend on the solves before."""
        self._solver.clearSolver()

    def solve(self, *, duals: bool = True) -> LpSolution:
        """Solve from the last basis, where there is one. Without ``duals`` those are NaN and not fetched."""
        self._solver.run()
        status = self._solver.getModelStatus()
        if status != self._kinds.kOptimal:
            names = {
                self._kinds.kInfeasible: "infeasible",
                self._kinds.kUnbounded: "unbounded",
                self._kinds.kUnboundedOrInfeasible: "infeasible or unbounded",
            }
            nothing = np.full(self._n, np.nan)
            name = names.get(status, str(status))
            return LpSolution(name, nothing, float("nan"), np.full(self._m, np.nan), nothing)
        found = self._solver.getSolution()
        return LpSolution(
            "optimal",
            np.array(found.col_value, np.float64),
            float(self._solver.getObjectiveValue()),
            np.array(found.row_dual, np.float64) if duals and found.dual_valid else np.full(self._m, np.nan),
            np.array(found.col_dual, np.float64) if duals and found.dual_valid else np.full(self._n, np.nan),
        )


def _bounds(values: ArrayLike) -> Float:
    """The solver's own infinity is the floating-point one."""
    return np.asarray(values, np.float64)
