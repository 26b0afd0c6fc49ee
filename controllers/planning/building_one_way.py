"""The cheapest plan of a building in which no battery and no car charges and discharges in one slot.

The linear program allows both at once, and uses it where energy is worth less than nothing, to get rid of some in the
store's losses. Where its solution does so, binary columns say which way a store goes: only in slots in which burning
would pay, and in more of them until none of the others is used both ways. Each program allows more than devices can
do, so the first solution that they can follow is the optimum.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controllers.planning.building_program import Building
from controllers.planning.building_relax import KINDS, Softened, Solved, solve
from core.linear_solver import EqualityProgram, EqualitySolver, MixedSolution, solve_mixed

Float = NDArray[np.float64]
Columns = NDArray[np.intp]

NODES = 5000
"""Nodes of branch and bound for one program; a limit in work, not in time, so that results stay the same."""

MIXED_KWH = 1e-8
"""Charging and discharging above this in one slot are both at once [kWh]."""

PROVEN = 1e-7
"""What a mixed-integer program may leave unproven [currency, or the unit of a sum that gives way]."""

EQUAL = 1e-9
"""Part of a cost (at least of 1) below which two are equal."""

NEAR = 1e-6
"""Part of a cost or sum (at least of 1) below which a gap is rounding."""

HELD = 1e-7
"""By how much a sum that gave way may be exceeded in later mixed-integer programs, which only decide directions."""

TRIES = 4
"""Linear programs that try whether going one way costs nothing."""

_NO_COLUMNS = np.zeros(0, np.int32)
_NO_VALUES = np.zeros(0)


def solve_one_way(solver: EqualitySolver, building: Building, *, nodes: int = NODES) -> Solved:
    """The cheapest plan of a building with one direction per store and slot, proven but for ``gap``.

    ``dual`` belongs to the linear program with the directions as they were found. ``gap`` [currency] is infinite if
    branch and bound ended at ``nodes`` before it was sure of a sum that gives way.

    Raises
    ------
    PeerwattError
        If the solver finds none, whatever gives way.
    """
    free = solve(solver, building)
    stores = _Stores.of(building)
    both = stores.both(free.value)
    if not len(both):
        return free
    shut, least = _NO_VALUES.astype(np.intp), cost_of(building, free)
    found, still = free, both
    for _ in range(TRIES):  # where losing energy costs nothing, not losing it may as well
        shut = np.union1d(shut, stores.lesser(found.value, still))
        found = solve(solver, _without(building, shut))
        if (found.sums > free.sums + EQUAL).any() or cost_of(building, found) > least + EQUAL * max(1.0, abs(least)):
            break
        still = stores.both(found.value)
        if not len(still):
            return found
    return _by_branching(solver, building, stores, free, nodes)


def _by_branching(solver: EqualitySolver, building: Building, stores: _Stores, free: Solved, nodes: int) -> Solved:
    """More and more slots with binary columns, until the plan goes one way in all."""
    found, chosen, programs = free, _NO_VALUES.astype(np.intp), 0
    while True:
        chosen = np.union1d(chosen, np.union1d(stores.both(found.value), stores.burning(found.dual[0])))
        decided = _decide(building, stores, chosen, free, nodes)
        programs += decided.programs
        shut = stores.lesser(free.value, chosen) if decided.shut is None else decided.shut
        found = solve(solver, _without(building, shut))
        both = stores.both(found.value)
        if not len(both) or not decided.proven:
            break
    while len(both):  # what is not proven needs no more branching, only a plan that devices can follow
        shut = np.union1d(shut, stores.lesser(found.value, both))
        found = solve(solver, _without(building, shut))
        both = stores.both(found.value)
    cost = cost_of(building, found)
    gap = max(cost - decided.bound, 0.0)
    if (found.sums > decided.sums + NEAR * np.maximum(1.0, decided.sums)).any():
        gap = np.inf
    return replace(found, gap=0.0 if gap <= NEAR * max(1.0, abs(cost)) else gap, programs=programs)


def cost_of(building: Building, solved: Solved) -> float:
    """What a plan costs [currency]."""
    return float((building.blocks.cost * solved.value).sum())


@dataclass(frozen=True, slots=True)
class _Stores:
    """All slots in which a store could go both ways: columns of ``charge`` (p,), those of discharge ``n`` behind.

    ``round_trip`` efficiency, ``wear`` per kWh discharged, ``slot`` (p,); ``most`` (2, p) that fits into the store, or
    is in it, if its limits hold.
    """

    n: int
    charge: Columns
    slot: Columns
    round_trip: Float
    wear: Float
    most: Float

    @classmethod
    def of(cls, building: Building) -> _Stores:
        """Of a building."""
        blocks = building.blocks
        n = blocks.n
        first = np.array([first for _, first in (*building.batteries, *building.cars)], np.intp)
        row = 1 + np.arange(len(first))
        keep = np.zeros((len(first), n))
        keep[:, 1:] = -blocks.value[1, first + 2, :-1]
        high, low = blocks.upper[first + 2], blocks.lower[first + 2]
        before = np.zeros((2, len(first), n))  # most and least of what is left of the slot before
        before[:, :, 0] = blocks.rhs[row, 0]
        before[0, :, 1:], before[1, :, 1:] = keep[:, 1:] * high[:, :-1], keep[:, 1:] * low[:, :-1]
        gain, loss = -blocks.value[1, first], blocks.value[1, first + 1]
        most = np.stack([np.maximum(high - before[1], 0.0) / gain, np.maximum(before[0] - low, 0.0) / loss])
        able = np.minimum(blocks.upper[first], blocks.upper[first + 1]) > 0.0
        which, slot = np.nonzero(able)
        return cls(n, first[which] * n + slot, slot, (gain / loss)[able], blocks.cost[first + 1][able], most[:, able])

    def both(self, value: Float) -> Columns:
        """Where both directions are used."""
        flat = value.ravel()
        return self.charge[np.minimum(flat[self.charge], flat[self.charge + self.n]) > MIXED_KWH]

    def burning(self, price: Float) -> Columns:
        """Where at a ``price`` (n,) of energy behind the meter losing it would pay for the wear."""
        return self.charge[-price[self.slot] * (1.0 - self.round_trip) > self.wear * self.round_trip]

    def lesser(self, value: Float, chosen: Columns) -> Columns:
        """Of ``chosen`` the columns of the direction that is used less."""
        flat = value.ravel()
        return np.where(flat[chosen] >= flat[chosen + self.n], chosen + self.n, chosen)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What branch and bound found: columns to stay at 0 (None: nothing), a bound of the cost, what gave way."""

    shut: Columns | None
    bound: float
    sums: Float
    proven: bool
    programs: int


def _decide(building: Building, stores: _Stores, chosen: Columns, free: Solved, nodes: int) -> _Decided:
    """The directions of ``chosen``, at the sums of ``free`` if those can be had, else at the least that can."""
    at = np.searchsorted(stores.charge, chosen)
    if free.face is None:
        program, most = building.program(_NO_COLUMNS, _NO_VALUES, _NO_VALUES), stores.most[:, at]
    else:
        program, most = Softened.of(building).program, np.full((2, len(chosen)), np.inf)
        program = replace(program, lower=free.face[0], upper=free.face[1])
    found = solve_mixed(*_directed(program, stores, chosen, most), nodes=nodes, gap=PROVEN)
    if found.status != "infeasible":
        return _read(found, stores, chosen, len(program.cost), free.sums, 1)
    return _decide_sums(building, stores, chosen, nodes)


def _decide_sums(building: Building, stores: _Stores, chosen: Columns, nodes: int) -> _Decided:
    """The directions of ``chosen`` where they change what has to give way: sum after sum, each held by a row."""
    soft = Softened.of(building)
    own = len(soft.program.cost)
    program, whole = _directed(soft.program, stores, chosen, np.full((2, len(chosen)), np.inf))
    sums, sure, programs = np.zeros(KINDS), True, 1
    for kind in soft.used:
        counted = np.concatenate([soft.kind == kind, np.zeros(len(program.cost) - own, bool)])
        found = solve_mixed(replace(program, cost=counted.astype(np.float64)), whole, nodes=nodes, gap=PROVEN)
        programs += 1
        if not np.isfinite(found.objective):
            return _read(found, stores, chosen, own, sums, programs)
        sums[kind] = max(found.objective, 0.0)
        sure = sure and found.status == "optimal"
        program, whole = _held(program, whole, counted, sums[kind] + HELD)
    found = solve_mixed(program, whole, nodes=nodes, gap=PROVEN)
    decided = _read(found, stores, chosen, own, sums, programs + 1)
    return decided if sure else replace(decided, bound=-np.inf, proven=False)


def _read(found: MixedSolution, stores: _Stores, chosen: Columns, own: int, sums: Float, programs: int) -> _Decided:
    charges = found.x[own : own + len(chosen)] > 0.5
    return _Decided(
        np.where(charges, chosen + stores.n, chosen) if np.isfinite(found.objective) else None,
        found.bound if np.isfinite(found.bound) else -np.inf,
        sums,
        found.status == "optimal",
        programs,
    )


def _without(building: Building, shut: Columns) -> Building:
    """The building's program with the columns ``shut`` at 0."""
    blocks = copy(building.blocks)
    blocks.upper = building.blocks.upper.copy()
    blocks.upper.ravel()[shut] = 0.0
    return replace(building, blocks=blocks)


def _directed(
    program: EqualityProgram, stores: _Stores, chosen: Columns, most: Float
) -> tuple[EqualityProgram, NDArray[np.bool_]]:
    """The program with a binary z for each of ``chosen``, behind its columns: ``c <= C z``, ``d <= D (1 - z)``.

    As equations with slack: ``c - C z + r = 0``, ``d + D z + s = D``.
    """
    p, n, m = len(chosen), len(program.cost), len(program.rhs)
    up = np.minimum(program.upper[chosen], most[0])
    down = np.minimum(program.upper[chosen + stores.n], most[1])
    z, r, s = n + np.arange(p), n + p + np.arange(p), n + 2 * p + np.arange(p)
    first, second = m + np.arange(p), m + p + np.arange(p)
    one = np.ones(p)
    grown = _with_rows(
        program, np.concatenate([np.ones(p), up, down]), np.concatenate([np.zeros(p), down]),
        np.concatenate([chosen, z, r, chosen + stores.n, z, s]), np.concatenate([first] * 3 + [second] * 3),
        np.concatenate([one, -up, one, one, down, one]),
    )  # fmt: skip
    whole = np.zeros(n + 3 * p, bool)
    whole[z] = True
    return grown, whole


def _held(
    program: EqualityProgram, whole: NDArray[np.bool_], counted: NDArray[np.bool_], most: float
) -> tuple[EqualityProgram, NDArray[np.bool_]]:
    """The program with a row that holds the sum of the ``counted`` columns at ``most`` or less."""
    n, m = len(program.cost), len(program.rhs)
    columns = np.append(np.flatnonzero(counted), n)
    grown = _with_rows(
        program, np.array([most]), np.array([most]), columns, np.full(len(columns), m), np.ones(len(columns))
    )
    return grown, np.append(whole, False)


def _with_rows(
    program: EqualityProgram, upper: Float, rhs: Float, column: Columns, row: Columns, value: Float
) -> EqualityProgram:
    """The program with free columns from 0 to ``upper`` and rows of ``rhs`` behind, and further entries of all."""
    n = len(program.cost)
    old = np.repeat(np.arange(n), np.diff(program.start))
    columns = np.concatenate([old, column])
    order = np.lexsort((np.concatenate([program.index, row]), columns))
    start = np.zeros(n + len(upper) + 1, np.int32)
    np.cumsum(np.bincount(columns, minlength=n + len(upper)), out=start[1:])
    zero = np.zeros(len(upper))
    return EqualityProgram(
        np.concatenate([program.cost, zero]), np.concatenate([program.lower, zero]),
        np.concatenate([program.upper, upper]), start,
        np.concatenate([program.index, row]).astype(np.int32)[order],
        np.concatenate([program.value, value])[order], np.concatenate([program.rhs, rhs]),
        np.concatenate([program.basic, np.zeros(len(upper), bool)]),
    )  # fmt: skip
