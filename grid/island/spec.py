"""What an island consists of: plain frozen descriptions. Figures of protection follow VDE-AR-N 4105 where not given."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core import GridError


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not (value > 0.0 and math.isfinite(value)):
            raise GridError(f"{owner}: {name} is {value}", remedy=f"give a finite {name} > 0")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source. Grid-forming: f = reference - droop x power, v = reference - droop x reactive power (Schiffer et al.
    2014, doi:10.1016/j.automatica.2014.08.009); grid-following: power as told, less above 50.2 Hz.

    ``inertia_s`` H [s] (virtual for an inverter); ``lag_s`` time constant of its power [s]; ``charge_kw`` and
    ``discharge_kw`` continuous limits; ``overload`` the factor it gives for ``overload_s`` before it trips;
    ``ride_s`` how long it waits without voltage; ``self_forms``: takes over by itself at the moment the switch opens;
    ``starts`` and ``forms`` False are faults. ``capacity_kwh`` 0: nothing stored. ``efficiency`` one way.
    """

    id: str
    rating_kw: float
    can_form: bool = True
    rotating: bool = False
    inertia_s: float = 1.0
    lag_s: float = 0.03
    droop_hz_per_kw: float = 0.05
    droop_pu_per_kvar: float = 0.002
    charge_kw: float = 0.0
    discharge_kw: float | None = None
    available_kw: float = math.inf
    capacity_kwh: float = 0.0
    soc: float = 0.5
    soc_empty: float = 0.03
    soc_full: float = 0.99
    efficiency: float = 0.96
    overload: float = 1.2
    overload_s: float = 2.0
    under_hz: float = 47.5
    over_hz: float = 51.5
    frequency_s: float = 0.2
    under_pu: float = 0.8
    over_pu: float = 1.15
    voltage_s: float = 1.0
    ride_s: float = 1.5
    start_s: float = 0.5
    form_s: float = 0.03
    return_s: float = 60.0
    limit_from_hz: float = 50.2
    limit_per_hz: float = 0.4
    ramp_kw_per_s: float = math.inf
    self_forms: bool = False
    starts: bool = True
    forms: bool = True
    running: bool = True

    def __post_init__(self) -> None:
        _positive(
            f"source {self.id}",
            rating_kw=self.rating_kw,
            lag_s=self.lag_s,
            droop_hz_per_kw=self.droop_hz_per_kw,
            droop_pu_per_kvar=self.droop_pu_per_kvar,
            overload=self.overload,
            efficiency=self.efficiency,
        )
        if self.can_form:
            _positive(f"forming source {self.id}", inertia_s=self.inertia_s)


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """A block of load: P = p_kw v^exponent (1 + per_hz (f - 50)), plus inrush (``inrush`` x p_kw at first, decaying).

    Kundur, Power System Stability and Control, 1994, section 7.1 (static load models).
    """

    id: str
    priority: int
    p_kw: float
    tan_phi: float = 0.2
    exponent: float = 1.5
    per_hz: float = 0.01
    inrush: float = 0.0
    inrush_s: float = 0.3
    close_s: float = 0.04
    open_s: float = 0.03
    on: bool = True

    def __post_init__(self) -> None:
        if not (self.p_kw >= 0.0 and self.inrush >= 0.0 and self.inrush_s > 0.0):
            raise GridError(f"load {self.id}: power {self.p_kw} kW", remedy="give p_kw >= 0 and inrush >= 0")


@dataclass(frozen=True, slots=True)
class SwitchSpec:
    """The switch at the connection point: delays [s]; ``self_opens_s``: its own relay opens on a dead grid (or inf)."""

    open_s: float = 0.05
    close_s: float = 0.06
    self_opens_s: float = math.inf
    welded: bool = False
    stuck: bool = False
    closed: bool = True


@dataclass(frozen=True, slots=True)
class IslandSpec:
    """An island on one bus with aggregated losses (``loss_share`` of the load).

    ``reactance_pu`` is what limits the surge when the switch closes out of step (surge = |dV| / reactance), and
    ``surge_trip_pu`` the surge at which every source trips.
    """

    sources: tuple[SourceSpec, ...]
    loads: tuple[LoadSpec, ...]
    switch: SwitchSpec = SwitchSpec()
    loss_share: float = 0.02
    reactance_pu: float = 0.2
    surge_trip_pu: float = 2.5
    grid_v_pu: float = 1.0
    grid_f_hz: float = 50.0

    def __post_init__(self) -> None:
        names = [s.id for s in self.sources] + [load.id for load in self.loads]
        if len(set(names)) != len(names) or "switch" in names or "grid" in names:
            raise GridError("names of an island's devices repeat", remedy="give each its own, none `switch` or `grid`")
        _positive("island", reactance_pu=self.reactance_pu, surge_trip_pu=self.surge_trip_pu)
