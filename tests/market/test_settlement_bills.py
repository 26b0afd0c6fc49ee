"""Bills against a slow computation in Fractions: months in local time, charges, tax, windows cut anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import MarketError
from core.slots import SlotGrid
from market.settlement import (
    BillAccumulator,
    Bills,
    BillTerms,
    Charges,
    Contracts,
    Lines,
    Postings,
    check_laws,
    contracts_from_trades,
    no_market_lines,
    settle_contracts,
)
from market.tariffs import ContractPrices, TariffSpec, TermsSpec, resolve_contract

Int = NDArray[np.int64]
ZONE = "Europe/Berlin"
GRID = SlotGrid(datetime(2021, 2, 27, 5, tzinfo=UTC), 3600, 24 * 34)  # February, March, and 1 and 2 April


def prices() -> list[ContractPrices]:
    home = [
        TermsSpec(TariffSpec(320_001), TariffSpec(80_003), full_import_per_kwh=0.0777771, local_import_per_kwh=0.03,
                  full_export_per_kwh=0.001, levies_per_kwh=(("levy", 0.0205),), fixed_per_day=0.333333,
                  demand_per_kw_month=3.7, vat_percent=19),
        TermsSpec(TariffSpec(-50_000), TariffSpec(-10_007), valid_from=datetime.fromisoformat("2021-03-10T13:30"),
                  fixed_per_day=0.41, demand_per_kw_month=5.1, vat_percent=8.1),
    ]  # fmt: skip
    shop = [TermsSpec(TariffSpec(250_000), TariffSpec(60_000), vat_percent=7)]
    return [resolve_contract(terms, GRID, ZONE) for terms in (home, shop)]


PRICES = prices()
CONTRACT = [0, 1, 0]
TERMS = BillTerms.of(GRID, ZONE, PRICES, CONTRACT)


def year(seed: int) -> tuple[Int, Int, Postings, Lines]:
    """A run with random meters and trades of three members."""
    rng = np.random.default_rng(seed)
    net = rng.integers(-3000, 5000, (GRID.n, 3))
    imported, exported = np.maximum(net, 0), np.maximum(-net, 0)
    slot = np.sort(rng.integers(0, GRID.n, 900))
    buyer = rng.integers(0, 3, 900)
    seller = (buyer + rng.integers(1, 3, 900)) % 3
    contracts, _ = contracts_from_trades(
        slot, buyer, seller, rng.integers(0, 2000, 900), rng.integers(-100_000, 900_001, 900), rng.integers(1, 4, 900),
        GRID.n, 3,
    )  # fmt: skip

    def of(name: str) -> Int:
        return np.stack([getattr(PRICES[c], name) for c in CONTRACT], axis=1)

    charges = Charges(
        of("full_import_u"), of("local_import_u"), of("full_export_u"), of("local_export_u"), of("levies_u")
    )
    posted = settle_contracts(imported, exported, contracts, of("retail_u"), of("feed_in_u"), charges)
    check_laws(posted, imported, exported)
    return imported, exported, posted, no_market_lines(imported, exported, of("retail_u"), of("feed_in_u"), charges)


def part_of(posted: Postings, part: slice) -> Postings:
    """The postings of some slots, as the settlement of a shorter window gives them."""
    c, lines = posted.contracts, posted.lines
    return Postings(
        {kind: p[part] for kind, p in posted.kinds.items()},
        lines_part(lines, part),
        Contracts(*(getattr(c, name)[part] for name in c.__dataclass_fields__)),
        posted.residual_wh[part], posted.retailer_sold_wh[part], posted.retailer_bought_wh[part], posted.loss_wh[part],
    )  # fmt: skip


def lines_part(lines: Lines, part: slice) -> Lines:
    return Lines(*(getattr(lines, name)[part] for name in lines.__dataclass_fields__))


def billed(seed: int, cuts: list[int]) -> BillAccumulator:
    imported, exported, posted, alone = year(seed)
    accumulator = BillAccumulator(TERMS)
    edges = [0, *sorted(cuts), GRID.n]
    for first, last in pairwise(edges):
        p = slice(first, last)
        accumulator.add(first, part_of(posted, p), lines_part(alone, p), imported[p], exported[p])
    return accumulator


def same(a: Bills, b: Bills) -> bool:
    left, right = a.columns(), b.columns()
    return all(np.array_equal(left[name], right[name]) for name in left) and all(
        np.array_equal(a.postings_u[kind], b.postings_u[kind]) for kind in a.postings_u
    )


def slow_invoice(lines: Lines, imported: Int, month: str, i: int) -> dict[str, int]:
    """One invoice from the definitions."""
    c = PRICES[CONTRACT[i]]
    local = [GRID.start_of(t).astimezone(ZoneInfo(ZONE)) for t in range(GRID.n)]
    slots = [t for t in range(GRID.n) if f"{local[t]:%Y-%m}" == month]
    sums = {name: sum(int(getattr(lines, name)[t, i]) for t in slots) for name in lines.__dataclass_fields__}
    taxed = Fraction(0)
    for t in slots:
        buys = sum(int(getattr(lines, n)[t, i]) for n in ("local_bought", "retail_bought", "network", "levies"))
        taxed += Fraction(buys * int(c.vat_micro_percent[t]), 10**8)
    fixed = 0
    for t in slots:
        if t == 0 or local[t].date() != local[t - 1].date():
            rate = {0: 333_333 if local[t] < datetime(2021, 3, 10, 13, 30, tzinfo=ZoneInfo(ZONE)) else 410_000, 1: 0}
            fixed += rate[CONTRACT[i]]
            taxed += Fraction(rate[CONTRACT[i]] * int(c.vat_micro_percent[t]), 10**8)
    top = max(slots, key=lambda t: (int(imported[t, i]), -t))
    demand = round(Fraction(int(c.demand_u[top]) * int(imported[top, i]), 1000))  # slots of an hour: Wh is W
    taxed += Fraction(demand * int(c.vat_micro_percent[top]), 10**8)
    return {**sums, "fixed": fixed, "demand": demand, "vat": round(taxed)}


def test_every_invoice_is_the_slow_one() -> None:
    imported, _, posted, alone = year(1)
    bills = billed(1, []).bills()
    assert bills.period.tolist() == ["2021-02"] * 3 + ["2021-03"] * 3 + ["2021-04"] * 3
    assert bills.member.tolist() == [0, 1, 2] * 3
    for row in range(9):
        i, month = int(bills.member[row]), str(bills.period[row])
        want = slow_invoice(posted.lines, imported, month, i)
        base = slow_invoice(alone, imported, month, i)
        assert {name: int(v[row]) for name, v in bills.lines_u.items()} == want
        assert {name: int(v[row]) for name, v in bills.baseline_lines_u.items()} == base
        assert bills.total_u[row] == sum(want.values())
        assert bills.saving_u[row] == sum(base.values()) - sum(want.values())
    # March has 743 hours here; its days number 31, and the rate changed from the 11th on
    assert bills.lines_u["fixed"][3] == 10 * 333_333 + 21 * 410_000


def test_energies_and_peak() -> None:
    imported, exported, posted, _ = year(2)
    bills = billed(2, []).bills()
    for have, want in (
        (bills.import_wh, imported),
        (bills.export_wh, exported),
        (bills.bought_wh, posted.contracts.bought_wh),
        (bills.sold_wh, posted.contracts.sold_wh),
    ):
        assert have.reshape(3, 3).sum(axis=0).tolist() == want.sum(axis=0).tolist()
    assert bills.peak_kw.reshape(3, 3).max(axis=0).tolist() == (imported.max(axis=0) / 1000).tolist()


def test_ledger_and_invoices_balance_to_zero_together() -> None:
    _, _, posted, _ = year(3)
    bills = billed(3, []).bills()
    accounts = posted.accounts_u.sum(axis=0)
    for kind in bills.postings_u.values():
        assert not kind.sum(axis=1).any()
        accounts = accounts + kind.sum(axis=0)
    assert accounts.sum() == 0
    assert (-accounts[:3]).tolist() == bills.total_u.reshape(3, 3).sum(axis=0).tolist()
    assert accounts[3 + 3] == posted.kinds["levies"][:, -1].sum() + bills.lines_u["vat"].sum()  # the state


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, GRID.n), max_size=5), seed=st.integers(0, 3))
def test_the_cut_of_the_windows_does_not_matter(cuts: list[int], seed: int) -> None:
    assert same(billed(seed, cuts).bills(), billed(seed, []).bills())


def test_merging_and_going_on_from_a_checkpoint() -> None:
    imported, exported, posted, alone = year(4)
    whole = billed(4, []).bills()
    early, late = BillAccumulator(TERMS), BillAccumulator(TERMS)
    middle = 301

    def add(to: BillAccumulator, p: slice) -> None:
        to.add(p.start, part_of(posted, p), lines_part(alone, p), imported[p], exported[p])

    add(late, slice(middle, GRID.n))
    add(early, slice(0, middle))
    resumed = BillAccumulator.restore(TERMS, early.state())
    add(resumed, slice(middle, GRID.n))
    assert same(resumed.bills(), whole)
    late.merge(early)
    assert same(late.bills(), whole)
    with pytest.raises(MarketError, match="slot 0 has been billed already"):
        late.merge(early)
    with pytest.raises(MarketError, match="slot 100 has been billed already"):
        add(early, slice(100, 500))
    with pytest.raises(MarketError, match="not all within the run"):
        late.add(GRID.n - 1, posted, alone, imported, exported)
    with pytest.raises(MarketError, match="checkpoint"):
        BillAccumulator.restore(TERMS, {**early.state(), "fixed": np.zeros((1, 1), np.int64)})


def test_months_without_slots_are_not_billed() -> None:
    imported, exported, posted, alone = year(5)
    accumulator = BillAccumulator(TERMS)
    p = slice(100, 200)
    assert accumulator.bills().period.size == 0
    accumulator.add(100, part_of(posted, p), lines_part(alone, p), imported[p], exported[p])
    assert set(accumulator.bills().period.tolist()) == {"2021-03"}


def test_the_tax_is_rounded_once_half_to_even_and_sales_bear_none() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 900, 4)
    terms = BillTerms.of(grid, "UTC", [resolve_contract([TermsSpec(TariffSpec(0), vat_percent=50)], grid, "UTC")], [0])
    imported = np.array([[1000], [1000], [1000], [0]])
    exported = np.array([[0], [0], [0], [4000]])
    posted = settle_contracts(imported, exported, Contracts.none(4, 1), np.array(3), np.array(2), Charges.none())
    alone = no_market_lines(imported, exported, np.array(3), np.array(2), Charges.none())
    accumulator = BillAccumulator(terms)
    accumulator.add(0, posted, alone, imported, exported)
    bills = accumulator.bills()
    assert bills.lines_u["vat"].tolist() == [4]  # 50 % of 9 is 4.5; three lines rounded apart would give 6
    assert bills.lines_u["retail_sold"].tolist() == [-8]
    assert bills.total_u.tolist() == [9 - 8 + 4]
    assert bills.saving_u.tolist() == [0]
    assert bills.peak_kw.tolist() == [4.0]


def test_fixed_and_demand_charges_are_taxed_and_of_equal_peaks_the_first_counts() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, tzinfo=UTC), 900, 96 * 2)
    terms = [
        TermsSpec(TariffSpec(0), demand_per_kw_month=2, fixed_per_day=0.5, vat_percent=10),
        TermsSpec(TariffSpec(0), valid_from=datetime(2021, 1, 2, tzinfo=UTC), demand_per_kw_month=3, vat_percent=10),
    ]
    of = BillTerms.of(grid, "UTC", [resolve_contract(terms, grid, "UTC")], [0])
    imported, nothing = np.full((grid.n, 1), 250), np.zeros((grid.n, 1), np.int64)
    zero = np.array(0)
    posted = settle_contracts(imported, nothing, Contracts.none(grid.n, 1), zero, zero, Charges.none())
    alone = no_market_lines(imported, nothing, zero, zero, Charges.none())
    for parts in ((slice(0, 96), slice(96, 192)), (slice(96, 192), slice(0, 96))):
        together, other = BillAccumulator(of), BillAccumulator(of)
        together.add(
            parts[0].start, part_of(posted, parts[0]), lines_part(alone, parts[0]), imported[:96], nothing[:96]
        )
        other.add(parts[1].start, part_of(posted, parts[1]), lines_part(alone, parts[1]), imported[:96], nothing[:96])
        together.merge(other)
        bills = together.bills()
        # 1 kW at the rate of the first day; one day with a fixed charge
        assert (bills.lines_u["demand"].tolist(), bills.lines_u["fixed"].tolist()) == ([2_000_000], [500_000])
        assert bills.lines_u["vat"].tolist() == [250_000]
        assert bills.postings_u["vat"].tolist() == [[-250_000, 0, 0, 0, 250_000]]
        assert bills.postings_u["demand"].tolist() == [[-2_000_000, 0, 0, 2_000_000, 0]]
