"""Guard of a storage's state of charge, from two sources: what it reports and what we count ourselves.

A stuck or jumping report, or a battery that is emptier than it says, shows as a disagreement: then nothing is
discharged. The count follows the report slowly, so that losses do not add up and an honest report is believed again in
the end. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controllers.guardian.envelope import Band
from controllers.guardian.settings import SocSettings
from core.quality import Reading

_FOLLOW_S = 7200.0
"""The count moves to the report with this time constant [s]."""
_LONGEST_GAP_S = 300.0
"""Without a count for longer than this [s], it begins anew at the report."""
_AGREE_AGAIN = 0.5
"""Report and count agree again below this share of the disagreement that was too much."""


@dataclass(frozen=True, slots=True)
class SocState:
    """What the guard remembers.

    Parameters
    ----------
    counted
        Our own count (0 .. 1), None without one; ``counted_s`` is when [s, monotonic].
    empty, full
        Latched by the hysteresis: no discharging, no charging.
    apart
        Report and count disagree.
    unknown
        There is no good report.
    """

    counted: float | None = None
    counted_s: float = 0.0
    empty: bool = False
    full: bool = False
    apart: bool = False
    unknown: bool = True

    def narrow(self, band: Band) -> Band:
        """The band of a storage's power [W, positive charges] under this guard."""
        if self.unknown:
            return band.below(0.0, "the state of charge is not known").above(0.0, "the state of charge is not known")
        if self.full:
            band = band.below(0.0, "the storage is full")
        if self.empty:
            band = band.above(0.0, "the storage is empty")
        if self.apart:
            band = band.above(0.0, "reported and counted state of charge disagree")
        return band


def guarded(
    settings: SocSettings,
    state: SocState,
    now_s: float,
    reported: Reading | None,
    power: Reading | None,
    capacity_wh: float | None,
) -> SocState:
    """The state after this cycle.

    Parameters
    ----------
    settings, state, now_s
        Bounds, what was remembered, and monotonic time [s].
    reported
        The state of charge as reported; None if the device has none.
    power
        The storage's power [W, positive charges], for the count.
    capacity_wh
        Of the storage; None: nothing is counted.
    """
    if reported is None or not reported.is_good:
        return replace(state, unknown=True)
    soc = reported.good("soc")
    counted = _counted(settings, state, now_s, soc, power, capacity_wh)
    apart = state.apart
    if counted is None:
        apart = False
    else:
        distance = abs(counted - soc)
        apart = distance > settings.disagreement * (_AGREE_AGAIN if state.apart else 1.0)
    # The lower of the two decides whether it is empty, the higher whether it is full.
    lowest, highest = (soc, soc) if counted is None else (min(soc, counted), max(soc, counted))
    return SocState(
        counted=counted,
        counted_s=now_s if counted is not None else state.counted_s,
        empty=lowest <= settings.low or (state.empty and lowest < settings.low + settings.hysteresis),
        full=highest >= settings.high or (state.full and highest > settings.high - settings.hysteresis),
        apart=apart,
        unknown=False,
    )


def _counted(
    settings: SocSettings,
    state: SocState,
    now_s: float,
    reported: float,
    power: Reading | None,
    capacity_wh: float | None,
) -> float | None:
    """Our own count, moved on to now."""
    if capacity_wh is None or not settings.counted_by or power is None:
        return None
    gap_s = now_s - state.counted_s
    if state.counted is None or gap_s > _LONGEST_GAP_S:
        return reported if power.is_good else None
    if not power.is_good:
        return state.counted
    watts = power.good(settings.counted_by)
    stored_w = watts * settings.efficiency if watts > 0.0 else watts / settings.efficiency
    counted = state.counted + stored_w * gap_s / 3600.0 / capacity_wh
    counted += (reported - counted) * min(gap_s / _FOLLOW_S, 1.0)
    return min(max(counted, 0.0), 1.0)
