"""Nodal clearing of slots: program, vertex, whole watt-hours, exact money, losses and the AC check with its repair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.feeder import AcCheck, Feeder
from market.rules._ac_repair import ROUNDS, tightened, violations
from market.rules._active import Clearing, pro_rata, recompute, whole
from market.rules._losses import LossModel, LossSearch
from market.rules._nodal import NodalProgram, Optimum, SlotBook, tilts
from market.rules._radial import Float, Int, Limits, Radial

LATTICE = 1000
"""Prices are whole thousandths of a micro-currency per kWh: money is over ``PAY_DEN``."""

PAY_DEN = 1000 * LATTICE

_SAFE = 2**62


@dataclass(frozen=True, slots=True)
class SlotResult:
    """One slot, N order columns: whole Wh, prices and payments on the lattice.

    ``pay_num`` and ``retailer_num`` are over ``PAY_DEN``, prices in thousandths of a micro-currency per kWh.
    """

    z: Int  # (N + 2,) signed Wh, the grid's selling and buying last
    price: Any  # (N,) of each order
    pay_num: Any  # (N,)
    retailer_num: int
    node_price: Int  # (n,)
    base_wh: int
    loss_wh: int
    clearing: Clearing | None  # None = infeasible
    program: NodalProgram
    notes: dict[str, Any] = field(default_factory=dict)
    limits: Limits | None = None  # where nothing is possible: within these

    @property
    def import_wh(self) -> int:
        """Drawn from the grid above [Wh]."""
        return max(-int(self.z[-2:].sum()), 0)

    @property
    def export_wh(self) -> int:
        """Given to the grid above [Wh]."""
        return max(int(self.z[-2:].sum()), 0)

    @property
    def traded(self) -> bool:
        """Whether an order is filled."""
        return bool(self.z[:-2].any())

    @property
    def one_price(self) -> bool:
        """Whether all nodes have the same price."""
        return self.traded and bool((self.node_price == self.node_price[0]).all())


class NodalMarket:
    """A feeder with its orders' places, ready to clear slot after slot.

    Parameters
    ----------
    feeder
        The tree, its base load by slot or not.
    node, tan_phi
        (N,) node of every order column and the reactive energy that comes with its active one.
    share_ties
        Equal orders share pro rata, see `market.rules._active.pro_rata`.
    losses
        ``none``, ``factors`` or ``quadratic``.
    polygon
        See `NodalProgram`.
    """

    def __init__(
        self, feeder: Feeder, node: Int, tan_phi: Float, *, share_ties: bool, losses: str, polygon: int
    ) -> None:
        self.node, self.tan_phi, self.share_ties = node, tan_phi, share_ties
        self.losses = losses
        self.radial = Radial(feeder)
        self.limits = self.radial.limits()
        by_slot = any(base is not None and base.ndim == 2 for base in (feeder.base_p_pu, feeder.base_q_pu))
        self._base = None if by_slot else self.radial.base(0)
        reactive = feeder.base_q_pu is not None and bool(np.any(feeder.base_q_pu))
        self.program = NodalProgram(self.radial, node, tan_phi, polygon, reactive=reactive)

    def book(
        self,
        row: int,
        side: NDArray[np.int8],
        e_wh: Int,
        price_u: Int,
        retailer: tuple[int, int] | None,
        by_priority: Int,
    ) -> SlotBook:
        """One slot as signed columns.

        Parameters
        ----------
        row
            Of the feeder's base load.
        side, e_wh, price_u
            (N,) the orders.
        retailer
            (retail, feed-in), or None where the market has no retailer.
        by_priority
            (N,) columns in the order of priority.
        """
        base_p, base_q = self.radial.base(row) if self._base is None else self._base
        signed = side.astype(np.float64) * e_wh
        cap = float(self.limits.cap_wh[0])
        drawn = float(base_p.sum())
        grid = (-cap, 0.0, 0.0, cap) if retailer is not None else (min(-drawn, 0.0),) * 2 + (max(-drawn, 0.0),) * 2
        prices = (0, 0) if retailer is None else retailer
        return SlotBook(
            low=np.concatenate([np.minimum(signed, 0.0), [grid[0], grid[2]]]),
            high=np.concatenate([np.maximum(signed, 0.0), [grid[1], grid[3]]]),
            price_u=np.concatenate([price_u, prices]).astype(np.int64),
            tilt=tilts(side, by_priority),
            base_p=base_p,
            base_q=base_q,
        )

    def clear(self, book: SlotBook, limits: Limits | None = None) -> SlotResult:
        """Clear one slot within its limits (default: the feeder's own)."""
        kept = self.limits if limits is None else limits
        return self._cleared(book, kept) if self.losses == "none" else self._with_losses(book, kept)

    def _cleared(self, book: SlotBook, limits: Limits) -> SlotResult:
        """Without losses."""
        clearing = self._lossless(book, limits)
        if clearing is None:
            return self._nothing(self.program, book, limits)
        z, _ = whole(clearing, self.program, book)
        return settle(self.program, book, clearing, z, 0)

    def _lossless(self, book: SlotBook, limits: Limits) -> Clearing | None:
        if book.low[-2] == book.high[-2] and abs(book.low[-2] + book.low[-1]) > limits.cap_wh[0]:
            return None
        found = self.program.solve(book, limits)
        return None if found is None else self._afresh(self.program, book, limits, found)

    def _afresh(self, program: NodalProgram, book: SlotBook, limits: Limits, found: Optimum) -> Clearing:
        clearing = recompute(program, book, limits, found)
        if clearing is None:
            again = program.solve(book, limits, general=True)
            clearing = None if again is None else recompute(program, book, limits, again)
        if clearing is None:
            raise MarketError(
                "the solver's optimum is no vertex of the limits it touches",
                remedy="look for impedances or quantities many orders of magnitude apart on the feeder",
            )
        return pro_rata(clearing, program, book, limits) if self.share_ties else clearing

    def _nothing(self, program: NodalProgram, book: SlotBook, limits: Limits) -> SlotResult:
        """No trade: the others' load alone breaks a limit, whatever the market does."""
        n = len(self.node)
        z = np.zeros(n + 2, np.int64)
        base = int(book.base_p.sum())
        z[-2 if base > 0 else -1] = -base
        nil = np.zeros(n, np.int64)
        nodes = np.zeros(self.radial.n, np.int64)
        return SlotResult(z, nil, nil, 0, nodes, base, 0, None, program, {"feasible": False}, limits)

    def conflict(self, result: SlotResult, book: SlotBook) -> list[dict[str, Any]]:
        """Which limits an infeasible slot cannot meet."""
        fixed = float(book.low[-2] + book.low[-1]) if book.low[-2] == book.high[-2] else 0.0
        limits = self.limits if result.limits is None else result.limits
        over = abs(fixed) - float(limits.cap_wh[0])
        if over > 0:
            return [{"limit": "exchange", "node": self.radial.feeder.nodes[0], "excess": over}]
        return result.program.conflict(book, limits)

    def _with_losses(self, book: SlotBook, limits: Limits) -> SlotResult:
        """Clear with losses, from the lossless clearing on."""
        first = self._lossless(book, limits)
        if first is None:
            return self._nothing(self.program, book, limits)
        per_wh, nil = self.radial.loss_coefficient(), np.zeros(self.radial.n)
        flow = (self.program.of_orders(first.z) + self.program.of_base(book))[: self.radial.n]
        fixed = self.losses == "factors"
        model = LossModel(nil if fixed else per_wh, per_wh * np.abs(flow) if fixed else nil, np.sign(flow))
        search = LossSearch(self.program, model, book, limits)
        found = search.run(first.z)
        if found.vertex is None:
            return self._nothing(found.program, book, limits)
        clearing = self._afresh(found.program, book, found.limits, found.vertex)
        loss = round(search.look(clearing.z).loss)
        z, booked = whole(clearing, found.program, book, loss)
        after = round(search.look(z.astype(np.float64)).loss)
        if after != booked:  # whole Wh lose a little more or less
            z, booked = whole(clearing, found.program, book, after)
        notes = {"loss_rounds": found.rounds, "loss_gap_wh": found.gap_wh, "loss_gain_u": found.gain / 1000.0}
        alone = round(search.look(np.zeros(len(z))).loss)
        result = settle(found.program, book, clearing, z, booked, alone)
        return replace(result, notes={**result.notes, **notes})

    def energies(self, result: SlotResult, book: SlotBook) -> tuple[Float, Float]:
        """(n,) net energy [Wh] and reactive energy [varh] of every node, the others' load included."""
        n = len(self.node)
        p = np.bincount(self.node, result.z[:n].astype(np.float64), self.radial.n) + book.base_p.astype(np.float64)
        return np.asarray(p, np.float64), np.bincount(
            self.node, result.z[:n] * self.tan_phi, self.radial.n
        ) + book.base_q


def settle(
    program: NodalProgram, book: SlotBook, clearing: Clearing, z: Int, loss_wh: int, alone_wh: int = 0
) -> SlotResult:
    """Prices on the lattice and exact payments: nobody worse off than its limit, the rent never negative.

    ``alone_wh`` are the losses if nobody trades.
    """
    n = len(z) - 2
    node_price = np.rint(clearing.node_price * LATTICE).astype(np.int64)
    base_wh = int(book.base_p.sum())
    nil = np.zeros(n, np.int64)
    if not z[:n].any():  # nothing is traded, nothing is paid
        return SlotResult(z, nil, nil, 0, node_price, base_wh, loss_wh, clearing, program, notes={"feasible": True})
    energy, buys = z[:n], book.high[:n] > 0
    wanted, limit = np.rint(clearing.price[:n] * LATTICE).astype(np.int64), book.price_u[:n] * LATTICE
    others, spread = _of_others(book, clearing, z, node_price), int(np.abs(book.base_p).sum())
    largest = int(np.abs(wanted).max(initial=1)) + int(np.abs(limit).max(initial=1))
    if largest * (int(np.abs(energy).max(initial=1)) + 1) * (n + 1) >= _SAFE:
        energy, wanted, limit = energy.astype(object), wanted.astype(object), limit.astype(object)

    def at(step: int) -> Any:
        apart = np.where(buys, wanted + step, wanted - step) if step else wanted
        return np.where(buys, np.minimum(apart, limit), np.maximum(apart, limit))

    def rent(more: int, share: int, step: int) -> int:
        return int((energy * at(step)).sum()) + more + share * step

    # rounding may leave the rent negative: then prices move apart, then also those of the load outside the market, then
    # losses are rounded down
    for less, share in ((0, 0), (0, spread), (1, spread), (2, spread)):
        grid = -2 if -z[-2] >= less else -1
        more = others + less * int(book.price_u[grid]) * LATTICE
        step = _least(partial(rent, more, share), largest // 100 if share else 2**40)
        if step is not None and less <= loss_wh and z[grid] + less <= book.high[grid]:
            break
    else:  # fractions of a Wh that are worth nothing once whole
        drawn = base_wh + alone_wh
        back = np.zeros_like(z)
        back[-2 if drawn > 0 else -1] = -drawn
        none = {"feasible": True, "worthless": True}
        return SlotResult(back, nil, nil, 0, node_price, base_wh, alone_wh, clearing, program, notes=none)
    z[grid] += less
    price = np.where(energy != 0, at(step), 0)
    return SlotResult(
        z, price, energy * price, more + share * step, node_price, base_wh, loss_wh - less, clearing, program,
        notes={"feasible": True, "price_step": step},
    )  # fmt: skip


def _of_others(book: SlotBook, clearing: Clearing, z: Int, node_price: Int) -> int:
    """What the load outside the market and the grid pay, over ``PAY_DEN``."""
    loaded = np.flatnonzero(book.base_p)
    others: int = sum(p * e for p, e in zip(node_price[loaded].tolist(), book.base_p[loaded].tolist(), strict=True))
    if book.base_q.any():
        others += round(float((clearing.node_price_q * book.base_q).sum()) * LATTICE)
    bought, sold = int(z[-1]), int(z[-2])
    if book.low[-2] != book.high[-2] or book.low[-1] != book.high[-1]:  # a retailer
        return others + LATTICE * (sold * int(book.price_u[-2]) + bought * int(book.price_u[-1]))
    return others + (sold + bought) * int(node_price[0])


def _least(rent: Callable[[int], int], most: int) -> int | None:
    """The smallest step of the lattice, up to ``most``, by which prices have to move apart for no negative rent."""
    if rent(0) >= 0:
        return 0
    if rent(most) < 0:
        return None
    low, high = 0, 1
    while rent(high) < 0:
        low, high = high, min(4 * high, most)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rent(middle) >= 0 else (middle, high)
    return high


def checked(
    market: NodalMarket, check: AcCheck, books: Sequence[SlotBook], results: list[SlotResult], *, repair: bool
) -> list[SlotResult]:
    """Results after an AC power flow of what was cleared, repaired where asked for; notes tell what it found."""
    feeder, n = market.radial.feeder, market.radial.n
    limits = dict.fromkeys(range(len(books)), market.limits)
    open_ = [s for s, r in enumerate(results) if r.clearing is not None]
    out = list(results)
    first: dict[int, list[dict[str, Any]]] = {}
    for round_ in range(ROUNDS + 1):
        if not open_:
            break
        drawn = [market.energies(out[s], books[s]) for s in open_]
        flow = check(np.array([p for p, _ in drawn]).reshape(-1, n), np.array([q for _, q in drawn]).reshape(-1, n))
        again: list[int] = []
        for k, s in enumerate(open_):
            left = violations(feeder, flow, k)
            first.setdefault(s, left)
            ac = {"rounds": round_, "violations": first[s], "left": left}
            out[s] = replace(out[s], notes={**out[s].notes, "ac": ac})
            if left and repair and round_ < ROUNDS:
                limits[s] = tightened(market.radial, limits[s], flow, k, drawn[k])
                better = market.clear(books[s], limits[s])
                if better.clearing is None:  # the others' load leaves no room: keep what there was
                    continue
                out[s] = replace(better, notes={**better.notes, "ac": ac})
                again.append(s)
        open_ = again
    return out
