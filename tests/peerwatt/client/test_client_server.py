"""Both clients against the real application over real sockets: every method, every role's answers, typed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from peerwatt.client import ApiProblem, AsyncClient, Client, OAuth, RetryPolicy
from peerwatt.wire import (
    BatchOrderIn,
    ClientIn,
    ContractOffer,
    DisputedReadingIn,
    EnvelopeIn,
    KeyIn,
    OrderIn,
    ReadingIn,
    TermsIn,
)
from tests.peerwatt.api.app_world import World, slot_name, world
from tests.peerwatt.client.test_client_endpoints import METHODS

ONE, TWO = "house-01", "house-02"
FAST = RetryPolicy(attempts=3, first_s=0.01, most_s=0.02)


@dataclass
class Running:
    """The world on a port."""

    world: World
    url: str

    def client(self, who: str | None) -> AsyncClient:
        return AsyncClient(self.url, None if who is None else self.world.keys[who], retry=FAST)


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[Running]:
    async with world(folder) as made:
        listening = socket.create_server(("127.0.0.1", 0))  # what comes before the server is up waits in its queue
        config = uvicorn.Config(made.app, lifespan="off", log_level="error", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield Running(made, f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            await made.service.hub.close()
            server.should_exit = True
            await serving


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with _serving(tmp_path) as made:
        yield made


@pytest.mark.slow
async def test_a_trader(running: Running) -> None:
    async with running.client(ONE) as client:
        me = await client.me()
        assert (me.role, me.participants) == ("resident", [ONE])
        names = [market.market async for market in client.markets(limit=1)]
        assert names == ["spot", "intraday"]
        spot = await client.market("spot")
        assert (spot.slot_s, spot.kind, spot.state) == (900, "call", "running")
        open_ = [slot.slot async for slot in client.slots("spot", state="open", limit=2)]
        assert slot_name(8) in open_
        assert (await client.slot("spot", slot_name(8))).state == "open"
        assert (await client.slot("spot", slot_name(0))).state == "settled"

        order = OrderIn(slot=slot_name(9), side="buy", e_wh=700, price_u=210_000, ref="mine")
        ack = await client.enter_order("spot", order, key="k1")
        assert await client.enter_order("spot", order, key="k1") == ack
        with pytest.raises(ApiProblem, match="key_reused"):
            await client.buy("spot", slot_name(9), e_wh=701, price_u=210_000, key="k1")
        kept = await client.order("spot", ack.order_id)
        assert (kept.ref, kept.e_wh, kept.status, kept.participant) == ("mine", 700, "open", ONE)
        assert [level.e_wh for level in (await client.book("spot", slot_name(9))).buy] == [700]
        await client.amend_order("spot", ack.order_id, e_wh=600)
        assert (await client.order("spot", ack.order_id)).remaining_wh == 600
        assert (await client.cancel_order("spot", ack.order_id)).cancelled == [ack.order_id]
        sold = await client.sell("intraday", slot_name(6), e_wh=100, price_u=150_000)
        assert sold.status == "open"
        batch = [
            BatchOrderIn(slot=slot_name(9), side="buy", e_wh=10, price_u=200_000),
            BatchOrderIn(slot=slot_name(9), side="buy", e_wh=10, price_u=900_000_000),
        ]
        answers = (await client.enter_orders("spot", batch)).results
        assert answers[0].order_id and answers[1].code == "price_above_band"
        own = [order.order_id async for order in client.orders("spot", slot=slot_name(9), status="open", limit=1)]
        assert own == [answers[0].order_id]
        assert set((await client.cancel_all("spot", slot=slot_name(9))).cancelled) == set(own)

        assert (await client.price("spot", slot_name(0))).volume_wh > 0
        assert [price.slot async for price in client.prices("spot", to=slot_name(1))] == [slot_name(0)]
        assert [trade async for trade in client.trades("intraday", slot_name(6))] == []
        other = running.world.orders["other"]
        with pytest.raises(ApiProblem, match="404 unknown_order"):
            await client.order("spot", str(other))
        with pytest.raises(ApiProblem, match="403"):
            await client.suspend("I do not like it")


@pytest.mark.slow
async def test_an_account(running: Running) -> None:
    async with running.client(ONE) as client:
        statement = await client.statement(ONE)
        assert statement.participant == ONE and statement.slots > 0
        settled = [line async for line in client.settlements(ONE, limit=2)]
        assert settled[0].slot == slot_name(0) and settled[0].import_wh == 1200
        (bill,) = [bill async for bill in client.bills(ONE)]
        assert bill.provisional and bill.total_u == statement.total_u + sum(
            (bill.lines.fixed, bill.lines.demand, bill.lines.vat)
        )
        assert (await client.bill(ONE, bill.period)).versions == [bill]
        terms = await client.terms(ONE)
        changed = await client.set_terms(ONE, TermsIn(ceiling_u=290_000), etag=terms.etag)
        assert changed.value.ceiling_u == 290_000 and changed.etag != terms.etag
        with pytest.raises(ApiProblem, match="412 stale"):
            await client.set_terms(ONE, TermsIn(ceiling_u=280_000), etag=terms.etag)
        offer = ContractOffer(with_=TWO, role="seller", from_=slot_name(20), to=slot_name(30), share_ppm=250_000)
        offered = await client.offer_contract(ONE, offer)
        assert [c.contract_id async for c in client.contracts(ONE)] == [offered.contract_id]
        async with running.client(TWO) as two:
            agreed = await two.accept_contract(offered.contract_id)
            assert (agreed.status, agreed.seller, agreed.buyer) == ("agreed", ONE, TWO)
        assert (await client.end_contract(agreed.contract_id)).contract_id == agreed.contract_id
        assert [reading.import_wh async for reading in client.readings(ONE, to=slot_name(1))] == [1200]
        dispute = await client.open_dispute(ONE, slot_name(0), "meter", "I was away")
        assert dispute.dispute_id in [d.dispute_id async for d in client.disputes()]
        envelopes = [limit async for limit in client.envelope(ONE)]
        receipt = await client.answer_envelope(ONE, envelopes[0].publication, "received")
        assert receipt.status == "received"
        assert (await client.personal_data(ONE)).data
        async for entry in client.access_log(ONE, limit=1):
            assert entry.client_id
        with pytest.raises(ApiProblem, match="404"):
            await client.statement(TWO)


@pytest.mark.slow
async def test_operators(running: Running) -> None:
    async with running.client("operator") as client:
        assert (await client.suspend("storm", market="spot", expires_at=slot_name(90))).seq > 0
        assert (await client.market("spot")).state == "suspended"
        await client.resume("over", market="spot")
        await client.void_slot("spot", slot_name(10), "wrong tariff")
        assert (await client.slot("spot", slot_name(10))).state == "void"
        assert (await anext(client.slot_settlements(limit=1))).slot == slot_name(0)
        assert (await client.slot_versions(slot_name(0))).versions[0].version == 1
        assert sum((await client.period_accounts("2016-06")).accounts_u.values()) == 0
        first = await anext(client.disputes(status="open"))
        decided = await client.decide_dispute(
            first.dispute_id, True, "right", reading=DisputedReadingIn(import_wh=1000, export_wh=0)
        )
        assert decided.status == "upheld"
        assert (await client.slot_versions(slot_name(0))).versions[-1].version == 2
        reading = ReadingIn(participant=TWO, slot=slot_name(1), import_wh=5, export_wh=0)
        assert (await client.report([reading])).accepted == 1
        await client.declare_default(ONE, "two bills unpaid")
        assert (await client.write_off(ONE)).amount_u > 0
        await client.reinstate(ONE)
        assert (await client.add_participant("house-05")).participant == "house-05"
        assert "house-05" in [member.participant async for member in client.participants(limit=2)]
        made = await client.add_key("house-05", KeyIn(label="hall"))
        assert made.key
        async with AsyncClient(running.url, made.key, retry=FAST) as new:
            assert (await new.me()).participants == ["house-05"]
            assert [key.key_id async for key in client.keys("house-05")] == [made.key_id]
            await client.delete_key(made.key_id)
            with pytest.raises(ApiProblem, match="401"):
                await new.me()
        await client.remove_participant("house-05")
        assert {"auditor", "meter"} <= {role.role async for role in client.roles()}
        assert "peerwatt" in await client.metrics()
    async with running.client("admin") as client:
        await client.remove_participant("house-04")
        with pytest.raises(ApiProblem, match=r"409|422"):
            await client.erase("house-04", confirm="house-03")


@pytest.mark.slow
async def test_grid_and_audit(running: Running) -> None:
    async with running.client("grid") as client:
        network = await client.network()
        assert network.value.version and network.etag
        assert (await client.network_state(at=slot_name(0))).loss_wh == 5
        async for congested in client.congestion(at=slot_name(0)):
            assert congested.band in {"amber", "red"}
        limit = EnvelopeIn(participant=TWO, from_=slot_name(12), to=slot_name(14), import_w=3_000)
        published = await client.publish_envelopes([limit], source="dso")
        assert [e.import_w async for e in client.envelopes(participant=TWO)] == [3_000]
        assert [r async for r in client.receipts(published.publication)] == []
        default = await client.envelope_default()
        new = await client.set_envelope_default(import_w=5_000, export_w=None, etag=default.etag)
        assert (new.value.import_w, new.value.export_w) == (5_000, None)
    async with running.client("auditor") as client:
        head = await client.audit_head()
        records = [record async for record in client.audit(limit=10)]
        assert [record.seq for record in records] == list(range(1, head.seq + 1))
        assert records[-1].digest == head.digest
        assert await client.audit_record(3) == records[2]


@pytest.mark.slow
async def test_an_admin_makes_clients(running: Running) -> None:
    async with running.client("admin") as client:
        desk = await client.add_client(ClientIn(client="homes", role="aggregator", participants=(ONE,)))
        assert (desk.participants, desk.has_secret, desk.revoked_at) == ([ONE], False, None)
        key = await client.add_client_key("homes", label="desk", expires_at="2100-01-01T00:00:00Z")
        assert key.key
        assert [one.key_id async for one in client.client_keys("homes")] == [key.key_id]
        async with AsyncClient(running.url, key.key, retry=FAST) as homes:
            assert (await homes.me()).participants == [ONE]
            changed = await client.set_client_participants("homes", [ONE, TWO])
            assert changed == await client.client("homes")
            assert (await homes.me()).participants == [ONE, TWO]
        secret = await client.set_client_secret("homes")
        async with AsyncClient(running.url, oauth=OAuth(secret.client_id, secret.client_secret), retry=FAST) as homes:
            assert (await homes.me()).client_id == "homes"
            await client.revoke_client("homes")
            with pytest.raises(ApiProblem, match="401"):
                await homes.me()
        revoked = {one.client: one.revoked_at is not None async for one in client.clients(limit=3)}
        assert revoked["homes"] and not revoked["the-grid"]


async def test_everybody_and_the_client_for_threads(running: Running) -> None:
    def ask() -> tuple[str, str, str, list[str]]:
        with Client(running.url) as nobody:
            nobody.health()
            nobody.ready()
            with pytest.raises(ApiProblem, match="401"):
                nobody.me()
        with Client(running.url, running.world.keys[ONE], retry=FAST) as client:
            ack = client.buy("spot", slot_name(11), e_wh=5, price_u=200_000)
            listed = [order.order_id for order in client.orders("spot", limit=1)]
            assert ack.order_id in listed
            return client.version().api, client.time().now, client.me().role, [m.market for m in client.markets()]

    api, now, role, markets = await asyncio.to_thread(ask)
    assert (api, role, markets) == ("v1", "resident", ["spot", "intraday"])
    assert now.endswith("Z")
    with pytest.raises(ApiProblem, match="401"):
        async with AsyncClient(running.url, "pw_no_such", retry=FAST) as client:
            await client.me()


@pytest.mark.slow
async def test_client_credentials(running: Running) -> None:
    clients = running.world.registry.clients
    await clients.add("gateway", "aggregator", participants=[ONE])
    secret = await clients.set_secret("gateway")
    async with AsyncClient(running.url, oauth=OAuth("gateway", secret), retry=FAST) as client:
        assert (await client.me()).client_id == "gateway"
        assert (await client.buy("spot", slot_name(11), e_wh=5, price_u=200_000, participant=ONE)).order_id


def test_every_method_is_tried_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert not {name for name in METHODS if f".{name}(" not in source}
