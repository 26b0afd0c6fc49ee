"""The HTTP application: every route of the API, the stream, the documentation, and what is around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route

from core.errors import JournalError, MarketError
from market.engine.engine import Overloaded
from peerwatt.api import (
    routes_audit,
    routes_bills,
    routes_clients,
    routes_contracts,
    routes_devices,
    routes_envelopes,
    routes_health,
    routes_markets,
    routes_measurements,
    routes_members,
    routes_network,
    routes_oauth,
    routes_orders,
    routes_participants,
    routes_personal,
    routes_settlement,
    stream_route,
)
from peerwatt.api.answers import problem_of
from peerwatt.api.body_limit import BodyLimit
from peerwatt.api.docs_page import docs_routes
from peerwatt.api.headers import LOCAL_HOSTS, Shield
from peerwatt.api.hot_orders import HotOrders
from peerwatt.api.openapi import document
from peerwatt.api.operation import API, Operation
from peerwatt.api.pipeline import ROUTE, Endpoint, Receive, Scope, Send
from peerwatt.api.problems import add_handlers
from peerwatt.api.routes_health import software_version

if TYPE_CHECKING:
    from starlette.requests import Request

    from peerwatt.api.service import Service

    App = Callable[[Scope, Receive, Send], Awaitable[None]]

GROUPS = (
    routes_health.routes,
    routes_oauth.routes,
    routes_markets.routes,
    routes_orders.routes,
    stream_route.routes,
    routes_members.routes,
    routes_settlement.routes,
    routes_bills.routes,
    routes_measurements.routes,
    routes_contracts.routes,
    routes_network.routes,
    routes_envelopes.routes,
    routes_participants.routes,
    routes_clients.routes,
    routes_personal.routes,
    routes_devices.routes,
    routes_audit.routes,
)
OPERATIONS: tuple[Operation, ...] = tuple(operation for group in GROUPS for operation in group.operations)
"""Every route of the API."""

_STREAM = "/stream"


def create_app(service: Service, *, hosts: Iterable[str] | None = None) -> App:
    """The application, for any ASGI server.

    Parameters
    ----------
    service
        What it is made of; it stays the caller's, who also runs and closes it. From now on its registry and its
        stream forget members that the engine erases.
    hosts
        Names that the service goes by beside those of this machine, and the application is complete. None: put
        ``Shield(BodyLimit(app), hosts=...)`` around it, which costs order entry some time.
    """
    version = software_version()
    app = FastAPI(title="peerwatt", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    described = document(OPERATIONS, version)
    app.openapi = lambda: described  # type: ignore[method-assign]
    app.state.guard = service.guard
    add_handlers(app)
    for kind in (Overloaded, JournalError, MarketError):
        app.add_exception_handler(kind, _answered)
    app.router.routes.extend(_routes(service, msgspec.json.encode(described)))
    service.engine.before_erase.append(service.forget)
    inside: App = Stream(Measured(app, service), service)
    if hosts is not None:
        inside = Shield(BodyLimit(inside), hosts=hosts)
    names = frozenset(name.lower().encode() for name in (*LOCAL_HOSTS, *(hosts or ())))
    return HotOrders(inside, service, OPERATIONS, names, _strict_headers())


def _strict_headers() -> dict[str, list[tuple[bytes, bytes]]]:
    """What `Shield` adds to an answer of the API, by scheme: asked of itself, so that it cannot be something else."""

    async def empty(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def never() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for scheme in ("http", "https"):

        async def keep(message: MutableMapping[str, Any], scheme: str = scheme) -> None:
            found[scheme] = list(message["headers"])

        scope = {
            "type": "http", "method": "POST", "scheme": scheme, "path": f"{API}/markets", "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }  # fmt: skip
        with suppress(StopIteration):
            Shield(empty)(scope, never, keep).send(None)  # it never waits
    return found


async def _answered(_: Request, error: Exception) -> Response:
    refusal = problem_of(error)
    assert refusal is not None, "only errors that are answers come here"
    return refusal.response()


def _routes(service: Service, openapi: bytes) -> list[Any]:
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)

    async def openapi_json(_: Request) -> Response:
        return Response(openapi, media_type="application/json", headers={"Cache-Control": "no-cache"})

    # A path with a verb behind a colon comes before the same path without one, whose parameter would take it in;
    # so do fixed names before parameters.
    paths = sorted(by_path, key=_specific)
    endpoints = [Route(API + path, Endpoint(service, by_path[path])) for path in paths if path != _STREAM]
    metrics = Route("/metrics", Endpoint(service, by_path["/metrics"]))
    return [*endpoints, metrics, Route(f"{API}/openapi.json", openapi_json), *docs_routes()]


def _specific(path: str) -> tuple[int, int, int, str]:
    """Sorts paths so that the more specific ones come first."""
    last = path.rpartition("/")[2]
    return (0 if ":" in last else 1, path.count("{"), -len(path), path)


class Measured:
    """Counts requests and how long their answers took to begin."""

    def __init__(self, app: App, service: Service) -> None:
        self._app = app
        self._request = service.metrics.request
        self._elapsed_s = service.elapsed_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s = self._elapsed_s()

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                route = scope.get(ROUTE, "")
                self._request(scope["method"], route, message["status"], self._elapsed_s() - start_s)
            await send(message)

        await self._app(scope, receive, told)


class Stream:
    """Serves the stream beside the framework: what wraps ``send`` there would be paid for every delivery."""

    def __init__(self, app: App, service: Service) -> None:
        self._app = app
        self._stream = stream_route.stream_endpoint(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: App = self._stream if scope["type"] == "http" and scope["path"] == API + _STREAM else self._app
        await app(scope, receive, send)
