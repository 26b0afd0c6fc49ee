"""Snapshots for readers that begin, or that have missed something: few at a time, and one for many where it can be."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from peerwatt.api.stream_ring import View

SnapshotProvider = Callable[[View], Awaitable[tuple[dict[str, Any], int]]]
"""Gives the state of what a view shows, fit for JSON, and the last record that is in it."""

_KEPT = 32
_AT_ONCE = 8


class Snapshots:
    """Encoded ``snapshot`` events.

    A public one serves every reader of the same view for as long as the ring holds everything since: what comes after
    it makes it exact, however old it is. Private ones are made for one reader and not kept.
    """

    def __init__(self, provider: SnapshotProvider, is_fresh: Callable[[int], bool]) -> None:
        self._provider = provider
        self._is_fresh = is_fresh
        self._kept: OrderedDict[View, tuple[bytes, int]] = OrderedDict()
        self._making: dict[View, asyncio.Task[tuple[bytes, int]]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.made = 0
        """How often the provider was asked."""

    async def get(self, view: View) -> tuple[bytes, int]:
        """The event for a view, and the record it is of."""
        if view.members is None or view.members:
            return await self._make(view)
        kept = self._kept.get(view)
        if kept is not None and self._is_fresh(kept[1]):
            return kept
        making = self._making.get(view)
        if making is None:
            making = self._making[view] = asyncio.create_task(self._make(view))
            making.add_done_callback(lambda done: self._keep(view, done))
        return await asyncio.shield(making)  # one reader that goes does not take it from the others

    def _keep(self, view: View, done: asyncio.Task[tuple[bytes, int]]) -> None:
        self._making.pop(view, None)
        if done.cancelled() or done.exception() is not None:
            return  # those who wait for it hear of it
        self._kept[view] = done.result()
        self._kept.move_to_end(view)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    async def _make(self, view: View) -> tuple[bytes, int]:
        async with self._turn:
            self.made += 1
            data, seq = await self._provider(view)
        return b"id: %d-end\nevent: snapshot\ndata: %b\n\n" % (seq, msgspec.json.encode({"seq": seq, **data})), seq
