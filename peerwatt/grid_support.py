"""Inverters that support the grid, solved together with the power flow: what they draw and generate in the end.

Each inverter follows its own voltage: reactive power by its curve, and PV less active power where the voltage is high.
Both change the voltage; `grid.support_flow` finds the powers that fit. Active power is energy that is metered, so what
is curtailed becomes whole Wh (rounded up), and reactive power is then solved once more. Of a battery only reactive
power follows the voltage, within what its active power leaves of the apparent power.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import GridError
from grid.support_flow import Answer, Sensitivity, solve_support
from peerwatt.messages import Flows, GridSupport, Window
from peerwatt.results.record import CURTAILMENT_REASONS

if TYPE_CHECKING:
    from controllers.inverter import InverterColumns, SteadyState
    from grid.three_phase import ThreePhaseFlow
    from peerwatt.system import System, Wires

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Rows = NDArray[np.intp]

FREQUENCY_HZ = 50.0
"""Of the grid. Frequency functions are off in scenarios: a slot's mean frequency is nominal."""

PROBE_KW = 1.0
"""Power by which sensitivities are found [kW, kvar]."""

NOISE_WH = 1e-3
"""Curtailment below this is rounding of the solution, not energy."""

THREE_PHASE = 3

EXPORT_LIMIT, VOLTAGE, RATING = range(3)
"""Places in `peerwatt.results.record.CURTAILMENT_REASONS`."""


@dataclass(frozen=True, slots=True)
class InverterSetup:
    """K inverters with grid functions, and what each stands for."""

    columns: InverterColumns
    building: Int  # (K,)
    bus: Int  # (K,) column in the network's bus arrays
    pv: Int  # (K,) row among the PV assets, -1 for a battery
    battery: Int  # (K,) row among the batteries, -1 for PV
    positive: Bool  # (K,) looks at the positive sequence of its three phases


@dataclass(frozen=True, slots=True)
class _Grid:
    """The network of a window with everything at its buses but what inverters decide."""

    wires: Wires
    setup: InverterSetup
    first_slot: int
    p_kw: Float  # (S, N) or (S, N, 3), with the inverters at ``start_kw``
    q_kvar: Float
    start_kw: Float  # (S, K)

    def seen(self, rows: Rows, p_kw: Float, q_kvar: Float) -> Float:
        """Voltages that the inverters see (n, K, P) when they draw ``p_kw`` and ``q_kvar`` (n, K)."""
        p, q = self.p_kw[rows], self.q_kvar[rows]
        add_to_buses(self.setup, p, p_kw - self.start_kw[rows])
        add_to_buses(self.setup, q, q_kvar)
        from grid.three_phase import ThreePhaseFlow

        wires = self.wires
        try:
            flow = wires.network.power_flow(p, q, engine=wires.engine, threads=wires.threads)
        except GridError as error:
            slot = None if error.slot is None else self.first_slot + int(rows[error.slot])
            raise GridError(error.message, slot=slot, element=error.element, remedy=error.remedy) from error
        at_bus = flow.v_pu[:, self.setup.bus]
        if at_bus.ndim == 2:
            return np.ascontiguousarray(at_bus)[:, :, np.newaxis]
        own = self.setup.columns.connection
        for k in np.flatnonzero(own < THREE_PHASE).tolist():
            at_bus[:, k, :] = at_bus[:, k, own[k], np.newaxis]
        if self.setup.positive.any() and isinstance(flow, ThreePhaseFlow):
            at_bus[:, self.setup.positive] = _positive(flow, self.setup.bus[self.setup.positive])[:, :, np.newaxis]
        return at_bus


@dataclass(frozen=True, slots=True)
class _Inverters:
    """What the inverters answer in a window; with ``held_kw`` active power is given, only reactive power follows.

    ``in_service`` is the share of each slot in which an inverter answers; powers are means over the slot.
    """

    setup: InverterSetup
    available_kw: Float  # (S, K)
    in_service: Float | None  # (S, K), None: always
    held_kw: Float | None = None  # (S, K)

    def respond(self, rows: Rows, v_pu: Float) -> tuple[Float, Float]:
        """Active and reactive power (n, K) at voltages (n, K, P), load-signed; a battery's active power counts as 0."""
        state, share = self.state(rows, v_pu)
        p, q = (state.p_kw, state.q_kvar) if share is None else (state.p_kw * share, state.q_kvar * share)
        if self.held_kw is not None:
            return self.held_kw[rows], q
        return np.where(self.setup.pv >= 0, p, 0.0), q

    def state(self, rows: Rows, v_pu: Float) -> tuple[SteadyState, Float | None]:
        """What they do while they are in service, and for which share of the slot."""
        from controllers.inverter import steady_state

        v = v_pu[:, :, 0] if v_pu.shape[2] == 1 else v_pu
        available = self.available_kw[rows]
        if self.in_service is None:
            return steady_state(self.setup.columns, v, FREQUENCY_HZ, available), None
        share = self.in_service[rows]
        on = share > 0.0
        meanwhile = np.divide(available, share, out=np.zeros_like(available), where=on)
        return steady_state(self.setup.columns, v, FREQUENCY_HZ, meanwhile, in_service=on), share


def support_grid(system: System, flows: Flows, window: Window, in_service: Float | None = None) -> Flows:
    """What flows once every inverter answers its voltage; the flows as they are where no inverter has functions.

    ``in_service`` (S, K) is the share of each slot in which an inverter has supply and follows its functions; None:
    all of it. Slots that do not converge keep their last answer and are marked in ``Flows.support``.

    Raises
    ------
    GridError
        If a power flow has no solution.
    """
    setup, wires = system.inverters, system.wires
    if setup is None or wires is None:
        return flows
    available = available_kw(system, setup, flows, window)
    start = np.where(setup.pv >= 0, -available, 0.0)
    p_kw, q_kvar = powers_at_buses(system, wires, flows, window)
    grid = _Grid(wires, setup, window.first, p_kw, q_kvar, start)
    sensitivity = sensitivities(setup, wires, phases=p_kw.ndim == 3)
    inverters = _Inverters(setup, available, in_service)
    answer = solve_support(grid.seen, inverters.respond, sensitivity, start, np.zeros_like(start))
    curtailed_wh = _curtailed_wh(system, inverters, flows, answer)
    total_wh = curtailed_wh.sum(axis=2)
    cut = np.flatnonzero(total_wh.any(axis=1))
    if len(cut):
        answer = _in_whole_wh(system, grid, sensitivity, answer, inverters, flows, total_wh, cut)
    curtailed_wh[:, :, EXPORT_LIMIT] = flows.curtailed_wh
    support = GridSupport(
        q_kvar=answer.q_kvar,
        curtailed_wh=curtailed_wh,
        rounds=answer.rounds,
        converged=answer.converged,
        v_before_pu=_reach(answer.v_first),
        v_after_pu=_reach(answer.v_pu),
    )
    return replace(flows, pv_wh=flows.pv_wh - total_wh, curtailed_wh=flows.curtailed_wh + total_wh, support=support)


def with_inverters(system: System, flows: Flows, q_kvar: Float) -> Float:
    """Reactive power at the buses, (S, N) or (S, N, 3), with that of the inverters; changed in place."""
    if flows.support is not None and system.inverters is not None:
        add_to_buses(system.inverters, q_kvar, flows.support.q_kvar)
    return q_kvar


def support_columns(system: System, flows: Flows) -> dict[str, Any]:
    """The fields of a `WindowRecord` that tell of inverters; nothing where none has functions."""
    support, setup = flows.support, system.inverters
    if support is None or setup is None:
        return {}
    told = np.unique(setup.building)
    slots = np.column_stack([support.rounds, support.converged, support.v_before_pu, support.v_after_pu])
    return {
        "inverter_q_kvar": q_by_building(setup, support, system.n_buildings)[:, told],
        "curtailed_for_wh": support.curtailed_wh[:, told],
        "support": slots.astype(np.float64),
    }


def q_by_building(setup: InverterSetup, support: GridSupport, n_buildings: int) -> Float:
    """Reactive power of the inverters of each building (S, B) [kvar], + absorbs."""
    total = np.zeros((len(support.q_kvar), n_buildings))
    for k, building in enumerate(setup.building.tolist()):
        total[:, building] += support.q_kvar[:, k]
    return total


def add_to_buses(setup: InverterSetup, at_buses: Float, of_inverters: Float) -> None:
    """Add power of the inverters (n, K) to that of the buses, (n, N) or (n, N, 3), in place."""
    for k, (bus, phase) in enumerate(zip(setup.bus.tolist(), setup.columns.connection.tolist(), strict=True)):
        if at_buses.ndim == 2:
            at_buses[:, bus] += of_inverters[:, k]
        elif phase < THREE_PHASE:
            at_buses[:, bus, phase] += of_inverters[:, k]
        else:
            at_buses[:, bus] += of_inverters[:, k, np.newaxis] / 3.0


def sensitivities(setup: InverterSetup, wires: Wires, *, phases: bool) -> Sensitivity:
    """Linear picture of the network between inverters, around no load; found once per network and kept there."""
    key = f"support {phases} {setup.bus.tolist()} {setup.columns.connection.tolist()}"
    found: Sensitivity | None = wires.network.memo.get(key)
    if found is None:
        k = len(setup.bus)
        shape = (2 * k + 1, wires.network.n_buses, *((3,) if phases else ()))
        still = np.zeros((2 * k + 1, k))
        probe = np.zeros((2, 2 * k + 1, k))
        probe[0, np.arange(k), np.arange(k)] = PROBE_KW
        probe[1, k + np.arange(k), np.arange(k)] = PROBE_KW
        grid = _Grid(wires, setup, 0, np.zeros(shape), np.zeros(shape), still)
        square = np.square(grid.seen(np.arange(2 * k + 1, dtype=np.intp), probe[0], probe[1]).mean(axis=2))
        change = (square[:-1] - square[-1]) / PROBE_KW
        found = wires.network.memo[key] = Sensitivity(change[:k].copy(), change[k:].copy())
    return found


def powers_at_buses(system: System, wires: Wires, flows: Flows, window: Window) -> tuple[Float, Float]:
    """Active and reactive power at the buses without what inverters decide, as `peerwatt.wires` has them."""
    from peerwatt.wires import building_power, bus_power

    net_wh, q_kvar = building_power(system, wires, flows, window)
    return bus_power(wires, net_wh) / (1000.0 * system.grid.hours), bus_power(wires, q_kvar)


def available_kw(system: System, setup: InverterSetup, flows: Flows, window: Window) -> Float:
    """What each inverter has to carry (S, K) [kW] >= 0: generation of its PV, or its battery's power either way."""
    out = np.zeros((window.n, len(setup.pv)))
    shares = pv_shares(system, setup, window)
    batteries = _battery_wh(system, flows)
    for k, building in enumerate(setup.building.tolist()):
        if setup.pv[k] >= 0:
            out[:, k] = flows.pv_wh[:, building] * shares[:, k]
        else:
            out[:, k] = np.abs(batteries[:, setup.battery[k]])
    return out / (1000.0 * system.grid.hours)


def pv_shares(system: System, setup: InverterSetup, window: Window) -> Float:
    """Share of each PV asset in its building's generation (S, K), as their profiles have it; 0 for batteries."""
    assets = system.demand.pv
    shares = np.zeros((window.n, len(setup.pv)))
    values: Float | None = None
    for k in np.flatnonzero(setup.pv >= 0).tolist():
        beside = np.flatnonzero(assets.building == setup.building[k])
        if len(beside) == 1:
            shares[:, k] = 1.0
            continue
        values = system.profiles.window(window.first, window.n) if values is None else values
        each = values[:, assets.profile[beside]] * assets.scale[beside]
        total = np.zeros(window.n)
        for column in range(len(beside)):  # in order: a sum must not depend on how many slots there are
            total += each[:, column]
        own = each[:, int(np.flatnonzero(beside == setup.pv[k])[0])]
        shares[:, k] = np.divide(own, total, out=np.full(window.n, 1.0 / len(beside)), where=total > 0)
    return shares


def _battery_wh(system: System, flows: Flows) -> Float:
    """Net energy of each battery (S, K) [Wh]; where only the building's is known, split by discharging power."""
    if flows.battery_wh is not None:
        return flows.battery_wh.astype(np.float64)
    columns = system.storage.columns
    power = columns.discharge_max_wh.astype(np.float64)
    total = np.bincount(columns.building, weights=power, minlength=system.n_buildings)
    net = (flows.charge_wh - flows.discharge_wh)[:, columns.building].astype(np.float64)
    here = total[columns.building]
    return net * np.divide(power, here, out=np.zeros_like(power), where=here > 0)


def _curtailed_wh(system: System, inverters: _Inverters, flows: Flows, answer: Answer) -> Int:
    """Whole Wh curtailed by inverters, by building and reason (S, B, reasons), rounded up."""
    from controllers.inverter import Binding

    setup, available = inverters.setup, inverters.available_kw
    lost_wh = np.where(setup.pv >= 0, available + answer.p_kw, 0.0) * (1000.0 * system.grid.hours)
    if not (lost_wh > NOISE_WH).any():
        return np.zeros((len(available), system.n_buildings, len(CURTAILMENT_REASONS)), np.int64)
    binding = inverters.state(np.arange(len(available), dtype=np.intp), answer.v_pu)[0].binding
    exact = np.zeros((2, len(available), system.n_buildings))
    for k, building in enumerate(setup.building.tolist()):
        high = binding[:, k] == Binding.VOLT_WATT
        exact[0, :, building] += np.where(high, lost_wh[:, k], 0.0)
        exact[1, :, building] += np.where(high, 0.0, lost_wh[:, k])
    total = np.minimum(np.ceil(exact[0] + exact[1] - NOISE_WH), flows.pv_wh)
    by_voltage = np.minimum(np.ceil(exact[0] - NOISE_WH), total)
    out = np.zeros((len(available), system.n_buildings, len(CURTAILMENT_REASONS)), np.int64)
    out[:, :, VOLTAGE] = np.maximum(by_voltage, 0.0).astype(np.int64)
    out[:, :, RATING] = np.maximum(total, 0.0).astype(np.int64) - out[:, :, VOLTAGE]
    return out


def _in_whole_wh(
    system: System, grid: _Grid, sensitivity: Sensitivity, answer: Answer, inverters: _Inverters, flows: Flows,
    total_wh: Int, cut: Rows,
) -> Answer:  # fmt: skip
    """The answer with generation in whole Wh: reactive power once more in the slots ``cut`` where PV was curtailed."""
    setup, available = grid.setup, inverters.available_kw
    held = answer.p_kw.copy()
    left_kw = (flows.pv_wh - total_wh) / (1000.0 * system.grid.hours)
    for building in np.unique(setup.building[setup.pv >= 0]).tolist():
        own = np.flatnonzero((setup.building == building) & (setup.pv >= 0))
        made = np.zeros(len(held))
        covered = np.zeros(len(held))
        for k in own.tolist():
            made -= answer.p_kw[:, k]
            covered += available[:, k]
        # what the building's other PV, without functions, generates stays as it is
        rest = flows.pv_wh[:, building] / (1000.0 * system.grid.hours) - covered
        factor = np.divide(left_kw[:, building] - rest, made, out=np.ones_like(made), where=made > 0)
        phases = grid.wires.phases
        for k in own.tolist():
            whole = answer.p_kw[:, k] * factor
            if phases is not None and building in phases.pv.mixed:  # the wires spread it as the profiles are
                whole = -available[:, k] * left_kw[:, building] / np.maximum(rest + covered, 1e-9)
            held[:, k] = np.where(total_wh[:, building] > 0, whole, answer.p_kw[:, k])
    carried = np.where(setup.pv >= 0, -held, available)
    with_less = replace(inverters, available_kw=np.maximum(carried, 0.0), held_kw=held)
    again = solve_support(
        lambda rows, p, q: grid.seen(cut[rows], p, q),
        lambda rows, v: with_less.respond(cut[rows], v),
        sensitivity,
        held[cut],
        answer.q_kvar[cut],
    )
    q, v, rounds = answer.q_kvar.copy(), answer.v_pu.copy(), answer.rounds.copy()
    converged = answer.converged.copy()
    q[cut], v[cut] = again.q_kvar, again.v_pu
    rounds[cut] += 1 + again.rounds
    converged[cut] &= again.converged
    return Answer(held, q, answer.v_first, v, rounds, converged)


def _positive(flow: ThreePhaseFlow, bus: Int) -> Float:
    """Magnitude of the positive sequence at buses (n, K): (Va + a Vb + a^2 Vc) / 3."""
    v = flow.v_pu[:, bus] * np.exp(1j * flow.v_angle_rad[:, bus])
    turn = np.exp(2j * np.pi / 3.0)
    return np.asarray(np.abs(v[..., 0] + turn * v[..., 1] + turn * turn * v[..., 2]) / 3.0)


def _reach(v_pu: Float) -> Float:
    """Lowest and highest voltage at inverters (S, 2)."""
    return np.stack([v_pu.min(axis=(1, 2)), v_pu.max(axis=(1, 2))], axis=1)
