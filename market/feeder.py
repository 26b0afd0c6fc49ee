"""A radial feeder as a rule sees it: a tree of nodes with impedances and limits, no network object.

Sign: load convention. Powers are per unit of ``base_kva``; energy of a slot is power times ``slot_h`` hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Feeder:
    """A tree with n nodes; node 0 is the substation, a node's parent comes before it.

    Parameters
    ----------
    nodes
        (n,) ids, as in ``Order.node``.
    parent
        (n,) int: index of the node above; -1 for node 0.
    r_pu, x_pu
        (n,) impedance of the line above each node [p.u. of base_kva and the nominal voltage]; 0 for node 0.
    cap_pu
        (n,) greatest power on the line above each node [p.u.]; ``inf`` where there is none, and for node 0 the greatest
        exchange with the grid above.
    v0_pu, v_min_pu, v_max_pu
        Voltage at the substation, and the band: numbers or (n,) [p.u.].
    base_kva
        What 1 p.u. of power is [kVA].
    slot_h
        Length of a slot [h].
    base_p_pu, base_q_pu
        (n,) or (S, n): net demand of those outside the market [p.u.], load convention.
    ratio
        (n,) turns ratio that multiplies the voltage of the node above (transformers); 1 where there is none.
    """

    nodes: tuple[str, ...]
    parent: NDArray[np.int64]
    r_pu: Float
    x_pu: Float
    cap_pu: Float
    v0_pu: float = 1.0
    v_min_pu: Float | float = 0.9
    v_max_pu: Float | float = 1.1
    base_kva: float = 1.0
    slot_h: float = 1.0
    base_p_pu: Float | None = None
    base_q_pu: Float | None = None
    ratio: Float | None = None

    def __post_init__(self) -> None:
        n = len(self.nodes)
        if n == 0 or len(set(self.nodes)) != n:
            raise MarketError("a feeder needs nodes with different ids", remedy="name every node once")
        for name in ("parent", "r_pu", "x_pu", "cap_pu"):
            if np.shape(getattr(self, name)) != (n,):
                raise MarketError(f"feeder.{name} does not have {n} values", remedy="give one value per node")
        above = np.asarray(self.parent)
        if above[0] != -1 or (above[1:] < 0).any() or (above[1:] >= np.arange(1, n)).any():
            raise MarketError("feeder.parent is no tree in order", remedy="put each node behind its parent; node 0: -1")
        for name in ("r_pu", "x_pu", "v_min_pu", "v_max_pu", "base_p_pu", "base_q_pu", "ratio"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise MarketError(f"feeder.{name} is not finite", remedy="give numbers")

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each node."""
        return {x: i for i, x in enumerate(self.nodes)}

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    def at(self, row: int) -> Feeder:
        """The feeder of one slot, where the base load differs by slot."""

        def picked(values: Any) -> Any:
            return values[row] if values is not None and np.ndim(values) == 2 else values

        return replace(self, base_p_pu=picked(self.base_p_pu), base_q_pu=picked(self.base_q_pu))

    def to_wh(self, power_pu: float) -> float:
        """Energy of a slot [Wh] at a power [p.u.]."""
        return power_pu * self.base_kva * self.slot_h * 1000.0


@dataclass(frozen=True, slots=True)
class AcFlow:
    """What an AC power flow says of S slots on the n nodes of a feeder.

    Parameters
    ----------
    v_pu
        (S, n) voltage [p.u.].
    loading
        (S, n) loading of the line above each node, 1.0 = rated; 0 where there is no rating.
    loss_wh
        (S,) what the feeder itself takes [Wh].
    """

    v_pu: Float
    loading: Float
    loss_wh: Float


AcCheck = Callable[[Float, Float], AcFlow]
"""(p_wh, q_varh), each (S, n): net energy of each node in a slot, base load included, load convention."""
