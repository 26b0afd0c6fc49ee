"""What a controller knows about the slots ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

NO_LIMIT_WH = np.int64(10**15)
"""Stands for a room without limit [Wh]; sums of it do not overflow."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The slots of a window as expected when the plan is made; in a simulation with perfect knowledge, as they will be.

    Parameters
    ----------
    first_slot
        Number of the window's first slot in the run.
    slot_s
        Slot length [s].
    surplus_wh
        What each building has over before its storage acts: PV minus load, heat pump and cars [Wh], int64 (S, B),
        negative where it lacks.
    buy_price_u, sell_price_u
        Price of a kWh from and to the retailer [micro-currency per kWh], int64 (S, B), for controllers that follow
        prices; None where they are unknown.
    export_limit_wh
        Most that each building may feed in per slot [Wh], int64 (B,), negative where there is no limit; None: nowhere.
        PV beyond it is curtailed.
    """

    first_slot: int
    slot_s: int
    surplus_wh: Int
    buy_price_u: Int | None = None
    sell_price_u: Int | None = None
    export_limit_wh: Int | None = None

    @property
    def n_slots(self) -> int:
        """Number of slots of the window."""
        return len(self.surplus_wh)

    def export_room_wh(self) -> Int:
        """What each building may still feed in beyond its surplus [Wh], int64 (S, B); a lack adds to it."""
        if self.export_limit_wh is None:
            return np.full_like(self.surplus_wh, NO_LIMIT_WH)
        return np.where(self.export_limit_wh < 0, NO_LIMIT_WH, self.export_limit_wh - self.offered_wh())

    def offered_wh(self) -> Int:
        """The surplus that is left to the others once PV is curtailed to the export limit [Wh], int64 (S, B)."""
        if self.export_limit_wh is None:
            return self.surplus_wh
        return np.where(self.export_limit_wh < 0, self.surplus_wh, np.minimum(self.surplus_wh, self.export_limit_wh))
