"""Frozen messages that pass along the slot cycle. S slots, B buildings, K batteries, E chargers, N buses,
R branches.

Energies are integer Wh per slot at the AC terminals; ``net`` is load-signed (positive draws from the grid).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import TradeColumns, WindowRecord

if TYPE_CHECKING:
    from grid.assets.battery import BatteryState
    from grid.assets.ev import EvState
    from market.book import BookBatch
    from market.settlement import Charges, Contracts, Lines, Postings

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Window:
    """Slots ``first .. first + n - 1`` of the run's slot grid."""

    first: int
    n: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of the plant when the window opens."""

    battery: BatteryState
    ev: EvState


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected to be drawn and generated; perfect knowledge here, an explicit input of ``plan`` anyway."""

    load_wh: Int  # (S, B)
    heat_pump_wh: Int  # (S, B)
    pv_wh: Int  # (S, B) before curtailment


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a window, integer micro-currency per kWh."""

    retail_u: Int  # (S, B)
    feed_in_u: Int  # (S, B)
    charges: Charges
    loss_u: Int  # (S,)
    imbalance_u: Int | None  # (S,)
    imbalance_short_u: Int | None  # (S,)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the controllers intend, and the position that follows from it."""

    ev_wh: Int  # (S, E)
    battery_wh: Int  # (S, K) + = charge
    curtail_wh: Int  # (S, B)
    net_wh: Int  # (S, B)


@dataclass(frozen=True, slots=True)
class Bids:
    """The window's book, and who takes part."""

    book: BookBatch
    active: Bool  # (S, B)


@dataclass(frozen=True, slots=True)
class Cleared:
    """Contracts fixed before delivery. Meter-based rules leave them empty and speak in ``settle``."""

    contracts: Contracts
    trades: TradeColumns
    price_num: Int  # (S,)
    price_den: Int  # (S,)
    has_price: Bool  # (S,)
    agreed_wh: Int | None = None  # (S, C) what standing contracts took of the plan, before the market


@dataclass(frozen=True, slots=True)
class SetPoints:
    """What the plant is told to do."""

    ev_wh: Int  # (S, E)
    battery_wh: Int  # (S, K)
    curtail_wh: Int  # (S, B)


@dataclass(frozen=True, slots=True)
class Flows:
    """What the plant did."""

    load_wh: Int  # (S, B)
    heat_pump_wh: Int
    pv_wh: Int  # after curtailment
    curtailed_wh: Int
    ev_wh: Int
    charge_wh: Int
    discharge_wh: Int
    stored_wh: Int  # (S, B) at each slot's start
    gained_wh: Int  # in the store: what charging added,
    drawn_wh: Int  # what discharging took out,
    leaked_wh: Int  # what self-discharge took out
    undelivered_wh: Int
    q_kvar: Float  # (S, B) slot mean, + absorbs

    @property
    def net_wh(self) -> Int:
        """Net energy at each connection point, (S, B), load-signed."""
        drawn = self.load_wh + self.heat_pump_wh + self.ev_wh + self.charge_wh
        return drawn - self.pv_wh - self.discharge_wh


@dataclass(frozen=True, slots=True)
class NetworkState:
    """What the wires did."""

    loss_wh: Int  # (S,) rounded with carried remainder
    v_pu: Float | None  # (S, N)
    branch_loading: Float | None  # (S, R)
    branch_p_kw: Float | None  # (S, R)
    losses_kw: Float | None  # (S,)
    slack_p_kw: Float | None  # (S,)


@dataclass(frozen=True, slots=True)
class Meters:
    """What the meters say."""

    import_wh: Int  # (S, B)
    export_wh: Int  # (S, B)


@dataclass(frozen=True, slots=True)
class Settled:
    """What is booked, and what would have been booked without a market."""

    postings: Postings
    baseline: Lines
    trades: TradeColumns
    price_num: Int  # (S,) the rule's price, or the buyers' mean where it names none
    price_den: Int
    has_price: Bool
    standing_wh: Int  # (S, C) delivered under each standing contract,
    standing_u: Int  # and its amount [micro-currency]; both are within the postings
    suppliers: tuple[Int, Int, Int] | None  # sold, bought (S, K) [Wh], received (S, K + 1); None where none is named


@dataclass(frozen=True, slots=True)
class Delivered:
    """The part of a window that ends with delivery: what ``meter`` and ``settle`` start from."""

    window: Window
    active: Bool  # (S, B) takes part in the market
    cleared: Cleared
    flows: Flows
    state: NetworkState


@dataclass(frozen=True, slots=True)
class Closed:
    """A settled window: its record for the results, its postings for the bills."""

    record: WindowRecord
    postings: Postings
    baseline: Lines


T = TypeVar("T")


def concat_slots(parts: list[T]) -> T:
    """Join messages of consecutive windows along the slot axis (the first axis of every array)."""
    head = parts[0]
    if len(parts) == 1:
        return head
    if isinstance(head, np.ndarray):
        return np.concatenate(parts)  # type: ignore[arg-type,return-value]
    if head is None or isinstance(head, str):
        return head
    if isinstance(head, Window):
        return Window(head.first, sum(p.n for p in parts))  # type: ignore[attr-defined,return-value]
    joined = {f.name: concat_slots([getattr(p, f.name) for p in parts]) for f in fields(head)}  # type: ignore[arg-type]
    return type(head)(**joined)
