"""Orders over HTTP: durable answers, retries that never double, refusals, and nothing of anybody else's.

All of it twice: served in front of the framework, as what has arrived whole is, and through the framework.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from market.engine.state import State
from peerwatt.api.rate_limit import RATES, Rate
from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

ONE, TWO = HOUSES[:2]
SLOT = slot_name(9)
ORDER: dict[str, Any] = {"slot": SLOT, "side": "buy", "e_wh": 500, "price_u": 150_000}


@pytest.fixture(params=["in front", "through the framework"])
async def made(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        one.whole = request.param == "in front"
        yield one


async def orders_in(made: World, market: str = "spot", slot: int = 9) -> int:
    def look(state: State) -> int:
        book = state.markets[market].books.get(slot)
        return 0 if book is None else len(book.orders)

    return await made.engine.read(look)


async def enter(made: World, order: dict[str, Any], key: str, who: str = ONE, market: str = "spot") -> httpx.Response:
    async with made.client(who) as client:
        return await client.post(f"/markets/{market}/orders", json=order, headers={"Idempotency-Key": key})


async def test_an_order_sent_again_is_answered_as_the_first_time_and_stands_once(made: World) -> None:
    first = await enter(made, ORDER, "k1")
    again = await enter(made, dict(reversed(ORDER.items())), "k1")  # same meaning, other spelling
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await orders_in(made) == 1


async def test_a_key_is_good_for_one_request_only(made: World) -> None:
    await enter(made, ORDER, "k1")
    other = await enter(made, {**ORDER, "e_wh": 501}, "k1")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    elsewhere = await enter(made, ORDER, "k1", market="intraday")
    assert elsewhere.json()["code"] == "key_reused"
    assert await orders_in(made) == 1


async def test_two_participants_may_use_the_same_key(made: World) -> None:
    assert (await enter(made, ORDER, "k1")).status_code == 201
    assert (await enter(made, ORDER, "k1", who=TWO)).status_code == 201
    assert await orders_in(made) == 2


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 129, "\x7f"])
async def test_without_a_proper_key_nothing_is_entered(made: World, key: str) -> None:
    answer = await enter(made, ORDER, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_idempotency_key")
    assert await orders_in(made) == 0


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"price_u": 79_999}, 422, "price_below_band"),
        ({"price_u": 300_001}, 422, "price_above_band"),
        ({"slot": slot_name(3)}, 409, "market_closed"),
        ({"slot": slot_name(95)}, 409, "not_open"),
        ({"slot": "2016-06-01T12:07:00Z"}, 404, "unknown_slot"),
        ({"slot": "2016-02-30T12:00:00Z"}, 404, "unknown_slot"),
        ({"flags": ["ioc"]}, 422, "unsupported_flag"),
        ({"participant": TWO}, 404, "unknown_participant"),
        ({"participant": "nobody-at-all"}, 404, "unknown_participant"),
    ],
)
async def test_what_the_market_refuses_is_a_problem_with_its_code(
    made: World, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await enter(made, {**ORDER, **change}, "k1")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"/problems/{code}"
    assert await orders_in(made) == 0


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"e_wh": "500"}, "/e_wh"),
        ({"e_wh": 500.0}, "/e_wh"),
        ({"e_wh": True}, "/e_wh"),
        ({"e_wh": 0}, "/e_wh"),
        ({"e_wh": 10**13}, "/e_wh"),
        ({"price_u": None}, "/price_u"),
        ({"side": "BUY"}, "/side"),
        ({"flags": ["ioc", "ioc"]}, ""),
        ({"colour": "green"}, ""),
    ],
)
async def test_nothing_is_coerced_and_no_field_is_unknown(made: World, change: dict[str, Any], pointer: str) -> None:
    answer = await enter(made, {**ORDER, **change}, "k1")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_batch_takes_the_good_ones_and_says_why_not_the_others(made: World) -> None:
    orders = [ORDER, {**ORDER, "price_u": 1}, {**ORDER, "slot": slot_name(8), "ref": "third"}]
    async with made.client(ONE, **{"Idempotency-Key": "b1"}) as client:
        first = await client.post("/markets/spot/orders:batch", json={"orders": orders})
        again = await client.post("/markets/spot/orders:batch", json={"orders": orders})
        one = await client.get(f"/markets/spot/orders/{first.json()['results'][2]['order_id']}")
    results = first.json()["results"]
    assert [result["code"] for result in results] == [None, "price_below_band", None]
    assert results[0]["order_id"] != results[2]["order_id"]
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert await orders_in(made) == 1
    assert (one.json()["ref"], one.json()["slot"]) == ("third", slot_name(8))


@pytest.mark.parametrize("n", [0, 1001])
async def test_a_batch_holds_one_to_a_thousand_orders(made: World, n: int) -> None:
    async with made.client(ONE, **{"Idempotency-Key": "b1"}) as client:
        answer = await client.post("/markets/spot/orders:batch", json={"orders": [ORDER] * n})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/orders"


async def test_an_order_can_be_changed_and_withdrawn_once(made: World) -> None:
    number = (await enter(made, ORDER, "k1")).json()["order_id"]
    async with made.client(ONE) as client:
        path = f"/markets/spot/orders/{number}"
        for _ in range(2):
            changed = await client.post(f"{path}:amend", json={"e_wh": 300}, headers={"Idempotency-Key": "k2"})
            assert (changed.status_code, changed.json()["order_id"]) == (200, number)
        assert changed.headers["idempotent-replayed"] == "true"
        assert (await client.get(path)).json()["remaining_wh"] == 300
        first = await client.post(f"{path}:cancel", headers={"Idempotency-Key": "k3"})
        again = await client.post(f"{path}:cancel", headers={"Idempotency-Key": "k3"})
        late = await client.post(f"{path}:cancel", headers={"Idempotency-Key": "k4"})
        seen = (await client.get(path)).json()
    assert first.json()["cancelled"] == [number]
    assert again.content == first.content
    assert (late.status_code, late.json()["code"]) == (422, "order_closed")
    assert (seen["status"], seen["remaining_wh"]) == ("cancelled", 0)


async def test_all_open_orders_of_a_slot_are_withdrawn_and_others_stay(made: World) -> None:
    mine = [(await enter(made, {**ORDER, "slot": slot_name(s)}, f"k{s}")).json()["order_id"] for s in (9, 10)]
    theirs = (await enter(made, ORDER, "k", who=TWO)).json()["order_id"]
    async with made.client(ONE, **{"Idempotency-Key": "c1"}) as client:
        answer = await client.post("/markets/spot/orders:cancel-all", json={"slot": slot_name(9)})
        still = await client.get("/markets/spot/orders", params={"status": "open", "slot": slot_name(10)})
    assert answer.json()["cancelled"] == mine[:1]
    assert [order["order_id"] for order in still.json()["items"]] == mine[1:]
    async with made.client(TWO) as client:
        assert (await client.get(f"/markets/spot/orders/{theirs}")).json()["status"] == "open"


async def test_nobody_sees_or_touches_what_is_somebody_elses(made: World) -> None:
    theirs = made.orders["other"]
    async with made.client(ONE, **{"Idempotency-Key": "k9"}) as client:
        path = f"/markets/spot/orders/{theirs}"
        answers = [
            await client.get(path),
            await client.post(f"{path}:amend", json={"e_wh": 1}),
            await client.post(f"{path}:cancel"),
            await client.get("/markets/spot/orders/999999"),
        ]
        listed = await client.get("/markets/spot/orders")
    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["code"] for answer in answers} == {"unknown_order"}
    assert {order["participant"] for order in listed.json()["items"]} == {ONE}


async def test_an_aggregator_says_for_whom(made: World) -> None:
    silent = await enter(made, ORDER, "k1", who="aggregator")
    named = await enter(made, {**ORDER, "participant": TWO}, "k1", who="aggregator")
    assert silent.status_code == 422
    assert silent.json()["errors"][0]["pointer"] == "/participant"
    assert named.status_code == 201
    async with made.client(TWO) as client:
        assert (await client.get(f"/markets/spot/orders/{named.json()['order_id']}")).status_code == 200


async def test_a_continuous_market_tells_what_became_of_the_order_at_once(made: World) -> None:
    slot = slot_name(6)
    sell = {"slot": slot, "side": "sell", "e_wh": 300, "price_u": 120_000}
    rest = await enter(made, sell, "k1", who=TWO, market="intraday")
    meets = await enter(made, {**ORDER, "slot": slot, "e_wh": 200}, "k1", market="intraday")
    assert (rest.json()["status"], meets.json()["status"]) == ("open", "filled")
    async with made.client("auditor") as client:
        trades = (await client.get(f"/markets/intraday/slots/{slot}/trades")).json()["items"]
        book = (await client.get(f"/markets/intraday/slots/{slot}/book")).json()
    assert [(t["e_wh"], t["price_u"], t["seq"]) for t in trades] == [(200, 120_000, meets.json()["seq"])]
    assert (book["buy"], book["sell"]) == ([], [{"price_u": 120_000, "e_wh": 100}])
    assert all(house not in str(trades) + str(book) for house in HOUSES)


@pytest.mark.parametrize("whole", [True, False])
async def test_too_many_orders_are_told_when_to_come_again(tmp_path: Path, whole: bool) -> None:
    rates = {name: Rate(1_000, 1_000) for name in RATES} | {"orders": Rate(1, 2)}
    async with world(tmp_path, rates=rates) as made:
        made.whole = whole
        answers = [await enter(made, ORDER, f"k{i}") for i in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[0].headers["ratelimit"] == '"orders";r=1;t=1'


@pytest.mark.parametrize("whole", [True, False])
async def test_a_batch_counts_as_many_requests_as_it_holds_hundreds(tmp_path: Path, whole: bool) -> None:
    rates = {name: Rate(1_000, 1_000) for name in RATES} | {"orders": Rate(1, 4)}
    async with world(tmp_path, rates=rates) as made:
        made.whole = whole
        async with made.client(ONE) as client:
            for key, left in (("b1", 2), ("b2", 0)):
                answer = await client.post(
                    "/markets/spot/orders:batch", json={"orders": [ORDER] * 150}, headers={"Idempotency-Key": key}
                )
                assert answer.headers["ratelimit"].startswith(f'"orders";r={left};')
        assert (await enter(made, ORDER, "k")).status_code == 429


async def answers_of(made: World, headers: dict[str, str], content: bytes) -> httpx.Response:
    async with made.client(None) as client:
        return await client.post("/markets/spot/orders", content=content, headers=headers)


GOOD = {"X-API-Key": "ONE", "Idempotency-Key": "k", "Content-Type": "application/json"}
BODY = b'{"slot":"%b","side":"buy","e_wh":500,"price_u":150000}' % SLOT.encode()


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        (GOOD, BODY),
        ({**GOOD, "X-API-Key": "pw_no"}, BODY),
        ({**GOOD, "Authorization": "Bearer ONE"}, BODY),
        ({"Authorization": "Bearer ONE", "Idempotency-Key": "k", "Content-Type": "application/json"}, BODY),
        ({**GOOD, "X-API-Key": "auditor"}, BODY),
        ({**GOOD, "Host": "elsewhere.example"}, BODY),
        ({**GOOD, "Host": "localhost:8000"}, BODY),
        ({**GOOD, "Idempotency-Key": ""}, BODY),
        ({**GOOD, "Content-Type": "text/plain"}, BODY),
        ({**GOOD, "Content-Type": "application/json; charset=utf-8"}, BODY),
        (GOOD, BODY[:-1]),
        (GOOD, BODY.replace(b"500", b'"500"')),
        (GOOD, BODY.replace(b"150000", b"1")),
        (GOOD, BODY.replace(b"buy", b"\xff")),
        (GOOD, b""),
        (GOOD, BODY + b" " * 70_000),
        ({**GOOD, "X-API-Key": "admin"}, BODY),
    ],
)
async def test_both_ways_give_the_same_answer_down_to_its_headers(
    tmp_path: Path, headers: dict[str, str], content: bytes
) -> None:
    found = []
    for whole in (True, False):
        folder = tmp_path / str(whole)
        folder.mkdir()
        async with world(folder) as made:
            made.whole = whole
            names = {"ONE": made.keys[ONE], "auditor": made.keys["auditor"], "admin": made.keys["admin"]}
            used = {
                name: next((value.replace(k, v) for k, v in names.items() if k in value), value)
                for name, value in headers.items()
            }
            answer = await answers_of(made, used, content)
            metrics = made.service.metrics.text().decode()
            counted = [line for line in metrics.splitlines() if line.startswith("peerwatt_http_requests_total")]
            found.append((answer.status_code, answer.content, sorted(answer.headers.items()), counted))
    assert found[0] == found[1]
