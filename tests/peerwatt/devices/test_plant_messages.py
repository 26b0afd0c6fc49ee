"""What is wrong with a `plant` is said in words, with what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from core import ScenarioError
from peerwatt.scenario import load_scenario
from tests.peerwatt.devices.street20 import street


@pytest.mark.parametrize(
    ("plant", "says", "remedy"),
    [
        ({"covers": ["ev"]}, "'ev' is none of the choices for covers", "battery"),
        ({"covers": ["battery", "battery"]}, "names an asset twice", "name each once"),
        ({"scale": 0.0000001}, "scale", None),
        ({"kind": "real"}, "not named", "add `device`"),
        ({"kind": "real", "profile": "zero-latency", "device": "x"}, "clock of its own", "use profile: sunspec"),
        ({"kind": "real", "device": "x", "address": "tcp://a:1"}, "not written to", "use `device` alone"),
        ({"device": "bench-1", "covers": ["battery", "pv"]}, "not for both", "name one in `covers`"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(plant: dict[str, Any], says: str, remedy: str | None) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(street({"h02": plant}))
    text = str(caught.value)
    assert says in text, text
    assert remedy is None or remedy in text, text
    assert "change the values" not in text and "for 0" not in text


def test_the_smallest_scale_is_taken() -> None:
    assert load_scenario(street({"h02": {"scale": 0.000001}})) is not None
