"""Every shipped rule, under many parameters, keeps the laws of results (market-rules 0.6) and, through settlement, those
of accounts (4.5, 4.6): on drawn and on adversarial books."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from core.keyed_random import keyed_generator
from market import clear
from market.book import Book, BookBatch, Context
from market.orders import Order, Side, admit
from market.registry import BidRule, MeterRule, make_rule
from market.settlement import check_laws, settle_sharing
from market.settlement.contracts import contracts_from_pool
from market.testing import batch_row, result_row
from market.testing_books import placed, random_feeder
from tests.market.every_rule import VARIANTS, Variant, label
from tests.market.laws import (
    CHARGES,
    FEED_IN_U,
    RETAIL_U,
    assert_laws_of_a_result,
    assert_laws_of_accounts,
    contracts_of,
    exact_sides,
    lines_of,
    settled,
)

LOTS = {"trade_reduction", "mcafee", "sbba"}
WITH_CLASSES = {"energy_classes", "preference_price"}
MORE: list[Variant] = [
    ("energy_classes", {"premiums": {"green": 2, "local": -1}}),
    ("preference_price", {"preferences": {"*": {"class": {"green": 3}}, "b0": {"agent": {"s1": 7}}}}),
    ("vickrey", {"side": "sell", "units_wh": 10**6, "reserve_u": -(10**9)}),
]
BIDS = [v for v in [*VARIANTS, *MORE] if isinstance(make_rule(*v), BidRule)]
METERS = [v for v in VARIANTS if isinstance(make_rule(*v), MeterRule)]


def bid_rule(variant: Variant) -> BidRule:
    rule = make_rule(*variant)
    assert isinstance(rule, BidRule)
    return rule


def one_order_each(rule: BidRule) -> bool:
    """Whether the rule, or the one inside it, takes one order per agent."""
    return rule.name in LOTS | {"huang"} or getattr(rule, "inner", None) == "huang"


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
            orders.append(
                Order(
                    order_id=f"{letter}{i}", agent_id=draw(st.sampled_from(["a0", "a1", "a2"])) if shared else f"{letter}{i}",
                    side=side, e_wh=draw(lot), price_u=draw(price_u), t=draw(st.integers(0, 2)), attributes=traits,
                    flags=draw(flags),
                )
            )  # fmt: skip
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
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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
