"""A forecast learnt from the past: gradient-boosted trees on lags and calendar (scikit-learn, imported when used).

One model serves all columns: values are scaled by each column's own recent mean. Models are trained at absolute slots,
multiples of `Learner.every_days` from the run's start, on nothing but what lies before; between them they stand. So a
forecast depends on the past alone and not on when it was asked for before. Same data, seed and library: same bits,
whatever the number of threads.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controllers.planning.forecasts import like_slots, naive
from core import PeerwattError
from core.keyed_random import keyed_generator
from core.slots import LocalTime

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_DAY_S, _HOUR_S = 86_400, 3_600
LEVEL_DAYS = 28
"""Days whose mean scales a column."""

TRAINED_DAYS = 180
"""Days that a training goes back."""


class Learner:
    """Trains and keeps the models of one kind of series (load, or PV) in one run.

    Parameters
    ----------
    slot_s
        Slot length [s].
    calendar
        Local time of every slot of the run.
    every_days, first_days
        How often a model is trained, and how many days have to be known before the first one; until then forecasts are
        the ``average`` ones.
    horizon_h
        Leads that a model is trained for [h].
    seed, rows
        Draws the rows of a training, about ``rows`` of them.
    """

    def __init__(
        self,
        slot_s: int,
        calendar: LocalTime,
        *,
        every_days: int = 28,
        first_days: int = 28,
        horizon_h: float = 48.0,
        seed: int = 0,
        rows: int = 60_000,
    ) -> None:
        self.slot_s, self.calendar = slot_s, calendar
        self.seed, self.rows = seed, rows
        self.day = _DAY_S // slot_s
        self.every, self.first = every_days * self.day, first_days * self.day
        self.horizon = max(round(horizon_h * _HOUR_S / slot_s), 1)
        self._models: dict[int, Any] = {}

    def predict(self, history: Float, n_slots: int) -> Float:
        """Expected values (n_slots, C) of the slots behind ``history`` (T, C), never below zero."""
        trained_at = len(history) // self.every * self.every
        if trained_at < self.first:
            return naive("average", history, n_slots, self.slot_s)
        model = self._model(trained_at, history[:trained_at])
        level = self._level(history)
        rows = self._features(history, np.arange(n_slots), level)
        with _one_thread():
            scaled = model.predict(rows.reshape(-1, rows.shape[2])).reshape(rows.shape[:2])
        expected: Float = np.maximum(scaled, 0.0) * level
        return expected

    def _model(self, trained_at: int, history: Float) -> Any:
        """The model trained on the slots before ``trained_at``."""
        if trained_at not in self._models:
            self._models = {trained_at: self._train(history)}  # time goes on: older ones are not asked for again
        return self._models[trained_at]

    def _train(self, history: Float) -> Any:
        known, columns = history.shape
        last = known - self.horizon
        origins = np.arange(max(self.first // 2, last - TRAINED_DAYS * self.day), last + 1, max(self.day // 4, 1))
        each = max(self.rows // (columns * len(origins)), 1)
        draw = keyed_generator(self.seed, "learnt_forecast", known)
        inputs, outputs = [], []
        for origin in origins.tolist():
            past = history[:origin]
            level = self._level(past)
            leads = np.sort(draw.choice(self.horizon, size=min(each, self.horizon), replace=False))
            inputs.append(self._features(past, leads, level).reshape(-1, N_FEATURES))
            outputs.append((history[origin + leads] / level).reshape(-1))
        model = _regressor(self.seed)
        with _one_thread():
            return model.fit(np.concatenate(inputs), np.concatenate(outputs))

    def _level(self, history: Float) -> Float:
        """Recent mean of each column (C,), never zero."""
        level: Float = np.maximum(history[-LEVEL_DAYS * self.day :].mean(axis=0), 1e-6)
        return level

    def _features(self, history: Float, ahead: Int, level: Float) -> Float:
        """What a model is told of each slot ``ahead`` (n,) and column, (n, C, `N_FEATURES`); NaN where unknown."""
        day = self.day
        days = np.stack([like_slots(history, ahead, day, back) for back in range(7)]) / level
        weeks = np.stack([like_slots(history, ahead, 7 * day, back) for back in range(3)]) / level
        shape = days.shape[1:]
        recent = [history[-span:].mean(axis=0) / level for span in (max(3 * _HOUR_S // self.slot_s, 1), day)]
        angle = 2.0 * np.pi * self.calendar.minute[len(history) + ahead] / 1440.0
        weekday = self.calendar.weekday[len(history) + ahead]
        by_slot = (ahead * self.slot_s / _HOUR_S, np.sin(angle), np.cos(angle), weekday)
        parts = [
            days[0], days[1], weeks[0], _mean(days), _mean(weeks),
            *(np.broadcast_to(part, shape) for part in recent),
            *(np.broadcast_to(part[:, np.newaxis], shape) for part in by_slot),
        ]  # fmt: skip
        return np.stack(parts, axis=2)


N_FEATURES = 11


def _mean(stack: Float) -> Float:
    """Mean over the first axis of what is known, NaN where nothing is."""
    known = np.isfinite(stack).sum(axis=0)
    mean: Float = np.where(known > 0, np.nansum(stack, axis=0) / np.maximum(known, 1), np.nan)
    return mean


def _regressor(seed: int) -> Any:
    """Trees for the mean (squared error), so that expected energies add up."""
    try:
        ensemble: Any = import_module("sklearn.ensemble")
    except ModuleNotFoundError:
        raise PeerwattError(
            "the learnt forecast needs scikit-learn", remedy="pip install scikit-learn, or choose another kind"
        ) from None
    return ensemble.HistGradientBoostingRegressor(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=200, l2_regularization=1.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip


def _one_thread() -> Any:
    """Sums in one order, whatever the machine."""
    control: Any = import_module("threadpoolctl")  # comes with scikit-learn
    return control.threadpool_limits(limits=1)
