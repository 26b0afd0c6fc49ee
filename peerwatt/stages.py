"""Stages of the market before the last one: their gates close while members only expect what they will need.

Positions add up. A stage before the last trades what a member expects to draw or feed in, less what it holds already;
batteries and cars trade in the last stage, when their state is known. So an earlier stage is a function of the slot
alone, and clearing it does not depend on how slots are cut into windows. Source: market-rules 2.22.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from market.forecasts import noisy, relative_errors, resell_limit, spread_at
from market.products import per_product
from peerwatt.clearing import add_cleared, clear_book, no_contracts
from peerwatt.market_step import make_book
from peerwatt.market_wires import on_the_wires
from peerwatt.messages import Bool, Cleared, Float, Int, Prices, Window
from peerwatt.own_terms import takes_part
from peerwatt.prices import window_prices
from peerwatt.results.record import TradeColumns
from peerwatt.system import ProfileAssets, StageSetup, System

_WH = 1000.0
_SECONDS_PER_HOUR = 3600.0
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Ahead:
    """What stands when the last stage opens: contracts of the earlier ones, and the positions they make (S, B)."""

    cleared: Cleared | None
    position_wh: Int  # + has bought

    def joined_by(self, last: Cleared) -> Cleared:
        """Everything cleared, the last stage included."""
        return last if self.cleared is None else add_cleared(self.cleared, last)


def clear_ahead(system: System, window: Window) -> Ahead:
    """Run every stage before the last one for the slots of ``window``."""
    n = system.n_buildings
    if not system.market.ahead:
        return Ahead(None, np.zeros((window.n, n), np.int64))
    whole = _whole_products(system, window)
    position = np.zeros((whole.n, n), np.int64)
    cleared = no_contracts(whole.n, n)
    prices, inside = window_prices(system, whole), takes_part(system, whole)
    for number, stage in enumerate(system.market.ahead, start=1):
        for lead_h in stage.leads_h(system.grid.window(whole.first, whole.n), system.scenario.time.zone):
            expected = expected_net_wh(system, whole, lead_h)
            wanted = np.where(inside, expected - position, 0)
            if not system.scenario.market.virtual:
                wanted = resell_limit(wanted, position, expected)
            done = _clear_stage(system, stage, number, wanted, expected, inside, prices, whole)
            position = position + done.contracts.bought_wh - done.contracts.sold_wh
            cleared = add_cleared(cleared, done)
    return _cut(cleared, position, whole, window)


def _whole_products(system: System, window: Window) -> Window:
    """The window, widened to whole products of every stage."""
    length = int(np.lcm.reduce([stage.slots for stage in system.market.ahead]))
    first = window.first // length * length
    return Window(first, -(-(window.first + window.n) // length) * length - first)


def _clear_stage(
    system: System,
    stage: StageSetup,
    number: int,
    wanted: Int,
    expected: Int,
    inside: Bool,
    prices: Prices,
    whole: Window,
) -> Cleared:
    """One call: a product per member, for those who take part in all of its slots."""
    m = stage.slots
    products = Window(whole.first // m, whole.n // m)
    part: Bool = inside.reshape(products.n, m, inside.shape[1]).all(axis=1)  # type: ignore[assignment]
    mean = replace(prices, retail_u=_mean(prices.retail_u, m), feed_in_u=_mean(prices.feed_in_u, m))
    book = make_book(system, per_product(wanted, m), part, mean, products, stage.rounds)
    book = replace(book, retail_u=None, feed_in_u=None)  # the retailer waits for what the last stage leaves
    book = on_the_wires(system, book, stage.rule, per_product(expected, m), m)
    return clear_book(system, stage.rule, book, whole, m, number)


def _mean(price_u: Int, slots: int) -> Int:
    means: Int = per_product(price_u, slots) // slots
    return means


def _cut(cleared: Cleared, position_wh: Int, whole: Window, window: Window) -> Ahead:
    """The part of widened products that lies in the window."""
    part = slice(window.first - whole.first, window.first - whole.first + window.n)
    trades = cleared.trades
    keep = (trades.slot >= window.first) & (trades.slot < window.first + window.n)
    contracts = type(cleared.contracts)(*(getattr(cleared.contracts, f.name)[part] for f in fields(cleared.contracts)))
    return Ahead(
        Cleared(
            contracts,
            TradeColumns(*(getattr(trades, f.name)[keep] for f in fields(trades))),
            cleared.price_num[part],
            cleared.price_den[part],
            cleared.has_price[part],
        ),
        position_wh[part],
    )


# --- what is expected -------------------------------------------------------------------------------------------------


def expected_net_wh(system: System, window: Window, lead_h: Float) -> Int:
    """What each member expects to draw (+) or feed in (-) without batteries and cars, ``lead_h`` (S,) ahead; (S, B)."""
    demand, model = system.demand, system.scenario.market.forecast
    values = _values(system, window, lead_h if model.kind == "yesterday" else None)
    load = _energy(system, (demand.load, demand.heat_pump), values)
    pv = _energy(system, (demand.pv,), values)
    if model.kind != "noise":
        return np.rint(load).astype(np.int64) - np.rint(pv).astype(np.int64)
    per_hour = max(int(_SECONDS_PER_HOUR) // system.grid.length_s, 1)
    forecasts = [
        noisy(
            energy,
            relative_errors(system.scenario.seed, kind, system.building_ids, window.first, window.n, per_hour),
            spread_at(lead_h, percent),
        )
        for kind, energy, percent in (("load", load, model.load_percent), ("pv", pv, model.pv_percent))
    ]
    return forecasts[0] - forecasts[1]


def _energy(system: System, groups: tuple[ProfileAssets, ...], values: Float) -> Float:
    """Energy of assets that follow profiles, by building, [Wh] unrounded (S, B)."""
    out = np.zeros((len(values), system.n_buildings))
    for assets in groups:
        for building, profile, scale in zip(assets.building, assets.profile, assets.scale, strict=True):
            out[:, building] += values[:, profile] * (scale * _WH)
    return out


def _values(system: System, window: Window, lead_h: Float | None) -> Float:
    """Values of every profile in the window, or those of the last like slot that is over ``lead_h`` before it."""
    slots = np.arange(window.first, window.first + window.n)
    source = slots
    if lead_h is not None:
        slot_s = system.grid.length_s
        days = np.ceil((lead_h * _SECONDS_PER_HOUR + slot_s) / _SECONDS_PER_DAY).astype(np.int64)
        earlier = slots - days * _SECONDS_PER_DAY // slot_s
        source = np.where(earlier >= 0, earlier, slots)  # on the first days there is no yesterday
    source = np.minimum(source, system.grid.n - 1)  # a product may reach beyond the run's end
    low = int(source.min())
    values: Float = system.profiles.window(low, int(source.max()) - low + 1)[source - low]
    return values
