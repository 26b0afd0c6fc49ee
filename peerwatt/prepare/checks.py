"""Names of strategies and controllers, checked before the run, with the place in the scenario where they stand."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from controllers import controllers
from core import MarketError, ScenarioError
from market.registry import make_strategy, strategy_classes
from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset
from peerwatt.scenario.buildings import Strategy
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.problems import YamlPath

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario


def strategies_of(scenario: Scenario) -> Iterator[tuple[YamlPath, Strategy]]:
    """Every strategy that a scenario names, with its place."""
    yield ("strategies", "default"), scenario.strategies.default
    for name, strategy in scenario.strategies.by_building.items():
        yield ("strategies", "by_building", name), strategy
    source = scenario.buildings_from
    likes: list[tuple[YamlPath, Strategy | None]] = [
        (("buildings", i, "strategy"), building.strategy) for i, building in enumerate(scenario.buildings)
    ]
    likes += [(("place", i, "strategy"), placement.strategy) for i, placement in enumerate(scenario.place)]
    if source is not None and source.like is not None:
        likes.append((("buildings_from", "like", "strategy"), source.like.strategy))
    for path, own in likes:
        if own is not None:
            yield path, own


def controllers_of(scenario: Scenario) -> Iterator[tuple[YamlPath, str, str]]:
    """Every controller that a scenario names: its place, its name, and what it has to drive."""
    default = scenario.controllers
    yield ("controllers", "battery"), default.battery, "battery"
    yield ("controllers", "community_battery"), default.community_battery, "battery"
    yield ("controllers", "ev"), default.ev, "ev"
    yield ("controllers", "heat_pump"), default.heat_pump, "heat_pump"
    source = scenario.buildings_from
    assets: list[tuple[YamlPath, object]] = [
        (("buildings", i, "assets", j), asset)
        for i, building in enumerate(scenario.buildings)
        for j, asset in enumerate(building.assets)
    ]
    assets += [(("place", i, "asset"), placement.asset) for i, placement in enumerate(scenario.place)]
    if source is not None and source.like is not None:
        assets += [(("buildings_from", "like", "assets", j), asset) for j, asset in enumerate(source.like.assets)]
    for path, asset in assets:
        if isinstance(asset, BatteryAsset | EvAsset | HeatPumpAsset) and asset.controller is not None:
            yield (*path, "controller"), asset.controller, asset.kind


def check_names(loaded: LoadedScenario) -> None:
    """Refuse strategies and controllers that do not exist, and strategies with wrong parameters.

    Raises
    ------
    ScenarioError
        With the place in the scenario.
    """
    for path, strategy in strategies_of(loaded.scenario):
        try:
            made = make_strategy(strategy.kind, strategy.parameters)
        except MarketError as error:
            below = "parameters" if "parameter" in error.message else "kind"
            raise loaded.error((*path, below), error.message, error.remedy) from error
        if made.sessions_only:
            usable = ", ".join(n for n, cls in strategy_classes().items() if not cls.sessions_only)
            raise loaded.error(
                (*path, "kind"),
                f"{strategy.kind} learns from event to event and works in sessions of its own, not in a run",
                f"choose one of {usable}; `peerwatt bench theory` shows {strategy.kind} at work",
            )
    known = controllers()
    for path, name, drives in controllers_of(loaded.scenario):
        if name not in known or known[name]["drives"] != drives:
            raise _no_controller(loaded, path, name, drives)


def _no_controller(loaded: LoadedScenario, path: YamlPath, name: str, drives: str) -> ScenarioError:
    names = [other for other, entry in controllers().items() if entry["drives"] == drives]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(names))}"
    return loaded.error(path, f"no controller of a {drives} is called {name!r}", remedy)
