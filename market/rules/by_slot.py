"""The slow road of a batch: a rule's exact single-slot function called for every slot.

For rules without compiled code, and for numbers that do not fit 64 bits. It is also what compiled code is tested
against.
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError, PeerwattError
from market.book import BookBatch, Int, Meters
from market.orders import RETAILER
from market.result import BatchClearing, BatchSharing, Exact, Money, Result, Trade, TradeBatch

if TYPE_CHECKING:
    from market.registry import BidRule, MeterRule, Rule

T = TypeVar("T")

_INT64 = 2**63


def exact_column(values: Any, shape: tuple[int, ...]) -> Exact:
    """An int64 array where all values fit, otherwise Python integers in an object array."""
    flat = [int(v) for v in values]
    if all(-_INT64 <= v < _INT64 for v in flat):
        return np.array(flat, np.int64).reshape(shape)
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(shape)


Row = tuple[int, int, int, int, int, int, int]


def trade_columns(rows: Sequence[Row]) -> TradeBatch:
    """Columns from rows (slot, buyer column, seller column, Wh, price numerator, denominator, seller's numerator)."""
    slot, buy, sell, e_wh, num, den, seller_num = (
        exact_column([row[c] for row in rows], (len(rows),)) for c in range(7)
    )
    return TradeBatch(slot, buy, sell, e_wh, num, den, None if np.array_equal(num, seller_num) else seller_num)


def over(values: Sequence[Money]) -> tuple[list[int], int]:
    """Numerators of exact values over their least common denominator."""
    den = math.lcm(*(Fraction(v).denominator for v in values)) if values else 1
    return [int(v * den) for v in values], den


def guarded(rule: Rule, slot: int, step: Callable[..., T], *arguments: Any) -> T:
    """``step(*arguments)``; whatever a rule of somebody's own raises names the rule, the slot and the line.

    Raises
    ------
    MarketError
        In place of any exception that is not peerwatt's own.
    """
    try:
        return step(*arguments)
    except PeerwattError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = inspect.getsourcefile(type(rule))
        last = next((f for f in reversed(frames) if f.filename == own), frames[-1])  # the line of the rule's own file
        raise MarketError(
            f"rule {rule.name} failed in slot {slot}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})",
            remedy="mend the rule; market.testing.check_rule tries it on small books",
        ) from error


def clear_by_slot(rule: BidRule, batch: BookBatch) -> BatchClearing:
    """`BidRule.clear` for every row of a batch."""
    n_slots, n = batch.n_slots, batch.n_orders
    fill = np.zeros((n_slots, n), np.int64)
    price_num, price_den = [0] * n_slots, [1] * n_slots
    has_price = np.zeros(n_slots, np.bool_)
    imports, exports = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
    pay: list[int] = []
    premium: list[int] = []
    dens: list[int] = []
    retailer: list[int] = []
    network: list[int] = []
    rows: list[Row] = []
    for s in range(n_slots):
        book, context, columns = batch.row(s)
        if (reason := rule.applicable(book, context)) is not None:
            raise MarketError(f"{rule.name}, slot {context.slot}: {reason}", remedy="choose another rule")
        result = guarded(rule, context.slot, rule.clear, book, context)
        where = dict(zip(book.order_ids, columns, strict=True))
        for oid, wh in result.fills.items():
            fill[s, where[oid]] = wh
        paid: list[Money] = [0] * n
        by_order = result.order_payments
        if not by_order:  # a rule that pays per agent: book it on the agent's first order
            first = {a: oid for oid, a in reversed(list(zip(book.order_ids, book.agent_ids, strict=True)))}
            by_order = {first[a]: p for a, p in result.payments.items() if a in first}
        for oid, p in by_order.items():
            paid[where[oid]] = p
        added: list[Money] = [0] * n
        for oid, worth in result.premiums.items():
            added[where[oid]] = worth
        kept = network_part(rule, result)
        nums, den = over([*paid, *added, result.payments.get(RETAILER, 0), kept])
        pay += nums[:n]
        premium += nums[n:-2]
        retailer.append(nums[-2])
        network.append(nums[-1])
        dens.append(den)
        imports[s], exports[s] = result.import_wh, result.export_wh
        if result.price is not None:
            price_num[s], price_den[s], has_price[s] = result.price.numerator, result.price.denominator, True
        rows += _trade_rows(s, result.trades, where)
    return BatchClearing(
        fill_wh=fill,
        price_num=exact_column(price_num, (n_slots,)),
        price_den=exact_column(price_den, (n_slots,)),
        has_price=has_price,
        pay_num=exact_column(pay, (n_slots, n)),
        pay_den=exact_column(dens, (n_slots,)),
        trades=trade_columns(rows) if rule.pairs else None,
        kind="bilateral" if rule.pairs else "pool",
        import_wh=imports,
        export_wh=exports,
        retailer_num=exact_column(retailer, (n_slots,)),
        network_num=exact_column(network, (n_slots,)) if any(network) else None,
        premium_num=exact_column(premium, (n_slots, n)) if any(premium) else None,
    )


def network_part(rule: BidRule, result: Result) -> Money:
    """What of a result's surplus belongs to the network operator."""
    if result.network_u is not None:
        return result.network_u
    return result.surplus_u if rule.surplus_to == "network" else 0


def _trade_rows(slot: int, trades: Sequence[Trade], where: dict[str, int]) -> list[Row]:
    rows: list[Row] = []
    for t in trades:
        own, theirs = t.price_u, t.price_u if t.seller_price_u is None else t.seller_price_u
        den = math.lcm(own.denominator, theirs.denominator)
        rows.append(
            (slot, where.get(t.buy_id, -1), where.get(t.sell_id, -1), t.e_wh, int(own * den), den, int(theirs * den))
        )
    return rows


def meters_of_row(
    net_wh: Int, retail_u: Int, feed_in_u: Int, active: NDArray[Any] | None, s: int, names: Sequence[str], slot: int
) -> tuple[Meters, list[int]]:
    """One slot's active members as `Meters`, and their columns."""
    columns = [i for i in range(net_wh.shape[1]) if active is None or active[s, i]]
    meters = Meters(
        tuple(names[i] for i in columns),
        tuple(int(net_wh[s, i]) for i in columns),
        tuple(int(retail_u[s, i]) for i in columns),
        tuple(int(feed_in_u[s, i]) for i in columns),
        slot,
    )
    return meters, columns


def share_by_slot(
    rule: MeterRule,
    net_wh: Int,
    retail_u: Int,
    feed_in_u: Int,
    active: NDArray[Any] | None,
    *,
    members: Sequence[str] | None,
    first_slot: int,
) -> BatchSharing:
    """`MeterRule.share` for every row of a batch."""
    n_slots, n = net_wh.shape
    if members is not None:
        from market.registry import check_named  # here, because the registry imports this module

        check_named(rule, members)
    names = [f"{i:09d}" for i in range(n)] if members is None else list(members)
    local = np.zeros((n_slots, n), np.int64)
    price_num, price_den = [0] * n_slots, [1] * n_slots
    has_price = np.zeros(n_slots, np.bool_)
    pay: list[int] = []
    dens: list[int] = []
    retailer: list[int] = []
    rows: list[Row] = []
    for s in range(n_slots):
        meters, columns = meters_of_row(net_wh, retail_u, feed_in_u, active, s, names, first_slot + s)
        if (reason := rule.applicable(meters)) is not None:
            raise MarketError(f"{rule.name}, slot {meters.slot}: {reason}", remedy="choose another rule or tariff")
        shared = guarded(rule, meters.slot, rule.share, meters)
        where = dict(zip(meters.members, columns, strict=True))
        paid: list[Money] = [0] * n
        source = shared.diagnostics["local_payments"] if rule.kind == "contract" else shared.payments
        for member, c in where.items():
            local[s, c] = shared.local_wh.get(member, 0)
            paid[c] = source.get(member, 0)
        nums, den = over([*paid, 0 if rule.kind == "contract" else shared.retailer_u])
        pay += nums[:-1]
        retailer.append(nums[-1])
        dens.append(den)
        price = shared.diagnostics.get("local_price_u")
        if price is not None:
            price_num[s], price_den[s], has_price[s] = price.numerator, price.denominator, True
        rows += _trade_rows(s, shared.trades, where)
    return BatchSharing(
        kind=rule.kind,
        local_wh=local,
        pay_num=exact_column(pay, (n_slots, n)),
        pay_den=exact_column(dens, (n_slots,)),
        retailer_num=exact_column(retailer, (n_slots,)),
        price_num=exact_column(price_num, (n_slots,)),
        price_den=exact_column(price_den, (n_slots,)),
        has_price=has_price,
        trades=trade_columns(rows) if rule.pairs else None,
    )
