"""Members' own affairs and the operator's administration: terms, contracts, disputes, default, keys, personal data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

ONE, TWO, THREE = HOUSES[:3]
OFFER = {"with": TWO, "role": "seller", "from": slot_name(10), "to": slot_name(20), "share_ppm": 100_000}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def call(made: World, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    async with made.client(who) as client:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, path, json=body, headers=headers)


async def test_terms_are_changed_from_the_version_that_was_read(made: World) -> None:
    path = f"/participants/{ONE}/terms"
    before = await call(made, ONE, "GET", path)
    new = {"opted_out": [{"from": slot_name(9), "to": slot_name(10)}]}
    blind = await call(made, ONE, "PUT", path, new, idempotency_key="t1")
    first = await call(made, ONE, "PUT", path, new, idempotency_key="t1", if_match=before.headers["etag"])
    again = await call(made, ONE, "PUT", path, new, idempotency_key="t1", if_match=before.headers["etag"])
    late = await call(made, ONE, "PUT", path, {}, idempotency_key="t2", if_match=before.headers["etag"])
    assert [a.status_code for a in (blind, first, again, late)] == [428, 200, 200, 412]
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["opted_out"] == new["opted_out"]
    order = {"slot": slot_name(9), "side": "buy", "e_wh": 10, "price_u": 150_000}
    refused = await call(made, ONE, "POST", "/markets/spot/orders", order, idempotency_key="o")
    assert (refused.status_code, refused.json()["code"]) == (403, "opted_out")


async def test_a_resident_takes_over_and_opts_out_at_once(made: World) -> None:
    """What is said of slots that have begun begins with the next one; what was said of them before stays."""
    path = f"/participants/{ONE}/terms"
    before = await call(made, ONE, "GET", path)
    assert before.json()["by_hand"] == []
    said = {
        "by_hand": [{"from": slot_name(0), "to": slot_name(20), "what": "idle"}],
        "opted_out": [{"from": slot_name(0), "to": slot_name(20)}],
    }
    held = await call(made, ONE, "PUT", path, said, idempotency_key="h1", if_match=before.headers["etag"])
    assert held.status_code == 200, held.text
    (hand,) = held.json()["by_hand"]
    assert hand["to"] == slot_name(20) and hand["what"] == "idle" and hand["from"] >= slot_name(0)
    assert held.json()["opted_out"] == said["opted_out"]
    now = made.engine.config.slot_of(made.engine.state.at_us)
    assert hand["from"] == slot_name(max(now + 1, 0)), "the next gate"
    wrong = {"by_hand": [{"from": slot_name(0), "to": slot_name(20), "what": "dance"}]}
    refused = await call(made, ONE, "PUT", path, wrong, idempotency_key="h2", if_match=held.headers["etag"])
    assert refused.status_code in (400, 422), refused.text
    other = await call(made, TWO, "PUT", path, said, idempotency_key="h3", if_match=held.headers["etag"])
    assert other.status_code == 404, "nobody else's building"
    back = await call(made, ONE, "PUT", path, {}, idempotency_key="h4", if_match=held.headers["etag"])
    assert all(one["to"] <= slot_name(max(now + 1, 0)) for one in back.json()["by_hand"])
    assert back.json()["opted_out"] == []


async def test_a_contract_holds_once_the_other_side_has_accepted_it(made: World) -> None:
    offered = await call(made, ONE, "POST", f"/participants/{ONE}/contracts", OFFER)
    assert (offered.status_code, offered.json()["status"]) == (201, "offered")
    offer_id = offered.json()["contract_id"]
    assert (await call(made, THREE, "POST", f"/contracts/{offer_id}:accept")).status_code == 404
    agreed = await call(made, TWO, "POST", f"/contracts/{offer_id}:accept")
    assert (agreed.status_code, agreed.json()["status"]) == (200, "agreed")
    assert (await call(made, TWO, "POST", f"/contracts/{offer_id}:accept")).status_code == 409
    number = agreed.json()["contract_id"]
    for who in (ONE, TWO):
        items = (await call(made, who, "GET", f"/participants/{who}/contracts")).json()["items"]
        assert [(c["contract_id"], c["status"], c["seller"], c["offered_by"]) for c in items] == [
            (number, "agreed", ONE, ONE)
        ]
    assert (await call(made, THREE, "POST", f"/contracts/{number}:end")).status_code == 404
    ended = await call(made, TWO, "POST", f"/contracts/{number}:end")
    assert (ended.status_code, ended.json()["to"]) == (200, slot_name(10))  # it had not begun


async def test_an_offer_can_be_taken_back_or_declined(made: World) -> None:
    for who in (ONE, TWO):
        offer = (await call(made, ONE, "POST", f"/participants/{ONE}/contracts", OFFER)).json()["contract_id"]
        assert (await call(made, who, "POST", f"/contracts/{offer}:end")).json()["status"] == "ended"
        assert (await call(made, TWO, "POST", f"/contracts/{offer}:accept")).json()["code"] == "no_longer_open"
    assert (await call(made, ONE, "GET", f"/participants/{ONE}/contracts")).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "status"),
    [({"with": ONE}, 422), ({"with": "nobody"}, 404), ({"to": slot_name(10)}, 422), ({"volume_wh": 5}, 422)],
)
async def test_an_offer_has_to_make_sense(made: World, change: dict[str, Any], status: int) -> None:
    answer = await call(made, ONE, "POST", f"/participants/{ONE}/contracts", {**OFFER, **change})
    assert answer.status_code == status, answer.text


async def test_a_dispute_is_decided_once_and_an_upheld_one_corrects_the_slot(made: World) -> None:
    body = {"slot": slot_name(0), "line": "meter", "text": "I was away."}
    path = f"/participants/{ONE}/disputes"
    opened = await call(made, ONE, "POST", path, body, idempotency_key="d2")
    again = await call(made, ONE, "POST", path, body, idempotency_key="d2")
    assert again.content == opened.content
    assert opened.json()["decided_at"] is None
    number = opened.json()["dispute_id"]
    assert [d["dispute_id"] for d in (await call(made, TWO, "GET", "/disputes")).json()["items"]] == []
    seen = (await call(made, "operator", "GET", "/disputes")).json()["items"]
    assert [(d["dispute_id"], d["participant"]) for d in seen] == [("1", ONE), (number, ONE)]
    decision = {"upheld": True, "text": "So you were.", "reading": {"import_wh": 0, "export_wh": 0}}
    decided = await call(made, "operator", "POST", f"/disputes/{number}:decide", decision)
    assert (decided.status_code, decided.json()["status"]) == (200, "upheld")
    assert decided.json()["decided_at"] >= decided.json()["opened_at"]
    late = await call(made, "operator", "POST", f"/disputes/{number}:decide", decision)
    assert late.json()["code"] == "already_decided"
    newest = (await call(made, ONE, "GET", f"/participants/{ONE}/settlements?to={slot_name(1)}")).json()["items"][-1]
    assert (newest["version"], newest["import_wh"]) == (2, 0)
    answered = (await call(made, ONE, "GET", "/disputes?status=upheld")).json()["items"]
    assert [d["answer"] for d in answered] == ["So you were."]


async def test_a_default_ends_trading_and_what_is_owed_can_be_written_off(made: World) -> None:
    owed = (await call(made, ONE, "GET", f"/participants/{ONE}/statement")).json()["balance_u"]
    declared = await call(made, "operator", "POST", f"/participants/{ONE}:default", {"reason": "does not pay"})
    assert declared.status_code == 200
    order = {"slot": slot_name(9), "side": "buy", "e_wh": 10, "price_u": 150_000}
    refused = await call(made, ONE, "POST", "/markets/spot/orders", order, idempotency_key="o")
    assert (refused.status_code, refused.json()["code"]) == (403, "in_default")
    written = await call(made, "operator", "POST", f"/participants/{ONE}:write-off")
    assert written.json()["amount_u"] == owed > 0
    assert (await call(made, ONE, "GET", f"/participants/{ONE}/statement")).json()["balance_u"] == 0
    assert (await call(made, "operator", "POST", f"/participants/{ONE}:reinstate")).status_code == 200
    assert (await call(made, ONE, "POST", "/markets/spot/orders", order, idempotency_key="o2")).status_code == 201


async def test_a_new_member_gets_a_key_that_works_until_it_is_revoked(made: World) -> None:
    new = {"participant": "house-77"}
    joined = await call(made, "operator", "POST", "/participants", new)
    assert (joined.status_code, joined.json()["state"]) == (201, "active")
    assert (await call(made, "operator", "POST", "/participants", new)).status_code == 409
    assert (
        await call(made, "operator", "POST", "/participants", {"participant": "h", "contract": 7})
    ).status_code == 422
    made_key = await call(made, "operator", "POST", "/participants/house-77/keys", {"label": "phone"})
    key = made_key.json()
    assert made_key.status_code == 201
    assert key["participants"] == ["house-77"]
    order = {"slot": slot_name(9), "side": "buy", "e_wh": 10, "price_u": 150_000}
    assert (await call(made, key["key"], "POST", "/markets/spot/orders", order, idempotency_key="o")).status_code == 201
    listed = (await call(made, "operator", "GET", "/participants/house-77/keys")).json()["items"]
    assert [(k["key_id"], k["key"]) for k in listed] == [(key["key_id"], None)]
    assert (await call(made, "operator", "DELETE", f"/keys/{key['key_id']}")).status_code == 204
    assert (await call(made, key["key"], "GET", "/participants/me")).status_code == 401
    acts = [r["body"] for r in (await call(made, "auditor", "GET", "/audit?limit=1000")).json()["items"]]
    assert {"add_participant", "add_key", "delete_key"} <= {act.get("action") for act in acts}


@pytest.mark.parametrize("role", ["operator", "grid", "auditor", "admin"])
async def test_an_operators_key_is_not_a_participants(made: World, role: str) -> None:
    answer = await call(made, "operator", "POST", f"/participants/{ONE}/keys", {"role": role})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_role")


async def test_only_an_admin_revokes_an_operators_key(made: World) -> None:
    key = made.keys["admin"].split("_")[1]
    assert (await call(made, "operator", "DELETE", f"/keys/{key}")).status_code == 403
    other = made.keys["grid"].split("_")[1]
    assert (await call(made, "admin", "DELETE", f"/keys/{other}")).status_code == 204
    assert (await call(made, "grid", "GET", "/network")).status_code == 401


async def test_a_person_sees_who_looked_at_its_data(made: World) -> None:
    await call(made, ONE, "GET", f"/participants/{ONE}/statement")
    await call(made, "operator", "GET", f"/participants/{ONE}/statement")
    await call(made, "operator", "GET", f"/measurements?participant={ONE}")
    log = (await call(made, ONE, "GET", f"/participants/{ONE}/access-log")).json()["items"]
    assert [(line["client_id"], line["action"]) for line in log] == [
        ("the-operator", "GET measurements"),
        ("the-operator", f"GET participants/{ONE}/statement"),
    ]


async def test_everything_of_a_person_can_be_had_by_it(made: World) -> None:
    data = (await call(made, ONE, "GET", f"/participants/{ONE}/personal-data")).json()["data"]
    assert {"orders", "readings", "settlements", "disputes", "envelopes", "journal", "registry_keys"} <= set(data)
    assert [order["order_id"] for order in data["orders"]] == ["1", str(made.orders["own"])]
    kinds = {record["kind"] for record in data["journal"]}
    assert {"joined", "ordered", "cleared", "measured", "settled", "disputed", "envelopespublished"} <= kinds
    assert TWO not in str(data)


async def test_an_erased_person_is_gone_and_its_key_opens_nothing(made: World) -> None:
    wrong = await call(made, "admin", "POST", f"/participants/{ONE}:erase", {"confirm": TWO})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "not_confirmed")
    assert (await call(made, ONE, "GET", f"/participants/{ONE}/personal-data")).status_code == 200
    asked = await call(made, "admin", "POST", f"/participants/{ONE}:erase", {"confirm": ONE})
    assert (asked.status_code, asked.json()["state"]) == (200, "pending")
    assert (await call(made, ONE, "GET", "/participants/me")).status_code == 401  # shut out at once
    again = await call(made, "admin", "POST", f"/participants/{ONE}/keys", {"role": "meter"})
    assert again.status_code == 409
    for slot in range(5, 9):  # its last slot has to be settled first
        await made.to_slot(slot, 1)
    assert made.engine.member_of(ONE) is None
    assert (await call(made, ONE, "GET", "/participants/me")).status_code == 401
    assert (await call(made, "admin", "GET", f"/participants/{ONE}/statement")).status_code == 404
    states = (await call(made, "operator", "GET", "/participants")).json()["items"]
    assert [(p["participant"], p["state"]) for p in states][:2] == [("erased-0", "erased"), (TWO, "active")]
    assert await made.registry.clients.find(participant=ONE) == []
    assert await made.registry.access.of(ONE) == []
    audit = (await call(made, "auditor", "GET", "/audit?limit=1000")).text
    assert ONE not in audit
    public = b"".join(record.draft.body for record in made.service.journal.store.records)
    assert ONE.encode() not in public  # not even in what it did itself
