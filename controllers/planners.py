"""Planners of whole buildings by name: those shipped, and one's own with `building_planner`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from core import PeerwattError, ScenarioError

if TYPE_CHECKING:
    from controllers.planning.task import Plans, Task

Steered = Literal["battery", "ev", "heat_pump"]
"""Kinds of asset that a planner may steer; the others of a building keep their own controllers."""

_OPTIMUM, _RULES = "controllers.planning.optimum", "controllers.planning.rules"
_ALL: frozenset[Steered] = frozenset(("battery", "ev", "heat_pump"))
_BATTERY: frozenset[Steered] = frozenset(("battery",))


@dataclass(frozen=True, slots=True)
class BuildingPlanner:
    """A registered planner: its name, what it steers, what it is, and the function (or the module that has it)."""

    name: str
    steers: frozenset[Steered]
    about: str
    plan: Callable[..., Plans] | str

    def function(self) -> Callable[..., Plans]:
        """The planner's function, imported on first use."""
        if not isinstance(self.plan, str):
            return self.plan
        found: Callable[..., Plans] = getattr(importlib.import_module(self.plan), self.name)
        return found

    def parameters(self) -> dict[str, Any]:
        """Names of its own parameters with their defaults; ``workers`` is not one of them."""
        given = inspect.signature(self.function()).parameters.values()
        return {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY and p.name != "workers"}


_REGISTRY: dict[str, BuildingPlanner] = {
    planner.name: planner
    for planner in (
        BuildingPlanner("price_responsive", _BATTERY, "charges in a day's cheap slots, serves its dear ones", _RULES),
        BuildingPlanner("peak_shaving", _BATTERY, "keeps the highest import as low as the battery can", _RULES),
        BuildingPlanner("battery_optimum", _BATTERY, "least cost by exact dynamic programming, battery only", _OPTIMUM),
        BuildingPlanner("building_optimum", _ALL, "least cost of battery, car and heat pump together", _OPTIMUM),
    )
}

_Function = TypeVar("_Function", bound=Callable[..., "Plans"])


def building_planner(
    name: str, *, steers: frozenset[Steered] = _BATTERY, about: str = ""
) -> Callable[[_Function], _Function]:
    """Register a function ``plan(task, *, ...) -> Plans`` as planner ``name`` of whole buildings.

    Its keyword-only arguments are its parameters in a scenario; one called ``workers`` gets the number of threads.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def take(function: _Function) -> _Function:
        if name in _REGISTRY:
            raise ValueError(f"there is a planner {name!r} already")
        _REGISTRY[name] = BuildingPlanner(name, steers, about or (function.__doc__ or "").split("\n")[0], function)
        return function

    return take


def planners() -> dict[str, BuildingPlanner]:
    """Every registered planner of whole buildings by name."""
    return dict(_REGISTRY)


def find_planner(name: str, parameters: Mapping[str, Any] | None = None) -> BuildingPlanner:
    """The planner ``name``; ScenarioError if there is none, or it does not know one of the ``parameters``."""
    found = _REGISTRY.get(name)
    if found is None:
        near = difflib.get_close_matches(name, _REGISTRY, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(_REGISTRY))}"
        raise ScenarioError(f"no planner of a building is called {name!r}", path="kind", remedy=remedy)
    known = found.parameters() if parameters else {}
    for key in parameters or {}:
        if key not in known:
            remedy = f"it knows {', '.join(sorted(known))}" if known else "it has none"
            raise ScenarioError(f"{name} has no parameter {key!r}", path="parameters", remedy=remedy)
    return found


def plan_buildings(name: str, task: Task, parameters: Mapping[str, Any] | None = None, *, workers: int = 1) -> Plans:
    """The plans of planner ``name`` for all buildings of ``task``.

    Raises
    ------
    ScenarioError
        If there is no such planner, or a parameter is unknown.
    PeerwattError
        If what it returns has the wrong shape or is not finite.
    """
    planner = find_planner(name, parameters)
    function = planner.function()
    more = {"workers": workers} if "workers" in inspect.signature(function).parameters else {}
    plans = function(task, **(parameters or {}), **more)
    n = task.n_slots
    wanted = (
        ("battery_kwh", 0 if task.batteries is None else len(task.batteries.building)),
        ("car_kwh", 0 if task.cars is None else len(task.cars.building)),
        ("heat_kwh", 0 if task.heat is None else len(task.heat.building)),
        ("curtail_kwh", task.n_buildings),
    )
    for field, columns in wanted:
        rows = getattr(plans, field)
        if rows.shape != (n, columns) or not np.isfinite(rows).all():
            raise PeerwattError(
                f"planner {name} returned {field} of shape {rows.shape} or not finite, wanted {(n, columns)}",
                remedy="see controllers.planning.task.Plans",
            )
    return plans
