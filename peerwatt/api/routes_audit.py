"""The journal as auditors see it: every record with its digest, and the end of the chain."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from market.journal.protocol import Record
from peerwatt import wire
from peerwatt.api.etag import etag
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import Listing
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Audit")
READ = "audit:read"


class AuditQuery(Paged):
    """Where in the journal."""

    after: (
        Annotated[int, Meta(ge=0, le=2**63 - 1, description="Records behind this number.", examples=[48_000])]
        | UnsetType
    ) = UNSET


def record_out(record: Record) -> wire.AuditRecordOut:
    """A record with what is needed to compute its digest anew: what is personal stays sealed, and is told by hash."""
    draft = record.draft
    return wire.AuditRecordOut(
        seq=record.seq,
        at=time_text(draft.at_us),
        kind=draft.kind,
        body=msgspec.json.decode(draft.body),
        body_sha256=hashlib.sha256(draft.body).hexdigest(),
        digest=record.digest.hex(),
        unique=draft.unique,
        parts=tuple(wire.AuditPartOut(p.member, hashlib.sha256(p.sealed).hexdigest()) for p in draft.parts),
    )


@routes.get(
    "/audit", "listAudit", "Records of the journal, in order",
    scope=READ, answer=Page[wire.AuditRecordOut], query=AuditQuery,
)  # fmt: skip
async def list_audit(call: Call) -> Answer:
    """A page of the chain; it grows at its end and changes nowhere else."""
    query = call.query
    listing = Listing[wire.AuditRecordOut](call)
    after = listing.start(0 if isinstance(query.after, UnsetType) else query.after)
    head = call.service.engine.head.seq
    until = min(after + listing.limit, head)
    items = [record_out(record) async for record in call.service.journal.read(after, until)] if after < until else []
    return Answer(Page(items, listing.cursor((until,)) if items and until < head else None))


@routes.get("/audit/head", "getAuditHead", "The end of the chain", scope=READ, answer=wire.AuditHeadOut)
async def audit_head(call: Call) -> Answer:
    """Kept elsewhere, it lets nobody change what is before it unseen."""
    head = call.service.engine.head
    at = None
    async for record in call.service.journal.read(max(head.seq - 1, 0), head.seq):
        at = time_text(record.draft.at_us)
    return Answer(wire.AuditHeadOut(head.seq, head.digest.hex(), at))


@routes.get(
    "/audit/record/{seq}", "getAuditRecord", "One record of the journal",
    scope=READ, answer=wire.AuditRecordOut, tagged=True, problems=(404,),
)  # fmt: skip
async def audit_record(call: Call) -> Answer:
    """It never changes."""
    text = call.path["seq"]
    seq = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    if 0 < seq <= call.service.engine.head.seq:
        async for record in call.service.journal.read(seq - 1, seq):
            return Answer(record_out(record), etag=etag(record.digest.hex()), lasting=True)
    raise unknown("record", text)
