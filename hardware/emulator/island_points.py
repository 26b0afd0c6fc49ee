"""Register maps of the devices of an emulated island; numbers of several registers are high word first."""

from __future__ import annotations

from hardware.emulator.charger import identity_points
from hardware.emulator.image import PlainPoint
from hardware.emulator.timers import RevertGroup

SOURCE, SWITCH, BLOCK = 3, 4, 5
"""Second register of the maps: what they are of."""

HALT, FOLLOW, FORM, START = 0, 1, 2, 3
"""Values of a source's mode."""
OFF, ON, HOLD = 0, 1, 2
"""Values of the order of switch and block: open or shed, closed or on, as it is."""


def _dead_man(at: int, safe: tuple[PlainPoint, ...]) -> tuple[PlainPoint, ...]:
    left = safe[-1].address + (2 if safe[-1].kind == "int32" else 1)
    return (
        PlainPoint(
            "Watchdog", at, "uint16", 0, "s", True, 0, 65534, "without a write for so long it falls back; 0 off"
        ),
        *safe,
        PlainPoint("WatchdogLeft", left, "uint16", 0, "s", meaning="seconds until then; 0: not running"),
    )


SOURCE_POINTS: tuple[PlainPoint, ...] = (
    *identity_points(),
    PlainPoint("RatedW", 8, "uint32", 0, "W", meaning="rating"),
    PlainPoint("CapacityWh", 10, "uint32", 0, "Wh", meaning="stored energy when full, 0: nothing is stored"),
    PlainPoint("CanForm", 12, "uint16", meaning="1: can hold voltage and frequency alone"),
    PlainPoint("W", 16, "int32", 0, "W", meaning="active power, > 0 draws"),
    PlainPoint("Var", 18, "int32", 0, "var", meaning="reactive power, > 0 absorbs"),
    PlainPoint("V", 20, "uint16", -1, "V", meaning="voltage to neutral at its terminals"),
    PlainPoint("Hz", 21, "uint16", -3, "Hz", meaning="frequency; absent without voltage"),
    PlainPoint("Soc", 22, "uint16", -4, "", meaning="state of charge, 0 .. 1; absent where nothing is stored"),
    PlainPoint("State", 23, "uint16", meaning="0 stands still, 1 starts, 2 runs, 3 tripped"),
    PlainPoint("Forming", 24, "uint16", meaning="1: holds voltage and frequency"),
    PlainPoint("Heartbeat", 25, "uint16", meaning="counts tenths of a second"),
    PlainPoint("GiveW", 26, "uint32", 0, "W", meaning="what it can give now"),
    PlainPoint("TakeW", 28, "uint32", 0, "W", meaning="what it can take now"),
    PlainPoint("Mode", 40, "uint16", 0, "", True, 0, 3, "0 halt, 1 follow, 2 form, 3 start"),
    PlainPoint("Reference", 41, "uint16", -3, "Hz", True, 45.0, 55.0, "frequency without load while it forms"),
    PlainPoint("ReferenceV", 42, "uint16", -2, "V", True, 180.0, 280.0, "voltage without load while it forms"),
    PlainPoint("Droop", 43, "uint16", -5, "", True, 0.0001, 0.1, "fall of frequency at rating, share of 50 Hz"),
    PlainPoint("PowerSet", 44, "int32", 0, "W", True, meaning="power while it follows, > 0 draws"),
    *_dead_man(
        46,
        (
            PlainPoint("SafeMode", 47, "uint16", 0, "", True, 0, 2, "mode when nobody has written for that long"),
            PlainPoint("SafeReference", 48, "uint16", -3, "Hz", True, 45.0, 55.0, "reference then"),
            PlainPoint("SafePower", 49, "int32", 0, "W", True, meaning="power then"),
        ),
    ),
)
"""Holding registers of a source."""

SWITCH_POINTS: tuple[PlainPoint, ...] = (
    *identity_points(),
    PlainPoint("ContactA", 16, "uint16", meaning="1 while the main contacts are closed"),
    PlainPoint("ContactB", 17, "uint16", meaning="1 while they are open: the two must differ"),
    PlainPoint("GridV", 18, "uint16", -1, "V", meaning="voltage to neutral on the grid's side"),
    PlainPoint("GridHz", 19, "uint16", -3, "Hz", meaning="frequency there; absent without voltage"),
    PlainPoint("GridPhases", 20, "uint16", meaning="1: the phases follow in the right order; absent without voltage"),
    PlainPoint("IslandV", 21, "uint16", -1, "V", meaning="voltage to neutral on the island's side"),
    PlainPoint("IslandHz", 22, "uint16", -3, "Hz", meaning="frequency there"),
    PlainPoint("IslandPhases", 23, "uint16", meaning="phase order there"),
    PlainPoint("Angle", 24, "int16", -1, "degree", meaning="island against grid, > 0 ahead; absent if one is dead"),
    PlainPoint("W", 25, "int32", 0, "W", meaning="exchange with the grid, > 0 draws from it"),
    PlainPoint("SyncOk", 27, "uint16", meaning="1: its synchronism-check relay would let it close now"),
    PlainPoint("Operations", 28, "uint16", meaning="openings and closings since it was made"),
    PlainPoint("Heartbeat", 29, "uint16", meaning="counts tenths of a second"),
    PlainPoint("Order", 40, "uint16", 0, "", True, 0, 2, "0 open, 1 close, 2 stay as it is"),
    *_dead_man(
        41, (PlainPoint("Safe", 42, "uint16", 0, "", True, 0, 2, "order then: 0 or 2, it never closes by itself"),)
    ),
)
"""Holding registers of the island's switch."""

BLOCK_POINTS: tuple[PlainPoint, ...] = (
    *identity_points(),
    PlainPoint("RatedW", 8, "uint32", 0, "W", meaning="what it draws at nominal voltage"),
    PlainPoint("InrushW", 10, "uint32", 0, "W", meaning="what it may draw for a moment when it is switched on"),
    PlainPoint("W", 16, "int32", 0, "W", meaning="active power, > 0 draws"),
    PlainPoint("LastW", 18, "uint32", 0, "W", meaning="what it drew last while it was fed, inrush apart"),
    PlainPoint("Contact", 20, "uint16", meaning="feedback of the contactor: 1 closed"),
    PlainPoint("Heartbeat", 21, "uint16", meaning="counts tenths of a second"),
    PlainPoint("Order", 40, "uint16", 0, "", True, 0, 2, "0 shed, 1 on, 2 stay as it is"),
    *_dead_man(41, (PlainPoint("Safe", 42, "uint16", 0, "", True, 0, 2, "order then: 0 or 2"),)),
)
"""Holding registers of a block of load."""

SOURCE_GROUP = RevertGroup(
    "Watchdog",
    "Watchdog",
    ("Mode", "Reference", "ReferenceV", "Droop", "PowerSet", "SafeMode", "SafeReference", "SafePower"),
    {"Mode": "SafeMode", "Reference": "SafeReference", "PowerSet": "SafePower"},
    "WatchdogLeft",
)
ORDER_GROUP = RevertGroup("Watchdog", "Watchdog", ("Order", "Safe"), {"Order": "Safe"}, "WatchdogLeft")
"""Dead men: they run while `Watchdog` is not 0, and every write starts them again."""
