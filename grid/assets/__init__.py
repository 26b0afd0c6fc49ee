"""Assets as columns, and the compiled kernels that step them.

Everything in integer Wh per slot. The modules import numba: import them where they are used, not on the way in.

- `grid.assets.quantise`: profiles to whole Wh with carried rounding; sums by building
- `grid.assets.battery`: batteries
- `grid.assets.ev`, `grid.assets.ev_sessions`: electric cars and their stays at the charger
- `grid.assets.pv`: curtailment to an export limit
"""
