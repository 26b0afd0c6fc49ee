"""Cut records of any length into records of one fixed length, so that nothing behind depends on the windows.

Everything that is written or added up later sees only the fixed cuts ("chunks"). Equal bytes for equal slots then
follow, floating-point sums included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import GridError, RunError
from peerwatt.results import inverters, phases
from peerwatt.results.record import (
    CERTIFICATE_ROWS,
    HEAT_COLUMNS,
    LEDGER_KINDS,
    ORIGIN_WAYS,
    Float,
    Int,
    RunStatic,
    TradeColumns,
    WindowRecord,
)

_BUILDING_FIELDS = (
    "load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "soc_wh", "import_wh",
    "export_wh", "bought_wh", "sold_wh", "undelivered_wh",
)  # fmt: skip
_SLOT_FIELDS = ("price_num", "price_den", "loss_wh", "exchange_wh")
_GRID_FIELDS = ("v_pu", "branch_loading", "branch_p_kw", "losses_kw", "slack_p_kw", "carbon_kg_per_kwh")
_ORIGIN_FIELDS = ("origin_wh", "origin_ways_wh", "certificates_wh")
_STANDING_FIELDS = ("standing_wh", "standing_u")
_CONTRACT_FIELDS = ("contract_bought_wh", "contract_sold_wh")
_OPTIONAL_FIELDS = (
    *_GRID_FIELDS, *phases.FIELDS, *_ORIGIN_FIELDS, *_STANDING_FIELDS, *inverters.FIELDS, "heat", "envelopes",
)  # fmt: skip
_SUPPLIER_FIELDS = {"supplier_sold_wh": 0, "supplier_bought_wh": 0, "supplier_u": 1}
"""Columns beyond one per supplier."""
_ROWS_PER_CHUNK = 250_000


def chunk_slots(static: RunStatic, part_slots: int) -> int:
    """Slots per chunk: the largest divisor of ``part_slots`` whose widest table has at most 250,000 rows.

    Bounds the memory of the buffer for large districts; depends on nothing but the run's shape.
    """
    width = max(len(static.accounts), len(static.buses), len(static.branches))
    fitting = (n for n in range(part_slots, 0, -1) if part_slots % n == 0 and n * width <= _ROWS_PER_CHUNK)
    return next(fitting, 1)


class RecordBuffer:
    """Takes records in slot order, gives back chunks of ``chunk`` slots; the last one of the run may be shorter.

    Parameters
    ----------
    static
        The run; its shape is what records are checked against.
    chunk
        Slots per chunk.
    next_slot
        First slot that is still missing.
    """

    def __init__(self, static: RunStatic, chunk: int, next_slot: int = 0) -> None:
        self.static = static
        self.chunk = chunk
        self.next_slot = next_slot
        self._held: list[WindowRecord] = []
        self._held_slots = 0

    def add(self, record: WindowRecord) -> Iterator[WindowRecord]:
        """Take a record; yield each chunk that is now whole.

        Raises
        ------
        RunError
            If the record does not start at the next slot, has wrong shapes, or negative energies.
        GridError
            If a grid quantity is not finite.
        """
        record = check_record(record, self.static, self.next_slot)
        self.next_slot += record.n_slots
        at = 0
        while at < record.n_slots:
            take = min(self.chunk - self._held_slots, record.n_slots - at)
            whole = at == 0 and take == record.n_slots
            self._held.append(record if whole else _slice(record, at, take))
            self._held_slots += take
            at += take
            if self._held_slots == self.chunk or self.next_slot - record.n_slots + at == self.static.n_slots:
                chunk = _join(self._held)
                self._held, self._held_slots = [], 0
                yield chunk


def check_record(record: WindowRecord, static: RunStatic, next_slot: int) -> WindowRecord:
    """The record with contiguous int64 and float64 columns, after checking shapes, signs and finite numbers.

    Raises
    ------
    RunError, GridError
        As :meth:`RecordBuffer.add`.
    """
    n, n_buildings = record.n_slots, len(static.buildings)
    if record.first_slot != next_slot or n <= 0 or next_slot + n > static.n_slots:
        raise RunError(
            f"a record of slots {record.first_slot}..{record.first_slot + n - 1} came where slot {next_slot} "
            f"of {static.n_slots} was due"
        )
    values: dict[str, Any] = {"first_slot": record.first_slot, "n_slots": n}
    for name in _BUILDING_FIELDS:
        values[name] = _not_negative(name, _int(name, getattr(record, name), (n, n_buildings)), record.first_slot)
    values["active"] = np.ascontiguousarray(record.active, dtype=np.bool_)
    values["has_price"] = np.ascontiguousarray(record.has_price, dtype=np.bool_)
    for name in _SLOT_FIELDS:
        values[name] = _int(name, getattr(record, name), (n,))
    _not_negative("loss_wh", values["loss_wh"], record.first_slot)
    if np.any(record.has_price & (values["price_den"] <= 0)):
        raise RunError("price_den must be positive where there is a price")
    values["baseline_u"] = _int("baseline_u", record.baseline_u, (n, n_buildings))
    accounts = (n, len(static.accounts))
    values["postings_u"] = {k: _int(f"postings_u[{k}]", record.postings_u[k], accounts) for k in LEDGER_KINDS}
    values["trades"] = _check_trades(record, n_buildings)
    widths = {"v_pu": (len(static.buses),), "branch_loading": (len(static.branches),)}
    widths["branch_p_kw"] = widths["branch_loading"]
    values |= _check_origins(record, static)
    for name in _STANDING_FIELDS:
        column = getattr(record, name)
        if (column is None) != (not static.standing):
            raise RunError(f"{name} does not fit the run's {len(static.standing)} standing contracts")
        values[name] = None if column is None else _int(name, column, (n, len(static.standing)))
    for name in _CONTRACT_FIELDS:
        column = getattr(record, name)
        if (column is None) == static.gross:
            raise RunError(f"{name} is {'missing' if static.gross else 'given'}, unlike the run's market")
        values[name] = None if column is None else _int(name, column, (n, n_buildings))
    for name, more in _SUPPLIER_FIELDS.items():
        column, width = getattr(record, name), len(static.suppliers)
        if (column is None) != (not width):
            raise RunError(f"{name} does not fit the run's {width} suppliers")
        values[name] = None if column is None else _int(name, column, (n, width + more))
    if (record.heat is None) != (not static.heated):
        raise RunError(f"heat does not fit the run's {len(static.heated)} heated buildings")
    values["heat"] = _finite("heat", record.heat, (n, len(static.heated), len(HEAT_COLUMNS)), record.first_slot, static)
    values["envelopes"] = _check_limits(record, static)
    for name, shape in inverters.field_shapes(static).items():
        column = getattr(record, name)
        if (column is None) != (not static.supporting):
            raise RunError(f"{name} does not fit the run's {len(static.supporting)} buildings with grid functions")
        check = name == "curtailed_for_wh" and column is not None
        values[name] = (
            _int(name, column, (n, *shape)) if check else _finite(name, column, (n, *shape), record.first_slot, static)
        )
    with_phases = phases.field_shapes(static)
    for name in phases.FIELDS:
        if (getattr(record, name) is None) != (static.phases == 1 or record.v_pu is None):
            raise RunError(f"{name} does not fit a run with {static.phases} phases")
        values[name] = _finite(name, getattr(record, name), (n, *with_phases[name]), record.first_slot, static)
    for name in _GRID_FIELDS:
        values[name] = _finite(name, getattr(record, name), (n, *widths.get(name, ())), record.first_slot, static)
    return WindowRecord(**values)


def _check_origins(record: WindowRecord, static: RunStatic) -> dict[str, Int | None]:
    """The origin columns: there whenever the run follows origins, whole and never negative."""
    n, buildings, size = record.n_slots, len(static.buildings), len(static.origins)
    shapes = ((n, buildings, size), (n, buildings, len(ORIGIN_WAYS)), (n, len(CERTIFICATE_ROWS), size))
    found: dict[str, Int | None] = {}
    for name, shape in zip(_ORIGIN_FIELDS, shapes, strict=True):
        column = getattr(record, name)
        if (column is None) != (size == 0):
            raise RunError(f"{name} is {'missing' if size else 'given'}, but the run has {size} origins")
        found[name] = None if column is None else _not_negative(name, _int(name, column, shape), record.first_slot)
    return found


def _check_limits(record: WindowRecord, static: RunStatic) -> Int | None:
    if (record.envelopes is None) != (not static.limited):
        raise RunError(f"envelopes do not fit the run's {len(static.limited)} limited buildings")
    if record.envelopes is None:
        return None
    return _int("envelopes", record.envelopes, (record.n_slots, len(static.limited), len(static.limit_columns)))


def _int(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> Int:
    if array.shape != shape:
        raise RunError(f"{name} has shape {array.shape}, expected {shape}")
    if array.dtype.kind not in "iu":
        raise RunError(f"{name} must be an integer column, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _not_negative(name: str, array: Int, first_slot: int) -> Int:
    if array.size and array.min() < 0:
        where = np.argwhere(array < 0)[0]
        raise RunError(f"{name} is negative in slot {first_slot + int(where[0])}, column {where[1:].tolist()}")
    return array


def _finite(name: str, array: Float | None, shape: tuple[int, ...], first_slot: int, static: RunStatic) -> Float | None:
    if array is None:
        return None
    if array.shape != shape:
        raise RunError(f"{name} has shape {array.shape}, expected {shape}")
    result = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(result).all():
        where = np.argwhere(~np.isfinite(result))[0].tolist()
        element = name
        if name in ("v_pu", "v_phase_pu", "unbalance"):
            element = f"bus {static.buses[where[1]].id}"
        elif len(where) >= 2 and name != "slack_phase_p_kw":
            element = f"branch {static.branches[where[1]].id}"
        raise GridError(f"{name} is not a finite number", slot=first_slot + where[0], element=element)
    return result


def _check_trades(record: WindowRecord, n_buildings: int) -> TradeColumns:
    trades = record.trades
    rows = len(trades.slot)
    columns = {field.name: _int(f"trades.{field.name}", getattr(trades, field.name), (rows,))
               for field in fields(TradeColumns)}  # fmt: skip
    slot = columns["slot"]
    if rows:
        if slot[0] < record.first_slot or slot[-1] >= record.first_slot + record.n_slots or np.any(np.diff(slot) < 0):
            raise RunError("trades must be ordered by slot and lie within the window")
        for name in ("buyer", "seller"):
            if columns[name].min() < -1 or columns[name].max() >= n_buildings:
                raise RunError(f"trades.{name} names a building that does not exist")
        if columns["price_den"].min() <= 0:
            raise RunError("trades.price_den must be positive")
        _not_negative("trades.e_wh", columns["e_wh"], 0)
    return TradeColumns(**columns)


def _slice(record: WindowRecord, at: int, n: int) -> WindowRecord:
    first = record.first_slot + at
    low, high = np.searchsorted(record.trades.slot, [first, first + n])
    values: dict[str, Any] = {}
    for field in fields(WindowRecord):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            values[field.name] = value[at : at + n]
    values["first_slot"], values["n_slots"] = first, n
    values["postings_u"] = {kind: column[at : at + n] for kind, column in record.postings_u.items()}
    values["trades"] = TradeColumns(**{f.name: getattr(record.trades, f.name)[low:high] for f in fields(TradeColumns)})
    for name in _OPTIONAL_FIELDS:
        values.setdefault(name, None)
    return WindowRecord(**values)


def _join(records: list[WindowRecord]) -> WindowRecord:
    if len(records) == 1:
        return records[0]
    values: dict[str, Any] = {"first_slot": records[0].first_slot, "n_slots": sum(r.n_slots for r in records)}
    for field in fields(WindowRecord):
        columns = [getattr(record, field.name) for record in records]
        if isinstance(columns[0], np.ndarray):
            values[field.name] = np.concatenate(columns)
    for name in _OPTIONAL_FIELDS:
        missing = [getattr(record, name) is None for record in records]
        if any(missing) and not all(missing):
            raise RunError(f"{name} is missing in some windows and present in others")
        values.setdefault(name, None)
    values["postings_u"] = {kind: np.concatenate([r.postings_u[kind] for r in records]) for kind in LEDGER_KINDS}
    values["trades"] = TradeColumns(
        **{f.name: np.concatenate([getattr(r.trades, f.name) for r in records]) for f in fields(TradeColumns)}
    )
    return WindowRecord(**values)
