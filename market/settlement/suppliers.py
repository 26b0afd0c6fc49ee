"""Several retailers: what of the retailer's account each supplier sold, bought and earned.

In settlement the retailers are one account; every posting to it belongs to one supplier. A member's residual is its own
supplier's. What the retailers trade inside the book goes to the supplier with the best offer of the slot. What belongs
to nobody in particular (network losses, the difference that a pool rule makes to the members' own tariffs) is the last
column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.settlement.columns import RETAILER, Int, Postings


@dataclass(frozen=True, slots=True)
class BestOffers:
    """Per slot the lowest retail and the highest feed-in price of all suppliers, and whose they are; (S,) each."""

    retail_u: Int
    feed_in_u: Int
    seller: NDArray[np.int64]
    buyer: NDArray[np.int64]


def best_offers(retail_u: Int, feed_in_u: Int, supplier_of: Int, first_slot: int = 0) -> BestOffers:
    """The offers that stand in the book when suppliers compete; ties go to the supplier listed first.

    Parameters
    ----------
    retail_u, feed_in_u
        (S, B) prices of every member's own contract [micro-currency per kWh].
    supplier_of
        (B,) supplier of each member.

    Raises
    ------
    MarketError
        If somebody would sell for less than somebody else pays: an unlimited ask below an unlimited bid has no volume.
    """
    order = np.argsort(supplier_of, kind="stable")
    ask, bid = retail_u[:, order].argmin(axis=1), feed_in_u[:, order].argmax(axis=1)
    rows = np.arange(len(retail_u))
    low, high = retail_u[:, order][rows, ask], feed_in_u[:, order][rows, bid]
    if (low < high).any():
        slot = first_slot + int(np.argmax(low < high))
        raise MarketError(
            f"slot {slot}: a supplier sells at {int(low.min())} and another pays {int(high.max())} micro per kWh",
            remedy="with backstop 'in_book' the lowest retail price must be at least the highest feed-in price",
        )
    return BestOffers(low, high, supplier_of[order][ask], supplier_of[order][bid])


def by_supplier(
    postings: Postings, supplier_of: Int, n_suppliers: int, offers: BestOffers | None
) -> tuple[Int, Int, Int]:
    """Energy sold and bought (S, K) [Wh], and what each received (S, K + 1) [micro-currency]; the last is nobody's.

    The amounts of a slot sum to the retailer's account in all kinds of posting.
    """
    n_slots, n_members = postings.residual_wh.shape
    own = np.zeros((n_members, n_suppliers), np.int64)
    own[np.arange(n_members), supplier_of] = 1
    sold = np.maximum(postings.residual_wh, 0) @ own
    bought = np.maximum(-postings.residual_wh, 0) @ own
    received = np.zeros((n_slots, n_suppliers + 1), np.int64)
    received[:, :-1] = -postings.kinds["residual"][:, :n_members] @ own
    contracts = postings.contracts
    if offers is not None:
        rows = np.arange(n_slots)
        sold[rows, offers.seller] += contracts.retailer_sold_wh
        bought[rows, offers.buyer] += contracts.retailer_bought_wh
        party = np.where(contracts.retailer_sold_wh > 0, offers.seller, offers.buyer)
        received[rows, party] += contracts.retailer_u
    account = sum(posted[:, n_members + RETAILER] for posted in postings.kinds.values())
    received[:, -1] = account - received[:, :-1].sum(axis=1)
    return sold, bought, received
