"""The market: orders, rules, strategies, sessions and settlement. Works alone, without a network or a scenario.

``from market import Order, Side, clear, share, rules`` is all a user needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.book import Book, BookBatch, Context, Meters
from market.facade import clear, share
from market.orders import Order, Rejection, Side
from market.registry import BidRule, Declares, MeterRule, Rule, load_rule_file, make_rule, make_strategy, register_rule
from market.result import BatchClearing, BatchSharing, Result, RuleInfo, Shared, Trade
from market.terms import Terms

if TYPE_CHECKING:
    from market.facade import rules
else:  # the folder of rules, which can be called: so `rules()` and `import market.rules.uniform_price` both work
    from market import rules

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
    "Terms",
    "Trade",
    "clear",
    "load_rule_file",
    "make_rule",
    "make_strategy",
    "register_rule",
    "rules",
    "share",
]
