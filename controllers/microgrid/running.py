"""The supervisor over real devices: every island cycle read all, decide once, secure, then command.

The order within a cycle is what makes it safe to be killed at any instant:

1. Every device is read; who has not answered in time is unknown, and not waited for.
2. The supervisor decides.
3. What it decided is on the disk before a frame leaves; the frames are written down as they go.
4. Into each device goes its written safe state: timer, fallback, each read back. ``open``, ``halt`` and ``shed`` leave
   right after it, or without it where it could not be written.
5. Only when all devices were asked follow the other commands, and only to devices whose safe state stands in them;
   ``close`` only if it stands in every one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from controllers.guardian.budget import save_text
from controllers.guardian.pace import Pace
from controllers.guardian.writer import Notes
from controllers.microgrid.image import Command, Decision, Do, Image, Order, State, Switch
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.seeing import image_of
from controllers.microgrid.site import MicrogridSite
from controllers.microgrid.supervisor import Supervisor
from controllers.microgrid.unit import Unit
from controllers.microgrid.wording import URGENT, Setting, fallbacks_of
from core import JournalError

_READ_SHARE = 0.4
_SECURE_SHARE = 0.6
_COMMAND_SHARE = 0.3
_DISK_SHARE = 0.5
"""Of a cycle: what the journal's disk may take before only what is urgent goes out."""
_MOMENT_CYCLES = 2.0
"""A frame that could not leave within so many cycles never does; to close, within one."""
_PAUSE_CYCLES = 5.0
"""Longer between two images means that this process stood still: what it read before is no base for a decision."""
_SNAPSHOT_EVERY = 300
"""Numbers of commands: well below what a restarted supervisor leaves out."""


class Running:
    """One microgrid's cycle, from images to frames.

    Parameters
    ----------
    site
        Its settings.
    supervisor
        New, or restored.
    units
        Its devices by name, the switch as ``switch``; their lines are opened and closed by the caller.
    notes
        The journal, open.
    say
        Told what a person at the terminal should know.
    """

    def __init__(
        self,
        site: MicrogridSite,
        supervisor: Supervisor,
        units: Mapping[str, Unit],
        notes: Notes,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.site = site
        self.supervisor = supervisor
        self.units = units
        self.pace = Pace(site.cycle_s)
        self.ending = asyncio.Event()
        self.journal_why = ""
        self.image: Image | None = None
        self.decision: Decision | None = None
        self._notes = notes
        self._say = say
        self._loads = {load.id for load in site.loads}
        self._orders: list[Order] = []
        self._shown: frozenset[Order] = frozenset()
        self._acknowledged: set[int] = set()
        self._refused: set[int] = set()
        self._contacts = (Switch.UNKNOWN, -1e9)
        self.pauses = 0
        self._seen_s = -1e9
        self._saved: tuple[Any, int] | None = None
        self._background: set[asyncio.Task[Any]] = set()

    # --- from outside -------------------------------------------------------------------------------------------------

    def order(self, order: Order, who: str) -> None:
        """A person's order, for the next cycle."""
        self.note("order", {"order": order.value, "who": who})
        self._orders.append(order)

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write down soon; nobody waits. What is written down later is on the disk later."""
        if not self.journal_why:
            self._later(self._append(kind, dict(body)))

    async def _append(self, kind: str, body: Mapping[str, Any]) -> None:
        try:
            await self._notes.append(kind, body)
        except JournalError as error:
            self.lost(str(error))

    def lost(self, why: str) -> None:
        """The journal takes nothing more: nothing is written any more, and the devices' timers take over (R3)."""
        if not self.journal_why:
            self.journal_why = why
            self._say(f"JOURNAL LOST {why}")
            self.ending.set()

    def _later(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # --- the cycle ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Cycle after cycle, until `ending` is set. Commands nothing at the end: what is written takes over."""
        await self.pace.run(self.cycle, self.ending)
        for task in (*self._background, *self._busy()):
            task.cancel()

    def _busy(self) -> list[asyncio.Task[None]]:
        tasks = [task for unit in self.units.values() for task in (unit.looking, unit.acting)]
        return [task for task in tasks if task is not None and not task.done()]

    async def cycle(self) -> None:
        """One island cycle."""
        loop = asyncio.get_running_loop()
        await self._look()
        seen_s, now_s = self._seen_s, loop.time()
        self._seen_s = now_s
        if now_s - seen_s > _PAUSE_CYCLES * self.site.cycle_s:
            self.pauses += 1
            return  # look once more first
        self.image = self._take_image(now_s)
        if self.site.mode != "armed":
            return
        before = self.decision
        self.decision = decision = self.supervisor.step(self.image)
        saving = self._save(decision)
        now_s = loop.time()
        written = await self._tell(decision, before)
        secure = await self._secure(decision, now_s, written=written)
        if written:
            await self._command(decision, secure, now_s)
        if saving is not None:
            await asyncio.wait({saving}, timeout=self.site.cycle_s)

    async def _look(self) -> None:
        for unit in self.units.values():
            if unit.looking is None or unit.looking.done():
                unit.looking = asyncio.create_task(unit.look())
        looking = {unit.looking for unit in self.units.values() if unit.looking is not None}
        await asyncio.wait(looking, timeout=_READ_SHARE * self.site.cycle_s)

    def _take_image(self, now_s: float) -> Image:
        # An order counts when it was not in the image before: the same one twice takes two cycles.
        orders = tuple(dict.fromkeys(order for order in self._orders if order not in self._shown))
        for order in orders:
            self._orders.remove(order)
        self._shown = frozenset(orders)
        done, refused = frozenset(self._acknowledged), frozenset(self._refused)
        self._acknowledged, self._refused = set(), set()
        hz = self.supervisor.settings.nominal_hz
        image = image_of(self.site, self.units, now_s, hz, orders, done, refused)
        return self._bridged(image)

    def _bridged(self, image: Image) -> Image:
        """A switch that is silent for a moment stands where it stood; one that contradicts itself does not."""
        switch = self.units[SWITCH]
        silent = switch.good("connected") is None and switch.good("x_open") is None
        if not silent:
            self._contacts = image.switch, image.now_s
        elif image.now_s - self._contacts[1] <= self.site.switch_bridge_s:
            return replace(image, switch=self._contacts[0])
        return image

    async def _tell(self, decision: Decision, before: Decision | None) -> bool:
        """Journal and terminal: whatever is decided, and nothing when nothing is; whether it is on the disk."""
        for news in decision.news:
            self._say(f"{news.kind.upper()} {news.text}")
        moved = before is None or decision.state is not before.state
        if not (moved or decision.commands or decision.news or (before is not None and decision.safe != before.safe)):
            return not self.journal_why
        writing = self._later(
            self._append(
                "decision",
                {
                    "state": decision.state.value,
                    "commands": [[c.number, c.do.value, c.device, c.value, c.why] for c in decision.commands],
                    "news": [[news.kind, news.text, dict(news.facts)] for news in decision.news],
                    "safe": dict(decision.safe),
                    "image": _plain(self.image),
                },
            )
        )
        await asyncio.wait({writing}, timeout=_DISK_SHARE * self.site.cycle_s)
        return writing.done() and not self.journal_why

    def _save(self, decision: Decision) -> asyncio.Task[Any] | None:
        """What a restarted process has to know, whenever that changed."""
        snapshot = self.supervisor.snapshot()
        memory, number = snapshot["memory"], snapshot["number"]
        if self._saved is not None and self._saved[0] == memory and number - self._saved[1] < _SNAPSHOT_EVERY:
            return None
        self._saved = memory, number
        return self._later(self._save_text(json.dumps(snapshot), urgent=decision.state is State.LOCKOUT))

    async def _save_text(self, text: str, *, urgent: bool) -> None:
        try:
            await asyncio.to_thread(save_text, self.site.snapshot, text)
        except OSError as error:
            self._saved = None  # once more in the next cycle
            if urgent:
                self._say(f"NOT LATCHED {self.site.snapshot}: {error.strerror}: a restart may forget the lockout")

    # --- to the devices -----------------------------------------------------------------------------------------------

    def _moment(self, command: Command, now_s: float) -> float:
        cycles = 1.0 if command.do is Do.CLOSE else _MOMENT_CYCLES
        return now_s + cycles * self.site.cycle_s

    async def _secure(self, decision: Decision, now_s: float, *, written: bool) -> set[str]:
        """Safe states and what is urgent; the devices in which their safe state stands now.

        What is not ``written`` down yet is not done, unless it is urgent.
        """
        safe = {device: fallbacks_of(device, text, is_load=device in self._loads) for device, text in decision.safe}
        secure: set[str] = set()
        for name, unit in self.units.items():
            if unit.acting is not None and not unit.acting.done():
                continue  # it still waits for an answer of an earlier cycle
            urgent = [c for c in decision.commands if c.device == name and c.do in URGENT]
            work = self._secure_one(unit, safe[name] if written else None, urgent, now_s, secure, decision.state)
            unit.acting = asyncio.create_task(work)
        acting = {unit.acting for unit in self.units.values() if unit.acting is not None}
        await asyncio.wait(acting, timeout=_SECURE_SHARE * self.site.cycle_s)
        return secure

    async def _secure_one(
        self,
        unit: Unit,
        fallbacks: tuple[Setting, ...] | None,
        urgent: list[Command],
        now_s: float,
        secure: set[str],
        state: State,
    ) -> None:
        no_later_s = now_s + _MOMENT_CYCLES * self.site.cycle_s
        if fallbacks is not None and await unit.secure(fallbacks, no_later_s, f"safe state of {state.value}"):
            secure.add(unit.name)
        await self._obey(unit, urgent, now_s)

    async def _command(self, decision: Decision, secure: set[str], now_s: float) -> None:
        all_secure = len(secure) == len(self.units)
        for name, unit in self.units.items():
            mine = [c for c in decision.commands if c.device == name and c.do not in URGENT]
            free = unit.acting is None or unit.acting.done()
            going = [c for c in mine if free and name in secure and (all_secure or c.do is not Do.CLOSE)]
            held = [c for c in mine if c not in going]
            for command in held:
                self.note("held-back", {"device": name, "number": command.number, "why": "a safe state is not written"})
            # Nobody waits for a close that did not leave; everything else is said again if it is still wanted.
            self._refused.update(c.number for c in held if c.do is Do.CLOSE)
            if going:
                unit.acting = asyncio.create_task(self._obey(unit, going, now_s))
        acting = {unit.acting for unit in self.units.values() if unit.acting is not None and not unit.acting.done()}
        if acting:
            await asyncio.wait(acting, timeout=_COMMAND_SHARE * self.site.cycle_s)

    async def _obey(self, unit: Unit, commands: list[Command], now_s: float) -> None:
        for command in commands:
            verdict = await unit.obey(command, self._moment(command, now_s))
            if verdict is True:
                self._acknowledged.add(command.number)
            elif verdict is False:
                self._refused.add(command.number)
            if verdict is not True:
                body = {"device": unit.name, "number": command.number, "refused": verdict is False}
                self.note("not-obeyed", {**body, "why": unit.problem})

    # --- showing ------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What a person wants to see, as plain JSON."""
        pace, decision = self.pace, self.decision
        return {
            "site": self.site.name,
            "mode": self.site.mode,
            "state": self.supervisor.state.value,
            "verified": self.supervisor.verified,
            "image": _plain(self.image),
            "safe": {} if decision is None else dict(decision.safe),
            "written": {name: unit.safe is not None for name, unit in self.units.items()},
            "problems": {name: unit.problem for name, unit in self.units.items() if unit.problem},
            "refreshes": sum(unit.refreshes for unit in self.units.values()),
            "cycle": {
                "length_s": pace.cycle_s,
                "count": pace.count,
                "overruns": pace.overruns,
                "skipped": pace.skipped,
                "pauses": self.pauses,
                "lateness_p99_s": round(pace.lateness_p99_s, 4),
                "lateness_max_s": round(pace.lateness_max_s, 4),
            },
        }


def _plain(image: Image | None) -> dict[str, Any]:
    """An image for people and the journal, with numbers a person can read."""
    if image is None:
        return {}

    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        "switch": image.switch.value,
        "grid": [short(image.grid.v_pu), short(image.grid.f_hz), image.grid.phases_right],
        "island": [short(image.island.v_pu), short(image.island.f_hz), image.island.phases_right],
        "exchange_kw": short(image.exchange_kw),
        "angle_deg": short(image.angle_deg),
        "sources": {x.id: [x.running, x.forming, short(x.p_kw), short(x.soc)] for x in image.sources},
        "loads": {x.id: [x.on, short(x.p_kw)] for x in image.loads},
        "orders": [order.value for order in image.orders],
        "acknowledged": sorted(image.acknowledged),
        "refused": sorted(image.refused),
    }
