"""YAML into plain values with the line of each, and what is wrong with it in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from core.errors import ScenarioError

Place = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""


class YamlFileError(ScenarioError):
    """A file is wrong. ``problems`` holds each as an error of its own; the first lends its place to this one."""

    def __init__(self, problems: Sequence[ScenarioError]) -> None:
        first = problems[0]
        self.problems = tuple(problems)
        super().__init__(first.message, file=first.file, path=first.path, line=first.line, remedy=first.remedy)

    def __str__(self) -> str:
        texts = [str(problem) for problem in self.problems]
        return texts[0] if len(texts) == 1 else "\n".join([f"{len(texts)} problems", *texts])


class _Loader(yaml.SafeLoader):
    """The safe loader; plain scalars are true, false, null, whole numbers (also 0x..) and decimals, no time stamps."""


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9A-Fa-f]+", list("-+0123456789")),
    ("float", r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


class Source:
    """A file's text as plain values: ``value``, and the line of each place.

    Raises
    ------
    YamlFileError
        If it is no YAML, no mapping, or gives a key twice.
    """

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._lines: dict[Place, int] = {}
        self._found: list[ScenarioError] = []
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = None if mark is None else mark.line + 1
            remedy = "check indentation, colons and quotes on this line and the one above"
            raise YamlFileError(
                [ScenarioError(f"is not valid YAML: {error.problem}", file=file, line=line, remedy=remedy)]
            ) from None
        except yaml.YAMLError as error:
            raise YamlFileError(
                [ScenarioError(f"is not YAML: {error}", file=file, remedy="save it as UTF-8")]
            ) from None
        if not isinstance(node, yaml.MappingNode):
            raise YamlFileError(
                [ScenarioError("must be a mapping of keys", file=file, line=1, remedy="write `key: value` lines")]
            )
        self._loader = _Loader("")
        self._loader.flatten_mapping(node)
        self.value: dict[str, Any] = self._mapping(node, ())
        self.raise_any()

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        self._lines.setdefault(place, node.start_mark.line + 1)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in values:
                first = self._lines[(*place, key)]
                line = key_node.start_mark.line + 1
                self._found.append(
                    ScenarioError(
                        f"the key {key!r} is given twice, first in line {first}",
                        file=self.file,
                        path=show(place) or None,
                        line=line,
                        remedy="remove one of the two",
                    )
                )
                continue
            self._lines[(*place, key)] = key_node.start_mark.line + 1
            values[key] = self._value(value_node, (*place, key))
        return values

    def _value(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for i, item in enumerate(node.value):
                self._lines[(*place, i)] = item.start_mark.line + 1
                items.append(self._value(item, (*place, i)))
            return items
        if node.tag == "tag:yaml.org,2002:int":
            return int(node.value, 0) if not node.value.startswith("+") else int(node.value[1:], 0)
        return self._loader.construct_object(node)

    def line(self, place: Place) -> int | None:
        """Line of ``place``, or of the nearest thing around it."""
        for length in range(len(place), -1, -1):
            if (line := self._lines.get(place[:length])) is not None:
                return line
        return None

    def add(self, place: Place, message: str, remedy: str) -> None:
        """Collect a problem."""
        self._found.append(
            ScenarioError(message, file=self.file, path=show(place) or None, line=self.line(place), remedy=remedy)
        )

    def explain(self, error: ValidationError, model: type[BaseModel]) -> None:
        """Collect everything that pydantic found."""
        for detail in error.errors(include_url=False):
            place = tuple(part for part in detail["loc"] if not (isinstance(part, str) and "[" in part))
            place = tuple(part for part in place if part not in _BRANCHES)
            self.add(place, *_words(detail["type"], detail, place, model))

    def raise_any(self) -> None:
        """Raise `YamlFileError` if anything was collected."""
        if self._found:
            raise YamlFileError(sorted(self._found, key=lambda problem: problem.line or 0))


_BRANCHES = {"int", "float", "str", "constrained-str"}
"""What pydantic writes into a place for the chosen kind of a union."""


def show(place: Place) -> str:
    """``points.w.address`` for ``("points", "w", "address")``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _words(kind: str, detail: Mapping[str, Any], place: Place, model: type[BaseModel]) -> tuple[str, str]:
    """Reason and remedy of one pydantic finding."""
    name = str(place[-1]) if place else ""
    given = detail.get("input")
    if kind == "missing":
        return f"the key {name!r} is missing", f"add `{name}:`"
    if kind == "extra_forbidden" and given is None and " " in name:
        return f"{name!r} stands there as a key", "put a text that holds a comma into quotes"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name, _keys(model), n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "remove it"
        return f"the key {name!r} is unknown", remedy
    context = detail.get("ctx", {})
    if kind == "value_error":
        message, _, remedy = str(context.get("error", detail["msg"])).partition("; ")
        return message, remedy or "correct it"
    if kind == "literal_error":
        return f"{given!r} is not possible here", f"choose one of {context.get('expected')}"
    return f"{given!r} is wrong: {str(detail['msg'])[:1].lower()}{str(detail['msg'])[1:]}", "correct the value"


def _keys(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> list[str]:
    """Every key of a model and of the models inside it."""
    seen = set() if seen is None else seen
    if model in seen:
        return []
    seen.add(model)
    keys = []
    for name, field in model.model_fields.items():
        keys.append(field.alias or name)
        for inner in _models(field.annotation):
            keys += _keys(inner, seen)
    return keys


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def read_text(path: Path) -> str:
    """The text of a file.

    Raises
    ------
    YamlFileError
        If it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is no UTF-8 text (byte {error.start})"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    raise YamlFileError([ScenarioError(problem, file=path, remedy="check the path and that it is a text file")])
