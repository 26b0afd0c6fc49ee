"""Whether the numbers of a battery plan make sense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core import PeerwattError

Float = NDArray[np.float64]

_LIMITS = ("import_limit_kwh", "export_limit_kwh", "most_import_kwh", "most_export_kwh")
_PRICES = ("import_excess", "export_excess")


def check_numbers(slots: tuple[Float | None, ...], start: Float, knots: Float, slopes: Float, *, single: bool) -> None:
    """Refuse what is not a problem: ``slots`` are load and the fields of `Tariff`, ``single`` no terminal knots.

    Raises
    ------
    PeerwattError
        Naming what is wrong.
    """
    load, buy, sell, take, give, over_take, over_give, most_take, most_give = slots
    assert load is not None
    assert buy is not None
    assert sell is not None
    limits, prices = (take, give, most_take, most_give), (over_take, over_give)
    finite = all(np.isfinite(x).all() for x in (load, buy, sell, start, knots, slopes))
    if not finite or any(x is not None and np.isnan(x).any() for x in limits):
        raise PeerwattError("a value of a battery plan is not a number", remedy="mend the forecast or the prices")
    for x, name in zip((*limits, *prices), (*_LIMITS, *_PRICES), strict=True):
        if x is not None and ((x < 0).any() or (name in _PRICES and np.isinf(x).any())):
            raise PeerwattError(f"{name} is negative or an infinite price", remedy="give 0 or more")
    if (start < 0).any():
        raise PeerwattError("start_kwh is negative", remedy="give the stored energy")
    try:
        dear = np.any(sell > buy)
    except ValueError:  # (n,) beside (n, ...)
        axes = max(buy.ndim, sell.ndim)
        dear = np.any(_spread_axes(sell, axes) > _spread_axes(buy, axes))
    if dear:
        raise PeerwattError("a kWh sells above what it costs to buy", remedy="plans need sell <= buy in every slot")
    if not single and (len(knots) != len(slopes) + 1 or (np.diff(knots, axis=0) <= 0).any()):
        raise PeerwattError("terminal_knots_kwh do not rise, or are not one more than prices", remedy="mend them")
    if (np.diff(slopes, axis=0) > 0).any():
        raise PeerwattError("the terminal value is not concave", remedy="list terminal_price falling")


def _spread_axes(array: Float, axes: int) -> Float:
    return array if array.ndim == 0 else array.reshape(len(array), *(1,) * (axes - array.ndim), *array.shape[1:])
