"""Endpoints described once and used twice: by the client for threads and by the one for asyncio.

An endpoint is a method that returns a `Call`: what to send and how to read the answer. The decorators `endpoint` and
`listing` make of it a method that sends the call: on a `SyncSender` it gives the answer, on an `AsyncSender` it has to
be awaited. Types, parameters and documentation are those of the description.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload
from urllib.parse import quote

import msgspec

from peerwatt.client.errors import BadAnswerError
from peerwatt.wire.fields import In, Page

P = ParamSpec("P")
T = TypeVar("T")

Params = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no refusal."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tagged(Generic[T]):
    """A value with the version it was read at; hand ``etag`` back to change it."""

    value: T
    etag: str


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request that is ready to be sent, as often as needed.

    Parameters
    ----------
    method, path
        The path is below ``/api/v1/``.
    read
        Makes the answer of the reply.
    params, body, headers
        The query (without what is None), JSON, and further headers.
    keyed
        It takes an idempotency key, so that it may be sent again when nobody knows whether it arrived.
    key
        That key; None: a new one is made.
    asks_token
        It carries its own credentials, and repeating it only makes another token.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    params: Params = field(default_factory=dict)
    body: bytes | None = None
    headers: Params = field(default_factory=dict)
    keyed: bool = False
    key: str | None = None
    asks_token: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.keyed or self.asks_token or self.method in ("GET", "DELETE")


def path(*parts: str) -> str:
    """A path of these segments, escaped."""
    return "/".join(quote(part, safe=":") for part in parts)


def query(**params: str | int | None) -> Params:
    """Query parameters without those that are None; a ``_`` at the end of a name is for Python only."""
    return {name.rstrip("_"): str(value) for name, value in params.items() if value is not None}


def if_match(etag: str) -> Params:
    """The header that makes a change depend on the version that was read."""
    return {"If-Match": etag}


def json_body(model: In) -> bytes:
    """A model as JSON."""
    return msgspec.json.encode(model)


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast("Any", kind))


def answer(kind: type[T]) -> Callable[[Reply], T]:
    """Read the answer as a model."""
    decoder = _decoder(cast("Hashable", kind))

    def read(reply: Reply) -> T:
        try:
            value: T = decoder.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadAnswerError(f"the answer cannot be read: {error}; it begins {reply.body[:80]!r}") from None
        return value

    return read


def keyed_post(kind: type[T], where: str, model: In, key: str | None) -> Call[T]:
    """A call that makes something exactly once."""
    return Call("POST", where, answer(kind), body=json_body(model), keyed=True, key=key)


def tagged(kind: type[T]) -> Callable[[Reply], Tagged[T]]:
    """Read the answer as a model with its ETag."""
    read_value = answer(kind)
    return lambda reply: Tagged(read_value(reply), reply.headers.get("etag", ""))


def text(reply: Reply) -> str:
    """Read the answer as text."""
    return reply.body.decode("utf-8", "replace")


def nothing(reply: Reply) -> None:
    """Read nothing of the answer."""


class SyncSender(ABC):
    """Sends calls and waits."""

    @abstractmethod
    def send(self, call: Call[T]) -> T:
        """Send it and give its answer."""


class AsyncSender(ABC):
    """Sends calls on an event loop."""

    @abstractmethod
    async def send(self, call: Call[T]) -> T:
        """Send it and give its answer."""


class endpoint(Generic[P, T]):  # noqa: N801  (a decorator)
    """A method that sends the call which the decorated method describes."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self.describe = describe
        update_wrapper(self, describe)  # type: ignore[arg-type]  # for help() and for documentation

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: SyncSender, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self.describe(client, *args, **kwargs))

        return update_wrapper(method, self.describe)


class listing(Generic[P, T]):  # noqa: N801  (a decorator)
    """A method that iterates over all items of a paged list; pages are asked for as they are needed."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[Page[T]]]) -> None:
        self.describe = describe
        update_wrapper(self, describe)  # type: ignore[arg-type]

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: SyncSender, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        walk = _walk if isinstance(client, SyncSender) else _walk_async

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return walk(client, self.describe(client, *args, **kwargs))

        return update_wrapper(method, self.describe)


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    """The call for the page behind ``page``; None at the end."""
    if page.next_cursor is None:
        return None
    return replace(call, params={**call.params, "cursor": page.next_cursor})


def _walk(client: SyncSender, call: Call[Page[T]]) -> Generator[T, None, None]:
    following: Call[Page[T]] | None = call
    while following is not None:
        page = client.send(following)
        yield from page.items
        following = next_page(call, page)


async def _walk_async(client: AsyncSender, call: Call[Page[T]]) -> AsyncGenerator[T, None]:
    following: Call[Page[T]] | None = call
    while following is not None:
        page = await client.send(following)
        for item in page.items:
            yield item
        following = next_page(call, page)
