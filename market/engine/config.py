"""What a live market is set up as. It stands in the journal's first record, so that a journal explains itself."""

from __future__ import annotations

from typing import Any

import msgspec

from core.errors import MarketError
from market.registry import BidRule, MeterRule, Rule, make_rule
from market.session import State as SlotState

US_PER_S = 1_000_000


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One market: its rule and its gates.

    Parameters
    ----------
    market_id
        Its name, kebab case.
    rule, parameters
        A registered rule's name and its parameters.
    opens_s, gate_s
        Seconds before a slot begins at which its session opens and its gate closes; ``opens_s`` > ``gate_s`` >= 0.
    p_min_u, p_max_u
        Price band of orders; None: the lowest feed-in and the highest retail price of the slot's contracts.
    backstop
        ``after`` or ``in_book``; see `market.book.Context`.
    """

    market_id: str
    rule: str
    parameters: dict[str, Any] = {}
    opens_s: int = 86_400
    gate_s: int = 0
    p_min_u: int | None = None
    p_max_u: int | None = None
    backstop: str = "after"


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A live neighbourhood's markets on one slot grid, and how they are settled together.

    Parameters
    ----------
    run_id
        Names the run; enters nothing but the answers.
    start_us, slot_s, n_slots
        The slot grid: start of slot 0 [microseconds since 1970, UTC], length [s], number of slots.
    markets
        In the order of their gates. Positions of all of them add up; a rule that works on meters stands alone.
    residuals, tolerance_micro_percent
        See `market.settlement.ResidualRule`.
    settle_after_s
        How long after a slot's end meters are waited for; then missing readings are substituted.
    keep_slots
        How many settled slots stay open to corrections, disputes and repeated requests.
    max_open_orders
        Of one member in all slots of a market.
    credit_limit_u
        A member that owes more [micro-currency] is in default; None: nobody is, unless declared.
    """

    run_id: str
    start_us: int
    slot_s: int
    n_slots: int
    markets: tuple[MarketConfig, ...]
    residuals: str = "individual"
    tolerance_micro_percent: int = 0
    settle_after_s: int = 900
    keep_slots: int = 192
    max_open_orders: int = 100_000
    credit_limit_u: int | None = None

    def __post_init__(self) -> None:
        ids = [m.market_id for m in self.markets]
        if not ids or len(set(ids)) < len(ids):
            raise MarketError("a live neighbourhood needs markets with different names", remedy="name each market")
        if self.slot_s <= 0 or self.n_slots <= 0:
            raise MarketError("slots must have a length and a number", remedy="slot_s > 0 and n_slots > 0")
        for market in self.markets:
            if not market.opens_s > market.gate_s >= 0:
                raise MarketError(
                    f"market {market.market_id!r} opens {market.opens_s} s and closes {market.gate_s} s before a slot",
                    remedy="it has to open before it closes, and close before the slot begins",
                )
        meter_based = [m.market_id for m in self.markets if not isinstance(rule_of(m), BidRule)]
        if meter_based and len(self.markets) > 1:
            raise MarketError(
                f"market {meter_based[0]!r} shares what meters say and cannot stand beside others",
                remedy="keep it alone, or choose a rule that takes orders",
            )

    def slot_start_us(self, slot: int) -> int:
        """When a slot begins; ``slot`` may be the number of slots, for the grid's end."""
        return self.start_us + slot * self.slot_s * US_PER_S

    def slot_at(self, start_us: int) -> int | None:
        """The slot that begins at ``start_us``, or None."""
        slot, rest = divmod(start_us - self.start_us, self.slot_s * US_PER_S)
        return slot if rest == 0 and 0 <= slot < self.n_slots else None

    def slot_of(self, at_us: int) -> int:
        """The slot in which a moment lies; it may lie outside the grid."""
        return (at_us - self.start_us) // (self.slot_s * US_PER_S)

    def opens_us(self, market: MarketConfig, slot: int) -> int:
        """When a market opens for a slot."""
        return self.slot_start_us(slot) - market.opens_s * US_PER_S

    def gate_us(self, market: MarketConfig, slot: int) -> int:
        """When a market's gate for a slot closes."""
        return self.slot_start_us(slot) - market.gate_s * US_PER_S

    def settles_us(self, slot: int) -> int:
        """When a slot is settled even if meters are missing."""
        return self.slot_start_us(slot + 1) + self.settle_after_s * US_PER_S


def rule_of(market: MarketConfig) -> Rule:
    """The market's rule with its parameters.

    Raises
    ------
    MarketError
        If there is no such rule, a parameter is wrong, or the rule names members, whom the journal must not name.
    """
    rule: Rule = make_rule(market.rule, market.parameters)
    if isinstance(rule, MeterRule) and any(rule.named_members().values()):
        raise MarketError(
            f"{market.rule} names members in its parameters, and a journal holds no names",
            remedy="choose parameters that treat all members alike, or simulate the scenario",
        )
    return rule


__all__ = ["US_PER_S", "EngineConfig", "MarketConfig", "SlotState", "rule_of"]
