"""Bench item on incentives: who gains by misreporting under which rule, by the audit's search (market-rules 3.1, 6).

The search can find gains and cannot prove that there are none; what is asserted as exactly 0 is 0 on every book tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from core.errors import MarketError
from core.statistics import mean_estimate
from market.audit.books import AuditBook
from market.audit.families import make_books
from market.audit.misreport import Search, search_book
from market.crossing import cross
from market.orders import Order, Side
from market.registry import BidRule, make_rule
from market.theory.results import BenchItem, Figure, Settings, claim, told

BOOKS = 24
SEEDS = 1000
_KWH, _CT = 1000, 10_000

RATIONED: tuple[tuple[Side, int, int], ...] = (
    (Side.BUY, 4, 30), (Side.BUY, 3, 26), (Side.BUY, 6, 22), (Side.SELL, 3, 10), (Side.SELL, 9, 20),
)  # fmt: skip
"""The rationed book of market-rules 2.5 (kWh, ct/kWh): two buyers share what one seller has."""


@dataclass(frozen=True, slots=True)
class _Test:
    """A rule, the kind of report, the books, and whether anybody should gain."""

    rule: str
    kind: str
    family: str
    gains: bool
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        given = "".join(f" ({value})" for _, value in self.parameters)
        return f"{self.rule}{given}: gain in {self.kind}"


_TESTS = (
    _Test("vcg", "price", "uniform", False),
    _Test("vcg", "quantity", "uniform", False),
    _Test("mcafee", "price", "unit", False),
    _Test("trade_reduction", "price", "unit", False),
    _Test("huang", "price", "uniform", False),
    _Test("uniform_price", "price", "uniform", True),
    _Test("pay_as_bid", "price", "uniform", True),
    _Test("pair_price", "price", "uniform", True),
    _Test("continuous_double_auction", "price", "uniform", True),
    _Test("huang", "quantity", "rationed", True),
)
_COIN_TESTS = tuple(
    _Test("muda", kind, "coins", False, (("variant", variant),))
    for variant in ("lottery", "vickrey")
    for kind in ("price", "quantity")
)


def rationed_book() -> AuditBook:
    """``RATIONED`` as orders, agents b0.. and s0.., in their listed order."""
    rows = [(f"{'b' if side == Side.BUY else 's'}{i}", side, q, p) for i, (side, q, p) in enumerate(RATIONED)]
    orders = tuple(
        Order(order_id=x, agent_id=x, side=side, e_wh=q * _KWH, price_u=p * _CT, t=i)
        for i, (x, side, q, p) in enumerate(rows)
    )
    return AuditBook(family="rationed", index=0, orders=orders)


def largest_gains(rule: BidRule, books: Sequence[AuditBook], kind: str) -> list[tuple[Fraction, Fraction]]:
    """(most that one agent gains by one kind of report, most welfare) of each book that the rule takes; exact."""
    found: list[tuple[Fraction, Fraction]] = []
    for book in books:
        if rule.applicable(book.book, book.context) is None:
            gains = search_book(rule, book, kind, Search()).gains_u
            found.append((max(gains.values(), default=Fraction(0)), Fraction(cross(book.book).welfare_u)))
    return found


def _figure(test: _Test, found: Sequence[tuple[Fraction, Fraction]]) -> Figure:
    shares = [float(100 * gain / welfare) for gain, welfare in found if welfare > 0]
    someone = any(gain > 0 for gain, _ in found)
    expected = "above 0" if test.gains else "exactly 0"
    note = f"largest gain found {max(shares):.3g} % of W*, on {len(found)} books" if someone and len(shares) > 1 else ""
    return claim(test.label, mean_estimate(shares), expected, bool(shares) and someone == test.gains, "% of W*", note)


def _incentives(settings: Settings) -> list[Figure]:
    books = {
        name: make_books([name], settings.runs(BOOKS), seed=settings.seed, agents_per_side=4)
        for name in ("uniform", "unit")
    }
    books["rationed"] = [rationed_book()]
    figures: list[Figure] = []
    for test in _TESTS:
        rule = _rule(test)
        if rule is None:
            figures.append(_missing(test))
        else:
            figures.append(_figure(test, largest_gains(rule, books[test.family], test.kind)))
    return figures


def _coins(settings: Settings) -> list[Figure]:
    """MUDA under every outcome of the coins of two small books, each taken from the first seed that gives it."""
    drawn = make_books(["uniform"], 20, seed=settings.seed, agents_per_side=2)
    books = [book for book in drawn if cross(book.book).volume_wh > 0][:2]
    figures: list[Figure] = []
    for test in _COIN_TESTS:
        if _rule(test) is None:
            figures.append(_missing(test))
            continue
        found: list[tuple[Fraction, Fraction]] = []
        for book in books:
            outcomes = every_coin(test, book)
            assert len(outcomes) == 2 ** len(book.agents), "more seeds are needed to see every coin"
            for rule in outcomes:
                found += largest_gains(rule, [book], test.kind)
        figures.append(_figure(test, found))
    return figures


def every_coin(test: _Test, book: AuditBook) -> list[BidRule]:
    """The rule with one seed for each way in which its coins split a book's agents."""
    outcomes: dict[frozenset[str], Any] = {}
    for seed in range(SEEDS):
        rule: Any = make_rule(test.rule, {**dict(test.parameters), "seed": seed})
        outcomes.setdefault(rule.left_half(book.book, book.context.slot), rule)
    return list(outcomes.values())


def _rule(test: _Test) -> BidRule | None:
    try:
        rule = make_rule(test.rule, dict(test.parameters))
    except MarketError:
        return None
    return rule if isinstance(rule, BidRule) else None


def _missing(test: _Test) -> Figure:
    return told(test.label, None, "above 0" if test.gains else "exactly 0", "% of W*", "rule not there")


_SEARCH = (
    "misreport search of the audit (price: every price of the book, a tick beside it, midpoints; quantity: 0 to 200 %),"
    " others truthful, largest gain of an agent over W*; stop: every report of the grid tried once"
)

ITEMS = (
    BenchItem(
        name="incentives", section="3.1 item 6", reproduces="theory of each rule", compute=_incentives,
        protocol=f"{_SEARCH}; {BOOKS} seeded books of 4 buyers and 4 sellers, Huang's quantities on the rationed book"
        " of 2.5",
    ),
    BenchItem(
        name="incentives, MUDA", section="3.1 item 6", reproduces="Segal-Halevi, Hassidim & Aumann 2018",
        compute=_coins,
        protocol=f"{_SEARCH}; 2 books of 2 buyers and 2 sellers under each of the 16 outcomes of the coins",
    ),
)  # fmt: skip
