"""Keyed randomness: independent of other agents and of how slots are cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core import keyed_generator, keyed_hash_u64, slot_uniforms


@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(0, 59))
def test_a_slot_gets_the_same_number_however_slots_are_cut(seed: int, n: int, cut: int) -> None:
    cut = min(cut, n)
    whole = slot_uniforms(seed, "zi", "h01", first=5, n=n)
    parts = [
        slot_uniforms(seed, "zi", "h01", first=5, n=cut),
        slot_uniforms(seed, "zi", "h01", first=5 + cut, n=n - cut),
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    assert ((whole >= 0) & (whole < 1)).all()


def test_streams_of_different_agents_differ_and_are_uniform() -> None:
    a = slot_uniforms(1, "zi", "a", first=0, n=20_000)
    b = slot_uniforms(1, "zi", "b", first=0, n=20_000)
    assert abs(a.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_known_values_pin_the_stream_for_ever() -> None:
    assert keyed_generator(7, "place", "h01").integers(0, 1000, 3).tolist() == [943, 29, 88]
    assert keyed_hash_u64(1, "a") == 4870198819350623995
    assert (
        len({keyed_hash_u64(1, "a"), keyed_hash_u64(1, "b"), keyed_hash_u64(1, "1", "a"), keyed_hash_u64(1, 1, "a")})
        == 4
    )
