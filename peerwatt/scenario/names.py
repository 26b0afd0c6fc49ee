"""Names that other parts register: rules, strategies, controllers, data sets."""

from __future__ import annotations

from collections.abc import Collection

from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.problems import YamlPath, choose


def check_names(
    loaded: LoadedScenario,
    *,
    rules: Collection[str] | None = None,
    strategies: Collection[str] | None = None,
    controllers: Collection[str] | None = None,
    datasets: Collection[str] | None = None,
) -> None:
    """Check the names that a scenario uses against those registered; a group that is None is not checked.

    Raises
    ------
    ScenarioProblems
        With every name that is not registered, its place, and the nearest one that is.
    """
    problems = loaded.problems()
    for group, what in ((rules, "rule"), (strategies, "strategy"), (controllers, "controller"), (datasets, "data set")):
        if group is None:
            continue
        for path, name in used_names(loaded, what):
            if name not in group:
                problems.add(path, f"there is no {what} {name!r}", choose(name, group, what=what))
    problems.raise_any()


def used_names(loaded: LoadedScenario, what: str) -> list[tuple[YamlPath, str]]:
    """Path and name of everything of one kind (rule, strategy, controller, data set) that a scenario names."""
    scenario = loaded.scenario
    used: list[tuple[YamlPath, str]] = []
    if what == "rule":
        used += [(("market", "stages", i, "rule"), stage.rule) for i, stage in enumerate(scenario.market.stages)]
    elif what == "strategy":
        used.append((("strategies", "default", "kind"), scenario.strategies.default.kind))
        for name, strategy in scenario.strategies.by_building.items():
            used.append((("strategies", "by_building", name, "kind"), strategy.kind))
    elif what == "controller":
        used += [(("controllers", key), value) for key, value in scenario.controllers if key != "building"]
    _walk(scenario.model_dump(exclude_none=True), (), what, used)
    return used


def _walk(value: object, path: YamlPath, what: str, used: list[tuple[YamlPath, str]]) -> None:
    """Names inside buildings, placements and series, wherever they stand."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _walk(item, (*path, i), what, used)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        here = (*path, key)
        if key in ("parameters", "strategies", "controllers"):
            continue
        if what == "strategy" and key == "strategy":
            used.append(((*here, "kind"), item["kind"]))
        elif what == "controller" and key == "controller" and not _of_asset(path):
            continue  # a planner of whole buildings: `peerwatt.prepare.planning`
        elif (what == "controller" and key == "controller") or (what == "data set" and key == "dataset"):
            used.append((here, item))
        else:
            _walk(item, here, what, used)


def _of_asset(path: YamlPath) -> bool:
    return "assets" in path[-2:] or "asset" in path[-1:]
