"""The two routes that have to be fast: one order, and a batch of them, served in front of everything else.

What is clean and common is served here at once: known host, one credential that holds, a proper key, a JSON body that
has arrived whole and is of the right form. Whatever is not goes on, untouched, to the application behind, which runs
the same operations through the same pipeline as all others and finds the words for what is wrong. So nothing is
decided here that is not decided there; what is left out is the way through middleware and routing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from peerwatt.api.answers import problem_of
from peerwatt.api.entering import enter_batch, enter_one
from peerwatt.api.operation import API, JSON, Operation, idempotency_key
from peerwatt.api.pipeline import Receive, Scope, Send
from peerwatt.api.problems import MEDIA_TYPE, Refusal, problem_bytes, unexpected

if TYPE_CHECKING:
    from peerwatt.api.principal import Principal
    from peerwatt.api.service import Service
    from peerwatt.wire.service import Problem

    App = Callable[[Scope, Receive, Send], Awaitable[None]]
    Enter = Callable[..., Awaitable[tuple[Any, bool]]]

_HEAD = f"{API}/markets/"
_KEY = re.compile(rb"[!-~]{1,128}")
_HOST = re.compile(rb"(.+?)(?::[0-9]{1,5})?")
_ENTER: dict[str, Enter] = {"enterOrder": enter_one, "enterOrders": enter_batch}
HOT = tuple(_ENTER)
"""Names of the operations that are served here."""

_encode = msgspec.json.Encoder().encode
Headers = list[tuple[bytes, bytes]]


class _Route:
    """One hot operation and what it needs at hand."""

    def __init__(self, operation: Operation) -> None:
        assert operation.scope, "order entry needs a scope"
        self.operation = operation
        self.scope = operation.scope
        self.group = operation.limit_group
        self.status = operation.status
        self.max_body = operation.max_body
        self.cost = operation.cost
        self.decode = msgspec.json.Decoder(operation.body).decode
        self.enter = _ENTER[operation.name]


class HotOrders:
    """An ASGI application that serves order entry itself and hands on everything else.

    Parameters
    ----------
    app
        Serves the rest, with the strict headers around it.
    service
        What the server is made of.
    operations
        All routes; those named in ``HOT`` are served here.
    hosts
        Names that the service goes by, without ports.
    strict
        Headers of every answer, by scheme.
    """

    def __init__(
        self,
        app: App,
        service: Service,
        operations: Sequence[Operation],
        hosts: frozenset[bytes],
        strict: dict[str, Headers],
    ) -> None:
        self._app = app
        self._service = service
        self._authenticate = service.guard.authenticator.authenticate
        self._take = service.guard.limiter.take
        self._request = service.metrics.request
        self._elapsed_s = service.elapsed_s
        self._strict = strict
        routes = {
            operation.path.rpartition("/")[2]: _Route(operation) for operation in operations if operation.name in HOT
        }

        @lru_cache(maxsize=1024)
        def place(path: str) -> tuple[_Route, str] | None:
            head, _, tail = path.rpartition("/")
            market = head[len(_HEAD) :]
            if tail not in routes or not head.startswith(_HEAD) or not market or "/" in market:
                return None
            return routes[tail], market

        @lru_cache(maxsize=256)
        def is_ours(host: bytes) -> bool:
            named = _HOST.fullmatch(host.lower())
            return named is not None and named[1].rstrip(b".") in hosts

        self._place = place
        self._is_ours = is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            place = self._place(scope["path"])
            if place is not None and not scope["query_string"]:
                start_s = self._elapsed_s()
                known = self._known(place[0], scope)
                if known is not None:
                    raw, first = _first(receive)
                    if raw is not None and await self._serve(place, *known, raw, scope, send, start_s):
                        return
                    receive = _again(first, receive)
        await self._app(scope, receive, send)

    def _known(self, route: _Route, scope: Scope) -> tuple[Principal, str] | None:
        """Who asks, and its idempotency key; None if anything about the headers is out of the way."""
        authorization = api_key = key = host = kind = length = None
        seen = 0
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                api_key = value
            elif name == b"idempotency-key":
                key = value
            elif name == b"host":
                host = value
            elif name == b"content-type":
                kind = value
            elif name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                return None
            else:
                continue
            seen += 1
        if key is None or host is None or length is None or kind != b"application/json":
            return None
        once = 4 + (authorization is not None) + (api_key is not None)  # of what was found, nothing came twice
        if seen != once or not self._is_ours(host) or _KEY.fullmatch(key) is None:
            return None
        if not length.isdigit() or len(length) > 9 or int(length) > route.max_body:
            return None
        who = self._authenticate(authorization, api_key)
        if isinstance(who, Refusal) or route.scope not in who.scopes:
            return None
        return who, key.decode()

    async def _serve(
        self,
        place: tuple[_Route, str],
        who: Principal,
        name: str,
        raw: bytes,
        scope: Scope,
        send: Send,
        start_s: float,
    ) -> bool:
        """Enter what stands in the body and answer; False if it is of no use here."""
        route, market = place
        try:
            body = route.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        standing = self._take(route.group, who.client_id, route.cost(body))
        headers = list(self._strict[scope["scheme"]])
        try:
            if standing.retry_after_s is not None:
                raise standing.refusal()
            key = idempotency_key(name, "POST", scope["path"], body)
            ack, repeated = await route.enter(self._service, who, market, body, key)
        except Exception as error:  # noqa: BLE001  (answered, and logged if nobody thought of it)
            refusal = problem_of(error) or unexpected(error, "POST", scope["path"])
            status, content, kind = _problem(refusal, headers)
        else:
            status, content, kind = route.status, _encode(ack), JSON.encode()
            if repeated:
                headers.append((b"idempotent-replayed", b"true"))
        if standing.retry_after_s is None:  # else the refusal has told them
            headers += [(told.lower().encode(), value.encode()) for told, value in standing.headers()]
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        self._request("POST", route.operation.path, status, self._elapsed_s() - start_s)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        return True


def _problem(refusal: Refusal, headers: Headers) -> tuple[int, bytes, bytes]:
    """Status, body and type of a refusal, whose headers are added to ``headers``."""
    problem: Problem = refusal.problem
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers]
    return problem.status, problem_bytes(problem), MEDIA_TYPE.encode()


# --- a body that is there, or not yet ---------------------------------------------------------------------------------


class _Ready:
    """A message that was taken already; awaiting this gives it."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()  # which makes it a generator
        return self._message


class _Begun:
    """A coroutine that has begun and waits for ``first``: awaiting this lets it go on."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._first
        try:
            while True:
                try:
                    told = yield waits_for
                except BaseException as error:  # noqa: BLE001  (a time-out, or the end of the server: it is passed on)
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(told)
        except StopIteration as done:
            return done.value


def _first(receive: Receive) -> tuple[bytes | None, Awaitable[Any]]:
    """The body, if all of it is there without waiting; and the first message, for whoever is asked next.

    Waiting, with its time limit, is left to the application behind.
    """
    asking: Any = receive()
    if not asyncio.iscoroutine(asking):
        return None, asking
    try:
        waits_for = asking.send(None)
    except StopIteration as done:
        message = done.value
        whole = message["type"] == "http.request" and not message.get("more_body", False)
        return message.get("body", b"") if whole else None, _Ready(message)
    return None, _Begun(asking, waits_for)


def _again(first: Awaitable[Any], then: Receive) -> Receive:
    """A ``receive`` that gives ``first`` and then goes on with another."""
    parts = [first]

    async def receive() -> Any:
        return await (parts.pop() if parts else then())

    return receive
