"""The part of docs/mqtt.md that is made from the code: topics, codes, and every payload's schema with an example."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from market.engine.commands import REFUSALS
from peerwatt.gateway.examples import EXAMPLES
from peerwatt.gateway.intake import CODES
from peerwatt.gateway.payloads import SCHEMAS, json_schema
from peerwatt.gateway.topics import TOPICS

BEGIN = "<!-- made by `peerwatt mqtt topics --markdown`: begin -->"
END = "<!-- made by `peerwatt mqtt topics --markdown`: end -->"


def reference() -> str:
    """The whole part, between its marks."""
    return "\n".join([BEGIN, "", *_topics(), *_codes(), *_payloads(), END]) + "\n"


def _topics() -> Iterator[str]:
    yield "## Topics"
    yield ""
    yield "| topic | written by | read by | payload | QoS | retained | expires |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for info in TOPICS:
        payload = f"[{info.payload}](#{info.payload.lower()})" if info.payload else "anything"
        kept = "yes" if info.retain else "no"
        yield f"| `{info.template}` | {info.writes} | {info.reads} | {payload} | 1 | {kept} | {info.expiry} |"
    yield ""
    for info in TOPICS:
        yield f"- `{info.template}`: {info.about}"
    yield ""


def _codes() -> Iterator[str]:
    yield "## Why a request is refused"
    yield ""
    yield "| code | meaning |"
    yield "| --- | --- |"
    for code, words in sorted({**REFUSALS, **CODES}.items()):
        yield f"| `{code}` | {words} |"
    yield ""


def _payloads() -> Iterator[str]:
    yield "## Payloads"
    yield ""
    for name in SCHEMAS:
        schema = json_schema(name)
        definitions: dict[str, Any] = schema["$defs"]
        yield f"### {name}"
        yield ""
        yield definitions[name]["description"].replace("``", "`")
        yield ""
        yield "```json"
        yield json.dumps(EXAMPLES[name])
        yield "```"
        yield ""
        yield from _fields(definitions[name])
        yield ""
        for part, definition in definitions.items():
            if part != name:
                yield f"Each {part}: {definition['description'].replace('``', '`')}"
                yield ""
                yield from _fields(definition)
                yield ""
        yield "<details><summary>JSON schema</summary>"
        yield ""
        yield "```json"
        yield json.dumps(schema)
        yield "```"
        yield ""
        yield "</details>"
        yield ""


def _fields(definition: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | needed | meaning |"
    yield "| --- | --- | --- | --- |"
    needed = set(definition.get("required", ()))
    for name, field in definition["properties"].items():
        about = field.get("description", "").replace("``", "`").replace("|", "\\|")
        yield f"| `{name}` | {_type(field)} | {'yes' if name in needed else ''} | {about} |"


def _type(field: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}" if "items" in field else "list"
    return str(field.get("type", "anything"))
