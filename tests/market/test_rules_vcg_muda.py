"""Rules 2.6 and 2.7, and what pay as bid hands back: worked examples, identities, and a search for gainful reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from core.errors import MarketError
from market import BookBatch, Context, Order, Result, Side, clear, make_rule
from market.book import Book
from market.crossing import TIE_BREAKS, cross
from market.rules.by_slot import clear_by_slot
from market.rules.muda import Muda, half_price
from market.rules.vcg import WelfareWithout
from market.testing import batch_row, check_rule, result_row
from tests.effort import effort, looped

F = Fraction

CT = 10_000


def unit(name: str, side: Side, kwh: float, ct: float, t: int = 0) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=round(kwh * 1000), price_u=round(ct * CT), t=t)


def book(buys: list[tuple[float, float]], sells: list[tuple[float, float]]) -> list[Order]:
    return [unit(f"B{i + 1}", Side.BUY, q, p, i) for i, (q, p) in enumerate(buys)] + [
        unit(f"S{i + 1}", Side.SELL, q, p, i) for i, (q, p) in enumerate(sells)
    ]


R1 = book([(4, 30), (3, 26), (5, 22), (2, 15)], [(3, 10), (4, 16), (4, 20), (5, 28)])
R2 = book([(1, p) for p in (10, 9, 8, 5, 2)], [(1, p) for p in (1, 3, 6, 7, 9)])
LEFT = {"B1", "B3", "S2", "S4"}


def in_ct(result: Result) -> dict[str, F]:
    return {a: F(p) / CT for a, p in result.payments.items() if p}


def several(rng: np.random.Generator, agents: int, top: int, most_wh: int) -> list[Order]:
    """Agents with one to three orders on one side; a few with both, the highest buy below the lowest sell."""
    orders: list[Order] = []
    for a in range(agents):
        n = int(rng.integers(1, 4))
        prices = sorted(int(p) for p in rng.integers(0, top + 1, n))
        side = Side.BUY if rng.integers(2) else Side.SELL
        for k, p in enumerate(prices):
            flip = rng.integers(5) == 0 and prices[0] < p
            s = (Side.SELL if k else Side.BUY) if flip and n == 2 else side
            orders.append(Order(order_id=f"a{a}-{k}", agent_id=f"a{a}", side=s, e_wh=int(rng.integers(0, most_wh + 1)),
                                price_u=p, t=int(rng.integers(0, 3))))  # fmt: skip
        own = orders[-n:]
        crossing = max((o.price_u for o in own if o.side > 0), default=-1) >= min(
            (o.price_u for o in own if o.side < 0), default=top + 1
        )
        if crossing:
            del orders[-n:]
    return orders


def contexts(rng: np.random.Generator, top: int) -> tuple[Context, Context]:
    f = int(rng.integers(0, top + 1))
    r = int(rng.integers(f, top + 1))
    return Context(), Context(retail_u=r, feed_in_u=f, p_min_u=0, p_max_u=top, backstop="in_book")


def value(orders: Sequence[Order], result: Result, agent: str) -> F:
    own = (o for o in orders if o.agent_id == agent)
    return sum((F(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), 1000) for o in own), F(0))


# --- VCG --------------------------------------------------------------------------------------------------------------


def test_vcg_on_r1() -> None:
    result = clear("vcg", R1)
    assert in_ct(result) == {"B1": 82, "B2": 62, "B3": 80, "S1": -66, "S2": -88, "S3": -88}
    assert result.diagnostics["deficit_u"] == -result.surplus_u == 18 * CT
    assert result.welfare_u == 112 * CT
    assert result.diagnostics["fees_u"] == {}


def test_vcg_on_r2() -> None:
    result = clear("vcg", R2)
    assert in_ct(result) == {"B1": 6, "B2": 6, "B3": 6, "S1": -7, "S2": -7, "S3": -7}
    assert result.diagnostics["deficit_u"] == 3 * CT


@looped("seed", range(60))
def test_payments_are_what_one_clearing_per_agent_says(seed: int) -> None:
    """Utility W* - W*(without i), surplus sum W*(without i) - (n - 1) W*; both the same under every tie-break."""
    rng = np.random.default_rng(seed)
    top = int(rng.choice([3, 30]))
    orders = several(rng, int(rng.integers(1, 8)), top, int(rng.choice([2, 50])))
    agents = sorted({o.agent_id for o in orders})
    for context in contexts(rng, top):
        best = F(cross(Book.from_orders(orders), context).welfare_u)
        without = {
            a: F(cross(Book.from_orders([o for o in orders if o.agent_id != a]), context).welfare_u) for a in agents
        }
        for tie_break in TIE_BREAKS:
            result = clear("vcg", orders, context=context, tie_break=tie_break)
            for a in agents:
                assert value(orders, result, a) - result.payments[a] == best - without[a]
            assert result.surplus_u == sum(without.values()) - (len(agents) - 1) * best <= 0


def test_welfare_without_many() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        orders = several(rng, 6, 9, 9)
        for context in contexts(rng, 9):
            whole = Book.from_orders(orders)
            out = [i for i in range(len(whole)) if rng.integers(2)]
            left = [o for o in orders if o.order_id not in {whole.order_ids[i] for i in out}]
            assert WelfareWithout(whole, context)(out) == cross(Book.from_orders(left), context).welfare_wu


def test_vcg_in_columns_of_agents_with_several_orders() -> None:
    rng = np.random.default_rng(6)
    for in_book in (0, 1):
        pairs = [(several(rng, 5, 9, 9), contexts(rng, 9)[in_book]) for _ in range(30)]
        # an id has one agent and one arrival in all slots
        books = [[Order(order_id=o.order_id, agent_id=o.agent_id, side=o.side, e_wh=o.e_wh, price_u=o.price_u)
                  for o in orders] for orders, _ in pairs]  # fmt: skip
        batch = BookBatch.of(books, contexts=[c for _, c in pairs])
        for cover in ("none", "redistribution"):
            rule = make_rule("vcg", {"cover": cover})
            fast = rule.clear_batch(batch)  # type: ignore[attr-defined]
            slow = clear_by_slot(rule, batch)  # type: ignore[arg-type]
            assert (fast.pay_num * slow.pay_den[:, None] == slow.pay_num * fast.pay_den[:, None]).all()
            for s in range(batch.n_slots):
                one, context, columns = batch.row(s)
                result = rule.clear(one, context)  # type: ignore[attr-defined]
                assert batch_row(fast, s, one, columns) == result_row(result, one)


def test_an_equal_fee_balances_the_budget_and_costs_those_who_do_not_trade() -> None:
    result = clear("vcg", R1, cover="equal_fee")
    assert result.surplus_u == 0
    assert in_ct(result) == {"B1": F(337, 4), "B2": F(257, 4), "B3": F(329, 4), "B4": F(9, 4),
                             "S1": -F(255, 4), "S2": -F(343, 4), "S3": -F(343, 4), "S4": F(9, 4)}  # fmt: skip
    assert result.order_payments["B4"] == F(9, 4) * CT, "a fee is due without a fill"
    with pytest.raises(AssertionError, match="individual rationality"):
        check_rule(_declared("vcg", {"cover": "equal_fee"}, ir=True))
    with pytest.raises(AssertionError, match="truthful"):
        check_rule(_declared("vcg", {"cover": "equal_fee"}, truthful_price=True, truthful_quantity=True))


@pytest.mark.slow
def test_redistribution_charges_each_a_share_of_the_deficit_without_it() -> None:
    n = len(R1)
    plain, shared = clear("vcg", R1), clear("vcg", R1, cover="redistribution")
    for o in R1:
        others = clear("vcg", [x for x in R1 if x is not o])
        assert shared.payments[o.agent_id] - plain.payments[o.agent_id] == others.diagnostics["deficit_u"] / F(n)
    assert shared.diagnostics["deficit_u"] == 18 * CT
    check_rule("vcg", cover="redistribution")  # declared truthful: searched


def _declared(name: str, parameters: dict[str, object], **claims: bool) -> object:
    rule = make_rule(name, parameters)
    object.__setattr__(rule, "declares", replace(rule.declares, **claims))
    return rule


def test_covers_have_names() -> None:
    with pytest.raises(MarketError, match="cover"):
        make_rule("vcg", {"cover": "tax"})


def test_vcg_of_one_and_of_nobody() -> None:
    for cover in ("none", "equal_fee", "redistribution"):
        assert clear("vcg", [], cover=cover).payments == {}
        assert clear("vcg", [unit("B1", Side.BUY, 1, 5)], cover=cover).payments == {"B1": 0}


# --- MUDA -------------------------------------------------------------------------------------------------------------


def halves(orders: list[Order], left: set[str], **parameters: object) -> Result:
    return Muda(**parameters).clear_halves(Book.from_orders(orders), Context(), left)  # type: ignore[arg-type]


def test_muda_vickrey_on_r1() -> None:
    result = halves(R1, LEFT, variant="vickrey")
    assert result.diagnostics["price_of_left_u"] == 25 * CT
    assert result.diagnostics["price_of_right_u"] == F(35, 2) * CT
    assert result.fills == {"B1": 4000, "S2": 4000, "B2": 3000, "S1": 3000}
    assert in_ct(result) == {"B1": 88, "S2": -70, "B2": 75, "S1": -60}
    assert (result.welfare_u, result.surplus_u) == (104 * CT, 33 * CT)


def test_muda_lottery_on_r1() -> None:
    seen = set()
    for seed in range(30):
        result = halves(R1, LEFT, seed=seed)
        bought = {a: result.fills.get(a, 0) for a in ("B1", "B3")}
        sold = {a: result.fills.get(a, 0) for a in ("S1", "S3")}
        seen |= {("B", *bought.values()), ("S", *sold.values())}
        assert sum(bought.values()) == result.fills["S2"] == 4000
        assert sum(sold.values()) == result.fills["B2"] == 3000
        for a, wh in {**bought, "S2": -4000}.items():
            assert result.payments[a] == F(35, 2) * CT * wh / 1000
        for a, wh in {**sold, "B2": -3000}.items():
            assert result.payments[a] == -25 * CT * wh / 1000
        assert result.surplus_u == 0
    assert seen == {("B", 4000, 0), ("B", 0, 4000), ("S", 3000, 0), ("S", 0, 3000)}


def test_a_half_with_one_side_makes_no_price() -> None:
    assert half_price(Book.from_orders(R1[:4])) is None
    assert half_price(Book.from_orders([unit("B", Side.BUY, 1, 4), unit("S", Side.SELL, 1, 9)])) == F(13, 2) * CT
    result = halves(R1, {"B1", "B2", "B3", "B4"})
    assert (result.fills, result.volume_wh) == ({}, 0)
    one_way = halves(R1, {"B1", "S1", "B2"})  # the other half has S2 to S4, B3 and B4
    assert set(one_way.fills) <= {"B1", "S1", "B2", "B3", "B4", "S2", "S3", "S4"} and one_way.volume_wh > 0


def test_coins_belong_to_agents_and_slots() -> None:
    names = [f"m{i}" for i in range(400)]
    orders = [Order(order_id=f"{n}-{k}", agent_id=n, side=Side.BUY, e_wh=1, price_u=k) for n in names for k in (0, 1)]
    whole, part = Book.from_orders(orders), Book.from_orders(orders[: len(orders) // 2])
    left = Muda(seed=4).left_half(whole, 7)
    assert left & set(part.agent_ids) == Muda(seed=4).left_half(part, 7), "one more agent does not move the others"
    assert 160 < len(left) < 240
    assert left not in (Muda(seed=4).left_half(whole, 8), Muda(seed=5).left_half(whole, 7))


def test_muda_has_no_place_for_the_retailer_in_the_book() -> None:
    around = Context(retail_u=30 * CT, feed_in_u=8 * CT, backstop="in_book")
    with pytest.raises(MarketError, match="half"):
        clear("muda", R1, context=around)


def best_value(true: Sequence[Order], wh: int) -> F | None:
    """What ``wh`` are worth (cost, negative) to an agent: its best units first; None where it cannot deliver them."""
    side = int(true[0].side)
    total = F(0)
    for o in sorted(true, key=lambda o: -side * o.price_u):
        part = min(o.e_wh, wh)
        total += F(side * o.price_u * part, 1000)
        wh -= part
    return None if wh and side < 0 else total


def gain(clearing: Callable[[list[Order]], Result], orders: list[Order], agent: str, report: list[Order]) -> F:
    """Utility of a report over that of the truth; no more than 0 where it cannot be delivered."""
    true = [o for o in orders if o.agent_id == agent]
    rest = [o for o in orders if o.agent_id != agent]
    utilities = []
    for said in (true, report):
        result = clearing(rest + said)
        worth = best_value(true, sum(result.fills.get(o.order_id, 0) for o in said))
        if worth is None:
            return F(-1)
        utilities.append(worth - result.payments.get(agent, 0))
    return utilities[1] - utilities[0]


def reports(true: list[Order], top: int, rng: np.random.Generator) -> list[list[Order]]:
    """No order at all; then every price and quantity of a single order, or random ones in place of several."""
    found: list[list[Order]] = [[]]
    first = true[0]

    def said(k: int, wh: int, price: int) -> Order:
        return Order(order_id=f"{first.agent_id}-{k}", agent_id=first.agent_id, side=first.side, e_wh=wh, price_u=price)

    if len(true) == 1:
        return found + [[said(0, wh, p)] for wh, p in product(range(1, first.e_wh + 2), range(-1, top + 2))]
    for _ in range(20):
        n = int(rng.integers(1, len(true) + 2))
        found.append([said(k, int(rng.integers(0, 4)), int(rng.integers(-1, top + 2))) for k in range(n)])
    return found


Clearing = Callable[[list[Order]], Result]


def gains(
    seeds: range, clearings: Callable[[int, list[str]], list[Clearing]], *, may_leave: bool = True
) -> Iterator[tuple[F, object]]:
    """What each report on small books of agents with one or two orders gains, and where."""
    top = 6
    for seed in seeds:
        rng = np.random.default_rng(seed)
        orders = [
            Order(order_id=f"a{a}-{k}", agent_id=f"a{a}", side=side, e_wh=int(rng.integers(1, 4)),
                  price_u=int(rng.integers(0, top + 1)))
            for a in range(int(rng.integers(4, 7)))
            for side in [Side.BUY if rng.integers(2) else Side.SELL]
            for k in range(int(rng.choice([1, 1, 2])))
        ]  # fmt: skip
        agents = sorted({o.agent_id for o in orders})
        for clearing, agent in product(clearings(seed, agents), agents):
            true = [o for o in orders if o.agent_id == agent]
            for report in reports(true, top, rng)[0 if may_leave else 1 :]:
                yield gain(clearing, orders, agent, report), (seed, orders, report)


def muda_clearings(seed: int, agents: list[str]) -> list[Clearing]:
    """Both variants under one outcome of the coins: over the seeds every outcome comes up."""
    left = {a for i, a in enumerate(agents) if seed >> i & 1}

    def clearing(rule: Muda) -> Clearing:
        return lambda book: rule.clear_halves(Book.from_orders(book), Context(slot=3), left)

    return [clearing(Muda(variant=variant, seed=seed)) for variant in ("lottery", "vickrey")]


def by_name(*rules: tuple[str, dict[str, object]]) -> Callable[[int, list[str]], list[Clearing]]:
    def clearing(name: str, parameters: dict[str, object]) -> Clearing:
        return lambda book: clear(name, book, **parameters)

    return lambda *_: [clearing(*rule) for rule in rules]


BOOKS = effort(8, everyday=3)


def assert_truthful(found: Iterator[tuple[F, object]], least: int) -> None:
    tried = 0
    for gained, where in found:
        tried += 1
        assert gained <= 0, where
    assert tried > least


def test_muda_is_truthful_on_some_books() -> None:
    assert_truthful(gains(range(BOOKS), muda_clearings), 125 * BOOKS)


@pytest.mark.campaign
def test_muda_is_truthful_on_hundreds_of_books() -> None:
    assert_truthful(gains(range(64, 464), muda_clearings), 50_000)


@pytest.mark.slow
def test_vcg_is_truthful_for_agents_with_several_orders() -> None:
    assert_truthful(gains(range(BOOKS), by_name(("vcg", {}))), 50 * BOOKS)
    # who stays away saves its part of the deficit; who takes part gains by nothing but the truth
    shared = by_name(("vcg", {"cover": "redistribution"}))
    assert_truthful(gains(range(BOOKS), shared, may_leave=False), 50 * BOOKS)
    assert any(gained > 0 for gained, _ in gains(range(8), shared))


@pytest.mark.parametrize("rule", [("uniform_price", {}), ("pay_as_bid", {}), ("vcg", {"cover": "equal_fee"})])
def test_the_same_search_finds_gains_where_there_are_some(rule: tuple[str, dict[str, object]]) -> None:
    assert any(gained > 0 for gained, _ in gains(range(8), by_name(rule)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "n", "share"),
    [("vickrey", 5, 0.52), ("lottery", 5, 0.46), ("vickrey", 20, 0.83), ("lottery", 20, 0.69)],
)
def test_muda_reaches_the_published_share_of_the_best_welfare(variant: str, n: int, share: float) -> None:
    """Unit books, values uniform on 0..1000, a coin per agent: market-rules 1."""
    rng = np.random.default_rng(n)
    reached = best = F(0)
    for k in range(1500):
        values = rng.integers(0, 1001, 2 * n).tolist()
        orders = [unit(f"a{i}", Side.BUY if i < n else Side.SELL, 1, p / CT) for i, p in enumerate(values)]
        result = clear("muda", orders, variant=variant, context={"slot": k})
        reached += result.welfare_u
        best += cross(Book.from_orders(orders)).welfare_u
    assert abs(float(reached / best) - share) < 0.03


# --- what pay as bid hands back ---------------------------------------------------------------------------------------


def test_pay_as_bid_hands_its_surplus_back() -> None:
    plain = clear("pay_as_bid", R1)
    equal, by_volume = (clear("pay_as_bid", R1, redistribute=how) for how in ("equal", "by_volume"))
    for a in ("B1", "B2", "B3", "S1", "S2", "S3"):
        assert plain.payments[a] - equal.payments[a] == F(112, 6) * CT
        assert plain.payments[a] - by_volume.payments[a] == F(112, 22) * CT * plain.fills[a] / 1000
    for result in (equal, by_volume):
        assert result.surplus_u == 0
        assert result.fills == plain.fills
        assert (result.payments["B4"], result.payments["S4"]) == (0, 0)
        assert result.prices.by_order["B1"] == F(result.payments["B1"] * 1000) / 4000
    assert make_rule("pay_as_bid", {"redistribute": "equal"}).declares.budget == "strong"
    assert make_rule("pay_as_bid").declares.budget == "weak"


def test_an_agent_counts_once_however_many_orders_it_has() -> None:
    orders = [unit("B1", Side.BUY, 2, 10), unit("B2", Side.BUY, 2, 8), unit("S1", Side.SELL, 4, 1)]
    second = Order(order_id="B1b", agent_id="B1", side=Side.BUY, e_wh=1000, price_u=9 * CT)
    result = clear("pay_as_bid", [*orders, second], redistribute="equal")
    surplus = 2 * 10 + 9 + 8 - 4
    assert in_ct(result) == {"B1": 29 - F(surplus, 3), "B2": 8 - F(surplus, 3), "S1": -4 - F(surplus, 3)}


def test_pairs_leave_nothing_to_hand_back() -> None:
    with pytest.raises(MarketError, match="nothing to redistribute"):
        make_rule("pay_as_bid", {"variant": "buyer_pays_bid", "redistribute": "equal"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("vcg", {}),
        ("vcg", {"tie_break": "prorata"}),
        ("vcg", {"zero_surplus": False, "tie_break": "random"}),
        ("vcg", {"cover": "equal_fee"}),
        ("muda", {}),
        ("muda", {"variant": "vickrey", "seed": 3}),
        ("pay_as_bid", {"redistribute": "equal"}),
        ("pay_as_bid", {"redistribute": "by_volume", "tie_break": "prorata"}),
    ],
)
def test_rules_keep_what_they_declare(rule: str, parameters: dict[str, object]) -> None:
    assert check_rule(rule, books=25, **parameters).checks["clear == clear_batch"] > 20
