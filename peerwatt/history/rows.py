"""Rows of one day in memory: made from facts, merged with what a file holds, folded when a person is erased."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from market.engine import facts as f
from peerwatt.history.tables import (
    BLOCK_COLUMNS,
    ERASED,
    MEMBERS,
    NETWORK,
    POSTED,
    PRICES,
    SETTLEMENTS,
    UNKNOWN,
    Table,
    arrow_schema,
)

if TYPE_CHECKING:
    import pyarrow as pa

Int = NDArray[np.int64]
Key = tuple[Any, ...]
Parts = Mapping[int, f.Part | None]
SlotStart = Callable[[int], int]
"""Function of a slot's index: its start [microseconds since 1970]."""

_SUMMED = np.array([name not in {"member", "quality"} for name in BLOCK_COLUMNS])
_MEMBER = BLOCK_COLUMNS.index("member")
_COUNT = BLOCK_COLUMNS.index("members")
_QUALITY = BLOCK_COLUMNS.index("quality")


@dataclass(slots=True)
class DayRows:
    """Rows of some slots. ``small`` holds whole rows by table and key, ``blocks`` members' rows by (slot, version).

    ``first_seq`` is the first record that any of it comes from.
    """

    small: dict[str, dict[Key, tuple[Any, ...]]] = field(default_factory=dict)
    blocks: dict[tuple[int, int], Int] = field(default_factory=dict)
    first_seq: int = 0

    def put(self, table: Table, key: Key, row: tuple[Any, ...]) -> None:
        """Add a row, or put it in the place of one with the same key."""
        self.small.setdefault(table.name, {})[key] = row

    def tables(self) -> set[str]:
        """Names of the tables that have rows."""
        return {name for name, rows in self.small.items() if rows} | ({MEMBERS.name} if self.blocks else set())

    def update(self, newer: DayRows) -> None:
        """Take over what ``newer`` says; what is known of erased members stays known."""
        for name, rows in newer.small.items():
            self.small.setdefault(name, {}).update(rows)
        for key, block in newer.blocks.items():
            before = self.blocks.get(key)
            self.blocks[key] = block if before is None else _over(before, block)
        self.first_seq = min(self.first_seq or newer.first_seq, newer.first_seq or self.first_seq)

    def fold(self, erased: Collection[int]) -> bool:
        """Add the rows of erased members up into one per slot and version; whether there were any."""
        found = False
        for key, block in self.blocks.items():
            theirs = np.isin(block[:, _MEMBER], list(erased))
            if theirs.any():
                found = True
                self.blocks[key] = _folded(block, theirs)
        return found

    def table(self, table: Table, start_us: SlotStart) -> pa.Table:
        """The rows of a table in the order of its key."""
        return members_table(self.blocks, start_us) if table is MEMBERS else self._small_table(table, start_us)

    def _small_table(self, table: Table, start_us: SlotStart) -> pa.Table:
        import pyarrow as pa

        rows = [row for _, row in sorted(self.small.get(table.name, {}).items())]
        columns = list(zip(*rows, strict=True)) if rows else [()] * (len(table.columns) - 1)
        values = [columns[0], [start_us(slot) for slot in columns[0]], *columns[1:]]
        schema = arrow_schema(table)
        arrays = [pa.array(column, kind) for column, kind in zip(values, schema.types, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)


def _over(before: Int, block: Int) -> Int:
    """Rows of ``block``; for members whom it cannot read any more, those of ``before``, if they are the same."""
    gone = block[:, _MEMBER] == ERASED
    if not gone.any():
        return block
    known = before[(before[:, _MEMBER] == ERASED) | ~np.isin(before[:, _MEMBER], block[:, _MEMBER])]
    if known[:, _COUNT].sum() != block[gone, _COUNT].sum():
        return block
    rows = np.concatenate([known, block[~gone]])
    return rows[np.argsort(rows[:, _MEMBER], kind="stable")]


def _folded(block: Int, theirs: NDArray[np.bool_]) -> Int:
    theirs = theirs | (block[:, _MEMBER] == ERASED)
    row = np.where((block[theirs] == UNKNOWN).any(axis=0), UNKNOWN, block[theirs].sum(axis=0, where=_SUMMED))
    row[_MEMBER], row[_QUALITY] = ERASED, UNKNOWN
    return np.concatenate([row[None, :], block[~theirs]])


def members_table(blocks: Mapping[tuple[int, int], Int], start_us: SlotStart) -> pa.Table:
    """Members' rows as an Arrow table, by slot, version and member."""
    import pyarrow as pa

    schema = arrow_schema(MEMBERS)
    keys = sorted(blocks)
    lengths = [len(blocks[key]) for key in keys]
    whole = np.concatenate([blocks[key] for key in keys]) if keys else np.zeros((0, len(BLOCK_COLUMNS)), np.int64)
    head = {
        "slot": np.repeat(np.array([slot for slot, _ in keys], np.int64), lengths),
        "start": np.repeat(np.array([start_us(slot) for slot, _ in keys], np.int64), lengths),
        "version": np.repeat(np.array([version for _, version in keys], np.int64), lengths),
    }
    arrays = []
    for name, kind in zip(MEMBERS.names, schema.types, strict=True):
        values = head[name] if name in head else np.ascontiguousarray(whole[:, BLOCK_COLUMNS.index(name)])
        mask = values == UNKNOWN
        array = pa.array(values, pa.int64(), mask=mask if mask.any() else None)
        arrays.append(array.cast(kind))
    return pa.Table.from_arrays(arrays, schema=schema)


def rows_from_table(table: Table, rows: pa.Table, into: DayRows) -> None:
    """The rows of a file, put into ``into``."""
    if table is MEMBERS:
        into.blocks.update(_blocks(rows))
        return
    names = [name for name in table.names if name != "start"]
    columns = {name: _values(rows, name) for name in names}
    for row in zip(*columns.values(), strict=True):
        value = dict(zip(names, row, strict=True))
        into.put(table, tuple(value[name] for name in table.key), row)


def _values(rows: pa.Table, name: str) -> list[Any]:
    import pyarrow as pa

    column = rows.column(name)
    return list((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())


def _blocks(rows: pa.Table) -> dict[tuple[int, int], Int]:
    import pyarrow.compute as pc

    if not len(rows):
        return {}
    columns = [pc.fill_null(rows.column(name), UNKNOWN).to_numpy() for name in BLOCK_COLUMNS]
    whole = np.stack(columns, axis=1).astype(np.int64)
    slots, versions = rows.column("slot").to_numpy(), rows.column("version").to_numpy()
    cuts = np.flatnonzero((np.diff(slots) != 0) | (np.diff(versions) != 0)) + 1
    starts = np.concatenate([[0], cuts])
    return {(int(slots[at]), int(versions[at])): block for at, block in zip(starts, np.split(whole, cuts), strict=True)}


# --- from facts -------------------------------------------------------------------------------------------------------


def take_cleared(rows: DayRows, seq: int, at_us: int, fact: f.Cleared) -> None:
    """A slot's price."""
    row = (
        fact.slot, fact.market, fact.version, fact.price_num, fact.price_den, fact.volume_wh, fact.orders,
        fact.retailer_sold_wh, fact.retailer_bought_wh, fact.operator_u, fact.network_u, fact.retailer_u, seq, at_us,
    )  # fmt: skip
    rows.put(PRICES, (fact.slot, fact.market), row)


def take_network(rows: DayRows, seq: int, at_us: int, fact: f.NetworkMeasured) -> None:
    """What the wires did; measured again, the later one holds."""
    state = msgspec.json.encode(fact.state, order="sorted").decode()
    rows.put(NETWORK, (fact.slot,), (fact.slot, fact.loss_wh, state, seq, at_us))


def take_settled(rows: DayRows, seq: int, at_us: int, fact: f.Settled, parts: Parts) -> None:
    """A version of a slot, over all members and for each.

    Members whose part cannot be read any more are erased: of them only the postings are known, because every kind of
    posting sums to zero over all accounts.
    """
    accounts = [amount for column in zip(*fact.accounts_u, strict=True) for amount in column]
    row = (fact.slot, fact.version, fact.reason, len(parts), fact.loss_wh, *accounts, seq, at_us)
    rows.put(SETTLEMENTS, (fact.slot, fact.version), row)
    own = {member: part for member, part in sorted(parts.items()) if isinstance(part, f.SettledPart)}
    lines = [_member_row(member, part) for member, part in own.items()]
    if gone := len(parts) - len(own):
        lines.insert(0, _erased_row(gone, fact, own.values()))
    rows.blocks[fact.slot, fact.version] = np.array(lines, np.int64).reshape(len(lines), len(BLOCK_COLUMNS))


def _member_row(member: int, part: f.SettledPart) -> tuple[int, ...]:
    return (
        member, 1, part.import_wh, part.export_wh, part.quality, part.bought_wh, part.sold_wh, part.local_bought_wh,
        part.local_sold_wh, sum(wh for _, wh, _ in part.standing), sum(u for _, _, u in part.standing),
        part.baseline_u, *part.posted_u, *part.lines_u, sum(part.lines_u),
    )  # fmt: skip


def _erased_row(gone: int, fact: f.Settled, own: Iterable[f.SettledPart]) -> tuple[int, ...]:
    posted = [-sum(row) for row in fact.accounts_u]
    for part in own:
        posted = [rest - amount for rest, amount in zip(posted, part.posted_u, strict=True)]
    row = [UNKNOWN] * len(BLOCK_COLUMNS)
    row[:2] = [ERASED, gone]
    row[POSTED : POSTED + len(posted)] = posted
    return tuple(row)
