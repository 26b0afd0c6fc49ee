"""Does the device still hold what we wrote? If not, somebody else wrote, or its timer ran out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controllers.guardian.settings import OnForeignWrite
from hardware.driver import Sample, Span, Step

Register = tuple[int, int]
"""Function of the read (3 or 4) and address."""

RETAKES = 3
"""How often ours is written again before it is enough."""
_TOLD = 4
_FORGIVEN_S = 600.0
"""Retakes are counted anew after so long without a foreign write [s]."""


def left_behind(steps: Sequence[Step]) -> dict[Register, int]:
    """The registers that an order leaves in the device, as its read-backs said; later steps count."""
    found: dict[Register, int] = {}
    for step in steps:
        for place, word in enumerate(step.expected):
            if word is not None:
                found[step.check.function, step.check.address + place] = word
    return found


def registers_of(samples: Iterable[Sample]) -> dict[Register, int]:
    """Every register that was read."""
    return {
        (sample.span.function, sample.span.address + place): word
        for sample in samples
        if sample.words is not None
        for place, word in enumerate(sample.words)
    }


def changed(ours: Mapping[Register, int], read: Mapping[Register, int]) -> str:
    """What stands there instead of ours, in words; empty if all that was read is as we left it."""
    found = [
        (address, word, read[function, address])
        for (function, address), word in ours.items()
        if read.get((function, address), word) != word
    ]
    return told(found)


def told(differences: Sequence[tuple[int, int, int]]) -> str:
    """Registers that differ (address, expected, found) in words, the first few of them; empty if none does."""
    said = [f"register {address} is {found}, not {expected}" for address, expected, found in differences[:_TOLD]]
    if len(differences) > _TOLD:
        said.append(f"and {len(differences) - _TOLD} more")
    return "; ".join(said)


def not_covered(steps: Sequence[Step], spans: Iterable[Span]) -> tuple[Span, ...]:
    """The read-backs of an order that ``spans`` do not read anyway: to be read besides."""
    seen = {(span.function, span.address + place) for span in spans for place in range(span.count)}
    return tuple(
        dict.fromkeys(
            step.check
            for step in steps
            if any((step.check.function, step.check.address + place) not in seen for place in range(step.check.count))
        )
    )


@dataclass(frozen=True, slots=True)
class Rivalry:
    """How often a rival wrote lately."""

    count: int = 0
    last_s: float = 0.0

    def again(self, policy: OnForeignWrite, now_s: float) -> tuple[Rivalry, OnForeignWrite]:
        """After another foreign write: what is remembered, and what to do. ``ALARM`` also ends too many retakes."""
        count = 1 if now_s - self.last_s > _FORGIVEN_S else self.count + 1
        if policy is OnForeignWrite.RETAKE and count > RETAKES:
            policy = OnForeignWrite.ALARM
        return Rivalry(count, now_s), policy
