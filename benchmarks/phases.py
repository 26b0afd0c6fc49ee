"""What it costs to solve the demo's year phase by phase."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.row import Outcome, Row

AT_MOST = 4.0
"""CPU time of the year with phases over that of the balanced one."""


def phase_year(folder: Path) -> Outcome:
    """CPU time of a year of `semiurban-phases` over the same year balanced, tables, statements and report included."""
    import peerwatt

    def seconds(phases: str) -> float:
        start = time.process_time()
        peerwatt.run("semiurban-phases", folder / phases, overrides={"network.phases": phases}, overwrite=True)
        return time.process_time() - start

    for phases in ("balanced", "three"):  # compiles and caches everything once
        week = {"network.phases": phases, "time.days": 7}
        peerwatt.run("semiurban-phases", folder / phases, overrides=week, overwrite=True)
    ratios, parts = [], []
    for _ in range(3):
        balanced, three = seconds("balanced"), seconds("three")
        ratios.append(three / balanced)
        parts.append(f"{three:.2f} / {balanced:.2f} s")
    ratio = sorted(ratios)[1]
    return Outcome(
        f"{ratio:.2f} times",
        f"at most {AT_MOST:g} times",
        ratio <= AT_MOST,
        f"median of 3; CPU of whole runs with report: {', '.join(parts)}; the power flow alone, with unbalance and "
        f"neutral currents: {_flow_ratio():.2f} times",
    )


def _flow_ratio() -> float:
    """CPU time of an unbalanced over a balanced power flow of the demo's network: median of pairs in turn."""
    import numpy as np

    from core import keyed_generator
    from grid import Network
    from grid.three_phase import three_phase_flow

    network = Network.load("simbench:1-LV-semiurb4--2-sw")
    rng = keyed_generator(0, "benchmark", "phases")
    p = np.zeros((2688, network.n_buses, 3))
    live = np.flatnonzero(network.model.bus_node >= 0)
    p[:, live, rng.integers(0, 3, len(live))] = rng.uniform(-4.0, 6.0, (2688, len(live)))
    even = p.sum(axis=2)
    ratios = []
    for _ in range(10):
        start = time.process_time()
        network.power_flow(even)
        middle = time.process_time()
        assert np.isfinite(three_phase_flow(network, p).unbalance).all()
        ratios.append((time.process_time() - middle) / (middle - start))
    return sorted(ratios[1:])[4]


ROWS: tuple[Row, ...] = (Row("a year of the demo phase by phase", phase_year),)
