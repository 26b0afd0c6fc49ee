"""A member's own terms: what no rule, strategy or optimiser may go against (market-rules 2.27)."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import MarketError


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one member allows the market to do with its energy.

    Parameters
    ----------
    floor_u
        It sells for no less [micro-currency per kWh]; None = no such term.
    ceiling_u
        It buys for no more [micro-currency per kWh]; None = no such term.
    refused_classes
        Classes of energy it does not buy (``attributes["class"]`` of the sell order, see `energy_classes`).
    """

    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("floor_u", "ceiling_u"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise MarketError(f"terms.{name} is {value!r}", remedy="give whole micro-currency per kWh, or None")

    @property
    def prices(self) -> bool:
        """Whether a price is among the terms."""
        return self.floor_u is not None or self.ceiling_u is not None
