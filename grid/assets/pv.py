"""PV curtailment to an export limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

NO_LIMIT = np.int64(-1)
"""Export limit of a building without one."""


def curtailed_wh(pv_wh: Int, other_wh: Int, limit_wh: Int) -> Int:
    """PV energy that has to be curtailed so that a building exports no more than its limit.

    Parameters
    ----------
    pv_wh
        Available PV energy [Wh], int64 >= 0, shape (S, B).
    other_wh
        Everything else behind the connection point, load-signed [Wh]: load + heat pump + cars + charging - discharging,
        shape (S, B).
    limit_wh
        Largest export per slot [Wh], shape (B,), `NO_LIMIT` (or any negative number) for none.

    Returns
    -------
    Curtailed energy, shape (S, B), 0 .. ``pv_wh``. With it, ``other - pv + curtailed >= -limit`` unless the other
    devices alone export more; `excess_export_wh` tells.
    """
    excess = np.clip(pv_wh - other_wh - limit_wh, 0, pv_wh)
    return np.where(limit_wh < 0, 0, excess)


def excess_export_wh(net_wh: Int, limit_wh: Int) -> Int:
    """Export beyond the limit [Wh] that is left at a net (S, B), load-signed: what curtailing PV cannot mend."""
    return np.where(limit_wh < 0, 0, np.maximum(-net_wh - limit_wh, 0))
