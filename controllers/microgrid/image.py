"""What the supervisor of a microgrid sees and says: one frozen image in, one decision out, every island cycle (100 ms).

Load convention: ``p_kw > 0`` draws, a source that supplies has ``p_kw < 0``; ``exchange_kw > 0`` is drawn from the grid
over the switch at the connection point. What is not known to be good is None: a failed reading is never a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Kw = float | None


class State(StrEnum):
    """States of the microgrid (the shape of IEEE 2030.7-2017, transition functions)."""

    CONNECTED = "connected"
    PLANNED_OUT = "planned-out"
    UNPLANNED_OUT = "unplanned-out"
    ISLANDED = "islanded"
    RECONNECTING = "reconnecting"
    BLACK = "black"
    STARTING = "starting"
    LOCKOUT = "lockout"


class Switch(StrEnum):
    """What the feedback contacts of the switch at the connection point say; contradicting ones are ``unknown``."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Order(StrEnum):
    """What a person or the operator wants of the microgrid."""

    ISLAND = "island"
    RECONNECT = "reconnect"
    BLACK_START = "black-start"
    STOP = "stop"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the switch: voltage [p.u.], frequency [Hz], and whether the phases follow in the right order."""

    v_pu: float | None
    f_hz: float | None
    phases_right: bool | None = True


@dataclass(frozen=True, slots=True)
class Source:
    """A source as measured. ``soc`` and ``capacity_kwh`` are None where nothing is stored (PV, a generator).

    ``can_form`` says whether it can hold voltage and frequency alone, ``forming`` whether it does so now, ``running``
    whether it is energised, ``charge_kw`` and ``discharge_kw`` what it can take and give at most (both >= 0).
    """

    id: str
    rating_kw: float
    can_form: bool
    forming: bool | None
    running: bool | None
    p_kw: Kw
    q_kvar: Kw
    charge_kw: float
    discharge_kw: float
    soc: float | None = None
    capacity_kwh: float | None = None
    droop_hz_per_kw: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """A block of load behind its own contactor. Priority 1 is kept longest; the largest number is shed first.

    ``p_kw`` >= 0 is what it draws, or what it last drew if it is off; ``inrush_kw`` what it may draw for a moment when
    it is switched on.
    """

    id: str
    priority: int
    p_kw: Kw
    on: bool | None
    inrush_kw: float = 0.0


@dataclass(frozen=True, slots=True)
class Image:
    """Everything that is known at one instant.

    ``angle_deg`` is the island's voltage against the grid's, -180..180. ``acknowledged`` and ``refused`` number the
    commands that their device has confirmed by reading back, or refused, since the last image. ``forecast_kw`` is the
    island's expected net load per quarter hour from now on, load-signed; () without a forecast.
    """

    now_s: float
    grid: Side
    island: Side
    switch: Switch
    exchange_kw: Kw
    angle_deg: float | None
    sources: tuple[Source, ...]
    loads: tuple[Load, ...]
    orders: tuple[Order, ...] = ()
    acknowledged: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    forecast_kw: tuple[float, ...] = ()


class Do(StrEnum):
    """What a device can be told."""

    OPEN = "open"  # the switch
    CLOSE = "close"
    FORM = "form"  # a source: hold voltage and frequency; value: frequency reference at no load [Hz]
    FOLLOW = "follow"  # a source: follow the voltage it finds; value: power [kW], load-signed
    POWER = "power"  # a source: power reference [kW], load-signed
    REFERENCE = "reference"  # a forming source: frequency reference at no load [Hz]
    VOLTAGE = "voltage"  # a forming source: voltage reference at no load [p.u.]
    DROOP = "droop"  # a forming source: value [Hz per kW]
    START = "start"  # a source that stands still
    HALT = "halt"
    SHED = "shed"  # a load
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Command:
    """One order to one device (id of a source or load, or ``switch``).

    ``number`` comes back in ``Image.acknowledged`` or ``Image.refused``.
    """

    number: int
    do: Do
    device: str
    value: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """Something a person wants to know: a change of state, a shed load, a refusal. ``kind`` is kebab-case."""

    kind: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What the supervisor makes of an image: the state it is in now, its commands in order, and what there is to tell.

    ``safe`` is the written safe state of each device in this state: (device, what it falls back to by itself when
    nobody speaks to it any more).
    """

    state: State
    commands: tuple[Command, ...] = ()
    news: tuple[News, ...] = ()
    safe: tuple[tuple[str, str], ...] = ()
