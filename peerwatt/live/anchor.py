"""How engine time hangs on the wall clock, at the first start and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.engine.commands import TieTime
from peerwatt.clocks import PPM

if TYPE_CHECKING:
    from market.engine.config import EngineConfig
    from market.engine.state import Anchor

_US_PER_S = 1_000_000


def first_anchor(config: EngineConfig, wall_us: int, factor_ppm: int) -> TieTime:
    """Engine time at the first start.

    In real time, a scenario that lies ahead is waited for: engine time is UTC. Otherwise engine time begins one slot
    before the scenario does, so that people can still bid for its first slot.
    """
    if factor_ppm == PPM and wall_us <= config.start_us:
        return TieTime(wall_us, wall_us, factor_ppm)
    return TieTime(wall_us, config.start_us - config.slot_s * _US_PER_S, factor_ppm)


def next_anchor(last: Anchor | None, at_us: int, wall_us: int, factor_ppm: int) -> TieTime:
    """Engine time after a restart.

    In real time, before and after, time went on while the service was down. At any other speed it stood still: it goes
    on at the last event, so that no slot is skipped.

    Parameters
    ----------
    last
        The anchor before, if there was one.
    at_us
        Engine time of the last event in the journal: time never goes back behind it.
    wall_us
        The wall clock now.
    factor_ppm
        Speed from now on.
    """
    if last is not None and last.factor_ppm == factor_ppm == PPM:
        return TieTime(wall_us, max(last.engine_us + wall_us - last.wall_us, at_us), factor_ppm)
    return TieTime(wall_us, at_us, factor_ppm)
