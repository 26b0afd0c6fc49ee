"""Runs under rules that look at the network (market-rules 2.18, 2.20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerwatt
from core import GridError, MarketError, PeerwattError
from tests.peerwatt.districts import (
    assert_same_tables,
    assert_verified,
    district,
    everything,
    home,
    load,
    plane,
    pv,
    with_rule,
)


def run(scenario: Any, out: Path, **more: Any) -> peerwatt.Run:
    return peerwatt.run(scenario, out, overwrite=True, report=False, **more)


def tight(scenario: dict[str, Any], **network: Any) -> dict[str, Any]:
    return {**scenario, "network": {**scenario["network"], **network}}


def account(found: peerwatt.Run, name: str) -> np.ndarray:
    table = found.table("ledger")
    return table[table.account == name].contract_u.to_numpy()


def test_a_day_without_congestion_is_that_of_the_uniform_price(tmp_path: Path) -> None:
    plain = everything(1)
    one = run(plain, tmp_path / "uniform")
    other = run(with_rule(plain, "lindistflow", tie_break="prorata"), tmp_path / "nodal")
    assert_verified(other)
    here, there = other.table("slots"), one.table("slots")
    assert here.local_wh.sum() > 10_000
    assert here.local_wh.equals(there.local_wh)
    traded = there.local_wh > 0
    half = everything(1)["market"]["stages"][0]["parameters"]["k"]
    assert half == "1/3"  # of the uniform price; nodal prices take the middle
    low_and_high = here.price_per_kwh[traded] - there.price_per_kwh[traded]
    assert (low_and_high >= -1e-9).all()
    assert (low_and_high.abs() < 1e-9).mean() > 0.5  # where the price is the only one


def test_congestion_rents_go_to_the_network_and_the_ledger_holds(tmp_path: Path) -> None:
    scenario = tight(with_rule(everything(1), "lindistflow", tie_break="random"), loading_max=0.005)
    found = run(scenario, tmp_path / "tight")
    assert_verified(found)
    rent = account(found, "network")
    assert (rent >= -1).all() and rent.sum() > 10_000  # -1: each side's total is rounded on its own
    assert not account(found, "operator").any()
    wide = run(with_rule(everything(1), "lindistflow", tie_break="random"), tmp_path / "wide")
    assert found.table("slots").local_wh.sum() < wide.table("slots").local_wh.sum()
    again = run(scenario, tmp_path / "again", threads=2)
    assert_same_tables(found, again)


@pytest.mark.parametrize("parameters", [{}, {"losses": "quadratic", "repair": True}])
def test_with_the_retailer_in_the_book_the_rule_trades_with_the_grid(
    tmp_path: Path, parameters: dict[str, Any]
) -> None:
    scenario = with_rule(everything(1, one_contract=True), "lindistflow", **parameters)
    scenario["market"]["backstop"] = "in_book"
    found = run(scenario, tmp_path / "run")
    assert_verified(found)
    contracted, residual = (np.abs(plane(found, c, "ledger")).sum() for c in ("contract_u", "residual_u"))
    rent = account(found, "network")
    assert (rent >= -2).all()
    if parameters:  # losses make the grid's energy dearer than the members' own retail price: they trade less
        assert rent.sum() > 1000  # what the market pays for losses goes to the network, which buys them
    else:
        assert contracted > residual  # most energy is contracted, with neighbours or the retailer
        assert abs(rent).sum() < 100


def test_windows_do_not_matter(tmp_path: Path) -> None:
    from tests.peerwatt.test_run_windows import assert_equal, drive

    scenario = tight(with_rule(everything(1, one_contract=True), "lindistflow"), loading_max=0.005, v_min_pu=0.985)
    scenario["market"]["backstop"] = "in_book"
    whole, _ = drive(scenario, 96)
    for length in (4, 28):
        assert_equal(whole, drive(scenario, length)[0])


@pytest.mark.parametrize("inner", ["uniform_price", "lindistflow"])
@pytest.mark.slow
def test_operating_envelopes_hold_back_what_the_network_cannot_carry(tmp_path: Path, inner: str) -> None:
    rule = with_rule(everything(1), "operating_envelopes", inner=inner)
    free = run(rule, tmp_path / "free")
    found = run(tight(rule, loading_max=0.005), tmp_path / "held")
    assert_verified(found)
    assert 0 < found.table("slots").local_wh.sum() < free.table("slots").local_wh.sum()


def test_without_a_network_the_reason_is_given(tmp_path: Path) -> None:
    scenario = with_rule(district(home("a", load()), home("b", pv())), "lindistflow")
    with pytest.raises(MarketError, match="looks at the network, but the scenario has none"):
        run(scenario, tmp_path / "run")


def test_a_meshed_network_is_refused(tmp_path: Path) -> None:
    import pandapower as pp

    net = pp.create_empty_network()
    buses = [pp.create_bus(net, 0.4, name=f"b{i}") for i in range(3)]
    pp.create_ext_grid(net, buses[0])
    for a, b in ((0, 1), (1, 2), (2, 0)):
        pp.create_line_from_parameters(net, buses[a], buses[b], 0.1, 0.2, 0.1, 0.0, 0.2)
    pp.to_json(net, str(tmp_path / "ring.json"))
    scenario = district(
        home("a", load(), bus="b1"), home("b", pv(), bus="b2"), power_flow="batch",
        network={"source": f"pandapower:{tmp_path / 'ring.json'}"},
    )  # fmt: skip
    with pytest.raises(PeerwattError, match="loop") as refused:
        run(with_rule(scenario, "lindistflow"), tmp_path / "run")
    assert isinstance(refused.value, GridError)
