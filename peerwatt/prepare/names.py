"""Which time series a scenario needs, under which name they stand in the profile table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from peerwatt.scenario.assets import HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.models import Building, Scenario, Series, Tariff, WeatherPv

if TYPE_CHECKING:
    from grid.profiles.refs import Flow, Kind, Ref
    from peerwatt.scenario import Expanded, LoadedScenario

CARBON = "carbon"


def tariffs_of(scenario: Scenario) -> Iterator[tuple[str, Tariff]]:
    """Every tariff of a scenario with the path it stands at."""
    for name, contract in scenario.contracts.items():
        for i, terms in enumerate(contract.terms):
            yield f"contracts.{name}.terms[{i}].retail", terms.retail
            yield f"contracts.{name}.terms[{i}].feed_in", terms.feed_in
    settlement = scenario.settlement
    yield "settlement.loss_price", settlement.loss_price
    if settlement.imbalance_price is not None:
        yield "settlement.imbalance_price", settlement.imbalance_price
    if settlement.imbalance_price_short is not None:
        yield "settlement.imbalance_price_short", settlement.imbalance_price_short


def profile_uses(buildings: tuple[Building, ...]) -> Iterator[tuple[str, Kind, Flow, str]]:
    """Profile name, kind, direction and building of every use of a profile."""
    for building in buildings:
        for asset in building.assets:
            if isinstance(asset, LoadAsset | HeatPumpAsset):
                if asset.profile is not None:
                    yield asset.profile, "energy", "load", building.id
                if asset.reactive_profile is not None:
                    yield asset.reactive_profile, "reactive", "load", building.id
            elif isinstance(asset, PvAsset):
                yield asset.profile, "energy", "generation", building.id
            if isinstance(asset, HeatPumpAsset) and asset.building is not None:
                yield asset.building.outdoor, "temperature", "load", building.id
                if asset.building.sun is not None:
                    yield asset.building.sun, "irradiance", "load", building.id
        if building.spread_profile is not None:
            yield building.spread_profile, "energy", "load", building.id


def profile_refs(loaded: LoadedScenario, expanded: Expanded) -> dict[str, Ref]:
    """References of all series that the run reads, by their name in the profile table.

    Raises
    ------
    ScenarioError
        If one profile is used in two ways, such as consumption and generation.
    """
    refs: dict[str, Ref] = {}
    uses: dict[str, tuple[str, str]] = {}
    for name, kind, flow, building in profile_uses(expanded.buildings):
        if uses.setdefault(name, (kind, flow)) != (kind, flow):
            raise loaded.error(
                ("profiles", name),
                f"building {building} uses profile {name!r} as {_use(kind, flow)}, another as {_use(*uses[name])}",
                "define it twice, once for each use",
            )
        if name not in refs:
            refs[name] = _ref(expanded.profiles[name], kind, flow, f"profiles.{name}")
    for path, tariff in tariffs_of(loaded.scenario):
        if tariff.series is not None:
            refs[path] = _ref(tariff.series, "price", "load", f"{path}.series")
    if loaded.scenario.carbon.grid is not None:
        refs[CARBON] = _ref(loaded.scenario.carbon.grid, "carbon", "load", "carbon.grid")
    return refs


def _use(kind: str, flow: str) -> str:
    return kind if kind in ("temperature", "irradiance") else f"{kind} of {flow}"


def _ref(series: Series | WeatherPv, kind: Kind, flow: Flow, label: str) -> Ref:
    from grid.profiles.refs import SeriesRef, WeatherPvRef

    if isinstance(series, WeatherPv):
        return WeatherPvRef(**dict(series), label=label)
    return SeriesRef(kind=kind, flow=flow, label=label, **dict(series))
