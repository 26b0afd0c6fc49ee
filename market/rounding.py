"""Rounding kernels of settlement (market-rules 4.6): whole micro-currency from exact rationals, never through floats.

Two roundings exist. A *line* (one price times one energy) is rounded once, half to even. A *pool* rounds the total of a
side half to even and hands it to the members by largest remainder. Compiled int64 kernels do the work wherever bounds
checked up front prove that nothing can overflow; where they do not, Python integers give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.errors import MarketError

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Exact = NDArray[Any]
"""int64, or Python integers in an object array where int64 is not proven to suffice."""

WH_PER_KWH = 1000
"""Money of a line = price_u * Wh / 1000."""

MAX_AMOUNT_U = 2**44
"""Largest amount of one line [micro-currency], about 17.6 million units: months of such lines still fit int64."""

_SAFE = 2**62
"""No intermediate of a kernel may exceed this."""


# --- scalar kernels ---------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy")
def half_even(num: int, den: int) -> int:
    """``num / den`` to the nearest integer, ties to the even one; ``den > 0``, any sign of ``num``."""
    quotient = num // den
    rest = num - quotient * den
    other = den - rest
    if rest > other or (rest == other and quotient & 1):
        quotient += 1
    return quotient


@njit(cache=True, error_model="numpy")
def _kth_largest(values: Int, n: int, k: int) -> int:
    """The k-th largest (k >= 1) of ``values[:n]``, which is reordered (quickselect, Hoare 1961)."""
    low, high, want = 0, n - 1, k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if want <= j:
            high = j
        elif want >= i:
            low = i
        else:
            break
    return int(values[want])


# --- lines ------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy")
def _lines_kernel(wh: Int, short_u: Int, long_u: Int, out: Int) -> None:
    s_rows, s_cols = short_u.shape[0] > 1, short_u.shape[1] > 1
    l_rows, l_cols = long_u.shape[0] > 1, long_u.shape[1] > 1
    for t in range(wh.shape[0]):
        for i in range(wh.shape[1]):
            energy = wh[t, i]
            if energy >= 0:
                price = short_u[t if s_rows else 0, i if s_cols else 0]
            else:
                price = long_u[t if l_rows else 0, i if l_cols else 0]
            out[t, i] = half_even(price * energy, 1000)


@njit(cache=True, error_model="numpy")
def _levels_kernel(wh: Int, local_wh: Int, full_u: Int, local_u: Int, out: Int) -> None:
    f_rows, f_cols = full_u.shape[0] > 1, full_u.shape[1] > 1
    l_rows, l_cols = local_u.shape[0] > 1, local_u.shape[1] > 1
    for t in range(wh.shape[0]):
        for i in range(wh.shape[1]):
            local = min(local_wh[t, i], wh[t, i])
            full_price = full_u[t if f_rows else 0, i if f_cols else 0]
            local_price = local_u[t if l_rows else 0, i if l_cols else 0]
            out[t, i] = half_even(full_price * (wh[t, i] - local) + local_price * local, 1000)


@njit(cache=True, error_model="numpy")
def _ratio_kernel(num: Int, den: Int, out: Int) -> None:
    for k in range(num.shape[0]):
        out[k] = half_even(num[k], den[k])


def two_price_lines_u(wh: Int, short_u: Int, long_u: Int) -> Int:
    """Amounts of lines whose price depends on the direction of the energy, each rounded once.

    Parameters
    ----------
    wh
        Energy [Wh], ``(S, B)``, signed: positive is priced at ``short_u``, negative at ``long_u``.
    short_u, long_u
        Prices [micro-currency per kWh], broadcastable to ``(S, B)``.

    Returns
    -------
    NDArray[np.int64]
        ``(S, B)`` [micro-currency], the sign of price times energy: positive is paid by the owner of the energy.

    Raises
    ------
    MarketError
        If an amount is beyond ``MAX_AMOUNT_U``.
    """
    energy, short, long = _plane(wh), price_plane(short_u, wh.shape), price_plane(long_u, wh.shape)
    if _fits(peak(energy), max(peak(short), peak(long))):
        out = np.empty(energy.shape, np.int64)
        _lines_kernel(energy, short, long, out)
        return out
    price = np.where(energy >= 0, short, long).astype(object)
    return _exact_lines(price * energy.astype(object))


def line_amounts_u(price_u: Int, wh: Int) -> Int:
    """``round(price_u * wh / 1000)`` half to even, ``(S, B)``; ``price_u`` is broadcast. See `two_price_lines_u`."""
    return two_price_lines_u(wh, price_u, price_u)


def level_amounts_u(wh: Int, local_wh: Int, full_u: Int, local_u: Int) -> Int:
    """Network charge of a direction: ``min(local_wh, wh)`` at the local level, the rest at the full one, ``(S, B)``.

    Rounded once for both levels together, so that equal levels charge what one level would.

    Raises
    ------
    MarketError
        If an amount is beyond ``MAX_AMOUNT_U``.
    """
    energy, local = _plane(wh), _plane(local_wh)
    full, near = price_plane(full_u, wh.shape), price_plane(local_u, wh.shape)
    if _fits(peak(energy), max(peak(full), peak(near))):
        out = np.empty(energy.shape, np.int64)
        _levels_kernel(energy, local, full, near, out)
        return out
    part = np.minimum(local, energy).astype(object)
    return _exact_lines(full.astype(object) * (energy.astype(object) - part) + near.astype(object) * part)


def round_ratio(num: Exact, den: Exact) -> Int:
    """``num / den`` element by element, half to even; both are broadcast against each other, ``den > 0``.

    Takes Python integers (object arrays) as well as int64.

    Raises
    ------
    MarketError
        If a denominator is not positive or a result does not fit an amount.
    """
    if num.size and den.size and (den <= 0).any():
        raise MarketError("a price has a denominator that is not positive")
    tops, bottoms = np.broadcast_arrays(num, den)
    if is_small(tops) and is_small(bottoms):
        out = np.empty(tops.size, np.int64)
        _ratio_kernel(
            np.ascontiguousarray(tops, np.int64).ravel(), np.ascontiguousarray(bottoms, np.int64).ravel(), out
        )
        return out.reshape(tops.shape)
    values = [_half_even_exact(int(a), int(b)) for a, b in zip(tops.ravel(), bottoms.ravel(), strict=True)]
    _refuse_big(max(map(abs, values), default=0))
    return np.array(values, np.int64).reshape(tops.shape)


def peak(values: Exact) -> int:
    """Largest magnitude in ``values`` as a Python integer, 0 if empty (safe at the int64 minimum)."""
    return max(-int(values.min()), int(values.max())) if values.size else 0


def is_small(values: Exact, factor: int = 1) -> bool:
    """Whether ``factor`` times the largest magnitude stays within what the kernels may hold (2**62)."""
    return peak(values) * factor <= _SAFE


def price_plane(price_u: Int, shape: tuple[int, ...]) -> Int:
    """``price_u`` as a contiguous ``(S or 1, B or 1)`` plane that broadcasts to ``shape``.

    Raises
    ------
    MarketError
        If it does not broadcast.
    """
    plane: Int = np.ascontiguousarray(np.atleast_2d(np.asarray(price_u, np.int64)))
    if plane.ndim != 2 or any(have not in (1, want) for have, want in zip(plane.shape, shape, strict=True)):
        raise MarketError(f"prices of shape {np.shape(price_u)} do not fit energies of shape {shape}")
    return plane


def _plane(wh: Int) -> Int:
    if wh.ndim != 2:
        raise MarketError(f"energies must be (slots, members), not of shape {wh.shape}")
    return np.ascontiguousarray(wh, np.int64)


def _fits(energy: int, price: int) -> bool:
    # price * energy is at most 1000 times an allowed amount, so the kernel cannot overflow either
    return energy * price <= MAX_AMOUNT_U * WH_PER_KWH


def _half_even_exact(num: int, den: int) -> int:
    quotient, rest = divmod(num, den)
    return quotient + (2 * rest > den or (2 * rest == den and quotient % 2 == 1))


def _exact_lines(products: Exact) -> Int:
    values = [_half_even_exact(int(p), WH_PER_KWH) for p in products.ravel()]
    _refuse_big(max(map(abs, values), default=0))
    return np.array(values, np.int64).reshape(products.shape)


def _refuse_big(amount: int) -> None:
    if amount > MAX_AMOUNT_U:
        raise MarketError(
            f"a line of {amount} micro-currency is beyond the {MAX_AMOUNT_U} that settlement can hold",
            remedy="check the units of prices and energies",
        )


# --- pools ------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy")
def _pool_kernel(
    num: Int, den: Int, mask: Bool, order: Int, imposed: bool, total: Int, rows: Int, out: Int, unmet: Bool
) -> None:
    size = num.shape[1]
    rest, scratch, who = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    for row in range(rows.shape[0]):
        t = rows[row]
        d = den[t]
        n, exact, floors = 0, 0, 0
        for k in range(size):
            i = order[k]
            if mask[t, i]:
                quotient = num[t, i] // d
                out[t, i] = quotient
                rest[n] = num[t, i] - quotient * d
                who[n] = i
                n += 1
                exact += num[t, i]
                floors += quotient
        missing = (total[t] if imposed else half_even(exact, d)) - floors
        if missing == 0:
            continue
        if n == 0:
            unmet[t] = True
            continue
        step = 1 if missing > 0 else -1
        rounds = abs(missing) // n
        left = abs(missing) - rounds * n
        if rounds:
            for k in range(n):
                out[t, who[k]] += step * rounds
        if left:
            for k in range(n):
                scratch[k] = rest[k]
            # the bound that parts those who get a unit from the others; ties at the bound go by rank
            bound = _kth_largest(scratch, n, left if step > 0 else n - left + 1)
            for k in range(n):
                if (rest[k] > bound) if step > 0 else (rest[k] < bound):
                    out[t, who[k]] += step
                    left -= 1
            for k in range(n):
                at = k if step > 0 else n - 1 - k
                if left > 0 and rest[at] == bound:
                    out[t, who[at]] += step
                    left -= 1


def exact_pool_row(num: Sequence[int], den: int, total: int | None = None) -> list[int]:
    """One slot of `round_pool` in Python integers: members in rank order, all of them taking part.

    Raises
    ------
    MarketError
        If there is a total to hand out and nobody to take it.
    """
    floors = [n // den for n in num]
    rest = [n % den for n in num]
    missing = (_half_even_exact(sum(num), den) if total is None else total) - sum(floors)
    if not missing:
        return floors
    if not num:
        raise MarketError(f"{missing} micro-currency of a pool have nobody to go to")
    step = 1 if missing > 0 else -1
    rounds, left = divmod(abs(missing), len(num))
    order = sorted(range(len(num)), key=lambda i: (-rest[i], i))[::step]
    out = [floor + step * rounds for floor in floors]
    for i in order[:left]:
        out[i] += step
    return out


def round_pool(num: Exact, den: Exact, mask: Bool, rank: Int, total: Int | None = None) -> Int:
    """Round one side of a pool in every slot: total half to even, shares by largest remainder (market-rules 4.6).

    Parameters
    ----------
    num
        Numerators of the exact shares, ``(S, M)``; may be negative; int64 or Python integers.
    den
        Their common denominator per slot, ``(S,)``, positive.
    mask
        ``(S, M)``: who belongs to the side in the slot. Shares of the others are left out and become 0.
    rank
        ``(M,)``: position of each member's id in ASCII order. Ties go to the lower rank.
    total
        ``(S,)``: what the side must sum to, in place of its own rounded total. If it lies below the floors, units are
        taken back from the smallest fractions, ties in reverse order.

    Returns
    -------
    NDArray[np.int64]
        ``(S, M)``. Without ``total`` nobody is 1 or more away from its exact share.

    Raises
    ------
    MarketError
        If a denominator is not positive, a slot's total has nobody to go to, or an amount is beyond ``MAX_AMOUNT_U``.
    """
    n_slots, size = num.shape
    if n_slots and int(den.min()) <= 0:
        raise MarketError(f"slot {int(np.argmin(den))} of the window: the denominator of a pool is not positive")
    order = np.argsort(np.asarray(rank, np.int64), kind="stable")
    out = np.zeros((n_slots, size), np.int64)
    unmet = np.zeros(n_slots, np.bool_)
    small = _small_rows(num, den)
    imposed = np.zeros(n_slots, np.int64) if total is None else np.ascontiguousarray(total, np.int64)
    if small.any():
        whole = bool(small.all())
        tops = num if whole else np.where(small[:, None], num, 0)
        bottoms = den if whole else np.where(small, den, 1)
        _pool_kernel(
            np.ascontiguousarray(tops, np.int64), np.ascontiguousarray(bottoms, np.int64), np.ascontiguousarray(mask),
            order, total is not None, imposed, np.flatnonzero(small), out, unmet,
        )  # fmt: skip
    if unmet.any():
        raise MarketError(f"slot {int(np.argmax(unmet))} of the window: a pool's total has nobody to go to")
    for t in np.flatnonzero(~small):
        members = order[mask[t][order]]
        share = exact_pool_row([int(num[t, i]) for i in members], int(den[t]), None if total is None else int(total[t]))
        _refuse_big(max(map(abs, share), default=0))
        out[t, members] = share
    _refuse_big(peak(out))
    return out


def _small_rows(num: Exact, den: Exact) -> Bool:
    """Slots whose sum of magnitudes and denominator are proven to fit the kernel."""
    n_slots, size = num.shape
    if is_small(num, max(size, 1)) and is_small(den):
        return np.ones(n_slots, np.bool_)
    # per slot, in Python integers: rare, and exact where floats near the limit would not be
    tops = [sum(abs(int(v)) for v in row) for row in num]
    return np.array([top <= _SAFE and int(d) <= _SAFE for top, d in zip(tops, den, strict=True)], np.bool_)
