from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from core.statistics import (
    Estimate,
    all_pairs,
    bounded_mean,
    holm,
    mean_estimate,
    paired_difference,
    proportion_estimate,
    rank_biserial,
    ratio_estimate,
)

# Student's sleep data (1908): extra hours under two drugs, the standard example of a paired test.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_sleep_data() -> None:
    found = paired_difference(DRUG_2, DRUG_1)
    assert found.difference.value == pytest.approx(1.58)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert found.p_t == pytest.approx(0.00283289, abs=1e-7)
    assert found.d_z == pytest.approx(4.0621 / np.sqrt(10), abs=1e-4)
    assert found.rank_biserial == 1.0
    assert found.n == 10 and found.n_nonzero == 9
    assert paired_difference(DRUG_1, DRUG_2).rank_biserial == -1.0


def test_mean_of_what_stays_in_a_range() -> None:
    cut = bounded_mean([0.0, 0.0, 0.9], 0.0, 1.0)
    assert cut.value == pytest.approx(0.3) and (cut.low, cut.high) == (0.0, 1.0)
    assert cut.method == "t, cut to the range"
    # 1 - 0.05^(1/59) = 0.0495: in at most so many of all cases is there anything but a zero
    zeros, halves = bounded_mean([0.0] * 59, 0.0, 1.0), bounded_mean([0.5] * 59, 0.0, 1.0)
    assert zeros.low == 0.0 and zeros.high == pytest.approx(0.049508, abs=1e-6)
    assert (halves.low, halves.high) == pytest.approx((0.5 - 0.024754, 0.5 + 0.024754), abs=1e-6)
    assert bounded_mean([1.0] * 9, 0.0, float("inf")).method == "no spread"
    assert bounded_mean([1.0], 0.0, 1.0).low is None and bounded_mean([], 0.0, 1.0).value is None


def test_equal_columns_do_not_differ() -> None:
    found = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found.p_t == found.p_wilcoxon == 1.0
    assert found.d_z is None and found.rank_biserial is None
    assert found.difference == Estimate(0.0, 0.0, 0.0, 3, "no spread")


def test_a_constant_difference_has_no_t_test_but_is_seen() -> None:
    found = paired_difference([2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert found.p_t is None and found.d_z is None
    assert found.p_wilcoxon is not None and found.p_wilcoxon == pytest.approx(2 / 64)
    assert found.rank_biserial == 1.0


def test_rank_biserial_by_hand() -> None:
    # absolute ranks of 1, -2, 3, 4 are 1..4: (1 + 3 + 4 - 2) / 10
    assert rank_biserial([1.0, -2.0, 3.0, 4.0, 0.0]) == pytest.approx(0.6)


def test_wilson_interval_of_the_textbook() -> None:
    # Newcombe (1998), Statistics in Medicine 17: 81 of 263 gives 0.2553 .. 0.3662, 15 of 148 gives 0.0624 .. 0.1605
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = proportion_estimate(hits, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_no_hit_is_bounded_by_the_rule_of_three() -> None:
    for n in (30, 1000):
        found = proportion_estimate(0, n)
        assert found.value == found.low == 0.0
        assert found.high is not None and found.high <= 3 / n
        assert found.high == pytest.approx(3 / n, rel=0.06)
        assert (1 - found.high) ** n == pytest.approx(0.05)
        assert proportion_estimate(n, n).low == pytest.approx(1 - found.high)
    with pytest.raises(ValueError, match="5 hits of 4"):
        proportion_estimate(5, 4)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("method", ["t", "bca", "percentile"])
def test_intervals_of_the_mean_cover(method: str) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200 if method == "t" else 60):
        found = mean_estimate(rng.exponential(1.0, 60), method=method, resamples=300)
        assert found.low is not None and found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert covered >= (200 if method == "t" else 60) * 0.86


def test_resampling_is_keyed() -> None:
    sample = np.random.default_rng(1).normal(size=50)
    one, again = (mean_estimate(sample, method="bca", seed=3, resamples=200) for _ in range(2))
    assert one == again
    assert mean_estimate(sample, method="bca", seed=4, resamples=200) != one


def test_ratio_of_sums() -> None:
    rng = np.random.default_rng(2)
    bottom = rng.uniform(1, 10, 200)
    top = bottom * 0.8 + rng.normal(0, 0.3, 200)
    jackknife = ratio_estimate(top, bottom)
    boot = ratio_estimate(top, bottom, method="percentile", resamples=1000)
    assert jackknife.value == boot.value == pytest.approx(top.sum() / bottom.sum())
    assert jackknife.low is not None and jackknife.high is not None and boot.low is not None and boot.high is not None
    assert jackknife.low < 0.8 < jackknife.high
    assert boot.high - boot.low == pytest.approx(jackknife.high - jackknife.low, rel=0.15)
    assert ratio_estimate([1.0, 2.0], [2.0, 4.0]).method == "no spread"
    assert not ratio_estimate([1.0, -1.0], [0.0, 0.0]).known


def test_few_and_none() -> None:
    assert mean_estimate([]) == Estimate(None, None, None, 0, "t")
    assert mean_estimate([3.0]).low is None
    assert not proportion_estimate(0, 0).known
    with pytest.raises(ValueError, match="not finite"):
        mean_estimate([1.0, float("nan")])
    with pytest.raises(ValueError, match="no method"):
        mean_estimate([1.0, 2.0], method="guess")


def test_t_interval_is_scipys() -> None:
    sample = [1.0, 4.0, 2.5, 3.0]
    want = stats.t.interval(0.95, 3, loc=np.mean(sample), scale=stats.sem(sample))
    found = mean_estimate(sample)
    assert (found.low, found.high) == pytest.approx(want)


def test_pairs_of_several_rules_are_one_family() -> None:
    rng = np.random.default_rng(8)
    base = rng.normal(size=40)
    found = all_pairs({"a": base, "b": base + 0.5 + rng.normal(0, 0.1, 40), "c": base + rng.normal(0, 0.1, 40)})
    assert [(f.first, f.second) for f in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(f.p_holm is not None and f.p is not None and f.p_holm >= f.p for f in found)
    assert found[0].p_holm is not None and found[0].p_holm < 1e-6
    assert found[0].d_z is not None and found[0].d_z < -3


def test_scipy_is_loaded_late() -> None:
    code = "import sys, core.statistics; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("seed", range(6))
def test_signed_rank_test_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    untied = rng.normal(0.4, 1.0, 14)
    want = stats.wilcoxon(untied, method="exact").pvalue
    assert paired_difference(untied, np.zeros(14)).p_wilcoxon == pytest.approx(want, rel=1e-9)
    tied = rng.integers(-2, 4, 7).astype(float)  # with zeros and ties: every sign by enumeration
    if np.count_nonzero(tied):
        ranks = stats.rankdata(np.abs(tied))[tied != 0]
        signs = np.array(np.meshgrid(*[[0.0, 1.0]] * len(ranks))).reshape(len(ranks), -1)
        sums, at = ranks @ signs, ranks[tied[tied != 0] > 0].sum()
        want = min(1.0, 2 * min((sums <= at).mean(), (sums >= at).mean()))
        assert paired_difference(tied, np.zeros(7)).p_wilcoxon == pytest.approx(want, rel=1e-9)
    many = rng.normal(0.1, 1.0, 300)
    want = stats.wilcoxon(many, method="approx").pvalue
    assert paired_difference(many, np.zeros(300)).p_wilcoxon == pytest.approx(want, rel=1e-9)
