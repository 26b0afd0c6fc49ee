"""Networks for the power-flow tests, and an independent pandapower run to compare with."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower as pp

INJECTIONS = ("load", "sgen", "storage", "motor", "asymmetric_load", "asymmetric_sgen")


def copied(make: Callable[..., Any]) -> Callable[..., Any]:
    """The function makes a network once; every call returns a copy of its own, which takes a fifth of the time."""
    kept = functools.cache(make)

    @functools.wraps(make)
    def of_its_own(*args: Any, **more: Any) -> Any:
        return copy.deepcopy(kept(*args, **more))

    return of_its_own


@copied
def empty(sn_mva: float = 1.0) -> Any:
    """A network without anything in it."""
    return pp.create_empty_network(sn_mva=sn_mva)


def reference(net: Any, p_kw: np.ndarray, q_kvar: np.ndarray) -> dict[str, np.ndarray]:
    """Solve one slot with pandapower alone: the file's loads and generators out, one load per bus in."""
    net = copy.deepcopy(net)
    for kind in INJECTIONS:
        net[kind]["in_service"] = False
    for kind in ("ward", "xward"):
        net[kind]["ps_mw"], net[kind]["qs_mvar"] = 0.0, 0.0
    for bus, p, q in zip(net.bus.index, p_kw, q_kvar, strict=True):
        if p or q:
            pp.create_load(net, bus, p_mw=p / 1e3, q_mvar=q / 1e3)
    pp.runpp(net, tolerance_mva=1e-10)
    # Power in plus power out of every branch pandapower solves with, a switch with an impedance included.
    losses = float(np.nansum(np.real(net._ppc["branch"][:, [13, 15]])))
    losses += sum(net[f"res_{kind}"]["p_mw"].sum() for kind in ("shunt", "ward") if len(net[kind]))
    loading = [net[f"res_{kind}"]["loading_percent"].to_numpy() / 100 for kind in ("line", "trafo", "trafo3w")]
    power = [net.res_line["p_from_mw"], net.res_trafo["p_hv_mw"], net.res_trafo3w["p_hv_mw"]]
    return {
        "v_pu": net.res_bus["vm_pu"].to_numpy(),
        "line_loading": loading[0],
        "transformer_loading": np.concatenate(loading[1:]),
        "branch_p_kw": 1e3 * np.concatenate(power),
        "losses_kw": np.array(1e3 * losses),
        "slack_p_kw": np.array(1e3 * net.res_ext_grid["p_mw"].sum()),
        "slack_q_kvar": np.array(1e3 * net.res_ext_grid["q_mvar"].sum()),
    }


@copied
def two_bus(r_ohm: float = 0.4, x_ohm: float = 0.1) -> Any:
    """A feeder of one line at 0.4 kV."""
    net = empty()
    a, b = pp.create_bus(net, 0.4, name="station"), pp.create_bus(net, 0.4, name="house")
    pp.create_ext_grid(net, a)
    pp.create_line_from_parameters(net, a, b, 1.0, r_ohm, x_ohm, 0.0, 0.2)
    return net


def _cable(net: Any, a: int, b: int, km: float, **more: Any) -> int:
    return int(pp.create_line(net, a, b, km, "NAYY 4x150 SE", **more))


@copied
def everything() -> Any:
    """20/0.4 kV: taps on either side, parallel lines and transformers, a ring, every kind of switch, shunt, ward."""
    net = empty(sn_mva=2.0)
    mv = [pp.create_bus(net, 20.0, name=f"mv {i}", min_vm_pu=0.95, max_vm_pu=1.05) for i in range(3)]
    lv = [pp.create_bus(net, 0.4, name=f"lv {i}", index=10 + 3 * i) for i in range(9)]
    off = pp.create_bus(net, 0.4, name="demolished", index=5, in_service=False)
    pp.create_ext_grid(net, mv[0], vm_pu=1.02, va_degree=7.0)
    pp.create_line(net, mv[0], mv[1], 3.0, "NA2XS2Y 1x95 RM/25 12/20 kV", parallel=2, df=0.9)
    pp.create_line(net, mv[1], mv[2], 2.0, "NA2XS2Y 1x95 RM/25 12/20 kV")
    pp.create_line(net, mv[0], mv[2], 4.0, "NA2XS2Y 1x95 RM/25 12/20 kV")  # closes a ring
    pp.create_transformer(net, mv[1], lv[0], "0.63 MVA 20/0.4 kV", tap_pos=2, parallel=2)
    pp.create_transformer(net, mv[2], lv[4], "0.4 MVA 20/0.4 kV", tap_pos=-1)
    net.trafo["tap_changer_type"] = "Ratio"
    net.trafo.loc[1, "tap_side"] = "lv"
    net.trafo.loc[1, "df"] = 0.8
    for a, b in ((0, 1), (1, 2), (2, 3), (4, 5), (5, 6)):
        _cable(net, lv[a], lv[b], 0.12)
    open_line = _cable(net, lv[3], lv[6], 0.2, parallel=2)  # fed from one end only
    pp.create_switch(net, lv[6], open_line, et="l", closed=False)
    dead_line = _cable(net, lv[1], lv[5], 0.2)  # open at both ends
    pp.create_switch(net, lv[1], dead_line, et="l", closed=False)
    pp.create_switch(net, lv[5], dead_line, et="l", closed=False)
    _cable(net, lv[2], lv[6], 0.3, in_service=False)
    _cable(net, lv[2], off, 0.05)  # into a bus out of service: loaded by its own capacitance only
    pp.create_switch(net, lv[3], lv[7], et="b", closed=True)  # one node
    pp.create_switch(net, lv[6], lv[8], et="b", closed=True, z_ohm=0.01)  # a branch
    pp.create_switch(net, lv[3], lv[8], et="b", closed=False)
    pp.create_shunt(net, lv[5], q_mvar=-0.02, p_mw=0.001)
    pp.create_ward(net, lv[2], ps_mw=0.01, qs_mvar=0.0, pz_mw=0.004, qz_mvar=0.002)
    pp.create_load(net, lv[1], 0.02, 0.005, scaling=0.5)
    pp.create_load(net, lv[7], 0.01, 0.002)
    pp.create_sgen(net, lv[3], 0.03)
    pp.create_storage(net, lv[8], p_mw=-0.015, max_e_mwh=0.03, q_mvar=0.001)
    return net


@copied
def phase_shifter() -> Any:
    """Two transformers in parallel, one with a phase-shifting tap: power circles between them."""
    net = empty()
    hv, mid, lv = (pp.create_bus(net, kv) for kv in (110.0, 20.0, 20.0))
    pp.create_ext_grid(net, hv, vm_pu=1.01)
    for changer, step, degree, pos in (("Ideal", 0.0, 1.0, 2), ("Symmetrical", 1.5, 90.0, 1), ("Ratio", 1.5, 30.0, -2)):
        pp.create_transformer_from_parameters(
            net, hv, mid, 25.0, 110.0, 20.0, 0.4, 12.0, 14.0, 0.07, shift_degree=150, tap_side="hv", tap_neutral=0,
            tap_min=-9, tap_max=9, tap_pos=pos, tap_step_percent=step, tap_step_degree=degree, tap_changer_type=changer,
        )  # fmt: skip
    pp.create_line(net, mid, lv, 5.0, "NA2XS2Y 1x185 RM/25 12/20 kV", parallel=3)
    return net


@copied
def three_winding() -> Any:
    """110/20/10 kV, with a tap on the middle side, feeding two feeders."""
    net = empty()
    hv, mv, lv, end = (pp.create_bus(net, kv) for kv in (110.0, 20.0, 10.0, 20.0))
    pp.create_ext_grid(net, hv)
    pp.create_transformer3w_from_parameters(
        net, hv, mv, lv, 110.0, 20.0, 10.0, 63.0, 25.0, 38.0, 10.4, 10.5, 10.6, 0.28, 0.29, 0.3, 35.0, 0.1,
        shift_mv_degree=30.0, shift_lv_degree=150.0, tap_side="mv", tap_neutral=0, tap_min=-10, tap_max=10, tap_pos=3,
        tap_step_percent=1.2, tap_changer_type="Ratio",
    )  # fmt: skip
    pp.create_line(net, mv, end, 8.0, "NA2XS2Y 1x185 RM/25 12/20 kV", parallel=2)
    return net


@copied
def two_feeding_points() -> Any:
    """A line fed from both ends at different voltage and angle, with a symmetric and an uneven impedance between."""
    net = empty()
    buses = [pp.create_bus(net, 20.0) for _ in range(5)]
    pp.create_ext_grid(net, buses[0], vm_pu=1.01, va_degree=0.0)
    pp.create_ext_grid(net, buses[4], vm_pu=1.0, va_degree=-0.4)
    for a, b in ((0, 1), (1, 2), (3, 4)):
        pp.create_line(net, buses[a], buses[b], 3.0, "NA2XS2Y 1x95 RM/25 12/20 kV")
    pp.create_impedance(net, buses[2], buses[3], 0.02, 0.05, 10.0, gf_pu=0.001, bf_pu=0.002, gt_pu=0.003, bt_pu=-0.004)
    return net


def random_radial(rng: np.random.Generator, n: int) -> Any:
    """A random radial low-voltage feeder of ``n`` buses behind a transformer."""
    net = empty()
    mv = pp.create_bus(net, 20.0)
    lv = [pp.create_bus(net, 0.4) for _ in range(n)]
    pp.create_ext_grid(net, mv, vm_pu=float(rng.uniform(0.97, 1.05)))
    pp.create_transformer(net, mv, lv[0], "0.4 MVA 20/0.4 kV", tap_pos=int(rng.integers(-2, 3)))
    net.trafo["tap_changer_type"] = "Ratio"
    types = ("NAYY 4x50 SE", "NAYY 4x120 SE", "NAYY 4x150 SE", "48-AL1/8-ST1A 0.4")
    for i in range(1, n):
        a, b = int(rng.integers(0, i)), i
        if rng.random() < 0.5:
            a, b = b, a  # either direction
        pp.create_line(net, lv[a], lv[b], float(rng.uniform(0.01, 0.15)), str(rng.choice(types)))
    return net
