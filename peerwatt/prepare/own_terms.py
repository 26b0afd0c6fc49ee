"""Members' own terms and standing contracts of a scenario as columns; terms that a rule cannot keep are refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from core import SlotGrid
from market.registry import Rule, rule_classes
from market.standing import PPM, Formula, StandingContract
from market.tariffs import WEEKDAYS, BandSpec, band_mask, clock_minutes, to_micro
from market.terms import Terms
from peerwatt.own_terms import HIGHEST_U, LOWEST_U, OwnTermsSetup
from peerwatt.scenario import models, resolve_moment
from peerwatt.scenario.problems import YamlPath, choose
from peerwatt.scenario.times import zone_of
from peerwatt.system import Bool, Int, Storage

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario

Buildings = tuple[models.Building, ...]


def own_terms(
    loaded: LoadedScenario, buildings: Buildings, grid: SlotGrid, rules: Iterable[Rule], storage: Storage
) -> OwnTermsSetup:
    """Everything that members lay down.

    Raises
    ------
    ScenarioError
        If a rule cannot keep a term, naming building, term, rule and what to do; if a standing contract names nobody.
    """
    terms = {b.id: rule_terms(b) for b in buildings}
    _check_rules(loaded, buildings, terms, tuple(rules))
    floors = [LOWEST_U if (own := terms[b.id].floor_u) is None else own for b in buildings]
    ceilings = [HIGHEST_U if (own := terms[b.id].ceiling_u) is None else own for b in buildings]
    attributes = tuple(_attributes(b) for b in buildings)
    return OwnTermsSetup(
        terms={name: own for name, own in terms.items() if own != Terms()},
        floor_u=np.array(floors, np.int64),
        ceiling_u=np.array(ceilings, np.int64),
        opted_out=_opted_out(buildings, grid, loaded.scenario.time.zone),
        kept_wh=_kept(buildings, storage),
        attributes=attributes if any(attributes) else None,
        standing=tuple(
            _standing(loaded, i, c, buildings, grid) for i, c in enumerate(loaded.scenario.standing_contracts)
        ),
    )


def rule_terms(building: models.Building) -> Terms:
    """The part of a building's terms that a rule must know."""
    own = building.terms
    return Terms(
        floor_u=None if own.floor_per_kwh is None else to_micro(own.floor_per_kwh),
        ceiling_u=None if own.ceiling_per_kwh is None else to_micro(own.ceiling_per_kwh),
        refused_classes=frozenset(own.refused_classes),
    )


def _attributes(building: models.Building) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if building.energy_class is not None:
        found["class"] = building.energy_class
    if building.class_premiums_per_kwh:
        found["premiums"] = {name: to_micro(price) for name, price in building.class_premiums_per_kwh.items()}
    return found


def _check_rules(
    loaded: LoadedScenario, buildings: Buildings, terms: dict[str, Terms], rules: tuple[Rule, ...]
) -> None:
    for building in buildings:
        own = terms[building.id]
        parts = (
            ("floor_per_kwh", Terms(floor_u=own.floor_u)),
            ("ceiling_per_kwh", Terms(ceiling_u=own.ceiling_u)),
            ("refused_classes", Terms(refused_classes=own.refused_classes)),
        )
        for rule in rules:
            for key, part in parts:
                if (reason := rule.cannot_honour(part)) is not None:
                    raise loaded.error(
                        _place(loaded, building.id, key),
                        f"building {building.id!r} has the term {key}: {reason}",
                        f"choose a rule that can keep it ({_able(part)}), or take the term out",
                    )


def _able(part: Terms) -> str:
    """Names of shipped rules that keep a term with their default parameters."""
    able = []
    for name, cls in rule_classes().items():
        try:
            if cls().cannot_honour(part) is None:
                able.append(name)
        except Exception:  # noqa: BLE001 - a rule of somebody else's, or one without defaults, is no advice
            continue
    return ", ".join(able)


def _place(loaded: LoadedScenario, building: str, key: str) -> YamlPath:
    for i, listed in enumerate(loaded.scenario.buildings):
        if listed.id == building:
            return ("buildings", i, "terms", key) if not listed.terms.empty else ("buildings", i)
    return ()


def _opted_out(buildings: Buildings, grid: SlotGrid, zone: str) -> Bool | None:
    """(T, B) slots outside the market by the members' own wish."""
    if not any(b.terms.opt_out for b in buildings):
        return None
    local = grid.local_time(zone)
    out = np.zeros((grid.n, len(buildings)), np.bool_)
    for i, building in enumerate(buildings):
        hours = building.terms.opt_out
        if isinstance(hours, str):
            out[:, i] = True  # "always"
            continue
        for item in hours:
            band = BandSpec(
                price_u=0,
                start_minute=clock_minutes(item.start),
                end_minute=clock_minutes(item.end),
                weekdays=tuple(WEEKDAYS.index(day) for day in item.days),
            )
            out[:, i] |= band_mask(band, local)
    return out


def _kept(buildings: Buildings, storage: Storage) -> Int:
    """(K,) charge that is kept back, never below what the battery keeps anyway."""
    columns = storage.columns
    share = np.array([buildings[i].terms.kept_back_soc or 0.0 for i in columns.building.tolist()], np.float64)
    kept = np.rint(columns.capacity_wh * share).astype(np.int64)
    return np.maximum(np.minimum(kept, columns.max_wh), columns.min_wh)


def _standing(
    loaded: LoadedScenario, i: int, contract: models.StandingContract, buildings: Buildings, grid: SlotGrid
) -> StandingContract:
    place = {b.id: k for k, b in enumerate(buildings)}
    for key in ("seller", "buyer"):
        if (name := getattr(contract, key)) not in place:
            raise loaded.error(
                ("standing_contracts", i, key), f"there is no building {name!r}", choose(name, place, what="building")
            )
    formula: Formula = contract.formula or "fixed"
    price = contract.price_per_kwh if contract.price_per_kwh is not None else contract.discount_per_kwh
    volume = contract.volume_kwh if contract.power_kw is None else contract.power_kw * grid.hours
    first, end = _span(contract, grid, loaded.scenario.time.zone)
    return StandingContract(
        contract_id=contract.id,
        seller=place[contract.seller],
        buyer=place[contract.buyer],
        share_ppm=None if contract.share is None else round(contract.share * PPM),
        volume_wh=None if volume is None else round(volume * 1000.0),
        formula=formula,
        price_u=to_micro(price),
        first_slot=first,
        end_slot=end,
    )


def _span(contract: models.StandingContract, grid: SlotGrid, zone: str) -> tuple[int, int]:
    """First slot, and first slot no longer; notice given ends it so many local days later, if not before."""

    def slot(moment: models.Moment) -> int:
        return -(-int((resolve_moment(moment, zone) - grid.start).total_seconds()) // grid.length_s)

    first = 0 if contract.start is None else max(slot(contract.start), 0)
    end = grid.n if contract.end is None else slot(contract.end)
    if contract.notice_given is not None:
        given = resolve_moment(contract.notice_given, zone).astimezone(zone_of(zone)).replace(tzinfo=None)
        # a clock time that daylight saving skips or repeats is pushed on: a notice needs no such precision
        last = (given + timedelta(days=contract.notice_days)).replace(tzinfo=zone_of(zone))
        end = min(end, -(-int((last - grid.start).total_seconds()) // grid.length_s))
    return first, min(max(end, first), grid.n)
