"""The live stream's route: who may follow what, in front of `peerwatt.api.stream.StreamEndpoint`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from peerwatt.api.lookup import own_members
from peerwatt.api.operation import Answer, Call, Group
from peerwatt.api.problems import Refusal
from peerwatt.api.stream import TOPICS, StreamAccess, StreamEndpoint
from peerwatt.wire.fields import In

if TYPE_CHECKING:
    from peerwatt.api.service import Service

routes = Group("Stream")
_TOPIC = f"({'|'.join(TOPICS)})"


class StreamQuery(In):
    """What to follow."""

    topics: (
        Annotated[
            str,
            Meta(
                pattern=f"^({_TOPIC}(,{_TOPIC})*)?$",
                max_length=200,
                description="Topics, with commas between; all if not given.",
                examples=["price,slot"],
            ),
        ]
        | UnsetType
    ) = UNSET
    market: (
        Annotated[
            str,
            Meta(
                pattern="^([a-z0-9][a-z0-9._-]*(,[a-z0-9][a-z0-9._-]*)*)?$",
                max_length=200,
                description="Markets, with commas between; all if not given.",
                examples=["spot"],
            ),
        ]
        | UnsetType
    ) = UNSET
    last_event_id: (
        Annotated[
            str,
            Meta(
                description="Where to go on, for clients that cannot send the header `Last-Event-ID`.",
                examples=["48211-2"],
            ),
        ]
        | UnsetType
    ) = UNSET


@routes.get(
    "/stream", "followStream", "Follow the market live",
    scope="stream:read", query=StreamQuery, answer=str, media="text/event-stream", group="stream",
    problems=(404, 414),
    description="Server-sent events. The first is `snapshot`, then news; with `Last-Event-ID` it goes on there.",
)  # fmt: skip
async def follow(call: Call) -> Answer:
    """Served by `stream_endpoint`, beside the framework."""
    raise AssertionError(f"{call.operation.path} is served by its own application")


def stream_endpoint(service: Service) -> StreamEndpoint:
    """The stream's application: private news are those of the caller's own participants; who sees all, sees all."""

    async def admit(scope: MutableMapping[str, Any]) -> StreamAccess:
        who = service.guard.check(scope, "stream:read", "stream")
        if isinstance(who, Refusal):
            raise who
        members = None if who.all_participants else frozenset(own_members(service, who))
        return StreamAccess(who.client_id, members, service.stream_valid_s)

    return StreamEndpoint(service.hub, admit, service.markets)
