"""Outages and the microgrid of a scenario, checked and laid out."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from core import ScenarioError
from market.tariffs import to_micro
from peerwatt.microgrid.islanding import IslandSetup
from peerwatt.microgrid.outages import outage_spans
from peerwatt.scenario.problems import choose
from peerwatt.system import System

if TYPE_CHECKING:
    from grid.network import Network
    from peerwatt.scenario import LoadedScenario
    from peerwatt.scenario.microgrid import Microgrid
    from peerwatt.scenario.models import Building


ABOVE_EMPTY_SOC = 0.02
"""So far above the charge at which the forming battery trips the supervisor has to shed loads."""


def with_outages(loaded: LoadedScenario, system: System, buildings: tuple[Building, ...]) -> System:
    """The system with its outages, if the scenario has any.

    Raises
    ------
    ScenarioError
        At the place in the scenario: moments outside the run, a forming building without one battery, priorities of
        nobody, meters or markets that an outage cannot be cut out of.
    """
    scenario = loaded.scenario
    if not scenario.outages and scenario.drawn_outages is None:
        return system
    try:
        spans = outage_spans(scenario, system.grid)
    except ScenarioError as error:
        raise loaded.error((error.path or "outages",), error.message, error.remedy) from error
    microgrid = scenario.microgrid
    _check_company(loaded, system)
    if microgrid is None:
        setup = IslandSetup(spans, -1, None, np.zeros(len(buildings), np.int64), None)
        return replace(system, outages=setup)
    forming = _forming(loaded, system, microgrid)
    price = microgrid.island_price_per_kwh
    setup = IslandSetup(
        spans=spans,
        forming=forming,
        alone=_alone(system, forming),
        priority=_priorities(loaded, system.building_ids, microgrid),
        island_price_u=None if price is None else to_micro(price),
    )
    return replace(system, outages=setup)


def _check_company(loaded: LoadedScenario, system: System) -> None:
    """Refuse what an outage cannot be cut out of."""
    for wrong, reason, remedy in (
        (
            system.metering.block_slots > 1,
            "a meter is coarser than the slots, so a slot of an outage cannot be settled apart",
            "take metering_minutes out, or run without outages",
        ),
        (
            bool(system.market.ahead),
            "stages before delivery would sell what an outage takes away",
            "use one stage in a scenario with outages",
        ),
    ):
        if wrong:
            raise loaded.error(("outages",), reason, remedy)


def _forming(loaded: LoadedScenario, system: System, microgrid: Microgrid) -> int:
    """Row of the battery that forms the island's grid."""
    ids, where = system.building_ids, ("microgrid", "forming")
    if microgrid.forming not in ids:
        raise loaded.error(
            where, f"there is no building {microgrid.forming!r}", choose(microgrid.forming, ids, what="building")
        )
    rows = np.flatnonzero(system.storage.columns.building == ids.index(microgrid.forming))
    if len(rows) != 1:
        raise loaded.error(
            where,
            f"building {microgrid.forming!r} has {len(rows)} batteries; exactly one forms the grid",
            "name a building with one battery, e.g. a community battery",
        )
    row = int(rows[0])
    columns = system.storage.columns
    least = float(columns.min_wh[row]) / float(columns.capacity_wh[row])
    if microgrid.floor_soc < least + ABOVE_EMPTY_SOC - 1e-9:
        raise loaded.error(
            ("microgrid", "floor_soc"),
            f"loads would be shed at {microgrid.floor_soc:g}, but the battery trips at its min_soc of {least:g}",
            f"use a floor_soc of {least + ABOVE_EMPTY_SOC:g} or more, or a lower min_soc",
        )
    return row


def _alone(system: System, forming: int) -> Network | None:
    from grid.standing_alone import standing_alone

    wires = system.wires
    if wires is None:
        return None
    bus = int(wires.bus[int(system.storage.columns.building[forming])])
    return standing_alone(wires.network, bus)


def _priorities(loaded: LoadedScenario, ids: tuple[str, ...], microgrid: Microgrid) -> np.ndarray:
    """(B,) by the first pattern that fits."""
    for pattern in microgrid.priorities:
        if not any(fnmatchcase(name, pattern) for name in ids):
            raise loaded.error(
                ("microgrid", "priorities", pattern),
                f"no building is called {pattern!r}",
                choose(pattern, ids, what="building"),
            )
    known = microgrid.priorities.items()
    levels = [[level for pattern, level in known if fnmatchcase(name, pattern)] for name in ids]
    return np.array([(*found, microgrid.default_priority)[0] for found in levels], np.int64)
