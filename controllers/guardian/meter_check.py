"""Can it be true what the connection point's meter says, beside what the devices themselves measure? Pure.

The exchange less what the devices draw is what nobody here controls: the house. A meter whose transformers are on
backwards shows a house that feeds in at night, or one that draws twice what the inverters feed in by day: the one thing
that must not happen, because then a limit on feeding in would be lifted just when it is exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controllers.guardian.connection import Part
from controllers.guardian.settings import ConnectionSettings

CYCLES = 5
"""So many cycles in a row have to disagree: meter and devices are not read at the same moment."""
REST_S = 600.0
"""For so long a meter that disagreed is not believed again [s]: it may agree by chance in between."""
_SLACK_SHARE = 0.03
_SLACK_W = 150.0


@dataclass(frozen=True, slots=True)
class MeterTrust:
    """What is remembered: disagreements in a row, and until when the meter is not believed [s, monotonic]."""

    against: int = 0
    doubted_until_s: float = float("-inf")
    why: str = ""

    def doubted(self, now_s: float) -> bool:
        """Whether it is not to be believed now."""
        return now_s < self.doubted_until_s

    def after(self, settings: ConnectionSettings, exchange_w: float, parts: Sequence[Part], now_s: float) -> MeterTrust:
        """What is remembered after a good reading of it.

        Parameters
        ----------
        settings
            The connection point: ``source_w`` is the most that the house may feed in, ``load_w`` the most that it may
            draw (without it, anything).
        exchange_w
            What the meter says [W, positive draws].
        parts
            All devices behind it. If it is not known what one of them draws, that could, nothing is changed.
        now_s
            Monotonic time [s].
        """
        known = [part.w for part in parts if part.w is not None]
        silent = any(part.w is None and (part.export_w > 0.0 or part.import_w > 0.0) for part in parts)
        if silent or (settings.export_w is None and settings.import_w is None):
            return self
        house_w = exchange_w - sum(known)
        slack_w = _SLACK_W + _SLACK_SHARE * (abs(exchange_w) + sum(map(abs, known)))
        why = ""
        if house_w < -settings.source_w - slack_w:
            why = f"the house would feed in {-house_w:.0f} W, at most {settings.source_w:.0f} W (source_w) are there"
        elif settings.load_w is not None and house_w > settings.load_w + slack_w:
            why = f"the house would draw {house_w:.0f} W, at most {settings.load_w:.0f} W (load_w) are there"
        if not why:
            return MeterTrust(0, self.doubted_until_s, self.why)
        if self.against + 1 < CYCLES:
            return MeterTrust(self.against + 1, self.doubted_until_s, self.why)
        return MeterTrust(self.against + 1, now_s + REST_S, f"it says {exchange_w:.0f} W, so {why}")
