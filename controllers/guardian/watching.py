"""A device as the guardian reads it: recognised, read, judged; what is known of it and whether it may be armed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from controllers.commissioning.record import RecordStore
from controllers.guardian.envelope import Rule
from controllers.guardian.foreign import registers_of
from controllers.guardian.held import Held
from controllers.guardian.hub import Hub
from controllers.guardian.modes import obstacles_to_arming
from controllers.guardian.self_told import pass_on
from controllers.guardian.settings import DeviceSettings, Mode, SiteSettings
from controllers.guardian.soc_guard import SocState, guarded
from core import DeviceError
from core.quality import Reading
from hardware.driver import Driver, Group, Identity, Sample, Span
from hardware.meeting import meeting
from hardware.modbus.line import Line
from hardware.watch import Watch, watch_for
from hardware.watch_checks import WatchSettings

_SLOW_EVERY_S = 60.0


class Watched:
    """A device that is read.

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
        self.was_armed = False
        self._cycle_s = site.cycle_s
        self._records = records
        self._hub = hub
        self._watch: Watch | None = None
        self._identity: Identity | None = None
        self._held_of: Identity | None = None
        self._met = -1  # generation of the line in which the driver was made
        self._seen = -1  # generation in which everything that matters was read
        self._slow_s = float("-inf")
        self._silent_s = float("-inf")  # when it last failed to answer
        self._deadline_s = 3.0 * settings.timeout_s
        self._recognise = meeting(settings.profile, settings.sunspec)

    def age(self) -> None:
        """Let what is known grow old: a reading that hangs must not keep the last one young."""
        if self._watch is not None:
            self.readings = self._watch.judge(asyncio.get_running_loop().time(), {})

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
            pass_on(self._hub, self.id, self.readings, self.held)
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
            driver = await self._recognise(self._read)
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
            self.was_armed = False  # nothing of ours stands in this one
            self._hub.raise_alarm(
                self.id, "identity-changed", f"it was {_named(before)}; it is {_named(driver.identity)}"
            )
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
        if self.mode is Mode.ARMED and self.obstacles:
            why = "; ".join(self.obstacles)
            self._hub.raise_alarm(self.id, "not-commissioned", why)
            self._hub.move(self.id, Mode.OBSERVE, "guardian", why)
        if driver is None or self.mode is Mode.ARMED:
            return
        before, self.held = (self.held if self._held_of == driver.identity else {}), {}
        self._held_of = driver.identity
        for name, wanted in self.settings.controls.items():
            control = driver.controls.get(name)
            if control is None:
                continue
            try:
                rule = Rule.of(control, wanted, clamp=self.settings.out_of_range == "clamp", cycle_s=self._cycle_s)
            except ValueError:
                continue  # stands among the obstacles
            held = Held(control, wanted, rule)
            if name in before:  # what stands in it does not end with being disarmed
                held = replace(before[name], control=control, rule=rule)
            self.held[name] = held
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
        if settings.counted_by and (capacity_wh is None or power is None):
            why = f"without its capacity and {settings.counted_by} its report is believed alone (soc.capacity_wh)"
            self._hub.raise_alarm(self.id, "soc-not-counted", why)
        if self.soc.apart:
            self._hub.raise_alarm(
                self.id, "soc-disagrees", f"counted {self.soc.counted:.3f}, reported otherwise: nothing is discharged"
            )
        else:
            self._hub.clear_alarm(self.id, "soc-disagrees")

    def _compare(self, registers: Mapping[tuple[int, int], int], generation: int) -> None:
        """Hold what was read against what was written."""
        raise NotImplementedError

    def _check_effects(self) -> None:
        """Does it do what it was told?"""
        raise NotImplementedError


def _named(one: Identity) -> str:
    options = f", options {one.options}" if one.options else ""
    return f"{one.manufacturer} {one.model}, serial {one.serial or 'none'}, firmware {one.firmware or 'none'}{options}"
