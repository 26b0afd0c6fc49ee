"""Clearing within a radial network's limits, with a price at every node (market-rules 2.18)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Book, BookBatch, Context
from market.crossing import TIE_BREAKS, tie_hash
from market.feeder import Feeder
from market.registry import (
    BidRule,
    Declares,
    choice_parameter,
    flag_parameter,
    integer_parameter,
    parameter,
    register_rule,
)
from market.result import BatchClearing, Prices, Result, book_result
from market.rules._active import price_intervals
from market.rules._nodal_market import LATTICE, PAY_DEN, NodalMarket, SlotResult, checked
from market.rules.by_slot import exact_column

LOSSES = ("none", "factors", "quadratic")


@register_rule
@dataclass(frozen=True, kw_only=True)
class LinDistFlow(BidRule):
    """The welfare optimum that the feeder's lines and voltages allow, at nodal prices (DLMP).

    ``max sum b x - sum a x - r imp + f exp`` over the linearised branch flows of a radial feeder: with retailer in the
    book it sells and buys at node 0 (each up to ``cap_pu[0]``), else the market balances by itself and only the load of
    those outside the market crosses node 0. A price is the dual of a node's balance: what one more kWh there costs,
    with the reactive energy that comes with it. Buyers pay and sellers get it; so does the load outside the market,
    through its supplier (``payments["retailer"]``). What is left, the congestion rent, is never negative and goes to
    the network operator.

    Ties among optima go to earlier orders (or by lot, or are shared among orders that the network treats alike). Prices
    that are not unique lie within ``diagnostics["intervals"]``, in the middle where no limit binds, so that the outcome
    is then that of `uniform_price`. Line capacities count in whole Wh. Fills are whole Wh by largest remainder, prices
    are rounded to thousandths of a micro-currency per kWh and cut off at an order's limit price; where rounding would
    leave the rent negative, both sides' prices move apart by as many thousandths as it takes, then also those of the
    load outside the market, then losses are rounded down. Nothing is paid where no order is filled.

    ``losses``: ``factors`` loses a fixed part of what a line carries, ``r |F| / v0^2`` of the lossless flows;
    ``quadratic`` loses ``r F^2 / v0^2`` of its own flows, found by linear programs in a trust region
    (`market.rules._losses`): the optimum, unless wasting energy would pay at some node. Losses booked are those of what
    is filled; ``diagnostics`` tell the programs solved (``loss_rounds``), how far the last one's losses were off
    (``loss_gap_wh``) and what gain it still promised (``loss_gain_u``). Either needs the retailer in the
    book. If the load outside the market breaks a limit whatever is traded, nothing is traded and
    ``diagnostics["conflict"]`` says which limits cannot be met. With an ``ac_check`` in the context the outcome is
    checked by AC power flow; ``repair`` tightens the limits by the error and clears again, at most five times.

    Source: M. E. Baran & F. F. Wu (1989), IEEE Trans. Power Delivery 4(1), 725-734, linearised; prices as in
    F. C. Schweppe et al. (1988), Spot Pricing of Electricity.
    """

    name: ClassVar[str] = "lindistflow"
    summary: ClassVar[str] = "optimum within the limits of a radial network (linear), nodal prices, rent to the network"
    section: ClassVar[str] = "2.18"
    source: ClassVar[str] = "Baran & Wu 1989"
    surplus_to: ClassVar[str] = "network"
    declares: ClassVar[Declares] = Declares(
        ir=True,
        budget="weak",
        needs_network=True,
        scales=False,
        reveals={"operator": ("limit price", "quantity", "place"), "all": ("prices of the nodes",)},
    )

    tie_break: str = parameter("time", "who is filled among equal prices: time, prorata, or random (by seed)")
    seed: int = parameter(0, "of tie_break random")
    losses: str = parameter("none", "none, factors (fixed parts of the lossless flows) or quadratic (iterated)")
    repair: bool = parameter(False, "tighten limits by what the AC check finds and clear again, at most 5 times")
    power_factor: Any = parameter(1, "of orders that state none in attributes['power_factor']; negative = leading")
    polygon: int = parameter(0, "bound apparent power by a polygon of so many sides; 0 = bound active power alone")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "tie_break", self.tie_break, TIE_BREAKS)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)
        choice_parameter(self.name, "losses", self.losses, LOSSES)
        flag_parameter(self.name, "repair", self.repair)
        integer_parameter(self.name, "polygon", self.polygon, 0, 64)
        if self.polygon in (1, 2, 3):
            raise MarketError(f"{self.name}: parameter polygon is {self.polygon}", remedy="give 0, or 4 to 64 sides")
        if tan_phi(self.power_factor) is None:
            raise MarketError(
                f"{self.name}: parameter power_factor is {self.power_factor!r}", remedy="give a number in (0, 1]"
            )

    def applicable(self, book: Book, context: Context) -> str | None:
        """See `market.registry.BidRule.applicable`."""
        return self._unfit(context.feeder, book.node, book.attributes, context.in_book)

    def _unfit(
        self,
        feeder: Feeder | None,
        node: tuple[str | None, ...],
        attributes: tuple[Mapping[str, Any], ...],
        in_book: bool,
    ) -> str | None:
        if feeder is None:
            return "the context has no feeder (market.feeder.Feeder)"
        if self.losses != "none" and not in_book:
            return "losses have to be bought: put the retailer into the book (backstop 'in_book')"
        for x, more in zip(node, attributes, strict=True):
            if x is None or x not in feeder.index:
                return f"an order's node is {x!r}, which is not on the feeder"
            if tan_phi(more.get("power_factor", self.power_factor)) is None:
                return f"an order's power_factor is {more['power_factor']!r}, not a number in (0, 1]"
        return None

    def _market(
        self, feeder: Feeder, node: tuple[str | None, ...], attributes: tuple[Mapping[str, Any], ...]
    ) -> NodalMarket:
        tan = [tan_phi(more.get("power_factor", self.power_factor)) or 0.0 for more in attributes]
        return NodalMarket(
            feeder,
            np.array([feeder.index[str(x)] for x in node], np.int64),
            np.array(tan, np.float64),
            share_ties=self.tie_break == "prorata",
            losses=self.losses,
            polygon=self.polygon,
        )

    def _priority(
        self, slot: int, t: Sequence[int], seq: Sequence[int], rank: Sequence[int], key: Sequence[int]
    ) -> NDArray[np.int64]:
        """Columns in the order of priority among equal prices (market-rules 0.3)."""
        if self.tie_break != "random":
            return np.lexsort((rank, seq, t)).astype(np.int64)
        drawn = [tie_hash(self.seed, slot, k) for k in key]
        return np.array(sorted(range(len(drawn)), key=lambda i: (drawn[i], rank[i])), np.int64)

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        assert context.feeder is not None, "refused by applicable"
        by_priority = self._priority(context.slot, book.t, book.seq, book.id_rank, book.order_key)
        market = self._market(context.feeder, book.node, book.attributes)
        slot = market.book(
            0,
            np.array([s if e else 0 for s, e in zip(book.side, book.e_wh, strict=True)], np.int8),
            np.array(book.e_wh, np.int64),
            np.array(book.price_u, np.int64),
            context.retailer_prices() if context.in_book else None,
            by_priority,
        )
        done = market.clear(slot)
        if context.ac_check is not None:
            done = checked(market, context.ac_check, [slot], [done], repair=self.repair)[0]
        n = len(book)
        fills = [int(abs(z)) for z in done.z[:n]]
        paid = [Fraction(int(p), PAY_DEN) for p in done.pay_num]
        nodes = context.feeder.nodes
        by_node = {x: Fraction(int(p), LATTICE) for x, p in zip(nodes, done.node_price, strict=True)}
        by_order = {
            x: Fraction(int(p), LATTICE) for x, p, e in zip(book.order_ids, done.price, fills, strict=True) if e
        }
        retailer = Fraction(done.retailer_num, PAY_DEN)
        result = book_result(
            self.name, book, context, fills, paid, retailer_payment=retailer, import_wh=done.import_wh,
            export_wh=done.export_wh, price=by_node[nodes[0]] if done.one_price else None,
            prices=Prices(by_order=by_order, by_node=by_node if done.traded else {}),
            diagnostics=_diagnostics(market, slot, done),
        )  # fmt: skip
        bought, sold = (sum(x for s, x in zip(book.side, fills, strict=True) if s == k) for k in (1, -1))
        return replace(
            _with_supplier(result, retailer),
            base_wh=done.base_wh,
            loss_wh=done.loss_wh,
            volume_wh=min(bought, sold),
            network_u=None,
        )

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots; equal to `clear` slot by slot, and to any cut of the slots into batches."""
        n_slots, n = batch.side.shape
        none: tuple[str | None, ...] = (None,) * n
        node = none if batch.node is None else batch.node
        attributes = ({},) * n if batch.attributes is None else batch.attributes
        if (reason := self._unfit(batch.feeder, node, attributes, batch.in_book)) is not None:
            raise MarketError(f"{self.name}, slot {batch.first_slot}: {reason}", remedy="choose another rule")
        assert batch.feeder is not None, "refused above"
        columns = np.argsort(batch.share_rank(), kind="stable")  # as a book has them
        place = np.empty(n, np.int64)
        place[columns] = np.arange(n)
        at, more = tuple(node[i] for i in columns), tuple(attributes[i] for i in columns)
        market = self._market(batch.feeder, at, more)
        random = self.tie_break == "random"
        t, seq, rank = (column[columns].tolist() for column in (batch.t, batch.seq, batch.order_rank))
        keys = batch.keys()[columns].tolist() if random else t
        books = []
        by_priority = self._priority(0, t, seq, rank, keys)
        for s in range(n_slots):
            if random:
                slot = batch.first_slot + s if batch.slots is None else int(batch.slots[s])
                by_priority = self._priority(slot, t, seq, rank, keys)
            side = np.where(batch.e_wh[s] > 0, batch.side[s], 0).astype(np.int8)[columns]
            tariff = None
            if batch.retail_u is not None and batch.feed_in_u is not None:
                tariff = int(batch.retail_u[s]), int(batch.feed_in_u[s])
            books.append(market.book(s, side, batch.e_wh[s, columns], batch.price_u[s, columns], tariff, by_priority))
        done = [market.clear(book) for book in books]
        if batch.ac_check is not None and self.repair:
            done = checked(market, batch.ac_check, books, done, repair=True)
        return _batch(done, place, n)


def tan_phi(power_factor: Any) -> float | None:
    """Reactive over active power; None where the power factor is no number with a size in (0, 1]."""
    if isinstance(power_factor, bool) or not isinstance(power_factor, (int, float, Fraction)):
        return None
    size = abs(float(power_factor))
    if not 0 < size <= 1:
        return None
    return math.copysign(math.sqrt(1.0 - size**2) / size, power_factor) if size < 1 else 0.0


def _with_supplier(result: Result, retailer: Fraction) -> Result:
    """Without a retailer in the book, the load outside the market still has a supplier, which pays its congestion."""
    if "retailer" in result.payments or not retailer:
        return result
    payments = {**result.payments, "retailer": retailer}
    return replace(result, payments=payments, surplus_u=sum(payments.values(), Fraction(0)))


def _diagnostics(market: NodalMarket, slot: Any, done: SlotResult) -> dict[str, Any]:
    found = dict(done.notes)
    if done.clearing is None:
        return {**found, "conflict": market.conflict(done, slot)}
    names = market.radial.feeder.nodes
    found["binding"] = [
        {"limit": b.kind, "node": names[b.node], "value_u": float(y)}
        for b, y in zip(done.clearing.binding, done.clearing.y[1:], strict=True)
        if b.kind != "near"
    ]
    low, high = price_intervals(done.program, slot, done.clearing)
    found["intervals"] = {x: (float(a), float(b)) for x, a, b in zip(names, low, high, strict=True)}
    _, drop = done.program.radial.state(*market.energies(done, slot))
    found["v_pu"] = {x: float(v) for x, v in zip(names, market.radial.v_pu(drop), strict=True)}
    return found


def _batch(done: list[SlotResult], place: Any, n: int) -> BatchClearing:
    """Columns of many slots, back in the order of the batch."""
    n_slots = len(done)
    columns = [r.pay_num[place] for r in done]
    if all(c.dtype == np.int64 for c in columns):
        pay: Any = np.array(columns, np.int64).reshape(n_slots, n)
    else:
        pay = exact_column([int(p) for c in columns for p in c], (n_slots, n))
    retailer = [r.retailer_num for r in done]
    rent = [int(r.pay_num.sum()) + r.retailer_num for r in done]
    one = np.array([r.one_price for r in done], np.bool_)
    base = np.array([r.base_wh for r in done], np.int64)
    loss = np.array([r.loss_wh for r in done], np.int64)
    price = np.array([int(r.node_price[0]) if is_one else 0 for r, is_one in zip(done, one, strict=True)], np.int64)
    return BatchClearing(
        fill_wh=np.array([np.abs(r.z[:-2])[place] for r in done], np.int64).reshape(n_slots, n),
        price_num=price,
        price_den=np.where(one, LATTICE, 1),
        has_price=one,
        pay_num=pay,
        pay_den=np.full(n_slots, PAY_DEN, np.int64),
        trades=None,
        kind="pool",
        import_wh=np.array([r.import_wh for r in done], np.int64),
        export_wh=np.array([r.export_wh for r in done], np.int64),
        retailer_num=exact_column(retailer, (n_slots,)),
        base_wh=base if base.any() else None,
        loss_wh=loss if loss.any() else None,
        loss_num=exact_column([int(r.node_price[0]) * r.loss_wh for r in done], (n_slots,)) if loss.any() else None,
        network_num=exact_column(rent, (n_slots,)),
    )
