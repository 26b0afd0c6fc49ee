"""What rules hand back: exact results of one slot, and columns of many slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Book, Context, Meters
from market.orders import RETAILER

Int = NDArray[np.int64]
Exact = NDArray[Any]
"""An integer array: int64 where that is proven to fit, otherwise an object array of Python integers."""

Money = int | Fraction
"""Exact micro-currency."""


def exact(numerator: int, denominator: int = 1) -> Money:
    """``numerator / denominator`` as an int when it is whole, else as a Fraction."""
    value = Fraction(numerator, denominator)
    return value.numerator if value.denominator == 1 else value


def total_of(values: Iterable[Money]) -> Money:
    """The exact sum. Numerators are added by denominator: far cheaper than adding fractions one by one.

    Raises
    ------
    MarketError
        For a number that is not exact.
    """
    by_denominator: dict[int, int] = {}
    for value in values:
        if type(value) is not int and not isinstance(value, (int, Fraction)):
            raise MarketError(f"a payment is {value!r}, which is not exact", remedy="payments are int or Fraction")
        den = value.denominator
        by_denominator[den] = by_denominator.get(den, 0) + value.numerator
    return _tidy(sum((Fraction(num, den) for den, num in by_denominator.items()), Fraction(0)))


@dataclass(frozen=True, slots=True)
class Trade:
    """A bilateral trade; a party may be ``retailer``. ``price_u`` is exact [micro-currency per kWh].

    ``seller_price_u`` is what the seller gets where that is another price (charges, an operator's margin).
    """

    buy_id: str
    sell_id: str
    e_wh: int
    price_u: Fraction
    seller_price_u: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """Exact prices [micro-currency per kWh] of rules that have more than one; None = no such side.

    ``by_order`` (or by member, for meter-based rules), ``by_pair``, ``by_class`` (of energy) and ``by_node`` (of the
    network) are filled where the rule sets them.
    """

    buy: Fraction | None = None
    sell: Fraction | None = None
    by_order: Mapping[str, Fraction] = field(default_factory=dict)
    by_pair: Mapping[tuple[str, str], Fraction] = field(default_factory=dict)
    by_class: Mapping[str, Fraction] = field(default_factory=dict)
    by_node: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a rule on one book. Money is exact and never rounded here.

    Parameters
    ----------
    fills
        Order id -> Wh, orders without a fill may be absent.
    payments
        Agent id -> exact micro-currency paid; negative = received. With the retailer in the book also ``retailer``.
    order_payments
        Order id -> exact micro-currency paid, where the rule defines it per order.
    price, prices
        One price (None = none), or several.
    trades
        Pairs, where the rule defines them.
    volume_wh
        Energy traded among members [Wh].
    welfare_u
        Reported value of buyers' fills minus reported cost of sellers' fills (and of the retailer in the book).
    surplus_u
        What the operator keeps: the sum of all payments.
    import_wh, export_wh
        Energy bought from and sold to the retailer in the book [Wh].
    base_wh, loss_wh
        Net demand of those outside the market and losses of the network [Wh], where the rule's energy balance holds
        them (market-rules 2.18): bought - sold + base_wh + loss_wh = import - export. The retailer supplies the former.
    network_u
        The network's part of ``surplus_u``; None = all of it where the rule's ``surplus_to`` is ``network``, else 0.
    premiums
        Order id -> exact micro-currency that its stated preferences add to the worth of its fill. Judging whether
        somebody is worse off counts them in; ``welfare_u`` contains them.
    """

    rule: str = ""
    fills: Mapping[str, int]
    payments: Mapping[str, Money]
    order_payments: Mapping[str, Money] = field(default_factory=dict)
    price: Fraction | None = None
    prices: Prices = Prices()
    trades: Sequence[Trade] = ()
    volume_wh: int = 0
    welfare_u: Money = 0
    surplus_u: Money = 0
    import_wh: int = 0
    export_wh: int = 0
    base_wh: int = 0
    loss_wh: int = 0
    network_u: Money | None = None
    premiums: Mapping[str, Money] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Result of a meter-based rule on one slot.

    Parameters
    ----------
    prices
        ``buy`` is what a kWh drawn costs a buyer on average, the retailer's part included, ``sell`` what a seller
        gets; ``by_order`` has them by member. For sharing by keys: the price of the shared energy.
    payments
        Member -> exact micro-currency paid, its retailer part included; negative = received.
    local_wh
        Member -> Wh met by, or delivered to, neighbours; never negative. Both sides sum to the same.
    retailer_u
        What the members together owe the retailer (exact, may be negative).
    standalone_u
        Member -> what it would pay without a market.
    trades
        Pairs (consumer, producer), where the rule defines them.
    surplus_u
        Sum of payments minus ``retailer_u``: what the operator keeps.
    """

    rule: str = ""
    prices: Prices
    payments: Mapping[str, Money]
    local_wh: Mapping[str, int]
    retailer_u: Money
    standalone_u: Mapping[str, Money]
    trades: Sequence[Trade] = ()
    volume_wh: int = 0
    surplus_u: Money = 0
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TradeBatch:
    """Pairs of many slots, one row each, by slot.

    ``slot`` is the row in the batch (0..S-1). ``buy_order`` and ``sell_order`` are order columns of the batch, or
    member columns for meter-based rules; -1 stands for the retailer. Price = num / den [micro-currency per kWh]; the
    seller's is ``seller_num / den`` where it is another one.
    """

    slot: Int
    buy_order: Int
    sell_order: Int
    e_wh: Int
    price_num: Exact
    price_den: Exact
    seller_num: Exact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchClearing:
    """Result of a bid rule on a batch: S slots, N order columns.

    Parameters
    ----------
    fill_wh
        (S, N) int64 [Wh].
    price_num, price_den, has_price
        (S,) the one price [micro-currency per kWh], where the rule has one.
    pay_num, pay_den
        (S, N), (S,): the exact micro-currency paid per order is ``pay_num / pay_den`` (buyers +, sellers -). int64
        where that is proven to fit, otherwise object arrays of Python integers.
    trades
        Pairs, for rules that define them, else None.
    kind
        ``pool`` (rounded per side) or ``bilateral`` (rounded per trade).
    import_wh, export_wh, retailer_num
        (S,) with the retailer in the book: bought from it, sold to it, and paid BY it over ``pay_den``.
    base_wh, loss_wh, loss_num
        (S,), None = zero: see `Result`; what the losses cost at the price of node 0, over ``pay_den``.
    network_num, premium_num
        (S,) and (S, N) over ``pay_den``: see ``network_u`` and ``premiums`` of `Result`.
    """

    fill_wh: Int
    price_num: Exact
    price_den: Exact
    has_price: NDArray[np.bool_]
    pay_num: Exact
    pay_den: Exact
    trades: TradeBatch | None
    kind: str
    import_wh: Int
    export_wh: Int
    retailer_num: Exact
    base_wh: Int | None = None
    loss_wh: Int | None = None
    loss_num: Exact | None = None
    network_num: Exact | None = None
    premium_num: Exact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSharing:
    """Result of a meter-based rule on a batch: S slots, M members.

    Parameters
    ----------
    kind
        ``pool_with_retailer``: ``pay_num / pay_den`` is each member's exact bill with its retailer part, and
        ``retailer_num / pay_den`` what the members together owe the retailer. ``contract``: the local energy is a
        contract at its price, and each member settles its own residual with its supplier.
    local_wh
        (S, M) int64 >= 0: Wh of a buyer met locally, of a seller delivered locally; equal sums on both sides. The sign
        of the member's net energy says which.
    pay_num, pay_den, retailer_num
        (S, M), (S,), (S,): exact, see ``kind``; for contracts the payment for the local energy alone, and zero.
    price_num, price_den, has_price
        (S,) the price of the local energy, where it is one [micro-currency per kWh].
    buy_num, sell_num
        (S,) over ``pay_den``: ``pay_num = net_wh * buy_num`` for a buyer and ``net_wh * sell_num`` for a seller, where
        every member of a side has the same price; else None.
    trades
        Pairs for rules that define them (columns are members), else None.

    Members outside the market in a slot (``active`` false) have zeros everywhere; their supplier serves them.
    """

    kind: str
    local_wh: Int
    pay_num: Exact
    pay_den: Exact
    retailer_num: Exact
    price_num: Exact
    price_den: Exact
    has_price: NDArray[np.bool_]
    buy_num: Exact | None = None
    sell_num: Exact | None = None
    trades: TradeBatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInfo:
    """A registered rule as ``rules()`` lists it."""

    name: str
    version: str
    summary: str
    section: str
    source: str
    meter_based: bool
    pairs: bool
    declares: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]


def book_result(
    rule: str,
    book: Book,
    context: Context,
    fills: Sequence[int],
    order_payments: Sequence[Money],
    *,
    pay_den: int = 1,
    retailer_payment: Money = 0,
    import_wh: int = 0,
    export_wh: int = 0,
    price: Fraction | None = None,
    prices: Prices = Prices(),
    trades: Sequence[Trade] = (),
    diagnostics: Mapping[str, Any] | None = None,
) -> Result:
    """A `Result` from fills and payments by position in the book; sums, welfare and surplus follow from them.

    Parameters
    ----------
    fills, order_payments
        Wh and exact micro-currency of each order, in the book's order.
    pay_den
        A common denominator of ``order_payments``, which are then whole numerators.
    retailer_payment
        Paid BY the retailer in the book (negative = received), with its ``import_wh`` and ``export_wh``.
    """
    paid: dict[str, Money] = {}
    for agent, amount in zip(book.agent_ids, order_payments, strict=True):
        paid[agent] = paid[agent] + amount if agent in paid else amount
    payments = {agent: _over(amount, pay_den) for agent, amount in paid.items()}
    welfare_wu = sum(s * p * x for s, p, x in zip(book.side, book.price_u, fills, strict=True))
    if context.in_book:
        retail, feed_in = context.retailer_prices()
        welfare_wu += feed_in * export_wh - retail * import_wh
        payments[RETAILER] = _tidy(retailer_payment)
    bought = sum(x for s, x in zip(book.side, fills, strict=True) if s > 0)
    return Result(
        rule=rule,
        fills={oid: x for oid, x in zip(book.order_ids, fills, strict=True) if x},
        payments=payments,
        order_payments={
            # one order of one agent: the same number, not made twice
            oid: payments[agent] if paid[agent] is amount else _over(amount, pay_den)
            for oid, agent, amount, x in zip(book.order_ids, book.agent_ids, order_payments, fills, strict=True)
            if x
        },
        price=price,
        prices=prices,
        trades=list(trades),
        volume_wh=bought - import_wh,
        welfare_u=exact(welfare_wu, 1000),
        surplus_u=total_of(payments.values()),
        import_wh=import_wh,
        export_wh=export_wh,
        diagnostics=dict(diagnostics or {}),
    )


def _over(amount: Money, den: int) -> Money:
    if den == 1:
        return _tidy(amount)
    assert isinstance(amount, int), "a numerator is whole"
    whole, rest = divmod(amount, den)
    return Fraction(amount, den) if rest else whole


def _tidy(value: Money) -> Money:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def verify_result(result: Result, book: Book) -> None:
    """Check the laws of market-rules 0.6 on a result: bounds of fills, energy balance, surplus = sum of payments.

    Raises
    ------
    MarketError
        Naming the law, the rule and the numbers.
    """
    blame = f"mend the rule {result.rule!r}" if result.rule else "mend the rule"
    balance = 0
    for oid, wh in result.fills.items():
        if oid not in book.index:
            raise MarketError(f"a fill names order {oid!r}, which is not in the book", remedy=blame)
        i = book.index[oid]
        if type(wh) is not int or not 0 <= wh <= book.e_wh[i]:
            raise MarketError(f"order {oid!r} of {book.e_wh[i]} Wh is filled with {wh!r}", remedy=blame)
        balance += book.side[i] * wh
    balance += result.base_wh + result.loss_wh
    if balance != result.import_wh - result.export_wh:
        raise MarketError(
            f"bought minus sold is {balance} Wh, the retailer's part {result.import_wh - result.export_wh} Wh",
            remedy=blame,
        )
    if any(type(p) is not int and not isinstance(p, (int, Fraction)) for p in result.payments.values()):
        raise MarketError("a payment is not exact", remedy=blame + ": payments are int or Fraction")
    total = total_of(result.payments.values())
    if total != result.surplus_u:
        raise MarketError(f"payments sum to {total}, surplus says {result.surplus_u}", remedy=blame)


def verify_shared(shared: Shared, meters: Meters) -> None:
    """Check that local energy is within each member's own and equal on both sides, and that money adds up.

    Raises
    ------
    MarketError
        Naming the law, the rule and the numbers.
    """
    blame = f"mend the rule {shared.rule!r}" if shared.rule else "mend the rule"
    balance = 0
    for member, net in zip(meters.members, meters.net_wh, strict=True):
        wh = shared.local_wh.get(member, 0)
        if not 0 <= wh <= abs(net):
            raise MarketError(f"member {member!r} with {net} Wh has {wh} Wh of local energy", remedy=blame)
        balance += wh if net > 0 else -wh
    if balance:
        raise MarketError(f"local energy bought minus sold is {balance} Wh", remedy=blame)
    total = sum(shared.payments.values(), Fraction(0)) - shared.retailer_u
    if total != shared.surplus_u:
        raise MarketError(f"payments minus the retailer's bill are {total}, not {shared.surplus_u}", remedy=blame)
