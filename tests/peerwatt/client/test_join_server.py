"""The outside bidder over HTTP against the real application: over a restart, with wrong keys, from a command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from core import ServiceError
from market.engine.commands import EnterOrders, Leave, NewOrder
from market.engine.state import State
from peerwatt.api.stream_wire import WireForm
from peerwatt.client import AsyncClient, RetryPolicy
from peerwatt.join_command import add_join
from peerwatt.joining import Bidder, Plan, Profile
from peerwatt.joining.bidder import SlotLine
from peerwatt.joining.http_venue import HttpVenue
from peerwatt.live.stream_state import snapshot_provider
from tests.peerwatt.api.app_world import World, key_of, slot_name, world
from tests.peerwatt.client.misbehaving import Answer, MisbehavingServer
from tests.repo.files import ROOT

ONE, TWO, THREE = "house-01", "house-02", "house-03"
PLAN = Plan(Profile({slot_name(7): 0}, {}, 500), 250_000, 120_000)
QUICK = RetryPolicy(attempts=10_000, first_s=0.01, most_s=0.05)


class Port:
    """The application on a port that stays the same over restarts."""

    def __init__(self, made: World) -> None:
        self.made = made
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.number = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.number}"
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.number))
        config = uvicorn.Config(self.made.app, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve([listening]))

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._task
            self._server = None


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[Port]:
    async with world(folder) as made:
        service, engine, hub = made.service, made.engine, made.service.hub
        hub.ring._present = WireForm(service.names, engine.participant_of)
        hub._snapshots._provider = snapshot_provider(engine, service.names, service.markets, "EUR")
        port = Port(made)
        port.start()
        try:
            yield port
        finally:
            await hub.close()
            await port.stop()


async def _until(changed: asyncio.Event, check: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not check():
            changed.clear()
            await changed.wait()


async def _engine_until(made: World, check: Callable[[State], bool]) -> None:
    """Wait until the market stands so."""
    news = asyncio.Event()
    end = made.engine.subscribe(lambda publication: news.set())
    try:
        async with asyncio.timeout(30):
            while not await made.engine.read(check):
                news.clear()
                await news.wait()
    finally:
        end()


async def _bids(made: World, slot: int, who: str = ONE, ref: str = "join") -> None:
    """Wait until the outside bidder has worked its way to this slot."""
    member = made.engine.member_of(who)

    def there(state: State) -> bool:
        orders = state.markets["spot"].books[slot].orders.values()
        return any(order.member == member and order.ref == ref for order in orders)

    await _engine_until(made, there)


@pytest.mark.slow
async def test_a_bidder_over_a_restart(tmp_path: Path) -> None:
    lines: list[SlotLine] = []
    changed = asyncio.Event()

    def tell(line: SlotLine) -> None:
        lines.append(line)
        changed.set()

    async with _serving(tmp_path) as port:
        made = port.made
        venue = HttpVenue(port.url, made.keys[ONE], market="spot", meter_key=made.keys["meter"], retry=QUICK)
        place = await venue.enter()
        assert (place.participant, place.market, place.currency, place.slot_s) == (ONE, "spot", "EUR", 900)
        bidder = Bidder(venue, PLAN, tell, report_meter=True)
        task = asyncio.create_task(bidder.run(place))
        await _until(changed, lambda: len(lines) == 1)  # slot 7: nothing to trade
        two = made.engine.member_of(TWO)
        assert two is not None
        sale = EnterOrders("spot", two, (NewOrder(6, -1, 400, 100_000),), key_of("sale"))
        await made.engine.submit(sale)
        await _bids(made, 12)
        await port.stop()
        await made.to_slot(6, 1)  # slots 5 and 6 clear while nobody can be told
        port.start()
        await _until(changed, lambda: {slot_name(5), slot_name(6)} <= {line.slot for line in lines})
        await made.to_slot(7, 1)
        one = made.engine.member_of(ONE)
        await _engine_until(made, lambda state: all(one in state.slots[slot].readings for slot in (5, 6)))
        got = {line.slot: line for line in lines}
        sold, unsold = got[slot_name(6)].outcome, got[slot_name(5)].outcome
        assert sold is not None and (sold.bought_wh, sold.sold_wh) == (400, 0)
        assert sold.amount_u is None or 400 * 100 <= sold.amount_u <= 400 * 250
        assert unsold is not None and unsold.e_wh == 0

        task.cancel()
        await asyncio.wait({task})
        withdrawn = await bidder.leave()
        assert withdrawn is not None and withdrawn >= 5
        async with AsyncClient(port.url, made.keys[ONE]) as client:
            left = [order async for order in client.orders("spot", status="open")]
            assert [order.ref for order in left] == [""]  # the one that it had not entered
            filled = [order async for order in client.orders("spot", slot=slot_name(6))]
            assert [order.filled_wh for order in filled] == [400]
            readings = {r.slot: r.import_wh async for r in client.readings(ONE, from_=slot_name(5), to=slot_name(7))}
            assert readings[slot_name(5)] == 500
        await venue.close()


@pytest.mark.slow
async def test_the_command_leaves_cleanly(tmp_path: Path) -> None:
    async with _serving(tmp_path / "served") as port:
        key = tmp_path / "my.key"
        key.write_text(port.made.keys[THREE] + "\n")
        code = (
            "import argparse, sys\nfrom peerwatt.join_command import add_join\n"
            "p = argparse.ArgumentParser(); s = p.add_subparsers()\n"
            "def add(c, n, d, h):\n    q = c.add_parser(n); q.set_defaults(handler=h); return q\n"
            "add_join(s, add); a = p.parse_args(); sys.exit(a.handler(a))\n"
        )
        options = ["--market", "spot", "--buy-below", "0.25", "--sell-above", "0.12", "--constant-wh", "-500"]
        bidder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "join", port.url, "--key-file", str(key), *options,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        assert await _line(bidder) == "house-03 joins spot over HTTP; Ctrl-C leaves\n"
        await _bids(port.made, 12, THREE)
        two = port.made.engine.member_of(TWO)
        assert two is not None
        await port.made.engine.submit(EnterOrders("spot", two, (NewOrder(5, 1, 200, 200_000),), key_of("buy")))
        await port.made.to_slot(5, 1)
        line = await _line(bidder)
        pattern = (
            r"2016-06-01T13:15:00Z  sell 0.500 kWh at least 0.1200  traded 0.200 kWh \(40%\) at 0\.\d{4} EUR/kWh: "
        )
        assert re.match(pattern + r"received 0\.0\d+\n", line), line
        bidder.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(bidder.communicate(), 30)
        assert (bidder.returncode, err) == (0, b"")
        last = out.decode().splitlines()[-1]
        assert re.match(r"1 slots: bought 0.000 kWh, sold 0.200 kWh, received .* 0 orders refused; \d+ open", last), (
            last
        )


@pytest.mark.slow
async def test_the_examples_trade_and_watch(tmp_path: Path) -> None:
    async with _serving(tmp_path) as port, _example("operator_watch.py", port.url, port.made.keys["admin"]) as watch:
        made = port.made
        while not (line := await _line(watch)).startswith("journal at record"):
            assert line in {"spot: uniform_price, running\n", "intraday: continuous_double_auction, running\n"}
        async with _example("bidder_http.py", port.url, made.keys[THREE]) as bidder:
            first = [await _line(bidder) for _ in range(9)]
        assert first[0] == "house-03 bids in spot\n"
        assert all(" is taken" in line for line in first[1:])
        async with _example("bidder_http.py", port.url, made.keys[THREE]) as bidder:
            assert [await _line(bidder) for _ in range(9)] == first  # the same keys bring the same orders
            two = made.engine.member_of(TWO)
            assert two is not None
            await made.engine.submit(EnterOrders("spot", two, (NewOrder(5, -1, 200, 90_000),), key_of("sale")))
            await made.to_slot(5, 1)
            told = [await _line(bidder) for _ in range(2)]
        assert any(line.startswith("2016-06-01T13:15:00Z  bought 200 Wh for 0.0") for line in told), told
        assert (await _line(watch)).startswith("spot 2016-06-01T13:15:00Z  0.200 kWh at 0.")


@asynccontextmanager
async def _example(name: str, url: str, key: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "PEERWATT_URL": url, "PEERWATT_KEY": key, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(ROOT / "examples" / name), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode()


@pytest.mark.slow
async def test_a_wrong_key_and_a_key_of_nobody(tmp_path: Path) -> None:
    async with _serving(tmp_path) as port:
        for key, what in (("pw_no_such", "does not know this key"), (port.made.keys["auditor"], "cannot trade")):
            venue = HttpVenue(port.url, key)
            with pytest.raises(ServiceError, match=rf"(?s)what to do.*|{what}") as e:
                await venue.enter()
            assert what in str(e.value)
            await venue.close()
        venue = HttpVenue(port.url, port.made.keys[ONE])
        with pytest.raises(ServiceError, match="more than one market: spot, intraday"):
            await venue.enter()
        await venue.close()
        venue = HttpVenue(port.url, port.made.keys[ONE], market="dayahead")
        with pytest.raises(ServiceError, match="no market 'dayahead'; it has spot, intraday"):
            await venue.enter()
        await venue.close()
        member = port.made.engine.member_of(ONE)
        assert member is not None
        await port.made.engine.submit(Leave(member))
        venue = HttpVenue(port.url, port.made.keys[ONE], market="spot")
        place = await venue.enter()
        with pytest.raises(ServiceError, match="make you a member"):
            await Bidder(venue, PLAN, lambda line: None).run(place)
        await venue.close()


async def test_nobody_there_and_somebody_else_there() -> None:
    with MisbehavingServer() as nobody:
        url = nobody.url
    for where, what in ((url, "is `peerwatt serve` running there"),):
        venue = HttpVenue(where, "pw_x_y")
        with pytest.raises(ServiceError) as e:
            await venue.enter()
        assert what in str(e.value)
        await venue.close()
    for act in (Answer(200, b"<html>"), Answer(404, b"not here")):
        with MisbehavingServer(act) as other:
            venue = HttpVenue(other.url, "pw_x_y")
            with pytest.raises(ServiceError, match="give the address of `peerwatt serve`"):
                await venue.enter()
            await venue.close()


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)

    def add(commands: object, name: str, summary: str, handler: Callable[..., int]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, exit_on_error=False)  # type: ignore[attr-defined]
        command.set_defaults(handler=handler)
        return command

    add_join(parser.add_subparsers(), add)
    return parser.parse_args(["join", *words])


PRICES = ["--buy-below", "0.25", "--sell-above", "-0.000001"]


def test_prices_are_exact() -> None:
    args = _arguments(*PRICES, "--constant-wh", "5")
    assert (args.buy_below, args.sell_above) == (250_000, -1)
    for wrong in ("0.0000001", "nan", "inf", "a quarter", "1e30"):
        with pytest.raises((argparse.ArgumentError, SystemExit)):
            _arguments("--buy-below", wrong, "--sell-above", "0.1", "--constant-wh", "5")


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEERWATT_URL", "PEERWATT_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "two.key").write_text("pw_a\npw_b\n")
    cases = [
        ([], "no server is named"),
        (["http://127.0.0.1:1"], "no API key"),
        (["http://127.0.0.1:1", "--key-file", str(tmp_path / "none")], "cannot be read"),
        (["http://127.0.0.1:1", "--key-file", str(tmp_path / "two.key")], "holds 2 lines"),
    ]
    for words, what in cases:
        args = _arguments(*words, *PRICES, "--constant-wh", "5")
        with pytest.raises(ServiceError, match=f"{what}(?s:.*)what to do"):
            args.handler(args)
