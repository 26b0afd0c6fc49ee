"""Losses of a radial feeder that depend on its flows: the best clearing by linear programs in a trust region.

Each program has losses linearised around the flows of the best clearing so far; its flows may stray from these only as
far as a radius. Its outcome is taken if it is better by the true losses, and the radius follows how well the program
foretold that. Losses grow ever faster with the flow, so that where energy is worth something this leads to the optimum.

Source: R. Fletcher & E. Sainz de la Maza (1989), Math. Program. 43, 235-256 (successive linear programs in a trust
region with a merit function).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from market.rules._nodal import NodalProgram, Optimum, SlotBook
from market.rules._radial import Float, Limits, Losses, Radial, times

ROUNDS = 100
"""Programs of a slot, at most."""

GAIN_WH = 0.02
"""The search ends when a program promises no more than so much energy is worth at the highest price of the book."""

LOSS_WH = 0.1
"""... and its losses are those of its flows up to this."""

FAR = 1e6
"""A radius that does not bind."""

PENALTY = 4.0
"""Worth of a Wh beyond a limit, over the highest price."""


@dataclass(frozen=True, slots=True)
class LossModel:
    """(n,) losses ``square F^2 + part |F|`` [Wh] of the line above each node, F arriving at its lower end [Wh].

    ``side`` (n,) is the direction that is taken for that of no flow.
    """

    square: Float
    part: Float
    side: Float

    def around(self, flow: Float) -> Losses:
        """The losses linearised around flows."""
        way = np.where(flow == 0.0, self.side, np.sign(flow))
        return Losses(-self.square * flow**2, 2.0 * self.square * flow + self.part * way)

    def reach(self) -> Float:
        """(n,) how far flows may stray at radius 1, so that no line's losses are off by more than about a Wh."""
        with np.errstate(divide="ignore"):
            return np.minimum(1.0 / np.sqrt(self.square), 0.5 / self.part)

    def sweep(self, radial: Radial, drawn: Float) -> tuple[Float, Float, float]:
        """Flows above all nodes [Wh] with the true losses, the drops (n,) these make times 1000, and the losses [Wh].

        ``drawn`` (n,) is what is drawn at the nodes.
        """
        flow, parent = drawn.tolist(), radial.parent.tolist()
        square, part = self.square.tolist(), self.part.tolist()
        total = 0.0
        for j in range(radial.n - 1, 0, -1):
            loss = square[j] * flow[j] ** 2 + part[j] * abs(flow[j])
            flow[parent[j]] += flow[j] + loss
            total += loss
        drop, r, ratio = [0.0] * radial.n, radial.r.tolist(), radial.ratio.tolist()
        for j in range(1, radial.n):
            drop[j] = ratio[j] ** 2 * drop[parent[j]] + r[j] * flow[j]
        return np.array(flow), np.array(drop), total


@dataclass(frozen=True, slots=True)
class Point:
    """Energies z (C,) with their true flows (n,), losses [Wh], and worth [micro-currency per kWh times Wh]."""

    z: Float
    flow: Float
    loss: float
    worth: float


@dataclass(frozen=True, slots=True)
class Found:
    """The last program, its limits and its vertex (None = infeasible), and what is left.

    ``rounds`` programs were solved; the last one promised ``gain`` more worth than the best point had, with losses that
    missed the true ones of its flows by ``gap_wh``.
    """

    program: NodalProgram
    limits: Limits
    vertex: Optimum | None
    rounds: int
    gain: float
    gap_wh: float


class LossSearch:
    """The search for one slot.

    Parameters
    ----------
    program
        Of the lossless feeder.
    model
        The losses.
    book, limits
        The slot.
    """

    def __init__(self, program: NodalProgram, model: LossModel, book: SlotBook, limits: Limits) -> None:
        self._lossless, self._model, self._book, self._limits = program, model, book, limits
        self._reach = model.reach()
        self._dearest = float(np.abs(book.price_u).max(initial=1))
        self._per_wh = 1.0 / np.maximum(np.abs(program.rows_p).max(axis=1), 1e-12)

    def look(self, z: Float) -> Point:
        """What energies are worth by the true losses; the grid makes up for what they lack."""
        program, radial, book = self._lossless, self._lossless.radial, self._book
        n = len(z) - 2
        flow, drop, loss = self._model.sweep(radial, np.bincount(program.node[:n], z[:n], radial.n) + book.base_p * 1.0)
        bought, sold = -float(z[-2]), float(z[-1])  # from and to the grid
        missing = float(flow[0]) - bought + sold
        less = min(sold, missing) if missing > 0 else min(bought, -missing)
        whole = z.copy()
        whole[-2:] = (
            (-(bought + missing - less), sold - less) if missing > 0 else (less - bought, sold - missing - less)
        )
        beyond = float(np.maximum(np.maximum(whole - book.high, book.low - whole)[-2:], 0.0).sum())
        q = np.bincount(program.node, z * program.tan_phi, radial.n) + book.base_q
        value = np.concatenate([flow, drop, *(np.cos(angle) * flow for angle in program.angles())])
        value += times(program.rows_q, q)
        low, high = program.bounds(self._limits)
        beyond += float((np.maximum(np.maximum(value - high, low - value), 0.0) * self._per_wh)[1:].sum())
        worth = float((whole * book.price_u).sum()) - PENALTY * self._dearest * beyond
        return Point(whole, flow, loss, worth)

    def run(self, z: Float) -> Found:
        """The best clearing from energies (C,) to start with."""
        at, radius = self.look(z), np.inf
        program = self._around(at.flow)
        least = GAIN_WH * self._dearest
        for k in range(1, ROUNDS + 1):
            found = self._solved(program, at, radius, k)
            if found.vertex is None:
                if np.isinf(radius):
                    return found
                radius = 8.0 * radius if radius < FAR else np.inf
                continue
            new = self.look(found.vertex.z)
            gained = new.worth - at.worth
            if found.gain <= least and gained >= -least and abs(found.gap_wh) <= LOSS_WH:
                return found
            step = float((np.abs(found.vertex.value[: len(at.flow)] - at.flow) / self._reach).max())
            if gained < 0.5 * found.gain:  # to the top of the parabola through what was promised and what was gained
                radius = step * min(max(0.5 * found.gain / (found.gain - gained), 0.1), 0.7)
            elif gained > 0.75 * found.gain and step > 0.9 * radius:
                radius *= 3.0
            if gained > 1e-4 * found.gain:
                at, program = new, self._around(new.flow)
        n = self._lossless.radial.n
        last = self._solved(program, at, 0.05 / n if self._model.part.any() else (0.05 / n) ** 0.5, ROUNDS + 1)
        return last if last.vertex is not None else self._solved(program, at, np.inf, ROUNDS + 1)

    def _around(self, flow: Float) -> NodalProgram:
        lossless = self._lossless
        radial = lossless.radial.with_losses(self._model.around(flow))
        n = len(lossless.node) - 2
        return NodalProgram(radial, lossless.node[:n], lossless.tan_phi[:n], lossless.polygon, reactive=lossless.has_q)

    def _solved(self, program: NodalProgram, at: Point, radius: float, rounds: int) -> Found:
        limits = self._limits
        if np.isfinite(radius):
            stray, cap = radius * self._reach, limits.cap_wh  # always up to a limit that is passed
            limits = replace(limits, near=(np.minimum(at.flow - stray, cap), np.maximum(at.flow + stray, -cap)))
        vertex = program.solve(self._book, limits)
        if vertex is None:
            return Found(program, limits, None, rounds, np.nan, np.nan)
        gain = float((vertex.z * self._book.price_u).sum()) - at.worth
        losses = program.radial.losses
        assert losses is not None, "made with losses"
        linear = float((losses.fixed + losses.slope * vertex.value[: program.radial.n])[1:].sum())
        return Found(program, limits, vertex, rounds, gain, self.look(vertex.z).loss - linear)
