"""Whatever the network and the server do, a keyed request arrives once or its sender knows that nobody knows."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from peerwatt.client import ApiProblem, BadAnswerError, OAuth, UnreachableError
from peerwatt.wire import OrderAck, ReadingIn
from tests.peerwatt.client.both import BOTH, FAST, ForThreads
from tests.peerwatt.client.misbehaving import Answer, Drop, MisbehavingServer, Silence

SLOT = "2016-06-01T12:00:00Z"
ACK = {"order_id": "17", "status": "open", "seq": 40, "accepted_at": "2016-06-01T11:00:00.000001Z", "new_field": 1}
BUSY = {"type": "/problems/overloaded", "title": "Too much to do", "status": 503, "code": "overloaded"}
TOKEN = {"access_token": "t-1", "token_type": "Bearer", "expires_in": 900}

each = pytest.mark.parametrize("ask", BOTH)


def _buy(ask: Any, server: MisbehavingServer, **options: Any) -> OrderAck:
    return ask(server.url, **options).call("buy", "spot", SLOT, e_wh=750, price_u=250_000, ref="r")


@each
@pytest.mark.parametrize(
    "trouble",
    [
        Drop(),
        Answer(503, BUSY, {"Retry-After": "0"}),
        Answer(503, b"<html>"),
        Answer(429, {**BUSY, "status": 429, "code": "too_many_requests"}, {"Retry-After": "0"}),
        Answer(502, b"bad gateway"),
        Answer(504),
        Answer(201, ACK, stop_after=20),
    ],
    ids=lambda act: f"{type(act).__name__}{getattr(act, 'status', '')}",
)
def test_an_order_is_sent_again_with_the_same_key_and_bytes(ask: Any, trouble: Any) -> None:
    with MisbehavingServer(trouble, trouble, Answer(201, ACK)) as server:
        ack = _buy(ask, server)
    assert ack == OrderAck(order_id="17", status="open", seq=40, accepted_at="2016-06-01T11:00:00.000001Z")
    assert len(server.seen) == 3
    assert len({(seen.key, seen.body, seen.target) for seen in server.seen}) == 1
    first = server.seen[0]
    assert (first.method, first.target) == ("POST", "/api/v1/markets/spot/orders")
    assert len(first.key or "") == 32
    assert first.headers["authorization"] == "Bearer pw_test_key"
    assert json.loads(first.body) == {"slot": SLOT, "side": "buy", "e_wh": 750, "price_u": 250_000, "ref": "r"}


@each
def test_two_orders_have_two_keys_and_a_key_of_ones_own_is_used(ask: Any) -> None:
    with MisbehavingServer(*[Answer(201, ACK)] * 3) as server:
        _buy(ask, server)
        _buy(ask, server)
        ask(server.url).call("sell", "spot", SLOT, e_wh=1, price_u=-5, key="mine")
    assert len({seen.key for seen in server.seen}) == 3
    assert server.seen[-1].key == "mine"


@each
def test_a_server_that_does_not_answer_in_time_is_asked_again(ask: Any) -> None:
    with MisbehavingServer(Silence(), Answer(201, ACK)) as server:
        _buy(ask, server, timeout_s=0.2)
    assert len({seen.key for seen in server.seen}) == 1
    assert len(server.seen) == 2


@each
def test_what_cannot_be_repeated_is_not_sent_twice_in_doubt(ask: Any) -> None:
    with MisbehavingServer(Drop(), Answer(200, {"seq": 1, "at": SLOT})) as server, pytest.raises(UnreachableError) as e:
        ask(server.url).call("suspend", "storm")
    assert e.value.maybe_done
    assert len(server.seen) == 1
    with MisbehavingServer(Answer(502, b""), Answer(200)) as server, pytest.raises(ApiProblem, match="502 http_502"):
        ask(server.url).call("suspend", "storm")
    assert len(server.seen) == 1


@each
def test_what_was_surely_not_taken_is_sent_again(ask: Any) -> None:
    done = {"seq": 1, "at": SLOT}
    with MisbehavingServer(Answer(503, BUSY, {"Retry-After": "0"}), Answer(200, done)) as server:
        assert ask(server.url).call("suspend", "storm", market="spot").seq == 1
    assert [seen.target for seen in server.seen] == ["/api/v1/markets/spot:suspend"] * 2
    assert server.seen[0].key is None


@each
def test_nobody_listens(ask: Any) -> None:
    with MisbehavingServer() as server:
        url = server.url
    with pytest.raises(UnreachableError, match="4 attempts") as e:
        ask(url).call("health")
    assert not e.value.maybe_done


@each
def test_in_the_end_the_key_is_told_so_that_one_can_ask_later(ask: Any) -> None:
    with MisbehavingServer(*[Drop()] * 4) as server, pytest.raises(UnreachableError) as e:
        _buy(ask, server)
    assert e.value.maybe_done
    assert {e.value.key} == {seen.key for seen in server.seen}


@each
def test_a_refusal_is_told_whole_and_not_repeated(ask: Any) -> None:
    refusal = {
        "type": "/problems/invalid",
        "title": "The request is not valid",
        "status": 422,
        "code": "invalid",
        "detail": "1 fault",
        "errors": [{"pointer": "/e_wh", "detail": "Expected `int` >= 1"}],
        "seq": None,
        "trace": "new servers may say more",
    }
    with MisbehavingServer(Answer(422, refusal)) as server, pytest.raises(ApiProblem) as e:
        _buy(ask, server)
    assert (e.value.status, e.value.code, e.value.detail) == (422, "invalid", "1 fault")
    assert [(fault.pointer, fault.detail) for fault in e.value.errors] == [("/e_wh", "Expected `int` >= 1")]
    assert "/e_wh: Expected `int` >= 1" in str(e.value)
    assert len(server.seen) == 1


@each
def test_a_server_that_asks_for_more_patience_than_there_is(ask: Any) -> None:
    with MisbehavingServer(Answer(503, BUSY, {"Retry-After": "3600"})) as server, pytest.raises(ApiProblem) as e:
        _buy(ask, server)
    assert e.value.retry_after_s == 3600
    assert len(server.seen) == 1


@each
def test_retry_after_is_waited_for(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    if ask is ForThreads:
        monkeypatch.setattr("peerwatt.client.synchronous.Event.wait", lambda _, s=None: waits.append(s))
    else:

        async def note(pause_s: float) -> None:
            waits.append(pause_s)

        monkeypatch.setattr("peerwatt.client.asynchronous.asyncio.sleep", note)
    dated = {"Retry-After": "Wed, 01 Jun 2016 12:00:07 GMT", "Date": "Wed, 01 Jun 2016 12:00:00 GMT"}
    script = (Answer(503, BUSY, {"Retry-After": "3"}), Answer(429, BUSY, dated), Answer(201, ACK))
    server = MisbehavingServer(*script)
    transport = _scripted(server)
    _buy(ask, server, transport=transport)
    assert [w for w in waits if w in (3.0, 7.0)] == [3.0, 7.0]


def _scripted(server: MisbehavingServer) -> httpx.MockTransport:
    """The script without sockets, so that no thread but the client's waits."""
    script = iter(server._script)
    server._socket.close()

    def answer(request: httpx.Request) -> httpx.Response:
        act = next(script)
        return httpx.Response(act.status, headers=act.headers, json=act.body)

    return httpx.MockTransport(answer)


@each
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"order_id": 17}', b"\xff", b"<html>"])
def test_an_answer_that_is_none(ask: Any, body: bytes) -> None:
    with MisbehavingServer(Answer(201, body)) as server, pytest.raises(BadAnswerError):
        _buy(ask, server)


@each
def test_lists_go_on_over_pages(ask: Any) -> None:
    readings = [{"participant": "h", "slot": SLOT, "import_wh": i, "export_wh": 0, "quality": "good"} for i in range(3)]
    pages = Answer(200, {"items": readings[:2], "next_cursor": "a/b="}), Answer(200, {"items": readings[2:]})
    with MisbehavingServer(pages[0], Drop(), pages[1]) as server:
        got = ask(server.url).all("readings", "h", from_=SLOT, limit=2)
    assert [reading.import_wh for reading in got] == [0, 1, 2]
    query = "/api/v1/measurements?participant=h&from=2016-06-01T12%3A00%3A00Z&limit=2"
    assert [seen.target for seen in server.seen] == [query, f"{query}&cursor=a%2Fb%3D", f"{query}&cursor=a%2Fb%3D"]


@each
def test_versions_go_back_with_a_change(ask: Any) -> None:
    network = {"name": "n", "version": "3", "buses": [], "branches": []}
    terms = {"participant": "h", "revision": 2, "floor_u": 5}
    with MisbehavingServer(
        Answer(200, network, {"ETag": '"3"'}), Drop(), Answer(200, terms, {"ETag": '"t2"'})
    ) as server:
        assert ask(server.url).call("network").etag == '"3"'
        from peerwatt.wire import TermsIn

        changed = ask(server.url).call("set_terms", "h", TermsIn(floor_u=5), etag='"t1"')
    assert (changed.value.floor_u, changed.etag) == (5, '"t2"')
    assert [seen.headers.get("if-match") for seen in server.seen] == [None, '"t1"', '"t1"']
    assert server.seen[1].key == server.seen[2].key is not None


@each
def test_tokens_are_fetched_and_fetched_again(ask: Any) -> None:
    unauthorised = Answer(401, {**BUSY, "status": 401, "code": "unauthenticated"})
    script = [
        Drop(), Answer(200, TOKEN), unauthorised, Answer(200, {**TOKEN, "access_token": "t-2"}), Answer(201, ACK)
    ]  # fmt: skip
    oauth = OAuth("gateway", "s&cret", "orders:write")
    with MisbehavingServer(*script) as server:
        _buy(ask, server, key=None, oauth=oauth)
    assert [seen.target.rpartition("/")[2] for seen in server.seen] == ["token", "token", "orders", "token", "orders"]
    form = b"grant_type=client_credentials&client_id=gateway&client_secret=s%26cret&scope=orders%3Awrite"
    assert server.seen[0].body == form
    orders = [seen for seen in server.seen if seen.target.endswith("orders")]
    assert [seen.headers["authorization"] for seen in orders] == ["Bearer t-1", "Bearer t-2"]
    assert orders[0].key == orders[1].key
    assert "s&cret" not in repr(oauth)


@each
def test_a_wrong_key_or_secret_is_told_at_once(ask: Any) -> None:
    unauthorised = Answer(401, {**BUSY, "status": 401, "code": "unauthenticated"})
    with MisbehavingServer(unauthorised) as server, pytest.raises(ApiProblem, match="401"):
        _buy(ask, server)
    with MisbehavingServer(Answer(200, TOKEN), unauthorised, Answer(200, TOKEN), unauthorised) as server:
        with pytest.raises(ApiProblem, match="401"):
            _buy(ask, server, key=None, oauth=OAuth("a", "b"))
        assert len(server.seen) == 4
    with MisbehavingServer(Answer(401, b"")) as server, pytest.raises(ApiProblem, match="401"):
        _buy(ask, server, key=None, oauth=OAuth("a", "b"))


@each
def test_readings_are_keyed_and_deletions_repeated(ask: Any) -> None:
    ack = Answer(200, {"seq": 9, "accepted": 1, "received_at": SLOT})
    reading = ReadingIn(participant="h", slot=SLOT, import_wh=1, export_wh=0)
    with MisbehavingServer(Drop(), ack, Drop(), Answer(204)) as server:
        assert ask(server.url).call("report", [reading]).accepted == 1
        assert ask(server.url).call("delete_key", "k/1") is None
    assert server.seen[0].key == server.seen[1].key
    assert [seen.method + seen.target for seen in server.seen[2:]] == ["DELETE/api/v1/keys/k%2F1"] * 2


def test_pauses_grow_up_to_a_bound() -> None:
    pauses = [FAST.pause_s(n) for n in range(1, 40)]
    assert all(pause <= FAST.most_s for pause in pauses)
    assert pauses[0] <= FAST.first_s
    assert min(pauses[3:]) >= FAST.most_s / 2
