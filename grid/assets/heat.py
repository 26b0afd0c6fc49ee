"""Heated buildings: one thermal mass each, warmed by a heat pump, stepped for all of them by one kernel.

The law is the exact solution of ``C dT/dt = cop P + gain - U (T - outdoor)`` over a slot in which everything but the
temperature stands still (a first-order building, one resistance and one capacity; ISO 52016-1 calls it lumped)::

    T_end = keep T_start + (1 - keep) (outdoor + (cop q / dt + gain) / U),   keep = exp(-dt U / C)

with the electricity q of the slot in whole Wh. Comfort is no part of the law: whoever asks for heat keeps to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core import GridError

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeatColumns:
    """Heated buildings, one row each, shape (H,).

    ``building`` int32 index; ``heat_max_wh`` int64 most electricity per slot; ``loss_kw_per_k`` (U) and
    ``capacity_kwh_per_k`` (C) of the building; ``keep`` = exp(-dt U / C), what is left of a difference to the outside
    after a slot; ``hours`` the slot's length.
    """

    building: NDArray[np.int32]
    heat_max_wh: Int
    loss_kw_per_k: Float
    capacity_kwh_per_k: Float
    keep: Float
    hours: float

    def __post_init__(self) -> None:
        checks = (
            ("heat_max_wh", self.heat_max_wh >= 0),
            ("loss_kw_per_k", (self.loss_kw_per_k > 0) & np.isfinite(self.loss_kw_per_k)),
            ("capacity_kwh_per_k", (self.capacity_kwh_per_k > 0) & np.isfinite(self.capacity_kwh_per_k)),
        )
        for name, good in checks:
            if not good.all():
                row = int(np.flatnonzero(~good)[0])
                remedy = "limits >= 0, loss and capacity above 0"
                raise GridError(f"{name} out of range", element=f"heated building {row}", remedy=remedy)

    def __len__(self) -> int:
        return len(self.building)

    def take(self, rows: NDArray[np.intp]) -> HeatColumns:
        """The heated buildings ``rows``, in that order."""
        return HeatColumns(
            self.building[rows],
            self.heat_max_wh[rows],
            self.loss_kw_per_k[rows],
            self.capacity_kwh_per_k[rows],
            self.keep[rows],
            self.hours,
        )


@dataclass(frozen=True, slots=True)
class HeatConditions:
    """What heated buildings meet in the slots of a window, float64 (S, H) each.

    ``outdoor_c`` and ``gain_kw`` (people, appliances, sun) are means of the slot, ``cop`` is heat over electricity,
    ``low_c`` and ``high_c`` are the comfort band at the end of each slot.
    """

    outdoor_c: Float
    cop: Float
    gain_kw: Float
    low_c: Float
    high_c: Float

    def first(self, n_slots: int) -> HeatConditions:
        """The conditions of the first ``n_slots`` slots."""
        parts = (self.outdoor_c, self.cop, self.gain_kw, self.low_c, self.high_c)
        return HeatConditions(*(part[:n_slots] for part in parts))

    def take(self, rows: NDArray[np.intp]) -> HeatConditions:
        """The conditions of the heated buildings ``rows``, in that order."""
        parts = (self.outdoor_c, self.cop, self.gain_kw, self.low_c, self.high_c)
        return HeatConditions(*(np.ascontiguousarray(part[:, rows]) for part in parts))


@dataclass(frozen=True, slots=True)
class HeatFlows:
    """What heat pumps did, shape (S, H): electricity ``heat_wh`` int64 >= 0, ``temperature_c`` at each slot's end."""

    heat_wh: Int
    temperature_c: Float


def heat_columns(
    *,
    building: Sequence[int],
    electric_kw: Sequence[float],
    loss_kw_per_k: Sequence[float],
    capacity_kwh_per_k: Sequence[float],
    slot_s: int,
) -> HeatColumns:
    """Heated buildings of a scenario as columns for slots of ``slot_s`` seconds; one item per building each.

    Raises
    ------
    GridError
        If a value is out of range.
    """
    hours = slot_s / 3600.0
    loss = np.asarray(loss_kw_per_k, dtype=np.float64)
    capacity = np.asarray(capacity_kwh_per_k, dtype=np.float64)
    # math.exp one by one: vectorised exponentials may differ in the last bit from machine to machine
    keep = [math.exp(-hours * u / c) if c > 0 else 0.0 for u, c in zip(loss.tolist(), capacity.tolist(), strict=True)]
    return HeatColumns(
        building=np.asarray(building, dtype=np.int32),
        heat_max_wh=np.asarray(np.rint(np.asarray(electric_kw, dtype=np.float64) * 1000.0 * hours), dtype=np.int64),
        loss_kw_per_k=loss,
        capacity_kwh_per_k=capacity,
        keep=np.array(keep, dtype=np.float64),
        hours=hours,
    )


def step_heat(
    columns: HeatColumns, conditions: HeatConditions, temperature_c: Float, request_wh: Int
) -> tuple[HeatFlows, Float]:
    """Step every heated building through the slots of a window.

    Parameters
    ----------
    columns, conditions
        The buildings, and what they meet in the S slots.
    temperature_c
        Indoor temperatures at the window's start, float64 (H,).
    request_wh
        Wanted electricity [Wh], int64 (S, H); cut to 0 .. ``heat_max_wh``.

    Returns
    -------
    tuple
        The flows (S, H) and the temperatures at the window's end (H,). Windows may be cut anywhere with the same bits.

    Raises
    ------
    GridError
        If a temperature, a COP or a gain is not finite, or a COP is not above zero.
    """
    good = np.isfinite(conditions.outdoor_c) & np.isfinite(conditions.gain_kw) & np.isfinite(conditions.cop)
    good &= conditions.cop > 0
    if not (good.all() and np.isfinite(temperature_c).all()):
        slot, row = np.argwhere(~good)[0].tolist() if not good.all() else (0, 0)
        remedy = "mend the profiles of weather; the COP is above 0"
        raise GridError("no usable weather or COP", slot=slot, element=f"heated building {row}", remedy=remedy)
    flows = HeatFlows(np.empty(request_wh.shape, np.int64), np.empty(request_wh.shape, np.float64))
    new = temperature_c.astype(np.float64)
    _step(
        columns.heat_max_wh, columns.loss_kw_per_k, columns.keep, columns.hours, conditions.outdoor_c, conditions.cop,
        conditions.gain_kw, request_wh, new, flows.heat_wh, flows.temperature_c,
    )  # fmt: skip
    return flows, new


def hold_temperature(columns: HeatColumns, conditions: HeatConditions, temperature_c: Float, target_c: Float) -> Int:
    """The least electricity [Wh], int64 (S, H), with which no slot ends below ``target_c`` (S, H).

    Whole Wh, rounded up; where the target is out of reach, all that the heat pump can do.
    """
    request = np.empty(target_c.shape, np.int64)
    _hold(
        columns.heat_max_wh, columns.loss_kw_per_k, columns.keep, columns.hours, conditions.outdoor_c, conditions.cop,
        conditions.gain_kw, target_c, temperature_c.astype(np.float64), request,
    )  # fmt: skip
    return request


@njit(cache=True, error_model="numpy")
def heat_slot(
    temperature_c: float, q_wh: int, keep: float, loss: float, hours: float, outdoor: float, cop: float, gain: float
) -> float:
    """Indoor temperature [degC] at the end of a slot with electricity ``q_wh``; units as in `HeatColumns`."""
    heat_kw = cop * (q_wh / 1000.0) / hours + gain
    return keep * temperature_c + (1.0 - keep) * (outdoor + heat_kw / loss)


@njit(cache=True, error_model="numpy")
def _step(
    heat_max: Int,
    loss: Float,
    keep: Float,
    hours: float,
    outdoor: Float,
    cop: Float,
    gain: Float,
    request: Int,
    temperature_c: Float,
    out_heat: Int,
    out_temperature_c: Float,
) -> None:
    for t in range(request.shape[0]):
        for h in range(request.shape[1]):
            q = min(max(request[t, h], 0), heat_max[h])
            temperature_c[h] = heat_slot(
                temperature_c[h], q, keep[h], loss[h], hours, outdoor[t, h], cop[t, h], gain[t, h]
            )
            out_heat[t, h] = q
            out_temperature_c[t, h] = temperature_c[h]


@njit(cache=True, error_model="numpy")
def _hold(
    heat_max: Int,
    loss: Float,
    keep: Float,
    hours: float,
    outdoor: Float,
    cop: Float,
    gain: Float,
    target: Float,
    temperature_c: Float,
    out: Int,
) -> None:
    for t in range(target.shape[0]):
        for h in range(target.shape[1]):
            level = (target[t, h] - keep[h] * temperature_c[h]) / (1.0 - keep[h])
            need = ((level - outdoor[t, h]) * loss[h] - gain[t, h]) * hours / cop[t, h] * 1000.0
            q = 0
            if need >= heat_max[h]:
                q = heat_max[h]
            elif need > 0.0:
                q = int(np.ceil(need))
            out[t, h] = q
            temperature_c[h] = heat_slot(
                temperature_c[h], q, keep[h], loss[h], hours, outdoor[t, h], cop[t, h], gain[t, h]
            )
