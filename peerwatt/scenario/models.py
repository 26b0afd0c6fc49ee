"""The scenario as frozen pydantic models: what one YAML file says, with units in the names.

Unknown keys are refused. Prices are in the scenario's currency per kWh; they become integer micro-currency per kWh
when the scenario is prepared. Defaults are resolved here, once; the resolved scenario is saved with the results.
Read the parts in `supply` (series, contracts), `assets` and `buildings`; this file holds the whole.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from peerwatt.scenario.assets import (
    Asset,
    BatteryAsset,
    EvAsset,
    EvSession,
    EvSessions,
    HeatPumpAsset,
    LoadAsset,
    PvAsset,
)
from peerwatt.scenario.base import (
    CURRENCY_PATTERN,
    Clock,
    Id,
    Model,
    Moment,
    NotNegative,
    Positive,
    Price,
    Share,
    Weekday,
)
from peerwatt.scenario.buildings import (
    Building,
    BuildingLike,
    BuildingsFrom,
    FolderBuildings,
    FolderColumn,
    Household,
    HouseholdMix,
    Membership,
    NetworkBuildings,
    Placement,
    Strategy,
)
from peerwatt.scenario.envelopes import DimmingWindow, EnvelopeWindow
from peerwatt.scenario.inverters import Inverter
from peerwatt.scenario.market import Deadline, ForecastModel, Level, Market, Stage
from peerwatt.scenario.microgrid import DrawnOutages, Microgrid, Outage
from peerwatt.scenario.origin import Origin
from peerwatt.scenario.own_terms import StandingContract
from peerwatt.scenario.planning import BuildingController, Override, PlanForecast, PlannedBy
from peerwatt.scenario.plant import DevicePlant
from peerwatt.scenario.supply import (
    Contract,
    ContractTerms,
    NetworkCharges,
    Profile,
    Series,
    Tariff,
    TariffBand,
    WeatherPv,
)

__all__ = [
    "FORMAT",
    "Asset",
    "BatteryAsset",
    "Building",
    "BuildingController",
    "BuildingLike",
    "BuildingsFrom",
    "Carbon",
    "Clock",
    "Contract",
    "ContractTerms",
    "Controllers",
    "Deadline",
    "DevicePlant",
    "DimmingWindow",
    "DrawnOutages",
    "EnvelopeWindow",
    "EvAsset",
    "EvSession",
    "EvSessions",
    "FolderBuildings",
    "FolderColumn",
    "ForecastModel",
    "HeatPumpAsset",
    "Household",
    "HouseholdMix",
    "Id",
    "Inverter",
    "Level",
    "LoadAsset",
    "Market",
    "Membership",
    "Microgrid",
    "Model",
    "Moment",
    "NetworkBuildings",
    "NetworkCharges",
    "NetworkModel",
    "NotNegative",
    "Origin",
    "Outage",
    "Outputs",
    "Override",
    "Placement",
    "PlanForecast",
    "Positive",
    "Price",
    "Profile",
    "PvAsset",
    "Scenario",
    "Series",
    "Settlement",
    "Share",
    "Stage",
    "StandingContract",
    "Strategies",
    "Strategy",
    "Table",
    "Tariff",
    "TariffBand",
    "TimeSpan",
    "WeatherPv",
    "Weekday",
]

FORMAT = 1
"""Version of the scenario format that this code reads without migration."""

Table = Literal[
    "slots", "buildings", "trades", "buses", "branches", "ledger", "violations", "certificates", "origins", "heat",
    "inverters", "envelopes",
]  # fmt: skip

TABLES: tuple[Table, ...] = get_args(Table)


class NetworkModel(Model):
    """The electricity network and its limits."""

    source: str = Field(
        "none",
        description="simbench:CODE, cigre:lv, cigre:mv, kerber:NAME, pandapower:FILE.json (relative to the scenario's "
        "file), or none",
    )
    v_min_pu: Positive | None = Field(None, description="lowest voltage; default: the network's own limit, or 0.9")
    v_max_pu: Positive | None = Field(None, description="highest voltage; default: the network's own limit, or 1.1")
    loading_max: Positive = Field(1.0, description="of lines and transformers; 1.0 = rated")
    other_elements: Literal["keep", "drop"] = Field(
        "drop",
        description="loads, generators and storages of the network file that no building stands for: `keep` makes "
        "buildings `other-BUS` of them, at the constant power of the file, outside the market, under the first "
        "contract",
    )
    phases: Literal["balanced", "three"] = Field(
        "balanced",
        description="`three` solves the network phase by phase, from the `phase` of buildings and assets; `balanced` "
        "takes the phases as equal",
    )


class TimeSpan(Model):
    """Which slots are run. Naive moments are local time in ``zone``."""

    start: Moment = Field(description="first moment; a date means local midnight")
    end: Moment | None = Field(None, description="first moment that is not run any more; this or days")
    days: Annotated[int, Field(gt=0)] | None = Field(None, description="length in local calendar days; this or end")
    slot_minutes: Annotated[int, Field(gt=0)] = Field(15, description="slot length; divides 60 or is a multiple of it")
    zone: str = Field("UTC", description="IANA name of the local time zone, e.g. Europe/Berlin")

    @model_validator(mode="after")
    def _one_length(self) -> TimeSpan:
        if (self.end is None) == (self.days is None):
            raise ValueError("name exactly one of end, days")
        if 60 % self.slot_minutes and self.slot_minutes % 60:
            raise ValueError("slot_minutes must divide 60 or be a multiple of 60")
        return self


class Strategies(Model):
    """Who bids how."""

    default: Strategy = Field(Strategy(), description="of every building that has none of its own")
    by_building: dict[str, Strategy] = Field(default_factory=dict, description="by the id of the building")


class Controllers(Model):
    """Which controller drives which kind of asset, unless the asset names its own."""

    battery: str = Field("greedy_self_consumption", description="of home batteries")
    community_battery: str = Field("greedy_community", description="for a building that has batteries only")
    ev: str = Field("charge_on_arrival", description="of electric cars")
    building: PlannedBy | None = Field(
        None,
        description="planner of whole buildings: it steers the assets that name no controller of their own, not at "
        "community batteries (docs/planning.md)",
    )
    heat_pump: str = Field("thermostat", description="of heat pumps that heat a building")


class Settlement(Model):
    """How deviations, losses and bills are settled (docs/settlement.md)."""

    residuals: Literal["individual", "netted", "imbalance_single", "imbalance_dual"] = Field(
        "individual", description="who settles the difference between contract and meter, and at what price"
    )
    imbalance_price: Tariff | None = Field(None, description="for imbalance_single; the long side's for dual")
    imbalance_price_short: Tariff | None = Field(None, description="the short side's, for imbalance_dual")
    tolerance_percent: NotNegative = Field(0.0, description="of the contract, settled at the contract price")
    loss_price: Tariff = Field(Tariff(flat_per_kwh=0.0), description="what the network pays for its losses")


class Carbon(Model):
    """Carbon intensity of what the grid supplies."""

    grid: Series | None = Field(None, description="kg of CO2 per kWh over time; without it the report has no CO2")


class Outputs(Model):
    """What is written."""

    tables: tuple[Table, ...] = Field(TABLES, description="Parquet tables of the run")
    report: bool = Field(True, description="write report.html")
    statements: bool = Field(True, description="write a statement per building")


class Scenario(Model):
    """A whole scenario. ``peerwatt schema`` prints its JSON Schema."""

    format: Literal[1] = Field(1, description="version of this format")
    name: Id = Field(description="short name in lower case")
    title: str = Field("", description="one line for people")
    extends: str | None = Field(
        None,
        description="a scenario this one changes, by file or shipped name; mappings merge, lists are replaced, "
        "null goes back to the default",
    )
    network: NetworkModel = Field(NetworkModel(), description="the electricity network")
    power_flow: Literal["batch", "pandapower", "none"] = Field("batch", description="engine of the AC power flow")
    time: TimeSpan = Field(description="which slots are run")
    currency: Annotated[str, Field(pattern=CURRENCY_PATTERN)] = Field("EUR", description="ISO 4217 code")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="all that is drawn is drawn from it")
    profiles: dict[str, Profile] = Field(default_factory=dict, description="time series of energy or power, by name")
    contracts: dict[str, Contract] = Field(default_factory=dict, description="supply contracts, by name")
    buildings: tuple[Building, ...] = Field((), description="connection points, listed")
    buildings_from: BuildingsFrom | None = Field(None, description="further ones from a folder or the network")
    place: tuple[Placement, ...] = Field((), description="assets and properties given by seed, in this order")
    household_mix: HouseholdMix | None = Field(None, description="household attributes drawn by seed")
    market: Market = Field(Market(), description="the market and its rule")
    strategies: Strategies = Field(Strategies(), description="who bids how")
    standing_contracts: tuple[StandingContract, ...] = Field(
        (), description="between members, settled before each slot's market, in this order"
    )
    controllers: Controllers = Field(Controllers(), description="what drives batteries, cars and heat pumps")
    inverters: Inverter | None = Field(None, description="grid functions of all PV and battery inverters; null: none")
    overrides: tuple[Override, ...] = Field((), description="when residents take over from their building's plan")
    envelopes: tuple[EnvelopeWindow, ...] = Field((), description="limits of power at connection points")
    dimming: tuple[DimmingWindow, ...] = Field((), description="when the grid operator dims controllable devices")
    settlement: Settlement = Field(Settlement(), description="deviations, losses")
    outages: tuple[Outage, ...] = Field((), description="when the grid above is lost, or left on purpose")
    drawn_outages: DrawnOutages | None = Field(None, description="further outages, drawn by seed")
    microgrid: Microgrid | None = Field(None, description="how the district stands alone; default: it goes dark")
    carbon: Carbon = Field(Carbon(), description="carbon intensity of the grid's supply")
    origin: Origin = Field(Origin(), description="suppliers' mixes, and how certificates of origin travel")
    outputs: Outputs = Field(Outputs(), description="what is written")
