"""Tables of a run folder: their schemas, bytes that do not depend on the cut, interruption, refusal of nonsense."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import GridError, RunError, file_sha256
from peerwatt.results import TABLES, Run, RunWriter
from peerwatt.results.buffer import chunk_slots
from peerwatt.results.schemas import BESIDE_ENVELOPES, SLOT_TABLES, TWINS
from peerwatt.results.static import static_from_json, static_to_json
from peerwatt.results.tables import arrow_schema
from peerwatt.results.testing import MadeUpRun, made_up_static
from peerwatt.results.writer import interrupted

PART = 96
N_SLOTS = 250


@pytest.fixture(scope="module")
def made_up() -> MadeUpRun:
    return MadeUpRun.of(made_up_static(6, N_SLOTS))


def write(made_up: MadeUpRun, folder: Path, window: int, **options: object) -> RunWriter:
    writer = RunWriter(folder, made_up.static, SLOT_TABLES, PART, **options)  # type: ignore[arg-type]
    go_on(writer, made_up, window)
    return writer


def go_on(writer: RunWriter, made_up: MadeUpRun, window: int, end: int = N_SLOTS) -> None:
    while writer.next_slot < end:
        writer.write(made_up.record(writer.next_slot, min(window, end - writer.next_slot)))


def finish(writer: RunWriter, made_up: MadeUpRun) -> Path:
    return writer.finish(scenario_text="name: made-up\n", bills=made_up.bills(), versions={"peerwatt": "1"})


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def reference(made_up: MadeUpRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(write(made_up, tmp_path_factory.mktemp("runs") / "reference", N_SLOTS), made_up)


@pytest.mark.parametrize("window", [1, 7, 96, 100])
def test_bytes_do_not_depend_on_the_windows(made_up: MadeUpRun, reference: Path, tmp_path: Path, window: int) -> None:
    other = finish(write(made_up, tmp_path / "run", window), made_up)
    assert hashes(other) == hashes(reference)
    assert len(list((other / "ledger.parquet").iterdir())) == 3


@pytest.mark.parametrize("killed_at", [40, 96, 150, 192, 230])
def test_a_killed_run_resumes_to_the_same_bytes(
    made_up: MadeUpRun, reference: Path, tmp_path: Path, killed_at: int
) -> None:
    """No clean-up runs: the writer is dropped in the middle of a part, as by SIGKILL."""
    folder = tmp_path / "run"
    writer = RunWriter(folder, made_up.static, SLOT_TABLES, PART)
    for slot in range(0, killed_at, 10):
        n = min(10, killed_at - slot)
        writer.write(made_up.record(slot, n))
        if (slot + n) % PART == 0:
            writer.checkpoint({"soc": np.array([slot + n])}, slot + n)
    (folder / "slots.parquet").mkdir(exist_ok=True)
    (folder / "slots.parquet" / ".part-00007.parquet.tmp").write_bytes(b"cut off")
    with pytest.raises(RunError, match="interrupted"):
        Run(folder)
    resumed, state, next_slot = RunWriter.resume(folder)
    assert next_slot == resumed.next_slot
    assert next_slot % PART == 0
    if next_slot:
        assert state["soc"].tolist() == [next_slot]
    go_on(resumed, made_up, 64)
    assert hashes(finish(resumed, made_up)) == hashes(reference)


_KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from peerwatt.results import RunWriter
from peerwatt.results.schemas import SLOT_TABLES
from peerwatt.results.testing import MadeUpRun, made_up_static

made_up = MadeUpRun.of(made_up_static(6, 250))
writer = RunWriter(Path(sys.argv[1]), made_up.static, SLOT_TABLES, 96)
writer.write(made_up.record(0, 96))
writer.checkpoint({"soc": np.array([1, 2])}, 96)
writer.write(made_up.record(96, 100))  # closes the second part, without a checkpoint
writer._parts["slots"].write(  # and stands in the middle of the third
    __import__("peerwatt.results.tables", fromlist=["x"]).slots_columns(made_up.record(192, 8), made_up.static))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_folder_to_resume(
    made_up: MadeUpRun, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    root = Path(__file__).parents[2]
    assert not interrupted(folder)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in (folder / "slots.parquet").glob(".*.tmp")] == [".part-00002.parquet.tmp"]
    assert interrupted(folder)
    resumed, state, next_slot = RunWriter.resume(folder)
    assert (next_slot, state["soc"].tolist()) == (96, [1, 2])
    assert [p.name for p in (folder / "slots.parquet").iterdir()] == ["part-00000.parquet"]
    go_on(resumed, made_up, 33)
    assert hashes(finish(resumed, made_up)) == hashes(reference)


def test_checkpoints_move_the_resumption(made_up: MadeUpRun, reference: Path, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", made_up.static, SLOT_TABLES, PART)
    go_on(writer, made_up, 48, 192)
    writer.checkpoint({"a": np.arange(3), "b/c": np.array(2.5)}, 192)
    go_on(writer, made_up, 48, 240)
    resumed, state, next_slot = RunWriter.resume(tmp_path / "run")
    assert next_slot == 192
    assert state["a"].tolist() == [0, 1, 2]
    assert float(state["b/c"]) == 2.5
    go_on(resumed, made_up, 31)
    resumed.checkpoint({}, N_SLOTS)
    again, _, at_end = RunWriter.resume(tmp_path / "run")  # killed between the last slot and the ending
    assert at_end == N_SLOTS
    assert hashes(finish(again, made_up)) == hashes(reference)


def test_checkpoint_only_at_the_end_of_a_part(made_up: MadeUpRun, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", made_up.static, SLOT_TABLES, PART)
    go_on(writer, made_up, 50, 100)
    with pytest.raises(RunError, match="no checkpoint at slot 100"):
        writer.checkpoint({}, 100)
    with pytest.raises(RunError, match="no checkpoint at slot 96"):
        writer.checkpoint({}, 96)
    other = RunWriter(tmp_path / "other", made_up.static, SLOT_TABLES, PART)
    go_on(other, made_up, 96, 96)
    with pytest.raises(RunError, match="objects"):
        other.checkpoint({"x": np.array([{}], dtype=object)}, 96)


ELSEWHERE = (*TWINS, "inverters", "envelopes", BESIDE_ENVELOPES)
"""Tables that not every run has: of phases (test_phases), of inverter functions (test_run_inverters), of envelopes
(test_envelopes_run, test_envelopes_outages)."""


def test_tables_hold_what_their_schemas_say(reference: Path, made_up: MadeUpRun) -> None:
    kinds = {"category": "category", "text": "object", "timestamp": "datetime64[ms, UTC]"}
    for name, schema in TABLES.items():
        if name in ELSEWHERE:
            continue
        frame = pd.read_parquet(reference / f"{name}.parquet")  # without our reader
        assert tuple(frame.columns) == schema.names
        document = json.loads((reference / "schemas" / f"{name}.json").read_text())
        assert [c["name"] for c in document["columns"]] == list(frame.columns)
        for column, stated in zip(schema.columns, document["columns"], strict=True):
            assert stated["meaning"] == column.meaning
            assert stated["meaning"]
            nulls = int(frame[column.name].isna().sum())
            assert column.nullable or not nulls
            found = str(frame[column.name].dtype)
            expected = "float64" if nulls and column.type == "int64" else kinds.get(column.type, column.type)
            assert found == expected, (name, column.name)
            if column.type in {"int64", "float64", "float32"} and not column.sign:
                assert (frame[column.name].dropna() >= 0).all(), (name, column.name)
    assert len(arrow_schema("slots")) == len(TABLES["slots"].columns)


def test_tables_hold_the_records(reference: Path, made_up: MadeUpRun) -> None:
    run, whole = Run(reference), made_up.whole
    ids = [b.id for b in made_up.static.buildings]
    buildings = run.table("buildings")
    assert buildings["slot"].tolist() == np.repeat(np.arange(N_SLOTS), len(ids)).tolist()
    assert buildings["building"].tolist() == ids * N_SLOTS
    for column in TABLES["buildings"].names[2:]:
        assert np.array_equal(buildings[column].to_numpy().reshape(N_SLOTS, -1), getattr(whole, column))
    slots = run.table("slots")
    assert np.array_equal(slots["pv_wh"], whole.pv_wh.sum(axis=1))
    assert str(slots["start_utc"].iloc[-1]) == "2016-03-28 13:15:00+00:00"
    assert np.allclose(slots["v_max_pu"], whole.v_pu.max(axis=1), atol=1e-7)  # type: ignore[union-attr]
    assert np.allclose(slots["transformer_kw"], whole.branch_p_kw[:, -1], rtol=1e-6)  # type: ignore[index]
    trades = run.table("trades")
    assert [ids.index(x) for x in trades["buyer"]] == whole.trades.buyer.tolist()
    assert trades["amount_u"].tolist() == whole.trades.amount_u.tolist()
    assert np.allclose(trades["price_per_kwh"], whole.trades.price_num / whole.trades.price_den / 1e6)
    ledger = run.table("ledger", ["account", "network_u"])
    assert ledger["account"].tolist() == list(made_up.static.accounts) * N_SLOTS
    assert np.array_equal(ledger["network_u"].to_numpy().reshape(N_SLOTS, -1), whole.postings_u["network"])
    buses = run.table("buses")
    assert np.array_equal(buses["v_pu"].to_numpy().reshape(N_SLOTS, -1), whole.v_pu.astype(np.float32))  # type: ignore[union-attr]


def test_violations_by_a_plain_loop(reference: Path, made_up: MadeUpRun) -> None:
    static, whole = made_up.static, made_up.whole
    assert whole.v_pu is not None
    assert whole.branch_loading is not None
    expected = []
    for t in range(N_SLOTS):
        for n, bus in enumerate(static.buses):
            v = whole.v_pu[t, n]
            if v > bus.v_max_pu:
                expected.append((t, bus.id, "over_voltage", round(v - bus.v_max_pu, 6)))
            elif v < bus.v_min_pu:
                expected.append((t, bus.id, "under_voltage", round(bus.v_min_pu - v, 6)))
        for r, branch in enumerate(static.branches):
            excess = whole.branch_loading[t, r] - branch.loading_max
            if excess > 0:
                expected.append((t, branch.id, f"{branch.kind}_overload", round(excess, 6)))
    found = Run(reference).table("violations")
    rows = list(zip(found["slot"], found["element"], found["kind"], found["excess"], strict=True))
    assert rows == expected
    assert len(rows) > 10
    over = found[found["kind"] == "over_voltage"].iloc[0]
    fed = (whole.export_wh - whole.import_wh)[over["slot"]] * 0.004
    first, kw, _ = over["contributors"].split(", ")[0].split()
    assert first == static.buildings[int(fed.argmax())].id
    assert float(kw) == pytest.approx(fed.max(), abs=0.051)


def test_a_bus_and_a_line_may_share_an_id(tmp_path: Path) -> None:
    static = made_up_static(6, N_SLOTS)
    same = dataclasses.replace(static, branches=tuple(
        dataclasses.replace(b, id=static.buses[i].id, loading_max=0.0) for i, b in enumerate(static.branches)
    ))  # fmt: skip
    made_up = MadeUpRun.of(same)
    run = Run(finish(write(made_up, tmp_path / "run", 96), made_up))
    found = run.table("violations", ["element", "kind"])
    assert set(found[found["kind"] == "line_overload"]["element"]) <= {b.id for b in same.branches}


def test_a_run_without_network_has_no_grid_tables(tmp_path: Path) -> None:
    made_up = MadeUpRun.of(made_up_static(4, 30, network=False))
    writer = RunWriter(tmp_path / "run", made_up.static, SLOT_TABLES)
    go_on(writer, made_up, 30, 30)
    run = Run(writer.finish())
    assert run.tables == ("slots", "buildings", "trades", "ledger", "certificates", "origins", "heat")
    assert run.table("slots")["v_min_pu"].isna().all()
    assert run.summary["violations"]["count"] is None
    assert run.summary["grid"]["v_min_pu"] is None
    with pytest.raises(RunError, match="no table buses"):
        run.table("buses")


def test_folders_are_not_overwritten_by_accident(made_up: MadeUpRun, tmp_path: Path) -> None:
    folder = finish(write(made_up, tmp_path / "run", 96), made_up)
    before = hashes(folder)
    with pytest.raises(RunError, match="not empty"):
        RunWriter(folder, made_up.static, SLOT_TABLES, PART)
    (folder / "thoughts.md").write_text("mine")
    with pytest.raises(RunError, match=r"thoughts\.md"):
        RunWriter(folder, made_up.static, SLOT_TABLES, PART, overwrite=True)
    (folder / "thoughts.md").unlink()
    alien = tmp_path / "alien"
    alien.mkdir()
    (alien / "photo.jpg").write_bytes(b"x")
    with pytest.raises(RunError, match="no run folder"):
        RunWriter(alien, made_up.static, SLOT_TABLES, PART, overwrite=True)
    writer = write(made_up, folder, 50, overwrite=True)
    assert hashes(folder) == before  # the old run stays until the new one is whole
    resumed, _, _ = RunWriter.resume(folder)
    go_on(resumed, made_up, 96)
    finish(resumed, made_up)
    assert hashes(folder) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert writer.target == folder


def test_a_swap_cut_off_halfway_is_finished(made_up: MadeUpRun, tmp_path: Path) -> None:
    folder = finish(write(made_up, tmp_path / "run", 96), made_up)
    before = hashes(folder)
    folder.rename(tmp_path / ".run.new")
    with pytest.raises(RunError, match="no interrupted run"):
        RunWriter.resume(folder)
    assert hashes(folder) == before


def test_extras_are_in_the_manifest(made_up: MadeUpRun, tmp_path: Path) -> None:
    writer = write(made_up, tmp_path / "run", 96)

    def report(folder: Path) -> None:
        title = Run(folder, unfinished=True).static.title
        (folder / "report.html").write_text(title)

    run = Run(writer.finish(extras=[report]))
    assert run.manifest["files"]["report.html"] == file_sha256(run.folder / "report.html")
    assert {"python", "numpy", "pyarrow"} <= set(run.manifest["versions"])
    assert run.manifest["tables"]["ledger"] == {"parts": 3, "rows": N_SLOTS * 10}


def test_static_survives_json(made_up: MadeUpRun) -> None:
    again = static_from_json(static_to_json(made_up.static))
    assert np.isnan(again.buses[0].x)
    plain = [dataclasses.replace(s, buses=s.buses[1:]) for s in (made_up.static, again)]
    assert plain[0] == plain[1]
    with pytest.raises(RunError, match=r"static\.json"):
        static_from_json(b'{"run_id": 1}')


def test_nonsense_is_refused_with_its_place(made_up: MadeUpRun, tmp_path: Path) -> None:
    record = made_up.record(0, 10)
    assert record.v_pu is not None
    volts, load = record.v_pu.copy(), record.load_wh.copy()
    volts[3, 2], load[4, 1] = np.nan, -5
    late = dataclasses.replace(record.trades, slot=record.trades.slot[::-1].copy())
    stranger = dataclasses.replace(record.trades, buyer=record.trades.buyer + 100)
    cases: list[tuple[type[Exception], str, dict[str, object]]] = [
        (GridError, "slot 3, bus bus 2: v_pu is not a finite number", {"v_pu": volts}),
        (RunError, "load_wh is negative in slot 4", {"load_wh": load}),
        (RunError, "integer", {"load_wh": record.load_wh.astype(float)}),
        (RunError, "shape", {"loss_wh": record.loss_wh[:5]}),
        (RunError, "slot 0 of 250 was due", {"first_slot": 5}),
        (RunError, "ordered", {"trades": late}),
        (RunError, "does not exist", {"trades": stranger}),
    ]
    for i, (error, words, change) in enumerate(cases):
        writer = RunWriter(tmp_path / str(i), made_up.static, SLOT_TABLES, PART)
        with pytest.raises(error, match=words):
            writer.write(dataclasses.replace(record, **change))  # type: ignore[arg-type]
    twins = dataclasses.replace(made_up.static, buses=(made_up.static.buses[0],) * 2)
    with pytest.raises(RunError, match="unique"):
        RunWriter(tmp_path / "twins", twins, SLOT_TABLES)
    with pytest.raises(RunError, match="no such tables"):
        RunWriter(tmp_path / "typo", made_up.static, ["slot"])
    with pytest.raises(RunError, match="slot 0 of 250"):
        RunWriter(tmp_path / "short", made_up.static, SLOT_TABLES).finish()


def test_chunks_divide_parts_and_stay_small() -> None:
    assert chunk_slots(made_up_static(64), 2688) == 2688
    large = chunk_slots(made_up_static(2000, network=False), 2688)
    assert 2688 % large == 0
    assert 50_000 < large * 2004 <= 250_000
