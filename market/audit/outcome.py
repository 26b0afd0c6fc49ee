"""What one book shows of a rule: exact figures of the truthful result, and what misreports would have earned.

A measurement is a pure function of rule, book and search, so that books can be spread over processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from core.errors import MarketError
from market.audit.books import AuditBook
from market.audit.families import with_terms
from market.audit.misreport import Deviation, Found, Search, search_book
from market.audit.optimum import optimum_u
from market.book import Context
from market.crossing import cross
from market.facade import clear
from market.orders import RETAILER, Side
from market.registry import BidRule
from market.result import Result
from market.rules.by_slot import guarded

ORDER_BYTES = 25
"""Payload of an order: side 1, energy 8, price 8, slot 8."""
RESULT_BYTES = 24
"""Payload of an answer: fill 8, payment 8, slot 8."""
PRICE_BYTES = 16
"""Payload of a published price: numerator 8, denominator 8."""


@dataclass(frozen=True, slots=True)
class Person:
    """One agent in one result; money is exact micro-currency.

    ``utility_u`` is what the local market gives it; ``saving_u`` the same beside what the retailer would have given for
    the same energy; ``bill_u`` its payment with the retailer's part and ``energy_wh`` the energy behind that bill;
    ``alone_u`` its bill with the retailer alone.
    """

    utility_u: Fraction
    saving_u: Fraction
    bill_u: Fraction
    energy_wh: int
    alone_u: Fraction


@dataclass(frozen=True, kw_only=True)
class BookOutcome:
    """One rule on one book. Money is exact micro-currency, energy Wh.

    Parameters
    ----------
    book
        The truth.
    refused
        Why the rule does not take the book, else None; nothing else is measured then.
    failure
        What the rule did against the laws of every result, or raised, else None.
    welfare_u, optimum_u
        W of the result at true values, and W*.
    welfare_retailer_u, optimum_retailer_u
        The same where everybody may also use the retailer; None without a tariff.
    surplus_u
        What the operator keeps.
    residual_wh
        Bought minus sold minus the retailer's part: must be 0.
    demand_wh, supply_wh, volume_wh
        Stated and traded energy.
    price, alpha_base
        The one price and the midpoint of the competitive interval, where there are such.
    people
        Agent -> its figures.
    messages, payload_bytes, rounds
        Of the protocol, see `communication`.
    term_breaches, terms_seen
        What was traded against terms in the book's version with terms; None = the rule refuses terms.
    found
        Kind -> result of the misreport search.
    """

    book: AuditBook
    refused: str | None = None
    failure: str | None = None
    welfare_u: Fraction = Fraction(0)
    optimum_u: Fraction = Fraction(0)
    welfare_retailer_u: Fraction | None = None
    optimum_retailer_u: Fraction | None = None
    surplus_u: Fraction = Fraction(0)
    residual_wh: int = 0
    demand_wh: int = 0
    supply_wh: int = 0
    volume_wh: int = 0
    price: Fraction | None = None
    alpha_base: Fraction | None = None
    people: Mapping[str, Person] = field(default_factory=dict)
    messages: int = 0
    payload_bytes: int = 0
    rounds: int = 1
    term_breaches: int | None = None
    terms_seen: int = 0
    found: Mapping[str, Found] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether there is a result."""
        return self.refused is None and self.failure is None

    @property
    def worst_u(self) -> Fraction:
        """The lowest utility of an agent, or 0."""
        return min((p.utility_u for p in self.people.values()), default=Fraction(0))

    def gain_u(self, kind: str | None = None) -> Fraction:
        """The greatest gain of an agent by one kind of report, or by any of one's own identity."""
        kinds = [kind] if kind is not None else [k for k in self.found if k != "identity"]
        return max((max(self.found[k].gains_u.values(), default=Fraction(0)) for k in kinds if k in self.found),
                   default=Fraction(0))  # fmt: skip

    def best(self, kind: str) -> Deviation | None:
        """The report of one kind that gains most."""
        return self.found[kind].best if kind in self.found else None


def measure(rule: BidRule, book: AuditBook, search: Search) -> BookOutcome:
    """Everything the audit wants to know of one book; see `BookOutcome`. Never raises for what the rule does."""
    try:
        reason = unfit(rule, book)
        if reason is not None:
            return BookOutcome(book=book, refused=reason)
        result = clear(rule, book.orders, context=book.context)
        outcome = truthful(book, result)
        found = {kind: search_book(rule, book, kind, search) for kind in search.kinds}
        same_in_batch(book, outcome["people"], found)
    except MarketError as error:
        return BookOutcome(book=book, failure=error.message)
    terms = _terms(rule, book)
    return BookOutcome(**{**outcome, "found": found, **terms})


def same_in_batch(book: AuditBook, people: Mapping[str, Person], found: Mapping[str, Found]) -> None:
    """Hold what the batch call gives for the truth against the single call; MarketError where they differ."""
    for each in found.values() if book.one_order_each else ():
        for agent, honest in each.honest_u.items():
            if honest != people[agent].utility_u:
                raise MarketError(
                    f"clear leaves {agent} with a utility of {people[agent].utility_u}, clear_batch with {honest}",
                    remedy="clear_batch must equal clear slot by slot",
                )


def unfit(rule: BidRule, book: AuditBook) -> str | None:
    """Why a rule does not take a book, or None."""
    flags = {flag for o in book.orders for flag in o.flags}
    if strange := sorted(flags - rule.flags):
        return f"does not understand {', '.join(strange)} orders"
    low, high = book.context.band
    if any((low is not None and o.price_u < low) or (high is not None and o.price_u > high) for o in book.orders):
        return "a limit lies outside the price band"
    return guarded(rule, book.context.slot, rule.applicable, book.book, book.context)


def truthful(book: AuditBook, result: Result) -> dict[str, Any]:
    """The figures of a truthful result, as arguments of `BookOutcome`."""
    context = book.context
    welfare = sum((Fraction(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), 1000) for o in book.orders),
                  Fraction(0))  # fmt: skip
    if context.in_book:
        retail, feed_in = context.retailer_prices()
        welfare += Fraction(feed_in * result.export_wh - retail * result.import_wh, 1000)
    signed = sum(int(o.side) * result.fills.get(o.order_id, 0) for o in book.orders)
    crossing = cross(book.book, context)
    base = None
    if crossing.low_u is not None and crossing.high_u is not None:
        base = Fraction(crossing.low_u + crossing.high_u, 2)
    messages, payload, rounds = communication(book, result)
    optimum = optimum_u(book, 0 if context.in_book else result.import_wh - result.export_wh)
    return {
        "book": book,
        "welfare_u": welfare,
        "optimum_u": optimum,
        **_with_retailer(book, result, welfare, optimum),
        "surplus_u": Fraction(result.surplus_u),
        "residual_wh": signed - result.import_wh + result.export_wh,
        "demand_wh": sum(o.e_wh for o in book.orders if o.side == Side.BUY),
        "supply_wh": sum(o.e_wh for o in book.orders if o.side == Side.SELL),
        "volume_wh": result.volume_wh,
        "price": result.price,
        "alpha_base": base,
        "people": {a: _person(book, result, a) for a in book.agents},
        "messages": messages,
        "payload_bytes": payload,
        "rounds": rounds,
    }


def _with_retailer(book: AuditBook, result: Result, welfare: Fraction, optimum: Fraction) -> dict[str, Any]:
    """Welfare and optimum where everybody may also buy at retail and sell at feed-in."""
    if book.context.in_book:
        return {"welfare_retailer_u": welfare, "optimum_retailer_u": optimum}
    if book.tariff is None:
        return {}
    retail, feed_in = book.tariff
    open_band = {"p_min_u": -(2**62), "p_max_u": 2**62}
    around = {"slot": book.context.slot, "retail_u": retail, "feed_in_u": feed_in, "backstop": "in_book", **open_band}
    total = welfare + sum(
        (Fraction(_outside(o.side, o.price_u, book.tariff) * (o.e_wh - result.fills.get(o.order_id, 0)), 1000)
         for o in book.orders), Fraction(0))  # fmt: skip
    return {
        "welfare_retailer_u": total,
        "optimum_retailer_u": Fraction(cross(book.book, Context.of(around)).welfare_u),
    }


def _outside(side: Side, limit_u: int, tariff: tuple[int, int] | None) -> int:
    """What a kWh is worth to an agent that takes it to the retailer [micro-currency]; 0 where it would not."""
    if tariff is None:
        return 0
    retail, feed_in = tariff
    return max(0, limit_u - retail) if side == Side.BUY else max(0, feed_in - limit_u)


def _person(book: AuditBook, result: Result, agent: str) -> Person:
    paid = Fraction(result.payments.get(agent, 0))
    value = saved = alone = rest_bill = Fraction(0)
    energy = 0
    retail, feed_in = book.tariff or (0, 0)
    for o in book.orders:
        if o.agent_id != agent:
            continue
        fill, side = result.fills.get(o.order_id, 0), int(o.side)
        value += Fraction(side * o.price_u * fill, 1000)
        outside = _outside(o.side, o.price_u, book.tariff)
        saved += Fraction(outside * fill, 1000)
        price = retail if o.side == Side.BUY else feed_in
        uses = book.tariff is not None and (o.price_u >= retail if o.side == Side.BUY else o.price_u <= feed_in)
        rest = o.e_wh - fill if uses and not book.context.in_book else 0
        rest_bill += Fraction(side * price * rest, 1000)
        alone += Fraction(side * price * (o.e_wh if uses else 0), 1000)
        energy += fill + rest
    return Person(value - paid, value - paid - saved, paid + rest_bill, energy, alone)


def communication(book: AuditBook, result: Result) -> tuple[int, int, int]:
    """Messages, payload bytes and rounds of a slot.

    A sealed-bid rule: every order goes up once, every agent gets one answer, the prices it names are published with it.
    A rule that takes several rounds reports ``rounds`` and may report ``messages`` and ``payload_bytes`` in its
    diagnostics, which then count instead.
    """
    said_by_rule = result.diagnostics
    rounds = int(said_by_rule.get("rounds", 1))
    n_orders, n_agents = len(book.orders), len(book.agents)
    published = (result.price is not None) + (result.prices.buy is not None) + (result.prices.sell is not None)
    messages = (n_orders + n_agents) * rounds
    payload = (n_orders * ORDER_BYTES + n_agents * (RESULT_BYTES + published * PRICE_BYTES)) * rounds
    return int(said_by_rule.get("messages", messages)), int(said_by_rule.get("payload_bytes", payload)), rounds


# --- terms ------------------------------------------------------------------------------------------------------------


def _terms(rule: BidRule, book: AuditBook) -> dict[str, Any]:
    """Trades against members' own terms in the book's version with terms (market-rules 2.27)."""
    own = binding_terms(rule, book)
    try:
        if not own.context.terms or unfit(rule, own) is not None:
            return {"term_breaches": None}
        breaches, seen = term_breaches(own, clear(rule, own.orders, context=own.context))
    except MarketError:
        return {"term_breaches": None}
    return {"term_breaches": len(breaches), "terms_seen": seen}


def binding_terms(rule: BidRule, book: AuditBook) -> AuditBook:
    """The book with terms, those left out that the rule says it cannot keep."""
    own = with_terms(book)
    kept = {a: t for a, t in own.context.terms.items() if rule.cannot_honour(t) is None}
    return replace(own, context=replace(own.context, terms=kept))


def term_breaches(book: AuditBook, result: Result) -> tuple[list[str], int]:
    """(breaches in words, terms looked at): sold below a floor, bought above a ceiling, or of a refused class.

    The class of what a buyer gets is known only where a rule says who trades with whom.
    """
    breaches: list[str] = []
    seen = 0
    classes = {o.order_id: o.attributes.get("class") for o in book.orders}
    owner = {o.order_id: o.agent_id for o in book.orders}
    for agent, terms in sorted(book.context.terms.items()):
        own = [o for o in book.orders if o.agent_id == agent]
        paid = Fraction(result.payments.get(agent, 0)) * 1000
        signed = sum(int(o.side) * result.fills.get(o.order_id, 0) for o in own)
        if terms.ceiling_u is not None and signed >= 0:
            seen += 1
            if paid > terms.ceiling_u * signed:
                breaches.append(f"{agent} pays {paid / 1000} for {signed} Wh, above its ceiling of {terms.ceiling_u}")
        if terms.floor_u is not None and signed <= 0:
            seen += 1
            if -paid < terms.floor_u * -signed:
                breaches.append(f"{agent} gets {-paid / 1000} for {-signed} Wh, below its floor of {terms.floor_u}")
        if terms.refused_classes and result.trades:
            seen += 1
            bought = [t for t in result.trades if owner.get(t.buy_id) == agent and t.sell_id != RETAILER]
            wrong = [t for t in bought if classes.get(t.sell_id) in terms.refused_classes and t.e_wh]
            breaches += [f"{agent} buys {t.e_wh} Wh of class {classes[t.sell_id]}, which it refuses" for t in wrong[:1]]
    return breaches, seen
