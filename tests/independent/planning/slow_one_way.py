"""A building's plan with one direction per store and slot, written from the problem's statement alone; slow on purpose.

The program of `slow_building`, and for every store and slot two binary variables, may charge and may discharge, of
which one at most is 1. Solved by scipy's `milp`, with binaries in all slots from the beginning. Horizons of a few
slots are also tried in every combination of directions, which needs no branching at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from controllers.planning.task import Task
from tests.independent.planning.slow_building import (
    Best,
    Float,
    Program,
    Sums,
    beyond_any_charger,
    formulate,
    least_of_all,
)

FINER = 1e3
"""The solver stops within 1e-6 of its objective: in thousandths that is 1e-9."""

HELD = (1e-7, 1e-6, 1e-5)
"""How far above its minimum a sum may be while directions are looked for: the first that the solver's rounding lets
through. What the directions cost is worked out without."""


@dataclass
class Directed:
    """A program, and its binaries behind: ``may`` (pairs, 2) numbers of the first charging, then discharging."""

    program: Program
    may: NDArray[np.int64]

    @classmethod
    def of(cls, program: Program) -> Directed:
        """Of a program: binaries for all its opposites."""
        return cls(program, len(program.low) + np.arange(2 * len(program.opposite)).reshape(-1, 2))

    def solve(self, cost: Float, high: Float, held: list[tuple[list[int], float]]) -> NDArray[np.bool_] | None:
        """Which variables have to be 0 at the optimum, since their direction is not taken; None: none is feasible."""
        program, n = self.program, len(self.program.low)
        rows: list[tuple[list[tuple[float, int]], float, float]] = [(t, v, v) for t, v in program.equal]
        rows += [(terms, -np.inf, value) for terms, value in program.at_most]
        rows += [([(1.0, v) for v in group], -np.inf, value) for group, value in held]
        for pair, may in zip(program.opposite, self.may.tolist(), strict=True):
            rows += [([(1.0, v), (-high[v], z)], -np.inf, 0.0) for v, z in zip(pair, may, strict=True)]
            rows.append(([(1.0, z) for z in may], -np.inf, 1.0))
        entries = [(r, column, factor) for r, (terms, _, _) in enumerate(rows) for factor, column in terms]
        r, c, f = (np.array(part) for part in zip(*entries, strict=True))
        binaries = self.may.size
        matrix = coo_array((f, (r, c)), shape=(len(rows), n + binaries)).tocsc()
        for presolve in (True, False):  # with it the solver has been seen to give up
            found = milp(
                FINER * np.concatenate([cost, np.zeros(binaries)]),
                integrality=np.repeat([0, 1], [n, binaries]),
                bounds=Bounds(np.append(program.low, np.zeros(binaries)), np.append(high, np.ones(binaries))),
                constraints=LinearConstraint(matrix, [low for _, low, _ in rows], [most for _, _, most in rows]),
                options={"mip_rel_gap": 0.0, "presolve": presolve},
            )
            if found.status != 4:
                break
        if found.status == 2:
            return None
        assert found.status == 0, found.message
        shut = np.zeros(n, bool)
        for pair, may in zip(program.opposite, self.may.tolist(), strict=True):
            for v, z in zip(pair, may, strict=True):
                shut[v] = found.x[z] < 0.5
        return shut

    def solve_near(self, cost: Float, high: Float, held: list[tuple[list[int], float]]) -> NDArray[np.bool_]:
        """The same where there has to be something, each ``held`` sum as near as the solver can."""
        for near in HELD:
            shut = self.solve(cost, high, [(group, least + near) for group, least in held])
            if shut is not None:
                return shut
        raise AssertionError("physics alone leaves something to do, and what was possible stays possible")


def best_one_way(task: Task, building: int) -> Best:
    """The least cost of one building of ``task`` with one direction per store and slot, giving way by the ladder."""
    program, slack = _program(task, building)
    cost, high = np.array(program.cost), np.array(program.high)
    directed = Directed.of(program)
    strict = high.copy()
    strict[[v for group in slack for v in group]] = 0.0
    shut = directed.solve(cost, strict, [])
    if shut is None:
        held: list[tuple[list[int], float]] = []
        for i, group in enumerate(slack):
            if group:
                one = np.zeros_like(cost)
                one[group] = 1.0
                shut = directed.solve_near(one, high, held)
                held.append((group, _ladder(program, cost, high, shut, slack)[1][i]))
        shut = directed.solve_near(cost, high, held)
    return _best(task, building, *_ladder(program, cost, high, shut, slack))


def best_of_all_directions(task: Task, building: int) -> Best:
    """The same by trying every combination of directions: for some ten stores and slots at most."""
    program, slack = _program(task, building)
    cost, high = np.array(program.cost), np.array(program.high)
    able = [pair for pair in program.opposite if min(high[list(pair)]) > 0]
    found = []
    for ways in product((0, 1), repeat=len(able)):
        shut = np.zeros(len(cost), bool)
        shut[[pair[way] for pair, way in zip(able, ways, strict=True)]] = True
        least, sums = _ladder(program, cost, high, shut, slack)
        found.append((tuple(round(s, 7) for s in sums), least, sums))
    _, least, sums = min(found)
    return _best(task, building, least, sums)


def _program(task: Task, building: int) -> tuple[Program, tuple[list[int], ...]]:
    program = Program()
    slack: tuple[list[int], ...] = ([], [], [], [])
    formulate(program, task, building, slack)
    return program, slack


def _ladder(
    program: Program, cost: Float, high: Float, shut: NDArray[np.bool_], slack: tuple[list[int], ...]
) -> tuple[float, Sums]:
    least, sums, _ = least_of_all(program, cost, np.where(shut, 0.0, high), slack)
    return least, sums


def _best(task: Task, building: int, least: float, sums: Sums) -> Best:
    envelope, missing, stored, cold = sums
    return Best(least, (envelope, missing + beyond_any_charger(task, building), stored, cold), burns=False)
