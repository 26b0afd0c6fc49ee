"""Errors of a forecast that grow with the lead time, keyed by seed, member and hour.

A slot's error is the same however slots are cut into windows, and an earlier forecast errs in the direction of a later
one, only further.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import slot_uniforms

Float = NDArray[np.float64]

HOURS_A_DAY = 24.0


def spread_at(lead_h: Float, percent_a_day_ahead: float) -> Float:
    """Standard deviation of the relative error: with the square root of the lead time [h], at most a day's."""
    share = np.clip(lead_h, 0.0, HOURS_A_DAY) / HOURS_A_DAY
    spread: Float = percent_a_day_ahead / 100.0 * np.sqrt(share)
    return spread


def relative_errors(
    seed: int, kind: str, members: Sequence[str], first_slot: int, n_slots: int, slots_per_hour: int
) -> Float:
    """Standard normal draws (S, B), one per member and hour; ``kind`` parts load from generation."""
    from scipy.special import ndtri

    first_hour = first_slot // slots_per_hour
    hours = (first_slot + n_slots - 1) // slots_per_hour - first_hour + 1 if n_slots else 0
    at = (first_slot + np.arange(n_slots)) // slots_per_hour - first_hour
    out = np.empty((n_slots, len(members)))
    for b, member in enumerate(members):
        draws = slot_uniforms(seed, "forecast", kind, member, first=first_hour, n=hours)
        out[:, b] = ndtri(np.clip(draws, 1e-12, 1.0 - 1e-12))[at]
    return out
