"""Books as columns: one slot's book in exact integers, many slots' books as dense arrays, and meters.

`Order` objects live at the facade only; a rule sees columns. Columns of a `Book` are sorted by (agent id, order id), so
that no rule can depend on the order in which orders were listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.feeder import AcCheck, Feeder
from market.orders import Order
from market.terms import Terms

Int = NDArray[np.int64]

BACKSTOPS = ("after", "in_book")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a rule may know beside the orders.

    Parameters
    ----------
    slot
        Delivery slot index; enters keyed tie-breaks.
    retail_u, feed_in_u
        The retailer's prices [micro-currency per kWh]; None when there is no retailer.
    p_min_u, p_max_u
        Price band of orders; default: feed-in and retail where they are given, else open.
    backstop
        ``after``: the unmatched remainder is settled with the retailer later. ``in_book``: the retailer stands in the
        book with an unlimited ask at retail and an unlimited bid at feed-in, last at their prices (market-rules 0.5).
    feeder
        The radial network that the orders' nodes belong to, for rules that look at the wires.
    terms
        Members' own terms by agent id (market-rules 2.27).
    ac_check
        AC power flow of the feeder, for rules that check what they cleared.
    """

    slot: int = 0
    retail_u: int | None = None
    feed_in_u: int | None = None
    p_min_u: int | None = None
    p_max_u: int | None = None
    backstop: str = "after"
    feeder: Feeder | None = None
    terms: Mapping[str, Terms] = field(default_factory=dict)
    ac_check: AcCheck | None = None

    def __post_init__(self) -> None:
        for name in ("slot", "retail_u", "feed_in_u", "p_min_u", "p_max_u"):
            value = getattr(self, name)
            if value is None and name != "slot":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise MarketError(f"context.{name} is {value!r}", remedy="give an integer (micro-currency per kWh)")
            object.__setattr__(self, name, int(value))
        if self.backstop not in BACKSTOPS:
            raise MarketError(f"context.backstop is {self.backstop!r}", remedy=f"choose one of {', '.join(BACKSTOPS)}")
        if self.backstop == "in_book":
            self.retailer_prices()

    @property
    def in_book(self) -> bool:
        """Whether the retailer stands in the book."""
        return self.backstop == "in_book"

    @property
    def band(self) -> tuple[int | None, int | None]:
        """Lowest and highest price of an order [micro-currency per kWh]; None = open."""
        low = self.feed_in_u if self.p_min_u is None else self.p_min_u
        high = self.retail_u if self.p_max_u is None else self.p_max_u
        return low, high

    def retailer_prices(self) -> tuple[int, int]:
        """(retail, feed-in) [micro-currency per kWh].

        Raises
        ------
        MarketError
            When one is missing, or retail lies below feed-in: an unlimited ask below an unlimited bid has no volume.
        """
        if self.retail_u is None or self.feed_in_u is None:
            raise MarketError(
                "the retailer cannot stand in the book without its prices", remedy="give retail_u and feed_in_u"
            )
        if self.retail_u < self.feed_in_u:
            raise MarketError(
                f"retail price {self.retail_u} lies below feed-in price {self.feed_in_u}",
                remedy="with backstop 'in_book' retail must be at least feed-in; use backstop 'after'",
            )
        return self.retail_u, self.feed_in_u

    @staticmethod
    def of(value: Context | Mapping[str, Any] | None) -> Context:
        """A context from itself, from a mapping of its fields, or the empty one from None."""
        if value is None:
            return Context()
        if isinstance(value, Context):
            return value
        known = {f.name for f in fields(Context)}
        if unknown := sorted(set(value) - known):
            raise MarketError(
                f"unknown context fields: {', '.join(unknown)}", remedy=f"known are {', '.join(sorted(known))}"
            )
        return Context(**value)


def order_key(order_id: str) -> int:
    """64 bits that stand for an order id in keyed tie-breaks."""
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Book:
    """One slot's orders as columns of Python integers, all of length n.

    ``side`` is +1 (buy) or -1 (sell), ``e_wh`` >= 0 [Wh], ``price_u`` [micro-currency per kWh]. ``agent_rank`` and
    ``id_rank`` are ASCII positions of agent and order ids. ``keys`` stand for the ids in keyed tie-breaks; default:
    made of the ids.
    """

    order_ids: tuple[str, ...]
    agent_ids: tuple[str, ...]
    side: tuple[int, ...]
    e_wh: tuple[int, ...]
    price_u: tuple[int, ...]
    t: tuple[int, ...]
    seq: tuple[int, ...]
    agent_rank: tuple[int, ...]
    id_rank: tuple[int, ...]
    keys: tuple[int, ...] | None = None
    node: tuple[str | None, ...] = ()
    attributes: tuple[Mapping[str, Any], ...] = ()
    flags: tuple[frozenset[str], ...] = ()

    @staticmethod
    def from_orders(orders: Sequence[Order]) -> Book:
        """The book of admitted orders (see `market.orders.admit`)."""
        ranked = sorted(orders, key=lambda o: (o.agent_id, o.order_id))
        agents = {a: i for i, a in enumerate(sorted({o.agent_id for o in ranked}))}
        ids = {x: i for i, x in enumerate(sorted(o.order_id for o in ranked))}
        return Book(
            tuple(o.order_id for o in ranked),
            tuple(o.agent_id for o in ranked),
            tuple(int(o.side) for o in ranked),
            tuple(o.e_wh for o in ranked),
            tuple(o.price_u for o in ranked),
            tuple(o.t for o in ranked),
            tuple(o.seq for o in ranked),
            tuple(agents[o.agent_id] for o in ranked),
            tuple(ids[o.order_id] for o in ranked),
            None,
            tuple(o.node for o in ranked),
            tuple(o.attributes for o in ranked),
            tuple(o.flags for o in ranked),
        )

    def __len__(self) -> int:
        return len(self.order_ids)

    @cached_property
    def order_key(self) -> tuple[int, ...]:
        """64 bits that stand for each order's id in keyed tie-breaks."""
        return tuple(order_key(x) for x in self.order_ids) if self.keys is None else self.keys

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each order id."""
        return {x: i for i, x in enumerate(self.order_ids)}

    def indices(self, side: int) -> list[int]:
        """Positions of the orders of one side with a quantity."""
        return [i for i in range(len(self)) if self.side[i] == side and self.e_wh[i] > 0]


@dataclass(frozen=True, kw_only=True)
class BookBatch:
    """Books of many slots, dense: S slots, N order columns.

    Parameters
    ----------
    side
        (S, N) int8: +1 buy, -1 sell, 0 no order in this slot.
    e_wh, price_u
        (S, N) int64: quantity >= 0 [Wh], limit price [micro-currency per kWh].
    member
        (N,) int32: index of the agent behind each column.
    t, seq
        (N,) int64: arrival and sequence.
    order_rank
        (N,) int64: ASCII position of the order id; a permutation of 0..N-1.
    first_slot
        Slot index of row 0; enters keyed tie-breaks.
    order_ids
        (N,) ids, needed by ``tie_break=random`` (or give ``order_key``).
    agent_rank
        (N,) int64: ASCII position of the agent id, settles exact ties of pro-rata sharing; default ``order_rank``.
    retail_u, feed_in_u
        (S,) int64: given when the retailer stands in the book, else None.
    agent_ids
        Ids of the agents, by ``member``; needed by rules that draw lots among agents or look at terms.
    node, attributes, flags
        (N,) of each order column, for rules that look at them; see `market.orders.Order`.
    quotes
        (R, S, N) int64: prices of R rounds of a continuous session, in which an order with quantity left is quoted
        anew; ``price_u`` is then each order's limit over all rounds. Other rules look at ``price_u`` alone.
    feeder
        See `Context`; its base load may differ by slot (`Feeder.at`).
    terms, ac_check
        See `Context`.
    slots
        (S,) int64: the slot of each row where rows are not consecutive slots (many versions of one slot's book);
        default ``first_slot`` and on. Read by `row`; compiled rules that draw lots by slot read ``first_slot``.
    """

    side: NDArray[np.int8]
    e_wh: Int
    price_u: Int
    member: NDArray[np.int32]
    t: Int
    seq: Int
    order_rank: Int
    first_slot: int = 0
    order_ids: tuple[str, ...] | None = None
    agent_rank: Int | None = None
    order_key: NDArray[np.uint64] | None = None
    retail_u: Int | None = None
    feed_in_u: Int | None = None
    agent_ids: tuple[str, ...] | None = None
    node: tuple[str | None, ...] | None = None
    attributes: tuple[Mapping[str, Any], ...] | None = None
    flags: tuple[frozenset[str], ...] | None = None
    quotes: Int | None = None
    feeder: Feeder | None = None
    terms: Mapping[str, Terms] = field(default_factory=dict)
    slots: Int | None = None
    ac_check: AcCheck | None = None

    def __post_init__(self) -> None:
        if self.side.ndim != 2:
            raise MarketError("BookBatch.side must have shape (n_slots, n_orders)", remedy="see BookBatch")
        shape, n = self.side.shape, self.side.shape[1]
        for name, want in (("e_wh", shape), ("price_u", shape), ("member", (n,)), ("t", (n,)), ("seq", (n,)),
                           ("order_rank", (n,)), ("agent_rank", (n,)), ("order_key", (n,)),
                           ("retail_u", shape[:1]), ("feed_in_u", shape[:1]), ("slots", shape[:1])):  # fmt: skip
            column = getattr(self, name)
            if column is None:
                continue
            if column.dtype.kind not in "iu":
                raise MarketError(f"BookBatch.{name} has type {column.dtype}", remedy="use whole numbers")
            if column.shape != want:
                raise MarketError(f"BookBatch.{name} has shape {column.shape}, not {want}", remedy="see BookBatch")
        if self.e_wh.size and int(self.e_wh.min()) < 0:
            raise MarketError("BookBatch.e_wh is negative", remedy="a side and a positive energy say the direction")
        if (self.retail_u is None) != (self.feed_in_u is None):
            raise MarketError("one of the retailer's prices is missing", remedy="give both or neither")
        if self.retail_u is not None and self.feed_in_u is not None and (self.retail_u < self.feed_in_u).any():
            row = int(np.argmax(self.retail_u < self.feed_in_u))
            raise MarketError(
                f"slot {self.first_slot + row}: retail price lies below feed-in price",
                remedy="with backstop 'in_book' retail must be at least feed-in; use backstop 'after'",
            )

    @property
    def n_slots(self) -> int:
        """Number of slots S."""
        return int(self.side.shape[0])

    @property
    def n_orders(self) -> int:
        """Number of order columns N."""
        return int(self.side.shape[1])

    @property
    def in_book(self) -> bool:
        """Whether the retailer stands in the book."""
        return self.retail_u is not None

    def keys(self) -> NDArray[np.uint64]:
        """(N,) keys of the order ids for keyed tie-breaks."""
        if self.order_key is not None:
            return self.order_key.astype(np.uint64)
        if self.order_ids is None:
            raise MarketError("tie_break 'random' needs order ids", remedy="give BookBatch.order_ids or order_key")
        return np.array([order_key(x) for x in self.order_ids], np.uint64)

    def share_rank(self) -> Int:
        """(N,) rank by (agent, order id): who gets the odd watt-hour when fractions are equal."""
        agent = self.order_rank if self.agent_rank is None else self.agent_rank
        rank = np.empty(self.n_orders, np.int64)
        rank[np.lexsort((self.order_rank, agent))] = np.arange(self.n_orders)
        return rank

    def row(self, row: int) -> tuple[Book, Context, list[int]]:
        """One slot as a `Book` with its `Context`, and the column of each of the book's orders."""
        agent = self.order_rank if self.agent_rank is None else self.agent_rank
        present = [int(i) for i in np.flatnonzero(self.side[row])]
        columns = sorted(present, key=lambda i: (int(agent[i]), int(self.order_rank[i])))
        ids = self.order_ids
        keys = self.order_key if self.order_key is not None or ids is None else self.keys()
        names = [ids[i] if ids is not None else f"{int(self.order_rank[i]):09d}" for i in columns]
        who = [int(self.member[i]) for i in columns]
        agents = [f"{m:09d}" if self.agent_ids is None else self.agent_ids[m] for m in who]
        book = Book(
            tuple(names),
            tuple(agents),
            tuple(int(self.side[row, i]) for i in columns),
            tuple(int(self.e_wh[row, i]) for i in columns),
            tuple(int(self.price_u[row, i]) for i in columns),
            tuple(int(self.t[i]) for i in columns),
            tuple(int(self.seq[i]) for i in columns),
            tuple(int(agent[i]) for i in columns),
            tuple(int(self.order_rank[i]) for i in columns),
            tuple(order_key(x) if keys is None else int(keys[i]) for i, x in zip(columns, names, strict=True)),
            tuple(None if self.node is None else self.node[i] for i in columns),
            tuple({} if self.attributes is None else self.attributes[i] for i in columns),
            tuple(frozenset() if self.flags is None else self.flags[i] for i in columns),
        )
        in_book = self.retail_u is not None and self.feed_in_u is not None
        context = Context(
            slot=self.first_slot + row if self.slots is None else int(self.slots[row]),
            retail_u=int(self.retail_u[row]) if self.retail_u is not None else None,
            feed_in_u=int(self.feed_in_u[row]) if self.feed_in_u is not None else None,
            backstop="in_book" if in_book else "after",
            feeder=None if self.feeder is None else self.feeder.at(row),
            terms=self.terms,
            ac_check=self.ac_check,
        )
        return book, context, columns

    @staticmethod
    def of(books: Sequence[Sequence[Order]], *, first_slot: int = 0, contexts: Sequence[Context] = ()) -> BookBatch:
        """A batch of slots from lists of admitted orders; equal order ids share a column (and its agent, t, seq)."""
        rows = [{o.order_id: o for o in book} for book in books]
        columns = {x: o for row in rows for x, o in row.items()}
        ids = sorted(columns)
        agents = {a: i for i, a in enumerate(sorted({o.agent_id for o in columns.values()}))}
        shape = (len(rows), len(ids))
        side, e_wh, price_u = np.zeros(shape, np.int8), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for s, row in enumerate(rows):
            for i, x in enumerate(ids):
                if (order := row.get(x)) is not None:
                    side[s, i], e_wh[s, i], price_u[s, i] = int(order.side), order.e_wh, order.price_u
        in_book = bool(contexts) and all(c.in_book for c in contexts)
        tariffs = [c.retailer_prices() for c in contexts] if in_book else []
        return BookBatch(
            side=side,
            e_wh=e_wh,
            price_u=price_u,
            member=np.array([agents[columns[x].agent_id] for x in ids], np.int32),
            t=np.array([columns[x].t for x in ids], np.int64),
            seq=np.array([columns[x].seq for x in ids], np.int64),
            order_rank=np.arange(len(ids), dtype=np.int64),
            first_slot=first_slot,
            order_ids=tuple(ids),
            agent_rank=np.array([agents[columns[x].agent_id] for x in ids], np.int64),
            retail_u=np.array([r for r, _ in tariffs], np.int64) if in_book else None,
            feed_in_u=np.array([f for _, f in tariffs], np.int64) if in_book else None,
            agent_ids=tuple(agents),
            node=tuple(columns[x].node for x in ids),
            attributes=tuple(columns[x].attributes for x in ids),
            flags=tuple(columns[x].flags for x in ids),
            feeder=contexts[0].feeder if contexts else None,
            terms=contexts[0].terms if contexts else {},
            ac_check=contexts[0].ac_check if contexts else None,
        )


@dataclass(frozen=True)
class Meters:
    """One slot's metered net energies, members in the order that settles exact ties.

    ``net_wh`` is load-signed [Wh]: positive draws. Tariffs [micro-currency per kWh] belong to each member.
    """

    members: tuple[str, ...]
    net_wh: tuple[int, ...]
    retail_u: tuple[int, ...]
    feed_in_u: tuple[int, ...]
    slot: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def demand_wh(self) -> int:
        """D: what the buyers draw [Wh]."""
        return sum(n for n in self.net_wh if n > 0)

    @property
    def supply_wh(self) -> int:
        """S: what the sellers feed in [Wh], a positive number."""
        return -sum(n for n in self.net_wh if n < 0)

    @property
    def one_retail_u(self) -> int | None:
        """The retail price when all members have the same, else None."""
        return self.retail_u[0] if len(set(self.retail_u)) == 1 else None

    @property
    def one_feed_in_u(self) -> int | None:
        """The feed-in price when all members have the same, else None."""
        return self.feed_in_u[0] if len(set(self.feed_in_u)) == 1 else None
