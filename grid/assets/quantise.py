"""From floating-point kWh to whole Wh, carrying what rounding leaves so that totals are conserved."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core import GridError

Int = NDArray[np.int64]
Float = NDArray[np.float64]

LIMIT_KWH = 1e9
"""Largest energy of one slot and column that is accepted: 1 TWh is a wrong unit."""


def quantise_wh(e_kwh: Float, remainder: Float) -> tuple[Int, Float]:
    """Whole Wh per slot, with the rounding of each slot carried into the next.

    Sums over any stretch differ from the exact ones by less than 1 Wh. A value of zero gives zero, a value >= 0 gives
    one >= 0. Windows may be cut anywhere: passing the remainder on gives the same integers.

    Parameters
    ----------
    e_kwh
        Energies [kWh], shape (S, A), any sign.
    remainder
        What is carried in [Wh], shape (A,): zeros at the start of a run.

    Returns
    -------
    tuple
        int64 Wh, shape (S, A), and the remainder carried out, shape (A,).

    Raises
    ------
    GridError
        If a value is not finite or beyond `LIMIT_KWH`, with its slot (within the window) and column.
    """
    columns = np.arange(e_kwh.shape[1], dtype=np.int64)
    return scaled_wh(e_kwh, columns, np.ones(len(columns)), remainder)


def scaled_wh(profiles: Float, column: Int, scale: Float, remainder: Float) -> tuple[Int, Float]:
    """As `quantise_wh`, for assets that share profiles: asset a takes ``profiles[:, column[a]] * scale[a]`` [kWh].

    ``profiles`` has shape (S, P), ``column`` (int64), ``scale`` and ``remainder`` (A,). Returns (S, A) and (A,).

    Raises
    ------
    GridError
        As `quantise_wh`.
    """
    carried = remainder.astype(np.float64)
    out = np.empty((len(profiles), len(column)), np.int64)
    slot, asset = _scaled(profiles, column, scale, carried, out, LIMIT_KWH)
    if slot >= 0:
        value = profiles[slot, column[asset]] * scale[asset]
        raise GridError(
            f"energy {value} kWh",
            slot=int(slot),
            element=f"column {asset}",
            remedy="mend the profile" if np.isnan(value) else "check the unit of the profile and its scale",
        )
    return out, carried


@njit(cache=True, error_model="numpy")
def _scaled(profiles: Float, column: Int, scale: Float, carried: Float, out: Int, limit_kwh: float) -> tuple[int, int]:
    for t in range(out.shape[0]):
        for a in range(out.shape[1]):
            e_kwh = profiles[t, column[a]] * scale[a]
            if not abs(e_kwh) <= limit_kwh:
                return t, a
            exact = e_kwh * 1000.0 + carried[a]
            whole = np.floor(exact + 0.5)
            out[t, a] = np.int64(whole)
            carried[a] = exact - whole
    return -1, -1


def sum_by_building(values: Int, building: NDArray[np.int32], n_buildings: int) -> Int:
    """Sums of asset columns by building: (S, A) -> (S, n_buildings). ``building`` (A,) is each asset's index."""
    out = np.zeros((len(values), n_buildings), np.int64)
    _sum_columns(values, building, out)
    return out


@njit(cache=True)
def _sum_columns(values: Int, building: NDArray[np.int32], out: Int) -> None:
    for t in range(values.shape[0]):
        for a in range(values.shape[1]):
            out[t, building[a]] += values[t, a]
