"""Stages before the last one, and nested levels, as the market step needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import MarketError, SlotGrid
from market.levels import Level, check_nesting
from market.registry import BidRule, Rule
from market.tariffs import clock_minutes, to_micro
from peerwatt.scenario.models import Building, Deadline
from peerwatt.scenario.models import Level as LevelModel
from peerwatt.system import Lead, StageSetup, Wires

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario

_PATH = ("market", "stages")


def stages_ahead(loaded: LoadedScenario, grid: SlotGrid, last_rule: Rule) -> tuple[StageSetup, ...]:
    """Every stage before the last one.

    Raises
    ------
    ScenarioError
        Where a stage's rule takes meters, a product does not fit the slots, or gates are out of order.
    """
    from peerwatt.prepare.market import stage_rule

    stages = loaded.scenario.market.stages
    last = stages[-1]
    place = (*_PATH, len(stages) - 1)
    slot_minutes = grid.length_s // 60
    if last.slot_minutes not in (None, slot_minutes) or last.every_minutes is not None:
        raise loaded.error(
            place, "the last stage trades the slots themselves, in one call", "leave slot_minutes and every_minutes out"
        )
    if len(stages) > 1 and not isinstance(last_rule, BidRule):
        raise loaded.error(
            (*place, "rule"),
            f"{last_rule.name} works on meters and cannot follow other stages",
            "use it alone, or choose a rule that takes orders",
        )
    found: list[StageSetup] = []
    for i, stage in enumerate(stages[:-1]):
        rule = stage_rule(loaded, i)
        if not isinstance(rule, BidRule):
            raise loaded.error(
                (*_PATH, i, "rule"),
                f"{rule.name} works on meters, which are read after the last stage",
                "choose a rule that takes orders",
            )
        minutes = slot_minutes if stage.slot_minutes is None else stage.slot_minutes
        if minutes % slot_minutes or (grid.n * slot_minutes) % minutes:
            raise loaded.error(
                (*_PATH, i, "slot_minutes"),
                f"products of {minutes} minutes do not fit slots of {slot_minutes} minutes, or the length of the run",
                "choose a multiple of the slot of which the run is a whole number",
            )
        found.append(
            StageSetup(
                name=stage.name,
                rule=rule,
                slots=minutes // slot_minutes,
                rounds=rounds_of(loaded, i, rule),
                gate=_lead(stage.gate),
                opens=None if stage.opens is None else _lead(stage.opens),
                every_minutes=stage.every_minutes,
            )
        )
    _check_times(loaded, grid, found)
    return tuple(found)


def rounds_of(loaded: LoadedScenario, i: int, rule: Rule) -> int:
    """Rounds of quotes of stage ``i``; ScenarioError where its rule has none."""
    rounds = loaded.scenario.market.stages[i].rounds
    if rounds > 1 and not getattr(rule, "continuous", False):
        raise loaded.error(
            (*_PATH, i, "rounds"), f"{rule.name} takes one quote", "leave rounds out, or use continuous_double_auction"
        )
    return rounds


def _lead(deadline: Deadline) -> Lead:
    if deadline.minutes_before is not None:
        return Lead(deadline.minutes_before)
    assert deadline.days_before is not None and deadline.at is not None, "one way is given"
    return Lead(None, deadline.days_before, clock_minutes(deadline.at))


def _check_times(loaded: LoadedScenario, grid: SlotGrid, stages: list[StageSetup]) -> None:
    """Gates before delivery, each stage's behind the one before, openings before gates."""
    zone = loaded.scenario.time.zone
    names = [stage.name for stage in loaded.scenario.market.stages]
    if len(set(names)) < len(names):
        raise loaded.error(_PATH, "two stages have the same name", "name every stage once")
    before: np.ndarray | None = None
    for i, stage in enumerate(stages):
        place = (*_PATH, i)
        if stage.every_minutes is not None and (
            stage.opens is None or stage.opens.minutes is None or stage.gate.minutes is None
        ):
            raise loaded.error(
                (*place, "every_minutes"),
                "repeated calls need an opening and a gate in minutes",
                "give opens.minutes_before and gate.minutes_before",
            )
        calls = stage.leads_h(grid, zone)
        if (calls[-1] < 0).any():
            raise loaded.error((*place, "gate"), "the gate closes after delivery has begun", "close it earlier")
        if stage.opens is not None and (stage.opens.hours(grid, zone) < stage.gate.hours(grid, zone)).any():
            raise loaded.error((*place, "opens"), "the stage opens after its gate has closed", "open it earlier")
        if before is not None and (calls[0] > before).any():
            raise loaded.error(
                (*place, "gate"), "the stage comes before the one above it", "list stages in the order of their gates"
            )
        before = calls[-1]


def market_levels(
    loaded: LoadedScenario, buildings: tuple[Building, ...], rule: Rule, wires: Wires | None
) -> tuple[Level, ...]:
    """The nested levels of the market, the smallest first.

    Raises
    ------
    ScenarioError
        For a rule that takes meters, unknown or repeated ids, and levels that do not contain those below them.
    """
    models = loaded.scenario.market.levels
    if models and not isinstance(rule, BidRule):
        raise loaded.error(
            ("market", "levels"),
            f"{rule.name} works on meters; nested levels need a rule that takes orders",
            "leave the levels out, or choose another rule",
        )
    position = {b.id: i for i, b in enumerate(buildings)}
    levels = tuple(
        Level(model.name, _groups(loaded, model, i, position, buildings, wires), to_micro(model.charge_per_kwh))
        for i, model in enumerate(models)
    )
    try:
        check_nesting(levels)
    except MarketError as error:
        raise loaded.error(("market", "levels"), error.message, error.remedy) from error
    return levels


def _groups(
    loaded: LoadedScenario,
    model: LevelModel,
    i: int,
    position: dict[str, int],
    buildings: tuple[Building, ...],
    wires: Wires | None,
) -> np.ndarray:
    """(B,) the market of each building at one level, -1 for none."""
    if model.by == "all":
        return np.zeros(len(buildings), np.int64)
    place = ("market", "levels", i)
    if model.by == "feeder":
        if wires is None:
            raise loaded.error(
                (*place, "by"), "feeders need a network", "name network.source and power_flow, or list groups"
            )
        from grid.feeders import feeder_of_bus

        feeders: np.ndarray = feeder_of_bus(wires.network)[wires.bus]
        return feeders
    group = np.full(len(buildings), -1, np.int64)
    for g, (name, ids) in enumerate(model.groups.items()):
        for building in ids:
            at = (*place, "groups", name)
            if building not in position:
                raise loaded.error(at, f"there is no building {building!r}", "use the ids of buildings")
            if group[position[building]] >= 0:
                raise loaded.error(at, f"{building!r} stands in two markets of one level", "put it into one")
            group[position[building]] = g
    return group
