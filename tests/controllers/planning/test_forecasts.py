"""Forecasts: by hand, blind to the future, the same by seed and however asked, and better where it is claimed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from controllers.planning.forecasts import KINDS, Kind, Noise, forecast
from controllers.planning.learnt_forecast import Learner
from core import PeerwattError, SlotGrid
from core.forecast_noise import relative_errors, spread_at

HOUR_S = 3600
DAY = 24
NOISE = Noise(seed=5, series="load", names=("a", "b"), percent=20.0)


def series(days: int, seed: int = 0) -> np.ndarray:
    """Two columns with a daily course, quieter weekends, and chance; (24 days, 2)."""
    t = np.arange(days * DAY)
    course = 1.0 + 0.6 * np.sin(2 * np.pi * (t % DAY - 7) / DAY) - 0.3 * ((t // DAY) % 7 >= 5)
    chance = np.random.default_rng(seed).gamma(4.0, 0.25, (len(t), 2))
    values: np.ndarray = course[:, None] * chance * np.array([1.0, 3.0])
    return values


def learner(seed: int = 0) -> Learner:
    calendar = SlotGrid(datetime(2021, 1, 4, tzinfo=UTC), HOUR_S, 120 * DAY).local_time("UTC")
    return Learner(HOUR_S, calendar, every_days=14, first_days=28, rows=4000, seed=seed)


def made(kind: Kind, known: np.ndarray, n: int, actual: np.ndarray | None = None) -> np.ndarray:
    return forecast(kind, known, n, slot_s=HOUR_S, actual=actual, noise=NOISE, learner=learner())


def test_copies_of_the_past_by_hand() -> None:
    values = series(20)
    at = 9 * DAY + 5
    known, n = values[:at], 30
    ahead = at + np.arange(n)
    day = np.where(np.arange(n) < DAY, 1, 2)  # beyond a day ahead, yesterday is not over yet
    assert np.array_equal(made("yesterday", known, n), values[ahead - day * DAY])
    assert np.array_equal(made("last_week", known, n), values[ahead - 7 * DAY])
    seven = np.mean([values[ahead - (day + k) * DAY] for k in range(7)], axis=0)
    assert np.allclose(made("average", known, n), seven)
    assert np.array_equal(made("perfect", known, n, values[ahead]), values[ahead])


def test_a_short_past_is_used_as_far_as_it_goes() -> None:
    values = series(3)
    assert made("yesterday", values[:0], 4).tolist() == [[0.0, 0.0]] * 4
    early = made("yesterday", values[:10], 30)
    assert np.array_equal(early[14:24], values[:10])  # the first slots whose yesterday is known
    assert np.allclose(early[0], values[:10].mean(axis=0))
    assert np.array_equal(made("last_week", values[:48], 24), made("yesterday", values[:48], 24))
    assert np.allclose(made("average", values[:48], 24), (values[:24] + values[24:48]) / 2)
    assert np.array_equal(made("learnt", values, 24), made("average", values, 24))  # nothing is learnt yet


def test_noise_is_that_of_the_market_and_keyed_by_hour() -> None:
    actual = series(2)
    known = np.zeros((30 * DAY, 2))
    found = made("noise", known, 48, actual)
    errors = relative_errors(5, "load", ("a", "b"), 30 * DAY, 48, 1)
    spread = spread_at(np.arange(48.0), 20.0)
    assert np.allclose(found, np.maximum(actual * (1 + spread[:, None] * errors), 0))
    assert np.array_equal(found[0], actual[0])  # no lead, no error
    later = made("noise", np.zeros((30 * DAY + 6, 2)), 42, actual[6:])
    assert np.all(np.sign(later - actual[6:])[1:] == np.sign(found - actual)[7:])  # errs the same way, but less
    assert np.abs(later - actual[6:]).sum() < np.abs(found - actual)[6:].sum()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("perfect", "noise")])
def test_what_comes_cannot_be_known(kind: Kind) -> None:
    """Whatever the future is, and whoever asked before: the forecast has the same bits."""
    values = series(50)
    at = 45 * DAY + 7
    broken = values.copy()
    broken[at:] = np.nan
    one, other = learner(), learner()
    first = forecast(kind, values[:at], 48, slot_s=HOUR_S, learner=one)
    if kind == "learnt":  # another history of questions: models are trained at fixed slots
        other.predict(broken[: 30 * DAY], 24)
        other.predict(broken[:at], 3)
    second = forecast(kind, broken[:at], 48, slot_s=HOUR_S, actual=broken[at : at + 48], learner=other)
    assert first.tobytes() == second.tobytes()
    assert np.isfinite(first).all()
    assert (first >= 0).all()


def test_the_learnt_one_uses_only_its_training_span() -> None:
    """Values between the last training and the question are inputs of the model, not of its training."""
    values = series(50)
    other = values.copy()
    other[42 * DAY :] *= 0.5
    one, two = learner(), learner()
    one.predict(values[: 45 * DAY], 24)
    two.predict(other[: 45 * DAY], 24)
    probe = series(45, seed=9)
    assert one.predict(probe[: 45 * DAY], 24).tobytes() == two.predict(probe[: 45 * DAY], 24).tobytes()
    assert one.predict(values[: 45 * DAY], 24).tobytes() != one.predict(other[: 45 * DAY], 24).tobytes()


def test_seeds_and_shorter_horizons() -> None:
    values = series(45)
    base = learner().predict(values, 36)
    assert learner().predict(values, 36).tobytes() == base.tobytes()
    assert learner(seed=1).predict(values, 36).tobytes() != base.tobytes()
    assert learner().predict(values, 7).tobytes() == base[:7].tobytes()


def test_it_learns() -> None:
    """A course of two weeks that no copy of yesterday or last week knows: the learnt forecast halves their error."""
    t = np.arange(70 * DAY)
    values = 1.0 + 0.9 * np.sin(2 * np.pi * t / DAY)[:, None] * np.array([[1.0, 1.0]])
    values = values * np.where((t // DAY) % 7 >= 5, 0.4, 1.0)[:, None]
    values = values * np.random.default_rng(1).gamma(30.0, 1 / 30.0, values.shape)
    error: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    learnt = learner()
    for day in range(56, 63):
        for kind in ("yesterday", "average", "learnt"):
            found = forecast(kind, values[: day * DAY], DAY, slot_s=HOUR_S, learner=learnt)
            error[kind] += float(np.abs(found - values[day * DAY : (day + 1) * DAY]).mean())
    assert error["learnt"] < 0.5 * error["yesterday"]
    assert error["learnt"] < 0.6 * error["average"]


def test_what_is_missing_is_said() -> None:
    known = series(2)
    with pytest.raises(PeerwattError, match="there is no forecast 'best'"):
        forecast("best", known, 4, slot_s=HOUR_S)  # type: ignore[arg-type]
    for kind, words in (("perfect", "needs actual"), ("noise", "needs actual"), ("learnt", "needs learner")):
        with pytest.raises(PeerwattError, match=words):
            forecast(kind, known, 4, slot_s=HOUR_S)  # type: ignore[arg-type]
    with pytest.raises(PeerwattError, match="needs noise"):
        forecast("noise", known, 4, slot_s=HOUR_S, actual=known[:4])


@pytest.mark.campaign
def test_threads_do_not_matter() -> None:
    code = (
        "from tests.controllers.planning.test_forecasts import learner, series; import hashlib;"
        "print(hashlib.sha256(learner().predict(series(60), 48).tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[3]
    told = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "OMP_NUM_THREADS": n}, check=True,
            capture_output=True, text=True, timeout=120,
        ).stdout
        for n in ("1", "3")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert len(told[0].strip()) == 64
