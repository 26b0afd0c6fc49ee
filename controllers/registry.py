"""Controllers by name, and plans for fleets in which every asset may name its own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from controllers.forecast import Forecast
from core import ScenarioError

if TYPE_CHECKING:
    from grid.assets.battery import BatteryColumns, BatteryState
    from grid.assets.ev import EvColumns, EvSessionTable, EvState
    from grid.assets.heat import HeatColumns, HeatConditions

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Scope = Literal["building", "community"]
Drives = Literal["battery", "ev", "heat_pump"]

BatteryController = Callable[["BatteryColumns", "BatteryState", Forecast], Int]
"""Columns, state, forecast -> requests [Wh] at the AC terminals, int64 (S, K), positive charges."""

EvController = Callable[["EvColumns", "EvSessionTable", "EvState", Forecast], Int]
"""Columns, stays, state, forecast -> requests [Wh] at the chargers, int64 (S, K)."""

HeatController = Callable[["HeatColumns", "HeatConditions", Float, int], Int]
"""Columns, conditions, indoor temperatures (H,) [degC], number of slots S -> requests of electricity [Wh], (S, H).

The conditions reach ``controllers.thermostat.AHEAD_H`` hours behind the S slots, as far as the run goes.
"""

PLANNED = "planned"
"""Stands for the controller of an asset that a planner of whole buildings steers (`controllers.planners`)."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A registered controller: what it drives, whose balance it serves, and where it is (imported on first use)."""

    name: str
    drives: Drives
    scope: Scope
    about: str
    plan: BatteryController | EvController | HeatController | str


_REGISTRY: dict[str, _Entry] = {
    entry.name: entry
    for entry in (
        _Entry(
            "greedy_self_consumption",
            "battery",
            "building",
            "stores the building's surplus, covers its deficit",
            "controllers.greedy",
        ),
        _Entry(
            "greedy_community",
            "battery",
            "community",
            "stores the neighbourhood's surplus, covers its deficit",
            "controllers.greedy",
        ),
        _Entry("idle", "battery", "building", "neither charges nor discharges", "controllers.idle"),
        _Entry("charge_on_arrival", "ev", "building", "full power from arrival until full", "controllers.arrival"),
        _Entry("thermostat", "heat_pump", "building", "holds the lower comfort limit", "controllers.thermostat"),
        _Entry(
            "thermostat_early",
            "heat_pump",
            "building",
            "holds the lower comfort limit, and is warm in time when it rises",
            "controllers.thermostat",
        ),
    )
}

_Function = TypeVar("_Function", bound=Callable[..., Int])


def battery_controller(name: str, *, scope: Scope = "building", about: str = "") -> Callable[[_Function], _Function]:
    """Register a function as battery controller ``name``.

    ``scope`` says when it plans: ``building`` first, ``community`` afterwards, on what the buildings have left.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    return _register(name, "battery", scope, about)


def ev_controller(name: str, *, about: str = "") -> Callable[[_Function], _Function]:
    """Register a function as controller ``name`` of electric cars; ValueError if the name is taken."""
    return _register(name, "ev", "building", about)


def heat_controller(name: str, *, about: str = "") -> Callable[[_Function], _Function]:
    """Register a function as controller ``name`` of heat pumps that heat buildings; ValueError if it is taken."""
    return _register(name, "heat_pump", "building", about)


def _register(name: str, drives: Drives, scope: Scope, about: str) -> Callable[[_Function], _Function]:
    def take(function: _Function) -> _Function:
        if name in _REGISTRY:
            raise ValueError(f"there is a controller {name!r} already")
        _REGISTRY[name] = _Entry(name, drives, scope, about or (function.__doc__ or "").split("\n")[0], function)
        return function

    return take


def controllers() -> dict[str, dict[str, str]]:
    """Every registered controller by name: what it ``drives`` (battery, ev ...), its ``scope``, ``about`` it."""
    return {e.name: {"drives": e.drives, "scope": e.scope, "about": e.about} for e in _REGISTRY.values()}


def _find(name: str, drives: str) -> _Entry:
    entry = _REGISTRY.get(name)
    if entry is None or entry.drives != drives:
        known = sorted(e.name for e in _REGISTRY.values() if e.drives == drives)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise ScenarioError(f"no controller of a {drives} is called {name!r}", path="controllers", remedy=hint)
    return entry


def _plan_of(entry: _Entry) -> Callable[..., Int]:
    plan: Callable[..., Int]
    plan = getattr(importlib.import_module(entry.plan), entry.name) if isinstance(entry.plan, str) else entry.plan
    return plan


def _checked(entry: _Entry, request: Int, shape: tuple[int, int]) -> Int:
    if request.shape != shape or request.dtype != np.int64:
        raise ValueError(f"controller {entry.name} returned {request.dtype} {request.shape}, wanted int64 {shape}")
    return request


def plan_batteries(name: str, columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> Int:
    """Requests of controller ``name`` for all the batteries [Wh], int64 (S, K), positive charges.

    Raises
    ------
    ScenarioError
        If there is no such battery controller.
    """
    entry = _find(name, "battery")
    request = _plan_of(entry)(columns, state, forecast)
    return _checked(entry, request, (forecast.n_slots, len(columns)))


def plan_battery_fleet(
    names: Sequence[str],
    columns: BatteryColumns,
    state: BatteryState,
    forecast: Forecast,
    planned_wh: Int | None = None,
) -> Int:
    """Requests for a fleet in which battery k is driven by ``names[k]`` [Wh], int64 (S, K).

    Those called `PLANNED` take their columns of ``planned_wh`` (S, K), before all others.

    Controllers of scope ``building`` plan first, those of scope ``community`` on what the buildings have left; within
    a scope in the order in which the fleet names them first, each on what the ones before have left.

    Raises
    ------
    ScenarioError
        If a name is no battery controller.
    """
    from grid.assets.battery import step_batteries
    from grid.assets.quantise import sum_by_building

    request = np.zeros((forecast.n_slots, len(columns)), np.int64)
    scopes = {name: "" if name == PLANNED else _find(name, "battery").scope for name in names}
    order = sorted(scopes, key=lambda name: scopes[name])  # "building" before "community"
    for place, name in enumerate(order):
        rows = np.flatnonzero([n == name for n in names])
        part, part_state = columns.take(rows), state.take(rows)
        request[:, rows] = (
            plan_batteries(name, part, part_state, forecast) if name != PLANNED else _given(planned_wh)[:, rows]
        )
        if place + 1 < len(order):
            flows, _ = step_batteries(part, part_state, np.ascontiguousarray(request[:, rows]))
            used = sum_by_building(flows.net_wh, part.building, forecast.surplus_wh.shape[1])
            forecast = replace(forecast, surplus_wh=forecast.surplus_wh - used)
    return request


def plan_evs(name: str, columns: EvColumns, sessions: EvSessionTable, state: EvState, forecast: Forecast) -> Int:
    """Requests of controller ``name`` for all the cars [Wh], int64 (S, K).

    Raises
    ------
    ScenarioError
        If there is no such controller of cars.
    """
    entry = _find(name, "ev")
    request = _plan_of(entry)(columns, sessions, state, forecast)
    return _checked(entry, request, (forecast.n_slots, len(columns)))


def _given(planned_wh: Int | None) -> Int:
    if planned_wh is None:
        raise ValueError(f"controller {PLANNED!r} needs planned_wh")
    return planned_wh


def plan_ev_fleet(
    names: Sequence[str],
    columns: EvColumns,
    sessions: EvSessionTable,
    state: EvState,
    forecast: Forecast,
    planned_wh: Int | None = None,
) -> Int:
    """Requests for a fleet in which car k is driven by ``names[k]`` [Wh], int64 (S, K).

    Those called `PLANNED` take their columns of ``planned_wh`` (S, K).

    Raises
    ------
    ScenarioError
        If a name is no controller of cars.
    """
    request = np.zeros((forecast.n_slots, len(columns)), np.int64)
    for name in dict.fromkeys(names):
        rows = np.flatnonzero([n == name for n in names])
        if name == PLANNED:
            request[:, rows] = _given(planned_wh)[:, rows]
            continue
        stays = sessions.take(rows)
        request[:, rows] = plan_evs(name, columns.take(rows), stays, state.take(rows, sessions, stays), forecast)
    return request


def plan_heat_fleet(
    names: Sequence[str],
    columns: HeatColumns,
    conditions: HeatConditions,
    indoor_c: Float,
    n_slots: int,
    planned_wh: Int | None = None,
) -> Int:
    """Requests for heat pumps of which pump h is driven by ``names[h]`` [Wh], int64 (n_slots, H).

    Those called `PLANNED` take their columns of ``planned_wh`` (n_slots, H).

    Raises
    ------
    ScenarioError
        If a name is no controller of heat pumps.
    """
    request = np.zeros((n_slots, len(columns)), np.int64)
    for name in dict.fromkeys(names):
        rows = np.flatnonzero([n == name for n in names])
        if name == PLANNED:
            request[:, rows] = _given(planned_wh)[:, rows]
            continue
        entry = _find(name, "heat_pump")
        part = _plan_of(entry)(columns.take(rows), conditions.take(rows), indoor_c[rows], n_slots)
        request[:, rows] = _checked(entry, part, (n_slots, len(rows)))
    return request
