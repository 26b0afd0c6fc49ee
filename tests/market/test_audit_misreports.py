"""The search tries what it says it tries, and its utilities are exact: compared with one clearing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from market.audit.books import AuditBook
from market.audit.families import FAMILIES, make_book
from market.audit.misreport import KINDS, PERCENT, Search, batch_of, price_grid, search_book, versions
from market.book import Context
from market.facade import clear
from market.orders import Order, Side
from market.registry import BidRule, make_rule


def order(name: str, side: Side, e_wh: int, price_u: int, agent: str | None = None) -> Order:
    return Order(order_id=name, agent_id=agent or name, side=side, e_wh=e_wh, price_u=price_u)


BOOK = AuditBook(
    family="x",
    index=0,
    orders=(
        order("b1", Side.BUY, 40, 30), order("b2", Side.BUY, 20, 21), order("s1", Side.SELL, 30, 10),
        order("s2", Side.SELL, 40, 20),
    ),
)  # fmt: skip


def test_price_grid_of_the_specification() -> None:
    assert price_grid(BOOK) == [9, 10, 11, 15, 19, 20, 21, 22, 25, 29, 30, 31]
    banded = replace(BOOK, context=Context(p_min_u=11, p_max_u=29))
    assert price_grid(banded) == [11, 15, 19, 20, 21, 22, 25, 29]
    in_book = replace(BOOK, context=Context(retail_u=26, feed_in_u=12, backstop="in_book"))
    assert {12, 13, 25, 26} <= set(price_grid(in_book))


def test_rows_are_the_truth_and_every_report() -> None:
    rows = versions(BOOK, "quantity", Search())
    assert sorted(rows.e_wh[rows.order == 0].tolist()) == sorted({40 * p // 100 for p in PERCENT} - {40})
    batch = batch_of(BOOK, "quantity", rows)
    assert batch.e_wh[0].tolist() == [40, 20, 30, 40]
    for k in range(len(rows)):
        changed = batch.e_wh[k + 1] != batch.e_wh[0]
        assert changed.sum() == 1 and changed[rows.order[k]]
    assert (batch.slots == 0).all()


# --- an independent search, one clearing at a time --------------------------------------------------------------------


def plain_reports(book: AuditBook, truth: Order, kind: str) -> Iterator[tuple[Order, ...]]:
    if kind == "price":
        for p in price_grid(book):
            own = [o for o in book.orders if o.agent_id == truth.agent_id and o.side != truth.side]
            if all(o.price_u > p if truth.side == Side.BUY else o.price_u < p for o in own):
                yield (replace(truth, price_u=p),)
    elif kind == "quantity":
        for percent in PERCENT:
            yield (replace(truth, e_wh=truth.e_wh * percent // 100),)
    elif kind == "split":
        for percent in (50, 25):
            part = truth.e_wh * percent // 100
            second = replace(truth, order_id=truth.order_id + "~2", seq=truth.seq + 1, e_wh=truth.e_wh - part)
            yield replace(truth, e_wh=part), second


def plain_utility(book: AuditBook, agent: str, orders: list[Order], rule: BidRule) -> Fraction | None:
    result = clear(rule, orders, context=book.context)
    got = sum(result.fills.get(o.order_id, 0) for o in orders if o.agent_id == agent and o.side == Side.BUY)
    gave = sum(result.fills.get(o.order_id, 0) for o in orders if o.agent_id == agent and o.side == Side.SELL)
    true = [o for o in book.orders if o.agent_id == agent]
    needs = sorted((p for o in true if o.side == Side.BUY for p in [o.price_u] * o.e_wh), reverse=True)
    costs = sorted(p for o in true if o.side == Side.SELL for p in [o.price_u] * o.e_wh)
    if gave > len(costs):
        return None
    value = sum(needs[:got]) - sum(costs[:gave])
    return Fraction(value, 1000) - Fraction(result.payments.get(agent, 0))


@pytest.mark.parametrize("name", ["uniform_price", "pay_as_bid", "pair_price", "huang", "vcg"])
@pytest.mark.parametrize("kind", ["price", "quantity", "split"])
def test_gains_equal_those_of_an_independent_search(name: str, kind: str) -> None:
    rule = make_rule(name)
    assert isinstance(rule, BidRule)
    for family in ("uniform", "ties", "multi"):
        book = make_book(FAMILIES[family], 0, seed=3)
        if rule.applicable(book.book, book.context) is not None:
            continue
        found = search_book(rule, book, kind, Search())
        for agent in book.agents:
            honest = plain_utility(book, agent, list(book.orders), rule)
            assert honest is not None
            best = Fraction(0)
            for truth in (o for o in book.orders if o.agent_id == agent):
                others = [o for o in book.orders if o.order_id != truth.order_id]
                for reports in plain_reports(book, truth, kind):
                    stated = AuditBook(family="x", index=0, orders=(*others, *reports)).book
                    if rule.applicable(stated, book.context) is not None:
                        continue
                    earned = plain_utility(book, agent, [*others, *reports], rule)
                    best = best if earned is None else max(best, earned - honest)
            assert found.gains_u[agent] == best, (family, agent)


def test_a_seller_that_cannot_deliver_pays_the_imbalance_price() -> None:
    """Paid its ask, a seller that states twice its quantity sells more; it gains unless what is missing costs it."""
    orders = (order("b", Side.BUY, 100, 50), order("s", Side.SELL, 40, 30))
    book = AuditBook(family="x", index=0, orders=orders)
    rule = make_rule("pay_as_bid")
    assert isinstance(rule, BidRule)
    assert search_book(rule, book, "quantity", Search()).best is None, "infeasible"
    assert search_book(rule, book, "quantity", Search()).infeasible == 3
    cheap = search_book(rule, book, "quantity", Search(imbalance_u=10)).best
    assert cheap is not None and cheap.reports[0].e_wh == 80 and cheap.gain_u == Fraction(40 * (30 - 10), 1000)
    assert search_book(rule, book, "quantity", Search(imbalance_u=60)).best is None


def test_a_second_identity_may_pay_where_splitting_does_not() -> None:
    """VCG pays per agent: parts under one name change nothing, a second name gains."""
    rule = make_rule("vcg")
    assert isinstance(rule, BidRule)
    gains = {"split": 0, "identity": 0}
    for index in range(4):
        book = make_book(FAMILIES["uniform"], index)
        for kind in gains:
            gains[kind] += search_book(rule, book, kind, Search(identity=True)).best is not None
    assert gains["split"] == 0 and gains["identity"] >= 2


def test_huge_numbers_are_searched_exactly() -> None:
    scale = 10**12
    orders = tuple(replace(o, e_wh=o.e_wh * scale, price_u=o.price_u * 1000) for o in BOOK.orders)
    small = tuple(replace(o, price_u=o.price_u * 1000) for o in BOOK.orders)
    rule = make_rule("uniform_price")
    assert isinstance(rule, BidRule)
    large, little = (
        search_book(rule, replace(BOOK, orders=rows), "price", Search()) for rows in (orders, small)
    )  # fmt: skip
    assert large.best is not None and little.best is not None
    assert large.best.gain_u == little.best.gain_u * scale


def test_lots_are_drawn_for_the_books_own_slot() -> None:
    """Every version of a book meets the same coins: MUDA's halves do not change under a deviation."""
    rule = make_rule("muda")
    assert isinstance(rule, BidRule)
    book = make_book(FAMILIES["unit"], 6)
    rows = versions(book, "price", Search(most=3))
    from market.audit.misreport import clear_versions

    result = clear_versions(rule, batch_of(book, "price", rows))
    single = clear(rule, book.orders, context=book.context)
    assert [int(x) for x in result.fill_wh[0]] == [single.fills.get(o.order_id, 0) for o in book.orders]
    for k in (1, len(rows) // 2, len(rows)):
        i = int(rows.order[k - 1])
        stated = [*book.orders[:i], replace(book.orders[i], price_u=int(rows.price_u[k - 1])), *book.orders[i + 1 :]]
        one = clear(rule, stated, context=book.context)
        assert [int(x) for x in result.fill_wh[k]] == [one.fills.get(o.order_id, 0) for o in book.orders]


def test_search_of_one_kind() -> None:
    assert Search().kinds == ("price", "quantity", "split")
    assert [Search(identity=True).only(k).kinds for k in KINDS] == [(k,) for k in KINDS]
    assert not np.any(versions(BOOK, "price", Search()).e_second)


def test_energy_nobody_needs_cannot_vanish_where_it_has_a_negative_price() -> None:
    """VCG pays a buyer to take more than it needs once limits are negative; at prices of zero or more it never does."""
    rows = [("s", Side.SELL, 3, -5), ("b2", Side.BUY, 3, -1), ("b1", Side.BUY, 1, 2)]
    orders = tuple(Order(order_id=n, agent_id=n, side=side, e_wh=e, price_u=p) for n, side, e, p in rows)
    book = AuditBook(family="hand", index=0, orders=orders, context=Context(), tariff=(10, 0))
    rule = make_rule("vcg")
    assert isinstance(rule, BidRule)
    found = search_book(rule, book, "quantity", Search())
    assert found.infeasible > 0
    assert not any(found.gains_u.values())
