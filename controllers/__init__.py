"""Controllers: what batteries and electric cars shall do, planned from an explicit forecast.

A controller gets columns, state and forecast of a window and returns requests in Wh; the asset kernels decide what of
them is possible. The rule-based ones live here; optimising ones join through `battery_controller` and `ev_controller`.
"""

from controllers.forecast import Forecast
from controllers.registry import (
    BatteryController,
    EvController,
    battery_controller,
    controllers,
    ev_controller,
    plan_batteries,
    plan_battery_fleet,
    plan_ev_fleet,
    plan_evs,
)

__all__ = [
    "BatteryController",
    "EvController",
    "Forecast",
    "battery_controller",
    "controllers",
    "ev_controller",
    "plan_batteries",
    "plan_battery_fleet",
    "plan_ev_fleet",
    "plan_evs",
]
