"""Facts of meters, settlements and disputes."""

from __future__ import annotations

from typing import Any

import msgspec

from market.engine.facts_base import Fact, Part


class Measured(Fact):
    """Meter readings came in; whose and what is in the parts. ``count`` is their number."""

    count: int
    source: str


class MeasuredPart(Part):
    """A member's readings: (slot, import_wh, export_wh, quality as place in ``QUALITIES``, observed_us)."""

    rows: tuple[tuple[int, int, int, int, int], ...]
    key: bytes = b""
    request: bytes = b""


class NetworkMeasured(Fact):
    """What the wires did in a slot: losses, and values by name for the page (voltages, loadings)."""

    slot: int
    loss_wh: int
    state: dict[str, Any] = msgspec.field(default_factory=dict)


class Planned(Fact):
    """Members announced what they expect to draw in a slot, before its gate: standing contracts are served from it.

    ``fell_back`` are members whose planner was silent: their devices follow the rule of fall-back in this slot.
    """

    slot: int
    fell_back: tuple[int, ...] = ()


class PlannedPart(Part):
    """Planned net energy, positive draws."""

    net_wh: int


class Settled(Fact):
    """A slot was settled; version 1 first, later ones bring corrections.

    ``accounts_u`` are the totals of the accounts behind the members (retailer, operator, network, state) by kind of
    posting, in the order of ``LEDGER_KINDS``: what this version's slot comes to, not the difference. A rule that shares
    what meters say has its price and its volume here.
    """

    slot: int
    version: int
    reason: str
    accounts_u: tuple[tuple[int, int, int, int], ...]
    loss_wh: int
    result: bytes
    price_num: int | None = None
    price_den: int = 1
    shared_wh: int = 0


class SettledPart(Part):
    """A member's slot: postings by kind, bill lines in the order of ``BILL_LINES``, the meters they rest on, its
    energies by contract and locally, its standing contracts (contract, Wh, amount it pays), and what the same meters
    would have cost without a market.
    """

    posted_u: tuple[int, ...]
    lines_u: tuple[int, ...]
    import_wh: int
    export_wh: int
    quality: int
    bought_wh: int = 0
    sold_wh: int = 0
    local_bought_wh: int = 0
    local_sold_wh: int = 0
    standing: tuple[tuple[int, int, int], ...] = ()
    baseline_u: int = 0


class Disputed(Fact):
    """A member disputes a line of a slot's bill."""

    dispute: int
    member: int
    slot: int


class DisputedPart(Part):
    """Which line (of ``BILL_LINES``, or ``meter``) and why."""

    line: str
    text: str
    key: bytes
    request: bytes


class DisputeDecided(Fact):
    """The operator decided a dispute; an upheld one is followed by a corrected version of the slot."""

    dispute: int
    upheld: bool
    by: str


class DisputeDecidedPart(Part):
    """The operator's words."""

    text: str
