"""Scenario text into plain values with the line of each: YAML without the traps of its older version.

Only ``true`` and ``false`` are booleans (``no`` stays a word), ``22:30`` and dates stay text (the models read them),
a number with a leading zero stays text. Keys given twice, tags, NaN and infinities are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from core.errors import ScenarioError
from peerwatt.scenario.problems import Mark, Problems, ScenarioProblems, YamlPath, show_path

_MOST_VALUES = 500_000
"""A document that unfolds its aliases to more values than this is refused."""

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader with the plain scalars of YAML 1.2, without time stamps."""


_Loader.yaml_implicit_resolvers = {}  # none of the base class, which is left as it is


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(slots=True)
class Document:
    """One scenario text as plain values: ``value`` (dict, list, str, int, float, bool, None) and the place of each."""

    value: dict[str, Any]
    marks: dict[YamlPath, Mark]
    base_dir: Path
    file: Path | None
    problems: list[ScenarioError] = field(default_factory=list)

    def collector(self) -> Problems:
        """A collector of problems that knows this document's places."""
        return Problems(self.marks, None if self.file is None else str(self.file))


def read_document(file: Path) -> Document:
    """Read one YAML file.

    Raises
    ------
    ScenarioError
        If it cannot be read, breaks YAML's syntax, or is no mapping. Refused keys and numbers are collected in
        ``Document.problems`` instead, so that they are told together with the rest.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(
            f"is no UTF-8 text (byte {error.start})", file=file, remedy="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ScenarioError(
            f"cannot be read: {error.strerror or error}", file=file, remedy="check the path and that it is a file"
        ) from None
    return parse_document(text, file=file, base_dir=file.parent)


def parse_document(text: str, *, file: Path | None, base_dir: Path) -> Document:
    """Parse YAML text; see `read_document`."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file) from None
    except yaml.YAMLError as error:
        raise ScenarioError(
            f"is not YAML: {error}", file=file, remedy="remove characters that are not printable"
        ) from None
    except RecursionError:
        raise ScenarioError("is nested too deeply", file=file, remedy="a scenario needs a dozen levels") from None
    if not isinstance(node, yaml.MappingNode):
        what = "is empty" if node is None else "must be a mapping of keys at its top"
        raise ScenarioError(what, file=file, line=1, remedy="start from the text that `peerwatt init NAME` writes")
    document = Document({}, {}, base_dir, file)
    reader = _Reader(document)
    document.value = reader.mapping(node, ())
    return document


def _syntax_error(error: yaml.MarkedYAMLError, file: Path | None) -> ScenarioError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "syntax error"
    remedy = "check indentation, colons and quotes on this line and the one above"
    if "\\t" in problem:
        problem, remedy = "a tab stands where YAML wants spaces", "indent with spaces only"
    elif "mapping values are not allowed" in problem:
        remedy = "quote texts that contain a colon, and check the indentation"
    elif "expected a single document" in f"{error.context} {problem}":
        problem, remedy = "holds more than one document", "remove the line `---` and what follows it"
    elif "undefined alias" in problem:
        remedy = "define the anchor (&name) above the alias (*name)"
    elif "expected <block end>" in problem:
        problem, remedy = "the indentation does not fit the lines above", "align the keys of one mapping exactly"
    return ScenarioError(
        f"is not valid YAML: {problem}", file=file, line=None if mark is None else mark.line + 1, remedy=remedy
    )


class _Reader:
    """Turns the node tree into plain values; keeps marks, collects problems."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._file = None if document.file is None else str(document.file)
        self._count = 0
        self._open: set[int] = set()

    def _problem(self, node: yaml.Node, path: YamlPath, message: str, remedy: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(
            ScenarioError(message, file=self._file, path=show_path(path) or None, line=line, remedy=remedy)
        )

    def _fatal(self, node: yaml.Node, path: YamlPath, message: str, remedy: str) -> ScenarioProblems:
        self._problem(node, path, message, remedy)
        return ScenarioProblems(self._document.problems[-1:])

    def value(self, node: yaml.Node, path: YamlPath) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise self._fatal(node, path, "the file holds too many values", "use fewer aliases, or a folder of files")
        if id(node) in self._open:
            raise self._fatal(node, path, "an alias (*name) stands inside its own anchor", "write the value out")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            assert isinstance(node, yaml.SequenceNode)
            return self._sequence(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.SequenceNode, path: YamlPath) -> list[Any]:
        values = []
        for i, item in enumerate(node.value):
            self._mark((*path, i), item)
            values.append(self.value(item, (*path, i)))
        return values

    def _mark(self, path: YamlPath, node: yaml.Node) -> None:
        self._document.marks[path] = Mark(self._file, node.start_mark.line + 1)

    def mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        if not path:
            self._mark((), node)
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                self._merge(value_node, path, values, lines)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key must be a plain word", "write `key: value`")
                continue
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if lines.get(key):
                self._problem(
                    key_node,
                    (*path, key),
                    f"the key {key!r} is given twice, first in line {lines[key]}",
                    "remove one of the two",
                )
                continue
            if key.isdecimal() and node.flow_style and value_node.tag == _TAG + "null" and not value_node.value:
                self._problem(
                    key_node,
                    path,
                    f"{key!r} stands alone, as if a number had a decimal comma",
                    f"write a decimal point, e.g. 0.{key} for 0,{key}; YAML takes a comma for the next key",
                )
                continue
            lines[key] = line
            self._mark((*path, key), key_node)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _merge(self, node: yaml.Node, path: YamlPath, values: dict[str, Any], lines: dict[str, int]) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            merged = self.value(source, path)
            if not isinstance(merged, dict):
                self._problem(source, path, "`<<` needs a mapping to take over", "name an anchor of a mapping")
                continue
            for key, value in merged.items():
                if key not in values:
                    values[key] = value
                    lines[key] = 0  # a key of the mapping itself may still replace it

    def _scalar(self, node: yaml.ScalarNode, path: YamlPath) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                return int(text)
            if kind == "float":
                number = float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))
                if not math.isfinite(number):
                    raise OverflowError
                return number
        except OverflowError:
            self._problem(node, path, f"{text} is no finite number", "write a number, or leave the key out")
            return 0.0
        except ValueError:
            self._problem(node, path, f"{text!r} is no number", "write a number with a decimal point")
            return 0.0
        self._problem(node, path, f"the tag {node.tag!r} is not supported", "remove the tag")
        return text


def document_of(mapping: Mapping[str, Any], base_dir: Path) -> Document:
    """A document from Python values: dates and paths become text, tuples lists; NaN is collected as a problem."""
    document = Document({}, {}, base_dir, None)
    document.value = _plain(mapping, (), document)
    return document


def _plain(value: Any, path: YamlPath, document: Document) -> Any:
    document.marks[path] = Mark(None, None)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*path, str(key)), document) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, i), document) for i, item in enumerate(value)]
    if isinstance(value, date):  # datetime is a date
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        message, remedy = f"{value} is no finite number", "give a number; leave the key out for the default"
    else:
        message, remedy = f"a {type(value).__name__} cannot stand in a scenario", "give numbers, text, lists, mappings"
    document.problems.append(ScenarioError(message, path=show_path(path) or None, remedy=remedy))
    return 0.0
