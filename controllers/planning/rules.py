"""Rules that look ahead but do not optimise: follow the day's prices, or keep the highest import down.

Both steer batteries alone; nothing is discharged into the grid, so charge that is kept back is never touched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controllers.planning.schedules import Columns, battery_only, one_by_one
from controllers.planning.task import Plans, Task
from core import PeerwattError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_DAY_S = 86_400
_HALVINGS = 50


def price_responsive(task: Task, *, charge_below: float = 0.25, discharge_above: float = 0.75) -> Plans:
    """Charge in the cheap slots of each day, serve the own need in its dear ones, always store the own surplus.

    A day is 24 h from the horizon's start; a part of one at the end belongs to the last 24 h. A slot is cheap if its
    price ``buy`` is at most the ``charge_below`` quantile of its day, and dear from the ``discharge_above`` quantile
    on. Cheap slots charge with full power, as far as the import limit admits, and leave room for the surplus that is
    expected until the day ends. A day whose spread does not pay, ``eta_c eta_d (dear - wear) <= cheap``, has dear slots
    only, so that the battery does what `greedy_self_consumption` does.

    Raises
    ------
    PeerwattError
        If the quantiles are not 0 <= charge_below <= discharge_above <= 1.
    """
    if not 0.0 <= charge_below <= discharge_above <= 1.0:
        raise PeerwattError(
            f"price_responsive: quantiles {charge_below} and {discharge_above}",
            remedy="give 0 <= charge_below <= discharge_above <= 1",
        )

    def plan(store: Columns) -> Float:
        cheap, dear = _by_price(task, store, charge_below, discharge_above)
        surplus = np.maximum(-store.net, 0.0)
        need = np.where(dear & (surplus <= 0.0), np.maximum(store.net, 0.0), 0.0)
        return _carried_out(store, surplus, need, np.where(cheap, store.room, 0.0), _to_come(task, store, surplus))

    return battery_only(task, one_by_one(task, task.load_kwh - task.pv_kwh, plan))


def _by_price(task: Task, store: Columns, low: float, high: float) -> tuple[Bool, Bool]:
    """Cheap and dear slots (n, k)."""
    buy = task.buy[:, store.building]
    n, day = len(buy), max(_DAY_S // task.slot_s, 1)
    cheap, dear = np.empty(buy.shape, np.bool_), np.empty(buy.shape, np.bool_)
    for first in range(0, n, day):
        part = buy[max(min(first, n - day), 0) : first + day]
        a, b = np.quantile(part, low, axis=0), np.quantile(part, high, axis=0)
        pays = store.eta_c * store.eta_d * (b - store.wear) > a
        cheap[first : first + day] = pays & (buy[first : first + day] <= a)
        dear[first : first + day] = ~pays | (buy[first : first + day] >= b)
    return cheap, dear & ~cheap


def _to_come(task: Task, store: Columns, surplus: Float) -> Float:
    """(n, k) stored energy that the surplus of a slot and of those behind it, until its day ends, would give."""
    out = store.eta_c * np.minimum(surplus, store.charge_max)
    day = max(_DAY_S // task.slot_s, 1)
    for first in range(0, len(out), day):
        out[first : first + day] = np.cumsum(out[first : first + day][::-1], axis=0)[::-1]
    return out


def _carried_out(store: Columns, surplus: Float, discharge: Float, grid: Float, to_come: Float) -> Float:
    """Charge minus discharge (n, k): what is wanted, cut to power, room and stored energy."""
    out: Float = np.zeros_like(surplus)
    level = store.stored.copy()
    for t in range(len(out)):
        level = (1.0 - store.leak) * level
        bought = np.minimum(grid[t], np.maximum(store.high - to_come[t] - level, 0.0) / store.eta_c)
        c = np.minimum(np.maximum(surplus[t], bought), store.charge_max)
        c = np.minimum(c, np.maximum(store.high - level, 0.0) / store.eta_c)
        left = np.maximum(level - store.low, 0.0) * store.eta_d
        d = np.minimum(np.minimum(discharge[t], store.discharge_max), left)
        out[t] = c - d
        level = level + c * store.eta_c - d / store.eta_d
    return out


def peak_shaving(task: Task, *, least_kw: float = 0.0) -> Plans:
    """Keep the import of the horizon below the least threshold that the battery can hold.

    For a threshold P the energy that has to be in store at the start of slot t follows backwards from the end,

        need_n = E_min,   need_t = max(E_min, (need_{t+1} - gain_t) / (1 - leak)),
        gain_t = -(l_t - P) / eta_d  where the net load l_t is above P,  else  eta_c min(C_max, P - l_t),

    and P can be held if need_t <= E_max throughout, l_t - P <= D_max, and the start has need_0. The least such P, not
    below ``least_kw``, is found by halving; if no P can be held but the highest load itself, that is P. Then, slot by
    slot: what is above P is discharged; surplus is stored; the grid charges up to need_{t+1} only and never beyond P;
    what is stored above need_{t+1} serves the own need.

    Raises
    ------
    PeerwattError
        If ``least_kw`` is negative.
    """
    if not least_kw >= 0.0:
        raise PeerwattError(f"peak_shaving: least_kw is {least_kw}", remedy="give 0 or more")
    least = least_kw * task.slot_s / 3600.0

    def plan(store: Columns) -> Float:
        threshold = least_threshold(store, least)
        return _held(store, threshold, _needed(store, threshold))

    return battery_only(task, one_by_one(task, task.load_kwh - task.pv_kwh, plan))


def least_threshold(store: Columns, least: float = 0.0) -> Float:
    """(k,) least import [kWh per slot], not below ``least``, that each battery can hold over the horizon."""
    high: Float = np.maximum(store.net.max(axis=0, initial=0.0), least)
    low = np.full_like(high, least)
    high = np.where(_can_hold(store, low), low, high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        good = _can_hold(store, middle)
        high, low = np.where(good, middle, high), np.where(good, low, middle)
    return high


def _needed(store: Columns, threshold: Float) -> Float:
    """(n + 1, k) stored energy that holds the threshold from each slot on."""
    n = len(store.net)
    need: Float = np.empty((n + 1, len(threshold)))
    need[n] = store.low
    spare: Float = threshold - store.net
    gain: Float = np.where(spare < 0.0, spare / store.eta_d, store.eta_c * np.clip(spare, 0.0, store.charge_max))
    for t in range(n - 1, -1, -1):
        before = need[t + 1] - gain[t]
        need[t] = np.where(before > store.low, before / np.maximum(1.0 - store.leak, 1e-9), store.low)
    return need


def _can_hold(store: Columns, threshold: Float) -> Bool:
    need = _needed(store, threshold)
    good = (store.net - threshold <= store.discharge_max) & (need[:-1] <= store.high)
    held: Bool = np.logical_and.reduce(good, axis=0) & (store.stored >= need[0])
    return held


def _held(store: Columns, threshold: Float, need: Float) -> Float:
    """Charge minus discharge (n, k) that holds the threshold and uses what that leaves."""
    out: Float = np.zeros_like(store.net)
    level = store.stored.copy()
    for t in range(len(out)):
        level = (1.0 - store.leak) * level
        net, goal = store.net[t], np.minimum(need[t + 1], store.high)
        lacking = np.maximum(goal - level, 0.0) / store.eta_c
        spare = np.minimum(np.maximum(threshold - net, 0.0), np.maximum(store.room[t], -net))
        c = np.maximum(-net, np.minimum(lacking, spare))
        c = np.clip(c, 0.0, np.minimum(store.charge_max, np.maximum(store.high - level, 0.0) / store.eta_c))
        own = np.minimum(net, np.maximum(level - goal, 0.0) * store.eta_d)
        d = np.where(c > 0.0, 0.0, np.maximum(own, net - threshold))
        d = np.clip(d, 0.0, np.minimum(store.discharge_max, np.maximum(level - store.low, 0.0) * store.eta_d))
        out[t] = c - d
        level = level + c * store.eta_c - d / store.eta_d
    return out
