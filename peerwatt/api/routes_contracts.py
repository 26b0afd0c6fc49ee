"""Standing contracts between two members: offered, accepted, ended. Offers wait in the registry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from market.engine.commands import AgreeStanding, EndStanding, Refused
from market.engine.state import Standing, State
from peerwatt import wire
from peerwatt.api import views_money as views
from peerwatt.api.failures import failure, unknown
from peerwatt.api.lookup import Listing, name_of, own_member, personal_member, slot_index, submit
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse, refused
from peerwatt.store.records import Offer, RegistryError
from peerwatt.wire.fields import Page

routes = Group("Contracts")
READ, WRITE = "terms:read", "terms:write"
_OFFER_DAYS = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _offer_out(offer: Offer) -> wire.ContractOut:
    terms = msgspec.convert(offer.terms, wire.ContractOffer)
    seller, buyer = (offer.by, offer.to) if terms.role == "seller" else (offer.to, offer.by)
    return wire.ContractOut(
        contract_id=offer.id,
        status="offered" if offer.state == "open" else "ended",
        seller=seller,
        buyer=buyer,
        offered_by=offer.by,
        from_=terms.from_,
        to=terms.to,
        share_ppm=terms.share_ppm,
        volume_wh=terms.volume_wh,
        formula=terms.formula,
        price_u=terms.price_u,
    )


@routes.get(
    "/participants/{participant}/contracts", "listContracts", "A participant's contracts, and offers",
    scope=READ, answer=Page[wire.ContractOut], query=Paged, problems=(404,),
)  # fmt: skip
async def list_contracts(call: Call) -> Answer:
    """Contracts by number, then offers by and to the participant that nobody has answered yet."""
    service, participant = call.service, call.path["participant"]
    member = await personal_member(call, participant)
    name, now = name_of(service), service.now_slot()

    def look(state: State) -> list[wire.ContractOut]:
        mine = (c for _, c in sorted(state.standing.items()) if member in {c.seller, c.buyer})
        return [views.contract_out(service.names, contract, name, now) for contract in mine]

    contracts = await service.engine.read(look)
    offers = await service.registry.offers.of(participant)
    offered_by = {str(offer.contract): offer.by for offer in offers if offer.contract is not None}
    open_offers = [_offer_out(offer) for offer in offers if _is_open(call, offer)]
    rows = [
        ((0, int(c.contract_id)), msgspec.structs.replace(c, offered_by=offered_by.get(c.contract_id, c.offered_by)))
        for c in contracts
    ]
    rows += [((1, int(c.contract_id, 36)), c) for c in sorted(open_offers, key=lambda c: int(c.contract_id, 36))]
    return Answer(Listing[wire.ContractOut](call, parts=2).page(rows))


def _is_open(call: Call, offer: Offer) -> bool:
    return offer.state == "open" and (offer.expires - _EPOCH) // timedelta(microseconds=1) > call.service.wall()


@routes.post(
    "/participants/{participant}/contracts", "offerContract", "Offer another member a contract",
    scope=WRITE, body=wire.ContractOffer, answer=wire.ContractOut, status=201, problems=(404, 409),
)  # fmt: skip
async def offer_contract(call: Call) -> Answer:
    """It holds once the other has accepted it. A member that does not exist is offered nothing, and answers 404."""
    body: wire.ContractOffer = call.body
    service, participant = call.service, call.path["participant"]
    await own_member(call, participant)
    if service.engine.member_of(body.with_) is None:
        raise refuse("unknown_participant", body.with_)
    if body.with_ == participant:
        raise refuse("bad_value", "a contract has two parties")
    first, end = slot_index(service, body.from_), slot_index(service, body.to)
    if first >= end:
        raise refuse("bad_value", "it ends before it begins")
    expires = _EPOCH + timedelta(microseconds=service.wall(), days=_OFFER_DAYS)
    terms = msgspec.to_builtins(body)
    offer = await service.registry.offers.add(participant, body.with_, terms, expires)
    return Answer(_offer_out(offer))


async def _offer(call: Call, contract_id: str) -> Offer | None:
    """An open offer that the caller may see; None if it is no offer."""
    try:
        offer = await call.service.registry.offers.get(contract_id)
    except RegistryError:
        return None
    who = call.caller
    return offer if who.sees(offer.by) or who.sees(offer.to) else None


@routes.post(
    "/contracts/{contract}:accept", "acceptContract", "Accept an offer",
    scope=WRITE, answer=wire.ContractOut, problems=(403, 404, 409),
)  # fmt: skip
async def accept_contract(call: Call) -> Answer:
    """Both sides have agreed: the contract holds from its first slot on."""
    service, engine, offers = call.service, call.service.engine, call.service.registry.offers
    offer = await _offer(call, call.path["contract"])
    if offer is None:
        raise unknown("contract", call.path["contract"])
    if not call.caller.sees(offer.to):
        raise failure(403, "not_yours_to_accept", "Only the other side can accept an offer")
    out = _offer_out(offer)
    seller, buyer = engine.member_of(out.seller), engine.member_of(out.buyer)
    if seller is None or buyer is None:
        raise unknown("contract", offer.id)
    first, end = slot_index(service, out.from_), slot_index(service, out.to)
    await offers.accept(offer.id)
    try:
        agreed = AgreeStanding(seller, buyer, first, end, out.share_ppm, out.volume_wh, out.formula, out.price_u)
        reply = await engine.submit(agreed)
    except BaseException:
        await offers.reopen(offer.id)
        raise
    if isinstance(reply, Refused):
        await offers.reopen(offer.id)
        raise refused(reply)
    number = reply.answer[0] if isinstance(reply.answer, tuple) else reply.answer
    await offers.link(offer.id, number)
    return Answer(msgspec.structs.replace(out, contract_id=str(number), status="agreed"))


@routes.post(
    "/contracts/{contract}:end", "endContract", "End a contract, or take back or decline an offer",
    scope=WRITE, answer=wire.ContractOut, problems=(403, 404, 409),
)  # fmt: skip
async def end_contract(call: Call) -> Answer:
    """A contract ends with the next slot whose gate has not closed."""
    service, text = call.service, call.path["contract"]
    offer = await _offer(call, text)
    if offer is not None and offer.contract is None:
        offers = service.registry.offers
        move = offers.withdraw if call.caller.sees(offer.by) else offers.decline
        return Answer(_offer_out(await move(offer.id)))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
    if offer is not None and offer.contract is not None:
        number = offer.contract
    name, now = name_of(service), service.now_slot()

    def look(state: State) -> Standing | None:
        return state.standing.get(number)

    contract = await service.engine.read(look)
    own = [] if contract is None else [m for m in (contract.seller, contract.buyer) if call.caller.sees(name(m))]
    if contract is None or not own:
        raise refuse("unknown_contract", text)
    await submit(call, EndStanding(number, own[0]))
    ended = await service.engine.read(lambda state: state.standing.get(number)) or contract
    return Answer(views.contract_out(service.names, ended, name, now))
