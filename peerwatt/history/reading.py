"""Reads the history: DuckDB over the files of the days asked for, and what is not in files yet beside them.

Slots are indices, ranges half open. What is asked for is bound to the queries, never written into them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from core import RunError
from market.settlement import BILL_LINES, LEDGER_KINDS, SettledRows
from peerwatt.history import files
from peerwatt.history.tables import MEMBERS, NETWORK, PRICES, SETTLEMENTS, SYSTEM_ACCOUNTS, Table, arrow_schema
from peerwatt.wire.times import US, SlotNames, time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from market.engine.state import SettledVersion, Settlement
    from peerwatt.api.service import Past, SlotVersions

Recent = Callable[[Table, int, int], "pa.Table"]
"""Rows of slots [first, end) that are in no file yet, such as ``HistoryWriter.recent``."""

_MOST_ROWS = 10_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST = "QUALIFY version = max(version) OVER (PARTITION BY slot)"
_LAST = "QUALIFY seq = max(seq) OVER (PARTITION BY slot)"


class History:
    """What is in a history's folder and, if ``recent`` gives it, what is on its way there.

    The plain methods read files and take their time: call them in a thread, or use the ``async`` ones.
    """

    def __init__(self, folder: Path, slots: SlotNames, recent: Recent | None = None) -> None:
        self._folder = folder
        self._slots = slots
        self._recent = recent

    # --- tables -----------------------------------------------------------------------------------------------------

    def prices(self, first: int, end: int, market: str | None = None) -> pa.Table:
        """Cleared slots, of one market or all, by slot and market."""
        where, values = ("market = ?", [market]) if market is not None else ("", [])
        return self._query(PRICES, first, end, self._fresh(PRICES, first, end), where, values)

    def slot_settlements(self, first: int, end: int, *, all_versions: bool = False) -> pa.Table:
        """Settled slots over all members, newest versions or all."""
        return self._query(
            SETTLEMENTS, first, end, self._fresh(SETTLEMENTS, first, end), only="" if all_versions else _NEWEST
        )

    def network(self, first: int, end: int) -> pa.Table:
        """What the wires did, as last measured."""
        return self._query(NETWORK, first, end, self._fresh(NETWORK, first, end), only=_LAST)

    def member_slots(
        self, member: int, first: int, end: int, *, all_versions: bool = False, limit: int = _MOST_ROWS
    ) -> pa.Table:
        """A member's slots, newest versions or all, by slot and version; the first ``limit`` rows."""
        return self._member_slots(member, first, end, self._fresh(MEMBERS, first, end), all_versions, limit)

    def _member_slots(
        self, member: int, first: int, end: int, fresh: pa.Table | None, all_versions: bool, limit: int
    ) -> pa.Table:
        only = "" if all_versions else _NEWEST
        return self._query(MEMBERS, first, end, fresh, "member = ?", [member], only, limit)

    # --- a member's own ---------------------------------------------------------------------------------------------

    def export_member(self, member: int, form: Literal["csv", "parquet"], first: int = 0, end: int = 2**31) -> bytes:
        """A member's own rows, all versions, for that member: a CSV file with a header, or a Parquet file."""
        return self._export(member, form, first, end, self._fresh(MEMBERS, first, end))

    async def export(self, member: int, form: Literal["csv", "parquet"], first: int = 0, end: int = 2**31) -> bytes:
        """`export_member`, in a thread."""
        fresh = self._fresh(MEMBERS, first, end)
        return await asyncio.to_thread(self._export, member, form, first, end, fresh)

    def _export(self, member: int, form: str, first: int, end: int, fresh: pa.Table | None) -> bytes:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        rows = self._member_slots(member, first, end, fresh, True, _MOST_ROWS).drop_columns(["members"])
        out = pa.BufferOutputStream()
        if form == "parquet":
            pa.parquet.write_table(rows, out, compression="zstd")
        else:
            starts = [time_text(us) for us in rows.column("start").cast(pa.int64()).to_pylist()]
            named = rows.set_column(rows.column_names.index("start"), "start", pa.array(starts, pa.string()))
            pa.csv.write_csv(named, out)
        return bytes(out.getvalue())

    async def settled(self, member: int, first: int, end: int, limit: int | None = None) -> list[Past]:
        """All versions of a member's slots as the engine's state has them, without single contracts; in a thread.

        With ``limit``, those of at least so many versions, and of whole slots only.
        """
        mine, totals = self._fresh(MEMBERS, first, end), self._fresh(SETTLEMENTS, first, end)
        return await asyncio.to_thread(self._settled, member, first, end, limit, mine, totals)

    def _settled(
        self, member: int, first: int, end: int, limit: int | None, mine: pa.Table | None, totals: pa.Table | None
    ) -> list[Past]:
        from peerwatt.api.service import Past

        if limit is not None:
            some = self._member_slots(member, first, end, mine, True, limit)
            end = some.column("slot")[-1].as_py() + 1 if len(some) else first
        own = self._member_slots(member, first, end, mine, True, _MOST_ROWS).to_pylist()
        versions = self._query(SETTLEMENTS, first, end, totals).to_pylist() if own else []
        of = {(row["slot"], row["version"]): _version(row) for row in versions}
        return [Past(row["slot"], of[row["slot"], row["version"]], _settlement(row)) for row in own]

    # --- for bills --------------------------------------------------------------------------------------------------

    async def rows(self, members: Sequence[int], first: int, end: int) -> SettledRows:
        """All versions of some members' slots, by slot and version; in a thread."""
        fresh = self._fresh(MEMBERS, first, end)
        return await asyncio.to_thread(self._rows, members, first, end, fresh)

    def _rows(self, members: Sequence[int], first: int, end: int, fresh: pa.Table | None) -> SettledRows:
        marks = ", ".join("?" * len(members)) or "NULL"
        found = self._query(MEMBERS, first, end, fresh, f"member IN ({marks})", members)
        names = ("slot", "member", "version", "import_wh", "export_wh", "baseline_u", "quality")
        return SettledRows(
            **{name: found.column(name).to_numpy() for name in names},
            bought_wh=found.column("local_bought_wh").to_numpy(),
            sold_wh=found.column("local_sold_wh").to_numpy(),
            lines_u=np.stack([found.column(f"line_{line}_u").to_numpy() for line in BILL_LINES], axis=1),
        )

    async def versions(self, first: int, end: int) -> SlotVersions:
        """All versions of slots over all members, by slot and version; in a thread."""
        fresh = self._fresh(SETTLEMENTS, first, end)
        return await asyncio.to_thread(self._versions, first, end, fresh)

    def _versions(self, first: int, end: int, fresh: pa.Table | None) -> SlotVersions:
        from peerwatt.api.service import SlotVersions

        found = self._query(SETTLEMENTS, first, end, fresh)
        slot, version, seq = (found.column(name).to_numpy() for name in ("slot", "version", "seq"))
        at_us = found.column("at").to_numpy().astype("datetime64[us]").astype(np.int64)
        received = [
            [found.column(f"{account}_{kind}_u").to_numpy() for kind in LEDGER_KINDS] for account in SYSTEM_ACCOUNTS
        ]
        accounts = np.array(received, np.int64).sum(axis=1).T
        return SlotVersions(slot, version, seq, at_us, found.column("reason").to_pylist(), accounts)

    # --- queries ----------------------------------------------------------------------------------------------------

    def _fresh(self, table: Table, first: int, end: int) -> pa.Table | None:
        return None if self._recent is None else self._recent(table, first, end)

    def _paths(self, table: Table, first: int, end: int) -> list[str]:
        """Files that may hold slots of the range."""
        start_us = self._slots.start_us
        length_us = self._slots.length_s * US
        low, high = files.day_of(start_us + first * length_us), files.day_of(start_us + (end - 1) * length_us)
        days = (day for day in files.days_on_disk(self._folder, table) if low <= day <= high)
        return [str(files.day_file(self._folder, table, day)) for day in days]

    def _query(
        self,
        table: Table,
        first: int,
        end: int,
        fresh: pa.Table | None,
        where: str = "",
        values: Sequence[Any] = (),
        only: str = "",
        limit: int = _MOST_ROWS,
    ) -> pa.Table:
        """Rows of files and of ``fresh``, each once. ``where`` and ``only`` are texts of this module."""
        import duckdb

        paths = self._paths(table, first, end) if first < end else []
        fresh = arrow_schema(table).empty_table() if fresh is None else fresh
        columns = ", ".join(f'"{name}"' for name in table.names)
        rows = f"SELECT {columns} FROM fresh"
        if paths:
            rows = f"SELECT {columns} FROM read_parquet(?) UNION ALL {rows}"
        condition = f"slot >= ? AND slot < ?{' AND ' if where else ''}{where}"
        text = (
            f"SELECT DISTINCT {columns} FROM ({rows}) WHERE {condition} {only} ORDER BY {', '.join(table.key)} LIMIT ?"
        )
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            connection.register("fresh", fresh)
            bound = [*([paths] if paths else []), first, end, *values, limit]
            try:
                found = connection.sql(text, params=bound).to_arrow_table()
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                raise RunError(f"{self._folder} cannot be read: {error}") from error
        return found.cast(arrow_schema(table))


# One thread: a query is small, and the machine has other things to do. Nothing is fetched from anywhere.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def _settlement(row: dict[str, Any]) -> Settlement:
    from market.engine.state import Settlement

    return Settlement(
        posted_u=tuple(row[f"posted_{kind}_u"] for kind in LEDGER_KINDS),
        lines_u=tuple(row[f"line_{line}_u"] for line in BILL_LINES),
        import_wh=row["import_wh"],
        export_wh=row["export_wh"],
        quality=row["quality"],
        bought_wh=row["bought_wh"],
        sold_wh=row["sold_wh"],
        local_bought_wh=row["local_bought_wh"],
        local_sold_wh=row["local_sold_wh"],
        standing=(),
        baseline_u=row["baseline_u"],
    )


def _version(row: dict[str, Any]) -> SettledVersion:
    from market.engine.state import SettledVersion

    accounts = tuple(tuple(row[f"{account}_{kind}_u"] for account in SYSTEM_ACCOUNTS) for kind in LEDGER_KINDS)
    return SettledVersion(
        version=row["version"],
        seq=row["seq"],
        at_us=(row["at"] - _EPOCH) // timedelta(microseconds=1),
        reason=row["reason"],
        accounts_u=cast("tuple[tuple[int, int, int, int], ...]", accounts),
        loss_wh=row["loss_wh"],
        members={},
    )
