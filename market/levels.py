"""Nested markets: house in street in district. What does not clear at a level goes up, with the charge of the next.

At a level with charge u every ask is raised by u: a buyer pays the price, the seller gets it less u, and u per kWh goes
to the network (the plain rule with a constant charge, market-rules 2.19).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import BookBatch, Int
from market.registry import BidRule
from market.result import BatchClearing


@dataclass(frozen=True, slots=True)
class Level:
    """One level of nested markets.

    Parameters
    ----------
    name
        For people and for the rows of trades.
    group
        (B,) index of the market each member belongs to at this level; -1 = it has none here.
    charge_u
        Network charge of a kWh traded at this level [micro-currency per kWh], >= 0.
    """

    name: str
    group: Int
    charge_u: int = 0

    def __post_init__(self) -> None:
        if self.charge_u < 0:
            raise MarketError(f"level {self.name!r} has a negative charge", remedy="give 0 or more per kWh")

    def markets(self) -> Iterator[Int]:
        """Members of each market of the level."""
        for g in np.unique(self.group[self.group >= 0]):
            yield np.flatnonzero(self.group == g)


@dataclass(frozen=True, slots=True)
class LevelClearing:
    """One market of one level: its order columns, the book it cleared, and the result at raised asks."""

    level: Level
    columns: NDArray[np.intp]
    book: BookBatch
    result: BatchClearing


def check_nesting(levels: Sequence[Level]) -> None:
    """Members who share a market at one level must share one at every level above.

    Raises
    ------
    MarketError
        Naming the level.
    """
    for below, above in pairwise(levels):
        for members in below.markets():
            if len(np.unique(above.group[members])) > 1:
                raise MarketError(
                    f"a market of level {below.name!r} is torn apart at level {above.name!r}",
                    remedy="list levels from the smallest to the largest, each containing those below it",
                )


def clear_levels(rule: BidRule, batch: BookBatch, levels: Sequence[Level]) -> list[LevelClearing]:
    """Clear a batch of books level by level, the smallest first.

    A retailer in the book stands at the last level only.
    """
    left = batch.e_wh.copy()
    cleared: list[LevelClearing] = []
    for level in levels:
        top = level is levels[-1]
        for members in level.markets():
            columns = np.flatnonzero(np.isin(batch.member, members))
            book = _part(batch, columns, left, level.charge_u, top)
            result = rule.clear_batch(book)
            left[:, columns] -= result.fill_wh
            cleared.append(LevelClearing(level, columns, book, result))
    return cleared


T = TypeVar("T")


def _picked(values: tuple[T, ...] | None, columns: NDArray[np.intp]) -> tuple[T, ...] | None:
    return None if values is None else tuple(values[i] for i in columns)


def _part(batch: BookBatch, columns: NDArray[np.intp], left: Int, charge_u: int, top: bool) -> BookBatch:
    """The remaining orders of some columns, asks raised by the charge."""
    e_wh = left[:, columns]
    side = np.where(e_wh > 0, batch.side[:, columns], 0).astype(np.int8)
    rank = np.empty(len(columns), np.int64)
    rank[np.argsort(batch.order_rank[columns], kind="stable")] = np.arange(len(columns))

    return replace(
        batch,
        side=side,
        e_wh=e_wh,
        price_u=batch.price_u[:, columns] + np.where(side < 0, charge_u, 0),
        member=batch.member[columns],
        t=batch.t[columns],
        seq=batch.seq[columns],
        order_rank=rank,
        agent_rank=None if batch.agent_rank is None else batch.agent_rank[columns],
        order_key=None if batch.order_key is None else batch.order_key[columns],
        order_ids=_picked(batch.order_ids, columns),
        node=_picked(batch.node, columns),
        attributes=_picked(batch.attributes, columns),
        flags=_picked(batch.flags, columns),
        quotes=None if batch.quotes is None else batch.quotes[:, :, columns] + np.where(side < 0, charge_u, 0),
        retail_u=batch.retail_u if top else None,
        feed_in_u=batch.feed_in_u if top else None,
    )
