"""Bills of months: fixed and demand charges and tax beside what the slots came to."""

from __future__ import annotations

from market.settlement import Period
from peerwatt import wire
from peerwatt.api.billed import bills_of, sums_of, terms_of
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import Listing, personal_member
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.views_bills import BillNames, bills_out, sums_out
from peerwatt.wire.fields import Page

routes = Group("Settlement")
OWN = "statements:read"


@routes.get(
    "/participants/{participant}/bills", "listBills", "A participant's bills, month by month",
    scope=OWN, answer=Page[wire.BillOut], query=Paged, problems=(404,),
    description="The newest version of each month of which a slot is settled; of one that is not over, what it comes "
    "to so far.",
)  # fmt: skip
async def list_bills(call: Call) -> Answer:
    """By month."""
    service, participant = call.service, call.path["participant"]
    member = await personal_member(call, participant)
    listing = Listing[wire.BillOut](call)
    found: list[wire.BillOut] = []
    for period in terms_of(service).periods():
        if period.first >= listing.start(0) and len(found) <= listing.limit:
            found += bills_out(_names(call), participant, await bills_of(service, member, period))[-1:]
    return Answer(listing.page(((service.names.index(bill.from_),), bill) for bill in found))


@routes.get(
    "/participants/{participant}/bills/{period}", "getBill", "A participant's bill of a month, every version",
    scope=OWN, answer=wire.BillVersionsOut, problems=(404,),
    description="Oldest first, each with its difference to the one before. A late meter reading or a corrected slot "
    "makes a further version of a month that is closed; those that are there do not change.",
)  # fmt: skip
async def get_bill(call: Call) -> Answer:
    """All versions."""
    service, participant = call.service, call.path["participant"]
    member = await personal_member(call, participant)
    period = _period(call)
    bills = await bills_of(service, member, period)
    if not bills:
        raise unknown("bill", f"nothing of {period.name} is settled for {participant}")
    return Answer(wire.BillVersionsOut(participant, period.name, bills_out(_names(call), participant, bills)))


@routes.get(
    "/bills/{period}", "getPeriodAccounts", "A month over all members: sums of the bills, and every account",
    scope="settlement:read", answer=wire.PeriodAccountsOut, problems=(404,),
)  # fmt: skip
async def get_period_accounts(call: Call) -> Answer:
    """In the newest versions; the accounts add up to zero."""
    period = _period(call)
    sums = await sums_of(call.service, period)
    if not sums.slots:
        raise unknown("bill", f"nothing of {period.name} is settled")
    return Answer(sums_out(_names(call), period, sums))


def _period(call: Call) -> Period:
    """The month of that name on the grid; 404 otherwise."""
    name = call.path["period"]
    for period in terms_of(call.service).periods():
        if period.name == name:
            return period
    raise unknown("bill", f"the service has no month {name}")


def _names(call: Call) -> BillNames:
    return BillNames(call.service.names, call.service.currency)
