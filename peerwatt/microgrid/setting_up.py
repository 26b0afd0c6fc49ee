"""A run's outages, ready to happen: with a microgrid that carries on, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peerwatt.microgrid.dark import Dark
from peerwatt.microgrid.islanding import Islanding

if TYPE_CHECKING:
    from peerwatt.system import System


def islanding_of(system: System) -> Islanding | None:
    """What carries the outages of one run from slot to slot; None where the grid above never fails."""
    setup = system.outages
    if setup is None:
        return None
    microgrid = system.scenario.microgrid
    if microgrid is None:
        return Islanding(system, setup, Dark(setup.spans, system.n_buildings))
    from peerwatt.microgrid.standing import Standing

    return Islanding(system, setup, Standing(system, setup, microgrid))
