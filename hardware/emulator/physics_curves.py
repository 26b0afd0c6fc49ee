"""The functions of the SunSpec curve models: volt-var (705), volt-watt (706), frequency droop (711), watt-var (712).

Each reads its active curve (the first) from the registers, and only while it is enabled.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.emulator.image import RegisterBlock

MOST_POINTS = 8


def interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """Value of a curve of straight pieces at ``x``; flat beyond its ends."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y1 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def _enabled(block: RegisterBlock, model: int) -> bool:
    return f"{model}.Ena" in block and block.unsigned(f"{model}.Ena") == 1


def active_points(block: RegisterBlock, model: int, x: str, y: str) -> list[tuple[float, float]]:
    """Points of the active curve of an enabled curve model; empty when it does nothing."""
    if not _enabled(block, model):
        return []
    count = int(block.get(f"{model}.Crv[0].ActPt") or 0)
    found: list[tuple[float, float]] = []
    for i in range(min(count, MOST_POINTS)):
        path = f"{model}.Crv[0].Pt[{i}]."
        if f"{path}{x}" not in block:
            break
        at, value = block.get(path + x), block.get(path + y)
        if at is not None and value is not None:
            found.append((at, value))
    return found


@dataclass(frozen=True, slots=True)
class VarShare:
    """Reactive power that a curve wants: ``share`` of what ``reference`` names, > 0 feeds in.

    ``reference`` is DeptRef of models 705 and 712: 0 WMax, 1 VarMax, 2 the vars available now, 3 VAMax. ``first``:
    active power makes room for it (Pri: REACTIVE).
    """

    share: float
    reference: int
    first: bool


def _var_share(block: RegisterBlock, model: int, share: float) -> VarShare:
    prefix = f"{model}.Crv[0]."
    return VarShare(share, block.unsigned(f"{prefix}DeptRef"), block.unsigned(f"{prefix}Pri") == 1)


def volt_var(block: RegisterBlock, v_pu: float) -> VarShare | None:
    """Reactive power wanted by model 705, its curve moved by ``VRef``; None: it does nothing."""
    points = active_points(block, 705, "V", "Var")
    if not points:
        return None
    shift = (block.get("705.Crv[0].VRef") or 100.0) - 100.0
    return _var_share(block, 705, interpolated(points, 100.0 * v_pu - shift) / 100.0)


def volt_watt(block: RegisterBlock, v_pu: float) -> float | None:
    """Highest power that model 706 admits, share of the rating; None: it does nothing."""
    points = active_points(block, 706, "V", "W")
    return max(0.0, interpolated(points, 100.0 * v_pu) / 100.0) if points else None


def watt_var(block: RegisterBlock, share: float) -> VarShare | None:
    """Reactive power wanted by model 712 at an active power (share of the rating); None: it does nothing."""
    points = active_points(block, 712, "W", "Var")
    return _var_share(block, 712, interpolated(points, 100.0 * share) / 100.0) if points else None


def least_share(block: RegisterBlock) -> float | None:
    """Power below which the droop of model 711 does not go, share of the rating; None: not said."""
    least = block.get("711.Ctl[0].PMin")
    return None if least is None else least / 100.0


def droop(block: RegisterBlock, hz: float, nominal_hz: float) -> float | None:
    """Change of active power by model 711, share of the rating (> 0 feeds in more); None: it does nothing.

    ``KOf`` and ``KUf`` are per-unit frequency for one per-unit of power, outside the dead bands ``DbOf`` and ``DbUf``.
    """
    if not _enabled(block, 711):
        return None
    values = [block.get(f"711.Ctl[0].{name}") for name in ("DbOf", "DbUf", "KOf", "KUf")]
    if any(value is None for value in values):
        return None
    over_band, under_band, over, under = (value or 0.0 for value in values)
    if hz > nominal_hz + over_band and over > 0.0:
        return -(hz - nominal_hz - over_band) / nominal_hz / over
    if hz < nominal_hz - under_band and under > 0.0:
        return (nominal_hz - under_band - hz) / nominal_hz / under
    return 0.0
