"""The validation bench: what is known of rules and strategies, computed again by keyed, compiled simulations.

`run_bench` gives a `BenchResult` for every figure: reproduced, not reproduced, or reported only, each with a 95 %
interval. Figures recalled from memory carry a dagger.
"""

from __future__ import annotations

from market.theory.bench import ITEMS, run_bench
from market.theory.results import BenchItem, BenchResult, Figure, Settings, Status

__all__ = ["ITEMS", "BenchItem", "BenchResult", "Figure", "Settings", "Status", "run_bench"]
