"""A scenario served as fast as it goes: the driver on the real engine, with journal and vault in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from market.engine.engine import Engine
from market.engine.state import State
from market.journal.memory import MemoryJournal, MemoryStore, MemoryVault
from market.journal.opening import open_journal
from market.journal.protocol import Journal
from market.journal.vault import Vault
from peerwatt.clocks import SteppedClock
from peerwatt.devices.banks import Banks
from peerwatt.live.feeder import FeederBooks
from peerwatt.live.genesis import check_servable, engine_config, found, slot_prices
from peerwatt.live.neighbourhood import Neighbourhood, Outside
from peerwatt.live.planners import Planners
from peerwatt.live.recovery import PlantFile
from peerwatt.live.reports import SetPoint, SlotReport
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario

US_PER_S = 1_000_000


class World:
    """A scenario and its disk, over several lives of the service."""

    def __init__(self, scenario: str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> None:
        self.loaded = load_scenario(scenario, overrides)
        self.system = prepare(self.loaded)
        check_servable(self.loaded, self.system)
        self.config = engine_config(self.loaded, self.system)
        self.store, self.vault = MemoryStore(), MemoryVault()
        self.reports: list[SlotReport] = []
        self.set_points: list[SetPoint] = []
        self.news: list[str] = []
        self.computed_again = 0
        self.state: State | None = None

    async def live(self, slots: int | None = None, **options: Any) -> State:
        """One life: until ``slots`` are delivered, or the end; errors of the journal go through."""
        async with self.life(**options) as (engine, driver):
            await driver.run(asyncio.Event(), slots)
            self.state = await engine.read(lambda state: state)
            return self.state

    @asynccontextmanager
    async def life(
        self,
        *,
        plant_file: PlantFile | None = None,
        outside: Outside | None = None,
        journal: MemoryJournal | None = None,
        from_us: int = 0,
        place: Path | None = None,
        banks: Banks | None = None,
        plan_s: float | None = None,
    ) -> AsyncIterator[tuple[Engine, Neighbourhood]]:
        """Engine and driver, ready for `Neighbourhood.run`.

        Time begins one slot before the first, or where the journal ends, or at ``from_us`` if that is later. With a
        ``place``, journal and vault are files in it.
        """
        records: Journal = journal or MemoryJournal(self.store)
        vault: Vault = self.vault
        if place is not None:
            records, vault = await open_journal(place)
        known = self.store.records[-1].draft.at_us if self.store.records else 0
        clock = SteppedClock(max(self.config.start_us - self.config.slot_s * US_PER_S, known, from_us))
        books = FeederBooks(self.system)
        engine = await Engine.open(
            records, vault, clock, genesis=self.config, prices=slot_prices(self.system),
            wires=books if books.needed else None,
        )  # fmt: skip
        driver = Neighbourhood(
            self.system, engine, clock, plant_file=plant_file, outside=outside or Outside(), books=books,
            on_slot=self.reports.append, on_set_points=self.set_points.extend, banks=banks,
            planners=Planners(plan_s, self.news.append), news=self.news.append,
        )  # fmt: skip
        writer = asyncio.create_task(engine.run(hold=driver.hold))
        try:
            await found(engine, self.system)
            self.computed_again = await driver.recover()
            yield engine, driver
        finally:
            await engine.stop()
            await writer
            await records.close()
            if place is not None:
                await vault.close()
