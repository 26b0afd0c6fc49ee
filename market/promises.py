"""What a rule declares is held against what it does, in every slot of every run, in exact numbers.

A rule that keeps its word is not slowed down: a few comparisons of columns. One that does not is stopped with the slot,
before settlement could round its broken promise away.
"""

from __future__ import annotations

import numpy as np

from core.errors import MarketError
from market.book import BookBatch
from market.registry import BidRule
from market.result import BatchClearing, Exact, Int

_SAFE = 2**62
_WH_PER_KWH = 1000


def check_promises(rule: BidRule, batch: BookBatch, result: BatchClearing) -> None:
    """Check fills, the declared budget and individual rationality of a batch.

    Parameters
    ----------
    rule, batch, result
        The rule, what it was given and what it gave.

    Raises
    ------
    MarketError
        Naming the first slot in which a fill lies outside its order, the operator's surplus breaks the declared
        ``budget``, or, where the rule declares ``ir``, an order is worse off than without a trade.
    """
    outside = (result.fill_wh < 0) | (result.fill_wh > batch.e_wh) | ((batch.side == 0) & (result.fill_wh != 0))
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        fill, most = int(result.fill_wh[row, column]), int(batch.e_wh[row, column])
        _refuse(rule, batch, row, f"a fill of {fill} Wh on an order of {most} Wh")
    _check_budget(rule, batch, result)
    if rule.declares.ir:
        _check_rationality(rule, batch, result)


def _check_budget(rule: BidRule, batch: BookBatch, result: BatchClearing) -> None:
    surplus = result.pay_num.sum(axis=1) + result.retailer_num
    broken = {
        "strong": surplus != 0,
        "weak": surplus < 0,
        "deficit": surplus > 0,
    }.get(rule.declares.budget)
    if broken is not None and np.any(broken):
        row = int(np.flatnonzero(broken)[0])
        left = int(surplus[row]) / int(result.pay_den[row])
        _refuse(
            rule, batch, row, f"the operator is left with {left:g} micro, against the budget {rule.declares.budget!r}"
        )


def _check_rationality(rule: BidRule, batch: BookBatch, result: BatchClearing) -> None:
    """Buyers pay at most their bid, sellers get at least their ask: pay * 1000 <= side * price * fill * den.

    Judged per agent: with several orders, what one of them pays too much another may bring back.
    """
    worth = _worth(batch, result.fill_wh, result.pay_den)
    paid = result.pay_num if _fits(result.pay_num, _WH_PER_KWH) else result.pay_num.astype(object)
    lost = paid * _WH_PER_KWH - worth
    agents = np.unique(batch.member)
    if len(agents) < batch.n_orders:
        by_agent = np.stack([lost[:, batch.member == m].sum(axis=1) for m in agents], axis=1)
        worse = by_agent > 0
        if np.any(worse):
            row, a = (int(i) for i in np.argwhere(worse)[0])
            m = int(agents[a])
            who = f"member {m}" if batch.agent_ids is None else batch.agent_ids[m]
            left = int(by_agent[row, a]) / (_WH_PER_KWH * int(result.pay_den[row]))
            _refuse(rule, batch, row, f"{who} is {left:g} micro worse off than without a trade, against declared ir")
        return
    worse = lost > 0
    if np.any(worse):
        row, column = (int(i) for i in np.argwhere(worse)[0])
        bid = int(batch.price_u[row, column])
        paid_u = int(result.pay_num[row, column]) / int(result.pay_den[row])
        what = f"an order of {int(result.fill_wh[row, column])} Wh at {bid} micro per kWh pays {paid_u:g} micro"
        _refuse(rule, batch, row, f"{what}, worse than no trade, but the rule declares ir")


def _worth(batch: BookBatch, fill_wh: Int, pay_den: Exact) -> Exact:
    parts = (batch.price_u, fill_wh, pay_den)
    largest = 1
    for part in parts:
        largest *= max(abs(int(part.max(initial=0))), abs(int(part.min(initial=0))), 1)
    price, fill, den = parts if largest < _SAFE else tuple(part.astype(object) for part in parts)
    return batch.side * price * fill * den[:, None]


def _fits(values: Exact, factor: int) -> bool:
    if values.dtype == object or not values.size:
        return values.dtype != object
    return max(abs(int(values.max())), abs(int(values.min()))) * factor < _SAFE


def _refuse(rule: BidRule, batch: BookBatch, row: int, what: str) -> None:
    raise MarketError(
        f"rule {rule.name} in slot {batch.first_slot + row}: {what}",
        remedy="mend the rule, or what it declares; market.testing.check_rule finds the smallest such book",
    )
