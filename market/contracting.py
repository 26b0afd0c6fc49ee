"""From a rule's exact result to contracts in whole units: what simulated runs and the live market share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from market.book import BookBatch
from market.registry import BidRule
from market.rounding import round_ratio
from market.settlement import Contracts, contracts_from_pool

if TYPE_CHECKING:
    from market.result import BatchClearing

Int = NDArray[np.int64]


def as_traded(found: BatchClearing) -> BatchClearing:
    """A clearing as contracts see it: without the load outside the market and the losses, which settle by meter.

    The retailer supplies both. What the market paid for the losses goes to the network, which buys them.
    """
    if found.base_wh is None and found.loss_wh is None:
        return found
    zero = np.zeros(len(found.import_wh), np.int64)
    base = zero if found.base_wh is None else found.base_wh
    loss = zero if found.loss_wh is None else found.loss_wh
    paid = zero if found.loss_num is None else found.loss_num
    position = found.import_wh - found.export_wh - base - loss
    network = found.network_num
    return replace(
        found,
        import_wh=np.maximum(position, 0),
        export_wh=np.maximum(-position, 0),
        retailer_num=found.retailer_num + paid,
        network_num=None if network is None else network + paid,
        base_wh=None,
        loss_wh=None,
        loss_num=None,
    )


def pool_contracts(
    result: BatchClearing, side: NDArray[np.int8], book: BookBatch, n: int, rank: Int, strong: bool, span: int
) -> Contracts:
    """Contracts of a pool whose products span ``span`` slots; ``n`` members, ``rank`` as in `contracts_from_pool`."""
    fill, pay, member = result.fill_wh, result.pay_num, book.member
    # the retailer is two more columns: it sells what is imported and buys what is exported; when it is not in the book,
    # it may still pay for the place of those it supplies outside the market
    if book.in_book or np.any(result.retailer_num):
        fill = np.column_stack([fill, result.import_wh, result.export_wh])
        flags = np.broadcast_to(np.array([-1, 1], np.int8), (len(fill), 2))
        side = np.column_stack([side, flags]).astype(np.int8)
        paid = result.retailer_num
        pay = np.column_stack([pay, np.where(result.import_wh > 0, paid, 0), np.where(result.import_wh > 0, 0, paid)])
        member = np.append(member, [n, n]).astype(np.int32)
    return contracts_from_pool(fill, side, pay, result.pay_den, member, n, rank, strong=strong, span=span)


def network_part(rule: BidRule, found: BatchClearing, contracts: Contracts) -> Int:
    """What of the operator's part belongs to the network, (S,) whole micro-currency."""
    if found.network_num is None:
        return contracts.operator_u if rule.surplus_to == "network" else np.zeros_like(contracts.operator_u)
    surplus = found.pay_num.sum(axis=1) + found.retailer_num
    part = round_ratio(found.network_num, found.pay_den)
    return np.where(surplus == found.network_num, contracts.operator_u, part).astype(np.int64)
