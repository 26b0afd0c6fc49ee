"""Bench items on zero intelligence: how much of a market's surplus the rule alone secures (market-rules 3.1, 1 and 2).

Sources: D. Gode & S. Sunder (1993), J. Political Economy 101, 119-137; V. Smith (1962) for alpha.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import keyed_hash_u64
from core.statistics import Estimate, mean_estimate
from market.theory.results import BenchItem, Figure, Settings, claim, number, told
from market.theory.schedules import MULTI_UNIT, S11, S12, Schedule

Floats = NDArray[np.float64]
Int = NDArray[np.int64]

RUNS = 2000
STEPS = 3000
EXHAUSTED = 1_000_000
PERIODS = 6
PERIOD_STEPS = 1000
SESSIONS = 300


def alphas(price: Floats, trades: Int, equilibrium: float) -> Floats:
    """Smith's alpha of each period [%]: ``100 sqrt(mean (p - p_eq)^2) / p_eq``; periods without a trade give nan."""
    traded = np.arange(price.shape[-1]) < trades[..., None]
    square = np.where(traded, (price - equilibrium) ** 2, 0.0).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(100.0 * np.sqrt(square / trades) / equilibrium)


def simulated(
    schedule: Schedule, constrained: bool, steps: int, runs: int, seed: int, *, whole: bool = False
) -> tuple[Floats, Int, Floats, Int]:
    """Surplus, trades, prices and shouts of ``runs`` periods; see `market.theory._traders.zi_runs`."""
    from market.theory._traders import zi_runs

    values, costs = schedule.by_trader
    key = np.uint64(keyed_hash_u64(seed, "theory", schedule.name, "zi_c" if constrained else "zi_u"))
    found: tuple[Floats, Int, Floats, Int] = zi_runs(
        values, costs, *schedule.band, constrained, whole, steps, runs, key
    )
    return found


def efficiency(schedule: Schedule, surplus: Floats) -> Estimate:
    """Mean surplus over the most possible [%]."""
    return mean_estimate(100.0 * surplus / schedule.surplus)


def _unit_market(schedule: Schedule, settings: Settings, expected: tuple[float, float, float]) -> list[Figure]:
    at_eff, at_alpha, at_trades = expected
    surplus, trades, price, _ = simulated(schedule, True, STEPS, settings.runs(RUNS), settings.seed)
    alpha = alphas(price, trades, schedule.equilibrium)
    most = sum(schedule.values) - sum(schedule.costs)
    share = 100.0 * most / schedule.surplus
    all_in, everyone, _, steps = simulated(schedule, False, EXHAUSTED, settings.runs(200), settings.seed)
    exact = bool((everyone == schedule.buyers).all() and (all_in == most).all())
    spread = float((100.0 * surplus / schedule.surplus).std(ddof=1))
    return [
        number("ZI-C efficiency", efficiency(schedule, surplus), at_eff, 0.5, "%", f"sd over runs {spread:.1f}"),
        number("ZI-C alpha", mean_estimate(alpha[np.isfinite(alpha)]), at_alpha, 0.5, "%"),
        number("ZI-C trades", mean_estimate(trades.astype(np.float64)), at_trades, 0.1),
        claim(
            "ZI-U efficiency, run to exhaustion", efficiency(schedule, all_in), f"exactly {share:.4g}", exact, "%",
            f"every pair trades, after {steps.mean():.0f} shouts on average; another stop gives another figure",
        ),
    ]  # fmt: skip


def _thirds(schedule: Schedule, price: Floats, trades: Int) -> Estimate:
    """Mean squared distance of prices from the equilibrium: first third of the efficient trades minus the last."""
    n = schedule.volume
    part = max(1, n // 3)
    square = (price - schedule.equilibrium) ** 2
    enough = trades >= n
    return mean_estimate(square[enough, :part].mean(axis=1) - square[enough, n - part : n].mean(axis=1))


def _multi_unit(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    runs = settings.runs(SESSIONS * PERIODS)
    for market in MULTI_UNIT:
        surplus, trades, price, _ = simulated(market, True, PERIOD_STEPS, runs, settings.seed, whole=True)
        free, _, _, _ = simulated(market, False, PERIOD_STEPS, runs, settings.seed, whole=True)
        bound, loose = efficiency(market, surplus), efficiency(market, free)
        falls = _thirds(market, price, trades)
        figures += [
            claim(f"{market.name}: ZI-C efficiency", bound, "above 96", (bound.value or 0.0) > 96.0, "%"),
            claim(
                f"{market.name}: ZI-U efficiency", loose, "below ZI-C", (loose.high or 0.0) < (bound.low or 0.0), "%"
            ),
            claim(
                f"{market.name}: squared price error, first less last third", falls, "above 0", (falls.low or 0.0) > 0
            ),
        ]
    note = "the publication's schedules are not known here, so no figure of ours answers it"
    published = (("ZI-U", "90.0, 90.0, 76.7, 48.8, 86.0"), ("ZI-C", "99.9, 99.2, 99.0, 98.2, 97.1"),
                 ("humans", "99.7, 99.1, 100.0, 99.1, 90.2"))  # fmt: skip
    figures += [told(f"published efficiency of {who}", None, text, "%", note, dagger=True) for who, text in published]
    return figures


_UNIT = (
    "continuous double auction of unit traders; each step a live trader is drawn evenly and shouts a real price;"
    " a shout that improves stands, a crossing one trades at the standing price, then all quotes are cleared; stop: at"
    f" most {STEPS} shouts or one side done; {RUNS} runs. ZI-U: stop at exhaustion, one side done"
)

ITEMS = (
    BenchItem(
        name="S11", section="3.1 item 1", protocol=_UNIT, reproduces="own figures: values and costs 0.75..3.25",
        compute=lambda settings: _unit_market(S11, settings, (96.5, 20.0, 6.0)),
    ),
    BenchItem(
        name="S12", section="3.1 item 1", protocol=_UNIT, reproduces="own figures: values 190..25, costs 10..175",
        compute=lambda settings: _unit_market(S12, settings, (95.8, 28.0, 7.2)),
    ),
    BenchItem(
        name="multi-unit", section="3.1 item 2", reproduces="Gode & Sunder 1993, findings", compute=_multi_unit,
        protocol="6 buyers and 6 sellers with 3 or 4 units each, traded in order of value, in five markets of our own;"
        f" whole prices 1..200, quotes cleared after each trade; stop: a period of {PERIOD_STEPS} shouts or one side"
        f" done; {SESSIONS} sessions of {PERIODS} periods (nobody learns, so periods are independent)",
    ),
)  # fmt: skip
