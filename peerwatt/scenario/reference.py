"""The reference of all keys in ``docs/scenario.md``, written from the models so that it cannot fall behind them.

``python -m peerwatt.scenario.reference docs/scenario.md`` brings the page up to date.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from peerwatt.scenario import base
from peerwatt.scenario.models import Scenario

BEGIN = "<!-- reference: begin (written by python -m peerwatt.scenario.reference) -->"
END = "<!-- reference: end -->"

_NAMED = {
    base.Moment: "date or date-time",
    base.DateTime: "date-time",
    base.BusName: "name or index",
    base.Clock: "hh:mm",
    base.Id: "id",
}
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true/false", Any: "anything", type(None): "null"}


def models_in_order() -> tuple[type[BaseModel], ...]:
    """Every model of a scenario, each once, the whole first, then as they are named."""
    found: dict[type[BaseModel], None] = {}
    _collect(Scenario, found)
    return tuple(found)


def _collect(model: type[BaseModel], found: dict[type[BaseModel], None]) -> None:
    if model in found:
        return
    found[model] = None
    for field in model.model_fields.values():
        for inner in _models_of(field.annotation):
            _collect(inner, found)


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        if not isinstance(argument, str | int | FieldInfo):
            yield from _models_of(argument)


def reference_markdown() -> str:
    """A section with a table per model: key, type, default, meaning."""
    return "\n".join(_section(model) for model in models_in_order())


def _section(model: type[BaseModel]) -> str:
    rows = [f"### {model.__name__}", "", _summary(model), "", "| key | type | default | meaning |", "|---|---|---|---|"]
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "id")
    for name, field in fields:
        about = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type_text(field)} | {_default_text(field)} | {about} |")
    return "\n".join([*rows, ""])


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split()).replace("``", "`")


def _type_text(field: FieldInfo) -> str:
    limits = [text for item in field.metadata if (text := _limit_text(item))]
    annotation: Any = field.annotation
    if field.metadata:
        annotation = next((k for k in _NAMED if get_args(k)[1:] == tuple(field.metadata)), annotation)
    text = _words(annotation)
    return f"{text} {', '.join(limits)}".strip() if text in ("number", "whole number") else text


def _limit_text(item: Any) -> str:
    for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (value := getattr(item, key, None)) is not None:
            return f"{sign} {value:g}"
    return ""


def _words(annotation: Any) -> str:
    if annotation in _NAMED:
        return _NAMED[annotation]
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [t for item in arguments[1:] for m in getattr(item, "metadata", [item]) if (t := _limit_text(m))]
        inner = _words(arguments[0])
        return f"{inner} {', '.join(limits)}".strip() if inner in ("number", "whole number") else inner
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"name: {_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    raise TypeError(f"no words for {annotation!r}")


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return ""
    if isinstance(value, BaseModel):
        stated = value.model_dump(exclude_defaults=True)
        return "see there" if not stated else f"`{stated}`".replace("'", "")
    if isinstance(value, tuple | dict):
        return _collection_text(value)
    return f"`{str(value).lower() if isinstance(value, bool | Enum) else value}`" if value != "" else ""


def _collection_text(value: tuple[Any, ...] | dict[str, Any]) -> str:
    if not value:
        return "none"
    if isinstance(value, tuple) and all(isinstance(item, str | int) for item in value):
        return "`" + ", ".join(str(item) for item in value) + "`"
    return "one with every default"


def with_reference(page: str) -> str:
    """The page with its reference written anew.

    Raises
    ------
    ValueError
        If the page lacks the two marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the marks {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{reference_markdown()}\n{END}{tail}"


def main(arguments: Sequence[str]) -> None:
    """Write the reference into the pages named."""
    for name in arguments:
        page = Path(name)
        page.write_text(with_reference(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
