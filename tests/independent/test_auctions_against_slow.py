"""Truthful auctions, VCG, MUDA, Vickrey, periodic calls and baselines against a second reading of the specification.

Everything is compared exactly. Where a rule draws lots, the result has to be one that some draw gives, and over many
seeds every one of them has to be seen.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import pytest

from core.errors import MarketError
from market import Order, Result, Side, clear, make_rule
from market.rules.periodic_call import PeriodicCall
from tests.effort import looped
from tests.independent import slow_auctions as slow
from tests.independent import slow_rules
from tests.independent.slow_rules import SlowOrder

F = Fraction
CT = 10_000


def facade_order(o: SlowOrder, **more: Any) -> Order:
    side = Side.BUY if o.buy else Side.SELL
    return Order(order_id=o.oid, agent_id=o.agent, side=side, e_wh=o.q, price_u=o.p, t=o.t, seq=o.seq, **more)


def facade_orders(book: Sequence[SlowOrder], rng: random.Random | None = None) -> list[Order]:
    orders = [facade_order(o) for o in book]
    if rng is not None:
        rng.shuffle(orders)
    return orders


def nonzero(amounts: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in amounts.items() if value}


def outcome_of(result: Result) -> slow.Outcome:
    return slow.Outcome(nonzero(result.fills), nonzero(result.payments), welfare=F(result.welfare_u))


def same(result: Result, want: slow.Outcome) -> None:
    assert nonzero(result.fills) == want.fills
    assert nonzero(result.payments) == want.payments
    assert result.welfare_u == want.welfare
    assert result.surplus_u == want.surplus


def draw(kind: str, seed: int, rule: str) -> tuple[list[SlowOrder], random.Random]:
    rng = random.Random(f"{rule}/{kind}/{seed}")
    return slow.RANDOM_BOOKS[kind](rng), rng


def cases(kinds: Mapping[str, Any], fast: int, extra: int) -> list[Any]:
    """The first seeds of every kind of book every day, many more among the slow tests."""
    few = [pytest.param(kind, range(fast), id=kind) for kind in kinds]
    many = [pytest.param(kind, range(fast, fast + extra), id=f"{kind}-more", marks=pytest.mark.slow) for kind in kinds]
    return few + many


# 2.3, 2.4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.LOT_BOOKS, 60, 400))
@pytest.mark.parametrize("rule", ["trade_reduction", "mcafee"])
def test_reductions(rule: str, kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, rule)
        want = getattr(slow, rule)(book)
        got = clear(rule, facade_orders(book, rng))
        same(got, want)
        if want.fills:
            assert (got.prices.buy, got.prices.sell) == (want.buy_price, want.sell_price)
            one = {want.buy_price} if want.buy_price == want.sell_price else set()
            assert got.price in {None, *one}  # whether two prices that coincide are one price is not said
        else:
            assert (got.price, got.prices.buy, got.prices.sell) == (None, None, None)
        lots = clear(rule, facade_orders(book, rng), tie_break="random", seed=seed)
        assert (lots.prices.buy, lots.prices.sell) == (got.prices.buy, got.prices.sell)
        assert lots.welfare_u == got.welfare_u
        assert lots.surplus_u == got.surplus_u


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.LOT_BOOKS, 40, 300))
def test_sbba(kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "sbba")
        want = {o.key(): o for o in slow.sbba(book)}
        got = clear("sbba", facade_orders(book, rng), seed=seed)
        assert outcome_of(got).key() in want
        one = want[outcome_of(got).key()]
        same(got, one)
        assert got.surplus_u == 0
        assert got.price == one.buy_price


@pytest.mark.slow
@looped("seed", range(12))
def test_sbba_draws_every_seller(seed: int) -> None:
    rng = random.Random(f"sbba-draw/{seed}")
    k = rng.randint(2, 5)
    buys = [SlowOrder(f"b{i}", f"b{i}", True, 3, rng.randint(10, 20)) for i in range(k)]
    book = [*buys, *(SlowOrder(f"s{i}", f"s{i}", False, 3, rng.randint(0, 9)) for i in range(k))]
    want = {o.key() for o in slow.sbba(book)}
    seen = [outcome_of(clear("sbba", facade_orders(book), seed=s)).key() for s in range(40 * k)]
    assert set(seen) == want
    assert len(want) == k
    assert max(seen.count(w) for w in want) < 3 * 40  # forty each on average


@pytest.mark.parametrize("rule", ["trade_reduction", "mcafee", "sbba"])
def test_unequal_lots_and_several_orders_are_refused(rule: str) -> None:
    for seed in range(60):
        book, rng = draw(rng_kind := ("plain", "several", "ties")[seed % 3], seed, f"refuse/{rule}")
        kept, crossed = slow_rules.accepted(book)
        if crossed:
            continue  # whether an order refused for crossing its own counts is not said
        try:
            slow.trade_reduction(kept)
        except slow.NotApplicableError:
            with pytest.raises(MarketError):
                clear(rule, facade_orders(book, rng))
        else:
            assert clear(rule, facade_orders(book, rng)).fills is not None, rng_kind


# 2.5 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.LOT_BOOKS | slow.AGENT_BOOKS, 40, 400))
def test_huang(kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "huang")
        want = slow.huang(book)
        got = clear("huang", facade_orders(book, rng))
        fills = nonzero(got.fills)
        size = {o.oid: o.q for o in book}
        assert set(fills) <= set(want.exact)
        for buy in (True, False):
            side = {o.oid: want.exact[o.oid] for o in book if o.buy == buy and o.oid in want.exact}
            assert slow.cut_ties_keep_sizes(side, fills, size)
            assert sum(fills.get(o.oid, 0) for o in book if o.buy == buy) == want.volume
        same(got, want.rounded)
        if want.volume:
            assert (got.prices.buy, got.prices.sell) == (want.rounded.buy_price, want.rounded.sell_price)
        assert got.volume_wh == want.volume


@looped("seed", range(60))
def test_huang_with_unit_orders_is_trade_reduction(seed: int) -> None:
    """Section 5, number 10."""
    book, rng = draw("lots", seed, "huang-unit")
    same(clear("huang", facade_orders(book, rng)), slow.trade_reduction(book))


def test_huang_needs_one_order_per_agent() -> None:
    book = [SlowOrder("a", "x", True, 1, 5), SlowOrder("b", "x", True, 2, 4), SlowOrder("c", "y", False, 2, 1)]
    with pytest.raises(MarketError):
        clear("huang", facade_orders(book))


# 2.7 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.RANDOM_BOOKS, 25, 200))
def test_vcg(kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "vcg")
        for tie_break in ("time", "prorata"):
            zero_surplus = rng.random() < 0.7
            want, deficit = slow.vcg(book, tie_break, zero_surplus)
            got = clear("vcg", facade_orders(book, rng), tie_break=tie_break, zero_surplus=zero_surplus)
            if tie_break == "time":
                same(got, want)
            # which of an agent's own equal orders has the odd Wh of a pro rata share is not said
            assert by_level(book, got.fills) == by_level(book, want.fills)
            assert nonzero(got.payments) == want.payments
            assert got.diagnostics["deficit_u"] == deficit
        other = clear("vcg", facade_orders(book, rng), tie_break="random", seed=seed)
        time, _ = slow.vcg(book)
        assert other.surplus_u == time.surplus
        for agent in {o.agent for o in book}:  # each utility is tie-invariant
            own = utility(book, agent, time.fills, time.payments)
            assert utility(book, agent, other.fills, other.payments) == own >= 0


def by_level(book: Sequence[SlowOrder], fills: Mapping[str, int]) -> dict[Any, int]:
    """Wh by agent, side and price."""
    found: dict[Any, int] = {}
    for o in book:
        found[o.agent, o.buy, o.p] = found.get((o.agent, o.buy, o.p), 0) + fills.get(o.oid, 0)
    return found


def utility(book: Sequence[SlowOrder], agent: str, fills: Mapping[str, int], paid: Mapping[str, Any]) -> Fraction:
    value = sum(F((o.p if o.buy else -o.p) * fills.get(o.oid, 0), 1000) for o in book if o.agent == agent)
    return value - F(paid.get(agent, 0))


@pytest.mark.parametrize("cover", ["equal_fee", "redistribution"])
def test_vcg_with_the_deficit_covered(cover: str) -> None:
    """The text names two covers; that every agent in the book bears its part is the rule's own reading."""
    for seed in range(60):
        book, rng = draw(("plain", "ties", "several", "zeros")[seed % 4], seed, cover)
        if slow_rules.accepted(book)[1]:
            continue
        want, deficit = slow.vcg(book, cover=cover)
        got = clear("vcg", facade_orders(book, rng), cover=cover)
        same(got, want)
        if cover == "equal_fee":
            assert got.surplus_u == 0
        assert got.diagnostics["deficit_u"] == deficit


# 2.6 ------------------------------------------------------------------------------------------------------------------

SMALL = ("lots", "plain", "ties", "crossing", "exact_meet", "zeros", "negative", "one_sided", *slow.SEVERAL_BOOKS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seeds"), cases(dict.fromkeys(SMALL), 20, 150))
@pytest.mark.parametrize("variant", ["lottery", "vickrey"])
def test_muda(variant: str, kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "muda")
        got = clear("muda", facade_orders(book, rng), variant=variant, seed=seed)
        left = set(got.diagnostics["left"])
        assert left.isdisjoint(got.diagnostics["right"])
        assert left | set(got.diagnostics["right"]) >= {o.agent for o in book if o.q}
        kept, _ = slow_rules.accepted(book)
        halves = [[o for o in kept if o.agent in left], [o for o in kept if o.agent not in left]]
        assert got.diagnostics["price_of_left_u"] == slow.half_price(halves[0])
        assert got.diagnostics["price_of_right_u"] == slow.half_price(halves[1])
        want = {o.key(): o for o in slow.muda(book, left, variant)}
        assert outcome_of(got).key() in want
        same(got, want[outcome_of(got).key()])
        assert got.surplus_u == 0 if variant == "lottery" else got.surplus_u >= 0


@pytest.mark.parametrize("variant", ["lottery", "vickrey"])
def test_muda_tosses_every_coin(variant: str) -> None:
    """Over the seeds all 2^n splits are seen; a coin does not depend on who else is there."""
    book = [
        SlowOrder("b1", "p", True, 3, 9),
        SlowOrder("b2", "q", True, 2, 8),
        SlowOrder("s1", "r", False, 4, 2),
        SlowOrder("s2", "s", False, 2, 3),
    ]
    results = [clear("muda", facade_orders(book), variant=variant, seed=seed) for seed in range(300)]
    halves = [frozenset(r.diagnostics["left"]) for r in results]
    assert set(halves) == {frozenset(x) for x in slow.splits(book)}
    for agent in "pqrs":
        assert 110 < sum(agent in h for h in halves) < 190
    for seed, half in enumerate(halves[:40]):
        fewer = clear("muda", facade_orders(book[1:]), variant=variant, seed=seed)
        assert frozenset(fewer.diagnostics["left"]) == half - {"p"}


@pytest.mark.slow
def test_muda_lottery_draws_every_turn() -> None:
    """For one split, all outcomes that some order of the long side's agents gives are seen."""
    book = [SlowOrder(f"b{i}", f"b{i}", True, 2, 9) for i in range(3)] + [SlowOrder("s", "s", False, 3, 2)]
    book += [SlowOrder("x", "x", True, 2, 5), SlowOrder("y", "y", False, 2, 3)]
    left = {"b0", "b1", "b2", "s"}
    want = {o.key() for o in slow.muda(book, left, "lottery")}
    seen = set()
    for seed in range(3000):
        got = clear("muda", facade_orders(book), variant="lottery", seed=seed)
        if set(got.diagnostics["left"]) == left:
            seen.add(outcome_of(got).key())
    assert seen == want


def test_muda_example() -> None:
    rows = [("B1", 4, 30), ("B2", 3, 26), ("B3", 5, 22), ("B4", 2, 15), ("S1", 3, 10), ("S2", 4, 16), ("S3", 4, 20)]
    rows.append(("S4", 5, 28))
    book = [SlowOrder(i, i, i[0] == "B", q * 1000, p * CT, n) for n, (i, q, p) in enumerate(rows)]
    (want,) = slow.muda(book, ("B1", "B3", "S2", "S4"), "vickrey")
    ct = {a: x / CT for a, x in want.payments.items()}
    assert ct == {"B1": 88, "S2": -70, "B2": 75, "S1": -60}
    assert (want.welfare / CT, want.surplus / CT) == (104, 33)
    for seed in range(5000):
        got = clear("muda", facade_orders(book), variant="vickrey", seed=seed)
        if set(got.diagnostics["left"]) == {"B1", "B3", "S2", "S4"}:
            same(got, want)
            return
    pytest.fail("the split of the example was not drawn")


# 2.8 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.AGENT_BOOKS | slow.SEVERAL_BOOKS, 25, 200))
@pytest.mark.parametrize("side", ["procure", "sell"])
def test_vickrey(side: str, kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, f"vickrey/{side}")
        if slow_rules.accepted(book)[1]:
            book = [o for o in book if o.buy == (side == "sell")]
        units = rng.randint(1, max(1, sum(o.q for o in book) // 2))
        if units > 2**62:
            units = 2**62
        reserve = rng.choice((None, rng.randint(-5, 40), 0))
        parameters = {"side": side, "units_wh": units, "reserve_u": reserve}
        try:
            want = slow.vickrey(book, units, reserve, side)
        except slow.NotApplicableError:
            with pytest.raises(MarketError):
                clear("vickrey", facade_orders(book, rng), **parameters)
            continue
        got = clear("vickrey", facade_orders(book, rng), **parameters)
        assert nonzero(got.fills) == want.fills
        members = {a: x for a, x in nonzero(got.payments).items() if a != "retailer"}
        assert members == want.payments
        assert got.payments.get("retailer", 0) == -want.surplus
        assert got.diagnostics["unmet_wh"] == units - sum(want.fills.values()) or side == "sell"


def test_vickrey_example() -> None:
    rows = [("a", 4, 10), ("b", 3, 14), ("c", 5, 18)]
    book = [SlowOrder(i, i, False, q * 1000, p * CT) for i, q, p in rows]
    got = clear("vickrey", facade_orders(book), units_wh=6000)
    assert {a: x / CT for a, x in got.payments.items() if x} == {"a": -68, "b": -36, "retailer": 104}
    assert nonzero(got.fills) == {"a": 4000, "b": 2000}


# 2.10 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pricing", ["uniform_price", "pair_price"])
@looped("seed", range(60))
def test_one_call(pricing: str, seed: int) -> None:
    book, rng = draw(rng_kind := ("plain", "ties", "several", "exact_meet")[seed % 4], seed, "call")
    k = rng.choice((F(0), F(1, 2), F(1, 3)))
    want = getattr(slow_rules, pricing)(book, k)
    got = clear("periodic_call", facade_orders(book, rng), pricing=pricing, k=k)
    assert nonzero(got.fills) == nonzero(want.fills), rng_kind
    assert nonzero(got.payments) == nonzero(want.payments)
    assert got.price == want.price


@looped("seed", range(80))
def test_calls_carry_over(seed: int) -> None:
    """Orders are collected between calls, rest with their first arrival time, and leave at the gate."""
    rng = random.Random(f"calls/{seed}")
    pricing = rng.choice(("uniform_price", "pair_price"))
    every, calls = rng.choice((60, 300, 900)), rng.randint(1, 4)
    gate = every * calls
    state = PeriodicCall(rule=make_rule("periodic_call", {"pricing": pricing}), opens_s=0, gate_s=gate, every_s=every)
    book = slow.PeriodicBook(lambda orders: getattr(slow_rules, pricing)(orders).fills)
    count = 0
    for call in range(1, calls + 1):
        for now in sorted(rng.randrange((call - 1) * every, call * every) for _ in range(rng.randint(0, 5))):
            if book.live and rng.random() < 0.2:
                oid = rng.choice(sorted(book.live))
                state, gone = state.cancel(oid, now)
                assert gone == book.cancel(oid)
                continue
            order = SlowOrder(f"o{count}", f"a{count}", rng.random() < 0.5, rng.randint(1, 6), rng.randint(0, 8), 99)
            count += 1
            ioc = rng.random() < 0.2
            flags = frozenset({"ioc"}) if ioc else frozenset()
            state, refused = state.submit([facade_order(order, flags=flags)], now)
            assert not refused
            book.submit(order, now, ioc=ioc)
        want = getattr(slow_rules, pricing)(list(book.live.values()))
        state, got = state.call(call * every)
        assert nonzero(got.fills) == book.clear()
        assert nonzero(got.payments) == nonzero(want.payments)
        assert {i: o.e_wh for i, o in state.live.items()} == {i: o.q for i, o in book.live.items()}
        assert {i: o.t for i, o in state.live.items()} == {i: o.t for i, o in book.live.items()}
    late = SlowOrder("late", "late", True, 1, 1)
    state, refused = state.submit([facade_order(late)], gate)
    assert len(refused) == 1
    _, gone = state.cancel("o0", gate)
    assert gone is None
    state, rest = state.expire(gate)
    assert {i: o.e_wh for i, o in rest.items()} == {i: o.q for i, o in book.live.items()}
    assert not state.live


# 2.25 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.RANDOM_BOOKS, 15, 100))
def test_central_optimum_without_blocks(kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "optimum")
        want = slow_rules.uniform_price(book)
        got = clear("central_optimum", facade_orders(book, rng))
        assert got.welfare_u == want.welfare
        assert got.price == want.price
        assert nonzero(got.payments) == nonzero(want.payments)
        assert nonzero(got.fills) == nonzero(want.fills)


@looped("seed", range(60))
def test_central_optimum_with_blocks(seed: int) -> None:
    rng = random.Random(f"blocks/{seed}")
    book = slow.draw_book(rng, rng.randint(2, 7), (0, 4), (0, 9))
    blocks = {o.oid for o in book if rng.random() < 0.6}
    flagged = [facade_order(o, flags=frozenset({"block"} if o.oid in blocks else ())) for o in book]
    got = clear("central_optimum", flagged)
    assert got.welfare_u == slow.block_optimum(book, blocks)
    assert got.surplus_u == 0
    size = {o.oid: o.q for o in book}
    assert all(got.fills.get(i, 0) in {0, size[i]} for i in blocks)
    for o in book:  # nobody is worse off
        paid = got.payments.get(o.agent, 0)
        assert paid <= F((o.p if o.buy else -o.p) * got.fills.get(o.oid, 0), 1000)


@pytest.mark.parametrize(("kind", "seeds"), cases(slow.RANDOM_BOOKS, 15, 100))
def test_random_pairs_draws_until_none_is_left(kind: str, seeds: range) -> None:
    for seed in seeds:
        book, rng = draw(kind, seed, "pairs")
        got = clear("random_pairs", facade_orders(book, rng), seed=seed)
        kept, _ = slow_rules.accepted(book)
        by_id = {o.oid: o for o in kept}
        left = {o.oid: o.q for o in kept}
        pays: dict[str, Fraction] = {}
        for t in got.trades:
            b, s = by_id[t.buy_id], by_id[t.sell_id]
            assert (b, s) in slow.feasible_pairs([b, s], left)
            assert t.price_u == F(b.p + s.p, 2)
            assert t.e_wh == min(left[b.oid], left[s.oid])
            left[b.oid] -= t.e_wh
            left[s.oid] -= t.e_wh
            pays[b.agent] = pays.get(b.agent, F(0)) + t.price_u * t.e_wh / 1000
            pays[s.agent] = pays.get(s.agent, F(0)) - t.price_u * t.e_wh / 1000
        assert not slow.feasible_pairs(kept, left)
        assert nonzero(got.payments) == nonzero(pays)
        assert {o.oid: o.q - left[o.oid] for o in kept if o.q > left[o.oid]} == nonzero(got.fills)


@looped("seed", range(8))
def test_random_pairs_sees_everything(seed: int) -> None:
    rng = random.Random(f"pairs-all/{seed}")
    book = slow.draw_book(rng, 5, (1, 3), (0, 6))
    want = slow.random_pairs(book)
    seen = set()
    for s in range(60 * len(want)):
        got = clear("random_pairs", facade_orders(book), seed=s)
        seen.add(tuple(sorted((t.buy_id, t.sell_id, t.e_wh) for t in got.trades)))
    assert seen == want


# Worked examples ------------------------------------------------------------------------------------------------------

R1 = [("B1", 4, 30), ("B2", 3, 26), ("B3", 5, 22), ("B4", 2, 15), ("S1", 3, 10), ("S2", 4, 16), ("S3", 4, 20)]
R1.append(("S4", 5, 28))
R2 = [*((f"B{i}", 1, p) for i, p in enumerate((10, 9, 8, 5, 2), 1))]
R2 += [(f"S{i}", 1, p) for i, p in enumerate((1, 3, 6, 7, 9), 1)]
R3 = [
    *((f"B{i}", 1, p) for i, p in enumerate((10, 9, 8, 7), 1)),
    *((f"S{i}", 1, p) for i, p in enumerate((1, 3, 4, 12), 1)),
]
RATIONED = [("B1", 4, 30), ("B2", 3, 26), ("B3", 6, 22), ("S1", 3, 10), ("S2", 9, 20)]


@pytest.mark.parametrize(
    ("rule", "rows", "welfare", "surplus", "paid"),
    [
        ("trade_reduction", R2, 15, 4, {"B1": 8, "B2": 8, "S1": -6, "S2": -6}),
        ("mcafee", R2, 17, 0, {"B1": 6, "B2": 6, "B3": 6, "S1": -6, "S2": -6, "S3": -6}),
        ("mcafee", R3, 15, 8, {"B1": 8, "B2": 8, "S1": -4, "S2": -4}),
        ("sbba", R2, 17, 0, {"B1": 7, "B2": 7, "B3": 7, "S1": -7, "S2": -7, "S3": -7}),
        ("huang", R1, 104, 14, {"B1": 88, "B2": 66, "S1": -60, "S2": -80}),
        ("huang", RATIONED, 2 * 30 + 26 - 30, 6, {"B1": 44, "B2": 22, "S1": -60}),
        ("vcg", R1, 112, -18, {"B1": 82, "B2": 62, "B3": 80, "S1": -66, "S2": -88, "S3": -88}),
        ("vcg", R2, 17, -3, {"B1": 6, "B2": 6, "B3": 6, "S1": -7, "S2": -7, "S3": -7}),
    ],
)
def test_examples(rule: str, rows: Any, welfare: int, surplus: int, paid: dict[str, int]) -> None:
    book = [SlowOrder(i, i, i[0] == "B", q * 1000, p * CT, n) for n, (i, q, p) in enumerate(rows)]
    got = clear(rule, facade_orders(book))
    assert {a: F(x) / CT for a, x in got.payments.items() if x} == paid
    assert (F(got.welfare_u) / CT, F(got.surplus_u) / CT) == (welfare, surplus)
