"""The two servers that are compared: peerwatt's API on a live market, and the prototype that it has to beat.

``python -m benchmarks.http_servers market|prototype FOLDER``: prints one line of JSON with port and keys, and serves
until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec

MEMBERS = 64
START_US = 1_750_000_000_000_000
SLOT_S = 900


async def _serve(app: Any, told: dict[str, Any]) -> None:
    """uvicorn with uvloop and httptools, until nobody holds our standard input any more."""
    import uvicorn

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn tells by a flag)
        await asyncio.sleep(0.01)
    told["port"] = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps(told), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await task


async def market(folder: Path) -> None:
    """The whole API over a market with a durable SQLite journal, open for orders all the time."""
    from market.engine.commands import Join
    from market.engine.config import EngineConfig, MarketConfig
    from market.engine.engine import Engine
    from market.engine.facts import SlotPrices
    from market.journal.opening import open_journal
    from peerwatt.api.app import create_app
    from peerwatt.api.metrics import Metrics
    from peerwatt.api.rate_limit import RATES, Rate
    from peerwatt.api.security import Security
    from peerwatt.api.security_settings import SecuritySettings
    from peerwatt.api.service import Service
    from peerwatt.api.stream_hub import StreamHub
    from peerwatt.clocks import EngineClock, Stopwatch, utc_now, utc_now_us
    from peerwatt.live.collector import seldom_collecting

    spot = MarketConfig(market_id="spot", rule="uniform_price", opens_s=8 * SLOT_S)
    config = EngineConfig(
        run_id="benchmark", start_us=START_US, slot_s=SLOT_S, n_slots=96, markets=(spot,), max_open_orders=10**9
    )
    journal, vault = await open_journal(folder)
    clock = EngineClock(START_US - 2 * SLOT_S * 1_000_000)
    prices = SlotPrices(((300_000, 80_000, 0, 0, 0, 0, 0),))
    engine = await Engine.open(journal, vault, clock, genesis=config, prices=lambda slot: prices)
    writer = asyncio.create_task(engine.run())
    free = {name: Rate(10**9, 10**9) for name in RATES}
    security = await Security.open(folder, utc_now, settings=SecuritySettings(rates=free))
    keys = []
    for number in range(MEMBERS):
        house = f"house-{number:02d}"
        await engine.submit(Join(house, from_slot=0))
        client = await security.registry.clients.client_for(house, "resident")
        keys.append((await security.registry.clients.add_key(client.id)).text)
    hub = StreamHub(engine.head.seq, _no_snapshot)
    engine.subscribe(hub.publish)
    service = Service(
        engine=engine,
        journal=journal,
        vault=vault,
        registry=security.registry,
        guard=security.guard,
        tokens=security.tokens,
        pager=security.pager,
        hub=hub,
        metrics=Metrics(),
        clock=clock,
        wall=utc_now_us,
        elapsed_s=Stopwatch().elapsed_s,
    )
    with seldom_collecting() as settled:
        settled()
        await _serve(create_app(service, hosts=()), {"keys": keys})
    await engine.stop()
    await writer
    await security.close()
    await journal.close()


async def _no_snapshot(view: object) -> tuple[dict[str, Any], int]:
    return {}, 0


class Order(msgspec.Struct):
    """The prototype's order."""

    slot: str
    side: str
    e_wh: int
    price_u: int


class Batch(msgspec.Struct):
    """The prototype's batch."""

    orders: list[Order]


class Writer(threading.Thread):
    """The prototype's store: one thread that commits what has come in meanwhile, together."""

    def __init__(self, file: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(daemon=True)
        self.inbox: queue.SimpleQueue[tuple[list[tuple[Any, ...]], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._file = file
        self._loop = loop

    def run(self) -> None:
        """Take everything that waits, insert, commit, answer."""
        store = sqlite3.connect(self._file, isolation_level=None)
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=FULL")
        store.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, participant TEXT, key TEXT, slot TEXT, side TEXT, "
            "e_wh INTEGER, price_u INTEGER, at REAL, UNIQUE (participant, key))"
        )
        while (first := self.inbox.get()) is not None:
            group = [first]
            while len(group) < 1000:
                try:
                    more = self.inbox.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    return
                group.append(more)
            store.execute("BEGIN")
            for rows, _ in group:
                store.executemany(
                    "INSERT INTO orders (participant, key, slot, side, e_wh, price_u, at) VALUES (?,?,?,?,?,?,?)", rows
                )
            store.execute("COMMIT")
            self._loop.call_soon_threadsafe(_answer, [future for _, future in group])


def _answer(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def prototype(folder: Path) -> None:
    """FastAPI with a raw body read by msgspec, SQLite in WAL mode with synchronous FULL, group commit in a thread."""
    from fastapi import FastAPI, Header, Request, Response

    one, many = msgspec.json.Decoder(Order), msgspec.json.Decoder(Batch)
    loop = asyncio.get_running_loop()
    writer = Writer(folder / "prototype.sqlite", loop)
    writer.start()
    app = FastAPI()

    async def store(participant: str, key: str, orders: list[Order]) -> None:
        done: asyncio.Future[None] = loop.create_future()
        now_s = time.time()
        rows = [
            (participant, f"{key}/{i}", order.slot, order.side, order.e_wh, order.price_u, now_s)
            for i, order in enumerate(orders)
        ]
        writer.inbox.put((rows, done))
        await done

    async def enter(
        request: Request, market: str, x_api_key: Annotated[str, Header()], idempotency_key: Annotated[str, Header()]
    ) -> Response:
        assert market == "spot"
        await store(x_api_key, idempotency_key, [one.decode(await request.body())])
        return Response(b'{"status":"open"}', 201, media_type="application/json")

    async def enter_many(
        request: Request, market: str, x_api_key: Annotated[str, Header()], idempotency_key: Annotated[str, Header()]
    ) -> Response:
        assert market == "spot"
        await store(x_api_key, idempotency_key, many.decode(await request.body()).orders)
        return Response(b'{"results":[]}', media_type="application/json")

    # Without postponed annotations FastAPI would look for these local types in the module.
    for handler in (enter, enter_many):
        handler.__annotations__ = {
            "request": Request,
            "market": str,
            "x_api_key": Annotated[str, Header()],
            "idempotency_key": Annotated[str, Header()],
            "return": Response,
        }
    app.post("/api/v1/markets/{market}/orders", status_code=201)(enter)
    app.post("/api/v1/markets/{market}/orders:batch")(enter_many)
    await _serve(app, {"keys": [f"house-{number:02d}" for number in range(MEMBERS)]})
    writer.inbox.put(None)


def main() -> None:
    """Serve what the command line names."""
    import uvloop

    which = {"market": market, "prototype": prototype}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(which(Path(sys.argv[2])))


if __name__ == "__main__":
    main()
