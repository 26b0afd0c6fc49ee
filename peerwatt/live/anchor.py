"""How engine time hangs on the wall clock, at the first start and after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from market.engine.facts import Anchored
from peerwatt.clocks import PPM
from peerwatt.results.layout import write_atomic

if TYPE_CHECKING:
    from market.engine.config import EngineConfig

_US_PER_S = 1_000_000


def first_anchor(config: EngineConfig, wall_us: int, factor_ppm: int) -> Anchored:
    """Engine time at the first start.

    In real time, a scenario that lies ahead is waited for: engine time is UTC. Otherwise engine time begins one slot
    before the scenario does, so that people can still bid for its first slot.
    """
    if factor_ppm == PPM and wall_us <= config.start_us:
        return Anchored(wall_us, wall_us, factor_ppm)
    return Anchored(wall_us, config.start_us - config.slot_s * _US_PER_S, factor_ppm)


def next_anchor(last: Anchored | None, at_us: int, wall_us: int, factor_ppm: int) -> Anchored:
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
        return Anchored(wall_us, max(last.engine_us + wall_us - last.wall_us, at_us), factor_ppm)
    return Anchored(wall_us, at_us, factor_ppm)


@dataclass(frozen=True, slots=True)
class AnchorFile:
    """The newest anchor in a file of the data folder. Without it a restart takes downtime for no time."""

    path: Path

    def save(self, anchor: Anchored) -> None:
        """Keep it."""
        write_atomic(self.path, msgspec.json.encode(anchor))

    def load(self) -> Anchored | None:
        """The last one; None if there is none, or it cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Anchored)
        except (OSError, msgspec.DecodeError):
            return None
