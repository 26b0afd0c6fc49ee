"""Energy sharing by a fixed key, as European law has it (market-rules 2.26)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.lattice import largest_remainder
from market.book import Int, Meters
from market.registry import (
    Declares,
    MeterRule,
    check_named,
    choice_parameter,
    flag_parameter,
    fraction_parameter,
    integer_parameter,
    parameter,
    register_rule,
)
from market.result import BatchSharing, Money, Prices, Shared, Trade
from market.rules._key_batches import share_keys_batch
from market.rules._keys import capped_shares, level_shares, priority_shares, whole_shares
from market.rules._meters import shared_result

KEYS = ("pro_rata", "static", "priority", "equal", "ex_ante_variable", "per_pair")
PRICES = ("mid_market_rate", "free", "contract", "per_pair")
UNUSED = ("lost", "redistribute")
MMR_REASON = "the lowest retail price lies below the highest feed-in price, so no middle price suits everybody"


@register_rule
@dataclass(frozen=True, kw_only=True)
class SharingKeys(MeterRule):
    """Fed-in energy is allotted to consumers by a key; everybody keeps its own supplier for the rest.

    Keys: ``pro_rata`` (by demand), ``static`` (fixed shares), ``ex_ante_variable`` (shares per slot, fixed before),
    ``priority`` (members in order), ``equal`` (level shares), ``per_pair`` (shares of each producer for each consumer).
    Source: Directive (EU) 2019/944 Art. 15a; German EnWG 42b, 42c; French collective self-consumption.
    """

    name: ClassVar[str] = "sharing_keys"
    summary: ClassVar[str] = "fed-in energy allotted by a fixed key, each member keeps its supplier"
    section: ClassVar[str] = "2.26"
    source: ClassVar[str] = "Directive (EU) 2019/944 Art. 15a"
    kind: ClassVar[str] = "contract"
    # individually rational only at a price within [feed-in, retail], so not declared for all parameters
    declares: ClassVar[Declares] = Declares(
        ir=False, budget="strong", scales=True, reveals={"operator": ("net energy",), "network operator": ("key",)}
    )

    key: str = parameter("pro_rata", ", ".join(KEYS))
    shares: Any = parameter(
        None,
        "static: member -> share; ex_ante_variable: member -> list of shares by slot; "
        "per_pair: producer -> consumer -> share. Shares sum to at most 1; members left out have none",
    )
    unused: str = parameter("lost", "of static and ex_ante_variable: lost (stays with the producer) or redistribute")
    order: Sequence[str] = parameter((), "priority: consumers in turn; per_pair: producers in turn; others follow")
    repeat: bool = parameter(False, "ex_ante_variable: the lists repeat from their start")
    price: str = parameter("mid_market_rate", "of the shared energy: free, contract, per_pair, mid_market_rate")
    price_u: int | None = parameter(None, "contract: its price [micro-currency per kWh], which must be given")
    pair_prices_u: Any = parameter(None, "per_pair: producer -> consumer -> price [micro-currency per kWh]")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "key", self.key, KEYS)
        choice_parameter(self.name, "unused", self.unused, UNUSED)
        choice_parameter(self.name, "price", self.price, PRICES)
        if self.price_u is not None:
            integer_parameter(self.name, "price_u", self.price_u)
        elif self.price == "contract":
            raise MarketError(
                f"{self.name}: parameter price_u is missing, and price contract has no price without it",
                remedy="give price_u in micro-currency per kWh (0.15 EUR/kWh = 150_000), or price: free for none",
            )
        flag_parameter(self.name, "repeat", self.repeat)
        order = () if self.order is None else self.order
        if isinstance(order, str) or len(set(order)) != len(tuple(order)):
            raise MarketError(f"{self.name}: parameter order is {order!r}", remedy="list each member's id once")
        object.__setattr__(self, "order", tuple(order))
        object.__setattr__(self, "shares", self._checked_shares())
        if self.price == "per_pair":
            if self.key != "per_pair":
                raise MarketError(
                    f"{self.name}: key {self.key!r} has no pairs to give prices to", remedy="choose key per_pair"
                )
            _mapping(self.name, "pair_prices_u", self.pair_prices_u)
            for producer, row in self.pair_prices_u.items():
                for consumer, value in _mapping(self.name, f"pair_prices_u[{producer}]", row, empty=True).items():
                    integer_parameter(self.name, f"pair_prices_u[{producer}][{consumer}]", value)

    def _checked_shares(self) -> Any:
        """Shares as exact numbers; MarketError where they are missing, out of range, or sum above one."""
        if self.key not in ("static", "ex_ante_variable", "per_pair"):
            return None
        given = _mapping(self.name, "shares", self.shares)
        if self.key == "static":
            return self._sound("shares", {m: self._share(f"shares[{m}]", v) for m, v in given.items()})
        if self.key == "per_pair":
            rows: dict[str, dict[str, Fraction]] = {}
            for producer, row in given.items():
                given_row = _mapping(self.name, f"shares[{producer}]", row, empty=True)  # none: it shares with nobody
                exact = {m: self._share(f"shares[{producer}][{m}]", v) for m, v in given_row.items()}
                rows[producer] = self._sound(f"shares[{producer}]", exact)
            return rows
        for m, values in given.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise MarketError(
                    f"{self.name}: parameter shares[{m}] is {values!r}", remedy="give a list of shares, one by slot"
                )
        series = {m: tuple(self._share(f"shares[{m}]", v) for v in values) for m, values in given.items()}
        lengths = {len(values) for values in series.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise MarketError(
                f"{self.name}: the lists of shares have lengths {sorted(lengths)}", remedy="make them equal"
            )
        for slot in range(lengths.pop()):
            self._sound(f"shares in slot {slot}", {m: values[slot] for m, values in series.items()})
        return series

    def _share(self, name: str, value: Any) -> Fraction:
        return fraction_parameter(self.name, name, value, 0, 1)

    def _sound(self, name: str, shares: dict[str, Fraction]) -> dict[str, Fraction]:
        total = sum(shares.values(), Fraction(0))
        if total > 1:
            raise MarketError(f"{self.name}: {name} sum to {float(total):g}", remedy="shares sum to at most 1")
        return shares

    @property
    def pairs(self) -> bool:
        """Only key ``per_pair`` says whose energy goes to whom."""
        return self.key == "per_pair"

    def named_members(self) -> Mapping[str, Sequence[str]]:
        """See `market.registry.MeterRule.named_members`."""
        named: dict[str, Sequence[str]] = {"order": self.order}
        if self.shares is not None:
            named["shares"] = list(self.shares)
        tables = {"shares": self.shares if self.key == "per_pair" else None,
                  "pair_prices_u": self.pair_prices_u if self.price == "per_pair" else None}  # fmt: skip
        for name, table in tables.items():
            if table is not None:
                named[name] = list(table)
                named |= {f"{name}[{producer}]": list(row) for producer, row in table.items()}
        return named

    def series_index(self, slot: int) -> int:
        """Place of ``slot`` in the lists of ex_ante_variable; MarketError when they end before it."""
        n = len(next(iter(self.shares.values())))
        if self.repeat:
            return slot % n
        if not 0 <= slot < n:
            raise MarketError(
                f"{self.name}: slot {slot} has no share, the lists have {n}", remedy="give longer lists or repeat: true"
            )
        return slot

    def turns(self, members: Sequence[str]) -> list[int]:
        """Members in the stated order, the others behind in their own."""
        where = {m: i for i, m in enumerate(members)}
        first = [where[m] for m in self.order if m in where]
        return first + [i for i in range(len(members)) if i not in set(first)]

    def applicable(self, meters: Meters) -> str | None:
        """Refuses a mid-market price where somebody's retail lies below somebody's feed-in."""
        if self.price == "mid_market_rate" and meters.members and min(meters.retail_u) < max(meters.feed_in_u):
            return MMR_REASON
        return None

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        demand = [max(n, 0) for n in meters.net_wh]
        supply = [max(-n, 0) for n in meters.net_wh]
        price = self._one_price(meters)
        pieces = self._pair_pieces(meters, demand, supply) if self.pairs else []
        if self.pairs:
            local = [0] * len(demand)
            for i, j, wh in pieces:
                local[i] += wh
                local[j] += wh
        else:
            taken = self._allotted(meters, demand, sum(supply))
            shared = sum(taken)
            given = largest_remainder([Fraction(g * shared, sum(supply) or 1) for g in supply], shared, caps=supply)
            local = [a + b for a, b in zip(taken, given, strict=True)]
        trades, paid = self._trades(meters, pieces, price)
        if price is not None:
            paid = [Fraction(price * (wh if n > 0 else -wh), 1000) for wh, n in zip(local, meters.net_wh, strict=True)]
        rest: list[Money] = [
            Fraction((n - wh) * r if n > 0 else (n + wh) * f, 1000)
            for n, wh, r, f in zip(meters.net_wh, local, meters.retail_u, meters.feed_in_u, strict=True)
        ]
        one = price if any(local) else None
        return shared_result(
            self.name, meters, [a + b for a, b in zip(paid, rest, strict=True)], sum(rest, Fraction(0)), local,
            Prices(one, one, by_pair={(t.buy_id, t.sell_id): t.price_u for t in trades}), trades=trades,
            diagnostics={"local_price_u": one, "local_payments": dict(zip(meters.members, paid, strict=True))},
        )  # fmt: skip

    @property
    def contract_price_u(self) -> int:
        """The stated price of the shared energy [micro-currency per kWh]; 0 where it is free."""
        return self.price_u if self.price == "contract" and self.price_u is not None else 0

    def _one_price(self, meters: Meters) -> Fraction | None:
        """Price of the shared energy, None when each pair has its own."""
        if self.price == "per_pair":
            return None
        if self.price == "mid_market_rate" and meters.members:
            return Fraction(min(meters.retail_u) + max(meters.feed_in_u), 2)
        return Fraction(self.contract_price_u)

    def _allotted(self, meters: Meters, demand: list[int], supply: int) -> list[int]:
        """Whole Wh per consumer under the pool keys."""
        if self.key == "priority":
            return priority_shares(demand, self.turns(meters.members), supply)
        if self.key == "pro_rata":
            volume = min(sum(demand), supply)
            return whole_shares([Fraction(d * volume, sum(demand) or 1) for d in demand], demand)
        if self.key == "equal":
            return whole_shares(level_shares(demand, [Fraction(1)] * len(demand), supply), demand)
        weights = [self._weight(m, meters.slot) for m in meters.members]
        spread = level_shares if self.unused == "redistribute" else capped_shares
        return whole_shares(spread(demand, weights, supply), demand)

    def _weight(self, member: str, slot: int) -> Fraction:
        if self.key == "static":
            return Fraction(self.shares.get(member, 0))
        index = self.series_index(slot)
        return self.shares[member][index] if member in self.shares else Fraction(0)

    def _pair_pieces(self, meters: Meters, demand: list[int], supply: list[int]) -> list[tuple[int, int, int]]:
        """(consumer, producer, Wh): producers in turn, each split by its shares among what consumers still need."""
        need = list(demand)
        pieces: list[tuple[int, int, int]] = []
        for j in self.turns(meters.members):
            row = self.shares.get(meters.members[j], {})
            if not supply[j] or not row:
                continue
            parts = capped_shares(need, [Fraction(row.get(m, 0)) for m in meters.members], supply[j])
            for i, wh in enumerate(whole_shares(parts, need)):
                if wh:
                    pieces.append((i, j, wh))
                    need[i] -= wh
        return pieces

    def _trades(
        self, meters: Meters, pieces: Sequence[tuple[int, int, int]], price: Fraction | None
    ) -> tuple[list[Trade], list[Money]]:
        """Pairs as trades, and what they pay per member."""
        paid: list[Money] = [Fraction(0)] * len(meters.members)
        trades: list[Trade] = []
        for i, j, wh in pieces:
            consumer, producer = meters.members[i], meters.members[j]
            at = self.pair_price(producer, consumer) if price is None else price
            trades.append(Trade(consumer, producer, wh, at))
            paid[i] += at * wh / 1000
            paid[j] -= at * wh / 1000
        return trades, paid

    def pair_price(self, producer: str, consumer: str) -> Fraction:
        """Price of a pair [micro-currency per kWh]; MarketError when none is stated."""
        row: Mapping[str, int] = self.pair_prices_u.get(producer, {})
        if consumer not in row:
            raise MarketError(
                f"{self.name}: no price from {producer!r} to {consumer!r}",
                remedy="add to pair_prices_u",
            )
        return Fraction(row[consumer])

    def share_batch(
        self,
        net_wh: Int,
        retail_u: Int,
        feed_in_u: Int,
        active: NDArray[Any] | None = None,
        *,
        members: Sequence[str] | None = None,
        first_slot: int = 0,
    ) -> BatchSharing:
        """Share many slots in columns; equal to `share` slot by slot. ``members`` where ids are parameters."""
        if members is None and (self.shares is not None or self.order):
            raise MarketError(f"{self.name}: key {self.key!r} names members", remedy="pass members= to share_batch")
        if members is not None:
            check_named(self, members)
        names = [f"{i:09d}" for i in range(np.shape(net_wh)[1])] if members is None else list(members)
        return share_keys_batch(self, net_wh, retail_u, feed_in_u, active, names, first_slot)


def _mapping(owner: str, name: str, value: Any, *, empty: bool = False) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not (value or empty):
        raise MarketError(f"{owner}: parameter {name} is {value!r}", remedy="give a mapping from member ids")
    return value
