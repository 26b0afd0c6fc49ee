"""What one slot of meters shows of a rule that takes no orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from core.errors import MarketError
from market.audit.books import MeterBook
from market.book import Book, Meters
from market.crossing import cross
from market.facade import share_meters
from market.orders import Order, Side
from market.registry import MeterRule
from market.result import Shared
from market.rules.by_slot import guarded

WASTE_PERCENT = (110, 125, 200)
"""What a consumer could draw instead, the rest of it for nothing [% of its need]."""
CURTAIL_PERCENT = (0, 25, 50, 75, 90)
"""What a producer could feed in instead [%]."""

READING_BYTES = 16
"""Payload of a meter reading: energy 8, slot 8."""
BILL_BYTES = 24
"""Payload of a bill line: energy 8, amount 8, slot 8."""


@dataclass(frozen=True, slots=True)
class Waste:
    """A reading that would have earned a member more than its true need; bills are exact [micro-currency]."""

    member: str
    true_wh: int
    metered_wh: int
    honest_u: Fraction
    bill_u: Fraction

    @property
    def gain_u(self) -> Fraction:
        """What it saves on the bill by throwing energy away."""
        return self.honest_u - self.bill_u

    def __str__(self) -> str:
        return (
            f"{self.member} meters {self.metered_wh} Wh instead of {self.true_wh} Wh and throws the rest away: "
            f"bill {self.bill_u} instead of {self.honest_u}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; exact numbers as text."""
        return {
            "member": self.member,
            "true_wh": self.true_wh,
            "metered_wh": self.metered_wh,
            "honest_u": str(self.honest_u),
            "bill_u": str(self.bill_u),
            "gain_u": str(self.gain_u),
        }


@dataclass(frozen=True, kw_only=True)
class MeterOutcome:
    """One meter rule on one slot. Money is exact micro-currency, energy Wh; see `market.audit.outcome.BookOutcome`.

    ``bills`` and ``alone`` are by member; ``welfare_u`` is what members and operator together save beside everybody
    alone with the retailer, ``optimum_u`` the most that could be saved by trading locally.
    """

    book: MeterBook
    refused: str | None = None
    failure: str | None = None
    bills: Mapping[str, Fraction] = field(default_factory=dict)
    alone: Mapping[str, Fraction] = field(default_factory=dict)
    welfare_u: Fraction = Fraction(0)
    optimum_u: Fraction = Fraction(0)
    surplus_u: Fraction = Fraction(0)
    volume_wh: int = 0
    waste: Waste | None = None
    wasted: Mapping[str, Fraction] = field(default_factory=dict)
    tried: int = 0
    messages: int = 0
    payload_bytes: int = 0
    rounds: int = 1

    @property
    def measured(self) -> bool:
        """Whether there is a result."""
        return self.refused is None and self.failure is None

    @property
    def savings(self) -> dict[str, Fraction]:
        """Member -> what it saves beside being alone."""
        return {m: self.alone[m] - bill for m, bill in self.bills.items()}

    @property
    def worst_u(self) -> Fraction:
        """The lowest saving, or 0."""
        return min(self.savings.values(), default=Fraction(0))


def measure_meters(rule: MeterRule, book: MeterBook, *, waste: bool = True) -> MeterOutcome:
    """Everything the audit wants to know of one slot of meters. Never raises for what the rule does."""
    meters = book.meters
    try:
        reason = unfit_meters(rule, book)
        if reason is not None:
            return MeterOutcome(book=book, refused=reason)
        shared = share_meters(rule, meters)
        found, gains, tried = wasteful(rule, meters, shared) if waste else (None, {}, 0)
    except MarketError as error:
        return MeterOutcome(book=book, failure=error.message)
    alone = {m: Fraction(u) for m, u in shared.standalone_u.items()}
    n = len(meters.members)
    return MeterOutcome(
        book=book,
        bills={m: Fraction(shared.payments.get(m, 0)) for m in meters.members},
        alone=alone,
        welfare_u=sum(alone.values(), Fraction(0)) - Fraction(shared.retailer_u),
        optimum_u=most_saved(meters),
        surplus_u=Fraction(shared.surplus_u),
        volume_wh=shared.volume_wh,
        waste=found,
        wasted=gains,
        tried=tried,
        messages=2 * n,
        payload_bytes=n * (READING_BYTES + BILL_BYTES),
    )


def unfit_meters(rule: MeterRule, book: MeterBook) -> str | None:
    """Why a rule does not take a slot of meters, or None."""
    named = {m for ids in rule.named_members().values() for m in ids}
    if named - set(book.meters.members):
        return "its parameters name members of another district"
    return guarded(rule, book.meters.slot, rule.applicable, book.meters)


def most_saved(meters: Meters) -> Fraction:
    """The most that local trade can save: buyers' limits are their retail, sellers' their feed-in prices."""
    orders = [
        Order(order_id=m, agent_id=m, side=Side.BUY if n > 0 else Side.SELL, e_wh=abs(n), price_u=r if n > 0 else f)
        for m, n, r, f in zip(meters.members, meters.net_wh, meters.retail_u, meters.feed_in_u, strict=True)
    ]
    return Fraction(cross(Book.from_orders(orders)).welfare_u)


def wasteful(rule: MeterRule, meters: Meters, honest: Shared) -> tuple[Waste | None, dict[str, Fraction], int]:
    """Readings that members could bring about by throwing energy away, and what they would save by it.

    Returns
    -------
    the best, member -> best gain (0 = none), and the number of readings tried
    """
    gains: dict[str, Fraction] = {}
    best: Waste | None = None
    tried = 0
    for k, (member, net) in enumerate(zip(meters.members, meters.net_wh, strict=True)):
        gains[member] = Fraction(0)
        before = Fraction(honest.payments.get(member, 0))
        shares = WASTE_PERCENT if net > 0 else CURTAIL_PERCENT
        stated = {net * percent // 100 if net > 0 else -(-net * percent // 100) for percent in shares} - {net}
        for wh in sorted(stated):
            changed = replace(meters, net_wh=(*meters.net_wh[:k], wh, *meters.net_wh[k + 1 :]))
            if rule.applicable(changed) is not None:
                continue
            tried += 1
            bill = Fraction(share_meters(rule, changed).payments.get(member, 0))
            if before - bill > gains[member]:
                gains[member] = before - bill
                if best is None or before - bill > best.gain_u:
                    best = Waste(member, net, wh, before, bill)
    return best, gains, tried
