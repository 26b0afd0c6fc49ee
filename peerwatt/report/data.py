"""What the report draws, gathered once: sums per slot, aggregates per element, and the run's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import SlotGrid
from core.slots import LocalTime
from peerwatt.results.record import RunStatic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EQUIPMENT = {
    "pv": "PV",
    "battery": "battery",
    "pv_battery": "PV and battery",
    "none": "neither PV nor battery",
    "community": "community battery",
}
"""The summary's kinds of equipment, in words."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Spread of a quantity over the run, per element: arrays of shape ``(n_elements,)``."""

    lowest: Floats
    p05: Floats
    median: Floats
    p95: Floats
    highest: Floats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All buses (p.u.) and branches (1.0 = rated) of the network in one slot, and why that slot was chosen."""

    key: str
    slot: int
    v_pu: Floats
    loading: Floats
    v_phases: Floats | None = None  # (n_buses, 3); v_pu is then that of the phase nearest to a limit


@dataclass(frozen=True, slots=True)
class PhaseData:
    """What a network solved phase by phase has on top; the last axis is the phases a, b, c.

    ``lowest`` and ``highest`` voltage of the run (n_buses, 3) [p.u.]; ``unbalance_max`` and ``unbalance_p95``
    (n_buses,) as shares; highest ``loading`` (n_branches, 3) and ``neutral`` (n_branches,), 1.0 = rated; ``slots`` the
    columns of the table ``slot_phases``, empty when the run kept none.
    """

    lowest: Floats
    highest: Floats
    unbalance_max: Floats
    unbalance_p95: Floats
    loading: Floats
    neutral: Floats
    slots: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Group:
    """Savings of one kind of household: members, and mean, lowest and highest savings [currency]."""

    name: str
    n: int
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the figures need. Energies in Wh, money in whole currency, prices in currency per kWh.

    ``slots`` holds arrays of shape ``(n_slots,)`` by name, NaN where a slot has no value; ``savings``,
    ``counted`` (whether its savings count: a member that is not storage only) and ``equipment`` have one entry per
    building; ``flows_wh[seller, buyer]`` is energy over the whole run. ``None`` (for
    ``slots``: empty) means that the run has no such part.
    """

    static: RunStatic
    grid: SlotGrid
    local: LocalTime
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    scenario: str
    slots: Mapping[str, Floats]
    savings: Floats
    counted: NDArray[np.bool_]
    equipment: tuple[str, ...]
    groups: Mapping[str, tuple[Group, ...]]
    voltage: Bands | None
    loading: Bands | None
    snapshots: tuple[Snapshot, ...]
    flows_wh: Floats | None
    violations: tuple[Mapping[str, Any], ...]
    outages: Mapping[str, Any] = field(default_factory=dict)  # trace of islands by column, see peerwatt.microgrid.story
    origins: Mapping[str, Floats] = field(default_factory=dict)  # consumption per slot by origin [Wh]
    phases: PhaseData | None = None  # None: the network is balanced, or there is none

    @property
    def currency(self) -> str:
        """ISO code of the currency."""
        return self.static.currency

    @property
    def price_unit(self) -> str:
        """Unit of prices, as axes show it."""
        return f"{self.static.currency}/kWh"

    @property
    def hours(self) -> float:
        """Slot length [h]."""
        return self.grid.hours

    def total(self, name: str) -> float:
        """Sum over the run of a slot column, 0 where there is none."""
        values = self.slots.get(name)
        return 0.0 if values is None else float(np.nansum(values))

    def column(self, name: str) -> Floats | None:
        """A slot column, or ``None`` when the run has none or it holds no value at all."""
        values = self.slots.get(name)
        return None if values is None or not np.isfinite(values).any() else values

    def when(self, slot: int) -> str:
        """Local start of a slot in words: ``12 May 2016, 13:15``."""
        day = self.local.date[slot].astype(object)
        minute = int(self.local.minute[slot])
        return f"{day.day} {day:%B %Y}, {minute // 60:02d}:{minute % 60:02d}"

    @property
    def span(self) -> str:
        """First and last local day in words."""
        if not self.grid.n:
            return "no slots"
        first, last = (self.local.date[i].astype(object) for i in (0, -1))
        start = f"{first.day} {first:%B %Y}"
        return start if first == last else f"{start} to {last.day} {last:%B %Y}"

    @property
    def n_days(self) -> int:
        """Number of local calendar days touched."""
        return 0 if not self.grid.n else int((self.local.date[-1] - self.local.date[0]).astype(int)) + 1
