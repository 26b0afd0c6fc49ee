"""The laws between the tables of a network that is solved phase by phase."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.results.checking import Problem, dense_parts, needs, where
from peerwatt.results.phases import PHASES
from peerwatt.results.run import Run

_V = [f"v_{phase}_pu" for phase in PHASES]
_LOADING = [f"loading_{phase}" for phase in PHASES]


def check_phases(run: Run) -> Iterator[Problem]:
    """Extremes of the slots are those of the phases; a bus's voltage is its worst phase's, a loading the highest's."""
    needs(run, "slots", "slot_phases", "buses", "bus_phases", "branches", "branch_phases")
    yield from _of_slots(run)
    yield from _of_buses(run)
    yield from _of_branches(run)


def _of_slots(run: Run) -> Iterator[Problem]:
    """Both tables of slots against the phases of all buses."""
    n = len(run.static.buses)
    own = [f"v_{phase}_{way}_pu" for phase in PHASES for way in ("min", "max")]
    parts = dense_parts(run, "bus_phases", [*_V, "unbalance"], n)
    slots = dense_parts(run, "slots", ["v_min_pu", "v_max_pu"], 1)
    twins = dense_parts(run, "slot_phases", [*own, "max_unbalance"], 1)
    for (name, at, v), (_, _, total), (twin, _, by_phase) in zip(parts, slots, twins, strict=True):
        for way, extreme in (("min", np.min), ("max", np.max)):
            each = [extreme(v[column], axis=1) for column in _V]
            for phase, found in zip(PHASES, each, strict=True):
                wrong = found != by_phase[f"v_{phase}_{way}_pu"][:, 0]
                yield from where(
                    "phases", twin, at, wrong, f"v_{phase}_{way}_pu is not the {{:.6g}} of the buses", found
                )
            found = extreme(np.array(each), axis=0)
            wrong = found != total[f"v_{way}_pu"][:, 0]
            yield from where("phases", name, at, wrong, f"v_{way}_pu of slots is not the {{:.6g}} here", found)
        found = v["unbalance"].max(axis=1)
        wrong = found != by_phase["max_unbalance"][:, 0]
        yield from where("phases", twin, at, wrong, "max_unbalance is not the {:.6g} of the buses", found)


def _of_buses(run: Run) -> Iterator[Problem]:
    """The voltage that stands for a bus is that of the phase with the least room to a limit."""
    static = run.static
    low, high = (np.array([getattr(bus, f"v_{way}_pu") for bus in static.buses], np.float64) for way in ("min", "max"))
    width = len(static.buses)
    parts = dense_parts(run, "bus_phases", _V, width)
    stated = dense_parts(run, "buses", ["v_pu"], width)
    for (_, at, v), (name, _, claimed) in zip(parts, stated, strict=True):
        each = np.array([v[column] for column in _V])
        room = np.minimum(each - low, high - each)
        told = claimed["v_pu"]
        least = np.minimum(told - low, high - told)
        wrong = (least > room.min(axis=0) + 1e-6) | ~(each == told).any(axis=0)  # 1e-6: tables hold 32 bits
        yield from where("phases", name, at, wrong.any(axis=1), "a voltage is not that of its worst phase", at)


def _of_branches(run: Run) -> Iterator[Problem]:
    width = len(run.static.branches)
    if not width:
        return
    parts = dense_parts(run, "branch_phases", [*_LOADING, "neutral_loading"], width)
    stated = dense_parts(run, "branches", ["loading"], width)
    twins = dense_parts(run, "slot_phases", ["max_neutral_loading"], 1)
    for (_, at, loads), (name, _, claimed), (twin, _, slot) in zip(parts, stated, twins, strict=True):
        found = np.max([loads[column] for column in _LOADING], axis=0)
        wrong = (found != claimed["loading"]).any(axis=1)
        yield from where("phases", name, at, wrong, "a loading is not that of its highest phase", at)
        neutral = loads["neutral_loading"].max(axis=1)
        wrong = neutral != slot["max_neutral_loading"][:, 0]
        yield from where("phases", twin, at, wrong, "max_neutral_loading is not the {:.6g} of the branches", neutral)
