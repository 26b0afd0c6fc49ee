"""The scenario's network as the API shows it: its elements stand in the order of the driver's network states."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from peerwatt import wire

if TYPE_CHECKING:
    from peerwatt.results.record import RunStatic
    from peerwatt.system import System, Wires

_MV_PER_KV = 1_000_000
_PPM = 1_000_000
_PER_KILO = 1000
_VERSION_DIGITS = 12


def network_out(system: System) -> wire.NetworkOut | None:
    """Topology, ratings, limits and who is connected where; None without a network."""
    if system.wires is None:
        return None
    static = system.static
    buses, branches = _buses(static), _branches(static, system.wires)
    name = str(static.options.get("network", static.name))
    content = msgspec.json.encode([name, buses, branches])
    return wire.NetworkOut(name, hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS], buses, branches)


def _buses(static: RunStatic) -> list[wire.BusOut]:
    there: dict[int, list[str]] = {}
    for building in static.buildings:
        there.setdefault(building.bus, []).append(building.id)
    return [
        wire.BusOut(
            bus=bus.id,
            nominal_mv=round(bus.vn_kv * _MV_PER_KV),
            min_ppm=round(bus.v_min_pu * _PPM),
            max_ppm=round(bus.v_max_pu * _PPM),
            participants=tuple(there.get(i, ())),
        )
        for i, bus in enumerate(static.buses)
    ]


def _branches(static: RunStatic, wires: Wires) -> list[wire.BranchOut]:
    whole = wires.network.branches
    return [
        wire.BranchOut(
            element=branch.id,
            kind=branch.kind,
            from_bus=static.buses[branch.from_bus].id,
            to_bus=static.buses[branch.to_bus].id,
            rating_ma=_milli(whole.rated_from_a[i]) if branch.kind == "line" else None,
            rating_va=_milli(whole.rated_kva[i]) if branch.kind != "line" else None,
        )
        for branch, i in zip(static.branches, wires.shown_branches.tolist(), strict=True)
    ]


def _milli(value: float) -> int | None:
    """Amperes in milliamperes, or kilovoltamperes in voltamperes; None where the file does not say."""
    return round(float(value) * _PER_KILO) if np.isfinite(value) else None
