"""Parameters of rules and strategies: documented dataclass fields, and values checked with a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from fractions import Fraction
from typing import Any

from core.errors import MarketError


def parameter(default: Any, doc: str) -> Any:
    """A dataclass field of a rule or strategy with its documentation."""
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: default, metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


def fraction_parameter(
    owner: str, name: str, value: Any, low: int | None = None, high: int | None = None, unit: str = ""
) -> Fraction:
    """An exact number from an int, Fraction, text such as "1/3", or a float taken by its printed digits.

    Raises
    ------
    MarketError
        Naming the parameter, the reason and the remedy.
    """
    span = f"between {low} and {high}" if high is not None else f"of at least {low}" if low is not None else ""
    remedy = f"give a number {span}{unit}, for example 0.5 or '1/2'".replace("  ", " ")
    if isinstance(value, bool):
        raise MarketError(f"{owner}: parameter {name} is {value!r}, not a number", remedy=remedy)
    try:
        number = value if isinstance(value, Fraction) else Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise MarketError(f"{owner}: parameter {name} is {value!r}, not a number", remedy=remedy) from error
    if (low is not None and number < low) or (high is not None and number > high):
        raise MarketError(f"{owner}: parameter {name} is {value}, out of range", remedy=remedy)
    return number


def choice_parameter(owner: str, name: str, value: Any, choices: Sequence[str]) -> str:
    """One of ``choices``; MarketError otherwise."""
    if value not in choices:
        raise MarketError(f"{owner}: parameter {name} is {value!r}", remedy=f"choose one of {', '.join(choices)}")
    return str(value)


def flag_parameter(owner: str, name: str, value: Any) -> bool:
    """True or False; MarketError otherwise."""
    if not isinstance(value, bool):
        raise MarketError(f"{owner}: parameter {name} is {value!r}", remedy="give true or false")
    return value


def integer_parameter(owner: str, name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number in a range; MarketError otherwise."""
    bad = isinstance(value, bool) or not isinstance(value, int)
    if bad or (low is not None and value < low) or (high is not None and value > high):
        span = "" if low is None else f" of at least {low}" if high is None else f" between {low} and {high}"
        raise MarketError(f"{owner}: parameter {name} is {value!r}", remedy=f"give a whole number{span}")
    return int(value)
