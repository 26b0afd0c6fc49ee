"""A week of the shipped semi-urban district under every rule that clears slots: the laws hold, and it takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from market.registry import make_rule
from peerwatt.clocks import Stopwatch
from tests.peerwatt.districts import assert_verified, plane
from tests.peerwatt.rule_cases import CANNOT, ONE_PER_RULE, Case, names

pytestmark = pytest.mark.slow

ONE_CONTRACT = {
    "terms": [
        {
            "retail": {"flat_per_kwh": 0.20},
            "feed_in": {"flat_per_kwh": 0.08},
            "network": {"full_per_kwh": 0.08, "local_per_kwh": 0.04},
            "levies_per_kwh": {"electricity_tax": 0.0205},
            "vat_percent": 19,
        }
    ]
}
ONE_TARIFF = {"supply_demand_ratio", "shapley", "proportional"}
"""Rules that refuse the district's own three contracts, since they are defined for one retail and one feed-in price."""
GIVES_UP = {"no_market", "huang", "muda", "lindistflow", "operating_envelopes"}
"""Rules that leave trades undone that would pay: by design, or because of the wires. The others trade all of them."""
MOST_SECONDS = 60


def week(rule: str, parameters: dict[str, Any], out: Path, *, one_tariff: bool) -> peerwatt.Run:
    overrides: dict[str, Any] = {
        "time.start": "2016-06-06",
        "time.days": 7,
        "outputs.statements": False,
        "market.stages": [{"rule": rule, "parameters": parameters}],
    }
    if one_tariff:
        overrides |= {f"contracts.{name}": ONE_CONTRACT for name in ("default", "time-of-use", "heat-pump")}
    return peerwatt.run("semiurban", out, overrides=overrides, report=False)


@pytest.mark.parametrize("case", ONE_PER_RULE, ids=names)
def test_a_week_under_every_rule(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule, parameters = case
    watch = Stopwatch()
    run = week(rule, parameters, tmp_path / "run", one_tariff=rule in ONE_TARIFF)
    seconds = watch.elapsed_s()
    with capsys.disabled():
        sys.stdout.write(f"\n{rule}: {seconds:.1f} s for a week of semiurban\n")
    assert seconds < MOST_SECONDS
    assert_verified(run)
    net = plane(run, "import_wh") - plane(run, "export_wh")
    matched = np.minimum(np.maximum(net, 0).sum(axis=1), np.maximum(-net, 0).sum(axis=1))
    local = run.table("slots").local_wh.to_numpy()
    assert run.static.n_slots == 672 and (local <= matched).all()
    assert (local.sum() == 0) == (rule == "no_market")
    if rule not in GIVES_UP:
        assert (local == matched).all()
    if make_rule(rule, parameters).declares.ir:
        saved = run.table("bills").set_index("building").saving_u.drop("community-battery")
        assert saved.min() >= -672  # a micro of rounding per slot


@pytest.mark.parametrize("rule", [*CANNOT, *sorted(ONE_TARIFF)])
def test_rules_that_cannot_take_the_district_as_it_is_say_why(rule: str, tmp_path: Path) -> None:
    with pytest.raises(peerwatt.PeerwattError, match=CANNOT.get(rule, "one retail and one feed-in price")) as refused:
        week(rule, {}, tmp_path / "run", one_tariff=False)
    assert refused.value.remedy
