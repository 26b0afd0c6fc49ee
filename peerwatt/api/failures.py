"""Refusals of the application's routes beside those that `peerwatt.api.problems` knows."""

from __future__ import annotations

from collections.abc import Sequence

from peerwatt.api.problems import TYPE_PREFIX, Refusal
from peerwatt.wire.service import Problem


def failure(status: int, code: str, title: str, detail: str = "", headers: Sequence[tuple[str, str]] = ()) -> Refusal:
    """A refusal of a kind that only one route knows."""
    return Refusal(Problem(TYPE_PREFIX + code, title, status, code, detail), headers)


def unknown(what: str, name: str) -> Refusal:
    """404: there is no such thing, or none that the caller may see."""
    return failure(404, f"unknown_{what}", f"There is no such {what.replace('_', ' ')}", name)
