"""Checks of a pandapower network before it is compiled: what cannot be right is refused, the odd is remarked.

Works on the tables, without solving anything. Decisions:

* A line or transformer without a rating has no loading: refused. A bus without voltage limits is remarked only, because
  the scenario supplies limits (0.9 and 1.1 p.u. unless it says otherwise).
* Impedances are refused where they are not numbers, where r is negative, or where both are zero. What is unlike any
  cable or overhead line but can be solved (very high values per km, series capacitors, equivalents of meshed networks)
  is remarked, because a wrong unit is one of the possible reasons.
* A bus that no external grid reaches is de-energised: it is taken as out of service, with a remark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import GridError

MAX_OHM_PER_KM = 100.0
"""A copper wire of 0.2 mm2 has 90 ohm/km; above it, lines are equivalents, very short, or in a wrong unit."""

MAX_RATIO = 1000.0
"""Highest believable r/x or x/r of a line."""

MAX_LV_LINE_KM = 20.0
"""A line below 1 kV that is longer was given in metres."""

UNLIMITED_KA = 90.0
"""From this rating on a line is taken as deliberately unlimited (files use 100 or 99999 kA)."""

UNLIMITED_MVA = 5000.0
"""From this rating on a transformer is taken as deliberately unlimited; the largest built have some 2000 MVA."""

MAX_NOMINAL_MISMATCH = 0.25
"""How far the nominal voltages of a line's ends, or of a transformer's winding and its bus, may differ."""


def check_tables(net: Any) -> list[str]:
    """Refuse what cannot be right in the tables of a pandapower network, and return remarks on what is odd.

    Raises
    ------
    GridError
        With the element and what to do about it.
    """
    remarks: list[str] = []
    _check_buses(net, remarks)
    _check_references(net)
    _check_feeding(net)
    _check_lines(net, remarks)
    _check_transformers(net, remarks)
    _check_three_winding(net)
    _check_injections(net)
    if len(net.controller) and net.controller.in_service.any():
        remarks.append(
            f"{int(net.controller.in_service.sum())} controllers of the file (tap changers and the like) are not in "
            "operation: what they control stays as it is in the file"
        )
    return remarks


def unsupplied(dead_buses: Sequence[str], standing_there: Sequence[str]) -> list[str]:
    """Remarks on buses in service that no external grid reaches; they count as out of service.

    ``dead_buses`` are their labels, ``standing_there`` those of loads, generators and storages in service at them.
    """
    remarks = []
    if dead_buses:
        remarks.append(
            f"{len(dead_buses)} buses have no connection to an external grid and count as out of service: "
            f"{_listed(dead_buses)}"
        )
    if standing_there:
        remarks.append(
            f"{len(standing_there)} elements of the file stand at de-energised buses and are out of operation: "
            f"{_listed(standing_there)}"
        )
    return remarks


def _listed(labels: Sequence[str], most: int = 5) -> str:
    """The first labels, and how many more there are."""
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def _numbers(table: Any, column: str) -> NDArray[np.float64]:
    """A column as floats; NaN where it or a value is missing."""
    import pandas as pd

    if column not in table.columns:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan))


def _refuse(table: Any, kind: str, bad: NDArray[np.bool_], reason: str, remedy: str) -> None:
    """Raise for the first row of ``table`` that is bad, naming how many there are."""
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    index = table.index[row]
    name = table["name"].iloc[row] if "name" in table.columns else None
    label = f"{kind} {index}" + (f" ({name})" if isinstance(name, str) and name else "")
    count = int(bad.sum())
    more = f" (and {count - 1} more)" if count > 1 else ""
    raise GridError(reason + more, element=label, remedy=remedy)


def _check_buses(net: Any, remarks: list[str]) -> None:
    """Buses: unique indices, nominal voltages, names, limits."""
    bus = net.bus
    if bus.empty:
        raise GridError("the network has no buses", remedy="give a network with at least one bus and an external grid")
    if bus.index.has_duplicates:
        twice = bus.index[bus.index.duplicated()][0]
        raise GridError(
            "the bus table has an index twice", element=f"bus {twice}", remedy="give each bus its own index"
        )
    vn_kv = _numbers(bus, "vn_kv")
    _refuse(bus, "bus", ~(vn_kv > 0), "vn_kv is missing or not positive", "set the nominal voltage in kV")
    _refuse(bus, "bus", vn_kv > 1500, "vn_kv is above 1500 kV", "give the nominal voltage in kV, not in V")
    names = [name for name in bus["name"] if isinstance(name, str) and name]
    if len(set(names)) < len(names):
        remarks.append("some bus names occur more than once: buildings must name these buses by index")
    low, high = _numbers(bus, "min_vm_pu"), _numbers(bus, "max_vm_pu")
    missing = int((np.isnan(low) | np.isnan(high)).sum())
    if missing:
        remarks.append(f"{missing} of {len(bus)} buses have no voltage limits in the file: the scenario's apply")
    _refuse(
        bus, "bus", low > high, "min_vm_pu is above max_vm_pu", "give limits in per unit, the lower one in min_vm_pu"
    )


def _check_references(net: Any) -> None:
    """Every element stands at buses that exist."""
    known = net.bus.index
    ends = {
        "line": ("from_bus", "to_bus"),
        "trafo": ("hv_bus", "lv_bus"),
        "trafo3w": ("hv_bus", "mv_bus", "lv_bus"),
        "impedance": ("from_bus", "to_bus"),
        "load": ("bus",),
        "sgen": ("bus",),
        "gen": ("bus",),
        "storage": ("bus",),
        "shunt": ("bus",),
        "ward": ("bus",),
        "ext_grid": ("bus",),
        "switch": ("bus",),
    }
    for kind, columns in ends.items():
        table = net[kind]
        for column in columns:
            unknown = ~table[column].isin(known).to_numpy(dtype=bool)
            _refuse(table, kind, unknown, f"{column} names a bus that does not exist", f"correct {kind}.{column}")


def _check_feeding(net: Any) -> None:
    """At least one external grid, at a believable voltage."""
    table = net.ext_grid
    active = table["in_service"].to_numpy(dtype=bool)
    slack = net.gen["in_service"].to_numpy(dtype=bool) & (net.gen["slack"] == True).to_numpy(dtype=bool)  # noqa: E712
    if not active.any() and not slack.any():
        raise GridError(
            "the network has no external grid in service",
            remedy="add one at the bus that the upstream network feeds (pandapower.create_ext_grid)",
        )
    live = net.bus.index[net.bus["in_service"].to_numpy(dtype=bool)]
    feeding = [*table.loc[active, "bus"], *net.gen.loc[slack, "bus"]]
    if not any(bus in live for bus in feeding):
        raise GridError(
            "no bus is supplied: every external grid stands at a bus that is out of service",
            element=f"bus {feeding[0]}",
            remedy="put its bus into service, or move the external grid to one that is",
        )
    vm_pu = _numbers(table, "vm_pu")
    _refuse(
        table,
        "ext_grid",
        active & ~((vm_pu > 0.5) & (vm_pu < 1.5)),
        "vm_pu is not a voltage in per unit",
        "set it between 0.5 and 1.5, e.g. 1.0",
    )


def _check_lines(net: Any, remarks: list[str]) -> None:
    """Lines: lengths, impedances, ratings, nominal voltages."""
    line = net.line
    if line.empty:
        return
    active = line["in_service"].to_numpy(dtype=bool)
    length, parallel = _numbers(line, "length_km"), _numbers(line, "parallel")
    r, x = _numbers(line, "r_ohm_per_km"), _numbers(line, "x_ohm_per_km")
    c, g = _numbers(line, "c_nf_per_km"), _numbers(line, "g_us_per_km")
    rating, derating = _numbers(line, "max_i_ka"), _numbers(line, "df")
    from_kv = net.bus["vn_kv"].reindex(line["from_bus"]).to_numpy(dtype=float)
    to_kv = net.bus["vn_kv"].reindex(line["to_bus"]).to_numpy(dtype=float)

    def refuse(bad: NDArray[np.bool_], reason: str, remedy: str) -> None:
        _refuse(line, "line", active & bad, reason, remedy)

    refuse(~(length > 0), "length_km is missing, zero or negative", "give its length in km; a joint is a closed switch")
    refuse(
        (from_kv < 1) & (length > MAX_LV_LINE_KM),
        f"a low-voltage line longer than {MAX_LV_LINE_KM:g} km",
        "give length_km in km, not in m",
    )
    refuse(~(parallel >= 1), "parallel is below 1", "give the number of parallel systems")
    refuse(~(r >= 0), "r_ohm_per_km is missing or negative", "give r and x in ohm per km")
    refuse(~np.isfinite(x), "x_ohm_per_km is missing", "give r and x in ohm per km")
    refuse((r == 0) & (x == 0), "the impedance is zero", "give r and x, or use a closed bus-bus switch")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(r / np.abs(x), np.abs(x) / r)
    refuse(
        (r > 0) & (x != 0) & (ratio > MAX_RATIO),
        f"r and x differ by more than {MAX_RATIO:g} times",
        "give both in ohm per km",
    )
    refuse(~(c >= 0) | ~(g >= 0), "c_nf_per_km or g_us_per_km is missing or negative", "give 0 where it is not known")
    refuse(
        ~(rating > 0) | ~(derating > 0),
        "max_i_ka or df is missing, zero or negative, so that no loading can be given",
        "give the rated current in kA (a line that shall never be the limit: 99999)",
    )
    refuse(
        ~(np.abs(from_kv / to_kv - 1) <= MAX_NOMINAL_MISMATCH),
        "the nominal voltages at its two ends differ",
        "correct bus.vn_kv, or put a transformer there",
    )
    _odd_lines(line, active, remarks)


def _odd_lines(line: Any, active: NDArray[np.bool_], remarks: list[str]) -> None:
    """Remark lines that can be solved but are unlike any real one."""
    r, x = _numbers(line, "r_ohm_per_km"), _numbers(line, "x_ohm_per_km")
    rating = _numbers(line, "max_i_ka")
    unlimited = int((active & (rating >= UNLIMITED_KA)).sum())
    if unlimited:
        remarks.append(
            f"{unlimited} lines have no real rating ({UNLIMITED_KA:g} kA or more): their loading says nothing"
        )
    odd = (
        (np.hypot(r, x) > MAX_OHM_PER_KM, f"an impedance above {MAX_OHM_PER_KM:g} ohm/km (is the unit right?)"),
        (x < 0, "a negative reactance, as a series capacitor or an equivalent of other lines has"),
    )
    for which, what in odd:
        labels = [f"line {index}" for index in line.index[active & which]]
        if labels:
            remarks.append(f"{len(labels)} lines have {what}: {_listed(labels)}")


def _check_transformers(net: Any, remarks: list[str]) -> None:
    """Two-winding transformers: ratings, short-circuit voltages, nominal voltages."""
    trafo = net.trafo
    if trafo.empty:
        return
    active = trafo["in_service"].to_numpy(dtype=bool)
    sn, vk, vkr = (_numbers(trafo, name) for name in ("sn_mva", "vk_percent", "vkr_percent"))
    pfe, i0, df = (_numbers(trafo, name) for name in ("pfe_kw", "i0_percent", "df"))

    def refuse(bad: NDArray[np.bool_], reason: str, remedy: str) -> None:
        _refuse(trafo, "trafo", active & bad, reason, remedy)

    refuse(~(sn > 0) | ~(df > 0), "sn_mva or df is missing, zero or negative", "give the rated power in MVA")
    # Files converted from MATPOWER rate a transformer at 9900 MVA, for "no limit", and have vk in the thousands.
    too_high = ~(vk < 100) & (sn < UNLIMITED_MVA)
    refuse(~(vk > 0) | too_high, "vk_percent is not between 0 and 100", "give the short-circuit voltage in percent")
    refuse(~(vkr >= 0) | (vkr > vk), "vkr_percent is missing, negative or above vk_percent", "give its resistive part")
    refuse(~(pfe >= 0), "pfe_kw is missing or negative", "give 0 where it is not known")
    refuse(~np.isfinite(i0), "i0_percent is missing", "give 0 where it is not known")
    if (active & (i0 < 0)).any():
        labels = [f"trafo {index}" for index in trafo.index[active & (i0 < 0)]]
        remarks.append(f"{len(labels)} transformers have a negative no-load current, as capacitors: {_listed(labels)}")
    refuse(~(_numbers(trafo, "parallel") >= 1), "parallel is below 1", "give the number of parallel transformers")
    for side in ("hv", "lv"):
        bus_kv = net.bus["vn_kv"].reindex(trafo[f"{side}_bus"]).to_numpy(dtype=float)
        mismatch = np.abs(_numbers(trafo, f"vn_{side}_kv") / bus_kv - 1)
        refuse(
            ~(mismatch <= MAX_NOMINAL_MISMATCH),
            f"vn_{side}_kv does not fit the nominal voltage of its bus",
            f"correct trafo.vn_{side}_kv, bus.vn_kv, or which side is which",
        )


def _check_three_winding(net: Any) -> None:
    """Three-winding transformers: ratings and short-circuit voltages."""
    trafo = net.trafo3w
    if trafo.empty:
        return
    active = trafo["in_service"].to_numpy(dtype=bool)
    for side in ("hv", "mv", "lv"):
        sn, vk, vkr = (
            _numbers(trafo, f"{name}") for name in (f"sn_{side}_mva", f"vk_{side}_percent", f"vkr_{side}_percent")
        )
        bad = ~(sn > 0) | ~(vk > 0) | ~(vk < 100) | ~(vkr >= 0) | (vkr > vk)
        _refuse(
            trafo,
            "trafo3w",
            active & bad,
            f"sn, vk or vkr of its {side} side is missing or impossible",
            "give sn in MVA, vk and vkr in percent, vkr not above vk",
        )


def _check_injections(net: Any) -> None:
    """The file's own loads and generators are numbers."""
    for kind in ("load", "sgen", "storage"):
        table = net[kind]
        if table.empty:
            continue
        active = table["in_service"].to_numpy(dtype=bool)
        bad = active & np.isnan(_numbers(table, "p_mw") + _numbers(table, "q_mvar") + _numbers(table, "scaling"))
        _refuse(table, kind, bad, "p_mw, q_mvar or scaling is missing", "give a number, or set in_service to False")
