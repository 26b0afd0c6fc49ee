"""What the steps find, on its way into a record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from controllers.commissioning.bench import Bench
from controllers.commissioning.facts import ControlRecord
from controllers.commissioning.record import Instrument


@dataclass(slots=True)
class Findings:
    """See the fields of the same names of `controllers.commissioning.record.Record`."""

    technician: str = ""
    witness: str = ""
    instrument: Instrument = field(default_factory=Instrument)
    clock_offset_s: float | Literal["not compared"] | None = None
    accepted: dict[str, str] = field(default_factory=dict)
    sign: Literal["right", "opposite", "unknown"] = "unknown"
    ct_direction: Literal["right", "reversed", "unknown"] = "unknown"
    phase_order: Literal["right", "wrong", "unknown"] = "unknown"
    sessions: int | None = None
    controls: dict[str, ControlRecord] = field(default_factory=dict)

    def add(self, control: str, **found: Any) -> None:
        """Add to what is known of a control."""
        known = self.controls.get(control, ControlRecord(control=control))
        self.controls[control] = known.model_copy(update=found)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the procedure.

    Parameters
    ----------
    name
        Of the step, in the record and the report.
    what
        It does, in a line, for whoever waits.
    run
        Does it and says what was found; raises `FailedError` or `SkippedError`.
    estimate_s
        How long it will take [s].
    """

    name: str
    what: str
    run: Callable[[Bench, Findings], Awaitable[str]]
    estimate_s: Callable[[Bench], float]
