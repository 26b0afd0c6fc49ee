"""The columns of each table, computed from one chunk of slots, and how they become Parquet.

Integers are delta-packed, floats byte-stream-split, both then zstd level 1: measured faster and smaller than plain
columns with snappy. Every reader of Parquet 2.x knows these encodings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from peerwatt.results import envelopes, inverters, phases
from peerwatt.results.columns import TableSchema
from peerwatt.results.record import CERTIFICATE_ROWS, HEAT_COLUMNS, LEDGER_KINDS, RunStatic, WindowRecord
from peerwatt.results.schemas import TABLES
from peerwatt.results.static import slot_grid
from peerwatt.results.violations import contributors, find_violations, kinds_of

POOL = "pool"
"""The other side of a trade in rules without pairs."""

_MICRO = 1e6
_TYPES: dict[str, Any] = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "text": pa.string(),
    "timestamp": pa.timestamp("s", tz="UTC"),
    "category": pa.dictionary(pa.int32(), pa.string()),
}


@dataclass(frozen=True, slots=True)
class Codes:
    """A category column: positions ``index`` in ``names``."""

    index: np.ndarray[Any, np.dtype[np.int32]]
    names: list[str]


Columns = dict[str, Any]
"""Column name -> array, (array, valid) where some values are null, ``Codes``, or list of texts; None: all null."""


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table."""
    fields = [pa.field(c.name, _TYPES[c.type], nullable=c.nullable) for c in TABLES[table].columns]
    return pa.schema(fields)


def parquet_options(schema: TableSchema) -> dict[str, Any]:
    """Fixed options of the Parquet writer for a table: they are part of the bytes."""
    coded = [c.name for c in schema.columns if c.type in ("category", "text")]
    encoding = {
        c.name: "BYTE_STREAM_SPLIT" if c.type in ("float32", "float64") else "DELTA_BINARY_PACKED"
        for c in schema.columns
        if c.name not in coded
    }
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": coded or False,
        "column_encoding": encoding,
        "write_statistics": True,
        "store_schema": True,
        "version": "2.6",
    }


def arrow_table(table: str, columns: Columns) -> pa.Table:
    """Columns as an Arrow table of the table's schema."""
    schema = arrow_schema(table)
    rows = next(_length(values) for values in columns.values() if values is not None)
    arrays = [_arrow_column(columns[field.name], field.type, rows) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _length(values: Any) -> int:
    if isinstance(values, Codes):
        return len(values.index)
    return len(values[0] if isinstance(values, tuple) else values)


def _arrow_column(values: Any, kind: Any, rows: int) -> Any:
    if values is None:
        return pa.nulls(rows, kind)
    if isinstance(values, Codes):
        codes = pa.array(values.index.astype(np.int32, copy=False))
        return pa.DictionaryArray.from_arrays(codes, pa.array(values.names, pa.string()))
    if isinstance(values, tuple):
        data, valid = values
        return pa.array(data, type=kind, mask=~valid)
    return pa.array(values, type=kind)


def slots_columns(record: WindowRecord, static: RunStatic) -> Columns:
    """Columns of ``slots``."""
    first, n = record.first_slot, record.n_slots
    price = record.price_num / np.where(record.has_price, record.price_den, 1) / _MICRO
    columns: Columns = {
        "slot": np.arange(first, first + n, dtype=np.int32),
        "start_utc": slot_grid(static).starts_utc(first, n),
        "price_per_kwh": (price, record.has_price),
        "price_num": (record.price_num, record.has_price),
        "price_den": (record.price_den, record.has_price),
        "local_wh": record.bought_wh.sum(axis=1),
    }
    for name in ("load", "heat_pump", "ev", "pv", "curtailed", "charge", "discharge", "import", "export"):
        columns[f"{name}_wh"] = getattr(record, f"{name}_wh").sum(axis=1)
    columns["exchange_wh"] = record.exchange_wh
    columns["loss_wh"] = record.loss_wh
    columns.update(_grid_columns(record, static))
    columns["carbon_kg_per_kwh"] = record.carbon_kg_per_kwh
    operator = static.accounts.index("operator")
    columns["operator_u"] = sum(record.postings_u[kind][:, operator] for kind in LEDGER_KINDS)
    return columns


def _grid_columns(record: WindowRecord, static: RunStatic) -> Columns:
    columns: Columns = dict.fromkeys(
        ("v_min_pu", "v_max_pu", "v_mean_pu", "max_line_loading", "max_transformer_loading", "transformer_kw")
    )
    if record.v_pu is not None and record.v_pu.shape[1]:
        v = record.voltages.reshape(record.n_slots, -1)
        columns |= {"v_min_pu": v.min(axis=1), "v_max_pu": v.max(axis=1), "v_mean_pu": v.mean(axis=1)}
    transformer = np.array([branch.kind == "transformer" for branch in static.branches], dtype=np.bool_)
    if record.branch_loading is not None:
        for name, chosen in (("max_line_loading", ~transformer), ("max_transformer_loading", transformer)):
            if chosen.any():
                columns[name] = record.branch_loading[:, chosen].max(axis=1)
    if record.branch_p_kw is not None and transformer.any():
        columns["transformer_kw"] = record.branch_p_kw[:, transformer].sum(axis=1)
    return {name: None if values is None else values.astype(np.float32) for name, values in columns.items()}


def _slot_by(record: WindowRecord, names: list[str]) -> tuple[Any, Codes]:
    """Slot and category columns of a dense (slot, thing) table."""
    slots = np.arange(record.first_slot, record.first_slot + record.n_slots, dtype=np.int32)
    codes = np.tile(np.arange(len(names), dtype=np.int32), record.n_slots)
    return np.repeat(slots, len(names)), Codes(codes, names)


def buildings_columns(record: WindowRecord, static: RunStatic) -> Columns:
    """Columns of ``buildings``."""
    slot, building = _slot_by(record, [b.id for b in static.buildings])
    columns: Columns = {"slot": slot, "building": building}
    for name in TABLES["buildings"].names[2:]:
        columns[name] = getattr(record, name).ravel()
    return columns


def trades_columns(record: WindowRecord, static: RunStatic) -> Columns:
    """Columns of ``trades``."""
    trades = record.trades
    names = [*(b.id for b in static.buildings), POOL]
    sides = {
        side: Codes(np.where(index < 0, len(names) - 1, index).astype(np.int32), names)
        for side, index in (("buyer", trades.buyer), ("seller", trades.seller))
    }
    return {
        "slot": trades.slot.astype(np.int32),
        **sides,
        "e_wh": trades.e_wh,
        "price_num": trades.price_num,
        "price_den": trades.price_den,
        "price_per_kwh": trades.price_num / trades.price_den / _MICRO,
        "amount_u": trades.amount_u,
        "deal": Codes(trades.deal.astype(np.int32), list(static.deals)),
    }


def buses_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``buses``; None without a power flow."""
    if record.v_pu is None:
        return None
    slot, bus = _slot_by(record, [b.id for b in static.buses])
    return {"slot": slot, "bus": bus, "v_pu": record.v_pu.astype(np.float32).ravel()}


def branches_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``branches``; None without a power flow."""
    if record.branch_loading is None or record.branch_p_kw is None:
        return None
    slot, branch = _slot_by(record, [b.id for b in static.branches])
    loading, p_kw = (x.astype(np.float32).ravel() for x in (record.branch_loading, record.branch_p_kw))
    return {"slot": slot, "branch": branch, "loading": loading, "p_kw": p_kw}


def slot_phases_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``slot_phases``; None without phases."""
    found = phases.slot_columns(record)
    slots = np.arange(record.first_slot, record.first_slot + record.n_slots, dtype=np.int32)
    return None if found is None else {"slot": slots, **found}


def bus_phases_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``bus_phases``; None without phases."""
    found = phases.bus_columns(record)
    slot, bus = _slot_by(record, [b.id for b in static.buses])
    return None if found is None else {"slot": slot, "bus": bus, **found}


def branch_phases_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``branch_phases``; None without phases."""
    found = phases.branch_columns(record)
    slot, branch = _slot_by(record, [b.id for b in static.branches])
    return None if found is None else {"slot": slot, "branch": branch, **found}


def ledger_columns(record: WindowRecord, static: RunStatic) -> Columns:
    """Columns of ``ledger``."""
    slot, account = _slot_by(record, list(static.accounts))
    postings = {f"{kind}_u": record.postings_u[kind].ravel() for kind in LEDGER_KINDS}
    return {"slot": slot, "account": account, **postings}


def violations_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``violations``; None without a power flow."""
    if record.v_pu is None and record.branch_loading is None:
        return None
    found = find_violations(record, static)
    elements = [*(b.id for b in static.buses), *(b.id for b in static.branches)]
    names = list(dict.fromkeys(elements))  # a bus and a line may share an id; the kind tells them apart
    position = {name: i for i, name in enumerate(names)}
    place = np.array([position[name] for name in elements], dtype=np.int32)
    return {
        "slot": found.slot.astype(np.int32),
        "element": Codes(place[found.element], names),
        "kind": Codes(found.kind.astype(np.int32), list(kinds_of(static))),
        "value": found.value,
        "limit": found.limit,
        "excess": found.excess,
        "contributors": contributors(found, record, static),
    }


def certificates_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``certificates``; None where origins are not followed."""
    if record.certificates_wh is None:
        return None
    slot, origin = _slot_by(record, list(static.origins))
    rows = enumerate(CERTIFICATE_ROWS)
    return {"slot": slot, "origin": origin} | {f"{r}_wh": record.certificates_wh[:, k].ravel() for k, r in rows}


def origins_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``origins``; None where origins are not followed."""
    if record.origin_wh is None:
        return None
    _, buildings, size = record.origin_wh.shape
    flat = record.origin_wh.ravel()
    at = np.flatnonzero(flat)
    place, origin = np.divmod(at, size)
    slot, building = np.divmod(place, buildings)
    return {
        "slot": (slot + record.first_slot).astype(np.int32),
        "building": Codes(building.astype(np.int32), [b.id for b in static.buildings]),
        "origin": Codes(origin.astype(np.int32), list(static.origins)),
        "consumed_wh": flat[at],
    }


def heat_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``heat``; None without heated buildings."""
    if record.heat is None:
        return None
    slot, building = _slot_by(record, [static.buildings[i].id for i in static.heated])
    flat = {name: np.ascontiguousarray(record.heat[:, :, k]).ravel() for k, name in enumerate(HEAT_COLUMNS)}
    return {"slot": slot, "building": building, **flat, "electric_wh": flat["electric_wh"].astype(np.int64)}


def inverters_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``inverters``; None where no inverter has functions."""
    found = inverters.inverter_columns(record, static)
    slot, building = _slot_by(record, [static.buildings[i].id for i in static.supporting])
    return None if found is None else {"slot": slot, "building": building, **found}


def envelopes_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``envelopes``; None where nobody is limited in more than feeding in."""
    found = envelopes.envelope_table(record, static)
    if found is None:
        return None
    slot, building = _slot_by(record, [static.buildings[i].id for i in static.limited])
    names = list(dict.fromkeys(("none", *(reason for reason, _ in static.limit_reasons))))
    code = np.array([0, *(names.index(reason) for reason, _ in static.limit_reasons)], np.int32)
    for way in ("import", "export"):
        found[f"{way}_reason"] = Codes(code[found.pop(f"{way}_by") + 1], names)
    return {"slot": slot, "building": building, **found}


def islands_columns(record: WindowRecord, static: RunStatic) -> Columns | None:
    """Columns of ``islands``; None in runs without outages, or where nobody is limited."""
    found = envelopes.island_table(record, static)
    slot, building = _slot_by(record, [static.buildings[i].id for i in static.limited])
    return None if found is None else {"slot": slot, "building": building, **found}


COLUMNS: dict[str, Callable[[WindowRecord, RunStatic], Columns | None]] = {
    "slots": slots_columns,
    "buildings": buildings_columns,
    "trades": trades_columns,
    "buses": buses_columns,
    "branches": branches_columns,
    "slot_phases": slot_phases_columns,
    "bus_phases": bus_phases_columns,
    "branch_phases": branch_phases_columns,
    "ledger": ledger_columns,
    "violations": violations_columns,
    "certificates": certificates_columns,
    "origins": origins_columns,
    "heat": heat_columns,
    "inverters": inverters_columns,
    "envelopes": envelopes_columns,
    "islands": islands_columns,
}
"""Table -> its columns from a chunk of slots; None where the run has no such table."""
