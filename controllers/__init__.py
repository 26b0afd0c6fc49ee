"""Controllers: what batteries, electric cars and heat pumps shall do, planned from an explicit forecast.

A controller gets columns, state and forecast of a window and returns requests in Wh; the asset kernels decide what of
them is possible. The rule-based ones live here; optimising ones join through `battery_controller` and `ev_controller`.
"""

from controllers.forecast import Forecast
from controllers.registry import (
    BatteryController,
    EvController,
    HeatController,
    battery_controller,
    controllers,
    ev_controller,
    heat_controller,
    plan_batteries,
    plan_battery_fleet,
    plan_ev_fleet,
    plan_evs,
    plan_heat_fleet,
)

__all__ = [
    "BatteryController",
    "EvController",
    "Forecast",
    "HeatController",
    "battery_controller",
    "controllers",
    "ev_controller",
    "heat_controller",
    "plan_batteries",
    "plan_battery_fleet",
    "plan_ev_fleet",
    "plan_evs",
    "plan_heat_fleet",
]
