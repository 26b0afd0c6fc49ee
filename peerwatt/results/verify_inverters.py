"""The check of a run folder that concerns inverters with grid functions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.results.checking import NothingToCheckError, Problem, dense_parts, needs, where
from peerwatt.results.record import CURTAILMENT_REASONS
from peerwatt.results.run import Run


def check_inverters(run: Run) -> Iterator[Problem]:
    """Every curtailed Wh of a building with such inverters has its reason."""
    static = run.static
    if not static.supporting:
        raise NothingToCheckError
    needs(run, "inverters", "buildings")
    names = [f"{reason}_wh" for reason in CURTAILMENT_REASONS]
    told = dense_parts(run, "inverters", names, len(static.supporting))
    metered = dense_parts(run, "buildings", ["curtailed_wh"], len(static.buildings))
    for (name, slots, by_reason), (_, _, meters) in zip(told, metered, strict=True):
        gap = np.sum(list(by_reason.values()), axis=0) - meters["curtailed_wh"][:, list(static.supporting)]
        text = "curtailed energy and the sum of its reasons differ by {} Wh"
        yield from where("inverters", name, slots, gap.any(axis=1), text, np.abs(gap).max(axis=1))
