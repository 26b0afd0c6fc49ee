"""From a YAML file, a shipped name or a mapping to a checked `Scenario`, with the line of every value at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ScenarioError
from peerwatt.scenario.explain import explain, repaired
from peerwatt.scenario.inherit import find_scenario, merged, override
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.problems import Mark, Problems, ScenarioProblems, YamlPath
from peerwatt.scenario.semantics import check
from peerwatt.scenario.source import document_of, read_document


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario and where it came from.

    ``lines`` gives file and line of every value by YAML path; ``base_dir`` is the folder of the outermost file.
    All data paths inside ``scenario`` are absolute.
    """

    scenario: Scenario
    base_dir: Path
    file: Path | None
    lines: Mapping[YamlPath, Mark]

    def problems(self) -> Problems:
        """A collector that knows this scenario's places."""
        return Problems(self.lines, None if self.file is None else str(self.file))

    def error(self, path: YamlPath, message: str, remedy: str | None = None) -> ScenarioError:
        """A `ScenarioError` at the place of ``path`` (keys and list positions)."""
        return self.problems().error(path, message, remedy)


def load_scenario(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> LoadedScenario:
    """Read, migrate, merge, check.

    Parameters
    ----------
    source
        Path of a YAML file, name of a shipped scenario (``semiurban``, ``fontana``, ``street5`` ...), or a mapping
        (its relative paths are seen from the working directory).
    overrides
        Values laid over the scenario; keys may be paths such as ``market.stages[0].rule`` or
        ``buildings[home-3].plant``. None goes back to the default.

    Raises
    ------
    ScenarioProblems
        A `ScenarioError` with all problems found, each with file, line, YAML path and remedy.
    ScenarioError
        If the file is missing or is no YAML.
    """
    here = Path.cwd()
    first = document_of(source, here) if isinstance(source, Mapping) else read_document(find_scenario(source, here))
    whole = merged(first)
    if overrides:
        override(whole, overrides, here)
    problems = Problems(whole.marks, None if first.file is None else str(first.file))
    problems.found.extend(whole.problems)
    scenario = _validate(whole.value, problems)
    if scenario is not None:
        check(scenario, problems)
    problems.raise_any()
    if scenario is None:
        raise ScenarioProblems([ScenarioError("is no scenario", file=first.file)])
    return LoadedScenario(scenario, first.base_dir, first.file, whole.marks)


def _validate(value: dict[str, Any], problems: Problems) -> Scenario | None:
    """The scenario, or None, with its errors collected; JSON mode is strict about numbers yet takes lists for tuples.

    If nothing but unknown keys is wrong, it is the scenario that was probably meant, so that the rest can be checked.
    """
    try:
        return _scenario(value)
    except ValidationError as error:
        explain(error, value, problems)
        meant = repaired(error, value)
    try:
        return _scenario(meant)
    except ValidationError:
        return None


def _scenario(value: dict[str, Any]) -> Scenario:
    return Scenario.model_validate_json(json.dumps(value, allow_nan=False), strict=True)
