"""Standing contracts between members: settled before the slot's market, at a price of their own (market-rules 2.27).

A contract delivers, in every slot of its time, the lesser of what it promises and what the buyer still needs: a share
of the seller's surplus, or so much per slot and no more than is there. Only a surplus is given and only a need is met,
so nobody buys in order to deliver. Contracts of one member are served in their stated order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.settlement.columns import Contracts
from market.settlement.contracts import contracts_from_trades

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

PPM = 1_000_000

Formula = Literal["fixed", "mid_market", "retail_minus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingContract:
    """One contract.

    Parameters
    ----------
    contract_id
        Its name.
    seller, buyer
        Members, by column.
    share_ppm
        Part of the seller's surplus of a slot [millionths]; None for a volume.
    volume_wh
        At most this much per slot [Wh]; None for a share.
    formula
        ``fixed``: ``price_u``, 0 for a gift. ``mid_market``: half way between the buyer's retail and the seller's
        feed-in price. ``retail_minus``: the buyer's retail price less ``price_u``.
    price_u
        [micro-currency per kWh].
    first_slot, end_slot
        Slots ``first_slot .. end_slot - 1``.
    """

    contract_id: str
    seller: int
    buyer: int
    share_ppm: int | None = None
    volume_wh: int | None = None
    formula: Formula = "fixed"
    price_u: int = 0
    first_slot: int = 0
    end_slot: int = 2**62

    def __post_init__(self) -> None:
        blame = f"standing contract {self.contract_id!r}"
        if (self.share_ppm is None) == (self.volume_wh is None):
            raise MarketError(f"{blame} has not one measure", remedy="give share_ppm or volume_wh")
        if self.seller == self.buyer or min(self.seller, self.buyer) < 0:
            raise MarketError(f"{blame} is not between two members", remedy="name two different members")
        if (self.share_ppm or 0) < 0 or (self.share_ppm or 0) > PPM or (self.volume_wh or 0) < 0:
            raise MarketError(
                f"{blame} promises less than nothing or more than all", remedy="0 to 1000000 ppm, Wh >= 0"
            )


def deliveries(
    contracts: tuple[StandingContract, ...], net_wh: Int, inside: Bool, first_slot: int, *, most_wh: Int | None = None
) -> Int:
    """Energy of every contract and slot, ``(S, K)`` [Wh].

    Parameters
    ----------
    contracts
        In the order in which they are served.
    net_wh
        ``(S, B)`` planned or metered net of each member, positive draws.
    inside
        ``(S, B)``: who is a member in the slot. Both parties have to be.
    first_slot
        Number of row 0.
    most_wh
        ``(S, K)``: what was agreed before delivery, where ``net_wh`` is metered: no more than that, and than there is.
    """
    slots = first_slot + np.arange(len(net_wh))
    surplus, need = np.maximum(-net_wh, 0), np.maximum(net_wh, 0)
    left, lacking = surplus.copy(), need
    out = np.zeros((len(net_wh), len(contracts)), np.int64)
    for k, c in enumerate(contracts):
        if most_wh is not None:
            wanted = most_wh[:, k]
        elif c.share_ppm is not None:
            wanted = surplus[:, c.seller] * c.share_ppm // PPM  # whole Wh, never more than the share
        else:
            wanted = np.full(len(net_wh), c.volume_wh, np.int64)
        runs = (slots >= c.first_slot) & (slots < c.end_slot) & inside[:, c.seller] & inside[:, c.buyer]
        wh = np.where(runs, np.minimum(np.minimum(wanted, left[:, c.seller]), lacking[:, c.buyer]), 0)
        out[:, k] = wh
        left[:, c.seller] -= wh
        lacking[:, c.buyer] -= wh
    return out


def remaining_net(contracts: tuple[StandingContract, ...], net_wh: Int, wh: Int) -> Int:
    """``(S, B)`` net that is left for the market once the contracts are served."""
    left = net_wh.copy()
    for k, c in enumerate(contracts):
        left[:, c.seller] += wh[:, k]
        left[:, c.buyer] -= wh[:, k]
    return left


@dataclass(frozen=True, slots=True)
class StandingTrades:
    """Deliveries as rows ordered by slot, then contract: ``(T,)`` each; slots count from the window's start."""

    slot: Int
    contract: Int
    buyer: Int
    seller: Int
    e_wh: Int
    price_num: Int
    price_den: Int
    amount_u: Int

    def by_contract(self, n_slots: int, n_contracts: int) -> Int:
        """``(S, K)`` amounts [micro-currency]."""
        plane = np.zeros((n_slots, n_contracts), np.int64)
        plane[self.slot, self.contract] = self.amount_u
        return plane


def settle_standing(
    contracts: tuple[StandingContract, ...], wh: Int, retail_u: Int, feed_in_u: Int
) -> tuple[Contracts, StandingTrades]:
    """Positions and money of deliveries. Each is a bilateral line, rounded once, half to even (market-rules 4.6).

    Parameters
    ----------
    contracts, wh
        And their ``(S, K)`` energies.
    retail_u, feed_in_u
        ``(S, B)`` each member's own prices [micro-currency per kWh], for the formulas.
    """
    n_slots, n_members = retail_u.shape
    slot, number = np.nonzero(wh)
    seller = np.array([c.seller for c in contracts], np.int64)
    buyer = np.array([c.buyer for c in contracts], np.int64)
    num = np.zeros(wh.shape, np.int64)
    den = np.ones(len(contracts), np.int64)
    for k, c in enumerate(contracts):
        if c.formula == "mid_market":
            num[:, k], den[k] = retail_u[:, c.buyer] + feed_in_u[:, c.seller], 2
        elif c.formula == "retail_minus":
            num[:, k] = retail_u[:, c.buyer] - c.price_u
        else:
            num[:, k] = c.price_u
    rows = (slot, buyer[number], seller[number], wh[slot, number], num[slot, number], den[number])
    positions, amount = contracts_from_trades(*rows, n_slots, n_members)
    return positions, StandingTrades(slot, number, *rows[1:], amount)
