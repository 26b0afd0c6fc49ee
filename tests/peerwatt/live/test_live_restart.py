"""Killed at any record and started again, a neighbourhood comes to the same prices and the same ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core import JournalError
from market.engine.state import State
from market.journal.memory import MemoryJournal
from market.journal.protocol import Record
from peerwatt.live.recovery import PlantFile
from tests.peerwatt.districts import BATTERY, district, home, load, pv
from tests.peerwatt.live.serving import US_PER_S, World

SLOTS = 8


def neighbours() -> dict[str, Any]:
    """Two hours around noon, in which batteries charge and homes trade, on a network with losses."""
    return district(
        home("z", load(), pv(9), BATTERY, bus="Bus R11"),
        home("a", load("couple"), pv(6), bus="Bus R15"),
        home("m", load("senior", 6), {"kind": "ev", "charge_kw": 3.7, "drawn": {"share_of_days": 1.0}}, bus="Bus R16"),
        network={"source": "cigre:lv"},
        power_flow="batch",
        time={"start": "2016-05-25T10:00", "end": "2016-05-25T12:00", "slot_minutes": 15, "zone": "Europe/Berlin"},
    )


@dataclass
class Killer:
    """Fails the append that brings record ``at``: before it is on the disk, or after, when nobody learns of it."""

    at: int
    late: bool

    async def before(self, records: Sequence[Record]) -> None:
        if not self.late and any(r.seq == self.at for r in records):
            raise JournalError("killed")

    async def after(self, records: Sequence[Record]) -> None:
        if self.late and any(r.seq == self.at for r in records):
            raise JournalError("killed")


def outcome(world: World, state: State) -> dict[str, Any]:
    """Prices, fills, settlements, losses and the ledger: all that money depends on, by name.

    Numbers may differ: one whose key was made before the crash, and whose joining was not, is never used again.
    """
    name = {account: world.vault.participant_of(account) or str(account) for account in range(-5, state.next_member)}
    books = state.markets["spot"].books
    slots = {}
    for slot, book in books.items():
        assert book.result is not None
        version = state.slots[slot].versions[-1]
        slots[slot] = (
            str(book.status), book.result.price_num, book.result.price_den, book.result.volume_wh,
            sorted((name[o.member], o.side, o.e_wh, o.price_u, o.filled_wh) for o in book.orders.values()),
            {name[m]: settled for m, settled in version.members.items()}, version.accounts_u, version.loss_wh,
            {name[m]: wh for m, wh in state.slots[slot].planned_wh.items()},
        )  # fmt: skip
    return {
        "slots": slots,
        "ledger": {name[k]: list(v) for k, v in state.ledger.items()},
        "members": len(state.members),
    }


def killed_and_served(kills: Sequence[Killer], file: PlantFile | None, down_slots: int = 0) -> tuple[World, State]:
    """Lives that end in a kill, and a last one; after each, ``down_slots`` slots of time go by."""
    world = World(neighbours())
    from_us = 0
    for kill in kills:
        if kill.at <= len(world.store.records):
            continue  # it came in one group with the record of the kill before
        journal = MemoryJournal(world.store, before=kill.before, after=kill.after)
        with pytest.raises(JournalError):
            asyncio.run(world.live(journal=journal, plant_file=file, from_us=from_us))
        journal.crash()
        if down_slots:
            from_us = world.store.records[-1].draft.at_us + down_slots * world.config.slot_s * US_PER_S
    return world, asyncio.run(world.live(plant_file=file, from_us=from_us))


@pytest.fixture(scope="module")
def undisturbed() -> tuple[dict[str, Any], int]:
    world = World(neighbours())
    state = asyncio.run(world.live())
    assert sum(book.result.volume_wh > 0 for book in state.markets["spot"].books.values() if book.result) >= 4
    return outcome(world, state), len(world.store.records)


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_killed_at_every_record(undisturbed: tuple[dict[str, Any], int], late: bool, tmp_path: Path) -> None:
    right, records = undisturbed
    for at in range(2, records + 1):
        world, state = killed_and_served([Killer(at, late)], PlantFile(tmp_path / f"{at}.npz", "district"))
        assert outcome(world, state) == right, at


def test_killed_again_and_again(undisturbed: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    right, records = undisturbed
    kills = [Killer(at, bool(at % 2)) for at in range(4, records, 3)]
    world, state = killed_and_served(kills, PlantFile(tmp_path / "plant.npz", "district"))
    assert outcome(world, state) == right
    assert world.computed_again <= 1, "a checkpoint is behind by one slot at most"


def test_without_a_checkpoint_the_plant_is_computed_again(undisturbed: tuple[dict[str, Any], int]) -> None:
    right, records = undisturbed
    world, state = killed_and_served([Killer(records - 6, late=True)], None)
    assert outcome(world, state) == right
    assert world.computed_again > 1


def test_a_checkpoint_ahead_of_the_journal_is_not_believed(
    undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    """A journal restored from an older backup beside a plant of today."""
    right, _ = undisturbed
    file = PlantFile(tmp_path / "plant.npz", "district")
    ahead = World(neighbours())
    asyncio.run(ahead.live(plant_file=file))
    found = file.load()
    assert found is not None and found[0] == SLOTS
    world = World(neighbours())
    state = asyncio.run(world.live(plant_file=file))
    assert world.computed_again == 0 and outcome(world, state) == right


def test_stopped_after_some_slots_it_goes_on(undisturbed: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    right, _ = undisturbed
    world = World(neighbours())
    file = PlantFile(tmp_path / "plant.npz", "district")
    for slots in (1, 3, 2):
        asyncio.run(world.live(slots, plant_file=file))
    state = asyncio.run(world.live(plant_file=file))
    assert outcome(world, state) == right
    assert [r.slot for r in world.reports] == sorted(r.slot for r in world.reports)


@pytest.mark.parametrize("down_slots", [1, 40])
@pytest.mark.slow
def test_gates_missed_while_it_was_down_are_cleared_late_and_once(
    undisturbed: tuple[dict[str, Any], int], down_slots: int, tmp_path: Path
) -> None:
    right, records = undisturbed
    for at in range(10, records, 9):
        file = PlantFile(tmp_path / f"{at}.npz", "district")
        world, state = killed_and_served([Killer(at, bool(at % 2))], file, down_slots)
        assert outcome(world, state) == right, at
        cleared = [r.draft.unique for r in world.store.records if r.draft.kind == "cleared"]
        assert cleared == [f"clear/spot/{slot}/1" for slot in range(SLOTS)]
        # Only what had cleared and was not measured yet (the slot in delivery, and the one before) may have been
        # settled without meters where it was down for longer than these are waited for; the meters then correct it.
        corrected = [slot for slot, kept in state.slots.items() if len(kept.versions) > 1]
        assert len(corrected) <= (2 if down_slots > 4 else 0)


def test_a_market_that_begins_when_all_is_over_clears_every_slot(undisturbed: tuple[dict[str, Any], int]) -> None:
    right, _ = undisturbed
    world = World(neighbours())
    state = asyncio.run(world.live(from_us=world.config.slot_start_us(SLOTS + 20)))
    assert outcome(world, state) == right
    assert world.reports[0].late_s == 0.0, "no time of the wall clock passes here"
