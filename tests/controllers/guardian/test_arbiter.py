"""Leases: who wins, who is told what, and that nothing outlives its time."""

from __future__ import annotations

import random

from controllers.guardian.arbiter import Arbiter, Lease, Refusal, Request
from controllers.guardian.messages import Level, Refused


def asked(
    value: float, level: Level, owner: str, *, control: str = "power_w", ttl_s: float = 10.0, key: str = ""
) -> Request:
    return Request("d", control, value, level, owner, ttl_s, key or f"{owner}{value}{ttl_s}", session=1)


def arbiter() -> Arbiter:
    return Arbiter(lambda _, control: control == "limit_w")


def test_r14_the_higher_lease_wins_and_the_loser_is_told_who_holds_it() -> None:
    leases = arbiter()
    person = leases.ask(asked(500.0, Level.PERSON, "ada"), 0.0)
    assert isinstance(person, Lease)
    lost = leases.ask(asked(-900.0, Level.MARKET, "market"), 1.0)
    assert isinstance(lost, Refusal) and lost.code is Refused.HELD and lost.holder == person
    assert "ada (person)" in lost.message and "9.0 s" in lost.message
    assert leases.resolve("d", "power_w", 9.9) == person
    assert leases.resolve("d", "power_w", 10.0) is None, "expiry frees it"
    assert isinstance(leases.ask(asked(-900.0, Level.MARKET, "market"), 10.0), Lease)


def test_r14_a_higher_lease_covers_a_lower_one_and_uncovers_it_again() -> None:
    leases = arbiter()
    market = leases.ask(asked(-900.0, Level.MARKET, "market", ttl_s=60.0), 0.0)
    operator = leases.ask(asked(0.0, Level.OPERATOR, "grid"), 1.0)
    assert leases.resolve("d", "power_w", 2.0) == operator
    assert leases.resolve("d", "power_w", 11.5) == market


def test_r14_limits_intersect_and_targets_do_not() -> None:
    leases = arbiter()
    for owner, level, value in (
        ("m", Level.MARKET, 3000.0),
        ("p", Level.PERSON, 5000.0),
        ("o", Level.OPERATOR, 4000.0),
    ):
        assert isinstance(leases.ask(asked(value, level, owner, control="limit_w"), 0.0), Lease)
    lowest = leases.resolve("d", "limit_w", 1.0)
    assert lowest is not None and lowest.request.value == 3000.0


def test_r14_fifty_race_and_one_holds() -> None:
    leases = arbiter()
    order = list(range(50))
    random.Random(5).shuffle(order)
    answers = [leases.ask(asked(100.0 + i, Level.MARKET, f"m{i}"), 0.0) for i in order]
    held = [answer for answer in answers if isinstance(answer, Lease)]
    assert held == [answers[0]]
    assert all(answer.holder == held[0] for answer in answers[1:] if isinstance(answer, Refusal))


def test_the_same_owner_renews_and_the_same_key_does_nothing_twice() -> None:
    leases = arbiter()
    first = leases.ask(asked(1.0, Level.MARKET, "m", key="k1"), 0.0)
    assert leases.ask(asked(1.0, Level.MARKET, "m", key="k1"), 5.0) == first, "not longer by being asked twice"
    second = leases.ask(asked(2.0, Level.MARKET, "m", key="k2"), 6.0)
    assert isinstance(second, Lease) and second.expires_s == 16.0 and len(leases.live(6.0)) == 1
    reused = leases.ask(asked(3.0, Level.MARKET, "m", key="k2"), 7.0)
    assert isinstance(reused, Refusal) and reused.code is Refused.KEY_REUSED
    assert leases.resolve("d", "power_w", 7.0) == second


def test_what_is_given_back_or_dropped_counts_no_more() -> None:
    leases = arbiter()
    one = leases.ask(asked(1.0, Level.MARKET, "m"), 0.0)
    assert isinstance(one, Lease) and leases.release(one.number) == one and leases.release(one.number) is None
    two = leases.ask(asked(2.0, Level.MARKET, "m"), 0.0)
    assert leases.drop(lambda lease: lease.request.session == 1) == [two]
    three = leases.ask(asked(3.0, Level.MARKET, "m"), 0.0)
    assert leases.expire(9.9) == [] and leases.expire(10.0) == [three] and leases.resolve("d", "power_w", 10.0) is None
