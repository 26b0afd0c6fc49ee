"""How long a request's body may be, and how long it may take: counted as it comes, whatever its headers say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from peerwatt.api.problems import Refusal, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES = 64 * 1024
LARGER: Mapping[str, int] = MappingProxyType({
    "/orders:batch": 1024 * 1024,
    "/measurements": 4 * 1024 * 1024,
    "/envelopes:publish": 4 * 1024 * 1024,
})  # fmt: skip
"""Bytes for routes whose path ends like this."""

BODY_TIMEOUT_S = 30.0
_DRAINED_BYTES = 1024 * 1024
_DRAINED_S = 2.0


class BodyLimit:
    """Refuses bodies that are too long (413) or do not come (408); put it between `Shield` and the app.

    Parameters
    ----------
    app
        The app inside. Its reading of the body fails with Starlette's HTTPException when the limit is passed, and
        whatever it makes of that, the client gets the 413, unless the answer has begun.
    limit_bytes
        For all routes but those in ``larger``.
    larger
        End of a path -> bytes.
    timeout_s
        For the whole body, from the first time the app asks for it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_bytes: int = BODY_BYTES,
        larger: Mapping[str, int] = LARGER,
        timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._larger = tuple(larger.items())
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        said = _content_length(scope)
        if isinstance(said, Refusal):
            await said.send(send)
            return
        if said is not None and said > limit:
            await _drain(receive)
            await _too_large(limit).send(send)
            return
        body = _Body(receive, send, limit, self._timeout_s)
        try:
            await self._app(scope, body.receive, body.send)
        except HTTPException:
            if body.refusal is None:
                raise
        if body.refusal is not None and not body.answered:
            await body.refusal.send(send)

    def _limit_of(self, path: str) -> int:
        for end, limit in self._larger:
            if path.endswith(end):
                return limit
        return self._limit_bytes


class _Body:
    """One request's body on its way in."""

    def __init__(self, receive: Receive, send: Send, limit: int, timeout_s: float) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._timeout_s = timeout_s
        self._seen = 0
        self._until: float | None = None
        self._whole = False
        self._started = False
        self.refusal: Refusal | None = None
        self.answered = False

    async def receive(self) -> Message:
        """The next part; HTTPException when it is too much, or too late."""
        if self.refusal is not None:
            raise HTTPException(self.refusal.problem.status)
        if self._whole:
            return await self._receive()  # how a long answer hears that nobody listens any more
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refusal = refuse("slow_body", headers=[("Connection", "close")])
            raise HTTPException(408) from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._seen > self._limit:
                if not self._whole:
                    await _drain(self._receive)
                self.refusal = _too_large(self._limit)
                raise HTTPException(413)
        else:
            self._whole = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer, or the refusal in its place."""
        if self.refusal is not None and not self._started:
            if not self.answered:
                self.answered = True
                await self.refusal.send(self._send)
            return
        self._started = self.answered = True
        await self._send(message)


def _content_length(scope: Scope) -> int | Refusal | None:
    """The length that the headers say; None without one."""
    said = [value for name, value in scope["headers"] if name == b"content-length"]
    if not said:
        return None
    if len(said) > 1 or not (said[0].isascii() and said[0].isdigit() and len(said[0]) < 20):
        return refuse("malformed_request", "the Content-Length cannot be read", headers=[("Connection", "close")])
    return int(said[0])


async def _drain(receive: Receive) -> None:
    """Let a client say a little more before the connection is closed: one that still writes would lose the answer."""
    seen = 0
    try:
        async with asyncio.timeout(_DRAINED_S):
            while seen < _DRAINED_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                seen += len(message.get("body", b""))
    except TimeoutError:
        return


def _too_large(limit: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot serve another request.
    return refuse("body_too_large", f"at most {limit} bytes are taken here", headers=[("Connection", "close")])
