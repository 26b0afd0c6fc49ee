"""The same test for both clients: calls by name, answers and events collected."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import Any

from peerwatt.client import AsyncClient, Client, RetryPolicy, StreamEvent

FAST = RetryPolicy(attempts=4, first_s=0.001, most_s=0.004)


class ForThreads:
    """Asks through `Client`."""

    def __init__(self, url: str, key: str | None = "pw_test_key", **options: Any) -> None:
        self._options = {"url": url, "key": key, "retry": FAST, **options}

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        with Client(**self._options) as client:
            return getattr(client, name)(*args, **kwargs)

    def all(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        with Client(**self._options) as client:
            return list(getattr(client, name)(*args, **kwargs))

    def follow(self, n: int, *topics: str, **kwargs: Any) -> list[StreamEvent]:
        with Client(**self._options) as client, closing(client.stream(*topics, **kwargs)) as events:
            return [next(events) for _ in range(n)]


class ForAsyncio:
    """Asks through `AsyncClient`."""

    def __init__(self, url: str, key: str | None = "pw_test_key", **options: Any) -> None:
        self._options = {"url": url, "key": key, "retry": FAST, **options}

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async def ask() -> Any:
            async with AsyncClient(**self._options) as client:
                return await getattr(client, name)(*args, **kwargs)

        return asyncio.run(ask())

    def all(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        async def ask() -> list[Any]:
            async with AsyncClient(**self._options) as client:
                return [item async for item in getattr(client, name)(*args, **kwargs)]

        return asyncio.run(ask())

    def follow(self, n: int, *topics: str, **kwargs: Any) -> list[StreamEvent]:
        async def ask() -> list[StreamEvent]:
            async with AsyncClient(**self._options) as client, aclosing(client.stream(*topics, **kwargs)) as events:
                return [await anext(events) for _ in range(n)]

        return asyncio.run(ask())


BOTH = [ForThreads, ForAsyncio]
