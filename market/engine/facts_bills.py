"""Facts of months' bills: what is charged by the month, beside what the slots came to."""

from __future__ import annotations

from market.engine.facts_base import Fact, Part


class ChargesPosted(Fact):
    """The charges of a settled month are posted to the accounts; a further version posts what it changes.

    Computed from the settled slots and the tariffs, and taken as recorded in a replay.

    Parameters
    ----------
    period, first, end
        The billing month, ``2016-06``, and its slots [first, end).
    version
        1 first; a slot of the month that was settled again makes another.
    until_seq
        The last settlement of a slot that is in it.
    charges_u
        Fixed and demand charges, which the network operator receives, and tax, which the state receives: sums over all
        members, erased ones too. What this version's month comes to, not the difference.
    """

    period: str
    first: int
    end: int
    version: int
    until_seq: int
    charges_u: tuple[int, int, int]


class ChargesPostedPart(Part):
    """What a member pays: fixed and demand charges, and tax."""

    charges_u: tuple[int, int, int]
