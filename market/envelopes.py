"""Operating envelopes: limits per connection point within which everybody may do as it likes (market-rules 2.20).

In the linearised flows of a radial feeder (LinDistFlow) flows and voltages are monotone in what members feed in, and so
they are in what they draw. Limits are therefore safe as soon as two corners are: everybody at its limit, and everybody
at zero. Energies are Wh per slot, whole slots at constant power.

Source: K. Petrou, M. Z. Liu, A. T. Procopiou, L. F. Ochoa, J. Theunissen & J. Harding (2021), IEEE PES Innovative Smart
Grid Technologies Europe; alpha-fairness: J. Mo & J. Walrand (2000), IEEE/ACM Trans. Netw. 8(5), 556-567.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import MarketError
from core.linear_program import LinearProgram
from market.feeder import AcCheck, Feeder
from market.rules._ac_repair import ROUNDS, tightened, violations
from market.rules._radial import KWH, Float, Int, Limits, Radial, times

ALLOCATIONS = ("equal", "proportional", "max_total", "alpha_fair")

_SMALL = 1e-12


@dataclass(frozen=True, slots=True)
class Envelopes:
    """Limits of one slot.

    Parameters
    ----------
    limit_wh
        (m,) what each request is granted [Wh], between 0 and the request.
    feasible
        False where the load outside the requests breaks a limit by itself: then everything granted is zero.
    rounds
        How often limits were tightened after an AC power flow.
    left
        What that power flow still finds with everybody at its limit: limit, node, excess (p.u. or of the rating).
    """

    limit_wh: Float
    feasible: bool
    rounds: int
    left: tuple[dict[str, Any], ...]


def envelopes(
    feeder: Feeder,
    nodes: Sequence[str],
    requests_wh: Sequence[float],
    *,
    direction: str = "export",
    rule: str = "equal",
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    row: int = 0,
    ac_check: AcCheck | None = None,
    radial: Radial | None = None,
) -> Envelopes:
    """Share a feeder's room among those who ask for it.

    Parameters
    ----------
    feeder
        The tree with its limits and the load of those who do not ask.
    nodes, requests_wh
        (m,) node of each request and what it asks for [Wh], >= 0.
    direction
        ``export``: limits of feeding in; ``import``: of drawing.
    rule
        ``equal``: the largest e so that everybody may use ``min(request, e)``. ``proportional``: the largest common
        part of the requests. ``max_total``: the largest weighted sum; favours those near the substation.
        ``alpha_fair``: the largest weighted sum of ``x^(1 - alpha) / (1 - alpha)`` (of ``log x`` for 1), to about a
        millionth of each; 0 is ``max_total``, large tends to max-min.
    weights
        (m,) > 0, of ``max_total`` and ``alpha_fair``; default 1.
    alpha
        0..10.
    row
        Of the feeder's base load, where that differs by slot.
    ac_check
        Checks the corner in which everybody is at its limit; limits are tightened by what it finds, at most 5 times.
    radial
        The feeder made ready, where it is used again and again.

    Raises
    ------
    MarketError
        For an unknown rule, direction or node, a negative request or weight, or an alpha out of range.
    """
    tree = Radial(feeder) if radial is None else radial
    place, wanted, weight = _checked(feeder, nodes, requests_wh, direction, rule, weights, alpha)
    base_p, base_q = tree.base(row)
    limits = tree.limits()
    sign = 1.0 if direction == "import" else -1.0
    found = _share(tree, limits, base_p, base_q, place, wanted, sign, rule, weight, alpha)
    if found is None:
        return Envelopes(np.zeros(len(wanted)), False, 0, ())
    left: list[dict[str, Any]] = []
    rounds = 0
    while ac_check is not None:
        p = base_p + sign * np.bincount(place, found, tree.n)
        flow = ac_check(p[None, :], base_q[None, :])
        left = violations(feeder, flow, 0)
        if not left or rounds == ROUNDS:
            break
        limits = tightened(tree, limits, flow, 0, (p, base_q))
        better = _share(tree, limits, base_p, base_q, place, wanted, sign, rule, weight, alpha)
        if better is None:  # the others' load alone is what the power flow objects to
            break
        found, rounds = better, rounds + 1
    return Envelopes(found, True, rounds, tuple(left))


def _checked(
    feeder: Feeder, nodes: Sequence[str], requests: Sequence[float], direction: str, rule: str,
    weights: Sequence[float] | None, alpha: float,
) -> tuple[Int, Float, Float]:  # fmt: skip
    if rule not in ALLOCATIONS:
        raise MarketError(f"envelopes: rule is {rule!r}", remedy=f"choose one of {', '.join(ALLOCATIONS)}")
    if direction not in ("export", "import"):
        raise MarketError(f"envelopes: direction is {direction!r}", remedy="choose export or import")
    if not 0 <= alpha <= 10:
        raise MarketError(f"envelopes: alpha is {alpha}", remedy="give a number between 0 and 10")
    if unknown := [x for x in nodes if x not in feeder.index]:
        raise MarketError(f"envelopes: node {unknown[0]!r} is not on the feeder", remedy="name a node of the feeder")
    wanted = np.array(requests, np.float64)
    weight = np.ones(len(wanted)) if weights is None else np.array(weights, np.float64)
    if wanted.shape != (len(nodes),) or weight.shape != wanted.shape:
        raise MarketError("envelopes: nodes, requests and weights differ in number", remedy="give one of each")
    if not (np.isfinite(wanted).all() and (wanted >= 0).all() and np.isfinite(weight).all() and (weight > 0).all()):
        raise MarketError("envelopes: a request is negative or a weight not positive", remedy="give numbers in Wh")
    return np.array([feeder.index[x] for x in nodes], np.int64), wanted, weight


def _share(
    tree: Radial, limits: Limits, base_p: Int, base_q: Float, place: Int, wanted: Float, sign: float, rule: str,
    weight: Float, alpha: float,
) -> Float | None:  # fmt: skip
    """Granted energies [Wh]; None where the others break a limit already."""
    matrix, room = _rows(tree, limits, base_p, base_q, place, sign)
    if (room < 0).any() or not _carried(tree, limits, base_p, base_q):
        return None
    ask = np.where((matrix[room <= 0] > 0).any(axis=0), 0.0, wanted) if (room <= 0).any() else wanted.copy()
    used = (times(matrix, ask) > room * (1 - 1e-9)) & (room > 0)  # the others cannot bind
    matrix, room = matrix[used], room[used]
    if not len(room) or not ask.any():
        return ask
    if rule == "proportional":
        found = ask * min(1.0, float((room / times(matrix, ask)).min()))
    elif rule == "equal":
        found = np.minimum(ask, _level(matrix, room, ask))
    elif rule == "max_total" or alpha == 0.0:
        found = _most(matrix, room, ask, weight)
    else:
        found = _alpha_fair(matrix, room, ask, weight, alpha)
    worst = float((times(matrix, found) / room).max())
    return np.asarray(found / worst if worst > 1.0 else found)


def _rows(tree: Radial, limits: Limits, base_p: Int, base_q: Float, place: Int, sign: float) -> tuple[Float, Float]:
    """(k, m) how much of each limit a Wh takes, and (k,) the room left of it beside the others' load.

    Coefficients that would make room (negative impedances of star points) count as none: nobody has to use its limit.
    """
    flow, drop = tree.state(base_p.astype(np.float64), base_q)
    lines = np.flatnonzero(np.isfinite(limits.cap_wh))
    bound = limits.high if sign > 0 else -limits.low
    nodes = np.flatnonzero(np.isfinite(bound))
    matrix = np.concatenate([tree.carries[np.ix_(lines, place)], tree.drop_p[np.ix_(nodes, place)]])
    room = np.concatenate([limits.cap_wh[lines] - sign * flow[lines], (bound - sign * drop)[nodes] * KWH])
    return np.maximum(matrix, 0.0), np.where(np.abs(room) < 1e-7, 0.0, room)


def _carried(tree: Radial, limits: Limits, base_p: Int, base_q: Float) -> bool:
    """Whether the others' load alone keeps all limits."""
    flow, drop = tree.state(base_p.astype(np.float64), base_q)
    close = 1e-9
    return bool(
        (np.abs(flow) <= limits.cap_wh + 1e-6).all()
        and (drop <= limits.high + close).all()
        and (drop >= limits.low - close).all()
    )


def _level(matrix: Float, room: Float, ask: Float) -> float:
    """The largest e with ``matrix @ min(ask, e) <= room``, exactly: each row is piecewise linear in e."""
    order = np.argsort(ask, kind="stable")
    sizes, rows = ask[order], matrix[:, order]
    before = np.cumsum(rows * sizes, axis=1) - rows * sizes  # what smaller requests take
    after = np.cumsum(rows[:, ::-1], axis=1)[:, ::-1]  # per Wh of those at the level
    level = float(sizes[-1])
    for k in range(len(room)):
        over = np.flatnonzero(before[k] + after[k] * sizes > room[k])
        if len(over):
            i = int(over[0])
            level = min(level, float((room[k] - before[k, i]) / after[k, i]))
    return max(level, 0.0)


def _most(matrix: Float, room: Float, ask: Float, weight: Float) -> Float:
    """The largest weighted sum; in kWh for the solver."""
    k, m = matrix.shape
    found = LinearProgram(
        weight, np.zeros(m), ask / KWH, np.arange(k + 1) * m, np.tile(np.arange(m), k),
        (matrix / np.maximum(room[:, None], _SMALL) * KWH).ravel(), np.full(k, -np.inf), np.ones(k), maximise=True,
    ).solve()  # fmt: skip
    if not found.optimal:
        raise MarketError(
            f"envelopes: the solver says {found.status}", remedy="look for extreme impedances or requests"
        )
    return np.clip(found.x * KWH, 0.0, ask)


def _alpha_fair(matrix: Float, room: Float, ask: Float, weight: Float, alpha: float) -> Float:
    """The largest sum of alpha-fair utilities by a logarithmic barrier and Newton steps."""
    able = ask > 0
    scale = float(ask.max())
    rows = matrix[:, able] * scale / room[:, None]  # rows @ x <= 1, 0 < x <= top
    top, w = ask[able] / scale, weight[able] / weight[able].max()
    rows = np.concatenate([rows, np.diag(1.0 / top)])
    x = 0.5 * top * min(1.0, float((1.0 / times(rows, top)).min()))
    w = w * x.mean() ** alpha  # utilities of the size of one
    t = 1.0
    while len(rows) / t > 1e-10:
        for _ in range(80):
            pull = rows / (1.0 - times(rows, x))[:, None]
            gradient = -t * w * x**-alpha + pull.sum(axis=0)
            hessian = np.einsum("ki,kj->ij", pull, pull) + np.diag(t * w * alpha * x ** (-alpha - 1))
            step = -np.linalg.solve(hessian, gradient)
            decrement = float(-(gradient * step).sum())
            moved = x if decrement < 1e-10 else _moved(x, step, rows, t * w, alpha, decrement)
            if moved is x:
                break
            x = moved
        t *= 10.0
    out = np.zeros(len(ask))
    out[able] = np.minimum(x * scale, ask[able])
    return out


def _moved(x: Float, step: Float, rows: Float, w: Float, alpha: float, decrement: float) -> Float:
    """A Newton step cut back until it stays inside and gains."""

    def value(at: Float) -> float:
        slack = 1.0 - times(rows, at)
        if (at <= 0).any() or (slack <= 0).any():
            return float("inf")
        utility = np.log(at) if alpha == 1.0 else at ** (1.0 - alpha) / (1.0 - alpha)
        return float(-(w * utility).sum() - np.log(slack).sum())

    length, here = 1.0, value(x)
    while length > 1e-12:
        moved = x + length * step
        if value(moved) <= here - 0.01 * length * decrement:
            return moved
        length *= 0.5
    return x
