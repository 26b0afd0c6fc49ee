"""The validation bench: its simulations against plain ones, its judgement, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from core.statistics import Estimate, mean_estimate
from market import make_rule
from market.book import Book, Context
from market.crossing import tie_hash
from market.orders import Side
from market.theory import ITEMS, BenchItem, Figure, Settings, Status, run_bench
from market.theory.incentives import largest_gains, rationed_book
from market.theory.large_markets import exact_figures, unit_orders
from market.theory.learning import populations
from market.theory.results import claim, number, told
from market.theory.schedules import FLAT, MULTI_UNIT, S11, S12, Schedule
from market.theory.zero_intelligence import alphas, simulated
from peerwatt.cli import main

SMALL = Settings(share=0.05)
SEED = 12345


def drawn(run: int, counter: int) -> float:
    return (tie_hash(SEED, run, counter) >> 11) * 2.0**-53


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "surplus", "equilibrium", "volume"),
    [(S11, 7.5, 2.0, 6), (S12, 630.0, 100.0, 7), (FLAT, 900.0, 50.0, 6)],
)
def test_schedules_of_the_specification(schedule: Schedule, surplus: float, equilibrium: float, volume: int) -> None:
    assert (schedule.surplus, schedule.equilibrium, schedule.volume) == (surplus, equilibrium, volume)


def test_units_are_dealt_in_order_of_value() -> None:
    for market in MULTI_UNIT:
        values, costs = market.by_trader
        assert values.shape[0] == costs.shape[0] == 6 and values.shape[1] >= 3 and costs.shape[1] >= 3
        assert (np.diff(values, axis=1) <= 0).all() and (np.diff(costs, axis=1) >= 0).all()
        assert sorted(values.ravel(), reverse=True) == list(market.values)


# --- simulations ------------------------------------------------------------------------------------------------------


def plain_period(
    market: Schedule, constrained: bool, whole: bool, most: int, run: int
) -> tuple[float, list[float], int]:
    """One period written down plainly: surplus, prices, shouts."""
    values, costs = (x.tolist() for x in market.by_trader)
    need, have = [list(v) for v in values], [list(c) for c in costs]
    low, high = market.band
    bid: tuple[float, int] | None = None
    ask: tuple[float, int] | None = None
    surplus, prices, step = 0.0, [], 0
    while step < most and any(need) and any(have):
        live = [("b", i) for i, x in enumerate(need) if x] + [("s", i) for i, x in enumerate(have) if x]
        side, i = live[int(drawn(run, 2 * step) * len(live))]
        limit = need[i][0] if side == "b" else have[i][0]
        a, z = (low, limit) if side == "b" else (limit, high)
        if not constrained:
            a, z = low, high
        u = drawn(run, 2 * step + 1)
        shout = float(a + np.floor(u * (z - a + 1.0))) if whole else a + u * (z - a)
        step += 1
        if side == "b" and (bid is None or shout > bid[0]):
            bid = (shout, i)
        if side == "s" and (ask is None or shout < ask[0]):
            ask = (shout, i)
        if bid is not None and ask is not None and bid[0] >= ask[0]:
            prices.append(ask[0] if side == "b" else bid[0])
            surplus += need[bid[1]].pop(0) - have[ask[1]].pop(0)
            bid = ask = None
    return surplus, prices, step


@pytest.mark.parametrize("market", [S12, MULTI_UNIT[2]], ids=["one unit", "several units"])
@pytest.mark.parametrize("constrained", [True, False])
def test_the_compiled_market_is_the_plain_one(market: Schedule, constrained: bool) -> None:
    from market.theory._traders import zi_runs

    whole, most = market is not S12, 60
    values, costs = market.by_trader
    surplus, trades, price, steps = zi_runs(values, costs, *market.band, constrained, whole, most, 15, np.uint64(SEED))
    for run in range(15):
        expected = plain_period(market, constrained, whole, most, run)
        assert (surplus[run], price[run, : trades[run]].tolist(), steps[run]) == expected


def test_alpha_by_hand() -> None:
    price = np.array([[3.0, 1.0, 9.0], [2.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    found = alphas(price, np.array([2, 1, 0]), 2.0)
    assert found[:2].tolist() == [50.0, 0.0] and np.isnan(found[2])


def test_randomness_is_keyed() -> None:
    first = simulated(S11, True, 100, 20, 1)
    again = simulated(S11, True, 100, 30, 1)
    other = simulated(S11, True, 100, 20, 2)
    assert (first[0] == again[0][:20]).all() and (first[2] == again[2][:20]).all()  # more runs do not change the first
    assert (first[2] != other[2]).any()


def test_stopping_rule_decides_what_zero_intelligence_earns() -> None:
    early, late = (simulated(S12, False, steps, 50, 0)[0].mean() for steps in (10, 10**6))
    assert late == 180.0 and early != late


def test_zip_trades_within_limits_and_learns() -> None:
    surplus, trades, price = populations(S11, 40, 0)
    alpha = alphas(price, trades, S11.equilibrium)
    assert (surplus <= S11.surplus + 1e-9).all() and (surplus >= 0).all()
    assert alpha[:, 4].mean() < 5.0 < alpha[:, 0].mean()


def test_compiled_books_are_what_the_rules_make_of_them() -> None:
    from market.theory._large_kernels import muda_books, unit_books

    key = np.uint64(77)
    for n in (1, 2, 4, 7):
        plain, halves = unit_books(n, 12, key), muda_books(n, 12, key)
        for run in range(12):
            orders = unit_orders(n, key, run)
            assert exact_figures(make_rule("trade_reduction"), orders)[0] == plain[run, 1]  # type: ignore[arg-type]
            assert exact_figures(make_rule("mcafee"), orders) == (plain[run, 2], plain[run, 3])  # type: ignore[arg-type]
            assert exact_figures(make_rule("vcg"), orders) == (plain[run, 0], -plain[run, 4])  # type: ignore[arg-type]
            # the compiled coins belong to ranks: best bid first
            ranked = {side: sorted((o for o in orders if o.side == side), key=lambda o: -int(o.side) * o.price_u)
                      for side in (Side.BUY, Side.SELL)}  # fmt: skip
            left = {
                o.agent_id
                for k, side in enumerate((Side.BUY, Side.SELL))
                for i, o in enumerate(ranked[side])
                if (tie_hash(77, run, (2 + k) * n + i) >> 11) * 2.0**-53 < 0.5
            }
            muda: Any = make_rule("muda", {"variant": "vickrey"})
            result = muda.clear_halves(Book.from_orders(orders), Context(), left)
            welfare = sum(int(o.side) * o.price_u * result.fills.get(o.order_id, 0) for o in orders)
            assert Fraction(welfare, 1000) == halves[run, 1]
            assert 0 <= halves[run, 2] <= halves[run, 0]


# --- judgement --------------------------------------------------------------------------------------------------------


def test_figures_are_judged() -> None:
    one = Estimate(1.0, 0.9, 1.1, 10, "t")
    assert number("x", one, 1.2, 0.2).status == Status.REPRODUCED
    assert number("x", one, 1.2, 0.1).status == Status.NOT_REPRODUCED
    assert number("x", Estimate(None, None, None, 0, "t"), 1.2, 0.1).status == Status.NOT_REPRODUCED
    assert claim("x", one, "above 2", False).status == Status.NOT_REPRODUCED
    assert told("x", None, "9", dagger=True).status == Status.REPORTED


def test_every_item_states_its_stopping_rule() -> None:
    assert len({item.name for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        assert item.section and item.reproduces
        assert "stop" in item.protocol or item.protocol.startswith(("none:", "the first"))


def test_the_bench_runs_small_and_the_same_again() -> None:
    told_of: list[tuple[int, int]] = []
    words = ["S12", "multi-unit", "Roth", "ZIP"]
    first = run_bench(words, lambda done, total: told_of.append((done, total)), settings=SMALL)
    assert told_of == [(k, 4) for k in (1, 2, 3, 4)]
    assert [r.as_dict() for r in first] == [r.as_dict() for r in run_bench(words, settings=SMALL)]
    for result in first:
        if result.status != Status.REPORTED:
            assert result.figure.measured is not None and result.figure.measured.low is not None
        if "published" in result.figure.name or result.item == "Roth-Erev":
            assert result.dagger and result.status == Status.REPORTED
    exact = next(r for r in first if r.figure.name.startswith("ZI-U efficiency, run"))
    assert exact.figure.measured is not None
    assert exact.figure.measured.value == pytest.approx(100 * 180 / 630)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(MarketError, match="no item"):
        run_bench(["tulips"])


def test_incentives_find_what_theory_says_on_one_book() -> None:
    ((gain, welfare),) = largest_gains(make_rule("huang"), [rationed_book()], "quantity")  # type: ignore[arg-type]
    # 4 at 30, 3 at 26, 5 of 6 at 22 against 3 at 10, 9 at 20; the first buyer states 8, gets 3 instead of 2, pays 22
    assert (gain, welfare) == (8 * 10_000, (120 + 78 + 110 - 30 - 180) * 10_000)


@pytest.mark.slow
def test_incentives_under_every_coin() -> None:
    results = run_bench(["incentives, MUDA"])
    assert len(results) == 4
    assert all(r.status == Status.REPRODUCED and r.figure.measured.value == 0 for r in results if r.figure.measured)


def test_a_rule_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from market.theory import incentives

    missing = replace(incentives._TESTS[0], rule="none_such")
    monkeypatch.setattr(incentives, "_TESTS", (missing,))
    (figure,) = incentives._incentives(SMALL)
    assert figure.status == Status.REPORTED and figure.note == "rule not there"


# --- command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "theory", "flat", "roth", "--json", str(file)]) == 0
    text = capsys.readouterr().out
    assert "reproduced" in text and "†" in text and "stop" in text
    rows = json.loads(file.read_text())
    assert {r["item"] for r in rows} == {"flat supply", "Roth-Erev"}
    alpha = next(r for r in rows if "alpha" in r["figure"])
    assert alpha["measured"]["low"] < alpha["measured"]["value"] < alpha["measured"]["high"]
    assert alpha["status"] == "reproduced" and not alpha["dagger"]


def test_the_command_finds_what_is_not_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(_: Settings) -> list[Figure]:
        return [number("one", mean_estimate([1.0, 1.1]), 2.0, 0.5)]

    wrong = BenchItem(name="wrong", section="0", reproduces="nothing", protocol="stop: at once", compute=compute)
    monkeypatch.setattr("market.theory.bench.ITEMS", (wrong,))
    assert main(["bench", "theory", "--quiet"]) == 1


def test_the_command_names_a_missing_folder_before_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "theory", "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_bench_is_reproduced() -> None:
    results = run_bench()
    assert not [f"{r.item}: {r.figure.name}" for r in results if r.status == Status.NOT_REPRODUCED]
    assert sum(r.status == Status.REPRODUCED for r in results) >= 70
