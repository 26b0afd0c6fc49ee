"""The rules, with parameters, under which tests run whole districts."""

from __future__ import annotations

from typing import Any

Case = tuple[str, dict[str, Any]]

SHARES = {"h03": "1/4", "h04": "1/4", "h07": "1/3"}
PAIR_PRICES = {"h01": {"h03": 123_457, "h04": 98_765}}
ONE_PER_RULE: list[Case] = [
    ("no_market", {}),
    ("uniform_price", {"k": "1/2", "tie_break": "prorata"}),
    ("pay_as_bid", {}),
    ("pair_price", {"k": "1/3"}),
    ("mid_market_rate", {}),
    ("supply_demand_ratio", {}),
    ("bill_sharing", {}),
    ("sharing_keys", {"key": "pro_rata"}),
    ("huang", {}),
    ("muda", {}),
    ("vcg", {}),
    ("continuous_double_auction", {}),
    ("periodic_call", {"tie_break": "prorata"}),
    ("central_optimum", {}),
    ("random_pairs", {}),
    ("volume_max_matching", {}),
    ("shapley", {}),
    ("proportional", {}),
    ("energy_classes", {}),
    ("preference_price", {}),
    ("network_charges", {"u": 10_007, "inner": "uniform_price", "buyer_share": "1/3"}),
    ("lindistflow", {}),
    ("operating_envelopes", {}),
]
MORE: list[Case] = [
    ("uniform_price", {"k": 0}),
    ("uniform_price", {"k": 1, "tie_break": "random", "seed": 9}),
    ("pay_as_bid", {"variant": "buyer_pays_bid"}),
    ("pay_as_bid", {"redistribute": "by_volume"}),
    ("bill_sharing", {"weights": "equal"}),
    ("sharing_keys", {"key": "equal", "price": "free"}),
    ("sharing_keys", {"key": "priority", "order": ["h07", "h03"], "price": "contract", "price_u": 123_456}),
    ("sharing_keys", {"key": "static", "shares": SHARES}),
    ("sharing_keys", {"key": "static", "shares": SHARES, "unused": "redistribute"}),
    ("sharing_keys", {"key": "ex_ante_variable", "shares": {"h03": ["1/2", "1/3"], "h05": [0, "2/3"]},
                      "repeat": True}),
    ("sharing_keys", {"key": "per_pair", "shares": {"h01": {"h03": "1/2", "h04": "1/2"}}, "price": "per_pair",
                      "pair_prices_u": PAIR_PRICES}),
    ("muda", {"variant": "vickrey", "seed": 3}),
    ("vcg", {"cover": "equal_fee"}),
    ("vcg", {"cover": "redistribution"}),
    ("continuous_double_auction", {"arrival": "random"}),
    ("periodic_call", {"pricing": "pair_price"}),
    ("shapley", {"exact_up_to": 4}),
    ("proportional", {"to": "consumption"}),
    ("energy_classes", {"premiums": {"local": 10_000}, "k": 1}),
    ("preference_price", {"preferences": {"h03": {"agent": {"h01": 20_000}}}, "pricing": "duals"}),
    ("network_charges", {"u": 10_007, "inner": "pair_price"}),
    ("network_charges", {"u": 3, "inner": "continuous_double_auction"}),
    ("network_charges", {"charge": "distance", "u": 100_000, "inner": "pay_as_bid"}),
    ("network_charges", {"u": 5_003, "inner": "lindistflow"}),
    ("lindistflow", {"tie_break": "random", "power_factor": 0.95, "polygon": 12}),
    ("operating_envelopes", {"allocation": "proportional", "inner": "pair_price"}),
    ("operating_envelopes", {"allocation": "max_total", "inner": "vcg"}),
]  # fmt: skip
CANNOT = {
    "trade_reduction": "quantities differ",
    "mcafee": "quantities differ",
    "sbba": "quantities differ",
    "vickrey": "no market of slots",
}
"""Rules that cannot clear the slots of a district, with the reason they give: equal lots, one-sided requests."""


def names(case: Case) -> str:
    """A short name of a case, for reports of tests."""
    rule, parameters = case
    return "-".join([rule, *(str(v) for v in parameters.values() if not isinstance(v, dict | list))])
