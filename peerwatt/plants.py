"""The plant port: what is told to do something, and tells what it did. Models here; devices beside them.

Only ``Clock`` and ``Plant`` differ between contexts. A plant is chosen per building: the model on arrays, which is
here, or devices for its battery and its PV (`peerwatt.devices`).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from peerwatt.messages import Flows, Forecast, Observation, SetPoints, Window
from peerwatt.system import Demand, ProfileAssets, System

if TYPE_CHECKING:
    from grid.assets.battery import BatteryFlows, BatteryState
    from grid.assets.heat import HeatFlows

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Arrays = dict[str, np.ndarray]

PPM = 1_000_000
"""Shares are whole millionths."""


class Plant(Protocol):
    """What the slot cycle needs of the physical (or modelled) world."""

    def observe(self) -> Observation:
        """The state when a window opens."""

    def forecast(self, window: Window) -> Forecast:
        """What will be drawn and generated in ``window`` (perfect knowledge)."""

    def apply(self, set_points: SetPoints, window: Window) -> None:
        """Hand over set-points for ``window``; acknowledged, or a DeviceError."""

    def measure(self, window: Window) -> Flows:
        """What flowed in ``window``, once it is over."""

    def checkpoint(self) -> Arrays:
        """The plant's state, so that a run can be resumed."""

    def restore(self, arrays: Arrays) -> None:
        """Return to a state that ``checkpoint`` gave."""


class BatteryBank(Protocol):
    """The batteries of a plant: models on arrays, or some of them devices."""

    def state(self) -> BatteryState:
        """State of each battery (K,)."""

    def tell(self, request_wh: Int, slot_s: int) -> None:
        """Hand over requests (S, K) at the start of the slots; devices have confirmed them when this returns."""

    def run(self, request_wh: Int, slot_s: int) -> BatteryFlows:
        """Say what was done of the requests (S, K) that were told, once the slots are over."""

    def checkpoint(self) -> Arrays:
        """State as arrays."""

    def restore(self, arrays: Arrays) -> None:
        """Return to a state."""


class SourceBank(Protocol):
    """The PV of a plant: models, or some of them devices."""

    def tell(self, generate_wh: Int, curtail_wh: Int, slot_s: int) -> None:
        """Hand over what buildings are to generate and to hold back, (S, B) each, at the start of the slots."""

    def run(self, generate_wh: Int, slot_s: int) -> Int:
        """Say what was generated (S, B), once the slots are over."""

    def checkpoint(self) -> Arrays:
        """State as arrays."""

    def restore(self, arrays: Arrays) -> None:
        """Return to a state."""


class ModelSources:
    """PV that generates what its profile says."""

    def tell(self, generate_wh: Int, curtail_wh: Int, slot_s: int) -> None:
        """Nothing to do: a model is told and run in one."""

    def run(self, generate_wh: Int, slot_s: int) -> Int:
        """What it was told."""
        return generate_wh

    def checkpoint(self) -> Arrays:
        """Nothing is kept."""
        return {}

    def restore(self, arrays: Arrays) -> None:
        """Nothing is kept."""


class ProfileFollower:
    """Integer Wh of assets that follow profiles, rounded with a remainder that is carried and never dropped."""

    def __init__(self, assets: ProfileAssets, n_buildings: int) -> None:
        self._assets = assets
        self._n_buildings = n_buildings
        self.remainder = np.zeros(len(assets.building), np.float64)

    def follow(self, profile_values: Float) -> Int:
        """Energy by building (S, B) [Wh] of the next slots; ``profile_values`` has a column per profile."""
        from grid.assets.quantise import scaled_wh, sum_by_building

        e_wh, self.remainder = scaled_wh(profile_values, self._assets.profile, self._assets.scale, self.remainder)
        return sum_by_building(e_wh, self._assets.building, self._n_buildings)


def reactive_kvar(demand: Demand, profile_values: Float, n_buildings: int, hours: float) -> Float:
    """Mean reactive power by building (S, B) [kvar], + absorbs."""
    q = np.zeros((len(profile_values), n_buildings))
    series = profile_values[:, demand.reactive.profile] * (demand.reactive.scale / hours)
    for column, building in enumerate(demand.reactive.building):
        q[:, building] += series[:, column]
    return q


class ModelPlant:
    """Models on arrays: profiles, batteries by an exact integer kernel, cars by their sessions, heated buildings."""

    def __init__(self, system: System, batteries: BatteryBank, sources: SourceBank | None = None) -> None:
        from grid.assets.ev import initial_ev_state

        self._system = system
        self._batteries = batteries
        self._sources = ModelSources() if sources is None else sources
        n = system.n_buildings
        self._load = ProfileFollower(system.demand.load, n)
        self._heat_pump = ProfileFollower(system.demand.heat_pump, n)
        self._pv = ProfileFollower(system.demand.pv, n)
        self._ev = initial_ev_state(system.chargers.sessions)
        self._indoor_c = system.heating.initial_c
        self._due: tuple[Window, Forecast, Float] | None = None
        self._told: SetPoints | None = None

    def observe(self) -> Observation:
        """State of batteries, cars and heated buildings."""
        return Observation(battery=self._batteries.state(), ev=self._ev, indoor_c=self._indoor_c)

    def forecast(self, window: Window) -> Forecast:
        """What the profiles say of the window; asked for once per window."""
        values = self._system.profiles.window(window.first, window.n)
        expected = Forecast(
            load_wh=self._load.follow(values),
            heat_pump_wh=self._heat_pump.follow(values),
            pv_wh=self._pv.follow(values),
        )
        system = self._system
        q_kvar = reactive_kvar(system.demand, values, system.n_buildings, system.grid.hours)
        self._due = (window, expected, q_kvar)
        return expected

    def apply(self, set_points: SetPoints, window: Window) -> None:
        """Models always take what they are told and keep their limits in ``measure``; devices are written to now."""
        if self._due is None or self._due[0] != window:
            raise RuntimeError("apply comes after forecast of the same window")
        slot_s = self._system.grid.length_s
        self._batteries.tell(set_points.battery_wh, slot_s)
        self._sources.tell(self._due[1].pv_wh - set_points.curtail_wh, set_points.curtail_wh, slot_s)
        self._told = set_points

    def measure(self, window: Window) -> Flows:
        """Step every asset through the window."""
        from grid.assets.ev import step_evs
        from grid.assets.quantise import sum_by_building

        if self._due is None or self._told is None or self._due[0] != window:
            raise RuntimeError("measure comes after forecast and apply of the same window")
        _, expected, q_kvar = self._due
        told = self._told
        system = self._system
        n = system.n_buildings
        ev, self._ev = step_evs(system.chargers.columns, system.chargers.sessions, self._ev, window.first, told.ev_wh)
        battery = self._batteries.run(told.battery_wh, system.grid.length_s)
        made = self._sources.run(expected.pv_wh - told.curtail_wh, system.grid.length_s)
        home = system.storage.columns.building
        car = system.chargers.columns.building
        load_wh, pump_wh = expected.load_wh, expected.heat_pump_wh
        if told.served_ppm is not None:  # parts of the district are dark
            load_wh, pump_wh = (x * told.served_ppm // PPM for x in (load_wh, pump_wh))
            q_kvar = q_kvar * (told.served_ppm / PPM)
        heat = self._heat(told.heat_wh, window, q_kvar)
        self._due = self._told = None
        return Flows(
            load_wh=load_wh,
            heat_pump_wh=pump_wh + sum_by_building(heat.heat_wh, system.heating.columns.building, n),
            pv_wh=made,
            curtailed_wh=told.curtail_wh,
            ev_wh=sum_by_building(ev.charge_wh, car, n),
            charge_wh=sum_by_building(battery.charge_wh, home, n),
            discharge_wh=sum_by_building(battery.discharge_wh, home, n),
            stored_wh=sum_by_building(battery.e_start_wh, home, n),
            gained_wh=sum_by_building(battery.stored_wh, home, n),
            drawn_wh=sum_by_building(battery.drawn_wh, home, n),
            leaked_wh=sum_by_building(battery.self_wh, home, n),
            undelivered_wh=sum_by_building(ev.undelivered_wh, car, n),
            q_kvar=q_kvar,
            car_wh=ev.net_wh,
            fed_wh=sum_by_building(ev.discharge_wh, car, n) if system.chargers.columns.feeding.any() else None,
            battery_wh=battery.net_wh,
            heat_wh=heat.heat_wh if len(system.heating) else None,
            indoor_c=heat.temperature_c if len(system.heating) else None,
        )

    def _heat(self, request_wh: Int, window: Window, q_kvar: Float) -> HeatFlows:
        """Step the heated buildings; adds to reactive power (S, B) [kvar]."""
        from grid.assets.heat import step_heat

        system, heating = self._system, self._system.heating
        conditions = heating.conditions(system.profiles, system.grid, system.zone, window.first, window.n)
        flows, self._indoor_c = step_heat(heating.columns, conditions, self._indoor_c, request_wh)
        q_kvar[:, heating.columns.building] += flows.heat_wh * (heating.tan_phi / 1000.0 / system.grid.hours)
        return flows

    def checkpoint(self) -> Arrays:
        """All remainders, stored energies, progress of cars and indoor temperatures."""
        arrays = {f"battery.{k}": v for k, v in self._batteries.checkpoint().items()}
        arrays |= {f"source.{k}": v for k, v in self._sources.checkpoint().items()}
        arrays |= {f"ev.{f.name}": getattr(self._ev, f.name) for f in fields(self._ev)}
        if len(self._indoor_c):
            arrays["heat.indoor_c"] = self._indoor_c
        followers = {"load": self._load, "heat_pump": self._heat_pump, "pv": self._pv}
        return arrays | {f"remainder.{k}": f.remainder for k, f in followers.items()}

    def restore(self, arrays: Arrays) -> None:
        """Return to a state that ``checkpoint`` gave."""
        from grid.assets.ev import EvState

        self._batteries.restore(_below(arrays, "battery."))
        self._sources.restore(_below(arrays, "source."))
        self._ev = EvState(**_below(arrays, "ev."))
        self._indoor_c = arrays.get("heat.indoor_c", self._indoor_c)
        for name, follower in {"load": self._load, "heat_pump": self._heat_pump, "pv": self._pv}.items():
            follower.remainder = arrays[f"remainder.{name}"]


class ModelBatteries:
    """Batteries as columns, stepped by one compiled kernel."""

    def __init__(self, system: System) -> None:
        self.columns = system.storage.columns
        self._state = system.storage.initial

    def state(self) -> BatteryState:
        """State of each battery (K,)."""
        return self._state

    def tell(self, request_wh: Int, slot_s: int) -> None:
        """Nothing to do: a model is told and run in one."""

    def run(self, request_wh: Int, slot_s: int) -> BatteryFlows:
        """Carry out requests (S, K); what is out of limits is clipped."""
        from grid.assets.battery import step_batteries

        flows, self._state = step_batteries(self.columns, self._state, request_wh)
        return flows

    def follow(self, stored_wh: Int) -> None:
        """Take over stored energies (K,) that were measured; remainders stay."""
        self._state = replace(self._state, e_wh=stored_wh)

    def checkpoint(self) -> Arrays:
        """Stored energies and exact remainders."""
        return {f.name: getattr(self._state, f.name) for f in fields(self._state)}

    def restore(self, arrays: Arrays) -> None:
        """Return to a state."""
        from grid.assets.battery import BatteryState

        self._state = BatteryState(**{f.name: arrays[f.name] for f in fields(BatteryState)})


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
