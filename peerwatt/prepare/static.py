"""What does not change in a run: who is who, where things stand, what a reader must know."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core import SlotGrid, canonical_json, file_sha256, sha256_hex
from grid.profiles.plausible import CHECK_UNIT
from market.registry import Rule
from peerwatt.prepare.assets import assets_of
from peerwatt.prepare.origin import origin_names
from peerwatt.prepare.phases import phase_remarks
from peerwatt.prepare.supply import supplier_names
from peerwatt.prepare.wires import branch_infos, bus_infos
from peerwatt.results.record import BuildingInfo, RunStatic
from peerwatt.scenario import data_files, scenario_digest
from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset, PvAsset
from peerwatt.scenario.expansion import is_community
from peerwatt.scenario.models import Building, Scenario
from peerwatt.system import StageSetup, Wires

if TYPE_CHECKING:
    from grid.profiles import ProfileTable
    from peerwatt.scenario import Expanded, LoadedScenario

HOUR_S = 3600


def run_static(
    loaded: LoadedScenario,
    expanded: Expanded,
    grid: SlotGrid,
    rule: Rule,
    wires: Wires | None,
    profiles: ProfileTable,
    ahead: tuple[StageSetup, ...] = (),
) -> RunStatic:
    """Gather the run's unchanging facts; ``ahead`` are the stages before that of ``rule``."""
    scenario = loaded.scenario
    rules = (*((stage.name, stage.rule) for stage in ahead), (scenario.market.stages[-1].name, rule))
    parameters = rule_parameters(rule)
    notices = dict.fromkeys(profiles.notices)
    if wires is not None:
        notices |= dict.fromkeys(wires.network.notices)
    return RunStatic(
        run_id=run_id(loaded, expanded, rule),
        name=scenario.name,
        title=scenario.title,
        seed=scenario.seed,
        currency=scenario.currency,
        zone=scenario.time.zone,
        start_utc=grid.start.isoformat(),
        slot_s=grid.length_s,
        n_slots=grid.n,
        rule=rule.name,
        rule_parameters=parameters,
        meter_based=rule.meter_based,
        pairs=rule.pairs,
        phases=1 if wires is None or wires.phases is None else 3,
        buildings=tuple(building_info(b, wires, i) for i, b in enumerate(expanded.buildings)),
        buses=() if wires is None else bus_infos(wires, scenario),
        branches=() if wires is None else branch_infos(wires, scenario),
        notices=tuple(notices),
        remarks=(
            *expanded.remarks,
            *_remarks(expanded.buildings, grid, _unpaired(scenario, rules), wires, profiles),
            *_balanced_rules(rules, wires),
        ),
        options={
            "doubts": [r for r in profiles.remarks() if CHECK_UNIT in r],
            "power_flow": "none" if wires is None else wires.engine,
            "network": scenario.network.source,
            "origins": list(origin_names(scenario)),
            "deals": list(deal_names(scenario)),
            "stages": [{"name": name, "rule": r.name, "pairs": r.pairs} for name, r in rules],
            **({"heated": heated} if (heated := heated_ids(expanded.buildings)) else {}),
            **({"feeding": feeding} if (feeding := feeding_ids(expanded.buildings)) else {}),
            "backstop": scenario.market.backstop,
            "suppliers": list(supplier_names(scenario, expanded.buildings)),
            "standing_contracts": [
                {"id": c.id, "seller": c.seller, "buyer": c.buyer} for c in scenario.standing_contracts
            ],
        },
    )


def deal_names(scenario: Scenario) -> tuple[str, ...]:
    """Where trades come from, in the order of their numbers: the last stage first, then the earlier ones."""
    *ahead, last = (stage.name for stage in scenario.market.stages)
    levels = [level.name for level in scenario.market.levels]
    stages = [last, *ahead]
    names = [f"{stage}, {level}" for stage in stages for level in levels] if levels else stages
    return (*names, "standing contract") if scenario.standing_contracts else tuple(names)


def rule_parameters(rule: Rule) -> dict[str, object]:
    """The rule's parameters as plain values, sorted by name; fractions as text."""
    names = sorted(f.name for f in dataclasses.fields(rule))  # type: ignore[arg-type]
    return {name: _plain(getattr(rule, name)) for name in names}


def _plain(value: object) -> object:
    """As JSON has it, in an order that reading it back keeps; what JSON does not know as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | str) or value is None else str(value)


def run_id(loaded: LoadedScenario, expanded: Expanded, rule: Rule) -> str:
    """A hash of scenario, seed, rule and the content of every file, a rule's own included, without the context."""
    files = data_files(loaded.scenario, expanded.buildings, expanded.profiles)
    digest = scenario_digest(loaded.scenario, {path: file_sha256(path) for path in files})
    named = [rule.name, rule.version, rule_parameters(rule), _own_source(rule)]
    return sha256_hex(canonical_json({"scenario": digest, "rule": named}))[:16]


def _own_source(rule: Rule) -> str | None:
    """Hash of the source of a rule that does not come with peerwatt; None where there is none to read."""
    if type(rule).__module__.startswith("market.rules."):
        return None  # the version of peerwatt says it
    try:
        path = inspect.getsourcefile(type(rule))
        if path is not None and Path(path).is_file():
            return file_sha256(Path(path))
        return sha256_hex(inspect.getsource(type(rule)).encode())
    except (OSError, TypeError):
        return None


def building_info(building: Building, wires: Wires | None, index: int) -> BuildingInfo:
    """What results need to know of a building."""
    one = (building,)
    home = building.household
    return BuildingInfo(
        id=building.id,
        bus=-1 if wires is None else int(np.searchsorted(wires.shown_buses, wires.bus[index])),
        contract=building.contract,
        tenure=home.tenure,
        income_band=home.income_band,
        roof=home.roof,
        vulnerable=home.vulnerable,
        pv_kw=sum(a.peak_kw for _, a in assets_of(one, PvAsset)),
        battery_kwh=sum(a.capacity_kwh for _, a in assets_of(one, BatteryAsset)),
        ev=any(True for _ in assets_of(one, EvAsset)),
        heat_pump=any(True for _ in assets_of(one, HeatPumpAsset)),
        community=is_community(building),
    )


def heated_ids(buildings: tuple[Building, ...]) -> list[str]:
    """Buildings with a heat pump that heats them."""
    return [b.id for b in buildings if any(a.building is not None for _, a in assets_of((b,), HeatPumpAsset))]


def feeding_ids(buildings: tuple[Building, ...]) -> list[str]:
    """Buildings with a car that can feed back."""
    return [b.id for b in buildings if any(a.discharge_kw for _, a in assets_of((b,), EvAsset))]


def _balanced_rules(rules: Sequence[tuple[str, Rule]], wires: Wires | None) -> tuple[str, ...]:
    """What rules that look at the network do not see where it is solved phase by phase."""
    if wires is None or wires.phases is None:
        return ()
    names = dict.fromkeys(r.name for _, r in rules if r.declares.needs_network)
    return tuple(
        f"The rule {name} takes the network as balanced: limits that it keeps may be broken in one phase."
        for name in names
    )


def _unpaired(scenario: Scenario, rules: Sequence[tuple[str, Rule]]) -> tuple[str, ...]:
    """Rules whose flows between buildings are an attribution; none where the rule of the last stage has pairs.

    Where standing contracts are all there is, they say who supplies whom.
    """
    if rules[-1][1].pairs or (scenario.standing_contracts and all(r.name == "no_market" for _, r in rules)):
        return ()
    return tuple(dict.fromkeys(r.name for _, r in rules if not r.pairs))


def _remarks(
    buildings: tuple[Building, ...],
    grid: SlotGrid,
    unpaired: tuple[str, ...],
    wires: Wires | None,
    profiles: ProfileTable,
) -> tuple[str, ...]:
    said: list[str] = []
    if grid.length_s >= HOUR_S:
        said.append(
            "Slots of an hour or more flatter sharing: within an hour generation and consumption that never met are "
            "counted as matched, so self-consumption comes out higher than with quarter hours."
        )
    if unpaired:
        which = f"rule {unpaired[0]} does" if len(unpaired) == 1 else f"rules {' and '.join(unpaired)} do"
        said.append(
            f"The {which} not say who supplies whom: flows between buildings are an attribution, each "
            "buyer's purchases spread over the sellers of the slot in proportion to what they sold."
        )
    if wires is not None:
        if wires.phases is None:
            said.append(
                "The network is solved as balanced: single-phase connections are recorded, not solved by phase."
            )
        else:
            said.extend(phase_remarks(wires.network, buildings))
        said.extend(wires.network.remarks)
    if any(b.phase != "abc" for b in buildings) and wires is None:
        said.append("Phase connections are recorded but no network is solved.")
    coarse = sum(1 for b in buildings if (b.metering_minutes or 0) * 60 > grid.length_s)
    if coarse:
        said.append(f"{coarse} meters are coarser than the slot: their readings are spread over the slots by method.")
    said.extend(profiles.remarks())
    return tuple(dict.fromkeys(said))
