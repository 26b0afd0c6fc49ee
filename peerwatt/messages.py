"""Frozen messages that pass along the slot cycle. S slots, B buildings, K batteries, E chargers, H heated
buildings, N buses, R branches.

Energies are integer Wh per slot at the AC terminals; ``net`` is load-signed (positive draws from the grid).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
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
    indoor_c: Float  # (H,) in heated buildings


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected to be drawn and generated; perfect knowledge here, an explicit input of ``plan`` anyway."""

    load_wh: Int  # (S, B)
    heat_pump_wh: Int  # (S, B) of heat pumps that follow a profile
    pv_wh: Int  # (S, B) before curtailment

    def part(self, cut: slice) -> Forecast:
        """The slots ``cut``, counted from the first."""
        return Forecast(*(getattr(self, f.name)[cut] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a window, integer micro-currency per kWh."""

    retail_u: Int  # (S, B)
    feed_in_u: Int  # (S, B)
    charges: Charges
    loss_u: Int  # (S,)
    imbalance_u: Int | None  # (S,)
    imbalance_short_u: Int | None  # (S,)

    def part(self, cut: slice) -> Prices:
        """The slots ``cut``, counted from the first."""
        short, long = self.imbalance_short_u, self.imbalance_u
        return Prices(
            self.retail_u[cut],
            self.feed_in_u[cut],
            type(self.charges)(*(getattr(self.charges, f.name)[cut] for f in fields(self.charges))),
            self.loss_u[cut],
            None if long is None else long[cut],
            None if short is None else short[cut],
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What the controllers intend, and the position that follows from it."""

    ev_wh: Int  # (S, E) - = feeds back
    battery_wh: Int  # (S, K) + = charge
    heat_wh: Int  # (S, H) electricity of heat pumps that heat a building
    curtail_wh: Int  # (S, B)
    net_wh: Int  # (S, B)
    worth_u: Int | None = None  # (S, B, 2) bid and ask of stored energy; None: nobody is planned (`peerwatt.planning`)
    kept: Int | None = None  # (S, L, C) of limited buildings, columns as ENVELOPE_COLUMNS; None: there are none


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
    kept: Int | None = None  # (S, L, C) how the plan was cut to limits, as in `Plan`


@dataclass(frozen=True, slots=True)
class SetPoints:
    """What the plant is told to do."""

    ev_wh: Int  # (S, E)
    battery_wh: Int  # (S, K)
    heat_wh: Int  # (S, H)
    curtail_wh: Int  # (S, B)
    served_ppm: Int | None = None  # (S, B) share of the load that has supply, millionths; None: all of it


@dataclass(frozen=True, slots=True)
class GridSupport:
    """What K inverters did for the grid, solved together with the power flow."""

    q_kvar: Float  # (S, K) slot mean, + absorbs
    curtailed_wh: Int  # (S, B, reasons) PV by `peerwatt.grid_support.CURTAILMENT_REASONS`; sums to Flows.curtailed_wh
    rounds: Int  # (S,) power flows beyond the first until voltages and powers fitted
    converged: Bool  # (S,)
    v_before_pu: Float  # (S, 2) lowest and highest voltage at inverters without functions,
    v_after_pu: Float  # (S, 2) and with them


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
    car_wh: Int | None = None  # (S, E) of each car, - feeds back
    battery_wh: Int | None = None  # (S, K) of each battery, + charges
    heat_wh: Int | None = None  # (S, H) of each heat pump that heats a building; None: there are none
    indoor_c: Float | None = None  # (S, H) in its rooms at each slot's end
    fed_wh: Int | None = None  # (S, B) what cars feed back; None: none can
    support: GridSupport | None = None  # None: no inverter has functions; q_kvar above is without theirs

    @property
    def net_wh(self) -> Int:
        """Net energy at each connection point, (S, B), load-signed."""
        drawn = self.load_wh + self.heat_pump_wh + self.ev_wh + self.charge_wh
        net: Int = drawn - self.pv_wh - self.discharge_wh
        return net if self.fed_wh is None else net - self.fed_wh


@dataclass(frozen=True, slots=True)
class NetworkState:
    """What the wires did."""

    loss_wh: Int  # (S,) rounded with carried remainder
    v_pu: Float | None  # (S, N)
    branch_loading: Float | None  # (S, R)
    branch_p_kw: Float | None  # (S, R)
    losses_kw: Float | None  # (S,)
    slack_p_kw: Float | None  # (S,)
    v_phase_pu: Float | None = None  # (S, N, 3) where phases are solved; v_pu is then the one nearest to a limit
    unbalance: Float | None = None  # (S, N) voltage unbalance factor, as a share
    phase_loading: Float | None = None  # (S, R, 3)
    neutral_loading: Float | None = None  # (S, R)
    slack_phase_p_kw: Float | None = None  # (S, 3)


def without_voltage(state: NetworkState) -> NetworkState:
    """The same of a network that nobody supplies: its buses have 0 p.u., and nothing else is invented."""
    gone = {
        name: np.zeros_like(value)
        for name in ("v_pu", "v_phase_pu", "unbalance")
        if (value := getattr(state, name)) is not None
    }
    return replace(state, **gone)


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
