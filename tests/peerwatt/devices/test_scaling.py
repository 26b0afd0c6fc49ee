"""Scales and counters: exact, with remainders that are carried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core import Quality
from peerwatt.devices.counting import CounterBook, Counters
from peerwatt.devices.scaling import PPM, Scale, ScaledRequests

scales = st.integers(1_000, 1_000 * PPM).map(Scale)
MUCH = (10**12, 10**12)
SLOT_S = 900


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
    book = CounterBook(scale, good(500, 7), MUCH, SLOT_S)
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
    book = CounterBook(Scale.of(10), good(0, 0), (3_000, 3_000), SLOT_S)
    assert book.book(good(100, 0), 990, 0).drawn_wh == 1_000
    missing = book.book(BAD, 990, 0)
    assert (missing.drawn_wh, missing.quality, missing.reason) == (990, Quality.COMM_FAIL, "no answer")
    assert book.book(good(300, 0), 990, 0).drawn_wh == 1_010  # 3000 counted, 1990 booked


def test_more_than_a_slot_can_hold_comes_later() -> None:
    """Two slots were missed in which the device did something: the counter is right, and each slot is flagged."""
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000), SLOT_S)
    found = [book.book(now, 0, 0) for now in (BAD, BAD, good(1_500, 0), good(1_600, 0), good(1_600, 0))]
    assert [slot.drawn_wh for slot in found] == [0, 0, 1_000, 600, 0]
    assert [slot.caught_up for slot in found] == [False, False, True, True, False]
    assert [slot.measured for slot in found] == [None, None, (1_500, 0), (100, 0), (0, 0)]


def test_a_jump_that_the_rating_cannot_carry_is_no_energy() -> None:
    """A replaced device shows another counter: not a Wh of the difference is booked, nor spread over later slots."""
    book = CounterBook(Scale.of(1), good(6_000, 0), (1_501, 1_501), SLOT_S)
    found = [book.book(now, 200, 0) for now in (BAD, *[good(900_000, 0)] * 3, good(900_300, 0))]
    assert [slot.drawn_wh for slot in found] == [200, 200, 0, 0, 300]
    assert [str(slot.quality) for slot in found] == ["comm-fail", "implausible", "good", "good", "good"]
    assert "894000 Wh" in found[1].reason and not any(slot.caught_up for slot in found)


@given(scales, st.integers(0, 3), st.integers(0, 10**7), st.booleans())
def test_no_jump_books_more_than_the_rating_carries(scale: Scale, missed: int, jump: int, fed: bool) -> None:
    most = (1_501, 1_501)
    book = CounterBook(scale, good(6_000, 6_000), most, SLOT_S)
    after = good(6_000, 6_000 + jump) if fed else good(6_000 + jump, 6_000)
    found = [book.book(now, 100, 100) for now in (*[BAD] * missed, *[after] * 12)]
    total = sum(slot.fed_wh if fed else slot.drawn_wh for slot in found)
    carried = 1_501 * (missed + 1) + 2 * scale.building_wh(1) + 1
    if scale.building_wh(jump) > carried:
        assert total == 100 * (missed + 1), "the substitutes, and nothing of the jump"
    assert total <= max(carried, 100 * (missed + 1))


def test_a_counter_that_was_reset_while_nobody_could_read_it_costs_nothing_later() -> None:
    book = CounterBook(Scale.of(1), good(6_000, 0), (1_501, 1_501), SLOT_S)
    counters = [*[BAD] * 4, *[good(1_000 * k, 0) for k in range(1, 6)]]
    found = [book.book(now, 1_000, 0) for now in counters]
    assert [slot.drawn_wh for slot in found] == [1_000] * 9, "substitutes stand, and what is counted then is booked"
    assert [slot.substituted for slot in found] == [True] * 5 + [False] * 4


def test_what_was_measured_before_a_reset_is_still_made_good() -> None:
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000), SLOT_S)
    counters = [BAD, BAD, good(2_500, 0), good(10, 0), good(10, 0), good(10, 0)]
    found = [book.book(now, 0, 0) for now in counters]
    assert [slot.drawn_wh for slot in found] == [0, 0, 1_000, 0, 1_000, 500]
    assert [slot.caught_up for slot in found] == [False, False, True, False, True, True]


def test_a_run_that_was_away_itself_is_not_a_jump() -> None:
    """Ten slots passed on the device's clock between two readings."""
    book = CounterBook(Scale.of(1), Counters(Quality.GOOD, 0, 0, at_s=50.0), (1_000, 1_000), SLOT_S)
    kept = book.state()
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000), SLOT_S)
    book.restore(kept)
    found = book.book(Counters(Quality.GOOD, 8_000, 0, at_s=50.0 + 10 * SLOT_S), 0, 0)
    assert (found.drawn_wh, found.quality, found.caught_up) == (1_000, Quality.GOOD, True)


def test_too_much_was_substituted() -> None:
    book = CounterBook(Scale.of(1), good(0, 0), (1_000, 1_000), SLOT_S)
    assert book.book(BAD, 500, 0).drawn_wh == 500
    assert [book.book(good(wh, 0), 0, 0).drawn_wh for wh in (200, 700, 900)] == [0, 200, 200]


def test_a_counter_that_goes_back_is_no_energy() -> None:
    book = CounterBook(Scale.of(1), good(5_000, 0), (1_000, 1_000), SLOT_S)
    reset = book.book(good(20, 0), 300, 0)
    assert (reset.drawn_wh, reset.quality) == (300, Quality.IMPLAUSIBLE)
    assert book.book(good(120, 0), 300, 0).drawn_wh == 100


def test_state_comes_back() -> None:
    book = CounterBook(Scale.of(3), good(1, 2), MUCH, SLOT_S)
    book.book(good(10, 20), 0, 0)
    other = CounterBook(Scale.of(3), good(0, 0), MUCH, SLOT_S)
    other.restore(book.state())
    assert other.book(good(14, 20), 0, 0) == book.book(good(14, 20), 0, 0)
