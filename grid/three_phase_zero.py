"""Zero-sequence data of a network: what its file says, and one default model for what it does not say.

Balanced data do not fix how a network carries the current that returns through the neutral. The default model:

* **Lines**: ``Z0 = 4 Z1`` and ``c0 = c1``. Three phases and a neutral of the same conductor at the same distances, with
  the whole return in the neutral: formula for four single-core cables, return by the neutral, of IEC TR 60909-2:2008,
  table 7, with the distance to the neutral equal to the mean distance of the phases. For R it is exact for every cable
  with a full neutral (NAYY 4x150), because ``R0 = R + 3 R_N``. Earth in parallel makes Z0 smaller, a reduced neutral
  larger.
* **Transformers**: Dyn, zero-sequence impedance equal to the short-circuit impedance, magnetising branch left out.
  The delta winding carries the zero-sequence current of the star side, and a short-circuit test of that path measures
  leakage and core together; what another choice costs is measured in docs/networks.md.
* **The upstream grid** is stiff in all three sequences, as it is in the balanced power flow.

`complete_zero_sequence` writes exactly this model into a pandapower network, so that ``pandapower.runpp_3ph`` solves
the same equations; the solver here reads its data from the same tables.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import GridError, canonical_json, file_sha256, sha256_hex

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

LINE_Z0_OVER_Z1 = 4.0
"""Zero- over positive-sequence series impedance of a line without data (IEC TR 60909-2:2008, table 7)."""

LINE_C0_OVER_C1 = 1.0
"""Zero- over positive-sequence capacitance of a line without data: its upper bound, that of screened cores."""

NO_MAGNETISING = 1e12
"""``mag0_percent`` that stands for a magnetising branch left out; anything from a hundredth of it on is read so."""

STIFF_MVA = 1e12
"""Short-circuit power of a pandapower external grid that stands for a stiff one."""

THROUGH = "ynyn"
"""The one group whose zero-sequence current passes from side to side."""

GROUPS = ("dyn", "dzn", "yzn", THROUGH)
"""Vector groups with a low-voltage star point that can carry a neutral current without the magnetising branch."""


@dataclass(frozen=True, eq=False)
class ZeroSequence:
    """Zero-sequence data of a network's lines and two-winding transformers.

    Attributes
    ----------
    line_r_ohm, line_x_ohm, line_b_s
        Series impedance [ohm] and whole susceptance [S] of each line, at the nominal voltage of its from bus.
    trafo_r_ohm, trafo_x_ohm
        Impedance of each transformer [ohm] at the nominal voltage of its low-voltage bus, seen from there with the
        delta closed and the magnetising branch included; in series for YNyn.
    trafo_b_s
        Magnetising susceptance of a YNyn transformer, half at each end [S]; zero for the others. Negative: inductive.
    trafo_g_s
        The same, conductance [S].
    trafo_through
        Whether the zero-sequence current passes through (YNyn) instead of ending in a delta or zigzag winding.
    assumed_lines, assumed_transformers
        How many have no impedance of their own in the file, so that the default model stands in.
    """

    line_r_ohm: Floats
    line_x_ohm: Floats
    line_b_s: Floats
    trafo_r_ohm: Floats
    trafo_x_ohm: Floats
    trafo_g_s: Floats
    trafo_b_s: Floats
    trafo_through: NDArray[np.bool_]
    assumed_lines: int
    assumed_transformers: int

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a report should say about assumed data; empty if the file had everything."""
        found = []
        if self.assumed_lines:
            found.append(
                f"{self.assumed_lines} lines have no zero-sequence impedance: taken as {LINE_Z0_OVER_Z1:g} times the "
                "positive-sequence one (full neutral, no return through earth; IEC TR 60909-2)"
            )
        if self.assumed_transformers:
            found.append(
                f"{self.assumed_transformers} transformers have no zero-sequence impedance: taken as the short-circuit "
                "impedance, without a magnetising branch"
            )
        return tuple(found)


def zero_sequence(network: Network) -> ZeroSequence:
    """Zero-sequence data of a network, read once from the pandapower network it came from.

    Those of a network with a name are kept beside the compiled network in the cache folder, so that pandapower need
    not be imported for them.

    Raises
    ------
    GridError
        If data of the file contradict themselves or cannot be expressed, with the element; or the file is gone.
    """
    found: ZeroSequence | None = network.memo.get("zero sequence")
    if found is None:
        path = _cache_path(network)
        found = _read(path) if path is not None else None
        if found is None:
            found = zero_columns(network.to_pandapower())
            if path is not None:
                _write(path, found)
        network.memo["zero sequence"] = found
    return found


def _cache_path(network: Network) -> Path | None:
    """File of the cache; None for a network that was handed over in memory."""
    from grid.sources import SOURCE, cache

    source = network.memo.get(SOURCE)
    if source is None:
        return None
    names: dict[str, Any] = {
        "source": source.label,
        "content": source.content,
        "code": file_sha256(Path(__file__)),
        "pandapower": version("pandapower"),
    }
    return cache.cache_folder() / "networks" / f"{sha256_hex(canonical_json(names))}.zero.npz"


def _read(path: Path) -> ZeroSequence | None:
    """Read what `_write` wrote; None if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns: dict[str, Any] = {name: archive[name] for name in archive.files}
        for name in ("assumed_lines", "assumed_transformers"):
            columns[name] = int(columns[name])
        return ZeroSequence(**columns)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, zero: ZeroSequence) -> None:
    """Keep the data; a folder that cannot be written costs time only."""
    from grid.sources.cache import write_atomically

    columns: dict[str, Any] = {field.name: getattr(zero, field.name) for field in fields(ZeroSequence)}
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **columns))


def complete_zero_sequence(net: Any) -> tuple[int, int]:
    """Fill the zero-sequence data a pandapower network lacks by the default model, in place.

    Afterwards ``pandapower.runpp_3ph(net)`` solves the same network as `grid.three_phase`. Short-circuit data of
    external grids are overwritten: the upstream grid is stiff.

    Returns
    -------
    How many lines and how many transformers had no zero-sequence impedance.

    Raises
    ------
    GridError
        If an element has one number of a pair without the other, or numbers that cannot be, with the element.
    """
    line, trafo = net.line, net.trafo
    n_lines = _fill_pair(
        line,
        "line",
        ("r0_ohm_per_km", "x0_ohm_per_km"),
        tuple(LINE_Z0_OVER_Z1 * _floats(line, name) for name in ("r_ohm_per_km", "x_ohm_per_km")),
    )
    line["c0_nf_per_km"] = _or(_floats(line, "c0_nf_per_km"), LINE_C0_OVER_C1 * _floats(line, "c_nf_per_km"))
    for name in ("r0_ohm_per_km", "c0_nf_per_km"):
        _refuse_where(line, "line", line[name].to_numpy() < 0, f"{name} is negative")
    none = np.hypot(line["r0_ohm_per_km"].to_numpy(), line["x0_ohm_per_km"].to_numpy()) == 0
    _refuse_where(line, "line", none, "r0_ohm_per_km and x0_ohm_per_km are both zero")
    # pandapower's own rule: a short-circuit voltage of zero stands for "not given"
    vk0 = _floats(trafo, "vk0_percent")
    trafo["vk0_percent"] = np.where(vk0 == 0, np.nan, vk0)
    trafo["vkr0_percent"] = np.where(vk0 == 0, np.nan, _floats(trafo, "vkr0_percent"))
    n_trafos = _fill_pair(
        trafo,
        "transformer",
        ("vk0_percent", "vkr0_percent"),
        (_floats(trafo, "vk_percent"), _floats(trafo, "vkr_percent")),
    )
    short = trafo["vkr0_percent"].to_numpy() > trafo["vk0_percent"].to_numpy()
    _refuse_where(trafo, "transformer", short, "vkr0_percent is above vk0_percent")
    for name, default in (("mag0_percent", NO_MAGNETISING), ("mag0_rx", 0.0), ("si0_hv_partial", 0.5)):
        trafo[name] = _or(_floats(trafo, name), default)
    _refuse_where(trafo, "transformer", trafo["mag0_percent"].to_numpy() <= 0, "mag0_percent is not positive")
    share = trafo["si0_hv_partial"].to_numpy()
    _refuse_where(trafo, "transformer", (share <= 0) | (share >= 1), "si0_hv_partial is not between 0 and 1")
    given = trafo["vector_group"] if "vector_group" in trafo.columns else [None] * len(trafo)
    trafo["vector_group"] = [re.sub(r"\d+$", "", text) if isinstance(text, str) and text else "Dyn" for text in given]
    for name, value in (("s_sc_max_mva", STIFF_MVA), ("rx_max", 0.1), ("x0x_max", 1.0), ("r0x0_max", 0.1)):
        net.ext_grid[name] = value
    return n_lines, n_trafos


def zero_columns(net: Any) -> ZeroSequence:
    """Zero-sequence data of a pandapower network, which is completed in place (`complete_zero_sequence`).

    Raises
    ------
    GridError
        As `complete_zero_sequence`, and where a vector group or neutral earthing cannot be expressed.
    """
    n_lines, n_trafos = complete_zero_sequence(net)
    line, trafo = net.line, net.trafo
    _refuse(net)
    km, parallel = _floats(line, "length_km"), _floats(line, "parallel")
    groups = [str(text).lower() for text in trafo["vector_group"]]
    through = np.array([group == THROUGH for group in groups], dtype=bool)
    z0, shunt = _transformers(net, through)
    return ZeroSequence(
        line_r_ohm=_floats(line, "r0_ohm_per_km") * km / parallel,
        line_x_ohm=_floats(line, "x0_ohm_per_km") * km / parallel,
        line_b_s=2 * np.pi * float(net.f_hz) * 1e-9 * _floats(line, "c0_nf_per_km") * km * parallel,
        trafo_r_ohm=z0.real.copy(),
        trafo_x_ohm=z0.imag.copy(),
        trafo_g_s=shunt.real.copy(),
        trafo_b_s=shunt.imag.copy(),
        trafo_through=through,
        assumed_lines=n_lines,
        assumed_transformers=n_trafos,
    )


def _transformers(net: Any, through: NDArray[np.bool_]) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Zero-sequence impedance [ohm] and, for YNyn, whole magnetising admittance [S], at the low-voltage bus.

    The T circuit of pandapower's manual: leakage ``z0``, the share ``si0_hv_partial`` of it on the high-voltage side,
    and the magnetising impedance ``mag0`` between; seen from the star side with the other one short-circuited.
    """
    from pandapower.build_branch import _calc_tap_from_dataframe

    trafo = net.trafo
    if not len(trafo):
        return np.zeros(0, np.complex128), np.zeros(0, np.complex128)
    net["_options"] = {"calculate_voltage_angles": True, "mode": "pf"}
    lv_kv = np.asarray(_calc_tap_from_dataframe(net, trafo)[1], dtype=np.float64)  # a tap may sit on this side
    base = lv_kv**2 / _floats(trafo, "sn_mva") / _floats(trafo, "parallel")
    z, r = _floats(trafo, "vk0_percent") / 100, _floats(trafo, "vkr0_percent") / 100
    leakage = (r + 1j * np.sqrt(z**2 - r**2)) * base
    rx = _floats(trafo, "mag0_rx")
    mag0 = _floats(trafo, "mag0_percent")
    magnetising = z * mag0 / 100 * (rx + 1j) / np.sqrt(rx**2 + 1) * base
    hv = _floats(trafo, "si0_hv_partial") * leakage
    lv = leakage - hv
    left_out = mag0 >= NO_MAGNETISING / 100
    ended = np.where(left_out, leakage, lv + hv * magnetising / (hv + magnetising))
    # YNyn: star to triangle; the two legs to earth are equal because the leakage is split evenly
    corners = hv * lv + (hv + lv) * magnetising
    series = np.where(left_out, leakage, corners / magnetising)
    legs = np.where(through & ~left_out, 2 * hv / corners, 0.0)
    return np.where(through, series, ended), legs


def _refuse(net: Any) -> None:
    """Refuse what has no zero-sequence model here."""
    trafo = net.trafo
    live = trafo["in_service"].to_numpy(dtype=bool)
    if len(net.trafo3w) and net.trafo3w["in_service"].any():
        raise GridError(
            "three-winding transformers have no zero-sequence model here",
            element=f"transformer3w {net.trafo3w.index[net.trafo3w['in_service'].to_numpy(dtype=bool)][0]}",
            remedy="solve this network balanced, or cut it off below the transformer",
        )
    groups = np.array([str(text).lower() for text in trafo["vector_group"]], dtype=object)
    for i in np.flatnonzero(live & ~np.isin(groups, GROUPS)):
        raise GridError(
            f"the vector group is {trafo['vector_group'].iloc[i]}: no low-voltage path for a neutral current",
            element=f"transformer {trafo.index[i]}",
            remedy="unbalanced power flow needs Dyn, Dzn, Yzn or YNyn; solve this network balanced",
        )
    earthing = sum(np.abs(_or(_floats(trafo, name), 0.0)) for name in ("xn_ohm", "rn_ohm"))
    _refuse_where(trafo, "transformer", live & (earthing > 0), "the star point has an earthing impedance")
    uneven = (trafo["si0_hv_partial"].to_numpy() != 0.5) & (trafo["mag0_percent"].to_numpy() < NO_MAGNETISING / 100)
    _refuse_where(
        trafo,
        "transformer",
        live & uneven & (groups == THROUGH),
        "a YNyn transformer with a magnetising branch must have si0_hv_partial = 0.5",
    )
    if "rft0_pu" in net.impedance.columns:
        own = net.impedance["in_service"].to_numpy(dtype=bool) & np.isfinite(_floats(net.impedance, "rft0_pu"))
        _refuse_where(net.impedance, "impedance", own, "zero-sequence data of impedances are not read")


def _fill_pair(table: Any, kind: str, names: tuple[str, str], defaults: tuple[Floats, ...]) -> int:
    """Fill two columns that belong together where both are missing; returns in how many rows."""
    values = [_floats(table, name) for name in names]
    missing = [np.isnan(column) for column in values]
    _refuse_where(table, kind, missing[0] != missing[1], f"of {names[0]} and {names[1]} only one is given")
    _refuse_where(table, kind, np.isinf(values[0]) | np.isinf(values[1]), f"{names[0]} or {names[1]} is infinite")
    for name, column, default in zip(names, values, defaults, strict=True):
        table[name] = _or(column, default)
    return int(missing[0].sum())


def _refuse_where(table: Any, kind: str, wrong: NDArray[np.bool_], reason: str) -> None:
    """Refuse the first element of a table where ``wrong``."""
    for row in np.flatnonzero(wrong):
        raise GridError(
            reason,
            element=f"{kind} {table.index[row]}",
            remedy="correct the zero-sequence data in the network file, or leave them out",
        )


def _floats(table: Any, column: str) -> Floats:
    """A column as floats; NaN where it is missing."""
    import pandas as pd

    if column not in table.columns:
        return np.full(len(table), np.nan)
    return np.array(pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan))


def _or(values: Floats, default: Floats | float) -> Floats:
    """``values``, the default where they are NaN."""
    return np.where(np.isnan(values), default, values)
