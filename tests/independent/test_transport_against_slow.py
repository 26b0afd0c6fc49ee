"""Preferences, energy classes and network charges against a second reading of the specification.

The optimum is compared exactly; which of several best pairings is taken is open, so payments are recomputed from the
rule's own pairs, and prices have to be competitive: between the two derivatives of the optimum.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from market import Order, Result, Side, clear
from market.feeder import Feeder
from market.terms import Terms
from tests.effort import looped
from tests.independent import slow_auctions, slow_rules
from tests.independent import slow_transport as slow
from tests.independent.slow_rules import SlowOrder

F = Fraction
CLASSES = ("green", "local", "grid")
K = (F(0), F(1, 2), F(1), F(1, 3))
UNITS = 7  # a Wh of the slow version is so many Wh of the facade


def draw(rng: random.Random, kind: str) -> list[SlowOrder]:
    n = rng.randint(2, 9)
    prices = {"plain": (0, 30), "ties": (4, 6), "negative": (-15, 5), "equal": (5, 5)}[kind]
    return slow_auctions.draw_book(rng, n, (0 if kind == "ties" else 1, 4), prices)


KINDS = ("plain", "ties", "negative", "equal")


def facade(o: SlowOrder, node: str | None = None, **attributes: Any) -> Order:
    side = Side.BUY if o.buy else Side.SELL
    return Order(
        order_id=o.oid,
        agent_id=o.agent,
        side=side,
        e_wh=o.q * UNITS,
        price_u=o.p,
        t=o.t,
        seq=o.seq,
        node=node,
        attributes=attributes,
    )


def feasible(got: Result, book: list[SlowOrder], market: slow.Transport, charge: Mapping[tuple[str, str], int]) -> None:
    """Trades add up to fills within orders, reach the optimum exactly, and use no refused pair."""
    by_id = {o.oid: o for o in book}
    fills = dict.fromkeys(by_id, 0)
    value = 0
    for t in got.trades:
        assert t.e_wh > 0
        fills[t.buy_id] += t.e_wh
        fills[t.sell_id] += t.e_wh
        value += t.e_wh * market.value(by_id[t.buy_id], by_id[t.sell_id])
    assert fills == {i: got.fills.get(i, 0) for i in by_id}
    assert all(0 <= x <= by_id[i].q * UNITS for i, x in fills.items())
    assert value == market.optimum() * UNITS
    assert sum(t.e_wh for t in got.trades) == market.volume() * UNITS
    collected = sum(F(charge.get((t.buy_id, t.sell_id), 0) * t.e_wh, 1000) for t in got.trades)
    assert got.diagnostics["network_charges_u"] == collected
    assert got.welfare_u == F(value, 1000) + collected


def rational(got: Result, market: slow.Transport, book: list[SlowOrder], charge: Mapping[tuple[str, str], int]) -> None:
    """Nobody is worse off, its preferences and its charges counted in (one order per agent)."""
    by_id = {o.oid: o for o in book}
    limit: dict[str, Fraction] = {}
    for t in got.trades:
        b, s = by_id[t.buy_id], by_id[t.sell_id]
        gross = market.gross[b.oid, market.good[s.oid]] + charge.get((b.oid, s.oid), 0)
        limit[b.agent] = limit.get(b.agent, F(0)) + F(gross * t.e_wh, 1000)
        limit[s.agent] = limit.get(s.agent, F(0)) - F(s.p * t.e_wh, 1000)
    assert all(got.payments.get(o.agent, 0) <= limit.get(o.agent, 0) for o in book)


def paid(got: Result, book: list[SlowOrder], price: Any, charge: Mapping[tuple[str, str], int]) -> None:
    """Sellers get ``price(trade)``, buyers pay that and the charge; payments and surplus follow exactly."""
    agent = {o.oid: o.agent for o in book}
    money: dict[str, Fraction] = {}
    for t in got.trades:
        extra = charge.get((t.buy_id, t.sell_id), 0)
        money[agent[t.buy_id]] = money.get(agent[t.buy_id], F(0)) + (price(t) + extra) * t.e_wh / 1000
        money[agent[t.sell_id]] = money.get(agent[t.sell_id], F(0)) - price(t) * t.e_wh / 1000
    assert {a: x for a, x in got.payments.items() if x} == {a: x for a, x in money.items() if x}
    assert got.surplus_u == sum(money.values(), F(0))


def seller_gets(t: Any) -> Fraction:
    return F(t.price_u if t.seller_price_u is None else t.seller_price_u)


# 2.17 -----------------------------------------------------------------------------------------------------------------


def class_case(seed: int, kind: str) -> None:
    rng = random.Random(f"classes/{kind}/{seed}")
    book = draw(rng, kind)
    classes = {o.oid: rng.choice(CLASSES) for o in book}
    common = {c: rng.randint(-2, 8) for c in CLASSES if rng.random() < 0.5}
    own = {o.oid: {c: rng.randint(-3, 9) for c in CLASSES if rng.random() < 0.4} for o in book}
    refused = {o.agent: frozenset(c for c in CLASSES if rng.random() < 0.15) for o in book}
    k = rng.choice(K)
    orders = []
    for o in book:
        attributes: dict[str, Any] = {"premiums": own[o.oid]} if o.buy and own[o.oid] else {}
        if not o.buy and not (classes[o.oid] == "local" and rng.random() < 0.5):
            attributes["class"] = classes[o.oid]
        orders.append(facade(o, **attributes))
    premiums = {o.oid: common | own[o.oid] for o in book}
    market = slow.by_class(book, classes, premiums, refused)
    got = clear(
        "energy_classes",
        orders,
        context={"terms": {a: Terms(refused_classes=c) for a, c in refused.items() if c}},
        premiums=common,
        k=k,
    )
    feasible(got, book, market, {})
    rational(got, market, book, {})
    price = {}
    for c in {classes[t.sell_id] for t in got.trades}:
        low, high = market.price_interval(c)
        price[c] = got.prices.by_class[c]
        assert low <= price[c] <= high
        assert price[c] == low + k * (high - low)
    paid(got, book, lambda t: price[classes[t.sell_id]], {})
    assert got.surplus_u == 0
    money = sum(F(premiums[t.buy_id].get(classes[t.sell_id], 0) * t.e_wh, 1000) for t in got.trades)
    assert got.diagnostics["premium_u"] == money


@pytest.mark.parametrize("kind", KINDS)
def test_energy_classes(kind: str) -> None:
    for seed in range(25):
        class_case(seed, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_energy_classes_more(kind: str) -> None:
    for seed in range(25, 400):
        class_case(seed, kind)


def preference_case(seed: int, kind: str, pricing: str) -> None:
    rng = random.Random(f"preference/{pricing}/{kind}/{seed}")
    book = draw(rng, kind)
    look = {o.oid: {"class": rng.choice(CLASSES), "tech": rng.choice(("pv", "wind")), "agent": o.agent} for o in book}
    sellers = [o.agent for o in book if not o.buy] or ["nobody"]

    def taste() -> dict[str, dict[str, int]]:
        found = {}
        if rng.random() < 0.5:
            found["class"] = {c: rng.randint(-3, 8) for c in CLASSES if rng.random() < 0.6}
        if rng.random() < 0.5:
            found["tech"] = {"pv": rng.randint(-2, 4)}
        if rng.random() < 0.4:
            found["agent"] = {rng.choice(sellers): rng.randint(0, 9)}
        return found

    everybody, agents = taste(), {o.agent: taste() for o in book if o.buy and rng.random() < 0.5}
    own = {o.oid: taste() for o in book if o.buy and rng.random() < 0.4}
    taste_of = {o.oid: everybody | agents.get(o.agent, {}) | own.get(o.oid, {}) for o in book if o.buy}
    market = slow.by_seller(book, lambda b, s: slow.premium(taste_of[b.oid], look[s.oid]))
    orders = []
    for o in book:
        attributes: dict[str, Any] = {}
        if o.oid in own:
            attributes["preferences"] = own[o.oid]
        if not o.buy:
            attributes |= {"class": look[o.oid]["class"], "tech": look[o.oid]["tech"]}
        orders.append(facade(o, **attributes))
    k = rng.choice(K)
    preferences = agents | ({"*": everybody} if everybody else {})
    got = clear("preference_price", orders, preferences=preferences, pricing=pricing, k=k)
    feasible(got, book, market, {})
    rational(got, market, book, {})
    ask = {o.oid: o.p for o in book}
    if pricing == "pair":
        paid(got, book, lambda t: (1 - k) * ask[t.sell_id] + k * market.gross[t.buy_id, t.sell_id], {})
        return
    paid(got, book, seller_gets, {})
    for t in got.trades:
        low, high = market.price_interval(t.sell_id)
        assert low <= seller_gets(t) <= high
        assert seller_gets(t) == low + k * (high - low)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pricing", ["pair", "duals"])
def test_preference_price(pricing: str, kind: str) -> None:
    for seed in range(20):
        preference_case(seed, kind, pricing)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pricing", ["pair", "duals"])
def test_preference_price_more(pricing: str, kind: str) -> None:
    for seed in range(20, 300):
        preference_case(seed, kind, pricing)


@looped("seed", range(40))
def test_without_preferences_it_is_the_call_auction(seed: int) -> None:
    """Optimum and price are those of 2.1; one class has one price."""
    rng = random.Random(f"none/{seed}")
    book = draw(rng, rng.choice(KINDS))
    k = rng.choice(K)
    want = slow_rules.uniform_price(book, k)
    for rule, more in (("energy_classes", {}), ("preference_price", {"pricing": "duals"})):
        got = clear(rule, [facade(o) for o in book], k=k, **more)
        assert got.welfare_u == want.welfare * UNITS
        if got.trades:
            assert {seller_gets(t) for t in got.trades} == {want.price}


# 2.19 -----------------------------------------------------------------------------------------------------------------


def tree(rng: random.Random) -> tuple[slow.Tree, Feeder]:
    n = rng.randint(2, 7)
    parent = [-1, *(rng.randrange(i) for i in range(1, n))]
    z = [0j, *(complex(rng.randint(0, 9), rng.randint(0, 9)) / 100 for _ in range(1, n))]
    feeder = Feeder(
        nodes=tuple(str(i) for i in range(n)),
        parent=np.array(parent),
        r_pu=np.array([x.real for x in z]),
        x_pu=np.array([x.imag for x in z]),
        cap_pu=np.full(n, np.inf),
        base_kva=100.0,
    )
    return slow.Tree(parent, z), feeder


def charges(rng: random.Random, book: list[SlowOrder], how: str) -> tuple[dict[str, Any], dict[str, str], Any, Any]:
    """Parameters of the wrapper, the node of every order, its context, and the charge of a pair of orders."""
    network, feeder = tree(rng)
    node = {o.oid: rng.choice(feeder.nodes) for o in book}
    if how == "unique":
        u = rng.randint(0, 9)
        return {"charge": how, "u": u}, node, {}, lambda b, s: u
    if how == "zonal":
        names = ("A", "B", "C", "D")
        zone = {x: rng.choice(names) for x in feeder.nodes}
        above = {"A": "T", "B": "T", "C": "U", "D": "U", "T": "top", "U": "top"}
        between = {frozenset(p): rng.randint(0, 9) for p in (("A", "B"), ("C", "A"), ("B", "D")) if rng.random() < 0.5}
        levels = {z: rng.randint(0, 4) for z in ("A", "B", "C", "D", "T", "U")}
        zones = slow.Zones(zone, rng.randint(0, 3), between, above, levels)
        pairs = {"|".join(rng.sample(sorted(p), 2)): u for p, u in between.items()}
        more = {"zones": zone, "u_in": zones.u_in, "u_between": pairs, "hierarchy": above, "u_levels": levels}
        return {"charge": how, **more}, node, {}, lambda b, s: zones.charge(node[b], node[s])
    u = rng.randint(0, 120) if how != "transfer" else rng.randint(0, 3)

    def charge(b: str, s: str) -> int:
        return round(u * network.distance(int(node[b]), int(node[s]), how))

    return {"charge": "distance", "measure": how, "u": u}, node, {"feeder": feeder}, charge


HOW = ("unique", "thevenin", "path", "transfer", "zonal")


def charge_case(seed: int, how: str, inner: str) -> None:
    rng = random.Random(f"charges/{how}/{inner}/{seed}")
    book = draw(rng, rng.choice(KINDS))
    parameters, node, context, of = charges(rng, book, how)
    charge = {(b.oid, s.oid): of(b.oid, s.oid) for b in book for s in book if b.buy and not s.buy}
    market = slow.by_seller(book, lambda b, s: -charge[b.oid, s.oid])
    k = rng.choice(K)
    share = rng.choice((F(1, 2), F(0), F(1), F(1, 3)))
    more = {"inner_parameters": {"k": k}} if inner != "pay_as_bid" else {}
    got = clear(
        "network_charges",
        [facade(o, node[o.oid]) for o in book],
        context=context,
        inner=inner,
        buyer_share=share,
        **parameters,
        **more,
    )
    ask = {o.oid: o.p for o in book}
    if how != "unique":
        feasible(got, book, market, charge)
        rational(got, market, book, charge)
    assert got.welfare_u - got.diagnostics["network_charges_u"] == F(market.optimum() * UNITS, 1000)
    assert got.network_u in {None, got.diagnostics["network_charges_u"]}
    # whose line shows how much of the charge
    for side, part in ((True, share), (False, 1 - share)):
        shown = sum((F(got.diagnostics["charges"].get(o.oid, 0)) for o in book if o.buy == side), F(0))
        assert shown == part * got.diagnostics["network_charges_u"]
    if how == "unique":
        return
    if inner == "pair_price":
        assert got.surplus_u == got.diagnostics["network_charges_u"]
        paid(got, book, lambda t: (1 - k) * ask[t.sell_id] + k * market.gross[t.buy_id, t.sell_id], charge)
    elif inner == "uniform_price":
        assert got.surplus_u == got.diagnostics["network_charges_u"]
        paid(got, book, seller_gets, charge)
        for t in got.trades:
            low, high = market.price_interval(t.sell_id)
            assert low <= seller_gets(t) <= high
    else:  # pay as bid: the operator keeps what is left beside the charges
        limit = {o.agent: F((o.p if o.buy else -o.p) * got.fills.get(o.oid, 0), 1000) for o in book}
        assert {a: x for a, x in got.payments.items() if x} == {a: x for a, x in limit.items() if x}


@pytest.mark.parametrize("inner", ["uniform_price", "pair_price", "pay_as_bid"])
@pytest.mark.parametrize("how", HOW)
def test_network_charges(how: str, inner: str) -> None:
    for seed in range(15):
        charge_case(seed, how, inner)


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["uniform_price", "pair_price", "pay_as_bid"])
@pytest.mark.parametrize("how", HOW)
def test_network_charges_more(how: str, inner: str) -> None:
    for seed in range(15, 200):
        charge_case(seed, how, inner)


@pytest.mark.parametrize(
    "inner", ["uniform_price", "pair_price", "pay_as_bid", "vcg", "huang", "trade_reduction", "mcafee"]
)
def test_a_constant_charge_shifts_asks(inner: str) -> None:
    """The plain rule on asks dearer by u; sellers are left with u less, and the network has u per Wh."""
    for seed in range(30):
        rng = random.Random(f"unique/{inner}/{seed}")
        if inner in {"trade_reduction", "mcafee"}:
            book = slow_auctions.RANDOM_BOOKS["lots"](rng)
        else:
            book = slow_auctions.RANDOM_BOOKS["plain"](rng)
        u = rng.randint(0, 9)
        shifted = [o if o.buy else SlowOrder(o.oid, o.agent, o.buy, o.q, o.p + u, o.t, o.seq) for o in book]
        orders = [facade(o) for o in book]
        plain = clear(inner, [facade(o) for o in shifted])
        got = clear("network_charges", orders, inner=inner, charge="unique", u=u)
        assert {i: x for i, x in got.fills.items() if x} == {i: x for i, x in plain.fills.items() if x}
        sold = {o.agent: got.fills.get(o.oid, 0) for o in book if not o.buy}
        total = F(u * sum(sold.values()), 1000)
        for agent in {o.agent for o in book}:
            want = plain.payments.get(agent, 0) + F(u * sold.get(agent, 0), 1000)
            assert got.payments.get(agent, 0) == want
        assert got.diagnostics["network_charges_u"] == total
        assert got.surplus_u == plain.surplus_u + total


def test_examples() -> None:
    book = [SlowOrder("b", "b", True, 1, 30), SlowOrder("s1", "s1", False, 1, 10), SlowOrder("s2", "s2", False, 1, 14)]
    feeder = Feeder(
        nodes=("0", "1", "2", "3", "4"),
        parent=np.array([-1, 0, 1, 2, 0]),
        r_pu=np.array([0.0, 1, 1, 1, 1]),
        x_pu=np.zeros(5),
        cap_pu=np.full(5, np.inf),
        base_kva=1.0,
    )
    node = {"b": "0", "s1": "3", "s2": "4"}
    got = clear(
        "network_charges",
        [facade(o, node[o.oid]) for o in book],
        context={"feeder": feeder},
        charge="distance",
        u=3,
    )
    assert {i for i, x in got.fills.items() if x} == {"b", "s2"}
    assert got.diagnostics["network_charges_u"] == F(3 * UNITS, 1000)


@looped("seed", range(60))
def test_the_slow_optimum_by_trying_everything(seed: int) -> None:
    """Tiny books: every whole assignment."""
    rng = random.Random(f"tiny/{seed}")
    book = slow_auctions.draw_book(rng, rng.randint(2, 4), (0, 2), (0, 9))
    extra = {(b.oid, s.oid): rng.choice((None, rng.randint(-4, 6))) for b in book for s in book}
    market = slow.by_seller(book, lambda b, s: extra[b.oid, s.oid])
    pairs = [(b, s) for b in market.buys for s in market.sells if extra[b.oid, s.oid] is not None]

    def best(i: int, left: dict[str, int]) -> int:
        if i == len(pairs):
            return 0
        b, s = pairs[i]
        most = min(left[b.oid], left[s.oid])
        return max(
            x * market.value(b, s) + best(i + 1, left | {b.oid: left[b.oid] - x, s.oid: left[s.oid] - x})
            for x in range(most + 1)
        )

    assert best(0, {o.oid: o.q for o in book}) == market.optimum()
