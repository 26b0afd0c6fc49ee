"""A site's guardian: all its devices, leases, modes, alarms and the cycle that binds them together.

Input, process, output: every device is read, the image is frozen, one pure function decides (`decide`), the devices
carry it out. Sockets are `ipc`'s, signals `process`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.guardian.arbiter import Arbiter, Lease, Refusal, Request
from controllers.guardian.budget import save_text
from controllers.guardian.decide import Decisions, decide, part_of
from controllers.guardian.desk import Desk
from controllers.guardian.messages import Refused
from controllers.guardian.meter_check import MeterTrust
from controllers.guardian.modes import refusal
from controllers.guardian.pace import Pace
from controllers.guardian.settings import Mode, SiteSettings
from controllers.guardian.shelf import RecordShelf
from controllers.guardian.showing import shown
from controllers.guardian.unit import Unit
from controllers.guardian.writer import Notes
from hardware.driver import CONTROLS
from hardware.modbus.line import Line

READ_SHARE = 0.4
"""Share of a cycle after which decisions are made, whoever has not answered yet."""
_RECORDS_EVERY = 30
"""So many cycles apart it is looked whether commissioning records were withdrawn."""
SILENT_S = 1.0
"""How long it waits for those that had been silent before [s]."""
_MUTE_WAITS_S = 0.8
_ANSWER_S = 0.05  # kept of a stop's time for its answer
STOP_S = 1.7
"""How long a stop waits for its devices before it says which are not safe yet [s]."""


class GuardianRefusal(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is not granted."""

    def __init__(self, code: Refused, message: str, holder: Lease | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.holder = holder


class Guardian(Desk):
    """Everything between the sockets and the lines.

    Parameters
    ----------
    site
        Its settings.
    lines
        By device id; devices on one address share a line. Opened and closed by the caller.
    notes, utc_now
        As of `controllers.guardian.desk.Desk`, whose errors it raises.
    """

    def __init__(
        self,
        site: SiteSettings,
        lines: Mapping[str, Line],
        notes: Notes,
        utc_now: Callable[[], datetime],
    ) -> None:
        super().__init__(site.state, notes, utc_now)
        self.site = site
        self.pace = Pace(site.cycle_s)
        self.arbiter = Arbiter(self._is_cap)
        self.stopped: dict[str, str] | None = None
        self.exchange_w: float | None = None
        self._trust = MeterTrust()
        self.ending = asyncio.Event()
        self.calm = asyncio.Event()  # cleared while a stop is at work: everybody else waits
        self.calm.set()
        self._lockout_lock = asyncio.Lock()
        self._lockouts_changed = False
        self._records = records = RecordShelf(site.records)
        self.units = {one.id: Unit(one, site, lines[one.id], records, self) for one in site.devices}
        self.arm_at_start = {one.id for one in site.devices if one.start_mode is Mode.ARMED}

    def _is_cap(self, device: str, control: str) -> bool:
        held = self.units[device].held.get(control)
        return held is not None and held.rule.cap

    # --- the cycle ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Cycle after cycle, until `ending` is set."""
        await self.pace.run(self.cycle, self.ending)

    async def cycle(self) -> None:
        """Read all, decide once, let each carry out its own."""
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[Decisions] = loop.create_future()
        reading = {unit.id: unit for unit in self._readable()}
        observed = []
        for unit in reading.values():
            seen = asyncio.Event()
            unit.task = asyncio.create_task(unit.turn(decided, seen), name=f"turn of {unit.id}")
            unit.task.add_done_callback(self._turned)
            observed.append(asyncio.create_task(seen.wait()))
        if observed:
            _, late = await asyncio.wait(observed, timeout=READ_SHARE * self.site.cycle_s)
            for waiting in late:
                waiting.cancel()
        self._expire()
        self._start_armed()
        if self.pace.count % _RECORDS_EVERY == 0 and self._records.changed():
            for unit in self.units.values():
                unit.look_up_records()
        decided.set_result(self._decide())
        if self.listeners:
            lateness_s = self.pace.lateness_s[-1] if self.pace.lateness_s else 0.0
            self.tell(
                {
                    "event": "cycle",
                    "count": self.pace.count,
                    "lateness_s": round(lateness_s, 4),
                    "exchange_w": self.exchange_w,
                }
            )

    def _readable(self) -> list[Unit]:
        """Who is read in this cycle: nobody while a stop is at work, and then everybody again, locked out or not."""
        return [unit for unit in self.units.values() if self.calm.is_set() and not unit.busy and not unit.securing]

    def _decide(self) -> Decisions:
        for unit in self.units.values():
            unit.age()  # whoever was not read, for whatever reason, grows old
        connection, now_s = self.site.connection, asyncio.get_running_loop().time()
        self.exchange_w = None
        if connection.meter is not None:
            reading = self.units[connection.meter].readings.get("w")
            if reading is not None and reading.is_good:
                self.exchange_w = reading.value
            if self.exchange_w is None:
                self.raise_alarm(connection.meter, "meter-lost", "the shares without a meter are in force")
            else:
                self.clear_alarm(connection.meter, "meter-lost")
        images = [unit.image() for unit in self.units.values() if unit.id != connection.meter]
        if connection.meter is not None and self.exchange_w is not None:
            parts = [part_of(image) for image in images]
            self._trust = self._trust.after(connection, self.exchange_w, parts, now_s)
            if self._trust.doubted(now_s):
                self.exchange_w = None
                why = f"{self._trust.why}: the shares without a meter are in force; are its transformers on backwards?"
                self.raise_alarm(connection.meter, "meter-disagrees", why)
            else:
                self.clear_alarm(connection.meter, "meter-disagrees")
        return decide(connection, self.exchange_w, images, self.arbiter, now_s)

    def _turned(self, task: asyncio.Task[None]) -> None:
        """A device's turn is over; an error of ours in it must not go unnoticed, nor stop the others."""
        if not task.cancelled() and (error := task.exception()) is not None:
            device = task.get_name().removeprefix("turn of ")
            self.raise_alarm(device, "internal-error", f"{type(error).__name__}: {error}")
            if self.units[device].mode in {Mode.ARMED, Mode.REHEARSE}:
                self.move(device, Mode.OBSERVE, "guardian", "an error of the guardian itself")

    def _expire(self) -> None:
        for lease in self.arbiter.expire(asyncio.get_running_loop().time()):
            self._lease_event(lease, "expired")

    def _start_armed(self) -> None:
        """Devices that are to be armed from the start, as soon as they were seen."""
        for device in sorted(self.arm_at_start):
            unit = self.units[device]
            if unit.driver is None:
                continue
            self.arm_at_start.discard(device)
            if unit.mode is not Mode.OBSERVE:
                continue
            if unit.obstacles:
                self.raise_alarm(device, "not-armed", "; ".join(unit.obstacles))
            else:
                self.move(device, Mode.ARMED, "settings", "start_mode")

    # --- leases -------------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Lease:
        """Grant a lease; GuardianRefusal says why not. The request's numbers have been checked to be finite."""
        unit = self.unit(request.device)
        if self.ending.is_set():
            raise GuardianRefusal(Refused.UNAVAILABLE, "the guardian is ending")
        if request.control not in unit.settings.controls:
            raise GuardianRefusal(Refused.UNKNOWN, f"{unit.id} may not be told {request.control!r}")
        if unit.mode is Mode.LOCKOUT:
            raise GuardianRefusal(Refused.LOCKED_OUT, f"{unit.id} is locked out until a named person clears it")
        if unit.mode is Mode.OBSERVE:
            raise GuardianRefusal(Refused.NOT_ARMED, f"{unit.id} is merely observed")
        held = unit.held.get(request.control)
        if held is None:
            raise GuardianRefusal(Refused.UNAVAILABLE, f"{unit.id} has not been seen with {request.control}")
        if not 0.0 < request.ttl_s <= self.site.max_lease_s:
            raise GuardianRefusal(
                Refused.OUT_OF_RANGE, f"a lease lives more than 0 and up to {self.site.max_lease_s:g} s"
            )
        if unit.settings.out_of_range == "clamp":
            request = replace(request, value=held.rule.band().nearest(request.value))
        if why := held.rule.refusal(request.value):
            unit_of = CONTROLS[request.control]
            raise GuardianRefusal(Refused.OUT_OF_RANGE, f"{unit.id} {request.control}: {why} ({unit_of})")
        answer = self.arbiter.ask(request, asyncio.get_running_loop().time())
        if isinstance(answer, Refusal):
            self.note("lease", {**_of(request), "event": "refused", "why": answer.message})
            raise GuardianRefusal(answer.code, answer.message, answer.holder)
        self._lease_event(answer, "granted")
        return answer

    def give_back(self, number: str) -> None:
        """Release a lease; GuardianRefusal if there is none of that number."""
        lease = self.arbiter.release(number)
        if lease is None:
            raise GuardianRefusal(Refused.UNKNOWN, f"there is no lease {number!r}: it has ended, or never was")
        self._lease_event(lease, "released")

    def drop(self, gone: Callable[[Lease], bool]) -> None:
        """Take leases away."""
        for lease in self.arbiter.drop(gone):
            self._lease_event(lease, "lost")

    def lives(self, lease: Lease) -> bool:
        """Whether a lease still counts, or another of the same owner for the same value: it may have been renewed."""
        wanted = lease.request
        return any(
            (one.request.device, one.request.control, one.request.owner, one.request.value)
            == (wanted.device, wanted.control, wanted.owner, wanted.value)
            for one in self.arbiter.live(asyncio.get_running_loop().time()).values()
        )

    def _lease_event(self, lease: Lease, what: str) -> None:
        body = _of(lease.request)
        self.note("lease", {**body, "event": what, "expires_s": lease.expires_s, "why": ""})
        self.tell({"event": "lease", "what": what, **body})

    # --- modes --------------------------------------------------------------------------------------------------------

    def unit(self, device: str) -> Unit:
        """The device of this id; GuardianRefusal if there is none."""
        if device not in self.units:
            raise GuardianRefusal(Refused.UNKNOWN, f"there is no device {device!r}")
        return self.units[device]

    def units_of(self, device: str) -> list[Unit]:
        """One device, or every one of them for ``all``."""
        return list(self.units.values()) if device == "all" else [self.unit(device)]

    def change_mode(self, device: str, mode: Mode, who: str) -> dict[str, str]:
        """Bring devices into a mode on behalf of a person: all of them or none."""
        units = self.units_of(device)
        if device == "all" and mode is Mode.ARMED:
            units = [unit for unit in units if unit.settings.controls]
        if mode is Mode.ARMED and self.journal_why:
            raise GuardianRefusal(Refused.UNAVAILABLE, f"the journal cannot be written: {self.journal_why}")
        for unit in units:
            if mode is Mode.ARMED:
                unit.look_up_records()
            if why := refusal(unit.mode, mode, unit.obstacles):
                code = Refused.NOT_COMMISSIONED if unit.mode is Mode.REHEARSE else Refused.BAD_REQUEST
                raise GuardianRefusal(Refused.LOCKED_OUT if unit.mode is Mode.LOCKOUT else code, f"{unit.id}: {why}")
        for unit in units:
            self.move(unit.id, mode, who, "asked for")
        return {unit.id: str(unit.mode) for unit in units}

    def move(self, device: str, mode: Mode, who: str, why: str) -> None:
        """Bring a device into a mode that it may go to."""
        unit = self.units[device]
        before, unit.mode = unit.mode, mode
        if before is mode:
            return
        if mode is Mode.ARMED:
            unit.was_armed = True
            for held in unit.held.values():
                held.inherited = True
            for standing in [known for known in self.standing if known[0] == device]:
                self.clear_alarm(*standing)  # whoever arms it has looked
        else:
            self.drop(lambda lease: lease.request.device == device and mode is not Mode.REHEARSE)
        body = {"device": device, "from": str(before), "to": str(mode), "who": who, "why": why}
        self.note("mode", body)
        self.tell({"event": "mode", **body})
        if (mode is Mode.LOCKOUT or before is Mode.LOCKOUT) and not self._lockouts_changed:
            self._lockouts_changed = True  # a stop locks out a hundred at once: one save for all
            self._later(self._save_lockouts())

    def clear(self, device: str, who: str) -> dict[str, str]:
        """Take devices out of lockout; a named person answers for it."""
        units = [unit for unit in self.units_of(device) if unit.mode is Mode.LOCKOUT]
        if not units:
            raise GuardianRefusal(Refused.BAD_REQUEST, f"{device} is not locked out")
        for unit in units:
            unit.stopping = False
            unit.mode = Mode.LOCKOUT
            self.move(unit.id, Mode.OBSERVE, who, "cleared")
        if self.stopped is not None and not any(unit.mode is Mode.LOCKOUT for unit in self.units.values()):
            self.note("stop", {"event": "cleared", "who": who, "why": ""})
            self.stopped = None
        return {unit.id: str(unit.mode) for unit in units}

    # --- stop ---------------------------------------------------------------------------------------------------------

    async def stop(self, reason: str, who: str) -> dict[str, Any]:
        """Every armed device to its safe value, at once; latched. Says after at most `STOP_S` who is not there yet."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self.stopped = {"who": who, "reason": reason}
        self.note("stop", {"event": "pressed", "who": who, "why": reason})
        self.tell({"event": "stop", **self.stopped})
        for unit in self.units.values():
            unit.stopping = True  # before anything is awaited: no frame of anybody else leaves from here on
        for unit in self.units.values():
            self.move(unit.id, Mode.LOCKOUT, who, f"stop: {reason}")
        saved = self._later(self._save_lockouts())
        self.calm.clear()
        try:
            failed = await self._all_to_safety(f"stop by {who}: {reason}", STOP_S, SILENT_S)
            safe = [unit for unit in self.units.values() if unit.id not in failed]
            unconfirmed, unmeasured = await shown(safe, begun_s + STOP_S - _ANSWER_S)
        finally:
            self.calm.set()
        for device, what in unconfirmed.items():
            self.raise_alarm(device, "not-followed", f"its safe values stand in it, and it {what}")
        await asyncio.wait({saved}, timeout=max(begun_s + STOP_S - loop.time(), 0.0))
        latched = saved.done() and saved.result()
        if not latched:
            self.raise_alarm("", "not-latched", "the stop is not on the disk yet: a restart may forget it")
        took_s = loop.time() - begun_s
        self.note("stop", {"event": "done", "who": who, "why": json.dumps({**failed, **unconfirmed}), "took_s": took_s})
        return {
            "ok": not failed and not unconfirmed,
            "devices": len(self.units),
            "safe": len(self.units) - len(failed),
            "failed": failed,
            "unconfirmed_power": unconfirmed,
            "unmeasured": unmeasured,
            "latched": latched,
            "took_s": round(took_s, 4),
        }

    async def _all_to_safety(self, reason: str, timeout_s: float, silent_s: float | None = None) -> dict[str, str]:
        """Every device at its safe value; returns who is not, and why. What is not done in time goes on.

        Whoever was silent before is waited for until ``silent_s`` only, if it is given.
        """
        tasks: dict[str, asyncio.Task[str]] = {}
        # Whoever was silent waits for those that answer on its line: it would hold each of them up.
        for unit in sorted(self.units.values(), key=lambda one: bool(one.problem)):
            unit.stopping = True
            unit.securing += 1
            first = {tasks[one.id] for one in self.units.values() if one.id in tasks and one.line is unit.line}
            work = self._after(first if unit.problem else set(), unit, reason)
            tasks[unit.id] = asyncio.create_task(work)
        self._background.update(tasks.values())
        begun_s = asyncio.get_running_loop().time()
        silent = {unit.id for unit in self.units.values() if unit.problem}
        if answering := [task for device, task in tasks.items() if device not in silent]:
            await asyncio.wait(answering, timeout=timeout_s)
        left_s = begun_s + (timeout_s if silent_s is None else silent_s) - asyncio.get_running_loop().time()
        await asyncio.wait(tasks.values(), timeout=max(left_s, 0.0))
        failed = {}
        for device, task in tasks.items():
            task.add_done_callback(self._background.discard)
            if not task.done():
                failed[device] = "it has not answered yet; its own timer ends what stands"
            elif (error := task.exception()) is not None:
                failed[device] = f"{type(error).__name__}: {error}"
            elif task.result():
                failed[device] = task.result()
        for device, why in failed.items():
            self.raise_alarm(device, "not-safe", why)
        return failed

    async def _after(self, first: set[asyncio.Task[str]], unit: Unit, reason: str) -> str:
        try:
            if first:
                await asyncio.wait(first, timeout=_MUTE_WAITS_S)
            return await unit.to_safety(reason)
        finally:
            unit.securing -= 1

    async def end(self, reason: str, timeout_s: float) -> dict[str, str]:
        """The orderly end: no more cycles, every device to its safe value. Returns who is not, and why."""
        self.ending.set()
        self.drop(lambda lease: True)
        failed = await self._all_to_safety(reason, timeout_s)
        await self.settled()
        return failed

    # --- what stops everything ----------------------------------------------------------------------------------------

    def writes_stopped(self) -> str:
        """Why nothing may be written to anybody; empty if it may."""
        if self.journal_why:
            return f"the journal cannot be written: {self.journal_why}"
        return "the guardian is ending" if self.ending.is_set() else ""

    def journal_lost(self, why: str) -> None:
        """Nothing is written any more, and nothing is armed (R3)."""
        super().journal_lost(why)
        for unit in self.units.values():
            if unit.mode is Mode.ARMED:
                self.move(unit.id, Mode.OBSERVE, "guardian", "the journal cannot be written")

    @property
    def _lockout_file(self) -> Path:
        return self.site.state / "lockout.json"

    def restore_lockouts(self) -> None:
        """Lock out again what was locked out. OSError or ValueError if that cannot be read: then nothing may start."""
        if self._lockout_file.exists():
            kept = json.loads(self._lockout_file.read_text(encoding="utf-8"))
            self.stopped = kept["stopped"]
            known = kept.get("known", kept["devices"])
            for unit in self.units.values():  # a stop is for the whole site: for devices that were renamed or added too
                if unit.id in kept["devices"] or (self.stopped is not None and unit.id not in known):
                    unit.mode = Mode.LOCKOUT

    async def _save_lockouts(self) -> bool:
        async with self._lockout_lock:
            self._lockouts_changed = False
            devices = sorted(unit.id for unit in self.units.values() if unit.mode is Mode.LOCKOUT)
            content = json.dumps({"devices": devices, "stopped": self.stopped, "known": sorted(self.units)})
            try:
                await asyncio.to_thread(save_text, self._lockout_file, content)
            except OSError as error:
                self.raise_alarm("", "state-lost", f"{self._lockout_file} cannot be written: {error.strerror}")
                return False
        return True


def _of(request: Request) -> dict[str, Any]:
    return {
        "device": request.device,
        "control": request.control,
        "owner": request.owner,
        "level": request.level.name.lower(),
        "value": request.value,
    }
