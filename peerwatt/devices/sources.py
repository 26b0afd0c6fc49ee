"""An emulated PV plant: what its profile says, up to the limit that it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import DeviceError
from hardware import Advance
from peerwatt.plants import ProfileFollower
from peerwatt.system import ProfileAssets

if TYPE_CHECKING:
    from peerwatt.system import System

_HOUR_S = 3600


def source_assets(system: System, building: int, share: float) -> ProfileAssets:
    """The PV of one building as seen by a device that is ``share`` of it."""
    pv = system.demand.pv
    rows = pv.building == building
    here = np.zeros(int(rows.sum()), np.int32)
    return ProfileAssets(here, pv.profile[rows], pv.scale[rows] * share)


class ProfileSource:
    """PV behind the plain Modbus map: it is told like a battery to discharge, and gives at most what the sun does.

    Time passes in whole slots, from the run's first one on.

    Parameters
    ----------
    system, assets
        Where its profiles are, and which ones it follows; all in column 0.
    """

    def __init__(self, system: System, assets: ProfileAssets) -> None:
        self._profiles = system.profiles
        self._slot_s = system.grid.length_s
        self._follower = ProfileFollower(assets, 1)
        self._slot = 0

    @property
    def stored_wh(self) -> int:
        """A source stores nothing."""
        return 0

    def advance(self, set_point_w: int, seconds: int) -> Advance:
        """Let whole slots pass; ``-set_point_w`` [W] is the most that is fed in.

        Raises
        ------
        DeviceError
            If ``seconds`` is no multiple of the slot, or the set-point is no whole number of Wh per slot.
        """
        n_slots, rest = divmod(seconds, self._slot_s)
        most_wh, part = divmod(-set_point_w * self._slot_s, _HOUR_S)
        if rest or part:
            raise DeviceError(f"{seconds} s at {set_point_w} W are no whole slots and Wh", local=True)
        available = self._follower.follow(self._profiles.window(self._slot, n_slots))[:, 0]
        self._slot += n_slots
        return Advance(0, int(np.clip(available, 0, max(most_wh, 0)).sum()), 0)
