"""What ``verify`` finds when somebody changes a run and the manifest's hashes along with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core import file_sha256
from peerwatt.results import RunWriter, verify_run
from peerwatt.results.schemas import SLOT_TABLES
from peerwatt.results.testing import MadeUpRun, made_up_static

N_SLOTS = 300
PART = 96


def lawful(made_up: MadeUpRun) -> MadeUpRun:
    """The made-up run with batteries that store what they charge, and pools whose price is exact."""
    w = made_up.whole
    flow = np.cumsum(w.charge_wh - w.discharge_wh, axis=0)
    w.soc_wh[:] = np.vstack([np.zeros_like(flow[:1]), flow[:-1]]) - flow.min(axis=0).clip(max=0)
    trades = w.trades
    pool = (trades.buyer < 0) | (trades.seller < 0)
    trades.price_num[pool], trades.price_den[pool] = trades.amount_u[pool] * 1000, trades.e_wh[pool]
    return made_up


def make(folder: Path, *, pairs: bool) -> Path:
    made_up = lawful(MadeUpRun.of(made_up_static(6, N_SLOTS, pairs=pairs)))
    writer = RunWriter(folder, made_up.static, SLOT_TABLES, PART)
    writer.write(made_up.record(0, N_SLOTS))
    return writer.finish(bills=made_up.bills())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("runs")
    return {kind: make(place / kind, pairs=kind == "pairs") for kind in ("pairs", "pool")}


def forge(folder: Path, table: str, part: int, change: Callable[[pa.Table], pa.Table]) -> str:
    name = f"{table}.parquet/part-{part:05d}.parquet"
    pq.write_table(change(pq.read_table(folder / name)), folder / name)
    forge_hash(folder, name)
    return name


def forge_hash(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = file_sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def add(column: str, row: int, amount: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_numpy().copy()
        values[row] += values.dtype.type(amount)
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    return change


@pytest.mark.parametrize("kind", ["pairs", "pool"])
def test_lawful_runs_verify(runs: dict[str, Path], kind: str) -> None:
    report = verify_run(runs[kind])
    assert report.ok, str(report)
    assert len(report.checks) == 12


Case = tuple[str, int, str, int, float, str]
CASES: list[Case] = [
    ("trades", 0, "amount_u", 40, 1, "is not its price times its energy"),
    ("trades", 0, "amount_u", 40, 1, "the sum of its trades differ by"),
    ("trades", 1, "e_wh", 3, 30, "is not its price times its energy"),
    ("trades", 2, "price_num", 5, 1_000_000, "is not its price times its energy"),
    ("trades", 2, "price_den", 5, 1, "is not its price times its energy"),
    ("buildings", 0, "soc_wh", 6 * 50 + 1, 500, "slot 50: h01 stores"),
    ("buildings", 1, "soc_wh", 1, 500, "slot 96: h01 stores"),
    ("buildings", 1, "soc_wh", 6 * 20 + 4, -500, "slot 117: h04 stores"),
    ("buildings", 2, "charge_wh", 6 * 20 + 1, 3, "buildings' charge_wh and that of slots differ by 3 Wh"),
    ("slots", 1, "v_max_pu", 10, 1e-6, "slot 106: v_max_pu of slots is not the"),
    ("slots", 1, "v_min_pu", 10, -0.01, "slot 106: v_min_pu of slots is not the"),
    ("slots", 1, "max_line_loading", 4, 0.1, "slot 100: max_line_loading of slots is not the"),
    ("slots", 1, "max_transformer_loading", 4, 0.1, "slot 100: max_transformer_loading of slots is not the"),
    ("buses", 0, "v_pu", 7 * 9 + 2, 0.3, "slot 9: v_max_pu of slots is not the"),
    ("buses", 3, "v_pu", 7 * 2, -0.3, "slot 290: v_min_pu of slots is not the"),
    ("branches", 3, "loading", 6 * 2 + 3, 5.0, "slot 290: max_line_loading of slots is not the"),
    ("branches", 3, "loading", 6 * 2 + 5, 5.0, "slot 290: max_transformer_loading of slots is not the"),
    *(
        ("slots", 2, f"{name}_wh", 8, 2, f"slot 200: buildings' {name}_wh and that of slots differ by -2 Wh")
        for name in ("load", "ev", "pv", "import", "export", "discharge")
    ),
]


@pytest.mark.parametrize("kind", ["pairs", "pool"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}.{case[2]}")
def test_a_forged_value_is_found(runs: dict[str, Path], tmp_path: Path, kind: str, case: Case) -> None:
    table, part, column, row, amount, message = case
    folder = Path(shutil.copytree(runs[kind], tmp_path / "run"))
    name = forge(folder, table, part, add(column, row, amount))
    report = verify_run(folder)
    assert message in str(report)
    assert not [p for p in report.problems if p.check in {"hash", "reading"}], f"{name}: its hash was forged as well"


def test_a_half_is_booked_to_even(runs: dict[str, Path], tmp_path: Path) -> None:
    """A price of 0.5 micro-currency above an amount's whole value may only be booked at the even neighbour."""
    folder = Path(shutil.copytree(runs["pairs"], tmp_path / "run"))

    def half(table: pa.Table) -> pa.Table:
        values = {c: table.column(c).to_numpy().copy() for c in ("e_wh", "price_num", "price_den", "amount_u")}
        odd, even = np.flatnonzero(values["amount_u"] % 2 == 1)[0], np.flatnonzero(values["amount_u"] % 2 == 0)[0]
        for row in (odd, even):
            values["e_wh"][row], values["price_den"][row] = 1000, 2
            values["price_num"][row] = 2 * values["amount_u"][row] + 1
        for column, changed in values.items():
            table = table.set_column(table.schema.get_field_index(column), column, pa.array(changed))
        return table

    forge(folder, "trades", 0, half)
    assert str(verify_run(folder)).count("is not its price times its energy") == 1


def test_a_trade_that_is_missing_or_in_another_part_is_found(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["pool"], tmp_path / "run"))
    forge(folder, "trades", 1, lambda table: table.slice(1))
    assert "the sum of its trades differ by" in str(verify_run(folder))
    forge(folder, "trades", 1, add("slot", 0, -96))
    assert "it holds trades outside slots 96 to 191" in str(verify_run(folder))


@pytest.mark.parametrize(("key", "value"), [("seed", 8), ("run_id", "0" * 16), ("name", "another")])
def test_a_manifest_of_another_run_is_found(runs: dict[str, Path], tmp_path: Path, key: str, value: object) -> None:
    folder = Path(shutil.copytree(runs["pairs"], tmp_path / "run"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text = str(verify_run(folder))
    assert f"identity: manifest.json: {key} is {value!r}, static.json says" in text


@pytest.mark.parametrize("name", ["ledger.parquet/part-00001.parquet", "static.json", "summary.json"])
def test_a_file_that_cannot_be_read_is_named_once(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(runs["pairs"], tmp_path / "run"))
    (folder / name).write_bytes(b"{ neither JSON nor Parquet")
    forge_hash(folder, name)
    problems = verify_run(folder).problems
    assert [p.file for p in problems if p.check == "reading"] == [name]
