"""What happens to the district's supply within a slot that an outage touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SlotPowers:
    """Mean powers that the buildings would have in a slot if all were supplied [kW], (B,) each, both >= 0.

    The battery that forms the island's grid is in neither of them; ``forming_soc`` is its stored share at the start.
    """

    drawn_kw: Float
    generated_kw: Float
    forming_soc: float


@dataclass(frozen=True, slots=True)
class TraceRow:
    """An instant of an outage, for the pictures: seconds since the run's start, and what held then.

    ``forming_kw`` and ``generated_kw`` are what the forming battery and all other sources supply (+ supplies),
    ``load_kw`` what is drawn, ``shed_kw`` what would be drawn by buildings that are shed, ``exchange_kw`` comes from
    the grid above.
    """

    at_s: float
    state: str
    frequency_hz: float
    forming_kw: float
    generated_kw: float
    load_kw: float
    shed_kw: float
    exchange_kw: float
    soc: float


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that people want to know, when it happened [s since the run's start]: what kind, and a sentence."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """A slot as it went.

    Parameters
    ----------
    supplied
        (B,) share of the slot in which each building had supply, 0..1.
    generated
        Share of the possible generation of supplied buildings that was let in, 0..1 (the rest was held back).
    forming_kw
        Mean over the slot of what the forming battery did in the island, load-signed (charging positive) [kW]; while
        connected it follows its plan.
    connected
        Share of the slot in which the district hung on the grid above; the rest it was an island or dark.
    dark_steps
        Stretches of the slot in order: seconds, and which buildings were dark (B,).
    """

    supplied: Float
    generated: float
    forming_kw: float
    connected: float
    dark_steps: tuple[tuple[float, Bool], ...]
    trace: tuple[TraceRow, ...] = ()
    happenings: tuple[Happening, ...] = ()


class Course(Protocol):
    """How outages go: asked slot by slot while one lasts."""

    def run_slot(self, start_s: float, length_s: float, powers: SlotPowers) -> SlotOutcome:
        """Let the time from ``start_s`` pass, ``length_s`` long."""

    @property
    def settled(self) -> bool:
        """Whether the district is as it was: connected, everybody supplied."""
