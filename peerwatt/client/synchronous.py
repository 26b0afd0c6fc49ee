"""The client for threads."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from threading import Event
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from peerwatt.client.account_endpoints import AccountEndpoints
from peerwatt.client.calls import Call, SyncSender
from peerwatt.client.errors import BadAnswerError
from peerwatt.client.events import Follower, StreamEvent
from peerwatt.client.market_endpoints import MarketEndpoints
from peerwatt.client.operator_endpoints import OperatorEndpoints
from peerwatt.client.settings import OAuth, Settings
from peerwatt.client.steps import PATIENT, Core, Outcome, RetryPolicy, Send, Steps

T = TypeVar("T")


class Client(MarketEndpoints, AccountEndpoints, OperatorEndpoints, SyncSender):
    """A live market over HTTP. Use it in a ``with`` block, or `close` it; threads may share one.

    Parameters
    ----------
    url, key, oauth, ca, plain_http, timeout_s
        See `peerwatt.client.settings.Settings`.
    retry
        How patient it is.
    transport
        What carries the requests, for tests and for an application in the same process.

    Raises
    ------
    ClientError
        If the address or the credentials cannot be.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = Settings(url, key, oauth, ca, plain_http, timeout_s)
        self._http = httpx.Client(
            verify=settings.verify(),
            timeout=settings.timeouts(),
            trust_env=not settings.loopback,
            transport=transport,
        )
        self._core = Core(settings, retry, self._http.build_request)
        self._closed = Event()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """A client of ``PEERWATT_URL`` and ``PEERWATT_KEY``; see `Settings.from_env` for the others."""
        own = Settings.from_env(environ)
        return cls(own.url, own.key, oauth=own.oauth, ca=own.ca, plain_http=own.plain_http)

    def send(self, call: Call[T]) -> T:
        """Send a call until it is answered.

        Raises
        ------
        ApiProblem, UnreachableError, BadAnswerError
            If it is refused, gets no answer, or one that cannot be read.
        """
        return self._drive(self._core.steps(call))

    def _drive(self, steps: Steps[T]) -> T:
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
                    outcome = self._http.send(step.request)
                except httpx.TransportError as error:
                    outcome = error
            else:
                self._closed.wait(step.pause_s)

    def stream(
        self, *topics: str, market: str | None = None, last_event_id: str = ""
    ) -> Generator[StreamEvent, None, None]:
        """Follow the market: a snapshot, then what changes, over any number of restarts of the server.

        Parameters
        ----------
        topics
            What to follow; none: everything this client may see.
        market
            Only of this market.
        last_event_id
            Go on behind this event.

        Raises
        ------
        ApiProblem
            If the server does not let this client in.
        """
        follower = Follower(self._core, topics, market, last_event_id)
        while not self._closed.is_set():
            request = self._http.build_request(
                "GET",
                f"{self._core.settings.base_url}/stream",
                params=follower.params(),
                headers=follower.headers(self._drive(self._core.authorisation())),
                timeout=self._core.settings.timeouts(stream=True),
            )
            outcome = yield from self._connection(request, follower)
            self._closed.wait(follower.pause_s(request, outcome))

    def _connection(self, request: httpx.Request, follower: Follower) -> Generator[StreamEvent, None, Outcome]:
        """Events of one connection; how it ended."""
        try:
            response = self._http.send(request, stream=True)
        except httpx.TransportError as error:
            return error
        try:
            if not response.is_success:
                response.read()
                return response
            for sse in EventSource(response).iter_sse():
                if (event := follower.take(sse)) is not None:
                    yield event
        except SSEError as error:
            raise BadAnswerError(f"this is no event stream: {error}") from None
        except httpx.TransportError as error:
            return error
        finally:
            response.close()
        return None

    def close(self) -> None:
        """Close the connections; a `stream` in another thread ends after its next event."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._core.settings.url!r})"
