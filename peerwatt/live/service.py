"""A whole live market in one process: journal, vault, registry, engine, plant, API, stream, broker, history.

Started from the bottom up, ended from the top down; whatever was started is ended, however the start or the run ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import PeerwattError, ServiceError
from peerwatt.clocks import EngineClock, utc_now, utc_now_us
from peerwatt.devices.opening import places
from peerwatt.live.anchor import first_anchor, next_anchor
from peerwatt.live.assembling import Parts, make_app, set_point_sink
from peerwatt.live.beside import Outside
from peerwatt.live.billing import BillKeeper
from peerwatt.live.checking import broker_of, refused_or_ours
from peerwatt.live.collector import seldom_collecting
from peerwatt.live.devices import live_devices
from peerwatt.live.feeder import FeederBooks
from peerwatt.live.genesis import check_servable, engine_config, found, period_terms, slot_prices
from peerwatt.live.guarding import Guard, News, guarded
from peerwatt.live.history_keeper import HistoryKeeper
from peerwatt.live.lateness import StageLateness
from peerwatt.live.listening import address_of, listening
from peerwatt.live.neighbourhood import Neighbourhood
from peerwatt.live.options import PPM, Ended, Options, Started
from peerwatt.live.outside import OutsideClients
from peerwatt.live.planners import Planners
from peerwatt.live.recovery import PlantFile
from peerwatt.live.reports import devices_of

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.journal.protocol import Journal
    from market.journal.vault import Vault
    from peerwatt.api.binding import Binding
    from peerwatt.api.metrics import Metrics
    from peerwatt.api.security import Security
    from peerwatt.devices.guardian_link import GuardianLink
    from peerwatt.gateway.gateway import Gateway
    from peerwatt.live.reports import SlotReport
    from peerwatt.scenario import LoadedScenario
    from peerwatt.system import System

PLANT_FILE = "plant.npz"
HISTORY_FOLDER = "history"
HOUSEKEEPING_S = 5.0
_BROKER_END_S = 3.0
_LEAST_PLANNING_S = 1.0


def serve(
    options: Options,
    started: Callable[[Started], None],
    on_slot: Callable[[SlotReport], None],
    over: Callable[[], None],
    news: News = lambda _: None,
) -> Ended:
    """Serve until the slots are over, or SIGINT or SIGTERM comes; when this returns everything is durable and closed.

    After a scenario's end, which ``over`` is told of, the API stays until somebody says stop. ``news`` is told what
    people should know meanwhile, in a sentence.

    Raises
    ------
    PeerwattError
        With reason and remedy: the scenario, the data folder, the address, the broker's address.
    """
    loaded, system = _prepared(options)
    service = _Service(options, loaded, system, over, news)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, seldom_collecting() as settled:

        def begun(told: Started) -> None:
            settled()
            started(told)

        runner.run(service.run(begun, on_slot))
    service.lateness.save(options.data)
    return Ended(service.lateness.summary(), None if service.guard is None else service.guard.code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for this system
        return None
    return uvloop.new_event_loop


def _prepared(options: Options) -> tuple[LoadedScenario, System]:
    from grid.sources.cache import cache_folder
    from peerwatt.prepare import prepare
    from peerwatt.scenario import load_scenario

    loaded = load_scenario(options.scenario, dict(options.overrides))
    system = prepare(loaded, threads=options.threads, cache_dir=cache_folder())
    check_servable(loaded, system)
    if unknown := sorted(options.outside - set(system.building_ids)):
        raise ServiceError(
            f"--outside names {unknown[0]!r}, which is no building of the scenario",
            remedy=f"buildings are {', '.join(system.building_ids[:10])}"
            + (" ..." if len(system.building_ids) > 10 else ""),
        )
    return loaded, system


class _Service:
    """One life of the service."""

    def __init__(
        self, options: Options, loaded: LoadedScenario, system: System, over: Callable[[], None], news: News
    ) -> None:
        self.options = options
        self.over = over
        self.news = news
        self.system = system
        self.config = engine_config(loaded, system)
        self.stop = asyncio.Event()
        self.lateness = StageLateness()
        self.guard: Guard | None = None

    async def run(self, started: Callable[[Started], None], on_slot: Callable[[SlotReport], None]) -> None:
        """Start, serve, end."""
        from peerwatt.api.metrics import Metrics

        async with AsyncExitStack() as stack:
            stack.enter_context(_signals(self.stop))
            listener = await asyncio.to_thread(refused_or_ours, self.options, self.system)
            stack.callback(listener.close)
            await asyncio.to_thread(_make_folder, self.options.data)
            socket = await self._guardian(stack)
            if self.stop.is_set():
                return
            journal, vault = await self._records(stack)
            clock = EngineClock(self._frozen_us(journal), self.options.factor_ppm)
            books = FeederBooks(self.system)
            engine = await self._engine(journal, vault, clock, books)
            banks, devices = await stack.enter_async_context(
                live_devices(self.system, socket, self.options.factor_ppm / PPM)
            )
            security = await self._security(stack)  # makes the first key, so after what may well be refused
            binding = self._binding(security)
            outside = OutsideClients(self.options.outside)
            await outside.follow(security.registry)
            gateway = self._gateway(engine, clock)
            metrics = Metrics()
            self._show(metrics, engine)

            def told(report: SlotReport) -> None:
                metrics.clearing(driver.market, report.clearing_s)
                on_slot(report)

            driver = Neighbourhood(
                self.system,
                engine,
                clock,
                plant_file=PlantFile(self.options.data / PLANT_FILE, self.config.run_id),
                outside=Outside(outside, self.options.outside_meters),
                books=books,
                on_slot=told,
                on_set_points=None if gateway is None else set_point_sink(gateway),
                banks=banks,
                lateness=self.lateness,
                planners=Planners(self._plan_budget_s(), self.news),
                news=self.news,
            )
            parts = Parts(journal, vault, security, engine, clock)
            keeper = self._history(parts)
            if gateway is not None:
                metrics.watch_mqtt(gateway.link.status)
            app, before_end = make_app(parts, self.system, metrics, keeper, binding, devices)
            writer = await stack.enter_async_context(running_engine(engine, driver))
            await found(engine, self.system)
            again = await driver.recover()
            await driver.warm_up()
            server = await stack.enter_async_context(listening(app, binding, listener, before_end))
            await self._anchor(engine, clock)
            bills = BillKeeper(engine, keeper, period_terms(self.system))
            beside = _beside(security, keeper, bills, gateway, devices)
            tasks = [writer, server, *await stack.enter_async_context(beside)]
            started(self._started(security, address_of(binding, listener), again))
            await self._drive(driver, tasks)

    async def _drive(self, driver: Neighbourhood, tasks: list[asyncio.Task[Any]]) -> None:
        """Let the driver work until it is done; whatever fails beside it ends the service with its error."""
        driving = asyncio.create_task(driver.run(self.stop, self.options.slots))
        try:
            await asyncio.wait({driving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if driving.done() and not driving.exception() and not self.stop.is_set() and self.options.slots is None:
                self.over()
                ending = asyncio.create_task(self.stop.wait())
                await asyncio.wait({ending, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
            for task in (driving, *tasks):
                if task.done():
                    task.result()
            if not driving.done():
                raise ServiceError("a part of the service has ended by itself", remedy="look at the messages before")
        finally:
            driving.cancel()
            with suppress(asyncio.CancelledError, PeerwattError):
                await driving

    # --- its parts, from the bottom up --------------------------------------------------------------------------------

    async def _guardian(self, stack: AsyncExitStack) -> Path | None:
        """The socket of the site's guardian, which is there before the market and until after it."""
        if self.options.guardian is None and self.options.guardian_site is None:
            return None
        wanted = {place.plant.device for place in places(self.system)} - {None}
        guarding = guarded(self.options, frozenset(map(str, wanted)), self.stop, self.news)
        self.guard = await stack.enter_async_context(guarding)
        return self.guard.socket

    async def _records(self, stack: AsyncExitStack) -> tuple[Journal, Vault]:
        from market.journal.opening import open_journal

        journal, vault = await open_journal(self.options.journal or self.options.data)
        stack.push_async_callback(journal.close)
        stack.push_async_callback(vault.close)
        return journal, vault

    async def _security(self, stack: AsyncExitStack) -> Security:
        from peerwatt.api.security import Security

        security = await Security.open(self.options.data, utc_now, registry=self.options.journal)
        stack.push_async_callback(security.close)
        return security

    def _binding(self, security: Security) -> Binding:
        from peerwatt.api.binding import check_binding

        options = self.options
        return check_binding(
            options.host,
            certificate=options.tls_cert,
            private_key=options.tls_key,
            live_keys=security.authenticator.live_keys,
            behind_proxy=options.behind_proxy,
            names=security.names,
        )

    def _frozen_us(self, journal: Journal) -> int:
        """Engine time until the service is ready: of a new market before its first slot, else that of the journal."""
        return 0 if journal.head.seq else first_anchor(self.config, utc_now_us(), self.options.factor_ppm).engine_us

    async def _engine(self, journal: Journal, vault: Vault, clock: EngineClock, books: FeederBooks) -> Engine:
        from market.engine.engine import Engine

        return await Engine.open(
            journal,
            vault,
            clock,
            genesis=self.config,
            prices=slot_prices(self.system),
            wires=books if books.needed else None,
        )

    def _plan_budget_s(self) -> float:
        """Longest time for the planners of a gate, in seconds of the wall clock."""
        if self.options.plan_seconds is not None:
            return self.options.plan_seconds
        return max(self.config.slot_s * PPM / self.options.factor_ppm / 2, _LEAST_PLANNING_S)

    def _gateway(self, engine: Engine, clock: EngineClock) -> Gateway | None:
        if self.options.mqtt is None:
            return None
        from importlib.metadata import version

        from core import keyed_generator
        from hardware.mqtt import Backoff, MqttLink
        from peerwatt.gateway.gateway import Gateway

        settings = broker_of(self.options)
        waits = Backoff(keyed_generator(self.system.scenario.seed, "mqtt", self.config.run_id))
        return Gateway(
            engine,
            MqttLink(settings.with_client_id(f"peerwatt-{self.config.run_id}"), waits),
            clock=clock,
            speed=self.options.factor_ppm / PPM,
            currency=self.system.static.currency,
            version=version("peerwatt"),
            devices=devices_of(self.system),
        )

    def _show(self, metrics: Metrics, engine: Engine) -> None:
        """Figures of the slot cycle: how late its stages are, and how often a building fell back for want of a plan."""
        late, watch = self.lateness, metrics.watch
        watch(
            "peerwatt_stage_late_p50_seconds", "Half of the slots were so late", lambda: late.quantile_s(0.5), "stage"
        )
        watch("peerwatt_stage_late_p99_seconds", "99 of 100 were so late", lambda: late.quantile_s(0.99), "stage")
        watch("peerwatt_stage_late_max_seconds", "The latest", late.max_s, "stage")

        def fallen() -> int:
            return sum(map(len, engine.state.fell_back.values()))

        watch("peerwatt_plan_fallbacks_total", "Slots in which buildings had no plan, summed over them", fallen)
        watch("peerwatt_missed_slots_total", "Slots that were over before their gate", lambda: late.missed)

    def _history(self, parts: Parts) -> HistoryKeeper:
        from peerwatt.history import HistoryWriter
        from peerwatt.wire.times import SlotNames

        names = SlotNames(self.config.start_us, self.config.slot_s)
        keeper = HistoryKeeper(
            HistoryWriter(self.options.data / HISTORY_FOLDER, names), parts.journal, parts.vault, parts.clock
        )
        parts.engine.before_erase.append(keeper.forget)
        return keeper

    async def _anchor(self, engine: Engine, clock: EngineClock) -> None:
        """Let engine time run, and write down how it hangs on the wall clock."""
        last, at_us = await engine.read(lambda state: (state.anchor, state.at_us))
        factor_ppm = self.options.factor_ppm
        if last is None:
            tie = first_anchor(self.config, utc_now_us(), factor_ppm)
        else:
            tie = next_anchor(last, at_us, utc_now_us(), factor_ppm)
        clock.start(max(tie.engine_us, clock()))
        await engine.submit(tie)

    def _started(self, security: Security, base: str, again: int) -> Started:
        static, options, config = self.system.static, self.options, self.config
        first = security.first_key
        start = static.start_utc.replace("+00:00", "Z")
        slots = f"{config.n_slots} slots of {config.slot_s / 60:g} min from {start}"
        speed = f"{options.factor_ppm / PPM:g} times as fast as the wall clock"
        title = f"{static.title or static.name}: {static.rule_words}, {slots}, {speed}"
        addresses = {
            "API": f"{base}/api/v1",
            "documentation": f"{base}/docs",
            "stream": f"{base}/api/v1/stream",
            "metrics": f"{base}/metrics",
            "data": str(options.data),
        }
        if options.mqtt is not None:
            addresses["broker"] = broker_of(options).url
        return Started(
            title,
            addresses,
            static.currency,
            None if first is None else first.text,
            None if first is None else first.file,
            again,
        )


@asynccontextmanager
async def running_engine(engine: Engine, driver: Neighbourhood) -> AsyncIterator[asyncio.Task[None]]:
    """The engine's writer; at the end it answers what waits and takes a snapshot."""
    writer = asyncio.create_task(engine.run(hold=driver.hold))
    try:
        yield writer
    finally:
        await engine.stop()
        with suppress(PeerwattError):  # a broken engine has told its reason to whoever asked it
            await writer


@asynccontextmanager
async def _beside(
    security: Security,
    keeper: HistoryKeeper,
    bills: BillKeeper,
    gateway: Gateway | None,
    devices: GuardianLink | None,
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """What runs beside the market: the registry's housekeeping, history, bills, the broker's link, devices on it."""

    async def housekeeping() -> None:
        while True:
            await security.housekeeping()
            await asyncio.sleep(HOUSEKEEPING_S)

    tasks = [asyncio.create_task(housekeeping()), asyncio.create_task(keeper.run()), asyncio.create_task(bills.run())]
    if gateway is not None:
        tasks.append(asyncio.create_task(gateway.run()))
        if devices is not None:
            from importlib.metadata import version

            from peerwatt.devices.telemetry import Telemetry

            telemetry = Telemetry(devices, gateway.link, utc_now_us, version("peerwatt"))
            tasks.append(asyncio.create_task(telemetry.run()))
    try:
        yield tasks
    finally:
        if gateway is not None:
            with suppress(PeerwattError, TimeoutError):
                await asyncio.wait_for(gateway.stop(), _BROKER_END_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bills.try_posting()
        with suppress(PeerwattError, OSError):
            await keeper.catch_up()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ServiceError(
            f"the data folder {folder} cannot be made: {error.strerror}", remedy="choose another with --data"
        ) from error


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM ask for an orderly end; a second one does not wait for it."""
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
