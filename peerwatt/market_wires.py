"""The network as a market rule sees it: a tree with limits, everybody's place on it, and a power flow to check with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import MarketError
from market.feeder import AcFlow, Feeder

if TYPE_CHECKING:
    from grid.network import Network
    from grid.radial import RadialTree
    from market.book import BookBatch
    from market.registry import Rule
    from peerwatt.messages import Int
    from peerwatt.system import System, Wires

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MarketWires:
    """What rules that need the network get.

    Parameters
    ----------
    feeder
        The tree, without the load of those outside the market.
    node
        (B,) id of each building's node.
    column
        (B,) the same as a position.
    check
        AC power flow of the network.
    """

    feeder: Feeder
    node: tuple[str, ...]
    column: NDArray[np.int64]
    check: PowerFlowCheck


@dataclass(frozen=True, slots=True)
class PowerFlowCheck:
    """`market.feeder.AcCheck` by the network's own power flow, in the run's engine.

    Loading 1.0 is what the scenario allows.
    """

    wires: Wires
    tree: RadialTree
    hours: float
    loading_max: float

    def __call__(self, p_wh: Float, q_varh: Float) -> AcFlow:
        """Solve the slots; nodes without a bus have no voltage (NaN).

        Raises
        ------
        GridError
            If a slot does not converge.
        """
        network, tree = self.wires.network, self.tree
        p_kw, q_kvar = np.zeros((len(p_wh), network.n_buses)), np.zeros((len(p_wh), network.n_buses))
        here = tree.bus >= 0
        p_kw[:, tree.bus[here]] = p_wh[:, here] / (1000.0 * self.hours)
        q_kvar[:, tree.bus[here]] = q_varh[:, here] / (1000.0 * self.hours)
        flow = network.power_flow(p_kw, q_kvar, engine=self.wires.engine, threads=self.wires.threads)
        v, loading = np.full(p_wh.shape, np.nan), np.zeros(p_wh.shape)
        v[:, here] = flow.v_pu[:, tree.bus[here]]
        rated = tree.branch >= 0
        loading[:, rated] = flow.branch_loading[:, tree.branch[rated]] / self.loading_max
        return AcFlow(v, loading, flow.losses_kw * self.hours * 1000.0)


def market_wires(system: System, rules: tuple[Rule, ...]) -> System:
    """The system with a `MarketWires` where one of the rules needs the network.

    Raises
    ------
    MarketError
        If there is no network, or no power flow.
    GridError
        If the network is not radial.
    """
    needing = [rule for rule in rules if rule.declares.needs_network]
    if not needing:
        return system
    if system.wires is None:
        raise MarketError(
            f"rule {needing[0].name} looks at the network, but the scenario has none (or no power flow)",
            remedy="name a network under network.source and keep power_flow: batch, or choose another rule",
        )
    from grid.radial import BASE_KVA, radial_tree

    wires, limits = system.wires, system.scenario.network
    tree = radial_tree(wires.network)
    v_min, v_max = _band(wires.network, tree, limits.v_min_pu, limits.v_max_pu)
    feeder = Feeder(
        nodes=tree.ids,
        parent=tree.parent,
        r_pu=tree.r_pu,
        x_pu=tree.x_pu,
        cap_pu=tree.cap_kva * limits.loading_max / BASE_KVA,
        v0_pu=tree.v0_pu,
        v_min_pu=v_min,
        v_max_pu=v_max,
        base_kva=BASE_KVA,
        slot_h=system.grid.hours,
        ratio=tree.ratio,
    )
    column = tree.node_of_bus[wires.bus].astype(np.int64)
    found = MarketWires(
        feeder=feeder,
        node=tuple(tree.ids[i] for i in column),
        column=column,
        check=PowerFlowCheck(wires, tree, system.grid.hours, limits.loading_max),
    )
    return replace(system, wires=replace(wires, market=found))


def _band(network: Network, tree: RadialTree, low: float | None, high: float | None) -> tuple[Float, Float]:
    """Voltage limits of every node: the scenario's, else the network's, else +-10 %; of joined buses the tightest."""
    from peerwatt.prepare.wires import V_MAX_PU, V_MIN_PU

    v_min, v_max = np.full(tree.n, -np.inf), np.full(tree.n, np.inf)
    for bus, node in enumerate(tree.node_of_bus.tolist()):
        if node < 0:
            continue
        own_low, own_high = float(network.v_min_pu[bus]), float(network.v_max_pu[bus])
        lowest = low if low is not None else own_low if np.isfinite(own_low) else V_MIN_PU
        highest = high if high is not None else own_high if np.isfinite(own_high) else V_MAX_PU
        v_min[node], v_max[node] = max(v_min[node], lowest), min(v_max[node], highest)
    return np.where(np.isfinite(v_min), v_min, V_MIN_PU), np.where(np.isfinite(v_max), v_max, V_MAX_PU)


def on_the_wires(system: System, book: BookBatch, rule: Rule, planned_wh: Int, slots: int = 1) -> BookBatch:
    """The book with its places on the feeder, for a rule that needs the network.

    Parameters
    ----------
    planned_wh
        (S, B) what every building is expected to draw. What of it stands in no order (those outside the market, energy
        contracted before) is load that the feeder carries in any case.
    slots
        Slots of a product.
    """
    market = None if system.wires is None else system.wires.market
    if market is None or not rule.declares.needs_network:
        return book
    outside = planned_wh - book.side * book.e_wh
    feeder = replace(market.feeder, slot_h=market.feeder.slot_h * slots)
    base = np.zeros((len(outside), feeder.n), np.int64)
    for building, node in enumerate(market.column.tolist()):
        base[:, node] += outside[:, building]
    per_unit = base / feeder.to_wh(1.0) if base.any() else None
    return replace(book, node=market.node, feeder=replace(feeder, base_p_pu=per_unit), ac_check=market.check)
