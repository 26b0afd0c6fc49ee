"""One route, declared once: what is enforced and what the OpenAPI document says come from the same lines.

An `Operation` names its method and path, who may call it, what it takes and what it answers. `peerwatt.api.pipeline`
runs it, `peerwatt.api.openapi` describes it, and `tests/peerwatt/api/test_authorisation_matrix.py` refuses one that is
not in its table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from market.engine.commands import Key
from peerwatt.wire.fields import In

if TYPE_CHECKING:
    from starlette.responses import Response

    from peerwatt.api.principal import Principal
    from peerwatt.api.service import Service

API = "/api/v1"
JSON = "application/json"
ANYBODY = ""
"""Scope of routes that everybody with a key or token may use."""


@dataclass(slots=True)
class Call:
    """A request that has passed every check which does not depend on the market.

    Parameters
    ----------
    service
        What the server is made of.
    operation
        The route.
    who
        Who calls; None only on open routes.
    path
        Parameters of the path, as text.
    query, body
        Decoded into the types that the operation declares; None where it declares none.
    key
        The idempotency key with the digest of the request; None on routes that take none.
    headers
        By lower-case name.
    client, asgi
        Address of the caller, and the request's ASGI scope.
    """

    service: Service
    operation: Operation
    who: Principal | None
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
    key: Key | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    asgi: MutableMapping[str, Any] = field(default_factory=dict)

    @property
    def caller(self) -> Principal:
        """Who calls, on a route that is not open."""
        assert self.who is not None, "the route is open"
        return self.who

    @property
    def idempotency(self) -> Key:
        """The key, on a route that takes one."""
        assert self.key is not None, "the route takes no key"
        return self.key


@dataclass(slots=True)
class Answer:
    """What a route answers.

    Parameters
    ----------
    value
        To be encoded as JSON; None = no body.
    status
        None = the operation's own.
    etag
        The entity tag; a caller that has it already is answered 304.
    lasting
        It can never change again: it may be kept for a year.
    repeated
        It is the first answer to the same request once more.
    raw
        A body that is ready, instead of ``value``.
    response
        A whole answer that is ready.
    headers
        Further headers.
    """

    value: Any = None
    status: int | None = None
    etag: str | None = None
    lasting: bool = False
    repeated: bool = False
    raw: bytes | None = None
    response: Response | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Answer]]


Limit = Annotated[int, Meta(ge=1, le=1000, description="At most so many items.", examples=[100])]
Cursor = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_-]+$",
        min_length=1,
        max_length=400,
        description="`next_cursor` of the page before.",
        examples=["MTA0ODI"],
    ),
]


class NoQuery(In):
    """No parameters."""


class Paged(In):
    """Where in a list, and how much of it."""

    limit: Limit = 100
    cursor: Cursor | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route.

    Parameters
    ----------
    method, path
        The path below `API`, with ``{name}`` for parameters.
    name, summary, tag
        For the document: operation id, one line, group. ``description`` says more.
    scope
        What a caller must be allowed; `ANYBODY` known; None = open to everybody.
    handler
        Does it.
    status, answer
        Of success; None = no body. ``media`` is its type.
    query, body
        What it takes; None = nothing. ``body_media`` is the body's type.
    keyed
        An ``Idempotency-Key`` is compulsory.
    if_match
        ``If-Match`` is compulsory.
    tagged
        The answer has an ``ETag`` and knows ``If-None-Match``.
    problems
        Statuses of refusals beside those that follow from the rest.
    max_body
        Bytes of a request.
    group
        Rate limit it counts for, of `peerwatt.api.rate_limit.RATES`; None: ``read`` or ``write`` by its method.
    cost
        How many requests a body counts as.
    describe
        Parts of the document that are not made of the declaration: they replace what would be.
    other
        Responses of the document by status that are not problems.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    handler: Handler
    scope: str | None = None
    description: str = ""
    status: int = 200
    answer: Any = None
    media: str = JSON
    query: type[In] = NoQuery
    body: Any = None
    body_media: str = JSON
    keyed: bool = False
    if_match: bool = False
    tagged: bool = False
    problems: tuple[int, ...] = ()
    max_body: int = 64 << 10
    group: str | None = None
    cost: Callable[[Any], int] = lambda body: 1
    describe: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def limit_group(self) -> str:
        """Rate limit it counts for."""
        return self.group or ("read" if self.method == "GET" else "write")

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every status of a refusal that it can answer with, rising."""
        found = {*self.problems, 414, 422, 503}
        if self.scope is not None:
            found |= {400, 401, 403, 429}
        if self.keyed:
            found |= {400, 409}
        if self.body is not None:
            found |= {400, 413, 415}
        if self.if_match:
            found |= {412, 428}
        return tuple(sorted(found))


class Group:
    """Routes of one file; its decorators make operations of handlers.

    Parameters
    ----------
    tag
        The group's name in the document.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.operations: list[Operation] = []

    def get(self, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """A handler that reads."""
        return self.add("GET", path, name, summary, **more)

    def post(self, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """A handler that does something."""
        return self.add("POST", path, name, summary, **more)

    def put(self, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """A handler that replaces something."""
        return self.add("PUT", path, name, summary, **more)

    def delete(self, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """A handler that removes something."""
        return self.add("DELETE", path, name, summary, **more)

    def add(self, method: str, path: str, name: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """Any handler; ``more`` are the other parameters of `Operation`."""

        def keep(handler: Handler) -> Handler:
            self.operations.append(
                Operation(method=method, path=path, name=name, summary=summary, tag=self.tag, handler=handler, **more)
            )
            return handler

        return keep


_encode = msgspec.json.Encoder().encode


def idempotency_key(key: str, method: str, path: str, body: Any) -> Key:
    """Key and request as the engine compares them. The request's digest is of its meaning, not of its spelling."""
    request = b"%b %b\n%b" % (method.encode(), path.encode(), b"" if body is None else _encode(body))
    return Key(hashlib.sha256(key.encode("latin-1")).digest()[:16], hashlib.sha256(request).digest()[:16])
