"""Faults that can be switched on: `FaultBoard`, one for each device and one for each port.

A board is pure: time is passed in, chance is drawn by name and number, so that equal requests give equal faults.
Whoever plays a fault asks the board and does what the fault's parameters say; the board writes it down.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.errors import DeviceError
from core.keyed_random import keyed_hash_u64
from hardware.emulator.fault_log import FaultEntry, FaultLog
from hardware.emulator.faults_catalogue import CATALOGUE, catalogue_markdown
from hardware.emulator.faults_kinds import GROUPS, FaultKind, Param, Value

__all__ = [
    "CATALOGUE",
    "GROUPS",
    "Fault",
    "FaultBoard",
    "FaultEntry",
    "FaultKind",
    "FaultLog",
    "Param",
    "Value",
    "catalogue_markdown",
    "kind_named",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault switched on: it stands from ``from_s`` to before ``until_s`` of the board's clock."""

    id: int
    kind: str
    params: Mapping[str, Value]
    unit: int | None
    from_s: float
    until_s: float
    probability: float
    seed: int

    def number(self, name: str) -> float:
        """A parameter that is a number."""
        return float(self.params[name])

    def whole(self, name: str) -> int:
        """A parameter that is a whole number (rounded)."""
        return round(float(self.params[name]))

    def word(self, name: str) -> str:
        """A parameter that is a word."""
        return str(self.params[name])

    def on(self, now_s: float) -> bool:
        """Whether it stands at ``now_s``."""
        return self.from_s <= now_s < self.until_s


def kind_named(name: str) -> FaultKind:
    """The kind of that name; raises DeviceError (local) with the nearest names."""
    kind = CATALOGUE.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, CATALOGUE, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(near)}?" if near else "see the catalogue of faults"
        raise DeviceError(f"there is no fault {name!r}", local=True, remedy=remedy)
    return kind


class FaultBoard:
    """The faults of one device (``unit``) or of one port (``unit`` None).

    Parameters
    ----------
    unit
        Modbus unit of the device; named in the log.
    log
        Where injected faults go; may be shared with other boards. Its own by default.
    """

    def __init__(self, unit: int | None = None, log: FaultLog | None = None) -> None:
        self.unit = unit
        self.log = FaultLog() if log is None else log
        self.on_change: Callable[[], None] | None = None  # told of every switch; the server's port listens
        self._by_kind: dict[str, list[Fault]] = {}
        self._draws: dict[int, int] = {}
        self._felt: dict[int, bool] = {}
        self._next_id = 1

    @property
    def quiet(self) -> bool:
        """Whether nothing is switched on at all."""
        return not self._by_kind

    def free_of(self, kinds: frozenset[str]) -> bool:
        """Whether none of ``kinds`` is switched on."""
        return kinds.isdisjoint(self._by_kind)

    def switch_on(
        self,
        kind: str,
        *,
        from_s: float = 0.0,
        until_s: float = math.inf,
        probability: float = 1.0,
        seed: int = 0,
        **params: float | str,
    ) -> int:
        """Switch a fault on and return its number; raises DeviceError (local) when something about it is nonsense."""
        checked = kind_named(kind).checked(params)
        if not (math.isfinite(from_s) and until_s > from_s):
            raise DeviceError(
                f"fault {kind} would stand from {from_s} to {until_s} s", local=True, remedy="until_s > from_s"
            )
        if not 0.0 <= probability <= 1.0:
            raise DeviceError(f"fault {kind} has probability {probability}", local=True, remedy="choose one in 0 .. 1")
        fault = Fault(self._next_id, kind, checked, self.unit, from_s, until_s, probability, seed)
        self._next_id += 1
        self._by_kind.setdefault(kind, []).append(fault)
        self._tell()
        return fault.id

    def switch_off(self, fault_id: int) -> None:
        """Switch one off; nothing happens when it is off already."""
        for fault in self.faults():
            if fault.id == fault_id:
                self._remove(fault)
                self._tell()

    def clear(self) -> None:
        """Switch everything off."""
        self._by_kind.clear()
        self._draws.clear()
        self._felt.clear()
        self._tell()

    def forget(self, now_s: float) -> None:
        """Drop those whose time is over, so that the board is quiet again although nobody asks for them."""
        for fault in [fault for faults in self._by_kind.values() for fault in faults if fault.until_s <= now_s]:
            self._remove(fault)

    def faults(self) -> tuple[Fault, ...]:
        """All that are switched on, also those whose time has not come, by number."""
        return tuple(sorted((f for faults in self._by_kind.values() for f in faults), key=lambda fault: fault.id))

    def all_standing(self, kind: str, now_s: float) -> tuple[Fault, ...]:
        """Those of a kind that stand, newest first; forgets those whose time is over."""
        faults = self._by_kind.get(kind)
        if not faults:
            return ()
        for fault in [fault for fault in faults if fault.until_s <= now_s]:
            self._remove(fault)
        return tuple(fault for fault in reversed(faults) if fault.on(now_s))

    def standing(self, kind: str, now_s: float) -> Fault | None:
        """The newest of that kind that stands: nothing is drawn, nothing is logged."""
        if kind not in self._by_kind:
            return None
        found = self.all_standing(kind, now_s)
        return found[0] if found else None

    def strike(
        self, kind: str, now_s: float, where: Callable[[Fault], bool] | None = None, /, **detail: object
    ) -> Fault | None:
        """The newest of that kind that stands, passes ``where`` and is drawn; it is logged as injected."""
        if kind not in self._by_kind:
            return None
        for fault in self.all_standing(kind, now_s):
            if (where is None or where(fault)) and self._drawn(fault):
                self._record(fault, now_s, detail)
                return fault
        return None

    def lasting(self, kind: str, now_s: float, /, **detail: object) -> Fault | None:
        """Like `standing`, for a condition that lasts: drawn once and logged once, when it is first felt."""
        if kind not in self._by_kind:
            return None
        for fault in self.all_standing(kind, now_s):
            felt = self._felt.get(fault.id)
            if felt is None:
                felt = self._felt[fault.id] = self._drawn(fault)
                if felt:
                    self._record(fault, now_s, detail)
            if felt:
                return fault
        return None

    def share(self, fault: Fault, purpose: str) -> float:
        """A number in [0, 1) that belongs to this fault's latest draw: for delays and bytes of noise."""
        return keyed_hash_u64(fault.seed, purpose, *self._key(fault), self._draws.get(fault.id, 0)) / 2.0**64

    def _key(self, fault: Fault) -> tuple[str, int, int]:
        return fault.kind, -1 if fault.unit is None else fault.unit, fault.id

    def _drawn(self, fault: Fault) -> bool:
        number = self._draws[fault.id] = self._draws.get(fault.id, 0) + 1
        if fault.probability >= 1.0:
            return True
        return keyed_hash_u64(fault.seed, "fault", *self._key(fault), number) / 2.0**64 < fault.probability

    def _record(self, fault: Fault, now_s: float, detail: Mapping[str, object]) -> None:
        self.log.add(now_s, fault.kind, fault.unit, fault.id, fault.params, detail)

    def _remove(self, fault: Fault) -> None:
        faults = self._by_kind[fault.kind]
        faults.remove(fault)
        if not faults:
            del self._by_kind[fault.kind]
        self._draws.pop(fault.id, None)
        self._felt.pop(fault.id, None)

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()
