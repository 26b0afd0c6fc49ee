"""What the market of the crash tests is like, and what its process is told at its start."""

from __future__ import annotations

import msgspec

from market.engine.config import EngineConfig, MarketConfig
from market.engine.facts import SlotPrices

US_PER_S = 1_000_000
START_US = 1_464_782_400 * US_PER_S  # 2016-06-01T12:00:00Z
BROKEN = 3
"""Exit code of a worker whose engine broke."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker is told at its start.

    Parameters
    ----------
    store
        Folder of a SQLite journal, or address of a PostgreSQL one.
    factor
        Engine seconds per second of the wall clock.
    slots_before
        Engine time begins this many slots before the first slot does.
    began_wall_us
        0: engine time stands still while no worker lives. Otherwise it began then and goes on without one, so that
        gates have passed at a restart.
    die_at
        ``KIND:before:N`` or ``KIND:after:N``: SIGKILL before or after the Nth append with a record of that kind.
    queue
        Commands that may wait.
    snapshot_records
        Records after which the engine takes a snapshot.
    early
        Acknowledge before records are durable: a broken market, to see that it is found out.
    """

    store: str
    factor: int = 240
    slot_s: int = 60
    slots_before: int = 1
    keep_slots: int = 60
    began_wall_us: int = 0
    die_at: str = ""
    queue: int = 4096
    snapshot_records: int = 500
    early: bool = False


def config_of(spec: Spec) -> EngineConfig:
    """Two markets side by side on one grid: a call auction, and continuous trading up to the slot's start."""
    return EngineConfig(
        run_id="crash",
        start_us=START_US,
        slot_s=spec.slot_s,
        n_slots=100_000,
        markets=(
            MarketConfig(market_id="spot", rule="uniform_price", opens_s=5 * spec.slot_s, gate_s=spec.slot_s),
            MarketConfig(market_id="intraday", rule="continuous_double_auction", opens_s=4 * spec.slot_s),
        ),
        settle_after_s=2 * spec.slot_s,
        keep_slots=spec.keep_slots,
    )


def prices_of(slot: int) -> SlotPrices:
    """Prices that differ from slot to slot."""
    retail, feed_in = 300_000 + 1000 * (slot % 7), 80_000
    return SlotPrices(contracts=((retail, feed_in, 90_000, 60_000, 0, 0, 40_000),), loss_u=retail)


def first_us(spec: Spec) -> int:
    """Engine time at the first start."""
    return START_US - spec.slots_before * spec.slot_s * US_PER_S
