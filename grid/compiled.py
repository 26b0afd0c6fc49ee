"""From a pandapower network to the columns of `grid.network.Network`.

The electrical part is read off pandapower's own internal model (the arrays that its Newton solver gets), so that taps,
parallel systems, open and closed switches, three-winding transformers and shunts mean exactly what they mean there. The
options are those of ``pandapower.runpp`` (transformer model "t", angles considered), overruled by the network's own
``user_pf_options`` as there.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import GridError
from grid.layout import tree_layout
from grid.network import Branches, Columns, Elements, Floats, Network, NodeModel
from grid.network_checks import check_tables, unsupplied

ORIGINAL = "pandapower"
"""Key in `Network.memo` of the network that was handed over in memory."""

CHOOSE = "choose power_flow: pandapower for this network"
"""The remedy wherever the batch engine cannot do something."""


@dataclass(frozen=True, eq=False)
class _Ppc:
    """pandapower's internal model: buses in service, branches in service, generators, and where elements went."""

    bus: Floats
    branch: NDArray[Any]
    gen: Floats
    base_mva: float
    bus_lookup: NDArray[np.int64]
    ranges: dict[str, tuple[int, int]]
    branch_row: NDArray[np.int64]
    options: dict[str, Any]


def compile_network(
    net: Any, *, source: str, name: str = "", notices: tuple[str, ...] = (), keep_original: bool = False
) -> Network:
    """Check a pandapower network and turn it into columns.

    Parameters
    ----------
    net
        The pandapower network; it is copied, never changed.
    source, name, notices
        See `Network`.
    keep_original
        Keep a copy of ``net`` in memory for `Network.to_pandapower` and the pandapower engine.

    Raises
    ------
    GridError
        If it is no pandapower network, the checks of `grid.network_checks` refuse it, or pandapower cannot convert it.
    """
    _check_is_network(net)
    net = copy.deepcopy(net)
    remarks = check_tables(net)
    original = copy.deepcopy(net) if keep_original else None
    ppc = _internal_model(net)
    column = {index: i for i, index in enumerate(net.bus.index.tolist())}
    x, y, has_geo = _positions(net, column)
    model = _node_model(net, ppc)
    remarks += _without_supply(net, model)
    live = net.bus.index[model.bus_node >= 0]
    own_p_kw, own_q_kvar = _own_power(net, ppc, model)
    feeding = _feeding_buses(net, column)
    network = Network(
        source=source,
        name=name or (net.name if isinstance(net.name, str) and net.name else source),
        notices=notices,
        remarks=tuple(remarks),
        bus_ids=tuple(str(index) for index in net.bus.index),
        bus_names=_texts(net.bus, "name", "bus"),
        vn_kv=net.bus["vn_kv"].to_numpy(dtype=float).copy(),
        x=x,
        y=y,
        has_geo=has_geo,
        v_min_pu=_floats(net.bus, "min_vm_pu"),
        v_max_pu=_floats(net.bus, "max_vm_pu"),
        feeding_buses=feeding,
        own_p_kw=own_p_kw,
        own_q_kvar=own_q_kvar,
        branches=_branches(net, column, model),
        loads=_elements(net, "load", column, live, 1.0),
        sgens=_elements(net, "sgen", column, live, -1.0),
        storages=_elements(net, "storage", column, live, 1.0),
        model=model,
    )
    if original is not None:
        network.memo[ORIGINAL] = original
    return network


# --- columns of the tables ------------------------------------------------------------------------------------------


def _floats(table: Any, column: str, factor: float = 1.0) -> Floats:
    """A column as floats; NaN where it is missing."""
    import pandas as pd

    if column not in table.columns:
        return np.full(len(table), np.nan)
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(values * factor, dtype=np.float64)


def _texts(table: Any, column: str, default: str = "") -> tuple[str, ...]:
    """A column as text; ``default index`` (or empty) where it is missing."""
    blank = (f"{default} {index}" if default else "" for index in table.index)
    if column not in table.columns:
        return tuple(blank)
    return tuple(
        value if isinstance(value, str) and value else other for value, other in zip(table[column], blank, strict=True)
    )


def _columns(values: Any, column: dict[Any, int]) -> Columns:
    """Bus columns of bus indices."""
    return np.array([column[value] for value in values], dtype=np.int32)


def _elements(net: Any, kind: str, column: dict[Any, int], live: Any, sign: float) -> Elements:
    """Loads, sgens or storages in service at buses that are supplied (index ``live``), in load convention."""
    table = net[kind]
    table = table[table["in_service"].to_numpy(dtype=bool) & table["bus"].isin(live).to_numpy(dtype=bool)]
    scaling = _floats(table, "scaling")
    return Elements(
        ids=tuple(str(index) for index in table.index),
        names=_texts(table, "name", kind),
        bus=_columns(table["bus"], column),
        p_kw=_floats(table, "p_mw", 1e3) * scaling * sign,
        q_kvar=_floats(table, "q_mvar", 1e3) * scaling * sign,
        sn_kva=_floats(table, "sn_mva", 1e3),
        profile=_texts(table, "profile"),
        kind=_texts(table, "type"),
        max_e_kwh=_floats(table, "max_e_mwh", 1e3),
        min_e_kwh=_floats(table, "min_e_mwh", 1e3),
        efficiency=_efficiency(table),
        self_discharge_per_day=_floats(table, "self-discharge_percent_per_day", 0.01),
    )


def _efficiency(table: Any) -> Floats:
    """Efficiency as a share. Files that say percent and mean a share (SimBench: 0.95) are read as the share."""
    value = _floats(table, "efficiency_percent")
    return np.where(value > 1.0, value / 100.0, value)


def _branches(net: Any, column: dict[Any, int], model: NodeModel) -> Branches:
    """Lines, transformers, three-winding transformers with their ratings."""
    line, trafo, three = net.line, net.trafo, net.trafo3w
    from_kv = net.bus["vn_kv"].reindex(line["from_bus"]).to_numpy(dtype=float)
    line_a = 1e3 * _floats(line, "max_i_ka") * _floats(line, "df") * _floats(line, "parallel")
    trafo_kva = 1e3 * _floats(trafo, "sn_mva") * _floats(trafo, "df") * _floats(trafo, "parallel")
    root3 = np.sqrt(3.0)
    n_transformers = len(trafo) + len(three)
    from_bus = (*line["from_bus"], *trafo["hv_bus"], *three["hv_bus"])
    to_bus = (*line["to_bus"], *trafo["lv_bus"], *three["lv_bus"])
    three_hv, three_lv = _floats(three, "sn_hv_mva", 1e3), _floats(three, "sn_lv_mva", 1e3)
    return Branches(
        ids=(
            *(f"line-{i}" for i in line.index),
            *(f"transformer-{i}" for i in trafo.index),
            *(f"transformer3w-{i}" for i in three.index),
        ),
        names=(
            *_texts(line, "name", "line"),
            *_texts(trafo, "name", "transformer"),
            *_texts(three, "name", "transformer3w"),
        ),
        kinds=("line",) * len(line) + ("transformer",) * len(trafo) + ("transformer3w",) * len(three),
        from_bus=_columns(from_bus, column),
        to_bus=_columns(to_bus, column),
        rated_from_a=np.concatenate(
            [line_a, trafo_kva / (root3 * _floats(trafo, "vn_hv_kv")), three_hv / (root3 * _floats(three, "vn_hv_kv"))]
        ),
        rated_to_a=np.concatenate(
            [line_a, trafo_kva / (root3 * _floats(trafo, "vn_lv_kv")), three_lv / (root3 * _floats(three, "vn_lv_kv"))]
        ),
        rated_kva=np.concatenate([root3 * from_kv * line_a, trafo_kva, three_hv]),
        length_km=np.concatenate([_floats(line, "length_km"), np.full(n_transformers, np.nan)]),
        in_service=model.branch_hv >= 0,
    )


def _feeding_buses(net: Any, column: dict[Any, int]) -> Columns:
    """Bus columns of external grids and slack generators in service, in order, each once."""
    grids = net.ext_grid.loc[net.ext_grid["in_service"].to_numpy(dtype=bool), "bus"].tolist()
    slack = net.gen["in_service"].to_numpy(dtype=bool) & (net.gen["slack"] == True).to_numpy(dtype=bool)  # noqa: E712
    return np.array(sorted({column[bus] for bus in [*grids, *net.gen.loc[slack, "bus"].tolist()]}), dtype=np.int32)


def _positions(net: Any, column: dict[Any, int]) -> tuple[Floats, Floats, bool]:
    """Coordinates from the file's GeoJSON points, or a drawn tree if any bus lacks one."""
    x, y = np.full(len(column), np.nan), np.full(len(column), np.nan)
    for i, text in enumerate(net.bus["geo"] if "geo" in net.bus.columns else ()):
        if isinstance(text, str) and text:
            try:
                x[i], y[i] = json.loads(text)["coordinates"][:2]
            except (ValueError, KeyError, TypeError):
                break
    if np.isfinite(x).all() and np.isfinite(y).all():
        return x, y, True
    pairs = [*zip(net.line["from_bus"], net.line["to_bus"], strict=True)]
    pairs += zip(net.trafo["hv_bus"], net.trafo["lv_bus"], strict=True)
    for side in ("mv_bus", "lv_bus"):
        pairs += zip(net.trafo3w["hv_bus"], net.trafo3w[side], strict=True)
    switches = net.switch[(net.switch["et"] == "b").to_numpy(dtype=bool)]
    pairs += zip(switches["bus"], switches["element"], strict=True)
    ends = np.array([(column[a], column[b]) for a, b in pairs], dtype=np.int32).reshape(-1, 2)
    x, y = tree_layout(len(column), ends, _feeding_buses(net, column))
    return x, y, False


# --- the electrical model -------------------------------------------------------------------------------------------


def _internal_model(net: Any) -> _Ppc:
    """Return pandapower's internal arrays for this network (changes ``net``, which must be a copy)."""
    from pandapower.auxiliary import _init_runpp_options
    from pandapower.pd2ppc import _pd2ppc

    empty = np.array([], dtype=np.int64)
    lookups = dict.fromkeys(("bus", "bus_dc", "ext_grid", "gen", "branch", "branch_dc"), empty)
    net["_pd2ppc_lookups"] = {key: value.copy() for key, value in lookups.items()}
    try:
        _init_runpp_options(
            net,
            algorithm="nr",
            calculate_voltage_angles=True,
            init="auto",
            max_iteration="auto",
            tolerance_mva=1e-8,
            trafo_model="t",
            trafo_loading="current",
            enforce_p_lims=False,
            enforce_q_lims=False,
            check_connectivity=True,
            voltage_depend_loads=True,
            passed_parameters={},
        )
        ppc, ppci = _pd2ppc(net)
    except (UserWarning, ValueError, KeyError, IndexError, FloatingPointError, NotImplementedError) as error:
        raise GridError(
            f"pandapower cannot convert the network: {type(error).__name__}: {error}",
            remedy="run pandapower.diagnostic(net) and correct what it finds",
        ) from error
    n_live = len(ppci["bus"])
    lookup = np.asarray(net["_pd2ppc_lookups"]["bus"], dtype=np.int64)
    in_service = np.asarray(ppci["internal"]["branch_is"], dtype=bool)
    return _Ppc(
        bus=np.real(ppc["bus"][:n_live]).astype(np.float64),
        branch=np.asarray(ppci["branch"]),
        gen=np.real(ppci["gen"]).astype(np.float64),
        base_mva=float(ppci["baseMVA"]),
        bus_lookup=lookup,
        ranges={kind: (int(f), int(t)) for kind, (f, t) in net["_pd2ppc_lookups"]["branch"].items()},
        branch_row=np.where(in_service, np.cumsum(in_service) - 1, -1),
        options=dict(net["_options"]),
    )


def _check_is_network(net: Any) -> None:
    """Refuse what is no pandapower network, and say how to load one by name."""
    from pandapower import pandapowerNet

    if not isinstance(net, pandapowerNet):
        raise GridError(
            f"not a pandapower network but {type(net).__name__}",
            remedy="give a pandapowerNet; to load a network by name or from a file, call Network.load",
        )


def _without_supply(net: Any, model: NodeModel) -> list[str]:
    """Remarks on buses in service that no external grid reaches, and on what stands there."""
    dead = (model.bus_node < 0) & net.bus["in_service"].to_numpy(dtype=bool)
    names = _texts(net.bus, "name")
    labels = [f"bus {net.bus.index[i]}" + (f" ({names[i]})" if names[i] else "") for i in np.flatnonzero(dead)]
    index = net.bus.index[dead]
    standing = [
        f"{kind} {i}"
        for kind in ("load", "sgen", "storage", "gen", "motor", "asymmetric_load", "asymmetric_sgen", "ward", "xward")
        for i in net[kind].index[net[kind]["in_service"].to_numpy(dtype=bool) & net[kind]["bus"].isin(index)]
    ]
    return unsupplied(labels, standing)


def _node_model(net: Any, ppc: _Ppc) -> NodeModel:
    """The arrays of `NodeModel` from pandapower's internal ones."""
    from pandapower.pypower import idx_brch as br
    from pandapower.pypower import idx_bus as bu
    from pandapower.pypower import idx_gen as ge

    node_kv = ppc.bus[:, bu.BASE_KV].copy()
    branch = np.real(ppc.branch)
    from_node, to_node = branch[:, br.F_BUS].astype(np.int32), branch[:, br.T_BUS].astype(np.int32)
    z_base = node_kv[to_node] ** 2 / ppc.base_mva
    tap = branch[:, br.TAP]
    g, b = branch[:, br.BR_G], branch[:, br.BR_B]
    g_more, b_more = branch[:, br.BR_G_ASYM] / 2, branch[:, br.BR_B_ASYM] / 2  # at the to side only
    uneven = np.hypot(g_more, b_more) > 1e-12 * (np.hypot(g, b) + 1e-12)
    rows = _entry_rows(ppc)
    shunt_node, shunt_g_s, shunt_b_s = _shunts(ppc, node_kv, to_node[uneven], (g_more + 1j * b_more)[uneven])
    ref = np.unique(ppc.gen[:, ge.GEN_BUS].astype(np.int32), return_index=True)
    is_source = ppc.bus[ref[0], bu.BUS_TYPE] == bu.REF
    source_node = ref[0][is_source]
    lookup = ppc.bus_lookup[net.bus.index.to_numpy()]
    third_rated = _floats(net.trafo3w, "sn_mv_mva", 1e3) / (np.sqrt(3.0) * _floats(net.trafo3w, "vn_mv_kv"))
    n_two = len(net.line) + len(net.trafo)
    return NodeModel(
        node_kv=node_kv,
        bus_node=np.where((lookup >= 0) & (lookup < len(node_kv)), lookup, -1).astype(np.int32),
        from_node=from_node,
        to_node=to_node,
        r_ohm=branch[:, br.BR_R] * z_base,
        x_ohm=branch[:, br.BR_X] * z_base,
        g_s=g / z_base,
        b_s=b / z_base,
        ratio=np.where(tap == 0.0, 1.0, tap),
        shift_rad=np.deg2rad(branch[:, br.SHIFT]),
        shunt_node=shunt_node,
        shunt_g_s=shunt_g_s,
        shunt_b_s=shunt_b_s,
        source_node=source_node.astype(np.int32),
        source_u_pu=ppc.gen[ref[1][is_source], ge.VG].copy(),
        source_angle_rad=np.deg2rad(ppc.bus[source_node, bu.VA]),
        branch_hv=np.concatenate([rows["line"], rows["trafo"], rows["hv"]]),
        branch_lv=np.concatenate([rows["line"], rows["trafo"], rows["lv"]]),
        third_entry=np.arange(n_two, n_two + len(net.trafo3w), dtype=np.int32),
        third_branch=rows["mv"],
        third_rated_a=third_rated,
        refusal=_refusal(net, ppc, uneven),
        own_refusal=_own_refusal(ppc),
    )


def _entry_rows(ppc: _Ppc) -> dict[str, Columns]:
    """Row among the branches in service (or -1) of every line, transformer and side of a three-winding transformer."""
    found = {}
    for kind in ("line", "trafo", "trafo3w"):
        start, stop = ppc.ranges.get(kind, (0, 0))
        found[kind] = ppc.branch_row[start:stop].astype(np.int32)
    hv, mv, lv = np.split(found.pop("trafo3w"), 3)
    # A three-winding transformer counts as in service when its feeding side is.
    return {**found, "hv": hv, "mv": np.where(hv >= 0, mv, -1), "lv": np.where(hv >= 0, lv, -1)}


def _shunts(
    ppc: _Ppc, node_kv: Floats, more_node: Columns, more_pu: NDArray[np.complex128]
) -> tuple[Columns, Floats, Floats]:
    """Shunt admittances at nodes: shunts and wards of the file, and what a branch has more on its to side."""
    from pandapower.pypower import idx_bus as bu

    at_bus = np.flatnonzero((ppc.bus[:, bu.GS] != 0) | (ppc.bus[:, bu.BS] != 0)).astype(np.int32)
    pu = (ppc.bus[at_bus, bu.GS] + 1j * ppc.bus[at_bus, bu.BS]) / ppc.base_mva
    node = np.concatenate([at_bus, more_node])
    siemens = np.concatenate([pu, more_pu]) * ppc.base_mva / node_kv[node] ** 2
    return node, siemens.real.copy(), siemens.imag.copy()


def _refusal(net: Any, ppc: _Ppc, uneven: NDArray[np.bool_]) -> str:
    """Why the batch engine cannot solve this network; empty if it can."""
    from pandapower.pypower import idx_brch as br

    def active(kind: str) -> bool:
        return kind in net and len(net[kind]) > 0 and bool(net[kind]["in_service"].any())

    for kind in ("dcline", "svc", "ssc", "vsc", "vsc_stacked", "vsc_bipolar", "tcsc", "xward"):
        if active(kind):
            return f"the network contains a {kind}"
    gen = net.gen
    held = gen["in_service"].to_numpy(dtype=bool) & ~(gen["slack"] == True).to_numpy(dtype=bool)  # noqa: E712
    if held.any():
        return f"generator {gen.index[np.flatnonzero(held)[0]]} holds the voltage of its bus"
    if ppc.options["distributed_slack"] or ppc.options["tdpf"] or ppc.options["trafo_loading"] != "current":
        return "its user_pf_options ask for a distributed slack, line temperatures or loading by power"
    branch = np.real(ppc.branch)
    if branch[:, br.BR_R_ASYM].any() or branch[:, br.BR_X_ASYM].any():
        return "an impedance differs between its two directions"
    if (np.hypot(branch[:, br.BR_R], branch[:, br.BR_X]) == 0).any():
        return "an impedance is zero"
    rated = [
        ppc.branch_row[start:stop] for kind, (start, stop) in ppc.ranges.items() if kind in ("line", "trafo", "trafo3w")
    ]
    if any(uneven[rows[rows >= 0]].any() for rows in rated):
        return "a transformer's leakage is split unevenly (leakage_resistance_ratio_hv, leakage_reactance_ratio_hv)"
    return ""


def _own_refusal(ppc: _Ppc) -> str:
    """Why the batch engine cannot solve the network with the file's own loads."""
    from pandapower.pypower import idx_bus as bu

    columns = [bu.CID_P, bu.CID_Q, bu.CZD_P, bu.CZD_Q]
    return "loads of the file depend on the voltage" if ppc.bus[:, columns].any() else ""


def _own_power(net: Any, ppc: _Ppc, model: NodeModel) -> tuple[Floats, Floats]:
    """The file's own consumption per bus; of buses that are one node, at the first."""
    from pandapower.pypower import idx_bus as bu

    p_kw, q_kvar = np.zeros(len(net.bus)), np.zeros(len(net.bus))
    nodes, first = np.unique(model.bus_node, return_index=True)
    first, nodes = first[nodes >= 0], nodes[nodes >= 0]
    p_kw[first] = 1e3 * ppc.bus[nodes, bu.PD]
    q_kvar[first] = 1e3 * ppc.bus[nodes, bu.QD]
    return p_kw, q_kvar
