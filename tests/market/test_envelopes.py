"""Operating envelopes (market-rules 2.20): the worked example, optimality of each allocation, corners, the wrapper."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from core import MarketError
from market import clear
from market.book import Book, BookBatch, Context
from market.envelopes import ALLOCATIONS, envelopes
from market.feeder import AcFlow, Feeder
from market.registry import make_rule
from market.result import BatchClearing, Result
from market.rules.operating_envelopes import OperatingEnvelopes
from market.testing import batch_row, check_rule, result_row
from tests.market.nodal_cases import BUY, SELL, feeder, in_book, order, random_feeder, random_orders

INF = float("inf")


def behind_one_limit() -> Feeder:
    return feeder([-1, 0, 1, 1, 1], [0] * 5, [0] * 5, [INF, 1.0, INF, INF, INF])


@pytest.mark.parametrize("direction", ["export", "import"])
def test_the_worked_example(direction: str) -> None:
    asked = (["2", "3", "4"], [200, 600, 1000])
    granted = {rule: envelopes(behind_one_limit(), *asked, rule=rule, direction=direction) for rule in ALLOCATIONS}
    assert granted["equal"].limit_wh.tolist() == [200, 400, 400]
    assert granted["proportional"].limit_wh / 1000 == pytest.approx([1 / 9, 1 / 3, 5 / 9], rel=1e-14)
    assert granted["max_total"].limit_wh.sum() == pytest.approx(1000, rel=1e-12)
    assert granted["alpha_fair"].limit_wh == pytest.approx([200, 400, 400], rel=1e-6)  # behind one limit all are level


def random_requests(seed: int) -> tuple[Feeder, list[str], list[float]]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 14))
    wires = random_feeder(rng, n, tight=2.0)
    wires = replace(wires, base_p_pu=rng.uniform(-0.05, 0.05, n), base_q_pu=rng.uniform(-0.02, 0.02, n))
    m = int(rng.integers(1, 12))
    return wires, [str(int(j)) for j in rng.integers(0, n, m)], rng.uniform(0, 4000, m).tolist()


def slack(wires: Feeder, nodes: list[str], used: np.ndarray, direction: str) -> float:
    """Least room left of any limit, in parts of its size; written over subtrees and paths."""
    n = wires.n
    sign = 1 if direction == "import" else -1
    p = np.rint(1000 * np.asarray(wires.base_p_pu))
    for node, x in zip(nodes, used, strict=True):
        p[int(node)] += sign * x
    q = 1000 * np.asarray(wires.base_q_pu)
    for j in range(n - 1, 0, -1):
        p[wires.parent[j]] += p[j]
        q[wires.parent[j]] += q[j]
    w = np.full(n, wires.v0_pu**2)
    for j in range(1, n):
        w[j] = w[wires.parent[j]] - 2 * (wires.r_pu[j] * p[j] + wires.x_pu[j] * q[j]) / 1000
    lines = 1 - np.abs(p[1:]) / np.floor(1000 * wires.cap_pu[1:])
    high, low = float(np.max(wires.v_max_pu)) ** 2, float(np.min(wires.v_min_pu)) ** 2
    return float(min(lines.min(), (high - w[1:]).min(), (w[1:] - low).min()))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ALLOCATIONS)
def test_both_corners_and_anything_between_are_feasible(rule: str) -> None:
    rng = np.random.default_rng(1)
    bound = 0
    for seed in range(40):
        wires, nodes, asked = random_requests(seed)
        out = {d: envelopes(wires, nodes, asked, rule=rule, direction=d, alpha=2) for d in ("export", "import")}
        if slack(wires, nodes, np.zeros(len(nodes)), "export") < 0:
            assert not any(e.feasible or e.limit_wh.any() for e in out.values())
            continue
        for direction, e in out.items():
            assert e.feasible
            assert (e.limit_wh >= 0).all() and (e.limit_wh <= np.array(asked) * (1 + 1e-12)).all()
            assert slack(wires, nodes, e.limit_wh, direction) > -1e-9
            bound += slack(wires, nodes, e.limit_wh, direction) < 1e-6
        mixed = np.where(rng.random(len(nodes)) < 0.5, out["import"].limit_wh, -out["export"].limit_wh)
        assert slack(wires, nodes, mixed * rng.random(len(nodes)), "import") > -1e-9
    assert bound > 30


@pytest.mark.slow
def test_each_allocation_is_the_best_of_its_kind() -> None:
    for seed in range(40):
        wires, nodes, asked = random_requests(seed)
        wanted = np.array(asked)
        found = {rule: envelopes(wires, nodes, asked, rule=rule, alpha=1) for rule in ALLOCATIONS}
        if not found["equal"].feasible:
            continue
        level, part = found["equal"].limit_wh, found["proportional"].limit_wh
        if (level < wanted - 1e-9).any():  # a higher level, and a larger part, break a limit
            top = level.max()
            assert level == pytest.approx(np.minimum(wanted, top))
            assert slack(wires, nodes, np.minimum(wanted, top * 1.001), "export") < 0
            theta = part[wanted > 0] / wanted[wanted > 0]
            assert theta == pytest.approx(theta[0])
            assert slack(wires, nodes, part * 1.001, "export") < 0
        total = found["max_total"].limit_wh.sum()
        fair = found["alpha_fair"].limit_wh
        assert all(e.limit_wh.sum() <= total * (1 + 1e-9) + 1e-6 for e in found.values())
        if (
            fair > 1e-3
        ).all():  # nothing feasible has a positive sum of relative gains over the proportionally fair one
            for other in ("equal", "proportional", "max_total"):
                gains = (found[other].limit_wh - fair) / fair
                assert gains.sum() < 1e-5 * len(fair)


def test_alpha_leads_from_the_largest_total_to_equal_shares() -> None:
    wires = feeder([-1, 0, 1, 2], [0, 0.05, 0.05, 0.05], [0, 0.05, 0.05, 0.05], [INF] * 4, v_max_pu=1.05)
    asked = (["1", "2", "3"], [900, 900, 900])
    spread, total = [], []
    for alpha in (0, 0.5, 1, 2, 5, 10):
        x = envelopes(wires, *asked, rule="alpha_fair", alpha=alpha).limit_wh
        spread.append(float(x.max() - x.min()))
        total.append(float(x.sum()))
    assert spread == sorted(spread, reverse=True) and total == sorted(total, reverse=True)
    one = envelopes(wires, *asked, rule="alpha_fair", alpha=1).limit_wh
    assert one == pytest.approx([1025 / 3, 1025 / 6, 1025 / 9], rel=1e-6)  # equal parts of the voltage's room
    heavy = envelopes(wires, *asked, rule="alpha_fair", alpha=1, weights=[1, 1, 4]).limit_wh
    assert heavy[2] > one[2]


def test_ac_check_tightens_the_limits() -> None:
    wires = feeder([-1, 0], [0, 0.05], [0, 0.0], [INF, INF], v_max_pu=1.05)

    def check(p_wh: np.ndarray, q_varh: np.ndarray) -> AcFlow:
        """The exact voltage of one line without reactance."""
        p = p_wh[:, 1] / 1000
        v = (1 + np.sqrt(1 - 4 * 0.05 * p)) / 2 + 0.002  # the line is a little worse than thought
        return AcFlow(np.stack([np.ones_like(v), v], axis=1), np.zeros_like(p_wh), np.zeros(len(v)))

    free = envelopes(wires, ["1"], [5000])
    held = envelopes(wires, ["1"], [5000], ac_check=check)
    assert held.limit_wh[0] < free.limit_wh[0]
    assert held.rounds >= 1 and held.left == ()
    assert check(np.array([[0, -held.limit_wh[0]]]), np.zeros((1, 2))).v_pu.max() <= 1.05 + 1e-6


# --- the wrapper ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_inner_rule_clears_what_is_inside_the_envelopes(allocation: str) -> None:
    orders = [order("a", SELL, 200, 10, 2), order("b", SELL, 600, 12, 3), order("c", SELL, 1000, 14, 4),
              order("d", BUY, 5000, 30, 0)]  # fmt: skip
    found = clear("operating_envelopes", orders, context=Context(feeder=behind_one_limit()), allocation=allocation)
    limits = found.diagnostics["envelopes"]["export"]["limit_wh"]
    assert {x: found.fills.get(x, 0) for x in "abc"} == limits
    assert 998 <= sum(limits.values()) <= 1000
    assert found.fills["d"] == sum(limits.values())
    inside = [replace(o, e_wh=limits.get(o.order_id, o.e_wh)) for o in orders]
    assert found.price == clear("uniform_price", inside).price


def test_an_agents_worst_orders_are_cut_first() -> None:
    orders = [
        order("a", SELL, 1500, 14, 2),
        replace(order("z", SELL, 600, 10, 2), agent_id="a"),
        order("d", BUY, 5000, 30, 0),
    ]
    found = clear("operating_envelopes", orders, context=Context(feeder=behind_one_limit()), inner="pay_as_bid")
    assert found.fills == {"z": 600, "a": 400, "d": 1000}


def test_a_batch_is_the_slots_one_by_one_with_any_inner_rule() -> None:
    rng = np.random.default_rng(4)
    books = [random_orders(rng, 12, 6) for _ in range(10)]
    books = [[replace(o, t=0, node=str(int(o.order_id[1:]) % 6)) for o in book] for book in books]
    wires = random_feeder(rng, 6, tight=2.0)
    contexts = [in_book(wires, slot=s, retail_u=500_000, feed_in_u=-50_000) for s in range(10)]
    whole = BookBatch.of(books, contexts=contexts)
    for inner in ("uniform_price", "pair_price", "lindistflow"):
        rule = OperatingEnvelopes(inner=inner, allocation="proportional")
        assert rule.pairs == (inner == "pair_price")
        assert rule.surplus_to == ("network" if inner == "lindistflow" else "operator")
        found = rule.clear_batch(whole)
        for s in range(10):
            book, context, columns = whole.row(s)
            assert batch_row(found, s, book, columns) == result_row(rule.clear(book, context), book)


@dataclass(frozen=True, kw_only=True)
class OnAFeeder(OperatingEnvelopes):
    """The rule with a small feeder and places for everybody, so that the general kit can try it."""

    name = "operating_envelopes_on_a_feeder"

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


def test_the_general_kit_passes() -> None:
    assert check_rule(OnAFeeder, books=20).checks["clear == clear_batch"] > 40


def test_what_is_asked_wrongly_is_said() -> None:
    wires = behind_one_limit()
    for bad in ({"rule": "fair"}, {"direction": "up"}, {"alpha": -1}, {"weights": [0.0]}):
        with pytest.raises(MarketError, match="envelopes"):
            envelopes(wires, ["2"], [1], **bad)
    with pytest.raises(MarketError, match="not on the feeder"):
        envelopes(wires, ["9"], [1])
    with pytest.raises(MarketError, match="no feeder"):
        clear("operating_envelopes", [order("a", SELL, 200, 10, 2)])
    for parameters in ({"inner": "mid_market_rate"}, {"inner": "operating_envelopes"}, {"allocation": "first"},
                       {"weights": {"a": 0}}, {"alpha": 11}):  # fmt: skip
        with pytest.raises(MarketError, match="parameter"):
            make_rule("operating_envelopes", parameters)
