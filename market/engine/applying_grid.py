"""What facts of the grid operator's envelopes change."""

from __future__ import annotations

from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.state import Envelope, EnvelopePublication


def _envelopes(a: Effects, fact: f.EnvelopesPublished, parts: Parts) -> None:
    """Newer rows go in front: the first that covers a slot holds. Rows of the past go."""
    state = a.state
    state.next_publication = fact.publication + 1
    now = state.config.slot_of(a.at_us)
    members = []
    for member, part in parts.items():
        if isinstance(part, f.EnvelopePart):
            members.append(member)
            rows = [Envelope(fact.publication, *row) for row in part.rows]
            kept = [row for row in state.envelopes.get(member, []) if row.end_slot > now]
            state.envelopes[member] = rows + kept
            a.tell("envelope", {"publication": fact.publication, "rows": part.rows}, member=member)
    state.publications[fact.publication] = EnvelopePublication(
        fact.publication, a.at_us, fact.source, fact.by, fact.calculation, tuple(members)
    )
    while len(state.publications) > 1000:
        del state.publications[next(iter(state.publications))]


def _envelope_default(a: Effects, fact: f.EnvelopeDefaultSet, parts: Parts) -> None:
    a.state.envelope_default = (fact.import_w, fact.export_w)
    a.tell("envelope_default", {"import_w": fact.import_w, "export_w": fact.export_w})


def _envelope_answered(a: Effects, fact: f.EnvelopeAnswered, parts: Parts) -> None:
    part, publication = parts.get(fact.member), a.state.publications.get(fact.publication)
    if publication is not None and isinstance(part, f.EnvelopeAnsweredPart):
        publication.receipts.setdefault(fact.member, []).append((part.status, a.at_us))


EFFECTS: dict[type[f.Fact], Handler] = {
    f.EnvelopesPublished: _envelopes,
    f.EnvelopeDefaultSet: _envelope_default,
    f.EnvelopeAnswered: _envelope_answered,
}
