"""The rows: each measures something against a reference in the same run, and says what it must reach."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.row import Outcome, Row

ROOT = Path(__file__).resolve().parents[1]


def _run(scenario: Any, out: Path, **options: Any) -> Any:
    import peerwatt

    return peerwatt.run(scenario, out, overwrite=True, **options)


def _command(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(arguments, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def _empty_caches() -> Iterator[dict[str, str]]:
    """An environment in which nothing is compiled or cached yet."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = {"PEERWATT_CACHE": f"{folder}/peerwatt", "NUMBA_CACHE_DIR": f"{folder}/numba"}
        yield {**os.environ, **fresh}


def demo_year(folder: Path) -> Outcome:
    """CPU time of the demo's year, report included, over that of the bare power-flow batch."""
    from benchmarks.power_flow_baseline import bare_batch_seconds
    from grid import Network

    p_kw, q_kvar = _powers_solved(folder)  # also compiles everything once
    network = Network.load("simbench:1-LV-semiurb4--2-sw")
    ratios, parts = [], []
    for _ in range(3):
        start = time.process_time()
        _run("semiurban", folder / "year")
        year = time.process_time() - start
        bare = bare_batch_seconds(network, p_kw, q_kvar)
        ratios.append(year / bare)
        parts.append(f"{year:.2f} / {bare:.2f} s")
    ratio = sorted(ratios)[1]
    return Outcome(
        f"{ratio:.2f} times",
        "at most 5 times",
        ratio <= 5,
        f"median of 3; CPU of run with tables, statements and report over the bare batch: {', '.join(parts)}",
    )


def _powers_solved(folder: Path) -> tuple[Any, Any]:
    """Active and reactive power per bus of all power flows of the demo's year, as its run asks for them."""
    from grid import Network

    solve = Network.power_flow
    asked: list[tuple[Any, Any]] = []

    def listen(network: Network, p_kw: Any, q_kvar: Any, **options: Any) -> Any:
        asked.append((p_kw, q_kvar))
        return solve(network, p_kw, q_kvar, **options)

    with patch.object(Network, "power_flow", listen):
        _run("semiurban", folder / "powers")
    return np.concatenate([p for p, _ in asked]), np.concatenate([q for _, q in asked])


def cold_and_second_run(folder: Path) -> Outcome:
    """Wall time of the command on a machine that never ran it, and of the second time."""
    command = [
        sys.executable,
        "-m",
        "peerwatt",
        "run",
        "semiurban",
        "--overwrite",
        "--quiet",
        "--threads",
        "2",
        "--out",
    ]
    with _empty_caches() as environment:
        cold, _ = _command([*command, str(folder / "cold")], environment)
        second, _ = _command([*command, str(folder / "cold")], environment)
    return Outcome(
        f"{cold:.0f} s, then {second:.0f} s",
        "within 60 s, then within 20 s",
        cold <= 60 and second <= 20,
        "peerwatt run semiurban with empty caches, then again; wall clock, two threads",
    )


def help_start(folder: Path) -> Outcome:
    """Wall time of ``peerwatt --help`` beside an empty Python."""
    environment = dict(os.environ)
    times = [_command([sys.executable, "-m", "peerwatt", "--help"], environment)[0] for _ in range(5)]
    empty = [_command([sys.executable, "-c", "pass"], environment)[0] for _ in range(5)]
    best = sorted(times)[2]
    return Outcome(
        f"{best:.2f} s ({best / sorted(empty)[2]:.1f} times an empty Python)",
        "within 0.5 s",
        best <= 0.5,
        "median of 5",
    )


def street(n_homes: int, network: bool) -> dict[str, Any]:
    """A day of ``n_homes`` homes, every third with PV, every sixth with a battery."""
    from grid import Network

    source = "simbench:1-LV-semiurb4--2-sw"
    buses = Network.load(source).bus_ids[1:]
    homes = []
    for i in range(n_homes):
        assets: list[dict[str, Any]] = [{"kind": "load", "profile": f"load-{i % 3}", "scale": 3.0 + i % 4}]
        if i % 3 == 0:
            assets.append({"kind": "pv", "profile": "pv", "peak_kw": 6})
        if i % 6 == 0:
            assets.append({"kind": "battery", "capacity_kwh": 8, "charge_kw": 4, "discharge_kw": 4})
        homes.append({"id": f"h{i:03d}", "assets": assets, **({"bus": buses[i % len(buses)]} if network else {})})
    columns = {"load-0": "H0-A_pload", "load-1": "H0-B_pload", "load-2": "H0-G_pload", "pv": "PV5"}
    return {
        "name": f"street-{n_homes}",
        "time": {"start": "2016-06-01", "days": 1, "zone": "Europe/Berlin"},
        "network": {"source": source if network else "none"},
        "power_flow": "batch" if network else "none",
        "profiles": {k: {"dataset": "simbench_semiurb4_2016", "column": c} for k, c in columns.items()},
        "contracts": {"default": {"terms": [{"retail": {"flat_per_kwh": 0.3}, "feed_in": {"flat_per_kwh": 0.08}}]}},
        "buildings": homes,
        "outputs": {"statements": False},
    }


def small_days(folder: Path) -> Outcome:
    """Seconds of a day of 100 homes with power flow and of 25 homes without, start-up and results included."""
    seconds = []
    for n, network in ((100, True), (25, False)):
        scenario = street(n, network)
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            _simulate(scenario)
            best = min(best, time.perf_counter() - start)
        seconds.append(best)
    return Outcome(
        f"{seconds[0]:.2f} s and {seconds[1]:.3f} s",
        "under 1 s and under 0.1 s",
        seconds[0] < 1 and seconds[1] < 0.1,
        "best of 4: 100 homes with power flow, 25 homes without; scenario read, slots settled, no files",
    )


def _simulate(scenario: dict[str, Any]) -> None:
    """All of a run but its files."""
    import simpy

    from grid.sources.cache import cache_folder
    from peerwatt.clocks import run_virtual
    from peerwatt.cycle import SlotCycle
    from peerwatt.plants import ModelBatteries, ModelPlant
    from peerwatt.prepare import prepare
    from peerwatt.scenario import load_scenario
    from peerwatt.simulate import SIMULATION_WINDOW, slot_process

    system = prepare(load_scenario(scenario), cache_dir=cache_folder())
    env = simpy.Environment()
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    env.process(slot_process(env, cycle, lambda closed: None, 0, SIMULATION_WINDOW))
    run_virtual(env, (system.grid.n + 1) * system.grid.length_s)


def memory(folder: Path) -> Outcome:
    """Peak memory of the year beside that of a quarter, each in a process of its own."""
    peaks = {}
    for days in (92, 366):
        code = (
            "import peerwatt, resource;"
            f"peerwatt.run('semiurban', r'{folder / 'memory'}', overrides={{'time.days': {days}}}, overwrite=True);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
        peaks[days] = int(done.stdout.split()[-1]) / 1e6
    return Outcome(
        f"{peaks[366]:.2f} GB; {peaks[366] / peaks[92]:.2f} times that of a quarter",
        "below 1.5 GB, not growing",
        peaks[366] < 1.5 and peaks[366] / peaks[92] < 1.3,
        "peak resident memory of the whole process, report included",
    )


def fontana(folder: Path) -> Outcome:
    """Self-consumption and autarky of the measured homes against the figures computed from the data alone."""
    found = []
    for name in ("fontana", "fontana-consumers"):
        supply = _run(name, folder / name, report=False).summary["self_supply"]
        keys = (
            "alone_self_consumption",
            "shared_self_consumption",
            "alone_self_sufficiency",
            "shared_self_sufficiency",
        )
        found.append([round(100 * supply[key], 2) for key in keys])
    want = [[55.62, 72.73, 33.91, 44.34], [55.85, 73.99, 33.19, 43.97]]
    return Outcome(
        f"{found[0]}, {found[1]} %",
        f"{want[0]}, {want[1]} %",
        found == want,
        "self-consumption alone and shared, autarky alone and shared; second list with h14 and h15 as consumers",
    )


def voltages(folder: Path) -> Outcome:
    """Largest difference of voltages to pandapower, run for run, on a day of the demo."""
    batch = _run("semiurban", folder / "batch", overrides={"time.days": 1}, report=False)
    slow = _run("semiurban", folder / "pandapower", overrides={"time.days": 1}, report=False, power_flow="pandapower")
    gap = float((batch.table("buses").v_pu - slow.table("buses").v_pu).abs().max())
    same = batch.table("ledger").equals(slow.table("ledger"))
    return Outcome(
        f"{gap:.1e} p.u.; ledgers {'equal' if same else 'differ'}",
        "at most 1e-6 p.u.; ledgers equal",
        gap <= 1e-6 and same,
        "96 slots of semiurban, power_flow: batch and pandapower",
    )


ROWS = (
    Row("a year of the demo over the bare power-flow batch", demo_year),
    Row("the command, cold and again", cold_and_second_run),
    Row("peerwatt --help", help_start),
    Row("a day of 100 homes with power flow, of 25 without", small_days),
    Row("memory of the demo's year", memory),
    Row("fontana: self-consumption and autarky", fontana),
    Row("voltages against pandapower", voltages),
)
