"""``GET /api/v1/stream``: server-sent events as a bare ASGI application. docs/api.md says what a client sees.

Mount it beside the framework's application, not inside it: what wraps ``send`` would be paid for every delivery.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from peerwatt.api.problems import Refusal, refuse
from peerwatt.api.stream_hub import StreamClosedError, StreamFullError, StreamHub
from peerwatt.api.stream_reader import Reader, body
from peerwatt.api.stream_ring import TOPICS, View

__all__ = ["TOPICS", "Admit", "StreamAccess", "StreamEndpoint"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MAX_QUERY_BYTES = 4096
_LATER = [("retry-after", "5")]


@dataclass(frozen=True, slots=True)
class StreamAccess:
    """Who reads, and what it may see.

    Parameters
    ----------
    client_id
        Its name for limits and for `StreamHub.end`.
    members
        Whose private news it may see; None = everybody's.
    valid_s
        Seconds until its token runs out; None if it does not.
    """

    client_id: str
    members: frozenset[int] | None = frozenset()
    valid_s: float | None = None


Admit = Callable[[Scope], Awaitable[StreamAccess]]
"""Says who asks; raises `peerwatt.api.problems.Refusal`."""


class StreamEndpoint:
    """The ASGI application of the stream.

    Parameters
    ----------
    hub
        Where the news comes from.
    admit
        Authenticates a request and checks that it may read the stream.
    markets
        Names of the markets that can be asked for; None: any name.
    headers
        Further headers of every answer (name, value).
    """

    def __init__(
        self,
        hub: StreamHub,
        admit: Admit,
        markets: Collection[str] | None = None,
        headers: Collection[tuple[str, str]] = (),
    ) -> None:
        self._hub = hub
        self._admit = admit
        self._markets = None if markets is None else frozenset(markets)
        self._headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        ]
        self._further = tuple(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            if scope["method"] != "GET":
                raise refuse("method_not_allowed", headers=[("allow", "GET")])
            access = await self._admit(scope)
            topics, markets, last_id = self._asked(scope)
            reader = self._let_in(access, View(access.members, topics, markets), last_id)
        except Refusal as refusal:
            await Refusal(refusal.problem, [*refusal.headers, *self._further]).send(send)
            return
        try:
            await self._serve(reader, receive, send)
        finally:
            self._hub.release(reader)

    def _asked(self, scope: Scope) -> tuple[frozenset[str] | None, frozenset[str] | None, str]:
        """Topics, markets and last event id of a request."""
        query = bytes(scope.get("query_string", b""))
        if len(query) > _MAX_QUERY_BYTES:
            raise refuse("invalid", f"the query is longer than {_MAX_QUERY_BYTES} bytes")
        asked: dict[str, list[str]] = {"topics": [], "market": [], "last_event_id": []}
        for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
            if name not in asked:
                raise refuse("invalid", f"there is no parameter {name!r}; there are {', '.join(asked)}")
            asked[name] += [part for part in value.split(",") if part]
        for topic in asked["topics"]:
            if topic not in TOPICS:
                raise refuse("invalid", f"there is no topic {topic!r}; there are {', '.join(TOPICS)}")
        for market in asked["market"]:
            if self._markets is not None and market not in self._markets:
                raise refuse("unknown_market", market)
        header = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
        last_id = header.decode("latin-1") or "".join(asked["last_event_id"])
        return frozenset(asked["topics"]) or None, frozenset(asked["market"]) or None, last_id

    def _let_in(self, access: StreamAccess, view: View, last_id: str) -> Reader:
        try:
            return self._hub.admit(access.client_id, view, last_id, access.valid_s)
        except StreamFullError as full:
            raise refuse("too_many_requests" if full.own else "overloaded", str(full), headers=_LATER) from full
        except StreamClosedError as closed:
            raise refuse("unavailable", "the service is ending", headers=_LATER) from closed

    async def _serve(self, reader: Reader, receive: Receive, send: Send) -> None:
        listening = asyncio.create_task(self._listen(reader, receive))
        serving = asyncio.current_task()
        assert serving is not None
        reader.abort = serving.cancel
        try:
            await self._write(reader, send)
        except asyncio.CancelledError:
            if reader.ending is None:
                raise
            serving.uncancel()  # cut off by the hub: it did not take its end
        finally:
            reader.abort = None
            listening.cancel()

    async def _listen(self, reader: Reader, receive: Receive) -> None:
        """Notice when the client goes."""
        while (await receive())["type"] != "http.disconnect":
            pass
        reader.end("gone", asyncio.get_running_loop().time())

    async def _write(self, reader: Reader, send: Send) -> None:
        hub = self._hub
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send(body(f"retry: {hub.retry_ms(reader)}\n\n".encode()))
        while (message := await hub.next_message(reader)) is not None:
            await send(message)
        if reader.ending == "gone":
            return
        if reader.ending == "too_slow":
            hub.counts.dropped += 1
        words = json.dumps({"reason": reader.ending})
        await send(body(f"retry: {hub.retry_ms(reader)}\nevent: end\ndata: {words}\n\n".encode(), more=False))
