"""Which feeder each bus belongs to: the branches that leave the substation's busbar."""

from __future__ import annotations

import numpy as np

from grid.network import Network
from grid.radial import radial_tree

Columns = np.ndarray


def feeder_of_bus(network: Network) -> Columns:
    """Index of the feeder of every bus, int64 ``(n_buses,)``; -1 at the busbar, above it, and without supply.

    The busbar is the first node below the grid above from which more than one branch leaves.

    Raises
    ------
    GridError
        If the network is meshed.
    """
    tree = radial_tree(network)
    children: list[list[int]] = [[] for _ in range(tree.n)]
    for node in range(1, tree.n):
        children[int(tree.parent[node])].append(node)
    busbar = 0
    while len(children[busbar]) == 1:
        busbar = children[busbar][0]
    feeder = np.full(tree.n, -1, np.int64)
    for index, head in enumerate(children[busbar]):
        feeder[head] = index
    for node in range(busbar + 1, tree.n):
        if feeder[node] < 0:
            feeder[node] = feeder[int(tree.parent[node])] if node != busbar else -1
    supplied = tree.node_of_bus >= 0
    return np.where(supplied, feeder[np.maximum(tree.node_of_bus, 0)], -1)
