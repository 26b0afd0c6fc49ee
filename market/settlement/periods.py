"""Bills of billing months from slots that are settled already: how a live market bills, with the arithmetic of a run.

A month is that of the local calendar, cut at the first and the last slot of the grid. A member whose membership began
or ended within it pays the fixed charge of every local day of which a slot of its own is settled, in full: what a run
does with days that it cuts. Its other lines are sums over its slots, and demand is of its own highest import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.slots import SlotGrid
from market.settlement.bills import BillAccumulator, Bills, BillTerms
from market.settlement.columns import BILL_LINES, Bool, Charges, Int, Lines
from market.settlement.settle import no_market_lines
from market.tariffs import ContractPrices


@dataclass(frozen=True, slots=True)
class Period:
    """A billing month, ``2021-03``, and its slots [first, end) on the grid."""

    name: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class PeriodTerms:
    """What months are billed by: the slot grid, the zone of its calendar, and the contracts resolved on the grid.

    A member's contract is a place in ``contracts``; one beyond them stands for the last, as in a slot's settlement.
    """

    grid: SlotGrid
    zone: str
    contracts: tuple[ContractPrices, ...]

    def periods(self) -> list[Period]:
        """All billing months of the grid, in order."""
        if not self.grid.n:
            return []
        months = self.grid.local_time(self.zone).date.astype("datetime64[M]")
        names, firsts = np.unique(months, return_index=True)
        ends = [*firsts[1:].tolist(), self.grid.n]
        labels = np.datetime_as_string(names).tolist()
        return [Period(*found) for found in zip(labels, firsts.tolist(), ends, strict=True)]


@dataclass(frozen=True, slots=True)
class SettledRows:
    """Settled slots of members, one row each: int64 ``(n,)``, lines ``(n, 6)`` in the order of ``BILL_LINES``.

    ``bought_wh`` and ``sold_wh`` are what neighbours delivered and took; amounts in micro-currency, + pays; ``quality``
    is the meter reading's, as the journal counts it.
    """

    slot: Int
    member: Int
    version: Int
    import_wh: Int
    export_wh: Int
    bought_wh: Int
    sold_wh: Int
    lines_u: Int
    baseline_u: Int
    quality: Int

    @classmethod
    def of(cls, rows: Sequence[tuple[int, ...]]) -> SettledRows:
        """From rows of (slot, member, version, import, export, bought, sold, baseline, quality, the six lines)."""
        table = np.array(rows, np.int64).reshape(len(rows), 9 + len(BILL_LINES))
        slot, member, version, drawn, fed, bought, sold, baseline, quality = table[:, :9].T
        return cls(slot, member, version, drawn, fed, bought, sold, table[:, 9:], baseline, quality)

    def where(self, chosen: Bool | Int) -> SettledRows:
        """Some of the rows."""
        return SettledRows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def and_also(self, other: SettledRows) -> SettledRows:
        """These rows, then ``other``'s."""
        columns = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return SettledRows(*(np.concatenate(pair) for pair in columns))

    def newest(self) -> SettledRows:
        """Of every slot and member the row of the highest version, by member and slot."""
        order = np.lexsort((self.version, self.slot, self.member))
        slot, member = self.slot[order], self.member[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = (slot[1:] != slot[:-1]) | (member[1:] != member[:-1])
        return self.where(order[last])

    def same_as(self, other: SettledRows) -> Bool:
        """Where two lots of as many rows come to the same, whatever their version, ``(n,)``."""
        names = ("slot", "member", "import_wh", "export_wh", "bought_wh", "sold_wh", "baseline_u", "quality")
        equal = (self.lines_u == other.lines_u).all(axis=1)
        for name in names:
            equal &= getattr(self, name) == getattr(other, name)
        found: Bool = equal
        return found


@dataclass(frozen=True, slots=True)
class PeriodBills:
    """Bills of one month, one row per member that was asked for; ``slots`` ``(B,)`` says how many are in each.

    ``peak_wh`` is the highest import of a slot and ``peak_slot`` its number, -1 where nothing was drawn.
    """

    period: Period
    bills: Bills
    slots: Int
    peak_wh: Int
    peak_slot: Int


def bill_period(
    terms: PeriodTerms,
    period: Period,
    contract: Sequence[int],
    rows: SettledRows,
    idle: Sequence[bool] | None = None,
) -> PeriodBills:
    """Bill a month, of which not every slot need be settled yet.

    Parameters
    ----------
    terms, period
        The calendar and the charges, and one of ``terms.periods()``.
    contract
        ``(B,)`` contract of each member.
    rows
        Settled slots of these members within the period, one version of each; ``member`` is a place in ``contract``.
    idle
        ``(B,)`` who would stand idle without a market, as a community battery; default: nobody.

    Raises
    ------
    MarketError
        If a row lies outside the period or comes twice, or was settled at other prices than ``terms`` has.
    """
    n, members, at = period.end - period.first, len(contract), rows.slot - period.first
    settled = _placed(rows, at, n, members)
    column = np.minimum(np.asarray(contract, np.int64), len(terms.contracts) - 1)

    def rate(name: str) -> Int:
        plane = np.stack([getattr(c, name)[period.first : period.end] for c in terms.contracts], axis=1)
        found: Int = plane[:, column]
        return found

    def plane(values: Int) -> Int:
        dense = np.zeros((n, members), np.int64)
        dense[at, rows.member] = values
        return dense

    energy = (plane(rows.import_wh), plane(rows.export_wh), plane(rows.bought_wh), plane(rows.sold_wh))
    names = ("full_import_u", "local_import_u", "full_export_u", "local_export_u", "levies_u")
    alone = np.ones(members, np.bool_) if idle is None else ~np.asarray(idle, np.bool_)
    charges = Charges(*(rate(name) for name in names))
    baseline = no_market_lines(energy[0] * alone, energy[1] * alone, rate("retail_u"), rate("feed_in_u"), charges)
    _check_baseline(baseline.total[at, rows.member], rows)
    grid = terms.grid.window(period.first, n)
    own = np.arange(members, dtype=np.int64)
    fixed = rate("fixed_u") * _days_with(settled, grid, terms.zone)
    bill_terms = BillTerms(grid, terms.zone, own, fixed, rate("demand_u"), rate("vat_micro_percent"))
    sums = BillAccumulator(bill_terms)
    lines = Lines(**{name: plane(rows.lines_u[:, k]) for k, name in enumerate(BILL_LINES)})
    sums.add_lines(0, lines, baseline, energy)
    state = sums.state()
    peak_wh, peak_at = (state[name][0].astype(np.int64) for name in ("peak_wh", "peak_slot"))
    return PeriodBills(
        period, sums.bills(), settled.sum(axis=0), peak_wh, np.where(peak_at < 0, -1, peak_at + period.first)
    )


def _placed(rows: SettledRows, at: Int, n: int, members: int) -> Bool:
    """Which slots of which members there is a row of, ``(n, B)``."""
    outside = (at < 0) | (at >= n) | (rows.member < 0) | (rows.member >= members)
    if outside.any():
        k = int(np.argmax(outside))
        raise MarketError(f"slot {rows.slot[k]} of member {rows.member[k]} belongs to another bill")
    times = np.zeros((n, members), np.int64)
    np.add.at(times, (at, rows.member), 1)
    if (times > 1).any():
        t, i = (int(k) for k in np.argwhere(times > 1)[0])
        raise MarketError(
            f"slot {t} of the period is there {times[t, i]} times for member {i}", remedy="take one version"
        )
    placed: Bool = times == 1
    return placed


def _check_baseline(alone_u: NDArray[np.int64], rows: SettledRows) -> None:
    """The journal knows what each slot would have cost without a market: bills of other tariffs would differ."""
    wrong = alone_u != rows.baseline_u
    if wrong.any():
        k = int(np.argmax(wrong))
        raise MarketError(
            f"slot {rows.slot[k]} was settled by other tariffs: {rows.baseline_u[k]} without a market, {alone_u[k]}",
            remedy="serve the scenario that the journal was made with",
        )


def _days_with(settled: Bool, grid: SlotGrid, zone: str) -> Bool:
    """``(n, B)``: whether any slot of the slot's local day is settled."""
    days = grid.local_time(zone).date
    begins = np.ones(grid.n, np.bool_)
    begins[1:] = days[1:] != days[:-1]
    by_day = np.logical_or.reduceat(settled, np.flatnonzero(begins), axis=0)
    found: Bool = by_day[np.cumsum(begins) - 1]
    return found
