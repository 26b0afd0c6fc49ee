"""What a driver is: a device's registers as values and orders, without any input or output of its own.

A driver says which registers to read (`Driver.spans`), turns what came into readings (`Driver.decode`) and an order
into the frames to write (`Driver.encode`). Whoever owns the link sends them: so every frame can be written down before
it leaves, and a million register images can be tried without a socket.

Units are watts, volts, amperes, seconds; the sign is the load convention (``w`` > 0 draws from the grid, charging is
positive). A driver converts from its device's own units and sign; nobody else does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from core.quality import Reading


class Group(enum.StrEnum):
    """How often a value is wanted."""

    FAST = "fast"  # every cycle: power, state, what controls say
    SLOW = "slow"  # every minute or so: counters, temperatures, settings
    ONCE = "once"  # when the device is first met, and after each reconnect: identity, ratings


@dataclass(frozen=True, slots=True)
class Span:
    """Registers that are read in one request. ``function`` is 3 (holding) or 4 (input registers)."""

    address: int
    count: int
    function: int = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """Registers that are written in one request. ``function`` is 6 (one register) or 16."""

    address: int
    words: tuple[int, ...]
    function: int = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """What came back for a `Span`: its words, or None and why.

    ``sent_s`` and ``received_s`` are monotonic [s]; ``sequence`` counts the requests of the link.
    """

    span: Span
    words: tuple[int, ...] | None
    sent_s: float
    received_s: float
    sequence: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device says it is. Commissioning records are kept by manufacturer, model, serial and firmware."""

    manufacturer: str
    model: str
    serial: str
    firmware: str
    options: str = ""


@dataclass(frozen=True, slots=True)
class Ratings:
    """Nameplate values, none negative; None where the device does not say."""

    w: float | None = None  # highest active power at the AC terminals
    va: float | None = None
    var: float | None = None
    charge_w: float | None = None
    discharge_w: float | None = None
    capacity_wh: float | None = None
    a: float | None = None  # highest current per phase


class Fallback(enum.StrEnum):
    """Where a control goes when its timer runs out, according to the device's documents (commissioning measures it)."""

    RELEASED = "released"  # the limit is taken away: output may rise
    CHOSEN = "chosen"  # to a value that is written beforehand (SunSpec 704)
    NONE = "none"  # there is no timer: the last order stands for ever


@dataclass(frozen=True, slots=True)
class Control:
    """Something a device can be told.

    Parameters
    ----------
    name
        One of `CONTROLS`.
    low, high
        What may be asked for, in the control's unit.
    resolution
        Smallest step that the registers can hold, > 0.
    fallback
        What its timer does.
    timer_max_s
        Longest timer [s]; 0 without one.
    measured_by
        Name of the reading that shows the effect, or empty.
    cap
        True: an upper limit, met by anything below it; False: a target.
    flash
        Whether a write wears out the device's flash: then only changes are written (R21).
    """

    name: str
    low: float
    high: float
    resolution: float
    fallback: Fallback
    timer_max_s: int = 0
    measured_by: str = ""
    cap: bool = False
    flash: bool = False


CONTROLS: Mapping[str, str] = {
    "limit_w": "highest power fed in at the AC terminals [W, >= 0]",
    "power_w": "power of a storage at the AC terminals [W, positive charges]",
    "charge_limit_w": "highest charging power [W, >= 0]",
    "discharge_limit_w": "highest discharging power [W, >= 0]",
    "connect": "1 connects to the grid, 0 disconnects",
    "charge_current_a": "highest current per phase of a car charger [A, >= 0]",
    "shed": "1 sheds a load, 0 lets it run",
    "closed": "1 closes a switch, 0 opens it, 2 leaves it as it is",
    "load_on": "1 switches a block of load on, 0 sheds it, 2 leaves it as it is",
    "source_mode": "0 halts a source, 1 lets it follow a voltage, 2 lets it form one, 3 starts it",
    "reference_hz": "frequency of a forming source without load [Hz]",
    "reference_v": "voltage to neutral of a forming source without load [V]",
    "droop": "fall of a forming source's frequency at its rating, share of nominal",
}
"""Names of controls, with unit and sign."""

READINGS: Mapping[str, str] = {
    "w": "active power [W, > 0 draws from the grid]",
    "w_a": "active power of phase a [W]",
    "w_b": "active power of phase b [W]",
    "w_c": "active power of phase c [W]",
    "va": "apparent power [VA, >= 0]",
    "var": "reactive power [var, > 0 absorbs]",
    "pf": "power factor, -1 .. 1",
    "hz": "frequency [Hz]",
    "v_a": "voltage of phase a to neutral [V]",
    "v_b": "voltage of phase b to neutral [V]",
    "v_c": "voltage of phase c to neutral [V]",
    "a": "current, all phases [A]",
    "a_a": "current of phase a [A]",
    "a_b": "current of phase b [A]",
    "a_c": "current of phase c [A]",
    "imported_wh": "energy drawn since it was made [Wh], a counter",
    "exported_wh": "energy fed in since it was made [Wh], a counter",
    "dc_w": "power of the DC side [W, > 0 generates, < 0 charges a battery there]",
    "soc": "state of charge, 0 .. 1",
    "capacity_wh": "usable capacity of a storage [Wh]",
    "stored_wh": "energy stored [Wh]",
    "temperature_c": "temperature of the cabinet [degrees Celsius]",
    "state": "operating state, the device's own number",
    "connected": "1 connected to the grid, 0 not",
    "alarms": "alarm bits, the device's own",
    "limit_w": "the limit on feeding in that stands in the device [W]",
    "limit_enabled": "1 the limit is in force, 0 not",
    "limit_timer_s": "the timer set for the limit [s], 0 none",
    "limit_left_s": "seconds until the limit's timer runs out, where the device counts them",
    "power_w": "the storage set-point that stands in the device [W]",
    "power_enabled": "1 the set-point is in force, 0 not",
    "power_timer_s": "the timer set for the set-point [s], 0 none",
    "power_left_s": "seconds until the set-point's timer runs out, where the device counts them",
    "charge_limit_w": "the limit on charging that stands in the device [W]",
    "discharge_limit_w": "the limit on discharging that stands in the device [W]",
    "charge_current_a": "the current limit that stands in a charger [A]",
    "vehicle": "a charger's car: 0 none, 1 plugged in, 2 charging, 3 fault",
    "shed": "1 shed, 0 running",
    "heartbeat": "a counter of the device that has to move",
}
"""Names of readings, with unit and sign. A driver may add its own with the prefix ``x_``."""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to be told: hold ``control`` at ``value`` for at most ``timer_s``, then fall back.

    ``fallback`` is the value to fall back to, for controls that let it be chosen; None leaves the device's own.
    """

    control: str
    value: float
    timer_s: int
    fallback: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One write of an order and how to see that it was taken. Steps are done in order, each read back before the next.

    Parameters
    ----------
    purpose
        ``timer``, ``fallback``, ``value``, ``enable`` or ``release``: the timer comes first (R1).
    frame
        What is written.
    check
        What is read back, in one request.
    expected
        The words that the read-back must show, by place in ``check``; None is any.
    """

    purpose: str
    frame: Frame
    check: Span
    expected: tuple[int | None, ...]

    def confirmed(self, words: tuple[int, ...]) -> bool:
        """Whether the words read back are what was written."""
        return len(words) == len(self.expected) and all(
            want is None or want == found for want, found in zip(self.expected, words, strict=True)
        )


class Driver(Protocol):
    """One device behind registers. No method does input or output; none invents a value.

    Errors: `core.errors.DeviceError`, ``local`` when an order is nonsense (out of range, NaN, unknown control).
    """

    @property
    def identity(self) -> Identity:
        """Who it is."""
        ...

    @property
    def ratings(self) -> Ratings:
        """What it can."""
        ...

    @property
    def controls(self) -> Mapping[str, Control]:
        """What it can be told, by name."""
        ...

    @property
    def gap_s(self) -> float:
        """Shortest pause between two requests [s]."""
        ...

    def spans(self, group: Group) -> tuple[Span, ...]:
        """What to read. Value and scale factor of a point lie in one span."""
        ...

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        """Readings by name, of every point whose span was asked for: a failed span gives readings that say so."""
        ...

    def encode(self, order: Order) -> tuple[Step, ...]:
        """The writes that carry out ``order``: timer, fallback, value, enable. Refuses what does not fit (R9)."""
        ...

    def release(self, control: str) -> tuple[Step, ...]:
        """The writes that take a control back: the device is on its own again."""
        ...
