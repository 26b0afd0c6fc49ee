"""Settlement of one slot, written a second time from the text of the specification (section 4) and nothing else.

Plain integers and ``fractions.Fraction``, one slot at a time. Members are indices, in ASCII order of their ids unless
``rank`` says otherwise. An account grows by what it receives. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

RETAILER, OPERATOR, NETWORK, STATE = "retailer", "operator", "network", "state"
SYSTEM = (RETAILER, OPERATOR, NETWORK, STATE)
Account = int | str


# 4.6 rounding ---------------------------------------------------------------------------------------------------------


def half_even(x: Fraction) -> int:
    """Nearest integer; an exact half goes to the even neighbour."""
    low = x.numerator // x.denominator
    twice = 2 * (x - low)
    if twice == 1:
        return low + low % 2
    return low + (twice > 1)


def largest_remainder(
    shares: Sequence[Fraction], total: int | None = None, rank: Sequence[int] | None = None
) -> list[int]:
    """4.6 as worded: floor every exact share, missing units one each to the largest fractional parts, ties: lower id.

    Too many units (an imposed total below the floors) come back from the smallest fractions, ties in reverse order.
    """
    if total is None:
        total = half_even(sum(shares, Fraction(0)))
    rank = list(range(len(shares))) if rank is None else rank
    amounts = [s.numerator // s.denominator for s in shares]
    fractions = [s - a for s, a in zip(shares, amounts, strict=True)]
    turn = sorted(range(len(shares)), key=lambda i: (-fractions[i], rank[i]))
    i = 0
    while sum(amounts) < total:
        amounts[turn[i % len(turn)]] += 1
        i += 1
    i = 0
    while sum(amounts) > total:
        amounts[turn[-1 - i % len(turn)]] -= 1
        i += 1
    return amounts


def line(price: Fraction | int, wh: int) -> int:
    """A bilateral line: ``round(price * Wh / 1000)``, once, half to even."""
    return half_even(Fraction(price) * wh / 1000)


# 4.1 positions --------------------------------------------------------------------------------------------------------


@dataclass
class Positions:
    """What the gate froze for one slot: energies, and their money as whole micro-currency."""

    bought: list[int]
    sold: list[int]
    paid: list[int]
    received: list[int]
    operator: int = 0
    retailer_sold: int = 0
    retailer_bought: int = 0
    retailer_received: int = 0

    @classmethod
    def none(cls, n: int) -> Positions:
        """Nothing traded."""
        return cls([0] * n, [0] * n, [0] * n, [0] * n)


@dataclass(frozen=True)
class PoolLine:
    """One order's fill in a pool: exact payment, buyers positive, sellers negative. ``member`` -1 is the retailer."""

    member: int
    buys: bool
    wh: int
    payment: Fraction


def from_trades(trades: Sequence[tuple[int, int, int, Fraction, Fraction]], n: int) -> Positions:
    """Pairs (buyer, seller, Wh, buyer's price, seller's price): each price is a line of its own, rounded once."""
    out = Positions.none(n)
    for buyer, seller, wh, pays, gets in trades:
        out.bought[buyer] += wh
        out.sold[seller] += wh
        out.paid[buyer] += line(pays, wh)
        out.received[seller] += line(gets, wh)
        out.operator += line(pays, wh) - line(gets, wh)
    return out


def from_pool(lines: Sequence[PoolLine], n: int, rank: Sequence[int], strong: bool) -> Positions:
    """4.6: per side first the total, half to even, then the shares by largest remainder.

    With a strongly balanced rule the sellers' total is the buyers' total less the retailer's line.
    """
    out = Positions.none(n)
    lines = [x for x in lines if x.wh]
    retailer = sum((-x.payment for x in lines if x.member < 0), Fraction(0))
    out.retailer_received = half_even(retailer)
    out.retailer_sold = sum(x.wh for x in lines if x.member < 0 and not x.buys)
    out.retailer_bought = sum(x.wh for x in lines if x.member < 0 and x.buys)
    totals: list[int] = []
    for buys, energy, money in ((True, out.bought, out.paid), (False, out.sold, out.received)):
        exact: dict[int, Fraction] = {}
        for x in lines:
            if x.member >= 0 and x.buys == buys:
                energy[x.member] += x.wh
                exact[x.member] = exact.get(x.member, Fraction(0)) + (x.payment if buys else -x.payment)
        members = sorted(exact)
        total = half_even(sum(exact.values(), Fraction(0)))
        if strong and not buys:
            total = totals[0] - out.retailer_received
        if strong and buys and not any(x.member >= 0 and not x.buys for x in lines):
            total = out.retailer_received
        totals.append(total)
        if members:
            amounts = largest_remainder([exact[m] for m in members], total, [rank[m] for m in members])
            for m, amount in zip(members, amounts, strict=True):
                money[m] = amount
    out.operator = sum(out.paid) - sum(out.received) - out.retailer_received
    return out


# 4.2 to 4.4: one slot -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """Network charges by level and levies of one member [micro-currency per kWh]."""

    full_import: int = 0
    local_import: int = 0
    full_export: int = 0
    local_export: int = 0
    levies: int = 0


@dataclass
class Settled:
    """Double entries of one slot by kind, and the energies behind them."""

    n: int
    kinds: dict[str, dict[Account, int]] = field(default_factory=dict)
    residual: list[int] = field(default_factory=list)
    retailer_sold: int = 0
    retailer_bought: int = 0
    loss: int = 0

    def post(self, kind: str, account: Account, counter: Account, amount: int) -> None:
        """``account`` pays ``amount`` to ``counter`` (negative: the other way round)."""
        book = self.kinds.setdefault(kind, dict.fromkeys([*range(self.n), *SYSTEM], 0))
        book[account] -= amount
        book[counter] += amount

    def row(self, kind: str) -> list[int]:
        """One kind as members, then retailer, operator, network, state."""
        book = self.kinds.get(kind, {})
        return [book.get(a, 0) for a in [*range(self.n), *SYSTEM]]

    def accounts(self) -> list[int]:
        """Change of every account over all kinds."""
        rows = [self.row(kind) for kind in self.kinds] or [[0] * (self.n + len(SYSTEM))]
        return [sum(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True)
class Residuals:
    """4.3: how deviations are settled; ``tolerance`` is a part of the contract, e.g. 1/10."""

    mode: str = "individual"
    long: Sequence[int] = ()
    short: Sequence[int] = ()
    tolerance: Fraction = Fraction(0)


def mid_market_pool(energy: dict[int, int], r: int, f: int) -> tuple[dict[int, Fraction], Fraction]:
    """2.11 for residuals: exact payment of every member and what the retailer is owed."""
    d = sum(e for e in energy.values() if e > 0)
    s = -sum(e for e in energy.values() if e < 0)
    m = Fraction(r + f, 2)
    buy = (s * m + (d - s) * Fraction(r)) / d if s < d else m
    sell = (d * m + (s - d) * Fraction(f)) / s if s > d else m
    exact = {i: (buy if e > 0 else sell) * e / 1000 for i, e in energy.items()}
    return exact, Fraction(r * max(d - s, 0) - f * max(s - d, 0), 1000)


def round_pool(
    exact: dict[int, Fraction], side: dict[int, int], retailer: Fraction, rank: Sequence[int]
) -> tuple[dict[int, int], int]:
    """A strongly balanced pool with the retailer: buyers' total and its line half to even, sellers get the rest."""
    owed = half_even(retailer)
    buyers = [i for i in sorted(exact) if side[i] > 0]
    sellers = [i for i in sorted(exact) if side[i] < 0]
    amounts = dict.fromkeys(exact, 0)
    paid = half_even(sum((exact[i] for i in buyers), Fraction(0)))
    for members, sign, total in ((buyers, 1, paid), (sellers, -1, paid - owed)):
        shares = (
            largest_remainder([sign * exact[i] for i in members], total, [rank[i] for i in members]) if members else []
        )
        for i, amount in zip(members, shares, strict=True):
            amounts[i] = sign * amount
    return amounts, owed


def _charges(
    out: Settled,
    imports: Sequence[int],
    exports: Sequence[int],
    got: Sequence[int],
    gave: Sequence[int],
    rates: Sequence[Rates],
) -> None:
    """4.4: local delivery at the reduced level, the rest at the full level; levies per Wh of import.

    The text calls the charge on import one "energy charge ... by level", so both levels of it make one line, rounded
    once; the charge on export is another one.
    """
    for i in range(out.n):
        local_in, local_out = min(got[i], imports[i]), min(gave[i], exports[i])
        rate = rates[i]
        on_import = Fraction(rate.local_import * local_in + rate.full_import * (imports[i] - local_in), 1000)
        on_export = Fraction(rate.local_export * local_out + rate.full_export * (exports[i] - local_out), 1000)
        out.post("network", i, NETWORK, half_even(on_import))
        out.post("network", i, NETWORK, half_even(on_export))
        out.post("levies", i, STATE, line(rate.levies, imports[i]))


def _losses(out: Settled, loss: int, price: int) -> None:
    out.loss = loss
    out.post("losses", NETWORK, RETAILER, line(price, loss))


def settle(
    imports: Sequence[int],
    exports: Sequence[int],
    positions: Positions,
    retail: Sequence[int],
    feed_in: Sequence[int],
    rates: Sequence[Rates],
    *,
    residuals: Residuals | None = None,
    active: Sequence[bool] | None = None,
    rank: Sequence[int] | None = None,
    loss: int = 0,
    loss_price: int = 0,
) -> Settled:
    """Contracts against meters, step by step as in 4.2."""
    n = len(imports)
    residuals = residuals or Residuals()
    active = [True] * n if active is None else active
    rank = list(range(n)) if rank is None else rank
    out = Settled(n)
    for i in range(n):
        out.post("contract", i, OPERATOR, positions.paid[i] - positions.received[i])
    out.post("contract", RETAILER, OPERATOR, -positions.retailer_received)
    contract = [positions.bought[i] - positions.sold[i] for i in range(n)]
    out.residual = [imports[i] - exports[i] - contract[i] for i in range(n)]
    out.retailer_sold, out.retailer_bought = positions.retailer_sold, positions.retailer_bought
    pool: dict[int, int] = {}
    for i in range(n):
        rest = out.residual[i]
        mode = residuals.mode if active[i] else "individual"
        if residuals.tolerance and contract[i]:
            # whole Wh within "the first x % of the contract": rounded down, what goes beyond is excess
            within = min(abs(rest), (abs(contract[i]) * residuals.tolerance).__floor__())
            within = within if rest > 0 else -within
            money = positions.paid[i] - positions.received[i]
            out.post("residual", i, RETAILER, half_even(Fraction(money * within, contract[i])))
            out.retailer_sold += max(within, 0)
            out.retailer_bought += max(-within, 0)
            rest -= within
        if mode == "netted":
            pool[i] = rest
            continue
        short, long = retail[i], feed_in[i]
        if mode == "imbalance_single":
            short, long = residuals.long[i], residuals.long[i]
        elif mode == "imbalance_dual":
            short, long = residuals.short[i], residuals.long[i]
        out.post("residual", i, RETAILER, line(short if rest > 0 else long, rest))
        out.retailer_sold += max(rest, 0)
        out.retailer_bought += max(-rest, 0)
    pool = {i: e for i, e in pool.items() if e}
    if pool:
        (r,), (f,) = {retail[i] for i in pool}, {feed_in[i] for i in pool}
        exact, owed = mid_market_pool(pool, r, f)
        amounts, retailer = round_pool(exact, pool, owed, rank)
        for i, amount in amounts.items():
            out.post("residual", i, OPERATOR, amount)
        out.post("residual", OPERATOR, RETAILER, retailer)
        net = sum(pool.values())
        out.retailer_sold += max(net, 0)
        out.retailer_bought += max(-net, 0)
    _charges(out, imports, exports, positions.bought, positions.sold, rates)
    _losses(out, loss, loss_price)
    return out


def settle_shared(
    imports: Sequence[int],
    exports: Sequence[int],
    local: Sequence[int],
    exact: Sequence[Fraction],
    retailer: Fraction,
    rates: Sequence[Rates],
    rank: Sequence[int],
) -> Settled:
    """A meter-based pool with the retailer (2.11 to 2.14): no contracts, one payment per member."""
    n = len(imports)
    out = Settled(n)
    net = {i: imports[i] - exports[i] for i in range(n)}
    amounts, owed = round_pool({i: exact[i] for i in range(n) if net[i]}, net, retailer, rank)
    for i, amount in amounts.items():
        out.post("pool", i, OPERATOR, amount)
    out.post("pool", OPERATOR, RETAILER, owed)
    got = [local[i] if net[i] > 0 else 0 for i in range(n)]
    gave = [local[i] if net[i] < 0 else 0 for i in range(n)]
    _charges(out, imports, exports, got, gave, rates)
    return out


# 4.5 laws -------------------------------------------------------------------------------------------------------------


def laws(
    kinds: dict[str, Sequence[int]],
    position: Sequence[int],
    retailer_position: int,
    net: Sequence[int],
    residual: Sequence[int],
    retailer_energy: int,
    loss: int,
    exchange: int,
    pool_operator: int,
) -> list[str]:
    """Names of the laws (a) to (f) of 4.5 that a settled slot breaks; ``kinds`` as members, then system accounts.

    ``retailer_energy`` is what members bought from the retailer minus what they sold to it; ``pool_operator`` the
    buyers' payments minus the sellers' receipts (and the retailer's line) of the contracts.
    """
    n = len(net)
    broken = []
    if sum(position) + retailer_position != 0:
        broken.append("a")
    if sum(residual) + sum(position) != sum(net) or sum(net) + loss != exchange:
        broken.append("b")
    if retailer_energy != sum(net):
        broken.append("c")
    if sum(sum(row) for row in kinds.values()) != 0:
        broken.append("d")
    if any(sum(row) != 0 for row in kinds.values()):
        broken.append("e")
    if kinds["contract"][n + SYSTEM.index(OPERATOR)] != pool_operator:
        broken.append("f")
    return broken


# 2.26: meters coarser than the slot -----------------------------------------------------------------------------------


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """A reading over its slots in proportion to ``weights`` (evenly without any), ties to the earlier slot."""
    if sum(weights) == 0:
        weights = [1] * len(weights)
    return largest_remainder([Fraction(total * w, sum(weights)) for w in weights], total)
