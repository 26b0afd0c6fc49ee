"""The typed client of a live market, for threads (`Client`) and for asyncio (`AsyncClient`).

    from peerwatt.client import Client

    with Client("http://127.0.0.1:8000", key="pw_...") as market:
        ack = market.buy("spot", "2016-06-01T12:00:00Z", e_wh=750, price_u=250_000)

Needs httpx and msgspec and nothing else of peerwatt but the models of the wire.
"""

from __future__ import annotations

from peerwatt.client.asynchronous import AsyncClient
from peerwatt.client.calls import Call, Tagged
from peerwatt.client.errors import ApiProblem, BadAnswerError, ClientError, UnreachableError
from peerwatt.client.events import StreamEvent
from peerwatt.client.settings import OAuth
from peerwatt.client.steps import RetryPolicy
from peerwatt.client.synchronous import Client

__all__ = [
    "ApiProblem",
    "AsyncClient",
    "BadAnswerError",
    "Call",
    "Client",
    "ClientError",
    "OAuth",
    "RetryPolicy",
    "StreamEvent",
    "Tagged",
    "UnreachableError",
]
