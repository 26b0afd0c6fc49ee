"""What all facts and parts have in common, and the numbers that stand for words in them."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, tag_field="fact", tag=str.lower, omit_defaults=True):
    """Base of public facts; its tag is the record's kind."""


class Part(msgspec.Struct, tag_field="part", tag=str.lower, omit_defaults=True):
    """Base of personal parts."""


FLAG_BITS = {"block": 1, "aon": 2, "ioc": 4, "fok": 8, "market": 16}
"""Bits of order flags in rows."""

QUALITIES = ("good", "estimated", "substituted", "suspect", "corrected")
"""Quality of a reading. ``substituted``: the engine's own, where none came in time."""
