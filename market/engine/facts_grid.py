"""Facts of the grid operator's envelopes, and of what operators do besides."""

from __future__ import annotations

from typing import Any

import msgspec

from market.engine.facts_base import Fact, Part


class EnvelopesPublished(Fact):
    """Operating envelopes were published; each member's is in its part. Newer ones supersede older ones."""

    publication: int
    source: str
    by: str
    calculation: str = ""


class EnvelopePart(Part):
    """Rows of (first slot, end slot, import limit W or -1, export limit W or -1)."""

    rows: tuple[tuple[int, int, int, int], ...]


class EnvelopeDefaultSet(Fact):
    """What holds for everybody without a live envelope [W]; -1 = no limit."""

    import_w: int
    export_w: int
    by: str


class EnvelopeAnswered(Fact):
    """A member's receipt for a publication."""

    publication: int
    member: int


class EnvelopeAnsweredPart(Part):
    """received, started, completed, cannot_comply, opted_out or superseded."""

    status: str


class Acted(Fact):
    """An operator did something that has no fact of its own (made or revoked a key, exported data ...)."""

    by: str
    action: str
    detail: dict[str, Any] = msgspec.field(default_factory=dict)
