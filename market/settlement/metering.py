"""Meters: readings coarser or finer than the slots, and corrected ones (market-rules 2.26, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.errors import MarketError
from core.slots import SlotGrid
from market.rounding import is_small, round_pool
from market.settlement.columns import Bool, Int


def slots_per_reading(grid: SlotGrid, minutes: Int, *, clock_offset_s: int = 0) -> Int:
    """How many slots one reading of each meter spans, ``(B,)``; 1 where the meter reads every slot or more often.

    Readings begin at multiples of their interval on the meter's clock (UTC plus ``clock_offset_s``), and the grid (the
    run, or a window of it) must begin and end with one: cut windows at multiples of the coarsest interval.

    Raises
    ------
    MarketError
        If an interval is no multiple or divisor of the slot, or the grid cuts one.
    """
    seconds = np.asarray(minutes, np.int64) * 60
    if (seconds <= 0).any():
        raise MarketError("a metering interval must be positive")
    odd = (seconds % grid.length_s != 0) & (grid.length_s % seconds != 0)
    if odd.any():
        raise MarketError(
            f"a metering interval of {int(minutes[np.argmax(odd)])} min and slots of {grid.length_s} s do not fit",
            remedy="choose one that is a multiple of the other",
        )
    count: Int = np.maximum(seconds // grid.length_s, 1)
    start = int(grid.start.timestamp()) + clock_offset_s
    cut = (count > 1) & ((start % seconds != 0) | (grid.n % count != 0))
    if cut.any():
        raise MarketError(
            f"{grid.n} slots from {grid.start.isoformat()} cut a metering interval of "
            f"{int(minutes[np.argmax(cut)])} min",
            remedy="start and end the run at multiples of the coarsest metering interval",
        )
    return count


@njit(cache=True, error_model="numpy")
def _flat_kernel(wh: Int, span: Int, out: Int) -> None:
    for i in range(wh.shape[1]):
        length = span[i]
        for first in range(0, wh.shape[0], length):
            total = 0
            for t in range(first, first + length):
                total += wh[t, i]
            share = total // length
            left = total - share * length
            for k in range(length):
                out[first + k, i] = share + (1 if k < left else 0)


def metered(wh: Int, span: Int, *, weights: Int | None = None, by_weight: Bool | None = None) -> Int:
    """What coarser meters say of each slot: the reading of an interval, spread over its slots; totals are exact.

    Parameters
    ----------
    wh
        True energy of one register, int64 ``(S, B)`` >= 0, S a multiple of every interval.
    span
        ``(B,)`` slots per reading, from `slots_per_reading`.
    weights
        ``(S, B)`` >= 0, the shape that members with ``by_weight`` are spread by; an interval without weight is spread
        evenly.
    by_weight
        ``(B,)``; the others are spread evenly. Units that do not divide go to the earlier slots (flat), or by largest
        remainder, ties to the earlier slot.

    Raises
    ------
    MarketError
        If an interval is cut, or an energy or weight is negative.
    """
    if wh.size and int(wh.min()) < 0:
        raise MarketError("a register of a meter cannot run backwards")
    if (span <= 0).any() or (wh.shape[0] % np.maximum(span, 1)).any():
        raise MarketError(f"a window of {wh.shape[0]} slots cuts a metering interval")
    if by_weight is None or not by_weight.any():
        if (span == 1).all():
            return wh
        out = np.empty(wh.shape, np.int64)
        _flat_kernel(np.ascontiguousarray(wh), np.ascontiguousarray(span, np.int64), out)
        return out
    if weights is None or weights.shape != wh.shape or (weights < 0).any():
        raise MarketError("spreading by profile needs weights >= 0 for every slot and member")
    out = metered(wh, span)
    for i in np.flatnonzero(by_weight & (span > 1)):
        length = int(span[i])
        shape = weights[:, i].reshape(-1, length).copy()
        shape[shape.sum(axis=1) == 0] = 1
        total = wh[:, i].reshape(-1, length).sum(axis=1)
        safe = is_small(total, int(shape.max(initial=1)) * length)
        num = shape * total[:, None] if safe else shape.astype(object) * total[:, None].astype(object)
        ones = np.ones(shape.shape, np.bool_)
        out[:, i] = round_pool(num, shape.sum(axis=1), ones, np.arange(length), total).ravel()
    return out


def sum_finer(wh: Int, per_slot: int) -> Int:
    """Readings finer than the slots, summed: ``(S * per_slot, B)`` to ``(S, B)``.

    Raises
    ------
    MarketError
        If the readings do not fill whole slots.
    """
    if per_slot <= 0 or wh.shape[0] % per_slot:
        raise MarketError(f"{wh.shape[0]} readings do not fill slots of {per_slot}")
    total: Int = wh.reshape(-1, per_slot, *wh.shape[1:]).sum(axis=1)
    return total


class Quality(IntEnum):
    """Where a metered value comes from."""

    MEASURED = 0
    SUBSTITUTED = 1
    CORRECTED = 2


@dataclass(frozen=True, slots=True)
class MeterColumns:
    """Meters of a window in one version: nothing in it is ever overwritten.

    ``reasons`` names, by ``(slot, member)`` of the window, why a value is not the measured one.
    """

    import_wh: Int  # (S, B)
    export_wh: Int  # (S, B)
    quality: NDArray[np.int8]  # (S, B) a Quality
    version: int
    reasons: dict[tuple[int, int], str]

    @classmethod
    def measured(cls, import_wh: Int, export_wh: Int) -> MeterColumns:
        """Version 0, every value measured."""
        return cls(import_wh, export_wh, np.zeros(import_wh.shape, np.int8), 0, {})

    def substitute(self, slot: int, member: int, import_wh: int, export_wh: int, reason: str) -> MeterColumns:
        """The next version, with a substitute for a missing value."""
        return self._next(slot, member, import_wh, export_wh, reason, Quality.SUBSTITUTED)

    def correct(self, slot: int, member: int, import_wh: int, export_wh: int, reason: str) -> MeterColumns:
        """The next version, with a corrected value; settle it again and post `difference_lines`."""
        return self._next(slot, member, import_wh, export_wh, reason, Quality.CORRECTED)

    def _next(
        self, slot: int, member: int, import_wh: int, export_wh: int, reason: str, quality: Quality
    ) -> MeterColumns:
        if not reason.strip():
            raise MarketError(f"slot {slot}, member {member}: a value that was not measured needs a reason")
        if min(import_wh, export_wh) < 0:
            raise MarketError(f"slot {slot}, member {member}: metered energy cannot be negative")
        imported, exported, flags = self.import_wh.copy(), self.export_wh.copy(), self.quality.copy()
        imported[slot, member], exported[slot, member], flags[slot, member] = import_wh, export_wh, quality
        return replace(
            self, import_wh=imported, export_wh=exported, quality=flags, version=self.version + 1,
            reasons={**self.reasons, (slot, member): reason},
        )  # fmt: skip
