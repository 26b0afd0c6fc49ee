"""Every shipped rule, under many parameters, keeps the laws of results (market-rules 0.6) on any book."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from core.keyed_random import keyed_generator
from market import clear
from market.book import Book, BookBatch, Context, Meters
from market.facade import share_meters
from market.orders import Order, Side, admit
from market.registry import BidRule, MeterRule, make_rule
from market.testing import batch_row, result_row
from market.testing_books import placed, random_feeder
from tests.effort import effort
from tests.market.every_rule import BIDS, LOTS, METERS, WITH_CLASSES, Variant, bid_rule, crowd, label, one_order_each
from tests.market.laws import (
    assert_laws_of_a_result,
)

# --- drawn books ------------------------------------------------------------------------------------------------------

LARGE = 2**62
SCALES = {  # quantities [Wh], prices
    "tiny": (st.integers(0, 4), st.integers(-2, 5)),
    "usual": (st.integers(0, 5000), st.integers(60_000, 330_000)),
    "equal": (st.sampled_from([0, 700]), st.just(200_000)),
    "extreme": (st.integers(0, 3), st.sampled_from([-LARGE, -LARGE + 1, -1, 0, 1, LARGE - 1, LARGE])),
    "huge": (st.sampled_from([0, 1, 2**40, 2**58 - 1, 2**58]), st.integers(-(2**40), 2**40)),
}
FLOATING = {"lindistflow", "operating_envelopes"}
"""Network programs are solved in floating point: energies of some GWh on a feeder of kW say nothing of them."""


@st.composite
def books(draw: st.DrawFn, rule: BidRule) -> list[Order]:
    inner = getattr(rule, "inner", "")
    scales = [s for s in SCALES if not (FLOATING & {rule.name, inner}) or s in ("tiny", "usual", "equal")]
    e_wh, price_u = SCALES[draw(st.sampled_from(scales))]
    lot = st.just(draw(e_wh)) if rule.name in LOTS else e_wh
    shared = not one_order_each(rule) and draw(st.booleans())
    flags = st.sampled_from([frozenset[str]()] * 2 + [frozenset({f}) for f in sorted(rule.flags)])
    classes = bool(WITH_CLASSES & {rule.name, inner})
    orders = []
    for side, letter in ((Side.BUY, "b"), (Side.SELL, "s")):
        for i in range(draw(st.integers(0, 5))):
            traits: dict[str, Any] = {}
            if classes and side == Side.SELL:
                traits["class"] = draw(st.sampled_from(["green", "local"]))
            elif classes:
                traits["premiums"] = {"green": draw(st.integers(-2, 4))}
            name = f"{letter}{i}"
            orders.append(
                Order(
                    order_id=name,
                    agent_id=draw(st.sampled_from(["a0", "a1", "a2"])) if shared else name,
                    side=side,
                    e_wh=draw(lot),
                    price_u=draw(price_u),
                    t=draw(st.integers(0, 2)),
                    attributes=traits,
                    flags=draw(flags),
                )
            )
    accepted = admit(orders, flags=rule.flags, continuous=rule.continuous)[0]
    if not rule.declares.needs_network:
        return accepted
    return placed(accepted, FEEDER)


FEEDER = random_feeder(keyed_generator(1, "laws"), base=True)


@st.composite
def contexts(draw: st.DrawFn, rule: BidRule) -> Context:
    feeder = FEEDER if rule.declares.needs_network else None
    slot = draw(st.integers(0, 10**6))
    if not draw(st.booleans()):
        return Context(slot=slot, feeder=feeder)
    feed_in = draw(st.sampled_from([-3, 0, 1, 80_000]))
    retail = feed_in + draw(st.sampled_from([0, 1, 240_000]))
    return Context(
        slot=slot,
        retail_u=retail,
        feed_in_u=feed_in,
        backstop="in_book",
        p_min_u=-(2**63),
        p_max_u=2**63,
        feeder=feeder,
    )


def fits(rule: BidRule, orders: list[Order], context: Context) -> bool:
    return rule.applicable(Book.from_orders(orders), context) is None


@pytest.mark.parametrize("variant", BIDS, ids=label)
@settings(max_examples=effort(15, everyday=4), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_book_obeys_the_laws(variant: Variant, data: st.DataObject) -> None:
    """Also: a second run and another order of the list change nothing, and one slot in columns is that slot."""
    rule = bid_rule(variant)
    orders, context = data.draw(books(rule)), data.draw(contexts(rule))
    if not fits(rule, orders, context):
        return
    result = clear(rule, orders, context=context)
    assert not result.diagnostics["rejections"]
    assert_laws_of_a_result(rule, orders, context, result)
    assert clear(rule, data.draw(st.permutations(orders)), context=context) == result
    if "market" in set().union(*(o.flags for o in orders)):
        return  # a batch carries no band, where market orders end
    batch = BookBatch.of([orders], first_slot=context.slot, contexts=[context])
    book, _, columns = batch.row(0)
    assert batch_row(rule.clear_batch(batch), 0, book, columns) == result_row(result, book)


# --- drawn meters -----------------------------------------------------------------------------------------------------

NETS = st.sampled_from([3, 60, 5000, 2**40]).flatmap(
    lambda top: st.lists(st.integers(-top, top) | st.just(0), min_size=0, max_size=7)
)
TARIFFS = st.tuples(st.sampled_from([-5, 0, 1, 80_000]), st.sampled_from([0, 1, 100, 240_001]))


@pytest.mark.parametrize("variant", METERS, ids=label)
@settings(max_examples=effort(25, everyday=5), deadline=None, suppress_health_check=list(HealthCheck))
@given(nets=NETS, tariff=TARIFFS, factor=st.integers(2, 9))
def test_any_meters_obey_the_laws(variant: Variant, nets: list[int], tariff: tuple[int, int], factor: int) -> None:
    """Also: money is proportional to energy, where no whole watt-hours or samples are drawn."""
    rule = make_rule(*variant)
    assert isinstance(rule, MeterRule)
    feed_in, retail = tariff[0], sum(tariff)

    def shared_of(times: int) -> Any:
        members = {f"m{i}": n * times for i, n in enumerate(nets)}
        meters = Meters(tuple(members), tuple(members.values()), (retail,) * len(nets), (feed_in,) * len(nets))
        if rule.applicable(meters) is not None:
            return None
        if rule.name == "shapley" and max(map(abs, nets), default=0) > 10**9:
            with suppress(MarketError):  # coalitions are summed in 64 bits, and what does not fit is refused
                return share_meters(rule, meters)
            return None
        return share_meters(rule, meters)

    shared = shared_of(1)
    if shared is None:
        return
    names = [f"m{i}" for i in range(len(nets))]
    local = [shared.local_wh.get(m, 0) for m in names]
    assert all(type(wh) is int and 0 <= wh <= abs(n) for wh, n in zip(local, nets, strict=True))
    assert sum(wh if n > 0 else -wh for wh, n in zip(local, nets, strict=True)) == 0
    total = sum(map(Fraction, shared.payments.values()), Fraction(0))
    assert total == shared.retailer_u + shared.surplus_u
    assert shared.surplus_u == 0 or rule.declares.budget != "strong"
    alone = {m: Fraction(n * (retail if n > 0 else feed_in), 1000) for m, n in zip(names, nets, strict=True)}
    assert all(shared.standalone_u[m] == alone[m] for m in names)
    if rule.declares.ir and retail >= feed_in:
        assert all(shared.payments.get(m, 0) <= alone[m] for m in names)
    if rule.name == "sharing_keys" or shared.diagnostics.get("method") == "sampled":
        return
    larger = shared_of(factor)
    if larger is None:
        return
    assert {m: factor * p for m, p in shared.payments.items()} == larger.payments
    assert factor * Fraction(shared.retailer_u) == larger.retailer_u


# --- adversarial books ------------------------------------------------------------------------------------------------


def adversarial(rule: BidRule) -> dict[str, list[Order]]:
    found = {
        "empty": [],
        "buyers only": crowd(4, 9, 5, 5)[:4],
        "sellers only": crowd(4, 9, 5, 5)[4:],
        "nothing to trade": crowd(3, 0, 9, 1),
        "all alike": crowd(5, 7, 200_000, 200_000),
        "apart": crowd(3, 7, 1, 2),
        "negative": crowd(3, 7, -5, -9),
        "far apart": crowd(3, 7, 2**62, -(2**62)),
        "large": crowd(3, 2**58, 2**40, -(2**40)),
        "one against many": [*crowd(6, 5, 30, 10)[:1], *crowd(6, 5, 30, 10)[6:]],
    }
    for flag in sorted(rule.flags):
        found[flag] = [
            replace(o, flags=frozenset({flag}) if i % 2 else frozenset(), e_wh=o.e_wh + 3 * i)
            for i, o in enumerate(crowd(4, 5, 30, 10))
        ]
    return found


@pytest.mark.parametrize("variant", BIDS, ids=label)
def test_adversarial_books_obey_the_laws(variant: Variant) -> None:
    rule = bid_rule(variant)
    feeder = FEEDER if rule.declares.needs_network else None
    tariffs: list[dict[str, Any]] = [{}, {"retail_u": 31, "feed_in_u": 3, "backstop": "in_book"}]
    traded, taken = [], []
    for name, book in adversarial(rule).items():
        if feeder is not None and name in ("far apart", "large"):
            continue
        orders = placed(admit(book, flags=rule.flags, continuous=rule.continuous)[0], feeder)
        for more in tariffs:
            context = Context(feeder=feeder, p_min_u=-(2**63), p_max_u=2**63, **more)
            if not fits(rule, orders, context):
                continue
            result = clear(rule, orders, context=context)
            assert_laws_of_a_result(rule, orders, context, result)
            taken.append(name)
            if result.volume_wh:
                traded.append(name)
    if rule.name == "vickrey":  # refuses most of them: what it wants is not offered, or by too few
        return
    assert {"empty", "buyers only", "sellers only", "nothing to trade"} <= set(taken)
    assert not {"empty", "nothing to trade"} & set(traded)
    assert {"all alike", "negative", "one against many"} & set(traded), "something trades"


@pytest.mark.parametrize(("inner", "flag"), [("continuous_double_auction", "aon"), ("central_optimum", "block")])
def test_envelopes_leave_indivisible_orders_whole(inner: str, flag: str) -> None:
    """More than the feeder can carry, wholly or not at all, is nothing at all."""
    rule = bid_rule(("operating_envelopes", {"inner": inner}))
    context = Context(feeder=FEEDER)
    for i in range(2):
        orders = placed(crowd(1, 10_000, 30, 10), FEEDER)
        orders[i] = replace(orders[i], flags=frozenset({flag}))
        assert_laws_of_a_result(rule, orders, context, clear(rule, orders, context=context))
