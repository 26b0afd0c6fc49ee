"""A guardian that is not there: answers as docs/guardian.md says, in memory, with whatever readings a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controllers.guardian.client import GuardianError, LeaseAnswer
from controllers.guardian.messages import Level
from core import DeviceError, Quality, Reading

LIMITS = {"limit_w": (0.0, 10_000.0), "power_w": (-5_000.0, 5_000.0), "charge_current_a": (0.0, 32.0)}


def reading(value: float | None, quality: Quality = Quality.GOOD, age_s: float = 0.0, reason: str = "") -> Reading:
    """A reading that is ``age_s`` old on this loop's clock."""
    now_s = asyncio.get_running_loop().time()
    return Reading(value, quality, now_s - age_s, now_s - age_s, 1, reason)


@dataclass
class StandIn:
    """One device, ``bench-1``, armed; a ``meter`` among ``modes`` has no controls. ``away``: it does not answer."""

    away: bool = False
    meter: str = "meter-1"
    modes: dict[str, str] = field(default_factory=lambda: {"bench-1": "armed"})
    readings: dict[str, Reading] = field(default_factory=dict)
    held: dict[str, tuple[str, Level, float]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, tuple[tuple[Any, ...], LeaseAnswer]] = field(default_factory=dict)

    def _note(self, what: str, **fields: Any) -> None:
        self.asked.append((what, fields))
        if self.away:
            raise DeviceError("no guardian answers at /run/guardian.sock", local=False, remedy="start it")

    async def devices(self) -> list[dict[str, Any]]:
        self._note("devices")
        controls = {
            name: {
                "low": low, "high": high, "resolution": 1.0, "cap": name == "limit_w", "unit": "W", "safe": "released",
                "default": "released", "value": self.held[name][2] if name in self.held else None, "why": "",
                "owner": self.held[name][0] if name in self.held else "", "level": "", "expires_in_s": None,
                "written_age_s": None,
            }
            for name, (low, high) in LIMITS.items()
        }  # fmt: skip
        identity = {"manufacturer": "peerwatt", "model": "hybrid", "serial": "PW-1", "firmware": "1.0", "options": ""}
        return [
            {
                "id": name, "building": "house-01", "profile": "sunspec", "address": "tcp://127.0.0.1:5020", "unit": 1,
                "mode": mode, "link": "up", "identity": identity, "ratings": {"w": 10_000.0}, "not_armable": [],
                "arming": False,
                "controls": controls if name != self.meter else {}, "quality": "good",
            }
            for name, mode in self.modes.items()
        ]  # fmt: skip

    async def measure(self, device: str) -> Mapping[str, Reading]:
        self._note("measure", device=device)
        if device not in self.modes:
            raise GuardianError(f"there is no device {device!r}", "unknown")
        return dict(self.readings) if self.readings else {"w": reading(-5_000.4), "soc": reading(0.505)}

    async def metrics(self) -> list[dict[str, Any]]:
        self._note("metrics")
        return [
            {"name": "peerwatt_guardian_cycle_overruns_total", "kind": "counter", "help": "Cycles that took too long",
             "labels": {}, "value": 3.0},
            {"name": "peerwatt_guardian_armed", "kind": "gauge", "help": "1 if armed", "labels": {"device": "bench-1"},
             "value": 1.0},
        ]  # fmt: skip

    async def hold(
        self, device: str, control: str, value: float, *, level: str, owner: str, ttl_s: float, key: str = ""
    ) -> LeaseAnswer:
        self._note("hold", device=device, control=control, value=value, level=level, owner=owner, ttl_s=ttl_s, key=key)
        content = (device, control, value, level, owner, ttl_s)
        if key in self.answers:
            before, answer = self.answers[key]
            return answer if before == content else _no("key-reused", "the key was used for another request")
        answer = self._decide(device, control, value, Level.named(level), owner, ttl_s)
        self.answers[key] = (content, answer)
        return answer

    def _decide(self, device: str, control: str, value: float, level: Level, owner: str, ttl_s: float) -> LeaseAnswer:
        if device not in self.modes or control not in LIMITS:
            return _no("unknown", f"there is no {control} of {device}")
        if self.modes[device] != "armed":
            return _no("not-armed", f"{device} is in {self.modes[device]}")
        low, high = LIMITS[control]
        if not low <= value <= high:
            return _no("out-of-range", f"{control} lies between {low:g} and {high:g}")
        if control in self.held and self.held[control][0] != owner and self.held[control][1] >= level:
            holder, at, held = self.held[control]
            return _no("held", "somebody holds it", {"owner": holder, "level": at.name.lower(), "value": held})
        self.held[control] = (owner, level, value)
        return LeaseAnswer(True, str(len(self.asked)), value, ttl_s, "", "", None)

    async def release(self, device: str, control: str, owner: str) -> bool:
        self._note("release", device=device, control=control, owner=owner)
        if control in self.held and self.held[control][0] == owner:
            del self.held[control]
            return True
        return False

    async def mode(self, device: str, mode: str, who: str) -> Mapping[str, str]:
        self._note("mode", device=device, mode=mode, who=who)
        if device not in self.modes:
            raise GuardianError(f"there is no device {device!r}", "unknown")
        self.modes[device] = mode
        return dict(self.modes)

    async def stop(self, reason: str, who: str) -> dict[str, Any]:
        self._note("stop", reason=reason, who=who)
        self.modes = dict.fromkeys(self.modes, "lockout")
        return {"ok": True, "devices": len(self.modes), "safe": len(self.modes), "failed": {}, "took_s": 0.18}


def _no(code: str, message: str, holder: Mapping[str, Any] | None = None) -> LeaseAnswer:
    return LeaseAnswer(False, "", None, 0.0, code, message, holder)
