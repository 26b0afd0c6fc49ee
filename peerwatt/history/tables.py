"""The tables of the history: columns, units, and which rows of a journal they come from.

Everything is a whole number but names and reasons. Slots are indices on the journal's grid; ``start`` is their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from market.settlement import BILL_LINES, LEDGER_KINDS

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "1"
"""Of the files; it stands in each."""

ERASED = -1
"""Stands for all erased members of a slot together."""

SYSTEM_ACCOUNTS = ("retailer", "operator", "network", "state")

UNKNOWN = -(2**63)
"""A number that nobody knows any more, in blocks of whole numbers; null in files."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, unit and meaning."""

    name: str
    type: Literal["int64", "text", "time"]
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what a row is, by which columns it is ordered and found, and all columns."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in file order."""
        return tuple(column.name for column in self.columns)


def _wh(name: str, meaning: str) -> Column:
    return Column(name, "int64", "Wh", meaning)


def _money(name: str, meaning: str) -> Column:
    return Column(name, "int64", "micro-currency", meaning)


_SLOT = Column("slot", "int64", "1", "index of the slot on the market's grid")
_START = Column("start", "time", "UTC", "start of the slot")
_VERSION = Column("version", "int64", "1", "1 first, later ones are corrections")
_SEQ = Column("seq", "int64", "1", "the journal's record that says so")
_AT = Column("at", "time", "UTC", "engine time of that record")

PRICES = Table(
    "prices", "a slot that one market cleared", ("slot", "market"),
    (
        _SLOT, _START, Column("market", "text", "", "the market"), _VERSION,
        Column("price_num", "int64", "micro-currency per kWh", "exact price is price_num / price_den; null: none"),
        Column("price_den", "int64", "1", "see price_num"),
        _wh("volume_wh", "energy traded"), Column("orders", "int64", "1", "orders in the book"),
        _wh("retailer_sold_wh", "of it sold by retailers in the market"),
        _wh("retailer_bought_wh", "of it bought by retailers in the market"),
        _money("operator_u", "what the operator's account receives, as the others, of the clearing itself"),
        _money("network_u", "what the network's account receives"),
        _money("retailer_u", "what the retailers' account receives"),
        _SEQ, _AT,
    ),
)  # fmt: skip

SETTLEMENTS = Table(
    "settlements", "a version of a settled slot, over all members", ("slot", "version"),
    (
        _SLOT, _START, _VERSION, Column("reason", "text", "", "why this version was made"),
        Column("members", "int64", "1", "members settled"), _wh("loss_wh", "losses in the wires"),
        *(
            _money(f"{account}_{kind}_u", f"what the {account} receives in postings of kind {kind}")
            for account in SYSTEM_ACCOUNTS for kind in LEDGER_KINDS
        ),
        _SEQ, _AT,
    ),
)  # fmt: skip

NETWORK = Table(
    "network", "what the wires did in a slot, as last measured", ("slot",),
    (
        _SLOT, _START, _wh("loss_wh", "losses"),
        Column("state", "text", "JSON", "voltages and loadings by name, as they were measured"), _SEQ, _AT,
    ),
)  # fmt: skip

MEMBERS = Table(
    "members", "a member's slot in one version of its settlement", ("slot", "version", "member"),
    (
        _SLOT, _START, _VERSION,
        Column("member", "int64", "1", f"the member's number; {ERASED}: the erased members of the slot together"),
        Column("members", "int64", "1", "how many members the row is of"),
        _wh("import_wh", "drawn from the grid, by the meter"), _wh("export_wh", "fed into the grid, by the meter"),
        Column("quality", "int64", "1", "of the reading: place in good, estimated, substituted, suspect, corrected"),
        _wh("bought_wh", "bought in markets and contracts"), _wh("sold_wh", "sold in markets and contracts"),
        _wh("local_bought_wh", "of it from neighbours"), _wh("local_sold_wh", "of it to neighbours"),
        _wh("standing_wh", "of it under standing contracts, either way"),
        _money("standing_u", "what standing contracts cost; negative: what they brought"),
        _money("baseline_u", "what the same meters would have cost without a market"),
        *(_money(f"posted_{kind}_u", f"received in postings of kind {kind}; negative: paid") for kind in LEDGER_KINDS),
        *(_money(f"line_{line}_u", f"line {line} of the bill; positive: to be paid") for line in BILL_LINES),
        _money("total_u", "sum of the lines"),
    ),
)  # fmt: skip

TABLES: Mapping[str, Table] = {table.name: table for table in (PRICES, SETTLEMENTS, NETWORK, MEMBERS)}

BLOCK_COLUMNS = tuple(name for name in MEMBERS.names if name not in {"slot", "start", "version"})
"""Columns of a block of members' rows: int64, shape (members, columns)."""

POSTED = BLOCK_COLUMNS.index(f"posted_{LEDGER_KINDS[0]}_u")
LINES = BLOCK_COLUMNS.index(f"line_{BILL_LINES[0]}_u")


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table's files."""
    import pyarrow as pa

    types = {"int64": pa.int64(), "text": pa.string(), "time": pa.timestamp("us", "UTC")}
    fields = [pa.field(c.name, types[c.type], metadata={"unit": c.unit, "meaning": c.meaning}) for c in table.columns]
    return pa.schema(fields, metadata={"peerwatt.format": FORMAT, "peerwatt.table": table.name})


def parquet_options(table: Table) -> dict[str, Any]:
    """Fixed options of the Parquet writer: they are part of the bytes."""
    texts = [column.name for column in table.columns if column.type == "text"]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": texts or False,
        "column_encoding": {c.name: "DELTA_BINARY_PACKED" for c in table.columns if c.type != "text"},
        "write_statistics": True,
        "store_schema": True,
        "version": "2.6",
    }
