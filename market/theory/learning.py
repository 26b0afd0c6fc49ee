"""Bench items on traders that learn: Cliff's ZIP, and what is not built yet (market-rules 3.1, 3 to 5).

Source: D. Cliff (1997), Minimal-intelligence agents for bargaining behaviors in market-based environments, HP.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import keyed_hash_u64
from core.statistics import mean_estimate
from market.strategies.zip import RELATIVE
from market.theory.results import BenchItem, Figure, Settings, claim, number, told
from market.theory.schedules import FLAT, S11, S12, Schedule
from market.theory.zero_intelligence import RUNS, STEPS, alphas, efficiency, simulated

Floats = NDArray[np.float64]
Int = NDArray[np.int64]

FLAT_RUNS = 20_000  # alpha spreads by 36 points there
POPULATIONS = 1000
PERIODS = 10
QUIET = 300


def populations(schedule: Schedule, runs: int, seed: int) -> tuple[Floats, Int, Floats]:
    """Surplus, trades and prices of ZIP populations, (runs, periods[, trades])."""
    from market.theory._traders import zip_runs

    typical = (schedule.band[0] + schedule.band[1]) / 2
    limits = np.array(schedule.values + schedule.costs)
    key = np.uint64(keyed_hash_u64(seed, "theory", schedule.name, "zip"))
    absolute = RELATIVE * typical / 2
    found: tuple[Floats, Int, Floats] = zip_runs(limits, schedule.buyers, absolute, QUIET, PERIODS, runs, key)
    return found


def _zip(schedule: Schedule, settings: Settings, earlier: tuple[str, str, str]) -> list[Figure]:
    """Alpha of ZIP populations by period, against itself and against ZI-C."""
    runs = settings.runs(POPULATIONS)
    surplus, trades, price = populations(schedule, runs, settings.seed)
    alpha = alphas(price, trades, schedule.equilibrium)
    _, zi_trades, zi_price, _ = simulated(schedule, True, STEPS, settings.runs(RUNS), settings.seed)
    zi_alpha = alphas(zi_price, zi_trades, schedule.equilibrium)
    zero = float(np.nanmean(zi_alpha))
    name = schedule.name
    by_period = [mean_estimate(column[np.isfinite(column)]) for column in alpha.T]
    figures = [
        told(f"{name}: alpha in period {p}", by_period[p - 1], f"{text} (another protocol)", "%")
        for p, text in zip((1, 5, 10), earlier, strict=True)
    ]
    steps = [alpha[:, k] - alpha[:, k + 1] for k in range(4)]
    falls = [mean_estimate(step[np.isfinite(step)]) for step in steps]
    least = min(falls, key=lambda e: e.value or 0.0)
    figures.append(
        claim(f"{name}: smallest fall of alpha, periods 1 to 5", least, "above 0", (least.value or 0.0) > 0.0, "%")
    )
    if schedule is not FLAT:
        fifth = by_period[4]
        figures.append(claim(f"{name}: alpha by period 5", fifth, "under 5", (fifth.high or 100.0) < 5.0, "%"))
    worst = max(by_period, key=lambda e: e.value or 0.0)
    figures.append(
        claim(f"{name}: highest alpha of a period", worst, f"below ZI-C's {zero:.1f}", (worst.value or 0.0) < zero, "%")
    )
    last = efficiency(schedule, surplus[:, -1])
    figures.append(told(f"{name}: efficiency in period {PERIODS}", last, "", "%"))
    return figures


def _flat_zi(settings: Settings) -> list[Figure]:
    surplus, trades, price, _ = simulated(FLAT, True, STEPS, settings.runs(FLAT_RUNS), settings.seed)
    exact = bool((surplus == FLAT.surplus).all())
    alpha = alphas(price, trades, FLAT.equilibrium)
    above = mean_estimate(price[:, : FLAT.volume].mean(axis=1) - FLAT.equilibrium)
    return [
        claim("ZI-C efficiency", efficiency(FLAT, surplus), "exactly 100", exact, "%"),
        number("ZI-C alpha against the equilibrium 50", mean_estimate(alpha), 113.0, 1.0, "%"),
        claim("ZI-C mean price above the equilibrium", above, "above 0", (above.low or 0.0) > 0.0),
    ]


def _zip_items(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    for schedule, earlier in ((S11, ("17", "1.6", "1.2")), (S12, ("27", "2.7", "1.4")), (FLAT, ("93", "80", "72"))):
        figures += _zip(schedule, settings, earlier)
    return figures


def _symmetric_zi(settings: Settings) -> list[Figure]:
    """ZI-C's mean price equals the equilibrium where schedules are symmetric."""
    figures: list[Figure] = []
    for schedule in (S11, S12):
        _, trades, price, _ = simulated(schedule, True, STEPS, settings.runs(RUNS), settings.seed)
        traded = np.arange(price.shape[1]) < trades[:, None]
        mean = np.where(traded, price, 0.0).sum(axis=1) / np.maximum(trades, 1)
        estimate = mean_estimate(mean[trades > 0] / schedule.equilibrium * 100.0)
        figures.append(number(f"{schedule.name}: ZI-C mean price over the equilibrium", estimate, 100.0, 1.0, "%"))
    return figures


def _ranking(settings: Settings) -> list[Figure]:
    note = "AA and GDX are not built; the order depends on proportions and on the market model (2019, 2020)"
    return [told("surplus shares AA >= GDX >= ZIP > ZI-C", None, "order only", "", note)]


def _roth_erev(settings: Settings) -> list[Figure]:
    note = "modified Roth-Erev traders are not built"
    findings = ("high efficiency", "market power set by relative capacity, not by concentration",
                "seller power at excess demand")  # fmt: skip
    return [told(finding, None, "sign only", "", note, dagger=True) for finding in findings]


ITEMS = (
    BenchItem(
        name="symmetric", section="3.1 item 3", reproduces="Cliff 1997: ZI-C prices under symmetric schedules",
        protocol=f"as S11 and S12: stop at {STEPS} shouts or one side done, {RUNS} runs", compute=_symmetric_zi,
    ),
    BenchItem(
        name="flat supply", section="3.1 item 3", reproduces="Cliff 1997: ZI-C prices under flat supply",
        protocol=f"11 sellers at 50, 6 buyers at 200, band 0..200; otherwise as S11: stop at {STEPS} shouts or one side"
        f" done, {FLAT_RUNS} runs", compute=_flat_zi,
    ),
    BenchItem(
        name="ZIP", section="3.1 item 3", reproduces="Cliff 1997: ZIP populations approach the equilibrium",
        protocol="unit traders; each step a live trader is drawn evenly and shouts its price; a willing counterparty,"
        f" drawn evenly, accepts at once; everybody hears it; stop: a period ends when one side is done"
        f" or after {QUIET} shouts in a row that nobody takes;"
        f" {POPULATIONS} populations over {PERIODS} periods, margins carry over; absolute steps up to 5 % of half the"
        " band's middle", compute=_zip_items,
    ),
    BenchItem(
        name="AA and GDX", section="3.1 item 4", reproduces="Das et al. 2001; Vytelingum 2008; De Luca & Cliff 2011",
        protocol="none: reported, not asserted", compute=_ranking,
    ),
    BenchItem(
        name="Roth-Erev", section="3.1 item 5", reproduces="Nicolaisen, Petrov & Tesfatsion 2001",
        protocol="none: the traders are not built", compute=_roth_erev,
    ),
)  # fmt: skip
