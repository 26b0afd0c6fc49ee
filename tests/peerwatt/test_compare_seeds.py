"""A comparison over seeds: intervals, paired tests, and what it says where seeds change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

import peerwatt
from core import RunError
from peerwatt.cli import main
from peerwatt.report.comparison import changes
from peerwatt.report.paired import reference_sentences
from peerwatt.report.uncertainty import enough_seeds, over_buildings
from peerwatt.seed_study import compare_over_seeds
from tests.peerwatt.districts import district, home, load, pv

HOMES = [home("a", load(), pv(9)), home("b", load("couple")), home("c", load("shift", 6)), home("d", load("shop", 5))]
RANDOM = district(*HOMES, strategies={"default": {"kind": "zi_c"}})


@pytest.mark.slow
def test_every_figure_has_its_interval_over_seeds(tmp_path: Path) -> None:
    study = compare_over_seeds(RANDOM, tmp_path / "out", rules=["uniform_price", "mid_market_rate"], seeds=7)
    assert study.seeds == (7, 8, 9, 10, 11, 12, 13)
    costs = np.array([
        [c.runs[c.names.index(arm)].summary["money"]["cost_u"] / 1e6 for arm in study.names] for c in study.comparisons
    ])  # fmt: skip
    figure = next(f for f in study.figures if f.kpi.key == "cost")
    traded = study.names.index("uniform price")
    estimate = figure.estimates[traded]
    column = costs[:, traded]
    half = float(t.ppf(0.975, 6)) * column.std(ddof=1) / np.sqrt(7)
    assert estimate.value == pytest.approx(column.mean())
    assert (estimate.low, estimate.high) == (pytest.approx(column.mean() - half), pytest.approx(column.mean() + half))
    pair = next(p for p in figure.pairs if {p.first, p.second} == {"uniform price", "mid market rate"})
    other = costs[:, study.names.index("mid market rate")]
    assert pair.p_t == pytest.approx(float(ttest_rel(column, other).pvalue))
    assert pair.d_z is not None and pair.p_holm is not None and pair.p_holm >= (pair.p or 0)
    assert figure.estimates[study.names.index("no market")].method == "no spread"
    told = json.loads((tmp_path / "out" / "seeds.json").read_text())
    assert told["seeds"] == list(study.seeds) and len(told["figures"]) == len(study.figures)
    assert study.page is not None and "Arms against each other" in study.page.read_text()


@pytest.mark.slow
def test_seeds_that_change_nothing_are_told_of(tmp_path: Path) -> None:
    study = compare_over_seeds(district(*HOMES), tmp_path / "out", rules=["uniform_price"], seeds=2, report=False)
    assert any("nothing in this scenario is drawn by seed" in s for s in study.sentences)
    assert study.page is None


@pytest.mark.slow
def test_too_few_seeds_for_the_tests_are_told(tmp_path: Path) -> None:
    study = compare_over_seeds(RANDOM, tmp_path / "out", rules=["uniform_price"], seeds=2, report=False)
    assert any("no paired test among" in s for s in study.sentences)
    assert (enough_seeds(1), enough_seeds(2), enough_seeds(12)) == (6, 7, 9)


def test_one_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no interval"):
        compare_over_seeds(RANDOM, tmp_path / "out", rules=["uniform_price"], seeds=1)


def test_buildings_are_their_own_controls(tmp_path: Path) -> None:
    comparison = peerwatt.compare(RANDOM, tmp_path / "out", rules=["uniform_price"])
    pairs = over_buildings(comparison.summaries, comparison.names)
    pair = next(p for p in pairs if {p.first, p.second} == {"no market", "uniform price"})
    base, run = (comparison.summaries[comparison.names.index(n)] for n in ("no market", "uniform price"))
    mean = float(np.mean(list(changes(run, base).values())))
    sign = 1 if pair.first == "uniform price" else -1
    assert pair.difference.value == pytest.approx(sign * mean) and pair.n == 4
    assert not any({p.first, p.second} == {"no market", "static key"} for p in pairs), "neither of them trades"
    assert comparison.page is not None
    page = comparison.page.read_text()
    assert "How sure the differences are" in page and "With 4 buildings no test among" in page
    told = reference_sentences(comparison.summaries, comparison.names)
    assert any("uniform price" in s and "too few buildings for a test" in s for s in told)


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    file = tmp_path / "zi.yaml"
    file.write_text(yaml.safe_dump(RANDOM))
    out = tmp_path / "out"
    assert main(["compare", str(file), "--rules", "pair_price", "--seeds", "2", "--out", str(out), "--quiet"]) == 0
    assert main(["compare", str(file), "--seeds", "2", "--out", str(out)]) == 2
    assert "--seeds repeats a comparison of rules" in capsys.readouterr().err
    assert (out / "seeds.html").is_file() and (out / "seed-8" / "comparison.html").is_file()
