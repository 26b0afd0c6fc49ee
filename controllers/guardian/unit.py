"""One device of the site as the guardian runs it: read, judged, and written to when it is armed.

A device has at most one task at work at a time, so what is read is never half of what is being written. A dead device
keeps its own task waiting and nobody else's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

from controllers.commissioning.record import RecordStore
from controllers.guardian.arbiter import Lease
from controllers.guardian.decide import Decisions, DeviceImage, Wish
from controllers.guardian.foreign import Register, changed, left_behind
from controllers.guardian.held import Held
from controllers.guardian.hub import Hub
from controllers.guardian.settings import DeviceSettings, Mode, OnForeignWrite, SiteSettings
from controllers.guardian.watching import Watched
from controllers.guardian.writer import Ended, Outcome, Why, Writer
from core import DeviceError
from core.quality import Reading
from hardware.driver import Group, Span, Step
from hardware.modbus.line import Line, Priority

_PATIENCE_S = 0.25  # of a stop with the journal
_NOT_BY_US = "changed, and not by us (somebody else wrote, or the device dropped the order)"
_EARLY = 0.5  # of a cycle: a refresh that is nearly due is done now


class Unit(Watched):
    """One device. Parameters as `controllers.guardian.watching.Watched`."""

    def __init__(
        self, settings: DeviceSettings, site: SiteSettings, line: Line, records: RecordStore, hub: Hub
    ) -> None:
        super().__init__(settings, site, line, records, hub)
        self.task: asyncio.Task[None] | None = None
        self.stopping = False  # writes nothing, until it is cleared
        self.securing = 0  # stops that are at work on it: nobody else reads it meanwhile
        self._orders = itertools.count(1)

    async def turn(self, decided: asyncio.Future[Decisions], seen: asyncio.Event) -> None:
        """One cycle of this device: read it, say so, and when all is decided carry out what concerns it."""
        try:
            await self.observe()
        finally:
            seen.set()
        await self.apply((await asyncio.shield(decided)).get(self.id, {}))

    @property
    def busy(self) -> bool:
        """Whether its task is still at work."""
        return self.task is not None and not self.task.done()

    # --- what stands in it --------------------------------------------------------------------------------------------

    def _compare(self, registers: Mapping[tuple[int, int], int], generation: int) -> None:
        """Hold what was read against what we wrote (R15)."""
        now_s = asyncio.get_running_loop().time()
        for name, held in self.held.items():
            if self.mode is not Mode.ARMED and held.stands and now_s - held.standing.at_s > self.settings.timer_s:
                held.ended(now_s)  # nobody refreshes it any more
            self._look_for_others(name, held)
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

    def _look_for_others(self, name: str, held: Held) -> None:
        """Say it when an order stands that is not ours; our own fallback is no news."""
        value = held.found(self.readings)
        if value is None or held.is_safe(value) or self.mode is not Mode.ARMED:
            self._hub.clear_alarm(self.id, f"found:{name}")
        else:
            self._hub.raise_alarm(self.id, f"found:{name}", f"an order of {value:g} stands in it that is not ours")

    def _foreign(self, name: str, held: Held, difference: str, now_s: float) -> None:
        held.rivalry, policy = held.rivalry.again(self.settings.on_foreign_write, now_s)
        self._hub.clear_alarm(self.id, f"foreign-write:{name}")  # each one is news
        self._hub.raise_alarm(self.id, f"foreign-write:{name}", f"{_NOT_BY_US}: {difference}")
        if self.mode is not Mode.ARMED:
            return
        if policy is OnForeignWrite.ALARM:
            self._hub.move(self.id, Mode.LOCKOUT, "guardian", f"{name}: {_NOT_BY_US}: {difference}")
        elif policy is OnForeignWrite.YIELD:
            self._hub.move(self.id, Mode.OBSERVE, "guardian", f"{name}: {_NOT_BY_US}: left as it is")

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
        # What is given up has to end by its timer: a neighbour that shares the timer must not set it anew.
        ending = {
            at for name, wish in wishes.items() if wish.hold_off and name in self.held for at in self.held[name].ours
        }
        for name, wish in wishes.items():
            held = self.held.get(name)
            if held is None or (not wish.hold_off and ending & held.ours.keys()):
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
        if wish.lease is None and held.settings.at_rest is None:
            left = held.found(self.readings)
            if left is not None and not held.is_safe(left) and (value is None or left <= value):
                return  # somebody else's, maybe the network operator's: said, and not lifted
            if left is not None:
                held.unsure = True  # where our last order fell back to, before a restart or an outage: take it back
            elif value is None and not held.stands and held.is_idle(self.readings):
                held.inherited = False
        if driver is None or not held.due(value, now_s, refresh_s):
            return
        same = not (held.unsure or held.inherited) and value is not None and held.standing.value == value
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
        writer = self._writer(lambda: self._gate(generation, wish.lease), held.ours if same else {})
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
        if outcome.ended is Ended.OVERTAKEN:
            return  # the next cycle's reading finds it, and judges whether the device restarted or somebody else wrote
        if outcome.ended is Ended.DONE:
            held.wrote(value, steps, begun_s, now_s, self._fast())
            for other in self.held.values():  # registers that controls share
                shared = {at: word for at, word in left_behind(steps).items() if at in other.ours}
                other.unsure = other.unsure or any(other.ours[at] != word for at, word in shared.items())
                other.ours.update(shared)
            for alarm in ("refused", "budget", "unconfirmed"):
                self._hub.clear_alarm(self.id, f"{alarm}:{name}")
            return
        if outcome.frames:
            held.lost(value, now_s)
        given_up = outcome.frames > 0 and held.given_up(now_s, self.settings.timer_s)
        if outcome.ended is Ended.LOST:
            self._hub.raise_alarm(self.id, f"unconfirmed:{name}", outcome.why)
        elif outcome.ended is Ended.UNWRITTEN:
            self._hub.journal_lost(outcome.why)
        elif outcome.ended in {Ended.NOT_TAKEN, Ended.UNSAFE}:
            ends = f"; what stands in it ends by its own timer of {self.settings.timer_s} s"
            self._hub.raise_alarm(self.id, f"{outcome.ended}:{name}", outcome.why + ends)
            self._hub.move(self.id, Mode.OBSERVE, "guardian", f"{name}: {outcome.why}")
        if given_up and self.mode is Mode.ARMED:
            why = f"no order was confirmed for {self.settings.timer_s} s: what stands in it is left to its timer"
            self._hub.raise_alarm(self.id, f"unconfirmed:{name}", why)
            self._hub.move(self.id, Mode.OBSERVE, "guardian", f"{name}: {why}")

    def _writer(self, gate: Callable[[], str], ours: Mapping[Register, int] | None = None) -> Writer:
        """``ours`` is given for a refresh only: what it must find before it writes the same again."""
        wire, unit, hub = self.line, self.settings.unit, self._hub
        return Writer(wire, unit, hub.notes, hub.note, gate, self._deadline_s, ours=ours or {})

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
        patient_until_s = asyncio.get_running_loop().time() + _PATIENCE_S
        writer = replace(self._writer(lambda: ""), patient_until_s=patient_until_s)
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

    async def look(self) -> Mapping[str, Reading]:
        """What it measures at this moment, not judged; only while nobody else reads it."""
        driver = self.driver
        if driver is None:
            return {}
        return driver.decode({span: await self._read(span) for span in driver.spans(Group.FAST)})
