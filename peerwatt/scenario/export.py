"""A scenario written out: JSON Schema, the resolved YAML, and the digest that names a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from os.path import relpath
from pathlib import Path
from typing import Any

import yaml

from core import canonical_json, sha256_hex
from peerwatt.scenario.assets import EvAsset
from peerwatt.scenario.buildings import Building, FolderBuildings
from peerwatt.scenario.inherit import FILE_LIKE
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.supply import Series, WeatherPv

_PATH_KEYS = ("file", "sessions_file", "folder")


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file, for editors and other tools.

    Nothing is required at the top, since a file that extends another states only what it changes.
    """
    schema = Scenario.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "peerwatt scenario"
    schema.pop("required", None)
    schema["anyOf"] = [{"required": ["extends"]}, {"required": ["name", "time"]}]
    for definition in schema["$defs"].values():
        for key, value in definition.get("properties", {}).items():
            value.pop("title", None)
            if "const" in value and key == "kind":
                value["type"] = "string"
    return schema


# --- YAML -----------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Block style, no aliases; texts that another YAML reader could take for something else are quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text[:1].isalpha() and all(part.isalnum() for part in re.split("[-_. ]", text) if part)
    style = '"' if not text.isprintable() else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def resolved_yaml(scenario: Scenario, *, relative_to: Path | None = None) -> str:
    """The scenario with every default written out; loading it gives an equal scenario, writing it equal bytes.

    Data paths are absolute, or relative to the folder ``relative_to`` in which the text will lie.
    """
    value = _id_first(scenario.model_dump(mode="json", exclude={"extends"}))
    if relative_to is not None:
        folder = relative_to.resolve()
        value = _with_paths(value, lambda path: Path(relpath(path, folder)).as_posix())
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _id_first(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "id") if "id" in value else list(value)
        return {key: _id_first(value[key]) for key in keys}
    return [_id_first(item) for item in value] if isinstance(value, list) else value


# --- digest ---------------------------------------------------------------------------------------------------------


def data_files(
    scenario: Scenario,
    buildings: Iterable[Building] = (),
    profiles: Mapping[str, Series | WeatherPv] | None = None,
) -> tuple[Path, ...]:
    """Every data file that a scenario and its expanded buildings and profiles read, sorted, each once."""
    found: set[str] = set()

    def note(path: str) -> str:
        found.add(path)
        return path

    _with_paths(scenario.model_dump(mode="json"), note)
    for series in (profiles or {}).values():
        _with_paths(series.model_dump(mode="json"), note)
    for building in buildings:
        found |= {a.sessions_file for a in building.assets if isinstance(a, EvAsset) and a.sessions_file is not None}
    if isinstance(scenario.buildings_from, FolderBuildings):
        found.discard(scenario.buildings_from.folder)
    return tuple(Path(name) for name in sorted(found))


def scenario_digest(scenario: Scenario, hashes: Mapping[Path, str] | None = None) -> str:
    """SHA-256 that names a run: the scenario with its seed and the content of its data files.

    The context is left out (``plant`` of each building), and so is the folder where files lie: a path counts as the
    hash of its content.

    Parameters
    ----------
    hashes
        SHA-256 of each of `data_files`, by its path. Those inside the folder of ``buildings_from`` count by file name.

    Raises
    ------
    KeyError
        If a file of the scenario has no hash.
    """
    by_name = {str(path): digest for path, digest in (hashes or {}).items()}
    folder = scenario.buildings_from.folder if isinstance(scenario.buildings_from, FolderBuildings) else None
    inside: dict[str, str] = {}
    if folder is not None:
        inside = {Path(name).name: digest for name, digest in by_name.items() if str(Path(name).parent) == folder}
    value = _with_paths(
        scenario.model_dump(mode="json", exclude={"extends"}),
        lambda path: "the folder" if path == folder else f"sha256:{by_name[path]}",
    )
    return sha256_hex(canonical_json({"scenario": _without_plant(value), "folder": inside}))


def _without_plant(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_plant(item) for key, item in value.items() if key != "plant"}
    return [_without_plant(item) for item in value] if isinstance(value, list) else value


def _with_paths(value: Any, change: Callable[[str], str]) -> Any:
    """A copy in which every data path went through ``change``."""
    if isinstance(value, list):
        return [_with_paths(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _changed(key, item, change) for key, item in value.items()}


def _changed(key: str, item: Any, change: Callable[[str], str]) -> Any:
    if key == "parameters":
        return item
    if isinstance(item, str):
        if key in _PATH_KEYS or (key == "weather" and FILE_LIKE.search(item)):
            return change(item)
        if key == "source" and item.startswith("pandapower:"):
            return f"pandapower:{change(item.removeprefix('pandapower:'))}"
        return item
    return _with_paths(item, change)
