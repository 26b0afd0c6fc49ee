"""Reliability of supply per building: how often and how long it was dark, and what it did not get.

SAIDI, SAIFI, CAIDI and MAIFI as in IEEE Std 1366-2022, clause 3, 10.1109/IEEESTD.2022.9955492: an interruption of more
than five minutes is sustained and counts for SAIFI and SAIDI; shorter ones are momentary and count for MAIFI.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SUSTAINED_S = 300.0
"""Interruptions beyond this are sustained [s] (IEEE Std 1366-2022, 3.x `momentary interruption`)."""


@dataclass(slots=True)
class Reliability:
    """Counts of each building (B,): what has ended, and since how long it has been dark now."""

    sustained: Int
    sustained_s: Float
    momentary: Int
    dark_s: Float
    """Of the interruption that goes on [s]; 0 while supplied."""
    unserved_wh: Int
    curtailed_wh: Int
    """Generation that nobody could take because of an outage [Wh]."""

    @classmethod
    def of(cls, n: int) -> Reliability:
        """Nothing has happened yet."""
        ints, floats = (np.zeros(n, np.int64) for _ in range(4)), (np.zeros(n) for _ in range(2))
        sustained, momentary, unserved, curtailed = ints
        sustained_s, dark_s = floats
        return cls(sustained, sustained_s, momentary, dark_s, unserved, curtailed)

    def pass_time(self, dark: NDArray[np.bool_], seconds: float) -> None:
        """``seconds`` have passed in which the buildings ``dark`` (B,) had no supply, and the others had."""
        ended = ~dark & (self.dark_s > 0)
        self._close(ended)
        self.dark_s[dark] += seconds

    def finish(self) -> None:
        """The run ends: what goes on is counted as far as it went."""
        self._close(self.dark_s > 0)

    def _close(self, ended: NDArray[np.bool_]) -> None:
        long = ended & (self.dark_s > SUSTAINED_S)
        self.sustained[long] += 1
        self.sustained_s[long] += self.dark_s[long]
        self.momentary[ended & ~long] += 1
        self.dark_s[ended] = 0.0

    def checkpoint(self) -> dict[str, np.ndarray]:
        """All counts by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray]) -> Reliability:
        """Go on from what ``checkpoint`` gave."""
        return cls(**{f.name: arrays[f.name].copy() for f in fields(cls)})

    def summary(self, ids: tuple[str, ...], customers: NDArray[np.bool_]) -> dict[str, Any]:
        """The block ``reliability`` of summary.json; ``customers`` (B,) are the buildings that consume."""
        n = max(int(customers.sum()), 1)
        saifi = float(self.sustained[customers].sum()) / n
        saidi = float(self.sustained_s[customers].sum()) / 60.0 / n
        return {
            "customers": int(customers.sum()),
            "saifi": saifi,
            "saidi_minutes": saidi,
            "caidi_minutes": saidi / saifi if saifi else None,
            "maifi": float(self.momentary[customers].sum()) / n,
            "unserved_kwh": int(self.unserved_wh.sum()) / 1000,
            "curtailed_kwh": int(self.curtailed_wh.sum()) / 1000,
            "by_building": {
                name: {
                    "interruptions": int(self.sustained[i]),
                    "minutes": round(float(self.sustained_s[i]) / 60.0, 6),
                    "momentary": int(self.momentary[i]),
                    "unserved_kwh": int(self.unserved_wh[i]) / 1000,
                    "curtailed_kwh": int(self.curtailed_wh[i]) / 1000,
                }
                for i, name in enumerate(ids)
                if customers[i]
            },
        }
