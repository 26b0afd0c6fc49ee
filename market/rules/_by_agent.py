"""Rules whose money belongs to agents and not to orders: results, and parts of a book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from market.book import Book, BookBatch, Context, Int
from market.result import Money, Prices, Result, book_result


def agent_result(
    rule: str,
    book: Book,
    context: Context,
    fills: Sequence[int],
    payments: Mapping[str, Money],
    *,
    retailer_payment: Money = 0,
    import_wh: int = 0,
    export_wh: int = 0,
    prices: Prices | None = None,
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    """A `Result` from what each agent pays; see `market.result.book_result`.

    An agent's money is booked on its first order that is filled, or on its first order where none is.
    """
    place: dict[str, int] = {}
    for i, agent in enumerate(book.agent_ids):
        if agent not in place or (not fills[place[agent]] and fills[i]):
            place[agent] = i
    paid: list[Money] = [0] * len(book)
    for agent, i in place.items():
        paid[i] = payments.get(agent, 0)
    result = book_result(
        rule, book, context, fills, paid, retailer_payment=retailer_payment, import_wh=import_wh,
        export_wh=export_wh, prices=prices or Prices(), diagnostics=diagnostics,
    )  # fmt: skip
    # a fee is also due without a fill
    unfilled = {book.order_ids[i]: paid[i] for i in place.values() if paid[i] and not fills[i]}
    return replace(result, order_payments={**result.order_payments, **unfilled}) if unfilled else result


def part_of(book: Book, keep: Sequence[int]) -> Book:
    """The book of some of its orders, by position; ranks keep their values."""
    columns: dict[str, Any] = {f.name: getattr(book, f.name) for f in fields(book)}
    return Book(**{name: tuple(column[i] for i in keep) if column else () for name, column in columns.items()})


def orders_by_agent(book: Book) -> dict[str, list[int]]:
    """Positions of each agent's orders, agents in ASCII order."""
    found: dict[str, list[int]] = {}
    for i, agent in enumerate(book.agent_ids):
        found.setdefault(agent, []).append(i)
    return dict(sorted(found.items()))


def columns_by_agent(batch: BookBatch) -> tuple[Int, Int]:
    """Order columns by (agent, order id), and where each agent's begin; the last entry is their number."""
    columns = np.lexsort((batch.order_rank, batch.member)).astype(np.int64)
    agents = batch.member[columns]
    starts = np.flatnonzero(np.append(True, agents[1:] != agents[:-1])) if len(agents) else np.zeros(0, np.int64)
    return columns, np.append(starts, len(columns)).astype(np.int64)
