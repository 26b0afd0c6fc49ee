"""The settlement against a second, slow reading of section 4 of the specification: seeded windows, compared exactly."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from market.settlement import (
    LEDGER_KINDS,
    SYSTEM_ACCOUNTS,
    Charges,
    Contracts,
    DifferenceLines,
    Postings,
    ResidualRule,
    add_version,
    check_laws,
    contracts_from_pool,
    contracts_from_trades,
    difference_lines,
    metered,
    no_market_bill_u,
    no_market_lines,
    settle_contracts,
    settle_sharing,
    sum_finer,
)
from tests.effort import looped


def _load(name: str) -> ModuleType:
    """Load a module that lies beside this file (the tests are no package)."""
    full = f"independent_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


slow = _load("slow_settlement")
rules = _load("slow_rules")
F = Fraction
Rows = list[list[int]]


def _a(rows: Any) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


# 4.6 rounding: the examples, and both slow versions of it against each other ------------------------------------------


@pytest.mark.parametrize(
    ("shares", "total", "want"),
    [
        ([F(1000, 3)] * 3, 1000, [334, 333, 333]),
        ([F(5, 2), F(5, 2), F(5)], None, [3, 2, 5]),
        ([F(-1, 2), F(-1, 2)], None, [0, -1]),
        ([F(-7, 3), F(4, 3)], -1, [-2, 1]),
        ([F(3, 2), F(3, 2)], 1, [1, 0]),  # below the floors: from the smallest fraction, ties in reverse order
        ([F(11, 10), F(19, 10)], 1, [0, 1]),
        ([F(1), F(1)], 5, [3, 2]),
    ],
)
def test_examples_of_the_largest_remainder(shares: list[Fraction], total: int | None, want: list[int]) -> None:
    assert slow.largest_remainder(shares, total) == want
    assert rules.largest_remainder(shares, total) == want


@looped("seed", range(60))
def test_two_writings_of_the_largest_remainder(seed: int) -> None:
    rng = random.Random(seed)
    den = rng.choice([1, 2, 3, 10, 1000])
    shares = [F(rng.randint(-3000, 3000), den) for _ in range(rng.randint(1, 8))]
    own = slow.largest_remainder(shares)
    assert own == rules.largest_remainder(shares)
    assert sum(own) == rules.half_even(sum(shares, F(0)))
    assert all(abs(a - s) < 1 for a, s in zip(own, shares, strict=True))
    total = sum(own) + rng.randint(-12, 12)
    imposed = slow.largest_remainder(shares, total)
    assert imposed == rules.largest_remainder(shares, total)
    assert sum(imposed) == total


# Contracts ------------------------------------------------------------------------------------------------------------


def _check_contracts(got: Contracts, want: list[Any]) -> None:
    assert got.bought_wh.tolist() == [w.bought for w in want]
    assert got.sold_wh.tolist() == [w.sold for w in want]
    assert got.paid_u.tolist() == [w.paid for w in want]
    assert got.received_u.tolist() == [w.received for w in want]
    assert got.operator_u.tolist() == [w.operator for w in want]
    assert got.retailer_u.tolist() == [w.retailer_received for w in want]
    assert got.retailer_sold_wh.tolist() == [w.retailer_sold for w in want]
    assert got.retailer_bought_wh.tolist() == [w.retailer_bought for w in want]


def _random_trades(rng: random.Random, slots: int, n: int, big: bool) -> list[list[tuple[int, int, int, Fraction]]]:
    out = []
    for _ in range(slots):
        rows = []
        for _ in range(rng.randint(0, 5)):
            buyer, seller = rng.sample(range(n), 2)
            wh = rng.randint(0, 10**8 if big else 9)
            price = F(
                rng.randint(-3, 5) * 500 if rng.random() < 0.5 else rng.randint(-1000, 400_000), rng.choice([1, 2, 3])
            )
            rows.append((buyer, seller, wh, price))
        out.append(rows)
    return out


def _contracts(trades: list[list[tuple[int, int, int, Fraction]]], n: int) -> tuple[Contracts, np.ndarray]:
    flat = [(s, *t) for s, rows in enumerate(trades) for t in rows]
    columns = [[row[i] for row in flat] for i in range(4)]
    num = [row[4].numerator for row in flat]
    den = [row[4].denominator for row in flat]
    return contracts_from_trades(*(_a(c) for c in columns), _a(num), _a(den), len(trades), n)


def _positions(trades: list[list[tuple[int, int, int, Fraction]]], n: int) -> list[Any]:
    return [slow.from_trades([(b, s, wh, p, p) for b, s, wh, p in rows], n) for rows in trades]


@looped("seed", range(60))
def test_contracts_from_trades(seed: int) -> None:
    rng = random.Random(f"trades/{seed}")
    n, slots = rng.randint(2, 6), rng.randint(1, 4)
    trades = _random_trades(rng, slots, n, rng.random() < 0.3)
    got, amounts = _contracts(trades, n)
    _check_contracts(got, _positions(trades, n))
    assert amounts.tolist() == [slow.line(p, wh) for rows in trades for _, _, wh, p in rows]


@looped("seed", range(40))
def test_contracts_from_trades_with_two_prices(seed: int) -> None:
    """Law (f): the operator keeps the difference of the two rounded lines."""
    rng = random.Random(f"two/{seed}")
    n = rng.randint(2, 5)
    rows = []
    for _ in range(rng.randint(1, 6)):
        buyer, seller = rng.sample(range(n), 2)
        rows.append((buyer, seller, rng.randint(0, 9), F(rng.randint(0, 9) * 250), F(rng.randint(0, 9) * 250, 3)))
    got, _ = contracts_from_trades(
        _a([0] * len(rows)),
        _a([r[0] for r in rows]),
        _a([r[1] for r in rows]),
        _a([r[2] for r in rows]),
        _a([r[3].numerator for r in rows]),
        _a([r[3].denominator for r in rows]),
        1,
        n,
        seller_price_num=_a([r[4].numerator for r in rows]),
        seller_price_den=_a([r[4].denominator for r in rows]),
    )
    _check_contracts(got, [slow.from_trades(rows, n)])


def _random_pool(rng: random.Random, kind: str) -> tuple[list[Any], bool]:
    """Orders of one slot that balance in energy: member -1 is the retailer; one price, or one per side."""
    n = 5
    strong = kind != "weak"
    price = F(rng.choice([500, -500, 250, rng.randint(-2000, 400_000)]), rng.choice([1, 2, 3, 7]))
    gets = price if strong else price - rng.randint(0, 2000)
    volume = rng.randint(0, 10**9) if kind == "large" else rng.randint(0, 25)
    sides = []
    for buys in (True, False):
        count = rng.randint(1, 6)
        cuts = sorted(rng.randint(0, volume) for _ in range(count - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, volume], strict=True)]
        sides.append([(rng.randrange(n), buys, wh) for wh in sizes])
    if kind == "retailer":  # the retailer on one side, alone there or beside members
        side = sides[rng.randrange(2)]
        only = rng.random() < 0.2
        side[:] = [(-1 if only or i == 0 else m, buys, wh) for i, (m, buys, wh) in enumerate(side)]
    lines = []
    for m, buys, wh in sides[0] + sides[1]:
        lines.append(slow.PoolLine(m, buys, wh, F(price * wh, 1000) if buys else -F(gets * wh, 1000)))
    rng.shuffle(lines)
    return lines, strong


@pytest.mark.parametrize("kind", ["strong", "weak", "retailer", "large"])
@looped("seed", range(60))
def test_contracts_from_pool(kind: str, seed: int) -> None:
    rng = random.Random(f"pool/{kind}/{seed}")
    n = 5
    rank = rng.sample(range(n), n)
    lines, strong = _random_pool(rng, kind)
    den = 1
    for x in lines:
        den = int(np.lcm(den, x.payment.denominator))
    got = contracts_from_pool(
        _a([[x.wh for x in lines]]),
        np.array([[1 if x.buys else -1 for x in lines]], dtype=np.int8),
        _a([[int(x.payment * den) for x in lines]]),
        _a([den]),
        np.array([x.member for x in lines], dtype=np.int32),
        n,
        _a(rank),
        strong=strong,
    )
    want = slow.from_pool(lines, n, rank, strong)
    _check_contracts(got, [want])
    if strong:
        assert want.operator == 0
    assert sum(map(sum, got.local_bought_wh.tolist())) == sum(map(sum, got.local_sold_wh.tolist()))


# Contract and residual ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Window:
    """A random window as rows of plain integers, slot by slot."""

    imports: Rows
    exports: Rows
    trades: list[list[tuple[int, int, int, Fraction]]]
    retail: Rows
    feed_in: Rows
    rates: list[list[Any]]
    rank: list[int]
    active: list[list[bool]]
    loss: list[int]
    loss_price: int
    n: int

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.imports)

    def charges(self) -> Charges:
        """The rates as columns."""
        names = ("full_import", "local_import", "full_export", "local_export", "levies")
        return Charges(*(_a([[getattr(r, name) for r in row] for row in self.rates]) for name in names))


def _window(seed: str, *, one_tariff: bool = False, one_way: bool = False) -> Window:
    rng = random.Random(seed)
    n, slots = rng.randint(2, 6), rng.randint(1, 4)
    big = rng.random() < 0.25
    size = 10**8 if big else 12

    def energy() -> int:
        return rng.randint(0, size) if rng.random() < 0.7 else 0

    def price(low: int, high: int) -> int:
        return rng.choice([0, 500, 1500, rng.randint(low, high)])

    trades = _random_trades(rng, slots, n, big)
    if one_way:  # nobody both buys and sells: even members buy, odd ones sell
        trades = [[(b - b % 2, min(s - s % 2 + 1, n - 1 - n % 2), wh, p) for b, s, wh, p in rows] for rows in trades]
    retail, feed_in, rates = [], [], []
    for _ in range(slots):
        f = [price(-1000, 200_000) for _ in range(n)]
        r = [x + price(0, 300_000) for x in f]
        if one_tariff:
            f, r = [f[0]] * n, [r[0]] * n
        feed_in.append(f)
        retail.append(r)
        rates.append(
            [
                slow.Rates(price(0, 90_000), price(0, 40_000), price(0, 9000), price(0, 4000), price(0, 30_000))
                for _ in range(n)
            ]
        )
    return Window(
        imports=[[energy() for _ in range(n)] for _ in range(slots)],
        exports=[[energy() for _ in range(n)] for _ in range(slots)],
        trades=trades,
        retail=retail,
        feed_in=feed_in,
        rates=rates,
        rank=rng.sample(range(n), n),
        active=[[rng.random() < 0.75 for _ in range(n)] for _ in range(slots)],
        loss=[rng.randint(0, 9) for _ in range(slots)],
        loss_price=rng.choice([0, 500, rng.randint(0, 300_000)]),
        n=n,
    )


def _check_postings(got: Postings, want: list[Any], kinds: dict[str, str]) -> None:
    """Every account of every kind, and the energies; ``kinds`` maps the ledger's names to the slow version's."""
    assert SYSTEM_ACCOUNTS == slow.SYSTEM
    for theirs, own in kinds.items():
        assert got.kinds[theirs].tolist() == [w.row(own) for w in want], theirs
    assert got.accounts_u.tolist() == [w.accounts() for w in want]
    if want[0].residual:
        assert got.residual_wh.tolist() == [w.residual for w in want]
        assert got.retailer_sold_wh.tolist() == [w.retailer_sold for w in want]
        assert got.retailer_bought_wh.tolist() == [w.retailer_bought for w in want]
    assert got.loss_wh.tolist() == [w.loss for w in want]


def _check_laws(got: Postings, w: Window) -> None:
    """The laws by the slow version, and by the code's own check."""
    net = [[i - e for i, e in zip(a, b, strict=True)] for a, b in zip(w.imports, w.exports, strict=True)]
    exchange = [sum(row) + loss for row, loss in zip(net, got.loss_wh.tolist(), strict=True)]
    c = got.contracts
    for s in range(w.slots):
        position = (c.bought_wh[s] - c.sold_wh[s]).tolist()
        broken = slow.laws(
            {kind: got.kinds[kind][s].tolist() for kind in LEDGER_KINDS},
            position,
            int(c.retailer_bought_wh[s] - c.retailer_sold_wh[s]),
            net[s],
            got.residual_wh[s].tolist(),
            int(got.retailer_sold_wh[s] - got.retailer_bought_wh[s]),
            int(got.loss_wh[s]),
            exchange[s],
            int(c.paid_u[s].sum() - c.received_u[s].sum() - c.retailer_u[s]),
        )
        assert broken == []
    check_laws(got, _a(w.imports), _a(w.exports), exchange_wh=_a(exchange))


ALL_KINDS = {kind: kind for kind in ("contract", "residual", "network", "levies", "losses")}


def _settle_both(w: Window, rule: ResidualRule, residuals: list[Any]) -> tuple[Postings, list[Any]]:
    contracts, _ = _contracts(w.trades, w.n)
    got = settle_contracts(
        _a(w.imports),
        _a(w.exports),
        contracts,
        _a(w.retail),
        _a(w.feed_in),
        w.charges(),
        residuals=rule,
        active=np.array(w.active),
        rank=_a(w.rank),
        loss_wh=_a(w.loss),
        loss_price_u=w.loss_price,
    )
    positions = _positions(w.trades, w.n)
    want = [
        slow.settle(
            w.imports[s],
            w.exports[s],
            positions[s],
            w.retail[s],
            w.feed_in[s],
            w.rates[s],
            residuals=residuals[s],
            active=w.active[s],
            rank=w.rank,
            loss=w.loss[s],
            loss_price=w.loss_price,
        )
        for s in range(w.slots)
    ]
    return got, want


@pytest.mark.parametrize("mode", ["individual", "netted", "imbalance_single", "imbalance_dual"])
@looped("seed", range(80))
def test_contracts_and_residuals(mode: str, seed: int) -> None:
    """Energy charge: the levels of one direction are one line, import and export two.

    The text is open here: it wants a bilateral line rounded once, and has one "energy charge ... by level".
    """
    w = _window(f"settle/{mode}/{seed}", one_tariff=mode == "netted")
    rng = random.Random(f"imbalance/{seed}")
    long = [[rng.randint(-500, 3000) for _ in range(w.n)] for _ in range(w.slots)]
    short = [[x + rng.randint(0, 2000) for x in row] for row in long]
    rule = {
        "individual": ResidualRule(),
        "netted": ResidualRule("netted"),
        "imbalance_single": ResidualRule("imbalance_single", long_u=_a(long)),
        "imbalance_dual": ResidualRule("imbalance_dual", long_u=_a(long), short_u=_a(short)),
    }[mode]
    got, want = _settle_both(w, rule, [slow.Residuals(mode, long[s], short[s]) for s in range(w.slots)])
    _check_postings(got, want, ALL_KINDS)
    _check_laws(got, w)


@pytest.mark.parametrize("mode", ["individual", "netted"])
@looped("seed", range(60))
def test_tolerance(mode: str, seed: int) -> None:
    """The first x % of the contract at its price, the excess by the mode; members that only buy or only sell.

    The text is open in two points: how x % of a contract becomes whole Wh (rounded down here), and which price a
    member with several contracts has (their mean, by the whole micro-currency booked).
    """
    w = _window(f"tolerance/{mode}/{seed}", one_tariff=mode == "netted", one_way=True)
    percent = random.Random(f"percent/{seed}").choice([1, 5, 10, 33, 50, 100])
    rule = ResidualRule(mode, tolerance_micro_percent=percent * 10**6)
    got, want = _settle_both(w, rule, [slow.Residuals(mode, tolerance=F(percent, 100))] * w.slots)
    _check_postings(got, want, ALL_KINDS)
    _check_laws(got, w)


@looped("seed", range(40))
def test_without_contracts_it_is_the_bill_of_no_market(seed: int) -> None:
    w = _window(f"nothing/{seed}")
    arrays = (_a(w.imports), _a(w.exports))
    tariff = (_a(w.retail), _a(w.feed_in), w.charges())
    want = []
    for s in range(w.slots):
        out = slow.settle(w.imports[s], w.exports[s], slow.Positions.none(w.n), w.retail[s], w.feed_in[s], w.rates[s])
        want.append([-x for x in out.accounts()[: w.n]])
    assert no_market_bill_u(*arrays, *tariff).tolist() == want
    assert no_market_lines(*arrays, *tariff).total.tolist() == want
    got = settle_contracts(*arrays, Contracts.none(w.slots, w.n), *tariff)
    assert (-got.accounts_u[:, : w.n]).tolist() == want


def test_worked_slot() -> None:
    """B sold 1000 Wh to a at 200000; meters a +700, b -1000; retail 320000, feed-in 80000."""
    trades = [[(0, 1, 1000, F(200_000))]]
    contracts, _ = _contracts(trades, 2)
    got = settle_contracts(_a([[700, 0]]), _a([[0, 1000]]), contracts, _a(320_000), _a(80_000), Charges.none())
    assert got.kinds["contract"].tolist() == [[-200_000, 200_000, 0, 0, 0, 0]]
    assert got.kinds["residual"].tolist() == [[24_000, 0, -24_000, 0, 0, 0]]
    assert got.accounts_u.tolist() == [[-176_000, 200_000, -24_000, 0, 0, 0]]
    check_laws(got, _a([[700, 0]]), _a([[0, 1000]]), exchange_wh=_a([-300]))
    (position,) = _positions(trades, 2)
    own = slow.settle([700, 0], [0, 1000], position, [320_000] * 2, [80_000] * 2, [slow.Rates()] * 2)
    assert own.accounts() == [-176_000, 200_000, -24_000, 0, 0, 0]


# Meter-based pools ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["mid_market_rate", "supply_demand_ratio", "bill_sharing"])
@looped("seed", range(50))
def test_meter_based_pools(rule: str, seed: int) -> None:
    w = _window(f"sharing/{rule}/{seed}", one_tariff=True)
    if rule == "supply_demand_ratio":
        w.feed_in = [[max(f, 0) for f in row] for row in w.feed_in]
        w.retail = [[max(r, f) for r, f in zip(a, b, strict=True)] for a, b in zip(w.retail, w.feed_in, strict=True)]
    exact: list[list[Fraction]] = []
    retailer: list[Fraction] = []
    local: Rows = []
    for s in range(w.slots):
        net = {str(i): w.imports[s][i] - w.exports[s][i] for i in range(w.n)}
        shared = getattr(rules, rule)(net, w.retail[s][0], w.feed_in[s][0])
        exact.append([shared.payments[str(i)] for i in range(w.n)])
        retailer.append(shared.retailer)
        demand, supply = rules.demand_supply(net)
        row = [0] * w.n
        for sign, total in ((1, demand), (-1, supply)):
            side = [i for i in range(w.n) if net[str(i)] * sign > 0]
            volume = min(demand, supply)
            parts = rules.largest_remainder([F(abs(net[str(i)]) * volume, total) for i in side], volume) if side else []
            for i, wh in zip(side, parts, strict=True):
                row[i] = wh
        local.append(row)
    den = [int(np.lcm.reduce([x.denominator for x in [*row, owed]])) for row, owed in zip(exact, retailer, strict=True)]
    got = settle_sharing(
        _a(w.imports),
        _a(w.exports),
        _a(local),
        np.array([[int(x * d) for x in row] for row, d in zip(exact, den, strict=True)], dtype=object),
        np.array(den, dtype=object),
        np.array([int(x * d) for x, d in zip(retailer, den, strict=True)], dtype=object),
        _a(w.retail),
        _a(w.feed_in),
        w.charges(),
        rank=_a(w.rank),
    )
    want = [
        slow.settle_shared(w.imports[s], w.exports[s], local[s], exact[s], retailer[s], w.rates[s], w.rank)
        for s in range(w.slots)
    ]
    pool = got.kinds["contract"] + got.kinds["residual"]
    assert pool.tolist() == [x.row("pool") for x in want]
    assert got.kinds["network"].tolist() == [x.row("network") for x in want]
    assert got.kinds["levies"].tolist() == [x.row("levies") for x in want]
    assert got.accounts_u.tolist() == [x.accounts() for x in want]
    operator = w.n + SYSTEM_ACCOUNTS.index("operator")
    assert not pool[:, operator].any()
    _check_laws(got, w)


# Laws, versions, meters -----------------------------------------------------------------------------------------------


def _small_settlement() -> tuple[Postings, Window]:
    w = _window("laws")
    got, _ = _settle_both(w, ResidualRule(), [slow.Residuals()] * w.slots)
    return got, w


@pytest.mark.parametrize("kind", LEDGER_KINDS)
@pytest.mark.parametrize("account", [0, -1, -2, -3, -4])
def test_a_single_micro_out_of_place_breaks_a_law(kind: str, account: int) -> None:
    got, w = _small_settlement()
    wrong = {name: column.copy() for name, column in got.kinds.items()}
    wrong[kind][0, account] += 1
    with pytest.raises(MarketError):
        check_laws(dataclasses.replace(got, kinds=wrong), _a(w.imports), _a(w.exports))


@pytest.mark.parametrize(
    "name", ["residual_wh", "retailer_sold_wh", "retailer_bought_wh", "meter", "bought_wh", "sold_wh"]
)
def test_a_single_wh_out_of_place_breaks_a_law(name: str) -> None:
    got, w = _small_settlement()
    imports = _a(w.imports)
    if name == "meter":
        imports[0, 0] += 1
    elif name in {"bought_wh", "sold_wh"}:
        column = getattr(got.contracts, name).copy()
        column[0, 0] += 1
        got = dataclasses.replace(got, contracts=dataclasses.replace(got.contracts, **{name: column}))
    else:
        column = getattr(got, name).copy()
        column.flat[0] += 1
        got = dataclasses.replace(got, **{name: column})
    with pytest.raises(MarketError):
        check_laws(got, imports, _a(w.exports))


def _posted(lines: DifferenceLines, slots: int, width: int) -> dict[str, np.ndarray]:
    out = {kind: np.zeros((slots, width), dtype=np.int64) for kind in LEDGER_KINDS}
    for slot, kind, account, amount in zip(lines.slot, lines.kind, lines.account, lines.amount_u, strict=True):
        out[LEDGER_KINDS[kind]][slot, account] += amount
    return out


@looped("seed", range(20))
def test_a_correction_is_a_difference_and_settling_twice_changes_nothing(seed: int) -> None:
    rng = random.Random(f"correction/{seed}")
    w = _window(f"correction/{seed}")
    before, _ = _settle_both(w, ResidualRule(), [slow.Residuals()] * w.slots)
    again, _ = _settle_both(w, ResidualRule(), [slow.Residuals()] * w.slots)
    assert len(difference_lines(before, again, 1).slot) == 0
    w.imports[rng.randrange(w.slots)][rng.randrange(w.n)] += rng.randint(1, 50)
    after, _ = _settle_both(w, ResidualRule(), [slow.Residuals()] * w.slots)
    lines = difference_lines(before, after, 1)
    delta = _posted(lines, w.slots, w.n + len(SYSTEM_ACCOUNTS))
    for kind in LEDGER_KINDS:
        assert (before.kinds[kind] + delta[kind] == after.kinds[kind]).all()
        assert not delta[kind].sum(axis=1).any()
    if len(lines.slot):
        posted = add_version(difference_lines(before, before, 0), lines)
        twice = add_version(posted, lines)
        assert len(posted.slot) == len(twice.slot) == len(lines.slot)


@looped("seed", range(30))
def test_coarse_meters_are_spread_exactly(seed: int) -> None:
    rng = random.Random(f"spread/{seed}")
    n, slots = rng.randint(1, 4), 12
    wh = [[rng.randint(0, 20) for _ in range(n)] for _ in range(slots)]
    weights = [[rng.choice([0, 0, 1, 2, 5]) for _ in range(n)] for _ in range(slots)]
    span = [rng.choice([1, 2, 3, 4, 6, 12]) for _ in range(n)]
    by_weight = [rng.random() < 0.5 for _ in range(n)]
    got = metered(_a(wh), _a(span), weights=_a(weights), by_weight=np.array(by_weight))
    for i in range(n):
        want: list[int] = []
        for start in range(0, slots, span[i]):
            part = range(start, start + span[i])
            shape = [weights[s][i] if by_weight[i] else 1 for s in part]
            want += slow.spread(sum(wh[s][i] for s in part), shape)
        assert got[:, i].tolist() == want
    assert sum_finer(_a(wh), 3).tolist() == [
        [sum(wh[s + j][i] for j in range(3)) for i in range(n)] for s in (0, 3, 6, 9)
    ]
