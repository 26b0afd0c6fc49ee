"""Unbalanced AC power flow of many slots at once by power-grid-model, and what a solve returns.

The network is that of `grid.three_phase_model`, with the zero-sequence data of `grid.three_phase_zero`.
Powers are those of single-phase connections between phase and neutral, constant whatever the voltage. Each slot starts
flat; slots that the iterative current method cannot solve are tried once more with Newton-Raphson, as in the balanced
power flow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core import GridError
from grid.power_flow import DOUBTFUL_PU, MAX_ITERATIONS, MAX_NEWTON_ITERATIONS, TOLERANCE_PU, PowerFlow
from grid.three_phase_model import BASE_V, ThreePhaseModel, three_phase_model

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

PHASES = ("a", "b", "c")
"""The last axis of powers and voltages."""

CHUNK_SLOTS = 4096
"""Slots per batch: the outputs of a year at once would need several hundred megabytes."""

OUTPUTS: dict[str, list[str]] = {
    "node": ["u_pu", "u_angle"],
    "line": ["p_from", "q_from", "i_from", "i_to"],
    "transformer": ["p_from", "q_from", "p_to", "q_to", "i_from", "i_to"],
    "source": ["p", "q"],
}
"""What is asked of power-grid-model, per phase."""


@dataclass(frozen=True, eq=False)
class ThreePhaseFlow(PowerFlow):
    """Result of an unbalanced power flow. Totals as in `PowerFlow`; what differs, and what comes on top:

    Attributes
    ----------
    v_pu
        Voltage from phase to neutral over its nominal value [p.u.], ``(n_slots, n_buses, 3)``; NaN if out of service.
    branch_loading
        Highest current of its ends and phases over rated current, ``(n_slots, n_branches)``.
    branch_p_kw
        Active power of the three phases together, ``(n_slots, n_branches)``.
    branch_phase_loading
        Loading of each phase: current of the more loaded end over rated current, ``(n_slots, n_branches, 3)``.
    neutral_loading
        Current in the neutral, ``|Ia + Ib + Ic|``, over the rated current of a phase, ``(n_slots, n_branches)``: of
        lines at their from side, of transformers through the star point of the more loaded side. Above that of the
        phases where feed-in on one phase meets a load on another: their currents do not cancel but add.
    v_angle_rad
        Angle of that voltage [rad], against phase a of the upstream grid, ``(n_slots, n_buses, 3)``.
    slack_phase_p_kw, slack_phase_q_kvar
        Power drawn from the upstream grid in each phase [kW, kvar], ``(n_slots, 3)``.
    """

    branch_phase_loading: Floats
    neutral_loading: Floats
    v_angle_rad: Floats
    slack_phase_p_kw: Floats
    slack_phase_q_kvar: Floats

    @cached_property
    def unbalance(self) -> Floats:
        """Voltage unbalance factor as a share (0.02 = 2 %), ``(n_slots, n_buses)``; see `unbalance_factor`."""
        return unbalance_factor(self.v_pu, self.v_angle_rad)


def unbalance_factor(v_pu: Floats, angle_rad: Floats) -> Floats:
    """Voltage unbalance factor: negative- over positive-sequence voltage, as a share.

    ``u2 = |V2| / |V1|``, ``V1 = (Va + a Vb + a^2 Vc) / 3``, ``V2 = (Va + a^2 Vb + a Vc) / 3``, ``a = exp(j 120 deg)``:
    IEC 61000-4-30:2015, 5.7; the quantity that EN 50160 limits to 2 % for 95 % of the ten-minute values of a week.
    The components are those of C. L. Fortescue, Trans. AIEE 37, 1918, 10.1109/T-AIEE.1918.4765570.

    Parameters
    ----------
    v_pu, angle_rad
        Magnitude and angle of the phase voltages, last axis three.
    """
    turn = np.exp(2j * np.pi / 3)
    v = v_pu * np.exp(1j * angle_rad)
    b, c = turn * v[..., 1], turn * v[..., 2]
    positive = np.abs(v[..., 0] + b + turn * c)
    negative = np.abs(v[..., 0] + turn * b + c)
    return np.asarray(negative / positive, dtype=np.float64)


def three_phase_flow(
    network: Network, p_kw: ArrayLike, q_kvar: ArrayLike | None = None, *, threads: int = 1, first_slot: int = 0
) -> ThreePhaseFlow:
    """Solve the unbalanced AC power flow of every slot.

    Parameters
    ----------
    p_kw, q_kvar
        Power drawn at each bus between each phase and neutral [kW, kvar], ``(n_slots, n_buses, 3)``, load convention;
        ``q_kvar`` defaults to zero.
    threads
        Threads of the batch engine; the results do not depend on it.
    first_slot
        Number of the first row, for messages.

    Raises
    ------
    GridError
        NaN input (slot, bus and phase), wrong shapes, no convergence (slot and element), or a network that cannot be
        solved unbalanced.
    """
    p = checked_phases(network, p_kw, "p_kw", first_slot)
    q = np.zeros_like(p) if q_kvar is None else checked_phases(network, q_kvar, "q_kvar", first_slot)
    if q.shape != p.shape:
        raise GridError(f"p_kw has shape {p.shape}, q_kvar {q.shape}", remedy="give both the same shape")
    model = three_phase_model(network)
    parts = [
        _solve(
            network, model, p[start : start + CHUNK_SLOTS], q[start : start + CHUNK_SLOTS], threads, first_slot + start
        )
        for start in range(0, len(p), CHUNK_SLOTS)
    ]
    if not parts:
        return _empty(network)
    return parts[0] if len(parts) == 1 else _joined(parts)


def checked_phases(network: Network, values: ArrayLike, what: str, first_slot: int) -> Floats:
    """Power as a finite float array ``(n_slots, n_buses, 3)``, zero at buses out of service.

    Raises
    ------
    GridError
        With slot, bus and phase of what is no number, or stands at a bus without supply.
    """
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"of type {given.dtype}")
        array = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise GridError(f"{what} is no array of numbers ({error})", remedy="give real numbers [kW, kvar]") from error
    if array.ndim != 3 or array.shape[1:] != (network.n_buses, 3):
        raise GridError(
            f"{what} has shape {array.shape}, expected (n_slots, {network.n_buses}, 3)",
            remedy="give one column per bus, in the order of bus_ids, and the phases a, b, c last",
        )
    if not np.isfinite(array.sum()):
        for slot, bus, phase in np.argwhere(~np.isfinite(array)):
            raise GridError(
                f"{what} is {array[slot, bus, phase]} in phase {PHASES[phase]}",
                slot=first_slot + int(slot),
                element=network.bus_label(int(bus)),
                remedy="give a number for every slot, bus and phase; a missing measurement must be filled beforehand",
            )
    dead = np.flatnonzero(network.model.bus_node < 0)
    if len(dead) and array[:, dead].any():
        slot, k, phase = (int(i) for i in np.argwhere(array[:, dead])[0])
        raise GridError(
            f"{what} is {array[slot, dead[k], phase]:g} in phase {PHASES[phase]} at a bus that is out of service or "
            "that nothing supplies",
            slot=first_slot + slot,
            element=network.bus_label(int(dead[k])),
            remedy="connect the building to another bus, or put this one into service in the network file",
        )
    return array


def _solve(
    network: Network, model: ThreePhaseModel, p_kw: Floats, q_kvar: Floats, threads: int, first_slot: int
) -> ThreePhaseFlow:
    """Solve one batch; Newton-Raphson for slots that fail or end at a doubtful voltage."""
    update = model.update(p_kw, q_kvar)
    raw, failed = _calculate(model.pgm, update, threads, newton=False)
    u_pu = raw["node"]["u_pu"]
    doubtful = (u_pu.min(axis=(1, 2)) < DOUBTFUL_PU[0]) | (u_pu.max(axis=(1, 2)) > DOUBTFUL_PU[1])
    doubtful[failed] = True
    slots = np.flatnonzero(doubtful)
    if len(slots):
        subset = {"asym_load": {name: values[slots] for name, values in update["asym_load"].items()}}
        again, lost = _calculate(model.pgm, subset, threads, newton=True)
        hopeless = np.intersect1d(slots[lost], failed)
        if len(hopeless):
            raise not_converged_phases(network, p_kw[hopeless[0]], first_slot + int(hopeless[0]))
        found = np.setdiff1d(np.arange(len(slots)), lost)
        for kind, columns in again.items():
            for name, values in columns.items():
                raw[kind][name][slots[found]] = values[found]
    return _result(network, model, raw, p_kw)


def _calculate(
    pgm: Any, update: dict[str, dict[str, Floats]], threads: int, *, newton: bool
) -> tuple[dict[str, dict[str, Floats]], NDArray[np.intp]]:
    """One asymmetric batch; returns the columns of `OUTPUTS` and the rows that did not converge."""
    raw = pgm.calculate_power_flow(
        symmetric=False,
        calculation_method="newton_raphson" if newton else "iterative_current",
        error_tolerance=TOLERANCE_PU,
        max_iterations=MAX_NEWTON_ITERATIONS if newton else MAX_ITERATIONS,
        update_data=update,
        threading=-1 if threads == 1 else threads,
        output_component_types=OUTPUTS,
        continue_on_batch_error=True,
    )
    error = pgm.batch_error
    failed = np.zeros(0, np.intp) if error is None else np.asarray(error.failed_scenarios, dtype=np.intp)
    return {str(kind.value): columns for kind, columns in raw.items()}, np.sort(failed)


def not_converged_phases(network: Network, p_kw: Floats, slot: int) -> GridError:
    """Build the error for a slot without a solution, which names the bus and phase with the largest power."""
    bus, phase = (int(i) for i in np.unravel_index(int(np.argmax(np.abs(p_kw))), p_kw.shape))
    return GridError(
        f"the unbalanced power flow does not converge: {float(p_kw.sum()):.6g} kW in all, the largest is "
        f"{p_kw[bus, phase]:.6g} kW here in phase {PHASES[phase]}",
        slot=slot,
        element=network.bus_label(bus),
        remedy="check unit, sign and phase of the profiles (kW, load positive); beyond its limit there is no solution",
    )


def _result(
    network: Network, model: ThreePhaseModel, raw: dict[str, dict[str, Floats]], p_kw: Floats
) -> ThreePhaseFlow:
    """Voltages, loadings and balances from the columns of power-grid-model (A on the common base, W)."""
    rows = network.model.bus_node
    v_pu, angle = (np.take(raw["node"][name], np.maximum(rows, 0), axis=1) for name in ("u_pu", "u_angle"))
    v_pu[:, rows < 0] = angle[:, rows < 0] = np.nan
    by_phase, neutral, branch_p_kw = _branch_results(network, model, raw, len(p_kw))
    slack_p, slack_q = (raw["source"][name].sum(axis=1) * 1e-3 for name in ("p", "q"))
    slack_p_kw = slack_p.sum(axis=1)
    return ThreePhaseFlow(
        v_pu=v_pu,
        branch_loading=_over_phases(np.maximum, by_phase),
        branch_p_kw=branch_p_kw,
        branch_phase_loading=by_phase,
        neutral_loading=neutral,
        losses_kw=slack_p_kw - p_kw.sum(axis=(1, 2)),
        slack_p_kw=slack_p_kw,
        slack_q_kvar=slack_q.sum(axis=1),
        n_lines=network.branches.n_lines,
        v_angle_rad=angle,
        slack_phase_p_kw=slack_p,
        slack_phase_q_kvar=slack_q,
    )


def _branch_results(
    network: Network, model: ThreePhaseModel, raw: dict[str, dict[str, Floats]], n_slots: int
) -> tuple[Floats, Floats, Floats]:
    """Loading of each phase at its higher end, loading of the neutral, power of all phases at the from side [kW]."""
    branches, node = network.branches, network.model
    size = (n_slots, len(branches))
    loading, neutral, p_kw = np.zeros((*size, 3)), np.zeros(size), np.zeros(size)
    per_volt = np.exp(-1j * raw["node"]["u_angle"]) / raw["node"]["u_pu"]
    for kind, columns in (("line", model.line_rows), ("transformer", model.trafo_rows)):
        entry = np.flatnonzero(node.branch_hv >= 0)
        entry = entry[columns[node.branch_hv[entry]] >= 0]
        if not len(entry):
            continue
        row = node.branch_hv[entry]
        column, flows = columns[row], raw[kind]
        for end, at, rated in (
            ("from", node.from_node, branches.rated_from_a),
            ("to", node.to_node, branches.rated_to_a),
        ):
            share = BASE_V / (1e3 * node.node_kv[at[row]]) / rated[entry]  # of the rated current, per ampere
            current = np.take(flows[f"i_{end}"], column, axis=1) * share[:, np.newaxis]
            loading[:, entry] = np.maximum(loading[:, entry], current)
            if f"q_{end}" in flows:
                power = np.empty((n_slots, len(entry), 3), np.complex128)
                power.real, power.imag = (np.take(flows[f"{x}_{end}"], column, axis=1) for x in "pq")
                power *= np.take(per_volt, at[row], axis=1)
                back = np.abs(_over_phases(np.add, power)) * (share * np.sqrt(3.0) / BASE_V)
                neutral[:, entry] = np.maximum(neutral[:, entry], back)
        p_kw[:, entry] = _over_phases(np.add, np.take(flows["p_from"], column, axis=1)) * 1e-3
    return loading, neutral, p_kw


def _over_phases(combine: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Combine the last axis of three; NumPy's own reduction of so short an axis takes several times as long."""
    found: NDArray[Any] = combine(combine(values[..., 0], values[..., 1]), values[..., 2])
    return found


def _joined(parts: list[ThreePhaseFlow]) -> ThreePhaseFlow:
    """Results of consecutive batches as one."""
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(ThreePhaseFlow)
        if field.name != "n_lines"
    }
    return ThreePhaseFlow(n_lines=parts[0].n_lines, **columns)


def _empty(network: Network) -> ThreePhaseFlow:
    """Build the result of no slots."""
    n, r = network.n_buses, len(network.branches)
    shapes = {
        "v_pu": (n, 3), "v_angle_rad": (n, 3), "branch_loading": (r,), "branch_p_kw": (r,), "neutral_loading": (r,),
        "branch_phase_loading": (r, 3), "losses_kw": (), "slack_p_kw": (), "slack_q_kvar": (), "slack_phase_p_kw": (3,),
        "slack_phase_q_kvar": (3,),
    }  # fmt: skip
    columns: dict[str, Any] = {name: np.zeros((0, *shape)) for name, shape in shapes.items()}
    return ThreePhaseFlow(n_lines=network.branches.n_lines, **columns)
