"""Books and meters recorded from a run: what the members of a real district would truthfully have stated.

A run keeps meters, not books. A member's true order is rebuilt from its net energy of the slot and its contract: it
buys at no more than its retail price and sells at no less than its feed-in price, as the truthful strategy does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core import RunError
from core.keyed_random import keyed_generator
from market.audit.books import AuditBook, MeterBook
from market.audit.families import RECORDED
from market.book import Context, Meters
from market.orders import Order, Side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from peerwatt.results.run import Run

    Int = NDArray[np.int64]


def recorded_books(
    run: str | Path | Run, n: int, seed: int = 0, *, scenario: str | Path | Mapping[str, Any] | None = None
) -> list[AuditBook]:
    """Up to ``n`` books of a run, of slots with buyers and sellers, drawn by ``seed``, in the order of time.

    Parameters
    ----------
    run
        A run, or its folder; needs the table ``buildings``.
    n, seed
        How many, and the key of the draw.
    scenario
        Where the prices come from; default: the run's own ``scenario.yaml``.

    Raises
    ------
    RunError
        If the run has no such table, or no slot in which somebody buys and somebody sells.
    """
    names, net, retail, feed_in, slots = _columns(run, n, seed, scenario)
    books: list[AuditBook] = []
    for row, slot in enumerate(slots):
        orders = []
        for b, name in enumerate(names):
            wh = int(net[row, b])
            if wh:
                side = Side.BUY if wh > 0 else Side.SELL
                price = int(retail[row, b] if wh > 0 else feed_in[row, b])
                orders.append(Order(order_id=name, agent_id=name, side=side, e_wh=abs(wh), price_u=price))
        low, high = int(feed_in[row].min()), int(retail[row].max())
        one = bool((retail[row] == high).all() and (feed_in[row] == low).all())
        context = Context(slot=int(slot), p_min_u=low, p_max_u=high)
        tariff = (high, low) if one else None
        books.append(
            AuditBook(family=RECORDED, index=int(slot), orders=tuple(orders), context=context, tariff=tariff)
        )  # fmt: skip
    return books


def recorded_meters(
    run: str | Path | Run, n: int, seed: int = 0, *, scenario: str | Path | Mapping[str, Any] | None = None
) -> list[MeterBook]:
    """Up to ``n`` slots of meters of a run; see `recorded_books`."""
    names, net, retail, feed_in, slots = _columns(run, n, seed, scenario)
    return [
        MeterBook(
            family=RECORDED,
            index=int(slot),
            meters=Meters(names, _plain(net[row]), _plain(retail[row]), _plain(feed_in[row]), int(slot)),
        )
        for row, slot in enumerate(slots)
    ]


def _plain(column: Int) -> tuple[int, ...]:
    return tuple(int(x) for x in column)


def _columns(
    run: str | Path | Run, n: int, seed: int, scenario: str | Path | Mapping[str, Any] | None
) -> tuple[tuple[str, ...], Int, Int, Int, Int]:
    """Names, net energies, retail and feed-in prices of the drawn slots, (slots, buildings), and the slots."""
    from peerwatt.messages import Window
    from peerwatt.prepare import prepare
    from peerwatt.prices import window_prices
    from peerwatt.results.run import Run
    from peerwatt.scenario import load_scenario

    source = run if isinstance(run, Run) else Run(run)
    names = tuple(b.id for b in source.static.buildings)
    table = source.table("buildings", ["import_wh", "export_wh"])
    net = (table["import_wh"].to_numpy(np.int64) - table["export_wh"].to_numpy(np.int64)).reshape(-1, len(names))
    both = np.flatnonzero((net > 0).any(axis=1) & (net < 0).any(axis=1))
    if not len(both):
        raise RunError(f"nobody could trade in any slot of {source.folder}", remedy="record books of another run")
    drawn = keyed_generator(seed, "recorded books").permutation(both)[:n]
    slots = np.sort(drawn).astype(np.int64)
    loaded = load_scenario(source.folder / "scenario.yaml" if scenario is None else scenario, {"power_flow": "none"})
    system = prepare(loaded, rule="no_market")
    prices = window_prices(system, Window(0, system.grid.n))
    return names, net[slots], prices.retail_u[slots], prices.feed_in_u[slots], slots
