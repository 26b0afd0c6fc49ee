"""What the driver tells of a slot: one line for people, set-points for devices, the wires for the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from market.engine.config import EngineConfig
    from peerwatt.messages import NetworkState, SetPoints
    from peerwatt.system import System

BATTERY, CAR, CURTAILMENT = "battery", "car", "pv_curtailment"
"""Devices that get set-points [W]: what it charges, what it charges, what it holds back."""

_PER_UNIT = 1000
_PPM = 1_000_000
_W_PER_KW = 1000.0
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class SlotReport:
    """A gate that was served.

    Parameters
    ----------
    slot, start_us
        Which, and when it begins [microseconds since 1970, UTC].
    status
        Of its session.
    price_u
        Rounded price [micro-currency per kWh]; None where there is none.
    volume_wh
        What was traded [Wh].
    members, orders, outside_orders
        Who takes part, how many orders stood in the book, and how many of them came from outside.
    late_s
        From the gate until it was cleared, in seconds of the wall clock.
    halted
        Whether the market was suspended.
    clearing_s
        From the last bid until the result was durable, in seconds of the wall clock.
    """

    slot: int
    start_us: int
    status: str
    price_u: int | None
    volume_wh: int
    members: int
    orders: int
    outside_orders: int
    late_s: float = 0.0
    halted: bool = False
    clearing_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SetPoint:
    """What a building's devices are to do in a slot; means over it.

    Parameters
    ----------
    participant_id
        Whose.
    slot, start_us, end_us
        When.
    battery_w, ev_w
        + charges [W].
    curtail_w
        What the PV is to hold back [W].
    devices
        Those of them that it has: ``battery``, ``car``, ``pv_curtailment``.
    source
        ``market``, or ``default`` while the market is suspended: the controllers' own plan.
    """

    participant_id: str
    slot: int
    start_us: int
    end_us: int
    battery_w: int
    ev_w: int
    curtail_w: int
    devices: tuple[str, ...]
    source: str


def set_points_of(system: System, config: EngineConfig, slot: int, told: SetPoints, source: str) -> list[SetPoint]:
    """Set-points of every building that has something to set."""
    n = system.n_buildings
    battery, ev, curtail = (np.zeros(n, np.int64) for _ in range(3))
    np.add.at(battery, system.storage.columns.building, told.battery_wh[0])
    np.add.at(ev, system.chargers.columns.building, told.ev_wh[0])
    curtail += told.curtail_wh[0]
    devices = devices_of(system)

    def watts(wh: np.ndarray, building: int) -> int:
        return round(int(wh[building]) * _SECONDS_PER_HOUR / config.slot_s)

    return [
        SetPoint(
            participant_id=system.building_ids[b],
            slot=slot,
            start_us=config.slot_start_us(slot),
            end_us=config.slot_start_us(slot + 1),
            battery_w=watts(battery, b),
            ev_w=watts(ev, b),
            curtail_w=watts(curtail, b),
            devices=devices[system.building_ids[b]],
            source=source,
        )
        for b in range(n)
        if system.building_ids[b] in devices
    ]


def devices_of(system: System) -> dict[str, tuple[str, ...]]:
    """Devices that get set-points, by building."""
    found: dict[str, tuple[str, ...]] = {}
    for name, column in (
        (BATTERY, system.storage.columns.building),
        (CAR, system.chargers.columns.building),
        (CURTAILMENT, system.demand.pv.building),
    ):
        for building in np.unique(column).tolist():
            home = system.building_ids[building]
            found[home] = (*found.get(home, ()), name)
    return found


def network_state(system: System, state: NetworkState, failure: str) -> dict[str, Any]:
    """What the wires did in one slot, as integers.

    Voltages [thousandths of nominal] by shown bus, loadings [thousandths of rated] by shown branch, losses and the
    power from the grid above [W].
    """
    if failure:
        return {"failed": failure}
    if system.wires is None or state.v_pu is None or state.branch_loading is None:
        return {}
    assert state.losses_kw is not None and state.slack_p_kw is not None, "a solved slot has all of them"
    return {
        "v_pu_milli": _whole(state.v_pu[0] * _PER_UNIT),
        "loading_permille": _whole(state.branch_loading[0] * _PER_UNIT),
        "losses_w": round(float(state.losses_kw[0]) * _W_PER_KW),
        "slack_w": round(float(state.slack_p_kw[0]) * _W_PER_KW),
        **_of_phases(state),
    }


def _of_phases(state: NetworkState) -> dict[str, Any]:
    """Where the network is solved phase by phase: ``v_pu_milli`` is then of the phase nearest to a limit.

    Voltages of each phase, unbalance [millionths] by shown bus, current of neutrals [thousandths of a phase's rating]
    by shown branch, power from the grid above by phase [W].
    """
    if state.v_phase_pu is None:
        return {}
    assert state.unbalance is not None and state.neutral_loading is not None and state.slack_phase_p_kw is not None
    return {
        **{f"v_{phase}_milli": _whole(state.v_phase_pu[0, :, k] * _PER_UNIT) for k, phase in enumerate("abc")},
        "unbalance_ppm": _whole(state.unbalance[0] * _PPM),
        "neutral_permille": _whole(state.neutral_loading[0] * _PER_UNIT),
        "slack_phases_w": _whole(state.slack_phase_p_kw[0] * _W_PER_KW),
    }


def _whole(values: np.ndarray) -> list[int | None]:
    """Rounded; None where there is no value."""
    return [None if not np.isfinite(v) else round(float(v)) for v in values]
