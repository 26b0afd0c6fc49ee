"""Origins of a scenario as columns: what each building generates, and the mix its supplier delivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from peerwatt.scenario.assets import EvAsset
from peerwatt.scenario.models import Building, Scenario
from peerwatt.system import Storage

if TYPE_CHECKING:
    from market.certificates import OriginSetup

GRID, LOCAL_SOLAR, UNKNOWN = "grid", "local_solar", "unknown"
"""Origins that every run has: the grid where nobody states a mix, PV of the district, what stood in batteries."""


def origin_setup(
    scenario: Scenario, buildings: tuple[Building, ...], storage: Storage, rank: np.ndarray
) -> OriginSetup:
    """Who generates what, whose supplier delivers what, and where the stores are."""
    from market.certificates import OriginSetup

    names = origin_names(scenario)
    stated = scenario.origin.supplier_mix
    residual = _shares(scenario.origin.residual_mix or {GRID: 1.0}, names)
    by_contract = {c: _shares(mix, names) for c, mix in stated.items()}
    mixes = [by_contract.get(b.contract, residual) for b in buildings]
    n = len(buildings)
    store = np.full(n, -1, np.int64)
    feeding = [i for i, b in enumerate(buildings) if any(isinstance(a, EvAsset) and a.discharge_kw for a in b.assets)]
    owners = np.unique(np.concatenate((storage.columns.building, np.array(feeding, np.int32))))
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
    """All origins of the run, in the order of the results: local, then suppliers' as they are named, then unknown."""
    origin = scenario.origin
    mixes = [origin.residual_mix or {GRID: 1.0}, *(origin.supplier_mix[c] for c in sorted(origin.supplier_mix))]
    supplied = dict.fromkeys(name for mix in mixes for name in mix)
    return (LOCAL_SOLAR, *(name for name in supplied if name not in (LOCAL_SOLAR, UNKNOWN)), UNKNOWN)


def _shares(mix: Mapping[str, float], names: tuple[str, ...]) -> list[int]:
    """The mix in millionths; that it sums to one was checked with the scenario."""
    from market.certificates import PPM

    return [round(mix.get(name, 0.0) * PPM) for name in names]
