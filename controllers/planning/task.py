"""What a planner is asked and what it answers: one interface for every controller of whole buildings.

A planner is a function ``plan(task) -> Plans``, for many buildings at once. Energies are kWh per slot at the AC side,
prices currency per kWh, in load convention; whoever carries a plan out turns it into whole Wh. The problem that a plan
solves, and what gives way when it cannot be solved, is written in docs/building-plans.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_plan import StorageValues, Stores

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Index = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batteries:
    """K batteries: where each stands, what it can do (`Stores` with values (K,)), and what it holds.

    ``stored_kwh`` (K,) at the start of the horizon; ``end_value_per_kwh`` (K,) what a stored kWh is worth at its end
    [currency]; ``kept_kwh`` (K,) stored energy that serves the own building alone (its terms), 0 for none.
    """

    building: Index
    stores: Stores
    stored_kwh: Float
    end_value_per_kwh: Float
    kept_kwh: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stays:
    """Stays of all cars within reach of the horizon, car after car: car e has rows first[e] .. first[e + 1] - 1.

    ``first`` int64 (E + 1,). Per stay: ``arrival`` and ``departure`` (first slot away) from the horizon's start,
    arrival 0 or less if it has begun, departure possibly behind the horizon; ``lacking_kwh`` what the car still wants;
    ``floor_kwh`` what may be taken from the car below its state at arrival (or now), ``room_kwh`` what it can take
    beyond its wish: both 0 without feeding back.
    """

    first: Int
    arrival: Int
    departure: Int
    lacking_kwh: Float
    floor_kwh: Float
    room_kwh: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cars:
    """E cars at their chargers, (E,) each: limits [kWh per slot], ``efficiency_discharge`` and wear of feeding back."""

    building: Index
    charge_max_kwh: Float
    discharge_max_kwh: Float
    efficiency_discharge: Float
    wear_per_kwh: Float
    stays: Stays


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatedBuildings:
    """H heat pumps, each heating one thermal mass: (H,) unless said otherwise.

    ``heat_max_kwh`` most electricity per slot; ``loss_kw_per_k`` and ``capacity_kwh_per_k`` of the building;
    ``temperature_c`` indoors at the horizon's start; (n, H): ``outdoor_c``, ``cop`` (heat over electricity, > 0),
    ``gain_kw`` (sun, people), ``low_c`` and ``high_c`` (comfort band at the end of each slot).
    """

    building: Index
    heat_max_kwh: Float
    loss_kw_per_k: Float
    capacity_kwh_per_k: Float
    temperature_c: Float
    outdoor_c: Float
    cop: Float
    gain_kw: Float
    low_c: Float
    high_c: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """State, forecast, prices, envelope and terms of B buildings over a horizon of n slots.

    Parameters
    ----------
    first_slot
        Number of the horizon's first slot in the run.
    slot_s
        Slot length [s].
    load_kwh, pv_kwh
        Expected draw that nobody steers, and PV before curtailment, both >= 0, (n, B).
    buy, sell
        Price of a kWh drawn and fed in [currency per kWh], sell <= buy, (n, B).
    import_limit_kwh, export_limit_kwh
        Operating envelope per slot [kWh], (n, B), infinite without a limit.
    batteries, cars, heat
        What can be steered, None where there is nothing of the kind.
    """

    first_slot: int
    slot_s: int
    load_kwh: Float
    pv_kwh: Float
    buy: Float
    sell: Float
    import_limit_kwh: Float
    export_limit_kwh: Float
    batteries: Batteries | None = None
    cars: Cars | None = None
    heat: HeatedBuildings | None = None

    @property
    def n_slots(self) -> int:
        """Number of slots of the horizon."""
        return len(self.load_kwh)

    @property
    def n_buildings(self) -> int:
        """Number of buildings."""
        return int(self.load_kwh.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """What had to give way, (B,) each, all zero for a problem that can be kept (docs/building-plans.md).

    ``envelope_kwh`` beyond the operating envelope, ``missing_kwh`` at departures, ``stored_kwh`` outside the limits of
    stored energy (kWh x slots), ``discomfort_k`` outside the comfort band (K x slots).
    """

    envelope_kwh: Float
    missing_kwh: Float
    stored_kwh: Float
    discomfort_k: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Schedules [kWh per slot] and what stored energy is worth.

    ``battery_kwh`` (n, K) and ``car_kwh`` (n, E), positive charges; ``heat_kwh`` (n, H) electricity; ``curtail_kwh``
    (n, B) PV held back; ``cost`` (B,) of the horizon at the plan's own forecast, end values taken off [currency];
    ``values`` of stored energy where the planner has them exactly, else None; ``marginal`` (n + 1, K) currency per
    stored kWh at the start of each slot and at the end, None where the planner has none; ``gap`` (B,) by how much a
    plan might at most cost less [currency], 0 where this one is proven to be the cheapest, infinite where not even
    what had to give way is sure; None from planners that do not say.
    """

    battery_kwh: Float
    car_kwh: Float
    heat_kwh: Float
    curtail_kwh: Float
    cost: Float
    relaxed: Relaxed
    values: StorageValues | None = None
    marginal: Float | None = None
    gap: Float | None = None


Planner = Callable[[Task], Plans]
"""Plans whole buildings: task -> schedules."""
