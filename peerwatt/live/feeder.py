"""Books on the wires: what a rule that looks at the network gets to see when a live slot clears.

What such a rule finds is recorded in the journal and not computed again, because it rests on what everybody on the
feeder plans and on a power flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core import MarketError
from market.engine.caches import label

if TYPE_CHECKING:
    from market.book import BookBatch
    from peerwatt.live.genesis import Roll
    from peerwatt.system import Int, System

ROOT = 0
"""Place of those who joined without one: at the substation, where no line is theirs."""


class FeederBooks:
    """Puts books on the feeder; hand it to ``Engine.open`` as ``wires`` where it is ``needed``."""

    def __init__(self, system: System) -> None:
        self._wires = system.wires
        self.needed = system.market.rule.declares.needs_network
        self._slot = -1
        self._planned_wh: Int = np.zeros(system.n_buildings, np.int64)
        self._building_of: Mapping[str, int] = {}

    def note(self, slot: int, planned_wh: Int, roll: Roll) -> None:
        """What the buildings (B,) are expected to draw in ``slot`` [Wh], and who their members are."""
        self._slot = slot
        self._planned_wh = planned_wh
        self._building_of = {label(member): building for member, building in roll.pairs}

    def __call__(self, book: BookBatch, nodes: tuple[int, ...]) -> BookBatch:
        """The book with each order's place, and everything that stands in no order as load of the feeder.

        Raises
        ------
        MarketError
            If the scenario has no network.
        """
        market = None if self._wires is None else self._wires.market
        if market is None or self._wires is None or book.agent_ids is None:
            raise MarketError("there is no feeder to put the book on", remedy="name a network under network.source")
        shown, tree, feeder = self._wires.shown_buses, market.check.tree, market.feeder
        columns = [int(tree.node_of_bus[shown[n]]) if 0 <= n < len(shown) else ROOT for n in nodes]
        base = np.zeros((1, feeder.n), np.int64)
        if self._slot == book.first_slot:
            np.add.at(base[0], market.column, self._planned_wh)
            for i, member in enumerate(book.member.tolist()):
                building = self._building_of.get(book.agent_ids[member])
                if building is not None:  # so much of its plan is in its order
                    base[0, market.column[building]] -= int(book.side[0, i]) * int(book.e_wh[0, i])
        return replace(
            book,
            node=tuple(feeder.nodes[c] for c in columns),
            feeder=replace(feeder, base_p_pu=base / feeder.to_wh(1.0) if base.any() else None),
            ac_check=market.check,
        )
