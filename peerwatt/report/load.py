"""Reads from a run folder what the report draws; only as much of the tables as is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core import RunError
from peerwatt.microgrid.story import read_trace
from peerwatt.report.data import EQUIPMENT, Bands, Floats, Group, PhaseData, ReportData, Snapshot
from peerwatt.report.sections import MAX_VIOLATIONS, MICRO
from peerwatt.report.wording import household_kind
from peerwatt.results import Run
from peerwatt.results.accumulate import LOADING_BIN, LOADING_BINS, V_BIN_PU, V_LOW_PU
from peerwatt.results.layout import INCOMPLETE, SCENARIO, part_files
from peerwatt.results.manifest import installed_versions
from peerwatt.results.phases import PHASES, unbalance_p95
from peerwatt.results.static import slot_grid

_SLOT_COLUMNS = {
    "local_wh": "volume_wh",
    "price_per_kwh": "price",
    **{
        name: name
        for name in (
            "load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "import_wh",
            "export_wh", "exchange_wh", "loss_wh", "v_min_pu", "v_max_pu", "v_mean_pu", "max_line_loading",
            "max_transformer_loading", "carbon_kg_per_kwh",
        )
    },
}  # fmt: skip


def load_report_data(folder: Path | Run) -> ReportData:
    """Gather a run for the report.

    Parameters
    ----------
    folder
        A run folder, finished or being completed, or an open run.

    Raises
    ------
    RunError
        If the folder holds no run or a file of it is damaged.
    """
    run = folder if isinstance(folder, Run) else Run(folder, unfinished=True)
    static, summary, values = run.static, run.summary, run.aggregates
    grid = slot_grid(static)
    slots = _slots(run)
    flows = values["attribution_wh"]
    homes = [summary["buildings"][b.id] for b in static.buildings]
    finished = not (run.folder / INCOMPLETE).exists()
    scenario = run.folder / SCENARIO
    return ReportData(
        static=static,
        grid=grid,
        local=grid.local_time(static.zone),
        summary=summary,
        manifest=run.manifest if finished else {"versions": installed_versions()},
        scenario=scenario.read_text(encoding="utf-8") if scenario.is_file() else "",
        slots=slots,
        savings=np.array([h["savings"] for h in homes], np.float64),
        counted=np.array([h["counted"] for h in homes], np.bool_),
        equipment=tuple(EQUIPMENT.get(h["equipment"], str(h["equipment"])) for h in homes),
        groups=_groups(summary),
        voltage=_voltage(values),
        loading=_loading(values),
        snapshots=_snapshots(run, slots),
        flows_wh=flows if flows.any() else None,
        violations=_violations(run),
        origins=_origins(run),
        outages=read_trace(run.folder),
        phases=_phases(run, values),
    )


def _slots(run: Run) -> dict[str, Floats]:
    """Columns of the slots table as floats, NaN for null; empty when the run kept no such table."""
    if "slots" not in run.tables:
        return {}
    parts = list(run.parts("slots", list(_SLOT_COLUMNS)))
    found = {
        ours: np.concatenate([np.asarray(p[name].to_numpy(), np.float64) for p in parts])
        for name, ours in _SLOT_COLUMNS.items()
    }
    if not np.isfinite(found["price"]).any() and run.summary["energy"]["n_trades"] and "trades" in run.tables:
        found["price"] = _trade_prices(run, len(found["price"]))
    found["price"] = np.where(found["volume_wh"] > 0, found["price"], np.nan)
    for name in ("v_min_pu", "v_max_pu", "v_mean_pu"):
        found[name] = np.where(found[name] > 0, found[name], np.nan)  # a dark district has no voltage to show
    return found


def _origins(run: Run) -> dict[str, Floats]:
    """Consumption per slot of each origin [Wh]; empty when the run kept no such table."""
    if "certificates" not in run.tables:
        return {}
    names = run.static.origins
    wh = np.concatenate([part["consumed_wh"].to_numpy() for part in run.parts("certificates", ["consumed_wh"])])
    return {name: wh[k :: len(names)].astype(np.float64) for k, name in enumerate(names)}


def _phases(run: Run, values: dict[str, Any]) -> PhaseData | None:
    """What the run has by phase."""
    if run.static.phases == 1 or not int(values["bus_slots"]) or not len(run.static.buses):
        return None
    slots: dict[str, Floats] = {}
    if "slot_phases" in run.tables:
        parts = list(run.parts("slot_phases"))
        names = parts[0].column_names[1:]
        slots = {n: np.concatenate([np.asarray(p[n].to_numpy(), np.float64) for p in parts]) for n in names}
    return PhaseData(
        lowest=values["phase_min_pu"],
        highest=values["phase_max_pu"],
        unbalance_max=values["unbalance_max"],
        unbalance_p95=unbalance_p95(values),
        loading=values["phase_max_loading"],
        neutral=values["neutral_max_loading"],
        slots=slots,
    )


def _trade_prices(run: Run, n: int) -> Floats:
    """Mean price of each slot's trades weighted by energy [currency/kWh], NaN without trades."""
    worth, wh = np.zeros(n), np.zeros(n)
    for part in run.parts("trades", ["slot", "e_wh", "price_per_kwh"]):
        slot, e_wh, price = (part[name].to_numpy() for name in ("slot", "e_wh", "price_per_kwh"))
        worth += np.bincount(slot, e_wh * price, n)
        wh += np.bincount(slot, e_wh, n)
    mean: Floats = np.divide(worth, wh, out=np.full(n, np.nan), where=wh > 0)
    return mean


def _groups(summary: dict[str, Any]) -> dict[str, tuple[Group, ...]]:
    """Savings by kind of household; attributes nobody states are left out."""
    found = {}
    for name, kinds in summary["savings"]["by_kind"].items():
        if set(kinds) == {"unknown"}:
            continue
        found[name] = tuple(
            Group(_kind(name, kind), g["n"], g["mean_savings"], g["lowest_u"] / MICRO, g["highest_u"] / MICRO)
            for kind, g in kinds.items()
        )
    return found


def _kind(attribute: str, kind: str) -> str:
    return EQUIPMENT.get(kind, kind) if attribute == "equipment" else household_kind(attribute, kind)


def _quantiles(histogram: np.ndarray[Any, np.dtype[np.int64]], low: float, width: float) -> list[Floats]:
    """5 %, 50 % and 95 % of each row of a histogram, in the middle of the bin they fall into."""
    running = np.cumsum(histogram, axis=1)
    wanted = [np.ceil(q * running[:, -1:]) for q in (0.05, 0.5, 0.95)]
    return [low + (np.argmax(running >= np.maximum(w, 1), axis=1) + 0.5) * width for w in wanted]


def _bands(lowest: Floats, highest: Floats, quantiles: list[Floats]) -> Bands:
    inside = [np.clip(q, lowest, highest) for q in quantiles]
    return Bands(lowest, inside[0], inside[1], inside[2], highest)


def _voltage(values: dict[str, Any]) -> Bands | None:
    if not int(values["bus_slots"]) or not len(values["bus_min_pu"]):
        return None
    return _bands(values["bus_min_pu"], values["bus_max_pu"], _quantiles(values["bus_histogram"], V_LOW_PU, V_BIN_PU))


def _loading(values: dict[str, Any]) -> Bands | None:
    if not int(values["branch_slots"]):
        return None
    highest = values["branch_max_loading"]
    histogram = values["branch_histogram"]
    first = np.argmax(histogram > 0, axis=1) if histogram.size else np.zeros(0)
    lowest = np.minimum(first * LOADING_BIN, highest)
    quantiles = _quantiles(histogram, 0.0, LOADING_BIN) if histogram.size else [lowest] * 3
    # the last bin takes everything above three times the rating: its middle says nothing
    top = [np.where(q > (LOADING_BINS - 1) * LOADING_BIN, highest, q) for q in quantiles]
    return _bands(lowest, highest, top)


def _snapshots(run: Run, slots: dict[str, Floats]) -> tuple[Snapshot, ...]:
    """The slots with the highest and lowest voltage and the highest loading, read from the tables of elements."""
    if not {"buses", "branches"} <= set(run.tables) or not slots or not np.isfinite(slots["v_max_pu"]).any():
        return ()
    loading = np.fmax(slots["max_line_loading"], slots["max_transformer_loading"])
    chosen = [("highest_voltage", int(np.nanargmax(slots["v_max_pu"]))),
              ("lowest_voltage", int(np.nanargmin(slots["v_min_pu"])))]  # fmt: skip
    if np.isfinite(loading).any():
        chosen.append(("highest_loading", int(np.nanargmax(loading))))
    return tuple(
        Snapshot(key, slot, _row(run, "buses", "v_pu", len(run.static.buses), slot),
                 _row(run, "branches", "loading", len(run.static.branches), slot), _phase_row(run, slot))
        for key, slot in chosen
    )  # fmt: skip


def _phase_row(run: Run, slot: int) -> Floats | None:
    """All voltages of a slot by phase; None for a balanced run."""
    if "bus_phases" not in run.tables:
        return None
    width = len(run.static.buses)
    return np.stack([_row(run, "bus_phases", f"v_{phase}_pu", width, slot) for phase in PHASES], axis=1)


def _row(run: Run, table: str, column: str, width: int, slot: int) -> Floats:
    """One slot of a dense table (rows: slot, then element); reads only the row group that holds it."""
    import pyarrow.parquet as pq

    row = slot * width
    for path in part_files(run.folder, table):
        with pq.ParquetFile(path) as file:
            if row >= file.metadata.num_rows:
                row -= file.metadata.num_rows
                continue
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row < rows:
                    read = file.read_row_group(group, columns=[column], use_threads=False)
                    values = np.asarray(read[column].to_numpy(), np.float64)[row : row + width]
                    if len(values) == width:
                        return values
                    break
                row -= rows
        break
    raise RunError(f"the table {table} holds no slot {slot}", remedy="run the scenario again")


def _violations(run: Run) -> tuple[dict[str, Any], ...]:
    """The worst violations by their excess in per cent of the limit, each kind's share of the list by size."""
    if "violations" not in run.tables or not run.summary["violations"]["count"]:
        return ()
    parts = [p for p in run.parts("violations") if p.num_rows]
    excess = np.concatenate([p["excess"].to_numpy() / p["limit"].to_numpy() for p in parts])
    order = np.argsort(-excess, kind="stable")[:MAX_VIOLATIONS]
    starts = np.cumsum([0, *(p.num_rows for p in parts)])
    found = []
    for i in order:
        part = int(np.searchsorted(starts, i, side="right")) - 1
        found.append(parts[part].slice(int(i - starts[part]), 1).to_pylist()[0])
    return tuple(found)
