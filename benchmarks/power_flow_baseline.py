"""The bare power-grid-model batch that the demo's year is measured against: iterative current, same outputs.

`bare_batch_seconds` is what other benchmarks divide by; run as a script it prints CPU seconds of the bare batch and of
`Network.power_flow`, and their ratio.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from grid import Network
from grid.power_flow import MAX_ITERATIONS, OUTPUTS, TOLERANCE_PU, batch_model

Floats = NDArray[np.float64]


def bare_batch_seconds(network: Network, p_kw: Floats, q_kvar: Floats, *, chunk: int = 2688) -> float:
    """CPU seconds of solving all slots with nothing around: no conversion of units, no loadings, no checks.

    Parameters
    ----------
    p_kw, q_kvar
        Power per bus, ``(n_slots, n_buses)``; turned into the batch's own arrays before the clock starts.
    chunk
        Slots per batch, as in the simulation; keeps the results in the processor's caches and memory bounded.
    """
    model = batch_model(network)
    updates = [model.update(p_kw[i : i + chunk], q_kvar[i : i + chunk]) for i in range(0, len(p_kw), chunk)]
    start = time.process_time()
    for update in updates:
        model.pgm.calculate_power_flow(
            calculation_method="iterative_current",
            error_tolerance=TOLERANCE_PU,
            max_iterations=MAX_ITERATIONS,
            update_data=update,
            threading=-1,
            output_component_types=OUTPUTS,
        )
    return time.process_time() - start


def facade_seconds(network: Network, p_kw: Floats, q_kvar: Floats, *, chunk: int = 2688) -> float:
    """CPU seconds of `Network.power_flow` for the same slots."""
    start = time.process_time()
    for i in range(0, len(p_kw), chunk):
        network.power_flow(p_kw[i : i + chunk], q_kvar[i : i + chunk])
    return time.process_time() - start


def main() -> None:
    """Print the seconds for a random year on one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="simbench:1-LV-semiurb4--2-sw")
    parser.add_argument("--slots", type=int, default=35_136)
    arguments = parser.parse_args()
    network = Network.load(arguments.network)
    rng = np.random.default_rng(0)
    p_kw = rng.uniform(-4.0, 6.0, (arguments.slots, network.n_buses))
    q_kvar = 0.2 * p_kw
    bare_batch_seconds(network, p_kw, q_kvar)  # warms caches and the allocator
    runs = [(bare_batch_seconds(network, p_kw, q_kvar), facade_seconds(network, p_kw, q_kvar)) for _ in range(3)]
    bare, facade = (float(np.median(column)) for column in zip(*runs, strict=True))
    print(f"{arguments.network}: {arguments.slots} slots, {network.n_buses} buses, {len(network.branches)} branches")
    print(f"bare batch           {bare:8.3f} CPU s  {1e6 * bare / arguments.slots:7.1f} us per slot")
    print(f"Network.power_flow   {facade:8.3f} CPU s  ratio {facade / bare:.2f}")


if __name__ == "__main__":
    main()
