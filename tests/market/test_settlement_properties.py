"""Settlement against a slow one in Fractions, and its laws, over random windows and every mode."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.lattice import largest_remainder
from market.settlement import (
    Charges,
    Contracts,
    Postings,
    ResidualRule,
    check_laws,
    contracts_from_pool,
    contracts_from_trades,
    no_market_bill_u,
    no_market_lines,
    settle_contracts,
    settle_sharing,
)
from tests.effort import effort

Int = NDArray[np.int64]
MODES = ("individual", "netted", "imbalance_single", "imbalance_dual")
PRICES = st.integers(-200_000, 500_000)


@dataclass
class Case:
    """A random window: meters, tariffs (also negative ones), charges, who takes part, losses."""

    imported: Int
    exported: Int
    retail: Int
    feed_in: Int
    charges: Charges
    active: NDArray[np.bool_]
    rank: Int
    loss_wh: Int
    loss_u: Int
    seed: int

    @property
    def net(self) -> Int:
        return self.imported - self.exported


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n, b = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = draw(st.sampled_from([3, 50, 20_000]))
    imported, exported = rng.integers(0, top, (n, b)), rng.integers(0, top, (n, b))
    if draw(st.booleans()):  # one register at a time
        exported[rng.random((n, b)) < 0.5] = 0
        imported[exported > 0] = 0

    def prices(low: int, high: int) -> Int:
        rows, cols = draw(st.sampled_from([(1, 1), (1, b), (n, 1), (n, b)]))
        return rng.integers(low, high, (rows, cols))

    zero = draw(st.booleans())
    charges = Charges.none() if zero else Charges(*(prices(0, 200_000) for _ in range(5)))
    active = rng.random((n, b)) < draw(st.sampled_from([0.5, 1.1]))
    return Case(
        imported, exported, prices(-100_000, 500_000), prices(-200_000, 200_000), charges, active, rng.permutation(b),
        rng.integers(0, 100, n), rng.integers(-50_000, 300_000, n), draw(st.integers(0, 2**32)),
    )  # fmt: skip


def random_pool(case: Case, strong: bool) -> tuple[Contracts, list[list[Fraction]]]:
    """A pool among active members at one rational price (or a spread), and each member's exact payment."""
    rng = np.random.default_rng(case.seed)
    n, b = case.net.shape
    side = np.where(case.active, rng.integers(-1, 2, (n, b)), 0).astype(np.int8)
    fill = np.where(side != 0, rng.integers(0, 3000, (n, b)), 0)
    for t in range(n):  # cut the long side down
        for s in (1, -1):
            gap = int(fill[t][side[t] == s].sum() - fill[t][side[t] == -s].sum())
            for i in np.flatnonzero(side[t] == s):
                cut = min(max(gap, 0), int(fill[t, i]))
                fill[t, i] -= cut
                gap -= cut
    buy_num, den = rng.integers(-(10**6), 10**6, n), rng.integers(1, 50, n)
    sell_num = buy_num if strong else buy_num - rng.integers(-1000, 1000, n)
    price_num = np.where(side > 0, buy_num[:, None], sell_num[:, None])
    contracts = contracts_from_pool(
        fill, side, price_num * fill * side, den * 1000, np.arange(b, dtype=np.int32), b, case.rank, strong=strong
    )
    exact = [
        [Fraction(int(price_num[t, i] * fill[t, i] * side[t, i]), int(den[t]) * 1000) for i in range(b)]
        for t in range(n)
    ]
    for t in range(n):
        buyers = sorted((i for i in range(b) if side[t, i] > 0 and fill[t, i]), key=lambda i: case.rank[i])
        sellers = sorted((i for i in range(b) if side[t, i] < 0 and fill[t, i]), key=lambda i: case.rank[i])
        paid = largest_remainder([exact[t][i] for i in buyers])
        got = largest_remainder([-exact[t][i] for i in sellers], sum(paid) if strong else None)
        assert contracts.paid_u[t, buyers].tolist() == paid
        assert contracts.received_u[t, sellers].tolist() == got
        assert contracts.operator_u[t] == sum(paid) - sum(got)
        assert contracts.contract_u[t].sum() == contracts.operator_u[t]
    return contracts, exact


def line(price: int, wh: int) -> int:
    return round(Fraction(price * wh, 1000))


def slow_residuals(case: Case, t: int, excess: list[int], rule: ResidualRule) -> list[int]:
    """What each member pays for its residual, from the definitions of market-rules 4.3, pair by pair where netted."""
    n, b = case.net.shape
    retail, feed_in = (np.broadcast_to(p, (n, b))[t].tolist() for p in (case.retail, case.feed_in))
    own = [line(retail[i] if excess[i] > 0 else feed_in[i], excess[i]) for i in range(b)]
    inside = [i for i in range(b) if case.active[t, i]]
    if rule.mode.startswith("imbalance"):
        assert rule.long_u is not None
        long = int(np.broadcast_to(rule.long_u, (n, b))[t, 0])
        short = long if rule.short_u is None else int(np.broadcast_to(rule.short_u, (n, b))[t, 0])
        for i in inside:
            own[i] = line(short if excess[i] > 0 else long, excess[i])
    if rule.mode != "netted":
        return own
    short_of = sorted((i for i in inside if excess[i] > 0), key=lambda i: case.rank[i])
    long_of = sorted((i for i in inside if excess[i] < 0), key=lambda i: case.rank[i])
    demand, supply = sum(excess[i] for i in short_of), -sum(excess[i] for i in long_of)
    exact = {i: Fraction(0) for i in inside}
    for i in short_of:
        for j in long_of:
            pair = Fraction(excess[i] * -excess[j], max(demand, supply))
            exact[i] += pair * Fraction(retail[i] + feed_in[j], 2000)
            exact[j] -= pair * Fraction(retail[i] + feed_in[j], 2000)
    retailer = Fraction(0)
    for i in short_of:
        alone = Fraction(excess[i] * max(demand - supply, 0) * retail[i], 1000 * demand)
        exact[i] += alone
        retailer += alone
    for j in long_of:
        alone = Fraction(excess[j] * max(supply - demand, 0) * feed_in[j], 1000 * supply)
        exact[j] += alone
        retailer += alone
    assert sum(exact.values()) == retailer
    paid = largest_remainder([exact[i] for i in short_of])
    got = largest_remainder([-exact[j] for j in long_of], sum(paid) - round(retailer))
    for i in inside:
        own[i] = 0
    for i, amount in [*zip(short_of, paid, strict=True), *((j, -g) for j, g in zip(long_of, got, strict=True))]:
        own[i] = amount
    return own


def check_against_slow(case: Case, contracts: Contracts, rule: ResidualRule, posted: Postings) -> None:
    n, b = case.net.shape
    c = case.charges
    full_in, near_in, full_out, near_out, levy = (np.broadcast_to(getattr(c, f.name), (n, b)) for f in fields(c))
    for t in range(n):
        within, at_contract, excess = [], [], []
        for i in range(b):
            bought, sold = int(contracts.bought_wh[t, i]), int(contracts.sold_wh[t, i])
            residual = int(case.net[t, i]) - bought + sold
            band = abs(bought - sold) * rule.tolerance_micro_percent // 10**8
            part = max(-band, min(band, residual))
            turnover = int(contracts.paid_u[t, i] + contracts.received_u[t, i])
            within.append(part)
            at_contract.append(round(Fraction(turnover * part, max(bought + sold, 1))))
            excess.append(residual - part)
        residual_u = slow_residuals(case, t, excess, rule)
        for i in range(b):
            local_in = min(int(contracts.bought_wh[t, i]), int(case.imported[t, i]))
            local_out = min(int(contracts.sold_wh[t, i]), int(case.exported[t, i]))
            rest_in, rest_out = int(case.imported[t, i]) - local_in, int(case.exported[t, i]) - local_out
            network = round(Fraction(int(full_in[t, i]) * rest_in + int(near_in[t, i]) * local_in, 1000)) + round(
                Fraction(int(full_out[t, i]) * rest_out + int(near_out[t, i]) * local_out, 1000)
            )
            want = {
                "contract": int(contracts.received_u[t, i] - contracts.paid_u[t, i]),
                "residual": -(residual_u[i] + at_contract[i]),
                "network": -network,
                "levies": -line(int(levy[t, i]), int(case.imported[t, i])),
                "losses": 0,
            }
            assert {kind: int(p[t, i]) for kind, p in posted.kinds.items()} == want
        loss = line(int(case.loss_u[t]), int(case.loss_wh[t]))
        assert posted.kinds["losses"][t].tolist() == [0] * b + [loss, 0, -loss, 0]


def rule_of(mode: str, data: st.DataObject) -> ResidualRule:
    long = data.draw(PRICES)
    short = long + data.draw(st.integers(0, 10**5))
    return ResidualRule(
        mode,  # type: ignore[arg-type]
        np.array(long) if mode.startswith("imbalance") else None,
        np.array(short) if mode == "imbalance_dual" else None,
        data.draw(st.sampled_from([0, 0, 5_000_000, 100_000_000, 333_333_333])),
    )


def settle(case: Case, contracts: Contracts, rule: ResidualRule, part: slice = slice(None)) -> Postings:
    def cut(values: Int) -> Int:
        return values[part] if values.ndim > 1 and values.shape[0] > 1 else values

    whole = {f.name: getattr(contracts, f.name)[part] for f in fields(contracts)}
    return settle_contracts(
        case.imported[part], case.exported[part], Contracts(**whole), cut(case.retail), cut(case.feed_in),
        Charges(*(cut(getattr(case.charges, f.name)) for f in fields(case.charges))), residuals=rule,
        active=case.active[part], rank=case.rank, loss_wh=case.loss_wh[part], loss_price_u=case.loss_u[part],
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=effort(60, everyday=12), deadline=None)
@given(case=cases(), strong=st.booleans(), data=st.data())
def test_contracts_settle_as_the_slow_settlement_and_keep_the_laws(
    mode: str, case: Case, strong: bool, data: st.DataObject
) -> None:
    contracts, exact = random_pool(case, strong)
    assert not (strong and contracts.operator_u.any())
    rule = rule_of(mode, data)
    posted = settle(case, contracts, rule)
    exchange = case.net.sum(axis=1) + case.loss_wh
    check_laws(posted, case.imported, case.exported, exchange_wh=exchange)
    assert not posted.accounts_u.sum(axis=1).any()
    check_against_slow(case, contracts, rule, posted)
    if not strong:  # with a side's own total nobody is 1 micro or more away from the exact amount
        gap = [abs(exact[t][i] - int(contracts.contract_u[t, i])) for t, i in np.ndindex(*case.net.shape)]
        assert max(gap) < 1
    # windows cut anywhere give the same postings
    cut = data.draw(st.integers(0, len(case.net)))
    for kind, whole in posted.kinds.items():
        parts = [settle(case, contracts, rule, p).kinds[kind] for p in (slice(0, cut), slice(cut, None))]
        assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=60, deadline=None)
@given(case=cases(), data=st.data())
def test_without_contracts_the_settlement_is_the_bill_without_a_market(case: Case, data: st.DataObject) -> None:
    posted = settle(case, Contracts.none(*case.net.shape), ResidualRule())
    meters = (case.imported, case.exported, case.retail, case.feed_in, case.charges)
    alone = no_market_lines(*meters)
    assert np.array_equal(alone.total, no_market_bill_u(*meters))
    for f in fields(alone):
        assert np.array_equal(getattr(posted.lines, f.name), getattr(alone, f.name))
    assert np.array_equal(-posted.accounts_u[:, : case.net.shape[1]], alone.total)


@settings(max_examples=60, deadline=None)
@given(case=cases(), data=st.data(), two_prices=st.booleans())
def test_trades_are_rounded_once_and_both_parties_book_that_integer(
    case: Case, data: st.DataObject, two_prices: bool
) -> None:
    rng = np.random.default_rng(case.seed)
    n, b = case.net.shape
    size = data.draw(st.integers(0, 12))
    slot, buyer, seller = rng.integers(0, n, size), rng.integers(-1, b + 1, size), rng.integers(-1, b + 1, size)
    e_wh, den = rng.integers(0, 5000, size), rng.integers(1, 9, size)
    num, less = rng.integers(-(10**6), 10**6, size), rng.integers(0, 1000, size)
    contracts, amount = contracts_from_trades(
        slot, buyer, seller, e_wh, num, den, n, b,
        seller_price_num=num - less if two_prices else None, seller_price_den=den if two_prices else None,
    )  # fmt: skip
    want = [round(Fraction(int(p * w), int(d) * 1000)) for p, d, w in zip(num, den, e_wh, strict=True)]
    assert amount.tolist() == want
    paid, got = np.zeros((n, b + 1), np.int64), np.zeros((n, b + 1), np.int64)
    for k in range(size):
        receipt = int((num - less)[k] * e_wh[k]) if two_prices else int(num[k] * e_wh[k])
        paid[slot[k], buyer[k]] += want[k]
        got[slot[k], seller[k]] += round(Fraction(receipt, int(den[k]) * 1000))
    assert np.array_equal(contracts.contract_u, (paid - got)[:, :-1])
    assert np.array_equal(contracts.retailer_u, (got - paid)[:, -1])
    assert np.array_equal(contracts.operator_u, (paid - got).sum(axis=1))
    posted = settle(case, contracts, ResidualRule())
    check_laws(posted, case.imported, case.exported)
    outside = (buyer < 0) | (seller < 0) | (buyer == b) | (seller == b)
    assert contracts.local_bought_wh.sum() == contracts.local_sold_wh.sum() == e_wh[~outside].sum()


@settings(max_examples=80, deadline=None)
@given(case=cases(), spread=st.booleans())
def test_meter_based_pools(case: Case, spread: bool) -> None:
    """Mid-market rate (2.11) at one retail and feed-in price, exact numerators, with members outside the market."""
    n, b = case.net.shape
    net = np.where(case.active, case.net, 0)
    retail = int(case.retail.flat[0])
    feed_in = retail - 777 if spread else int(case.feed_in.flat[0])
    demand, supply = np.maximum(net, 0).sum(axis=1), np.maximum(-net, 0).sum(axis=1)
    most = np.maximum(np.maximum(demand, supply), 1)
    buy = supply * (retail + feed_in) + 2 * (demand - supply) * retail
    buy = np.where(supply >= demand, most * (retail + feed_in), buy)
    sell = demand * (retail + feed_in) + 2 * (supply - demand) * feed_in
    sell = np.where(demand >= supply, most * (retail + feed_in), sell)
    pay = np.where(net > 0, net * buy[:, None], net * sell[:, None])
    den = 2000 * most
    due = 2 * most * (np.maximum(demand - supply, 0) * retail - np.maximum(supply - demand, 0) * feed_in)
    local = np.zeros((n, b), np.int64)
    for t in range(n):
        met = int(min(demand[t], supply[t]))
        for side in (net[t] > 0, net[t] < 0):
            total = int(abs(net[t][side].sum()))
            if total:
                local[t, side] = largest_remainder([Fraction(int(abs(w)) * met, total) for w in net[t][side]])
    posted = settle_sharing(
        case.imported, case.exported, local, pay, den, due, np.array(retail), np.array(feed_in), case.charges,
        active=case.active, rank=case.rank, loss_wh=case.loss_wh, loss_price_u=case.loss_u,
    )  # fmt: skip
    check_laws(posted, case.imported, case.exported, exchange_wh=case.net.sum(axis=1) + case.loss_wh)
    assert not posted.contracts.operator_u.any()
    assert abs(posted.contracts.retailer_u).max() <= b  # what rounding leaves, and no more
    booked = -(posted.kinds["contract"] + posted.kinds["residual"])[:, :b]
    for t in range(n):
        buyers = sorted((i for i in range(b) if net[t, i] > 0), key=lambda i: case.rank[i])
        sellers = sorted((i for i in range(b) if net[t, i] < 0), key=lambda i: case.rank[i])
        exact = [Fraction(int(p), int(den[t])) for p in pay[t]]
        paid = largest_remainder([exact[i] for i in buyers])
        got = largest_remainder([-exact[i] for i in sellers], sum(paid) - round(Fraction(int(due[t]), int(den[t]))))
        assert booked[t, buyers].tolist() == paid
        assert (-booked[t, sellers]).tolist() == got
        for i in np.flatnonzero(~case.active[t]):
            w = int(case.net[t, i])
            assert booked[t, i] == line(retail if w > 0 else feed_in, w)


@settings(max_examples=60, deadline=None)
@given(case=cases(), supplied=st.booleans(), price=st.integers(-(10**5), 10**6), den=st.integers(1, 7))
def test_the_retailer_in_the_book(case: Case, supplied: bool, price: int, den: int) -> None:
    rng = np.random.default_rng(case.seed)
    n, b = case.net.shape
    side = np.where(case.active, rng.integers(-1, 2, (n, b)), 0).astype(np.int8)
    fill = np.where(side != 0, rng.integers(0, 3000, (n, b)), 0)
    gap = (fill * side).sum(axis=1)  # bought minus sold: the retailer fills it
    sold, taken = np.maximum(gap, 0), np.maximum(-gap, 0)
    # two columns for the retailer: it sells what is short and buys what is left
    fills, sides = (
        np.column_stack([fill, sold, taken]),
        np.column_stack([side, -np.ones(n), np.ones(n)]).astype(np.int8),
    )
    contracts = contracts_from_pool(
        fills, sides, fills * sides * price, np.full(n, den * 1000), np.array([*range(b), b, -1], np.int32), b,
        case.rank, strong=True,
    )  # fmt: skip
    assert np.array_equal(contracts.retailer_sold_wh, sold)
    assert np.array_equal(contracts.retailer_bought_wh, taken)
    assert contracts.retailer_u.tolist() == [round(Fraction(int(g) * price, den * 1000)) for g in gap]
    assert not contracts.operator_u.any()
    near_in, near_out = contracts.local_bought_wh.sum(axis=1), contracts.local_sold_wh.sum(axis=1)
    assert np.array_equal(near_in, near_out)
    assert (contracts.local_bought_wh <= contracts.bought_wh).all()
    assert (contracts.local_sold_wh <= contracts.sold_wh).all()
    posted = settle(case, contracts, ResidualRule("netted" if supplied else "individual"))
    check_laws(posted, case.imported, case.exported)
