"""The vocabulary of table schemas: a column with type, unit, sign and meaning, and a table of columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

FORMAT = 1
"""Version of the run folder and of its tables."""

ColumnType = Literal["int32", "int64", "float32", "float64", "category", "text", "timestamp"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``sign`` says what a positive value means; empty where the value cannot be negative."""

    name: str
    type: ColumnType
    unit: str
    meaning: str
    sign: str = ""
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: what a row is, in which order rows stand, and the columns."""

    name: str
    row: str
    order: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in file order."""
        return tuple(column.name for column in self.columns)

    def to_json(self) -> bytes:
        """The schema document, as written into ``schemas/<table>.json``."""
        columns = [
            {
                "name": c.name,
                "type": "timestamp (UTC)" if c.type == "timestamp" else c.type,
                "unit": c.unit,
                "sign": c.sign or "never negative" if c.type not in ("category", "text", "timestamp") else "",
                "nullable": c.nullable,
                "meaning": c.meaning,
            }
            for c in self.columns
        ]
        document = {"format": FORMAT, "table": self.name, "row": self.row, "order": self.order, "columns": columns}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def wh(name: str, meaning: str, sign: str = "") -> Column:
    """A column of whole Wh."""
    return Column(name, "int64", "Wh", meaning, sign)


def money(name: str, meaning: str, sign: str, nullable: bool = False) -> Column:
    """A column of whole micro-currency."""
    return Column(name, "int64", "micro-currency", meaning, sign, nullable)
