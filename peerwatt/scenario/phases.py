"""Phases of connection points and assets, and how a placement gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from core import keyed_hash_u64

Phase = Literal["a", "b", "c", "abc"]
"""One phase to neutral, or all three with the power spread evenly."""

PlacedPhase = Literal["a", "b", "c", "abc", "drawn"]
"""What a placement may give: a phase, or one phase each by seed."""

SINGLE: tuple[Phase, ...] = ("a", "b", "c")


def drawn_phases(ids: Sequence[str], placement: int, seed: int) -> dict[str, Phase]:
    """One phase for each of ``ids``: in the order of their keyed hashes a, b, c, a, ...

    So each phase gets a third of them, to within one, whatever the seed.
    """
    ranked = sorted(ids, key=lambda name: (keyed_hash_u64(seed, "phase", placement, name), name))
    return {name: SINGLE[i % len(SINGLE)] for i, name in enumerate(ranked)}
