"""The laws of every result and every settled slot, written down a second time, without the code that enforces them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.book import BookBatch, Context
from market.orders import Order
from market.registry import BidRule
from market.result import BatchClearing, Result
from market.settlement import Charges, Contracts, Postings, settle_contracts
from market.testing_books import INDIVISIBLE
from peerwatt.clearing import clear_book
from peerwatt.messages import Cleared, Window

Int = NDArray[np.int64]

CHARGES = Charges(*(np.full((1, 1), price, np.int64) for price in (91_357, 30_011, 0, 1_003, 20_499)))
RETAIL_U, FEED_IN_U = 320_000, 80_000


def assert_laws_of_a_result(rule: BidRule, orders: Sequence[Order], context: Context, result: Result) -> None:
    """Market-rules 0.6, and what the rule declares of its budget and of everybody's gain; exact."""
    known = {o.order_id: o for o in orders}
    assert set(result.fills) <= set(known)
    balance, worth = 0, defaultdict[str, Fraction](Fraction)
    for oid, wh in result.fills.items():
        o = known[oid]
        assert type(wh) is int and 0 <= wh <= o.e_wh
        assert wh in (0, o.e_wh) or not o.flags & INDIVISIBLE, f"{wh} Wh of {o}"
        balance += int(o.side) * wh
        worth[o.agent_id] += Fraction(int(o.side) * o.price_u * wh, 1000) + result.premiums.get(oid, 0)
    assert balance + result.base_wh + result.loss_wh == result.import_wh - result.export_wh
    assert all(type(p) is int or isinstance(p, Fraction) for p in result.payments.values())
    assert set(result.payments) <= {o.agent_id for o in orders} | {"retailer"}
    surplus = sum(map(Fraction, result.payments.values()), Fraction(0))
    assert surplus == result.surplus_u
    declared = rule.declares.budget
    assert {"strong": surplus == 0, "weak": surplus >= 0, "deficit": surplus <= 0, "none": True}[declared], surplus
    assert (
        result.network_u is None or rule.declares.budget == "none" or 0 <= result.network_u <= max(surplus, Fraction(0))
    )
    market_orders = {o.agent_id for o in orders if "market" in o.flags}  # they have no limit of their own
    if rule.declares.ir:
        for agent in {o.agent_id for o in orders} - market_orders:
            assert result.payments.get(agent, 0) <= worth[agent], agent
    if result.order_payments:
        paid = defaultdict[str, Fraction](Fraction)
        for oid, amount in result.order_payments.items():
            paid[known[oid].agent_id] += amount
        assert all(paid[o.agent_id] == result.payments.get(o.agent_id, 0) for o in orders)
    if result.trades:
        assert_trades_are_fills_and_payments(known, result)


def assert_trades_are_fills_and_payments(known: Mapping[str, Order], result: Result) -> None:
    """What pairs say adds up to every order's fill and every agent's payment."""
    fills, paid = defaultdict[str, int](int), defaultdict[str, Fraction](Fraction)
    for t in result.trades:
        assert t.e_wh > 0
        seller_price = t.price_u if t.seller_price_u is None else t.seller_price_u
        for oid, amount in ((t.buy_id, t.price_u * t.e_wh), (t.sell_id, -seller_price * t.e_wh)):
            fills[oid] += t.e_wh if oid in known else 0
            paid[known[oid].agent_id if oid in known else "retailer"] += amount / 1000
    assert {x: wh for x, wh in fills.items() if wh} == {x: wh for x, wh in result.fills.items() if wh}
    assert {a: p for a, p in paid.items() if p} == {a: p for a, p in result.payments.items() if p}


# --- from a batch to accounts -----------------------------------------------------------------------------------------


def contracts_of(rule: BidRule, batch: BookBatch, n_members: int, rank: Int, slots: int = 1) -> Cleared:
    """Contracts as a run makes them; ``slots`` per row of the batch."""
    market = SimpleNamespace(levels=())
    system: Any = SimpleNamespace(market=market, n_buildings=n_members, id_rank=rank)
    return clear_book(system, rule, batch, Window(batch.first_slot, batch.n_slots * slots), slots)


def settled(contracts: Contracts, imported: Int, exported: Int, rank: Int) -> Postings:
    """Postings of contracts against meters, with charges, levies and losses."""
    losses = np.arange(len(imported), dtype=np.int64) % 7
    return settle_contracts(
        imported, exported, contracts, np.array(RETAIL_U), np.array(FEED_IN_U), CHARGES, rank=rank,
        loss_wh=losses, loss_price_u=90_001,
    )  # fmt: skip


def assert_laws_of_accounts(posted: Postings, imported: Int, exported: Int) -> None:
    """Market-rules 4.5 (a) to (f), in integers; accounts are the members, then the retailer, the operator, the network
    and the state."""
    c, n = posted.contracts, imported.shape[1]
    net = (imported - exported).sum(axis=1)
    positions = c.bought_wh.sum(axis=1) + c.retailer_bought_wh - c.sold_wh.sum(axis=1) - c.retailer_sold_wh
    assert not positions.any(), "(a)"
    from_retailer = c.retailer_sold_wh - c.retailer_bought_wh
    residuals = imported - exported - c.bought_wh + c.sold_wh
    assert (posted.residual_wh == residuals).all()
    assert (residuals.sum(axis=1) + from_retailer == net).all(), "(b)"
    assert (posted.retailer_sold_wh - posted.retailer_bought_wh == net).all(), "(c)"
    for kind, table in posted.kinds.items():
        assert table.dtype == np.int64
        assert not table.sum(axis=1).any(), f"(d), (e) {kind}"
    contract = posted.kinds["contract"]
    assert (contract[:, :n] == c.received_u - c.paid_u).all(), "(e)"
    kept = c.paid_u.sum(axis=1) - c.received_u.sum(axis=1) - c.retailer_u
    assert (contract[:, n + 1] + contract[:, n + 2] == kept).all(), "(f)"
    assert (contract[:, n] == c.retailer_u).all() and not contract[:, n + 3 :].any()


def exact_sides(batch: BookBatch, found: BatchClearing, n_members: int) -> list[list[tuple[Fraction, Fraction]]]:
    """By slot and member: the exact amounts paid for what was bought and received for what was sold."""
    out = [[(Fraction(0), Fraction(0))] * n_members for _ in range(batch.n_slots)]
    for s in range(batch.n_slots):
        for column, member in enumerate(batch.member.tolist()):
            amount = Fraction(int(found.pay_num[s, column]), int(found.pay_den[s]))
            paid, received = out[s][member]
            buys = batch.side[s, column] > 0
            out[s][member] = (paid + amount, received) if buys else (paid, received - amount)
    return out


def lines_of(batch: BookBatch, found: BatchClearing, n_members: int) -> Int:
    """(S, M) bilateral lines that each member has a part in."""
    lines = np.zeros((batch.n_slots, n_members), np.int64)
    assert found.trades is not None
    for side in (found.trades.buy_order, found.trades.sell_order):
        near = side >= 0
        np.add.at(lines, (found.trades.slot[near], batch.member[side[near]]), 1)
    return lines
