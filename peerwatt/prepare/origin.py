"""Origins of a scenario as columns: what each building generates, and the mix its supplier delivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from core import ScenarioError
from peerwatt.scenario.models import Building, Scenario
from peerwatt.system import Storage

if TYPE_CHECKING:
    from market.certificates import OriginSetup

GRID, LOCAL_SOLAR, UNKNOWN = "grid", "local_solar", "unknown"
"""Origins that every run has: the grid where nobody states a mix, PV of the district, what stood in batteries."""


def origin_setup(
    scenario: Scenario, buildings: tuple[Building, ...], storage: Storage, rank: np.ndarray
) -> OriginSetup:
    """Origins of the run, in the order of the results: local ones, then suppliers' as they are named, then unknown.

    Raises
    ------
    ScenarioError
        If a mix does not sum to 1.
    """
    from market.certificates import OriginSetup

    names = origin_names(scenario)
    stated = scenario.origin.supplier_mix
    residual = _shares(scenario.origin.residual_mix or {GRID: 1.0}, names, "origin.residual_mix")
    by_contract = {c: _shares(mix, names, f"origin.supplier_mix.{c}") for c, mix in stated.items()}
    mixes = [by_contract.get(b.contract, residual) for b in buildings]
    n = len(buildings)
    store = np.full(n, -1, np.int64)
    owners = np.unique(storage.columns.building)
    store[owners] = np.arange(len(owners))
    return OriginSetup(
        names=names,
        kind=np.full(n, names.index(LOCAL_SOLAR), np.int64),
        mix_ppm=np.array([*mixes, residual], np.int64),
        unknown=names.index(UNKNOWN),
        store=store,
        rank=rank,
        fifo=scenario.origin.storage == "fifo",
        bundled=scenario.origin.certificates == "bundled",
    )


def origin_names(scenario: Scenario) -> tuple[str, ...]:
    """All origins that the run can have."""
    origin = scenario.origin
    mixes = [origin.residual_mix or {GRID: 1.0}, *(origin.supplier_mix[c] for c in sorted(origin.supplier_mix))]
    supplied = dict.fromkeys(name for mix in mixes for name in mix)
    return (LOCAL_SOLAR, *(name for name in supplied if name not in (LOCAL_SOLAR, UNKNOWN)), UNKNOWN)


def _shares(mix: Mapping[str, float], names: tuple[str, ...], path: str) -> list[int]:
    from market.certificates import PPM

    shares = [round(mix.get(name, 0.0) * PPM) for name in names]
    if sum(shares) != PPM:
        raise ScenarioError(f"the shares sum to {sum(mix.values()):g}, not to 1", path=path, remedy="add the rest as "
                            "`unknown`; shares are kept to six digits")  # fmt: skip
    return shares
