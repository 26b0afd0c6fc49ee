"""What every request meets on its way: who, whether, how often, how long; and what every answer says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from market.engine.commands import REFUSALS
from peerwatt.api.body_limit import BodyLimit
from peerwatt.api.headers import docs_policy
from peerwatt.api.paging import Pager
from peerwatt.api.principal import is_local
from peerwatt.api.problems import REFUSAL_STATUS, TITLES, Refusal, refuse, unreadable
from peerwatt.api.rate_limit import Rate, RateLimiter, place_of
from peerwatt.wire.service import Problem
from tests.peerwatt.api.security_app import BODY_LIMIT, HOST, SECRET_TEXT, Elapsed, key_for, served
from tests.peerwatt.store.places import HandClock, clock

__all__ = ["clock"]


def _problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["code"] == code and told["status"] == status and told["type"] == f"/problems/{code}"
    assert told["title"]
    msgspec.json.decode(answer.content, type=Problem)
    return told


# --- who and whether --------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_is_somebody_elses_does_not_exist(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        h1, desk = await key_for(security, "h1"), await key_for(security, "h2", "aggregator")
        assert (await http.get("/api/v1/participants/h1/orders", headers=h1)).json() == {"of": "h1"}
        other = _problem(await http.get("/api/v1/participants/h2/orders", headers=h1), 404, "unknown_participant")
        nobody = _problem(await http.get("/api/v1/participants/zz/orders", headers=h1), 404, "unknown_participant")
        assert other == nobody
        assert (await http.get("/api/v1/orders/1", headers=h1)).status_code == 200
        other = _problem(await http.get("/api/v1/orders/2", headers=h1), 404, "unknown_order")
        assert other == _problem(await http.get("/api/v1/orders/9", headers=h1), 404, "unknown_order")
        item = {"e_wh": 1}
        assert (await http.post("/api/v1/orders", json=item, headers=h1)).json()["for"] == "h1"
        _problem(await http.post("/api/v1/orders?participant=h2", json=item, headers=h1), 404, "unknown_participant")
        assert (await http.post("/api/v1/orders?participant=h2", json=item, headers=desk)).json()["for"] == "h2"
        await security.registry.clients.set_participants("h2~aggregator", ("h1", "h2"))
        told = _problem(await http.post("/api/v1/orders", json=item, headers=desk), 422, "invalid")
        assert told["errors"] == [{"pointer": "/participant", "detail": "say for which participant"}]


async def test_a_wrong_scope_and_no_key_are_told_apart(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (security, http):
        meter = await key_for(security, "h1", "meter")
        answer = await http.get("/api/v1/orders/1", headers=meter)
        _problem(answer, 403, "forbidden")
        assert 'scope="orders:read"' in answer.headers["www-authenticate"]
        answer = await http.get("/api/v1/orders/1")
        _problem(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="peerwatt"'
        twice = [("Authorization", meter["Authorization"]), ("Authorization", "Bearer x")]
        _problem(await http.get("/api/v1/orders/1", headers=twice), 400, "two_credentials")
        _problem(await http.get("/api/v1/orders/1", headers={**meter, "X-API-Key": "x"}), 400, "two_credentials")


async def test_the_document_names_both_credentials(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (_, http):
        document = (await http.get("/openapi.json")).json()
        schemes = document["components"]["securitySchemes"]
        assert schemes["bearer"]["scheme"] == "bearer" and schemes["api_key"]["name"] == "X-API-Key"
        assert document["paths"]["/api/v1/me"]["get"]["security"] == [{"bearer": []}, {"api_key": []}]


@pytest.mark.parametrize(
    ("client", "headers", "local"),
    [
        (("127.0.0.1", 1), [], True),
        (("::1", 1), [], True),
        (("192.0.2.1", 1), [], False),
        (("testclient", 1), [], False),
        (None, [], False),
        (("127.0.0.1", 1), [(b"x-forwarded-for", b"192.0.2.1")], False),
        (("127.0.0.1", 1), [(b"forwarded", b"for=192.0.2.1")], False),
    ],
)
def test_what_a_proxy_forwards_is_not_local(client: Any, headers: list[Any], *, local: bool) -> None:
    assert is_local({"client": client, "headers": headers}) is local


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_every_error_is_a_problem(tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, clock) as (security, http):
        h1 = await key_for(security, "h1")
        _problem(await http.get("/api/v1/nothing"), 404, "not_found")
        answer = await http.put("/api/v1/orders")
        _problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
        wrong = {"e_wh": SECRET_TEXT, "n/~o": 1}
        told = _problem(await http.post("/api/v1/orders", json=wrong, headers=h1), 422, "invalid")
        assert {error["pointer"] for error in told["errors"]} == {"/e_wh", "/n~1~0o"}
        assert SECRET_TEXT not in str(told)
        answer = await http.post("/api/v1/orders", content=b"{", headers={**h1, "Content-Type": "application/json"})
        _problem(answer, 400, "malformed_body")
        told = _problem(await http.get("/api/v1/orders/x", headers=h1), 422, "invalid")
        assert told["errors"][0]["pointer"] == "/path/number"
        told = _problem(await http.get("/api/v1/fails/refused"), 409, "suspended")
        assert told["title"] == "The market is suspended" and told["detail"] == "2016-06-01T12:00:00Z"
        _problem(await http.get("/api/v1/fails/registry"), 404, "not_found")
        with caplog.at_level(logging.ERROR, "peerwatt.api"):
            answer = await http.get("/api/v1/fails/service")
            _problem(answer, 503, "unavailable")
            assert SECRET_TEXT not in answer.text and SECRET_TEXT in caplog.text
            assert answer.headers["retry-after"] == "5"
            caplog.clear()
            answer = await http.get("/api/v1/fails/unexpected")
        told = _problem(answer, 500, "internal_error")
        assert SECRET_TEXT not in answer.text and "Traceback" not in answer.text and "RuntimeError" not in answer.text
        trace = told["instance"].rsplit("/", 1)[1]
        assert trace in caplog.text and SECRET_TEXT in caplog.text and "Traceback" in caplog.text
        assert answer.headers["x-content-type-options"] == "nosniff", "this answer has the headers, too"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b'{"orders": [{"e_wh": 1}]}', 200, ""),
        (b"{", 400, ""),
        (b"\xff", 400, ""),
        (b"", 400, ""),
        (b'{"orders": [{"e_wh": 1}, {"e_wh": "x"}]}', 422, "/orders/1/..."),
        (b'{"orders": 7}', 422, "/orders"),
        (b"[]", 422, ""),
        (b'{"other": 7}', 422, ""),
    ],
)
async def test_bare_routes_say_what_is_wrong_and_where(
    tmp_path: Path, clock: HandClock, body: bytes, status: int, pointer: str
) -> None:
    async with served(tmp_path, clock) as (_, http):
        answer = await http.post("/api/v1/bare", content=body)
        assert answer.status_code == status, answer.text
        if status == 422:
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_pointers_of_deep_places() -> None:
    inner = msgspec.defstruct("Inner", [("e_wh", int)])
    outer = msgspec.defstruct("Outer", [("orders", list[inner])])
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(b'{"orders": [{"e_wh": 1}, {"e_wh": 1.5}]}', type=outer)
    problem = unreadable(raised.value).problem
    assert problem.errors is not None
    (fault,) = problem.errors
    assert (fault.pointer, fault.detail) == ("/orders/1/e_wh", "Expected `int`, got `float`")


def test_every_refusal_of_the_engine_has_the_status_it_should() -> None:
    assert set(REFUSAL_STATUS) == set(REFUSALS)
    by_status: dict[int, set[str]] = {}
    for code, status in REFUSAL_STATUS.items():
        by_status.setdefault(status, set()).add(code)
    assert by_status[404] == {"unknown_market", "unknown_slot", "unknown_order", "unknown_contract", "unknown_dispute"}
    assert by_status[409] == {
        "key_reused", "suspended", "void", "not_open", "market_closed", "not_legal_now", "already_decided",
    }  # fmt: skip
    assert by_status[403] == {"not_a_member", "in_default", "opted_out"}
    assert set(by_status) == {403, 404, 409, 422}
    assert not set(TITLES) & set(REFUSALS), "one code, one meaning"


# --- how often --------------------------------------------------------------------------------------------------------


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path, clock: HandClock) -> None:
    rates = {"read": Rate(2.0, 4)}
    async with served(tmp_path, clock, rates=rates) as (security, http):
        h1, h2 = await key_for(security, "h1"), await key_for(security, "h2")
        told = []
        for _ in range(5):
            answer = await http.get("/api/v1/me", headers=h1)
            told.append((answer.status_code, answer.headers["ratelimit"]))
            assert answer.headers["ratelimit-policy"] == '"read";q=4;w=2'
        assert told == [
            (200, '"read";r=3;t=1'),
            (200, '"read";r=2;t=1'),
            (200, '"read";r=1;t=2'),
            (200, '"read";r=0;t=2'),
            (429, '"read";r=0;t=2'),
        ]
        _problem(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers.get_list("ratelimit") == ['"read";r=0;t=2'], "told once"
        assert (await http.get("/api/v1/me", headers=h2)).status_code == 200
        assert (await http.post("/api/v1/orders", json={"e_wh": 1}, headers=h1)).status_code == 200, "another group"
        clock.elapsed.s += 0.5  # type: ignore[attr-defined]
        assert (await http.get("/api/v1/me", headers=h1)).status_code == 200
        assert (await http.get("/api/v1/me", headers=h1)).status_code == 429


def test_a_bucket_lets_through_its_rate_in_the_long_run() -> None:
    elapsed = Elapsed()
    limiter = RateLimiter(elapsed, {"read": Rate(3.0, 7)})
    passed = 0
    for _ in range(10_000):
        passed += limiter.take("read", "h1").retry_after_s is None
        elapsed.s += 0.01
    assert passed == 7 + 300 - 1 or passed == 7 + 300
    standing = limiter.take("read", "h1", 1000)
    assert standing.retry_after_s is not None and standing.retry_after_s <= 7 / 3
    elapsed.s += standing.retry_after_s
    assert limiter.take("read", "h1", 1000).retry_after_s is None, "no request costs more than a full bucket"


def test_ten_thousand_clients_do_not_grow_the_memory() -> None:
    elapsed = Elapsed()
    limiter = RateLimiter(elapsed, {"read": Rate(1.0, 10)}, max_buckets=500)
    for number in range(10_000):
        limiter.take("read", f"client-{number}")
        limiter.take("read", "busy", 1)
        elapsed.s += 0.001
        assert len(limiter) <= 500
    standing = limiter.take("read", "busy")
    assert standing.retry_after_s is not None, "a crowd of others does not fill a busy client's bucket again"


def test_full_buckets_are_forgotten_first() -> None:
    elapsed = Elapsed()
    limiter = RateLimiter(elapsed, {"read": Rate(1.0, 10), "write": Rate(0.001, 2)}, max_buckets=10)
    limiter.take("write", "slow", 2)
    elapsed.s += 5
    for number in range(11):
        limiter.take("read", f"client-{number}")
        elapsed.s += 2
    assert limiter.take("write", "slow").retry_after_s is not None
    assert len(limiter) <= 3


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:" + "x" * 100, "unix:" + "x" * 59),
    ],
)
def test_one_host_is_one_place(address: str, place: str) -> None:
    assert place_of(address) == place


def test_a_rate_of_nothing_is_refused() -> None:
    for per_s, burst in ((0, 5), (-1, 5), (1, 0), (float("nan"), 5)):
        with pytest.raises(ValueError, match="a rate needs"):
            Rate(per_s, burst)


# --- how long ---------------------------------------------------------------------------------------------------------


async def _chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize("path", ["/api/v1/upload", "/api/v1/orders", "/api/v1/careless", "/api/v1/bare"])
async def test_a_body_too_large_is_refused_whatever_its_headers_say(
    tmp_path: Path, clock: HandClock, path: str
) -> None:
    async with served(tmp_path, clock) as (security, http):
        headers = {**await key_for(security, "h1"), "Content-Type": "application/json"}
        _problem(await http.post(path, content=b"x" * (BODY_LIMIT + 1), headers=headers), 413, "body_too_large")
        answer = await http.post(path, content=_chunks(BODY_LIMIT, 1), headers=headers)
        _problem(answer, 413, "body_too_large")
        assert answer.headers["connection"] == "close" and "content-length" in answer.headers
        lying = {**headers, "Content-Length": "10"}
        _problem(await http.post(path, content=_chunks(600, 600), headers=lying), 413, "body_too_large")


async def test_a_body_just_small_enough_passes(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (_, http):
        answer = await http.post("/api/v1/upload", content=b"x" * BODY_LIMIT)
        assert answer.json() == {"bytes": BODY_LIMIT}
        assert (await http.post("/api/v1/upload", content=_chunks(BODY_LIMIT - 1, 1))).json() == {"bytes": BODY_LIMIT}
        assert (await http.post("/api/v1/orders:batch", content=b"x" * 5000)).json() == {"bytes": 5000}
        _problem(await http.post("/api/v1/orders:batch", content=b"x" * 5001), 413, "body_too_large")
        for length in ("-1", "1e3", "٣", "9" * 30, ""):
            answer = await http.post("/api/v1/upload", content=b"x", headers={"Content-Length": length.encode()})
            _problem(answer, 400, "malformed_request")


def test_a_body_that_does_not_come_is_given_up(run_on_virtual_time: Any) -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        raise AssertionError("the body never ends")

    async def drip() -> Message:
        await asyncio.sleep(4)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> float:
        limited = BodyLimit(app, timeout_s=30)
        await limited({"type": "http", "path": "/", "headers": []}, drip, send)
        return asyncio.get_running_loop().time()

    assert run_on_virtual_time(run()) == 30
    assert sent[0]["status"] == 408 and (b"Connection", b"close") in sent[0]["headers"]


def test_listening_for_a_departure_has_no_end(run_on_virtual_time: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    messages: list[tuple[float, Message]] = [
        (0, {"type": "http.request", "body": b""}),
        (3600, {"type": "http.disconnect"}),
    ]

    async def receive() -> Message:
        wait_s, message = messages.pop(0)
        await asyncio.sleep(wait_s)
        return message

    async def send(message: Message) -> None:
        raise AssertionError("nothing is answered")

    run_on_virtual_time(BodyLimit(app, timeout_s=30)({"type": "http", "path": "/", "headers": []}, receive, send))
    assert not messages


# --- which host, and what browsers are told ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [
        ("127.0.0.1", 200, ""),
        ("127.0.0.1:8000", 200, ""),
        ("LOCALHOST:8000", 200, ""),
        ("[::1]:8000", 200, ""),
        ("peerwatt.example", 200, ""),
        ("peerwatt.example.", 200, ""),
        ("evil.example", 421, "wrong_host"),
        ("127.0.0.1.evil.example", 421, "wrong_host"),
        ("127.0.0.1@evil.example", 400, "malformed_request"),
        ("127.0.0.1:8000:1", 400, "malformed_request"),
        ("", 400, "malformed_request"),
        ("peerwatt.example/x", 400, "malformed_request"),
    ],
)
async def test_only_its_own_names_are_answered(
    tmp_path: Path, clock: HandClock, host: str, status: int, code: str
) -> None:
    async with served(tmp_path, clock) as (_, http):
        answer = await http.get("/api/v1/list", headers={"Host": host})
        assert answer.status_code == status
        if code:
            _problem(answer, status, code)
            assert answer.headers["x-content-type-options"] == "nosniff"
        twice = await http.get("/api/v1/list", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")])
        _problem(twice, 400, "malformed_request")


async def test_every_answer_has_strict_headers(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (_, http):
        data, page = await http.get("/api/v1/list"), await http.get("/page")
        for answer in (
            data,
            page,
            await http.get("/api/v1/nothing"),
            await http.post("/api/v1/upload", content=b"x" * 2000),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "strict-transport-security" not in answer.headers
        assert data.headers["cache-control"] == "no-store"
        assert data.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "sha256" not in policy
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        for answer in (
            await http.get("/api/v1/list", headers=asked),
            await http.options("/api/v1/orders", headers=asked),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_over_tls_browsers_are_told_to_stay_there(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock, base_url=HOST.replace("http", "https")) as (_, http):
        answer = await http.get("/api/v1/list")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_page_of_the_docs_may_run_its_own_script_and_no_other() -> None:
    page = b"<script src='/a.js'></script><script>const a = 1</script><script type='module'>b()</script>"
    policy = docs_policy(page).decode()
    assert policy.count("'sha256-") == 2
    own = base64.b64encode(hashlib.sha256(b"const a = 1").digest()).decode()
    assert f"script-src 'self' 'sha256-{own}'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


# --- pages of lists, versions -----------------------------------------------------------------------------------------


async def test_cursors_lead_through_a_list(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (_, http):
        seen, cursor = [], None
        while True:
            query = {"limit": 3, **({"cursor": cursor} if cursor else {})}
            told = (await http.get("/api/v1/list", params=query)).json()
            seen += told["items"]
            cursor = told["next_cursor"]
            if cursor is None:
                break
        assert seen == list(range(10))
        first = (await http.get("/api/v1/list")).json()["next_cursor"]
        for wrong in (
            first[:-1],
            first + "A",
            first[:4] + ("A" if first[4] != "A" else "B") + first[5:],
            "abc",
            "A" * 300,
        ):
            _problem(await http.get("/api/v1/list", params={"cursor": wrong}), 400, "bad_cursor")
        _problem(await http.get("/api/v1/list", params={"cursor": first, "state": "closed"}), 400, "bad_cursor")
        for wrong in ("ä", "", "=", "\x00"):
            _problem(await http.get("/api/v1/list", params={"cursor": wrong}), 400, "bad_cursor")


def test_a_cursor_is_of_one_list_and_one_service() -> None:
    pager = Pager(b"a" * 32)
    cursor = pager.cursor("orders", 5, "h1", query={"slot": None})
    assert pager.position("orders", cursor, int, str, query={"slot": None}) == (5, "h1")
    assert pager.position("orders", None, int, str) is None
    assert Pager(b"a" * 32).position("orders", cursor, int, str, query={"slot": None}) == (5, "h1"), "after a restart"
    for attempt in (
        lambda: pager.position("trades", cursor, int, str, query={"slot": None}),
        lambda: pager.position("orders", cursor, int, str),
        lambda: pager.position("orders", cursor, int, query={"slot": None}),
        lambda: pager.position("orders", cursor, str, str, query={"slot": None}),
        lambda: Pager(b"b" * 32).position("orders", cursor, int, str, query={"slot": None}),
    ):
        with pytest.raises(Refusal) as raised:
            attempt()
        assert raised.value.problem.code == "bad_cursor"
    with pytest.raises(ValueError, match="too long"):
        pager.cursor("orders", "x" * 400)


async def test_nobody_overwrites_what_it_has_not_seen(tmp_path: Path, clock: HandClock) -> None:
    async with served(tmp_path, clock) as (_, http):
        answer = await http.get("/api/v1/network")
        tag = answer.headers["etag"]
        assert tag.startswith('"') and tag.endswith('"')
        for seen in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            again = await http.get("/api/v1/network", headers={"If-None-Match": seen})
            assert (again.status_code, again.headers["etag"], again.content) == (304, tag, b"")
        assert (await http.get("/api/v1/network", headers={"If-None-Match": '"x"'})).status_code == 200
        _problem(await http.put("/api/v1/network"), 428, "version_needed")
        for seen in ('"old"', f"W/{tag}", '"a", "b"', ""):
            stale = await http.put("/api/v1/network", headers={"If-Match": seen})
            _problem(stale, 412, "stale")
            assert stale.headers["etag"] == tag
        for seen in ("old", '"a', '"a" "b"', '"a"b'):
            _problem(await http.put("/api/v1/network", headers={"If-Match": seen}), 400, "malformed_request")
        assert (await http.put("/api/v1/network", headers={"If-Match": f'"x", {tag}'})).status_code == 200
        _problem(await http.put("/api/v1/network", headers={"If-Match": tag}), 412, "stale")
        assert (await http.put("/api/v1/network", headers={"If-Match": "*"})).status_code == 200


def test_a_refusal_can_be_sent_by_a_bare_app(run_on_virtual_time: Any) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    run_on_virtual_time(refuse("stale", "x", headers=[("ETag", '"1"')], seq=7).send(send))
    assert sent[0]["status"] == 412 and (b"ETag", b'"1"') in sent[0]["headers"]
    assert msgspec.json.decode(sent[1]["body"]) == {
        "type": "/problems/stale",
        "title": "It has changed since it was read",
        "status": 412,
        "code": "stale",
        "detail": "x",
        "seq": 7,
    }
