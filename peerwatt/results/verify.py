"""Recompute what a run folder claims: hashes, row counts, the laws of the ledger and of energy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import RunError, file_sha256
from peerwatt.results import layout
from peerwatt.results.manifest import listed_files, read_manifest
from peerwatt.results.parts import count_rows
from peerwatt.results.record import LEDGER_KINDS
from peerwatt.results.run import Run
from peerwatt.results.schemas import TABLES

_SUMMED = ("load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "import_wh",
           "export_wh")  # fmt: skip
_MOST_PER_CHECK = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold: which check, in which file, and what."""

    check: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and what does not hold. ``ok`` when nothing is wrong."""

    folder: Path
    checks: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            return f"{self.folder}: all right\n" + "\n".join(f"  checked: {check}" for check in self.checks)
        return f"{self.folder}: {len(self.problems)} problem(s)\n" + "\n".join(f"  {p}" for p in self.problems)


def verify_run(folder: str | Path) -> VerifyReport:
    """Check a finished run folder; reads one part of a table at a time.

    Returns
    -------
    VerifyReport
        With at most five problems per check and file, each naming the file and, where it can, the slot.

    Raises
    ------
    RunError
        If the folder holds no finished run, or its manifest cannot be read.
    """
    run = Run(folder)
    checks: list[str] = []
    problems: list[Problem] = []
    steps = (
        ("SHA-256 of every file equals the manifest's", _check_hashes),
        ("every table has the rows it should have", _check_rows),
        ("every kind of posting sums to zero in every slot", _check_ledger),
        ("sums of the ledger equal bills and summary", _check_sums),
        ("energy balances in every slot: imports - exports + losses = exchange, bought = sold", _check_energy),
        ("bilateral trades are booked at their exact price, rounded half to even", _check_trades),
    )
    for name, step in steps:
        found = _collect(step(run))
        if found is not None:
            checks.append(name)
            problems += found
    return VerifyReport(run.folder, tuple(checks), tuple(problems))


def _collect(found: Iterator[Problem]) -> list[Problem] | None:
    """Problems of one check; a file that cannot be read is one; None when the run lacks what the check needs."""
    problems: list[Problem] = []
    try:
        problems.extend(found)
    except _NothingToCheckError:
        return None
    except (RunError, ValueError, KeyError, TypeError) as error:
        problems.append(Problem("reading", "a table or document", str(error)))
    return problems


class _NothingToCheckError(Exception):
    pass


def _needs(run: Run, *tables: str) -> None:
    if not set(tables) <= set(run.tables):
        raise _NothingToCheckError


def _check_hashes(run: Run) -> Iterator[Problem]:
    listed = read_manifest(run.folder)["files"]
    for name, digest in listed.items():
        path = run.folder / name
        if not path.is_file():
            yield Problem("hash", name, "the file is missing")
        elif file_sha256(path) != digest:
            yield Problem("hash", name, "the file was changed: its SHA-256 is not the manifest's")
    for name in listed_files(run.folder):
        if name not in listed:
            yield Problem("hash", name, "the manifest does not know this file")


def _check_rows(run: Run) -> Iterator[Problem]:
    static = run.static
    dense = {
        "slots": 1,
        "buildings": len(static.buildings),
        "ledger": len(static.accounts),
        "buses": len(static.buses),
        "branches": len(static.branches),
    }
    claimed = read_manifest(run.folder)["tables"]
    for name in TABLES:
        parts = count_rows(run.folder, name)
        stated = claimed.get(name, {"parts": 0, "rows": 0})
        if (len(parts), sum(parts)) != (stated["parts"], stated["rows"]):
            yield Problem("rows", f"{name}.parquet", f"{sum(parts)} rows in {len(parts)} parts, the manifest says "
                          f"{stated['rows']} in {stated['parts']}")  # fmt: skip
        elif parts and name in dense and sum(parts) != static.n_slots * dense[name]:
            yield Problem("rows", f"{name}.parquet", f"{sum(parts)} rows, expected {static.n_slots * dense[name]}")


def _dense_parts(run: Run, table: str, columns: list[str], width: int) -> Iterator[tuple[str, Ints, dict[str, Ints]]]:
    """Parts of a dense table: file name, slots (n,), columns as (n, width); checks that no row is missing."""
    first = 0
    names = [p.relative_to(run.folder).as_posix() for p in layout.part_files(run.folder, table)]
    for name, part in zip(names, run.parts(table, ["slot", *columns]), strict=True):
        slot = _numpy(part, "slot")
        n = len(slot) // width
        expected = np.repeat(np.arange(first, first + n), width)
        if len(slot) != n * width or not np.array_equal(slot, expected):
            raise RunError(f"{name}: rows are missing or out of order from slot {first} on")
        yield name, np.arange(first, first + n), {c: _numpy(part, c).reshape(n, width) for c in columns}
        first += n


def _numpy(part: Any, column: str) -> NDArray[Any]:
    return np.asarray(part.column(column).to_numpy())


def _where(check: str, name: str, slots: Ints, wrong: NDArray[Any], text: str, values: Ints) -> Iterator[Problem]:
    for i in np.flatnonzero(wrong)[:_MOST_PER_CHECK]:
        yield Problem(check, name, f"slot {slots[i]}: {text.format(values[i])}")


def _check_ledger(run: Run) -> Iterator[Problem]:
    _needs(run, "ledger")
    columns = [f"{kind}_u" for kind in LEDGER_KINDS]
    for name, slots, values in _dense_parts(run, "ledger", columns, len(run.static.accounts)):
        for kind, column in values.items():
            total = column.sum(axis=1)
            yield from _where("ledger", name, slots, total != 0, f"{kind} sums to {{}} micro-currency, not to 0", total)


def _check_sums(run: Run) -> Iterator[Problem]:
    _needs(run, "ledger")
    static, summary = run.static, run.summary
    n = len(static.buildings)
    totals = np.zeros((len(LEDGER_KINDS), len(static.accounts)), np.int64)
    for _, _, values in _dense_parts(run, "ledger", [f"{k}_u" for k in LEDGER_KINDS], len(static.accounts)):
        totals += np.array([column.sum(axis=0) for column in values.values()])
    accounts = summary["money"]["accounts"]
    sums = {account: totals[:, n + i] for i, account in enumerate(static.accounts[n:])}
    sums["buildings"] = totals[:, :n].sum(axis=1)
    for account, by_kind in sums.items():
        for kind, total in zip(LEDGER_KINDS, by_kind.tolist(), strict=True):
            claimed = accounts[account][f"{kind}_u"]
            if claimed != total:
                yield Problem("sums", layout.SUMMARY, f"{account}, {kind}: {claimed}, the ledger sums to {total}")
    if "bills" in run.tables:
        yield from _check_bills(run, totals[:, :n])
    elif summary["money"]["costs_from"] == "slots" and summary["money"]["cost_u"] != -int(totals[:, :n].sum()):
        yield Problem("sums", layout.SUMMARY, f"cost_u is {summary['money']['cost_u']}, the ledger says "
                      f"{-int(totals[:, :n].sum())}")  # fmt: skip


_BILLED = {
    "energy": (("local_bought", "local_sold", "retail_bought", "retail_sold"), ("contract", "residual", "losses")),
    "network": (("network",), ("network",)),
    "levies": (("levies",), ("levies",)),
}
"""Bill lines and the kinds of posting they are the sum of."""


def _check_bills(run: Run, postings: Ints) -> Iterator[Problem]:
    bills = run.table("bills")
    place = {building.id: i for i, building in enumerate(run.static.buildings)}
    member = np.array([place[building] for building in bills["building"]], dtype=np.int64)

    def by_building(column: NDArray[Any]) -> list[int]:
        total = np.zeros(len(place), np.int64)
        np.add.at(total, member, column)
        return [int(x) for x in total]

    for name, (lines, kinds) in _BILLED.items():
        billed = by_building(np.sum([bills[f"{line}_u"] for line in lines], axis=0))
        posted = -postings[[LEDGER_KINDS.index(kind) for kind in kinds]].sum(axis=0)
        for building, i in place.items():
            if billed[i] != posted[i]:
                yield Problem("sums", "bills.parquet", f"{building}, {name}: billed {billed[i]} micro-currency, the "
                              f"ledger says {posted[i]}")  # fmt: skip
    for column, key in (("total_u", "cost_u"), ("baseline_total_u", "baseline_u"), ("saving_u", "savings_u")):
        sums = by_building(bills[column].to_numpy())
        for building, i in place.items():
            claimed = run.summary["buildings"][building][key]
            if claimed != sums[i]:
                yield Problem("sums", layout.SUMMARY, f"{building}: {key} is {claimed}, its bills sum to {sums[i]}")


def _check_energy(run: Run) -> Iterator[Problem]:
    _needs(run, "slots")
    names = ["import_wh", "export_wh", "loss_wh", "exchange_wh", "local_wh", *_SUMMED[:-2]]
    slots_parts = _dense_parts(run, "slots", names, 1)
    if "buildings" not in run.tables:
        for name, slots, v in slots_parts:
            yield from _balance(name, slots, {c: x[:, 0] for c, x in v.items()})
        return
    columns = [*_SUMMED, "bought_wh", "sold_wh"]
    buildings_parts = _dense_parts(run, "buildings", columns, len(run.static.buildings))
    for (name, slots, v), (file, _, b) in zip(slots_parts, buildings_parts, strict=True):
        row = {c: x[:, 0] for c, x in v.items()}
        yield from _balance(name, slots, row)
        sums = {c: x.sum(axis=1) for c, x in b.items()}
        for column in _SUMMED:
            gap = sums[column] - row[column]
            text = f"buildings' {column} and that of slots differ by {{}} Wh"
            yield from _where("energy", file, slots, gap != 0, text, gap)
        for column in ("bought_wh", "sold_wh"):
            gap = sums[column] - row["local_wh"]
            yield from _where("energy", file, slots, gap != 0, f"{column} differs from local_wh by {{}} Wh", gap)


def _balance(name: str, slots: Ints, v: dict[str, Ints]) -> Iterator[Problem]:
    gap = v["import_wh"] - v["export_wh"] + v["loss_wh"] - v["exchange_wh"]
    yield from _where("energy", name, slots, gap != 0, "imports - exports + losses differ from exchange by {} Wh", gap)


def _check_trades(run: Run) -> Iterator[Problem]:
    _needs(run, "trades")
    if not run.static.pairs:
        raise _NothingToCheckError
    columns = ["slot", "buyer", "seller", "e_wh", "price_num", "price_den", "amount_u"]
    names = [p.relative_to(run.folder).as_posix() for p in layout.part_files(run.folder, "trades")]
    for name, part in zip(names, run.parts("trades", columns), strict=True):
        if not len(part):
            continue
        pool = [np.asarray(part.column(side).to_pandas() == "pool") for side in ("buyer", "seller")]
        slot, e_wh, num, den, amount = (_numpy(part, c) for c in (columns[0], *columns[3:]))
        exact = e_wh.astype(np.float64) * num / den / 1000
        wrong = (np.abs(amount - exact) > 0.5 + 1e-9 * np.abs(exact)) & ~pool[0] & ~pool[1]
        yield from _where("trades", name, slot, wrong, "a trade's amount {} is not its price times its energy", amount)


def report_json(report: VerifyReport) -> bytes:
    """The report as JSON, for scripts."""
    problems = [{"check": p.check, "file": p.file, "message": p.message} for p in report.problems]
    document = {"folder": str(report.folder), "ok": report.ok, "checks": list(report.checks), "problems": problems}
    return (json.dumps(document, indent=2) + "\n").encode()
