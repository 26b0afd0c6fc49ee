"""Months' bills on the wire; see `peerwatt.api.billed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from market.settlement import Period
from peerwatt import wire
from peerwatt.api.billed import Bill, PeriodSums
from peerwatt.wire.times import SlotNames, time_text


@dataclass(frozen=True, slots=True)
class BillNames:
    """How a bill's slots and money are named."""

    slots: SlotNames
    currency: str


def bills_out(names: BillNames, participant: str, bills: Sequence[Bill]) -> list[wire.BillOut]:
    """All versions of a bill, oldest first, each with its difference to the one before."""
    found: list[wire.BillOut] = []
    before: dict[str, int] | None = None
    for bill in bills:
        lines = _lines(bill.made.bills.lines_u)
        found.append(_bill_out(names, participant, bill, lines, before))
        before = lines
    return found


def _bill_out(
    names: BillNames, participant: str, bill: Bill, lines: dict[str, int], before: dict[str, int] | None
) -> wire.BillOut:
    made, bills = bill.made, bill.made.bills
    difference = None if before is None else {name: amount - before[name] for name, amount in lines.items()}
    peak = int(made.peak_slot[0])
    return wire.BillOut(
        participant=participant,
        currency=names.currency,
        **_period(names, made.period),
        version=bill.version,
        provisional=bill.version == 0,
        posted=bill.posted,
        reason=bill.reason,
        made_at=time_text(bill.at_us),
        seq=bill.seq,
        slots=int(made.slots[0]),
        substituted_slots=bill.substituted,
        import_wh=int(bills.import_wh[0]),
        export_wh=int(bills.export_wh[0]),
        bought_wh=int(bills.bought_wh[0]),
        sold_wh=int(bills.sold_wh[0]),
        peak_wh=int(made.peak_wh[0]),
        peak_slot=None if peak < 0 else names.slots.text(peak),
        lines=wire.BillLinesOut(**lines),
        total_u=int(bills.total_u[0]),
        baseline=wire.BillLinesOut(**_lines(bills.baseline_lines_u)),
        baseline_u=int(bills.baseline_total_u[0]),
        saving_u=int(bills.saving_u[0]),
        difference=None if difference is None else wire.BillLinesOut(**difference),
        difference_u=0 if difference is None else sum(difference.values()),
    )


def sums_out(names: BillNames, period: Period, sums: PeriodSums) -> wire.PeriodAccountsOut:
    """A month over all members."""
    return wire.PeriodAccountsOut(
        currency=names.currency,
        **_period(names, period),
        provisional=not sums.closed,
        slots=sums.slots,
        substituted_slots=sums.substituted,
        members=sums.members,
        lines=wire.BillLinesOut(**sums.lines_u),
        total_u=sum(sums.lines_u.values()),
        accounts_u=sums.accounts_u,
    )


def _lines(lines_u: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(line[0]) for name, line in lines_u.items()}


def _period(names: BillNames, period: Period) -> dict[str, str]:
    slots = names.slots
    return {"period": period.name, "from_": slots.text(period.first), "to": slots.text(period.end)}
