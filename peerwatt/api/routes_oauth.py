"""Access tokens: OAuth 2, client credentials."""

from __future__ import annotations

from typing import Any

from peerwatt import wire
from peerwatt.api.operation import JSON, Answer, Call, Group
from peerwatt.api.roles import SCOPES

routes = Group("Access")
FORM = "application/x-www-form-urlencoded"

_PRINTABLE = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"}
_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["grant_type", "client_id", "client_secret"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {**_PRINTABLE, "description": "Also by HTTP Basic.", "examples": ["house-07~resident"]},
        "client_secret": {**_PRINTABLE, "format": "password"},
        "scope": {**_PRINTABLE, "pattern": "^[!-~ ]+$", "description": "Some of: " + " ".join(SCOPES)},
    },
}
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}
_DESCRIBE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {FORM: {"schema": _FORM_SCHEMA}}},
    "security": [],
}
_OTHER = {
    400: {"description": "The request is not one of RFC 6749.", "content": {JSON: {"schema": _ERROR_SCHEMA}}},
    401: {
        "description": "The client is unknown or its secret is wrong.",
        "content": {JSON: {"schema": _ERROR_SCHEMA}},
    },
}


@routes.post(
    "/oauth/token", "getToken", "An access token for a client's id and secret",
    answer=wire.TokenOut, body=bytes, body_media=FORM, describe=_DESCRIBE, problems=(429,), other=_OTHER,
)  # fmt: skip
async def get_token(call: Call) -> Answer:
    """As RFC 6749 says, with its errors."""
    response = await call.service.tokens.answer(
        call.body,
        content_type=call.headers.get("content-type"),
        authorization=call.headers.get("authorization"),
        address=call.client,
    )
    return Answer(response=response)
