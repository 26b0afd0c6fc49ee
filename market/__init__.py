"""The market: orders, rules, strategies, sessions and settlement. Works alone, without a network or a scenario.

``from market import Order, Side, clear, share, rules`` is all a user needs.
"""

from __future__ import annotations

# The folder of rules is imported before the function of the same name takes its place in this namespace; modules in it
# are reached as `from market.rules.uniform_price import UniformPrice`.
import market.rules as _rules_folder
from market.book import Book, BookBatch, Context, Meters
from market.facade import clear, rules, share
from market.orders import Order, Rejection, Side
from market.registry import BidRule, Declares, MeterRule, Rule, load_rule_file, make_rule, make_strategy, register_rule
from market.result import BatchClearing, BatchSharing, Result, RuleInfo, Shared, Trade

del _rules_folder

__all__ = [
    "BatchClearing",
    "BatchSharing",
    "BidRule",
    "Book",
    "BookBatch",
    "Context",
    "Declares",
    "MeterRule",
    "Meters",
    "Order",
    "Rejection",
    "Result",
    "Rule",
    "RuleInfo",
    "Shared",
    "Side",
    "Trade",
    "clear",
    "load_rule_file",
    "make_rule",
    "make_strategy",
    "register_rule",
    "rules",
    "share",
]
