"""Limits at connection points in the results: table, sums, the summary's block ``envelopes``, words for statements.

Only in runs with envelopes, dimming or limits of drawing. Draw that is held back may be caught up later: it counts in
every slot in which it is held back, so that sums of it are no energy that was missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import (
    CURTAILMENT_REASONS,
    ENVELOPE_COLUMNS,
    ISLAND_COLUMNS,
    Int,
    RunStatic,
    WindowRecord,
)

HELD = ("battery_wh", "ev_wh", "heat_pump_wh")
"""Columns of draw that was held back."""

SUMS = ("curtailed_wh", *HELD, "unfed_wh")
"""What is summed by reason."""

EXCESS = ("import_excess_wh", "export_excess_wh")

Values = dict[str, NDArray[Any]]
_PLACE = {name: k for k, name in enumerate(ENVELOPE_COLUMNS)}
_BEHIND = len(ENVELOPE_COLUMNS)
"""Place of the first of `ISLAND_COLUMNS`."""


def envelope_table(record: WindowRecord, static: RunStatic) -> dict[str, Any] | None:
    """Columns of ``envelopes`` but slot, building and reasons; None where nobody is limited."""
    if record.envelopes is None:
        return None
    flat: dict[str, Any] = {name: np.ascontiguousarray(record.envelopes[:, :, k]).ravel() for name, k in _PLACE.items()}
    for name in ("import_limit_wh", "export_limit_wh"):
        flat[name] = (np.maximum(flat[name], 0), flat[name] >= 0)
    return flat


def island_table(record: WindowRecord, static: RunStatic) -> dict[str, Any] | None:
    """Columns of ``islands`` but slot and building; None where no limit meets an outage."""
    if record.envelopes is None or not static.islands:
        return None
    return {
        name: np.ascontiguousarray(record.envelopes[:, :, k]).ravel() for k, name in enumerate(ISLAND_COLUMNS, _BEHIND)
    }


def envelope_arrays(static: RunStatic) -> Values:
    """Accumulators of limits; none where there are none."""
    if not static.limited:
        return {}
    n, reasons = len(static.limited), len(static.limit_reasons)
    return {
        "envelope_sums_wh": np.zeros((n, reasons, len(SUMS)), np.int64),
        "envelope_excess_wh": np.zeros((n, len(EXCESS)), np.int64),
        "envelope_slots": np.zeros(reasons, np.int64),
        **({"envelope_islands_wh": np.zeros((n, len(ISLAND_COLUMNS)), np.int64)} if static.islands else {}),
    }


def add_envelopes(values: Values, record: WindowRecord) -> None:
    """Add a chunk's limits."""
    rows = record.envelopes
    if rows is None:
        return
    sums, slots = values["envelope_sums_wh"], values["envelope_slots"]
    drawing, feeding = rows[:, :, _PLACE["import_by"]], rows[:, :, _PLACE["export_by"]]
    for number in range(len(slots)):
        limits_draw, limits_feed = drawing == number, feeding == number
        slots[number] += ((limits_draw | limits_feed).any(axis=1)).sum()
        curtailed = rows[:, :, _PLACE["own_limit_wh" if number == 0 else "envelope_wh"]]
        found = [curtailed if number == 0 else np.where(limits_feed, curtailed, 0)]
        found += [np.where(limits_draw, rows[:, :, _PLACE[name]], 0) for name in HELD]
        found.append(np.where(limits_feed, rows[:, :, _PLACE["unfed_wh"]], 0))
        sums[:, number] += np.stack([part.sum(axis=0) for part in found], axis=1)
    excess: Int = rows[:, :, [_PLACE[name] for name in EXCESS]].sum(axis=0)
    values["envelope_excess_wh"] += excess
    if "envelope_islands_wh" in values:
        values["envelope_islands_wh"] += rows[:, :, _BEHIND:].sum(axis=0)


def curtailed_for_wh(static: RunStatic, values: Mapping[str, NDArray[Any]], limited: int) -> dict[str, int]:
    """PV of the limited building number ``limited`` that was curtailed [Wh], by what for."""
    sums = values["envelope_sums_wh"][limited, :, 0]
    found = {"envelope": int(sums[1:].sum()), "export_limit": int(sums[0])}
    building = static.limited[limited]
    by_inverter = dict.fromkeys(CURTAILMENT_REASONS[1:], 0)
    if building in static.supporting:
        own = values["inverter_curtailed_wh"][static.supporting.index(building)]
        by_inverter = {name: int(own[CURTAILMENT_REASONS.index(name)]) for name in by_inverter}
    islands = {"island": int(values["envelope_islands_wh"][limited, 0])} if static.islands else {}
    return found | by_inverter | islands


def envelope_summary(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The block ``envelopes`` of the summary."""
    sums, excess = values["envelope_sums_wh"], values["envelope_excess_wh"]
    curtailed = [curtailed_for_wh(static, values, k) for k in range(len(static.limited))]
    kinds = np.array([kind for _, kind in static.limit_reasons])
    dimmed, limited = (sums[:, chosen, 1:4].sum(axis=1) for chosen in (kinds == "dimming", kinds != "dimming"))
    return {
        "windows": [
            {"reason": reason, "kind": kind, "slots": int(slots), **_kwh(sums[:, number].sum(axis=0))}
            for number, ((reason, kind), slots) in enumerate(
                zip(static.limit_reasons, values["envelope_slots"].tolist(), strict=True)
            )
        ],
        "curtailed_kwh": {name: sum(row[name] for row in curtailed) / 1000.0 for name in curtailed[0]},
        "dimmed_kwh": _by_kind(dimmed.sum(axis=0)),
        "limited_kwh": _by_kind(limited.sum(axis=0)),
        "excess_kwh": _excess(excess.sum(axis=0)),
        **({"island_excess_kwh": _excess(values["envelope_islands_wh"][:, 1:].sum(axis=0))} if static.islands else {}),
        "buildings": {
            static.buildings[b].id: {
                "curtailed_kwh": {name: wh / 1000.0 for name, wh in curtailed[k].items()},
                "dimmed_kwh": _by_kind(dimmed[k]),
                "limited_kwh": _by_kind(limited[k]),
                "excess_kwh": _excess(excess[k]),
                **({"island_excess_kwh": _excess(values["envelope_islands_wh"][k, 1:])} if static.islands else {}),
            }
            for k, b in enumerate(static.limited)
        },
    }


def envelope_notes(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> list[str]:
    """Sentences a reader must know of limits: what could not be kept is never passed over."""
    if not static.limited:
        return []
    drawn, fed = (wh / 1000.0 for wh in values["envelope_excess_wh"].sum(axis=0).tolist())
    if not drawn and not fed:
        return []
    text = f"Limits of connection points were exceeded by {drawn:.1f} kWh drawn and {fed:.1f} kWh fed in"
    island = sum(values["envelope_islands_wh"][:, 1:].sum(axis=0).tolist()) / 1000.0 if static.islands else 0.0
    if not island:
        return [f"{text}: fixed load is never cut."]
    if island >= drawn + fed:
        return [f"{text}, by the battery that held an island in balance."]
    rest = "the rest because fixed load is never cut"
    return [f"{text}: {island:.1f} kWh by the battery that held an island in balance, {rest}."]


def envelope_lines(static: RunStatic, values: Mapping[str, NDArray[Any]], building: int) -> list[str]:
    """Sentences of a building's statement: what was curtailed or held back, and what for."""
    if building not in static.limited:
        return []
    sums = values["envelope_sums_wh"][static.limited.index(building)]
    said = []
    for (reason, kind), row in zip(static.limit_reasons, sums.tolist(), strict=True):
        words = "your own limit of feeding in or drawing" if kind == "own" else f"{kind}: {reason}"
        if row[0]:
            said.append(f"{row[0] / 1000.0:.2f} kWh of your PV was curtailed ({words}); it is on no bill.")
        if held := sum(row[1:4]):
            said.append(f"Batteries, cars and heating drew {held / 1000.0:.2f} kWh less or later ({words}).")
    if static.islands and (lost := int(values["envelope_islands_wh"][static.limited.index(building), 0])):
        said.append(f"{lost / 1000.0:.2f} kWh of your PV was curtailed (island: in an outage); it is on no bill.")
    return said


def _kwh(sums: Int) -> dict[str, float]:
    names = ("curtailed_kwh", *(name.removesuffix("_wh") + "_held_kwh" for name in HELD), "unfed_kwh")
    return {name: int(wh) / 1000.0 for name, wh in zip(names, sums.tolist(), strict=True)}


def _by_kind(held: Int) -> dict[str, float]:
    return {name.removesuffix("_wh"): int(wh) / 1000.0 for name, wh in zip(HELD, held.tolist(), strict=True)}


def _excess(excess: Int) -> dict[str, float]:
    return {name: int(wh) / 1000.0 for name, wh in zip(("import", "export"), excess.tolist(), strict=True)}
