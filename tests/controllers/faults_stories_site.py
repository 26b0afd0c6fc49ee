"""Stories with a guardian that holds devices, with a whole site, and with somebody who commissions a device."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controllers.commissioning.bench import Bench
from controllers.commissioning.facts import Behaviour
from controllers.commissioning.record import Record, RecordStore, may_arm
from controllers.commissioning.runner import STAGES as STAGES_OF_ALL
from controllers.commissioning.runner import Place, commission
from controllers.commissioning.technician import Answers
from controllers.guardian.arbiter import Request
from controllers.guardian.guardian import Guardian, GuardianRefusal
from controllers.guardian.messages import Level
from controllers.guardian.settings import Mode, SiteSettings
from hardware.address import parse_address
from hardware.driver import CONTROLS, Frame
from hardware.emulator.device_build import build_device
from hardware.emulator.fleet import FleetPart
from hardware.emulator.fleet_settings import Fleet
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line
from hardware.sunspec import discover
from tests.controllers.commissioning.emulated import emulated
from tests.controllers.faults_loop import GRACE_S
from tests.controllers.faults_stories import PATIENT, Params, Seen, switched
from tests.controllers.guardian.rig import _measured, record_of

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
STAGES = ("identity", "measurements", "limits", "function codes", "timers", "loss of power")


class Notes:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Mapping[str, Any]]] = []

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        self.kept.append((kind, dict(body)))
        return len(self.kept)


async def _record(line: Line, folder: Path) -> None:
    """Write down a true record of a device with standard timers."""
    driver = await discover(lambda span: line.read(1, span))
    controls = {
        one.name: _measured(one.name, "chosen" if one.fallback == "chosen" else "released")
        for one in driver.controls.values()
    }
    RecordStore(folder).save(record_of(driver.identity, controls))


class _Held:
    """A guardian in this process, with lines of its own."""

    def __init__(self, folder: Path, devices: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        listed = [{"timer_s": 20, "refresh_s": 5.0, "start_mode": "armed" if "controls" in one else "observe", **one}
                  for one in devices]  # fmt: skip
        paths = {name: folder / name for name in ("socket_dir", "journal", "records", "state")}
        paths["state"].mkdir()
        self.site = SiteSettings.model_validate({"name": "story", "devices": listed, **paths, **settings})
        self.lines = {one.id: Line(parse_address(one.address), PATIENT) for one in self.site.devices}
        self.notes = Notes()
        self.guardian = Guardian(self.site, self.lines, self.notes, lambda: NOON)

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        for one in self.site.devices:
            await stack.enter_async_context(self.lines[one.id])
            if one.controls:
                await _record(self.lines[one.id], self.site.records)
        cycles = asyncio.create_task(self.guardian.run())
        stack.push_async_callback(self._end, cycles)
        await asyncio.sleep(3.5)
        armed = {one.id for one in self.site.devices if one.controls}
        assert {name for name, unit in self.guardian.units.items() if unit.mode is Mode.ARMED} == armed

    async def _end(self, cycles: asyncio.Task[None]) -> None:
        self.guardian.ending.set()
        await cycles
        await self.guardian.settled()

    def lease(self, device: str, control: str, value: float) -> None:
        level = Level.SAFETY if CONTROLS[control].startswith("1") else Level.MARKET
        with contextlib.suppress(GuardianRefusal):  # not armed any more: that is noticed elsewhere
            self.guardian.ask(_request(device, control, value, level))

    def noticed(self, seen: Seen) -> None:
        """Alarms that were raised, modes that were left, leases that were narrowed."""
        for alarm in self.guardian.alarms:
            seen.noticed.add(f"guardian: {alarm['alarm']}")
        for unit in self.guardian.units.values():
            if unit.settings.controls and unit.mode is not Mode.ARMED:
                seen.noticed.add(f"guardian: then {unit.mode}")
            if unit.soc is not None and unit.soc.unknown:
                seen.noticed.add("guardian: the state of charge is not known")


def _request(device: str, control: str, value: float, level: Level) -> Request:
    key = f"{control}={value}"
    return Request(
        device=device, control=control, value=value, level=level, owner="story", ttl_s=60.0, key=key, session=0
    )


@dataclass(frozen=True)
class Guarding:
    """A guardian holds a device at ``first``; then the fault stands, and after ``pause_s`` it is told ``then``."""

    kind: str = "hybrid"
    control: str = "limit_w"
    first: float | None = None
    then: float | None = 3000.0
    run_s: float = 20.0
    pause_s: float = 2.0
    settings: tuple[tuple[str, Any], ...] = ()
    soc: bool = False  # the state of charge is guarded
    night: bool = False
    also: tuple[tuple[str, float], ...] = ()  # a reboot of so many seconds, whether the fault stands or not
    grace_s: float = GRACE_S

    async def tell(self, fault: str, params: Params) -> Seen:
        loop = asyncio.get_running_loop()
        seen = Seen()
        device = build_device(self.kind, clock=loop.time, **{"ramp_w_per_s": 50_000.0, **dict(self.settings)})
        if self.night:
            device.around.irradiance = 0.0
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = await stack.enter_async_context(EmulatorServer((device,), clock=loop.time))
            safe: Any = 1000.0 if self.control == "limit_w" else 0.0
            rule = {"safe": safe, "default": "released" if self.control == "limit_w" else safe, "dwell_s": 0.0}
            wanted = {
                "id": "one",
                "address": server.address,
                "controls": {self.control: rule},
                "soc": {} if self.soc else None,
            }
            held = _Held(folder, [wanted])
            await held.start(stack)
            if self.first is not None:
                held.lease("one", self.control, self.first)
                await asyncio.sleep(5.0)
            switched(device.board, fault, params)
            for kind, seconds in self.also:
                switched(device.board, kind, {"off_s": seconds})
            await asyncio.sleep(self.pause_s)
            if self.then is not None:
                held.lease("one", self.control, self.then)
            await asyncio.sleep(self.run_s)
            held.noticed(seen)
        seen.struck = device.board.log.counts[fault] if fault else 0
        return seen


@dataclass(frozen=True)
class Site:
    """An inverter behind a meter and a switch; the export is limited by the guardian, which is told nothing else."""

    run_s: float = 15.0
    target: str = "street"
    then: str = ""
    values: tuple[tuple[str, str, float], ...] = ()  # device, reading and what it is as long as all is well
    grace_s: float = GRACE_S

    async def tell(self, fault: str, params: Params) -> Seen:
        seen = Seen()
        inverter = {"service_delay_s": 5.0, "ramp_w_per_s": 50_000.0}
        devices = [
            {"id": "roof", "kind": "hybrid", "settings": inverter},
            {"id": "meter", "kind": "meter"},
            {"id": "breaker", "kind": "switch"},
        ]
        street = {"id": "street", "devices": devices, "loads": [{"w": 900.0, "phase": "a"}]}
        part = FleetPart(Fleet.model_validate({"sites": [street]}), ["street"])
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            places = {one["id"]: one["address"] for one in await part.start()}
            stack.push_async_callback(part.stop)
            controls = {"limit_w": {"safe": 1000.0, "default": "released"}}
            held = _Held(
                folder,
                [
                    {"id": "roof", "address": places["roof"], "controls": controls},
                    {"id": "meter", "address": places["meter"]},
                    {"id": "breaker", "address": places["breaker"], "profile": "emulated-switch"},
                ],
                connection={"export_w": 4000.0, "load_w": 2000.0, "meter": "meter"},
            )
            await held.start(stack)
            await asyncio.sleep(5.0)
            usual = _qualities(held.guardian)
            if fault:
                part.answer("switch_on", {"id": self.target, "fault": {"kind": fault, **params}})
            if self.then == "open":
                await held.lines["breaker"].write(1, Frame(0, (0,), 6))
            await asyncio.sleep(self.run_s)
            held.noticed(seen)
            for (device, name), quality in _qualities(held.guardian).items():
                if usual.get((device, name), quality) != quality:
                    seen.noticed.add(f"quality: {device} {name} {quality}")
            for device, name, value in self.values:
                reading = held.guardian.units[device].readings[name]
                if reading.is_good and abs((reading.value or 0.0) - value) > 0.01 * abs(value):
                    seen.noticed.add(f"quality: {device} {name} says {reading.value:.4g}")
            seen.struck = len([one for one in part.answer("log", {}) if one["kind"] == fault])
        return seen


def _qualities(guardian: Guardian) -> dict[tuple[str, str], str]:
    return {
        (unit.id, name): str(reading.quality)
        for unit in guardian.units.values()
        for name, reading in unit.readings.items()
    }


@dataclass(frozen=True)
class Commissioning:
    """Somebody commissions a 10 kW inverter: with model 704 its fallback can be chosen, without it is released."""

    chosen: bool = False
    timer_s: int = 4
    minutes: bool = False
    stages: tuple[str, ...] = STAGES
    control: str = "limit_w"
    grace_s: float = GRACE_S

    async def tell(self, fault: str, params: Params) -> Seen:
        seen = Seen()
        power = self.control == "power_w"
        async with emulated(
            timer_s=self.timer_s,
            minutes=self.minutes,
            poll_s=0.1,
            storage=power,
            controls=(self.control,),
            leave_out=() if self.chosen or power else (704,),
        ) as one:
            switched(one.device.board, fault, params)
            record = await one.commissioned(*self.stages)
            control = one.bench.driver.controls[self.control]
            _recorded(record, self.control, seen)
            safe: Any = 1000.0 if control.fallback == "chosen" else "released"
            if not may_arm(record, control, safe, timer_s=20.0)[0] and "timers" in self.stages:
                seen.noticed.add("commissioning: it may not be armed")
            seen.struck = one.device.board.log.counts[fault] if fault else 0
        return seen


def _recorded(record: Record, control: str, seen: Seen) -> None:
    """What a record says that is not as it should be."""
    for step in record.steps:
        if step.outcome == "failed":
            seen.noticed.add(f"commissioning: {step.name}: {step.text}")
        elif "stays at" in step.text:
            seen.noticed.add("commissioning: limits: stays at")
    found = record.controls.get(control)
    if found is None:
        return
    seen.noticed |= {f"commissioning: {one}" for one in found.behaviours if one is not Behaviour.STANDARD}
    if found.timer is not None and found.timer.counts is False:
        seen.noticed.add("commissioning: the seconds left are not counted")
    for function, taken in (("06", found.writes_06), ("16", found.writes_16)):
        if taken is False:
            seen.noticed.add(f"commissioning: function {function} is not taken")


@dataclass(frozen=True)
class Transformers:
    """Somebody commissions a site's meter by switching a known load on phase a."""

    grace_s: float = GRACE_S

    async def tell(self, fault: str, params: Params) -> Seen:
        seen = Seen()
        load = {"id": "load", "kind": "load", "phase": "a", "settings": {"power_w": 2000.0}}
        street = {"id": "street", "devices": [{"id": "meter", "kind": "meter"}, load]}
        part = FleetPart(Fleet.model_validate({"sites": [street]}), ["street"])
        async with contextlib.AsyncExitStack() as stack:
            places = {one["id"]: one["address"] for one in await part.start()}
            stack.push_async_callback(part.stop)
            meter, relay = (Line(parse_address(places[name]), PATIENT) for name in ("meter", "load"))
            await stack.enter_async_context(meter)
            await stack.enter_async_context(relay)
            if fault:
                part.answer("switch_on", {"id": "street", "fault": {"kind": fault, **params}})

            async def shed(word: int) -> None:
                assert (await relay.write(1, Frame(40, (word,)))).ok
                await asyncio.sleep(1.0)

            await shed(1)
            bench = Bench(
                await discover(lambda span: meter.read(1, span)),
                meter,
                1,
                Answers(
                    {"load_step_w": 2000, "load_step_phases": "a"},
                    {"load_on": lambda: shed(0), "load_off": lambda: shed(1)},
                ),
            )
            stages = tuple(stage for stage in STAGES_OF_ALL if stage.name == "transformers")
            record = await commission(bench, Place(places["meter"], 1, "sunspec"), lambda: NOON, stages=stages)
            seen.noticed |= {
                f"commissioning: {one.name}: {one.text}" for one in record.steps if one.outcome != "passed"
            }
            seen.struck = len([one for one in part.answer("log", {}) if one["kind"] == fault])
        return seen
