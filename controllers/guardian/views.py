"""What the guardian shows of itself: status, devices, figures for Prometheus. Only looks; changes nothing."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from controllers.guardian.decide import part_of
from controllers.guardian.guardian import Guardian
from controllers.guardian.held import Held
from controllers.guardian.messages import reading_out
from controllers.guardian.settings import Mode
from controllers.guardian.unit import Unit
from core.quality import Quality
from hardware.driver import CONTROLS

_WORST_FIRST = (
    Quality.COMM_FAIL,
    Quality.IMPLAUSIBLE,
    Quality.FROZEN,
    Quality.STALE,
    Quality.GOOD,
    Quality.NOT_IMPLEMENTED,
)


def status(guardian: Guardian, clients: int) -> dict[str, Any]:
    """The site as a whole; docs/guardian.md lists the keys."""
    pace = guardian.pace
    return {
        "site": guardian.site.name,
        "modes": {unit.id: str(unit.mode) for unit in guardian.units.values()},
        "stopped": guardian.stopped is not None,
        "stop": guardian.stopped,
        "journal_ok": not guardian.journal_why,
        "meter_ok": guardian.exchange_w is not None,
        "exchange_w": guardian.exchange_w,
        "unprotected": unprotected(guardian),
        "cycle": {
            "count": pace.count,
            "overruns": pace.overruns,
            "skipped": pace.skipped,
            "lateness_p99_s": pace.lateness_p99_s,
            "lateness_max_s": pace.lateness_max_s,
            "length_s": pace.cycle_s,
        },
        "clients": clients,
        "leases": len(guardian.arbiter.live(asyncio.get_running_loop().time())),
        "standing": [
            {"device": device, "alarm": alarm, "why": why} for (device, alarm), why in guardian.standing.items()
        ],
        "alarms": list(guardian.alarms),
    }


def unprotected(guardian: Guardian) -> str:
    """Why the limit on feeding in would not hold without a guardian; empty if it would.

    When every device has fallen back to its safe value, the sum of what they may feed in then has to be allowed.
    """
    limit_w = guardian.site.connection.export_w
    if limit_w is None:
        return ""
    total_w = guardian.site.connection.source_w
    for unit in guardian.units.values():
        if unit.id != guardian.site.connection.meter:
            held = unit.held.get("limit_w")
            safe = None if held is None else held.settings.safe_value
            total_w += part_of(unit.image()).export_w if safe is None else safe
    if total_w <= limit_w:
        return ""
    return f"with the guardian gone, up to {total_w:g} W may be fed in where {limit_w:g} W are allowed"


def devices(guardian: Guardian) -> list[dict[str, Any]]:
    """Every device; docs/guardian.md lists the keys."""
    return [_device(guardian, unit) for unit in guardian.units.values()]


def _device(guardian: Guardian, unit: Unit) -> dict[str, Any]:
    driver = unit.driver
    found = {reading.quality for reading in unit.readings.values()}
    worst = next((quality for quality in _WORST_FIRST if quality in found), Quality.COMM_FAIL)
    return {
        "id": unit.id,
        "building": unit.settings.building,
        "profile": unit.settings.profile,
        "address": str(unit.line.address),
        "unit": unit.settings.unit,
        "mode": str(unit.mode),
        "link": unit.problem or "up",
        "identity": None if driver is None else asdict(driver.identity),
        "ratings": None if driver is None else asdict(driver.ratings),
        "not_armable": list(unit.obstacles),
        "arming": unit.id in guardian.arm_at_start,
        "controls": {name: _control(guardian, unit, held) for name, held in unit.held.items()},
        "quality": str(worst),
    }


def _control(guardian: Guardian, unit: Unit, held: Held) -> dict[str, Any]:
    now_s = asyncio.get_running_loop().time()
    name = held.control.name
    lease = guardian.arbiter.resolve(unit.id, name, now_s)
    return {
        "low": held.rule.low,
        "high": held.rule.high,
        "resolution": held.rule.resolution,
        "cap": held.rule.cap,
        "unit": CONTROLS[name],
        "safe": held.settings.safe,
        "default": held.settings.safe if held.settings.default is None else held.settings.default,
        "value": held.standing.value,
        "found": held.found(unit.readings),
        "why": held.wished.why,
        "owner": "" if lease is None else lease.request.owner,
        "level": "default" if lease is None else lease.request.level.name.lower(),
        "expires_in_s": None if lease is None else max(lease.expires_s - now_s, 0.0),
        "written_age_s": None if math.isinf(held.standing.at_s) else now_s - held.standing.at_s,
    }


def measure(unit: Unit) -> dict[str, dict[str, Any]]:
    """The latest readings of a device, ready for a message."""
    now_s = asyncio.get_running_loop().time()
    return {name: reading_out(reading, now_s) for name, reading in unit.readings.items()}


def metrics(guardian: Guardian, clients: int) -> list[dict[str, Any]]:
    """Figures for Prometheus; units are in the names, seconds and watts."""
    pace = guardian.pace
    found: list[dict[str, Any]] = []

    def add(kind: str, name: str, text: str, value: float, **labels: str) -> None:
        found.append(
            {
                "name": f"peerwatt_guardian_{name}",
                "kind": kind,
                "help": text,
                "labels": {"site": guardian.site.name, **labels},
                "value": value,
            }
        )

    add("counter", "cycles_total", "cycles begun", pace.count)
    add("counter", "cycle_overruns_total", "cycles not done when the next was due", pace.overruns)
    add("counter", "cycles_skipped_total", "cycles left out because of overruns", pace.skipped)
    add("gauge", "cycle_lateness_p99_seconds", "99 of 100 cycles began no later than this", pace.lateness_p99_s)
    add("gauge", "cycle_lateness_max_seconds", "latest begin of a cycle", pace.lateness_max_s)
    add("counter", "registers_written_total", "registers written, retries not counted", guardian.registers_written)
    add("gauge", "journal_ok", "1 the journal takes records", float(not guardian.journal_why))
    add("gauge", "stopped", "1 a stop is latched", float(guardian.stopped is not None))
    add("gauge", "clients", "sessions on the socket", clients)
    add("gauge", "alarms_standing", "alarms that stand", len(guardian.standing))
    if guardian.exchange_w is not None:
        add("gauge", "exchange_watts", "power at the connection point, positive draws", guardian.exchange_w)
    for mode, count in Counter(unit.mode for unit in guardian.units.values()).items():
        add("gauge", "devices", "devices by mode", count, mode=str(mode))
    for unit in guardian.units.values():
        add("gauge", "device_up", "1 its state is current", float(unit.is_current), device=unit.id)
        add("gauge", "device_armed", "1 it is written to", float(unit.mode is Mode.ARMED), device=unit.id)
        power = unit.readings.get("w")
        if power is not None and power.is_good and power.value is not None:
            add("gauge", "device_power_watts", "active power, positive draws", power.value, device=unit.id)
    return found
