"""Waits double up to a bound; a breaker opens, lets one attempt pass after each wait, and closes on an answer."""

from __future__ import annotations

import pytest

from hardware.modbus.breaker import Backoff, Breaker


def test_waits_double_from_none_up_to_the_bound() -> None:
    backoff = Backoff(0.1, 3.0)
    assert [backoff.next_s() for _ in range(8)] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0])
    backoff.reset()
    assert backoff.next_s() == 0.0


def test_a_breaker_opens_after_its_failures_and_probes_after_each_wait() -> None:
    breaker = Breaker(3, 1.0, 3.0)
    breaker.failed(10.0)
    breaker.failed(11.0)
    assert not breaker.open and breaker.wait_s(11.0) == 0.0
    breaker.failed(12.0)
    assert breaker.open and breaker.wait_s(12.0) == 1.0 and breaker.wait_s(12.6) == pytest.approx(0.4)
    assert breaker.wait_s(13.0) == 0.0  # the probe may go
    breaker.failed(14.0)
    assert breaker.wait_s(14.0) == 2.0
    breaker.failed(17.0)
    assert breaker.wait_s(17.0) == 3.0
    breaker.failed(21.0)
    assert breaker.wait_s(21.0) == 3.0  # the bound
    breaker.probe_now()
    assert breaker.open and breaker.wait_s(21.0) == 0.0
    breaker.succeeded()
    assert not breaker.open
    breaker.failed(30.0)
    assert breaker.wait_s(30.0) == 0.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError):
        Backoff(0.0, 1.0)
    with pytest.raises(ValueError):
        Backoff(2.0, 1.0)
    with pytest.raises(ValueError):
        Breaker(0, 1.0, 2.0)
