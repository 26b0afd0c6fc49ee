"""Settings of one inverter's grid functions, in per unit and in generator sign, as the standards write them.

Base of active power is the inverter's rating in kW, base of reactive and apparent power its rating in kVA (IEEE
1547-2018 does the same), base of voltage the nominal voltage. Reactive power > 0 is injected (overexcited). The load
convention of peerwatt begins behind `steady_state`, which is the one place that turns the signs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Literal

from core.errors import GridError

Reactive = Literal["none", "fixed_pf", "const_q", "volt_var", "watt_var", "pf_of_p"]
Excitation = Literal["injecting", "absorbing"]
Priority = Literal["var", "watt"]
WattBase = Literal["kw", "kva"]
DroopBase = Literal["rated", "momentary"]
VoltageChoice = Literal["mean", "max", "positive"]

CURVED = ("volt_var", "watt_var", "pf_of_p")
"""Reactive functions that follow a curve; each is a field of `FunctionSettings`."""

_REMEDY = "correct the inverter's settings (docs/inverter-functions.md)"


def wrong(text: str) -> GridError:
    """The error of a setting that makes no sense."""
    return GridError(text, remedy=_REMEDY)


@dataclass(frozen=True, slots=True)
class Curve:
    """A function y(x) given by breakpoints: linear between them, constant outside.

    ``x`` never decreases; of two equal ones the later point holds at x itself (a step). Raises `GridError` if the
    points are not finite, empty, of unequal number or out of order.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.y):
            raise wrong(f"a curve needs as many x as y values, not {len(self.x)} and {len(self.y)}")
        if not all(map(isfinite, (*self.x, *self.y))):
            raise wrong(f"a curve has values that are not finite: {self.x}, {self.y}")
        if any(b < a for a, b in pairwise(self.x)):
            raise wrong(f"the x values of a curve have to rise: {self.x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltWatt:
    """Greatest active power by voltage: ``curve`` of v_pu -> p_pu of the rating in ``base``."""

    curve: Curve
    base: WattBase = "kw"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreqWatt:
    """Active power by frequency, a droop with dead band.

    Above ``nominal + dead_over_hz`` power falls by ``slope_over_per_hz`` (pu of the base per Hz), below ``nominal -
    dead_under_hz`` it rises by ``slope_under_per_hz`` as far as there is power available. Base "rated": the rating
    in kW (IEEE 1547); "momentary": the power before the frequency left the dead band (VDE-AR-N 4105, AS/NZS 4777.2).
    The droop begins at the edge of the dead band, without a step. ``least_pu`` (of the rating): droop never lowers
    power below it. ``lifts_limit``: at low frequency power may rise above an ordered limit.
    """

    dead_over_hz: float
    slope_over_per_hz: float
    dead_under_hz: float = 0.0
    slope_under_per_hz: float = 0.0
    base_over: DroopBase = "rated"
    base_under: DroopBase = "rated"
    least_pu: float = 0.0
    lifts_limit: bool = False

    def __post_init__(self) -> None:
        numbers = (
            self.dead_over_hz,
            self.slope_over_per_hz,
            self.dead_under_hz,
            self.slope_under_per_hz,
            self.least_pu,
        )
        if not all(isfinite(value) and value >= 0.0 for value in numbers):
            raise wrong(f"dead bands, slopes and least power of a droop are finite and not negative: {numbers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Reactive power an inverter can (or has to) give: p_pu -> greatest |q_pu|, for both directions.

    ``pf_inject`` and ``pf_absorb`` add |q| <= |p| tan(acos pf): with wide curves that is the triangle of
    VDE-AR-N 4105; None leaves the curves alone. ``kept_inject`` and ``kept_absorb`` are what watt priority may not
    take away (IEEE 1547-2018 Table 7: 0.44 and 0.25 / 0.44); 0 is a pure watt priority.
    """

    inject: Curve
    absorb: Curve
    pf_inject: float | None = None
    pf_absorb: float | None = None
    kept_inject: float = 0.0
    kept_absorb: float = 0.0

    def __post_init__(self) -> None:
        if min(*self.inject.y, *self.absorb.y, self.kept_inject, self.kept_absorb) < 0.0:
            raise wrong("reactive capability is given as amounts, so it cannot be negative")
        for pf in (self.pf_inject, self.pf_absorb):
            if pf is not None and not 0.0 < pf <= 1.0:
                raise wrong(f"a power factor lies in (0, 1], not at {pf}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterService:
    """When an inverter may start and how it ramps: window (inclusive), time in the window, ramp 0 -> rating.

    ``v_low_pu`` .. ``f_high_hz`` the window; ``delay_s`` uninterrupted time in it; ``random_delay_s`` upper end of a
    random extra delay; ``ramp_s`` from 0 to the rating (0: at once).
    """

    v_low_pu: float
    v_high_pu: float
    f_low_hz: float
    f_high_hz: float
    delay_s: float
    random_delay_s: float = 0.0
    ramp_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """Open-loop response times [s]: time to 90 % of a step in the function's own output; 0 is at once.

    ``limit_s`` is the time of a ramp of the ordered limit over the whole rating.
    """

    volt_var_s: float = 0.0
    watt_var_s: float = 0.0
    fixed_pf_s: float = 0.0
    const_q_s: float = 0.0
    volt_watt_s: float = 0.0
    freq_watt_s: float = 0.0
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSettings:
    """All settings of one inverter; generator sign, per unit (see the module).

    ``reactive`` names the one reactive function that is on; the values of the others are kept. ``pf`` with
    ``pf_excitation``; ``const_q_pu`` of the kVA rating; ``volt_var`` v_pu -> q_pu; ``watt_var`` p_pu -> q_pu;
    ``pf_of_p`` p_pu -> 1 - power factor with a sign, so that it passes 1 smoothly: -0.1 is 0.90 absorbing, 0.1 is 0.90
    injecting. ``volt_watt_on`` and ``freq_watt_on`` switch the active power functions; ``limit_pu`` is a standing
    limit of fed-in active power. ``v_reactive`` and ``v_active`` say which voltage a three-phase inverter looks at:
    the mean of the phases, the highest phase or the positive sequence.
    """

    name: str
    nominal_hz: float
    reactive: Reactive = "none"
    pf: float = 1.0
    pf_excitation: Excitation = "absorbing"
    const_q_pu: float = 0.0
    volt_var: Curve | None = None
    watt_var: Curve | None = None
    pf_of_p: Curve | None = None
    volt_watt: VoltWatt | None = None
    volt_watt_on: bool = False
    freq_watt: FreqWatt | None = None
    freq_watt_on: bool = False
    limit_pu: float = 1.0
    capability: Capability
    priority: Priority = "var"
    enter_service: EnterService | None = None
    responses: Responses = field(default_factory=Responses)
    v_reactive: VoltageChoice = "mean"
    v_active: VoltageChoice = "mean"

    def __post_init__(self) -> None:
        if not 0.0 < self.pf <= 1.0:
            raise wrong(f"{self.name}: a power factor lies in (0, 1], not at {self.pf}")
        if not all(map(isfinite, (self.nominal_hz, self.const_q_pu, self.limit_pu))) or self.limit_pu < 0.0:
            raise wrong(f"{self.name}: nominal frequency, constant reactive power and limit have to be finite")
        if self.reactive in CURVED and self.curve is None:
            raise wrong(f"{self.name}: {self.reactive} is switched on, but it has no curve and the standard gives none")
        if self.pf_of_p is not None and max(map(abs, self.pf_of_p.y)) >= 1.0:
            raise wrong(f"{self.name}: pf_of_p holds 1 - power factor with a sign, so it stays between -1 and 1")
        if self.volt_watt_on and self.volt_watt is None:
            raise wrong(f"{self.name}: volt-watt is switched on without a curve")
        if self.freq_watt_on and self.freq_watt is None:
            raise wrong(f"{self.name}: frequency-watt is switched on without settings")

    @property
    def curve(self) -> Curve | None:
        """The curve of the reactive function that is on; None where it has none."""
        curves = {"volt_var": self.volt_var, "watt_var": self.watt_var, "pf_of_p": self.pf_of_p}
        return curves.get(self.reactive)
