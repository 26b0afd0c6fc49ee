"""Constants of compiled kernels."""

from __future__ import annotations

from typing import cast

import numpy as np


def typed(*values: int) -> tuple[int, ...]:
    """The values as 64-bit integers, for constants that kernels hand to each other.

    numba compiles a kernel anew for each plain integer that another kernel calls it with; these are of one type.
    """
    return tuple(cast(int, np.int64(value)) for value in values)


(ZERO,) = typed(0)
"""Where a counter begins that is handed to another kernel."""
