"""Scenarios: one YAML file says everything about a run. Reading, checking, expanding, writing them.

The models are in `peerwatt.scenario.models`. Names are imported when they are first used, so that the command's help
stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.scenario.expand_network import NetworkElements as NetworkElements
    from peerwatt.scenario.expand_network import NetworkLoad as NetworkLoad
    from peerwatt.scenario.expand_network import NetworkSgen as NetworkSgen
    from peerwatt.scenario.expand_network import NetworkStorage as NetworkStorage
    from peerwatt.scenario.expansion import Expanded as Expanded
    from peerwatt.scenario.expansion import expand as expand
    from peerwatt.scenario.expansion import expand_buildings as expand_buildings
    from peerwatt.scenario.export import data_files as data_files
    from peerwatt.scenario.export import json_schema as json_schema
    from peerwatt.scenario.export import resolved_yaml as resolved_yaml
    from peerwatt.scenario.export import scenario_digest as scenario_digest
    from peerwatt.scenario.inherit import shipped_scenarios as shipped_scenarios
    from peerwatt.scenario.loader import LoadedScenario as LoadedScenario
    from peerwatt.scenario.loader import load_scenario as load_scenario
    from peerwatt.scenario.models import Scenario as Scenario
    from peerwatt.scenario.names import check_names as check_names
    from peerwatt.scenario.problems import ScenarioProblems as ScenarioProblems
    from peerwatt.scenario.semantics import slot_grid as slot_grid
    from peerwatt.scenario.template import init_text as init_text
    from peerwatt.scenario.template import write_template as write_template
    from peerwatt.scenario.times import resolve_moment as resolve_moment

_WHERE = {
    "Expanded": "expansion",
    "LoadedScenario": "loader",
    "NetworkElements": "expand_network",
    "NetworkLoad": "expand_network",
    "NetworkSgen": "expand_network",
    "NetworkStorage": "expand_network",
    "Scenario": "models",
    "ScenarioProblems": "problems",
    "check_names": "names",
    "data_files": "export",
    "expand": "expansion",
    "expand_buildings": "expansion",
    "init_text": "template",
    "json_schema": "export",
    "load_scenario": "loader",
    "resolve_moment": "times",
    "resolved_yaml": "export",
    "scenario_digest": "export",
    "shipped_scenarios": "inherit",
    "slot_grid": "semantics",
    "write_template": "template",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
