"""Clearing within a radial network's limits (market-rules 2.18): worked examples, independent programs, laws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from core import MarketError
from market import clear
from market.book import Book, BookBatch, Context
from market.feeder import AcFlow, Feeder
from market.orders import Order
from market.promises import check_promises
from market.registry import make_rule
from market.result import BatchClearing, Result
from market.rules.lindistflow import LinDistFlow
from market.testing import batch_row, check_rule, result_row
from tests.market.nodal_cases import BUY, SELL, dense, feeder, in_book, order, random_feeder, random_orders

INF = float("inf")


def chain() -> Feeder:
    return feeder([-1, 0, 1], [0, 0.02, 0.02], [0, 0.02, 0.02], [INF, INF, 0.2])


CHAIN_ORDERS = [order("b1", BUY, 300, 28, 1), order("b2", BUY, 300, 27, 2), order("s1", SELL, 1000, 10, 2)]


# --- the specification's examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 10_000], ids=["ct as micro", "ct"])
def test_a_line_that_binds_parts_the_prices(scale: int) -> None:
    orders = [replace(o, price_u=o.price_u * scale) for o in CHAIN_ORDERS]
    found = clear("lindistflow", orders, context=in_book(chain(), 30 * scale, 8 * scale))
    assert found.fills == {"b1": 200, "b2": 300, "s1": 500}
    assert found.welfare_u == Fraction(8700, 1000) * scale
    assert found.prices.by_node == {"0": 28 * scale, "1": 28 * scale, "2": 10 * scale}
    assert found.surplus_u == Fraction(3600, 1000) * scale
    assert found.payments == {
        "b1": Fraction(5600, 1000) * scale, "b2": 3 * scale, "s1": -5 * scale, "retailer": 0,
    }  # fmt: skip
    assert (found.import_wh, found.export_wh, found.price) == (0, 0, None)


def test_a_voltage_that_binds_holds_back_a_seller() -> None:
    wires = feeder([-1, 0], [0, 0.05], [0, 0.05], [INF, INF], v_max_pu=1.05)
    found = clear("lindistflow", [order("s", SELL, 9000, 50_000, 1)], context=in_book(wires))
    assert found.fills == {"s": 1025}
    assert found.export_wh == 1025
    assert found.welfare_u == 30_750  # 3.075 ct per p.u. hour of a kWh
    assert found.prices.by_node == {"0": 80_000, "1": 50_000}
    assert found.diagnostics["v_pu"]["1"] == pytest.approx(1.05, abs=1e-12)


def test_without_a_retailer_in_the_book_the_market_balances_by_itself() -> None:
    found = clear("lindistflow", CHAIN_ORDERS, context=Context(feeder=chain()))
    assert found.fills == {"b1": 200, "b2": 300, "s1": 500}
    alone = [order("s", SELL, 9000, 5, 1)]
    assert not clear("lindistflow", alone, context=Context(feeder=chain())).fills


# --- against another program ------------------------------------------------------------------------------------------


def case(seed: int) -> tuple[list[Order], Context]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    wires = random_feeder(rng, n, tight=float(rng.choice([0.5, 1, 3, 8])), base=bool(rng.integers(2)))
    top = int(rng.choice([20, 400_000]))
    orders = random_orders(rng, int(rng.integers(1, 14)), n, top=top)
    low, high = sorted(int(v) for v in rng.integers(0, top, 2))
    return orders, in_book(wires, high, low)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_optimum_and_prices_are_those_of_a_dense_program(block: int) -> None:
    """Fills may differ by a Wh and among ties; welfare and, where they are unique, prices may not."""
    congested = 0
    for seed in range(60 * block, 60 * block + 60):
        orders, context = case(seed)
        book = Book.from_orders(orders)
        found = clear("lindistflow", orders, context=context)
        welfare, _, node_price = dense(book, context)
        if np.isnan(welfare):
            assert not found.diagnostics["feasible"]
            continue
        binding = found.diagnostics["binding"]
        congested += bool(binding)
        dearest = max(abs(p) for p in (*book.price_u, context.retail_u or 0))
        assert float(found.welfare_u) == pytest.approx(welfare, abs=dearest / 1000 * 3 * (1 + len(binding)) + 1e-6)
        check_laws(orders, found)
        if found.prices.by_node:
            for j, node in enumerate(found.prices.by_node):
                low, high = found.diagnostics["intervals"][node]
                assert low - 0.2 <= float(found.prices.by_node[node]) <= high + 0.2
                assert low - 0.2 <= node_price[j] <= high + 0.2
    assert congested > 10


def check_laws(orders: list[Order], found: Result) -> None:
    """Nobody worse off than without a trade, the rent not negative, no price that a fill contradicts."""
    assert found.surplus_u >= 0
    assert sum(found.payments.values()) == found.surplus_u
    by = {o.order_id: o for o in orders}
    for name, wh in found.fills.items():
        o = by[name]
        assert int(o.side) * o.price_u * wh >= 1000 * found.order_payments[name]
    if not found.prices.by_node:
        return
    for o in orders:  # complementary slackness, but for the whole Wh: unfilled orders do not want the node's price
        wh, price = found.fills.get(o.order_id, 0), found.prices.by_node[str(o.node)]
        gain = int(o.side) * (o.price_u - price)
        if wh < o.e_wh - 2:
            assert gain <= Fraction(1, 4), (o, wh, price)
        if wh > 2:
            assert gain >= -Fraction(1, 4), (o, wh, price)


def test_limits_are_kept_to_the_watt_hour() -> None:
    for seed in range(400, 460):
        orders, context = case(seed)
        wires = context.feeder
        assert wires is not None
        found = clear("lindistflow", orders, context=context)
        if not found.diagnostics["feasible"]:
            continue
        drawn = np.zeros(wires.n) if wires.base_p_pu is None else np.rint(1000 * np.asarray(wires.base_p_pu))
        for o in orders:
            drawn[int(str(o.node))] += int(o.side) * found.fills.get(o.order_id, 0)
        flow = drawn.copy()
        for j in range(wires.n - 1, 0, -1):
            flow[wires.parent[j]] += flow[j]
        assert (np.abs(flow[1:]) <= 1000 * wires.cap_pu[1:] + 2).all()
        assert flow[0] == found.import_wh - found.export_wh
        # a Wh at the end of a path of 0.1 p.u. moves the voltage by 1e-4
        assert max(found.diagnostics["v_pu"].values()) <= float(np.max(wires.v_max_pu)) + 5e-4


# --- ties, degenerate prices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tie_break", ["time", "prorata", "random"])
def test_where_no_limit_binds_it_is_the_uniform_price(tie_break: str) -> None:
    rng = np.random.default_rng(7)
    wires = feeder([-1, 0, 1, 1], [0] + [1e-6] * 3, [0] + [1e-6] * 3, [INF] * 4)
    for trial in range(40):
        orders = random_orders(rng, 9, 4, top=12)
        context = in_book(wires, 9, 2, slot=trial) if trial % 2 else Context(slot=trial, feeder=wires)
        here = clear("lindistflow", orders, context=context, tie_break=tie_break, seed=3)
        there = clear("uniform_price", orders, context=context, tie_break=tie_break, seed=3)
        assert (here.volume_wh, here.welfare_u) == (there.volume_wh, there.welfare_u), trial
        assert here.import_wh - here.export_wh == there.import_wh - there.export_wh
        if there.fills:
            assert here.price == there.price, trial
        gap = {x: abs(here.fills.get(x, 0) - there.fills.get(x, 0)) for x in {*here.fills, *there.fills}}
        assert max(gap.values(), default=0) <= (tie_break == "prorata"), trial  # equal fractions of a Wh


def test_a_price_that_is_not_unique_is_told_with_both_ends() -> None:
    orders = [order("b", BUY, 100, 30, 1), order("s", SELL, 100, 10, 2)]
    found = clear("lindistflow", orders, context=Context(feeder=chain()))
    assert found.price == 20
    assert found.diagnostics["intervals"] == dict.fromkeys("012", (10.0, 30.0))
    exactly = [order("b", BUY, 500, 30, 1), order("s", SELL, 200, 10, 2)]  # the seller ends where the line does
    found = clear("lindistflow", exactly, context=Context(feeder=chain()))
    low, high = found.diagnostics["intervals"]["2"]
    assert (low, high) == (pytest.approx(10), pytest.approx(30))
    assert found.diagnostics["intervals"]["1"] == (pytest.approx(30), pytest.approx(30))


# --- many slots -------------------------------------------------------------------------------------------------------


def batch(n_slots: int, *, seed: int = 0, base: bool = True, ties: bool = True) -> BookBatch:
    rng = np.random.default_rng(seed)
    n, m = 12, 15
    wires = random_feeder(rng, n, tight=3.0)
    if base:
        wires = replace(wires, base_p_pu=rng.uniform(-0.05, 0.1, (n_slots, n)))
    side = rng.integers(-1, 2, (n_slots, m)).astype(np.int8)
    top = 5 if ties else 400_000
    return BookBatch(
        side=side, e_wh=rng.integers(0, 3000, (n_slots, m)), price_u=rng.integers(0, top, (n_slots, m)),
        member=np.arange(m, dtype=np.int32), t=np.zeros(m, np.int64), seq=np.zeros(m, np.int64),
        order_rank=rng.permutation(m).astype(np.int64), retail_u=np.full(n_slots, top),
        feed_in_u=np.zeros(n_slots, np.int64), order_ids=tuple(f"o{i:02d}" for i in range(m)),
        node=tuple(str(int(i)) for i in rng.integers(0, n, m)), feeder=wires,
    )  # fmt: skip


def part(whole: BookBatch, rows: slice) -> BookBatch:
    wires = whole.feeder
    assert wires is not None and whole.retail_u is not None and whole.feed_in_u is not None
    first = whole.first_slot + (rows.start or 0)
    base = None if wires.base_p_pu is None else wires.base_p_pu[rows]
    return replace(
        whole, side=whole.side[rows], e_wh=whole.e_wh[rows], price_u=whole.price_u[rows], first_slot=first,
        retail_u=whole.retail_u[rows], feed_in_u=whole.feed_in_u[rows], feeder=replace(wires, base_p_pu=base),
    )  # fmt: skip


@pytest.mark.parametrize("tie_break", ["time", "prorata", "random"])
@pytest.mark.parametrize("ties", [False, True])
def test_results_depend_neither_on_windows_nor_on_the_slot_before(tie_break: str, ties: bool) -> None:
    rule = LinDistFlow(tie_break=tie_break)
    whole = batch(40, ties=ties)
    found = rule.clear_batch(whole)
    assert (found.fill_wh > 0).sum() > 100
    check_promises(rule, whole, found)
    for cuts in ([0, 1, 2, 40], [0, 13, 14, 30, 40], list(range(41))):
        for a, b in pairwise(cuts):
            some = rule.clear_batch(part(whole, slice(a, b)))
            for name in ("fill_wh", "pay_num", "retailer_num", "import_wh", "export_wh", "has_price", "price_num"):
                assert np.array_equal(getattr(found, name)[a:b], getattr(some, name)), (name, a, b)


def test_a_batch_is_the_slots_one_by_one() -> None:
    rule = LinDistFlow()
    whole = batch(25, seed=1)
    found = rule.clear_batch(whole)
    for s in range(25):
        book, context, columns = whole.row(s)
        assert batch_row(found, s, book, columns) == result_row(rule.clear(book, context), book)


# --- load outside the market ------------------------------------------------------------------------------------------


def test_load_outside_the_market_pays_its_place_through_its_supplier() -> None:
    wires = replace(chain(), base_p_pu=np.array([0.0, 0.0, 0.1]))
    found = clear("lindistflow", CHAIN_ORDERS, context=in_book(wires, 30, 8))
    assert found.fills == {"b1": 200, "b2": 300, "s1": 600}  # 0.2 leave node 2, 0.4 stay
    assert found.base_wh == 100
    assert found.payments["retailer"] == Fraction(100 * 10, 1000)
    assert found.surplus_u == Fraction(3600, 1000)


def test_load_that_breaks_a_limit_by_itself_is_told_and_nothing_trades() -> None:
    wires = replace(chain(), base_p_pu=np.array([0.0, 0.0, 0.35]))
    found = clear("lindistflow", CHAIN_ORDERS[:2], context=in_book(wires, 30, 8))
    assert not found.fills and not any(found.payments.values())
    assert found.diagnostics["feasible"] is False
    [conflict] = found.diagnostics["conflict"]
    assert (conflict["limit"], conflict["node"]) == ("line", "2")
    assert conflict["excess"] == pytest.approx(150)
    helped = clear("lindistflow", CHAIN_ORDERS, context=in_book(wires, 30, 8))  # a seller behind the line relieves it
    assert helped.diagnostics["feasible"] and helped.fills["s1"] >= 150
    low = replace(chain(), base_p_pu=np.array([0.0, 3.0, 0.0]), v_min_pu=0.95)
    voltage = clear("lindistflow", CHAIN_ORDERS[:1], context=in_book(low, 30, 8)).diagnostics["conflict"]
    assert {c["limit"] for c in voltage} == {"v_min"}


def test_the_exchange_with_the_grid_above_has_a_limit() -> None:
    wires = feeder([-1, 0], [0, 0.001], [0, 0.001], [0.5, INF])
    found = clear("lindistflow", [order("b", BUY, 900, 40, 1)], context=in_book(wires, 30, 8))
    assert (found.fills, found.import_wh, found.surplus_u) == ({"b": 500}, 500, 5)
    heavy = replace(wires, base_p_pu=np.array([0.0, 0.7]))
    for context in (in_book(heavy, 30, 8), Context(feeder=heavy)):
        conflict = clear("lindistflow", [order("b", BUY, 900, 40, 1)], context=context).diagnostics["conflict"]
        assert [c["limit"] for c in conflict] == ["exchange"]
        assert conflict[0]["excess"] == pytest.approx(200)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_quadratic_losses_are_marginal_in_the_price_and_stand_in_the_balance() -> None:
    wires = feeder([-1, 0], [0, 0.05], [0, 0.0], [INF, INF], v_min_pu=0.5)
    found = clear("lindistflow", [order("b", BUY, 1000, 900_000, 1)], context=in_book(wires), losses="quadratic")
    assert found.fills == {"b": 1000}
    assert (found.loss_wh, found.import_wh) == (50, 1050)  # r F^2 = 0.05
    assert float(found.prices.by_node["1"]) == pytest.approx(300_000 * 1.1, rel=1e-6)  # 1 + 2 r F
    assert found.surplus_u == 330_000 - 315_000
    away = clear("lindistflow", [order("s", SELL, 1000, 0, 1)], context=in_book(wires, p_min_u=0), losses="quadratic")
    assert (away.fills, away.loss_wh, away.export_wh) == ({"s": 1000}, 50, 950)
    assert float(away.prices.by_node["1"]) == pytest.approx(80_000 * 0.9, rel=1e-6)


def test_loss_factors_are_those_of_the_lossless_flows() -> None:
    wires = feeder([-1, 0, 1], [0, 0.05, 0.02], [0, 0, 0], [INF] * 3, v_min_pu=0.5)
    orders = [order("b", BUY, 1000, 900_000, 1), order("s", SELL, 400, 100_000, 2)]
    found = clear("lindistflow", orders, context=in_book(wires), losses="factors")
    # 600 Wh lose 0.05 * 0.6 of themselves on the first line; 400 upwards on the second lose 0.02 * 0.4
    arrives = 400 * (1 - 0.02 * 0.4)
    needed = 1000 - arrives
    assert found.import_wh == pytest.approx(needed * (1 + 0.05 * 0.6), abs=1)
    assert found.loss_wh == found.import_wh + 400 - 1000


@pytest.mark.parametrize("losses", ["factors", "quadratic"])
def test_losses_keep_the_laws_on_random_feeders(losses: str) -> None:
    lost = 0
    for seed in range(500, 530):
        orders, context = case(seed)
        found = clear("lindistflow", orders, context=context, losses=losses)
        lost += found.loss_wh
        check_laws_of_money(orders, found)
    assert lost > 0
    with pytest.raises(MarketError, match="losses have to be bought"):
        clear("lindistflow", CHAIN_ORDERS, context=Context(feeder=chain()), losses=losses)


def check_laws_of_money(orders: list[Order], found: Result) -> None:
    assert found.surplus_u >= 0 or not found.fills
    for o in orders:
        wh = found.fills.get(o.order_id, 0)
        assert int(o.side) * o.price_u * wh >= 1000 * found.order_payments.get(o.order_id, 0)


# --- reactive power ---------------------------------------------------------------------------------------------------


def test_reactive_power_comes_with_a_power_factor_and_costs_what_it_causes() -> None:
    wires = feeder([-1, 0], [0, 0.05], [0, 0.05], [INF, INF], v_max_pu=1.05)
    half = 0.5**0.5  # tan phi = 1: as much reactive as active energy
    seller = [order("s", SELL, 9000, 50_000, 1, attributes={"power_factor": half})]
    found = clear("lindistflow", seller, context=in_book(wires))
    assert found.fills == {"s": 512}  # 0.1025 = 2 (r + x) P, whole Wh of 512.5
    assert float(found.prices.by_order["s"]) == pytest.approx(50_000)
    same = clear("lindistflow", [replace(seller[0], attributes={})], context=in_book(wires), power_factor=half)
    assert same.fills == found.fills
    absorbs = clear("lindistflow", [replace(seller[0], attributes={"power_factor": -half})], context=in_book(wires))
    assert absorbs.fills == {"s": 9000}  # r P - x Q = 0: takes the voltage rise back
    with pytest.raises(MarketError, match="power_factor"):
        clear("lindistflow", [replace(seller[0], attributes={"power_factor": 2})], context=in_book(wires))


def test_a_polygon_bounds_apparent_power_from_inside() -> None:
    wires = feeder([-1, 0], [0, 0.001], [0, 0.001], [INF, 1.0])
    half = 0.5**0.5
    buyer = [order("b", BUY, 9000, 400_000, 1, attributes={"power_factor": half})]
    assert clear("lindistflow", buyer, context=in_book(wires)).fills == {"b": 1000}
    for sides, least in ((4, 499), (8, 706), (64, 705)):
        wh = clear("lindistflow", buyer, context=in_book(wires), polygon=sides).fills["b"]
        assert least <= wh <= 708, sides  # S = sqrt(2) P <= 1000
    plain = [order("b", BUY, 9000, 400_000, 1)]
    assert clear("lindistflow", plain, context=in_book(wires), polygon=8).fills == {"b": 1000}


# --- AC check and repair ----------------------------------------------------------------------------------------------


def swept(wires: Feeder) -> Any:
    """An AC power flow of a feeder by backward and forward sweeps, as an `AcCheck`."""

    def check(p_wh: np.ndarray, q_varh: np.ndarray) -> AcFlow:
        unit = wires.to_wh(1.0)
        z = np.asarray(wires.r_pu) + 1j * np.asarray(wires.x_pu)
        s = (p_wh + 1j * q_varh) / unit
        v = np.full(s.shape, wires.v0_pu, complex)
        current = np.zeros_like(v)
        for _ in range(100):
            current = np.conj(s / v)
            for j in range(wires.n - 1, 0, -1):
                current[:, wires.parent[j]] += current[:, j]
            for j in range(1, wires.n):
                v[:, j] = v[:, wires.parent[j]] - z[j] * current[:, j]
        rated = np.where(np.isfinite(wires.cap_pu), wires.cap_pu, np.inf)
        loss = (np.abs(current) ** 2 * z.real).sum(axis=1) * unit
        return AcFlow(np.abs(v), np.abs(current) / rated, loss)

    return check


def test_the_ac_check_finds_what_the_linear_model_misses_and_repair_mends_it() -> None:
    wires = feeder([-1, 0, 1], [0, 0.05, 0.03], [0, 0.05, 0.05], [INF, INF, 0.8], v_min_pu=0.93, v_max_pu=1.05)
    orders = [order("b", BUY, 5000, 400_000, 1), order("c", BUY, 3000, 390_000, 2)]
    context = in_book(wires, ac_check=swept(wires))
    plain = clear("lindistflow", orders, context=context)
    assert plain.diagnostics["ac"]["violations"] and plain.diagnostics["ac"]["left"]
    mended = clear("lindistflow", orders, context=context, repair=True)
    assert mended.diagnostics["ac"]["violations"] == plain.diagnostics["ac"]["violations"]
    assert mended.diagnostics["ac"]["left"] == []
    assert 1 <= mended.diagnostics["ac"]["rounds"] <= 5
    assert sum(mended.fills.values()) < sum(plain.fills.values())
    ac = swept(wires)(np.array([[0.0, mended.fills["b"], mended.fills.get("c", 0)]]), np.zeros((1, 3)))
    assert ac.v_pu.min() >= 0.93 - 1e-6 and ac.loading.max() <= 1 + 1e-6


def test_repair_is_the_same_in_a_batch() -> None:
    whole = batch(12, seed=5, ties=False)
    assert whole.feeder is not None
    whole = replace(whole, ac_check=swept(whole.feeder))
    rule = LinDistFlow(repair=True)
    found = rule.clear_batch(whole)
    assert not np.array_equal(found.fill_wh, LinDistFlow().clear_batch(whole).fill_wh)
    for s in range(12):
        book, context, columns = whole.row(s)
        assert batch_row(found, s, book, columns) == result_row(rule.clear(book, context), book)


# --- conformance and bad input ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OnAFeeder(LinDistFlow):
    """The rule with a small feeder and places for everybody, so that the general kit can try it."""

    name = "lindistflow_on_a_feeder"

    def _here(self) -> Feeder:
        return feeder([-1, 0, 1, 1], [0, 0.01, 0.02, 0.01], [0, 0.01, 0.01, 0.02], [INF, 0.05, 0.02, INF])

    def applicable(self, book: Book, context: Context) -> str | None:
        return None

    def clear(self, book: Book, context: Context) -> Result:
        node = tuple(str(sum(map(ord, x)) % 4) for x in book.order_ids)
        return super().clear(replace(book, node=node), replace(context, feeder=self._here()))

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        node = tuple(str(sum(map(ord, x)) % 4) for x in batch.order_ids or ())
        return super().clear_batch(replace(batch, node=node, feeder=self._here()))


@pytest.mark.slow
def test_the_general_kit_passes() -> None:
    report = check_rule(OnAFeeder, books=25)
    assert report.checks["clear == clear_batch"] > 40
    assert check_rule("lindistflow", books=2).skipped == 0  # the kit has a feeder of its own


def test_what_it_cannot_clear_is_said() -> None:
    with pytest.raises(MarketError, match="no feeder"):
        clear("lindistflow", CHAIN_ORDERS)
    with pytest.raises(MarketError, match="not on the feeder"):
        clear("lindistflow", [replace(CHAIN_ORDERS[0], node="9")], context=Context(feeder=chain()))
    for bad in ({"polygon": 3}, {"losses": "all"}, {"power_factor": 0}, {"repair": 1}, {"tie_break": "size"}):
        with pytest.raises(MarketError, match="parameter"):
            make_rule("lindistflow", bad)
