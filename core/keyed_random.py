"""Randomness keyed by names: a stream per (seed, purpose, agent), so that adding an agent does not reshuffle others."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Key = str | int

_WORDS_PER_COUNTER = 4  # Philox 4x64 gives four words per counter value


def _digest(seed: int, keys: tuple[Key, ...]) -> bytes:
    parts = [f"{type(key).__name__}:{key}" for key in (seed, *keys)]
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


def _philox(seed: int, keys: tuple[Key, ...]) -> np.random.Philox:
    return np.random.Philox(key=int.from_bytes(_digest(seed, keys)[:16], "little"))


def keyed_generator(seed: int, *keys: Key) -> np.random.Generator:
    """The generator that belongs to ``(seed, *keys)``; equal arguments give equal streams on every machine."""
    return np.random.Generator(_philox(seed, keys))


def slot_uniforms(seed: int, *keys: Key, first: int, n: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per slot ``first .. first+n-1``, shape ``(n,)``.

    Slot t always gets the same number, however the slots are cut into windows.
    """
    bits = _philox(seed, keys)
    bits.advance(first)
    words = bits.random_raw(_WORDS_PER_COUNTER * n)[::_WORDS_PER_COUNTER]
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def keyed_hash_u64(seed: int, *keys: Key) -> int:
    """A 64-bit rank for ``(seed, *keys)``: stateless, so that adding an order does not reshuffle the rest."""
    return int.from_bytes(_digest(seed, keys)[:8], "little")
