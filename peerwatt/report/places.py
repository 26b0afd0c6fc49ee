"""Where buses stand on a drawing of the network: their own positions, or a tree when those are unknown."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import RunStatic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STACKED = 1e-3
"""Buses closer than this share of the drawing are drawn apart, so that both ends of a transformer can be seen."""


def bus_places(static: RunStatic) -> tuple[Floats, bool]:
    """Positions ``(n_buses, 2)`` in a square of side one, and whether they are geographic.

    Without a position for every bus, or with all of them in one point, a tree is drawn: the grid above on top,
    everything fed through it below.
    """
    places = np.array([(b.x, b.y) for b in static.buses], np.float64).reshape(-1, 2)
    places = _metric(places)
    extent = float(np.ptp(places, axis=0).max()) if len(places) and np.isfinite(places).all() else 0.0
    if extent <= 0 or len(np.unique(places, axis=0)) < max(2, len(places) // 2):
        return _tree(static), False
    moved = _sources_near(static, places)
    return _apart((moved - moved.min(axis=0)) / float(np.ptp(moved, axis=0).max())), True


def _metric(places: Floats) -> Floats:
    """Degrees of longitude shortened to the length they have at this latitude; other units stay as they are."""
    if not len(places) or not np.isfinite(places).all() or np.abs(places).max(axis=0)[1] > 85:
        return places
    return np.asarray(places * np.array([np.cos(np.radians(places[:, 1].mean())), 1.0]))


def _sources_near(static: RunStatic, places: Floats) -> Floats:
    """High-voltage buses that only feed a transformer, moved beside its other side.

    Network files often place them anywhere; a transformer drawn as long as a street misleads.
    """
    lines = [b for b in static.branches if b.kind == "line"]
    moved = places.copy()
    if not lines:
        return moved
    near = neighbours(static)
    length = float(np.median([np.hypot(*(places[b.from_bus] - places[b.to_bus])) for b in lines]))
    for branch in static.branches:
        if branch.kind != "transformer" or len(near[branch.from_bus]) != 1 or length <= 0:
            continue
        if np.hypot(*(places[branch.from_bus] - places[branch.to_bus])) > 1.5 * length:
            moved[branch.from_bus] = places[branch.to_bus] + np.array([0.0, length])
    return moved


def _apart(places: Floats) -> Floats:
    moved = places.copy()
    for i in range(1, len(moved)):
        close = np.hypot(*(moved[:i] - moved[i]).T) < _STACKED
        if close.any():
            moved[i, 1] += 0.025 * int(close.sum())
    return moved


def neighbours(static: RunStatic) -> list[list[int]]:
    """Buses that share a branch with each bus."""
    found: list[list[int]] = [[] for _ in static.buses]
    for branch in static.branches:
        found[branch.from_bus].append(branch.to_bus)
        found[branch.to_bus].append(branch.from_bus)
    return found


def source_bus(static: RunStatic) -> int:
    """The bus nearest the grid above: the high-voltage side of the first transformer, else the highest voltage."""
    for branch in static.branches:
        if branch.kind == "transformer":
            return branch.from_bus
    return max(range(len(static.buses)), key=lambda i: (static.buses[i].vn_kv, -i))


def hops(static: RunStatic) -> Ints:
    """Branches between each bus and the grid above; unconnected buses get one more than the farthest."""
    depth = np.full(len(static.buses), -1, np.int64)
    if not len(depth):
        return depth
    near = neighbours(static)
    first = source_bus(static)
    depth[first] = 0
    queue = deque([first])
    while queue:
        here = queue.popleft()
        for bus in near[here]:
            if depth[bus] < 0:
                depth[bus] = depth[here] + 1
                queue.append(bus)
    depth[depth < 0] = depth.max() + 1
    return depth


def _tree(static: RunStatic) -> Floats:
    """Each bus below its parent, in the middle of its children; leaves evenly spaced."""
    near, depth = neighbours(static), hops(static)
    n = len(static.buses)
    x = np.full(n, np.nan)
    seen: set[int] = set()
    leaves = 0
    for root in sorted(range(n), key=lambda i: (int(depth[i]), i)):
        if root in seen:
            continue
        seen.add(root)
        order, children = [root], {root: [0][:0]}
        stack = [root]
        while stack:  # depth first, so that a feeder's leaves stand together
            here = stack.pop()
            order.append(here)
            children[here] = [b for b in near[here] if b not in seen]
            seen.update(children[here])
            stack.extend(reversed(children[here]))
        for bus in order[1:]:
            if not children[bus]:
                x[bus] = leaves
                leaves += 1
        for bus in reversed(order[1:]):
            if children[bus]:
                x[bus] = float(np.mean([x[b] for b in children[bus]]))
    deepest = max(int(depth.max()), 1)
    return np.column_stack((x / max(leaves - 1, 1), 0.7 * (1.0 - depth / deepest)))
