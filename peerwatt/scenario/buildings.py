"""Buildings: listed one by one, one per file of a folder, one per load of the network; and what is placed by seed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from peerwatt.scenario.assets import Asset, AssetKind, BatteryAsset, EvAsset, PvAsset
from peerwatt.scenario.base import BusName, Id, Model, Moment, NotNegative, Price, Share
from peerwatt.scenario.inverters import Inverter
from peerwatt.scenario.own_terms import OwnTerms
from peerwatt.scenario.phases import Phase, PlacedPhase
from peerwatt.scenario.planning import PlannedBy
from peerwatt.scenario.plant import Plant
from peerwatt.scenario.supply import Fill, Sign, SkipRows, Stamp


class Household(Model):
    """Attributes by which gains and losses are reported."""

    tenure: Literal["owner", "tenant", "social", "business"] | None = Field(
        None, description="who lives or works there"
    )
    income_band: Literal["low", "middle", "high"] | None = Field(None, description="income of the household")
    roof: bool | None = Field(None, description="has a roof of its own that PV could stand on")
    vulnerable: bool | None = Field(None, description="depends on supply, or is poor in energy")


class Membership(Model):
    """When the building takes part in the market; outside it is supplied by its retailer alone."""

    joins: Moment | None = Field(None, description="default: from the start of the run")
    leaves: Moment | None = Field(None, description="default: stays to the end of the run")


class Strategy(Model):
    """A bidding strategy by name, with its parameters."""

    kind: str = Field(
        "truthful", description="truthful, fixed_margin, zi_u, zi_c, linear_ramp or storage_value (docs/strategies.md)"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of the strategy, by name")


class BuildingLike(Model):
    """Everything of a building but its id: what buildings of a folder or network have in common."""

    bus: BusName | None = Field(None, description="bus name or index in the network; not needed without a network")
    phase: Phase = Field("abc", description="phases it is connected to; matters with `network.phases: three`")
    contract: str = Field("default", description="name of an entry of `contracts`")
    metering_minutes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="interval of the meter, a multiple of the slot; default: the slot length"
    )
    metering_spread: Literal["flat", "profile"] = Field(
        "flat", description="how a coarser reading is spread over slots: evenly, or by the shape of `spread_profile`"
    )
    spread_profile: str | None = Field(None, description="name of an entry of `profiles`; for `profile`")
    export_limit_kw: NotNegative | None = Field(None, description="highest power fed in; PV is curtailed beyond it")
    import_limit_kw: NotNegative | None = Field(
        None, description="highest power drawn; batteries, cars and heating give way, fixed load does not"
    )
    power_factor: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="of the load, inductive")
    inverter: Inverter | None = Field(None, description="grid functions of its inverters, over those of the scenario")
    household: Household = Field(Household(), description="attributes for the report on who gains and who loses")
    membership: Membership = Field(Membership(), description="when it takes part in the market")
    strategy: Strategy | None = Field(None, description="default: strategies.by_building, then strategies.default")
    terms: OwnTerms = Field(OwnTerms(), description="its own terms: what the market may do with its energy")
    controller: PlannedBy | None = Field(
        None, description="planner of the building (docs/planning.md); default: controllers.building; none: no plan"
    )
    energy_class: str | None = Field(None, description="class of the energy that it sells, for rules that know classes")
    class_premiums_per_kwh: dict[str, Price] = Field(
        default_factory=dict, description="what it pays beyond its limit price, by class of energy, currency per kWh"
    )
    plant: Plant = Field("model", description="what stands for its battery and PV: models, or devices (docs/plants.md)")
    assets: tuple[Asset, ...] = Field((), description="what consumes, generates and stores there")


class Building(BuildingLike):
    """One connection point: a member of the neighbourhood, with one account."""

    id: Id = Field(description="unique name in lower case, e.g. home-1")


class FolderColumn(Model):
    """One column of each file of a folder of homes."""

    column: str = Field(description="name of the column")
    unit: str = Field(description="kWh, Wh, kW, W, MWh or MW")
    sign: Sign = Field(description="which way a positive value flows")


class FolderBuildings(Model):
    """One building per CSV or Parquet file of a folder; the file's name is the building's id."""

    kind: Literal["folder"] = Field("folder", description="folder")
    folder: str = Field(description="folder with one file per building, relative to the scenario's file")
    pattern: str = Field("*.csv", description="which files of the folder")
    time_column: str | None = Field(
        None, description="column with the time stamps; default: the first column, or the Parquet index"
    )
    time_zone: str | None = Field(None, description="IANA zone of time stamps without offset")
    stamp: Stamp = Field("start", description="whether a stamp names the interval's start or its end")
    fill: Fill = Field("none", description="how gaps are filled; `none` refuses them")
    skip_rows: SkipRows = Field(0, description="lines of each CSV above its header that are no part of the table")
    load: FolderColumn = Field(description="the column of consumption")
    pv: FolderColumn | None = Field(
        None, description="the column of PV; a building whose file lacks it has none, which is remarked on"
    )
    buses: tuple[BusName, ...] = Field(
        (),
        description="buses for the files in order of their names, from the first again when they run out; "
        "default: the buses of the network that have loads",
    )
    like: BuildingLike | None = Field(None, description="everything else of each building; its assets are added")


class NetworkBuildings(Model):
    """One building per load of the network, with its profile, and PV and storage where the network has them."""

    kind: Literal["network"] = Field("network", description="network")
    prefix: Id = Field("h", description="ids are this and the row of the load, e.g. h07")
    include_pv: bool = Field(True, description="take the network's generators over, as PV")
    include_storage: bool = Field(True, description="take the network's storages over, as batteries")
    devices: Literal["own", "join"] = Field(
        "own",
        description="SimBench's loads that are heat pumps or chargers: buildings of their own, or assets of the first "
        "building at their bus",
    )
    profile: str | None = Field(
        None, description="profile (per kW of rated power) of loads for which the network names none"
    )
    like: BuildingLike | None = Field(None, description="everything else of each building; its assets are added")


def _from_kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"as:{value.get('kind', 'folder' if 'folder' in value else 'network')}"
    return f"as:{getattr(value, 'kind', 'network')}"


BuildingsFrom = Annotated[
    Annotated[FolderBuildings, Tag("as:folder")] | Annotated[NetworkBuildings, Tag("as:network")],
    Discriminator(_from_kind),
]
"""Where further buildings come from: ``kind`` says which; the key ``folder`` alone means a folder."""

Condition = Literal[
    "all",
    "with_pv",
    "without_pv",
    "with_battery",
    "without_battery",
    "with_ev",
    "without_ev",
    "with_heat_pump",
    "without_heat_pump",
]

_CONDITION = {"type": "string", "enum": list(get_args(Condition))}


def _several(value: Any) -> Any:
    """One condition as a tuple of one; a list as a tuple, since strict reading takes no list after this step."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Among = Annotated[
    tuple[Condition, ...],
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [_CONDITION, {"type": "array", "items": _CONDITION}]}),
]
"""Conditions that all have to hold; one alone may be written without a list."""


class Placement(Model):
    """An asset, a contract or another property given by seed to a share of the buildings, or to those named."""

    asset: Annotated[PvAsset | BatteryAsset | EvAsset, Field(discriminator="kind")] | None = Field(
        None, description="asset that they get in addition"
    )
    remove: tuple[AssetKind, ...] = Field((), description="kinds of asset that they lose")
    contract: str | None = Field(None, description="contract that they get instead of theirs")
    strategy: Strategy | None = Field(None, description="strategy that they get instead of theirs")
    membership: Membership | None = Field(None, description="membership that they get instead of theirs")
    terms: OwnTerms | None = Field(None, description="own terms that they get instead of theirs")
    export_limit_kw: NotNegative | None = Field(None, description="export limit that they get instead of theirs")
    import_limit_kw: NotNegative | None = Field(None, description="import limit that they get instead of theirs")
    controller: PlannedBy | None = Field(None, description="planner that they get instead of theirs")
    inverter: Inverter | None = Field(None, description="inverter functions that they get instead of theirs")
    plant: Plant | None = Field(None, description="plant that they get instead of theirs")
    phase: PlacedPhase | None = Field(
        None,
        description="phase that they get instead of theirs; `drawn` gives each a, b or c by seed, as many of each. "
        "With `phase_of` or `asset` it is those assets' and the building's stays",
    )
    phase_of: tuple[AssetKind, ...] = Field((), description="kinds of asset that `phase` is for")
    phase_up_to_kw: NotNegative | None = Field(
        None, description="of the assets in `phase_of` only those of at most this rated power; larger ones keep theirs"
    )
    share: Share = Field(1.0, description="share of the eligible buildings with a load, rounded to whole buildings")
    among: Among = Field(
        ("all",), description="condition or list of conditions on the building, as it is after the placements above"
    )
    ids: tuple[str, ...] = Field(
        (), description="only these buildings, with a load or not; * and ? stand for any characters"
    )
    size_spread: Share = Field(0.0, description="sizes vary evenly by this share up and down, by seed")

    @model_validator(mode="after")
    def _places_something(self) -> Placement:
        given = (
            self.asset, self.contract, self.strategy, self.membership, self.terms, self.export_limit_kw, self.plant,
            self.phase, self.inverter, self.controller, self.import_limit_kw,
        )  # fmt: skip
        if all(x is None for x in given) and not self.remove:
            raise ValueError(
                "name at least one of asset, remove, contract, strategy, membership, terms, export_limit_kw, plant, "
                "phase, inverter, controller, import_limit_kw"
            )
        if self.phase is None and self.phase_of:
            raise ValueError("phase_of needs a phase")
        if not self.phase_of and self.phase_up_to_kw is not None:
            raise ValueError("phase_up_to_kw needs phase_of")
        if self.size_spread and self.asset is None:
            raise ValueError("size_spread needs an asset whose size can vary")
        return self


class HouseholdMix(Model):
    """Household attributes drawn by seed for buildings that state none."""

    tenant: Share = Field(0.0, description="share of tenants")
    social: Share = Field(0.0, description="share in social housing; the rest are owners")
    income_low: Share = Field(0.0, description="share with a low income")
    income_high: Share = Field(0.0, description="share with a high income; the rest are in the middle")
    vulnerable: Share = Field(0.0, description="share of vulnerable households")
    roof: Share = Field(1.0, description="share with a roof of their own; who has PV has one")

    @model_validator(mode="after")
    def _shares(self) -> HouseholdMix:
        if self.tenant + self.social > 1 or self.income_low + self.income_high > 1:
            raise ValueError("tenant + social and income_low + income_high must each be at most 1")
        return self
