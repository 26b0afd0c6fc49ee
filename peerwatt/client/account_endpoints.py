"""A participant's affairs: money, own terms, contracts, meter readings, personal data."""

from __future__ import annotations

from collections.abc import Sequence

from peerwatt.client.calls import (
    Call,
    Tagged,
    answer,
    endpoint,
    if_match,
    json_body,
    keyed_post,
    listing,
    path,
    query,
    tagged,
)
from peerwatt.wire.bills import BillOut, BillVersionsOut, PeriodAccountsOut
from peerwatt.wire.fields import BillLine, Page
from peerwatt.wire.markets import DoneOut
from peerwatt.wire.metering import MeasurementsAck, MeasurementsIn, ReadingIn, ReadingOut
from peerwatt.wire.money import (
    ContractOffer,
    ContractOut,
    DecisionIn,
    DefaultIn,
    DisputedReadingIn,
    DisputeIn,
    DisputeOut,
    SettlementOut,
    SlotSettlementOut,
    SlotVersionsOut,
    StatementOut,
    TermsIn,
    TermsOut,
    WriteOffOut,
)
from peerwatt.wire.service import AccessLogOut, ErasedOut, EraseIn, MeOut, PersonalDataOut


class AccountEndpoints:
    """Participants' accounts and what they decide themselves."""

    @endpoint
    def me(self) -> Call[MeOut]:
        """Who the server takes this client for."""
        return Call("GET", "participants/me", answer(MeOut))

    @endpoint
    def statement(self, participant: str, *, from_: str | None = None, to: str | None = None) -> Call[StatementOut]:
        """A participant's account over a time."""
        params = query(from_=from_, to=to)
        return Call("GET", path("participants", participant, "statement"), answer(StatementOut), params=params)

    @listing
    def settlements(
        self, participant: str, *, from_: str | None = None, to: str | None = None, limit: int | None = None
    ) -> Call[Page[SettlementOut]]:
        """A participant's settled slots, every version."""
        where, params = path("participants", participant, "settlements"), query(from_=from_, to=to, limit=limit)
        return Call("GET", where, answer(Page[SettlementOut]), params=params)

    @listing
    def bills(self, participant: str, *, limit: int | None = None) -> Call[Page[BillOut]]:
        """A participant's bills, month by month, in their newest versions; an open month's so far."""
        return Call("GET", path("participants", participant, "bills"), answer(Page[BillOut]), params=query(limit=limit))

    @endpoint
    def bill(self, participant: str, period: str) -> Call[BillVersionsOut]:
        """All versions of a participant's bill of a month such as ``2016-06``."""
        return Call("GET", path("participants", participant, "bills", period), answer(BillVersionsOut))

    @endpoint
    def period_accounts(self, period: str) -> Call[PeriodAccountsOut]:
        """A month over all members: their bills added up, and what every account receives."""
        return Call("GET", path("bills", period), answer(PeriodAccountsOut))

    @listing
    def slot_settlements(
        self, *, from_: str | None = None, to: str | None = None, limit: int | None = None
    ) -> Call[Page[SlotSettlementOut]]:
        """Settled slots over all members, in their newest version."""
        params = query(from_=from_, to=to, limit=limit)
        return Call("GET", "settlements", answer(Page[SlotSettlementOut]), params=params)

    @endpoint
    def slot_versions(self, slot: str) -> Call[SlotVersionsOut]:
        """All versions of a slot's settlement."""
        return Call("GET", path("settlements", slot), answer(SlotVersionsOut))

    # --- own terms and contracts ------------------------------------------------------------------------------------

    @endpoint
    def terms(self, participant: str) -> Call[Tagged[TermsOut]]:
        """A participant's own terms, with the ETag that a change needs."""
        return Call("GET", path("participants", participant, "terms"), tagged(TermsOut))

    @endpoint
    def set_terms(
        self, participant: str, terms: TermsIn, *, etag: str, key: str | None = None
    ) -> Call[Tagged[TermsOut]]:
        """Replace them; `ApiProblem` 412 if somebody else did so since ``etag``."""
        where = path("participants", participant, "terms")
        return Call("PUT", where, tagged(TermsOut), body=json_body(terms), headers=if_match(etag), keyed=True, key=key)

    @listing
    def contracts(self, participant: str, *, limit: int | None = None) -> Call[Page[ContractOut]]:
        """A participant's standing contracts, and offers."""
        where = path("participants", participant, "contracts")
        return Call("GET", where, answer(Page[ContractOut]), params=query(limit=limit))

    @endpoint
    def offer_contract(self, participant: str, offer: ContractOffer) -> Call[ContractOut]:
        """Offer another member a standing contract."""
        return Call("POST", path("participants", participant, "contracts"), answer(ContractOut), body=json_body(offer))

    @endpoint
    def accept_contract(self, contract_id: str) -> Call[ContractOut]:
        """Accept an offer made to you."""
        return Call("POST", path("contracts", f"{contract_id}:accept"), answer(ContractOut))

    @endpoint
    def end_contract(self, contract_id: str) -> Call[ContractOut]:
        """End one of your contracts, or take back or decline an offer."""
        return Call("POST", path("contracts", f"{contract_id}:end"), answer(ContractOut))

    # --- meters -----------------------------------------------------------------------------------------------------

    @endpoint
    def report(self, readings: Sequence[ReadingIn], *, key: str | None = None) -> Call[MeasurementsAck]:
        """Report meter readings: all of them are taken, or none."""
        return keyed_post(MeasurementsAck, "measurements", MeasurementsIn(readings=list(readings)), key)

    @listing
    def readings(
        self, participant: str, *, from_: str | None = None, to: str | None = None, limit: int | None = None
    ) -> Call[Page[ReadingOut]]:
        """Readings that hold now."""
        params = query(participant=participant, from_=from_, to=to, limit=limit)
        return Call("GET", "measurements", answer(Page[ReadingOut]), params=params)

    # --- disputes and default ---------------------------------------------------------------------------------------

    @endpoint
    def open_dispute(
        self, participant: str, slot: str, line: BillLine, text: str, *, key: str | None = None
    ) -> Call[DisputeOut]:
        """Object to a line of a settled slot's bill, or to the meter reading behind it."""
        objection = DisputeIn(slot=slot, line=line, text=text)
        return keyed_post(DisputeOut, path("participants", participant, "disputes"), objection, key)

    @listing
    def disputes(self, *, status: str | None = None, limit: int | None = None) -> Call[Page[DisputeOut]]:
        """Your own disputes; an operator's: all."""
        return Call("GET", "disputes", answer(Page[DisputeOut]), params=query(status=status, limit=limit))

    @endpoint
    def decide_dispute(
        self, dispute_id: str, upheld: bool, text: str, *, reading: DisputedReadingIn | None = None
    ) -> Call[DisputeOut]:
        """Decide a dispute; with a reading, the slot is settled again."""
        decision = DecisionIn(upheld=upheld, text=text, reading=reading)
        return Call("POST", path("disputes", f"{dispute_id}:decide"), answer(DisputeOut), body=json_body(decision))

    @endpoint
    def declare_default(self, participant: str, reason: str) -> Call[DoneOut]:
        """Declare a member in default: its open orders are cancelled and new ones refused."""
        where = path("participants", f"{participant}:default")
        return Call("POST", where, answer(DoneOut), body=json_body(DefaultIn(reason=reason)))

    @endpoint
    def write_off(self, participant: str) -> Call[WriteOffOut]:
        """Let the operator's account take over what a member in default owes."""
        return Call("POST", path("participants", f"{participant}:write-off"), answer(WriteOffOut))

    @endpoint
    def reinstate(self, participant: str) -> Call[DoneOut]:
        """End a default."""
        return Call("POST", path("participants", f"{participant}:reinstate"), answer(DoneOut))

    # --- personal data ----------------------------------------------------------------------------------------------

    @endpoint
    def personal_data(self, participant: str) -> Call[PersonalDataOut]:
        """Everything the service keeps of a participant."""
        return Call("GET", path("participants", participant, "personal-data"), answer(PersonalDataOut))

    @listing
    def access_log(self, participant: str, *, limit: int | None = None) -> Call[Page[AccessLogOut]]:
        """Who looked at a participant's data or changed it."""
        where = path("participants", participant, "access-log")
        return Call("GET", where, answer(Page[AccessLogOut]), params=query(limit=limit))

    @endpoint
    def erase(self, participant: str, *, confirm: str) -> Call[ErasedOut]:
        """Destroy a participant's key and all that is its alone; ``confirm`` is its id once more. No way back."""
        where = path("participants", f"{participant}:erase")
        return Call("POST", where, answer(ErasedOut), body=json_body(EraseIn(confirm=confirm)))
