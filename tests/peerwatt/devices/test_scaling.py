"""Scales and counters: exact, with remainders that are carried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core import Quality
from peerwatt.devices.counting import CounterBook, Counters
from peerwatt.devices.scaling import PPM, Scale, ScaledRequests

scales = st.integers(1_000, 1_000 * PPM).map(Scale)
MUCH = (10**12, 10**12)


def good(drawn: int, fed: int) -> Counters:
    return Counters(Quality.GOOD, drawn, fed)


BAD = Counters(Quality.COMM_FAIL, reason="no answer")


@given(scales, st.lists(st.integers(-50_000, 50_000), max_size=60))
def test_scaled_requests_never_lose_a_remainder(scale: Scale, wanted: list[int]) -> None:
    requests = ScaledRequests(scale)
    told = 0
    for k, wh in enumerate(wanted):
        told += requests.next(wh)
        assert abs(2 * (told * scale.ppm - sum(wanted[: k + 1]) * PPM)) <= scale.ppm  # half a Wh of the device


@given(scales, st.lists(st.tuples(st.integers(0, 9_000), st.booleans()), max_size=60))
def test_what_is_booked_follows_the_counters(scale: Scale, slots: list[tuple[int, bool]]) -> None:
    """At every good reading the total booked is the total counted, scaled, whatever was substituted in between."""
    book = CounterBook(scale, good(500, 7), MUCH)
    counter, booked = 500, 0
    for wh, answered in slots:
        counter += wh
        found = book.book(good(counter, 7) if answered else BAD, 0, 0)
        booked += found.drawn_wh
        assert found.substituted is not answered
        if answered:
            assert abs(2 * (booked * PPM - (counter - 500) * scale.ppm)) <= PPM  # half a Wh of the building
        assert found.fed_wh == 0


def test_scale_one_changes_nothing() -> None:
    requests = ScaledRequests(Scale.of(1.0))
    assert [requests.next(wh) for wh in (3, -7, 0, 12_345)] == [3, -7, 0, 12_345]
    assert Scale.of(10).device_w(2_500, 900) == 1_000.0


def test_a_failed_reading_is_substituted_and_made_good() -> None:
    book = CounterBook(Scale.of(10), good(0, 0), (3_000, 3_000))
    assert book.book(good(100, 0), 990, 0).drawn_wh == 1_000
    missing = book.book(BAD, 990, 0)
    assert (missing.drawn_wh, missing.quality, missing.reason) == (990, Quality.COMM_FAIL, "no answer")
    assert book.book(good(300, 0), 990, 0).drawn_wh == 1_010  # 3000 counted, 1990 booked


def test_more_than_the_device_can_comes_later() -> None:
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000))
    assert [book.book(good(wh, 0), 0, 0).drawn_wh for wh in (1_500, 1_600, 1_600)] == [1_000, 600, 0]


def test_too_much_was_substituted() -> None:
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000))
    assert book.book(BAD, 500, 0).drawn_wh == 500
    assert [book.book(good(wh, 0), 0, 0).drawn_wh for wh in (200, 700, 900)] == [0, 200, 200]


def test_a_counter_that_goes_back_is_no_energy() -> None:
    book = CounterBook(Scale.of(1), good(5_000, 0), (1_000, 1_000))
    reset = book.book(good(20, 0), 300, 0)
    assert (reset.drawn_wh, reset.quality) == (300, Quality.IMPLAUSIBLE)
    assert book.book(good(120, 0), 300, 0).drawn_wh == 100


def test_state_comes_back() -> None:
    book = CounterBook(Scale.of(3), good(1, 2), MUCH)
    book.book(good(10, 20), 0, 0)
    other = CounterBook(Scale.of(3), good(0, 0), MUCH)
    other.restore(book.state())
    assert other.book(good(14, 20), 0, 0) == book.book(good(14, 20), 0, 0)
