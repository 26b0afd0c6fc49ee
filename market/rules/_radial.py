"""A feeder as the numbers of LinDistFlow: which line carries whose energy, and what that does to the voltages.

Squared voltages (w) follow from flows by ``w_j = ratio^2 w_above - 2 (r F + x G)``; they are held as the drop
``d = kappa (T v0^2 - w)``, where T is the product of squared ratios on the path and kappa makes the largest
coefficient about one, so that solver tolerances mean the same on every feeder. Energies are Wh per slot.

Source: M. E. Baran & F. F. Wu (1989), IEEE Trans. Power Delivery 4(1), 725-734, linearised.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.feeder import Feeder

Float = NDArray[np.float64]
Int = NDArray[np.int64]

KWH = 1000.0
"""Linear programs are written in kWh, results in Wh."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a slot has to keep: ``cap_wh`` (n,) of the flow above each node (of node 0: with the grid above), and drops.

    ``low`` and ``high`` (n,) bound the drop d; node 0 is not bounded, its voltage is given. ``near`` are further bounds
    of the flows, within which linearised losses hold.
    """

    cap_wh: Float
    low: Float
    high: Float
    near: tuple[Float, Float] | None = None

    def lines(self) -> tuple[Float, Float]:
        """(n,) bounds of the flows above the nodes [Wh]."""
        if self.near is None:
            return -self.cap_wh, self.cap_wh
        return np.maximum(-self.cap_wh, self.near[0]), np.minimum(self.cap_wh, self.near[1])


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of each line [Wh] as ``fixed + slope * flow``, the flow being what arrives at the node below it."""

    fixed: Float
    slope: Float


def times(matrix: Float, vector: Float | Int) -> Float:
    """Matrix times vector, summed in one order whatever the number of threads."""
    return np.asarray(np.einsum("ij,j->i", matrix, vector))


class Radial:
    """Sensitivities of a feeder with n nodes.

    Parameters
    ----------
    feeder
        The tree.

    Attributes
    ----------
    losses
        Linearised losses of its lines; None = lossless (see `with_losses`).
    carries
        (n, n): ``carries[l, j]`` is the flow above node l per Wh drawn at node j; row 0 is the exchange with the grid.
    below
        The same without losses, for reactive energy.
    drop_p, drop_q
        (n, n): drop d of node m per kWh (kvarh) drawn at node j.
    """

    def __init__(self, feeder: Feeder) -> None:
        n = feeder.n
        self.feeder, self.n = feeder, n
        self.losses: Losses | None = None
        self.parent = np.asarray(feeder.parent, np.int64)
        self.unit_wh = feeder.to_wh(1.0)
        self.ratio = np.ones(n) if feeder.ratio is None else np.asarray(feeder.ratio, np.float64)
        self.scale = np.ones(n)
        self.below = np.eye(n)
        for j in range(1, n):
            above = int(self.parent[j])
            self.scale[j] = self.scale[above] * self.ratio[j] ** 2
            self.below[:, j] += self.below[:, above]
        self.carries = self.below
        r_kwh = 2.0 * np.asarray(feeder.r_pu, np.float64) * KWH / self.unit_wh
        x_kwh = 2.0 * np.asarray(feeder.x_pu, np.float64) * KWH / self.unit_wh
        largest = max(float(np.abs(r_kwh).max(initial=0.0)), float(np.abs(x_kwh).max(initial=0.0)), 1e-30)
        self.kappa = float(2.0 ** -np.round(np.log2(largest)))  # a power of two moves no digits
        self.r, self.x = self.kappa * r_kwh, self.kappa * x_kwh
        self.drop_p = self._down(self.r[:, None] * self.carries)
        self.drop_q = self._down(self.x[:, None] * self.below)

    def _down(self, rows: Float) -> Float:
        """Sums of rows (n, ...) along the paths from node 0, each passed on with the square of the line's ratio."""
        out = np.zeros_like(rows)
        square = self.ratio**2
        for j, above in enumerate(self.parent.tolist()):  # not by matrix products: the same bytes on any machine
            if j:
                np.multiply(out[above], square[j], out=out[j])
                out[j] += rows[j]
        return out

    def with_losses(self, losses: Losses) -> Radial:
        """The same feeder with linearised losses."""
        out = copy(self)
        gain = np.ones(self.n)
        for j, above in enumerate(self.parent.tolist()):
            if j:
                gain[j] = gain[above] * (1.0 + losses.slope[j])
        out.losses = losses
        out.carries = self.below * gain[None, :] / gain[:, None]
        out.drop_p = self._down(self.r[:, None] * out.carries)
        return out

    def limits(self) -> Limits:
        """The feeder's own limits. Capacities are whole Wh (floored), so that fills that they bind are whole too."""
        feeder, n = self.feeder, self.n
        cap = np.asarray(feeder.cap_pu, np.float64) * self.unit_wh
        cap = np.where(np.isfinite(cap), np.floor(cap * (1 + 1e-12) + 1e-9), np.inf)
        none = self.scale * feeder.v0_pu**2
        low = self.kappa * (none - np.broadcast_to(np.asarray(feeder.v_max_pu, np.float64), n) ** 2)
        high = self.kappa * (none - np.broadcast_to(np.asarray(feeder.v_min_pu, np.float64), n) ** 2)
        low[0], high[0] = -np.inf, np.inf
        return Limits(cap, low, high)

    def base(self, row: int) -> tuple[Int, Float]:
        """(n,) energy [whole Wh] and reactive energy [varh] of those outside the market in a row of the base load."""

        def of(values: Float | None) -> Float:
            if values is None:
                return np.zeros(self.n)
            picked = np.asarray(values, np.float64)
            return (picked[row] if picked.ndim == 2 else picked) * self.unit_wh

        return np.rint(of(self.feeder.base_p_pu)).astype(np.int64), of(self.feeder.base_q_pu)

    def drawn(self, base_p: Int | Float) -> Float:
        """(n,) base energy with the constant part of the losses, drawn at the upper end of each line [Wh]."""
        total = np.asarray(base_p, np.float64).copy()
        if self.losses is not None:
            np.add.at(total, self.parent[1:], self.losses.fixed[1:])
        return total

    def state(self, p_wh: Float, q_varh: Float) -> tuple[Float, Float]:
        """Flows above the nodes [Wh] and drops d, both (n,), of drawn energies; see `drawn`."""
        return times(self.carries, p_wh), (times(self.drop_p, p_wh) + times(self.drop_q, q_varh)) / KWH

    def v_pu(self, drop: Float) -> Float:
        """Voltages [p.u.] from drops."""
        w = self.scale * self.feeder.v0_pu**2 - drop / self.kappa
        return np.asarray(np.sqrt(np.maximum(w, 0.0)))

    def loss_coefficient(self) -> Float:
        """(n,) losses of each line per square of its flow [1/Wh]: r / v0^2."""
        return np.asarray(self.feeder.r_pu, np.float64) / (self.unit_wh * self.feeder.v0_pu**2 * self.scale)
