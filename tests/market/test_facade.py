"""The front door: rejections as data, one book whatever the order of the list, clear errors, light imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market import Context, Order, Side, clear, facade, load_rule_file, make_rule, rules, share
from market.orders import REJECTION_CODES, admit
from tests.market.every_rule import VARIANTS

F = Fraction

GOOD = Order(order_id="b", agent_id="bea", side=Side.BUY, e_wh=1000, price_u=300_000)
SELL = Order(order_id="s", agent_id="sam", side=Side.SELL, e_wh=1000, price_u=100_000)


def codes(*orders: Any, **context: Any) -> dict[str, str]:
    result = clear("uniform_price", list(orders), context=context or None)
    assert result.diagnostics["rejected"] == len(result.diagnostics["rejections"])
    return {r.order_id: r.code for r in result.diagnostics["rejections"]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"e_wh": -1}, "negative_energy"),
        ({"e_wh": 1.5}, "wrong_type"),
        ({"e_wh": float("nan")}, "wrong_type"),
        ({"e_wh": True}, "wrong_type"),
        ({"price_u": "30"}, "wrong_type"),
        ({"price_u": None}, "wrong_type"),
        ({"side": "buy"}, "wrong_type"),
        ({"side": 0}, "wrong_type"),
        ({"agent_id": 7}, "wrong_type"),
        ({"t": 0.5}, "wrong_type"),
        ({"e_wh": 2**63}, "too_large"),
        ({"flags": frozenset({"block"})}, "unsupported_flag"),
        ({"price_u": 320_001}, "price_above_band"),
        ({"price_u": 79_999}, "price_below_band"),
    ],
)
def test_bad_orders_are_data(change: dict[str, Any], code: str) -> None:
    bad = replace(GOOD, order_id="bad", agent_id="eve")
    bad = replace(bad, **change)
    assert codes(GOOD, SELL, bad, retail_u=320_000, feed_in_u=80_000) == {"bad": code}
    assert code in REJECTION_CODES


def test_both_ends_of_the_band_are_inside() -> None:
    ends = [replace(GOOD, price_u=320_000), replace(SELL, price_u=80_000)]
    assert codes(*ends, retail_u=320_000, feed_in_u=80_000) == {}
    assert codes(replace(GOOD, price_u=320_001), retail_u=320_000, feed_in_u=80_000, p_max_u=10**9) == {}


def test_things_that_are_no_orders() -> None:
    assert codes(GOOD, {"order_id": "x"}) == {"#1": "not_an_order"}


def test_the_earlier_of_two_equal_ids_stays() -> None:
    late = replace(GOOD, agent_id="bob", t=5, price_u=200_000)
    result = clear("uniform_price", [late, GOOD, SELL])
    assert [(r.order_id, r.agent_id, r.code) for r in result.diagnostics["rejections"]] == [
        ("b", "bob", "duplicate_id")
    ]
    assert result.payments["bea"] == 200_000


def test_own_orders_must_not_cross() -> None:
    sell = replace(SELL, agent_id="bea", t=1)
    assert codes(GOOD, sell) == {"s": "crosses_own"}
    assert codes(GOOD, replace(sell, price_u=300_000)) == {"s": "crosses_own"}
    assert codes(GOOD, replace(sell, price_u=300_001)) == {}
    assert codes(GOOD, replace(sell, t=-1)) == {"b": "crosses_own"}
    assert codes(GOOD, replace(sell, e_wh=0)) == {}


def test_zero_quantity_is_legal_and_without_effect() -> None:
    assert codes(GOOD, SELL, replace(GOOD, order_id="z", e_wh=0)) == {}
    with_zero = clear("uniform_price", [GOOD, SELL, replace(GOOD, order_id="z", agent_id="z", e_wh=0, price_u=10**9)])
    without = clear("uniform_price", [GOOD, SELL])
    assert (with_zero.price, with_zero.fills) == (without.price, without.fills)


def test_numpy_integers_become_exact() -> None:
    wide = replace(GOOD, e_wh=np.int32(2_000_000_000), price_u=np.int32(2_000_000_000))
    big = replace(SELL, e_wh=np.int64(2_000_000_000))
    result = clear("pay_as_bid", [wide, big])
    assert result.payments["bea"] == 2_000_000_000 * 2_000_000


def test_nobody_may_be_the_retailer_in_the_book() -> None:
    assert codes(replace(GOOD, agent_id="retailer"), retail_u=9, feed_in_u=1, p_max_u=10**9, backstop="in_book") == {
        "b": "reserved_id"
    }


@given(st.permutations(range(8)))
@settings(max_examples=30, deadline=None)
def test_admission_does_not_depend_on_the_list(order: list[int]) -> None:
    orders = [
        GOOD, SELL, replace(SELL, agent_id="bea"), replace(GOOD, order_id="c", agent_id="sam"),
        replace(GOOD, e_wh=2), replace(GOOD, order_id="d", e_wh=-1), replace(SELL, order_id="e", t=-1, agent_id="bea"),
        replace(GOOD, order_id="f", price_u=10**7),
    ]  # fmt: skip
    plain, mixed = admit(orders, p_max_u=10**6), admit([orders[i] for i in order], p_max_u=10**6)
    assert plain[0] == mixed[0]
    assert sorted(r.order_id + r.code for r in plain[1]) == sorted(r.order_id + r.code for r in mixed[1])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: clear("unifrom_price", []), "uniform_price"),
        (lambda: clear("uniform_price", [], kk=1), "its parameters are"),
        (lambda: clear("uniform_price", [], k=1.5), "k is 1.5"),
        (lambda: clear("uniform_price", [], k="half"), "not a number"),
        (lambda: clear("uniform_price", [], k=float("nan")), "not a number"),
        (lambda: clear("uniform_price", [], tie_break="fifo"), "time, prorata, random"),
        (lambda: clear("uniform_price", [], seed=-1), "seed"),
        (lambda: clear("uniform_price", [], zero_surplus="no"), "zero_surplus"),
        (lambda: clear("pay_as_bid", [], variant="fair"), "variant"),
        (lambda: clear("mid_market_rate", []), "works on meters"),
        (lambda: share("uniform_price", {}, 1, 1), "works on orders"),
        (lambda: share("mid_market_rate", {"a": 1.5}, 1, 1), "not a whole number"),
        (lambda: share("mid_market_rate", {"a": float("nan")}, 1, 1), "not a whole number"),
        (lambda: share("mid_market_rate", {"a": 1}, 0.3, 0), "micro-currency"),
        (lambda: share("mid_market_rate", {"a": 1}, {"b": 3}, 0), "no price for a"),
        (lambda: share("mid_market_rate", [("a", 1)], 1, 1), "net_wh is a list"),  # type: ignore[arg-type]
        (lambda: share("mid_market_rate", None, 1, 1), "net_wh is a NoneType"),  # type: ignore[arg-type]
        (lambda: share("mid_market_rate", {"a": 1, 2: -1}, 1, 1), "the id 2"),  # type: ignore[dict-item]
        (lambda: share("mid_market_rate", {1: 1, 2: -1}, 1, 1), "the id 1"),  # type: ignore[dict-item]
        (lambda: clear("uniform_price", [], context={"retial_u": 3}), "retial_u"),
        (lambda: clear("uniform_price", [], context={"retail_u": 0.3}), "integer"),
        (lambda: clear("uniform_price", [], context={"backstop": "behind"}), "after, in_book"),
        (lambda: clear("uniform_price", [], context={"backstop": "in_book"}), "without its prices"),
        (lambda: clear("uniform_price", [], context=Context(retail_u=1, feed_in_u=2, backstop="in_book")), "below"),
        (lambda: clear(make_rule("pair_price"), [], k=1), "already has its parameters"),
        (lambda: load_rule_file("/no/such/rule.py"), "no rule file"),
    ],
)
def test_mistakes_of_the_caller_are_named(call: Any, word: str) -> None:
    with pytest.raises(MarketError) as error:
        call()
    assert word in str(error.value)
    assert error.value.remedy


def test_rules_lists_what_is_known() -> None:
    listed = {r.name: r for r in rules()}
    assert {name for name, _ in VARIANTS} <= set(listed)
    assert listed["uniform_price"].parameters["k"]["default"] == F(1, 2)
    for info in listed.values():
        assert info.section.startswith("2.")
        assert info.source
        assert info.summary
        assert info.declares["budget"] in (("deficit",) if info.name == "vcg" else ("strong", "weak"))
        assert all(p["doc"] for p in info.parameters.values())


def test_the_folder_of_rules_and_the_function_share_a_name() -> None:
    import market.rules.bill_sharing as by_path

    assert by_path.BillSharing.name == "bill_sharing"
    assert [r.name for r in rules()] == [r.name for r in facade.rules()]


def test_a_rule_may_be_given_as_class_or_object() -> None:
    from market.rules.uniform_price import UniformPrice

    by_name = clear("uniform_price", [GOOD, SELL], k=1)
    assert clear(UniformPrice, [GOOD, SELL], k=1) == clear(UniformPrice(k=F(1)), [GOOD, SELL]) == by_name


@pytest.mark.slow
def test_importing_the_market_stays_light() -> None:
    code = (
        "import sys; from market import clear, rules, share; rules(); share('mid_market_rate', {'a': 1}, 2, 1); "
        "heavy = {'numba', 'scipy', 'pandas', 'pandapower', 'pyarrow', 'grid', 'peerwatt', 'pydantic'}; "
        "heavy &= set(sys.modules); "
        "assert not heavy, heavy; assert callable(rules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
