"""Cost-optimal plans of batteries against known prices and loads: exact schedules and the value of stored energy.

One battery per building and horizon, many horizons at once (buildings x days). The model, its equations and what
happens when limits cannot be kept: `battery_plans`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controllers.planning.battery_check import check_numbers
from core import PeerwattError

if TYPE_CHECKING:
    from grid.assets.battery import BatteryColumns

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK = 512
"""Horizons that are gathered and solved at a time; results do not depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Batteries as a plan sees them; every value may be an array that broadcasts against the other horizons.

    Parameters
    ----------
    min_kwh, max_kwh
        Least and most stored energy [kWh], 0 <= min <= max.
    charge_max_kwh, discharge_max_kwh
        Most energy per slot at the AC terminals [kWh], both >= 0.
    efficiency_charge, efficiency_discharge
        One-way, in (0, 1].
    self_discharge
        Part of the energy stored at a slot's start that is lost during it, in [0, 1).
    wear_per_kwh
        Cost of wear [currency per kWh discharged at the AC terminals], >= 0.

    Raises
    ------
    PeerwattError
        If a value is out of range or not a number.
    """

    min_kwh: ArrayLike
    max_kwh: ArrayLike
    charge_max_kwh: ArrayLike
    discharge_max_kwh: ArrayLike
    efficiency_charge: ArrayLike = 1.0
    efficiency_discharge: ArrayLike = 1.0
    self_discharge: ArrayLike = 0.0
    wear_per_kwh: ArrayLike = 0.0

    def __post_init__(self) -> None:
        low, high, charge, discharge, eta_c, eta_d, leak, wear = self.columns()
        for name, good in (
            ("min_kwh and max_kwh", (low >= 0) & (low <= high) & np.isfinite(high)),
            ("charge_max_kwh", (charge >= 0) & np.isfinite(charge)),
            ("discharge_max_kwh", (discharge >= 0) & np.isfinite(discharge)),
            ("efficiency_charge", (eta_c > 0) & (eta_c <= 1)),
            ("efficiency_discharge", (eta_d > 0) & (eta_d <= 1)),
            ("self_discharge", (leak >= 0) & (leak < 1)),
            ("wear_per_kwh", (wear >= 0) & np.isfinite(wear)),
        ):
            if not np.all(good):
                raise PeerwattError(f"{name} of a battery out of range", remedy="see controllers.planning.Stores")

    def columns(self) -> tuple[Float, ...]:
        """The eight values as float arrays, in the order of the fields."""
        return tuple(np.asarray(getattr(self, name), np.float64) for name in self.__dataclass_fields__)

    @classmethod
    def from_columns(cls, columns: BatteryColumns) -> Stores:
        """The batteries of a fleet, (K,): wear in currency per kWh, not in micro-currency."""
        return cls(
            min_kwh=columns.min_wh / 1000.0,
            max_kwh=columns.max_wh / 1000.0,
            charge_max_kwh=columns.charge_max_wh / 1000.0,
            discharge_max_kwh=columns.discharge_max_wh / 1000.0,
            efficiency_charge=columns.charge_ppm / 1e6,
            efficiency_discharge=columns.discharge_ppm / 1e6,
            self_discharge=columns.leak_per_1e9 / 1e9,
            wear_per_kwh=columns.wear_u / 1e6,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Prices [currency per kWh] and the operating envelope [kWh per slot]; every value broadcasts to (n, *batch).

    Parameters
    ----------
    buy, sell
        Price of a kWh drawn and fed in, sell <= buy; either may be negative.
    import_limit_kwh, export_limit_kwh
        Most that is drawn and fed in per slot, >= 0; infinite without a limit.
    import_excess, export_excess
        What a kWh beyond the limit costs on top of its price, >= 0; None, or NaN in a slot: far above what a kWh can
        earn. ``export_excess = sell`` (where sell >= 0) is free curtailment: what is beyond is neither fed in nor
        paid.
    most_import_kwh, most_export_kwh
        How far the battery may go: it charges up to that draw and discharges up to that feed. None: to the limits.
    """

    buy: ArrayLike
    sell: ArrayLike
    import_limit_kwh: ArrayLike = np.inf
    export_limit_kwh: ArrayLike = np.inf
    import_excess: ArrayLike | None = None
    export_excess: ArrayLike | None = None
    most_import_kwh: ArrayLike | None = None
    most_export_kwh: ArrayLike | None = None


@dataclass(frozen=True, slots=True)
class StorageValues:
    """Value functions V_t of stored energy, t = 0 .. n: concave and piecewise linear (see `battery_plans`).

    ``at`` picks one. Inside: ``first`` and ``count`` (*batch, n + 1) say where the pieces of each stand, ``base`` is V
    at its left end, ``knots`` and ``slopes`` hold all pieces in a row.
    """

    first: Int
    count: Int
    base: Float
    knots: Float
    slopes: Float

    def at(self, slot: int, *horizon: int) -> tuple[Float, Float, float]:
        """V at the start of ``slot`` (end of the one before): knots (p + 1,) [kWh], slopes (p,), V at the first knot.

        Slopes [currency per kWh] fall from knot to knot. A battery that bids for slot t compares its price with the
        slopes of ``at(t + 1)``. Between the knots stored energy keeps all limits to come; outside V is not defined.
        """
        place = (*horizon, slot)
        first, count = int(self.first[place]), int(self.count[place])
        return self.knots[first : first + count + 1], self.slopes[first : first + count], float(self.base[place])


@dataclass(frozen=True, slots=True)
class BatteryPlans:
    """Optimal schedules: (n, *batch) unless said otherwise.

    Parameters
    ----------
    charge_kwh, discharge_kwh
        Energy at the AC terminals per slot [kWh], both >= 0; the building draws ``load + charge - discharge``.
    stored_kwh
        (n + 1, *batch) stored energy at the slots' starts and at the end [kWh].
    cost
        (*batch,) what the schedule costs: exchange with the grid, excess, wear, less the terminal value [currency].
    excess_kwh
        (*batch,) energy beyond how far the battery may go (the operating envelope) over the horizon [kWh].
    outside_kwh
        (*batch,) the farthest that stored energy lies outside its limits [kWh].
    values
        Value functions, if they were asked for.
    """

    charge_kwh: Float
    discharge_kwh: Float
    stored_kwh: Float
    cost: Float
    excess_kwh: Float
    outside_kwh: Float
    values: StorageValues | None


def battery_plans(
    stores: Stores,
    start_kwh: ArrayLike,
    load_kwh: ArrayLike,
    tariff: Tariff,
    *,
    terminal_price: ArrayLike = 0.0,
    terminal_knots_kwh: ArrayLike | None = None,
    both_at_once: bool = False,
    values: bool = False,
    workers: int = 1,
) -> BatteryPlans:
    r"""Least-cost plans of one battery per horizon, exact, with the value of stored energy.

    Minimises :math:`\sum_t f_t(g_t) + w d_t - V_n(E_n)` over charge c and discharge d at the AC terminals, where
    ``g = load + c - d`` is drawn from the grid (negative: fed in), ``f`` is ``buy g`` for g > 0 and ``sell g`` for
    g < 0 plus the cost of what lies beyond the envelope, and stored energy, ``E_{t+1} = (1 - self_discharge) E_t +
    eta_c c - d / eta_d``, stays between its limits. Solved by dynamic programming over convex piecewise-linear
    functions, not on a grid of states.

    - A battery never charges and discharges in one slot. That needs care only where losses pay (a negative price p with
      ``-p (1 / (eta_c eta_d) - 1) > wear``): there the exact programme goes on with functions that are not convex, at
      some ms a horizon. ``both_at_once=True`` gives the plain linear program instead, which burns energy.
    - An envelope that the load itself breaks: the battery never causes an excess (it charges at most
      ``import_limit - load``, discharges at most ``export_limit + load``), and what remains beyond a limit is paid by
      the tariff's excess prices. By default that is far above what a kWh can earn (100 times the sum of largest
      price, wear and terminal price, over the efficiencies and what self-discharge leaves of the horizon, at least
      0.001), so that a limit that can be kept is kept; where one excess only moves another, prices have a small say.
    - Stored energy that starts outside its limits, or that self-discharge takes below ``min_kwh`` where the envelope
      leaves no room to charge: the limit gives way in each slot to the nearest level that can be reached.
    - Of schedules with equal cost, each slot in turn takes the one that moves the battery least.

    V_t, the value function, is minus the least cost from slot t on, whatever is stored. Where losses pay it
    is that of the slots' convex hulls: an upper bound, still concave.

    Parameters
    ----------
    stores, tariff
        Batteries and prices with the envelope.
    start_kwh
        Stored energy at the start [kWh], >= 0, broadcasts to ``batch``.
    load_kwh
        (n, ...) net load of the building without the battery [kWh per slot], PV counts negative.
    terminal_price
        Value of a kWh stored at the end [currency per kWh], broadcasts to ``batch``; with knots (p, ...), falling.
    terminal_knots_kwh
        (p + 1, ...) rising knots of a concave terminal value, which is 0 at the first; beyond them the outer slopes go
        on. None: ``terminal_price * E``.
    both_at_once
        Allow charging and discharging in one slot.
    values
        Return the value functions too.
    workers
        Threads; the results do not depend on it.

    Returns
    -------
    BatteryPlans
        ``batch`` is what all arguments broadcast to behind the slots: (), (n_buildings,), (n_days, n_buildings) ...

    Raises
    ------
    PeerwattError
        If shapes do not fit, a value is not a number, sell exceeds buy, a limit or an excess price is negative, or the
        terminal value is not concave.

    Notes
    -----
    Sources: R. T. Rockafellar (1970), Convex Analysis, doi:10.1515/9781400873173 (infimal convolution); P. M. van de
    Ven, N. Hegde, L. Massoulie, T. Salonidis (2012), doi:10.48550/arXiv.1203.1891 (the optimal policy is a threshold
    policy). The merge of sorted pieces is this project's.
    """
    problem = _gather(stores, start_kwh, load_kwh, tariff, terminal_price, terminal_knots_kwh)
    n, batch = problem.n, problem.batch
    size = int(np.prod(batch))
    charge, discharge, stored = np.empty((n, size)), np.empty((n, size)), np.empty((n + 1, size))
    totals = np.empty((3, size))

    def solve(begin: int) -> _Values:
        part = slice(begin, min(begin + BLOCK, size))
        block = problem.block(part)
        rows, kept = _solve_block(block, both_at_once, values)
        charge[:, part], discharge[:, part], stored[:, part] = rows[0].T, rows[1].T, rows[2].T
        totals[0, part] = rows[3]
        totals[1:, part] = _beyond_limits(block, rows)
        return kept

    begins = range(0, size, BLOCK)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(solve, begins))
    else:
        parts = [solve(begin) for begin in begins]
    if not np.isfinite(totals[0]).all():
        raise PeerwattError("a battery has no plan", remedy="report this with its data: limits give way by design")
    totals[1:] = np.where(totals[1:] < 1e-9, 0.0, totals[1:])
    cost, excess, outside = (row.reshape(batch) for row in totals)
    kept = _joined(parts, batch, n) if values else None
    shape = (n, *batch)
    return BatteryPlans(
        charge.reshape(shape),
        discharge.reshape(shape),
        stored.reshape((n + 1, *batch)),
        cost,
        excess,
        outside,
        kept,
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Arguments of the kernel for some horizons: (h, n, 9), (h, 8), (h,), (h, p + 1), (h, p)."""

    slots: Float
    stores: Float
    start: Float
    knots: Float
    slopes: Float


@dataclass(frozen=True, slots=True)
class _Problem:
    """All arguments as views of full shape: of slots (n, *batch), of batteries (*batch), of the terminal value."""

    n: int
    batch: tuple[int, ...]
    slots: tuple[Float | None, ...]
    stores: tuple[Float, ...]
    start: Float
    knots: Float
    slopes: Float

    def block(self, part: slice) -> _Block:
        """The horizons ``part`` of the flattened batch, as contiguous copies."""
        where = np.unravel_index(np.arange(part.start, part.stop), self.batch) if self.batch else ()
        h = part.stop - part.start

        def rows(array: Float) -> Float:
            found: Float = np.stack([row[where].reshape(h) for row in array], axis=1)
            return found

        stores = np.stack([array[where].reshape(h) for array in self.stores], axis=1)
        knots, slopes = np.ascontiguousarray(rows(self.knots)), np.ascontiguousarray(rows(self.slopes))
        slots = np.empty((h, self.n, 9))
        for i, array in enumerate(self.slots):
            if array is not None:
                slots[:, :, i] = rows(array)
        for i, limit in ((7, 3), (8, 4)):
            if self.slots[i] is None:
                slots[:, :, i] = slots[:, :, limit]
        largest = np.abs(slots[:, :, 1:3]).max(axis=(1, 2), initial=0.0) + stores[:, 7] + np.abs(slopes).max(axis=1)
        remains = np.maximum((1.0 - stores[:, 6]) ** self.n, 1e-3)
        dear = 100.0 * largest / (stores[:, 4] * stores[:, 5] * remains)
        for i in (5, 6):
            unset = True if self.slots[i] is None else np.isnan(slots[:, :, i])
            slots[:, :, i] = np.where(unset, dear[:, np.newaxis], slots[:, :, i])
        return _Block(slots, stores, self.start[where].reshape(h), knots, slopes)


def _gather(
    stores: Stores,
    start_kwh: ArrayLike,
    load_kwh: ArrayLike,
    tariff: Tariff,
    terminal_price: ArrayLike,
    terminal_knots_kwh: ArrayLike | None,
) -> _Problem:
    load = np.asarray(load_kwh, np.float64)
    if load.ndim == 0 or len(load) == 0:
        raise PeerwattError("a plan needs the load of one slot or more", remedy="give load_kwh as (n_slots, ...)")
    given = (tariff.buy, tariff.sell, tariff.import_limit_kwh, tariff.export_limit_kwh)
    more = (tariff.import_excess, tariff.export_excess, tariff.most_import_kwh, tariff.most_export_kwh)
    slots = (load, *(None if value is None else np.asarray(value, np.float64) for value in (*given, *more)))
    start = np.asarray(start_kwh, np.float64)
    slopes = np.asarray(terminal_price, np.float64)
    knots = np.zeros(2) if terminal_knots_kwh is None else np.asarray(terminal_knots_kwh, np.float64)
    if terminal_knots_kwh is None:
        slopes = slopes[np.newaxis]
    check_numbers(slots, start, knots, slopes, single=terminal_knots_kwh is None)
    columns = stores.columns()
    behind = [x.shape[1:] for x in (*slots, knots, slopes) if x is not None and x.ndim > 0]
    n = len(load)
    try:
        batch = np.broadcast_shapes(start.shape, *(x.shape for x in columns), *behind)
        full = tuple(None if x is None else _spread(x, n, batch) for x in slots)
        return _Problem(
            n, batch, full, tuple(np.broadcast_to(x, batch) for x in columns), np.broadcast_to(start, batch),
            _spread(knots, len(knots), batch), _spread(slopes, len(slopes), batch),
        )  # fmt: skip
    except ValueError as error:
        raise PeerwattError(
            f"the shapes of a battery plan do not fit: {error}", remedy=f"slot values are ({n}, ...), others (...)"
        ) from error


def _spread(array: Float, n: int, batch: tuple[int, ...]) -> Float:
    """A view of shape (n, *batch) of a number or of an array whose first axis is n."""
    if array.ndim > 0:
        array = array.reshape(len(array), *(1,) * (len(batch) + 1 - array.ndim), *array.shape[1:])
    return np.broadcast_to(array, (n, *batch))


_Values = tuple[Int, Int, Float, Float]
"""first, count, base (h, n + 1) and the bank of knots and slopes (2, used)."""


def _solve_block(block: _Block, both: bool, values: bool) -> tuple[tuple[Float, ...], _Values]:
    """Schedules (h, n) twice, stored energy (h, n + 1), cost (h,), and what is kept of the value functions."""
    from controllers.planning.battery_program import Bank, plan_block

    h, n = block.slots.shape[:2]
    rows = (np.empty((h, n)), np.empty((h, n)), np.empty((h, n + 1)), np.empty(h))
    room = 40 * h * (n + 1) if values else 0
    while True:
        ends = (h, n + 1)
        bank = Bank(np.zeros(ends, np.int64), np.zeros(ends, np.int64), np.zeros(ends), np.empty((2, room)))
        used = plan_block(
            block.slots, block.stores, block.start, block.knots, block.slopes, both, values, *rows, bank
        )  # fmt: skip
        if used <= room:
            return rows, (bank.first, bank.pieces, bank.base, bank.knots[:, :used].copy())
        room = used


def _beyond_limits(block: _Block, rows: tuple[Float, ...]) -> Float:
    """Excess over the envelope, and the farthest that stored energy is outside its limits, (2, h) [kWh]."""
    charge, discharge, stored = rows[:3]
    exchange = block.slots[:, :, 0] + charge - discharge
    excess = np.maximum(exchange - block.slots[:, :, 7], 0.0) + np.maximum(-block.slots[:, :, 8] - exchange, 0.0)
    under = block.stores[:, 0] - stored.min(axis=1)
    over = stored.max(axis=1) - block.stores[:, 1]
    return np.stack([excess.sum(axis=1), np.maximum(np.maximum(under, over), 0.0)])


def _joined(parts: list[_Values], batch: tuple[int, ...], n: int) -> StorageValues:
    """Value functions of all blocks: costs become values."""
    shift = np.cumsum([0, *(part[3].shape[1] for part in parts[:-1])])
    first = np.concatenate([part[0] + by for part, by in zip(parts, shift, strict=True)])
    knots, slopes = np.concatenate([part[3] for part in parts], axis=1)
    shape = (*batch, n + 1)
    return StorageValues(
        first.reshape(shape),
        np.concatenate([part[1] for part in parts]).reshape(shape),
        -np.concatenate([part[2] for part in parts]).reshape(shape),
        knots,
        -slopes,
    )
