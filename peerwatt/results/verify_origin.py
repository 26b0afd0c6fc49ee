"""Checks of the origin of energy: nothing consumed without an origin, no certificate lost or counted twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peerwatt.results import layout
from peerwatt.results.checking import Ints, Problem, dense_parts, needs, numpy_column, where
from peerwatt.results.record import CERTIFICATE_ROWS
from peerwatt.results.run import Run

_USE = ("load_wh", "heat_pump_wh", "ev_wh")
_IN = ("opened", "made", "supplied")
_OUT = ("consumed", "exported", "lost")


def check_consumption(run: Run) -> Iterator[Problem]:
    """The origins of a building sum to what it consumed, and over all buildings to the certificates cancelled."""
    needs(run, "origins", "buildings", "certificates")
    static = run.static
    buildings, names = [b.id for b in static.buildings], list(static.origins)
    uses = dense_parts(run, "buildings", _USE, len(buildings))
    cancelled = dense_parts(run, "certificates", ["consumed_wh"], len(names))
    files = [p.relative_to(run.folder).as_posix() for p in layout.part_files(run.folder, "origins")]
    for name, part, (_, slots, use), (_, _, told) in zip(files, run.parts("origins"), uses, cancelled, strict=True):
        slot = numpy_column(part, "slot").astype(np.int64) - (slots[0] if len(slots) else 0)
        wh = numpy_column(part, "consumed_wh")
        if len(wh) and (slot.min() < 0 or slot.max() >= len(slots) or wh.min() < 0):
            yield Problem("origins", name, "it holds slots of another part, or negative energies")
            continue
        member, kind = _places(part, "building", buildings), _places(part, "origin", names)
        by_building = _summed(slot * len(buildings) + member, wh, len(slots), len(buildings))
        gap = by_building - np.sum([use[column] for column in _USE], axis=0)
        for t, i in np.argwhere(gap)[:5]:
            yield Problem("origins", name, f"slot {slots[t]}: the origins of {buildings[i]} and its consumption differ "
                          f"by {gap[t, i]} Wh")  # fmt: skip
        gap = _summed(slot * len(names) + kind, wh, len(slots), len(names)) - told["consumed_wh"]
        for t, k in np.argwhere(gap)[:5]:
            yield Problem("origins", name, f"slot {slots[t]}: {names[k]} consumed and certificates cancelled differ by "
                          f"{gap[t, k]} Wh")  # fmt: skip


def check_certificates(run: Run) -> Iterator[Problem]:
    """Law (g) by origin and slot; generation and what crosses the border as in ``slots``; sums as in the summary."""
    needs(run, "certificates", "slots")
    names = list(run.static.origins)
    columns = [f"{row}_wh" for row in CERTIFICATE_ROWS]
    energies = (*_USE, "pv_wh", "charge_wh", "discharge_wh", "loss_wh")
    held = np.zeros(len(names), np.int64)
    totals = dict.fromkeys(CERTIFICATE_ROWS, np.zeros(len(names), np.int64))
    parts = dense_parts(run, "certificates", columns, len(names))
    for (name, slots, v), (_, _, e) in zip(parts, dense_parts(run, "slots", energies, 1), strict=True):
        rows = {row: v[f"{row}_wh"] for row in CERTIFICATE_ROWS}
        if any(wh.size and wh.min() < 0 for wh in rows.values()):
            yield Problem("certificates", name, "it holds negative energies")
        gap = np.vstack([held, rows["held"][:-1]]) + _total(rows, _IN) - _total(rows, _OUT) - rows["held"]
        for t, k in np.argwhere(gap)[:5]:
            what = "lost without a trace" if gap[t, k] > 0 else "counted twice"
            yield Problem("certificates", name, f"slot {slots[t]}: {abs(gap[t, k])} Wh of {names[k]} are {what}")
        net = e["charge_wh"] - e["discharge_wh"] - e["pv_wh"] + e["loss_wh"] + sum(e[name] for name in _USE)
        crossed = (rows["supplied"] - rows["exported"]).sum(axis=1) - net[:, 0]
        text = "what was supplied less what was exported is {} Wh more than the district drew"
        yield from where("certificates", name, slots, crossed != 0, text, crossed)
        made = rows["made"].sum(axis=1) - e["pv_wh"][:, 0]
        yield from where("certificates", name, slots, made != 0, "{} Wh more were made than metered", made)
        held = rows["held"][-1] if len(slots) else held
        totals = {row: totals[row] + wh.sum(axis=0) for row, wh in rows.items()}
    totals["held"] = held
    for k, origin in enumerate(names):
        claimed = run.summary["origin"]["by_origin"][origin]
        for row, sums in totals.items():
            if claimed[f"{row}_kwh"] != int(sums[k]) / 1000:
                yield Problem("certificates", layout.SUMMARY, f"{origin}, {row}: {claimed[f'{row}_kwh']} kWh, the "
                              f"certificates sum to {int(sums[k])} Wh")  # fmt: skip


def _total(rows: dict[str, Ints], which: tuple[str, ...]) -> Ints:
    return np.asarray(sum(rows[name] for name in which))


def _places(part: object, column: str, names: list[str]) -> Ints:
    """Position in ``names`` of every row of a category column."""
    coded = part.column(column).combine_chunks()  # type: ignore[attr-defined]
    index = np.array([names.index(name) for name in coded.dictionary.to_pylist()], np.int64)
    return np.asarray(index[coded.indices.to_numpy()]) if len(coded) else np.zeros(0, np.int64)


def _summed(cell: Ints, wh: Ints, n_slots: int, width: int) -> Ints:
    total = np.zeros(n_slots * width, np.int64)
    np.add.at(total, cell, wh)
    return total.reshape(n_slots, width)
