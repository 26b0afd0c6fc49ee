"""Inverters that support the grid in the results: table, sums, the summary's block ``inverters``.

Only in runs that have some. Reactive power is that of the inverters alone, + absorbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import CURTAILMENT_REASONS, RunStatic, WindowRecord

SLOT_COLUMNS = ("rounds", "converged", "v_before_min_pu", "v_before_max_pu", "v_after_min_pu", "v_after_max_pu")
"""What is told of a slot: power flows beyond the first, whether they met, voltages at inverters without and with."""

FIELDS = ("inverter_q_kvar", "curtailed_for_wh", "support")
"""Columns of a record that only such runs have."""

Values = dict[str, NDArray[Any]]


def field_shapes(static: RunStatic) -> dict[str, tuple[int, ...]]:
    """Shape of each of `FIELDS` behind the slots."""
    n = len(static.supporting)
    return dict(zip(FIELDS, ((n,), (n, len(CURTAILMENT_REASONS)), (len(SLOT_COLUMNS),)), strict=True))


def inverter_columns(record: WindowRecord, static: RunStatic) -> dict[str, Any] | None:
    """Columns of ``inverters`` but slot and building; None where no inverter has functions."""
    q, wh, support = record.inverter_q_kvar, record.curtailed_for_wh, record.support
    if q is None or wh is None or support is None:
        return None
    n = len(static.supporting)
    found: dict[str, Any] = {"q_kvar": q.ravel()}
    found |= {f"{reason}_wh": wh[:, :, k].ravel() for k, reason in enumerate(CURTAILMENT_REASONS)}
    for k, name in enumerate(SLOT_COLUMNS[:2]):
        found[name] = np.repeat(support[:, k], n).astype(np.int32)
    return found


def inverter_arrays(static: RunStatic) -> Values:
    """Accumulators of inverters; none where there are none."""
    n = len(static.supporting)
    if not n:
        return {}
    return {
        "inverter_absorbed_kvarh": np.zeros(n),
        "inverter_injected_kvarh": np.zeros(n),
        "inverter_curtailed_wh": np.zeros((n, len(CURTAILMENT_REASONS)), np.int64),
        "inverter_rounds": np.zeros(3, np.int64),  # sum, highest, slots that did not converge
        "inverter_reach_pu": np.array([np.inf, -np.inf, np.inf, -np.inf]),
    }


def add_inverters(values: Values, record: WindowRecord, hours: float) -> None:
    """Add a chunk's inverters, slots of ``hours``."""
    q, wh, support = record.inverter_q_kvar, record.curtailed_for_wh, record.support
    if q is None or wh is None or support is None:
        return
    values["inverter_absorbed_kvarh"] += np.maximum(q, 0.0).sum(axis=0) * hours
    values["inverter_injected_kvarh"] += np.maximum(-q, 0.0).sum(axis=0) * hours
    values["inverter_curtailed_wh"] += wh.sum(axis=0)
    support = support[record.live]  # inverters of a dark network have nothing to answer
    rounds = support[:, 0].astype(np.int64)
    total = values["inverter_rounds"]
    total[0] += rounds.sum()
    total[1] = max(total[1], int(rounds.max(initial=0)))
    total[2] += int((support[:, 1] == 0.0).sum())
    reach = values["inverter_reach_pu"]
    for k, pick in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
        reach[k] = pick.reduce(support[:, 2 + k], initial=reach[k])


def inverter_summary(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The block ``inverters`` of the summary."""
    rounds, reach = values["inverter_rounds"], values["inverter_reach_pu"]
    absorbed, injected = values["inverter_absorbed_kvarh"], values["inverter_injected_kvarh"]
    curtailed = values["inverter_curtailed_wh"]
    return {
        "buildings": len(static.supporting),
        "iterations_mean": float(rounds[0]) / static.n_slots if static.n_slots else 0.0,
        "iterations_max": int(rounds[1]),
        "not_converged_slots": int(rounds[2]),
        "q_kvarh": float(absorbed.sum() + injected.sum()),
        "absorbed_kvarh": float(absorbed.sum()),
        "injected_kvarh": float(injected.sum()),
        "curtailed_wh": {reason: int(curtailed[:, k].sum()) for k, reason in enumerate(CURTAILMENT_REASONS)},
        "v_without_pu": _reach(reach[:2]),
        "v_with_pu": _reach(reach[2:]),
        "by_building": {
            static.buildings[b].id: {
                "absorbed_kvarh": float(absorbed[i]),
                "injected_kvarh": float(injected[i]),
                "curtailed_wh": {reason: int(curtailed[i, k]) for k, reason in enumerate(CURTAILMENT_REASONS)},
            }
            for i, b in enumerate(static.supporting)
        },
    }


def _reach(low_high: NDArray[np.float64]) -> list[float | None]:
    """Lowest and highest voltage; None where there was none, in a run that is dark throughout."""
    return [float(v) if np.isfinite(v) else None for v in low_high]


def inverter_notes(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> list[str]:
    """Sentences a reader must know of inverters; a slot without a solution is never passed over."""
    if not static.supporting:
        return []
    said = ["Grid functions of inverters answer slot means of the voltage; the grid's frequency is nominal."]
    if lost := int(values["inverter_rounds"][2]):
        said.append(
            f"In {lost} of {static.n_slots} slots inverters and network did not agree: powers and voltages of "
            "these slots are those of the last attempt (column `converged` of the table `inverters`)."
        )
    return said
