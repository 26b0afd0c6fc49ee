"""The network of an island: the same wires, held at one voltage by a source inside instead of by the grid above."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core import GridError

if TYPE_CHECKING:
    from grid.network import Network


def standing_alone(network: Network, bus: int, v_pu: float = 1.0) -> Network:
    """The network with the source at bus column ``bus`` as its only one.

    The switch of the district lies above everything that the network holds: transformers stay energised, from their
    low-voltage side. Power "from the grid above" in its results is what the forming source supplies.

    Parameters
    ----------
    network
        The connected network.
    bus
        Bus column of the forming source.
    v_pu
        Voltage that it holds [p.u.].

    Raises
    ------
    GridError
        If the bus is out of service.
    """
    node = int(network.model.bus_node[bus])
    if node < 0:
        raise GridError("a source at a bus out of service cannot form a grid", element=network.bus_label(bus))
    model = replace(
        network.model,
        source_node=np.array([node], network.model.source_node.dtype),
        source_u_pu=np.array([v_pu]),
        source_angle_rad=np.zeros(1),
    )
    return replace(network, model=model, feeding_buses=np.array([bus], np.int32), memo={})
