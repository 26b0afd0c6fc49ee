"""Members' own terms and standing contracts in the slot cycle: what comes before any rule, strategy or controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controllers.kept_back import keep_back
from market.settlement import Contracts
from market.standing import StandingContract, StandingTrades, deliveries, remaining_net, settle_standing
from peerwatt.messages import Bool, Int, Prices, Window
from peerwatt.results.record import TradeColumns

if TYPE_CHECKING:
    from grid.assets.battery import BatteryState
    from market.terms import Terms
    from peerwatt.system import System

LOWEST_U, HIGHEST_U = -(2**62), 2**62
"""Floors and ceilings of members without such a term."""


@dataclass(frozen=True, slots=True)
class OwnTermsSetup:
    """Terms of all members as columns, and their standing contracts.

    Parameters
    ----------
    terms
        By id, of those who have any that a rule must know.
    floor_u, ceiling_u
        (B,) lowest price of a sale and highest of a purchase [micro-currency per kWh].
    opted_out
        (T, B) slots of the run in which a member takes no part; None = nobody does.
    kept_wh
        (K,) charge of each battery that is not discharged into the grid [Wh].
    attributes
        (B,) of each member's orders: class of energy, premiums; None = nobody states any.
    standing
        Standing contracts in their order.
    """

    terms: Mapping[str, Terms]
    floor_u: Int
    ceiling_u: Int
    opted_out: NDArray[np.bool_] | None
    kept_wh: Int
    attributes: tuple[Mapping[str, Any], ...] | None
    standing: tuple[StandingContract, ...]


def members_in(system: System, window: Window) -> Bool:
    """(S, B): whose membership runs in each slot, opted out or not."""
    slots = np.arange(window.first, window.first + window.n)[:, None]
    inside: Bool = (slots >= system.market.active_from) & (slots < system.market.active_until)
    return inside


def takes_part(system: System, window: Window) -> Bool:
    """(S, B): who takes part in the market in each slot: members that have not opted out."""
    inside = members_in(system, window)
    out = system.own.opted_out
    return inside if out is None else inside & ~out[window.first : window.first + window.n]


def bounded_prices(system: System, price_u: Int, net_wh: Int) -> Int:
    """Limit prices (S, B) within floors and ceilings, whatever a strategy asked for."""
    own = system.own
    bounded: Int = np.where(net_wh < 0, np.maximum(price_u, own.floor_u), np.minimum(price_u, own.ceiling_u))
    return bounded


def kept_back(system: System, state: BatteryState, request_wh: Int, surplus_wh: Int) -> Int:
    """Battery requests that leave kept-back charge to its owner."""
    return keep_back(system.storage.columns, state, request_wh, surplus_wh, system.own.kept_wh)


def agree(system: System, net_wh: Int, window: Window) -> tuple[Int, Int]:
    """What standing contracts take of the planned positions, (S, K), and the positions that are left, (S, B).

    A member that has opted out of the market still keeps its own word.
    """
    contracts = system.own.standing
    if not contracts:
        return np.zeros((window.n, 0), np.int64), net_wh
    wh = deliveries(contracts, net_wh, members_in(system, window), window.first)
    return wh, remaining_net(contracts, net_wh, wh)


@dataclass(frozen=True, slots=True)
class Kept:
    """Settled standing contracts: energy and money by contract (S, K), positions and money by member, trade rows."""

    wh: Int
    amount_u: Int
    contracts: Contracts
    trades: TradeColumns


def settle_agreed(
    system: System, agreed_wh: Int, prices: Prices, window: Window, metered_wh: Int | None = None
) -> Kept:
    """Money of what was agreed; for rules that share meters, of no more than what is in ``metered_wh`` (S, B)."""
    contracts = system.own.standing
    wh = agreed_wh
    if metered_wh is not None and contracts:
        wh = deliveries(contracts, metered_wh, members_in(system, window), window.first, most_wh=agreed_wh)
    positions, rows = settle_standing(contracts, wh, prices.retail_u, prices.feed_in_u)
    number = len(system.static.deals) - 1  # standing contracts come last
    return Kept(wh, rows.by_contract(window.n, len(contracts)), positions, _trades(rows, window.first, number))


def _trades(rows: StandingTrades, first: int, number: int) -> TradeColumns:
    """Rows of trades; ``number`` is that of standing contracts among the run's deals."""
    deal = np.full_like(rows.slot, number)
    return TradeColumns(
        rows.slot + first, rows.buyer, rows.seller, rows.e_wh, rows.price_num, rows.price_den, rows.amount_u, deal
    )


def merged(one: TradeColumns, other: TradeColumns) -> TradeColumns:
    """Rows of both, ordered by slot; those of ``one`` first."""
    columns = [np.concatenate([getattr(one, f.name), getattr(other, f.name)]) for f in fields(TradeColumns)]
    order = np.argsort(columns[0], kind="stable")
    return TradeColumns(*(column[order] for column in columns))
