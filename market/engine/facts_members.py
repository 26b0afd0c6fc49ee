"""Facts of the market itself, its members, their terms and standing contracts."""

from __future__ import annotations

from typing import Any

from market.engine.facts_base import Fact, Part
from market.journal.protocol import SCHEMA_VERSION


class Genesis(Fact):
    """The first fact: which market this is. ``config`` is an `market.engine.config.EngineConfig` as a mapping."""

    config: dict[str, Any]
    schema: int = SCHEMA_VERSION


class Anchored(Fact):
    """Engine time was tied to the wall clock: at ``wall_us`` it was ``engine_us`` and ran ``factor_ppm`` / 1e6 fast."""

    wall_us: int
    engine_us: int
    factor_ppm: int


class Joined(Fact):
    """A member joined; it takes part from slot ``from_slot``. ``contract`` is its tariff's place in the slot prices.

    ``storage_only``: it is a battery of the community's, which without a market would stand idle.
    """

    member: int
    contract: int
    from_slot: int
    node: int = -1
    modelled: bool = False
    storage_only: bool = False


class JoinedPart(Part):
    """Who it is: the participant's id."""

    participant_id: str


class Left(Fact):
    """A member left: it takes part up to and not including slot ``from_slot``; its later orders are cancelled.

    ``erase``: it wants to be forgotten, which happens once its last slot is settled.
    """

    member: int
    from_slot: int
    erase: bool = False


class TermsSet(Fact):
    """A member stated its own terms; the newest hold, from the next slot to open."""

    member: int


class TermsPart(Part):
    """Own terms (market-rules 2.27). ``opted_out`` are slot ranges [from, to) in which it takes no part, ``by_hand``
    those in which it has its devices left to themselves, and how.
    """

    key: bytes
    request: bytes
    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: tuple[str, ...] = ()
    opted_out: tuple[tuple[int, int], ...] = ()
    by_hand: tuple[tuple[int, int, str], ...] = ()


class StandingAgreed(Fact):
    """A standing contract between two members holds for slots [first, end); both parts say what was agreed."""

    contract_id: int
    seller: int
    buyer: int
    first_slot: int
    end_slot: int


class StandingPart(Part):
    """What was agreed; see `market.standing.StandingContract`."""

    share_ppm: int | None = None
    volume_wh: int | None = None
    formula: str = "fixed"
    price_u: int = 0


class StandingEnded(Fact):
    """A standing contract ends before ``end_slot``."""

    contract_id: int
    end_slot: int
    by: int


class Defaulted(Fact):
    """A member is in default: open orders are cancelled, new ones refused; contracts stand and are settled."""

    member: int


class DefaultedPart(Part):
    """Why."""

    reason: str


class WrittenOff(Fact):
    """What a member owes is taken over by the operator's account."""

    member: int


class WrittenOffPart(Part):
    """The amount taken over."""

    amount_u: int


class Reinstated(Fact):
    """A member's default is over."""

    member: int


class Erased(Fact):
    """A member's key is destroyed; what is its alone is gone, its accounts go into those of erased members."""

    member: int
