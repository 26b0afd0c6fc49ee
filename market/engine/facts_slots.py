"""Facts of slots, orders and clearings."""

from __future__ import annotations

import msgspec

from market.engine.facts_base import Fact, Part


class SlotPrices(msgspec.Struct, frozen=True, omit_defaults=True):
    """Prices of a slot by contract: rows of (retail, feed-in, full import, local import, full export, local export,
    levies); prices of losses and, where the settlement knows them, of imbalance.
    """

    contracts: tuple[tuple[int, int, int, int, int, int, int], ...]
    loss_u: int = 0
    imbalance_u: int | None = None
    imbalance_short_u: int | None = None


class Opened(Fact):
    """A market takes orders for a slot, at these prices of the retailers."""

    market: str
    slot: int
    prices: SlotPrices


class Ordered(Fact):
    """Orders came in; ``count`` by slot, numbered from ``first`` on. What they say is in the members' parts."""

    market: str
    first: int
    count: tuple[tuple[int, int], ...]


class OrderedPart(Part, gc=False):
    """A member's orders of one request.

    Parameters
    ----------
    first
        Number of the first of these orders; the others follow.
    rows
        (index in the request, slot, side +1 buys -1 sells, e_wh, price_u, flags as bits of ``FLAG_BITS``).
    rejected
        (index in the request, place of the code in ``REFUSALS``): orders of the request that were not taken.
    refs
        The client's own names of the orders in ``rows``, or empty.
    key, request
        First 16 bytes of SHA-256 of the idempotency key, and of the request.
    """

    first: int
    rows: tuple[tuple[int, int, int, int, int, int], ...]
    key: bytes = b""
    request: bytes = b""
    rejected: tuple[tuple[int, int], ...] = ()
    refs: tuple[str, ...] = ()


class Amended(Fact):
    """A member changed one of its orders."""

    market: str
    member: int


class AmendedPart(Part):
    """The order's new open quantity and price. Less energy at the same price keeps its place in the queue."""

    order: int
    e_wh: int
    price_u: int
    key: bytes
    request: bytes


class Cancelled(Fact):
    """A member withdrew orders."""

    market: str
    member: int


class CancelledPart(Part):
    """Which."""

    orders: tuple[int, ...]
    key: bytes
    request: bytes


class Gated(Fact):
    """The gate closed: no order for the slot after this."""

    market: str
    slot: int


class Cleared(Fact):
    """A market cleared a slot, once. Sums are over all members; what each got is in the parts.

    ``book`` and ``result`` are SHA-256 of the canonical book and result. Money of the accounts behind the members:
    what the operator, the network and the retailer receive. The retailer's energies are by contract, in the book.
    ``recorded``: the result came from an optimiser or the network and is not computed again in a replay.
    """

    market: str
    slot: int
    version: int
    orders: int
    volume_wh: int
    price_num: int | None
    price_den: int
    book: bytes
    result: bytes
    operator_u: int = 0
    network_u: int = 0
    retailer_u: int = 0
    retailer_sold_wh: int = 0
    retailer_bought_wh: int = 0
    recorded: bool = False


class ClearedPart(Part):
    """What a member got: fills by order, and its position with its money."""

    fills: tuple[tuple[int, int], ...]
    bought_wh: int = 0
    sold_wh: int = 0
    paid_u: int = 0
    received_u: int = 0
    local_bought_wh: int = 0
    local_sold_wh: int = 0


class Suspended(Fact):
    """The operator halted a market (every market if empty). ``expires_us`` 0 = until it is resumed."""

    market: str
    reason: str
    by: str
    expires_us: int = 0


class Resumed(Fact):
    """A market goes on."""

    market: str
    reason: str
    by: str


class Voided(Fact):
    """A slot's session is void: its orders are released and nothing of it binds."""

    market: str
    slot: int
    reason: str
    by: str
