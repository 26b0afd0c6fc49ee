"""What a value of a device can be at all, what two values of one sample owe each other, and how fast one can move.

Pure functions and tables behind `hardware.watch.Watch`; nothing in here remembers anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.quality import Quality, Reading
from hardware.driver import Ratings

POWERS = ("w", "w_a", "w_b", "w_c", "va", "var", "dc_w")
CURRENTS = ("a", "a_a", "a_b", "a_c")

FROZEN_AFTER: Mapping[str, int] = {
    **dict.fromkeys((*POWERS, *CURRENTS), 30),
    **dict.fromkeys(("v_a", "v_b", "v_c", "hz"), 60),
    "heartbeat": 10,
}
"""After how many identical new readings a value that never stands still is called frozen."""

ANCHORS = frozenset({"w", "w_a", "w_b", "w_c", "va", "var", "hz", "v_a", "v_b", "v_c", "soc", "pf"})
"""One of these outside its bounds says that the whole sample is not what it seems: a shifted or empty block."""

ALIVE = ("hz", "v_a", "v_b", "v_c")
"""Noisy and never 0 while there is a grid: they tell an idle device (0 W for hours) from a frozen one."""

_PHASES = ("a", "b", "c")
_FLAGS = ("connected", "limit_enabled", "power_enabled", "shed")
_MAGNITUDES = ("limit_w", "charge_limit_w", "discharge_limit_w", "charge_current_a", "capacity_wh")
_TIMERS = ("limit_timer_s", "limit_left_s", "power_timer_s", "power_left_s")
_COUNTERS = ("imported_wh", "exported_wh")
_PLACES = ("open", "closed")
_SIDES_APART = 0.2  # share by which the voltages on both sides of a closed switch may differ


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How strict a `hardware.watch.Watch` is.

    Parameters
    ----------
    cycle_s, slow_cycle_s
        How often values of the fast and of the slow group are read [s].
    slow
        Names of the slow group.
    stale_cycles
        Cycles, by source time, after which a value is stale.
    forget_s
        Age at which a value that could not be read again is given up: comm-fail, no value [s].
    frozen_after
        Identical new readings, by name, after which a value is frozen; names that are missing may stand still. None
        takes what the device's profile says, or else `FROZEN_AFTER`.
    rating_share
        Highest |power| as a share of the rating.
    rate_per_s
        Fastest change of a power as a share of its rating per second.
    hz, v
        Bands of frequency [Hz] and of voltage to neutral [V]; outside is no value but nonsense or no grid.
    dead_grid
        Whether a dead grid (0 Hz, 0 V) is a true value here: for the measuring side of an open switch.
    soc_step
        Jump of a state of charge that rounding and recalibration may make.
    counter_step_wh
        Jump of an energy counter that its resolution may make [Wh].
    reject, recover
        So many rejected readings in a row condemn a point, so many good ones in a row take that back.
    settle
        So many rejected readings in a row that agree with each other are a new level, not a fault.
    """

    cycle_s: float = 1.0
    slow_cycle_s: float = 60.0
    slow: frozenset[str] = frozenset()
    stale_cycles: int = 3
    forget_s: float = 300.0
    frozen_after: Mapping[str, int] | None = None
    rating_share: float = 1.2
    rate_per_s: float = 0.5
    hz: tuple[float, float] = (45.0, 66.0)
    v: tuple[float, float] = (150.0, 300.0)
    dead_grid: bool = False
    soc_step: float = 0.02
    counter_step_wh: float = 1000.0
    reject: int = 3
    recover: int = 3
    settle: int = 60


@dataclass(frozen=True, slots=True)
class Bound:
    """Lowest and highest plausible value, and where that comes from."""

    low: float
    high: float
    why: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a value may move: ``slack`` at once, and ``per_s`` more with every second; None downwards is never."""

    up_per_s: float
    up_slack: float
    down_per_s: float | None
    down_slack: float

    def breaks(self, before: float, after: float, seconds: float) -> bool:
        """Whether going from ``before`` to ``after`` in ``seconds`` is too much."""
        move = after - before
        if move >= 0.0:
            return move > self.up_slack + self.up_per_s * seconds
        return self.down_per_s is None or -move > self.down_slack + self.down_per_s * seconds


def highest_w(ratings: Ratings) -> float | None:
    """The largest active power that the ratings know of [W], or None."""
    known = [value for value in (ratings.w, ratings.va, ratings.charge_w, ratings.discharge_w) if value]
    return max(known) if known else None


def bounds_of(ratings: Ratings, settings: WatchSettings) -> dict[str, Bound]:
    """Bounds by name; a name without one may be anything."""
    share, most_w = settings.rating_share, highest_w(ratings)
    bounds = {
        "hz": Bound(*settings.hz, "the frequency band"),
        "pf": Bound(-1.001, 1.001, "-1 .. 1"),
        "soc": Bound(0.0, 1.0, "0 .. 1"),
        "temperature_c": Bound(-60.0, 150.0, "-60 .. 150 degrees"),
        "vehicle": Bound(0.0, 3.0, "0 .. 3"),
        "va": Bound(0.0, math.inf, "no apparent power is negative"),
    }
    bounds |= {f"v_{phase}": Bound(*settings.v, "the voltage band") for phase in _PHASES}
    bounds |= dict.fromkeys(_FLAGS, Bound(0.0, 1.0, "0 or 1"))
    bounds |= dict.fromkeys((*_MAGNITUDES, *_TIMERS, *_COUNTERS), Bound(0.0, math.inf, "it is never negative"))
    if most_w is not None:
        edge = share * most_w
        why = f"{share:g} x {most_w:g} W"
        bounds |= dict.fromkeys(("w", "w_a", "w_b", "w_c", "var"), Bound(-edge, edge, why))
        bounds["va"] = Bound(0.0, edge, why)
        low = -share * most_w if ratings.charge_w else 0.0  # the DC side of a storage that is charged from the grid
        bounds["dc_w"] = Bound(
            low, 2.0 * most_w, f"{low:g} .. 2 x {most_w:g} W"
        )  # PV is built larger than its inverter
    if ratings.var is not None and most_w is not None:
        edge = share * max(ratings.var, most_w)
        bounds["var"] = Bound(-edge, edge, f"{share:g} x the rating")
    if ratings.a is not None:
        bounds |= {
            f"a_{p}": Bound(-share * ratings.a, share * ratings.a, f"{share:g} x {ratings.a:g} A") for p in "abc"
        }
        bounds["a"] = Bound(-3.0 * share * ratings.a, 3.0 * share * ratings.a, f"3 x {share:g} x {ratings.a:g} A")
    if ratings.capacity_wh is not None:
        bounds["stored_wh"] = Bound(0.0, 1.1 * ratings.capacity_wh, f"1.1 x {ratings.capacity_wh:g} Wh")
    return bounds


def paces_of(ratings: Ratings, settings: WatchSettings) -> dict[str, Pace]:
    """How fast values may move, by name; a name without one may jump."""
    most_w = highest_w(ratings)
    paces = {"hz": _both_ways(2.0, 0.5), "temperature_c": _both_ways(5.0, 10.0)}
    if most_w is not None:
        power = _both_ways(settings.rate_per_s * most_w, 0.05 * most_w)
        paces |= dict.fromkeys(("w", "w_a", "w_b", "w_c", "va", "var"), power)
    store_w = 1.5 * most_w if most_w is not None else None
    capacity = ratings.capacity_wh
    # Without ratings: a battery that could be emptied in 12 minutes is the fastest that is believed.
    per_s = store_w / capacity / 3600.0 if store_w is not None and capacity else 5.0 / 3600.0
    paces["soc"] = _both_ways(per_s, settings.soc_step)
    if store_w is not None and capacity:
        paces["stored_wh"] = _both_ways(store_w / 3600.0, settings.soc_step * capacity)
    counter_per_s = math.inf if store_w is None else store_w / 3600.0
    paces |= dict.fromkeys(_COUNTERS, Pace(counter_per_s, settings.counter_step_wh, None, 0.0))
    return paces


def _both_ways(per_s: float, slack: float) -> Pace:
    return Pace(per_s, slack, per_s, slack)


def out_of_bounds(
    readings: Iterable[tuple[str, Reading]], bounds: Mapping[str, Bound], settings: WatchSettings
) -> dict[str, str]:
    """Reasons by name: what is outside its bounds, or was called implausible by the driver, and what shares a sample
    with one of the `ANCHORS` that is.
    """
    readings = list(readings)
    found: dict[str, str] = {}
    for name, reading in readings:
        if reading.quality is Quality.IMPLAUSIBLE:
            found[name] = reading.reason or "its driver does not believe it"
        elif (bound := bounds.get(name)) is not None and not bound.low <= reading.value <= bound.high:  # type: ignore[operator]
            found[name] = f"{reading.value:g} is outside {bound.low:g} .. {bound.high:g} ({bound.why})"
    if found:
        _forgive(found, dict(readings), settings)
        values = dict(readings)
        tainted = {
            values[name].sequence: f"its sample is not believed: {name}: {why}"
            for name, why in found.items()
            if name in ANCHORS or values[name].quality is Quality.IMPLAUSIBLE
        }
        for name, reading in readings:
            if reading.sequence in tainted:
                found.setdefault(name, tainted[reading.sequence])
    return found


def _forgive(found: dict[str, str], values: Mapping[str, Reading], settings: WatchSettings) -> None:
    """Take back what is odd and true: the unused phases of a meter read 0, and so does a dead grid where one is due."""
    zero = [name for name in found if name in ALIVE and values[name].value == 0.0]
    if not zero:
        return
    fed = any(f"v_{p}" in values and f"v_{p}" not in found for p in _PHASES)
    all_dead = all(values[name].value == 0.0 for name in ALIVE if name in values)
    for name in zero:
        if (fed and name != "hz") or (settings.dead_grid and all_dead):
            del found[name]


def contradictions(values: Mapping[str, Reading], slack_w: float) -> dict[str, str]:
    """Reasons by name where values of one sample contradict each other; ``slack_w`` is what rounding may do [W]."""
    found = _switched(values)
    w, va = values.get("w"), values.get("va")
    found |= _said_to_run(values, slack_w)
    if w is None or w.value is None:
        return found
    if va is not None and va.value is not None and va.sequence == w.sequence:
        if abs(w.value) > 1.02 * va.value + slack_w:
            why = f"|{w.value:g} W| is more than {va.value:g} VA"
            found |= {"w": why, "va": why}
        pf = values.get("pf")
        if pf is not None and pf.value is not None and pf.sequence == w.sequence:
            meant = abs(pf.value) * va.value
            if abs(abs(w.value) - meant) > 0.1 * va.value + slack_w:
                why = f"{w.value:g} W is not {va.value:g} VA at a power factor of {pf.value:g}"
                found |= {"w": why, "va": why, "pf": why}
        felt = _volt_amperes(values, w.sequence)
        if felt is not None and abs(felt - va.value) > 0.15 * max(va.value, felt) + 2.0 * slack_w:
            why = f"{va.value:g} VA, and volts times amperes are {felt:g}"
            found |= {"w": why, "va": why}
    parts = [values.get(f"w_{p}") for p in _PHASES]
    shown = [
        part.value for part in parts if part is not None and part.value is not None and part.sequence == w.sequence
    ]
    if len(shown) == len(_PHASES) and abs(sum(shown) - w.value) > 0.05 * sum(map(abs, shown)) + 2.0 * slack_w:
        why = f"the phases sum up to {sum(shown):g} W, not {w.value:g} W"
        found |= dict.fromkeys(("w", "w_a", "w_b", "w_c"), why)
    return found


def _switched(values: Mapping[str, Reading]) -> dict[str, str]:
    """Where a switch was told to be, where it says it is, and the voltages on its sides: welded, or a false contact."""
    told, said = values.get("x_commanded"), values.get("connected")
    if told is None or said is None or told.sequence != said.sequence:
        return {}
    if told.value != said.value:
        why = f"told to be {_PLACES[told.value == 1.0]}, its contact says {_PLACES[said.value == 1.0]}"
        return {"connected": why}
    grid, site = values.get("x_v_grid"), values.get("x_v_site")
    volts = [side.value for side in (grid, site) if side is not None and side.value is not None]
    if said.value == 1.0 and len(volts) == 2 and abs(volts[0] - volts[1]) > _SIDES_APART * max(volts):
        return {"connected": f"its contact says closed, with {volts[0]:g} V and {volts[1]:g} V on its sides"}
    return {}


def _said_to_run(values: Mapping[str, Reading], slack_w: float) -> dict[str, str]:
    """Where an operating state cannot be true; power and connection are believed, they are measured."""
    runs, connected, w = values.get("x_running"), values.get("connected"), values.get("w")
    if runs is None:
        return {}
    why = ""
    if runs.value == 1.0 and connected is not None and connected.value == 0.0 and connected.sequence == runs.sequence:
        why = "it says that it runs, and that it is not connected"
    if runs.value == 0.0 and w is not None and w.value is not None and w.sequence == runs.sequence:
        why = f"it says that it stands still, and {w.value:g} W flow" if abs(w.value) > 5.0 * slack_w else ""
    return dict.fromkeys(("state", "x_running"), why) if why else {}


def _volt_amperes(values: Mapping[str, Reading], sequence: int) -> float | None:
    """Sum of volts times amperes over the phases of one sample [VA]; None unless each phase with a current has both."""
    total = None
    for phase in _PHASES:
        v, a = values.get(f"v_{phase}"), values.get(f"a_{phase}")
        if a is None or a.value is None:
            continue
        if v is None or v.value is None or v.sequence != sequence or a.sequence != sequence:
            return None
        total = (total or 0.0) + v.value * abs(a.value)
    return total
