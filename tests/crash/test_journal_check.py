"""The judge of the crash tests sees every broken promise: each is broken once, on paper."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from market.engine.facts import (
    AnyFact,
    Cleared,
    ClearedPart,
    Gated,
    Opened,
    Ordered,
    OrderedPart,
    Settled,
    SlotPrices,
    Voided,
)
from market.journal.protocol import Draft, Record
from tests.crash.clients import Memory, Request
from tests.crash.journal_check import History, Outcome, judge

PRICES = SlotPrices(contracts=((300_000, 80_000, 0, 0, 0, 0, 0),))


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _opened(slot: int) -> tuple[AnyFact, dict[int, Any]]:
    return Opened("spot", slot, PRICES), {}


def _ordered(key: str, slot: int, first: int, member: int = 0) -> tuple[AnyFact, dict[int, Any]]:
    part = OrderedPart(rows=((0, slot, 1, 500, 200_000, 0),), key=_key(key), request=b"r", first=first)
    return Ordered("spot", first, ((slot, 1),)), {member: part}


def _gated(slot: int) -> tuple[AnyFact, dict[int, Any]]:
    return Gated("spot", slot), {}


def _cleared(slot: int, bought: int = 500, sold: int = 500, paid: int = 100, fills: Any = ()) -> Any:
    fact = Cleared("spot", slot, 1, 2, bought, 200_000, 1, b"", b"")
    buyer = ClearedPart(fills=fills, bought_wh=bought, paid_u=paid)
    return fact, {0: buyer, 1: ClearedPart(fills=(), sold_wh=sold, received_u=100)}


def _told(key: str, slot: int, order: int) -> Request:
    body = {"do": "enter", "market": "spot", "member": 0, "orders": [[slot, 1, 500, 200_000]]}
    return Request(0, key, body, sent=1, answer=[99, 0, [[order, ""]]])


def _judge(facts: list[tuple[AnyFact, dict[int, Any]]], told: list[Request]) -> Outcome:
    history = History()
    for seq, (fact, parts) in enumerate(facts, 1):
        sealed = tuple((member, b"") for member in parts)
        draft = Draft(seq, type(fact).__name__.lower(), msgspec.json.encode(fact), sealed)  # type: ignore[arg-type]
        history.take(Record(seq, draft, b""), list(parts.items()))
    return judge(history, Memory(acknowledged=told))


SOUND = [_opened(7), _ordered("a", 7, 1), _gated(7), _cleared(7, fills=((1, 500),)), _opened(8), _gated(8)]


def test_a_sound_history_is_called_sound() -> None:
    outcome = _judge(SOUND, [_told("a", 7, 1)])
    assert outcome.ok, outcome
    assert (outcome.acknowledged, outcome.orders, outcome.slots_cleared) == (1, 1, 1)


def test_a_lost_order_is_seen() -> None:
    assert _judge(SOUND, [_told("a", 7, 1), _told("b", 7, 2)]).lost == 1


def test_a_doubled_order_is_seen_whether_or_not_it_was_acknowledged() -> None:
    twice = [_opened(7), _ordered("a", 7, 1), _ordered("a", 7, 2)]
    assert _judge(twice, [_told("a", 7, 1)]).doubled == 1
    assert _judge(twice, []).doubled == 1


def test_the_same_key_of_two_members_is_two_keys() -> None:
    assert _judge([_opened(7), _ordered("a", 7, 1), _ordered("a", 7, 2, member=1)], [_told("a", 7, 1)]).ok


def test_an_answer_that_is_not_what_was_recorded_is_seen() -> None:
    assert _judge(SOUND, [_told("a", 7, 2)]).changed == 1
    assert _judge(SOUND, [_told("a", 8, 1)]).changed == 1


def test_a_slot_cleared_twice_is_seen() -> None:
    assert _judge([*SOUND, _cleared(7, fills=((1, 500),))], []).cleared_twice == 1


def test_a_slot_that_was_left_out_is_seen() -> None:
    assert _judge([_opened(7), _gated(7), _opened(8), _gated(8), _cleared(8)], []).not_cleared == 1


def test_an_order_behind_its_gate_is_seen() -> None:
    assert "behind its gate" in _judge([_opened(7), _gated(7), _ordered("a", 7, 1)], []).wrong[0]


def test_numbers_of_orders_that_jump_or_are_given_twice_are_seen() -> None:
    jump = _judge([_opened(7), _ordered("a", 7, 1), _ordered("b", 7, 3)], [])
    assert "begins with order 3 where 2 is next" in jump.wrong[0]
    twice = _judge([_opened(7), _ordered("a", 7, 1), _ordered("b", 7, 1)], [])
    assert "numbers that are not theirs" in twice.wrong[1]


def test_a_void_slot_needs_no_clearing_and_gets_none() -> None:
    void: Any = (Voided("spot", 7, "", ""), {})
    assert _judge([_opened(7), _gated(7), void, _opened(8), _gated(8)], []).ok
    assert "though it is void" in _judge([_opened(7), _gated(7), void, _cleared(7)], []).wrong[0]


def test_energy_or_money_out_of_nothing_is_seen() -> None:
    assert "leaves -100 Wh" in _judge([_opened(7), _gated(7), _cleared(7, bought=400)], []).wrong[0]
    assert "leaves 0 Wh and 40" in _judge([_opened(7), _gated(7), _cleared(7, paid=60)], []).wrong[0]


def test_a_fill_of_another_slots_order_is_seen() -> None:
    facts = [_opened(7), _opened(8), _ordered("a", 8, 1), _gated(7), _cleared(7, fills=((1, 500),))]
    assert "fills order 1" in _judge(facts, []).wrong[0]


def test_a_settlement_in_the_wrong_order_is_seen() -> None:
    facts: Any = [(Settled(7, version, "", (), 0, b""), {}) for version in (1, 1)]
    assert _judge(facts, []).wrong == ["slot 7 was settled in versions [1, 1]"]


def test_what_clients_found_wrong_stands() -> None:
    assert not judge(History(), Memory(wrong=["the answer changed"])).ok
