"""The registry of bench items, and the run over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.errors import MarketError
from market.theory import incentives, large_markets, learning, zero_intelligence
from market.theory.results import BenchItem, BenchResult, Settings

ITEMS: tuple[BenchItem, ...] = zero_intelligence.ITEMS + learning.ITEMS + incentives.ITEMS + large_markets.ITEMS
"""Every item, in the order of market-rules 3.1."""

Progress = Callable[[int, int], None]
"""Told the items done and the items in all."""


def chosen_items(words: Sequence[str] = ()) -> list[BenchItem]:
    """Items whose name contains one of the words, whatever the case; all without words.

    Raises
    ------
    MarketError
        For a word that no item's name contains.
    """
    for word in words:
        if not any(word.lower() in item.name.lower() for item in ITEMS):
            names = ", ".join(repr(item.name) for item in ITEMS)
            raise MarketError(f"no item of the bench is called {word!r}", remedy=f"items are {names}")
    return [i for i in ITEMS if not words or any(word.lower() in i.name.lower() for word in words)]


def run_bench(
    words: Sequence[str] = (), progress: Progress | None = None, *, settings: Settings | None = None
) -> list[BenchResult]:
    """Run the bench and compare every figure with what is expected of it.

    Parameters
    ----------
    words
        Only items whose name contains one of these; all without.
    progress
        Called after each item.
    settings
        Seed and number of runs; the protocols' own by default.

    Returns
    -------
    list[BenchResult]
        One for every figure, in the order of the items. Same settings, same figures.

    Raises
    ------
    MarketError
        For a word that no item's name contains.
    """
    asked = settings or Settings()
    items = chosen_items(words)
    results: list[BenchResult] = []
    for done, item in enumerate(items, 1):
        figures = item.compute(asked)
        results += [BenchResult(item.name, item.section, item.reproduces, item.protocol, f) for f in figures]
        if progress is not None:
            progress(done, len(items))
    return results
