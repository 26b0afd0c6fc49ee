"""What can be read: markets and prices with their ETags, pages, statements, settlements, network, envelopes, audit."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from market.engine.commands import Measure, Reading
from market.engine.state import N_LINES, SettledVersion, Settlement
from market.journal.protocol import GENESIS_HASH, Head, chained
from peerwatt.api.service import Past
from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

ONE, TWO = HOUSES[:2]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def get(made: World, who: str, path: str, status: int = 200, **query: Any) -> Any:
    async with made.client(who) as client:
        answer = await client.get(path, params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


async def all_pages(client: httpx.AsyncClient, path: str, limit: int, **query: str) -> list[list[Any]]:
    pages, cursor = [], ""
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = (await client.get(path, params={"limit": str(limit), **query, **more})).json()
        pages.append(page["items"])
        if page["next_cursor"] is None:
            return pages
        cursor = page["next_cursor"]


async def test_a_price_is_exact_and_may_be_kept_for_ever(made: World) -> None:
    path = f"/markets/spot/slots/{slot_name(0)}/price"
    async with made.client("auditor") as client:
        price = await client.get(path)
        same = await client.get(path, headers={"If-None-Match": price.headers["etag"]})
        other = await client.get(path, headers={"If-None-Match": '"another"'})
        unreadable = await client.get(path, headers={"If-None-Match": "no tag"})
        early = await client.get(f"/markets/spot/slots/{slot_name(9)}/price")
    body = price.json()
    assert body["price_num"] / body["price_den"] == body["price_u"]
    assert (body["volume_wh"], body["orders"]) == (800, 2)
    assert "immutable" in price.headers["cache-control"]
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", price.headers["etag"])
    assert (other.status_code, unreadable.status_code) == (200, 200)
    assert (early.status_code, early.json()["code"]) == (404, "unknown_price")


async def test_the_depth_of_a_book_names_nobody_and_has_a_tag_of_its_levels(made: World) -> None:
    path = f"/markets/spot/slots/{slot_name(8)}/book"
    async with made.client("auditor") as client:
        book = await client.get(path)
        assert (await client.get(path, headers={"If-None-Match": book.headers["etag"]})).status_code == 304
    assert book.json()["buy"] == [{"price_u": 200_000, "e_wh": 500}]
    assert book.json()["sell"] == [{"price_u": 250_000, "e_wh": 500}]
    assert "immutable" not in book.headers["cache-control"]
    assert not any(house in book.text for house in HOUSES)


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
async def test_pages_hold_every_item_once_and_in_order(made: World, limit: int) -> None:
    async with made.client("admin") as client:
        for path, query in (
            ("/markets/spot/slots", {}),
            ("/markets/spot/prices", {}),
            ("/settlements", {}),
            ("/participants", {}),
            (f"/participants/{ONE}/settlements", {}),
            ("/audit", {"after": "3"}),
            ("/roles", {}),
        ):
            whole = await all_pages(client, path, 1000, **query)
            pages = await all_pages(client, path, limit, **query)
            assert len(whole) == 1, path
            assert [item for page in pages for item in page] == whole[0], path
            assert all(len(page) == limit for page in pages[:-1]), path


async def test_a_cursor_is_good_for_its_own_list_only(made: World) -> None:
    async with made.client("admin") as client:
        cursor = (await client.get("/markets/spot/slots", params={"limit": 1})).json()["next_cursor"]
        for path, more in (
            ("/markets/intraday/slots", {}),
            ("/markets/spot/prices", {}),
            ("/markets/spot/slots", {"state": "open"}),
        ):
            answer = await client.get(path, params={"cursor": cursor, **more})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), path


async def test_slots_are_chosen_by_state_and_time(made: World) -> None:
    states = {s["slot"]: s["state"] for s in (await get(made, ONE, "/markets/spot/slots"))["items"]}
    assert states[slot_name(0)] == "settled"
    assert states[slot_name(4)] in ("cleared", "gate_closed")
    assert states[slot_name(9)] == "open"
    chosen = await get(made, ONE, "/markets/spot/slots", state="open", **{"from": slot_name(7), "to": slot_name(9)})
    assert [s["slot"] for s in chosen["items"]] == [slot_name(7), slot_name(8)]


async def test_a_statement_is_the_sum_of_its_slots_and_saves_against_no_market(made: World) -> None:
    statement = await get(made, ONE, f"/participants/{ONE}/statement")
    slots = (await get(made, ONE, f"/participants/{ONE}/settlements"))["items"]
    assert statement["slots"] == len(slots) > 0
    for name in ("total_u", "import_wh", "bought_wh", "baseline_u", "saving_u"):
        assert statement[name] == sum(slot[name] for slot in slots), name
    assert sum(statement["lines"].values()) == statement["total_u"] == statement["balance_u"]
    assert statement["saving_u"] == statement["baseline_u"] - statement["total_u"] > 0
    first = await get(made, ONE, f"/participants/{ONE}/statement", to=slot_name(1))
    assert (first["slots"], first["import_wh"]) == (1, 1200)


async def test_a_correction_is_a_further_version_with_difference_lines(made: World) -> None:
    before = (await get(made, ONE, f"/participants/{ONE}/settlements"))["items"][0]
    member = made.engine.member_of(ONE)
    assert member is not None
    await made.engine.submit(Measure((Reading(member, 0, 1300, 0, 4),), "test"))
    async with made.client(ONE) as client:
        path = f"/participants/{ONE}/settlements"
        one, two, *_ = (await client.get(path, params={"to": slot_name(1)})).json()["items"]
    assert one == before
    assert (two["version"], two["quality"], two["import_wh"]) == (2, "corrected", 1300)
    assert two["difference_u"] == two["total_u"] - one["total_u"] > 0
    assert {k: two["lines"][k] - one["lines"][k] for k in one["lines"]} == two["difference"]
    versions = (await get(made, "auditor", f"/settlements/{slot_name(0)}"))["versions"]
    assert [v["version"] for v in versions] == [1, 2]
    change = {k: versions[1]["accounts_u"][k] - versions[0]["accounts_u"][k] for k in versions[0]["accounts_u"]}
    assert versions[1]["difference_u"] == change
    assert sum(change.values()) == two["difference_u"]  # what the member pays more, the accounts receive
    record = await get(made, "auditor", f"/audit/record/{versions[1]['seq']}")
    assert record["kind"] == "settled"
    assert len(versions[1]["result"]) == 64
    assert versions[1]["result"] != versions[0]["result"]


class OldSlots:
    """A history of two slots that the engine has let go of: one of them corrected once."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def settled(self, member: int, first: int, end: int, limit: int | None = None) -> list[Past]:
        self.asked.append((first, end))
        made = []
        for slot, number, total_u in ((1, 1, 100), (1, 2, 90), (2, 1, 50)):
            version = SettledVersion(number, 10 * slot + number, 0, "settled", ((0, 0, 0, 0),) * 5, 0, {})
            lines = (total_u, *[0] * (N_LINES - 1))
            made.append(Past(slot, version, Settlement((), lines, 7, 0, 0, 0, 0, 0, 0, (), 200)))
        return [past for past in made if first <= past.slot < end]


async def test_slots_the_engine_let_go_of_come_from_history(made: World) -> None:
    old = OldSlots()
    object.__setattr__(made.service, "history", old)
    await made.engine.read(lambda state: [state.slots.pop(slot) for slot in (0, 1, 2)])
    await made.engine.read(lambda state: setattr(state, "dropped_until", 3))
    statement = await get(made, ONE, f"/participants/{ONE}/statement", to=slot_name(3))
    assert (statement["slots"], statement["total_u"], statement["import_wh"]) == (2, 140, 14)
    assert statement["saving_u"] == 400 - 140
    assert old.asked == [(0, 3)]
    async with made.client(ONE) as client:
        pages = await all_pages(client, f"/participants/{ONE}/settlements", 2, to=slot_name(3))
    found = [(item["slot"], item["version"], item["difference_u"]) for page in pages for item in page]
    assert found == [(slot_name(1), 1, 0), (slot_name(1), 2, -10), (slot_name(2), 1, 0)]


async def test_the_network_has_its_state_and_what_is_near_a_limit(made: World) -> None:
    async with made.client("grid") as client:
        network = await client.get("/network")
        assert (await client.get("/network", headers={"If-None-Match": network.headers["etag"]})).status_code == 304
    state = await get(made, "grid", "/network/state")
    assert state["slot"] == slot_name(0)
    assert state["buses"] == [{"bus": "bus-0", "voltage_ppm": 1_000_000}, {"bus": "bus-1", "voltage_ppm": 1_085_000}]
    assert state["branches"] == [{"element": "line-1", "loading_ppm": 874_000}]
    assert (state["loss_wh"], state["values"]) == (5, {"losses_w": 20})
    near = (await get(made, "grid", "/congestion"))["items"]
    assert [(c["element"], c["band"], c["limit_ppm"]) for c in near] == [
        ("bus-1", "amber", 1_100_000),
        ("line-1", "amber", 1_000_000),
    ]
    await get(made, "grid", "/network/state", status=404, at=slot_name(50))


async def test_without_a_network_there_is_none_to_see(made: World) -> None:
    object.__setattr__(made.service, "network", None)
    for path in ("/network", "/network/state", "/congestion"):
        assert (await get(made, "grid", path, status=404))["code"] == "unknown_network"


async def test_the_chain_can_be_computed_anew_from_the_audit_log(made: World) -> None:
    """Whoever keeps a head can check everything before it, with the digests that docs/journal.md describes."""
    async with made.client("auditor") as client:
        records = [record for page in await all_pages(client, "/audit", 10) for record in page]
    head = await get(made, "auditor", "/audit/head")
    assert [record["seq"] for record in records] == list(range(1, head["seq"] + 1))
    assert records[-1]["digest"] == head["digest"]
    assert not any(house in str(records) for house in HOUSES)
    digest = GENESIS_HASH
    async for record in made.service.journal.read(0, 3):
        assert chained(Head(record.seq - 1, digest), record.draft) == record
        told = records[record.seq - 1]
        assert told["body_sha256"] == hashlib.sha256(record.draft.body).hexdigest()
        digest = record.digest


async def test_envelopes_hold_are_answered_and_fall_back_to_the_default(made: World) -> None:
    async with made.client("grid") as client:
        default = await client.get("/envelopes/default")
        limits = {"import_w": 5_000, "export_w": None}
        blind = await client.put("/envelopes/default", json=limits)
        changed = await client.put("/envelopes/default", json=limits, headers={"If-Match": default.headers["etag"]})
        late = await client.put("/envelopes/default", json=limits, headers={"If-Match": default.headers["etag"]})
    assert [a.status_code for a in (blind, changed, late)] == [428, 200, 412]
    assert (changed.json()["revision"], changed.json()["import_w"]) == (1, 5_000)
    assert late.headers["etag"] == changed.headers["etag"]
    own = (await get(made, ONE, f"/participants/{ONE}/envelope"))["items"]
    assert [(e["publication"], e["import_w"], e["export_w"]) for e in own] == [(1, 11_000, None), (0, 5_000, None)]
    async with made.client(ONE) as client:
        for status in ("received", "started"):
            body = {"publication": 1, "status": status}
            answer = await client.post(f"/participants/{ONE}/envelope/receipts", json=body)
            assert answer.status_code == 201
    async with made.client(TWO) as client:
        body = {"publication": 1, "status": "received"}
        assert (await client.post(f"/participants/{TWO}/envelope/receipts", json=body)).status_code == 404
    receipts = (await get(made, "grid", "/envelopes/publications/1/receipts"))["items"]
    assert [(r["participant"], r["status"]) for r in receipts] == [(ONE, "received"), (ONE, "started")]


async def test_readings_are_taken_all_together_or_not_at_all(made: World) -> None:
    good = {"participant": ONE, "slot": slot_name(2), "import_wh": 10, "export_wh": 0, "quality": "good"}
    async with made.client("meter") as client:
        for readings, status in (
            ([good, {**good, "slot": slot_name(60)}], 409),
            ([good, good], 422),
            ([good, {**good, "participant": TWO}], 404),
        ):
            answer = await client.post(
                "/measurements", json={"readings": readings}, headers={"Idempotency-Key": f"m{status}"}
            )
            assert answer.status_code == status
        before = (await get(made, ONE, "/measurements", participant=ONE))["items"]
        for _ in range(2):
            taken = await client.post("/measurements", json={"readings": [good]}, headers={"Idempotency-Key": "m"})
            assert (taken.status_code, taken.json()["accepted"]) == (200, 1)
    after = (await get(made, ONE, "/measurements", participant=ONE))["items"]
    assert [r for r in after if r["slot"] == slot_name(2)] == [{**good, "observed_at": None}]
    assert [r for r in before if r["slot"] == slot_name(2) and r["quality"] == "good"] == []


async def test_time_is_the_markets(made: World) -> None:
    time = await get(made, ONE, "/time")
    assert time["now"] == f"{slot_name(4)[:-3]}01Z"


async def test_time_tells_the_speed_that_the_service_was_started_with(made: World) -> None:
    """Also before engine time is tied to the wall clock, and whatever it was tied to in another life."""
    object.__setattr__(made.service, "speed", 600.0)
    assert (await get(made, ONE, "/time"))["speed"] == 600.0
