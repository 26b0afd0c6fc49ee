"""Common ground of the truthful auctions (2.3 to 2.5): ranks under a tie-break, refusals, two prices, the batch call.

Ties are settled by time or by a keyed hash, never by anything an agent can move with its price, and odd watt-hours of
a cut side go by the rank of agents. So what an order gets does not depend on its own price as long as it trades, and
what a buyer pays (a seller gets) is the lowest (highest) price with which it still would: truthful in price to the last
unit, with ties and on integers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from market.book import Book, BookBatch, Context, Int
from market.crossing import Rung, ranked
from market.registry import BidRule, choice_parameter, integer_parameter, parameter
from market.result import BatchClearing, Prices, Result, book_result
from market.rules._crossed import SAFE
from market.rules.by_slot import clear_by_slot

LOT_TIES = ("time", "random")
"""Tie-breaks of rules that leave the marginal orders out: there is no marginal quantity to share pro rata."""

_WH_PER_KWH = 1000


@dataclass(frozen=True, kw_only=True)
class RankedRule(BidRule):
    """A rule for agents with one order each, without the retailer in the book."""

    tie_break: str = parameter("time", "who comes first among equal prices: time, or random (by seed)")
    seed: int = parameter(0, "of random draws")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "tie_break", self.tie_break, LOT_TIES)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses several orders of one agent and the retailer in the book; see `BidRule.applicable`."""
        if context.in_book:
            return "an unlimited retailer in the book is no trader whose rank could set a price; use backstop 'after'"
        seen: set[str] = set()
        for agent, e_wh in zip(book.agent_ids, book.e_wh, strict=True):
            if e_wh and agent in seen:
                return f"agent {agent!r} has several orders, one per agent is allowed; use vcg or muda"
            if e_wh:
                seen.add(agent)
        return None

    def ranks(self, book: Book, context: Context) -> tuple[list[Rung], list[Rung]]:
        """Buys and sells with a quantity, best first."""
        buys, sells = (ranked(book, s, self.tie_break, slot=context.slot, seed=self.seed) for s in (1, -1))
        return buys, sells


@dataclass(frozen=True, slots=True)
class LotDeal:
    """What a rule for equal lots decides: which rungs trade, at which two prices.

    ``one_price`` says that the rule itself means one price for both sides.
    """

    buys: Sequence[Rung]
    sells: Sequence[Rung]
    buy_u: Fraction
    sell_u: Fraction
    one_price: bool


@dataclass(frozen=True, kw_only=True)
class LotRule(RankedRule):
    """A rule for books in which every order has the same quantity, the lot."""

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses unequal quantities, and what `RankedRule` refuses; see `BidRule.applicable`."""
        if (reason := RankedRule.applicable(self, book, context)) is not None:
            return reason
        sizes = {e for e in book.e_wh if e}
        if len(sizes) > 1:
            return f"quantities differ ({min(sizes)} to {max(sizes)} Wh), all must be equal; use huang"
        return None

    @abstractmethod
    def deal(self, book: Book, context: Context, buys: list[Rung], sells: list[Rung], k: int) -> LotDeal:
        """Decide on ranked orders of which ``k`` >= 1 pairs trade efficiently."""

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        buys, sells = self.ranks(book, context)
        k = efficient_lots(buys, sells)
        told = {"efficient_lots": k, "lot_wh": max(book.e_wh, default=0)}
        fills = [0] * len(book)
        found = self.deal(book, context, buys, sells, k) if k else None
        told["traded_lots"] = len(found.buys) if found is not None else 0
        if found is None or not found.buys:
            return book_result(self.name, book, context, fills, [0] * len(book), diagnostics=told)
        for rung in (*found.buys, *found.sells):
            fills[rung.index] = rung.e_wh
        return two_price_result(
            self.name, book, context, fills, found.buy_u, found.sell_u, told, one_price=found.one_price
        )


def efficient_lots(buys: Sequence[Rung], sells: Sequence[Rung]) -> int:
    """Number of pairs of equal lots whose bid is at least the ask, zero surplus included (market-rules 0.4)."""
    k = 0
    while k < min(len(buys), len(sells)) and buys[k].price_u >= sells[k].price_u:
        k += 1
    return k


def two_price_result(
    rule: str,
    book: Book,
    context: Context,
    fills: Sequence[int],
    buy_u: Fraction,
    sell_u: Fraction,
    diagnostics: Mapping[str, Any],
    *,
    one_price: bool = False,
) -> Result:
    """Buyers pay ``buy_u``, sellers get ``sell_u`` [micro-currency per kWh]; ``one_price``: both are the one price."""
    den = lcm(buy_u.denominator, sell_u.denominator)
    by_side = {1: int(buy_u * den), -1: int(sell_u * den)}
    return book_result(
        rule, book, context, fills, [s * x * by_side[s] for s, x in zip(book.side, fills, strict=True)],
        pay_den=_WH_PER_KWH * den, price=buy_u if one_price else None, prices=Prices(buy_u, sell_u),
        diagnostics=diagnostics,
    )  # fmt: skip


# --- many slots -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LotBatch:
    """Outcome of a compiled rule on S slots and N order columns; prices are numerators over ``price_den``.

    ``one_price`` marks the slots in which both sides have the one price; a slot without trade has zeros.
    """

    fill_wh: Int
    buy_num: Int
    sell_num: Int
    one_price: NDArray[np.bool_]
    price_den: int


def fits(batch: BookBatch, factor: int) -> bool:
    """Whether int64 is proven to hold every sum of price times energy times ``factor``."""
    if not batch.e_wh.size:
        return True
    energy = int(batch.e_wh.max()) * (batch.n_orders + 1)
    price = max(abs(int(batch.price_u.min())), abs(int(batch.price_u.max())), 1)
    return energy * price * factor < SAFE


def compiled(rule: RankedRule, batch: BookBatch, kernel: Literal["reduction", "mcafee", "huang"]) -> BatchClearing:
    """A batch by the compiled code.

    Books the rule refuses, and numbers beyond 64 bits, take the slow road, which tells the slot and the reason.
    """
    equal_lots = kernel != "huang"
    if batch.in_book or not fits(batch, 2) or several_orders(batch) or (equal_lots and _unequal(batch)):
        return clear_by_slot(rule, batch)
    from market.rules._lot_kernels import huang_slots, lot_slots

    n_slots, n = batch.n_slots, batch.n_orders
    random = rule.tie_break == "random"
    base = np.lexsort((batch.order_rank,)) if random else np.lexsort((batch.order_rank, batch.seq, batch.t))
    out = LotBatch(
        np.zeros((n_slots, n), np.int64), np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64),
        np.zeros(n_slots, np.bool_), 2 if equal_lots else 1,
    )  # fmt: skip
    columns = (
        np.ascontiguousarray(batch.side, np.int8), np.ascontiguousarray(batch.e_wh, np.int64),
        np.ascontiguousarray(batch.price_u, np.int64), base.astype(np.int64),
        batch.keys() if random else np.zeros(n, np.uint64), np.uint64(rule.seed), batch.first_slot, random,
    )  # fmt: skip
    if equal_lots:
        lot_slots(*columns, kernel == "mcafee", out.fill_wh, out.buy_num, out.sell_num, out.one_price)
    else:
        huang_slots(*columns, batch.share_rank(), out.fill_wh, out.buy_num, out.sell_num)
    return _lot_clearing(batch, out)


def several_orders(batch: BookBatch) -> bool:
    """Whether an agent has two orders with a quantity in one slot."""
    member = np.asarray(batch.member)
    order = np.argsort(member, kind="stable")
    starts = np.flatnonzero(np.diff(member[order], prepend=-1)) if len(order) else order
    if len(starts) == len(order):
        return False
    live = ((batch.side != 0) & (batch.e_wh > 0))[:, order].astype(np.int64)
    return bool((np.add.reduceat(live, starts, axis=1) > 1).any())


def _unequal(batch: BookBatch) -> bool:
    if not batch.e_wh.size:
        return False
    live = (batch.side != 0) & (batch.e_wh > 0)
    most = np.where(live, batch.e_wh, 0).max(axis=1)
    return bool((live & (batch.e_wh != most[:, None])).any())


def _lot_clearing(batch: BookBatch, found: LotBatch) -> BatchClearing:
    n_slots = batch.n_slots
    price = np.where(batch.side > 0, found.buy_num[:, None], found.sell_num[:, None])
    none = np.zeros(n_slots, np.int64)
    return BatchClearing(
        fill_wh=found.fill_wh,
        price_num=np.where(found.one_price, found.buy_num, 0),
        price_den=np.full(n_slots, found.price_den, np.int64),
        has_price=found.one_price,
        pay_num=found.fill_wh * batch.side * price,
        pay_den=np.full(n_slots, _WH_PER_KWH * found.price_den, np.int64),
        trades=None,
        kind="pool",
        import_wh=none,
        export_wh=none.copy(),
        retailer_num=none.copy(),
    )
