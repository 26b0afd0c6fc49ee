"""Clearing with losses (market-rules 2.18): the optimum, exact balances, what is left; and the compiled solver."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from market import clear
from market.feeder import Feeder
from market.orders import Order
from market.registry import make_rule
from market.result import Result
from market.rules._nodal import NodalProgram
from market.rules.lindistflow import LinDistFlow
from market.testing import batch_row, result_row
from tests.market.nodal_cases import BUY, SELL, feeder, in_book, order, random_orders
from tests.market.test_lindistflow import batch, part

INF = float("inf")
RETAIL, FEED_IN = 300_000, 80_000


def chain_of_four(cap: float = INF) -> Feeder:
    """Heavy resistances and load outside the market at the far end; 1 p.u. is 1000 kVA."""
    return feeder(
        [-1, 0, 1, 2], [0, 0.04, 0.08, 0.02], [0.0] * 4, [INF, INF, cap, INF], v_min_pu=0.5, v_max_pu=1.5,
        base_kva=1000.0, base_p_pu=np.array([0.0, 0.0, 0.19, 0.12]),
    )  # fmt: skip


CHAIN_BOOK = [
    order("b", BUY, 140_000, 210_000, 0), order("s0", SELL, 330_000, 230_000, 0, t=1),
    order("s2", SELL, 280_000, 240_000, 2, t=2), order("s3", SELL, 80_000, 110_000, 3, t=3),
]  # fmt: skip


def flows(wires: Feeder, orders: list[Order], found: Result) -> tuple[np.ndarray, float]:
    """Flows at the lower ends of the lines and all losses ``r F^2`` [p.u.] of what was filled."""
    unit = wires.to_wh(1.0)
    flow = np.zeros(wires.n) if wires.base_p_pu is None else np.array(wires.base_p_pu, float)
    for o in orders:
        flow[int(str(o.node))] += int(o.side) * found.fills.get(o.order_id, 0) / unit
    lost = 0.0
    for j in range(wires.n - 1, 0, -1):
        loss = wires.r_pu[j] * flow[j] ** 2
        lost += loss
        flow[wires.parent[j]] += flow[j] + loss
    return flow, lost


def best_welfare(wires: Feeder, orders: list[Order]) -> float:
    """The optimum [micro] with many tangents for the losses, by scipy; NaN where infeasible or where wasting pays."""
    from scipy.optimize import linprog

    n, m, unit = wires.n, len(orders), wires.to_wh(1.0)
    flow, loss = m + 2, m + 2 + n  # columns: fills, import, export, flows, losses [p.u.]
    nodes, rows, top = np.zeros((n, loss + n)), [], []
    for i, o in enumerate(orders):
        nodes[int(str(o.node)), i] = -int(o.side)
    nodes[0, m], nodes[0, m + 1] = 1, -1
    drop = np.zeros((n, loss + n))
    for j in range(1, n):
        up = int(wires.parent[j])
        nodes[j, flow + j] += 1
        nodes[up, flow + j] -= 1
        nodes[up, loss + j] -= 1
        drop[j] = drop[up]
        drop[j, flow + j] += 2 * wires.r_pu[j]
        for at in np.linspace(-2, 2, 801):
            row = np.zeros(loss + n)
            row[flow + j], row[loss + j] = 2 * wires.r_pu[j] * at, -1
            rows.append(row)
            top.append(wires.r_pu[j] * at**2)
        rows += [drop[j], -drop[j]]
        top += [1 - float(wires.v_min_pu) ** 2, float(wires.v_max_pu) ** 2 - 1]
    price = [-int(o.side) * o.price_u for o in orders]
    found = linprog(
        np.array([*price, RETAIL, -FEED_IN, *[0] * (2 * n)]) / 1e4, A_ub=np.array(rows), b_ub=top, A_eq=nodes,
        b_eq=np.zeros(n) if wires.base_p_pu is None else wires.base_p_pu, method="highs",
        bounds=[*((0, o.e_wh / unit) for o in orders), (0, None), (0, None), (0, 0),
                *((-c, c) for c in wires.cap_pu[1:]), *[(0, None)] * n],
    )  # fmt: skip
    if not found.success:
        return float("nan")
    true = wires.r_pu * found.x[flow:loss] ** 2
    return float("nan") if (found.x[loss:] > true + 1e-5).any() else -float(found.fun) * 1e4 * unit / 1000


def lossy(seed: int) -> tuple[Feeder, list[Order]]:
    """A feeder of up to seven nodes with limits that often bind and losses of up to a tenth; some prices tie."""
    rng = np.random.default_rng([31, seed])
    n = int(rng.integers(2, 8))
    parent = [-1, *(int(rng.integers(max(0, j - 2), j)) for j in range(1, n))]
    r = [0.0, *(rng.integers(0, 9, n - 1) / 100).tolist()]
    cap = [INF, *(float(rng.choice([INF, rng.uniform(0.05, 0.4)])) for _ in range(1, n))]
    band = float(rng.choice([0.03, 0.06, 0.5]))
    wires = feeder(
        parent, r, [0.0] * n, cap, v_min_pu=1 - band, v_max_pu=1 + band, base_kva=1000.0,
        base_p_pu=np.append(0.0, rng.integers(-20, 21, n - 1) / 100 * (rng.random(n - 1) < 0.5)),
    )  # fmt: skip
    steps = 10_000 if seed % 3 else 60_000
    orders = [
        replace(o, e_wh=o.e_wh * 120, price_u=(80_000 + abs(o.price_u)) // steps * steps)
        for o in random_orders(rng, int(rng.integers(2, 9)), n, top=220_000)
    ]
    return wires, orders


def test_a_kink_between_two_ways_of_supply_is_found() -> None:
    """Node 2 is fed from both ends: no vertex of any linearisation, so that iterating alone goes back and forth."""
    found = clear("lindistflow", CHAIN_BOOK, context=in_book(chain_of_four()), losses="quadratic")
    assert float(found.welfare_u) == pytest.approx(best_welfare(chain_of_four(), CHAIN_BOOK), rel=1e-5)
    assert float(found.welfare_u) == pytest.approx(-63_110_460, rel=1e-6)
    _, lost = flows(chain_of_four(), CHAIN_BOOK, found)
    assert found.loss_wh == pytest.approx(lost * 1e6, abs=1)
    assert abs(found.diagnostics["loss_gap_wh"]) < 0.1
    assert found.diagnostics["loss_rounds"] < 40


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_quadratic_losses_reach_the_optimum(block: int) -> None:
    tried(range(45 * block, 45 * block + 45), least=6)


@pytest.mark.campaign
def test_quadratic_losses_reach_the_optimum_more() -> None:
    tried(range(90, 700), least=100)


def tried(seeds: range, least: int) -> None:
    bound = 0
    for seed in seeds:
        wires, orders = lossy(seed)
        found = clear("lindistflow", orders, context=in_book(wires, RETAIL, FEED_IN), losses="quadratic")
        want = best_welfare(wires, orders)
        if np.isnan(want) or not found.diagnostics["feasible"]:
            continue
        bound += bool(found.diagnostics["binding"])
        assert float(found.welfare_u) == pytest.approx(want, rel=2e-5, abs=600), seed
        net = sum(int(o.side) * found.fills.get(o.order_id, 0) for o in orders)
        assert net + found.base_wh + found.loss_wh == found.import_wh - found.export_wh
        assert sum(found.payments.values()) == found.surplus_u >= 0
        flow, lost = flows(wires, orders, found)
        assert found.loss_wh == pytest.approx(lost * 1e6, abs=1.01), seed
        assert (np.abs(flow[1:]) <= wires.cap_pu[1:] + 3e-6).all(), seed
        assert abs(found.diagnostics["loss_gap_wh"]) <= 0.1
    assert bound >= least


def test_fixed_factors_do_not_stop_trade_that_pays() -> None:
    """Where the last fraction of a Wh makes the rent negative, prices of the load outside the market give way too."""
    wires = feeder([-1, 0, 1], [0, 0, 0.01], [0.0] * 3, [INF] * 3, base_kva=1000.0, base_p_pu=np.array([0, -0.1, 0]))
    buyer = [order("b", BUY, 240_000, 160_000, 2)]
    for losses, filled in (("none", 100_000), ("quadratic", 99_900), ("factors", 99_900)):
        found = clear("lindistflow", buyer, context=in_book(wires), losses=losses)
        assert found.fills == {"b": pytest.approx(filled, abs=1)}
        assert found.loss_wh == 100_000 - found.fills["b"]
        assert float(found.welfare_u) == pytest.approx(160 * filled, rel=1e-4)
        assert found.surplus_u >= 0
        assert "worthless" not in found.diagnostics
        assert -float(found.payments["retailer"]) == pytest.approx(160 * filled, rel=1e-3)


def test_losses_of_the_load_outside_stay_where_nobody_trades() -> None:
    found = clear("lindistflow", CHAIN_BOOK[:1], context=in_book(chain_of_four()), losses="quadratic")
    assert not found.fills
    _, lost = flows(chain_of_four(), [], found)
    assert found.loss_wh == round(lost * 1e6)
    assert found.import_wh == found.base_wh + found.loss_wh


@pytest.mark.parametrize("losses", ["factors", "quadratic"])
def test_a_batch_with_losses_is_the_slots_one_by_one_however_cut(losses: str) -> None:
    rule, whole = LinDistFlow(losses=losses), batch(12, seed=3, ties=False)
    found = rule.clear_batch(whole)
    assert found.loss_wh is not None and found.loss_wh.any()
    for s in range(12):
        book, context, columns = whole.row(s)
        assert batch_row(found, s, book, columns) == result_row(rule.clear(book, context), book)
    some = rule.clear_batch(part(whole, slice(7, 12)))
    assert np.array_equal(found.pay_num[7:], some.pay_num) and np.array_equal(found.fill_wh[7:], some.fill_wh)


# --- the compiled solver ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polygon", [0, 8])
def test_the_compiled_solver_finds_what_the_general_one_finds(polygon: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rule: Any = make_rule("lindistflow", {"polygon": polygon})
    books = [batch(15, seed=seed, base=bool(seed % 2), ties=seed > 3) for seed in range(6)]
    books = [replace(b, attributes=tuple({"power_factor": 0.95} for _ in range(15))) for b in books]
    compiled = [rule.clear_batch(b) for b in books]
    asked = []
    solve = NodalProgram.solve

    def general(program: NodalProgram, *slot: Any, **_: Any) -> Any:
        asked.append(slot)
        return solve(program, *slot, general=True)

    monkeypatch.setattr(NodalProgram, "solve", general)
    for b, one in zip(books, compiled, strict=True):
        other = rule.clear_batch(b)
        assert np.array_equal(one.fill_wh, other.fill_wh)
        assert np.array_equal(one.pay_num, other.pay_num)
    assert len(asked) == 90


def test_the_general_solver_is_asked_only_where_nothing_is_feasible(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    general = NodalProgram._general
    monkeypatch.setattr(NodalProgram, "_general", lambda *a: asked.append(general(*a)) or asked[-1])
    for seed in range(4):
        LinDistFlow().clear_batch(batch(30, seed=seed, ties=False))
    assert all(found is None for found in asked)
    assert len(asked) < 60
