"""Forecasts of load and PV for plans, beyond perfect ones: what the run has seen so far, and what is learnt from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from peerwatt.messages import Window

if TYPE_CHECKING:
    from controllers.planning.learnt_forecast import Learner
    from peerwatt.scenario.planning import PlanForecast
    from peerwatt.system import System

Float = NDArray[np.float64]
What = Literal["load", "pv"]


@dataclass(slots=True)
class Known:
    """Series of the whole run and models learnt from their past, kept so as not to be made anew for every plan.

    Nothing here is state: whatever was asked before, the same question has the same answer.
    """

    series: dict[What, Float] = field(default_factory=dict)
    learners: dict[What, Learner] = field(default_factory=dict)

    def expected_kwh(self, system: System, setting: PlanForecast, window: Window) -> tuple[Float, Float]:
        """Load (heat pumps with a profile included) and PV of every building, (S, B) [kWh], as known at its start."""
        return self._one(system, setting, "load", window), self._one(system, setting, "pv", window)

    def _one(self, system: System, setting: PlanForecast, what: What, window: Window) -> Float:
        from controllers.planning.forecasts import Noise, forecast

        values = self._series(system, what)
        kind = setting.pv_kind if what == "pv" and setting.pv_kind is not None else setting.kind
        percent = setting.load_percent if what == "load" else setting.pv_percent
        perfect = kind in ("perfect", "noise")
        return forecast(
            kind,
            values[: window.first],
            window.n,
            slot_s=system.grid.length_s,
            actual=values[window.first : window.first + window.n] if perfect else None,
            noise=Noise(system.scenario.seed, what, system.building_ids, percent),
            learner=self._learner(system, what) if kind == "learnt" else None,
        )

    def _series(self, system: System, what: What) -> Float:
        from peerwatt.planning_task import followed_kwh

        if what not in self.series:
            demand = system.demand
            groups = (demand.pv,) if what == "pv" else (demand.load, demand.heat_pump)
            values = system.profiles.window(0, system.grid.n)
            self.series[what] = np.asarray(sum(followed_kwh(g, values, system.n_buildings) for g in groups))
        return self.series[what]

    def _learner(self, system: System, what: What) -> Learner:
        from controllers.planning.learnt_forecast import Learner

        if what not in self.learners:
            calendar = system.grid.local_time(system.zone)
            self.learners[what] = Learner(system.grid.length_s, calendar, seed=system.scenario.seed)
        return self.learners[what]
