"""Buildings from the loads, generators and storages of a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from peerwatt.scenario.assets import Asset, BatteryAsset, HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.buildings import Building, BuildingLike, Household, NetworkBuildings
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.semantics import SIMBENCH_PREFIX
from peerwatt.scenario.supply import Series

SHIPPED_NETWORK = "simbench:1-LV-semiurb4--2-sw"
"""The network whose year of profiles ships with the package."""

SHIPPED_PROFILES = "simbench_semiurb4_2016"

_HEAT_PUMP = re.compile(r"(Air|Soil)_")
_CHARGER = re.compile(r"(HLS|APLS)_")
_BUSINESS = re.compile(r"(G|L)\d")


@dataclass(frozen=True, slots=True)
class NetworkLoad:
    """A load of the network: rated power, and the name of its profile where it has one."""

    name: str
    bus: str
    p_kw: float
    q_kvar: float = 0.0
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkSgen:
    """A generator of the network; ``p_kw > 0`` generates at its rated power."""

    name: str
    bus: str
    p_kw: float
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkStorage:
    """A storage of the network: limits at its terminals, one-way efficiencies."""

    name: str
    bus: str
    charge_kw: float
    discharge_kw: float
    capacity_kwh: float
    efficiency_charge: float = 0.95
    efficiency_discharge: float = 0.95
    self_discharge_per_day: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkElements:
    """What a network holds that buildings can stand for, in the order of the network's tables.

    ``bus_ids`` are the buses' indices as text and ``bus_names`` their names (may repeat or be empty), in one order;
    the ``bus`` of an element is one of ``bus_ids``.
    """

    bus_ids: tuple[str, ...]
    bus_names: tuple[str, ...]
    loads: tuple[NetworkLoad, ...] = ()
    sgens: tuple[NetworkSgen, ...] = ()
    storages: tuple[NetworkStorage, ...] = ()


def simbench_series(name: str, network_source: str) -> Series:
    """The series that a profile name ``simbench:COLUMN`` means on the network ``network_source``."""
    dataset = SHIPPED_PROFILES if network_source == SHIPPED_NETWORK else network_source
    return Series(dataset=dataset, column=name.removeprefix(SIMBENCH_PREFIX))


def is_device(profile: str | None) -> bool:
    """Whether a SimBench load profile is a heat pump's or a charger's, not a household's or a business's."""
    return profile is not None and bool(_HEAT_PUMP.match(profile) or _CHARGER.match(profile))


def network_buildings(
    source: NetworkBuildings, elements: NetworkElements, loaded: LoadedScenario
) -> tuple[Building, ...]:
    """One building per load (or per load that is no device, where devices join), with generators and storages.

    A generator or storage goes to the first building at its bus; where there is none it becomes a building of its own
    (``pv-5``, ``bat-3``: the row in its table, from 1).

    Raises
    ------
    ScenarioError
        If the network has no loads, or a load or generator has no profile.
    """
    if not elements.loads:
        message = f"the network {loaded.scenario.network.source} has no loads to make buildings of"
        raise loaded.error(("buildings_from",), message, "list `buildings` instead")
    like = source.like or BuildingLike()
    made = _Made(source.prefix, len(elements.loads), like)
    held_back: list[tuple[NetworkLoad, Asset]] = []
    with_home = {load.bus for load in elements.loads if not is_device(load.profile)}
    for row, load in enumerate(elements.loads, 1):
        asset = _load_asset(load, source, loaded)
        if source.devices == "join" and is_device(load.profile) and load.bus in with_home:
            held_back.append((load, asset))
        else:
            made.add_load(row, load, asset)
    for load, asset in held_back:
        made.give(load.bus, asset)
    if source.include_pv:
        for row, sgen in enumerate(elements.sgens, 1):
            made.give(sgen.bus, _pv_asset(sgen, loaded), otherwise=f"pv-{row}")
    if source.include_storage:
        for row, storage in enumerate(elements.storages, 1):
            made.give(storage.bus, _battery(storage), otherwise=f"bat-{row}")
    return made.buildings()


class _Made:
    """Buildings under construction: their assets grow until all elements are given away."""

    def __init__(self, prefix: str, n_loads: int, like: BuildingLike) -> None:
        self._prefix = prefix
        self._width = len(str(n_loads))
        self._like = like
        self._first_at: dict[str, str] = {}
        self._assets: dict[str, list[Asset]] = {}
        self._bus: dict[str, str] = {}
        self._household: dict[str, Household] = {}

    def add_load(self, row: int, load: NetworkLoad, asset: Asset) -> None:
        name = f"{self._prefix}{row:0{self._width}d}"
        self._assets[name] = [asset, *self._like.assets]
        self._bus[name] = load.bus
        business = load.profile is not None and _BUSINESS.match(load.profile) is not None
        if business and self._like.household == Household():
            self._household[name] = Household(tenure="business")
        self._first_at.setdefault(load.bus, name)

    def give(self, bus: str, asset: Asset, otherwise: str | None = None) -> None:
        name = self._first_at.get(bus, otherwise)
        assert name is not None, "a device joins only where there is a home"
        self._bus.setdefault(name, bus)
        self._assets.setdefault(name, []).append(asset)

    def buildings(self) -> tuple[Building, ...]:
        common = dict(self._like)
        made = []
        for name, assets in self._assets.items():
            household = self._household.get(name, self._like.household)
            made.append(
                Building(
                    **{**common, "id": name, "bus": self._bus[name], "household": household, "assets": tuple(assets)}
                )
            )
        return tuple(made)


def _load_asset(load: NetworkLoad, source: NetworkBuildings, loaded: LoadedScenario) -> Asset:
    if not load.profile:
        if source.profile is None:
            raise loaded.error(
                ("buildings_from",),
                f"the network's load {load.name!r} at bus {load.bus} has no profile",
                "name one for such loads: buildings_from.profile, or list `buildings`",
            )
        return LoadAsset(profile=source.profile, scale=_drawn(load.p_kw, load, loaded))
    kind = HeatPumpAsset if _HEAT_PUMP.match(load.profile) else LoadAsset
    return kind(
        profile=f"{SIMBENCH_PREFIX}{load.profile}_pload",
        scale=_drawn(load.p_kw, load, loaded),
        reactive_profile=f"{SIMBENCH_PREFIX}{load.profile}_qload",
        reactive_scale=_tidy(load.q_kvar),
    )


def _tidy(value: float) -> float:
    """Powers of a network file come from MW: 0.0109 MW times 1000 is 10.9 kW, not 10.899999999999999."""
    return round(value, 9)


def _drawn(p_kw: float, load: NetworkLoad, loaded: LoadedScenario) -> float:
    if not p_kw >= 0:
        message = f"the network's load {load.name!r} draws {p_kw:g} kW"
        raise loaded.error(("network", "source"), message, "a load must not be negative; make it a generator (sgen)")
    return _tidy(p_kw)


def _pv_asset(sgen: NetworkSgen, loaded: LoadedScenario) -> PvAsset:
    if not sgen.profile or not sgen.p_kw >= 0:
        what = "no profile" if not sgen.profile else f"a power of {sgen.p_kw:g} kW"
        raise loaded.error(
            ("buildings_from",),
            f"the network's generator {sgen.name!r} at bus {sgen.bus} has {what}",
            "leave generators out with buildings_from.include_pv: false",
        )
    return PvAsset(profile=f"{SIMBENCH_PREFIX}{sgen.profile}", peak_kw=_tidy(sgen.p_kw))


def _battery(storage: NetworkStorage) -> BatteryAsset:
    return BatteryAsset(
        capacity_kwh=_tidy(storage.capacity_kwh),
        charge_kw=_tidy(storage.charge_kw),
        discharge_kw=_tidy(storage.discharge_kw),
        efficiency_charge=storage.efficiency_charge,
        efficiency_discharge=storage.efficiency_discharge,
        self_discharge_per_day=_tidy(storage.self_discharge_per_day),
    )


def load_buses(elements: NetworkElements) -> Sequence[str]:
    """Buses that have loads, each once, in the network's order."""
    return list(dict.fromkeys(load.bus for load in elements.loads))
