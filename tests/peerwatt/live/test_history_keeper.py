"""The history beside a running market: what it holds is what the market came to, also over a restart and an erasure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from market.engine.commands import Erase
from peerwatt.history import HistoryWriter
from peerwatt.live.history_keeper import HistoryKeeper
from peerwatt.wire.times import SlotNames
from tests.peerwatt.districts import district, home, load, pv
from tests.peerwatt.live.serving import World


def evening() -> World:
    """Two and a half days' end and beginning: 16 slots over a UTC midnight."""
    return World(district(
        home("a", load(), pv(6)), home("b", load("couple")), home("c", load("senior")),
        time={"start": "2016-05-25T22:00", "end": "2016-05-26T06:00", "slot_minutes": 30, "zone": "UTC"},
    ))  # fmt: skip


def test_it_follows_the_journal_and_forgets_with_it(tmp_path: Path) -> None:
    async def story() -> tuple[list[dict[str, Any]], list[int | None], list[dict[str, Any]], list[dict[str, Any]]]:
        world = evening()
        names = SlotNames(world.config.start_us, world.config.slot_s)
        async with world.life() as (engine, driver):
            keeper = HistoryKeeper(HistoryWriter(tmp_path, names), engine.journal, engine.vault, engine.clock)
            await driver.run(asyncio.Event(), 10)
            await keeper.catch_up()
            again = HistoryKeeper(HistoryWriter(tmp_path, names), engine.journal, engine.vault, engine.clock)
            engine.before_erase.append(again.forget)
            await again.catch_up()  # as after a restart
            prices = again.history.prices(0, 16).to_pylist()
            right = await engine.read(
                lambda state: [book.result.price_num for book in state.markets["spot"].books.values() if book.result]
            )
            number = engine.member_of("b")
            assert number is not None
            mine = again.history.member_slots(number, 0, 16).to_pylist()
            await engine.submit(Erase(number, "admin"))
            await driver.run(asyncio.Event())
            await again.catch_up()
            return prices, right, mine, again.history.member_slots(number, 0, 16).to_pylist()

    prices, right, mine, left = asyncio.run(story())
    assert [row["price_num"] for row in prices] == right and len(right) == 10
    assert len(mine) == 10 and left == []
