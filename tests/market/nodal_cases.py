"""Feeders and books for the tests of rules that look at the wires, and a dense linear program to judge them by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.book import Book, Context
from market.feeder import AcFlow, Feeder
from market.orders import Order, Side

Float = NDArray[np.float64]

BUY, SELL = Side.BUY, Side.SELL


def feeder(parent: list[int], r: list[float], x: list[float], cap: list[float], **more: Any) -> Feeder:
    """A feeder whose nodes are called 0, 1, 2, ...; 1 p.u. is 1 kVA for an hour unless stated."""
    return Feeder(
        nodes=tuple(str(i) for i in range(len(parent))), parent=np.array(parent, np.int64), r_pu=np.array(r, float),
        x_pu=np.array(x, float), cap_pu=np.array(cap, float), **more,
    )  # fmt: skip


def order(name: str, side: Side, e_wh: int, price_u: int, node: int, t: int = 0, **more: Any) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=e_wh, price_u=price_u, node=str(node), t=t, **more)


def in_book(wires: Feeder, retail_u: int = 300_000, feed_in_u: int = 80_000, **more: Any) -> Context:
    """A context whose retailer stands in the book, with a price band wide enough for anything."""
    band: dict[str, Any] = {"p_min_u": -(2**62), "p_max_u": 2**62}
    return Context(retail_u=retail_u, feed_in_u=feed_in_u, backstop="in_book", feeder=wires, **(band | more))


def random_feeder(rng: np.random.Generator, n: int, *, tight: float = 1.0, base: bool = False) -> Feeder:
    """A random tree; ``tight`` scales capacities and the voltage band down."""
    parent = [-1] + [int(rng.integers(max(0, j - 3), j)) for j in range(1, n)]
    r = [0.0, *rng.uniform(0.001, 0.01, n - 1).tolist()]
    x = [0.0, *rng.uniform(0.001, 0.01, n - 1).tolist()]
    cap = [np.inf, *(rng.uniform(2.0, 12.0, n - 1) / tight).tolist()]
    band = 0.05 / tight
    wires = feeder(parent, r, x, cap, v_min_pu=1 - band, v_max_pu=1 + band)
    if not base:
        return wires
    return replace(wires, base_p_pu=rng.uniform(-0.3, 0.5, n) / tight, base_q_pu=rng.uniform(-0.1, 0.2, n) / tight)


def random_orders(rng: np.random.Generator, n_orders: int, n_nodes: int, *, top: int = 400_000) -> list[Order]:
    """Buys and sells at random nodes; a small ``top`` makes ties common."""
    return [
        order(
            f"o{i:03d}", BUY if rng.random() < 0.5 else SELL, int(rng.integers(0, 5000)),
            int(rng.integers(-top // 10, top)), int(rng.integers(0, n_nodes)), t=int(rng.integers(0, 3)),
        )
        for i in range(n_orders)
    ]  # fmt: skip


def dense(book: Book, context: Context, tan: Float | None = None) -> tuple[float, Float, Float]:
    """Welfare [micro], fills [Wh] and node prices by a dense program over paths, through scipy; NaN where infeasible.

    Written without the rule's helpers: flows are sums over subtrees, voltages sums over shared paths.
    """
    from scipy.optimize import linprog

    wires = context.feeder
    assert wires is not None
    n, m = wires.n, len(book)
    unit = wires.base_kva * wires.slot_h
    paths = []
    for j in range(n):
        path, k = set(), j
        while k > 0:
            path.add(k)
            k = int(wires.parent[k])
        paths.append(path)
    retail, feed_in = context.retailer_prices()
    at = [wires.index[str(x)] for x in book.node]
    sign = np.array(book.side, float)
    price = np.array(book.price_u, float)
    reactive = np.zeros(m) if tan is None else tan
    base_p = np.zeros(n) if wires.base_p_pu is None else np.rint(wires.base_p_pu * unit * 1000) / 1000
    base_q = np.zeros(n) if wires.base_q_pu is None else wires.base_q_pu * unit
    cost = np.concatenate([-sign * price, [retail, -feed_in]])
    rows, right = [], []
    v_min = np.broadcast_to(np.asarray(wires.v_min_pu, float), n)
    v_max = np.broadcast_to(np.asarray(wires.v_max_pu, float), n)
    for j in range(1, n):
        flow = np.array([sign[i] * (j in paths[at[i]]) for i in range(m)] + [0.0, 0.0])
        fixed = sum(base_p[k] for k in range(n) if j in paths[k])
        cap = np.floor(wires.cap_pu[j] * unit * 1000 + 1e-9) / 1000
        if np.isfinite(cap):
            rows += [flow, -flow]
            right += [cap - fixed, cap + fixed]
        drop = np.zeros(m + 2)
        for i in range(m):
            shared = paths[j] & paths[at[i]]
            drop[i] = 2 * sign[i] * sum(wires.r_pu[k] + wires.x_pu[k] * reactive[i] for k in shared) / unit
        fixed = sum(
            2 * (wires.r_pu[k] * base_p[b] + wires.x_pu[k] * base_q[b]) / unit
            for b in range(n) for k in paths[j] & paths[b]
        )  # fmt: skip
        w0 = wires.v0_pu**2
        rows += [drop, -drop]
        right += [w0 - v_min[j] ** 2 - fixed, v_max[j] ** 2 - w0 + fixed]
    grid = wires.cap_pu[0] * unit if np.isfinite(wires.cap_pu[0]) else None
    found = linprog(
        cost / 1000, A_ub=np.array(rows), b_ub=np.array(right),
        A_eq=np.concatenate([sign, [-1.0, 1.0]])[None, :], b_eq=[-base_p.sum()],
        bounds=[(0, q / 1000) for q in book.e_wh] + [(0, grid), (0, grid)], method="highs",
    )  # fmt: skip
    if found.status == 2:
        return float("nan"), np.full(m, np.nan), np.full(n, np.nan)
    assert found.status == 0, found.message
    # a node's price: what one more Wh of demand there costs, from the multipliers of balance and limits
    node_price = np.zeros(n)
    multipliers = found.ineqlin.marginals
    for j in range(n):
        total, k = -float(found.eqlin.marginals[0]), 0
        for line in range(1, n):
            if np.isfinite(wires.cap_pu[line]):
                total -= (multipliers[k] - multipliers[k + 1]) * (line in paths[j])
                k += 2
            shared = 2 * sum(wires.r_pu[i] for i in paths[line] & paths[j]) / unit
            total -= (multipliers[k] - multipliers[k + 1]) * shared
            k += 2
        node_price[j] = total
    return -1000 * float(found.fun), found.x[:m] * 1000, node_price * 1000


def no_violations(p_wh: Float, q_varh: Float) -> AcFlow:
    """An AC check that finds nothing."""
    return AcFlow(np.ones_like(p_wh), np.zeros_like(p_wh), np.zeros(len(p_wh)))
