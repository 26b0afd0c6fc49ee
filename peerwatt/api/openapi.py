"""The OpenAPI 3.1 document, made of the same declarations that are enforced (`peerwatt.api.operation`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from peerwatt import wire
from peerwatt.api.operation import API, Operation
from peerwatt.api.roles import SCOPES

PROBLEM = "application/problem+json"
_REFS = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")

_WHOLE = {"type": "integer"}
_TIGHTER: dict[str, dict[str, Any]] = {
    "AmendIn": {
        "anyOf": [
            {"required": ["e_wh"], "properties": {"e_wh": _WHOLE}},
            {"required": ["price_u"], "properties": {"price_u": _WHOLE}},
        ]
    },
    "ContractOffer": {
        "oneOf": [
            {"required": ["share_ppm"], "properties": {"share_ppm": _WHOLE}},
            {"required": ["volume_wh"], "properties": {"volume_wh": _WHOLE}},
        ]
    },
}
"""What models check beyond their fields: one of two is given, or exactly one."""

_TITLES = {
    304: "It is as the caller has it already.",
    400: "The request cannot be read, or its idempotency key is missing.",
    401: "No valid key or token.",
    403: "The caller may not do this, or the member may not at present.",
    404: "There is no such thing, or it is somebody else's.",
    409: "It does not fit the present state, or the idempotency key was used for another request.",
    412: "It has changed since it was read.",
    413: "The body is too long.",
    414: "The query is too long.",
    415: "The body is not of the right type.",
    422: "The request is not of the right form, or means something that is refused.",
    428: "`If-Match` is missing.",
    429: "Too many requests; come back after `Retry-After` seconds.",
    503: "The service is overloaded, starting or stopped.",
}

_PATH_SCHEMAS: Mapping[str, tuple[Any, str]] = {
    "market": (wire.Market, "spot"),
    "slot": (wire.Slot, "2016-06-01T12:00:00Z"),
    "participant": (wire.Participant, "house-07"),
    "client": (wire.ClientId, "grid-desk"),
    "order_id": (wire.OrderId, "10482"),
    "contract": (str, "12"),
    "dispute": (str, "3"),
    "period": (wire.BillPeriod, "2016-06"),
    "publication": (str, "17"),
    "key": (str, "k7f3a2qd"),
    "seq": (str, "48211"),
    "device": (wire.DeviceId, "bench-1"),
}

_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Names the request: sent again with the same key, it is answered as the first time and done once. "
    "1 to 128 visible ASCII characters, best a random UUID.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    "example": "5f0c2b1e-6b1d-4a57-9d3a-2f6f0f5d7f10",
}
_TAGS = '^(\\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
_MATCH_HEADER = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The `ETag` of what was read.",
    "schema": {"type": "string", "pattern": _TAGS},
    "example": '"9f86d081884c7d659a2feaa0c55ad015"',
}
_NONE_MATCH_HEADER = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "An `ETag`: if it is still the same, the answer is 304 without a body.",
    "schema": {"type": "string"},
    "example": '"9f86d081884c7d659a2feaa0c55ad015"',
}
_EVENT = {
    "type": "object",
    "description": "One event of the stream; `data` is JSON in one line.",
    "properties": {
        "event": {"type": "string"},
        "id": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer"},
    },
}
_ETAG = {"description": "Version of what is answered.", "schema": {"type": "string"}}
_REPLAYED = {
    "description": "`true` when this is the first answer once more.",
    "schema": {"type": "string", "enum": ["true"]},
}
_RETRY = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document.

    Parameters
    ----------
    operations
        Every route.
    version
        Of the software.
    """
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFS)
    for name, more in _TIGHTER.items():
        components[name] |= more
    by_type = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(API + operation.path, {})[operation.method.lower()] = _operation(
            operation, by_type, components
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "peerwatt",
            "version": version,
            "summary": "A neighbourhood's electricity market.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES, "responses": _problem_responses()},
    }


_DESCRIPTION = """Energies are whole Wh, powers whole W, prices whole micro-currency per kWh, money whole \
micro-currency. Times are RFC 3339 in UTC; a slot is named by the time at which it starts. Refusals are problem \
details (RFC 9457). Lists come in pages: pass `next_cursor` as `cursor`. What belongs to somebody else answers 404."""

_SCHEMES: dict[str, Any] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key, `pw_...`."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key or an access token."},
    "oauth2": {
        "type": "oauth2",
        "description": "Access tokens for client id and secret.",
        "flows": {"clientCredentials": {"tokenUrl": f"{API}/oauth/token", "scopes": dict(SCOPES)}},
    },
}


def _key(kind: Any) -> str:
    return repr(kind)


def _types(operations: Iterable[Operation]) -> list[Any]:
    """Every type that occurs, once."""
    found: dict[str, Any] = {_key(wire.Problem): wire.Problem}
    for operation in operations:
        for kind in (operation.answer, operation.body, operation.query):
            if kind not in (None, str, bytes):
                found.setdefault(_key(kind), kind)
    for kind, _ in _PATH_SCHEMAS.values():
        found.setdefault(_key(kind), kind)
    return list(found.values())


def _operation(operation: Operation, by_type: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            *_path_parameters(operation, by_type),
            *_query_parameters(operation, by_type, components),
            *([_KEY_HEADER] if operation.keyed else []),
            *([_MATCH_HEADER] if operation.if_match else []),
            *([_NONE_MATCH_HEADER] if operation.tagged and operation.method == "GET" else []),
        ],
        "responses": _responses(operation, by_type, components),
        "security": _security(operation),
    }
    described = operation.description or (operation.handler.__doc__ or "").strip()
    if described:
        made["description"] = described
    if operation.body not in (None, bytes):
        schema = by_type[_key(operation.body)]
        content = {"schema": schema}
        if (example := _example(schema, components)) is not None:
            content["example"] = example
        made["requestBody"] = {"required": True, "content": {operation.body_media: content}}
    if not made["parameters"]:
        del made["parameters"]
    return made | dict(operation.describe)


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """Any one of these lets a caller in; none = open."""
    if operation.scope is None:
        return []
    return [{"apiKey": []}, {"bearer": []}, {"oauth2": [operation.scope] if operation.scope else []}]


def _path_parameters(operation: Operation, by_type: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name in _PARAMETER.findall(operation.path):
        kind, example = _PATH_SCHEMAS[name]
        schema = dict(by_type[_key(kind)])
        if kind is str:
            schema |= {"pattern": "^[A-Za-z0-9_-]+$", "minLength": 1, "maxLength": 80}
        described = schema.pop("description", f"Which {name}.")
        schema.pop("examples", None)
        found.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": described,
                "schema": schema,
                "example": example,
            }
        )
    return found


def _query_parameters(
    operation: Operation, by_type: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    schema = _resolved(by_type[_key(operation.query)], components)
    found = []
    for name, own in schema.get("properties", {}).items():
        own = dict(own)
        parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in own:
            parameter["description"] = own.pop("description")
        if examples := own.pop("examples", None):
            parameter["example"] = examples[0]
        found.append(parameter | {"schema": own})
    return found


def _responses(operation: Operation, by_type: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": operation.summary + "."}
    content: dict[str, Any]
    if operation.answer is str:
        streams = operation.media == "text/event-stream"
        good["content"] = {operation.media: {"schema": _EVENT if streams else {"type": "string"}}}
    elif operation.answer is not None:
        schema = by_type[_key(operation.answer)]
        content = {"schema": schema}
        if (example := _example(schema, components)) is not None:
            content["example"] = example
        good["content"] = {operation.media: content}
    headers: dict[str, Any] = {}
    if operation.tagged:
        headers["ETag"] = {**_ETAG, "required": True}
    if operation.keyed:
        headers["Idempotent-Replayed"] = _REPLAYED
    if headers:
        good["headers"] = headers
    responses: dict[str, Any] = {str(operation.status): good}
    if operation.tagged and operation.method == "GET":
        responses["304"] = {"description": _TITLES[304], "headers": {"ETag": _ETAG}}
    for status in operation.statuses:
        responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    for status, response in operation.other.items():
        responses[str(status)] = dict(response)
    return responses


def _problem_responses() -> dict[str, Any]:
    made = {}
    for status, title in _TITLES.items():
        if status == 304:
            continue
        response: dict[str, Any] = {
            "description": title,
            "content": {PROBLEM: {"schema": {"$ref": _REFS.format(name="Problem")}}},
        }
        if status in (429, 503):
            response["headers"] = {"Retry-After": _RETRY}
        made[f"Problem{status}"] = response
    return made


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, without a reference in front."""
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return schema


def _example(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0) -> Any:
    """An example made of the fields' own examples; None where there is none."""
    schema = _resolved(schema, components) if "examples" not in schema else schema
    if examples := schema.get("examples"):
        return examples[0]
    if "enum" in schema:
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    if "anyOf" in schema:
        return next((e for one in schema["anyOf"] if (e := _example(one, components, depth + 1)) is not None), None)
    kind = schema.get("type")
    if kind == "object" and "properties" in schema and depth < 6:
        return {name: _example(own, components, depth + 1) for name, own in schema["properties"].items()}
    if kind == "array" and depth < 6:
        items = schema.get("items")
        if isinstance(items, Mapping) and (one := _example(items, components, depth + 1)) is not None:
            return [one]
        return []
    return {"string": "", "integer": schema.get("minimum", 0), "boolean": False, "number": 0, "object": {}}.get(
        str(kind)
    )
