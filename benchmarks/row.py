"""What a benchmark is: a name, a function that measures, and what it found beside what it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row found: the figure, what it must reach, and how it came about."""

    figure: str
    target: str
    reached: bool
    how: str


@dataclass(frozen=True, slots=True)
class Row:
    """A benchmark: a name and the function that measures it in a scratch folder."""

    name: str
    measure: Callable[[Path], Outcome]
