"""Nodal clearing of slots: program, vertex, whole watt-hours, exact money, losses and the AC check with its repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.feeder import AcCheck, Feeder
from market.rules._ac_repair import ROUNDS, tightened, violations
from market.rules._active import Clearing, pro_rata, recompute, whole
from market.rules._nodal import NodalProgram, SlotBook, tilts
from market.rules._radial import Float, Int, Limits, Losses, Radial, times

LATTICE = 1000
"""Prices are whole thousandths of a micro-currency per kWh: money is over ``PAY_DEN``."""

PAY_DEN = 1000 * LATTICE

LOSS_ROUNDS = 25
"""Linearisations of quadratic losses, at most."""

SAME_FLOW_WH = 0.5
"""Losses are settled when no flow moves further than this between two linearisations."""

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
        self.losses, self.polygon = losses, polygon
        self.radial = Radial(feeder)
        self.limits = self.radial.limits()
        by_slot = any(base is not None and base.ndim == 2 for base in (feeder.base_p_pu, feeder.base_q_pu))
        self._base = None if by_slot else self.radial.base(0)
        self.reactive = feeder.base_q_pu is not None and bool(np.any(feeder.base_q_pu))
        self.program = self._program(self.radial)

    def _program(self, radial: Radial) -> NodalProgram:
        return NodalProgram(radial, self.node, self.tan_phi, self.polygon, reactive=self.reactive)

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
        if self.losses == "none":
            return self._cleared(self.program, book, kept)
        return self._with_losses(book, kept)

    def _cleared(self, program: NodalProgram, book: SlotBook, limits: Limits) -> SlotResult:
        fixed = float(book.low[-2] + book.low[-1]) if book.low[-2] == book.high[-2] else 0.0
        if abs(fixed) > limits.cap_wh[0]:
            excess = {
                "limit": "exchange",
                "node": program.radial.feeder.nodes[0],
                "excess": abs(fixed) - limits.cap_wh[0],
            }
            return self._nothing(program, book, [excess])
        found = program.solve(book, limits)
        if found is None:
            return self._nothing(program, book, program.conflict(book, limits))
        clearing = recompute(program, book, limits, found)
        if clearing is None:
            again = program.solve(book, limits, cold=True)
            clearing = None if again is None else recompute(program, book, limits, again)
        if clearing is None:
            raise MarketError(
                "the solver's optimum is no vertex of the limits it touches",
                remedy="look for impedances or quantities many orders of magnitude apart on the feeder",
            )
        if self.share_ties:
            clearing = pro_rata(clearing, program, book, limits)
        z, loss_wh = whole(clearing, program, book)
        return settle(program, book, clearing, z, loss_wh)

    def _nothing(self, program: NodalProgram, book: SlotBook, conflict: list[dict[str, Any]]) -> SlotResult:
        """No trade: the others' load alone breaks a limit, whatever the market does."""
        n = len(self.node)
        z = np.zeros(n + 2, np.int64)
        base = int(book.base_p.sum())
        z[-2 if base > 0 else -1] = -base
        nil = np.zeros(n, np.int64)
        notes = {"feasible": False, "conflict": conflict}
        return SlotResult(z, nil, nil, 0, np.zeros(self.radial.n, np.int64), base, 0, None, program, notes)

    def _with_losses(self, book: SlotBook, limits: Limits) -> SlotResult:
        """Clear with losses linearised around the flows of the clearing before, the lossless one first."""
        radial, per_wh = self.radial, self.radial.loss_coefficient()
        result = self._cleared(self.program, book, limits)
        if result.clearing is None:
            return result
        at = flow = self._flow(result, book)
        factor = per_wh * np.abs(at)
        gap, rounds = np.inf, 0
        while rounds < LOSS_ROUNDS:
            if self.losses == "factors":
                losses = Losses(np.zeros(radial.n), factor * np.sign(at))
            else:
                losses = Losses(-per_wh * at**2, 2.0 * per_wh * at)
            rounds += 1
            result = self._cleared(self._program(Radial(radial.feeder, losses)), book, limits)
            if result.clearing is None:
                break
            flow = self._flow(result, book)
            gap = float(np.abs(flow - at).max(initial=0.0))
            if gap <= SAME_FLOW_WH or (self.losses == "factors" and (np.sign(flow) * at >= 0).all()):
                break
            at = flow if rounds < 3 else at + (flow - at) / (rounds - 1)  # damped: vertices jump
        return replace(result, notes={**result.notes, "loss_rounds": rounds, "loss_gap_wh": gap})

    def _flow(self, result: SlotResult, book: SlotBook) -> Float:
        radial = result.program.radial
        drawn = np.bincount(result.program.node, result.z, radial.n) + radial.drawn(book.base_p)
        return times(radial.carries, drawn)

    def energies(self, result: SlotResult, book: SlotBook) -> tuple[Float, Float]:
        """(n,) net energy [Wh] and reactive energy [varh] of every node, the others' load included."""
        n = len(self.node)
        p = np.bincount(self.node, result.z[:n].astype(np.float64), self.radial.n) + book.base_p.astype(np.float64)
        return np.asarray(p, np.float64), np.bincount(
            self.node, result.z[:n] * self.tan_phi, self.radial.n
        ) + book.base_q


def settle(program: NodalProgram, book: SlotBook, clearing: Clearing, z: Int, loss_wh: int) -> SlotResult:
    """Prices on the lattice and exact payments: nobody worse off than its limit, the rent never negative."""
    n = len(z) - 2
    side = np.where(book.high[:n] > 0, 1, -1)
    node_price = np.rint(clearing.node_price * LATTICE).astype(np.int64)
    base_wh = int(book.base_p.sum())
    wanted = np.rint(clearing.price[:n] * LATTICE).astype(np.int64)
    limit = book.price_u[:n] * LATTICE
    loaded = np.flatnonzero(book.base_p)
    others = sum(int(p) * int(e) for p, e in zip(node_price[loaded], book.base_p[loaded], strict=True))
    others += round(float((clearing.node_price_q * book.base_q).sum()) * LATTICE)
    with_retailer = book.low[-2] != book.high[-2] or book.low[-1] != book.high[-1]
    for k in (n, n + 1):
        others += int(z[k]) * (int(book.price_u[k]) * LATTICE if with_retailer else int(node_price[0]))
    energy = z[:n]
    largest = int(np.abs(wanted).max(initial=1)) + int(np.abs(limit).max(initial=1))
    if largest * (int(np.abs(energy).max(initial=1)) + 1) * (n + 1) >= _SAFE:
        energy, wanted, limit = energy.astype(object), wanted.astype(object), limit.astype(object)

    buys = side > 0

    def at(step: int) -> Any:
        apart = np.where(buys, wanted + step, wanted - step) if step else wanted
        return np.where(buys, np.minimum(apart, limit), np.maximum(apart, limit))

    def rent(step: int) -> int:
        return int((energy * at(step)).sum()) + others

    if not energy.any():  # nothing is traded, nothing is paid
        nil = np.zeros(n, np.int64)
        return SlotResult(z, nil, nil, 0, node_price, base_wh, loss_wh, clearing, program, {"feasible": True})
    step = _least(rent)
    if step is None:  # fractions of a Wh that are worth nothing once whole
        back = z.copy()
        back[:n] = 0
        back[-2:] = 0
        back[-2 if base_wh + loss_wh > 0 else -1] = -(base_wh + loss_wh)
        nil = np.zeros(n, np.int64)
        none = {"feasible": True, "worthless": True}
        return SlotResult(back, nil, nil, 0, node_price, base_wh, loss_wh, clearing, program, none)
    price = np.where(energy != 0, at(step), 0)
    notes: dict[str, Any] = {"feasible": True, "price_step": step}
    return SlotResult(z, price, energy * price, others, node_price, base_wh, loss_wh, clearing, program, notes)


def _least(rent: Any) -> int | None:
    """The smallest step of the lattice by which both sides' prices move apart, so that the rent is not negative."""
    if rent(0) >= 0:
        return 0
    high = 1
    while rent(high) < 0:
        high *= 4
        if high > 2**40:
            return None
    low = high // 4
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
