"""Solves one building's program, and where it cannot be kept, lets its limits give way in their order.

Sums that give way (`building_program.ENVELOPE` ...) are minimised one after another. To hold a sum at its minimum, the
columns that have a reduced cost there stay at their bounds: these columns and no others, all of the optimal points
and no others (complementary slackness). So no sum is held by a row with a tolerance, and the basis goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controllers.planning.building_program import DISCOMFORT, Building
from core import PeerwattError
from core.linear_program import LpSolution
from core.linear_solver import EqualityProgram, EqualitySolver

Float = NDArray[np.float64]

KINDS = DISCOMFORT + 1
WEIGHTS = 8.0 ** np.arange(KINDS - 1, -1, -1)
"""Of the first guess, which stands if all sums but the last are 0 in it."""
REDUCED_COST = 1e-8
"""Above this a column is held at its bound."""
ZERO = 1e-9

_NO_COLUMNS = np.zeros(0, np.int32)
_NO_VALUES = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Solved:
    """Values of all columns (blocks, n), duals of all rows (1 + stores, n), and the sums that gave way (4,).

    ``face``: lower and upper bounds of the columns of `Softened` within which all points have those sums and no other
    does; None where nothing gives way. Of `building_one_way.solve_one_way`: ``gap`` by how much a plan might at most
    cost less, and the number of mixed-integer ``programs`` it took; both are 0 where the linear program was enough.
    """

    value: Float
    dual: Float
    sums: Float
    face: tuple[Float, Float] | None = None
    gap: float = 0.0
    programs: int = 0


def solve(solver: EqualitySolver, building: Building) -> Solved:
    """The cheapest plan of a building.

    Raises
    ------
    PeerwattError
        If the solver finds none, whatever gives way.
    """
    program = building.program(_NO_COLUMNS, _NO_VALUES, _NO_VALUES)
    solver.load(program)
    found = solver.solve()
    if not found.optimal and found.status != "infeasible":
        solver.load(program, warm=False)
        found = solver.solve()
    shape = building.blocks.rhs.shape
    if found.optimal:
        return Solved(found.x.reshape(-1, shape[1]), found.row_dual.reshape(shape), np.zeros(KINDS))
    return _relaxed(solver, building)


@dataclass(frozen=True, slots=True)
class Softened:
    """A building's program with a column for every bound that may give way, behind its own.

    ``parents`` and ``signs`` say of those which column's bound gives way and in which direction; ``kind`` of all
    columns what gives way, -1 for the building's own.
    """

    program: EqualityProgram
    parents: NDArray[np.int32]
    signs: Float
    kind: NDArray[np.int64]

    @classmethod
    def of(cls, building: Building) -> Softened:
        """Of a building.

        Raises
        ------
        PeerwattError
            If nothing of it may give way.
        """
        if not building.soft:
            raise PeerwattError("a building has no plan", remedy="report this with its data: limits give way by design")
        parents = np.concatenate([columns for columns, _, _, _ in building.soft])
        signs = np.concatenate([np.full(len(columns), sign) for columns, sign, _, _ in building.soft])
        kinds = np.concatenate([np.full(len(columns), kind) for columns, _, _, kind in building.soft])
        program = building.program(parents, signs, np.concatenate([far for _, _, far, _ in building.soft]))
        own = len(program.cost) - len(parents)
        return cls(program, parents, signs, np.concatenate([np.full(own, -1), kinds]))

    @property
    def used(self) -> list[int]:
        """The kinds that there are, in their order."""
        return [int(kind) for kind in np.unique(self.kind) if kind >= 0]


def _relaxed(solver: EqualitySolver, building: Building) -> Solved:
    soft = Softened.of(building)
    program, kind_of, used = soft.program, soft.kind, soft.used
    before = len(program.cost) - len(soft.parents)
    stage = _Face(solver, program, program.lower.copy(), program.upper.copy())
    guess = np.where(kind_of >= 0, WEIGHTS[kind_of], 0.0)
    solver.load(replace(program, cost=guess))
    found = solver.solve(column_duals=True)
    if not found.optimal:
        solver.load(replace(program, cost=guess), warm=False)
        found = _optimal(solver.solve(column_duals=True))
    earlier = (kind_of >= 0) & (kind_of < used[-1])
    if found.x[earlier].sum() <= ZERO:
        stage.upper[earlier] = 0.0
        stage.hold(found)
    else:
        for kind in used:
            stage.hold(stage.least((kind_of == kind).astype(np.float64)))
    found = stage.least(program.cost)
    gave = found.x[before:]
    value = found.x[:before].copy()
    np.add.at(value, soft.parents, soft.signs * gave)
    sums = np.bincount(kind_of[before:], weights=gave, minlength=KINDS)
    shape = building.blocks.rhs.shape
    return Solved(
        value.reshape(-1, shape[1]), found.row_dual.reshape(shape), np.where(sums > ZERO * len(gave), sums, 0.0),
        (stage.lower, stage.upper),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Face:
    """The bounds within which all points are optimal for the sums so far."""

    solver: EqualitySolver
    program: EqualityProgram
    lower: Float
    upper: Float

    def least(self, cost: Float) -> LpSolution:
        """The least ``cost`` within them: from the basis at hand and, where the solver loses its way, from none."""
        self.solver.set_costs(cost)
        found = self.solver.solve(primal=True, column_duals=True)
        if not found.optimal:
            self.solver.load(replace(self.program, cost=cost, lower=self.lower, upper=self.upper), warm=False)
            found = _optimal(self.solver.solve(column_duals=True))
        return found

    def hold(self, found: LpSolution) -> None:
        """Hold the columns at their bounds that cannot leave them without more of the sum just found."""
        up, down = found.column_dual < -REDUCED_COST, found.column_dual > REDUCED_COST
        self.lower[up] = self.upper[up]
        self.upper[down] = self.lower[down]
        self.solver.set_bounds(self.lower, self.upper)


def _optimal(found: LpSolution) -> LpSolution:
    if not found.optimal:
        raise PeerwattError(
            f"a building has no plan (the solver says: {found.status})",
            remedy="report this with its data: limits give way by design",
        )
    return found
