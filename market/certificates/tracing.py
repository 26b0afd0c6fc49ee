"""Where every Wh comes from: certificates follow the energy through batteries, neighbours and the supplier.

Model (market-rules 2.23, 2.28; `docs/origin.md`). Each Wh that a device generates is one certificate of the device's
type. Behind a meter own generation serves consumption first, then charging, then what is fed in; own storage serves
what is left in the same order. What neighbours delivered carries the certificates of what they fed in; the rest of an
import carries the supplier's mix. A store holds a mix; charging adds to it, discharging, losses and self-discharge draw
from it, pro rata or first in, first out. All energies are whole Wh, parts by largest remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.certificates import _kernels as kernels
from market.rounding import is_small, round_pool

Int = NDArray[np.int64]

ACCOUNT = ("opened", "made", "supplied", "consumed", "exported", "lost", "held", "passed")
"""Columns of the district's account of an origin in a slot; see `TracedOrigins`."""

WAYS = ("own", "battery", "neighbours")
"""Ways by which consumption was met; the supplier did the rest."""

PPM = kernels.PPM
"""Shares of a mix are in millionths and sum to this."""

FIFO_LOTS = 1024
"""Lots that a first-in-first-out store keeps apart; beyond them the newest take up what comes."""


@dataclass(frozen=True, slots=True)
class OriginSetup:
    """What does not change about the origins of a district of B buildings.

    ``names``: the O origins. ``kind`` (B,): origin of what the building's devices generate. ``mix_ppm`` (B + 1, O): mix
    of each building's supplier in millionths, each row summing to `PPM`; the last row is the residual mix, which covers
    network losses and energy bought without its certificate. ``unknown``: origin of what stood in stores before.
    ``store`` (B,): position of the building's store or -1. ``rank`` (B,): position of its id in ASCII order.
    """

    names: tuple[str, ...]
    kind: Int
    mix_ppm: Int
    unknown: int
    store: Int
    rank: Int
    fifo: bool = False
    bundled: bool = True

    def __post_init__(self) -> None:
        size = len(self.names)
        if self.mix_ppm.shape != (len(self.kind) + 1, size) or (self.mix_ppm < 0).any():
            raise MarketError(f"mixes of shape {self.mix_ppm.shape} do not fit {len(self.kind)} buildings, or negative")
        sums = self.mix_ppm.sum(axis=1)
        if (sums != PPM).any():
            row = int(np.flatnonzero(sums != PPM)[0])
            raise MarketError(f"the mix of row {row} sums to {int(sums[row])} ppm, not to {PPM}")

    @property
    def lots_per_store(self) -> int:
        """One for a store that is pro rata."""
        return FIFO_LOTS if self.fifo else 1

    def initial(self) -> OriginState:
        """Stores without content: what is in them when the first slot opens is booked there, of unknown origin."""
        stores, size = int((self.store >= 0).sum()), len(self.names)
        lots = np.zeros((stores, self.lots_per_store, size), np.int64)
        return OriginState(lots, np.zeros((stores, 2), np.int64), np.zeros_like(self.mix_ppm))


@dataclass(frozen=True, slots=True)
class OriginState:
    """What is carried from window to window: lots (K, L, O) in stores [Wh], their rings (K, 2), remainders of mixes."""

    lots: Int
    ring: Int
    carry: Int

    def checkpoint(self) -> dict[str, Int]:
        """As arrays."""
        return {"lots": self.lots, "ring": self.ring, "carry": self.carry}

    @classmethod
    def restore(cls, arrays: Mapping[str, Int]) -> OriginState:
        """The state that `checkpoint` gave."""
        return cls(arrays["lots"], arrays["ring"], arrays["carry"])


@dataclass(frozen=True, slots=True)
class LocalTrades:
    """Trades between named neighbours, ascending by ``slot`` of the window; columns (T,)."""

    slot: Int
    buyer: Int
    seller: Int
    e_wh: Int

    @classmethod
    def none(cls) -> LocalTrades:
        """No trades: what neighbours exchange goes through a pool."""
        return cls(*(np.zeros(0, np.int64) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class EnergyFlows:
    """Energies of a window, whole Wh >= 0, (S, B) unless said otherwise.

    ``use_wh`` consumption; ``made_wh`` generation; ``charge_wh``, ``discharge_wh`` of stores at their AC terminals;
    ``gained_wh``, ``drawn_wh``, ``leaked_wh`` in the store; ``stored_wh`` in it at the slot's start. ``bought_wh`` and
    ``sold_wh``: local positions, of which as much counts as was drawn and fed in. ``loss_wh`` (S,) of the network.
    """

    use_wh: Int
    made_wh: Int
    charge_wh: Int
    discharge_wh: Int
    gained_wh: Int
    drawn_wh: Int
    leaked_wh: Int
    stored_wh: Int
    bought_wh: Int
    sold_wh: Int
    loss_wh: Int
    trades: LocalTrades


@dataclass(frozen=True, slots=True)
class TracedOrigins:
    """Origins of a window [Wh].

    ``consumed_wh`` (S, B, O): the certificates cancelled for what a building consumed; sums to its consumption.
    ``ways_wh`` (S, B, 3): how much of it came by each of `WAYS`. ``account_wh`` (S, 8, O): the district by `ACCOUNT`
    and origin: opened (stood in stores, origin unknown), made, supplied, consumed (cancelled), exported (handed to the
    retailer), lost (in stores and the network), held (in stores at the slot's end), passed (between neighbours).
    """

    consumed_wh: Int
    ways_wh: Int
    account_wh: Int


def trace(setup: OriginSetup, state: OriginState, flows: EnergyFlows) -> tuple[TracedOrigins, OriginState]:
    """Follow the energy of a window; the state is returned anew, so that windows may be cut anywhere.

    Raises
    ------
    MarketError
        If energies are negative or too big, or a law of conservation does not hold.
    """
    _check_input(flows)
    if flows.charge_wh[:, setup.store < 0].any() or flows.discharge_wh[:, setup.store < 0].any():
        raise MarketError("origins: a building without a store charges or discharges")
    n_slots, n = flows.use_wh.shape
    pair_wh, delivered, received = local_delivery(flows, setup.rank)
    trades = flows.trades
    size, depth = len(setup.names), setup.lots_per_store
    used = np.zeros((n_slots, n, size), np.int64)
    ways = np.zeros((n_slots, n, len(WAYS)), np.int64)
    account = np.zeros((n_slots, len(ACCOUNT), size), np.int64)
    planes = (flows.use_wh, flows.made_wh, flows.charge_wh, flows.discharge_wh, flows.gained_wh, flows.drawn_wh,
              flows.leaked_wh, flows.stored_wh)  # fmt: skip
    *_, mixes, carried, lots = kernels.rows_of(n)
    table = np.zeros((lots + len(state.ring) * depth, size), np.int64)
    table[mixes:carried], table[carried:lots], table[lots:] = setup.mix_ppm, state.carry, state.lots.reshape(-1, size)
    ring = state.ring.copy()
    kernels.trace_slots(
        table, np.stack(planes), setup.kind, setup.unknown, setup.bundled, setup.store, ring, depth,
        np.ascontiguousarray(flows.loss_wh), delivered, received, np.argsort(setup.rank, kind="stable"),
        np.searchsorted(trades.slot, np.arange(n_slots + 1)), trades.buyer, trades.seller, pair_wh, used, ways, account,
    )  # fmt: skip
    traced = TracedOrigins(used, ways, account)
    _check_laws(traced, flows, state.lots.sum(axis=(0, 1)))
    return traced, OriginState(table[lots:].reshape(state.lots.shape), ring, table[carried:lots])


def local_delivery(flows: EnergyFlows, rank: Int) -> tuple[Int, Int, Int]:
    """What neighbours delivered to each other: by trade (T,), and through the pool by seller and by buyer (S, B).

    A position counts as far as energy flowed: a seller's up to what it fed in, a buyer's up to what it drew. Where the
    two sides differ, the longer one is cut to the shorter in proportion (largest remainder), so that nothing is
    delivered that nobody received.
    """
    net = flows.use_wh + flows.charge_wh - flows.made_wh - flows.discharge_wh
    have = np.minimum(flows.sold_wh, np.maximum(-net, 0))
    want = np.minimum(flows.bought_wh, np.maximum(net, 0))
    trades = flows.trades
    pair_wh = np.zeros(len(trades.slot), np.int64)
    if len(pair_wh):
        kernels.split_pairs(trades.slot, trades.buyer, trades.seller, trades.e_wh, have, want, pair_wh)
        traded = np.zeros((2, *net.shape), np.int64)
        np.add.at(traded[0], (trades.slot, trades.seller), trades.e_wh)
        np.add.at(traded[1], (trades.slot, trades.buyer), trades.e_wh)
        have, want = np.maximum(have - traded[0], 0), np.maximum(want - traded[1], 0)  # what is left for the pool
    total = np.minimum(have.sum(axis=1), want.sum(axis=1))
    return pair_wh, _cut(have, total, rank), _cut(want, total, rank)


def _cut(wh: Int, total: Int, rank: Int) -> Int:
    """Energies (S, B) brought down to ``total`` (S,) in proportion."""
    rows = np.flatnonzero(wh.sum(axis=1) != total)
    if not len(rows):
        return wh
    part, wanted = wh[rows], total[rows]
    safe = is_small(part, max(int(wanted.max(initial=0)), 1))
    num = part * wanted[:, None] if safe else part.astype(object) * wanted[:, None].astype(object)
    result = wh.copy()
    result[rows] = round_pool(num, part.sum(axis=1), part > 0, rank, wanted)
    return result


def _check_input(flows: EnergyFlows) -> None:
    for name in EnergyFlows.__dataclass_fields__:
        wh = flows.trades.e_wh if name == "trades" else getattr(flows, name)
        if not wh.size:
            continue
        if int(wh.min()) < 0:
            raise MarketError(f"origins: {name} is negative in slot {int(np.argwhere(wh < 0)[0][0])} of the window")
        per_slot = wh.sum(axis=1) if wh.ndim == 2 else wh
        if int(per_slot.max()) > kernels.MAX_WH // 8:
            raise MarketError(f"origins: {name} is beyond what can be traced", remedy="check the units of energies")


def _check_laws(traced: TracedOrigins, flows: EnergyFlows, held: Int) -> None:
    """Law (g) per slot and origin, and consumption met exactly; held is what stores had at the window's start."""
    account = {name: traced.account_wh[:, k] for k, name in enumerate(ACCOUNT)}
    before = np.vstack([held, account["held"][:-1]])
    gap = before + account["opened"] + account["made"] + account["supplied"]
    gap = gap - account["consumed"] - account["exported"] - account["lost"] - account["held"]
    wrong = {
        "certificates created are not those cancelled, held and expired": gap.any(axis=1),
        "a building's origins are not its consumption": (traced.consumed_wh.sum(axis=2) != flows.use_wh).any(axis=1),
        "a part is negative": (traced.account_wh < 0).any(axis=(1, 2)) | (traced.ways_wh < 0).any(axis=(1, 2)),
    }
    for what, slots in wrong.items():
        if slots.any():
            raise MarketError(f"slot {int(np.argmax(slots))} of the window: {what}", remedy="please report this")
