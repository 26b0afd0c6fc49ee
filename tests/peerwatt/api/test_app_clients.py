"""Clients of every role: an admin makes them, gives them keys and secrets, says for whom they act, and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

ONE, TWO, THREE = HOUSES[:3]
READING = {"slot": slot_name(2), "import_wh": 10, "export_wh": 0}
ORDER = {"slot": slot_name(9), "side": "buy", "e_wh": 10, "price_u": 150_000}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def call(made: World, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    async with made.client(who) as client:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, path, json=body, headers=headers)


async def admin(made: World, method: str, path: str, body: Any = None) -> httpx.Response:
    return await call(made, "admin", method, path, body)


async def new(made: World, **body: Any) -> str:
    """Make a client with a key; its text."""
    assert (await admin(made, "POST", "/clients", body)).status_code == 201
    key = await admin(made, "POST", f"/clients/{body['client']}/keys", {"label": "first"})
    assert (key.status_code, key.json()["role"]) == (201, body["role"])
    return str(key.json()["key"])


async def acts(made: World) -> list[dict[str, Any]]:
    found = (await call(made, "auditor", "GET", "/audit?limit=1000")).json()["items"]
    return [record["body"] for record in found if "client" in record["body"].get("action", "")]


async def test_a_grid_operator_gets_a_key_and_may_do_what_its_role_may(made: World) -> None:
    answer = await admin(made, "POST", "/clients", {"client": "grid-desk", "role": "grid", "name": "Control room"})
    assert (answer.status_code, answer.json()) == (
        201,
        {"client": "grid-desk", "role": "grid", "name": "Control room", "participants": [], "everybody": True,
         "has_secret": False, "created_at": "2026-03-01T09:00:00Z", "revoked_at": None},
    )  # fmt: skip
    key = (await admin(made, "POST", "/clients/grid-desk/keys", {"label": "desk 1"})).json()
    assert (key["role"], key["participants"], key["label"]) == ("grid", [], "desk 1")
    envelope = {"participant": ONE, "from": slot_name(9), "to": slot_name(12), "import_w": 9_000}
    published = await call(made, key["key"], "POST", "/envelopes:publish", {"source": "dso", "envelopes": [envelope]})
    assert published.status_code == 201
    assert (await call(made, key["key"], "GET", "/clients")).status_code == 403
    listed = (await admin(made, "GET", "/clients/grid-desk/keys")).json()["items"]
    assert listed == [{**key, "key": None}]
    assert (await admin(made, "DELETE", f"/keys/{key['key_id']}")).status_code == 204
    assert (await admin(made, "GET", "/clients/grid-desk/keys")).json()["items"] == []
    assert await acts(made) == [
        {"action": "add_client", "by": "the-admin", "detail": {"client": "grid-desk", "role": "grid"}, "fact": "acted"},
        {"action": "add_client_key", "by": "the-admin", "fact": "acted",
         "detail": {"client": "grid-desk", "key": key["key_id"], "role": "grid"}},
    ]  # fmt: skip


async def test_an_aggregator_acts_for_those_it_is_given_from_then_on(made: World) -> None:
    key = await new(made, client="flex", role="aggregator", participants=[ONE, TWO])

    async def enter(participant: str, name: str) -> int:
        body = {**ORDER, "participant": participant}
        return (await call(made, key, "POST", "/markets/spot/orders", body, idempotency_key=name)).status_code

    assert [await enter(house, "a") for house in HOUSES[:3]] == [201, 201, 404]
    changed = await admin(made, "PUT", "/clients/flex/participants", {"participants": [TWO, THREE]})
    assert (changed.status_code, changed.json()["participants"]) == (200, [TWO, THREE])
    assert [await enter(house, "b") for house in HOUSES[:3]] == [404, 201, 201]
    log = (await call(made, ONE, "GET", f"/participants/{ONE}/access-log")).json()["items"]
    assert {(line["action"], line["status"]) for line in log} == {
        ("POST clients", 201), ("POST clients/flex/keys", 201), ("PUT clients/flex/participants", 200),
    }  # fmt: skip
    noted = await acts(made)
    numbers = {house: made.engine.member_of(house) for house in HOUSES}
    assert [act["detail"]["members"] for act in noted] == [
        [numbers[ONE], numbers[TWO]], [numbers[ONE], numbers[TWO]], [numbers[TWO], numbers[THREE]],
    ]  # fmt: skip
    assert "flex" not in str(noted) and "house" not in str(noted), "nobody is named in the journal"


async def test_a_meter_gateway_hands_in_readings_of_everybody(made: World) -> None:
    key = await new(made, client="gateway", role="meter", everybody=True)
    readings = [{**READING, "participant": house} for house in HOUSES]
    answer = await call(made, key, "POST", "/measurements", {"readings": readings}, idempotency_key="m")
    assert (answer.status_code, answer.json()["accepted"]) == (200, len(HOUSES))


async def test_a_secret_gets_tokens_until_there_is_another_or_the_client_is_revoked(made: World) -> None:
    await admin(made, "POST", "/clients", {"client": "reports", "role": "auditor"})

    async def secret() -> dict[str, str]:
        answer = await admin(made, "POST", "/clients/reports:secret")
        assert answer.status_code == 200
        return {"grant_type": "client_credentials", **answer.json()}

    async def token(form: dict[str, str]) -> str:
        async with made.client(None) as client:
            return str((await client.post("/oauth/token", data=form)).json().get("access_token", ""))

    first = await secret()
    assert first["client_id"] == "reports"
    old = await token(first)
    assert (await call(made, old, "GET", "/audit/head")).status_code == 401, "a token is no API key"
    bearer = {"authorization": f"Bearer {old}"}
    async with made.client(None, **bearer) as client:
        assert (await client.get("/audit/head")).status_code == 200
        second = await secret()
        assert (await client.get("/audit/head")).status_code == 401
    assert await token(first) == ""
    assert await token(second) != ""
    assert (await admin(made, "GET", "/clients/reports")).json()["has_secret"] is True
    assert (await admin(made, "DELETE", "/clients/reports")).status_code == 204
    assert await token(second) == ""


async def test_a_revoked_client_is_gone_at_once_and_for_good(made: World) -> None:
    key = await new(made, client="desk", role="grid")
    assert (await call(made, key, "GET", "/network")).status_code == 200
    assert (await admin(made, "DELETE", "/clients/desk")).status_code == 204
    assert (await call(made, key, "GET", "/network")).status_code == 401
    shown = (await admin(made, "GET", "/clients/desk")).json()
    assert (shown["revoked_at"], shown["client"]) == ("2026-03-01T09:00:00Z", "desk")
    again = [
        await admin(made, "DELETE", "/clients/desk"),
        await admin(made, "POST", "/clients/desk/keys", {}),
        await admin(made, "POST", "/clients/desk:secret"),
        await admin(made, "PUT", "/clients/desk/participants", {"participants": []}),
        await admin(made, "POST", "/clients", {"client": "desk", "role": "grid"}),
    ]
    assert [(a.status_code, a.json()["code"]) for a in again] == [(409, "no_longer_open")] * 4 + [(409, "exists")]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/clients/flow", None),
        ("PUT", "/clients/flow/participants", {"participants": [TWO]}),
        ("POST", "/clients/flow:secret", None),
    ],
)
async def test_streams_end_with_the_rights_they_were_opened_with(
    made: World, method: str, path: str, body: Any
) -> None:
    key = await new(made, client="flow", role="aggregator", participants=[ONE])
    async with asyncio.timeout(5), made.client(key) as client:
        following = asyncio.create_task(client.get("/stream"))
        while not made.service.hub.counts.readers:  # noqa: ASYNC110 - nobody tells of a new reader
            await asyncio.sleep(0)
        answer = await admin(made, method, path, body)
        assert answer.status_code in (200, 204)
        seen = (await following).text
    assert "event: end" in seen and '"revoked"' in seen


async def test_a_participants_own_client_stays_its_own(made: World) -> None:
    name = f"{ONE}~resident"
    assert (await admin(made, "GET", f"/clients/{name}")).json()["participants"] == [ONE]
    refused = await admin(made, "PUT", f"/clients/{name}/participants", {"participants": [TWO]})
    assert (refused.status_code, refused.json()["code"]) == (409, "of_one")
    assert (await admin(made, "POST", "/clients", {"client": name, "role": "admin"})).status_code == 422
    assert (await call(made, ONE, "GET", f"/participants/{ONE}/access-log")).json()["items"][0]["client_id"]
    assert (await admin(made, "DELETE", f"/clients/{name}")).status_code == 204
    assert (await call(made, ONE, "GET", "/participants/me")).status_code == 401
    assert ONE not in str(await acts(made))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"role": "king"}, 422),
        ({"client": "Grid Desk"}, 422),
        ({"participants": [ONE]}, 422),
        ({"everybody": True}, 422),
        ({"role": "resident"}, 422),
        ({"role": "aggregator", "participants": ["nobody"]}, 404),
        ({"name": "a\nb"}, 422),
        ({"scopes": ["all"]}, 422),
        ({"client": "the-grid"}, 409),
    ],
)
async def test_a_client_has_to_make_sense(made: World, change: dict[str, Any], status: int) -> None:
    before = await made.registry.clients.find()
    answer = await admin(made, "POST", "/clients", {"client": "new", "role": "grid", **change})
    assert answer.status_code == status, answer.text
    assert await made.registry.clients.find() == before


async def test_a_key_that_has_expired_already_is_not_made(made: World) -> None:
    answer = await admin(made, "POST", "/clients/the-grid/keys", {"expires_at": "2026-03-01T08:59:59Z"})
    assert answer.status_code == 422
    assert len((await admin(made, "GET", "/clients/the-grid/keys")).json()["items"]) == 1


async def test_all_clients_are_listed_page_by_page(made: World) -> None:
    expected = [client.id for client in await made.registry.clients.find()]
    found: list[str] = []
    cursor = ""
    while True:
        page = (await admin(made, "GET", f"/clients?limit=3{cursor}")).json()
        assert len(page["items"]) <= 3
        found += [client["client"] for client in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == expected and len(found) == 11


async def test_what_is_not_there_is_not_found(made: World) -> None:
    for method, path, body in (
        ("GET", "/clients/none", None),
        ("DELETE", "/clients/none", None),
        ("PUT", "/clients/none/participants", {"participants": []}),
        ("GET", "/clients/none/keys", None),
        ("POST", "/clients/none/keys", {}),
        ("POST", "/clients/none:secret", None),
        ("GET", "/clients/%00", None),
    ):
        answer = await admin(made, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_client"), path
