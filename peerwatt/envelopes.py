"""Operating envelopes and dimming in the slot cycle: a building keeps to its limits whatever its trades say.

Limits are kept in the plan, before anybody bids, so that bids are made from what is possible. Where a device gives way,
what controllers want afterwards is asked anew from the state that really is: so results do not depend on how slots are
cut into windows. What cannot be kept is counted by the meter, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.messages import Delivered, Forecast, Observation, Plan, Window, concat_slots
from peerwatt.plants import PPM
from peerwatt.results.record import ISLAND_COLUMNS

if TYPE_CHECKING:
    from controllers.envelope import Kept
    from peerwatt.system import System

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Steer = Callable[[Observation, Window], tuple[Plan, Observation]]
"""Plans some slots from a state, without limits of import; returns the state to which that leads."""

NONE_WH = np.int64(10**15)
"""Stands for no limit [Wh]; sums of it do not overflow."""

OWN = 0
"""Number of a building's own limits among the reasons; -1 is no limit."""


@dataclass(frozen=True, slots=True)
class LimitWindow:
    """An envelope or a dimming of a scenario: when, for whom, and what for.

    ``slots`` (T,), ``buildings`` (B,); ``import_wh`` and ``export_wh`` (B,) per slot, `NONE_WH` without a limit. Of a
    dimming ``import_wh`` is what controllable devices may draw beyond the building's fixed draw.
    """

    slots: Bool
    buildings: Bool
    import_wh: Int
    export_wh: Int
    dims: bool


@dataclass(frozen=True, slots=True)
class Published:
    """An envelope that the grid operator published in a live market: slots ``first .. end - 1`` of a building [Wh]."""

    building: int
    first: int
    end: int
    import_wh: int
    export_wh: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a window [Wh per slot], (S, B), `NONE_WH` without one; and the number of each reason, -1: none."""

    import_wh: Int
    export_wh: Int
    import_by: Int
    export_by: Int

    @property
    def export_or_none_wh(self) -> Int:
        """Limits of feeding in as controllers take them: negative where there is none."""
        return np.where(self.export_wh >= NONE_WH, -1, self.export_wh)


@dataclass(frozen=True, slots=True)
class EnvelopeSetup:
    """All limits of a run.

    Parameters
    ----------
    import_wh, export_wh
        (B,) buildings' own limits per slot, `NONE_WH` without one.
    windows
        Of the scenario, in its order; their reasons are counted from 1.
    published
        Of a live market, those that go before others first; for a building and slot only the first counts.
    """

    import_wh: Int
    export_wh: Int
    windows: tuple[LimitWindow, ...]
    published: tuple[Published, ...] = ()

    @property
    def limited(self) -> Bool:
        """(B,) buildings for which more can hold than a limit of feeding in of their own."""
        out: Bool = self.import_wh < NONE_WH
        for window in self.windows:
            out = out | window.buildings
        for row in self.published:
            out[row.building] = True
        return out

    def at(self, window: Window, load_wh: Int, pv_wh: Int) -> Limits:
        """Limits of a window in which buildings draw ``load_wh`` (S, B) in any case and can generate ``pv_wh``."""
        shape = (window.n, len(self.import_wh))
        tightest = [np.broadcast_to(own, shape).copy() for own in (self.import_wh, self.export_wh)]
        reasons = [np.where(limit < NONE_WH, OWN, -1) for limit in tightest]
        for number, rows in enumerate(self.windows, OWN + 1):
            slots = rows.slots[window.first : window.first + window.n]
            if slots.any():
                drawn = rows.import_wh + (np.maximum(load_wh - pv_wh, 0) if rows.dims else np.zeros(shape, np.int64))
                here = slots[:, None] & rows.buildings
                for limit, by, own in zip(tightest, reasons, (drawn, rows.export_wh), strict=True):
                    tighter = here & (own < limit)
                    by[tighter] = number
                    limit[tighter] = np.broadcast_to(own, shape)[tighter]
        told = [np.full(shape, NONE_WH) for _ in tightest]
        for row in reversed(self.published):
            part = slice(max(row.first - window.first, 0), max(row.end - window.first, 0))
            told[0][part, row.building], told[1][part, row.building] = row.import_wh, row.export_wh
        for limit, by, own in zip(tightest, reasons, told, strict=True):
            by[own < limit] = len(self.windows) + 1
            np.minimum(limit, own, out=limit)
        return Limits(tightest[0], tightest[1], reasons[0], reasons[1])


def limits_of(system: System, window: Window, forecast: Forecast) -> Limits | None:
    """Limits of a window as its load and PV are expected; None where nobody is limited in more than feeding in."""
    if system.envelopes is None:
        return None
    return system.envelopes.at(window, forecast.load_wh + forecast.heat_pump_wh, forecast.pv_wh)


def export_limit_wh(system: System, window: Window, forecast: Forecast) -> Int:
    """Most that buildings may feed in per slot [Wh], (B,) or (S, B); negative without a limit."""
    limits = limits_of(system, window, forecast)
    return system.export_limit_wh if limits is None else limits.export_or_none_wh


def within_envelopes(
    system: System, steer: Steer, seen: Observation, forecast: Forecast, window: Window
) -> tuple[Plan, Observation]:
    """What ``steer`` wants, kept within all limits slot by slot; with the state to which that leads.

    ``forecast`` is that of the window.
    """
    assert system.envelopes is not None
    end, first, step = window.first + window.n, window.first, window.n
    parts: list[Plan] = []
    while first < end:
        ahead = Window(first, min(step, end - first))
        intent, after = steer(seen, ahead)
        known = forecast.part(slice(first - window.first, first - window.first + ahead.n))
        part, gave_way = _kept(system, seen, intent, known, ahead)
        stands = Window(first, len(part.net_wh))
        seen = _state_after(system, seen, part, stands) if gave_way else after
        step = 1 if gave_way else 2 * ahead.n  # where something gave way it often does so in the next slot too
        parts.append(part)
        first += stands.n
    return concat_slots(parts), seen


def _kept(system: System, seen: Observation, intent: Plan, forecast: Forecast, window: Window) -> tuple[Plan, bool]:
    """A plan cut to the limits, up to the first slot in which a device gives way; and whether one does."""
    from controllers.envelope import Homes, Wishes, keep_within, urgent_charge_wh

    limits = limits_of(system, window, forecast)
    assert limits is not None and system.envelopes is not None
    stores, cars, rooms = system.storage.columns, system.chargers, system.heating.columns
    urgent = urgent_charge_wh(cars.columns, cars.sessions, seen.ev, window.first, intent.ev_wh)
    wishes = Wishes(intent.battery_wh, intent.ev_wh, intent.heat_wh, intent.curtail_wh)
    homes = Homes(stores.building, cars.columns.building, rooms.building)
    limited = system.envelopes.limited
    import_wh, export_wh = (np.where(limited, x, NONE_WH) for x in (limits.import_wh, limits.export_wh))
    kept = keep_within(wishes, homes, intent.net_wh, forecast.pv_wh, import_wh, export_wh, urgent)
    done, n = kept.wishes, kept.slots
    net_wh = intent.net_wh + kept.unfed_wh - kept.held_wh.sum(axis=2) + done.curtail_wh - intent.curtail_wh
    plan = Plan(
        ev_wh=done.car_wh[:n],
        battery_wh=done.battery_wh[:n],
        heat_wh=done.heat_wh[:n],
        curtail_wh=done.curtail_wh[:n],
        net_wh=net_wh[:n],
        worth_u=None if intent.worth_u is None else intent.worth_u[:n],
        kept=_told(system, kept, limits, net_wh, forecast.pv_wh)[:n],
    )
    return plan, bool(kept.held_wh[n - 1].any() or kept.unfed_wh[n - 1].any())


def _told(system: System, kept: Kept, limits: Limits, net_wh: Int, pv_wh: Int) -> Int:
    """Columns `RunStatic.limit_columns` of the limited buildings (S, L, C); excess is left to the meter."""
    assert system.envelopes is not None
    rows = np.flatnonzero(system.envelopes.limited)
    total = kept.wishes.curtail_wh
    fed_wh = total - net_wh  # before anything is held back
    own = np.clip(fed_wh - system.envelopes.export_wh, 0, total)
    forced = np.clip(fed_wh - limits.export_wh, 0, pv_wh)
    by_price = np.where(total > forced, total, 0)  # a planner holds more back than any limit asks for
    columns = {
        "import_limit_wh": np.where(limits.import_by < 0, -1, limits.import_wh),
        "export_limit_wh": np.where(limits.export_by < 0, -1, limits.export_wh),
        "import_by": limits.import_by,
        "export_by": limits.export_by,
        "envelope_wh": total - np.maximum(own, by_price),
        "own_limit_wh": own,
        "battery_wh": kept.held_wh[:, :, 0],
        "ev_wh": kept.held_wh[:, :, 1],
        "heat_pump_wh": kept.held_wh[:, :, 2],
        "unfed_wh": kept.unfed_wh,
    }
    for name in ISLAND_COLUMNS[1:]:  # no island has a part in any excess
        columns[name] = np.full_like(total, NONE_WH)
    nothing = np.zeros_like(total)
    return np.stack([columns.get(name, nothing)[:, rows] for name in system.static.limit_columns], axis=2)


def kept_in_outage(
    system: System, kept: Int | None, served_ppm: Int, curtailed_wh: Int, forming: int, planned_wh: Int
) -> Int | None:
    """How the plan of a slot of an outage was cut to limits, as far as buildings had supply; None without limits.

    Parameters
    ----------
    kept
        Of the plan (1, L, C).
    served_ppm, curtailed_wh
        (B,) share of the slot with supply [millionths]; generation that the outage curtailed.
    forming
        Building of the battery that holds the island in balance, -1 without one; its excess alone is the island's,
    planned_wh
        (B,) but for what its net energy by the plan, while there was supply, was beyond a limit.
    """
    if kept is None or system.envelopes is None:
        return None
    rows = np.flatnonzero(system.envelopes.limited)
    out = kept.copy()
    place = {name: k for k, name in enumerate(system.static.limit_columns)}
    for name in ("envelope_wh", "own_limit_wh", "battery_wh", "ev_wh", "heat_pump_wh", "unfed_wh"):
        out[0, :, place[name]] = out[0, :, place[name]] * served_ppm[rows] // PPM
    out[0, :, place["island_wh"]] = curtailed_wh[rows]
    for way, sign in (("import", 1), ("export", -1)):
        beyond = np.maximum(sign * planned_wh[rows] - out[0, :, place[f"{way}_limit_wh"]], 0)
        out[0, :, place[f"{way}_island_wh"]] = np.where(rows == forming, beyond, NONE_WH)
    return out


def _state_after(system: System, seen: Observation, plan: Plan, window: Window) -> Observation:
    """Where a plan leads."""
    from grid.assets.battery import step_batteries
    from grid.assets.ev import step_evs
    from grid.assets.heat import step_heat

    cars, heating = system.chargers, system.heating
    _, batteries = step_batteries(system.storage.columns, seen.battery, plan.battery_wh)
    _, ev = step_evs(cars.columns, cars.sessions, seen.ev, window.first, plan.ev_wh)
    indoor_c = seen.indoor_c
    if len(heating):
        met = heating.conditions(system.profiles, system.grid, system.zone, window.first, window.n)
        indoor_c = step_heat(heating.columns, met, indoor_c, plan.heat_wh)[1]
    return Observation(batteries, ev, indoor_c)


# --- after delivery ---------------------------------------------------------------------------------------------------


def envelope_columns(system: System, block: Delivered) -> dict[str, Any]:
    """The field of a `WindowRecord` that tells of limits, with what was metered beyond them; nothing without any."""
    kept = block.cleared.kept
    if kept is None or system.envelopes is None:
        return {}
    rows = np.flatnonzero(system.envelopes.limited)
    out = kept.copy()
    place = {name: k for k, name in enumerate(system.static.limit_columns)}
    net_wh, curtailed = block.flows.net_wh[:, rows], block.flows.curtailed_wh[:, rows]
    for way, sign in (("import", 1), ("export", -1)):
        most = kept[:, :, place[f"{way}_limit_wh"]]
        excess = np.where(most < 0, 0, np.maximum(sign * net_wh - most, 0))
        out[:, :, place[f"{way}_excess_wh"]] = excess
        if f"{way}_island_wh" in place:
            planned = kept[:, :, place[f"{way}_island_wh"]]
            out[:, :, place[f"{way}_island_wh"]] = np.maximum(excess - planned, 0)
    left = curtailed  # in an outage less may be generated than could be curtailed
    for name in ("own_limit_wh", "envelope_wh", *(("island_wh",) if "island_wh" in place else ())):
        out[:, :, place[name]] = np.minimum(kept[:, :, place[name]], left)
        left = left - out[:, :, place[name]]
    return {"envelopes": out}


def with_published(system: System, rows: tuple[Published, ...]) -> System:
    """The system with the envelopes that a live market has published."""
    if not rows:
        return system
    setup = system.envelopes
    if setup is None:
        export = np.where(system.export_limit_wh < 0, NONE_WH, system.export_limit_wh)
        setup = EnvelopeSetup(np.full_like(export, NONE_WH), export, ())
    return replace(system, envelopes=replace(setup, published=rows))
