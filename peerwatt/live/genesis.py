"""From a scenario to a live market: its configuration, the retailers' prices of each slot, and its first members.

Members are the scenario's buildings in ASCII order of their ids, so that a member's number is the building's rank in
the simulation: ties and roundings then fall the same way in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core import MarketError, ServiceError
from market.engine.commands import AgreeStanding, Command, Join, Key, Refused, SetTerms
from market.engine.config import EngineConfig, MarketConfig
from market.engine.facts import SlotPrices
from peerwatt.own_terms import HIGHEST_U, LOWEST_U
from peerwatt.prepare.market import stage_rule

if TYPE_CHECKING:
    from core import SlotGrid
    from market.engine.engine import Engine
    from market.engine.state import State
    from market.registry import Rule
    from market.settlement import PeriodTerms
    from peerwatt.scenario import LoadedScenario
    from peerwatt.scenario.market import Stage
    from peerwatt.scenario.problems import YamlPath
    from peerwatt.system import Bool, Int, System

OPENS_S = 86_400
"""How long before a slot its session opens where the scenario does not say [s]."""

SETTLE_AFTER_S = 3600
"""How long after a slot meters are waited for [s]."""

NO_MARKET = "no_market"
SIMULATE = "simulate it with `peerwatt run`"
_US_PER_S = 1_000_000
_FOUNDING = b"peerwatt genesis"


@dataclass(frozen=True, slots=True)
class Roll:
    """Which member of the market is which building, as it stands now: somebody may have been erased, or moved in.

    Parameters
    ----------
    member_of
        (B,) number of each building's member; -1: it has none any more.
    """

    member_of: tuple[int, ...]

    @staticmethod
    def of(system: System, member_of: Callable[[str], int | None]) -> Roll:
        """By the buildings' ids; ``member_of`` is the engine's."""
        numbers = (member_of(building) for building in system.building_ids)
        return Roll(tuple(-1 if number is None else number for number in numbers))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(member, building) by rising member number."""
        return sorted((member, b) for b, member in enumerate(self.member_of) if member >= 0)


def in_order_of_ids(system: System) -> list[int]:
    """Buildings in ASCII order of their ids: the order in which they become members."""
    order: list[int] = np.argsort(system.id_rank).tolist()
    return order


# --- what cannot be served yet ----------------------------------------------------------------------------------------


def check_servable(loaded: LoadedScenario, system: System) -> None:
    """Refuse what the live market does not do.

    Raises
    ------
    ScenarioError
        With the place in the scenario, the reason and what to do instead.
    """
    last = len(loaded.scenario.market.stages) - 1
    stage = loaded.scenario.market.stages[last]
    here: YamlPath = ("market", "stages", last)
    if last > 0:
        raise loaded.error(
            ("market", "stages"),
            f"the live market has one stage right before delivery, this scenario has {last + 1}",
            f"keep {stage.name!r} alone, or {SIMULATE}",
        )
    if loaded.scenario.market.levels:
        raise loaded.error(
            ("market", "levels"), "the live market is one for all, without levels", f"take them out, or {SIMULATE}"
        )
    _check_outages(loaded)
    _check_stage(loaded, system, stage, here)
    _check_rule(loaded, system, stage, here)
    _check_buildings(loaded, system)


def _check_outages(loaded: LoadedScenario) -> None:
    """Outages are simulated. In a live market they happen, and whoever forms the island is no part of it yet."""
    for key in ("outages", "drawn_outages", "microgrid"):
        if getattr(loaded.scenario, key):
            raise loaded.error(
                (key,),
                "the live market has a grid above that does not fail: outages and islands are simulated only",
                f"take {key} out, or {SIMULATE}",
            )


def _check_stage(loaded: LoadedScenario, system: System, stage: Stage, here: YamlPath) -> None:
    if stage.slot_minutes is not None and stage.slot_minutes * 60 != system.grid.length_s:
        raise loaded.error(
            (*here, "slot_minutes"),
            "products of the live market are one slot long",
            f"leave slot_minutes out, or {SIMULATE}",
        )
    if stage.rounds > 1 or stage.every_minutes is not None:
        key = "rounds" if stage.rounds > 1 else "every_minutes"
        raise loaded.error(
            (*here, key), "modelled members of the live market bid once, at the gate", f"leave {key} out, or {SIMULATE}"
        )
    if stage.gate.minutes_before != 0:
        raise loaded.error(
            (*here, "gate"),
            "the live market's gate is the start of delivery: what modelled members bid follows from what their "
            "batteries hold then",
            "leave the gate out, or say minutes_before: 0",
        )
    if stage.opens is not None and not stage.opens.minutes_before:
        raise loaded.error(
            (*here, "opens"),
            "the live market opens so many minutes before delivery, not at a time of day",
            "say opens: {minutes_before: 1440}",
        )


def _check_rule(loaded: LoadedScenario, system: System, stage: Stage, here: YamlPath) -> None:
    if stage.rule.endswith(".py"):
        raise loaded.error(
            (*here, "rule"),
            "a journal has to name its rule, and a file is no name",
            "install the rule under the entry points peerwatt.rules (docs/rules.md), or choose a registered one",
        )
    rule = stage_rule(loaded, len(loaded.scenario.market.stages) - 1)
    for name, ids in _named(rule).items():
        if named := sorted(set(ids) & set(system.building_ids)):
            raise loaded.error(
                (*here, "parameters", name),
                f"{rule.name} names {named[0]!r} here, and a journal holds no names",
                f"choose parameters that treat all members alike, or {SIMULATE}",
            )


def _named(rule: Rule) -> dict[str, Collection[str]]:
    """What the rule's parameters name, by parameter: members, or whatever their keys are."""
    known: Callable[[], Mapping[str, Collection[str]]] = getattr(rule, "named_members", dict)
    fields = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}  # type: ignore[arg-type]
    return dict(known()) | {name: _keys(value) for name, value in fields.items() if isinstance(value, Mapping)}


def _keys(value: object) -> set[str]:
    """Keys of a mapping and of all mappings within it."""
    if not isinstance(value, Mapping):
        return set()
    return set(value).union(*(_keys(inner) for inner in value.values()))


def _check_buildings(loaded: LoadedScenario, system: System) -> None:
    coarse = np.flatnonzero(system.metering.span > 1)
    if len(coarse):
        name = system.building_ids[int(coarse[0])]
        raise loaded.error(
            _place(loaded, name, "metering_minutes"),
            f"the meter of {name!r} is read every {system.metering.span[coarse[0]]} slots; live meters are read in "
            "each",
            f"leave metering_minutes out, or {SIMULATE}",
        )
    if system.own.attributes is not None:
        name = next(b for b, own in zip(system.building_ids, system.own.attributes, strict=True) if own)
        raise loaded.error(
            _place(loaded, name, "energy_class"),
            f"{name!r} states classes of energy, which live orders do not carry yet",
            f"take energy_class and class_premiums_per_kwh out, or {SIMULATE}",
        )


def _place(loaded: LoadedScenario, building: str, key: str) -> YamlPath:
    for i, listed in enumerate(loaded.scenario.buildings):
        if listed.id == building:
            return ("buildings", i, key) if key in listed.model_fields_set else ("buildings", i)
    return ()


# --- the market -------------------------------------------------------------------------------------------------------


def engine_config(loaded: LoadedScenario, system: System) -> EngineConfig:
    """The live market of a scenario that `check_servable` let pass."""
    scenario = loaded.scenario
    stage, settlement = scenario.market.stages[-1], scenario.settlement
    opens = OPENS_S if stage.opens is None or stage.opens.minutes_before is None else stage.opens.minutes_before * 60
    market = MarketConfig(
        market_id=stage.name,
        rule=stage.rule,
        parameters=dict(stage.parameters),
        opens_s=opens,
        backstop=scenario.market.backstop,
    )
    no_market = stage.rule == NO_MARKET  # everybody with the own retailer: nothing is contracted to deviate from
    return EngineConfig(
        run_id=system.static.run_id,
        start_us=start_us(system.grid),
        slot_s=system.grid.length_s,
        n_slots=system.grid.n,
        markets=(market,),
        residuals="individual" if no_market else settlement.residuals,
        tolerance_micro_percent=0 if no_market else round(settlement.tolerance_percent * 1_000_000),
        settle_after_s=SETTLE_AFTER_S,
    )


def start_us(grid: SlotGrid) -> int:
    """Start of slot 0 [microseconds since 1970, UTC]."""
    return int(grid.starts_utc(0, 1)[0].astype(np.int64)) * _US_PER_S


def slot_prices(system: System) -> Callable[[int], SlotPrices]:
    """The retailers' prices of each slot, a row for each contract."""
    supply = system.supply

    def prices(slot: int) -> SlotPrices:
        """Prices of ``slot``; MarketError outside the scenario."""
        if not 0 <= slot < system.grid.n:
            raise MarketError(f"the scenario has no slot {slot}", remedy=f"slots are 0 to {system.grid.n - 1}")
        return SlotPrices(
            contracts=tuple(
                (
                    int(c.retail_u[slot]),
                    int(c.feed_in_u[slot]),
                    int(c.full_import_u[slot]),
                    int(c.local_import_u[slot]),
                    int(c.full_export_u[slot]),
                    int(c.local_export_u[slot]),
                    int(c.levies_u[slot]),
                )
                for c in supply.contracts
            ),
            loss_u=int(supply.loss_u[slot]),
            imbalance_u=_at(supply.imbalance_u, slot),
            imbalance_short_u=_at(supply.imbalance_short_u, slot),
        )

    return prices


def period_terms(system: System) -> PeriodTerms:
    """Calendar and tariffs of months' bills: those of the simulation."""
    from market.settlement import PeriodTerms

    return PeriodTerms(system.grid, system.supply.bills.zone, system.supply.contracts)


def _at(series: Int | None, slot: int) -> int | None:
    return None if series is None else int(series[slot])


# --- its first members ------------------------------------------------------------------------------------------------


def joins(system: System) -> list[Command]:
    """What makes the buildings members, in the order of their ids.

    Members that leave by the scenario's will leave when their time comes.
    """
    return [
        Join(
            participant_id=system.building_ids[building],
            contract=int(system.supply.contract_of[building]),
            from_slot=max(int(system.market.active_from[building]), 0),
            node=system.static.buildings[building].bus,
            modelled=True,
            storage_only=bool(system.community[building]),
        )
        for building in in_order_of_ids(system)
    ]


def first_terms(system: System, roll: Roll) -> list[Command]:
    """What members lay down in the scenario: own terms, then standing contracts in the order they are served."""
    terms: list[Command] = [_terms(system, member, b) for member, b in roll.pairs if _has_terms(system, b)]
    return terms + [
        AgreeStanding(
            seller=roll.member_of[c.seller],
            buyer=roll.member_of[c.buyer],
            first_slot=c.first_slot,
            end_slot=min(c.end_slot, system.grid.n),
            share_ppm=c.share_ppm,
            volume_wh=c.volume_wh,
            formula=c.formula,
            price_u=c.price_u,
        )
        for c in system.own.standing
        if c.first_slot < c.end_slot
    ]


async def found(engine: Engine, system: System) -> None:
    """Make the buildings members, while engine time still stands; goes on where an interrupted start stopped.

    Raises
    ------
    ServiceError
        If the market refuses one of them.
    """
    await _remove_orphans(engine)
    for join in await engine.read(lambda state: _unfounded(state, joins(system))):
        await _must(engine, join)
    roll = Roll.of(system, engine.member_of)
    for command in await engine.read(lambda state: _unfounded(state, first_terms(system, roll))):
        await _must(engine, command)


async def _must(engine: Engine, command: Command) -> None:
    reply = await engine.submit(command)
    if isinstance(reply, Refused):
        raise ServiceError(
            f"the market refused {command}: {reply.reason}", remedy="simulate the scenario with `peerwatt run`"
        )


async def _remove_orphans(engine: Engine) -> None:
    """Keys of members whose joining did not reach the journal, because a start was killed in between."""
    known = await engine.read(lambda state: set(state.members))
    for member in engine.vault.members():
        if member not in known:
            await engine.vault.erase(member)


def _unfounded(state: State, commands: list[Command]) -> list[Command]:
    """What of ``commands`` is not in the journal yet. Members, terms and contracts are never forgotten altogether."""
    new = [c for c in commands if isinstance(c, Join)]
    terms = [c for c in commands if isinstance(c, SetTerms)]
    standing = [c for c in commands if isinstance(c, AgreeStanding)]
    unstated = {m for m, member in state.members.items() if member.modelled and not member.terms_seq}
    return [
        *new[len(state.members) :],
        *(c for c in terms if c.member in unstated),
        *standing[state.next_contract - 1 :],
    ]


def _has_terms(system: System, building: int) -> bool:
    own = system.own
    out = own.opted_out is not None and bool(own.opted_out[:, building].any())
    return out or system.building_ids[building] in own.terms


def _terms(system: System, member: int, building: int) -> SetTerms:
    own = system.own
    floor_u, ceiling_u = int(own.floor_u[building]), int(own.ceiling_u[building])
    stated = own.terms.get(system.building_ids[building])
    return SetTerms(
        member=member,
        key=Key(_FOUNDING, member.to_bytes(16, "big")),
        floor_u=None if floor_u == LOWEST_U else floor_u,
        ceiling_u=None if ceiling_u == HIGHEST_U else ceiling_u,
        refused_classes=() if stated is None else tuple(sorted(stated.refused_classes)),
        opted_out=() if own.opted_out is None else spans(own.opted_out[:, building]),
    )


def spans(marked: Bool) -> tuple[tuple[int, int], ...]:
    """Ranges [from, to) in which a (T,) column is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
