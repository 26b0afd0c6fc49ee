"""A network as frozen columns: buses, branches, the file's own elements, and the model the solvers use.

Nothing here imports pandapower or power-grid-model; they are loaded when a network is compiled or solved.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core import GridError

if TYPE_CHECKING:
    from grid.power_flow import PowerFlow

Floats = NDArray[np.float64]
Columns = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Branches:
    """What carries a loading: lines first, then transformers, each in the order of the file. Shapes ``(n_branches,)``.

    Attributes
    ----------
    ids
        ``line-4``, ``transformer-0``, ``transformer3w-0``: kind and index in the file.
    names, kinds
        Name in the file; ``line``, ``transformer`` or ``transformer3w``.
    from_bus, to_bus
        Bus columns. Transformers run from their high-voltage to their low-voltage side.
    rated_from_a, rated_to_a
        Rated current at either end [A], all parallel systems together, derating included.
    rated_kva
        The same as apparent power at nominal voltage [kVA].
    length_km
        [km]; NaN for transformers.
    in_service
        Whether it carries current at all.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    from_bus: Columns
    to_bus: Columns
    rated_from_a: Floats
    rated_to_a: Floats
    rated_kva: Floats
    length_km: Floats
    in_service: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_lines(self) -> int:
        """Number of lines; they come first."""
        return self.kinds.count("line")


@dataclass(frozen=True, eq=False)
class Elements:
    """Loads, generators or storages of the network file, as columns ``(n,)``.

    Left out are those out of service and those at buses out of service or without supply.

    Attributes
    ----------
    ids, names
        Index and name in the file.
    bus
        Bus column.
    p_kw, q_kvar
        Nominal power, scaling included, load convention: a generator of 5 kW has ``p_kw = -5``.
    sn_kva
        Rated apparent power [kVA]; NaN where the file has none.
    profile, kind
        Name of the profile and type in the file; empty where the file has none.
    max_e_kwh, min_e_kwh
        Energy limits of storages [kWh]; NaN for the others.
    efficiency
        Efficiency of storages, 0..1; NaN where the file has none.
    self_discharge_per_day
        Share lost per day, 0..1; NaN where the file has none.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    bus: Columns
    p_kw: Floats
    q_kvar: Floats
    sn_kva: Floats
    profile: tuple[str, ...]
    kind: tuple[str, ...]
    max_e_kwh: Floats
    min_e_kwh: Floats
    efficiency: Floats
    self_discharge_per_day: Floats

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class NodeModel:
    """The network as nodes and two-port branches, in MATPOWER's form (Zimmerman et al. 2011).

    Source: R. D. Zimmerman et al., MATPOWER, IEEE Trans. Power Systems 26(1), 2011, 10.1109/TPWRS.2010.2051168.

    Buses joined by closed switches are one node; open line ends and star points of three-winding transformers are nodes
    of their own. A branch is a series impedance with half its shunt admittance at each end, both on the voltage base of
    its to-node, behind an ideal transformer ``ratio * exp(j * shift_rad)`` at its from-node.

    Attributes
    ----------
    node_kv
        Nominal voltage of each node [kV].
    bus_node
        Node of each bus column; -1 where the bus is out of service.
    from_node, to_node, r_ohm, x_ohm, g_s, b_s, ratio, shift_rad
        The branches in service.
    shunt_node, shunt_g_s, shunt_b_s
        Shunt admittances [S]; ``b > 0`` is capacitive.
    source_node, source_u_pu, source_angle_rad
        Nodes held at a fixed voltage by the upstream grid.
    branch_hv, branch_lv
        For each entry of `Branches` the two-port that gives its from and its to side; -1 out of service.
    third_entry, third_branch, third_rated_a
        Middle-voltage sides of three-winding transformers: entry of `Branches`, two-port (its to side), rated [A].
    refusal
        Why the batch engine cannot solve this network; empty if it can.
    own_refusal
        Why it cannot solve the network with the file's own loads; empty if it can.
    """

    node_kv: Floats
    bus_node: Columns
    from_node: Columns
    to_node: Columns
    r_ohm: Floats
    x_ohm: Floats
    g_s: Floats
    b_s: Floats
    ratio: Floats
    shift_rad: Floats
    shunt_node: Columns
    shunt_g_s: Floats
    shunt_b_s: Floats
    source_node: Columns
    source_u_pu: Floats
    source_angle_rad: Floats
    branch_hv: Columns
    branch_lv: Columns
    third_entry: Columns
    third_branch: Columns
    third_rated_a: Floats
    refusal: str
    own_refusal: str


@dataclass(frozen=True, eq=False)
class Network:
    """An electricity network, compiled. Bus columns follow the index order of the file's bus table.

    Attributes
    ----------
    source
        What it was loaded from, as given (``simbench:...``, ``pandapower:FILE.json``, ...).
    name
        Name in the file, or the source.
    notices
        Attributions to repeat wherever the data are shown.
    remarks
        What the checks found worth knowing but not worth refusing.
    bus_ids, bus_names
        Index of each bus in the file as text, and its name (``bus 7`` where it has none).
    vn_kv
        Nominal voltage [kV], ``(n_buses,)``.
    x, y, has_geo
        Position; geographic as in the file if ``has_geo``, else a drawn tree.
    v_min_pu, v_max_pu
        The file's voltage limits [p.u.]; NaN where it has none.
    feeding_buses
        Bus columns at which the upstream grid feeds in.
    own_p_kw, own_q_kvar
        The file's own loads, generators and storages per bus, load convention, ``(n_buses,)``.
    """

    source: str
    name: str
    notices: tuple[str, ...]
    remarks: tuple[str, ...]
    bus_ids: tuple[str, ...]
    bus_names: tuple[str, ...]
    vn_kv: Floats
    x: Floats
    y: Floats
    has_geo: bool
    v_min_pu: Floats
    v_max_pu: Floats
    feeding_buses: Columns
    own_p_kw: Floats
    own_q_kvar: Floats
    branches: Branches
    loads: Elements
    sgens: Elements
    storages: Elements
    model: NodeModel
    memo: dict[str, Any] = field(default_factory=dict, repr=False)
    """Solver objects kept between calls, and the original network where it was handed over in memory."""

    def __post_init__(self) -> None:
        for part in (self, self.branches, self.loads, self.sgens, self.storages, self.model):
            for value in vars(part).values():
                if isinstance(value, np.ndarray):
                    value.flags.writeable = False

    @staticmethod
    def load(source: str | Path, *, folder: str | Path | None = None) -> Network:
        """Load a network by name.

        Parameters
        ----------
        source
            ``simbench:CODE``, ``cigre:lv``, ``cigre:mv``, ``kerber:NAME``, ``pandapower:FILE.json``, or a path that
            ends in ``.json``.
        folder
            Folder that relative files are looked up in; default: the working directory.

        Raises
        ------
        GridError
            If there is no such network, or it fails the checks of `grid.network_checks`.
        """
        from grid.sources import load_network

        return load_network(str(source), None if folder is None else Path(folder))

    @staticmethod
    def from_pandapower(net: Any, *, source: str = "pandapower net") -> Network:
        """Take over a pandapower network as it is now; later changes to ``net`` have no effect.

        Raises
        ------
        GridError
            If it is no pandapower network, or fails the checks of `grid.network_checks`.
        """
        from grid.compiled import compile_network

        return compile_network(net, source=source, keep_original=True)

    def to_pandapower(self) -> Any:
        """Return a fresh copy of the pandapower network this one was compiled from.

        Raises
        ------
        GridError
            If the file it came from was changed or removed since.
        """
        from grid.sources import pandapower_original

        return pandapower_original(self)

    @property
    def n_buses(self) -> int:
        """Number of bus columns."""
        return len(self.bus_ids)

    def bus_index(self, bus: str | int) -> int:
        """Column of a bus, by name or by its index in the file.

        ``id:7`` and ``name:7`` say which of the two is meant where both exist.

        Raises
        ------
        GridError
            If there is no such bus, or more than one.
        """
        key = str(bus)
        by_id, by_name = key, key
        if key.startswith("id:"):
            by_id, by_name = key.removeprefix("id:"), ""
        elif key.startswith("name:"):
            by_id, by_name = "", key.removeprefix("name:")
        found = {i for i, text in enumerate(self.bus_ids) if by_id and text == by_id}
        found |= {i for i, text in enumerate(self.bus_names) if by_name and text == by_name}
        if len(found) == 1:
            return found.pop()
        if found:
            listed = ", ".join(f"id:{self.bus_ids[i]} ({self.bus_names[i]})" for i in sorted(found)[:8])
            raise GridError(
                f"{len(found)} buses of {self.source} answer to {key!r}: {listed}",
                element=f"bus {key}",
                remedy="name the one you mean by its index, as id:INDEX",
            )
        near = difflib.get_close_matches(key, (*self.bus_names, *self.bus_ids), n=5, cutoff=0.5)
        listed = ", ".join(near or self.bus_names[:5])
        raise GridError(
            f"{self.source} has no bus {key!r}",
            element=f"bus {key}",
            remedy=f"{'near matches' if near else 'its buses are for instance'}: {listed}",
        )

    def power_flow(
        self,
        p_kw: ArrayLike | None = None,
        q_kvar: ArrayLike | None = None,
        *,
        engine: Literal["batch", "pandapower"] = "batch",
        threads: int = 1,
        first_slot: int = 0,
    ) -> PowerFlow:
        """Solve the AC power flow of every slot.

        Parameters
        ----------
        p_kw, q_kvar
            Power drawn at each bus [kW, kvar], ``(n_slots, n_buses)``, load convention; ``q_kvar`` defaults to zero.
            Nothing is added to it: the loads and generators of the network file are not in operation. Without
            ``p_kw`` one slot is solved with exactly those instead. With a last axis of three (phases),
            powers between phase and neutral: the result is a `grid.three_phase.ThreePhaseFlow`, voltages per phase.
        engine
            ``batch`` (power-grid-model) or ``pandapower`` (the reference, slot by slot, slow).
        threads
            Threads of the batch engine; the results do not depend on it.
        first_slot
            Number of the first row, for messages.

        Raises
        ------
        GridError
            NaN input (slot and bus), wrong shapes, no convergence (slot and element), or an engine that cannot solve
            what the network contains.
        """
        if engine not in ("batch", "pandapower"):
            raise GridError(f"there is no power-flow engine {engine!r}", remedy="choose batch or pandapower")
        if threads < 1:
            raise GridError(f"threads = {threads}", remedy="give a number of threads of at least 1")
        if p_kw is None and q_kvar is not None:
            raise GridError("q_kvar was given without p_kw", remedy="give both, or neither")
        if p_kw is not None and _as_floats(p_kw, "p_kw").ndim == 3:
            if engine == "pandapower":
                from grid.pandapower_three_phase import solve_pandapower_3ph

                return solve_pandapower_3ph(self, p_kw, q_kvar, first_slot=first_slot)
            from grid.three_phase import three_phase_flow

            return three_phase_flow(self, p_kw, q_kvar, threads=threads, first_slot=first_slot)
        own = p_kw is None
        p = self.own_p_kw[np.newaxis, :] if own else self._checked(p_kw, "p_kw", first_slot)
        if own:
            q = self.own_q_kvar[np.newaxis, :]
        else:
            q = np.zeros_like(p) if q_kvar is None else self._checked(q_kvar, "q_kvar", first_slot)
        if q.shape != p.shape:
            raise GridError(f"p_kw has shape {p.shape}, q_kvar {q.shape}", remedy="give both the same shape")
        if engine == "pandapower":
            from grid.pandapower_flow import solve_pandapower

            return solve_pandapower(self, p, q, own=own, first_slot=first_slot)
        from grid.power_flow import solve_batch

        return solve_batch(self, p, q, own=own, threads=threads, first_slot=first_slot)

    def _checked(self, values: ArrayLike | None, what: str, first_slot: int) -> Floats:
        """Power as a finite float array of shape ``(n_slots, n_buses)``, zero at buses out of service."""
        array = _as_floats(values, what)
        if array.ndim == 3 and array.shape[2] == 3:
            raise GridError(
                f"{what} has a phase axis, p_kw has none",
                remedy="give both the same shape: (n_slots, n_buses), or (n_slots, n_buses, 3) with phases",
            )
        if array.ndim != 2 or array.shape[1] != self.n_buses:
            raise GridError(
                f"{what} has shape {array.shape}, expected (n_slots, {self.n_buses})",
                remedy="give one column per bus, in the order of bus_ids",
            )
        if not np.isfinite(array.sum()):  # one cheap pass; the place is looked for only when something is wrong
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                slot, bus = (int(i) for i in bad[0])
                raise GridError(
                    f"{what} is {array[slot, bus]}",
                    slot=first_slot + slot,
                    element=self.bus_label(bus),
                    remedy="give a number for every slot and bus; a missing measurement must be filled beforehand",
                )
        dead = self.model.bus_node < 0
        if dead.any() and array[:, dead].any():
            slot, k = (int(i) for i in np.argwhere(array[:, dead])[0])
            bus = int(np.flatnonzero(dead)[k])
            raise GridError(
                f"{what} is {array[slot, bus]:g} at a bus that is out of service or that nothing supplies",
                slot=first_slot + slot,
                element=self.bus_label(bus),
                remedy="connect the building to another bus, or put this one into service in the network file",
            )
        return array

    def bus_label(self, bus: int) -> str:
        """How messages name the bus of a column."""
        name = self.bus_names[bus]
        plain = f"bus {self.bus_ids[bus]}"
        return plain if name == plain else f"{plain} ({name})"


def _as_floats(values: ArrayLike | None, what: str) -> Floats:
    """Real numbers as floats; refuses text, complex numbers, and rows of different length."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biufO":  # objects may be numbers, e.g. Decimal; anything else fails to convert
            return np.asarray(array, dtype=np.float64)
        found = f"of type {array.dtype}"
    except (ValueError, TypeError) as error:
        found = f"no array of numbers ({error})"
    raise GridError(f"{what} is {found}", remedy="give real numbers [kW, kvar], shape (n_slots, n_buses)")
