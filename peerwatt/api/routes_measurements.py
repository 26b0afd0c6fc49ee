"""Meter readings in bulk."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from market.engine.commands import Measure, Reading
from market.engine.facts import QUALITIES
from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views
from peerwatt.api.lookup import Listing, actor, member_number, personal_member, slot_index, submit
from peerwatt.api.operation import Answer, Call, Group
from peerwatt.api.problems import refuse
from peerwatt.api.routes_markets import RangeQuery, moment_us, slot_range
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Measurements")
MAX_BYTES = 4 << 20


class ReadingsQuery(RangeQuery, kw_only=True):
    """Whose readings of which slots."""

    participant: Annotated[wire.Participant, Meta(description="Whose readings.", examples=["house-07"])]


@routes.post(
    "/measurements", "reportReadings", "Report meter readings",
    scope="measurements:write", group="measurements", body=wire.MeasurementsIn, answer=wire.MeasurementsAck, keyed=True,
    problems=(403, 404, 409), max_body=MAX_BYTES,
    description="All of them are taken, or none. A reading of a settled slot brings a correction.",
)  # fmt: skip
async def report_readings(call: Call) -> Answer:
    """Up to 10000 readings of participants that the caller acts for; each participant's slot once."""
    service = call.service
    told: list[wire.ReadingIn] = call.body.readings
    members = {name: member_number(service, call.caller, name) for name in {reading.participant for reading in told}}
    readings: dict[tuple[int, int], Reading] = {}
    for place, reading in enumerate(told):
        where = members[reading.participant], slot_index(service, reading.slot)
        if where in readings:
            raise refuse("bad_value", f"/readings/{place} is of a slot that stands there already")
        observed = reading.observed_at
        readings[where] = Reading(
            *where,
            reading.import_wh,
            reading.export_wh,
            QUALITIES.index(reading.quality),
            0 if observed is None else moment_us(observed, f"/readings/{place}/observed_at"),
        )
    command = Measure(tuple(readings.values()), actor(call), call.idempotency, members[told[0].participant])
    reply = await submit(call, command)
    ack = wire.MeasurementsAck(reply.seq, len(readings), time_text(reply.at_us))
    return Answer(ack, repeated=reply.repeated)


@routes.get(
    "/measurements", "listReadings", "Readings that hold now",
    scope="measurements:read", answer=Page[wire.ReadingOut], query=ReadingsQuery, problems=(404,),
)  # fmt: skip
async def list_readings(call: Call) -> Answer:
    """A participant's readings by slot, of slots that are still kept."""
    service, query = call.service, call.query
    member = await personal_member(call, query.participant)
    first, end = slot_range(call, query)
    listing = Listing[wire.ReadingOut](call)

    def look(state: State) -> Page[wire.ReadingOut]:
        slots = (s for s in sorted(state.slots) if listing.start(first) <= s < end)
        found = ((s, state.slots[s].readings.get(member)) for s in slots)
        rows = (
            ((s,), views.reading_out(service.names, query.participant, s, reading))
            for s, reading in found
            if reading is not None
        )
        return listing.page(rows)

    return Answer(await service.engine.read(look))
