"""The history of a market that ran: what its journal says, is in the files; an erased member is not."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from market.engine.commands import Erase, Tick
from market.engine.recovery import fact_of
from market.settlement import LEDGER_KINDS
from peerwatt.history import KINDS, History, HistoryWriter, files
from peerwatt.wire.times import SlotNames
from tests.market.engine.harness import BUY, SELL, SLOT_S, World, config


async def take_all(writer: HistoryWriter, world: World) -> None:
    async for record in world.journal.read(0):
        if record.draft.kind in KINDS:
            writer.take(record.seq, record.draft.at_us, *fact_of(record, world.vault))


@pytest.mark.slow
async def test_a_market_that_ran_is_in_the_files_and_balances(tmp_path: Path) -> None:
    world, slots = World(config(settle_after_s=0)), SlotNames(0, SLOT_S)
    writer = HistoryWriter(tmp_path / "history", slots)

    async def forget(member: int, participant_id: str) -> None:
        await take_all(writer, world)
        await writer.write_due(world.clock())

    engine = await world.start()
    engine.before_erase.append(forget)
    await world.do(Tick())
    await world.join("ada", "bo", "cy")
    for slot in range(4):
        await world.enter(0, BUY, 500 + slot, 250_000, slot)
        await world.enter(1, SELL, 500, 150_000, slot)
        await world.to(slot)
        if slot:
            await world.measure(slot - 1, 700, -450, 30)
    await world.to(4)
    await world.measure(3, 700, -450, 30)
    await world.to(5)
    await take_all(writer, world)
    history = History(tmp_path / "history", slots, writer.recent)
    prices = history.prices(0, 4)
    assert prices.column("volume_wh").to_pylist() == [500] * 4
    newest = history.slot_settlements(0, 4)
    assert newest.num_rows == 4

    def posted(member: int) -> list[int]:
        rows = history.member_slots(member, 0, 4)
        return [int(pc.sum(rows.column(f"posted_{kind}_u")).as_py() or 0) for kind in LEDGER_KINDS]

    settled = [engine.state.slots[slot].versions[-1].members for slot in range(4)]
    for member in range(3):
        assert posted(member) == [sum(own[member].posted_u[k] for own in settled) for k in range(len(LEDGER_KINDS))]
    before = [sum(amounts) for amounts in zip(*map(posted, range(3)), strict=True)]
    await world.do(Erase(1, "op"))
    await world.to(7)
    assert world.vault.participant_of(1) is None, "the key is gone"
    assert files.days_of_member(tmp_path / "history", 1) == []
    assert history.member_slots(1, 0, 96).num_rows == 0
    assert [sum(amounts) for amounts in zip(*map(posted, (-1, 0, 2)), strict=True)] == before
    assert pc.sum(history.member_slots(-1, 0, 4).column("export_wh")).as_py() == 4 * 450
    await world.stop()
