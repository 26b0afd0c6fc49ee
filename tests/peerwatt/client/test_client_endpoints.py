"""Every endpoint of the interface has a method, the same in both clients, and the right wire form."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from peerwatt.client import AsyncClient, Call, Client
from peerwatt.client.calls import endpoint, listing
from peerwatt.wire import BatchOrderIn, ClientIn, ContractOffer, EnvelopeIn, KeyIn, OrderIn, ReadingIn, TermsIn

SLOT = "2016-06-01T12:00:00Z"
M, S = "markets/spot", f"markets/spot/slots/{SLOT}"
ORDER = OrderIn(slot=SLOT, side="sell", e_wh=1, price_u=1)
BATCH = [BatchOrderIn(slot=SLOT, side="sell", e_wh=1, price_u=1)]
OFFER = ContractOffer(with_="b", role="seller", from_=SLOT, to=SLOT, share_ppm=1)
LIMITS = EnvelopeIn(participant="h", from_=SLOT, to=SLOT, import_w=1)
READING = ReadingIn(participant="h", slot=SLOT, import_wh=1, export_wh=0)

CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "health": ((), {}, "GET healthz"),
    "ready": ((), {}, "GET readyz"),
    "version": ((), {}, "GET version"),
    "time": ((), {}, "GET time"),
    "metrics": ((), {}, "GET metrics"),
    "markets": ((), {}, "GET markets"),
    "market": (("spot",), {}, f"GET {M}"),
    "slots": (("spot",), {"state": "open"}, f"GET {M}/slots?state=open"),
    "slot": (("spot", SLOT), {}, f"GET {S}"),
    "book": (("spot", SLOT), {}, f"GET {S}/book"),
    "trades": (("spot", SLOT), {}, f"GET {S}/trades"),
    "price": (("spot", SLOT), {}, f"GET {S}/price"),
    "prices": (("spot",), {"from_": SLOT, "to": SLOT}, f"GET {M}/prices?from={SLOT}&to={SLOT}"),
    "enter_order": (("spot", ORDER), {}, f"POST {M}/orders keyed"),
    "buy": (("spot", SLOT), {"e_wh": 1, "price_u": 1}, f"POST {M}/orders keyed"),
    "sell": (("spot", SLOT), {"e_wh": 1, "price_u": 1}, f"POST {M}/orders keyed"),
    "enter_orders": (("spot", BATCH), {}, f"POST {M}/orders:batch keyed"),
    "orders": (("spot",), {"slot": SLOT, "status": "open"}, f"GET {M}/orders?slot={SLOT}&status=open"),
    "order": (("spot", "7"), {}, f"GET {M}/orders/7"),
    "amend_order": (("spot", "7"), {"e_wh": 1}, f"POST {M}/orders/7:amend keyed"),
    "cancel_order": (("spot", "7"), {}, f"POST {M}/orders/7:cancel keyed"),
    "cancel_all": (("spot",), {}, f"POST {M}/orders:cancel-all keyed"),
    "suspend": (("storm",), {}, "POST market:suspend"),
    "resume": (("over",), {"market": "spot"}, f"POST {M}:resume"),
    "void_slot": (("spot", SLOT, "wrong"), {}, f"POST {S}:void"),
    "me": ((), {}, "GET participants/me"),
    "statement": (("h",), {"from_": SLOT}, f"GET participants/h/statement?from={SLOT}"),
    "settlements": (("h",), {}, "GET participants/h/settlements"),
    "bills": (("h",), {"limit": 5}, "GET participants/h/bills?limit=5"),
    "bill": (("h", "2016-06"), {}, "GET participants/h/bills/2016-06"),
    "period_accounts": (("2016-06",), {}, "GET bills/2016-06"),
    "slot_settlements": ((), {"to": SLOT}, f"GET settlements?to={SLOT}"),
    "slot_versions": ((SLOT,), {}, f"GET settlements/{SLOT}"),
    "terms": (("h",), {}, "GET participants/h/terms"),
    "set_terms": (("h", TermsIn()), {"etag": '"1"'}, "PUT participants/h/terms keyed"),
    "contracts": (("h",), {}, "GET participants/h/contracts"),
    "offer_contract": (("h", OFFER), {}, "POST participants/h/contracts"),
    "accept_contract": (("3",), {}, "POST contracts/3:accept"),
    "end_contract": (("3",), {}, "POST contracts/3:end"),
    "report": (([READING],), {}, "POST measurements keyed"),
    "readings": (("h",), {}, "GET measurements?participant=h"),
    "open_dispute": (("h", SLOT, "meter", "why"), {}, "POST participants/h/disputes keyed"),
    "disputes": ((), {}, "GET disputes"),
    "decide_dispute": (("3", True, "yes"), {}, "POST disputes/3:decide"),
    "declare_default": (("h", "why"), {}, "POST participants/h:default"),
    "write_off": (("h",), {}, "POST participants/h:write-off"),
    "reinstate": (("h",), {}, "POST participants/h:reinstate"),
    "personal_data": (("h",), {}, "GET participants/h/personal-data"),
    "access_log": (("h",), {}, "GET participants/h/access-log"),
    "erase": (("h",), {"confirm": "h"}, "POST participants/h:erase"),
    "network": ((), {}, "GET network"),
    "network_state": ((), {"at": SLOT}, f"GET network/state?at={SLOT}"),
    "congestion": ((), {}, "GET congestion"),
    "publish_envelopes": (([LIMITS],), {"source": "dso"}, "POST envelopes:publish"),
    "envelopes": ((), {}, "GET envelopes"),
    "envelope_default": ((), {}, "GET envelopes/default"),
    "set_envelope_default": ((), {"import_w": 1, "export_w": None, "etag": '"1"'}, "PUT envelopes/default"),
    "receipts": ((17,), {}, "GET envelopes/publications/17/receipts"),
    "envelope": (("h",), {}, "GET participants/h/envelope"),
    "answer_envelope": (("h", 17, "received"), {}, "POST participants/h/envelope/receipts"),
    "participants": ((), {"limit": 5}, "GET participants?limit=5"),
    "add_participant": (("h",), {}, "POST participants"),
    "remove_participant": (("h",), {}, "DELETE participants/h"),
    "keys": (("h",), {}, "GET participants/h/keys"),
    "add_key": (("h", KeyIn()), {}, "POST participants/h/keys"),
    "delete_key": (("k",), {}, "DELETE keys/k"),
    "roles": ((), {}, "GET roles"),
    "clients": ((), {}, "GET clients"),
    "add_client": ((ClientIn(client="grid-desk", role="grid"),), {}, "POST clients"),
    "client": (("h~resident",), {}, "GET clients/h~resident"),
    "revoke_client": (("c",), {}, "DELETE clients/c"),
    "set_client_participants": (("c", ["h"]), {}, "PUT clients/c/participants"),
    "client_keys": (("c",), {}, "GET clients/c/keys"),
    "add_client_key": (("c",), {"label": "desk"}, "POST clients/c/keys"),
    "set_client_secret": (("c",), {}, "POST clients/c:secret"),
    "audit": ((), {"after": 3}, "GET audit?after=3"),
    "audit_head": ((), {}, "GET audit/head"),
    "audit_record": ((3,), {}, "GET audit/record/3"),
}
METHODS = {name for name in dir(Client) if isinstance(getattr(Client, name), endpoint | listing)}


def test_every_method_stands_in_the_table() -> None:
    assert set(CALLS) == METHODS


@pytest.mark.parametrize("name", CALLS)
def test_the_request_is_the_documented_one(name: str) -> None:
    args, kwargs, expected = CALLS[name]
    call: Call[Any] = getattr(Client, name).describe(None, *args, **kwargs)
    query = "&".join(f"{key}={value}" for key, value in call.params.items())
    keyed = " keyed" if call.keyed else ""
    assert f"{call.method} {call.path}{'?' if query else ''}{query}{keyed}" == expected
    assert (call.body is not None) <= (call.method in ("POST", "PUT"))
    if "etag" in kwargs:
        assert call.headers == {"If-Match": '"1"'}


@pytest.mark.parametrize("name", CALLS)
def test_both_clients_explain_themselves(name: str) -> None:
    with Client("http://127.0.0.1:1") as client:
        method = getattr(client, name)
        assert method.__doc__
        assert method.__name__ == name
    assert getattr(AsyncClient, name) is getattr(Client, name)
    parameters = list(inspect.signature(getattr(Client, name).describe).parameters)
    assert parameters[0] == "self"


def test_names_are_escaped() -> None:
    assert Client.order.describe(None, "../x", "a/b?c#d").path == "markets/..%2Fx/orders/a%2Fb%3Fc%23d"
