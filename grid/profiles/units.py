"""Units a series may be written in, and the factor that brings each to the unit used inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from core import ScenarioError

Base = Literal["energy", "power", "level"]

_PREFIX = {"": 1e-3, "k": 1.0, "M": 1e3, "G": 1e6}
_CENTS = {"ct": 0.01, "cent": 0.01, "p": 0.01}
_MASS = {"g": 1e-3, "kg": 1.0, "t": 1e3}
_PER_ENERGY = {"Wh": 1e3, "kWh": 1.0, "MWh": 1e-3}
_CARBON_SUFFIX = re.compile(r"CO2(eq|e)?$")

_KNOWN = {
    "energy": "Wh, kWh, MWh (per interval), W, kW, MW (mean power), kW/kW, kW/kWp, W/kWp, kWh/kWp",
    "power": "W, kW, MW (mean power), kW/kW, kW/kWp, W/kWp, Wh, kWh, MWh (per interval), kWh/kWp",
    "reactive": "varh, kvarh, Mvarh (per interval), var, kvar, Mvar (mean), kvar/kvar",
    "price": "EUR/kWh, EUR/MWh (or another three-letter currency), ct/kWh, cent/kWh, p/kWh",
    "temperature": "degC",
    "irradiance": "W/m2",
    "carbon": "g/kWh, kg/kWh, kg/MWh, t/MWh, with or without CO2, CO2e, CO2eq behind the mass",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that was understood.

    ``base`` says what the numbers are (energy per interval, mean power, a level); number * ``factor`` is in kWh, kW,
    kvarh, kvar, currency per kWh or kg per kWh. ``currency`` is the three-letter code of a price, if it has one.
    """

    base: Base
    factor: float
    currency: str | None = None


def parse_unit(text: str | None, kind: str, *, file: str | None, path: str | None) -> Unit:
    """The unit ``text`` for a series of ``kind`` (see `SeriesRef.kind`).

    Raises
    ------
    ScenarioError
        If it is missing, unknown, or measures something else; the remedy lists the known ones.
    """
    known = _KNOWN["price"] + "; " + _KNOWN["carbon"] if kind == "level" else _KNOWN[kind]
    if text is None:
        raise ScenarioError("the unit is missing", file=file, path=path, remedy=f"add unit: one of {known}")
    plain = text.strip()
    if plain == known:  # the one unit of a kind of weather
        return Unit("level", 1.0)
    unit = _flow_unit(plain, "var" if kind == "reactive" else "W") if kind in ("energy", "power", "reactive") else None
    if kind in ("price", "level"):
        unit = _price_unit(plain)
    if kind in ("carbon", "level") and unit is None:
        unit = _carbon_unit(plain)
    if unit is None:
        what = {"level": "a price or carbon intensity", "reactive": "reactive energy"}.get(kind, kind)
        message = f"unit {text!r} is not a unit of {what}"
        near = {word.lower(): word for word in reversed(re.findall(r"[A-Za-z/0-9]+", known))}.get(plain.lower())
        guess = f"did you mean {near}? " if near else ""
        raise ScenarioError(message, file=file, path=path, remedy=f"{guess}use one of {known}")
    return unit


def _flow_unit(text: str, symbol: str) -> Unit | None:
    """Energy per interval or mean power of ``symbol`` (W or var), also per rated kW."""
    match = re.fullmatch(rf"([kMG]?){symbol}(h?)(?:/(k?)(W|Wp|var|VA))?", text)
    if match is None:
        return None
    prefix, hours, per_prefix, per = match.groups()
    if per is not None and (per in ("var", "VA")) != (symbol == "var"):
        return None
    factor = _PREFIX[prefix] / (_PREFIX[per_prefix] if per is not None else 1.0)
    return Unit("energy" if hours else "power", factor)


def _price_unit(text: str) -> Unit | None:
    money, _, energy = text.partition("/")
    if energy not in _PER_ENERGY:
        return None
    if money in _CENTS:
        return Unit("level", _CENTS[money] * _PER_ENERGY[energy])
    if re.fullmatch("[A-Z]{3}", money):
        return Unit("level", _PER_ENERGY[energy], money)
    return None


def _carbon_unit(text: str) -> Unit | None:
    mass, _, energy = text.replace(" ", "").partition("/")
    mass = _CARBON_SUFFIX.sub("", mass)
    if mass not in _MASS or energy not in _PER_ENERGY:
        return None
    return Unit("level", _MASS[mass] * _PER_ENERGY[energy])
