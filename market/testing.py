"""The conformance kit for rules: ``check_rule(MyRule)`` in a plug-in's own tests.

It tries awkward and random books (or meters) and raises ``AssertionError`` with the book in hand when a law of
market-rules 0.6, or a property the rule declares, is broken, or when the rule raises. What is declared is tried, never
proved: `market.registry.Declares` says which properties are. Deterministic: equal arguments try equal books.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from core.errors import MarketError
from core.keyed_random import keyed_generator
from market.book import Book, BookBatch, Context, Meters
from market.crossing import cross
from market.facade import clear, share_meters
from market.misreports import gainful_misreport, other_prices, other_quantities, small_books, small_contexts
from market.orders import Order
from market.promises import check_promises
from market.registry import BidRule, MeterRule, Rule, make_rule
from market.result import BatchClearing, BatchSharing, Result, Shared
from market.rules.by_slot import guarded, network_part
from market.testing_books import (
    HUGE_WH,
    INDIVISIBLE,
    Tried,
    awkward_books,
    awkward_meters,
    order,
    placed,
    random_book,
    random_feeder,
    tried_books,
)

T = TypeVar("T")

__all__ = [
    "CheckReport",
    "awkward_books",
    "awkward_meters",
    "batch_row",
    "check_rule",
    "order",
    "random_book",
    "result_row",
    "shared_batch_row",
    "shared_row",
]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was tried: checks by name -> number of books; ``skipped`` books the rule is not applicable to."""

    rule: str
    checks: Mapping[str, int]
    skipped: int


class _Count:
    def __init__(self) -> None:
        self.checks: dict[str, int] = {}
        self.skipped = 0

    def ok(self, name: str, truth: bool, message: Callable[[], str]) -> None:
        self.checks[name] = self.checks.get(name, 0) + 1
        if not truth:
            raise AssertionError(f"{name}: {message()}")


def check_rule(rule: str | Rule | type[Rule], *, seed: int = 0, books: int = 60, **parameters: Any) -> CheckReport:
    """Check a rule against the laws of every result and against what it declares.

    Parameters
    ----------
    rule
        A registered name, a rule class, or a rule with its parameters.
    seed, books
        Key and number of the random books tried beside the awkward ones.
    **parameters
        The rule's parameters.

    Returns
    -------
    CheckReport

    Raises
    ------
    AssertionError
        Naming the property and the book that refutes it, also where the rule raises.
    """
    ready = make_rule(rule, parameters)
    count = _Count()
    if isinstance(ready, BidRule):
        _check_bids(ready, count, seed, books)
    elif isinstance(ready, MeterRule):
        _check_meters(ready, count, seed, books)
    return CheckReport(ready.name, count.checks, count.skipped)


def _tried(step: Callable[[], T], book: Callable[[], object]) -> T:
    """``step()``; a broken law and an exception of the rule are failures, told with the book."""
    try:
        return step()
    except MarketError as error:
        own = error.__cause__ is not None and not isinstance(error.__cause__, MarketError)
        name = "the rule raises" if own else "laws of every result"
        raise AssertionError(f"{name}: {error}\n{book()}") from error


def _clear(rule: BidRule, orders: list[Order], context: Context) -> Result:
    return _tried(lambda: clear(rule, orders, context=context), lambda: f"{orders}\n{context}")


def _clear_if_fit(rule: BidRule, orders: list[Order], context: Context) -> Result | None:
    return _clear(rule, orders, context) if _applies(rule, orders, context) else None


# --- rules that take orders -------------------------------------------------------------------------------------------


def _check_bids(rule: BidRule, count: _Count, seed: int, books: int) -> None:
    rng = keyed_generator(seed, "check_rule", rule.name)
    batches: dict[tuple[str, bool, bool], list[Tried]] = {}
    for one in list(tried_books(rule, rng, books)):
        orders, context = one.orders, one.context
        if not _applies(rule, orders, context):
            count.skipped += 1
            continue
        result = _cleared(rule, orders, context, count)
        _check_agents(rule, orders, result, count)
        _check_efficiency(rule, orders, context, result, count)
        _check_same(rule, orders, context, result, count, rng)
        batches.setdefault(one.batch, []).append(one)
    for together in batches.values():
        _check_batch(rule, together, count)
    _check_truth(rule, count, seed)


def _applies(rule: BidRule, orders: list[Order], context: Context) -> bool:
    book = Book.from_orders(orders)
    reason = _tried(lambda: guarded(rule, context.slot, rule.applicable, book, context), lambda: f"{orders}\n{context}")
    return reason is None


def _cleared(rule: BidRule, orders: list[Order], context: Context, count: _Count) -> Result:
    """Energy balance and sums are checked by `clear` itself; here they are counted, and breaking them is a failure."""
    result = _clear(rule, orders, context)
    count.ok("energy balance and sums", True, str)
    surplus = Fraction(result.surplus_u)
    budget = rule.declares.budget
    sound = {"strong": surplus == 0, "weak": surplus >= 0, "deficit": surplus <= 0, "none": True}[budget]
    count.ok(f"budget {budget}", sound, lambda: f"operator keeps {surplus}\n{orders}\n{context}")
    return result


def _check_agents(rule: BidRule, orders: list[Order], result: Result, count: _Count) -> None:
    """Indivisible orders trade wholly or not at all; nobody pays more than it bid for, nor gets less than it asked."""
    for o in orders:
        if o.flags & INDIVISIBLE:
            filled = result.fills.get(o.order_id, 0)
            count.ok("all or nothing", filled in (0, o.e_wh), lambda o=o, x=filled: (  # type: ignore[misc]
                f"{x} Wh of {o}\n{orders}"))  # fmt: skip
    if not rule.declares.ir:
        return
    value: dict[str, Fraction] = {}
    for o in orders:
        gain = Fraction(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), 1000)
        value[o.agent_id] = value.get(o.agent_id, Fraction(0)) + gain + result.premiums.get(o.order_id, 0)
    for agent, gain in value.items():
        paid = result.payments.get(agent, 0)
        count.ok("individual rationality", gain >= paid, lambda a=agent, g=gain, p=paid: (  # type: ignore[misc]
            f"{a} values its fills at {g} and pays {p}\n{orders}"))  # fmt: skip


def _check_efficiency(rule: BidRule, orders: list[Order], context: Context, result: Result, count: _Count) -> None:
    """The fills, and not only what the result says of them, reach W*; with blocks, which may not, no more than W*."""
    if not rule.declares.efficient:
        return
    blocks = any(o.flags & INDIVISIBLE for o in orders)
    reached = sum(int(o.side) * o.price_u * result.fills.get(o.order_id, 0) for o in orders)
    if context.in_book:
        retail, feed_in = context.retailer_prices()
        reached += feed_in * result.export_wh - retail * result.import_wh
    best = cross(Book.from_orders(orders), context).welfare_u
    reached_u = Fraction(reached, 1000)
    sound = reached_u == result.welfare_u and (reached_u == best or (blocks and reached_u < best))
    count.ok("efficient", sound, lambda: (
        f"the fills are worth {reached_u}, the result says {result.welfare_u}, W* is {best}\n"
        f"{orders}\n{context}"))  # fmt: skip


def _check_truth(rule: BidRule, count: _Count, seed: int) -> None:
    """Nobody gains by another price or quantity in tiny books, where the rule declares so."""
    declared = {
        "truthful price": (rule.declares.truthful_price, other_prices),
        "truthful quantity": (rule.declares.truthful_quantity, other_quantities),
    }
    searched = [(name, reports) for name, (claimed, reports) in declared.items() if claimed]
    if not searched:
        return
    rng = keyed_generator(seed, "misreports", rule.name)
    wires = random_feeder(rng, base=True) if rule.declares.needs_network else None
    for book in small_books(rng):
        orders = placed(book, wires)
        for context in (replace(c, feeder=wires) for c in small_contexts()):
            if not _applies(rule, orders, context):
                continue
            for name, reports in searched:
                found = gainful_misreport(lambda b, c=context: _clear_if_fit(rule, b, c), orders, reports)  # type: ignore[misc]
                count.ok(name, found is None, lambda f=found, o=orders, c=context: f"{f}\n{o}\n{c}")  # type: ignore[misc]


def _check_same(
    rule: BidRule, orders: list[Order], context: Context, result: Result, count: _Count, rng: np.random.Generator
) -> None:
    """Determinism, unchanged input, order of the list, scaling of quantities."""
    before = list(orders)
    again = _clear(rule, orders, context)
    count.ok("determinism", again == result, lambda: f"two runs differ\n{orders}\n{context}")
    count.ok("input unchanged", before == orders, lambda: f"the book was changed\n{before}\n{orders}")
    mixed = [orders[i] for i in rng.permutation(len(orders))]
    shuffled = _clear(rule, mixed, context)
    count.ok("permutation", shuffled == result, lambda: f"the order of the list matters\n{orders}\n{context}")
    if rule.declares.scales:
        scaled = _clear(rule, [replace(o, e_wh=1000 * o.e_wh) for o in orders], context)
        # whole watt-hours move by less than one when shares are rational; volume, welfare and price scale exactly
        same = (scaled.volume_wh, scaled.welfare_u, scaled.price) == (
            1000 * result.volume_wh, 1000 * result.welfare_u, result.price)  # fmt: skip
        count.ok("scaling", same, lambda: f"1000 times the energy is another market\n{orders}\n{context}")


def _check_batch(rule: BidRule, together: list[Tried], count: _Count) -> None:
    """``clear_batch`` equals ``clear`` slot by slot; ids share columns, so arrival must be equal across slots."""
    first = 40
    books = [[replace(o, t=len(o.order_id) + ord(o.order_id[0])) for o in one.orders] for one in together]
    contexts = [replace(one.context, slot=first + s) for s, one in enumerate(together)]
    batch = BookBatch.of(books, first_slot=first, contexts=contexts)
    cleared = _cleared_batch(rule, batch, books)
    for s in range(batch.n_slots):
        book, context, columns = batch.row(s)
        result = _tried(lambda b=book, c=context: guarded(rule, c.slot, rule.clear, b, c), lambda b=book: b)  # type: ignore[misc]
        count.ok("clear == clear_batch", batch_row(cleared, s, book, columns) == result_row(result, book),
                 lambda s=s, b=book: f"slot {s} differs\n{b}")  # type: ignore[misc]  # fmt: skip
        part = cleared.network_num
        if part is not None or rule.surplus_to == "network":
            kept = cleared.pay_num[s].sum() + cleared.retailer_num[s] if part is None else part[s]
            same = Fraction(int(kept), int(cleared.pay_den[s])) == network_part(rule, result)
            count.ok("the network's part", same, lambda s=s, b=book: f"slot {s} differs\n{b}")  # type: ignore[misc]
    _tried(lambda: check_promises(rule, batch, cleared), lambda: books)
    count.ok("promises of every slot", True, str)


def _cleared_batch(rule: BidRule, batch: BookBatch, books: list[list[Order]]) -> BatchClearing:
    """Many slots at once; where that raises, the first slot that does so alone is told."""

    def step(part: BookBatch) -> BatchClearing:
        return guarded(rule, part.first_slot, rule.clear_batch, part)

    try:
        return step(batch)
    except MarketError:
        for s, orders in enumerate(books):
            context = batch.row(s)[1]
            alone = BookBatch.of([orders], first_slot=batch.first_slot + s, contexts=[context])
            _tried(lambda a=alone: step(a), lambda o=orders, c=context: f"{o}\n{c}")  # type: ignore[misc]
        return _tried(lambda: step(batch), lambda: books)


def batch_row(cleared: BatchClearing, s: int, book: Book, columns: list[int]) -> dict[str, Any]:
    """One slot of a batch in the terms of `result_row`."""
    den = int(cleared.pay_den[s])
    names = dict(zip(columns, book.order_ids, strict=True))
    trades: list[tuple[Any, ...]] = []
    if cleared.trades is not None:
        t = cleared.trades
        for k in np.flatnonzero(t.slot == s):
            buy, sell = names.get(int(t.buy_order[k]), "retailer"), names.get(int(t.sell_order[k]), "retailer")
            own = t.price_num if t.seller_num is None else t.seller_num
            at = (Fraction(int(num[k]), int(t.price_den[k])) for num in (t.price_num, own))
            trades.append((buy, sell, int(t.e_wh[k]), *at))
    agents: dict[str, Fraction] = {}
    for c, agent in zip(columns, book.agent_ids, strict=True):
        agents[agent] = agents.get(agent, Fraction(0)) + Fraction(int(cleared.pay_num[s, c]), den)
    premium = cleared.premium_num
    has_price = bool(cleared.has_price[s])
    return {
        "fills": {names[c]: int(cleared.fill_wh[s, c]) for c in columns if cleared.fill_wh[s, c]},
        "payments": {a: p for a, p in agents.items() if p},
        "price": Fraction(int(cleared.price_num[s]), int(cleared.price_den[s])) if has_price else None,
        "trades": trades,
        "import": int(cleared.import_wh[s]),
        "export": int(cleared.export_wh[s]),
        "retailer": Fraction(int(cleared.retailer_num[s]), den),
        "base": 0 if cleared.base_wh is None else int(cleared.base_wh[s]),
        "loss": 0 if cleared.loss_wh is None else int(cleared.loss_wh[s]),
        "premiums": {}
        if premium is None
        else {names[c]: Fraction(int(premium[s, c]), den) for c in columns if premium[s, c]},
    }


def result_row(result: Result, book: Book) -> dict[str, Any]:
    """The comparable part of a single result."""
    agents = set(book.agent_ids)
    return {
        "fills": {x: wh for x, wh in result.fills.items() if wh},
        "payments": {a: Fraction(p) for a, p in result.payments.items() if p and a in agents},
        "price": result.price,
        "trades": [
            (t.buy_id, t.sell_id, t.e_wh, t.price_u, t.price_u if t.seller_price_u is None else t.seller_price_u)
            for t in result.trades
        ],
        "import": result.import_wh,
        "export": result.export_wh,
        "retailer": sum((Fraction(p) for a, p in result.payments.items() if a not in agents), Fraction(0)),
        "base": result.base_wh,
        "loss": result.loss_wh,
        "premiums": {x: Fraction(p) for x, p in result.premiums.items() if p},
    }


# --- rules that take meters -------------------------------------------------------------------------------------------


def _check_meters(rule: MeterRule, count: _Count, seed: int, books: int) -> None:
    rng = keyed_generator(seed, "check_rule", rule.name)
    tried = awkward_meters()
    for _ in range(books):
        tried.append([int(n) for n in rng.integers(-60, 60, int(rng.integers(0, 8)))])
    rows: list[tuple[list[int], int, int]] = []
    for nets in tried:
        feed_in = int(rng.integers(0, 100_000))
        retail = feed_in + int(rng.integers(0, 300_000))
        meters = _meters(nets, retail, feed_in)
        if _tried(lambda m=meters: guarded(rule, 0, rule.applicable, m), lambda m=meters: m) is not None:  # type: ignore[misc]
            count.skipped += 1
            continue
        _shared(rule, meters, count)
        rows.append((nets, retail, feed_in))
    _check_share_batch(rule, [row for row in rows if max(map(abs, row[0]), default=0) < HUGE_WH], count)
    _check_share_batch(rule, [row for row in rows if max(map(abs, row[0]), default=0) >= HUGE_WH], count)


def _meters(nets: list[int], retail: int, feed_in: int, slot: int = 0) -> Meters:
    n = len(nets)
    return Meters(tuple(f"m{i}" for i in range(n)), tuple(nets), (retail,) * n, (feed_in,) * n, slot)


def _share(rule: MeterRule, meters: Meters) -> Shared:
    return _tried(lambda: share_meters(rule, meters), lambda: meters)


def _shared(rule: MeterRule, meters: Meters, count: _Count) -> Shared:
    shared = _share(rule, meters)
    count.ok("energy balance and sums", True, str)
    count.ok("determinism", _share(rule, meters) == shared, lambda: f"two runs differ\n{meters}")
    surplus, budget = Fraction(shared.surplus_u), rule.declares.budget
    sound = {"strong": surplus == 0, "weak": surplus >= 0, "deficit": surplus <= 0, "none": True}[budget]
    count.ok(f"budget {budget}", sound, lambda: f"operator keeps {surplus}\n{meters}")
    if rule.declares.ir:
        for m, paid in shared.payments.items():
            alone = shared.standalone_u[m]
            count.ok("individual rationality", paid <= alone, lambda m=m, p=paid, a=alone: (  # type: ignore[misc]
                f"{m} pays {p}, alone {a}\n{meters}"))  # fmt: skip
    return shared


def _check_share_batch(rule: MeterRule, rows: list[tuple[list[int], int, int]], count: _Count) -> None:
    """``share_batch`` equals ``share`` slot by slot, members outside the market left out."""
    width = max((len(nets) for nets, _, _ in rows), default=0)
    if not width:
        return
    names = [f"m{i}" for i in range(width)]
    named = {m for ids in rule.named_members().values() for m in ids}
    names += sorted(named - set(names))  # members who are outside the market in every slot
    net = np.zeros((len(rows), len(names)), np.int64)
    active = np.zeros(net.shape, np.bool_)
    retail, feed_in = np.zeros(net.shape, np.int64), np.zeros(net.shape, np.int64)
    for s, (nets, r, f) in enumerate(rows):
        net[s, : len(nets)], active[s, : len(nets)] = nets, True
        net[s, len(nets) :] = 999  # readings of members outside the market must not matter
        retail[s], feed_in[s] = r, f
    batch = _tried(
        lambda: guarded(rule, 0, lambda: rule.share_batch(net, retail, feed_in, active, members=names)), lambda: rows
    )
    for s, (nets, r, f) in enumerate(rows):
        single = _share(rule, _meters(nets, r, f, s))
        count.ok("share == share_batch", shared_batch_row(batch, s, names) == shared_row(single, batch.kind),
                 lambda s=s, n=nets: f"slot {s} differs\n{n}")  # type: ignore[misc]  # fmt: skip


def shared_batch_row(batch: BatchSharing, s: int, names: list[str]) -> dict[str, Any]:
    """One slot of a batch in the terms of `shared_row`."""
    den = int(batch.pay_den[s])
    has_price = bool(batch.has_price[s])
    trades: list[tuple[Any, ...]] = []
    if batch.trades is not None:
        t = batch.trades
        for k in np.flatnonzero(t.slot == s):
            pair = names[int(t.buy_order[k])], names[int(t.sell_order[k])]
            trades.append((*pair, int(t.e_wh[k]), Fraction(int(t.price_num[k]), int(t.price_den[k]))))
    return {
        "local": {m: int(wh) for m, wh in zip(names, batch.local_wh[s], strict=True) if wh},
        "payments": {m: Fraction(int(p), den) for m, p in zip(names, batch.pay_num[s], strict=True) if p},
        "retailer": Fraction(int(batch.retailer_num[s]), den),
        "price": Fraction(int(batch.price_num[s]), int(batch.price_den[s])) if has_price else None,
        "trades": trades,
    }


def shared_row(shared: Shared, kind: str) -> dict[str, Any]:
    """The comparable part of a single result; of a contract only the local energy is paid for here."""
    contract = kind == "contract"
    source = shared.diagnostics["local_payments"] if contract else shared.payments
    return {
        "local": {m: wh for m, wh in shared.local_wh.items() if wh},
        "payments": {m: Fraction(p) for m, p in source.items() if p},
        "retailer": Fraction(0) if contract else Fraction(shared.retailer_u),
        "price": shared.diagnostics.get("local_price_u"),
        "trades": [(t.buy_id, t.sell_id, t.e_wh, t.price_u) for t in shared.trades],
    }
