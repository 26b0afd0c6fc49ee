"""Writes a run folder while the run goes on: tables in parts, accumulators, checkpoints, and the ending.

A folder in progress carries the file ``INCOMPLETE``. Parts are flushed and renamed into place at fixed slots, so an
interruption leaves whole parts and at most one unfinished file per table, which ``resume`` drops.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import RunError
from peerwatt.results import layout
from peerwatt.results.accumulate import Accumulator, month_labels
from peerwatt.results.bills import bill_columns
from peerwatt.results.buffer import RecordBuffer, chunk_slots
from peerwatt.results.manifest import installed_versions, write_manifest
from peerwatt.results.parts import PartWriter
from peerwatt.results.record import RunStatic, WindowRecord
from peerwatt.results.schemas import BESIDE_ENVELOPES, TABLES, TWINS
from peerwatt.results.static import static_from_json, static_to_json
from peerwatt.results.summary import summarise, summary_json
from peerwatt.results.tables import COLUMNS, POOL

if TYPE_CHECKING:
    from market.settlement.bills import Bills

PART_SLOTS = 2688
"""Slots per part file: four weeks of quarter hours."""

State = dict[str, NDArray[Any]]
_GONE = ("checkpoint.npz", "INCOMPLETE")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where an interrupted run stands: its folder, the next slot, the caller's arrays, and the accumulators'."""

    folder: Path
    next_slot: int
    state: State
    accumulated: State


class RunWriter:
    """Streams a run into ``folder``.

    Parameters
    ----------
    folder
        Where the run goes. Must not exist, or be empty, or hold a run that ``overwrite`` allows to replace.
    static
        What never changes in the run.
    tables
        Names of the slot tables to write (``schemas.SLOT_TABLES``); ``bills`` comes at the end by itself.
    part_slots
        Slots per part file; checkpoints are possible at its multiples.
    overwrite
        Replace an earlier run: the new one is written beside it and takes its place in ``finish``.
    at
        Where an interrupted run goes on; for ``resume``.

    Raises
    ------
    RunError
        If the folder must not be written to, or ids of the run are not unique.
    """

    def __init__(
        self,
        folder: Path,
        static: RunStatic,
        tables: Sequence[str],
        part_slots: int = PART_SLOTS,
        *,
        overwrite: bool = False,
        at: Checkpoint | None = None,
    ) -> None:
        unknown = sorted(set(tables) - (set(TABLES) - {"bills"}))
        if unknown or part_slots <= 0:
            raise RunError(f"no such tables: {unknown}" if unknown else "part_slots must be positive")
        _check_ids(static)
        self.target = folder
        self.folder = _claim(folder, overwrite) if at is None else at.folder
        self.static, self.part_slots = static, part_slots
        fitting = set(tables) - (set() if static.heated else {"heat"})
        fitting -= set() if static.supporting else {"inverters"}
        fitting -= set() if static.limited else {"envelopes"}
        twins = set() if static.phases == 1 else {twin for twin, table in TWINS.items() if table in fitting}
        twins |= {BESIDE_ENVELOPES} if static.islands and "envelopes" in fitting else set()
        self.tables = tuple(table for table in TABLES if table in (fitting - {BESIDE_ENVELOPES, *TWINS}) | twins)
        next_slot = 0 if at is None else at.next_slot
        self._buffer = RecordBuffer(static, chunk_slots(static, part_slots), next_slot)
        part = -(-next_slot // part_slots)
        self._parts = {table: PartWriter(self.folder, table, part) for table in self.tables}
        self._accumulator = Accumulator(static)
        self._closed_slot = next_slot
        if at is not None and next_slot:
            self._accumulator.load(at.accumulated)
        if at is None:
            layout.write_atomic(self.folder / layout.STATIC, static_to_json(static))
            marker = {"tables": list(self.tables), "part_slots": part_slots}
            layout.write_atomic(self.folder / layout.INCOMPLETE, (json.dumps(marker) + "\n").encode())

    @property
    def next_slot(self) -> int:
        """First slot that is still missing."""
        return self._buffer.next_slot

    def write(self, record: WindowRecord) -> None:
        """Take the next window of slots, of any length.

        Raises
        ------
        RunError, GridError
            If the record does not fit the run; see ``buffer.check_record``.
        """
        for chunk in self._buffer.add(record):
            for table, part in self._parts.items():
                columns = COLUMNS[table](chunk, self.static)
                if columns is not None:
                    part.write(columns)
            self._accumulator.add(chunk)
            end = chunk.first_slot + chunk.n_slots
            if end % self.part_slots == 0 or end == self.static.n_slots:
                for part in self._parts.values():
                    part.close_part()
                self._closed_slot = end

    def checkpoint(self, state_blob: State, next_slot: int) -> None:
        """Save what ``resume`` needs to go on at ``next_slot``, which must be the end of a part.

        Parameters
        ----------
        state_blob
            The caller's state: arrays by name, no objects.
        next_slot
            First slot that is not in the tables yet.

        Raises
        ------
        RunError
            If ``next_slot`` is not where the finished parts end, or an array holds objects.
        """
        if next_slot != self._closed_slot or next_slot != self._buffer.next_slot:
            raise RunError(
                f"no checkpoint at slot {next_slot}: finished parts end at slot {self._closed_slot}, "
                f"records at slot {self._buffer.next_slot}"
            )
        arrays = {"next_slot": np.array(next_slot, np.int64)}
        arrays |= {f"acc/{name}": array for name, array in self._accumulator.state().items()}
        arrays |= {f"state/{name}": np.asarray(array) for name, array in state_blob.items()}
        layout.write_atomic(self.folder / layout.CHECKPOINT, _npz(arrays, compressed=False))

    @classmethod
    def resume(cls, folder: Path) -> tuple[RunWriter, State, int]:
        """Open an interrupted run: its writer, the caller's state at the last checkpoint, and the slot to go on with.

        Without a checkpoint the run begins again at slot 0, with an empty state.

        Raises
        ------
        RunError
            If the folder holds no interrupted run, or a finished part is missing.
        """
        _finish_swap(folder)
        work = next((f for f in (_beside(folder), folder) if (f / layout.INCOMPLETE).is_file()), None)
        if work is None:
            raise RunError(f"{folder} holds no interrupted run", remedy="run the scenario from its beginning")
        try:
            marker = json.loads((work / layout.INCOMPLETE).read_text())
            tables, part_slots = list(marker["tables"]), int(marker["part_slots"])
            static = static_from_json((work / layout.STATIC).read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{work} cannot be resumed: {error}", remedy="run the scenario from its beginning"
            ) from error
        at = _read_checkpoint(work)
        _drop_parts(work, tables, -(-at.next_slot // part_slots))
        return cls(folder, static, tables, part_slots, at=at), at.state, at.next_slot

    def abandon(self) -> None:
        """Drop unfinished parts after an error; whole parts and the checkpoint stay for ``resume``."""
        for part in self._parts.values():
            part.abandon()

    def discard_unless_resumable(self) -> None:
        """Delete the unfinished folder after a failure, if the run could only begin again: it is in nobody's way."""
        if not (self.folder / layout.CHECKPOINT).exists():
            layout.remove_tree(self.folder)

    def finish(
        self,
        *,
        scenario_text: str = "",
        bills: Bills | None = None,
        devices: Mapping[str, Any] | None = None,
        blocks: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        statements: bool = True,
        extras: Sequence[Callable[[Path], None]] = (),
    ) -> Path:
        """Write everything that needs the whole run, then the manifest, and make the folder final.

        Parameters
        ----------
        scenario_text
            The resolved scenario as YAML.
        bills
            The buildings' invoices (``BillAccumulator.bills()`` of settlement); without them costs are the slots' sums.
        devices
            What devices did that stood among the models: the block ``devices`` of the summary.
        blocks
            Further blocks of the summary by name.
        versions
            Versions of the software used; default: those installed.
        statements
            Whether to write a statement per building.
        extras
            Called in order with the folder before the manifest is made; what they write there is hashed too (the
            report). The folder can be read with ``Run(folder, unfinished=True)``.

        Returns
        -------
        Path
            The final folder.

        Raises
        ------
        RunError
            If slots are missing.
        """
        if self._closed_slot != self.static.n_slots:
            raise RunError(f"the run ended at slot {self._closed_slot} of {self.static.n_slots}")
        layout.remove_unfinished(self.folder)
        self._write_ending(scenario_text, bills, devices, blocks)
        if statements:
            from peerwatt.results.run import Run
            from peerwatt.results.statements import write_statements

            write_statements(Run(self.folder, unfinished=True))
        for extra in extras:
            extra(self.folder)
        write_manifest(self.folder, self.static, installed_versions() if versions is None else versions)
        for name in _GONE:
            (self.folder / name).unlink(missing_ok=True)
        layout.sync_folder(self.folder)
        if self.folder != self.target:
            _swap(self.folder, self.target)
            self.folder = self.target
        return self.target

    def _write_ending(
        self,
        scenario_text: str,
        bills: Bills | None,
        devices: Mapping[str, Any] | None,
        blocks: Mapping[str, Any] | None,
    ) -> None:
        values = self._accumulator.values
        put = layout.write_atomic
        put(self.folder / layout.SCENARIO, scenario_text.encode())
        put(self.folder / layout.NOTICE, ("\n\n".join(self.static.notices) + "\n").encode())
        put(self.folder / layout.SUMMARY, summary_json(summarise(self.static, values, bills, devices, blocks)))
        arrays = values | {"months": np.array(month_labels(self.static))}
        put(self.folder / layout.AGGREGATES, _npz(arrays, compressed=True))
        written = list(self.tables)
        if bills is not None:
            part = PartWriter(self.folder, "bills")
            part.write(bill_columns(bills, self.static))
            part.close_part()
            written.append("bills")
        for table in written:
            put(self.folder / layout.SCHEMAS / f"{table}.json", TABLES[table].to_json(), durable=False)


def interrupted(folder: Path) -> bool:
    """Whether ``folder`` (or the one beside it that is to replace it) holds a run that can be gone on with."""
    return any((place / layout.INCOMPLETE).is_file() for place in (_beside(folder), folder))


def _check_ids(static: RunStatic) -> None:
    groups = {
        "accounts": [*static.accounts, POOL],
        "buses": [bus.id for bus in static.buses],
        "branches": [branch.id for branch in static.branches],
    }
    for name, ids in groups.items():
        double = sorted({i for i in ids if ids.count(i) > 1})
        if double:
            raise RunError(f"ids of {name} must be unique and not a reserved word: {', '.join(double)}")


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _claim(folder: Path, overwrite: bool) -> Path:
    """The folder to write into: ``folder`` itself, or one beside it when an earlier run is to be replaced."""
    _finish_swap(folder)
    work = folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise RunError(f"{folder} exists and is not empty", remedy="choose another folder, resume, or overwrite it")
        manifest = folder / layout.MANIFEST
        listed = set(json.loads(manifest.read_text())["files"]) if manifest.is_file() else set()
        layout.check_replaceable(folder, listed)
        work = _beside(folder)
    layout.remove_tree(_beside(folder))
    work.mkdir(parents=True, exist_ok=True)
    return work


def _swap(new: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    layout.remove_tree(old)
    target.rename(old)
    new.rename(target)
    layout.sync_folder(target.parent)
    layout.remove_tree(old)


def _finish_swap(target: Path) -> None:
    """Put a finished run in place whose swap was cut off between its two renames."""
    new = _beside(target)
    finished = (new / layout.MANIFEST).is_file() and not (new / layout.INCOMPLETE).exists()
    if finished and not target.exists():
        new.rename(target)
        layout.remove_tree(target.with_name(f".{target.name}.old"))


def _npz(arrays: Mapping[str, NDArray[Any]], *, compressed: bool) -> bytes:
    if any(array.dtype.hasobject for array in arrays.values()):
        raise RunError("a checkpoint holds plain arrays only, no objects")
    target = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(target, **dict(sorted(arrays.items())))  # type: ignore[arg-type]
    return target.getvalue()


def _read_checkpoint(folder: Path) -> Checkpoint:
    path = folder / layout.CHECKPOINT
    if not path.is_file():
        return Checkpoint(folder, 0, {}, {})
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}", remedy="delete it; the run then starts again") from error
    next_slot = int(arrays.pop("next_slot"))
    state = {name.removeprefix("state/"): a for name, a in arrays.items() if name.startswith("state/")}
    accumulated = {name.removeprefix("acc/"): a for name, a in arrays.items() if name.startswith("acc/")}
    return Checkpoint(folder, next_slot, state, accumulated)


def _drop_parts(folder: Path, tables: list[str], keep: int) -> None:
    """Delete everything behind the first ``keep`` parts of each table; those must be there."""
    layout.remove_unfinished(folder)
    for table in (*tables, "bills"):
        parts = layout.part_files(folder, table)
        last = 0 if table == "bills" else keep
        for path in parts[last:]:
            path.unlink()
        expected = [layout.part_name(i) for i in range(last)]
        if parts and table != "bills" and [path.name for path in parts[:last]] != expected:
            raise RunError(f"a finished part of {table} is missing", remedy="run the scenario from its beginning")
