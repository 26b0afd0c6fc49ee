"""A market that only publishes, and clients of its stream on an event loop with virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from market.engine.publication import Publication
from peerwatt.api.stream import StreamAccess, StreamEndpoint
from peerwatt.api.stream_hub import StreamHub, StreamLimits
from peerwatt.api.stream_ring import View
from tests.conftest import VirtualTimeLoop

PUBLIC_VIEW = View()


def on_virtual_time(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


@dataclass(frozen=True)
class Sse:
    """One event as a client parses it; a heartbeat has neither name nor data."""

    name: str
    id: str
    data: dict[str, Any]


def parse_events(data: bytes) -> list[Sse]:
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        found.append(Sse(fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "{}"))))
    return found


class Market:
    """Publishes numbered news. ``head`` is its last record; snapshots hold nothing but what they are of."""

    def __init__(self, limits: StreamLimits | None = None, head: int = 0) -> None:
        self.limits = limits or StreamLimits()
        self.head = head
        self.news: list[tuple[int, int, str, str, int]] = []
        self.asked: list[View] = []
        self.restart()

    def restart(self) -> None:
        self.hub = StreamHub(self.head, self.snapshot, limits=self.limits)

    async def snapshot(self, view: View) -> tuple[dict[str, Any], int]:
        self.asked.append(view)
        await asyncio.sleep(0)
        return {"of": self.head}, self.head

    def commit(self, *news: tuple[str, str, int]) -> Callable[[], None]:
        """A durable record with these (topic, market, member); call the answer to publish them."""
        self.head += 1
        items = [(self.head, k, *item) for k, item in enumerate(news, 1)]
        self.news += items

        def publish() -> None:
            for seq, k, topic, market, member in items:
                self.hub.publish(Publication(seq, 0, topic, market, -1, member, {"n": [seq, k]}))

        return publish

    def say(self, topic: str = "price", market: str = "spot", member: int = -1, pad: int = 0) -> None:
        self.head += 1
        self.news.append((self.head, 1, topic, market, member))
        data = {"n": [self.head, 1], "pad": "x" * pad}
        self.hub.publish(Publication(self.head, 0, topic, market, -1, member, data))

    def visible(self, view: View) -> list[tuple[int, int]]:
        return [
            (seq, k)
            for seq, k, topic, market, member in self.news
            if (member < 0 or view.members is None or member in view.members) and view.wants(topic, market)
        ]


class Client:
    """One connection after another to the stream; ``stalled`` ones do not read."""

    def __init__(self, market: Market, view: View = PUBLIC_VIEW, name: str = "c", valid_s: float | None = None) -> None:
        self.market = market
        self.view = view
        self.name = name
        self.valid_s = valid_s
        self.got: list[Sse] = []
        self.last_id = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.closed = False
        self.task: asyncio.Task[None] | None = None
        self._reads = asyncio.Event()
        self._reads.set()
        self._gone = asyncio.Event()

    async def _admit(self, scope: Any) -> StreamAccess:
        return StreamAccess(self.name, self.view.members, self.valid_s)

    def connect(self, query: str | None = None, method: str = "GET") -> None:
        self.chunks, self.closed, self._gone = [], False, asyncio.Event()
        self._reads.set()
        if query is None:
            asked = {"topics": self.view.topics, "market": self.view.markets}
            query = "&".join(f"{k}={','.join(sorted(v))}" for k, v in asked.items() if v)
        headers = [(b"last-event-id", self.last_id.encode())] if self.last_id else []
        scope = {"type": "http", "method": method, "query_string": query.encode(), "headers": headers}
        endpoint = StreamEndpoint(self.market.hub, self._admit, ("spot", "day-ahead"))
        self.task = asyncio.create_task(endpoint(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        while not self._reads.is_set() and not self._gone.is_set():
            await self._reads.wait()
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        self.chunks.append(message["body"])
        self.closed = not message.get("more_body", False)

    def stall(self, stalled: bool) -> None:
        self._reads.clear() if stalled else self._reads.set()

    async def read(self) -> list[Sse]:
        """Everything that has come in by now, without the hint when to come back."""
        await asyncio.sleep(0.5)
        data, self.chunks = b"".join(self.chunks), []
        found = [event for event in parse_events(data) if event != Sse("", "", {})]
        for event in found:
            self.last_id = event.id or self.last_id
        self.got += found
        return found

    async def disconnect(self) -> None:
        """Hang up; what was sent but not read is lost."""
        self._gone.set()
        self._reads.set()
        self.chunks = []
        assert self.task is not None
        await self.task


def numbers(events: list[Sse]) -> list[tuple[int, int]]:
    return [tuple(event.data["n"]) for event in events if "n" in event.data]  # type: ignore[misc]


def names(events: list[Sse]) -> list[str]:
    return [event.name for event in events]
