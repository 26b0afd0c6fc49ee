"""The garbage collector of a process that serves."""

from __future__ import annotations

import gc

from peerwatt.live.collector import seldom_collecting


def test_what_stays_is_frozen_until_the_end_and_then_everything_is_as_before() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        with seldom_collecting() as settled:
            assert gc.get_threshold() == before, "the start itself is as ever"
            settled()
            assert gc.get_freeze_count() > frozen
            assert gc.get_threshold()[0] > before[0]
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()  # as tests/conftest.py has it
