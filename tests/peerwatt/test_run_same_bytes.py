"""Same scenario and seed, same bytes: on one or two threads, in other processes; another seed is another district."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import peerwatt
from tests.peerwatt.districts import TABLES, assert_same_tables, district, everything, files_of, home, load
from tests.repo.files import ROOT

PLACED = {
    "place": [
        {"asset": {"kind": "pv", "profile": "roof", "peak_kw": 5}, "share": 0.5, "size_spread": 0.4},
        {"asset": {"kind": "battery", "capacity_kwh": 6, "charge_kw": 3, "discharge_kw": 3}, "share": 0.5},
        {"asset": {"kind": "ev", "drawn": {}}, "share": 0.5},
    ],
    "household_mix": {"tenant": 0.4, "income_low": 0.3, "vulnerable": 0.2},
}


def test_one_and_two_threads_give_the_same_bytes(tmp_path: Path) -> None:
    one = peerwatt.run(everything(), tmp_path / "one")
    two = peerwatt.run(everything(), tmp_path / "two", threads=2)
    assert set(one.tables) == set(TABLES)
    assert_same_tables(one, two)
    assert one.summary == two.summary


@pytest.mark.slow
def test_two_processes_with_other_hash_seeds_give_the_same_folder(tmp_path: Path) -> None:
    scenario = tmp_path / "all.yaml"
    scenario.write_text(yaml.safe_dump(everything(days=1) | PLACED | {"outputs": {}}))
    code = f"import sys; sys.path.append({str(ROOT)!r}); import peerwatt; peerwatt.run({str(scenario)!r}, sys.argv[1])"
    running = []
    for seed in ("1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        running.append(subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path / seed / "run")], env=env))
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    a, b = files_of(tmp_path / "1" / "run"), files_of(tmp_path / "4242" / "run")
    assert sum(name.endswith(".parquet") for name in a) == len(TABLES)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def test_another_seed_places_other_assets_and_draws_other_cars(tmp_path: Path) -> None:
    homes = [home(f"h{i}", load()) for i in range(8)]
    runs = [
        peerwatt.run(district(*homes, days=1, **PLACED, seed=seed), tmp_path / str(seed)) for seed in (1, 2)
    ]  # fmt: skip
    first, second = ([(b.pv_kw, b.battery_kwh, b.ev, b.tenure) for b in r.static.buildings] for r in runs)
    assert sum(pv_kw > 0 for pv_kw, *_ in first) == sum(pv_kw > 0 for pv_kw, *_ in second) == 4
    assert first != second
    assert runs[0].static.run_id != runs[1].static.run_id


@pytest.mark.slow
def test_the_resolved_scenario_of_a_run_gives_the_run_again(tmp_path: Path) -> None:
    first = peerwatt.run(everything(days=1) | PLACED, tmp_path / "first")
    again = peerwatt.run(first.folder / "scenario.yaml", tmp_path / "elsewhere" / "again")
    assert_same_tables(first, again)
    assert again.static.run_id == first.static.run_id


def test_the_manifest_lists_every_file_and_the_seed(tmp_path: Path) -> None:
    run = peerwatt.run(everything(days=1), tmp_path / "run")
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == set(files_of(run.folder)) - {"manifest.json"}
    assert run.static.seed == 7
