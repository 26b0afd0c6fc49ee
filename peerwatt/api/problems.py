"""Refusals as RFC 9457 problems: one shape for every error, however it came about, and no inner workings in any.

In a FastAPI route ``raise refuse("unknown_order")``; in a bare ASGI route ``await refuse(...).send(send)``; for what
the engine refused, ``refused(reply)``. `add_handlers` gives every other error of an app the same shape.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from market.engine.commands import REFUSALS, Refused
from peerwatt.store.records import RegistryError
from peerwatt.wire.service import Problem, ProblemError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"
MAX_ERRORS = 50
"""Faults told of one request; a batch may have a thousand."""

_log = logging.getLogger("peerwatt.api")

_CONFLICTS = (
    "key_reused",
    "suspended",
    "void",
    "not_open",
    "market_closed",
    "not_legal_now",
    "already_decided",
)
_FORBIDDEN = ("not_a_member", "in_default", "opted_out")

REFUSAL_STATUS: Mapping[str, int] = MappingProxyType(
    {
        code: 404 if code.startswith("unknown_") else 409 if code in _CONFLICTS else 403 if code in _FORBIDDEN else 422
        for code in REFUSALS
    }
)
"""HTTP status of each code with which the engine refuses."""

TITLES: Mapping[str, tuple[int, str]] = MappingProxyType({
    "malformed_body": (400, "The body cannot be read"),
    "malformed_request": (400, "The request cannot be read"),
    "bad_cursor": (400, "The cursor is not one of this list"),
    "missing_idempotency_key": (400, "The header Idempotency-Key is missing or malformed"),
    "two_credentials": (400, "The request carries more than one credential"),
    "not_authenticated": (401, "A key or token is needed"),
    "bad_credentials": (401, "The key or token does not hold"),
    "forbidden": (403, "This may not be done with this key or token"),
    "not_found": (404, "There is no such thing"),
    "unknown_participant": (404, "There is no such participant"),
    "unknown_offer": (404, "There is no such offer"),
    "unknown_key": (404, "There is no such key"),
    "unknown_client": (404, "There is no such client"),
    "method_not_allowed": (405, "This cannot be done there"),
    "slow_body": (408, "The body did not come in time"),
    "exists": (409, "It is there already"),
    "no_longer_open": (409, "It is not open any more"),
    "stale": (412, "It has changed since it was read"),
    "body_too_large": (413, "The body is too large"),
    "wrong_host": (421, "This is not the host the request names"),
    "invalid": (422, "The request is not valid"),
    "version_needed": (428, "The header If-Match is needed"),
    "too_many_requests": (429, "Too many requests"),
    "internal_error": (500, "Something is wrong on our side"),
    "overloaded": (503, "The service has more to do than it can take on"),
    "unavailable": (503, "The service cannot do it at the moment"),
})  # fmt: skip
"""Status and title of each code that does not come from the engine."""

_REGISTRY_CODES: Mapping[str, str] = MappingProxyType(
    {
        "unknown": "not_found",
        "exists": "exists",
        "stale": "stale",
        "not_open": "no_longer_open",
        "bad_value": "invalid",
        "too_many": "invalid",
    }
)
_HTTP_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "malformed_request",
        401: "not_authenticated",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        408: "slow_body",
        413: "body_too_large",
        422: "invalid",
        429: "too_many_requests",
        503: "unavailable",
    }
)


class Refusal(Exception):  # noqa: N818  (RFC 9457 calls it a problem, not an error)
    """Why a request gets no other answer: a problem, and the headers that go with it. Raised, returned or sent."""

    def __init__(self, problem: Problem, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.problem = problem
        self.headers = tuple(headers)
        super().__init__(f"{problem.status} {problem.code}: {problem.detail or problem.title}")

    def response(self) -> Response:
        """As an answer of Starlette's or FastAPI's."""
        response = Response(problem_bytes(self.problem), self.problem.status, media_type=MEDIA_TYPE)
        for name, value in self.headers:
            response.headers.append(name, value)
        return response

    async def send(self, send: Send) -> None:
        """As the whole answer of a bare ASGI app."""
        body = problem_bytes(self.problem)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.problem.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def refuse(
    code: str,
    detail: str = "",
    *,
    headers: Sequence[tuple[str, str]] = (),
    errors: Iterable[tuple[str, str]] | None = None,
    instance: str | None = None,
    seq: int | None = None,
) -> Refusal:
    """A refusal with a code of ``TITLES`` or of the engine's ``REFUSALS``.

    Parameters
    ----------
    code
        What is wrong, for programs.
    detail
        What is wrong with this request, for people.
    headers
        That go with it, e.g. Retry-After.
    errors
        Single faults as (JSON pointer, what is wrong there).
    instance
        Name of this very answer in the log.
    seq
        The journal's record it is about.
    """
    status, title = TITLES[code] if code in TITLES else (REFUSAL_STATUS[code], _engine_title(code))
    faults = None if errors is None else [ProblemError(pointer=place, detail=what) for place, what in errors]
    return Refusal(Problem(TYPE_PREFIX + code, title, status, code, detail, instance, faults, seq), headers)


def _engine_title(code: str) -> str:
    words = REFUSALS[code]
    return words[:1].upper() + words[1:]


def refused(reply: Refused) -> Refusal:
    """What the engine refused."""
    return refuse(reply.code, reply.detail)


def registry_refused(error: RegistryError) -> Refusal:
    """What the registry refused."""
    return refuse(_REGISTRY_CODES[error.reason], error.message)


def overloaded(retry_after_s: float) -> Refusal:
    """The engine's queue is full: come back then."""
    return refuse("overloaded", headers=[("Retry-After", str(max(1, -int(-retry_after_s // 1))))])


def problem_bytes(problem: Problem) -> bytes:
    """A problem as JSON, without the members that say nothing."""
    fields = {name: value for name, value in msgspec.structs.asdict(problem).items() if value not in (None, "")}
    return msgspec.json.encode(fields)


# --- malformed requests -----------------------------------------------------------------------------------------------

_AT = re.compile(r"^(?P<what>.*) - at `(?:key in )?\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def unreadable(error: msgspec.DecodeError) -> Refusal:
    """A body that msgspec could not read (400) or that is not valid (422), with a pointer to the place."""
    if not isinstance(error, msgspec.ValidationError):
        return refuse("malformed_body", str(error))
    found = _AT.match(str(error))
    what, path = (found["what"], found["path"]) if found else (str(error), "")
    pointer = "".join("/" + _escaped(name or place) for name, place in _STEP.findall(path))
    return refuse("invalid", errors=[(pointer, what)])


def _escaped(step: object) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """FastAPI's validation errors. The values that were sent are not repeated: they may be secret."""
    if any(error["type"] == "json_invalid" for error in errors):
        return refuse("malformed_body", "the body is not JSON")
    faults = []
    for error in errors[:MAX_ERRORS]:
        where, *path = error["loc"] or ("body",)
        head = "" if where == "body" else f"/{_escaped(where)}"
        faults.append((head + "".join(f"/{_escaped(step)}" for step in path), str(error["msg"])))
    return refuse("invalid", errors=faults)


# --- every other error of an app --------------------------------------------------------------------------------------


def unexpected(error: BaseException, method: str, path: str) -> Refusal:
    """An error nobody thought of: the log gets all of it, the client a number to ask after it."""
    trace = secrets.token_hex(8)
    _log.error("%s %s failed; trace %s", method, path, trace, exc_info=error)
    return refuse(
        "internal_error", f"the operator finds it in the log as {trace}", instance=f"{TYPE_PREFIX}trace/{trace}"
    )


class Boundary:
    """Turns whatever an app raises into an answer, as long as none has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:  # the last place where an error can still become an answer
            if started:
                raise  # the server logs it, and can only cut the connection
            if isinstance(error, HTTPException):
                refusal = _of_http(error)
            else:
                refusal = error if isinstance(error, Refusal) else unexpected(error, scope["method"], scope["path"])
            await refusal.send(send)


def add_handlers(app: FastAPI) -> None:
    """Give every error of an app the shape of a problem: routing, validation, registry, engine, whatever else.

    Errors nobody thought of are caught by a `Boundary` inside the app: Starlette itself would answer them in its own
    words, outside of everything that an app adds.
    """
    from fastapi.exceptions import RequestValidationError

    from core.errors import JournalError, ServiceError

    async def of_refusal(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _of_http(error).response()

    async def of_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _invalid(error.errors()).response()

    async def of_registry(_: Request, error: Exception) -> Response:
        assert isinstance(error, RegistryError)
        return registry_refused(error).response()

    async def of_service(request: Request, error: Exception) -> Response:
        _log.error("%s %s cannot be done: %s", request.method, request.url.path, error, exc_info=error)
        return refuse("unavailable", headers=[("Retry-After", "5")]).response()

    app.add_middleware(Boundary)
    app.add_exception_handler(Refusal, of_refusal)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(RegistryError, of_registry)
    app.add_exception_handler(ServiceError, of_service)
    app.add_exception_handler(JournalError, of_service)


def _of_http(error: Any) -> Refusal:
    """Starlette's own errors: no such path, no such method, and what a library raises."""
    headers = list((error.headers or {}).items())
    code = _HTTP_CODES.get(error.status_code)
    phrase = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail == phrase else str(error.detail)
    if code is not None:
        return refuse(code, detail, headers=headers)
    title = phrase
    return Refusal(Problem("about:blank", title, error.status_code, f"http_{error.status_code}", detail), headers)
