"""The physics that the devices of an emulated island share, on their clock."""

from __future__ import annotations

import math

from grid.island import kernel as k
from grid.island.spec import IslandSpec
from grid.island.world import IslandWorld

_DEAD_PU = 0.1


class IslandPhysics:
    """An `IslandWorld` that comes to the present whenever one of its devices is asked or told something.

    Parameters
    ----------
    spec, seed
        Of the world.
    began_s
        The devices' time at which it begins [s].
    """

    def __init__(self, spec: IslandSpec, seed: int, began_s: float) -> None:
        self.world = IslandWorld(spec, seed)
        self.world.run(0.001)  # compiles the kernel now instead of within somebody's time limit
        self._began_s = began_s
        self.places = {source.id: i for i, source in enumerate(spec.sources)}
        self.places |= {load.id: i for i, load in enumerate(spec.loads)}

    def advance(self, now_s: float) -> None:
        """Let time pass up to ``now_s`` of the devices' clock; earlier moments are ignored."""
        if now_s - self._began_s > self.world.t_s:
            self.world.run(now_s - self._began_s)

    @property
    def grid_v_pu(self) -> float:
        """Voltage on the grid's side."""
        return float(self.world.bus[k.B_GV])

    @property
    def island_v_pu(self) -> float:
        """Voltage on the island's side."""
        return max(0.0, float(self.world.bus[k.B_V]))

    @property
    def grid_live(self) -> bool:
        """Whether something can be measured on the grid's side."""
        return self.grid_v_pu > _DEAD_PU

    @property
    def island_live(self) -> bool:
        """Whether something can be measured on the island's side."""
        return self.island_v_pu > _DEAD_PU

    @property
    def angle_deg(self) -> float | None:
        """Island against grid; None if one of them is dead."""
        if not (self.grid_live and self.island_live):
            return None
        return math.remainder(float(self.world.bus[k.B_ANGLE]), 360.0)

    @property
    def closed(self) -> bool:
        """Whether the main contacts of the switch touch."""
        return bool(self.world.switch[k.W_CLOSED] > 0.0)
