"""A market under load that is killed again and again, in every way there is; then its journal is held to its word."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from market.engine.engine import Engine
from market.journal.opening import open_journal
from peerwatt.clocks import Stopwatch, utc_now_us
from tests.crash.clients import Client, Memory, Operator
from tests.crash.journal_check import Outcome, check
from tests.crash.lost_writes import Lost, LostWrites
from tests.crash.postgres import Postgres, ServerDiedError
from tests.crash.service import GoneError, PipeService
from tests.crash.spec import START_US, US_PER_S, Spec, config_of, prices_of

MEMBERS = 6
CLIENTS_EACH = 4
OWN_DEATH_S = 8.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life of the service ends.

    Parameters
    ----------
    how
        ``kill``: SIGKILL to the service. ``server_kill``: SIGKILL to all of PostgreSQL. ``server_stop``: ``pg_ctl stop
        -m immediate``. ``power``: SIGKILL to everything, and every unsynced write is lost. ``own``: as ``die_at`` or
        ``fail`` say.
    die_at
        See `tests.crash.spec.Spec`.
    fail
        See ``lost_writes.c``.
    kept
        With ``power``: how probably an unsynced sector reached the disk all the same.
    """

    how: str
    die_at: str = ""
    fail: str = ""
    kept: float = 0.0
    power: bool = False


@dataclass
class Figures:
    """What a campaign did and found."""

    name: str
    lives: int = 0
    kills: int = 0
    power_losses: int = 0
    disk_errors: int = 0
    lived_on: int = 0  # lives that should have ended by themselves, and were ended
    bytes_lost: int = 0
    names_lost: int = 0
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)
    memory: Memory = field(default_factory=Memory)


class SqliteStage:
    """A folder with a SQLite journal; with a library, on a disk that can lose power."""

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.store = str(self.data)
        self._disk = None if library is None else LostWrites(self.data, library)

    def environment(self, ending: Ending) -> dict[str, str]:
        """For the service."""
        return {} if self._disk is None else self._disk.environment(ending.fail)

    async def ready(self, ending: Ending) -> bool:
        """Nothing runs beside the service."""
        return True

    async def crash(self, ending: Ending, chance: random.Random) -> Lost | None:
        """What happens beside the service's own death."""
        if self._disk is None or not ending.power:
            return None
        return await asyncio.to_thread(self._disk.lose_power, chance, ending.kept)

    async def close(self) -> None:
        """Nothing is left running."""


class PostgresStage:
    """A PostgreSQL server of its own; with a library, on a disk that can lose power."""

    def __init__(self, library: Path | None = None) -> None:
        self._server = Postgres()
        self._disk = None if library is None else LostWrites(self._server.data, library, self._server.owner)
        self.store = self._server.url

    def environment(self, ending: Ending) -> dict[str, str]:
        """For the service: its own files hold nothing that must last."""
        return {}

    async def ready(self, ending: Ending) -> bool:
        """Whether the server runs: its disk may kill it while it starts."""
        if self._server.is_running and ending.fail:
            await asyncio.to_thread(self._server.stop)
        if not self._server.is_running:
            environment = {} if self._disk is None else self._disk.environment(ending.fail)
            try:
                await asyncio.to_thread(self._server.start, environment)
            except ServerDiedError:
                if not ending.fail:
                    raise
                return False
        return True

    async def crash(self, ending: Ending, chance: random.Random) -> Lost | None:
        """What happens to the server."""
        if ending.how == "server_stop":
            await asyncio.to_thread(self._server.stop, "immediate")
        elif ending.how == "server_kill" or ending.power:
            await asyncio.to_thread(self._server.kill)
        if self._disk is None or not ending.power:
            return None
        return await asyncio.to_thread(self._disk.lose_power, chance, ending.kept)

    async def close(self) -> None:
        """Nothing is left of the server."""
        await asyncio.to_thread(self._server.close)


Stage = SqliteStage | PostgresStage


class Campaign:
    """Lives of one market, one after the other.

    Parameters
    ----------
    name
        For the table.
    stage
        Where its journal is.
    log
        File for what the service writes on its standard error.
    seed
        Of everything that is left to chance.
    time_goes_on
        Whether engine time runs on while the service is dead, so that gates have passed at its next start.
    longest_s
        Longest life, from the moment it takes requests.
    spec
        Another market than the usual one.
    service
        Another way to reach it than through its pipes.
    """

    def __init__(
        self,
        name: str,
        stage: Stage,
        log: Path,
        *,
        seed: int = 1,
        time_goes_on: bool = False,
        longest_s: float = 0.6,
        spec: Spec | None = None,
        service: PipeService | None = None,
    ) -> None:
        self.figures = Figures(name)
        self._stage = stage
        self._service = service or PipeService(log)
        self._chance = random.Random(seed)
        self._spec = spec or Spec(store=stage.store)
        self._time_goes_on = time_goes_on
        self._longest_s = longest_s
        self._log = log

    async def run(self, endings: Sequence[Ending]) -> Figures:
        """Live and die as told, live once more in peace, and check."""
        watch = Stopwatch()
        if self._time_goes_on:
            self._spec = _replace(self._spec, began_wall_us=utc_now_us())
        try:
            await self._first_life()
            clients = [self._client(i) for i in range(MEMBERS * CLIENTS_EACH)]
            operator = Operator(self._service, self.figures.memory, self._slot_of, random.Random(self._chance.random()))
            tasks = [asyncio.create_task(one.run()) for one in (*clients, operator)]
            try:
                for ending in endings:
                    await self._live(ending)
                    _raise_if_failed(tasks)
                await self._start(Ending("finish"))
                await asyncio.sleep(0.5)
                for one in (*clients, operator):
                    one.stopped = True
                all_done = asyncio.gather(*tasks)
                try:
                    await asyncio.wait_for(all_done, 150.0)
                except TimeoutError as error:
                    raise AssertionError(f"clients wait for the service:\n{self._said()}") from error
            finally:
                for task in tasks:
                    task.cancel()
            await self._service.finish()
            self.figures.outcome = await self._check()
        finally:
            with contextlib.suppress(ProcessLookupError):
                await self._service.kill()
            await self._stage.close()
        self.figures.seconds = watch.elapsed_s()
        return self.figures

    def _client(self, i: int) -> Client:
        member, chance = i % MEMBERS, random.Random(self._chance.random())
        return Client(
            self._service,
            self.figures.memory,
            f"client {i} of {member}",
            member,
            self._slot_of,
            chance,
        )

    def _slot_of(self, at_us: int) -> int:
        return (at_us - START_US) // (self._spec.slot_s * US_PER_S)

    async def _first_life(self) -> None:
        """The members join before anything dies."""
        await self._start(Ending("join"))
        for i in range(MEMBERS):
            reply = await self._service.send({"body": {"do": "join", "participant_id": f"house-{i}"}})
            assert reply["done"][2] == i, reply
        await self._service.finish()

    async def _start(self, ending: Ending) -> None:
        if not await self._stage.ready(ending):
            return
        spec = _replace(self._spec, die_at=ending.die_at)
        is_up = await self._service.start(spec, self._stage.environment(ending))
        if not is_up and ending.how != "own":
            raise AssertionError(f"the service does not start:\n{self._said()}")

    def _said(self) -> str:
        """The end of what the service wrote on its standard error."""
        return self._log.read_text(errors="replace")[-4000:]

    async def _live(self, ending: Ending) -> None:
        """One life, from the start to the end of it."""
        figures = self.figures
        if not self._service.up.is_set():
            await self._start(ending)
        if self._service.up.is_set():
            if ending.how == "own":
                figures.lived_on += not await self._service.ended(OWN_DEATH_S)
            else:
                await asyncio.sleep(self._chance.uniform(0.02, self._longest_s))
        if ending.how in ("server_kill", "server_stop"):
            await self._stage.crash(ending, self._chance)
            if not await self._service.ended():  # it must notice, and stop answering, by itself
                raise AssertionError("the service lives on without its database")
        else:
            await self._service.kill()
            if ending.how == "kill" and self._service.exit_codes[-1] != -signal.SIGKILL:
                figures.memory.wrong.append(f"the service died before it was killed: {self._said()}")
            lost = await self._stage.crash(ending, self._chance)
            if lost is not None:
                figures.bytes_lost += lost.n_bytes
                figures.names_lost += lost.n_names
                figures.power_losses += 1
        figures.lives += 1
        died_of_disk = bool(ending.fail) and "KILL" not in ending.fail
        figures.disk_errors += died_of_disk
        figures.kills += not died_of_disk

    async def _check(self) -> Outcome:
        """Read the journal, then let an engine replay it from the start and from its snapshot."""
        await self._stage.ready(Ending("check"))
        journal, vault = await open_journal(self._stage.store)
        try:
            outcome = await check(journal, vault, self.figures.memory, self._service.heads)
            states = []
            for is_whole in (False, True):
                if is_whole:
                    await journal.drop_snapshots()
                engine = await Engine.open(
                    journal, vault, lambda: 1 << 60, genesis=config_of(self._spec), prices=prices_of
                )
                states.append(engine.state.digest())
                if engine.state.imbalance_u():
                    outcome.wrong.append(f"the accounts sum up to {engine.state.imbalance_u()}, not to zero")
            if len(set(states)) > 1:
                outcome.wrong.append("the state from the snapshot is not the one from the first record on")
        finally:
            await journal.close()
            await vault.close()
        return outcome


def _replace(spec: Spec, **changes: object) -> Spec:
    import msgspec

    return msgspec.structs.replace(spec, **changes)


def _raise_if_failed(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            with contextlib.suppress(GoneError):
                task.result()
