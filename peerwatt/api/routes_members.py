"""Who one is, and a member's own terms."""

from __future__ import annotations

from market.engine.commands import SetTerms
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views
from peerwatt.api.etag import check_if_match, etag
from peerwatt.api.lookup import member_of, own_member, personal_member, slot_index, submit
from peerwatt.api.operation import ANYBODY, Answer, Call, Group
from peerwatt.api.problems import refuse

routes = Group("Members")


@routes.get("/participants/me", "getMe", "Who the server takes one for", scope=ANYBODY, answer=wire.MeOut)
async def get_me(call: Call) -> Answer:
    """Role, scopes and participants of the key or token."""
    who = call.caller
    me = wire.MeOut(who.client_id, who.role, sorted(who.scopes), sorted(who.participants), who.all_participants)
    return Answer(me)


async def _terms(call: Call, member: int, participant: str) -> wire.TermsOut:
    names = call.service.names

    def look(state: State) -> wire.TermsOut:
        return views.terms_out(names, member_of(state, member, participant), participant)

    return await call.service.engine.read(look)


@routes.get(
    "/participants/{participant}/terms", "getTerms", "A participant's own terms",
    scope="terms:read", answer=wire.TermsOut, tagged=True, problems=(404,),
)  # fmt: skip
async def get_terms(call: Call) -> Answer:
    """What it allows the market to do with its energy."""
    participant = call.path["participant"]
    member = await personal_member(call, participant)
    terms = await _terms(call, member, participant)
    return Answer(terms, etag=etag(terms.revision))


@routes.put(
    "/participants/{participant}/terms", "setTerms", "Replace a participant's own terms",
    scope="terms:write", body=wire.TermsIn, answer=wire.TermsOut, tagged=True, keyed=True, if_match=True,
    problems=(403, 404, 409),
    description="They hold from the next slot to open. `If-Match` takes the `ETag` of the terms that were read.",
)  # fmt: skip
async def set_terms(call: Call) -> Answer:
    """All of them are replaced."""
    body: wire.TermsIn = call.body
    service, participant = call.service, call.path["participant"]
    member = await own_member(call, participant)
    before = await _terms(call, member, participant)
    opted_out = tuple((slot_index(service, r.from_), _end(call, r.to)) for r in body.opted_out)
    if any(first >= end for first, end in opted_out):
        raise refuse("bad_value", "a range of opted_out ends before it begins")
    by_hand = tuple((slot_index(service, r.from_), _end(call, r.to), r.what) for r in body.by_hand)
    if any(first >= end for first, end, _ in by_hand):
        raise refuse("bad_value", "a range of by_hand ends before it begins")
    command = SetTerms(member, call.idempotency, body.floor_u, body.ceiling_u, body.refused_classes, opted_out, by_hand)
    if not await _is_repeat(call, member):
        check_if_match(call.headers["if-match"], etag(before.revision))
    reply = await submit(call, command)
    terms = await _terms(call, member, participant)
    return Answer(terms, etag=etag(terms.revision), repeated=reply.repeated)


async def _is_repeat(call: Call, member: int) -> bool:
    """Whether the request came before: then the engine answers as it did, though the revision has changed since."""
    key = call.idempotency

    def look(state: State) -> bool:
        found = state.members.get(member)
        return found is not None and key.key in found.answers

    return await call.service.engine.read(look)


def _end(call: Call, text: str) -> int:
    """End of a range of slots: a slot, or the end of the grid."""
    config = call.service.engine.config
    return config.n_slots if text == call.service.names.text(config.n_slots) else slot_index(call.service, text)
