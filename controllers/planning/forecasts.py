"""What can be known of load or generation ahead: one function for every kind of forecast.

``perfect`` and ``noise`` look at what will be; all others get the past alone, so that nothing can leak. Measured errors
of each kind: docs/forecasts.md, ``python -m benchmarks.forecasts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from core import PeerwattError
from core.forecast_noise import relative_errors, spread_at

if TYPE_CHECKING:
    from controllers.planning.learnt_forecast import Learner

Float = NDArray[np.float64]
Int = NDArray[np.int64]

Kind = Literal["perfect", "yesterday", "last_week", "average", "noise", "learnt"]

KINDS: tuple[Kind, ...] = get_args(Kind)

_DAY_S, _HOUR_S = 86_400, 3_600
AVERAGE_DAYS = 7
"""Days that ``average`` goes back."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Errors of kind ``noise``: standard deviation a day ahead [percent], growing with the square root of the lead.

    ``series`` names what is forecast (load, pv: drawn apart), ``names`` the columns; both key the draws with ``seed``.
    """

    seed: int
    series: str
    names: Sequence[str]
    percent: float


def forecast(
    kind: Kind,
    history: Float,
    n_slots: int,
    *,
    slot_s: int,
    actual: Float | None = None,
    noise: Noise | None = None,
    learner: Learner | None = None,
) -> Float:
    """Expected values of the slots ``len(history) .. len(history) + n_slots - 1``, float64 (n_slots, C).

    Parameters
    ----------
    kind
        ``perfect``: as it will be. ``noise``: that with errors drawn by seed. ``yesterday``: the same time of the last
        day that is over. ``last_week``: the same time and weekday of the last week that is over. ``average``: mean of
        the same time of the last `AVERAGE_DAYS` days that are over. ``learnt``: a regression trained on the past.
    history
        Values of all slots since the run's start, (T, C): what is known when the forecast is made.
    n_slots, slot_s
        Slots to forecast, and their length [s].
    actual
        Values of these slots (n_slots, C), for ``perfect`` and ``noise`` only; others never see them.
    noise, learner
        For ``noise`` and ``learnt``.

    Raises
    ------
    PeerwattError
        If the kind is unknown, or what it needs is missing.

    Notes
    -----
    Where the past does not reach back far enough, ``last_week`` falls back to ``yesterday``, ``yesterday`` to the mean
    of what is known, and with nothing known to zero.
    """
    if kind not in KINDS:
        raise PeerwattError(f"there is no forecast {kind!r}", remedy=f"there are: {', '.join(KINDS)}")
    for needs, given, name in (
        (kind in ("perfect", "noise"), actual, "actual"),
        (kind == "noise", noise, "noise"),
        (kind == "learnt", learner, "learner"),
    ):
        if needs and given is None:
            raise PeerwattError(f"a forecast of kind {kind} needs {name}", remedy=f"pass {name}=...")
    if kind == "learnt":
        assert learner is not None
        return learner.predict(history, n_slots)
    if kind in ("perfect", "noise"):
        assert actual is not None
        return actual.astype(np.float64) if kind == "perfect" else _noisy(actual, noise, len(history), slot_s)
    return naive(kind, history, n_slots, slot_s)


def naive(kind: Kind, history: Float, n_slots: int, slot_s: int) -> Float:
    """The forecasts that copy or average the past; see `forecast`."""
    expected = np.broadcast_to(history.mean(axis=0) if len(history) else 0.0, (n_slots, history.shape[1])).copy()
    day = _DAY_S // slot_s
    ahead = np.arange(n_slots)
    if kind == "average":
        stack = np.stack([like_slots(history, ahead, day, back) for back in range(AVERAGE_DAYS)])
        known = np.isfinite(stack).all(axis=2).sum(axis=0)
        rows = known > 0
        expected[rows] = np.nansum(stack[:, rows], axis=0) / known[rows, np.newaxis]
        return expected
    for period in (day, 7 * day) if kind == "last_week" else (day,):
        copied = like_slots(history, ahead, period, 0)
        rows = np.isfinite(copied).all(axis=1)
        expected[rows] = copied[rows]
    return expected


def like_slots(history: Float, ahead: Int, period: int, back: int) -> Float:
    """Like values of the slots ``ahead`` (n,) of what is known: the last ones, ``back`` periods further back; (n, C).

    ``period`` is a number of slots. NaN where the past does not reach back so far.
    """
    source = len(history) + ahead - (ahead // period + 1 + back) * period
    found = np.full((len(ahead), history.shape[1]), np.nan)
    found[source >= 0] = history[source[source >= 0]]
    return found


def _noisy(actual: Float, noise: Noise | None, first: int, slot_s: int) -> Float:
    assert noise is not None
    lead_h = np.arange(len(actual)) * slot_s / _HOUR_S
    per_hour = max(_HOUR_S // slot_s, 1)
    errors = relative_errors(noise.seed, noise.series, noise.names, first, len(actual), per_hour)
    out: Float = np.maximum(actual * (1.0 + spread_at(lead_h, noise.percent)[:, np.newaxis] * errors), 0.0)
    return out
