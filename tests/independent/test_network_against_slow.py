"""Clearing under network limits and operating envelopes against a second linear program of its own.

The package clears in whole Wh and the slow version in real numbers, so energies agree within a Wh per order, money
within what that is worth, and prices lie between the two derivatives of the slow optimum.
"""

from __future__ import annotations

import random
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pytest

from market import Order, Result, Side, clear
from market.envelopes import envelopes
from market.feeder import Feeder
from tests.effort import effort, looped
from tests.independent import slow_network as slow
from tests.independent import slow_rules

F = Fraction
UNIT_WH = 1_000_000  # one unit of power for an hour: base of 1000 kVA, slots of an hour
CT = 10_000


def draw_grid(rng: random.Random, *, base: bool, reactive: bool = False) -> slow.Grid:
    n = rng.randint(2, 7)
    parent = [-1, *(rng.choice((i - 1, rng.randrange(i))) for i in range(1, n))]
    caps = [rng.choice((inf, rng.randint(5, 60) / 100)) for _ in range(n)]
    caps[0] = rng.choice((inf, inf, rng.randint(20, 90) / 100))
    band = rng.choice((0.02, 0.05, 0.1))
    loads = [0.0, *(rng.randint(-20, 20) / 100 if base and rng.random() < 0.5 else 0.0 for _ in range(1, n))]
    loads_q = [x * rng.choice((0.0, 0.3)) if reactive else 0.0 for x in loads]
    r = [0.0, *(rng.randint(0, 8) / 100 for _ in range(1, n))]
    x = [0.0, *(rng.randint(0, 8) / 100 for _ in range(1, n))]
    return slow.Grid(parent, r, x, caps, 1 - band, 1 + band, loads, loads_q)


def feeder_of(grid: slow.Grid, **more: Any) -> Feeder:
    return Feeder(
        nodes=tuple(str(i) for i in range(grid.n)),
        parent=np.array(grid.parent),
        r_pu=np.array(grid.r),
        x_pu=np.array(grid.x),
        cap_pu=np.array(grid.cap),
        v_min_pu=grid.v_min,
        v_max_pu=grid.v_max,
        base_kva=1000.0,
        base_p_pu=np.array(grid.base_p),
        base_q_pu=np.array(grid.base_q),
        **more,
    )


def draw_bids(rng: random.Random, grid: slow.Grid, *, ties: bool, factors: bool) -> tuple[list[slow.Bid], list[Order]]:
    bids, orders = [], []
    for i in range(rng.randint(2, 9)):
        node = rng.randrange(grid.n)
        buy = rng.random() < 0.5
        q = rng.randint(0, 60)
        p = rng.randint(14, 18) if ties else rng.randint(8, 30)
        factor = rng.choice((1, 0.95, 0.9, -0.9)) if factors else 1
        oid = f"o{i}"
        bids.append(slow.Bid(oid, buy, q / 100, float(p), node, slow.tangent(factor)))
        orders.append(
            Order(
                order_id=oid,
                agent_id=f"a{i}",
                side=Side.BUY if buy else Side.SELL,
                e_wh=q * UNIT_WH // 100,
                price_u=p * CT,
                node=str(node),
                t=i,
                attributes={"power_factor": factor} if factor != 1 else {},
            )
        )
    return bids, orders


def powers(grid: slow.Grid, bids: list[slow.Bid], got: Result) -> tuple[list[float], list[float]]:
    p, q = list(grid.base_p), list(grid.base_q)
    for b in bids:
        x = got.fills.get(b.oid, 0) / UNIT_WH * (1 if b.buy else -1)
        p[b.node] += x
        q[b.node] += x * b.tan
    return p, q


def network_case(seed: int, kind: str) -> str:
    rng = random.Random(f"network/{kind}/{seed}")
    grid = draw_grid(rng, base=kind != "bare", reactive=kind == "reactive")
    bids, orders = draw_bids(rng, grid, ties=kind == "ties", factors=kind == "reactive")
    r, f = rng.choice(((30.0, 8.0), (20.0, 20.0), (17.0, 12.0)))
    context: dict[str, Any] = {"feeder": feeder_of(grid), "p_min_u": 0, "p_max_u": 50 * CT}
    prices: tuple[float, float] | tuple[()] = ()
    if rng.random() < 0.6:
        prices = (r, f)
        context |= {"retail_u": int(r * CT), "feed_in_u": int(f * CT), "backstop": "in_book"}
    want = slow.clear(grid, bids, *prices)
    got = clear("lindistflow", orders, context=context)
    if want is None:
        assert not got.diagnostics["feasible"]
        assert not any(got.fills.values())
        return "infeasible"
    assert got.diagnostics["feasible"]
    lattice = len(bids) + 2  # Wh
    money = lattice * 50 * CT / 1000
    assert float(got.welfare_u) == pytest.approx(want.value * UNIT_WH * CT / 1000, rel=1e-6, abs=money)
    # within orders, balanced, and within the limits up to the lattice
    for b in bids:
        assert 0 <= got.fills.get(b.oid, 0) <= round(b.q * UNIT_WH)
    net = sum(got.fills.get(b.oid, 0) * (1 if b.buy else -1) for b in bids)
    assert net + got.base_wh + got.loss_wh == got.import_wh - got.export_wh or (not prices and net == 0)
    p, q = powers(grid, bids, got)
    assert grid.excess(p, q) <= lattice / UNIT_WH
    # prices
    assert got.surplus_u >= 0
    if not any(got.fills.values()):
        return "nothing"
    unique = True
    for node in range(grid.n):
        low, high = slow.price_interval(grid, bids, node, *prices)
        price = float(got.prices.by_node[str(node)]) / CT
        assert low - 2e-3 <= price <= high + 2e-3
        unique &= high - low < 1e-2
    for b in bids:  # a price per kWh with the reactive energy that comes with it
        fill = got.fills.get(b.oid, 0)
        if fill and b.tan:
            low, high = slow.price_interval(grid, bids, b.node, *prices, tan=b.tan)
            assert low - 2e-3 <= float(got.prices.by_order[b.oid]) / CT <= high + 2e-3
        if fill and not b.tan:  # prices end in thousandths and stop at the order's limit
            at_node = float(got.prices.by_node[str(b.node)])
            assert float(got.prices.by_order[b.oid]) == pytest.approx(at_node, abs=1)
        paid = got.order_payments.get(b.oid, 0) * (1 if b.buy else -1)
        assert not fill or paid == got.prices.by_order[b.oid] * fill / 1000
        limit = F(round(b.p * CT) * fill, 1000)
        assert paid <= limit if b.buy else paid >= limit
    if prices and not any(grid.base_q) and all(b.tan == 0 for b in bids):
        # the congestion rent as written; with reactive power the text does not say what the load outside pays for it
        rent = sum(float(got.prices.by_node[str(j)]) * p[j] for j in range(grid.n)) * UNIT_WH / 1000
        rent -= (r * got.import_wh - f * got.export_wh) * CT / 1000
        assert float(got.surplus_u) == pytest.approx(rent, rel=1e-5, abs=money)
    return "unique" if unique else "interval"


NETWORKS = ("bare", "loads", "ties", "reactive")


@pytest.mark.parametrize("kind", NETWORKS)
def test_lindistflow(kind: str) -> None:
    seen = [network_case(seed, kind) for seed in range(effort(48, everyday=12))]
    assert seen.count("unique") + seen.count("interval") >= 3


@pytest.mark.campaign
@pytest.mark.parametrize("kind", NETWORKS)
def test_lindistflow_more(kind: str) -> None:
    seen = [network_case(seed, kind) for seed in range(12, 240)]
    assert set(seen) == {"unique", "interval", "nothing", "infeasible"} or kind == "bare"


@looped("seed", range(30))
def test_without_limits_it_is_the_call_auction(seed: int) -> None:
    rng = random.Random(f"wide/{seed}")
    grid = draw_grid(rng, base=False)
    grid.cap, grid.v_min, grid.v_max = [inf] * grid.n, 0.01, 9.0
    _, orders = draw_bids(rng, grid, ties=rng.random() < 0.5, factors=False)
    got = clear("lindistflow", orders, context={"feeder": feeder_of(grid)})
    book = [slow_rules.SlowOrder(o.order_id, o.agent_id, o.side is Side.BUY, o.e_wh, o.price_u, o.t) for o in orders]
    want = slow_rules.uniform_price(book)
    assert got.welfare_u == want.welfare
    assert {i: x for i, x in got.fills.items() if x} == {i: x for i, x in want.fills.items() if x}
    assert {a: x for a, x in got.payments.items() if x} == {a: x for a, x in want.payments.items() if x}
    assert got.surplus_u == 0


@pytest.mark.parametrize("sides", [8, 16])
def test_a_polygon_of_apparent_power(sides: int) -> None:
    """The text has "option: polygon for apparent power": read as one inside the circle, or around it."""
    for seed in range(25):
        rng = random.Random(f"polygon/{sides}/{seed}")
        grid = draw_grid(rng, base=True)
        bids, orders = draw_bids(rng, grid, ties=False, factors=True)
        context = {
            "feeder": feeder_of(grid),
            "retail_u": 30 * CT,
            "feed_in_u": 8 * CT,
            "p_min_u": 0,
            "p_max_u": 50 * CT,
            "backstop": "in_book",
        }
        got = clear("lindistflow", orders, context=context, polygon=sides)
        grow = 1 / np.cos(np.pi / sides)
        inner = slow.clear(grid, bids, 30.0, 8.0, sides=sides)
        wider = slow.Grid(**(grid.__dict__ | {"cap": [grid.cap[0], *(c * grow**2 for c in grid.cap[1:])]}))
        outer = slow.clear(wider, bids, 30.0, 8.0, sides=sides)
        slack = (len(bids) + 2) * 50 * CT / 1000
        if outer is None:
            assert not got.diagnostics["feasible"]
        elif inner is not None:
            low, high = (s.value * UNIT_WH * CT / 1000 for s in (inner, outer))
            assert low - slack <= float(got.welfare_u) <= high + slack


def lossy_case(seed: int, how: str, scale: float) -> tuple[Result, float, float, float]:
    """The rule with losses, its value, the value of the slow optimum with losses, and without."""
    rng = random.Random(f"losses/{seed}")
    grid = draw_grid(rng, base=True)
    grid.cap, grid.v_min, grid.v_max = [inf] * grid.n, 0.01, 9.0
    grid.r = [x * scale for x in grid.r]
    bids, orders = draw_bids(rng, grid, ties=False, factors=False)
    context = {"feeder": feeder_of(grid), "retail_u": 30 * CT, "feed_in_u": 8 * CT, "backstop": "in_book"}
    got = clear("lindistflow", orders, context=context, losses=how)
    net = sum(got.fills.get(b.oid, 0) * (1 if b.buy else -1) for b in bids)
    assert net + got.base_wh + got.loss_wh == got.import_wh - got.export_wh
    assert got.surplus_u >= 0
    lossless = slow.clear(grid, bids, 30.0, 8.0)
    assert lossless is not None
    if how == "factors":
        p, _ = powers(grid, bids, clear("lindistflow", orders, context=context))
        factor = [r * abs(f) for r, f in zip(grid.r, grid.flows(p), strict=True)]
        want = slow.value_with_factors(grid, bids, 30.0, 8.0, factor)
    else:
        want = slow.value_with_quadratic_losses(grid, bids, 30.0, 8.0)
    return got, float(got.welfare_u) * 1000 / UNIT_WH / CT, want, lossless.value


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("how", ["quadratic", "factors"])
def test_losses(how: str, scale: float) -> None:
    """Never above the optimum without losses, and not below the one with them by more than half of what they cost.

    The text leaves open at which end of a line its loss falls, and from what the fixed factors come. Books of which the
    rule says that trade is worthless are counted in the next test.
    """
    lossy_cases(range(12), how, scale)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("how", ["quadratic", "factors"])
def test_losses_more(how: str, scale: float) -> None:
    lossy_cases(range(12, 200), how, scale)


def lossy_cases(seeds: range, how: str, scale: float) -> None:
    for seed in seeds:
        got, value, want, lossless = lossy_case(seed, how, scale)
        restless = how == "quadratic" and got.diagnostics["loss_gap_wh"] > 1000  # the iteration goes to and fro
        if "worthless" not in got.diagnostics and not restless:
            assert want - 0.5 * (lossless - want) - 1e-4 <= value <= lossless + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["quadratic", "factors"])
def test_losses_do_not_stop_trade_that_pays(how: str) -> None:
    """Where the rule trades nothing for the losses' sake, the slow optimum is not better than that."""
    for seed in range(200):
        got, value, want, _ = lossy_case(seed, how, 1.0)
        assert "worthless" not in got.diagnostics or value >= want - 1e-4


def test_fixed_factors_on_a_line_without_lossless_flow() -> None:
    """Load outside the market feeds in 0.1 at node 1; at node 2 somebody bids 16, twice the feed-in price."""
    grid = slow.Grid([-1, 0, 1], [0, 0, 0.01], [0.0] * 3, [inf] * 3, 0.5, 1.5, [0.0, -0.1, 0.0], [0.0] * 3)
    order = Order(order_id="b", agent_id="b", side=Side.BUY, e_wh=240_000, price_u=16 * CT, node="2")
    context = {"feeder": feeder_of(grid), "retail_u": 30 * CT, "feed_in_u": 8 * CT, "backstop": "in_book"}
    for how in ("none", "quadratic", "factors"):
        got = clear("lindistflow", [order], context=context, losses=how)
        assert got.fills["b"] == pytest.approx(100_000, abs=150)


def test_examples() -> None:
    """Chain with a line limit, and one line with a voltage limit."""
    chain = slow.Grid([-1, 0, 1], [0, 0.02, 0.02], [0, 0.02, 0.02], [inf, inf, 0.2], 0.9, 1.1, [0.0] * 3, [0.0] * 3)
    rows = [("b1", True, 0.3, 28, 1), ("b2", True, 0.3, 27, 2), ("s1", False, 1.0, 10, 2)]
    bids = [slow.Bid(i, b, q, float(p), n) for i, b, q, p, n in rows]
    want = slow.clear(chain, bids, 30.0, 8.0)
    assert want is not None
    assert want.value == pytest.approx(8.7)
    assert want.fills == pytest.approx({"b1": 0.2, "b2": 0.3, "s1": 0.5})
    context = {"retail_u": 30 * CT, "feed_in_u": 8 * CT, "backstop": "in_book"}

    def run(grid: slow.Grid, rows: Any, **more: Any) -> Result:
        orders = [
            Order(
                order_id=i,
                agent_id=i,
                side=Side.BUY if b else Side.SELL,
                e_wh=round(q * UNIT_WH),
                price_u=p * CT,
                node=str(n),
            )
            for i, b, q, p, n in rows
        ]
        return clear("lindistflow", orders, context=context | {"feeder": feeder_of(grid)} | more)

    got = run(chain, rows)
    assert dict(got.fills) == {"b1": 200_000, "b2": 300_000, "s1": 500_000}
    assert [got.prices.by_node[x] / CT for x in "012"] == [28, 28, 10]
    assert got.surplus_u == 3_600_000 * CT / 1000
    one = slow.Grid([-1, 0], [0, 0.05], [0, 0.05], [inf, inf], 0.9, 1.05, [0.0] * 2, [0.0] * 2)
    got = run(one, [("s", False, 9.0, 5, 1)], p_min_u=0)
    assert got.export_wh == pytest.approx(1_025_000, abs=1)
    assert [float(got.prices.by_node[x] / CT) for x in "01"] == pytest.approx([8, 5])
    assert float(got.welfare_u) == pytest.approx(3.075 * UNIT_WH * CT / 1000, rel=1e-6)


# 2.20 -----------------------------------------------------------------------------------------------------------------


def envelope_case(seed: int, how: str) -> bool:
    rng = random.Random(f"envelope/{how}/{seed}")
    grid = draw_grid(rng, base=rng.random() < 0.5)
    m = rng.randint(1, 7)
    nodes = [rng.randrange(grid.n) for _ in range(m)]
    asked = [rng.choice((0.0, rng.randint(1, 90) / 100)) for _ in range(m)]
    sign = rng.choice((-1, 1))
    weight = [float(rng.randint(1, 5)) for _ in range(m)]
    got = envelopes(
        feeder_of(grid),
        [str(j) for j in nodes],
        [a * UNIT_WH for a in asked],
        direction="export" if sign < 0 else "import",
        rule=how,
        weights=weight if how in {"max_total", "alpha_fair"} else None,
    )
    granted = [float(x) / UNIT_WH for x in got.limit_wh]
    nobody = [0.0] * m
    if not slow.safe(grid, nodes, nobody, sign):
        assert not got.feasible
        assert granted == nobody
        return False
    assert got.feasible
    assert all(-1e-9 <= x <= a + 1e-9 for x, a in zip(granted, asked, strict=True))
    # feasible whatever is used: at the corner, and at uses inside
    for _ in range(4):
        used = [x * rng.random() for x in granted]
        p = list(grid.base_p)
        for node, x in zip(nodes, used, strict=True):
            p[node] += sign * x
        assert grid.excess(p, grid.base_q) <= 1e-6
    p = list(grid.base_p)
    for node, x in zip(nodes, granted, strict=True):
        p[node] += sign * x
    assert grid.excess(p, grid.base_q) <= 2e-6
    if how in {"equal", "proportional"}:
        assert granted == pytest.approx(slow.largest(grid, nodes, asked, sign, how), abs=3e-6)
    elif how == "max_total":
        total = sum(w * x for w, x in zip(weight, granted, strict=True))
        assert total == pytest.approx(slow.most(grid, nodes, asked, sign, weight), abs=2e-5)
    return True


@pytest.mark.parametrize("how", ["equal", "proportional", "max_total", "alpha_fair"])
def test_envelopes(how: str) -> None:
    assert sum(envelope_case(seed, how) for seed in range(30)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("how", ["equal", "proportional", "max_total", "alpha_fair"])
def test_envelopes_more(how: str) -> None:
    assert sum(envelope_case(seed, how) for seed in range(30, 400)) > 100


def test_envelope_example() -> None:
    """Requests 0.2, 0.6, 1.0 behind one limit of 1.0."""
    grid = slow.Grid([-1, 0], [0, 0.0], [0, 0.0], [inf, 1.0], 0.9, 1.1, [0.0] * 2, [0.0] * 2)
    asked = [0.2, 0.6, 1.0]
    for how, want in (("equal", [0.2, 0.4, 0.4]), ("proportional", [1 / 9, 1 / 3, 5 / 9])):
        assert slow.largest(grid, [1] * 3, asked, -1, how) == pytest.approx(want)
        got = envelopes(feeder_of(grid), ["1"] * 3, [a * UNIT_WH for a in asked], rule=how)
        assert [float(x) / UNIT_WH for x in got.limit_wh] == pytest.approx(want, abs=2e-6)
    got = envelopes(feeder_of(grid), ["1"] * 3, [a * UNIT_WH for a in asked], rule="max_total")
    assert sum(got.limit_wh) == pytest.approx(UNIT_WH, abs=2)


@pytest.mark.parametrize("how", ["equal", "proportional"])
@looped("seed", range(25))
def test_the_rule_clears_within_its_envelopes(how: str, seed: int) -> None:
    """What an agent sells (buys) in all is at most its limit; an agent's worst orders are cut first."""
    rng = random.Random(f"within/{how}/{seed}")
    grid = draw_grid(rng, base=False)
    bids, orders = draw_bids(rng, grid, ties=False, factors=False)
    got = clear("operating_envelopes", orders, context={"feeder": feeder_of(grid)}, allocation=how)
    book = {o.order_id: o for o in orders}
    cut = []
    for sign, buy in ((-1, False), (1, True)):
        side = [b for b in bids if b.buy == buy]
        granted = slow.largest(grid, [b.node for b in side], [b.q for b in side], sign, how)
        for b, x in zip(side, granted, strict=True):
            # whole Wh, never above the limit; the bisection may stand a hair below a whole one
            wh = min(int(x * UNIT_WH + 1e-3), book[b.oid].e_wh)
            cut.append(slow_rules.SlowOrder(b.oid, book[b.oid].agent_id, buy, wh, book[b.oid].price_u, book[b.oid].t))
    want = slow_rules.uniform_price(cut)
    lattice = 2 * len(bids)
    assert float(got.welfare_u) == pytest.approx(float(want.welfare), abs=lattice * 30 * CT / 1000)
    limits = {o.oid: o.q for o in cut}
    assert all(x <= limits[i] + 1 for i, x in got.fills.items())
    assert got.volume_wh == pytest.approx(want.q_star, abs=lattice)
