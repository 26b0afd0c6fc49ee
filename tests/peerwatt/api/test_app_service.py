"""The service around the market: problems, overload, a broken journal, tokens, figures, documentation, headers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from market.engine.engine import Overloaded
from market.journal.memory import MemoryJournal
from market.journal.protocol import Record
from peerwatt.api.app import OPERATIONS
from peerwatt.api.operation import API
from peerwatt.api.roles import SCOPES
from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

ONE, TWO = HOUSES[:2]
ORDER = {"slot": slot_name(9), "side": "buy", "e_wh": 500, "price_u": 150_000}
ORDERS = "/markets/spot/orders"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


@pytest.mark.parametrize("path", [ORDERS, "/market:suspend"])
async def test_bodies_that_are_none_are_told_so_on_hot_and_other_routes_alike(made: World, path: str) -> None:
    async with made.client("admin", **{"Idempotency-Key": "k", "Content-Type": "application/json"}) as client:
        found = [
            code_of(await client.post(path, content=content))
            for content in (b"", b"{", b"\xff", b"nul", b"[" * 20_000, b"x" * 70_000)
        ]
        other = await client.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
        charset = await client.post(path, content=b"{}", headers={"Content-Type": "application/json; charset=utf-8"})
    assert {code for _, code in found[:4]} == {"malformed_body"}
    assert found[4][0] in (400, 422)
    assert found[5] == (413, "body_too_large")
    assert code_of(other) == (415, "unsupported_media_type")
    assert code_of(charset) == (422, "invalid")


async def test_a_method_that_is_not_there_is_told_which_are(made: World) -> None:
    async with made.client("admin") as client:
        for path, method, allow in (
            (ORDERS, "DELETE", "GET, HEAD, POST"),
            ("/markets/spot:suspend", "GET", "POST"),
            ("/stream", "POST", "GET"),
        ):
            answer = await client.request(method, path)
            assert code_of(answer) == (405, "method_not_allowed")
            assert answer.headers["allow"] == allow
        assert code_of(await client.get("/nowhere"))[0] == 404
        assert code_of(await client.get("/markets/spot/")) == (404, "not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=5&limit=6", "colour=green"])
async def test_queries_are_read_strictly(made: World, query: str) -> None:
    async with made.client(ONE) as client:
        assert code_of(await client.get(f"/markets/spot/slots?{query}"))[0] == 422


async def test_overload_is_refused_with_a_time_to_come_again(tmp_path: Path) -> None:
    class Full:
        """An engine whose queue is full."""

        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        async def submit(self, command: object) -> Any:
            raise Overloaded(7)

    async with world(tmp_path, wrap=Full) as made:
        async with made.client("admin", **{"Idempotency-Key": "k"}) as client:
            order = await client.post(ORDERS, json={**ORDER, "participant": ONE})
            suspend = await client.post("/market:suspend", json={"reason": "test"})
        for answer in (order, suspend):
            assert code_of(answer) == (503, "overloaded")
            assert answer.headers["retry-after"] == "7"


async def test_when_the_journal_breaks_every_write_says_so_and_the_service_is_not_ready(tmp_path: Path) -> None:
    async def fail(records: Sequence[Record]) -> None:
        raise OSError("the disk is gone")

    async with world(tmp_path) as made:
        journal = made.service.journal
        assert isinstance(journal, MemoryJournal)
        object.__setattr__(made.service, "trouble", lambda: "broken" if made.engine.broken else "")
        async with made.client("admin", **{"Idempotency-Key": "k"}) as client:
            assert (await client.get("/readyz")).status_code == 200
            journal.before = fail
            answers = [
                await client.post(ORDERS, json={**ORDER, "participant": ONE}),
                await client.post("/market:suspend", json={"reason": "test"}),
                await client.put("/envelopes/default", json={"import_w": 1, "export_w": 1}, headers={"If-Match": "*"}),
                await client.get("/markets"),
            ]
            ready, health = await client.get("/readyz"), await client.get("/healthz")
        assert {code_of(answer) for answer in answers} == {(503, "engine_stopped")}
        assert code_of(ready) == (503, "unavailable")
        assert health.status_code == 200


async def test_an_error_nobody_thought_of_tells_nothing_of_the_inside(made: World) -> None:
    def fail() -> int:
        raise RuntimeError("secret")

    object.__setattr__(made.service, "clock", fail)
    async with made.client("admin") as client:
        answer = await client.post("/market:suspend", json={"reason": "x", "expires_at": "2026-06-01T12:00:00Z"})
    assert code_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text


async def test_a_client_gets_a_token_that_may_do_what_its_key_may_and_no_more(made: World) -> None:
    secret = await made.registry.clients.set_secret(f"{ONE}~resident")
    form = {"grant_type": "client_credentials", "client_id": f"{ONE}~resident", "client_secret": secret}
    async with made.client(None) as client:
        all_ = (await client.post("/oauth/token", data=form)).json()
        narrow = (await client.post("/oauth/token", data={**form, "scope": "market:read"})).json()
        wrong = await client.post("/oauth/token", data={**form, "client_secret": "no"})

        async def ask(token: str, path: str) -> int:
            return (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code

        assert await ask(all_["access_token"], ORDERS) == 200
        assert await ask(narrow["access_token"], "/markets") == 200
        assert await ask(narrow["access_token"], ORDERS) == 403
        assert await ask("nonsense", "/markets") == 401
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")


async def test_figures_are_for_this_machine_and_for_those_who_may(made: World) -> None:
    local = httpx.ASGITransport(app=made.app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=local, base_url="http://localhost") as client:
        await client.get("/api/v1/healthz")
        text = (await client.get("/metrics")).text
        assert (await client.get("/api/v1/metrics")).status_code == 200
    assert 'route="/healthz"' in text
    assert 'peerwatt_slots{state="open"}' in text
    async with made.client(None) as client:
        assert (await client.get("http://localhost/metrics")).status_code == 401


async def test_every_answer_carries_the_strict_headers(made: World) -> None:
    async with made.client(ONE, **{"Idempotency-Key": "k"}) as client:
        answers = [
            await client.post(ORDERS, json=ORDER),
            await client.post(ORDERS, json={}),
            await client.get("/markets"),
            await client.get("/nowhere"),
        ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers
    assert answers[0].headers["cache-control"] == "no-store"
    async with made.client(ONE) as client:
        assert (await client.get("/markets", headers={"Host": "evil.example"})).status_code == 421


async def test_the_documentation_asks_nothing_of_other_machines(made: World) -> None:
    async with made.client(None) as client:
        page = await client.get("http://localhost/docs")
        assert page.status_code == 200
        assert not re.search(r"https?://", page.text)
        assert "<script>" not in page.text  # nothing inline that a policy would have to allow
        for source in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert (await client.get(f"http://localhost{source}")).status_code == 200, source
        start = (await client.get("http://localhost/docs/start.js")).text
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("script-src")[1].split(";")[0]
    assert f'"{API}/openapi.json"' in start


async def test_the_document_is_whole(made: World) -> None:
    async with made.client(None) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    found = {
        operation["operationId"]: (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(found) == {operation.name for operation in OPERATIONS}
    for declared in OPERATIONS:
        path, method, operation = found[declared.name]
        assert (path, method.upper()) == (API + declared.path, declared.method)
        assert operation["tags"] and operation["summary"] and operation["description"], declared.name
        assert str(declared.status) in operation["responses"]
        parameters = {p["name"] for p in operation.get("parameters", ())}
        assert declared.keyed == ("Idempotency-Key" in parameters)
        assert declared.if_match == ("If-Match" in parameters)
        assert set(re.findall(r"\{(\w+)\}", path)) <= parameters
        if declared.scope is not None:
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
            assert {"oauth2": [declared.scope] if declared.scope else []} in operation["security"]
        if declared.body is not None:
            assert {"413", "415"} <= set(operation["responses"])
    assert {declared.scope for declared in OPERATIONS if declared.scope} <= set(SCOPES)
    known = set(document["components"]["schemas"]) | set(document["components"]["responses"])
    assert {name.rpartition("/")[2] for name in re.findall(r'"\$ref":\s*"([^"]+)"', json.dumps(document))} <= known


async def test_the_stream_begins_with_a_snapshot_and_shows_no_others_news(tmp_path: Path) -> None:
    async with world(tmp_path, stream_valid_s=0.02) as made, made.client(ONE) as client:
        answer = await client.get("/stream")
        events = re.findall(r"^event: (\w+)$", answer.text, re.MULTILINE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[0] == "snapshot"
    assert events[-1] == "end"
