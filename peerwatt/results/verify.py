"""Recompute what a run folder claims: hashes, row counts, the laws of the ledger, of trades, of energy and batteries.

The laws are checked between tables, so that a change is found even where the manifest was changed along with it.
"""

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
from peerwatt.results.checking import (
    MOST_PER_CHECK,
    Ints,
    NothingToCheckError,
    Problem,
    dense_parts,
    needs,
    numpy_column,
    where,
)
from peerwatt.results.manifest import listed_files, read_manifest
from peerwatt.results.parts import count_rows
from peerwatt.results.record import LEDGER_KINDS
from peerwatt.results.run import Run
from peerwatt.results.schemas import TABLES
from peerwatt.results.tables import POOL
from peerwatt.results.verify_envelopes import check_envelopes, check_islands
from peerwatt.results.verify_inverters import check_inverters
from peerwatt.results.verify_origin import check_certificates, check_consumption
from peerwatt.results.verify_phases import check_phases

_SUMMED = ("load_wh", "heat_pump_wh", "ev_wh", "pv_wh", "curtailed_wh", "charge_wh", "discharge_wh", "import_wh",
           "export_wh")  # fmt: skip


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
        With at most five problems per check and file, each naming the file and, where it can, the slot. A file that
        cannot be read is named once.

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
        ("manifest and static.json are of the same run", _check_identity),
        ("every table has the rows it should have", _check_rows),
        ("every kind of posting sums to zero in every slot", _check_ledger),
        ("sums of the ledger equal bills and summary", _check_sums),
        ("energy balances in every slot: imports - exports + losses = exchange, bought = sold", _check_energy),
        ("trades are booked at their exact price, rounded half to even", _check_prices),
        ("trades of every member and slot sum to its contract postings", _check_trades),
        ("stored energy follows charging and discharging", _check_batteries),
        ("voltages and loadings of slots are the extremes of buses and branches", _check_grid),
        ("voltages and loadings of buses and branches are those of their phases", check_phases),
        ("every curtailed Wh of buildings whose inverters support the grid has its reason", check_inverters),
        ("limited buildings keep to their limits, or their excess is told", check_envelopes),
        ("what islands curtailed and exceeded is told once", check_islands),
        ("every consumed Wh has an origin: origins of every building sum to its consumption", check_consumption),
        ("certificates created are those cancelled, held, handed on or lost, once each", check_certificates),
    )
    unreadable: set[str] = set()
    for name, step in steps:
        found = _collect(run, step(run))
        if found is not None:
            checks.append(name)
            problems += [p for p in found if p.check != "reading" or p.file not in unreadable]
            unreadable |= {p.file for p in found if p.check == "reading"}
    return VerifyReport(run.folder, tuple(checks), tuple(problems))


def _collect(run: Run, found: Iterator[Problem]) -> list[Problem] | None:
    """Problems of one check; a file that cannot be read is one; None when the run lacks what the check needs."""
    problems: list[Problem] = []
    try:
        problems.extend(found)
    except NothingToCheckError:
        return None
    except (RunError, ValueError, KeyError, TypeError, IndexError) as error:
        # checks that read the same file fail alike, each in its own words: the file tells that it is one problem
        reason = str(error)
        named = [name for name in listed_files(run.folder) if name in reason]
        problems.append(Problem("reading", max(named, key=len, default=reason), reason))
    return problems


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


def _check_identity(run: Run) -> Iterator[Problem]:
    manifest, static = run.manifest, run.static
    for key, own in (("run_id", static.run_id), ("name", static.name), ("seed", static.seed)):
        if manifest.get(key) != own:
            yield Problem("identity", layout.MANIFEST, f"{key} is {manifest.get(key)!r}, static.json says {own!r}")


def _check_rows(run: Run) -> Iterator[Problem]:
    static = run.static
    dense = {
        "slots": 1,
        "buildings": len(static.buildings),
        "ledger": len(static.accounts),
        "buses": len(static.buses),
        "branches": len(static.branches),
        "certificates": len(static.origins),
        "heat": len(static.heated),
        "inverters": len(static.supporting),
        "envelopes": len(static.limited),
        "islands": len(static.limited),
        "slot_phases": 1,
        "bus_phases": len(static.buses),
        "branch_phases": len(static.branches),
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


def _check_ledger(run: Run) -> Iterator[Problem]:
    needs(run, "ledger")
    columns = [f"{kind}_u" for kind in LEDGER_KINDS]
    for name, slots, values in dense_parts(run, "ledger", columns, len(run.static.accounts)):
        for kind, column in values.items():
            total = column.sum(axis=1)
            yield from where("ledger", name, slots, total != 0, f"{kind} sums to {{}} micro-currency, not to 0", total)


def _check_sums(run: Run) -> Iterator[Problem]:
    needs(run, "ledger")
    static, summary = run.static, run.summary
    n = len(static.buildings)
    totals = np.zeros((len(LEDGER_KINDS), len(static.accounts)), np.int64)
    for _, _, values in dense_parts(run, "ledger", [f"{k}_u" for k in LEDGER_KINDS], len(static.accounts)):
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
    needs(run, "slots")
    names = ["import_wh", "export_wh", "loss_wh", "exchange_wh", "local_wh", *_SUMMED[:-2]]
    slots_parts = dense_parts(run, "slots", names, 1)
    if "buildings" not in run.tables:
        for name, slots, v in slots_parts:
            yield from _balance(name, slots, {c: x[:, 0] for c, x in v.items()})
        return
    columns = [*_SUMMED, "bought_wh", "sold_wh"]
    buildings_parts = dense_parts(run, "buildings", columns, len(run.static.buildings))
    for (name, slots, v), (file, _, b) in zip(slots_parts, buildings_parts, strict=True):
        row = {c: x[:, 0] for c, x in v.items()}
        yield from _balance(name, slots, row)
        sums = {c: x.sum(axis=1) for c, x in b.items()}
        for column in _SUMMED:
            gap = sums[column] - row[column]
            text = f"buildings' {column} and that of slots differ by {{}} Wh"
            yield from where("energy", file, slots, gap != 0, text, gap)
        for column in ("bought_wh", "sold_wh"):
            gap = sums[column] - row["local_wh"]
            yield from where("energy", file, slots, gap != 0, f"{column} differs from local_wh by {{}} Wh", gap)


def _balance(name: str, slots: Ints, v: dict[str, Ints]) -> Iterator[Problem]:
    gap = v["import_wh"] - v["export_wh"] + v["loss_wh"] - v["exchange_wh"]
    yield from where("energy", name, slots, gap != 0, "imports - exports + losses differ from exchange by {} Wh", gap)


@dataclass(frozen=True, slots=True)
class _Trades:
    """A part of ``trades``: buildings as indices, -1 for the pool."""

    name: str
    slot: Ints
    buyer: Ints
    seller: Ints
    e_wh: Ints
    price_num: Ints
    price_den: Ints
    amount_u: Ints

    @property
    def pool(self) -> NDArray[np.bool_]:
        """Rows that have the pool on one side."""
        return (self.buyer < 0) | (self.seller < 0)


def _trade_parts(run: Run) -> Iterator[_Trades]:
    columns = ["slot", "buyer", "seller", "e_wh", "price_num", "price_den", "amount_u"]
    place = {building.id: i for i, building in enumerate(run.static.buildings)} | {POOL: -1}
    files = layout.part_files(run.folder, "trades")
    for path, part in zip(files, run.parts("trades", columns), strict=True):
        name = path.relative_to(run.folder).as_posix()
        sides = []
        for side in ("buyer", "seller"):
            coded = part.column(side).unify_dictionaries().combine_chunks()
            names = coded.dictionary.to_pylist() if len(part) else []
            unknown = sorted(set(names) - set(place))
            if unknown:
                raise RunError(f"{name}: the run has no building {unknown[0]}")
            index = np.array([place[x] for x in names], np.int64)
            sides.append(index[coded.indices.to_numpy()] if len(part) else np.zeros(0, np.int64))
        slot, *rest = (numpy_column(part, c).astype(np.int64) for c in (columns[0], *columns[3:]))
        yield _Trades(name, slot, sides[0], sides[1], *rest)


def _check_prices(run: Run) -> Iterator[Problem]:
    """A bilateral amount is its rounded price; a pool's price is what was booked over what was traded, not rounded.

    Products may wrap around: that the floats agree too makes the wrapped difference the true one.
    """
    needs(run, "trades")
    for t in _trade_parts(run):
        due = t.e_wh.astype(np.float64) * t.price_num / t.price_den / 1000
        unit = t.price_den * 1000
        off = 2 * np.abs(t.e_wh * t.price_num - t.amount_u * unit)
        far = np.abs(t.amount_u - due) > 1 + 1e-9 * np.abs(due)
        rounded = (off < unit) | ((off == unit) & (t.amount_u % 2 == 0))
        exact = (off == 0) | (t.e_wh == 0)  # a correction of rounding without energy has no price
        wrong = np.where(t.pool, ~exact | (far & (t.e_wh != 0)), ~rounded | far)
        yield from where(
            "trades", t.name, t.slot, wrong, "a trade's amount {} is not its price times its energy", t.amount_u
        )


def _check_trades(run: Run) -> Iterator[Problem]:
    """What members paid and received by trades is what the ledger's contract column says.

    Deals of pairs with a retailer in the book are no rows of ``trades``: slots with such deals are left out.
    """
    needs(run, "trades", "ledger")
    static = run.static
    n = len(static.buildings)
    retailer = static.accounts.index("retailer")
    ledger = dense_parts(run, "ledger", ["contract_u"], len(static.accounts))
    for (_, slots, posted), t in zip(ledger, _trade_parts(run), strict=True):
        row = t.slot - slots[0] if len(slots) else t.slot
        if len(row) and (row.min() < 0 or row.max() >= len(slots)):
            yield Problem("trades", t.name, f"it holds trades outside slots {slots[0]} to {slots[-1]}")
            continue
        total = np.zeros(len(slots) * n)
        for side, sign in ((t.buyer, -1.0), (t.seller, 1.0)):
            own = side >= 0
            total += np.bincount(row[own] * n + side[own], weights=sign * t.amount_u[own], minlength=len(total))
        column = posted["contract_u"]
        gap = column[:, :n] - np.rint(total).astype(np.int64).reshape(-1, n)
        if static.pairs:
            gap[column[:, retailer] != 0] = 0
        for i, member in np.argwhere(gap)[:MOST_PER_CHECK]:
            who = static.buildings[member].id
            yield Problem("trades", t.name, f"slot {slots[i]}: the ledger's contract_u of {who} and the sum of its "
                          f"trades differ by {gap[i, member]} micro-currency")  # fmt: skip


def _check_batteries(run: Run) -> Iterator[Problem]:
    """A store gains at most what is charged and loses at least what is discharged; efficiencies are not known here."""
    needs(run, "buildings")
    buildings = run.static.buildings
    before: Ints | None = None
    feeding = [i for i, b in enumerate(buildings) if b.id in run.static.feeding]
    for name, slots, v in dense_parts(run, "buildings", ["soc_wh", "charge_wh", "discharge_wh"], len(buildings)):
        most = v["soc_wh"] + v["charge_wh"] - v["discharge_wh"]  # at the slot's end
        if len(most) == 0:
            continue
        first = v["soc_wh"][0] if before is None else before
        start = np.vstack([first, most[:-1]])
        above = v["soc_wh"] - start
        before = most[-1]
        above[:, feeding] = 0  # what a car feeds back is in the discharge, and in no store
        for i, k in np.argwhere((above > 1) | (v["soc_wh"] < 0))[:MOST_PER_CHECK]:
            yield Problem("batteries", name, f"slot {slots[i]}: {buildings[k].id} stores {v['soc_wh'][i, k]} Wh, "
                          f"{above[i, k]} Wh more than was there and was charged")  # fmt: skip


def _check_grid(run: Run) -> Iterator[Problem]:
    """The extremes that ``slots`` states, from every bus and branch; NaN where there are none."""
    static = run.static
    kinds = [branch.kind == "transformer" for branch in static.branches]
    lines, transformers = np.flatnonzero(~np.array(kinds, np.bool_)), np.flatnonzero(kinds)
    every = np.arange(len(static.buses))
    extremes = (
        *(
            (("buses", "v_pu", "v_min_pu", every, np.min), ("buses", "v_pu", "v_max_pu", every, np.max))
            if static.phases == 1
            else ()
        ),  # else of the phases: `check_phases`
        ("branches", "loading", "max_line_loading", lines, np.max),
        ("branches", "loading", "max_transformer_loading", transformers, np.max),
    )
    needs(run, "slots")
    present = [e for e in extremes if e[0] in run.tables and len(e[3])]
    if not present:
        raise NothingToCheckError
    for table in dict.fromkeys(e[0] for e in present):
        wanted = [e for e in present if e[0] == table]
        parts = dense_parts(run, table, [wanted[0][1]], len(getattr(static, table)))
        claims = dense_parts(run, "slots", [e[2] for e in wanted], 1)
        for (name, slots, values), (_, _, claimed) in zip(parts, claims, strict=True):
            for _, column, stated, chosen, extreme in wanted:
                found = extreme(values[column][:, chosen], axis=1)
                told = claimed[stated][:, 0]
                wrong = (found != told) & ~(np.isnan(found) & np.isnan(told))
                yield from where("grid", name, slots, wrong, f"{stated} of slots is not the {{:.6g}} here", found)


def report_json(report: VerifyReport) -> bytes:
    """The report as JSON, for scripts."""
    problems = [{"check": p.check, "file": p.file, "message": p.message} for p in report.problems]
    document = {"folder": str(report.folder), "ok": report.ok, "checks": list(report.checks), "problems": problems}
    return (json.dumps(document, indent=2) + "\n").encode()
