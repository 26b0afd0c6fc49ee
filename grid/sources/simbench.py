"""SimBench networks and their yearly profiles: one grid is shipped, the others come from the optional package.

Profiles are relative to the nominal power of an element: p = ``p_mw`` times ``NAME_pload``, q = ``q_mvar`` times
``NAME_qload`` of a load; p = ``p_mw`` times ``NAME`` of a generator or storage.

SimBench's time stamps are local time, Europe/Berlin, 2016, with the hour of the change missing in March and twice in
October. Its 35,136 rows are therefore contiguous quarter hours from 2015-12-31T23:00Z.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core import GridError, canonical_json, file_sha256, sha256_hex
from grid.sources.cache import cache_folder, write_atomically

SHIPPED_CODE = "1-LV-semiurb4--2-sw"
DATASETS = Path(__file__).parents[1] / "datasets"
SHIPPED_NETWORK = DATASETS / "networks" / f"simbench_{SHIPPED_CODE}.json"
SHIPPED_PROFILES = DATASETS / "simbench_semiurb4_2016_15min.parquet"

PROFILE_START = datetime(2015, 12, 31, 23, tzinfo=UTC)
PROFILE_SLOTS = 35_136
PROFILE_SLOT_S = 900

NOTICE = (
    "Contains information from SimBench (www.simbench.de), which is made available under the Open Database License "
    "(ODbL) 1.0, http://opendatacommons.org/licenses/odbl/1.0/; rights in individual contents under the Database "
    "Contents License, http://opendatacommons.org/licenses/dbcl/1.0/. Copyright (c) 2019-2026 University of Kassel, "
    "TU Dortmund, RWTH Aachen University and Fraunhofer IEE Kassel. S. Meinecke et al., SimBench - A Benchmark Dataset "
    "of Electric Power Systems to Compare Innovative Solutions Based on Power Flow Analysis, Energies 13(12):3290, "
    "2020, 10.3390/en13123290."
)


def resolve(code: str) -> tuple[Callable[[], Any], dict[str, str], tuple[str, ...]]:
    """Builder, content and notices of a SimBench code.

    Raises
    ------
    GridError
        If the code is not shipped and the optional package is missing.
    """
    if code == SHIPPED_CODE:
        return (lambda: _read(SHIPPED_NETWORK)), {"sha256": file_sha256(SHIPPED_NETWORK)}, (NOTICE,)
    kept = _kept(code, "json")
    if kept is None:
        raise _missing_package(code)

    def build() -> Any:
        if not kept.is_file():
            _keep(code, fetch(code))
        return _read(kept) if kept.is_file() else strip(fetch(code))

    return build, {"simbench": version("simbench")}, (NOTICE,)


def profiles_file(code: str) -> Path:
    """Parquet file with the profiles of a SimBench code: float32 columns, the rows described above.

    Raises
    ------
    GridError
        If the code is not shipped and the optional package is missing or does not know it, or the cache folder cannot
        be written.
    """
    if code == SHIPPED_CODE:
        return SHIPPED_PROFILES
    kept = _kept(code, "parquet")
    if kept is None:
        raise _missing_package(code)
    if not kept.is_file():
        _keep(code, fetch(code))
    if not kept.is_file():
        raise GridError(
            f"cannot write {kept}",
            element=f"simbench:{code}",
            remedy="set PEERWATT_CACHE to a folder that can be written",
        )
    return kept


def fetch(code: str) -> Any:
    """Load a grid with its profiles from the simbench package (some 15 s).

    Raises
    ------
    GridError
        If the package is missing or does not know the code.
    """
    if importlib.util.find_spec("simbench") is None:
        raise _missing_package(code)
    import simbench

    try:
        return simbench.get_simbench_net(code)
    except (ValueError, KeyError, IndexError, OSError, NotImplementedError) as error:
        raise GridError(
            f"SimBench has no grid {code!r} ({type(error).__name__}: {error})",
            element=f"simbench:{code}",
            remedy="choose one of simbench.collect_all_simbench_codes()",
        ) from error


def strip(net: Any) -> Any:
    """Reduce a SimBench net to what a power flow needs; profiles, load cases, measurements and results go."""
    import pandapower as pp
    from pandapower.results import reset_results

    for key in ("profiles", "loadcases", "substation"):
        net.pop(key, None)
    net["measurement"] = net["measurement"].iloc[:0]
    reset_results(net)
    for kind, table in pp.create_empty_network().items():
        if isinstance(table, type(net.bus)) and not kind.startswith("_"):
            # SimBench's own columns come in an order that changes from run to run.
            own = sorted(set(net[kind].columns) - set(table.columns))
            net[kind] = net[kind][[*(name for name in table.columns if name in net[kind].columns), *own]]
    used = {"line": set(net.line["std_type"]), "trafo": set(net.trafo["std_type"])}
    net["std_types"] = {
        kind: {name: values for name, values in types.items() if name in used.get(kind, set())}
        for kind, types in net["std_types"].items()
    }
    return net


def profile_table(net: Any) -> Any:
    """Build the profiles that the elements of a SimBench net use, as a pyarrow table of float32 columns.

    Raises
    ------
    ValueError
        If the time stamps are not the local quarter hours of 2016, or a value is missing.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    instants = pd.date_range(PROFILE_START, periods=PROFILE_SLOTS, freq=f"{PROFILE_SLOT_S}s")
    local = instants.tz_convert("Europe/Berlin").strftime("%d.%m.%Y %H:%M").to_numpy()
    wanted = {
        "load": [f"{name}_{what}" for name in sorted(set(net.load["profile"])) for what in ("pload", "qload")],
        "renewables": sorted(set(net.sgen["profile"])),
        "storage": sorted(set(net.storage["profile"])),
    }
    columns = {}
    for group, names in wanted.items():
        table = net.profiles[group]
        if names and not np.array_equal(table["time"].to_numpy(), local):
            raise ValueError(f"the clock of the {group} profiles is not local time of 2016 in Europe/Berlin")
        for name in names:
            # Generators other than renewables (power plants) have their profile in another group.
            home = table if name in table.columns else net.profiles["powerplants"]
            values = home[name].to_numpy(dtype=np.float32)
            if not np.isfinite(values).all():
                raise ValueError(f"profile {name} has missing values")
            columns[name] = pa.array(values)
    return pa.table(columns)


def _read(path: Path) -> Any:
    """Read a kept or shipped pandapower file."""
    import pandapower as pp

    return pp.from_json(str(path))


def _kept(code: str, suffix: str) -> Path | None:
    """Where a grid or its profiles are kept in the cache; None without the package."""
    if importlib.util.find_spec("simbench") is None:
        return None
    key = sha256_hex(canonical_json([code, version("simbench"), version("pandapower")]))
    return cache_folder() / "simbench" / f"{key}.{suffix}"


def _keep(code: str, net: Any) -> None:
    """Write profiles and grid into the cache. Loading takes so long that both are kept at once."""
    import pandapower as pp
    import pyarrow.parquet as pq

    profiles, grid = _kept(code, "parquet"), _kept(code, "json")
    if profiles is None or grid is None:
        return
    table = profile_table(net)
    write_atomically(profiles, lambda file: pq.write_table(table, file, compression="zstd"))
    text = pp.to_json(strip(net)).encode()
    write_atomically(grid, lambda file: file.write(text))


def _missing_package(code: str) -> GridError:
    return GridError(
        f"simbench:{code} is not shipped with peerwatt (simbench:{SHIPPED_CODE} is)",
        element=f"simbench:{code}",
        remedy="install the optional package, 380 MB: pip install 'peerwatt[simbench]'",
    )
