"""The step after settlement that follows every kWh from its origin (market-rules 4.2, step 7; docs/origin.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peerwatt.messages import Delivered, Meters, Settled
from peerwatt.system import System

if TYPE_CHECKING:
    from market.certificates import EnergyFlows, LocalTrades, OriginState, TracedOrigins


def trace_origin(
    system: System, block: Delivered, meters: Meters, settled: Settled, state: OriginState
) -> tuple[TracedOrigins, OriginState]:
    """Follow the block's energy; certificates go with it through batteries, local trades and supply.

    Raises
    ------
    MarketError
        If a certificate would be lost or counted twice: a fault of the program.
    """
    from market.certificates import trace

    return trace(system.origins, state, energy_flows(block, meters, settled))


def energy_flows(block: Delivered, meters: Meters, settled: Settled) -> EnergyFlows:
    """What flowed slot by slot, and the local positions that the meters back.

    Coarse meters know sums only; energy is followed as it flowed, and local positions count as far as both agree.
    """
    from market.certificates import EnergyFlows

    flows, contracts = block.flows, settled.postings.contracts
    # nobody knows what a car brought with it: what it feeds back counts as found in a store, of unknown origin
    fed_wh = np.zeros_like(flows.ev_wh) if flows.fed_wh is None else flows.fed_wh
    return EnergyFlows(
        use_wh=flows.load_wh + flows.heat_pump_wh + flows.ev_wh,
        made_wh=flows.pv_wh,
        charge_wh=flows.charge_wh,
        discharge_wh=flows.discharge_wh + fed_wh,
        gained_wh=flows.gained_wh,
        drawn_wh=flows.drawn_wh + fed_wh,
        leaked_wh=flows.leaked_wh,
        stored_wh=flows.stored_wh + fed_wh,
        bought_wh=np.minimum(contracts.local_bought_wh, meters.import_wh),
        sold_wh=np.minimum(contracts.local_sold_wh, meters.export_wh),
        loss_wh=block.state.loss_wh,
        trades=_named_trades(settled, block.window.first),
    )


def _named_trades(settled: Settled, first_slot: int) -> LocalTrades:
    """Trades between two named members; what a rule pools has no such rows.

    Where a member sold on what it bought, its positions are netted and no longer show whose energy went to whom: all
    local energy of such a slot goes through the pool.
    """
    from market.certificates import LocalTrades

    trades, contracts = settled.trades, settled.postings.contracts
    named = (trades.buyer >= 0) & (trades.seller >= 0) & (trades.e_wh > 0)
    if not named.any():
        return LocalTrades.none()
    columns = [column[named] for column in (trades.slot - first_slot, trades.buyer, trades.seller, trades.e_wh)]
    slot, buyer, seller, e_wh = columns
    bought, sold = np.zeros_like(contracts.local_bought_wh), np.zeros_like(contracts.local_sold_wh)
    np.add.at(bought, (slot, buyer), e_wh)
    np.add.at(sold, (slot, seller), e_wh)
    netted = (bought > contracts.local_bought_wh) | (sold > contracts.local_sold_wh)
    clear = ~np.any(netted, axis=1)[slot]
    return LocalTrades(*(np.ascontiguousarray(column[clear]) for column in columns))
