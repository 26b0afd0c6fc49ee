"""The prepared neighbourhood: what the slot cycle needs of a scenario, as columns. Built once by ``prepare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from core import SlotGrid
from peerwatt.heating import Heating
from peerwatt.results.record import RunStatic
from peerwatt.scenario.models import DevicePlant, Scenario

if TYPE_CHECKING:
    from grid.assets.battery import BatteryColumns, BatteryState
    from grid.assets.ev import EvColumns, EvSessionTable
    from grid.network import Network
    from grid.profiles import ProfileTable
    from market.certificates import OriginSetup
    from market.levels import Level
    from market.registry import BidRule, Rule
    from market.settlement.bills import BillTerms
    from market.strategies.base import Strategy
    from market.tariffs import ContractPrices
    from peerwatt.envelopes import EnvelopeSetup
    from peerwatt.grid_support import InverterSetup
    from peerwatt.market_wires import MarketWires
    from peerwatt.microgrid.islanding import IslandSetup
    from peerwatt.own_terms import OwnTermsSetup
    from peerwatt.planning import PlanningSetup

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Index = NDArray[np.int32]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProfileAssets:
    """Assets that follow a profile: A columns, each a (building, profile, scale).

    Energy of asset a in a slot [kWh] = profile value x ``scale``; positive whichever way it flows.
    """

    building: Index  # (A,)
    profile: Int  # (A,) column of the profile table
    scale: Float  # (A,)


@dataclass(frozen=True, slots=True)
class Demand:
    """Everything that follows profiles, by kind, and the reactive power that goes with it."""

    load: ProfileAssets
    heat_pump: ProfileAssets
    pv: ProfileAssets
    reactive: ProfileAssets  # kvarh per slot, + absorbs: of its own profile, or of the load's times tan(phi)


@dataclass(frozen=True, slots=True)
class Storage:
    """Batteries with the name of the controller that drives each."""

    columns: BatteryColumns
    controller: tuple[str, ...]  # (K,)
    initial: BatteryState
    community: NDArray[np.bool_]  # (K,) stands at a building that has storage only


@dataclass(frozen=True, slots=True)
class Chargers:
    """Electric cars with their stays and the controller of each."""

    columns: EvColumns
    sessions: EvSessionTable
    controller: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Supply:
    """Who is supplied under which contract, and the prices of losses and imbalance."""

    contracts: tuple[ContractPrices, ...]
    contract_of: Int  # (B,)
    suppliers: tuple[str, ...]  # names, in the order of the contracts; none = nobody is named
    supplier_of: Int  # (B,)
    bills: BillTerms
    loss_u: Int  # (T,) of the whole run
    imbalance_u: Int | None  # (T,)
    imbalance_short_u: Int | None  # (T,)


@dataclass(frozen=True, slots=True)
class Lead:
    """How long before its product a stage opens or closes: minutes, or a local time of a day before."""

    minutes: int | None
    days: int = 0
    at_minute: int = 0

    def hours(self, grid: SlotGrid, zone: str) -> Float:
        """(S,) hours before each slot's start; negative = after it."""
        if self.minutes is not None:
            return np.full(grid.n, self.minutes / 60.0)
        hours: Float = self.days * 24.0 + (grid.local_time(zone).minute - self.at_minute) / 60.0
        return hours


@dataclass(frozen=True, slots=True)
class StageSetup:
    """A stage before the last one: its rule, the slots of a product, and when what is known is frozen."""

    name: str
    rule: BidRule
    slots: int
    rounds: int
    gate: Lead
    opens: Lead | None
    every_minutes: int | None

    def leads_h(self, grid: SlotGrid, zone: str) -> list[Float]:
        """Lead times (S,) [h] of each call, the earliest first; a product's is its first slot's, grown along it."""
        within = np.arange(grid.n) % self.slots * grid.length_s / 3600.0
        closing = np.repeat(self.gate.hours(grid, zone)[:: self.slots], self.slots) + within
        if self.every_minutes is None or self.opens is None:
            return [closing]
        assert self.opens.minutes is not None and self.gate.minutes is not None, "checked with the scenario"
        calls = (self.opens.minutes - self.gate.minutes) // self.every_minutes
        return [closing + k * self.every_minutes / 60.0 for k in range(calls, -1, -1)]


@dataclass(frozen=True, slots=True)
class MarketSetup:
    """The rule, who bids how, and when each building takes part."""

    rule: Rule
    ahead: tuple[StageSetup, ...]  # stages before the last one, whose rule is ``rule``
    rounds: int  # of the last stage, where its rule is continuous
    levels: tuple[Level, ...]  # nested markets, the smallest first; none = one for all
    backstop: str
    strategies: tuple[tuple[Strategy, Int], ...]  # a strategy and the buildings that use it
    active_from: Int  # (B,) first slot in the market
    active_until: Int  # (B,) first slot no longer in the market


@dataclass(frozen=True, slots=True)
class Metering:
    """How coarse each meter is, and how its readings are spread over slots."""

    span: Int  # (B,) slots per reading
    by_weight: NDArray[np.bool_]  # (B,) spread by the shape of a profile
    weight_profile: Int  # (B,) column of the profile table, where by_weight

    @property
    def block_slots(self) -> int:
        """Slots after which every meter has been read: settlement works on multiples of it."""
        return int(np.lcm.reduce(self.span)) if len(self.span) else 1


@dataclass(frozen=True, slots=True)
class KindPhases:
    """Phases of the assets of one kind that follow profiles. The last axis is a, b, c and sums to one."""

    asset: Float  # (A, 3) in the order of the kind's `ProfileAssets`
    share: Float  # (B, 3) by rated power; the building's own phases where it has none of this kind
    mixed: tuple[int, ...]  # buildings whose assets of this kind are not all on the same phases


@dataclass(frozen=True, slots=True)
class PhaseShares:
    """On which phases everything stands, where the network is solved phase by phase."""

    load: KindPhases
    heat_pump: KindPhases
    pv: KindPhases
    reactive: KindPhases
    heat: Float  # (H, 3) heat pumps that heat a building
    car: Float  # (E, 3)
    cars: Float  # (B, 3) by rated power, for where only the building's sum is known
    battery: Float  # (K, 3)
    batteries: Float  # (B, 3)


@dataclass(frozen=True, slots=True)
class Wires:
    """The network, and where each building hangs on it."""

    network: Network
    bus: Index  # (B,) column in the network's bus arrays
    shown_buses: NDArray[np.intp]  # columns of buses that are supplied: the ones results tell of
    shown_branches: NDArray[np.intp]  # columns of branches between such buses
    engine: Literal["batch", "pandapower"]
    threads: int
    market: MarketWires | None = None  # for rules that look at the network
    phases: PhaseShares | None = None  # None: the network is solved as balanced


@dataclass(frozen=True, slots=True)
class System:
    """A scenario made ready to run. Nothing in it changes during a run."""

    scenario: Scenario
    grid: SlotGrid
    building_ids: tuple[str, ...]
    id_rank: Int  # (B,) position of the id in ASCII order: the tie-break of rounding
    profiles: ProfileTable
    demand: Demand
    storage: Storage
    chargers: Chargers
    heating: Heating
    plants: tuple[DevicePlant | None, ...]  # (B,) devices that stand for battery or PV in a paced or live run
    community: NDArray[np.bool_]  # (B,) storage only: serves the neighbourhood, or stands idle without a market
    export_limit_wh: Int  # (B,) per slot; negative = none
    supply: Supply
    market: MarketSetup
    own: OwnTermsSetup  # members' own terms and standing contracts
    metering: Metering
    wires: Wires | None
    origins: OriginSetup
    carbon_column: int  # column of the profile table, -1 = not stated
    static: RunStatic
    outages: IslandSetup | None = None  # None: the grid above never fails
    inverters: InverterSetup | None = None  # None: no inverter has functions for the grid
    planning: PlanningSetup | None = None  # None: no building is planned ahead, and no resident takes over
    envelopes: EnvelopeSetup | None = None  # None: nobody is limited in more than feeding in, by export_limit_wh

    @property
    def zone(self) -> str:
        """The local time zone."""
        return self.scenario.time.zone

    @property
    def n_buildings(self) -> int:
        """Number of buildings."""
        return len(self.building_ids)
