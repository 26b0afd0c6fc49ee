"""What a controller knows about the slots ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


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
    """

    first_slot: int
    slot_s: int
    surplus_wh: Int
    buy_price_u: Int | None = None
    sell_price_u: Int | None = None

    @property
    def n_slots(self) -> int:
        """Number of slots of the window."""
        return len(self.surplus_wh)
