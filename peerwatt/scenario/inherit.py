"""`extends`: a chain of scenarios merged from the root down; data paths made absolute; overrides from the command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ScenarioError
from peerwatt.scenario.migrate import migrate
from peerwatt.scenario.models import FORMAT
from peerwatt.scenario.problems import Mark, Problems, ScenarioProblems, YamlPath, choose
from peerwatt.scenario.source import Document, document_of, read_document

SHIPPED = Path(__file__).resolve().parent.parent / "scenarios"
"""Folder of the scenarios that come with the package."""

_PATH_KEYS = ("file", "sessions_file", "folder")
FILE_LIKE = re.compile(r"[/\\]|\.(csv|txt|tsv|parquet|pq)$", re.IGNORECASE)
_CHOICES = {"rule": "uniform_price", "kind": "truthful"}
"""Keys that say whose ``parameters`` stand beside them, with the default of each."""

_STEP = re.compile(r"([^.\[\]]+)|\[([^\[\]]+)\]")


def shipped_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def find_scenario(source: str | Path, base_dir: Path) -> Path:
    """The file that ``source`` means: a path (relative to ``base_dir``), or the name of a shipped scenario.

    Raises
    ------
    ScenarioError
        If there is no such file or name.
    """
    text = str(source)
    as_path = base_dir / Path(text).expanduser()
    if isinstance(source, Path) or re.search(r"[/\\]|\.ya?ml$", text):
        if as_path.is_file():
            return as_path.resolve()
        near = [path.name for path in as_path.parent.glob("*.y*ml")] if as_path.parent.is_dir() else []
        raise ScenarioError(
            "there is no such scenario file",
            file=as_path,
            remedy=choose(as_path.name, near, what="YAML file there") if near else "check the path",
        )
    if text in shipped_scenarios():
        return SHIPPED / f"{text}.yaml"
    if as_path.is_file():
        return as_path.resolve()
    raise ScenarioError(
        f"there is no shipped scenario {text!r} and no such file",
        remedy=choose(text, shipped_scenarios(), what="shipped scenario") + "; or give the path of a YAML file",
    )


def merged(first: Document) -> Document:
    """``first`` and everything it extends as one document; each value keeps the file and line where it stands.

    Problems of every file of the chain are collected in the result.
    """
    chain = [first]
    while (parent := _parent(chain[-1])) is not None:
        if any(document.file == parent for document in chain):
            names = " -> ".join(str(d.file) for d in chain) + f" -> {parent}"
            raise ScenarioProblems(
                [chain[-1].collector().error(("extends",), f"extends goes in a circle: {names}", "cut it somewhere")]
            )
        chain.append(read_document(parent))
    whole = Document({}, {}, first.base_dir, first.file)
    for document in reversed(chain):
        migrate(document, FORMAT)
        make_absolute(document)
        document.value.pop("extends", None)
        merge_into(whole, document)
    return whole


def _parent(document: Document) -> Path | None:
    name = document.value.get("extends")
    if name is None:
        return None
    if not isinstance(name, str):
        message = "extends must be the name or path of a scenario"
        raise ScenarioProblems([document.collector().error(("extends",), message, "e.g. extends: semiurban")])
    try:
        return find_scenario(name, document.base_dir)
    except ScenarioError as error:
        raise ScenarioProblems(
            [document.collector().error(("extends",), f"{name!r}: {error.message}", error.remedy)]
        ) from None


def merge_into(whole: Document, part: Document) -> None:
    """Lay ``part`` over ``whole``: mappings merge deeply, null goes back to the default, the rest replaces."""
    whole.problems.extend(part.problems)
    if () in part.marks:
        whole.marks[()] = part.marks[()]
    _merge_mapping(whole, whole.value, part, part.value, ())


def _merge_mapping(
    whole: Document, below: dict[str, Any], part: Document, above: dict[str, Any], path: YamlPath
) -> None:
    for key, value in above.items():
        here = (*path, key)
        old = below.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if here in part.marks:
                whole.marks[here] = part.marks[here]
            _merge_mapping(whole, old, part, value, here)
            continue
        _forget(whole.marks, here)
        if value is None:
            below.pop(key, None)
            continue
        if isinstance(value, dict):
            below[key] = {}
            if here in part.marks:
                whole.marks[here] = part.marks[here]
            _merge_mapping(whole, below[key], part, value, here)
            continue
        below[key] = value
        for at, mark in part.marks.items():
            if at[: len(here)] == here:
                whole.marks[at] = mark


def _forget(marks: dict[YamlPath, Mark], path: YamlPath) -> None:
    for at in [at for at in marks if at[: len(path)] == path]:
        del marks[at]


# --- data paths -----------------------------------------------------------------------------------------------------


def make_absolute(document: Document) -> None:
    """Rewrite the data paths of a document to absolute ones, seen from the file in which they stand."""
    network = document.value.get("network")
    if isinstance(network, dict) and isinstance(network.get("source"), str):
        kind, colon, name = network["source"].partition(":")
        if kind == "pandapower" and colon and name:
            network["source"] = f"pandapower:{_absolute(name, document.base_dir)}"
    _rewrite(document.value, document.base_dir)


def _absolute(name: str, base_dir: Path) -> str:
    return str((base_dir / Path(name).expanduser()).resolve())


def _rewrite(value: Any, base_dir: Path) -> None:
    if isinstance(value, list):
        for item in value:
            _rewrite(item, base_dir)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "parameters":  # of rules and strategies: not ours to read
            continue
        if isinstance(item, str) and (key in _PATH_KEYS or (key == "weather" and FILE_LIKE.search(item))):
            value[key] = _absolute(item, base_dir)
        else:
            _rewrite(item, base_dir)


# --- overrides ------------------------------------------------------------------------------------------------------


def override(whole: Document, overrides: Mapping[str, Any], base_dir: Path) -> None:
    """Lay ``overrides`` over a document; their data paths are relative to ``base_dir``.

    A key may be a path: ``market.stages[0].rule``, ``buildings[home-3].plant`` (position or id; the position after the
    last makes a new entry). A mapping merges, None goes back to the default. Another rule or strategy does not take
    over the parameters of the one it replaces; overrides of parameters are laid over afterwards, in whatever order.

    Raises
    ------
    ScenarioError
        If a path names a list entry that does not exist.
    """
    chosen = [name for name in overrides if name.rpartition(".")[2] in _CHOICES]
    for name in dict.fromkeys((*chosen, *overrides)):
        value = overrides[name]
        part = document_of({"value": value}, base_dir)
        whole.problems.extend(part.problems)
        _set(whole, _STEP.findall(name) or [(name, "")], part.value["value"], name)
    make_absolute(Document(whole.value, {}, base_dir, None))  # what was absolute stays as it is


def _set(whole: Document, steps: list[tuple[str, str]], value: Any, name: str) -> None:
    holder: Any = whole.value
    path: YamlPath = ()
    problems = Problems(whole.marks, None)
    keys = [word or index for word, index in steps]
    for step, (_, next_index) in zip(keys, steps[1:], strict=False):
        key = _key(holder, step, problems, path, name)
        if isinstance(holder, dict):
            holder = holder.setdefault(key, [] if next_index else {})
        elif key == len(holder):
            holder.append({})
            holder = holder[-1]
        else:
            holder = holder[key]
        path = (*path, key)
    last = _key(holder, keys[-1], problems, path, name)
    path = (*path, last)
    if isinstance(holder, list):
        _forget(whole.marks, path)
        holder[int(last) : int(last) + 1] = [value]
        whole.marks[path] = Mark(None, None)
        return
    if last in _CHOICES and isinstance(holder, dict) and holder.get(last, _CHOICES[str(last)]) != value:
        holder.pop("parameters", None)
        _forget(whole.marks, (*path[:-1], "parameters"))
    part = document_of({str(last): value}, whole.base_dir)
    part.marks = {(*path[:-1], *at): mark for at, mark in part.marks.items() if at}
    _merge_mapping(whole, holder, part, part.value, path[:-1])


def _key(holder: Any, step: str, problems: Problems, path: YamlPath, name: str) -> str | int:
    if isinstance(holder, dict):
        return step
    if isinstance(holder, list):
        if step.isdecimal() and int(step) <= len(holder):  # one past the end makes a new entry
            return int(step)
        ids = [item.get("id", item.get("name")) if isinstance(item, dict) else None for item in holder]
        if step in ids:
            return ids.index(step)
        known = [str(i) for i in ids if i is not None] or [str(i) for i in range(len(holder))]
        raise problems.error(path, f"the override {name!r} names no entry here", choose(step, known, what="entry"))
    raise problems.error(path, f"the override {name!r} goes below a plain value", "check the path of the override")
