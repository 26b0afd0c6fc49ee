"""Operating envelopes: published, superseded, answered; and what holds where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from market.engine.commands import AnswerEnvelope, EnvelopeRow, PublishEnvelopes, SetEnvelopeDefault
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views_money as views
from peerwatt.api.etag import check_if_match, etag
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import (
    Listing,
    actor,
    member_number,
    name_of,
    numbered,
    own_member,
    personal_member,
    slot_index,
    submit,
)
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.api.routes_markets import text
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Envelopes")
READ, PUBLISH = "envelopes:read", "envelopes:publish"
MAX_BYTES = 4 << 20
DEFAULT = "envelope_default"
"""Name of the registry's setting that counts the versions of the default; the value that holds is the engine's."""


class EnvelopesQuery(Paged):
    """Which envelopes."""

    participant: Annotated[wire.Participant, Meta(description="Only this participant's.")] | UnsetType = UNSET


def slot_end(call: Call, name: str) -> int:
    """End of a range of slots: a slot, or the end of the grid."""
    config = call.service.engine.config
    return config.n_slots if name == call.service.names.text(config.n_slots) else slot_index(call.service, name)


@routes.post(
    "/envelopes:publish", "publishEnvelopes", "Publish operating envelopes",
    scope=PUBLISH, body=wire.EnvelopesIn, answer=wire.EnvelopesAck, status=201, problems=(404, 409),
    max_body=MAX_BYTES, description="Where they overlap older ones, they supersede them.",
)  # fmt: skip
async def publish_envelopes(call: Call) -> Answer:
    """Limits of members in ranges of slots."""
    body: wire.EnvelopesIn = call.body
    service, rows = call.service, []
    for place, envelope in enumerate(body.envelopes):
        member = member_number(service, call.caller, envelope.participant)
        first, end = slot_index(service, envelope.from_), slot_end(call, envelope.to)
        if first >= end:
            raise refuse("bad_value", f"/envelopes/{place} ends before it begins")
        rows.append(EnvelopeRow(member, first, end, envelope.import_w, envelope.export_w))
    command = PublishEnvelopes(tuple(rows), body.source, actor(call), body.calculation)
    reply = await submit(call, command)
    number = reply.answer[0] if isinstance(reply.answer, tuple) else reply.answer
    return Answer(wire.EnvelopesAck(number, reply.seq, time_text(reply.at_us)))


def _holding(call: Call, state: State, member: int, participant: str) -> Iterator[wire.EnvelopeOut]:
    """A member's envelopes from now on, newest publication first, then the default."""
    now = max(call.service.now_slot(), 0)
    names = call.service.names
    for envelope in state.envelopes.get(member, ()):
        if envelope.end_slot > now:
            yield views.envelope_out(names, state, participant, envelope)
    default = views.default_envelope(names, state, participant, min(now, state.config.n_slots))
    if default is not None:
        yield default


@routes.get(
    "/envelopes", "listEnvelopes", "Envelopes that hold",
    scope=PUBLISH, answer=Page[wire.EnvelopeOut], query=EnvelopesQuery, problems=(404,),
)  # fmt: skip
async def list_envelopes(call: Call) -> Answer:
    """By member: those of newer publications come before those that they supersede."""
    service = call.service
    only = text(call.query.participant)
    member = None if only is None else member_number(service, call.caller, only)
    name, listing = name_of(service), Listing[wire.EnvelopeOut](call, parts=2)

    def look(state: State) -> Page[wire.EnvelopeOut]:
        rows = (
            ((m, i), views.envelope_out(service.names, state, name(m), envelope))
            for m in (sorted(state.envelopes) if member is None else [member])
            for i, envelope in enumerate(state.envelopes.get(m, ()))
            if envelope.end_slot > service.now_slot()
        )
        return listing.page(rows)

    return Answer(await service.engine.read(look))


@routes.get(
    "/participants/{participant}/envelope", "listOwnEnvelopes", "A participant's envelopes: now and to come",
    scope=READ, answer=Page[wire.EnvelopeOut], query=Paged, problems=(404,),
)  # fmt: skip
async def own_envelopes(call: Call) -> Answer:
    """Newest publication first: the first that covers a slot holds in it. The default stands at the end."""
    participant = call.path["participant"]
    member = await personal_member(call, participant)
    listing = Listing[wire.EnvelopeOut](call)

    def look(state: State) -> Page[wire.EnvelopeOut]:
        return listing.page(numbered(_holding(call, state, member, participant)))

    return Answer(await call.service.engine.read(look))


@routes.post(
    "/participants/{participant}/envelope/receipts", "answerEnvelope", "Answer a publication",
    scope=READ, body=wire.ReceiptIn, answer=wire.ReceiptOut, status=201, problems=(403, 404, 409),
)  # fmt: skip
async def answer_envelope(call: Call) -> Answer:
    """Received, started, completed, cannot comply, opted out, superseded. Only for oneself."""
    body: wire.ReceiptIn = call.body
    participant = call.path["participant"]
    member = await own_member(call, participant)

    def known(state: State) -> bool:
        publication = state.publications.get(body.publication)
        return publication is not None and member in publication.members

    if not await call.service.engine.read(known):
        raise unknown("publication", str(body.publication))
    reply = await submit(call, AnswerEnvelope(body.publication, member, body.status))
    at = time_text(reply.at_us)
    return Answer(wire.ReceiptOut(body.publication, participant, body.status, at, reply.seq))


@routes.get(
    "/envelopes/publications/{publication}/receipts", "listReceipts", "What participants answered to a publication",
    scope=PUBLISH, answer=Page[wire.ReceiptOut], query=Paged, problems=(404,),
)  # fmt: skip
async def list_receipts(call: Call) -> Answer:
    """By member, then in the order they came."""
    service, number = call.service, call.path["publication"]
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0
    name, listing = name_of(service), Listing[wire.ReceiptOut](call, parts=2)

    def look(state: State) -> Page[wire.ReceiptOut]:
        publication = state.publications.get(wanted)
        if publication is None:
            raise unknown("publication", number)
        rows = (
            ((member, i), wire.ReceiptOut(wanted, name(member), status, time_text(at_us), state.seq))
            for member, receipts in sorted(publication.receipts.items())
            for i, (status, at_us) in enumerate(receipts)
        )
        return listing.page(rows)

    return Answer(await service.engine.read(look))


async def _default(call: Call) -> wire.EnvelopeDefaultOut:
    setting = await call.service.registry.settings.get(DEFAULT)
    held = await call.service.engine.read(lambda state: state.envelope_default)
    import_w, export_w = (-1, -1) if held is None else held
    revision = 0 if setting is None else setting.version
    return wire.EnvelopeDefaultOut(None if import_w < 0 else import_w, None if export_w < 0 else export_w, revision)


@routes.get(
    "/envelopes/default", "getEnvelopeDefault", "What holds for everybody without an envelope",
    scope=READ, answer=wire.EnvelopeDefaultOut, tagged=True,
)  # fmt: skip
async def get_default(call: Call) -> Answer:
    """Null is no limit."""
    default = await _default(call)
    return Answer(default, etag=etag(default.revision))


@routes.put(
    "/envelopes/default", "setEnvelopeDefault", "Change the default",
    scope=PUBLISH, body=wire.EnvelopeDefaultIn, answer=wire.EnvelopeDefaultOut, tagged=True, if_match=True,
    problems=(409,),
)  # fmt: skip
async def set_default(call: Call) -> Answer:
    """It holds at once for everybody without a live envelope."""
    body: wire.EnvelopeDefaultIn = call.body
    before = await _default(call)
    check_if_match(call.headers["if-match"], etag(before.revision))
    by = actor(call)
    value = {"import_w": body.import_w, "export_w": body.export_w}
    # First the version, so that of two changes from one version only one gets through.
    setting = await call.service.registry.settings.put(DEFAULT, value, seen=before.revision, by=by)
    await submit(call, SetEnvelopeDefault(body.import_w, body.export_w, by))
    return Answer(wire.EnvelopeDefaultOut(body.import_w, body.export_w, setting.version), etag=etag(setting.version))
