"""Bills of months made of settled slots: those of a run, also for members of a part of the time, and balanced."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import MarketError
from core.slots import SlotGrid
from market.settlement import (
    BILL_LINES,
    BillAccumulator,
    Bills,
    BillTerms,
    Charges,
    Lines,
    PeriodTerms,
    Postings,
    SettledRows,
    bill_period,
    contracts_from_trades,
    no_market_lines,
    settle_contracts,
)
from market.tariffs import TariffSpec, TermsSpec, resolve_contract

Int = NDArray[np.int64]
ZONE = "Europe/Berlin"
GRID = SlotGrid(datetime(2021, 3, 26, 5, 30, tzinfo=UTC), 1800, 48 * 8 + 7)  # the clocks go forward, and April begins
HOME = [
    TermsSpec(TariffSpec(320_001), TariffSpec(80_003), full_import_per_kwh=0.0777771, local_import_per_kwh=0.03,
              full_export_per_kwh=0.001, levies_per_kwh=(("levy", 0.0205),), fixed_per_day=0.333333,
              demand_per_kw_month=3.7, vat_percent=19),
    TermsSpec(TariffSpec(-50_000), TariffSpec(-10_007), valid_from=datetime.fromisoformat("2021-03-29T13:30"),
              fixed_per_day=0.41, demand_per_kw_month=5.1, vat_percent=8.1),
]  # fmt: skip
SHOP = [TermsSpec(TariffSpec(250_000), TariffSpec(60_000), fixed_per_day=0.1, vat_percent=7)]
TERMS = PeriodTerms(GRID, ZONE, tuple(resolve_contract(terms, GRID, ZONE) for terms in (HOME, SHOP)))
CONTRACT = [0, 1, 0]
MEMBERS = len(CONTRACT)


def run(seed: int, first: int = 0, end: int = GRID.n) -> tuple[Postings, Lines, Int, Int]:
    """A run's slots from ``first`` to ``end`` with random meters and trades; nothing happens outside of them."""
    rng = np.random.default_rng(seed)
    net = rng.integers(-3000, 5000, (GRID.n, MEMBERS))
    net[:first] = net[end:] = 0
    imported, exported = np.maximum(net, 0), np.maximum(-net, 0)
    n = 600
    slot, buyer = np.sort(rng.integers(first, end, n)), rng.integers(0, MEMBERS, n)
    contracts, _ = contracts_from_trades(
        slot, buyer, (buyer + rng.integers(1, MEMBERS, n)) % MEMBERS, rng.integers(0, 900, n),
        rng.integers(-100_000, 900_001, n), rng.integers(1, 4, n), GRID.n, MEMBERS,
    )  # fmt: skip

    def of(name: str) -> Int:
        return np.stack([getattr(TERMS.contracts[c], name) for c in CONTRACT], axis=1)

    names = ("full_import_u", "local_import_u", "full_export_u", "local_export_u", "levies_u")
    charges = Charges(*(of(name) for name in names))
    posted = settle_contracts(imported, exported, contracts, of("retail_u"), of("feed_in_u"), charges)
    return posted, no_market_lines(imported, exported, of("retail_u"), of("feed_in_u"), charges), imported, exported


def rows_of(posted: Postings, alone: Lines, imported: Int, exported: Int, chosen: NDArray[np.bool_]) -> SettledRows:
    """What a journal holds of the chosen (slot, member)."""
    slot, member = np.nonzero(chosen)

    def at(plane: Int) -> Int:
        return plane[slot, member]

    lines = np.stack([at(getattr(posted.lines, name)) for name in BILL_LINES], axis=1)
    held = posted.contracts
    return SettledRows(
        slot, member, np.ones_like(slot), at(imported), at(exported), at(held.local_bought_wh), at(held.local_sold_wh),
        lines, at(alone.total), np.zeros_like(slot),
    )  # fmt: skip


def of_the_run(posted: Postings, alone: Lines, imported: Int, exported: Int) -> Bills:
    sums = BillAccumulator(BillTerms.of(GRID, ZONE, TERMS.contracts, CONTRACT))
    sums.add(0, posted, alone, imported, exported)
    return sums.bills()


EVERYBODY = np.ones((GRID.n, MEMBERS), np.bool_)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_months_of_settled_slots_are_those_of_the_run(seed: int) -> None:
    found = run(seed)
    whole = of_the_run(*found).columns()
    rows = rows_of(*found, EVERYBODY)
    order = np.random.default_rng(seed).permutation(len(rows.slot))
    periods = TERMS.periods()
    assert [p.name for p in periods] == ["2021-03", "2021-04"]
    for k, period in enumerate(periods):
        inside = rows.where(order[(rows.slot[order] >= period.first) & (rows.slot[order] < period.end)])
        made = bill_period(TERMS, period, CONTRACT, inside)
        month = slice(k * MEMBERS, (k + 1) * MEMBERS)
        for name, column in made.bills.columns().items():
            assert np.array_equal(column, whole[name][month]), name
        assert made.slots.tolist() == [period.end - period.first] * MEMBERS
        for i in range(MEMBERS):
            drawn = found[2][period.first : period.end, i]
            assert made.peak_wh[i] == drawn.max() and made.peak_slot[i] == period.first + int(drawn.argmax())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, GRID.n))
def test_members_accounts_and_state_add_up_to_nothing(seed: int, settled_until: int) -> None:
    """Of a month that is not over, too."""
    posted, alone, imported, exported = run(seed, 0, settled_until)
    chosen = EVERYBODY.copy()
    chosen[settled_until:] = False
    for period in TERMS.periods():
        within = chosen.copy()
        within[: period.first] = within[period.end :] = False
        made = bill_period(TERMS, period, CONTRACT, rows_of(posted, alone, imported, exported, within)).bills
        slots = sum(kind[period.first : period.end].sum(axis=0) for kind in posted.kinds.values())
        months = sum(posting.sum(axis=0) for posting in made.postings_u.values())
        accounts = np.asarray(slots) + months
        assert accounts.sum() == 0
        assert accounts[:MEMBERS].tolist() == (-made.total_u).tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, GRID.n - 1), st.integers(1, GRID.n))
def test_a_member_of_a_part_of_the_month_pays_the_days_it_was_there(seed: int, joins: int, stays: int) -> None:
    posted, alone, imported, exported = run(seed)
    leaves = min(joins + stays, GRID.n)
    chosen = EVERYBODY.copy()
    chosen[:joins, 0] = chosen[leaves:, 0] = False
    rows = rows_of(posted, alone, imported, exported, chosen)
    starts = [GRID.start_of(t).astimezone(ZoneInfo(ZONE)) for t in range(GRID.n)]
    for period in TERMS.periods():
        inside = rows.where((rows.slot >= period.first) & (rows.slot < period.end))
        made = bill_period(TERMS, period, CONTRACT, inside)
        there = [t for t in range(joins, leaves) if period.first <= t < period.end]
        days = {starts[t].date() for t in there}
        expected = 0
        for day in days:  # the rate of the day's first slot of the run
            begins = min(t for t in range(GRID.n) if starts[t].date() == day)
            expected += 333_333 if starts[begins].isoformat() < "2021-03-29T13:30" else 410_000
        assert made.slots[0] == len(there)
        assert made.bills.lines_u["fixed"][0] == expected
        assert made.peak_wh[0] == max((int(imported[t, 0]) for t in there), default=0)
        for k, name in enumerate(BILL_LINES):
            own = inside.lines_u[inside.member == 0, k]
            assert made.bills.lines_u[name][0] == own.sum()


def test_of_several_versions_the_newest_counts() -> None:
    rows = SettledRows.of([(0, 1, 2, 5, 0, 0, 0, 7, 0, *range(6)), (0, 1, 1, 4, 0, 0, 0, 7, 0, *range(6)),
                           (1, 1, 1, 4, 0, 0, 0, 7, 0, *range(6)), (0, 0, 1, 3, 0, 0, 0, 7, 0, *range(6))])  # fmt: skip
    newest = rows.newest()
    assert list(zip(newest.member.tolist(), newest.slot.tolist(), newest.import_wh.tolist(), strict=True)) == [
        (0, 0, 3), (1, 0, 5), (1, 1, 4)]  # fmt: skip
    assert rows.where(slice(0, 0)).newest().slot.size == 0  # type: ignore[arg-type]


def test_what_does_not_belong_into_a_bill_is_refused() -> None:
    found = run(3)
    march, april = TERMS.periods()
    rows = rows_of(*found, EVERYBODY)
    inside = rows.where(rows.slot < march.end)
    with pytest.raises(MarketError, match="another bill"):
        bill_period(TERMS, april, CONTRACT, inside)
    with pytest.raises(MarketError, match="2 times"):
        bill_period(TERMS, march, CONTRACT, inside.and_also(inside.where(inside.slot == 5)))
    other = PeriodTerms(GRID, ZONE, TERMS.contracts[1:])
    with pytest.raises(MarketError, match="other tariffs"):
        bill_period(other, march, CONTRACT, inside)


def test_an_empty_grid_has_no_months() -> None:
    assert PeriodTerms(SlotGrid(GRID.start, 900, 0), ZONE, ()).periods() == []
