"""What a check of ``peerwatt doctor`` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a check came out. ``warn``: it works, and something should be known or mended; ``fail``: it will not do."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome.

    Parameters
    ----------
    check
        What was checked.
    status
        How it came out.
    sentence
        What was found, with its figures.
    remedy
        What to do about it; empty where nothing needs doing.
    figures
        What was measured, for machines; the unit is in the name.
    """

    check: str
    status: Status
    sentence: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {**asdict(self), "status": str(self.status)}


def ok(check: str, sentence: str, **figures: Any) -> Finding:
    """A check that found nothing wrong."""
    return Finding(check, Status.OK, sentence, figures=figures)


def warn(check: str, sentence: str, remedy: str, **figures: Any) -> Finding:
    """A check that found something to know or mend."""
    return Finding(check, Status.WARN, sentence, remedy, figures)


def fail(check: str, sentence: str, remedy: str, **figures: Any) -> Finding:
    """A check that found what will not do."""
    return Finding(check, Status.FAIL, sentence, remedy, figures)
