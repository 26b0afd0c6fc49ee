"""Bills: the lines of a billing month (local calendar) and member, charges per day and per kW, tax, and the saving.

Value added tax is due on the lines a member buys: local and retail purchases, network charges, levies, fixed and demand
charges. What a member sells (locally or to its retailer) is income of a private household and bears none. The tax is
rounded once per invoice, half to even. The bill without a market is made of the same meters by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.slots import SlotGrid
from market.rounding import WH_PER_KWH, round_ratio
from market.settlement.columns import BILL_LINES, NETWORK, STATE, SYSTEM_ACCOUNTS, Bool, Int, Lines, Postings
from market.tariffs import ContractPrices

_TAXABLE = tuple(name not in ("local_sold", "retail_sold") for name in BILL_LINES)
_MICRO_PERCENT = 100_000_000
"""Millionths of a percent in one."""


@dataclass(frozen=True, slots=True)
class BillTerms:
    """What bills need beyond the slots: calendar, and charges by contract over the whole run.

    ``contract`` ``(B,)`` is each member's column in the ``(n_slots, C)`` arrays; see `ContractPrices` for their units.
    """

    grid: SlotGrid
    zone: str
    contract: NDArray[np.int64]
    fixed_u: Int
    demand_u: Int
    vat_micro_percent: Int

    @classmethod
    def of(cls, grid: SlotGrid, zone: str, prices: Sequence[ContractPrices], contract: Sequence[int]) -> BillTerms:
        """Terms of members whose contract ``prices[contract[i]]`` was resolved on ``grid``."""
        return cls(
            grid,
            zone,
            np.asarray(contract, np.int64),
            np.stack([p.fixed_u for p in prices], axis=1),
            np.stack([p.demand_u for p in prices], axis=1),
            np.stack([p.vat_micro_percent for p in prices], axis=1),
        )


@dataclass(frozen=True, slots=True)
class Bills:
    """One row per billing month and member, month-major; ``M`` months times ``B`` members rows.

    Amounts in micro-currency, + pays; ``total_u`` is the sum of the lines, ``saving_u`` the baseline's minus it.
    """

    period: NDArray[np.str_]  # "2021-03"
    member: Int
    lines_u: dict[str, Int]  # BILL_LINES, then fixed, demand, vat
    total_u: Int
    baseline_lines_u: dict[str, Int]
    baseline_total_u: Int
    import_wh: Int
    export_wh: Int
    bought_wh: Int  # local energy
    sold_wh: Int
    peak_kw: NDArray[np.float64]  # highest import of the month, mean of a slot
    postings_u: dict[str, Int]  # fixed, demand, vat -> (M, B + 4); each month sums to zero

    @property
    def saving_u(self) -> Int:
        """What the market saved each member, ``(rows,)``; negative = it cost more."""
        return self.baseline_total_u - self.total_u

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All columns by name, for a table."""
        return {
            "period": self.period,
            "member": self.member,
            **{f"{name}_u": line for name, line in self.lines_u.items()},
            "total_u": self.total_u,
            **{f"baseline_{name}_u": line for name, line in self.baseline_lines_u.items()},
            "baseline_total_u": self.baseline_total_u,
            "saving_u": self.saving_u,
            "import_wh": self.import_wh,
            "export_wh": self.export_wh,
            "bought_wh": self.bought_wh,
            "sold_wh": self.sold_wh,
            "peak_kw": self.peak_kw,
        }


@dataclass(slots=True)
class _Sums:
    """The running sums; plain arrays, so that a checkpoint is a copy of them."""

    lines: Int  # (6, M, B)
    baseline: Int  # (6, M, B)
    taxable: Int  # (rates, M, B)
    baseline_taxable: Int  # (rates, M, B)
    fixed: Int  # (M, B)
    energy: Int  # (4, M, B) import, export, bought, sold
    peak_wh: Int  # (M, B)
    peak_slot: Int  # (M, B), -1 before any import
    covered: Bool  # (n_slots,)


class BillAccumulator:
    """Sums windows into billing months; the order and the cut of the windows do not matter.

    Parameters
    ----------
    terms
        Calendar and charges of the whole run.
    """

    def __init__(self, terms: BillTerms) -> None:
        self._terms = terms
        codes = terms.grid.local_time(terms.zone).date.astype("datetime64[M]")
        months, self._month = np.unique(codes, return_inverse=True)
        self._labels = np.datetime_as_string(months) if months.size else np.empty(0, np.str_)
        self._rates = np.unique(terms.vat_micro_percent)
        self._rate = np.searchsorted(self._rates, terms.vat_micro_percent).astype(np.int64)  # (n_slots, C)
        plane = (months.size, terms.contract.size)
        n_lines, n_rates = len(BILL_LINES), self._rates.size

        def zeros(*head: int) -> Int:
            return np.zeros((*head, *plane), np.int64)

        self._sums = _Sums(
            zeros(n_lines), zeros(n_lines), zeros(n_rates), zeros(n_rates), zeros(), zeros(4), zeros(),
            np.full(plane, -1, np.int64), np.zeros(terms.grid.n, np.bool_),
        )  # fmt: skip

    def add(self, first_slot: int, postings: Postings, baseline: Lines, import_wh: Int, export_wh: Int) -> None:
        """Add a settled window.

        Parameters
        ----------
        first_slot
            Number of its first slot in the run.
        postings, baseline
            The settlement, and `no_market_lines` of the same meters.
        import_wh, export_wh
            The meters, ``(S, B)``.

        Raises
        ------
        MarketError
            If a slot lies outside the run, or was added before.
        """
        energy = (import_wh, export_wh, postings.contracts.local_bought_wh, postings.contracts.local_sold_wh)
        self.add_lines(first_slot, postings.lines, baseline, energy)

    def add_lines(self, first_slot: int, lines: Lines, baseline: Lines, energy_wh: tuple[Int, Int, Int, Int]) -> None:
        """`add` of a window whose lines are known: those with a market and without one.

        ``energy_wh`` are import, export, and what neighbours delivered and took, ``(S, B)`` each.

        Raises
        ------
        MarketError
            As `add`.
        """
        last = first_slot + energy_wh[0].shape[0]
        if first_slot < 0 or last > self._terms.grid.n:
            raise MarketError(f"slots {first_slot}..{last - 1} are not all within the run of {self._terms.grid.n}")
        sums = self._sums
        if sums.covered[first_slot:last].any():
            again = first_slot + int(np.argmax(sums.covered[first_slot:last]))
            raise MarketError(f"slot {again} has been billed already", remedy="post corrections as difference lines")
        sums.covered[first_slot:last] = True
        months = self._month[first_slot:last]
        edges = [0, *(np.flatnonzero(np.diff(months)) + 1).tolist(), len(months)]
        for begin, end in pairwise(edges):
            if end > begin:
                self._add_month(first_slot, slice(begin, end), lines, baseline, energy_wh)

    def _add_month(
        self, first_slot: int, part: slice, lines: Lines, baseline: Lines, energy_wh: tuple[Int, Int, Int, Int]
    ) -> None:
        sums, month = self._sums, int(self._month[first_slot + part.start])
        rows = slice(first_slot + part.start, first_slot + part.stop)
        own = [getattr(lines, name)[part] for name in BILL_LINES]
        other = [getattr(baseline, name)[part] for name in BILL_LINES]
        fixed = self._terms.fixed_u[rows][:, self._terms.contract]
        rate = self._rate[rows][:, self._terms.contract]
        for found, total, taxed in (
            (own, sums.lines, sums.taxable),
            (other, sums.baseline, sums.baseline_taxable),
        ):
            by_line = np.stack([line.sum(axis=0) for line in found])
            total[:, month] += by_line
            taxable = [line for line, due in zip(found, _TAXABLE, strict=True) if due] + [fixed]
            for k in range(self._rates.size):
                at_rate = rate == k
                if at_rate.all():
                    taxed[k, month] += by_line[list(_TAXABLE)].sum(axis=0) + fixed.sum(axis=0)
                elif at_rate.any():
                    taxed[k, month] += sum(np.where(at_rate, line, 0).sum(axis=0) for line in taxable)
        sums.fixed[month] += fixed.sum(axis=0)
        for k, wh in enumerate(energy_wh):
            sums.energy[k, month] += wh[part].sum(axis=0)
        imported = energy_wh[0][part]
        at = np.argmax(imported, axis=0)
        self._raise_peak(month, imported[at, np.arange(at.size)], rows.start + at)

    def _raise_peak(self, month: int, peak_wh: Int, slot: Int) -> None:
        """Higher peaks win; of equal ones the earlier slot, so that the order of windows does not matter."""
        sums = self._sums
        have, at = sums.peak_wh[month], sums.peak_slot[month]
        wins = (slot >= 0) & (peak_wh > 0) & ((peak_wh > have) | ((peak_wh == have) & (slot < at)))
        sums.peak_wh[month] = np.where(wins, peak_wh, have)
        sums.peak_slot[month] = np.where(wins, slot, at)

    def merge(self, other: BillAccumulator) -> None:
        """Add what another accumulator of the same terms has summed over other slots.

        Raises
        ------
        MarketError
            If both hold the same slot.
        """
        mine, theirs = self._sums, other._sums
        if mine.covered.shape != theirs.covered.shape or mine.lines.shape != theirs.lines.shape:
            raise MarketError("bills of different runs cannot be merged")
        if (mine.covered & theirs.covered).any():
            both = int(np.argmax(mine.covered & theirs.covered))
            raise MarketError(f"slot {both} has been billed already", remedy="merge windows that do not overlap")
        for name in ("lines", "baseline", "taxable", "baseline_taxable", "fixed", "energy"):
            getattr(mine, name)[...] += getattr(theirs, name)
        mine.covered |= theirs.covered
        for month in range(mine.peak_wh.shape[0]):
            self._raise_peak(month, theirs.peak_wh[month], theirs.peak_slot[month])

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The sums as plain arrays, for a checkpoint."""
        return {f.name: getattr(self._sums, f.name).copy() for f in fields(_Sums)}

    @classmethod
    def restore(cls, terms: BillTerms, state: Mapping[str, NDArray[np.generic]]) -> BillAccumulator:
        """An accumulator that goes on from ``state``.

        Raises
        ------
        MarketError
            If the state is not one of these terms.
        """
        restored = cls(terms)
        for f in fields(_Sums):
            have = getattr(restored._sums, f.name)
            given = state.get(f.name)
            if given is None or given.shape != have.shape or given.dtype != have.dtype:
                raise MarketError(f"the checkpoint's bills do not fit this run: {f.name}")
            have[...] = given
        return restored

    def bills(self) -> Bills:
        """Invoices of every month of which a slot was added. A cut month is billed for what it has."""
        sums, terms = self._sums, self._terms
        touched = np.unique(self._month[sums.covered])
        members = np.arange(terms.contract.size)
        slot = np.maximum(sums.peak_slot[touched], 0)
        some = sums.peak_slot[touched] >= 0
        rate_u = np.where(some, terms.demand_u[slot, terms.contract], 0) if touched.size else slot
        peak_wh = sums.peak_wh[touched]
        hour, slot_kwh = 3600, terms.grid.length_s * WH_PER_KWH
        demand = round_ratio(rate_u.astype(object) * peak_wh * hour, np.array(slot_kwh, object))
        demand_rate = self._rate[slot, terms.contract] if touched.size else slot
        fixed = sums.fixed[touched]
        lines, total = self._invoice(sums.lines, sums.taxable, touched, fixed, demand, demand_rate)
        base_lines, base_total = self._invoice(
            sums.baseline, sums.baseline_taxable, touched, fixed, demand, demand_rate
        )  # fmt: skip
        energy = sums.energy[:, touched].reshape(4, -1)
        return Bills(
            period=np.repeat(self._labels[touched], members.size),
            member=np.tile(members, touched.size),
            lines_u=lines,
            total_u=total,
            baseline_lines_u=base_lines,
            baseline_total_u=base_total,
            import_wh=energy[0],
            export_wh=energy[1],
            bought_wh=energy[2],
            sold_wh=energy[3],
            peak_kw=(peak_wh * hour / slot_kwh).ravel(),
            postings_u={
                "fixed": _post(fixed, NETWORK),
                "demand": _post(demand, NETWORK),
                "vat": _post(lines["vat"].reshape(fixed.shape), STATE),
            },
        )

    def _invoice(
        self, lines: Int, taxable: Int, months: Int, fixed: Int, demand: Int, demand_rate: Int
    ) -> tuple[dict[str, Int], Int]:
        """Lines and total of each invoice; the tax is exact until its one rounding."""
        due = np.zeros(fixed.shape, object)
        for k, rate in enumerate(self._rates):
            base = taxable[k, months] + np.where(demand_rate == k, demand, 0)
            due = due + base.astype(object) * int(rate)
        columns = dict(zip(BILL_LINES, lines[:, months].reshape(len(BILL_LINES), -1), strict=True))
        columns["fixed"], columns["demand"] = fixed.ravel(), demand.ravel()
        columns["vat"] = round_ratio(due, np.array(_MICRO_PERCENT, object)).ravel()
        total = np.zeros(fixed.size, np.int64)
        for line in columns.values():
            total = total + line
        return columns, total


def _post(paid_u: Int, account: int) -> Int:
    """Members pay ``paid_u`` ``(M, B)`` into a system account."""
    posted = np.zeros((paid_u.shape[0], paid_u.shape[1] + len(SYSTEM_ACCOUNTS)), np.int64)
    posted[:, : paid_u.shape[1]] = -paid_u
    posted[:, paid_u.shape[1] + account] = paid_u.sum(axis=1)
    return posted
