"""What a kind of fault is: its name, group, meaning and parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from core.errors import DeviceError

GROUPS = ("transport", "protocol", "data", "control", "timers", "life", "site")
"""Groups of the catalogue, in its order."""

Value = float | str
"""A parameter's value: a number, or a word (a point's name, one of several ways)."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a fault.

    Parameters
    ----------
    default
        Its value where none is given; a number or a word.
    low, high
        Bounds of a number, both included.
    meaning
        What it does, with its unit.
    choices
        The words allowed; empty: any word.
    """

    default: Value
    low: float = 0.0
    high: float = 0.0
    meaning: str = ""
    choices: tuple[str, ...] = ()

    def checked(self, value: object) -> Value:
        """``value`` as it is kept; raises ValueError with what is allowed."""
        if isinstance(self.default, str):
            if not isinstance(value, str):
                raise ValueError(f"has to be a word, not {value!r}")
            if self.choices and value not in self.choices:
                raise ValueError(f"is {value!r}, has to be one of {', '.join(self.choices)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"has to be a number, not {value!r}")
        if not self.low <= value <= self.high:
            raise ValueError(f"is {value:g}, has to lie in {self.low:g} .. {self.high:g}")
        return float(value)


_NO_PARAMS: Mapping[str, Param] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault. ``name`` is kebab-case, ``group`` one of `GROUPS`, ``meaning`` one line."""

    name: str
    group: str
    meaning: str
    params: Mapping[str, Param] = field(default_factory=lambda: _NO_PARAMS)

    def checked(self, params: Mapping[str, object]) -> dict[str, Value]:
        """All parameters with defaults filled in; raises DeviceError (local) naming the one that is wrong."""
        for name in params:
            if name not in self.params:
                known = ", ".join(self.params) or "none at all"
                raise DeviceError(
                    f"fault {self.name} has no parameter {name!r}", local=True, remedy=f"its parameters: {known}"
                )
        values: dict[str, Value] = {}
        for name, param in self.params.items():
            try:
                values[name] = param.checked(params.get(name, param.default))
            except ValueError as reason:
                raise DeviceError(f"fault {self.name}: {name} {reason}", local=True, remedy=param.meaning) from None
        return values
