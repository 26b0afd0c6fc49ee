"""Members' own terms in the market: clipped orders, refused rules, and what counts as a trade against a term (2.27)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from controllers.kept_back import keep_back
from core import MarketError
from grid.assets.battery import BatteryColumns, battery_columns, initial_state, step_batteries
from market import Order, Side, clear
from market.book import Book, BookBatch, Context
from market.promises import check_promises, violated_terms
from market.registry import BidRule, Declares, make_rule, rule_classes
from market.result import BatchClearing, Result, book_result
from market.terms import Terms, within_terms
from market.testing import random_book


def order(name: str, side: Side, e_wh: int, price_u: int, agent: str | None = None, **attributes: Any) -> Order:
    return Order(
        order_id=name, agent_id=agent or name, side=side, e_wh=e_wh, price_u=price_u, attributes=attributes
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Dictator(BidRule):
    """Fills everything that fits, at one price, whatever the limits."""

    name: ClassVar[str] = "dictator"
    declares: ClassVar[Declares] = Declares(budget="strong")

    price_u: int = 50

    @property
    def pairs(self) -> bool:
        return False

    def clear(self, book: Book, context: Context) -> Result:
        total = min(sum(book.e_wh[i] for i in book.indices(s)) for s in (1, -1))
        fills = [0] * len(book)
        for s in (1, -1):
            left = total
            for i in book.indices(s):
                fills[i] = min(left, book.e_wh[i])
                left -= fills[i]
        paid = [s * x * self.price_u for s, x in zip(book.side, fills, strict=True)]
        return book_result(self.name, book, context, fills, paid, pay_den=1000)


def cleared(rule: BidRule, orders: list[Order], terms: dict[str, Terms]) -> tuple[BookBatch, BatchClearing]:
    batch = BookBatch.of([orders], first_slot=7, contexts=[Context(slot=7, terms=terms)])
    return batch, rule.clear_batch(batch)


def test_terms_are_whole_prices() -> None:
    assert not Terms().prices and Terms(floor_u=0).prices
    with pytest.raises(MarketError, match="floor_u"):
        Terms(floor_u=0.3)  # type: ignore[arg-type]


def test_orders_are_brought_within_their_agents_terms() -> None:
    orders = [order("b", Side.BUY, 1, 30), order("s", Side.SELL, 1, 5), order("x", Side.SELL, 1, 4)]
    terms = {"b": Terms(ceiling_u=20, floor_u=99), "s": Terms(floor_u=8, ceiling_u=0)}
    assert [o.price_u for o in within_terms(orders, terms)] == [20, 8, 4]  # type: ignore[attr-defined]
    assert within_terms(["no order"], terms) == ["no order"]


@pytest.mark.parametrize("rule", ["uniform_price", "pay_as_bid", "pair_price", "energy_classes", "preference_price"])
def test_no_rule_that_takes_orders_trades_against_a_price(rule: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(40):
        orders = random_book(rng)
        terms = {
            o.agent_id: Terms(floor_u=int(rng.integers(0, 20)), ceiling_u=int(rng.integers(0, 20))) for o in orders
        }
        result = clear(rule, orders, context={"terms": terms})
        for o in orders:
            if wh := result.fills.get(o.order_id, 0):
                price = int(o.side) * result.payments[o.agent_id] * 1000 / wh
                own = terms[o.agent_id]
                assert (price <= own.ceiling_u) if o.side > 0 else (price >= own.floor_u)  # type: ignore[operator]


def test_rules_say_what_they_cannot_keep() -> None:
    price, classes = Terms(floor_u=1), Terms(refused_classes=frozenset({"grid"}))
    assert Dictator().cannot_honour(Terms()) is None
    assert "does not declare ir" in str(Dictator().cannot_honour(price))
    for name, cls in rule_classes().items():
        if name == "no_market":
            assert make_rule(name).cannot_honour(Terms(floor_u=1, refused_classes=frozenset("x"))) is None
        elif cls.meter_based:
            assert "works on meters" in str(make_rule(name).cannot_honour(price))
        elif cls.classes:
            assert make_rule(name).cannot_honour(classes) is None
    assert "knows none" in str(make_rule("uniform_price").cannot_honour(classes))
    with pytest.raises(MarketError, match=r"cannot refuse classes.*as 'b' demands"):
        clear("uniform_price", [order("b", Side.BUY, 1, 1)], context={"terms": {"b": classes}})
    clear("uniform_price", [order("b", Side.BUY, 1, 1)], context={"terms": {"somebody-else": classes}})


def test_a_fill_against_a_price_is_found_and_stops_the_run() -> None:
    orders = [order("b", Side.BUY, 1000, 60), order("s", Side.SELL, 1000, 10)]
    for terms, told in (
        ({"b": Terms(ceiling_u=49)}, ("b", "ceiling")),
        ({"s": Terms(floor_u=51)}, ("s", "floor")),
    ):
        batch, result = cleared(Dictator(), orders, terms)
        found = violated_terms(batch, result)
        assert [(v.slot, v.agent, v.term) for v in found] == [(7, *told)]
        with pytest.raises(MarketError, match=f"slot 7: {told[0]}'s {told[1]} is violated: 1000 Wh for 50 micro"):
            check_promises(Dictator(), batch, result)
    for terms in ({"b": Terms(ceiling_u=50, floor_u=999)}, {"s": Terms(floor_u=50, ceiling_u=0)}, {}):
        batch, result = cleared(Dictator(), orders, terms)
        assert violated_terms(batch, result) == []
        check_promises(Dictator(), batch, result)


def test_huge_numbers_are_judged_exactly() -> None:
    orders = [order("b", Side.BUY, 10**12, 2**61), order("s", Side.SELL, 10**12, 0)]
    rule = Dictator(price_u=2**60 + 1)
    batch, result = cleared(rule, orders, {"b": Terms(ceiling_u=2**60)})
    assert [v.agent for v in violated_terms(batch, result)] == ["b"]
    batch, result = cleared(rule, orders, {"b": Terms(ceiling_u=2**60 + 1)})
    assert violated_terms(batch, result) == []


def test_several_orders_of_an_agent_are_judged_together() -> None:
    orders = [order("b1", Side.BUY, 500, 60, "a"), order("b2", Side.BUY, 500, 60, "a"), order("s", Side.SELL, 1000, 1)]
    batch, result = cleared(Dictator(), orders, {"a": Terms(ceiling_u=50)})
    moved = result.pay_num.copy()
    moved[0, 0] += moved[0, 1]
    moved[0, 1] = 0
    assert violated_terms(batch, replace(result, pay_num=moved)) == []
    batch, result = cleared(Dictator(price_u=51), orders, {"a": Terms(ceiling_u=50)})
    assert [v.agent for v in violated_terms(batch, result)] == ["a"]


def test_single_pairs_and_refused_classes_are_judged_too() -> None:
    rule: Any = make_rule("pair_price")
    orders = [order("b", Side.BUY, 2000, 30), order("s1", Side.SELL, 1000, 10), order("s2", Side.SELL, 1000, 26)]
    orders[2] = replace(orders[2], attributes={"class": "grid"})
    batch, result = cleared(rule, orders, {"b": Terms(ceiling_u=25, refused_classes=frozenset({"grid"}))})
    # 20 and 28: 24 on average, but the second pair is above the ceiling, and of a refused class
    assert [(v.agent, v.term) for v in violated_terms(batch, result)] == [("b", "ceiling"), ("b", "refused class")]
    batch, result = cleared(rule, orders, {"s1": Terms(floor_u=21), "s2": Terms(floor_u=28)})
    assert {(v.agent, v.term) for v in violated_terms(batch, result)} == {("s1", "floor")}


# --- kept-back charge -------------------------------------------------------------------------------------------------


def battery(**changes: Any) -> BatteryColumns:
    values: dict[str, Any] = {
        "building": [0], "capacity_kwh": [10.0], "charge_kw": [4.0], "discharge_kw": [4.0], "efficiency_charge": [0.95],
        "efficiency_discharge": [0.93], "self_discharge_per_day": [0.0], "wear_per_kwh": [0.0], "min_soc": [0.1],
        "max_soc": [1.0], "slot_s": 3600,
    }  # fmt: skip
    return battery_columns(**{**values, **changes})


def test_kept_back_charge_serves_its_owner_only() -> None:
    columns = battery()
    state = initial_state(columns, [0.6])
    wanted = np.full((6, 1), -4000, np.int64)
    need = np.array([[0], [0], [500], [0], [9000], [9000]], np.int64)
    kept = np.array([4000], np.int64)
    cut = keep_back(columns, state, wanted, -need, kept)
    flows, _ = step_batteries(columns, state, cut)
    given = flows.discharge_wh[:, 0]
    stored = flows.e_start_wh[:, 0]
    assert given[0] == 2000 * 93 // 100 and given[1] == 0  # down to what is kept
    assert given[2] == 500 and given[3] == 0  # its own need goes below, nobody else's
    assert given[4] > 0 and stored[5] < 4000
    # nothing kept beyond the battery's own limit: nothing is changed
    assert keep_back(columns, state, wanted, -need, columns.min_wh) is wanted


def test_kept_back_charge_over_several_batteries_and_cut_windows() -> None:
    columns = battery(
        building=[1, 0, 1], capacity_kwh=[10.0, 6.0, 5.0], charge_kw=[4.0] * 3, discharge_kw=[4.0] * 3,
        efficiency_charge=[0.95] * 3, efficiency_discharge=[0.93, 0.9, 1.0], self_discharge_per_day=[0.03] * 3,
        wear_per_kwh=[0.0] * 3, min_soc=[0.1] * 3, max_soc=[1.0] * 3,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    kept = np.array([5000, 0, 2500], np.int64)
    for _ in range(20):
        state = initial_state(columns, [0.7, 0.5, 0.6])
        wanted = rng.integers(-4000, 3000, (30, 3))
        surplus = rng.integers(-3000, 3000, (30, 2))
        cut = keep_back(columns, state, wanted, surplus, kept)
        assert (cut >= wanted).all() and np.array_equal(cut[wanted >= 0], wanted[wanted >= 0])
        flows, _ = step_batteries(columns, state, cut)
        end = flows.e_start_wh + flows.stored_wh - flows.drawn_wh - flows.self_wh
        for building, rows in ((0, [1]), (1, [0, 2])):
            out = -flows.net_wh[:, rows].sum(axis=1)
            beyond = out > np.maximum(-surplus[:, building], 0)  # more than the building's own need
            for k in rows:
                gave = (flows.discharge_wh[:, k] > 0) & beyond & (flows.charge_wh[:, rows].sum(axis=1) == 0)
                if len(rows) == 1:
                    assert (end[gave, k] >= kept[k]).all()
        parts, at = [], state
        for part in (slice(0, 7), slice(7, 8), slice(8, 30)):
            parts.append(keep_back(columns, at, wanted[part], surplus[part], kept))
            _, at = step_batteries(columns, at, parts[-1])
        assert np.array_equal(np.concatenate(parts), cut)
