"""How far self-consumption, rules and rolling plans are from the optimum of a whole run, for shipped scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Outcome, Row

SCENARIOS: dict[str, dict[str, Any]] = {
    "street5": {},
    "fontana-batteries": {},
    "semiurban": {"time.days": 28},
    "semiurban, dear evenings": {"time.days": 28},
}
EVENINGS = {
    "default_per_kwh": 0.30,
    "bands": [
        {"start": "22:00", "end": "06:00", "price_per_kwh": 0.20},
        {"start": "17:00", "end": "21:00", "price_per_kwh": 0.42},
    ],
}
YESTERDAY = {"kind": "battery_optimum", "follow": "value", "forecast": {"kind": "yesterday"}}
WAYS: dict[str, Any] = {
    "greedy": None,
    "price_responsive": "price_responsive",
    "battery_optimum": "battery_optimum",
    "from yesterday": YESTERDAY,
}
WORST_GAP = 0.05


@dataclass(frozen=True, slots=True)
class Gaps:
    """Of the homes with batteries: what batteries can save at most [currency], and the part of it each way saves."""

    scenario: str
    homes: int
    saved_at_most: float
    parts: dict[str, float]


def gaps(name: str) -> Gaps:
    """Costs at the retailer's prices without a market, stored energy in the end at the worth of the last plan.

    0 is a battery that rests, 1 the optimum of the whole run with everything known.
    """
    from controllers.planning import Stores, Tariff, battery_plans
    from peerwatt.cycle import SlotCycle
    from peerwatt.messages import Window
    from peerwatt.planning import plan_prices_u
    from peerwatt.planning_task import end_value, expected_kwh
    from peerwatt.plants import ModelBatteries, ModelPlant
    from peerwatt.prepare import prepare
    from peerwatt.prices import window_prices
    from peerwatt.scenario import load_scenario

    source, changes = name.split(",", maxsplit=1)[0], {**SCENARIOS[name], "power_flow": "none"}
    loaded = load_scenario(source, changes)
    if "," in name:
        tariff = {"terms": [{"retail": EVENINGS, "feed_in": {"flat_per_kwh": 0.08}}]}
        changes |= {f"contracts.{contract}": tariff for contract in loaded.scenario.contracts}

    def net_kwh(controller: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        more = {} if controller is None else {"controllers.building": controller}
        if controller == "idle":
            more = {"controllers.battery": "idle"}
        system = prepare(load_scenario(source, changes | more), rule="no_market")
        cycle, window = SlotCycle(system, ModelPlant(system, ModelBatteries(system))), Window(0, system.grid.n)
        cycle.open(window)
        return system, cycle.plant.measure(window).net_wh / 1e3, cycle.plant.observe().battery.e_wh / 1e3

    system, idle, _ = net_kwh("idle")
    columns = system.storage.columns
    at = columns.building
    homes = np.flatnonzero(np.bincount(at[~system.storage.community], minlength=system.n_buildings) == 1)
    rows = np.flatnonzero(np.isin(at, homes))
    here, window = at[rows], Window(0, system.grid.n)
    buy, sell = (part[:, here] / 1e6 for part in plan_prices_u(window_prices(system, window)))
    stores = Stores.from_columns(columns.take(rows))
    *_, eta_c, eta_d, _, wear = stores.columns()
    worth = end_value(buy, sell, eta_c, eta_d, wear)

    def cost(net: np.ndarray, stored: np.ndarray) -> float:
        own = net[:, here]
        discharged = np.maximum(idle[:, here] - own, 0.0)
        paid = np.where(own > 0, own * buy, own * sell) + discharged * wear
        return float(paid.sum() - (stored[rows] * worth).sum())

    start = system.storage.initial.e_wh / 1e3
    limit = system.export_limit_wh[here]
    most = np.where(limit < 0, np.inf, limit / 1e3)[None, :]
    load, pv = expected_kwh(system, "perfect", window)
    cars = idle[:, here] - (load - pv)[:, here]  # cars and whole Wh
    best = battery_plans(
        stores, start[rows], (load - pv)[:, here] + cars,
        Tariff(buy=buy, sell=sell, export_limit_kwh=most, export_excess=sell),
        terminal_price=worth,
    ).cost.sum()  # fmt: skip
    rest = cost(idle, start)
    parts = {way: float((rest - cost(*net_kwh(controller)[1:])) / (rest - best)) for way, controller in WAYS.items()}
    return Gaps(name, len(rows), rest - float(best), parts)


def shipped(folder: Path) -> Outcome:
    """The part of the possible saving that each way reaches."""
    found = [gaps(name) for name in SCENARIOS]
    lines = [
        f"{g.scenario} ({g.homes} batteries, {g.saved_at_most:.2f} to save): "
        + ", ".join(f"{way} {100 * part:.1f} %" for way, part in g.parts.items())
        for g in found
    ]
    return Outcome(
        "; ".join(lines),
        f"rolling plans within {100 * WORST_GAP:.0f} % of what can be saved",
        all(g.parts["battery_optimum"] > 1 - WORST_GAP for g in found),
        "costs at the retailer's prices; 0 % is a battery that rests, 100 % the optimum of the whole run",
    )


ROWS: tuple[Row, ...] = (Row("gaps of plans in shipped scenarios", shipped),)
