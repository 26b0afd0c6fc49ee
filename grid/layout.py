"""A drawing position for networks without coordinates: a tidy tree that grows from the feeding bus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tree_layout(
    n: int, ends: NDArray[np.int32], roots: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of ``n`` buses: x = number of branches from the nearest root, y = leaves in a row, parents between.

    Parameters
    ----------
    n
        Number of buses.
    ends
        Pairs of connected buses, ``(n_pairs, 2)``. Of a mesh the breadth-first tree is drawn.
    roots
        Where to start; buses that no root reaches are drawn beneath.
    """
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for a, b in ends.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    x, y = np.zeros(n), np.zeros(n)
    seen = np.zeros(n, dtype=bool)
    next_leaf = 0
    for root in (*roots.tolist(), *range(n)):
        if seen[root]:
            continue
        seen[root] = True
        order, children = [root], {root: []}  # type: tuple[list[int], dict[int, list[int]]]
        for bus in order:  # grows while it is walked: breadth first
            for other in sorted(set(neighbours[bus])):
                if not seen[other]:
                    seen[other] = True
                    x[other] = x[bus] + 1
                    children[bus].append(other)
                    children[other] = []
                    order.append(other)
        next_leaf = _place(root, children, y, next_leaf)
    return x, y


def _place(root: int, children: dict[int, list[int]], y: NDArray[np.float64], next_leaf: int) -> int:
    """Give leaves consecutive rows, depth first, and parents the mean of their children. Returns the next free row."""
    stack = [(root, False)]
    while stack:
        bus, done = stack.pop()
        if not children[bus]:
            y[bus] = next_leaf
            next_leaf += 1
        elif done:
            y[bus] = float(np.mean(y[children[bus]]))
        else:
            stack.append((bus, True))
            stack.extend((child, False) for child in reversed(children[bus]))
    return next_leaf
