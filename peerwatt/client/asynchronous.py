"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from peerwatt.client.account_endpoints import AccountEndpoints
from peerwatt.client.calls import AsyncSender, Call
from peerwatt.client.errors import BadAnswerError
from peerwatt.client.events import Follower, StreamEvent
from peerwatt.client.market_endpoints import MarketEndpoints
from peerwatt.client.operator_endpoints import OperatorEndpoints
from peerwatt.client.settings import OAuth, Settings
from peerwatt.client.steps import PATIENT, Core, Outcome, RetryPolicy, Send, Steps

T = TypeVar("T")


class AsyncClient(MarketEndpoints, AccountEndpoints, OperatorEndpoints, AsyncSender):
    """A live market over HTTP, for asyncio; its methods are those of `peerwatt.client.Client`, to be awaited.

    Lists are asynchronous iterators. Use it in an ``async with`` block, or await `close`. Parameters and errors are
    those of `Client`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        oauth: OAuth | None = None,
        ca: str | Path | None = None,
        plain_http: bool = False,
        timeout_s: float = 30.0,
        retry: RetryPolicy = PATIENT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = Settings(url, key, oauth, ca, plain_http, timeout_s)
        self._http = httpx.AsyncClient(
            verify=settings.verify(),
            timeout=settings.timeouts(),
            trust_env=not settings.loopback,
            transport=transport,
        )
        self._core = Core(settings, retry, self._http.build_request)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """A client of ``PEERWATT_URL`` and ``PEERWATT_KEY``; see `Settings.from_env` for the others."""
        own = Settings.from_env(environ)
        return cls(own.url, own.key, oauth=own.oauth, ca=own.ca, plain_http=own.plain_http)

    async def send(self, call: Call[T]) -> T:
        """Send a call until it is answered; see `Client.send`."""
        return await self._drive(self._core.steps(call))

    async def _drive(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
            outcome = None
            if isinstance(step, Send):
                try:
                    outcome = await self._http.send(step.request)
                except httpx.TransportError as error:
                    outcome = error
            else:
                await asyncio.sleep(step.pause_s)

    async def stream(
        self, *topics: str, market: str | None = None, last_event_id: str = ""
    ) -> AsyncGenerator[StreamEvent, None]:
        """Follow the market; see `Client.stream`. Close it with ``contextlib.aclosing`` if you leave it early."""
        follower = Follower(self._core, topics, market, last_event_id)
        while not self._http.is_closed:
            request = self._http.build_request(
                "GET",
                f"{self._core.settings.base_url}/stream",
                params=follower.params(),
                headers=follower.headers(await self._drive(self._core.authorisation())),
                timeout=self._core.settings.timeouts(stream=True),
            )
            outcome: Outcome = None
            try:
                response = await self._http.send(request, stream=True)
                try:
                    if response.is_success:
                        async with aclosing(EventSource(response).aiter_sse()) as events:
                            async for sse in events:
                                if (event := follower.take(sse)) is not None:
                                    yield event
                    else:
                        await response.aread()
                        outcome = response
                finally:
                    await response.aclose()
            except SSEError as error:
                raise BadAnswerError(f"this is no event stream: {error}") from None
            except httpx.TransportError as error:
                outcome = error
            await asyncio.sleep(follower.pause_s(request, outcome))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.settings.url!r})"
