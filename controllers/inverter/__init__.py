"""Inverter functions that support the grid: settings of the standards as data, steady states as pure functions.

`load_settings` reads a standard, `inverter_columns` compiles K inverters into arrays, `steady_state` says what they
feed in at given voltages and frequency, and `advance` takes them there in time. Equations: docs/inverter-functions.md.
"""

from controllers.inverter.columns import InverterColumns, inverter_columns
from controllers.inverter.dynamics import Dynamics, InverterState, advance, dynamics, start_state
from controllers.inverter.settings import (
    Capability,
    Curve,
    EnterService,
    FreqWatt,
    FunctionSettings,
    Responses,
    VoltWatt,
)
from controllers.inverter.standards_data import Standard, load_settings, standard, standard_names
from controllers.inverter.steady import Binding, QBinding, SteadyState, measured_voltage, steady_state

__all__ = [
    "Binding",
    "Capability",
    "Curve",
    "Dynamics",
    "EnterService",
    "FreqWatt",
    "FunctionSettings",
    "InverterColumns",
    "InverterState",
    "QBinding",
    "Responses",
    "Standard",
    "SteadyState",
    "VoltWatt",
    "advance",
    "dynamics",
    "inverter_columns",
    "load_settings",
    "measured_voltage",
    "standard",
    "standard_names",
    "start_state",
    "steady_state",
]
