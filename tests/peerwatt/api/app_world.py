"""A small live market behind a real application: two markets, four members, a network, a key for every role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import JournalError
from core.slots import SlotGrid
from market.engine.commands import (
    EnterOrders,
    EnvelopeRow,
    Join,
    Key,
    Measure,
    MeasureNetwork,
    NewOrder,
    OpenDispute,
    PublishEnvelopes,
    Reading,
    Tick,
)
from market.engine.config import EngineConfig, MarketConfig
from market.engine.engine import Engine
from market.engine.facts import SlotPrices
from market.journal.memory import MemoryJournal, MemoryVault
from market.settlement import PeriodTerms
from market.tariffs import TariffSpec, TermsSpec, resolve_contract
from peerwatt import wire
from peerwatt.api.app import create_app
from peerwatt.api.metrics import Metrics
from peerwatt.api.openapi import document
from peerwatt.api.operation import Operation
from peerwatt.api.paging import Pager
from peerwatt.api.principal import Authenticator, Guard
from peerwatt.api.rate_limit import RATES, Rate, RateLimiter
from peerwatt.api.service import DevicesPort, Service
from peerwatt.api.stream_hub import StreamHub, StreamLimits
from peerwatt.api.tokens import TokenEndpoint, TokenIssuer
from peerwatt.history import HistoryWriter
from peerwatt.live.history_keeper import HistoryKeeper
from peerwatt.store.registry import Registry
from peerwatt.wire.times import SlotNames
from tests.peerwatt.devices.stand_in import StandIn

US = 1_000_000
START = datetime(2016, 6, 1, 12, tzinfo=UTC)
START_US = int(START.timestamp()) * US
SLOT_S = 900
SLOTS = 96
HOUSES = ("house-01", "house-02", "house-03", "house-04")
WALL = datetime(2026, 3, 1, 9, tzinfo=UTC)
SECRET = bytes(range(32))
FREE = Rate(1_000_000, 1_000_000)

CONFIG = EngineConfig(
    run_id="test",
    start_us=START_US,
    slot_s=SLOT_S,
    n_slots=SLOTS,
    markets=(
        MarketConfig(market_id="spot", rule="uniform_price", opens_s=8 * SLOT_S, gate_s=0),
        MarketConfig(market_id="intraday", rule="continuous_double_auction", opens_s=4 * SLOT_S, gate_s=60),
    ),
    settle_after_s=SLOT_S,
    keep_slots=48,
)
PRICES = SlotPrices(contracts=((300_000, 80_000, 60_000, 30_000, 0, 0, 20_000),), loss_u=50_000)
TARIFF = TermsSpec(
    TariffSpec(300_000), TariffSpec(80_000), full_import_per_kwh=0.06, local_import_per_kwh=0.03,
    levies_per_kwh=(("levy", 0.02),), fixed_per_day=0.13, demand_per_kw_month=2.05, vat_percent=19,
)  # fmt: skip
GRID = SlotGrid(START, SLOT_S, SLOTS)
BILLING = PeriodTerms(GRID, "Europe/Berlin", (resolve_contract([TARIFF], GRID, "Europe/Berlin"),))
NETWORK = wire.NetworkOut(
    name="two buses",
    version="5d2f0c7a9b11",
    buses=[
        wire.BusOut("bus-0", 400_000_000, 900_000, 1_100_000),
        wire.BusOut("bus-1", 400_000_000, 900_000, 1_100_000, HOUSES),
    ],
    branches=[wire.BranchOut("line-1", "line", "bus-0", "bus-1", rating_ma=200_000)],
)


@dataclass
class HandClock:
    """Engine time that a test sets by hand."""

    now_us: list[int]

    def __call__(self) -> int:
        return self.now_us[0]

    def wall_s(self, engine_us: int) -> float:
        """Nothing comes of itself soon."""
        return 3600.0


def slot_name(slot: int) -> str:
    """A slot's name on the wire."""
    return (START + timedelta(seconds=slot * SLOT_S)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class World:
    """The application and what stands behind it; ``keys`` are by role, and by participant for residents."""

    app: Any
    service: Service
    engine: Engine
    registry: Registry
    now_us: list[int]
    keys: dict[str, str] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)
    whole: bool = False

    def client(self, who: str | None, **headers: str) -> httpx.AsyncClient:
        """A client of a role, of a participant's resident, or of nobody.

        Its bodies come in two parts, unless ``whole``: then at once, as from a client on a network mostly.
        """
        if who is not None:
            headers["X-API-Key"] = self.keys.get(who, who)
        transport = httpx.ASGITransport(app=at_once(self.app) if self.whole else self.app, client=("192.0.2.7", 4711))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=headers)

    async def to_slot(self, slot: int, seconds: int = 0) -> None:
        """Let engine time go on to ``seconds`` after a slot's start."""
        self.now_us[0] = START_US + (slot * SLOT_S + seconds) * US
        await self.engine.submit(Tick())


def at_once(app: Any) -> Any:
    """The application behind a server that has a request's whole body when it asks for it."""

    async def served(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def whole() -> Any:
            return parts.pop() if parts else await receive()

        await app(scope, whole, send)

    return served


def key_of(text: str) -> Key:
    """An idempotency key for commands made by tests."""
    return Key(text.encode().ljust(16, b"."), b"request.........")


@asynccontextmanager
async def world(
    folder: Path,
    *,
    rates: dict[str, Rate] | None = None,
    history: bool = True,
    stream_valid_s: float | None = None,
    wrap: Callable[[Engine], Any] = lambda engine: engine,
    devices: DevicesPort | None = None,
    elapsed_s: Callable[[], float] = lambda: 0.0,
    past: bool = False,
) -> AsyncIterator[World]:
    """A market at 13:00 whose first slots are settled; the others are open.

    With ``past``, slots that the engine lets go are kept in ``folder``.
    """
    now_us = [START_US - SLOT_S * US]
    clock = HandClock(now_us)
    journal, vault = MemoryJournal(), MemoryVault()
    engine = await Engine.open(journal, vault, clock, genesis=CONFIG, prices=lambda slot: PRICES)
    running = await _run(engine)
    keys = await _put_registry(folder / "registry.sqlite")
    registry = await Registry.open(folder / "registry.sqlite", lambda: WALL)
    issuer = TokenIssuer(SECRET)
    limiter = RateLimiter(lambda: 0.0, dict.fromkeys(RATES, FREE) if rates is None else rates)
    authenticator = await Authenticator.open(registry, lambda: WALL, issuer)
    used = wrap(engine)
    hub = StreamHub(engine.head.seq, _snapshot, limits=StreamLimits(heartbeat_s=0.4, grace_s=0.1))
    engine.subscribe(hub.publish)
    keeper = None
    if past:
        writer = HistoryWriter(folder / "history", SlotNames(START_US, SLOT_S))
        keeper = HistoryKeeper(writer, journal, vault, clock)
        engine.before_erase.append(keeper.forget)
    service = Service(
        engine=used,
        journal=journal,
        vault=vault,
        registry=registry,
        guard=Guard(authenticator, limiter),
        tokens=TokenEndpoint(registry, issuer, limiter, lambda: WALL),
        pager=Pager(SECRET),
        hub=hub,
        metrics=Metrics(),
        clock=clock,
        wall=lambda: int(WALL.timestamp()) * US,
        elapsed_s=elapsed_s,
        network=NETWORK,
        history=keeper,
        billing=BILLING,
        stream_valid_s=stream_valid_s,
        devices=StandIn() if devices is None else devices,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peerwatt.api.app.document", _described)
        made = World(create_app(service, hosts=()), service, engine, registry, now_us, keys)
    await _fill(made, history=history)
    try:
        yield made
    finally:
        await hub.close()
        await authenticator.close()
        await registry.close()
        await running()


_DESCRIBED: dict[tuple[int, str], dict[str, Any]] = {}


def _described(operations: tuple[Operation, ...], version: str) -> dict[str, Any]:
    """The description of the API, made once by a process: most of what an application takes to be made."""
    key = (id(operations), version)
    if key not in _DESCRIBED:
        _DESCRIBED[key] = document(operations, version)
    return _DESCRIBED[key]


_REGISTRY: list[tuple[bytes, dict[str, str]]] = []  # made once by a process: the file, and the keys in it


async def _put_registry(place: Path) -> dict[str, str]:
    """Put a registry with a client for every role at ``place``; returns their keys."""
    if not _REGISTRY:
        registry = await Registry.open(place, lambda: WALL)
        keys = await _clients(registry)
        await registry.close()
        _REGISTRY.append((await asyncio.to_thread(place.read_bytes), keys))
    data, keys = _REGISTRY[0]
    await asyncio.to_thread(place.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(place.write_bytes, data)
    return dict(keys)


async def _clients(registry: Registry) -> dict[str, str]:
    clients, keys = registry.clients, {}
    for house in HOUSES:
        await clients.client_for(house, "resident")
        keys[house] = (await clients.add_key(f"{house}~resident")).text
    for role in ("operator", "grid", "auditor", "technician", "admin"):
        await clients.add(f"the-{role}", role)
        keys[role] = (await clients.add_key(f"the-{role}")).text
    await clients.add("agg", "aggregator", participants=HOUSES[1:3])
    keys["aggregator"] = (await clients.add_key("agg")).text
    await clients.add("reader", "meter", participants=HOUSES[:1])
    keys["meter"] = (await clients.add_key("reader")).text
    return keys | {"resident": keys[HOUSES[0]]}


async def _snapshot(view: object) -> tuple[dict[str, Any], int]:
    return {}, 1_000_000


async def _run(engine: Engine) -> Callable[[], Awaitable[None]]:
    """Run the writer; what is returned stops it."""
    task = asyncio.create_task(engine.run())

    async def stop() -> None:
        await engine.stop()
        with suppress(JournalError):  # a test broke it
            await task

    return stop


async def _fill(made: World, *, history: bool) -> None:
    engine = made.engine
    for house in HOUSES:
        await engine.submit(Join(house, from_slot=0))
    await made.to_slot(-1, 30)
    if not history:
        return
    one, two = engine.member_of(HOUSES[0]), engine.member_of(HOUSES[1])
    assert one is not None and two is not None
    await engine.submit(EnterOrders("spot", one, (NewOrder(0, 1, 1000, 250_000),), key_of("a")))
    await engine.submit(EnterOrders("spot", two, (NewOrder(0, -1, 800, 100_000),), key_of("b")))
    await made.to_slot(0)
    await made.to_slot(1, 1)
    readings = tuple(Reading(m, 0, *wh) for m, wh in ((one, (1200, 0)), (two, (0, 800))))
    await engine.submit(Measure(readings, "test"))
    await engine.submit(MeasureNetwork(0, 5, {"v_pu_milli": [1000, 1085], "loading_permille": [874], "losses_w": 20}))
    for slot in (2, 3, 4):
        await made.to_slot(slot, 1)
    await engine.submit(OpenDispute(one, 0, "network", "too much", key_of("d")))
    await engine.submit(PublishEnvelopes((EnvelopeRow(one, 4, 40, 11_000, None),), "dso", "the-grid"))
    for name, member, side, price in (("own", one, 1, 200_000), ("other", two, -1, 250_000)):
        reply = await engine.submit(EnterOrders("spot", member, (NewOrder(8, side, 500, price),), key_of(name)))
        made.orders[name] = reply.answer[0].order  # type: ignore[union-attr]
