"""Facts of a small market over some days, as its journal would hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from market.engine import facts as f
from market.settlement import BILL_LINES, LEDGER_KINDS
from peerwatt.history.writer import FactRow
from peerwatt.wire.times import SlotNames

START_US = 1_464_739_200_000_000  # 2016-06-01T00:00:00Z
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SLOTS = SlotNames(START_US, 3600)
MEMBERS = (0, 1, 4)


def settled(slot: int, version: int = 1, gone: tuple[int, ...] = ()) -> tuple[f.Settled, dict[int, f.Part | None]]:
    """A settled slot that balances; ``gone`` are members whose parts nobody can read."""
    random = np.random.default_rng([slot, version])
    parts: dict[int, f.Part | None] = {}
    sums = np.zeros(len(LEDGER_KINDS), int)
    for member in MEMBERS:
        posted = random.integers(-9_000_000, 9_000_000, len(LEDGER_KINDS))
        lines = random.integers(-9_000_000, 9_000_000, len(BILL_LINES))
        bought, sold, drawn, fed = (int(x) for x in random.integers(0, 5000, 4))
        sums += posted
        parts[member] = f.SettledPart(
            tuple(posted.tolist()), tuple(lines.tolist()), drawn, fed, 0, bought, sold, bought // 2, sold // 2,
            ((1, 100, 25_000),) if member == 0 else (), int(lines.sum()) + 1000,
        )  # fmt: skip
    for member in gone:
        parts[member] = None
    accounts = tuple((int(-total), 0, 0, 0) for total in sums)
    return f.Settled(slot, version, "first" if version == 1 else "meter", accounts, 17 + slot, b"r"), parts  # type: ignore[arg-type]


def days(n_slots: int, gone: tuple[int, ...] = ()) -> list[FactRow]:
    """Every slot is cleared in two markets, measured and settled an hour after it; record numbers have gaps."""
    found: list[FactRow] = []

    def add(at_us: int, fact: f.Fact, parts: dict[int, f.Part | None] | None = None) -> None:
        found.append((3 * len(found) + 5, at_us, fact, parts or {}))

    for slot in range(n_slots):
        gate_us = START_US + slot * HOUR_US
        for market in ("spot", "day-ahead"):
            price = None if slot % 5 == 4 else 190_000 * 3 + slot
            add(gate_us, f.Cleared(market, slot, 1, 4, 1000 + slot, price, 3, b"b", b"r", operator_u=slot))
        add(gate_us + HOUR_US, f.NetworkMeasured(slot, 17 + slot, {"v_pu": {"b": 0.99, "a": 1.0}}))
        add(gate_us + 2 * HOUR_US, *settled(slot, gone=gone))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("date=*.parquet"))}
