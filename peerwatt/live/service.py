"""A whole live market in one process: journal, vault, registry, engine, plant, API, stream, broker, history.

Started from the bottom up, ended from the top down; whatever was started is ended, however the start or the run ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import PeerwattError, ServiceError
from peerwatt.clocks import EngineClock, Stopwatch, utc_now, utc_now_us
from peerwatt.live.genesis import check_servable, engine_config, found, slot_prices
from peerwatt.live.neighbourhood import Neighbourhood, Outside
from peerwatt.live.outside import OutsideClients
from peerwatt.live.recovery import PlantFile

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.journal.protocol import Journal
    from market.journal.vault import Vault
    from peerwatt.api.security import Security
    from peerwatt.live.reports import SlotReport
    from peerwatt.scenario import LoadedScenario
    from peerwatt.system import System

PLANT_FILE = "plant.npz"
ANCHOR_FILE = "anchor.json"
HISTORY_FOLDER = "history"
HOUSEKEEPING_S = 5.0
PPM = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is to be served, and how.

    Parameters
    ----------
    scenario, overrides
        Which scenario, and values laid over it.
    data
        The data folder.
    factor_ppm
        Millionths of an engine second per second of the wall clock.
    host, port, tls_cert, tls_key, behind_proxy
        Where to listen; see `peerwatt.api.binding.check_binding`. Port 0 takes a free one.
    journal
        ``postgresql://...`` instead of files in the data folder.
    mqtt, mqtt_password
        The broker, if there is one.
    outside, outside_meters
        Buildings left to outside clients, and whether these send their meter readings.
    slots
        Stop after so many.
    threads
        Of the power flow.
    """

    scenario: str
    data: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    factor_ppm: int = PPM
    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    journal: str | None = None
    mqtt: str | None = None
    mqtt_password: str | None = None
    outside: frozenset[str] = frozenset()
    outside_meters: bool = False
    slots: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Started:
    """What people have to know of a service that has just started.

    Parameters
    ----------
    title
        One line: what is served, how fast.
    addresses
        Where, by what.
    currency
        ISO 4217 code.
    first_key, key_file
        The admin's key, at the first start only.
    computed_again
        Slots of the plant that had to be computed again.
    """

    title: str
    addresses: Mapping[str, str]
    currency: str
    first_key: str | None
    key_file: Path | None
    computed_again: int


def serve(options: Options, started: Callable[[Started], None], on_slot: Callable[[SlotReport], None]) -> None:
    """Serve until the slots are over, or SIGINT or SIGTERM comes; when this returns everything is durable and closed.

    After a scenario's end the API stays, until somebody says stop.

    Raises
    ------
    PeerwattError
        With reason and remedy: the scenario, the data folder, the address, the broker's address.
    """
    loaded, system = _prepared(options)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_Service(options, loaded, system).run(started, on_slot))


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

    def __init__(self, options: Options, loaded: LoadedScenario, system: System) -> None:
        self.options = options
        self.system = system
        self.config = engine_config(loaded, system)
        self.stop = asyncio.Event()

    async def run(self, started: Callable[[Started], None], on_slot: Callable[[SlotReport], None]) -> None:
        """Start, serve, end."""
        options, system = self.options, self.system
        async with AsyncExitStack() as stack:
            stack.enter_context(_signals(self.stop))
            await asyncio.to_thread(_make_folder, options.data)
            journal, vault = await self._records(stack)
            security = await self._security(stack)
            clock = EngineClock(self._first_us(), options.factor_ppm)
            engine = await self._engine(stack, journal, vault, clock)
            outside = OutsideClients(options.outside)
            await outside.follow(security.registry)
            ...
