"""From a scenario to a live market: numbers of members, prices, terms, and what is refused with place and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from core import ScenarioError
from market.engine.commands import AgreeStanding, Join, SetTerms
from market.engine.config import EngineConfig, rule_of
from peerwatt.live.genesis import Roll, check_servable, engine_config, first_terms, joins, slot_prices, spans
from peerwatt.prepare import prepare
from peerwatt.scenario import LoadedScenario, load_scenario
from peerwatt.system import System
from tests.peerwatt.districts import BATTERY, PROFILES, district, flat, home, load, pv, with_rule


def ready(scenario: Mapping[str, Any]) -> tuple[LoadedScenario, System]:
    loaded = load_scenario(scenario)
    return loaded, prepare(loaded)


def neighbours(**more: Any) -> dict[str, Any]:
    """Listed against the order of ids, under two contracts, with terms and a standing contract."""
    tou = {"terms": [{"retail": {"default_per_kwh": 0.2, "bands": [{"start": "06:00", "end": "22:00",
           "price_per_kwh": 0.3}]}, "feed_in": {"flat_per_kwh": 0.07}}]}  # fmt: skip
    return district(
        home("z-last", load(), pv(9), BATTERY, terms={"floor_per_kwh": 0.11}),
        home("a-first", load(), contract="tou", terms={"opt_out": [{"start": "10:00", "end": "12:00"}]}),
        home("m-middle", load(), membership={"joins": "2016-05-25T06:00"}),
        contracts={"default": flat(), "tou": tou},
        standing_contracts=[{"id": "gift", "seller": "z-last", "buyer": "a-first", "share": 0.25, "price_per_kwh": 0}],
        **more,
    )


def test_members_are_numbered_by_the_order_of_their_ids() -> None:
    _, system = ready(neighbours())
    found = [c for c in joins(system) if isinstance(c, Join)]
    assert [(j.participant_id, j.from_slot, j.modelled) for j in found] == [
        ("a-first", 0, True), ("m-middle", 24, True), ("z-last", 0, True)]  # fmt: skip
    assert [j.contract for j in found] == [1, 0, 0]
    assert system.id_rank.tolist() == [2, 0, 1]


def test_a_roll_knows_who_is_which_building_now() -> None:
    _, system = ready(neighbours())
    roll = Roll.of(system, {"z-last": 2, "a-first": 7}.get)
    assert roll.member_of == (2, 7, -1), "m-middle was erased, somebody else moved into a-first"
    assert roll.pairs == [(2, 0), (7, 1)]


def test_own_terms_and_standing_contracts_come_along() -> None:
    _, system = ready(neighbours())
    commands = first_terms(system, Roll(tuple(system.id_rank.tolist())))
    terms = {c.member: c for c in commands if isinstance(c, SetTerms)}
    assert sorted(terms) == [0, 2]
    assert terms[2].floor_u == 110_000 and terms[2].ceiling_u is None
    assert terms[0].opted_out == ((40, 48),)
    (gift,) = (c for c in commands if isinstance(c, AgreeStanding))
    assert (gift.seller, gift.buyer, gift.share_ppm, gift.first_slot, gift.end_slot) == (2, 0, 250_000, 0, 96)


def test_prices_are_the_contracts_of_the_slot() -> None:
    _, system = ready(neighbours())
    prices = slot_prices(system)
    night, day = prices(0), prices(40)
    assert [row[:2] for row in night.contracts] == [(320_000, 80_000), (200_000, 70_000)]
    assert [row[:2] for row in day.contracts] == [(320_000, 80_000), (300_000, 70_000)]
    assert night.imbalance_u is None and night.loss_u == 0
    with pytest.raises(Exception, match="no slot 96"):
        prices(96)


def test_the_market_has_the_last_stages_rule_and_the_scenarios_slots() -> None:
    loaded, system = ready(
        with_rule(neighbours(settlement={"residuals": "netted", "tolerance_percent": 2.5}), "pair_price")
    )
    config = engine_config(loaded, system)
    assert isinstance(config, EngineConfig)
    assert rule_of(config.markets[0]).name == "pair_price"
    assert (config.slot_s, config.n_slots, config.residuals) == (900, 96, "netted")
    assert config.tolerance_micro_percent == 2_500_000
    assert config.start_us == 1464127200 * 1_000_000  # 2016-05-25 00:00 in Berlin


def test_spans_of_a_column() -> None:
    assert spans(np.array([1, 1, 0, 1, 0, 0, 1], np.bool_)) == ((0, 2), (3, 4), (6, 7))
    assert spans(np.zeros(3, np.bool_)) == ()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stages": (
        district(home("a", load()), market={"stages": [
            {"name": "ahead", "gate": {"minutes_before": 60}}, {"name": "spot"}]}),
        "market.stages",
    ),
    "rounds": (
        district(home("a", load()), market={"stages": [
            {"rule": "continuous_double_auction", "rounds": 3, "opens": {"minutes_before": 60}}]}),
        "rounds",
    ),
    "gate": (district(home("a", load()), market={"stages": [{"gate": {"minutes_before": 15}}]}), "gate"),
    "coarse meters": (district(home("a", load(), metering_minutes=60)), "metering_minutes"),
    "levels": (
        district(home("a", load()), home("b", load()), market={"levels": [
            {"name": "street", "by": "groups", "groups": {"s": ["a", "b"]}}, {"name": "all"}]}),
        "market.levels",
    ),
    "names": (
        with_rule(district(home("a", load()), home("b", pv())), "preference_price",
                  preferences={"*": {"agent": {"b": 20_000}}}),
        "parameters.preferences",
    ),
    "classes": (
        district(home("a", load(), energy_class="sun"), profiles=PROFILES),
        "energy_class",
    ),
    "outages": (
        district(home("a", load()), outages=[{"at": "2016-05-25T10:00", "minutes": 60}]),
        "outages",
    ),
    "drawn outages": (
        district(home("a", load()), drawn_outages={"per_year": 300, "mean_minutes": 60}),
        "drawn_outages",
    ),
    "island": (district(home("a", load(), BATTERY), microgrid={"forming": "a"}), "microgrid"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_served_yet_is_refused_with_its_place_and_a_way_out(what: str) -> None:
    scenario, place = REFUSED[what]
    loaded, system = ready(scenario)
    with pytest.raises(ScenarioError) as caught:
        check_servable(loaded, system)
    assert place in str(caught.value.path)
    assert caught.value.remedy


def test_an_ordinary_district_is_servable() -> None:
    check_servable(*ready(neighbours()))
