"""Intervals and paired tests: the one place where a measured figure gets its uncertainty.

Resampling is keyed by a seed: the same numbers give the same interval. SciPy is loaded when a function first needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from core.keyed_random import keyed_generator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Float = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
_SEED = 20_160
_FEW = 2
_EXACT_PAIRS = 60


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its confidence interval.

    Parameters
    ----------
    value
        The estimate; None where there is nothing to estimate from.
    low, high
        Ends of the interval; None where the sample is too small for one. Equal to ``value`` when the sample has no
        spread: then the interval tells nothing beyond the sample, and ``method`` says ``no spread``.
    n
        Number of independent observations behind it.
    method
        How the interval was made.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as a plain mapping."""
        return asdict(self)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two treatments on the same units: ``first`` minus ``second``.

    Parameters
    ----------
    first, second
        Names of the treatments.
    difference
        Mean difference with its t interval.
    p_t, p_wilcoxon
        Two-sided p-values of the paired t test and of Wilcoxon's signed-rank test (zero differences by Pratt's method);
        None where the differences do not allow the test, 1 where all of them are zero.
    p_holm
        ``p_wilcoxon`` (``p_t`` where there is none) after Holm's correction over the family of comparisons, else None.
    d_z
        Cohen's d_z: mean over standard deviation of the differences; None without spread.
    rank_biserial
        Matched-pairs rank-biserial correlation, in [-1, 1]: (favourable - unfavourable rank sum) / total rank sum.
    n, n_nonzero
        Pairs, and pairs that differ.
    """

    first: str
    second: str
    difference: Estimate
    p_t: float | None
    p_wilcoxon: float | None
    p_holm: float | None
    d_z: float | None
    rank_biserial: float | None
    n: int
    n_nonzero: int

    def as_dict(self) -> dict[str, Any]:
        """The fields as a plain mapping."""
        return asdict(self)

    @property
    def p(self) -> float | None:
        """The p-value that is corrected: Wilcoxon's, else that of the t test."""
        return self.p_t if self.p_wilcoxon is None else self.p_wilcoxon


def _column(values: Sequence[float] | Float, name: str = "values") -> Float:
    import numpy as np

    column = np.asarray(values, np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} has shape {column.shape}, not one dimension")
    if not np.isfinite(column).all():
        raise ValueError(f"{name} holds a number that is not finite")
    return column


def mean_estimate(
    values: Sequence[float] | Float,
    *,
    method: str = "t",
    level: float = LEVEL,
    seed: int = _SEED,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean with an interval.

    Parameters
    ----------
    values
        Independent observations.
    method
        ``t`` (Student), ``bca`` (bias-corrected and accelerated bootstrap; Efron 1987) or ``percentile``.
    level
        Of the interval.
    seed, resamples
        Of the bootstrap.

    Raises
    ------
    ValueError
        For numbers that are not finite or a method that is not known.
    """
    import numpy as np

    if method not in ("t", "bca", "percentile"):
        raise ValueError(f"there is no method {method!r}: t, bca or percentile")
    column = _column(values)
    n = len(column)
    if n == 0:
        return Estimate(None, None, None, 0, method)
    # a sum of numbers of one size does not depend on their order here: fsum is exact
    mean = math.fsum(column.tolist()) / n
    if n < _FEW:
        return Estimate(mean, None, None, n, "too few for an interval")
    if float(np.ptp(column)) == 0.0:
        return Estimate(mean, mean, mean, n, "no spread")
    if method == "t":
        half = _t_quantile(level, n - 1) * float(column.std(ddof=1)) / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, "t")
    low, high = _bootstrap((column,), np.mean, method, level, seed, resamples)
    return Estimate(mean, low, high, n, f"{method} bootstrap, {resamples} resamples")


def bounded_mean(values: Sequence[float] | Float, low: float, high: float, *, level: float = LEVEL) -> Estimate:
    """The mean of numbers that cannot leave [low, high], with a t interval cut to that range.

    Where all n numbers are equal and both ends are finite, the interval is what the numbers do not rule out: at most a
    share of ``1 - (1 - level)^(1/n)`` of all observations differs, and those lie at one end of the range.

    Raises
    ------
    ValueError
        For numbers that are not finite.
    """
    found = mean_estimate(values, level=level)
    if found.value is None or found.low is None or found.high is None:
        return found
    if found.low < found.high:
        ends = max(found.low, low), min(found.high, high)
        cut = ends != (found.low, found.high)
        return Estimate(found.value, *ends, found.n, f"{found.method}, cut to the range" if cut else found.method)
    if not (math.isfinite(low) and math.isfinite(high)):
        return found
    others = 1.0 - (1.0 - level) ** (1.0 / found.n)
    ends = found.value - others * (found.value - low), found.value + others * (high - found.value)
    return Estimate(found.value, *ends, found.n, "no spread: bound on the share of others")


def _t_quantile(level: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, degrees))


def _bootstrap(
    data: tuple[Float, ...], statistic: Callable[..., Any], method: str, level: float, seed: int, resamples: int
) -> tuple[float | None, float | None]:
    import warnings

    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate resample gives nan, which is told as "no interval"
        found = bootstrap(
            data,
            statistic,
            paired=len(data) > 1,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, min(resamples, 2_000_000 // max(len(data[0]), 1))),
            confidence_level=level,
            method="BCa" if method == "bca" else "percentile",
            rng=keyed_generator(seed, "bootstrap"),
        )
    interval = found.confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def ratio_estimate(
    numerators: Sequence[float] | Float,
    denominators: Sequence[float] | Float,
    *,
    method: str = "jackknife",
    level: float = LEVEL,
    seed: int = _SEED,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A ratio of sums over paired observations, ``sum(numerators) / sum(denominators)``, with an interval.

    ``jackknife``: leave-one-out standard error with a t interval (Efron & Tibshirani 1993); ``percentile`` and ``bca``:
    bootstrap over the pairs. No value where the denominators sum to zero.

    Raises
    ------
    ValueError
        For numbers that are not finite, columns of different length, or a method that is not known.
    """
    import numpy as np

    if method not in ("jackknife", "bca", "percentile"):
        raise ValueError(f"there is no method {method!r}: jackknife, bca or percentile")
    top, bottom = _column(numerators, "numerators"), _column(denominators, "denominators")
    if len(top) != len(bottom):
        raise ValueError(f"{len(top)} numerators and {len(bottom)} denominators")
    n = len(top)
    above, below = math.fsum(top.tolist()), math.fsum(bottom.tolist())
    if n == 0 or below == 0.0:
        return Estimate(None, None, None, n, method)
    value = above / below
    if n < _FEW:
        return Estimate(value, None, None, n, "too few for an interval")
    if (top == value * bottom).all():
        return Estimate(value, value, value, n, "no spread")
    if method != "jackknife":

        def ratio(a: Float, b: Float, axis: int = -1) -> Any:
            with np.errstate(divide="ignore", invalid="ignore"):
                return a.sum(axis=axis) / b.sum(axis=axis)

        low, high = _bootstrap((top, bottom), ratio, method, level, seed, resamples)
        return Estimate(value, low, high, n, f"{method} bootstrap, {resamples} resamples")
    rest = below - bottom
    if (rest == 0.0).any():
        return Estimate(value, None, None, n, "one observation carries the ratio")
    left_out = (above - top) / rest
    spread = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    half = _t_quantile(level, n - 1) * spread
    return Estimate(value, value - half, value + half, n, "jackknife")


def proportion_estimate(hits: int, n: int, *, level: float = LEVEL) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927).

    Without a hit the upper end is the exact one-sided bound ``1 - (1 - level)^(1/n)``, about ``3 / n`` at 95 % (the
    rule of three); with hits only, likewise from the other side.

    Raises
    ------
    ValueError
        Unless ``0 <= hits <= n``.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}")
    if n == 0:
        return Estimate(None, None, None, 0, "Wilson")
    none_bound = 1.0 - (1.0 - level) ** (1.0 / n)
    if hits == 0:
        return Estimate(0.0, 0.0, none_bound, n, "no hit: one-sided bound")
    if hits == n:
        return Estimate(1.0, 1.0 - none_bound, 1.0, n, "hits only: one-sided bound")
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = hits / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n, "Wilson")


def paired_difference(
    first: Sequence[float] | Float,
    second: Sequence[float] | Float,
    *,
    names: tuple[str, str] = ("first", "second"),
    level: float = LEVEL,
) -> PairedDifference:
    """Compare two treatments measured on the same units, ``first`` minus ``second``.

    Raises
    ------
    ValueError
        For numbers that are not finite, or columns of different length.
    """
    import numpy as np

    a, b = _column(first, names[0]), _column(second, names[1])
    if len(a) != len(b):
        raise ValueError(f"{names[0]} has {len(a)} values, {names[1]} {len(b)}")
    gaps = a - b
    n, nonzero = len(gaps), int(np.count_nonzero(gaps))
    difference = mean_estimate(gaps, level=level)
    spread = float(gaps.std(ddof=1)) if n >= _FEW else 0.0
    flat = n < _FEW or float(np.ptp(gaps)) == 0.0
    d_z = None if flat else float(gaps.mean()) / spread
    p_t: float | None = None
    p_wilcoxon: float | None = None
    if n >= _FEW and nonzero == 0:
        p_t = p_wilcoxon = 1.0
    elif n >= _FEW:
        from scipy.stats import ttest_rel

        p_wilcoxon = _signed_rank_p(gaps)
        p_t = None if flat else float(ttest_rel(a, b).pvalue)
    return PairedDifference(names[0], names[1], difference, p_t, p_wilcoxon, None, d_z, rank_biserial(gaps), n, nonzero)


def _signed_rank_p(gaps: Float) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, zeros by Pratt's method; exact up to ``_EXACT_PAIRS`` pairs.

    The exact distribution over all signs is counted on doubled ranks, so that ties are exact too (SciPy enumerates
    permutations where there are ties, which takes seconds for a dozen pairs).
    """
    import numpy as np
    from scipy.stats import rankdata, wilcoxon

    doubled = np.rint(2 * rankdata(np.abs(gaps))).astype(np.int64)
    kept = gaps != 0.0
    if int(kept.sum()) > _EXACT_PAIRS:
        return float(wilcoxon(gaps, zero_method="pratt", method="approx").pvalue)
    ranks = doubled[kept]
    share = np.zeros(int(ranks.sum()) + 1)
    share[0] = 1.0
    for rank in ranks:
        moved = share.copy()
        moved[rank:] += share[: len(share) - rank]
        share = moved / 2
    at = int(doubled[gaps > 0.0].sum())
    return min(1.0, 2.0 * min(float(share[: at + 1].sum()), float(share[at:].sum())))


def rank_biserial(differences: Sequence[float] | Float) -> float | None:
    """Matched-pairs rank-biserial correlation (Kerby 2014): 1 if every difference that is not zero is positive.

    None without a difference.
    """
    import numpy as np

    gaps = _column(differences, "differences")
    gaps = gaps[gaps != 0.0]
    if not len(gaps):
        return None
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(gaps))
    return float((ranks[gaps > 0].sum() - ranks[gaps < 0].sum()) / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of p-values (Holm 1979); None stays None and counts for nothing."""
    given = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for k, (p, i) in enumerate(given):
        worst = max(worst, min(1.0, (len(given) - k) * p))
        out[i] = worst
    return out


def holm_corrected(comparisons: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The comparisons of one family with ``p_holm`` filled in."""
    from dataclasses import replace

    corrected = holm([c.p for c in comparisons])
    return [replace(c, p_holm=p) for c, p in zip(comparisons, corrected, strict=True)]


def all_pairs(columns: Mapping[str, Sequence[float] | Float], *, level: float = LEVEL) -> list[PairedDifference]:
    """Every treatment against every later one on the same units, Holm-corrected as one family."""
    names = list(columns)
    found = [
        paired_difference(columns[a], columns[b], names=(a, b), level=level)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return holm_corrected(found)
