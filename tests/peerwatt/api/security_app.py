"""A small app with everything of the security around it, and how to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

from core.errors import ServiceError
from market.engine.commands import Refused
from peerwatt.api.body_limit import BodyLimit
from peerwatt.api.etag import check_if_match, etag, not_modified
from peerwatt.api.headers import Shield
from peerwatt.api.principal import Principal, require
from peerwatt.api.problems import add_handlers, refuse, refused, unreadable
from peerwatt.api.security import Security
from peerwatt.api.security_settings import SecuritySettings
from tests.peerwatt.store.places import HandClock

HOST = "http://127.0.0.1"
BODY_LIMIT = 1000
SECRET_TEXT = "a value that must not come back"


class Elapsed:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


class Item(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="forbid")
    e_wh: int
    note: str = ""


class Wire(msgspec.Struct, forbid_unknown_fields=True):
    """A body of a bare route."""

    orders: list[dict[str, int]]


Reader = Annotated[Principal, Depends(require("orders:read"))]
Writer = Annotated[Principal, Depends(require("orders:write", "orders"))]
Anybody = Annotated[Principal, Depends(require(None))]


def make_app(security: Security) -> FastAPI:
    """Routes that do what the names say."""
    app = FastAPI(docs_url=None, redoc_url=None)
    state = {"network": {"version": 1}}

    @app.post("/api/v1/oauth/token")
    async def token(request: Request) -> Response:
        return await security.tokens.answer(
            await request.body(),
            content_type=request.headers.get("content-type"),
            authorization=request.headers.get("authorization"),
            address=request.client.host if request.client else "",
        )

    @app.get("/api/v1/me")
    async def me(who: Anybody) -> dict[str, Any]:
        return {"client_id": who.client_id, "scopes": sorted(who.scopes), "participants": sorted(who.participants)}

    @app.get("/api/v1/participants/{participant}/orders")
    async def orders(participant: str, who: Reader) -> dict[str, str]:
        return {"of": who.own(participant)}

    @app.get("/api/v1/orders/{number}")
    async def order(number: int, who: Reader) -> dict[str, int]:
        owner = {1: "h1", 2: "h2"}.get(number)
        if owner is None or not who.sees(owner):
            raise refuse("unknown_order")
        return {"order": number}

    @app.post("/api/v1/orders")
    async def enter(item: Item, who: Writer, participant: str | None = None) -> dict[str, Any]:
        return {"for": who.acting_for(participant), "e_wh": item.e_wh}

    @app.post("/api/v1/bare")
    async def bare(request: Request) -> dict[str, int]:
        try:
            return {"orders": len(msgspec.json.decode(await request.body(), type=Wire).orders)}
        except msgspec.DecodeError as error:
            raise unreadable(error) from error

    @app.get("/api/v1/list")
    async def pages(limit: int = 2, cursor: str | None = None, state: str = "open") -> dict[str, Any]:
        position = security.pager.position("list", cursor, int, query={"state": state})
        first = 0 if position is None else int(position[0] or 0)
        items = list(range(10))[first : first + limit]
        end = first + limit >= 10
        following = None if end else security.pager.cursor("list", first + limit, query={"state": state})
        return {"items": items, "next_cursor": following}

    @app.get("/api/v1/network")
    async def network(request: Request) -> Response:
        tag = etag("network", state["network"]["version"])
        if not_modified(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(msgspec.json.encode(state["network"]), headers={"ETag": tag}, media_type="application/json")

    @app.put("/api/v1/network")
    async def change(request: Request) -> dict[str, int]:
        check_if_match(request.headers.get("if-match"), etag("network", state["network"]["version"]))
        state["network"]["version"] += 1
        return state["network"]

    @app.get("/api/v1/fails/{how}")
    async def fails(how: str) -> dict[str, int]:
        if how == "engine":
            raise refuse("internal_error")
        if how == "refused":
            raise refused(Refused("suspended", "2016-06-01T12:00:00Z"))
        if how == "service":
            raise ServiceError(f"the database at {SECRET_TEXT} is away")
        if how == "registry":
            await security.registry.clients.get("nobody")
        raise RuntimeError(SECRET_TEXT)

    @app.get("/page")
    async def page() -> Response:
        return Response("<html><script>alert(1)</script></html>", media_type="text/html")

    @app.post("/api/v1/upload")
    async def upload(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/api/v1/orders:batch")
    async def batch(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/api/v1/careless")
    async def careless(request: Request) -> dict[str, bool]:
        try:
            await request.body()
        except Exception:  # noqa: BLE001  (an app that swallows everything)
            return {"read": False}
        return {"read": True}

    return app


def shielded(app: FastAPI, security: Security, *hosts: str) -> Shield:
    """The app with everything around it."""
    add_handlers(app)
    app.state.guard = security.guard
    return Shield(BodyLimit(app, limit_bytes=BODY_LIMIT, larger={"/orders:batch": 5000}), hosts=hosts)


@asynccontextmanager
async def served(
    folder: Path, clock: HandClock, *, base_url: str = HOST, client: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[tuple[Security, httpx.AsyncClient]]:
    """The security, and a client of the app, whose rate limits stand on a clock moved by hand at ``clock.elapsed``."""
    security = await Security.open(folder, clock, settings=SecuritySettings(**settings) if settings else None)
    clock.elapsed = Elapsed()  # type: ignore[attr-defined]
    security.limiter._elapsed_s = clock.elapsed  # type: ignore[attr-defined]
    app = shielded(make_app(security), security, "peerwatt.example")
    transport = httpx.ASGITransport(app, client=(client, 40_000))
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
            yield security, http
    finally:
        await security.close()


async def key_for(security: Security, participant: str, role: str = "resident") -> dict[str, str]:
    """Headers with a fresh key of a participant's client."""
    client = await security.registry.clients.client_for(participant, role)
    made = await security.registry.clients.add_key(client.id)
    return bearer(made.text)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
