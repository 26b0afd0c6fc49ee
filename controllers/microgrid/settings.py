"""What a microgrid's supervisor is told about its site. Every default names where it comes from.

[1547] is IEEE 1547-2018, tables 4 and 5 quoted without the text at hand: check them before a site relies on them;
[site] is a choice of ours that a site may change; [device] has to be longer than what commissioning measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SyncWindow:
    """How far island and grid may be apart when the switch closes: frequency [Hz], voltage [p.u.], angle [degrees]."""

    df_hz: float
    dv_pu: float
    angle_deg: float


def sync_window(total_kva: float) -> SyncWindow:
    """The window of IEEE 1547-2018 table 5 for sources of this total rating [kVA]; ValueError above 10 MVA."""
    if total_kva <= 500.0:
        return SyncWindow(0.3, 0.10, 20.0)
    if total_kva <= 1500.0:
        return SyncWindow(0.2, 0.05, 15.0)
    if total_kva <= 10_000.0:
        return SyncWindow(0.1, 0.03, 10.0)
    raise ValueError(f"table 5 ends at 10 000 kVA, these sources have {total_kva:g}: give a window of your own")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the supervisor is told; what is not given has the default of the comment beside it.

    Parameters
    ----------
    rating_kw
        Rating of the connection point [kW]: the 2 % of a planned island are of this.

    Raises
    ------
    ValueError
        If a number is not finite, or bounds cross.
    """

    rating_kw: float
    cycle_s: float = 0.1  # hardware.md, section 2, layer 13
    nominal_hz: float = 50.0
    # The grid is lost at once beyond the hard limits, and beyond the soft ones after a while.
    hard_v_low_pu: float = 0.5  # [1547] UV2
    hard_v_high_pu: float = 1.2  # [1547] OV2
    soft_v_low_pu: float = 0.88  # [1547] UV1
    soft_v_high_pu: float = 1.10  # [1547] OV1
    hard_hz_below: float = 3.0  # [site] 47.0 Hz
    hard_hz_above: float = 2.0  # [site] 52.0 Hz
    soft_hz_below: float = 2.5  # VDE-AR-N 4105: 47.5 Hz
    soft_hz_above: float = 1.5  # VDE-AR-N 4105: 51.5 Hz
    soft_s: float = 1.0  # [site] half of the 2 s in which [1547] wants an island found
    # The grid is back when it has stayed in here for so long.
    enter_v_low_pu: float = 0.917  # [1547] table 4
    enter_v_high_pu: float = 1.05  # [1547] table 4
    enter_hz_below: float = 0.5  # [1547] table 4: 59.5 Hz of 60
    enter_hz_above: float = 0.1  # [1547] table 4: 60.1 Hz of 60
    enter_service_s: float = 300.0  # [1547] table 4
    dead_v_pu: float = 0.1  # [site] a side below this is dead; between this and hard_v_low_pu it is neither
    dead_s: float = 0.3  # [site]
    # The switch.
    switch_s: float = 0.5  # [device] longest way of the switch, feedback included
    contradiction_s: float = 0.5  # [device] so long may its contacts contradict each other, or what is measured
    through_open_share: float = 0.05  # [site] of rating: more than this through an open switch is a contradiction
    # Planned island.
    balance_share: float = 0.02  # G1
    balance_aim: float = 0.5  # [site] of balance_share: what we wait for, so that it holds until the contacts part
    balance_dwell_s: float = 0.5  # [site]
    balance_every_s: float = 0.5  # [device] slower than a source follows a set-point
    balance_gain: float = 0.7  # [site]
    planned_s: float = 60.0  # [site] after this it is given up
    unplanned_s: float = 5.0  # [site] after this the island counts as black
    # Commands: how long until the effect shows, and how often they are said again.
    ack_s: float = 0.5  # [device]
    load_s: float = 0.3  # [device]
    form_s: float = 0.5  # [device] below a third of the time that sources wait without voltage
    start_s: float = 60.0  # [device] a cold generator
    retries: int = 2  # [site]
    forgive_s: float = 300.0  # [site] a device that failed is asked again after this
    ask_again_s: float = 5.0  # [site] the same for a set-point: asking costs nothing, and waiting leaves it wrong
    bridge_s: float = 0.5  # [site] so long a reading that is missing counts as it was, then as the worst it can be
    # Shedding and restoration.
    shed_margin: float = 0.05  # [site] share of what forming sources can give that is never used by loads
    restore_margin: float = 0.15  # [site]
    restore_dwell_s: float = 30.0  # [site] so long the next block has to fit before it is switched on
    restore_again_s: float = 300.0  # [site] a block that had to be shed again waits this long, then twice as long ...
    connected_restore_s: float = 5.0  # [site] between two blocks when the grid carries them
    unknown_load_kw: float = 10.0  # [site] what a block draws of which nothing was ever known
    under_hz: float = 1.0  # [site] so far below nominal a block is shed whatever the powers say
    inrush_s: float = 1.0  # [device] so long after a block was switched on its power is not believed
    overload_s: float = 0.5  # [device] one source above its limit for so long counts as a deficit
    # Energy.
    floor_soc: float = 0.15  # [device] above the state of charge at which the source trips by itself
    taper_soc: float = 0.05  # [site] above the floor: what may be drawn falls linearly to nothing at the floor
    restore_soc: float = 0.05  # [site] more than at shedding is asked of the state of charge at restoration
    ceiling_soc: float = 0.95  # [device] charging tapers to nothing here, over taper_soc
    reserve_h: float = 2.0  # [site] connected: hours of the priorities up to reserve_priority that are kept stored
    reserve_priority: int = 1
    reserve_charge_share: float = 0.5  # [site] of charge_kw, at which a missing reserve is filled
    energy_news_s: float = 900.0
    # Sharing.
    droop_share: float = 0.01  # [site] of nominal frequency, between no load and rating
    sharing_share: float = 0.05  # G3
    sharing_news_s: float = 30.0  # [site] so long off before a person is told
    secondary_s: float = 1.0  # [device] slower than the primary response
    secondary_gain_per_s: float = 0.3  # [site]
    secondary_hz: float = 0.7  # [site] how far references are moved at most: more than one droop
    secondary_pu: float = 0.08
    steady_hz: float = 0.2  # band of the steady state
    island_v_low_pu: float = 0.85  # EN 50549-1 and VDE-AR-N 4105 interface protection: 0.85 to 1.10
    island_v_high_pu: float = 1.10
    # Reconnection.
    window: SyncWindow = SyncWindow(0.3, 0.10, 20.0)  # [1547] table 5 up to 500 kVA; see sync_window
    window_aim: float = 0.5  # [site] share of the window in which it has to be for the dwell
    sync_dwell_s: float = 0.5  # [site]
    sync_every_s: float = 0.2
    sync_hz: float = 0.1  # [site] at most so much faster or slower than the grid, to turn the angle
    sync_hz_per_deg: float = 0.002  # [site] angle loop: 0.72 /s
    close_delay_s: float = 0.1  # [device] from the command until the contacts touch
    reconnect_s: float = 120.0  # [site] after this it is an island again, and waits reconnect_again_s
    reconnect_again_s: float = 60.0
    reconnect_tries: int = 3  # [site] then a person has to order it
    automatic_reconnect: bool = True  # after an outage; after an ordered island a person orders the way back
    dead_bus_close: bool = True  # black island, good grid: close on the dead side, every source halted
    # Black start.
    automatic_black_start: bool = False  # [site] energising a dead network is a person's decision
    black_wait_s: float = 10.0  # [site] before an automatic start
    start_settle_s: float = 1.0  # [site] voltage and frequency in band before the next step
    start_step_s: float = 10.0  # [site] a step that has not settled by then has failed (source starts: start_s more)
    start_tries: int = 2  # [site] then a person has to order it
    inrush_margin: float = 0.05  # [site] share of what forming sources can give that inrush leaves free
    # Starting up.
    verify_cycles: int = 2  # consecutive images that have to tell the same before a restarted supervisor acts

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{field.name} is {value}: finite and not negative, please")
        for low, high in _ORDERED:
            if not getattr(self, low) < getattr(self, high):
                raise ValueError(f"{low} ({getattr(self, low)}) has to be below {high} ({getattr(self, high)})")
        if self.rating_kw <= 0.0 or self.cycle_s <= 0.0:
            raise ValueError("rating_kw and cycle_s have to be above 0")
        if self.floor_soc + self.taper_soc + self.restore_soc >= self.ceiling_soc:
            raise ValueError("floor_soc + taper_soc + restore_soc have to stay below ceiling_soc")


_ORDERED = (
    ("hard_v_low_pu", "soft_v_low_pu"),
    ("soft_v_low_pu", "soft_v_high_pu"),
    ("soft_v_high_pu", "hard_v_high_pu"),
    ("soft_hz_below", "hard_hz_below"),
    ("soft_hz_above", "hard_hz_above"),
    ("soft_v_low_pu", "enter_v_low_pu"),
    ("enter_v_low_pu", "enter_v_high_pu"),
    ("dead_v_pu", "hard_v_low_pu"),
    ("island_v_low_pu", "island_v_high_pu"),
    ("shed_margin", "restore_margin"),
)
