"""What a rule declares is held against what it does, in every slot of every run, in exact numbers.

A rule that keeps its word is not slowed down: a few comparisons of columns. One that does not is stopped with the slot,
before settlement could round its broken promise away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
        ``budget``, something is traded against a member's own terms, or, where the rule declares ``ir``, an order is
        worse off than without a trade.
    """
    outside = (result.fill_wh < 0) | (result.fill_wh > batch.e_wh) | ((batch.side == 0) & (result.fill_wh != 0))
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        fill, most = int(result.fill_wh[row, column]), int(batch.e_wh[row, column])
        _refuse(rule, batch, row, f"a fill of {fill} Wh on an order of {most} Wh")
    _check_budget(rule, batch, result)
    if rule.declares.ir:
        _check_rationality(rule, batch, result)
    kind = str(getattr(rule, "default_class", "local"))
    for found in violated_terms(batch, result, default_class=kind)[:1]:
        _refuse(rule, batch, found.slot - batch.first_slot, str(found))


@dataclass(frozen=True, slots=True)
class Violation:
    """A trade against a member's own terms (market-rules 2.27): slot, agent, term, and what happened."""

    slot: int
    agent: str
    term: str
    what: str

    def __str__(self) -> str:
        return f"{self.agent}'s {self.term} is violated: {self.what}"


def violated_terms(batch: BookBatch, result: BatchClearing, *, default_class: str = "local") -> list[Violation]:
    """Every fill of a batch that goes against its agent's terms: an order's mean price, a pair's price, a class.

    Parameters
    ----------
    batch, result
        What the rule was given, with ``terms`` and ``agent_ids``, and what it gave.
    default_class
        Class of sell orders that name none.

    Returns
    -------
    list
        By slot and order; empty where all is well, or where nobody has terms.
    """
    if not batch.terms or batch.agent_ids is None:
        return []
    agents = [batch.agent_ids[int(m)] for m in batch.member]
    found = [*_price_violations(batch, result, agents), *_pair_violations(batch, result, agents, default_class)]
    return [violation for _, _, violation in sorted(found, key=lambda item: item[:2])]


_Found = Iterator[tuple[int, int, Violation]]


def _price_violations(batch: BookBatch, result: BatchClearing, agents: list[str]) -> _Found:
    """Agents that pay more, over their orders of a slot, than their terms allow.

    Over their orders, because a rule may name a payment per agent. A side without a term counts at the orders' limits,
    with what stated preferences add.
    """
    side = batch.side.astype(np.int64)
    for agent, own in batch.terms.items():
        columns = [i for i, name in enumerate(agents) if name == agent] if own.prices else []
        if not columns:
            continue
        sides, limit = side[:, columns], batch.price_u[:, columns]
        bound = limit
        for sign, term in ((1, own.ceiling_u), (-1, own.floor_u)):
            bound = bound if term is None else np.where(sides == sign, term, bound)
        fill, paid = result.fill_wh[:, columns], result.pay_num[:, columns]
        parts = (bound, fill, result.pay_den, paid)
        if _largest(*parts[:3]) * len(columns) >= _SAFE or _largest(paid) * len(columns) * _WH_PER_KWH >= _SAFE:
            bound, fill, den, paid = (part.astype(object) for part in parts)
        else:
            den = result.pay_den
        if result.premium_num is not None:
            stated = np.where(sides > 0, own.ceiling_u is not None, own.floor_u is not None)
            paid = paid - np.where(stated, 0, result.premium_num[:, columns])
        wrong = paid.sum(axis=1) * _WH_PER_KWH > (sides * bound * fill).sum(axis=1) * den
        for row in np.flatnonzero(wrong):
            bought = int(fill[row][sides[row] > 0].sum()) > 0
            term_name = "ceiling" if bought else "floor"
            value = own.ceiling_u if bought else own.floor_u
            energy = int(fill[row].sum())
            what = f"{energy} Wh for {abs(int(paid[row].sum())) / int(den[row]):g} micro, its {term_name} is {value}"
            slot = batch.first_slot + int(row)
            yield int(row), columns[0], Violation(slot, agent, term_name, what)


def _pair_violations(batch: BookBatch, result: BatchClearing, agents: list[str], default_class: str) -> _Found:
    """Prices of single pairs, and classes that the buyer refuses."""
    t = result.trades
    if t is None:
        return
    kinds = [default_class] * len(agents)
    if batch.attributes is not None:
        kinds = [str(traits.get("class", default_class)) for traits in batch.attributes]
    got_num = t.price_num if t.seller_num is None else t.seller_num
    den = t.price_den.astype(object)
    for column, agent in enumerate(agents):
        if (own := batch.terms.get(agent)) is None:
            continue
        told: list[tuple[np.intp, str, str]] = []
        buys, sells = (t.buy_order == column) & (t.e_wh > 0), (t.sell_order == column) & (t.e_wh > 0)
        if own.ceiling_u is not None:
            above = np.flatnonzero(buys & (t.price_num > own.ceiling_u * den))
            told += [(i, "ceiling", _pair_words(t.price_num[i], den[i], "ceiling", own.ceiling_u)) for i in above]
        if own.floor_u is not None:
            below = np.flatnonzero(sells & (got_num < own.floor_u * den))
            told += [(i, "floor", _pair_words(got_num[i], den[i], "floor", own.floor_u)) for i in below]
        if own.refused_classes:
            named = [(i, kinds[int(t.sell_order[i])]) for i in np.flatnonzero(buys & (t.sell_order >= 0))]
            told += [
                (i, "refused class", f"{int(t.e_wh[i])} Wh of class {kind!r}")
                for i, kind in named
                if kind in own.refused_classes
            ]
        for i, term, what in told:
            row = int(t.slot[i])
            yield row, column, Violation(batch.first_slot + row, agent, term, what)


def _pair_words(num: int, den: int, term: str, bound: int) -> str:
    return f"a pair at {int(num) / int(den):g} micro per kWh, its {term} is {bound}"


def _largest(*parts: Exact) -> int:
    """Product of the largest magnitudes, each at least 1."""
    product = 1
    for part in parts:
        product *= max(abs(int(part.max(initial=0))), abs(int(part.min(initial=0))), 1)
    return product


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
    if result.premium_num is not None:  # what a buyer's stated preferences add
        worth = worth + result.premium_num.astype(object) * _WH_PER_KWH
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
    price, fill, den = parts if _largest(*parts) < _SAFE else tuple(part.astype(object) for part in parts)
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
