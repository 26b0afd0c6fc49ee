"""Operating envelopes and dimming of a scenario, checked and laid out as columns."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from core import ScenarioError
from peerwatt.envelopes import NONE_WH, EnvelopeSetup, LimitWindow
from peerwatt.scenario import resolve_moment
from peerwatt.scenario.problems import YamlPath, choose
from peerwatt.system import Bool, Float, Int, System

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario
    from peerwatt.scenario.base import Moment
    from peerwatt.scenario.envelopes import DimmingWindow, EnvelopeWindow
    from peerwatt.scenario.models import Building

DAY_MINUTES = 24 * 60


def with_envelopes(loaded: LoadedScenario, system: System, buildings: tuple[Building, ...]) -> System:
    """The system with its limits of drawing, envelopes and dimming, if the scenario has any.

    Raises
    ------
    ScenarioError
        At the place in the scenario: patterns of nobody, windows outside the run, moments that do not exist.
    """
    scenario = loaded.scenario
    if not (scenario.envelopes or scenario.dimming or any(b.import_limit_kw is not None for b in buildings)):
        return system
    windows = [_envelope(loaded, system, k, item) for k, item in enumerate(scenario.envelopes)]
    windows += [_dimming(loaded, system, k, item) for k, item in enumerate(scenario.dimming)]
    setup = EnvelopeSetup(
        import_wh=np.array([_wh(b.import_limit_kw, system.grid.hours) for b in buildings], np.int64),
        export_wh=np.where(system.export_limit_wh < 0, NONE_WH, system.export_limit_wh),
        windows=tuple(windows),
    )
    reasons = [{"reason": item.reason, "kind": "envelope"} for item in scenario.envelopes]
    reasons += [{"reason": item.reason, "kind": "dimming"} for item in scenario.dimming]
    names = [system.building_ids[i] for i in np.flatnonzero(setup.limited).tolist()]
    static = system.static
    options = {**static.options, "limited": names, "envelopes": reasons}
    if system.outages is not None:
        options["islands"] = True
    static = replace(static, options=options)
    return replace(system, envelopes=setup, static=static)


def _wh(power_kw: float | None, hours: float) -> int:
    return int(NONE_WH) if power_kw is None else round(power_kw * 1000.0 * hours)


def _envelope(loaded: LoadedScenario, system: System, k: int, item: EnvelopeWindow) -> LimitWindow:
    path: YamlPath = ("envelopes", k)
    shape, hours = system.n_buildings, system.grid.hours
    return LimitWindow(
        slots=_slots(loaded, system, path, item),
        buildings=_named(loaded, system, path, item.buildings),
        import_wh=np.full(shape, _wh(item.import_kw, hours), np.int64),
        export_wh=np.full(shape, _wh(item.export_kw, hours), np.int64),
        dims=False,
    )


def _dimming(loaded: LoadedScenario, system: System, k: int, item: DimmingWindow) -> LimitWindow:
    """Buildings without a controllable device have nothing to dim."""
    path: YamlPath = ("dimming", k)
    counts, floors = _floors(system)
    floor_kw = floors if item.floor_kw is None else np.full(system.n_buildings, item.floor_kw)
    named = _named(loaded, system, path, item.buildings)
    if not (named & (counts > 0)).any():
        raise loaded.error(
            (*path, "buildings"),
            "none of these buildings has a charger, a battery or a heat pump that heats it",
            "name buildings with controllable devices",
        )
    return LimitWindow(
        slots=_slots(loaded, system, path, item),
        buildings=named & (counts > 0),
        import_wh=np.rint(floor_kw * 1000.0 * system.grid.hours).astype(np.int64),
        export_wh=np.full(system.n_buildings, NONE_WH),
        dims=True,
    )


def _floors(system: System) -> tuple[Int, Float]:
    """Controllable devices of each building (B,), its heat pumps counted as one; and what the rule leaves them [kW]."""
    from controllers.inverter.dimming import floor_together_kw

    n, heating = system.n_buildings, system.heating.columns
    heat_kw = np.bincount(heating.building, heating.heat_max_wh / 1000.0 / system.grid.hours, minlength=n)
    devices = np.bincount(system.chargers.columns.building, minlength=n)
    devices += np.bincount(system.storage.columns.building, minlength=n)
    devices += heat_kw > 0.0
    pairs = zip(devices.tolist(), heat_kw.tolist(), strict=True)
    return devices, np.array([floor_together_kw(count, heat_pumps_kw=kw) for count, kw in pairs])


def _named(loaded: LoadedScenario, system: System, path: YamlPath, patterns: tuple[str, ...]) -> Bool:
    ids = system.building_ids
    for i, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in ids):
            raise loaded.error(
                (*path, "buildings", i), f"no building is called {pattern!r}", choose(pattern, ids, what="building")
            )
    return np.array([any(fnmatchcase(name, pattern) for pattern in patterns) for name in ids], np.bool_)


def _slots(loaded: LoadedScenario, system: System, path: YamlPath, item: EnvelopeWindow | DimmingWindow) -> Bool:
    """(T,) slots that a window touches."""
    grid = system.grid

    def second(key: str, moment: Moment | None, default: int) -> int:
        if moment is None:
            return default
        try:
            instant = resolve_moment(moment, system.zone)
        except ScenarioError as error:
            raise loaded.error((*path, key), error.message, error.remedy) from error
        return int((instant - grid.start).total_seconds())

    run_s = grid.n * grid.length_s
    start, end = second("start", item.start, 0), second("end", item.end, run_s)
    if end <= start:
        raise loaded.error((*path, "end"), "the window ends before it begins", "name a later end")
    first, last = max(start // grid.length_s, 0), min(-(-end // grid.length_s), grid.n)
    if first >= last:
        raise loaded.error(path, "the window lies outside the run", "change start and end, or leave it out")
    out = np.zeros(grid.n, np.bool_)
    out[first:last] = True
    return out & _in_hours(grid.local_time(system.zone).minute, grid.length_s / 60.0, item)


def _in_hours(minute: Int, length: float, item: EnvelopeWindow | DimmingWindow) -> Bool:
    """(T,) slots that begin at a local ``minute`` of the day and touch the daily hours."""
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (item.daily_start, item.daily_end))
    spans = [(start, end)] if start < end else [(start, DAY_MINUTES), (0, end)]
    touched = [(minute + shift < b) & (minute + shift + length > a) for a, b in spans for shift in (0, -DAY_MINUTES)]
    out: Bool = np.logical_or.reduce(touched)
    return out
