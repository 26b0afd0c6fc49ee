"""Every shipped rule with the parameters under which tests over all rules try it."""

from __future__ import annotations

from typing import Any

from market.orders import Order, Side
from market.registry import BidRule, MeterRule, make_rule

Variant = tuple[str, dict[str, Any]]

SHARES = {"m0": "1/3", "m1": 0.25, "m3": 0.1}
ZONES = {f"{letter}{i}": "xy"[i % 2] for letter in "bsan" for i in range(9)} | {"b": "x", "s": "y"}
ZONAL: dict[str, Any] = {"charge": "zonal", "zones": ZONES, "u_in": 1, "u_between": {"x|y": 2}}

VARIANTS: list[Variant] = [
    ("no_market", {}),
    ("uniform_price", {}),
    ("uniform_price", {"k": "1/3", "tie_break": "prorata"}),
    ("uniform_price", {"k": 0, "tie_break": "random", "seed": 7}),
    ("uniform_price", {"zero_surplus": False}),
    ("pay_as_bid", {}),
    ("pay_as_bid", {"variant": "buyer_pays_bid", "tie_break": "random"}),
    ("pay_as_bid", {"redistribute": "equal"}),
    ("pay_as_bid", {"redistribute": "by_volume", "tie_break": "prorata"}),
    ("pair_price", {}),
    ("pair_price", {"k": 0.25, "tie_break": "prorata", "zero_surplus": False}),
    ("trade_reduction", {}),
    ("trade_reduction", {"tie_break": "random", "seed": 3}),
    ("mcafee", {}),
    ("mcafee", {"tie_break": "random", "seed": 2**64 - 1}),
    ("sbba", {}),
    ("sbba", {"tie_break": "random", "seed": 11}),
    ("huang", {}),
    ("huang", {"tie_break": "random", "seed": 5}),
    ("muda", {}),
    ("muda", {"variant": "vickrey", "seed": 3}),
    ("vcg", {}),
    ("vcg", {"tie_break": "prorata", "zero_surplus": False}),
    ("vcg", {"cover": "equal_fee", "tie_break": "random"}),
    ("vcg", {"cover": "redistribution"}),
    ("vickrey", {"units_wh": 4}),
    ("vickrey", {"units_wh": 70, "reserve_u": 12}),
    ("vickrey", {"side": "sell", "units_wh": 7}),
    ("vickrey", {"side": "sell", "units_wh": 70, "reserve_u": 3}),
    ("continuous_double_auction", {}),
    ("continuous_double_auction", {"arrival": "random", "seed": 4}),
    ("periodic_call", {}),
    ("periodic_call", {"pricing": "pair_price", "k": 1, "tie_break": "random", "every_min": 5}),
    ("central_optimum", {}),
    ("random_pairs", {}),
    ("random_pairs", {"seed": 2**64 - 1}),
    ("volume_max_matching", {}),
    ("volume_max_matching", {"k": 1, "tie_break": "random"}),
    ("mid_market_rate", {}),
    ("supply_demand_ratio", {}),
    ("supply_demand_ratio", {"c": 100}),
    ("bill_sharing", {}),
    ("bill_sharing", {"weights": "equal"}),
    ("sharing_keys", {"key": "static", "shares": SHARES}),
    ("sharing_keys", {"key": "static", "shares": SHARES, "unused": "redistribute", "price": "free"}),
    ("sharing_keys", {"key": "pro_rata"}),
    ("sharing_keys", {"key": "priority", "order": ["m2", "m0"]}),
    ("sharing_keys", {"key": "equal", "price": "contract", "price_u": 100}),
    ("sharing_keys", {"key": "ex_ante_variable", "repeat": True, "shares": {"m0": [0.3, 0.4], "m3": [0.1, 0.6]}}),
    ("sharing_keys", {"key": "per_pair", "shares": {"m0": {"m1": 0.3, "m2": 0.5}, "m3": SHARES}}),
    ("shapley", {}),
    ("shapley", {"exact_up_to": 3, "precision": "1/5", "seed": 8}),
    ("proportional", {}),
    ("proportional", {"to": "consumption"}),
    ("proportional", {"to": "standalone"}),
    ("energy_classes", {}),
    ("energy_classes", {"k": 0, "default_class": "green"}),
    ("preference_price", {}),
    ("preference_price", {"pricing": "duals", "k": "1/5"}),
    ("network_charges", {"u": 3}),
    ("network_charges", {"u": 2, "inner": "pair_price", "buyer_share": "1/3"}),
    ("network_charges", {"u": 1, "inner": "vcg"}),
    ("network_charges", {"u": 5, "inner": "continuous_double_auction"}),
    ("network_charges", {"u": 2, "inner": "lindistflow"}),
    ("network_charges", ZONAL),
    ("network_charges", {**ZONAL, "inner": "pay_as_bid"}),
    ("network_charges", {"charge": "distance", "u": 200}),
    ("network_charges", {"charge": "distance", "u": 1, "measure": "transfer", "inner": "preference_price"}),
    ("lindistflow", {}),
    ("lindistflow", {"tie_break": "random", "seed": 6, "power_factor": 0.9}),
    ("lindistflow", {"tie_break": "prorata", "polygon": 8}),
    ("lindistflow", {"losses": "factors"}),
    ("lindistflow", {"losses": "quadratic", "power_factor": -0.95}),
    ("operating_envelopes", {}),
    ("operating_envelopes", {"allocation": "proportional", "inner": "pay_as_bid"}),
    ("operating_envelopes", {"allocation": "max_total", "weights": {"b0": 3}, "inner": "huang"}),
    ("operating_envelopes", {"inner": "central_optimum"}),
    ("operating_envelopes", {"inner": "continuous_double_auction"}),
    ("operating_envelopes", {"allocation": "alpha_fair", "alpha": 2, "inner": "volume_max_matching"}),
]
"""Names of members (m0, ...), agents (b0, s0, ...) and nodes (n0, ...) are those of `market.testing_books`."""

LOTS = {"trade_reduction", "mcafee", "sbba"}
WITH_CLASSES = {"energy_classes", "preference_price"}
"""Rules for equal lots; rules that know classes of energy and preferences."""
MORE: list[Variant] = [
    ("energy_classes", {"premiums": {"green": 2, "local": -1}}),
    ("preference_price", {"preferences": {"*": {"class": {"green": 3}}, "b0": {"agent": {"s1": 7}}}}),
    ("vickrey", {"side": "sell", "units_wh": 10**6, "reserve_u": -(10**9)}),
]
"""Further variants, which premiums or refusals keep from `market.testing.check_rule`."""
BIDS = [v for v in [*VARIANTS, *MORE] if isinstance(make_rule(*v), BidRule)]
METERS = [v for v in VARIANTS if isinstance(make_rule(*v), MeterRule)]


def label(variant: Variant) -> str:
    """A short name of a variant, for reports of tests."""
    rule, parameters = variant
    return "-".join([rule, *(str(v) for v in parameters.values() if not isinstance(v, dict | list))])


def bid_rule(variant: Variant) -> BidRule:
    """The rule of a variant that takes orders."""
    rule = make_rule(*variant)
    assert isinstance(rule, BidRule)
    return rule


def one_order_each(rule: BidRule) -> bool:
    """Whether the rule, or the one inside it, takes one order per agent."""
    return rule.name in LOTS | {"huang"} or getattr(rule, "inner", None) == "huang"


def crowd(n: int, e_wh: int, buy_u: int, sell_u: int, flags: frozenset[str] = frozenset()) -> list[Order]:
    """n buyers and n sellers who are all alike, or nearly."""
    return [
        Order(order_id=f"{x}{i}", agent_id=f"{x}{i}", side=side, e_wh=e_wh, price_u=p, flags=flags, t=i % 2)
        for x, side, p in (("b", Side.BUY, buy_u), ("s", Side.SELL, sell_u))
        for i in range(n)
    ]
