"""What an AC power flow finds beyond a feeder's limits, and limits tightened by it (market-rules 2.18, 2.20)."""

from __future__ import annotations

from typing import Any

import numpy as np

from market.feeder import AcFlow, Feeder
from market.rules._radial import Float, Limits, Radial

ROUNDS = 5
"""Repairs after an AC check."""

V_CLOSE_PU = 1e-6
LOADING_CLOSE = 1e-6
"""What an AC check forgives."""


def violations(feeder: Feeder, flow: AcFlow, row: int) -> list[dict[str, Any]]:
    """Voltages outside the band and overloaded lines of one slot; ``excess`` in p.u. or as part of the rating."""
    n = feeder.n
    v, loading = flow.v_pu[row], flow.loading[row]
    top = np.broadcast_to(np.asarray(feeder.v_max_pu, np.float64), n)
    floor = np.broadcast_to(np.asarray(feeder.v_min_pu, np.float64), n)
    found: list[dict[str, Any]] = []
    for name, excess, close in (
        ("v_max", v - top, V_CLOSE_PU),
        ("v_min", floor - v, V_CLOSE_PU),
        ("line", loading - 1.0, LOADING_CLOSE),
    ):
        over = [j for j in np.flatnonzero(excess > close).tolist() if j or name == "line"]
        found += [{"limit": name, "node": feeder.nodes[j], "excess": float(excess[j])} for j in over]
    return found


def tightened(radial: Radial, limits: Limits, flow: AcFlow, row: int, drawn: tuple[Float, Float]) -> Limits:
    """Limits moved by what the AC power flow found beyond them."""
    feeder, n = radial.feeder, radial.n
    v, loading = flow.v_pu[row], flow.loading[row]
    top = np.broadcast_to(np.asarray(feeder.v_max_pu, np.float64), n)
    floor = np.broadcast_to(np.asarray(feeder.v_min_pu, np.float64), n)
    over = np.where(v > top + V_CLOSE_PU, v**2 - top**2, 0.0)
    under = np.where(v < floor - V_CLOSE_PU, floor**2 - v**2, 0.0)
    lines, drop = radial.state(*drawn)
    # where the linear model is off by more than the excess, the limit moves from where the slot stands, not from itself
    low = np.where(over > 0, np.maximum(limits.low, drop) + radial.kappa * over, limits.low)
    high = np.where(under > 0, np.minimum(limits.high, drop) - radial.kappa * under, limits.high)
    hot = loading > 1.0 + LOADING_CLOSE
    reach = np.minimum(limits.cap_wh, np.abs(lines))
    cap = np.where(hot, np.floor(reach / np.maximum(loading, 1.0)), limits.cap_wh)
    return Limits(cap, low, high)
