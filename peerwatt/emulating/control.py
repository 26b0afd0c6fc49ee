"""The HTTP control of a fleet: what runs where, and faults switched on and off while it runs. On this machine only."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core import DeviceError

if TYPE_CHECKING:
    from peerwatt.emulating.processes import Workers

_MOST_BYTES = 65536
_Handler = Callable[[Request], Awaitable[Response]]


def control_app(workers: Workers, stop: Callable[[], None]) -> Starlette:
    """The control of ``workers``.

    ==========================================  ======================================================================
    ``GET /catalogue``                          every fault, with its parameters
    ``GET /devices``                            every device: address, kind, site, power, faults that are on
    ``POST /devices/ID/faults``                 ``{"kind": ..., "for_s": ..., "probability": ..., PARAMETER: ...}``
    ``DELETE /devices/ID/faults``               all faults of the device off; ``/faults/N`` one of them
    ``GET /log``                                injected faults, oldest first; ``?device=ID``, ``?kind=KIND``
    ``PUT /sites/ID``                           weather and grid: ``irradiance``, ``v_pu``, ``hz``, ``temperature_c``
    ``POST /stop``                              end the fleet
    ==========================================  ======================================================================
    """

    async def catalogue(_: Request) -> Response:
        from hardware.emulator.faults import CATALOGUE

        return JSONResponse([_kind(kind) for kind in CATALOGUE.values()])

    async def devices(_: Request) -> Response:
        return JSONResponse(await workers.ask("devices"))

    async def switch_on(request: Request) -> Response:
        body = await _body(request)
        number = await workers.ask("switch_on", id=request.path_params["id"], fault=body)
        return JSONResponse({"fault": number}, status_code=201)

    async def switch_off(request: Request) -> Response:
        number = request.path_params.get("number")
        await workers.ask("switch_off", id=request.path_params["id"], number=number)
        return Response(status_code=204)

    async def log(request: Request) -> Response:
        entries = await workers.ask("log", device=request.query_params.get("device"))
        kind = request.query_params.get("kind")
        return JSONResponse([entry for entry in entries if kind in (None, entry["kind"])])

    async def surroundings(request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(await workers.ask("surroundings", id=request.path_params["id"], values=body))

    async def end(_: Request) -> Response:
        stop()
        return Response(status_code=202)

    routes = [
        Route("/catalogue", _said(catalogue)),
        Route("/devices", _said(devices)),
        Route("/devices/{id}/faults", _said(switch_on), methods=["POST"]),
        Route("/devices/{id}/faults", _said(switch_off), methods=["DELETE"]),
        Route("/devices/{id}/faults/{number:int}", _said(switch_off), methods=["DELETE"]),
        Route("/log", _said(log)),
        Route("/sites/{id}", _said(surroundings), methods=["PUT"]),
        Route("/stop", _said(end), methods=["POST"]),
    ]
    # A page of another origin must not reach it through a name that leads here.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


def _kind(kind: Any) -> dict[str, Any]:
    params = {
        name: {"default": param.default, "low": param.low, "high": param.high, "meaning": param.meaning}
        if not isinstance(param.default, str)
        else {"default": param.default, "choices": list(param.choices), "meaning": param.meaning}
        for name, param in kind.params.items()
    }
    return {"kind": kind.name, "group": kind.group, "meaning": kind.meaning, "params": params}


def _said(handler: _Handler) -> _Handler:
    """Errors as problem details (RFC 9457)."""

    async def with_problems(request: Request) -> Response:
        try:
            return await handler(request)
        except DeviceError as error:
            status = 422 if error.local else 503
            problem = {"title": error.message, "status": status, "detail": error.remedy or ""}
            return Response(json.dumps(problem), status, media_type="application/problem+json")

    return with_problems


async def _body(request: Request) -> dict[str, Any]:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MOST_BYTES:
            raise DeviceError("the request is too long", local=True, remedy=f"send at most {_MOST_BYTES} bytes")
    value: Any = None
    with contextlib.suppress(ValueError):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise DeviceError("the request's body is no JSON object", local=True, remedy='send e.g. {"kind": "frozen"}')
    return value
