"""The rule, the strategies, who takes part when, and the meters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core import MarketError, ScenarioError, SlotGrid
from market.registry import Rule, load_rule_file, make_rule, make_strategy
from peerwatt.prepare.stages import market_levels, rounds_of, stages_ahead
from peerwatt.scenario import resolve_moment
from peerwatt.scenario.models import Building, Moment, Scenario
from peerwatt.scenario.problems import YamlPath
from peerwatt.system import MarketSetup, Metering, Wires

if TYPE_CHECKING:
    from grid.profiles import ProfileTable
    from market.strategies.base import Strategy
    from peerwatt.scenario import LoadedScenario


def choose_rule(loaded: LoadedScenario, rule: str | Rule | type[Rule] | None) -> Rule:
    """The scenario's rule, or another in its place: a registered name, a Python file, a class or an instance.

    The scenario's parameters go with the scenario's own rule only.

    Raises
    ------
    ScenarioError
        With the place in the scenario, if its rule or a parameter is wrong.
    MarketError
        If the other rule is.
    """
    last = len(loaded.scenario.market.stages) - 1
    if rule is None or rule == loaded.scenario.market.stages[last].rule:
        return stage_rule(loaded, last)
    return make_rule(_from_file(rule, Path.cwd()) if isinstance(rule, str) else rule)


def stage_rule(loaded: LoadedScenario, i: int) -> Rule:
    """The rule of stage ``i`` with its parameters; ScenarioError with the place if it is wrong."""
    stage = loaded.scenario.market.stages[i]
    try:
        rule = make_rule(_from_file(stage.rule, loaded.base_dir), stage.parameters)
        if getattr(rule, "one_sided", False):
            raise MarketError(
                f"{rule.name} meets one party's request from offers and is no market of slots",
                remedy="call it with market.clear, or choose a rule for buyers and sellers",
            )
        return rule
    except MarketError as error:
        place = ("market", "stages", i, *_place(error.message, stage.parameters))
        raise loaded.error(place, error.message, error.remedy) from error


def _place(message: str, parameters: Mapping[str, object]) -> YamlPath:
    """Where in a stage a rule's complaint belongs: at the parameter that it names, or at the rule."""
    named = re.search(r"parameter (\w+)", message)
    if named is None:
        return ("rule",)
    return ("parameters", *((named[1],) if named[1] in parameters else ()))


def _from_file(rule: str, folder: Path) -> str | type[Rule]:
    if not rule.endswith(".py"):
        return rule
    found = load_rule_file(folder / rule)
    if len(found) != 1:
        names = ", ".join(cls.name for cls in found)
        raise MarketError(f"{rule} registers {len(found)} rules: {names}", remedy="keep one rule to a file")
    return found[0]


def market_setup(
    loaded: LoadedScenario, buildings: tuple[Building, ...], grid: SlotGrid, rule: Rule, wires: Wires | None
) -> MarketSetup:
    """Everything the market step needs to know beside prices."""
    scenario = loaded.scenario
    groups: dict[str, tuple[Strategy, list[int]]] = {}
    for i, building in enumerate(buildings):
        assert building.strategy is not None, "expansion gives every building a strategy"
        key = building.strategy.model_dump_json()
        if key not in groups:
            groups[key] = make_strategy(building.strategy.kind, building.strategy.parameters), []
        groups[key][1].append(i)
    zone = scenario.time.zone

    def slot(moment: Moment | None, default: int) -> int:
        return default if moment is None else -(-_seconds(moment, zone, grid) // grid.length_s)

    return MarketSetup(
        rule=rule,
        ahead=stages_ahead(loaded, grid, rule),
        rounds=rounds_of(loaded, -1, rule),
        levels=market_levels(loaded, buildings, rule, wires),
        backstop=scenario.market.backstop,
        strategies=tuple((strategy, np.array(members, np.int64)) for strategy, members in groups.values()),
        active_from=np.array([slot(b.membership.joins, 0) for b in buildings], np.int64),
        active_until=np.array([slot(b.membership.leaves, grid.n) for b in buildings], np.int64),
    )


def _seconds(moment: Moment, zone: str, grid: SlotGrid) -> int:
    return int((resolve_moment(moment, zone) - grid.start).total_seconds())


def metering_setup(
    scenario: Scenario, buildings: tuple[Building, ...], grid: SlotGrid, profiles: ProfileTable
) -> Metering:
    """How coarse each meter is. Readings begin at full intervals of the local clock at the run's start.

    Raises
    ------
    ScenarioError
        If the run cuts a metering interval.
    """
    from market.settlement.metering import slots_per_reading

    minutes = np.array([b.metering_minutes or scenario.time.slot_minutes for b in buildings], np.int64)
    offset = int(grid.window(0, min(grid.n, 1)).local_time(scenario.time.zone).offset_s[0]) if grid.n else 0
    try:
        span = slots_per_reading(grid, minutes, clock_offset_s=offset)
    except MarketError as error:
        raise ScenarioError(error.message, path="buildings[*].metering_minutes", remedy=error.remedy) from error
    names = list(profiles.names)
    return Metering(
        span=span,
        by_weight=np.array([b.metering_spread == "profile" for b in buildings], np.bool_),
        weight_profile=np.array(
            [names.index(b.spread_profile) if b.spread_profile is not None else 0 for b in buildings], np.int64
        ),
    )
