"""What an item of the bench is and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from core.statistics import Estimate


class Status(StrEnum):
    """How a figure compares with what is expected of it."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    REPORTED = "reported only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the bench is run.

    ``seed`` is the key of everything drawn; ``share`` scales the number of runs, 1 = that of the protocols.
    """

    seed: int = 0
    share: float = 1.0

    def runs(self, full: int) -> int:
        """How many of ``full`` runs are made, at least 8."""
        return max(8, round(full * self.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of an item.

    Parameters
    ----------
    name
        What is measured.
    measured
        The figure with its 95 % interval over runs; None where it was not computed.
    expected
        What is expected, in words; empty without an expectation.
    status
        Judged against ``expected``; `Status.REPORTED` where nothing is asserted.
    unit
        Of the figure.
    dagger
        ``expected`` is recalled from memory of a publication and has to be read off the original.
    note
        Why it was not computed, or what to know beside it.
    value, tolerance
        ``expected`` as a number, where it is one.
    """

    name: str
    measured: Estimate | None
    expected: str = ""
    status: Status = Status.REPORTED
    unit: str = ""
    dagger: bool = False
    note: str = ""
    value: float | None = None
    tolerance: float | None = None


Compute = Callable[[Settings], list[Figure]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchItem:
    """A group of figures with one protocol.

    ``section`` numbers the item in market-rules, ``reproduces`` says whose finding it is, ``protocol`` how it is
    simulated, the stopping rule included.
    """

    name: str
    section: str
    reproduces: str
    protocol: str
    compute: Compute


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A figure and the item it belongs to."""

    item: str
    section: str
    reproduces: str
    protocol: str
    figure: Figure

    @property
    def status(self) -> Status:
        """The figure's status."""
        return self.figure.status

    @property
    def dagger(self) -> bool:
        """Whether the expected figure is recalled from memory."""
        return self.figure.dagger

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        figure = asdict(self.figure)
        return {
            "item": self.item,
            "section": self.section,
            "reproduces": self.reproduces,
            "protocol": self.protocol,
            **figure,
            "figure": figure.pop("name"),
            "status": str(self.figure.status),
        }


def number(name: str, measured: Estimate, value: float, tolerance: float, unit: str = "", note: str = "") -> Figure:
    """A figure that has to lie within a tolerance of a number."""
    close = measured.value is not None and abs(measured.value - value) <= tolerance
    return Figure(
        name=name, measured=measured, expected=f"{value:g} ± {tolerance:g}", unit=unit, value=value,
        tolerance=tolerance, status=Status.REPRODUCED if close else Status.NOT_REPRODUCED, note=note,
    )  # fmt: skip


def claim(name: str, measured: Estimate, expected: str, holds: bool, unit: str = "", note: str = "") -> Figure:
    """A figure that has to meet a condition."""
    status = Status.REPRODUCED if holds else Status.NOT_REPRODUCED
    return Figure(name=name, measured=measured, expected=expected, unit=unit, status=status, note=note)


def told(
    name: str, measured: Estimate | None, expected: str = "", unit: str = "", note: str = "", *, dagger: bool = False
) -> Figure:
    """A figure that is reported and not judged."""
    return Figure(name=name, measured=measured, expected=expected, unit=unit, note=note, dagger=dagger)
