"""Speed of the live engine on a real SQLite journal: durable orders, a gate with 10,000 orders, restart.

Beside them, in the same run, the disk itself: appends of as many bytes with one fdatasync each.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

from benchmarks.row import Outcome, Row
from market.engine.commands import Done, EnterOrders, Join, Key, NewOrder, Tick
from market.engine.config import EngineConfig, MarketConfig
from market.engine.engine import Engine, Limits
from market.engine.facts import SlotPrices
from market.journal.opening import open_journal

PRICES = SlotPrices(((320_000, 80_000, 0, 0, 0, 0, 0),))
HOUR_US = 3_600_000_000


class _Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.us = -HOUR_US

    def __call__(self) -> int:
        return self.us

    def wall_s(self, engine_us: int) -> float:
        return 0.001


def _config() -> EngineConfig:
    market = MarketConfig(market_id="spot", rule="uniform_price", opens_s=3600)
    return EngineConfig(
        run_id="bench", start_us=0, slot_s=900, n_slots=96, markets=(market,), max_open_orders=10**9, keep_slots=96
    )


async def _engine(folder: Path, clock: _Clock, snapshot_records: int = 0) -> Engine:
    journal, vault = await open_journal(folder)
    limits = Limits(snapshot_records=snapshot_records)
    return await Engine.open(journal, vault, clock, genesis=_config(), prices=lambda slot: PRICES, limits=limits)


async def _end(engine: Engine, running: asyncio.Task[None]) -> None:
    await engine.stop()
    await running
    await engine.journal.close()
    await engine.vault.close()


async def _enter(engine: Engine, clients: int, requests: int, batch: int) -> float:
    """Seconds for ``clients`` at once, each with ``requests`` requests of ``batch`` orders, one after the other."""
    members = []
    for number in range(clients):
        reply = await engine.submit(Join(f"p{number}", from_slot=0))
        assert isinstance(reply, Done)
        members.append(reply.answer)

    async def client(member: int) -> None:
        side = 1 if member % 2 else -1
        for request in range(requests):
            name = hashlib.sha256(b"%d %d" % (member, request)).digest()
            price = 190_000 - side * 20_000 + 10 * (member % 100)
            orders = tuple(NewOrder(0, side, 100 + k, price + 7 * k) for k in range(batch))
            reply = await engine.submit(EnterOrders("spot", member, orders, Key(name[:16], name[16:])))
            assert isinstance(reply, Done)

    started = time.perf_counter()
    await asyncio.gather(*(client(member) for member in members))
    return time.perf_counter() - started


def _fdatasync_s(folder: Path, n: int = 300, size: int = 300) -> float:
    """Seconds of one small durable append."""
    place = os.open(folder / "appends", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    started = time.perf_counter()
    for _ in range(n):
        os.write(place, b"x" * size)
        os.fdatasync(place)
    os.close(place)
    return (time.perf_counter() - started) / n


def durable_orders(folder: Path) -> Outcome:
    """Orders per second of the engine alone, in requests of 100 and one by one, each answered after its commit."""

    async def measure(batch: int, clients: int, requests: int) -> float:
        place = folder / f"batch{batch}"
        engine = await _engine(place, _Clock())
        running = asyncio.create_task(engine.run(hold=lambda: frozenset({("spot", 0)})))
        seconds = await _enter(engine, clients, requests, batch)
        await _end(engine, running)
        return clients * requests * batch / seconds

    disk = _fdatasync_s(folder)
    hundred = asyncio.run(measure(100, 8, 125))
    single = asyncio.run(measure(1, 64, 150))
    return Outcome(
        f"{hundred:,.0f}/s in batches, {single:,.0f}/s one by one",
        "50,000/s in batches",
        hundred >= 50_000,
        f"SQLite, WAL, FULL; 8 clients with 100 orders a request, 64 with one; a bare durable append takes "
        f"{disk * 1e6:.0f} us, {single * disk:.1f} orders in that time (prototype through HTTP: 20,900/s, 1,341/s)",
    )


def gate(folder: Path) -> Outcome:
    """From the gate until 10,000 orders are cleared, durable, and handed to the streams."""

    async def measure(place: Path, clients: int) -> float:
        clock = _Clock()
        engine = await _engine(place, clock)
        running = asyncio.create_task(engine.run(hold=lambda: frozenset({("spot", s) for s in range(96)})))
        await _enter(engine, clients, 10_000 // clients // 10, 10)
        told = asyncio.Event()
        engine.subscribe(lambda news: told.set() if news.topic == "price" else None)
        clock.us = 0
        started = time.perf_counter()
        tick = asyncio.create_task(engine.submit(Tick()))
        await told.wait()
        seconds = time.perf_counter() - started
        await tick
        await _end(engine, running)
        return seconds

    asyncio.run(measure(folder / "warm", 10))  # compiles the rule
    few = min(asyncio.run(measure(folder / f"few{k}", 50)) for k in range(3))
    many = min(asyncio.run(measure(folder / f"many{k}", 1000)) for k in range(3))
    return Outcome(
        f"{few * 1e3:.0f} ms with 50 members, {many * 1e3:.0f} ms with 1,000",
        "100 ms",
        max(few, many) <= 0.1,
        "10,000 orders of one slot, uniform price; the best of three each; every member's result is sealed on its own",
    )


def restart(folder: Path) -> Outcome:
    """Opening a journal of a million order events, from a snapshot and without one."""

    async def fill() -> int:
        engine = await _engine(folder, _Clock(), snapshot_records=0)
        running = asyncio.create_task(engine.run(hold=lambda: frozenset({("spot", 0)})))
        await _enter(engine, 500, 2000, 1)
        await engine.snapshot()
        await _end(engine, running)
        return engine.head.seq

    async def again() -> float:
        started = time.perf_counter()
        engine = await _engine(folder, _Clock())
        seconds = time.perf_counter() - started
        await engine.journal.close()
        await engine.vault.close()
        return seconds

    async def without() -> float:
        journal, vault = await open_journal(folder)
        await journal.drop_snapshots()
        await journal.close()
        await vault.close()
        return await again()

    records = asyncio.run(fill())
    warm = asyncio.run(again())
    cold = asyncio.run(without())
    return Outcome(
        f"{warm:.1f} s from the snapshot, {cold:.0f} s from the first record",
        "5 s from a snapshot",
        warm < 5,
        f"{records:,} records, all of whose orders are still open: the largest state that they can leave",
    )


ROWS = (
    Row("engine: durable orders", durable_orders),
    Row("engine: 10,000 orders at a gate", gate),
    Row("engine: restart with a million events", restart),
)
