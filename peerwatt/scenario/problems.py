"""Problems of a scenario: collected, named by place, told together, each with a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import ScenarioError

YamlPath = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""


@dataclass(frozen=True, slots=True)
class Mark:
    """File and line (from 1) of a value; both None for values that come from Python."""

    file: str | None
    line: int | None


class ScenarioProblems(ScenarioError):  # noqa: N818 - a plural
    """All problems found in one scenario; place, message and remedy of the first are those of the error itself.

    ``problems`` holds every one as a `ScenarioError` of its own, in the order of files and lines.
    """

    def __init__(self, problems: Sequence[ScenarioError]) -> None:
        first = problems[0]
        self.problems = tuple(problems)
        super().__init__(first.message, file=first.file, path=first.path, line=first.line, remedy=first.remedy)

    def __str__(self) -> str:
        texts = [str(problem) for problem in self.problems]
        return texts[0] if len(texts) == 1 else "\n".join([f"{len(texts)} problems", *texts])


def show_path(path: YamlPath) -> str:
    """``buildings[3].assets[0].peak_kw`` for ``("buildings", 3, "assets", 0, "peak_kw")``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Problems:
    """Collects problems with their places; `raise_any` raises them together."""

    def __init__(self, marks: Mapping[YamlPath, Mark], file: str | None) -> None:
        self._marks = marks
        self._file = file
        self.found: list[ScenarioError] = []

    def mark(self, path: YamlPath) -> Mark:
        """Place of ``path``, or of the nearest thing around it that has one."""
        for length in range(len(path), 0, -1):
            if (mark := self._marks.get(path[:length])) is not None:
                return mark
        return self._marks.get((), Mark(self._file, None))

    def error(self, path: YamlPath, message: str, remedy: str | None = None) -> ScenarioError:
        """A `ScenarioError` about the value at ``path``, not collected."""
        mark = self.mark(path)
        return ScenarioError(message, file=mark.file, path=show_path(path) or None, line=mark.line, remedy=remedy)

    def add(self, path: YamlPath, message: str, remedy: str | None = None) -> None:
        """Collect a problem of the value at ``path``."""
        self.found.append(self.error(path, message, remedy))

    def raise_any(self) -> None:
        """Raise `ScenarioProblems` if anything was collected."""
        if self.found:
            raise ScenarioProblems(sorted(self.found, key=lambda e: (e.file or "", e.line or 0)))


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like ``word``, or None."""
    choices = sorted(set(known))
    lower = {choice.lower(): choice for choice in reversed(choices)}
    if word.lower() in lower:
        return lower[word.lower()]
    matches = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return lower[matches[0]] if matches else None


def choose(word: str, known: Iterable[str], *, what: str) -> str:
    """Remedy for a name that does not exist: the nearest known one, and the choices."""
    names = sorted(set(known))
    if not names:
        return f"there is no {what} to name; define one"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    near = did_you_mean(word, names)
    return f"did you mean {near!r}? choices: {shown}" if near else f"use one of: {shown}"


_UNITS: dict[str, tuple[str, float]] = {
    "wh": ("energy", 1e-3),
    "kwh": ("energy", 1.0),
    "mwh": ("energy", 1e3),
    "w": ("power", 1e-3),
    "kw": ("power", 1.0),
    "kwp": ("power", 1.0),
    "wp": ("power", 1e-3),
    "mw": ("power", 1e3),
    "kva": ("power", 1.0),
    "seconds": ("duration", 1 / 60),
    "s": ("duration", 1 / 60),
    "minutes": ("duration", 1.0),
    "min": ("duration", 1.0),
    "hours": ("duration", 60.0),
    "h": ("duration", 60.0),
    "share": ("part", 1.0),
    "percent": ("part", 0.01),
    "pct": ("part", 0.01),
}


@dataclass(frozen=True, slots=True)
class UnitSlip:
    """A key that differs from a known one only in its unit; ``factor`` turns the number into the known unit."""

    known: str
    factor: float


def unit_slip(word: str, known: Iterable[str]) -> UnitSlip | None:
    """The known key with the same stem and another unit of the same kind (``capacity_wh`` for ``capacity_kwh``)."""
    stem, _, unit = word.lower().rpartition("_")
    if unit not in _UNITS:
        stem, unit = word.lower(), ""
    for key in known:
        key_stem, _, key_unit = key.rpartition("_")
        if key_stem != stem or key_unit not in _UNITS or key == word:
            continue
        if not unit:
            return UnitSlip(key, 1.0)
        if _UNITS[unit][0] == _UNITS[key_unit][0]:
            return UnitSlip(key, _UNITS[unit][1] / _UNITS[key_unit][1])
    return None
