"""A live market in memory for tests: manual time, named participants, and a second life whenever one wants."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from market.engine.commands import (
    Command,
    Done,
    EnterOrders,
    Join,
    Key,
    Measure,
    NewOrder,
    Reading,
    Refused,
    Tick,
)
from market.engine.config import EngineConfig, MarketConfig
from market.engine.engine import Engine, Limits
from market.engine.facts import SlotPrices
from market.engine.publication import Publication
from market.journal.memory import MemoryJournal, MemoryStore, MemoryVault

SLOT_S = 900
US = 1_000_000
BUY, SELL = 1, -1
PRICES = SlotPrices(
    ((320_000, 80_000, 70_000, 30_000, 0, 0, 20_000), (300_000, 60_000, 70_000, 30_000, 1_000, 500, 20_000)),
    loss_u=50_000, imbalance_u=200_000,
)  # fmt: skip


class Clock:
    """Time that moves when it is told to; waiting for it polls."""

    def __init__(self) -> None:
        self.us = -SLOT_S * US

    def __call__(self) -> int:
        return self.us

    def wall_s(self, engine_us: int) -> float:
        return 0.001


def config(rule: str = "uniform_price", **changes: Any) -> EngineConfig:
    """One market of a day; ``changes`` go to the market where it has such a field, else to the neighbourhood."""
    own = {k: v for k, v in changes.items() if k in MarketConfig.__struct_fields__}
    rest = {k: v for k, v in changes.items() if k not in own}
    market = MarketConfig(**({"market_id": "spot", "rule": rule, "opens_s": 2 * SLOT_S} | own))
    base: dict[str, Any] = {"run_id": "r", "start_us": 0, "slot_s": SLOT_S, "n_slots": 96, "markets": (market,)}
    return EngineConfig(**(base | rest))


def key(text: str, content: str = "") -> Key:
    """An idempotency key as the gateways make it."""
    return Key(hashlib.sha256(text.encode()).digest()[:16], hashlib.sha256(content.encode()).digest()[:16])


class World:
    """A market with its disk, over several lives of its engine."""

    def __init__(self, setup: EngineConfig | None = None, **limits: Any) -> None:
        self.config = config() if setup is None else setup
        self.limits = Limits(**({"snapshot_records": 0} | limits))
        self.store, self.vault, self.clock = MemoryStore(), MemoryVault(), Clock()
        self.news: list[Publication] = []
        self.engine: Engine
        self.journal: MemoryJournal
        self._running: asyncio.Task[None] | None = None
        self._keys = 0

    async def start(self, hold: Any = None) -> Engine:
        """Begin a life. Its own sense of time is switched off: tests tick."""
        self.journal = MemoryJournal(self.store)
        self.engine = await Engine.open(
            self.journal, self.vault, self.clock, genesis=self.config, prices=lambda slot: PRICES, limits=self.limits
        )
        self.engine.subscribe(self.news.append)
        self._running = asyncio.create_task(
            self.engine.run(hold=lambda: _EVERY_GATE) if hold is None else self.engine.run(hold)
        )
        return self.engine

    async def stop(self) -> None:
        """End a life in order."""
        await self.engine.stop()
        if self._running is not None:
            await self._running
        await self.journal.close()

    async def kill(self) -> None:
        """End a life with no order at all: what is in memory is lost."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self.store.writer = None

    async def do(self, command: Command) -> Any:
        """Carry a command out; it must not be refused."""
        reply = await self.engine.submit(command)
        assert isinstance(reply, Done), reply
        return reply.answer

    async def refused(self, command: Command) -> str:
        """The code with which a command is refused; it must leave no trace."""
        before = self.engine.head
        reply = await self.engine.submit(command)
        assert isinstance(reply, Refused), reply
        assert reply.reason
        assert self.engine.head == before
        return reply.code

    async def join(self, *names: str, contract: int = 0) -> list[int]:
        """New members, from slot 0 on or the next that is free."""
        return [await self.do(Join(name, contract=contract)) for name in names]

    def order(self, member: int, side: int, e_wh: int, price_u: int, slot: int = 0, **more: Any) -> EnterOrders:
        """A request with one order and a key of its own."""
        self._keys += 1
        order = NewOrder(slot, side, e_wh, price_u, **more)
        return EnterOrders("spot", member, (order,), key(f"k{self._keys}", repr(order)))

    async def enter(self, member: int, side: int, e_wh: int, price_u: int, slot: int = 0, **more: Any) -> int:
        """The number of a new order that is taken."""
        (answer,) = await self.do(self.order(member, side, e_wh, price_u, slot, **more))
        return int(answer.order)

    async def to(self, slot: int, seconds: float = 0) -> None:
        """Let time pass up to a moment after a slot's start, and do what is due."""
        self.clock.us = int((slot * SLOT_S + seconds) * US)
        await self.do(Tick())

    async def measure(self, slot: int, *net_wh: int) -> None:
        """Readings of members 0, 1, ...: positive draws."""
        rows = tuple(Reading(m, slot, max(wh, 0), max(-wh, 0)) for m, wh in enumerate(net_wh))
        await self.do(Measure(rows, "test"))

    def told(self, topic: str) -> list[dict[str, Any]]:
        """Data of all news of a topic."""
        return [one.data for one in self.news if one.topic == topic]


_EVERY_GATE = frozenset(("spot", slot) for slot in range(96))


@asynccontextmanager
async def market(setup: EngineConfig | None = None, **limits: Any) -> AsyncIterator[World]:
    """A running market; at the end its books must balance and its journal must replay."""
    from market.engine.replay import replay

    world = World(setup, **limits)
    await world.start()
    await world.do(Tick())
    yield world
    digest, imbalance = world.engine.state.digest(), world.engine.state.imbalance_u()
    await world.stop()
    assert imbalance == 0
    again = MemoryJournal(world.store)
    found = await replay(again, world.vault)
    await again.close()
    assert found.state_digest == digest
