"""One device of the site as the guardian runs it: read, judged, and written to when it is armed.

A device has at most one task at work at a time, so what is read is never half of what is being written. A dead device
keeps its own task waiting and nobody else's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from controllers.commissioning.record import RecordStore
from controllers.guardian.arbiter import Lease
from controllers.guardian.decide import Decisions, DeviceImage, Wish
from controllers.guardian.envelope import Rule
from controllers.guardian.foreign import changed, left_behind, registers_of
from controllers.guardian.held import Held
from controllers.guardian.meeting import meet
from controllers.guardian.modes import obstacles_to_arming
from controllers.guardian.settings import DeviceSettings, Mode, OnForeignWrite, SiteSettings
from controllers.guardian.soc_guard import SocState, guarded
from controllers.guardian.writer import Ended, Notes, Outcome, Why, Writer
from core import DeviceError
from core.quality import Reading
from hardware.driver import Driver, Frame, Group, Identity, Sample, Span, Step
from hardware.modbus.line import Line, Priority
from hardware.watch import Watch, watch_for
from hardware.watch_checks import WatchSettings

_SLOW_EVERY_S = 60.0
_EARLY = 0.5  # of a cycle: a refresh that is nearly due is done now


class Hub(Protocol):
    """What a device's runtime needs of its guardian."""

    notes: Notes

    def raise_alarm(self, device: str, alarm: str, why: str) -> bool:
        """Say that something is wrong; said once until it is cleared. Returns whether it is news."""
        ...

    def clear_alarm(self, device: str, alarm: str) -> None:
        """It is right again."""
        ...

    def move(self, device: str, mode: Mode, who: str, why: str) -> None:
        """Bring a device down into a mode."""
        ...

    def writes_stopped(self) -> str:
        """Why nothing may be written to anybody; empty if it may."""
        ...

    def lives(self, lease: Lease) -> bool:
        """Whether a lease still counts."""
        ...

    async def spend(self, device: str, frames: list[Frame], limit: int) -> str:
        """Count writes against the day's budget, durably; why they may not be, or empty."""
        ...

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write down soon; nobody waits."""
        ...

    def journal_lost(self, why: str) -> None:
        """The journal takes nothing more."""
        ...


class Unit:
    """One device.

    Parameters
    ----------
    settings, site
        Its own settings and the site's.
    line
        Where it is; may be shared with other units.
    records
        Commissioning records.
    hub
        The guardian.
    """

    def __init__(
        self, settings: DeviceSettings, site: SiteSettings, line: Line, records: RecordStore, hub: Hub
    ) -> None:
        self.settings = settings
        self.id = settings.id
        self.line = line
        self.mode = Mode.OBSERVE
        self.driver: Driver | None = None
        self.held: dict[str, Held] = {}
        self.readings: dict[str, Reading] = {}
        self.soc: SocState | None = None if settings.soc is None else SocState()
        self.problem = "it has not been seen yet"
        self.obstacles: tuple[str, ...] = ("it has not been seen",)
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.was_armed = False
        self._cycle_s = site.cycle_s
        self._records = records
        self._hub = hub
        self._watch: Watch | None = None
        self._identity: Identity | None = None
        self._met = -1  # generation of the line in which the driver was made
        self._seen = -1  # generation in which everything that matters was read
        self._slow_s = float("-inf")
        self._silent_s = float("-inf")  # when it last failed to answer
        self._orders = itertools.count(1)
        self._deadline_s = 3.0 * settings.timeout_s

    # --- looking ------------------------------------------------------------------------------------------------------

    async def turn(self, decided: asyncio.Future[Decisions], seen: asyncio.Event) -> None:
        """One cycle of this device: read it, say so, and when all is decided carry out what concerns it."""
        try:
            await self.observe()
        finally:
            seen.set()
        await self.apply((await asyncio.shield(decided)).get(self.id, {}))

    def age(self) -> None:
        """Let what is known grow old: a reading that hangs must not keep the last one young."""
        if self._watch is not None:
            self.readings = self._watch.judge(asyncio.get_running_loop().time(), {})

    @property
    def busy(self) -> bool:
        """Whether its task is still at work."""
        return self.task is not None and not self.task.done()

    @property
    def is_current(self) -> bool:
        """Whether its state was read since its line was made: without that nothing is written (R27)."""
        return self.driver is not None and self._seen == self.line.generation and not self.problem

    async def observe(self) -> None:
        """Read it, judge what came, compare with what we wrote. Never raises for trouble of device or line."""
        loop = asyncio.get_running_loop()
        generation = self.line.generation
        if self.driver is None or self._met != generation:
            await self._meet(generation)
        driver, watch = self.driver, self._watch
        if driver is None or watch is None:
            return
        fast = dict.fromkeys((*driver.spans(Group.FAST), *(s for held in self.held.values() for s in held.checks)))
        slow: tuple[Span, ...] = ()
        if self._slow_s + _SLOW_EVERY_S <= loop.time():
            slow = (*driver.spans(Group.SLOW), *driver.spans(Group.ONCE))  # an update may come without a reconnect
            self._slow_s = loop.time()
        samples = {span: await self._read(span) for span in dict.fromkeys((*fast, *slow))}
        new_line = self.line.generation != generation
        if new_line:  # what came may be of before a restart and of after it
            samples = {
                span: replace(sample, words=None, problem="the line was lost") for span, sample in samples.items()
            }
        self.readings = watch.judge(loop.time(), driver.decode(samples))
        if driver.identity != self._identity:  # seen while reading: an update without a reconnect
            self._recognised(driver, self._identity)
        failed = next((samples[span] for span in fast if samples[span].words is None), None)
        self.problem = "" if failed is None else failed.problem or "it could not be read"
        self._guard_soc(driver)
        if self._met != generation:
            self.problem = self.problem or "it has not been recognised since the line was lost"
        if failed is None and self._met == generation:
            self._seen = generation
            self._compare(registers_of(samples.values()), generation)
            self._hub.clear_alarm(self.id, "lost")
            self._check_effects()
            return
        # It may have restarted, with other firmware too, without its line having noticed: look at all of it next time.
        self._silent_s, self._slow_s = loop.time(), float("-inf")
        if self.mode is Mode.ARMED:
            self._hub.raise_alarm(self.id, "lost", self.problem)

    async def _read(self, span: Span) -> Sample:
        return await self.line.read(self.settings.unit, span, deadline_s=self._deadline_s)

    async def _meet(self, generation: int) -> None:
        """Recognise the device, for the first time or after its line was lost."""
        try:
            driver = await meet(self.settings.profile, self._read)
        except DeviceError as error:
            self.problem = error.message
            return
        if self.line.generation != generation:
            return
        before = self.driver
        self.line.gap_s = max(self.line.gap_s, driver.gap_s)
        self._met = generation
        if (
            before is not None
            and self._identity == driver.identity
            and before.controls.keys() == driver.controls.keys()
        ):
            self.driver = driver
            return
        self._recognised(driver, self._identity)

    def _recognised(self, driver: Driver, before: Identity | None) -> None:
        """Another device, firmware or map than before, or the first: everything that was known of it is void."""
        self.driver, self._identity = driver, driver.identity
        self._watch = watch_for(driver, WatchSettings(cycle_s=self._cycle_s))
        if before is None:
            self.look_up_records()
        else:
            self._hub.raise_alarm(self.id, "identity-changed", f"it was {before}, it is {driver.identity}")
            if self.mode in {Mode.ARMED, Mode.REHEARSE}:
                self._hub.move(self.id, Mode.OBSERVE, "guardian", "it is another device, firmware or map than before")
            self.look_up_records()

    def look_up_records(self) -> None:
        """Find out anew what stands in the way of arming, and what the records say of its controls."""
        driver = self.driver
        found = {
            name: None if driver is None else self._records.valid_for(driver.identity, name)
            for name in self.settings.controls
        }
        self.obstacles = obstacles_to_arming(self.settings, driver, found, cycle_s=self._cycle_s)
        if driver is None or self.mode is Mode.ARMED:
            return
        self.held = {}
        for name, wanted in self.settings.controls.items():
            control = driver.controls.get(name)
            if control is None:
                continue
            try:
                rule = Rule.of(control, wanted, clamp=self.settings.out_of_range == "clamp", cycle_s=self._cycle_s)
            except ValueError:
                continue  # stands among the obstacles
            held = self.held[name] = Held(control, wanted, rule)
            record = found[name]
            measured = None if record is None else record.controls[name].effect_s
            held.effect_s = wanted.effect_s or max(measured or held.effect_s, self._cycle_s)

    def _guard_soc(self, driver: Driver) -> None:
        settings, state = self.settings.soc, self.soc
        if settings is None or state is None:
            return
        now_s = asyncio.get_running_loop().time()
        capacity_wh = settings.capacity_wh or driver.ratings.capacity_wh
        power = self.readings.get(settings.counted_by)
        self.soc = guarded(settings, state, now_s, self.readings.get("soc"), power, capacity_wh)
        if self.soc.apart:
            self._hub.raise_alarm(
                self.id, "soc-disagrees", f"counted {self.soc.counted:.3f}, reported otherwise: nothing is discharged"
            )
        else:
            self._hub.clear_alarm(self.id, "soc-disagrees")

    # --- what stands in it --------------------------------------------------------------------------------------------

    def _compare(self, registers: Mapping[tuple[int, int], int], generation: int) -> None:
        """Hold what was read against what we wrote (R15)."""
        now_s = asyncio.get_running_loop().time()
        for name, held in self.held.items():
            difference = changed(held.ours, registers)
            if not difference:
                self._hub.clear_alarm(self.id, f"foreign-write:{name}")
                continue
            timer_over = now_s - held.confirmed_s >= self.settings.timer_s
            may_have_restarted = held.generation != generation or held.confirmed_s < self._silent_s
            held.ended(now_s)
            if timer_over or may_have_restarted:
                self._hub.note("alarm", {"device": self.id, "alarm": f"ended:{name}", "why": difference})
                continue
            self._foreign(name, held, difference, now_s)

    def _foreign(self, name: str, held: Held, difference: str, now_s: float) -> None:
        held.rivalry, policy = held.rivalry.again(self.settings.on_foreign_write, now_s)
        self._hub.clear_alarm(self.id, f"foreign-write:{name}")  # each one is news
        self._hub.raise_alarm(self.id, f"foreign-write:{name}", f"somebody else wrote: {difference}")
        if self.mode is not Mode.ARMED:
            return
        if policy is OnForeignWrite.ALARM:
            self._hub.move(self.id, Mode.LOCKOUT, "guardian", f"{name}: somebody else writes to it: {difference}")
        elif policy is OnForeignWrite.YIELD:
            self._hub.move(self.id, Mode.OBSERVE, "guardian", f"{name}: left to somebody else who writes to it")

    def _check_effects(self) -> None:
        """Does it do what it was told (R8)? What happened is written down once per value, and when it goes wrong."""
        for name, held in self.held.items():
            reading = self.readings.get(held.control.measured_by)
            why = held.effect_missed(reading)
            if why is None or reading is None:
                continue
            if why:
                news = self._hub.raise_alarm(self.id, f"no-effect:{name}", why)
            else:
                self._hub.clear_alarm(self.id, f"no-effect:{name}")
                news = not held.effect_noted and held.history.settled and held.standing.value is not None
                held.effect_noted = held.effect_noted or news
            if news:
                body = {"device": self.id, "order": held.last_order, "control": name, "ok": not why, "why": why}
                self._hub.note("effect", {**body, "reading": held.control.measured_by, "measured": reading.value})

    def image(self) -> DeviceImage:
        """What a cycle's decisions see of it."""
        power = self.readings.get("w")
        ratings = None if self.driver is None else self.driver.ratings
        return DeviceImage(
            device=self.id,
            obeys=self.mode is Mode.ARMED and self.is_current and not self.stopping,
            decides=self.mode in {Mode.ARMED, Mode.REHEARSE},
            w=power.value if power is not None and power.is_good else None,
            export_w=None if ratings is None else ratings.w,
            import_w=None if ratings is None else ratings.charge_w,
            controls={name: held.image(self.readings) for name, held in self.held.items()},
            soc=self.soc,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    async def apply(self, wishes: Mapping[str, Wish]) -> None:
        """Carry out a cycle's decisions, one control after the other."""
        for name, wish in wishes.items():
            held = self.held.get(name)
            if held is None:
                continue
            held.wished = wish
            if self.mode is Mode.REHEARSE:
                self._rehearse(held, wish)
            elif self.mode is Mode.ARMED and self.is_current and not wish.hold_off:
                await self._write(held, wish)

    def _rehearse(self, held: Held, wish: Wish) -> None:
        if wish.value != held.rehearsed:
            held.rehearsed = wish.value
            self._hub.note("rehearsal", self._why(held, wish.value, wish).body())

    async def _write(self, held: Held, wish: Wish) -> None:
        now_s = asyncio.get_running_loop().time()
        value, driver = wish.value, self.driver
        refresh_s = self.settings.refresh_s - _EARLY * self._cycle_s
        if driver is None or not held.due(value, now_s, refresh_s):
            return
        same = not held.unsure and value is not None and held.standing.value == value
        try:
            if value is None:
                steps = driver.release(held.control.name)
            else:
                steps = driver.encode(held.order(value, self.settings.timer_s))
        except DeviceError as error:
            self._hub.raise_alarm(self.id, f"refused:{held.control.name}", error.message)
            return
        refusal = await self._hub.spend(self.id, [step.frame for step in steps], held.settings.writes_per_day)
        if refusal and value is not None:
            self._hub.raise_alarm(self.id, f"budget:{held.control.name}", refusal)
            return
        generation = self.line.generation
        writer = self._writer(lambda: self._gate(generation, wish.lease))
        why = self._why(held, value, wish)
        held.last_order, held.generation = why.order, generation
        outcome = await writer.carry_out(
            steps, why, Priority.REFRESH if same else Priority.SET_POINT, release=value is None
        )
        self._settle(held, value, steps, outcome, now_s)

    def _settle(
        self, held: Held, value: float | None, steps: tuple[Step, ...], outcome: Outcome, begun_s: float
    ) -> None:
        """What is known after an order."""
        now_s, name = asyncio.get_running_loop().time(), held.control.name
        if outcome.ended is Ended.DONE:
            held.wrote(value, steps, begun_s, now_s, self._fast())
            for other in self.held.values():  # registers that controls share
                other.ours.update((at, word) for at, word in left_behind(steps).items() if at in other.ours)
            for alarm in ("refused", "budget", "unconfirmed"):
                self._hub.clear_alarm(self.id, f"{alarm}:{name}")
            return
        if outcome.frames:
            held.lost(value, now_s)
        if outcome.ended is Ended.LOST:
            self._hub.raise_alarm(self.id, f"unconfirmed:{name}", outcome.why)
        elif outcome.ended is Ended.UNWRITTEN:
            self._hub.journal_lost(outcome.why)
        elif outcome.ended in {Ended.NOT_TAKEN, Ended.UNSAFE}:
            self._hub.raise_alarm(self.id, f"{outcome.ended}:{name}", outcome.why)
            self._hub.move(self.id, Mode.OBSERVE, "guardian", f"{name}: {outcome.why}")

    def _writer(self, gate: Callable[[], str]) -> Writer:
        return Writer(self.line, self.settings.unit, self._hub.notes, self._hub.note, gate, self._deadline_s)

    def _fast(self) -> tuple[Span, ...]:
        return () if self.driver is None else self.driver.spans(Group.FAST)

    def _gate(self, generation: int, lease: Lease | None) -> str:
        """Why a frame may not leave at this very moment; empty if it may."""
        if self.stopping or self.mode is not Mode.ARMED:
            return "it is not armed any more"
        if self.line.generation != generation:
            return "the line was lost: its state has to be read first"
        if lease is not None and not self._hub.lives(lease):
            return "the lease has ended"
        return self._hub.writes_stopped()

    def _why(self, held: Held, value: float | None, wish: Wish) -> Why:
        request = None if wish.lease is None else wish.lease.request
        return Why(
            device=self.id,
            order=f"{self.id}-{next(self._orders)}",
            control=held.control.name,
            value=value,
            owner="guardian" if request is None else request.owner,
            level="default" if request is None else request.level.name.lower(),
            why=wish.why,
        )

    async def to_safety(self, reason: str) -> str:
        """Bring every control to its safe value now, whatever else goes on; why that failed, or empty.

        Only devices that were armed since the guardian started are written to: nothing of ours stands in others.
        """
        self.stopping = True
        if self.busy and self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
        driver = self.driver
        if driver is None or not self.was_armed:
            return ""
        writer = self._writer(lambda: "")
        problems = []
        for name, held in self.held.items():
            safe = held.settings.safe_value
            why = self._why(held, safe, Wish(safe, reason))
            try:
                steps = driver.release(name) if safe is None else driver.encode(held.order(safe, self.settings.timer_s))
            except DeviceError as error:
                problems.append(error.message)
                continue
            now_s = asyncio.get_running_loop().time()
            outcome = await writer.carry_out(steps, why, Priority.STOP, release=safe is None, insist=True)
            if outcome.ended is Ended.DONE:
                held.wrote(safe, steps, now_s, asyncio.get_running_loop().time(), self._fast())
            else:
                held.lost(safe, now_s)
                problems.append(f"{name}: {outcome.why}")
        return "; ".join(problems)
