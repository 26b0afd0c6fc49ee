"""The arms that need no market: a time-of-use tariff that costs the district the same, and sharing by a fixed key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core import ScenarioError
from market.tariffs import valid_term
from peerwatt.results.run import Run
from peerwatt.results.static import slot_grid

if TYPE_CHECKING:
    from market.registry import Rule
    from peerwatt.scenario.models import ContractTerms, Scenario, Tariff
    from peerwatt.system import Float

TIME_OF_USE = "time-of-use tariff"
STATIC_KEY = "static key"

CHEAP, DEAR = ("11:00", "15:00"), ("17:00", "21:00")
"""Local hours of the low-tech time-of-use tariff: cheap around noon, dear in the evening."""

CHEAPER, DEARER = 0.3, 0.4
"""By how much its prices differ from the one at other hours, before it is scaled to cost the district the same."""

DEPTHS = (1.0, 0.5, 0.25)
"""Parts of that difference which are tried until no price lies below what feeding in pays."""

SHARE_DIGITS = 6


def rule_in_place(scenario: Scenario, name: str, rule: Rule) -> dict[str, Any]:
    """Overrides that put another rule in the place of the scenario's: the last stage's, all else as it is.

    A rule on meters cannot follow other stages nor work in nested levels: it stands alone.
    """
    *ahead, last = (stage.model_dump(mode="json", exclude_none=True) for stage in scenario.market.stages)
    if rule.meter_based:
        return {"market.stages": [{"name": last["name"], "rule": name}], "market.levels": []}
    kept = {key: value for key, value in last.items() if key not in ("rule", "parameters", "rounds")}
    if getattr(rule, "continuous", False):
        kept["rounds"] = last["rounds"]
    return {"market.stages": [*ahead, {**kept, "rule": name}]}


def stands_alone(scenario: Scenario, rule: Rule) -> bool:
    """Whether `rule_in_place` takes stages or levels away."""
    return rule.meter_based and (len(scenario.market.stages) > 1 or bool(scenario.market.levels))


def rule_stage(name: str, **parameters: Any) -> dict[str, Any]:
    """What is laid over a scenario to run it under another rule."""
    return {"market.stages": [{"name": "spot", "rule": name, "parameters": parameters}], "market.levels": []}


def static_key_overrides(alone: Run) -> dict[str, Any]:
    """Sharing by a fixed key: each building's share is its part of all imports of the run without a market.

    A community battery has no imports there, hence no share, and would only draw from its retailer: it stands idle.
    """
    imports = {name: row["import_kwh"] for name, row in alone.summary["buildings"].items() if row["import_kwh"] > 0}
    total = sum(imports.values())
    if not total:
        raise ScenarioError("nobody draws from the grid, so there is nothing to share by a key")
    unit = 10**SHARE_DIGITS
    shares = {name: f"{int(kwh / total * unit)}/{unit}" for name, kwh in imports.items()}  # rounded down: at most 1
    laid = rule_stage("sharing_keys", key="static", shares=shares)
    if any(building.community for building in alone.static.buildings):
        laid["controllers.community_battery"] = "idle"
    return laid


def time_of_use_overrides(scenario: Scenario, alone: Run) -> tuple[dict[str, Any] | None, str]:
    """Flat retail prices replaced by a time-of-use tariff that costs the district the same, and a sentence on it.

    Parameters
    ----------
    scenario
        The scenario that was run.
    alone
        Its run without a market, with the tables ``slots`` and ``buildings``.

    Returns
    -------
    tuple
        What to lay over the scenario, None if its prices vary already or leave no room; and what a reader must know.
    """
    flat = [
        (name, i, terms)
        for name, contract in scenario.contracts.items()
        for i, terms in enumerate(contract.terms)
        if terms.retail.flat_per_kwh is not None
    ]
    if not flat:
        return None, (
            "The scenario's tariffs vary with time already, so the arm without a market is the time-of-use arm."
        )
    for depth in DEPTHS:
        usual = revenue_neutral_factor(scenario, alone, depth)
        if all(_room(terms, usual * (1.0 - CHEAPER * depth)) for _, _, terms in flat):
            changed = {f"contracts.{name}.terms[{i}].retail": _varied(terms, usual, depth) for name, i, terms in flat}
            return changed, (
                "The time-of-use tariff costs the district as much as the flat one; nobody shifts demand to it here."
            )
    return None, "Retail prices lie so close to feed-in prices that no time-of-use tariff fits between them."


def _room(terms: ContractTerms, factor: float) -> bool:
    """Whether the retail price times ``factor`` is never below what feeding in pays."""
    return (terms.retail.flat_per_kwh or 0.0) * factor >= _highest_price(terms.feed_in)


def _highest_price(tariff: Tariff) -> float:
    """The highest stated price of a tariff; of a series, which is not stated, nothing."""
    stated = [p for p in (tariff.flat_per_kwh, tariff.default_per_kwh) if p is not None]
    return max([*stated, *(band.price_per_kwh for band in tariff.bands)], default=float("-inf"))


def _varied(terms: ContractTerms, usual: float, depth: float) -> dict[str, Any]:
    price = (terms.retail.flat_per_kwh or 0.0) * usual
    bands = ((CHEAP, 1.0 - CHEAPER * depth), (DEAR, 1.0 + DEARER * depth))
    return {
        "flat_per_kwh": None,
        "default_per_kwh": round(price, 6),
        "bands": [{"start": h[0], "end": h[1], "price_per_kwh": round(price * factor, 6)} for h, factor in bands],
    }


def revenue_neutral_factor(scenario: Scenario, alone: Run, depth: float = 1.0) -> float:
    """The usual price over the flat one with which all imports at flat prices, tax included, cost as much as before."""
    static = alone.static
    grid = slot_grid(static)
    shape = _shape(alone, depth)
    energy = alone.table("buildings", ["import_wh", "export_wh"])
    drawn = np.maximum((energy.import_wh - energy.export_wh).to_numpy().reshape(grid.n, -1), 0).astype(np.float64)
    paid = varied = 0.0
    for name, contract in scenario.contracts.items():
        mine = drawn[:, [b.contract == name for b in static.buildings]].sum(axis=1)
        term = valid_term([t.valid_from for t in contract.terms], grid, static.zone)
        for i, terms in enumerate(contract.terms):
            price = (terms.retail.flat_per_kwh or 0.0) * (1.0 + terms.vat_percent / 100.0)
            paid += price * float(mine[term == i].sum())
            varied += price * float((mine * shape)[term == i].sum())
    return paid / varied if varied else 1.0


def _shape(alone: Run, depth: float) -> Float:
    """Price of each slot over the usual one, (S,)."""
    local = alone.table("slots", ["start_utc"])["start_utc"].dt.tz_convert(alone.static.zone).dt.strftime("%H:%M")
    shape = np.ones(len(local))
    shape[((local >= CHEAP[0]) & (local < CHEAP[1])).to_numpy()] = 1.0 - CHEAPER * depth
    shape[((local >= DEAR[0]) & (local < DEAR[1])).to_numpy()] = 1.0 + DEARER * depth
    return shape
