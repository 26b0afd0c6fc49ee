"""A stand-in for the engine: its decisions, without journal, vault and writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from core.errors import JournalError
from market.engine.apply import Applier, first_state
from market.engine.commands import Command, Done, Erase, Join, Reply, Tick
from market.engine.config import EngineConfig, MarketConfig
from market.engine.engine import Overloaded
from market.engine.facts import SlotPrices
from market.engine.publication import Publication
from market.engine.running import HANDLERS
from market.engine.state import State
from market.engine.turn import Turn

T = TypeVar("T")

START_US = 1_464_782_400_000_000  # 2016-06-01T12:00:00Z
SLOT_S = 900
US = 1_000_000
PRICES = SlotPrices(contracts=((300_000, 80_000, 0, 0, 0, 0, 0),))


def config(rule: str = "uniform_price", market: str = "spot") -> EngineConfig:
    return EngineConfig(
        run_id="test",
        start_us=START_US,
        slot_s=SLOT_S,
        n_slots=96,
        markets=(MarketConfig(market_id=market, rule=rule, opens_s=4 * SLOT_S, gate_s=60),),
        settle_after_s=60,
    )


class StandIn:
    """Time is ``now_us``, moved by the test."""

    def __init__(self, settings: EngineConfig | None = None) -> None:
        self.config = settings or config()
        self.now_us = START_US - SLOT_S * US
        self.names: dict[int, str] = {}
        self.submitted: list[Command] = []
        self.overloaded = False
        self.broken = False
        self.hold = asyncio.Event()
        self.hold.set()
        self._sinks: list[Callable[[Publication], None]] = []
        self._applier = Applier(first_state(self.config))

    @property
    def state(self) -> State:
        return self._applier.state

    def clock(self) -> int:
        return self.now_us

    async def submit(self, command: Command) -> Reply:
        self.submitted.append(command)
        if self.overloaded:
            raise Overloaded(2)
        await self.hold.wait()
        await asyncio.sleep(0)
        return self.do(command)

    def do(self, command: Command) -> Reply:
        if self.broken:
            raise JournalError("broken")
        turn = Turn(self._applier, self.now_us, lambda slot: PRICES)
        reply = HANDLERS[type(command)](turn, command)
        if isinstance(command, Join) and isinstance(reply, Done):
            self.names[reply.answer] = command.participant_id
        if isinstance(command, Erase) and isinstance(reply, Done) and reply.answer == "erased":
            del self.names[command.member]
        news, self._applier.news = self._applier.news, []
        for publication in news:
            for sink in self._sinks:
                sink(publication)
        return reply

    def tick(self, now_us: int) -> None:
        self.now_us = now_us
        self.do(Tick())

    async def read(self, query: Callable[[State], T]) -> T:
        if self.broken:
            raise JournalError("broken")
        await asyncio.sleep(0)
        return query(self.state)

    def subscribe(self, sink: Callable[[Publication], None]) -> Callable[[], None]:
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    def member_of(self, participant_id: str) -> int | None:
        return next((member for member, name in self.names.items() if name == participant_id), None)

    def participant_of(self, member: int) -> str | None:
        return self.names.get(member)
