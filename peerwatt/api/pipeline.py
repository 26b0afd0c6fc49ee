"""From bytes to bytes: everything between a request and its route's handler, the same for every route.

In this order: method, key or token, scope, rate limit, query, headers, body; then the handler; then ETag and encoding.
Written as bare ASGI, so that the routes for orders need no framework between them and the socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from peerwatt.api.etag import not_modified
from peerwatt.api.failures import failure
from peerwatt.api.operation import Answer, Call, Operation, idempotency_key
from peerwatt.api.principal import EXCHANGE
from peerwatt.api.problems import Refusal, refuse, unreadable
from peerwatt.wire.fields import In

if TYPE_CHECKING:
    from peerwatt.api.principal import Principal
    from peerwatt.api.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ROUTE = "peerwatt.route"
"""Where the template of a request's path stands in its ASGI scope, for the figures."""

MAX_QUERY_BYTES = 4096
MAX_KEY_CHARS = 128
LASTING = b"private, max-age=31536000, immutable"
FRESH = b"private, no-cache"
_HEADERS = frozenset({b"content-type", b"idempotency-key", b"if-match", b"if-none-match", b"authorization"})

_encode = msgspec.json.Encoder().encode


class GoneError(Exception):
    """The client went away before its request was whole."""


class Endpoint:
    """The ASGI application of one path: its operations by method.

    Parameters
    ----------
    service
        What the server is made of.
    operations
        Those of the path.
    """

    def __init__(self, service: Service, operations: Sequence[Operation]) -> None:
        self._service = service
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self.allow = ", ".join(sorted(self._by_method))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; refusals are raised."""
        operation = self._by_method.get(scope["method"])
        if operation is None:
            raise refuse("method_not_allowed", headers=[("Allow", self.allow)])
        await serve(self._service, operation, scope.get("path_params", {}), scope, receive, send)


async def serve(
    service: Service, operation: Operation, path: Mapping[str, str], scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve a request of an operation.

    Raises
    ------
    Refusal
        For every answer that is a problem; also `market.engine.engine.Overloaded`, `core.errors.JournalError` and
        `peerwatt.store.records.RegistryError` pass through.
    """
    scope[ROUTE] = operation.path
    who: Principal | None = None
    if operation.scope is not None:
        found = service.guard.check(scope, operation.scope or None, operation.limit_group)
        if isinstance(found, Refusal):
            raise found
        who = found
    query = _query(operation, scope["query_string"])
    headers = _headers(scope)
    name = _key_of(headers) if operation.keyed else None
    if operation.if_match and not headers.get("if-match"):
        raise refuse("version_needed", "read it first, and send its ETag back in If-Match")
    body = None
    if operation.body is not None:
        _check_type(operation, headers)
        try:
            raw = await read_body(receive, operation.max_body)
        except GoneError:
            return
        body = raw if operation.body is bytes else _decoded(operation.body, raw)
        if who is not None and (cost := operation.cost(body)) > 1:
            _charge(service, operation, who, cost - 1, scope)
    key = None if name is None else idempotency_key(name, scope["method"], scope["path"], body)
    client = scope.get("client")
    call = Call(service, operation, who, path, query, body, key, headers, client[0] if client else "", scope)
    answer = await operation.handler(call)
    await _send(operation, answer, headers, send)


def _charge(service: Service, operation: Operation, who: Principal, cost: int, scope: Scope) -> None:
    """A long body counts as several requests; 429 if that is too much."""
    standing = service.guard.limiter.take(operation.limit_group, who.client_id, cost)
    if standing.retry_after_s is not None:
        raise standing.refusal()
    if (exchange := scope.get(EXCHANGE)) is not None:
        exchange.standing = standing


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that routes look at; one that comes twice is refused."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in _HEADERS:
            text = name.decode()
            if text in found:
                raise refuse("malformed_request", f"the header {text} comes twice")
            found[text] = value.decode("latin-1").strip()
    return found


def _key_of(headers: Mapping[str, str]) -> str:
    """The idempotency key: 1 to 128 visible ASCII characters."""
    key = headers.get("idempotency-key", "")
    if not 0 < len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
        raise refuse("missing_idempotency_key", f"1 to {MAX_KEY_CHARS} visible ASCII characters, new for every request")
    return key


def _check_type(operation: Operation, headers: Mapping[str, str]) -> None:
    given = headers.get("content-type", "")
    if given != operation.body_media and given.partition(";")[0].strip().lower() != operation.body_media:
        raise failure(
            415, "unsupported_media_type", "The body is not of the right type", f"send {operation.body_media}"
        )


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body; 413 beyond ``limit`` bytes; GoneError if the client goes."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise refuse("body_too_large", f"at most {limit} bytes")
        if not message.get("more_body", False):
            return part if not parts else b"".join((*parts, part))
        parts.append(part)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decoded(kind: Any, raw: bytes) -> Any:
    """The body as its model: numbers are numbers, and no field is unknown."""
    try:
        return _decoder(kind).decode(raw)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    except (UnicodeDecodeError, RecursionError):
        raise refuse("malformed_body", "the body is not JSON in UTF-8") from None


@cache
def _empty_query(kind: type[In]) -> Any:
    try:
        return kind()
    except TypeError:
        return None  # something in it is compulsory


def _query(operation: Operation, text: bytes) -> Any:
    """The query as its model. Each parameter comes at most once; what a route does not know is refused."""
    kind = operation.query
    if not text and (empty := _empty_query(kind)) is not None:
        return empty
    if len(text) > MAX_QUERY_BYTES:
        raise failure(414, "query_too_long", "The query is too long", f"at most {MAX_QUERY_BYTES} bytes")
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise refuse("invalid", "the query cannot be read") from None
    given = dict(pairs)
    if len(given) < len(pairs):
        raise refuse("invalid", "a parameter comes twice")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise unreadable(error) from None


async def _send(operation: Operation, answer: Answer, headers: Mapping[str, str], send: Send) -> None:
    if answer.response is not None:
        await answer.response({"type": "http"}, _nothing, send)
        return
    told: list[tuple[bytes, bytes]] = []
    if answer.etag is not None:
        told.append((b"etag", answer.etag.encode("latin-1")))
        told.append((b"cache-control", LASTING if answer.lasting else FRESH))
        if operation.method == "GET" and _has_it(headers.get("if-none-match"), answer.etag):
            await send({"type": "http.response.start", "status": 304, "headers": told})
            await send({"type": "http.response.body", "body": b""})
            return
    if answer.repeated:
        told.append((b"idempotent-replayed", b"true"))
    for name, value in answer.headers.items():
        told.append((name.lower().encode(), value.encode("latin-1")))
    if answer.raw is None and operation.answer is None:
        body = b""
    else:
        body = _encode(answer.value) if answer.raw is None else answer.raw
        told.append((b"content-type", operation.media.encode()))
        told.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status or operation.status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def _has_it(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this version. What cannot be read names no version: it gets the whole answer."""
    try:
        return not_modified(if_none_match, etag)
    except Refusal:
        return False


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}
