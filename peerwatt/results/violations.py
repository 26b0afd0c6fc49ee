"""Limits broken in the power flow: which element, when, by how much, and who drew or injected most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.phases import UNBALANCE_MAX
from peerwatt.results.record import Float, Int, RunStatic, WindowRecord

KINDS = ("over_voltage", "under_voltage", "line_overload", "transformer_overload")
"""Kinds of violation; the table holds positions in this tuple."""

PHASE_KINDS = (*KINDS, "unbalance", "neutral_overload")
"""The same where the network is solved phase by phase."""

_OVER_VOLTAGE, _UNDER_VOLTAGE, _LINE, _TRANSFORMER, _UNBALANCE, _NEUTRAL = range(6)
_CONTRIBUTORS = 3
_DIGITS = 6  # the power flow is good to 1e-6; fewer digits keep equal runs equal on every machine


@dataclass(frozen=True, slots=True)
class Violations:
    """Violations of a window, one row each, ordered by slot, then element.

    ``element`` counts buses, then branches; ``kind`` points into ``KINDS``; ``value``, ``limit`` and ``excess`` are in
    per unit of the nominal voltage or of the rated load; ``injects`` says that the contributors are those who feed in.
    """

    slot: Int
    element: Int
    kind: Int
    value: Float
    limit: Float
    excess: Float
    injects: NDArray[np.bool_]


def kinds_of(static: RunStatic) -> tuple[str, ...]:
    """Kinds that a run can have."""
    return KINDS if static.phases == 1 else PHASE_KINDS


def find_violations(record: WindowRecord, static: RunStatic) -> Violations:
    """All violations of a window against the limits of its buses and branches; none without a power flow.

    A bus without any voltage is not supplied: an outage, no under-voltage (EN 50160 tells the two apart).
    With phases the voltage of a bus is judged by its highest and its lowest phase, its unbalance by `UNBALANCE_MAX`,
    and the neutral of a branch by the rating of its phases: the assumed neutral is a full one.
    """
    parts: list[tuple[Int, Int, Int, Float, Float, NDArray[np.bool_]]] = []
    if record.v_pu is not None:
        high, low = record.voltages.max(axis=2), record.voltages.min(axis=2)
        upper = np.array([bus.v_max_pu for bus in static.buses])
        lower = np.array([bus.v_min_pu for bus in static.buses])
        sides = ((_OVER_VOLTAGE, high, high > upper, upper), (_UNDER_VOLTAGE, low, (low < lower) & (low > 0), lower))
        for which, v, broken, bounds in sides:
            row, column = np.nonzero(broken)
            injects = np.full(len(row), which == _OVER_VOLTAGE)
            parts.append((row, column, np.full(len(row), which), v[row, column], bounds[column], injects))
    if record.branch_loading is not None:
        loading = record.branch_loading
        limits = np.array([branch.loading_max for branch in static.branches])
        transformer = np.array([branch.kind == "transformer" for branch in static.branches], dtype=np.bool_)
        row, column = np.nonzero(loading > limits)
        kinds = np.where(transformer[column], _TRANSFORMER, _LINE)
        injects = _feeds_back(record, transformer, row, column)
        parts.append((row, column + len(static.buses), kinds, loading[row, column], limits[column], injects))
    parts.extend(_of_phases(record, static))
    if not parts:
        none, zero = np.zeros(0, np.int64), np.zeros(0)
        return Violations(none, none, none, zero, zero, zero, none.astype(np.bool_))
    row, element, kind, value, limit, injects = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((element, row))  # stable: a kind's place among several of one element is that of its part
    excess = np.abs(value - limit)[order]
    return Violations(
        row[order] + record.first_slot,
        element[order],
        kind[order],
        np.round(value[order], _DIGITS),
        limit[order],
        np.round(excess, _DIGITS),
        injects[order],
    )


def _of_phases(
    record: WindowRecord, static: RunStatic
) -> Iterator[tuple[Int, Int, Int, Float, Float, NDArray[np.bool_]]]:
    """Unbalance of buses and overloads of neutrals."""
    branches = np.array([branch.loading_max for branch in static.branches])
    for kind, values, limits, first in (
        (_UNBALANCE, record.unbalance, np.full(len(static.buses), UNBALANCE_MAX), 0),
        (_NEUTRAL, record.neutral_loading, branches, len(static.buses)),
    ):
        if values is not None:
            row, column = np.nonzero(values > limits)
            injects = (record.exchange_wh < 0)[row]
            yield row, column + first, np.full(len(row), kind), values[row, column], limits[column], injects


def _feeds_back(record: WindowRecord, transformer: NDArray[np.bool_], row: Int, column: Int) -> NDArray[np.bool_]:
    """Whether the power flows towards the grid above: of a transformer by its own flow, of a line by the district's."""
    back = (record.exchange_wh < 0)[row]
    if record.branch_p_kw is None:
        return back
    return np.where(transformer[column], record.branch_p_kw[row, column] < 0, back)


def contributors(found: Violations, record: WindowRecord, static: RunStatic) -> list[str]:
    """For each violation the buildings with the largest net injection or draw in its slot: ``h07 12.1 kW, h12 ...``."""
    if not len(found.slot):
        return []
    names = [building.id for building in static.buildings]
    net_kw = (record.import_wh - record.export_wh) * (3.6 / static.slot_s)
    keys = found.slot * 2 + found.injects
    unique, inverse = np.unique(keys, return_inverse=True)
    power = net_kw[unique // 2 - record.first_slot] * np.where(unique % 2 == 1, -1.0, 1.0)[:, None]
    largest = np.argsort(-power, axis=1, kind="stable")[:, :_CONTRIBUTORS]
    top = np.take_along_axis(power, largest, axis=1)
    texts = [
        ", ".join(f"{names[i]} {kw:.1f} kW" for i, kw in zip(who, much, strict=True) if kw > 0)
        for who, much in zip(largest.tolist(), top.tolist(), strict=True)
    ]
    return [texts[i] for i in inverse.tolist()]
