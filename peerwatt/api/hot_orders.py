"""The two routes that have to be fast, served in front of the framework: one order, and a batch of them.

They run the same pipeline as all others (`peerwatt.api.pipeline`), with the same key check, rate limit, idempotency
and problems; what they leave out is the framework's own way through middleware and routing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peerwatt.api.answers import problem_of
from peerwatt.api.operation import API, Operation
from peerwatt.api.pipeline import Receive, Scope, Send, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from peerwatt.api.service import Service

    App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOT = ("enterOrder", "enterOrders")
"""Names of the operations that are served here."""

_HEAD = f"{API}/markets/"


class HotOrders:
    """An ASGI application that serves order entry itself and hands on everything else.

    Parameters
    ----------
    app
        Serves the rest.
    service
        What the server is made of.
    operations
        All routes; those named in ``HOT`` are served here.
    """

    def __init__(self, app: App, service: Service, operations: Sequence[Operation]) -> None:
        self._app = app
        self._service = service
        named = {operation.name: operation for operation in operations}
        self._tails = {named[name].path.rpartition("/")[2]: named[name] for name in HOT}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            head, _, tail = scope["path"].rpartition("/")
            operation = self._tails.get(tail)
            market = head[len(_HEAD) :]
            if operation is not None and head.startswith(_HEAD) and market and "/" not in market:
                try:
                    await serve(self._service, operation, {"market": market}, scope, receive, send)
                except Exception as error:
                    refusal = problem_of(error)
                    if refusal is None:
                        raise
                    await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)
