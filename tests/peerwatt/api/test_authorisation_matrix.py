"""Who may do what: every route of the API by every kind of caller, cell by cell.

The objects asked for are those of house-01; the other resident is house-02's, the aggregator acts for house-02 and
house-03, the meter for house-01. Callers come in the order of ``CALLERS`` to the same market, so that where two may do
something that can be done once, the second finds it done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from peerwatt.api.app import OPERATIONS
from peerwatt.api.operation import Operation
from peerwatt.api.roles import ROLES
from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

CALLERS = (
    "nobody", "bad key", "resident", "other resident", "aggregator", "meter", "operator", "grid", "auditor",
    "technician", "admin",
)  # fmt: skip
WHO = {
    "nobody": None,
    "bad key": "pw_aaaaaaaa_" + "A" * 43,
    "resident": HOUSES[0],
    "other resident": HOUSES[1],
}
MINE = HOUSES[0]
OPEN_SLOT, PAST_SLOT = slot_name(9), slot_name(0)

#                 nobody bad  own  othr aggr metr oper grid audi tech admin
CELLS = {
    "getHealth": "200 200 200 200 200 200 200 200 200 200 200",
    "getReadiness": "200 200 200 200 200 200 200 200 200 200 200",
    "getVersion": "200 200 200 200 200 200 200 200 200 200 200",
    "getTime": "200 200 200 200 200 200 200 200 200 200 200",
    "getMetrics": "401 401 403 403 403 403 200 200 403 200 200",
    "getToken": "401 401 401 401 401 401 401 401 401 401 401",
    "listMarkets": "401 401 200 200 200 403 200 200 200 403 200",
    "getMarket": "401 401 200 200 200 403 200 200 200 403 200",
    "listSlots": "401 401 200 200 200 403 200 200 200 403 200",
    "getSlot": "401 401 200 200 200 403 200 200 200 403 200",
    "getBook": "401 401 200 200 200 403 200 200 200 403 200",
    "listTrades": "401 401 200 200 200 403 200 200 200 403 200",
    "getPrice": "401 401 200 200 200 403 200 200 200 403 200",
    "listPrices": "401 401 200 200 200 403 200 200 200 403 200",
    "suspendAll": "401 401 403 403 403 403 200 409 403 403 409",
    "resumeAll": "401 401 403 403 403 403 409 409 403 403 409",
    "suspendMarket": "401 401 403 403 403 403 200 409 403 403 409",
    "resumeMarket": "401 401 403 403 403 403 409 409 403 403 409",
    "voidSlot": "401 401 403 403 403 403 200 409 403 403 409",
    "enterOrder": "401 401 201 404 404 403 403 403 403 403 201",
    "enterOrders": "401 401 200 404 404 403 403 403 403 403 200",
    "listOrders": "401 401 200 404 404 403 403 403 403 403 200",
    "getOrder": "401 401 200 404 404 403 403 403 403 403 200",
    "amendOrder": "401 401 200 404 404 403 403 403 403 403 200",
    "cancelOrder": "401 401 200 404 404 403 403 403 403 403 422",
    "cancelAllOrders": "401 401 200 404 404 403 403 403 403 403 200",
    "followStream": "401 401 200 200 200 403 200 200 403 403 200",
    "getMe": "401 401 200 200 200 200 200 200 200 200 200",
    "getTerms": "401 401 200 404 404 403 403 403 403 403 200",
    "setTerms": "401 401 200 404 404 403 403 403 403 403 200",
    "getStatement": "401 401 200 404 404 403 200 403 403 403 200",
    "listSettlements": "401 401 200 404 404 403 200 403 403 403 200",
    "listBills": "401 401 200 404 404 403 200 403 403 403 200",
    "getBill": "401 401 200 404 404 403 200 403 403 403 200",
    "getPeriodAccounts": "401 401 403 403 403 403 200 403 200 403 200",
    "listSlotSettlements": "401 401 403 403 403 403 200 403 200 403 200",
    "getSlotSettlement": "401 401 403 403 403 403 200 403 200 403 200",
    "openDispute": "401 401 201 404 404 403 404 403 403 403 201",
    "listDisputes": "401 401 200 200 200 403 200 403 403 403 200",
    "decideDispute": "401 401 403 403 403 403 200 403 403 403 409",
    "declareDefault": "401 401 403 403 403 403 200 403 403 403 403",
    "writeOff": "401 401 403 403 403 403 409 403 403 403 409",
    "reinstate": "401 401 403 403 403 403 409 403 403 403 409",
    "reportReadings": "401 401 403 403 403 200 200 403 403 403 200",
    "listReadings": "401 401 200 404 404 403 200 403 403 403 200",
    "listContracts": "401 401 200 404 404 403 403 403 403 403 200",
    "offerContract": "401 401 201 404 404 403 403 403 403 403 201",
    "acceptContract": "401 401 403 200 409 403 403 403 403 403 409",
    "endContract": "401 401 200 409 409 403 403 403 403 403 409",
    "getNetwork": "401 401 403 403 403 403 403 200 403 403 200",
    "getNetworkState": "401 401 403 403 403 403 403 200 403 403 200",
    "listCongestion": "401 401 403 403 403 403 403 200 403 403 200",
    "publishEnvelopes": "401 401 403 403 403 403 403 201 403 403 201",
    "listEnvelopes": "401 401 403 403 403 403 403 200 403 403 200",
    "listOwnEnvelopes": "401 401 200 404 404 403 403 200 403 403 200",
    "answerEnvelope": "401 401 201 404 404 403 403 404 403 403 201",
    "listReceipts": "401 401 403 403 403 403 403 200 403 403 200",
    "getEnvelopeDefault": "401 401 200 200 200 403 403 200 403 403 200",
    "setEnvelopeDefault": "401 401 403 403 403 403 403 200 403 403 200",
    "listParticipants": "401 401 403 403 403 403 200 403 403 403 200",
    "addParticipant": "401 401 403 403 403 403 201 403 403 403 409",
    "removeParticipant": "401 401 403 403 403 403 204 403 403 403 403",
    "listKeys": "401 401 403 403 403 403 200 403 403 403 200",
    "addKey": "401 401 403 403 403 403 201 403 403 403 201",
    "deleteKey": "401 401 403 403 403 403 204 403 403 403 404",
    "listClients": "401 401 403 403 403 403 403 403 403 403 200",
    "addClient": "401 401 403 403 403 403 403 403 403 403 201",
    "getClient": "401 401 403 403 403 403 403 403 403 403 200",
    "revokeClient": "401 401 403 403 403 403 403 403 403 403 204",
    "setClientParticipants": "401 401 403 403 403 403 403 403 403 403 200",
    "listClientKeys": "401 401 403 403 403 403 403 403 403 403 200",
    "addClientKey": "401 401 403 403 403 403 403 403 403 403 201",
    "setClientSecret": "401 401 403 403 403 403 403 403 403 403 200",
    "listRoles": "401 401 403 403 403 403 200 403 403 403 200",
    "getPersonalData": "401 401 200 404 404 403 403 403 403 403 200",
    "listAccess": "401 401 200 404 404 403 403 403 403 403 200",
    "eraseParticipant": "401 401 403 403 403 403 403 403 403 403 200",
    "listAudit": "401 401 403 403 403 403 200 200 200 403 200",
    "getAuditHead": "401 401 403 403 403 403 200 200 200 403 200",
    "getAuditRecord": "401 401 403 403 403 403 200 200 200 403 200",
    "listDevices": "401 401 403 403 403 403 200 200 200 200 200",
    "getDevice": "401 401 403 403 403 403 200 200 200 200 200",
    "setDevicePoint": "401 401 403 403 403 403 200 409 403 409 409",
    "releaseDevice": "401 401 403 403 403 403 404 404 403 404 404",
    "setDeviceMode": "401 401 403 403 403 403 200 200 403 200 200",
    "stopDevices": "401 401 403 403 403 403 200 200 403 200 200",
}

ORDER: dict[str, Any] = {"slot": OPEN_SLOT, "side": "buy", "e_wh": 500, "price_u": 150_000}
OFFER = {"with": HOUSES[1], "role": "seller", "from": slot_name(10), "to": slot_name(20), "share_ppm": 100_000}
READING = {"participant": MINE, "slot": slot_name(2), "import_wh": 10, "export_wh": 0}
ENVELOPE = {"participant": MINE, "from": OPEN_SLOT, "to": slot_name(12), "import_w": 9_000}


@dataclass
class Asked:
    """How a route is asked: what goes into it beside the path."""

    body: Any = None
    query: dict[str, str] = field(default_factory=dict)
    named: bool = False  # the body names the participant for callers who act for several
    form: dict[str, str] | None = None


ASKED = {
    "getToken": Asked(form={"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}),
    "suspendAll": Asked({"reason": "test"}),
    "resumeAll": Asked({"reason": "test"}),
    "suspendMarket": Asked({"reason": "test"}),
    "resumeMarket": Asked({"reason": "test"}),
    "voidSlot": Asked({"reason": "test"}),
    "enterOrder": Asked(ORDER, named=True),
    "enterOrders": Asked({"orders": [ORDER]}, named=True),
    "listOrders": Asked(query={"participant": MINE}),
    "amendOrder": Asked({"e_wh": 400}),
    "cancelAllOrders": Asked({}, named=True),
    "setTerms": Asked({"opted_out": []}),
    "openDispute": Asked({"slot": PAST_SLOT, "line": "meter", "text": "I was away."}),
    "decideDispute": Asked({"upheld": False, "text": "It is right."}),
    "declareDefault": Asked({"reason": "does not pay"}),
    "reportReadings": Asked({"readings": [READING]}),
    "listReadings": Asked(query={"participant": MINE}),
    "offerContract": Asked(OFFER),
    "publishEnvelopes": Asked({"source": "dso", "envelopes": [ENVELOPE]}),
    "answerEnvelope": Asked({"publication": 1, "status": "received"}),
    "setEnvelopeDefault": Asked({"import_w": 5_000, "export_w": None}),
    "addParticipant": Asked({"participant": "house-99"}),
    "addKey": Asked({}),
    "addClient": Asked({"client": "grid-desk", "role": "grid"}),
    "setClientParticipants": Asked({"participants": [HOUSES[2]]}),
    "addClientKey": Asked({}),
    "eraseParticipant": Asked({"confirm": MINE}),
    "setDevicePoint": Asked({"control": "limit_w", "value": 2_000, "expires_s": 30}),
    "releaseDevice": Asked({"control": "power_w"}),
    "setDeviceMode": Asked({"mode": "observe"}),
    "stopDevices": Asked({"reason": "smoke"}),
}


async def ask(made: World, operation: Operation, caller: str, ids: dict[str, str]) -> httpx.Response:
    asked = ASKED.get(operation.name, Asked())
    headers = {"Idempotency-Key": f"{caller}-1".replace(" ", "-")} if operation.keyed else {}
    if operation.if_match:
        headers["If-Match"] = "*"
    body = asked.body
    if asked.named:
        body = {**body, "participant": MINE}
    values = {
        "market": "spot", "participant": MINE, "order_id": str(made.orders["own"]), "dispute": "1",
        "publication": "1", "client": "agg", "seq": "3", "device": "bench-1", "period": "2016-06",
        "slot": PAST_SLOT if operation.method == "GET" else OPEN_SLOT, **ids,
    }  # fmt: skip
    async with made.client(WHO.get(caller, caller), **headers) as client:
        return await client.request(
            operation.method, operation.path.format(**values), json=body, params=asked.query, data=asked.form
        )


async def prepared(made: World, operation: Operation) -> dict[str, str]:
    """Ids of what a route is about, where it has to be made first."""
    if operation.name in ("acceptContract", "endContract"):
        async with made.client(MINE) as client:
            offer = await client.post(f"/participants/{MINE}/contracts", json=OFFER)
        return {"contract": offer.json()["contract_id"]}
    if operation.name == "deleteKey":
        return {"key": (await made.registry.clients.add_key(f"{MINE}~resident")).key.id}
    return {"contract": "1", "key": "aaaaaaaa"}


def _one(operation: Operation) -> Any:
    slow = (
        [pytest.mark.slow] if operation.name == "getToken" else []
    )  # ten wrong secrets, each hashed as slowly as can be
    return pytest.param(operation, id=operation.name, marks=slow)


@pytest.mark.slow
@pytest.mark.parametrize("operation", [_one(operation) for operation in OPERATIONS])
async def test_every_caller_gets_what_the_table_says(tmp_path: Path, operation: Operation) -> None:
    expected = dict(zip(CALLERS, map(int, CELLS[operation.name].split()), strict=True))
    async with world(tmp_path, stream_valid_s=0.02) as made:
        ids = await prepared(made, operation)
        found = {caller: await ask(made, operation, caller, ids) for caller in CALLERS}
        assert made.engine.broken is None
    assert {caller: answer.status_code for caller, answer in found.items()} == expected, {
        caller: answer.text[:200] for caller, answer in found.items() if answer.status_code != expected[caller]
    }
    for caller, answer in found.items():
        if answer.status_code in (401, 403, 404) and operation.name != "getToken":
            assert answer.headers["content-type"] == "application/problem+json", caller
            assert HOUSES[1] not in answer.text, caller


def test_every_route_is_in_the_table_and_nothing_else() -> None:
    assert set(CELLS) == {operation.name for operation in OPERATIONS}
    assert len(CELLS) == len(OPERATIONS)


def test_every_role_is_a_caller() -> None:
    assert set(ROLES) <= set(CALLERS)
