"""Curves of a device held against wanted ones: rounding is no difference, anything that matters is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.inverter import load_settings, standard_names
from controllers.inverter.device_curves import Bases, Held, differences, wanted_of
from hardware.sunspec.curves import DROOP, VOLT_VAR, CurvePoints, DroopNumbers, Stored
from tests.effort import effort

BASES = Bases(kw_per_kva=10.0 / 11.0, var_max_per_kva=0.44)
ON = {"volt_watt_on": True}


def rounded(curve: Stored, digits: int) -> Stored:
    if isinstance(curve, DroopNumbers):
        return replace(curve, over_k=round(curve.over_k, 3), under_k=round(curve.under_k, 3))
    return replace(curve, points=tuple((round(x, digits), round(y, digits)) for x, y in curve.points))


@pytest.mark.parametrize("name", standard_names())
@pytest.mark.parametrize("digits", [1, 2])
def test_what_registers_round_away_is_no_difference(name: str, digits: int) -> None:
    for function in ("volt_var", "watt_var"):
        base = load_settings(name)
        if getattr(base, function) is None or base.volt_watt is None:
            continue
        wanted, _ = wanted_of(load_settings(name, {"reactive": function, **ON}), BASES)
        held = {
            model: Held(one.on, None if one.curve is None else rounded(one.curve, digits))
            for model, one in wanted.items()
        }
        assert any(one.curve is not None for one in wanted.values())
        assert differences(held, wanted, BASES) == {}


def test_percent_of_var_and_of_va_are_the_same_curve_in_other_words() -> None:
    wanted, _ = wanted_of(load_settings("ieee1547-2018-b", {"reactive": "volt_var"}), BASES)
    in_var = CurvePoints(
        points=((92.0, 100.0), (98.0, 0.0), (102.0, 0.0), (108.0, -100.0)),
        reference="VAR_MAX_PCT",
        priority="REACTIVE",
        response_s=5.0,
    )
    held = {**wanted, VOLT_VAR: Held(True, in_var)}
    assert differences(held, wanted, BASES) == {}
    shifted = replace(in_var, points=tuple((x - 2.0, y) for x, y in in_var.points), v_ref=102.0)
    assert differences({**held, VOLT_VAR: Held(True, shifted)}, wanted, BASES) == {}
    (text,) = differences({**held, VOLT_VAR: Held(True, in_var)}, wanted, Bases())[VOLT_VAR]
    assert "VAR_MAX_PCT cannot be taken over" in text


@pytest.mark.slow
@settings(max_examples=effort(200, everyday=40), deadline=None)
@given(
    at=st.integers(0, 3),
    by=st.floats(0.5, 30.0),
    up=st.booleans(),
    axis=st.sampled_from(["x", "y"]),
)
def test_a_point_that_is_moved_is_a_difference(at: int, by: float, up: bool, axis: str) -> None:
    wanted, _ = wanted_of(load_settings("ieee1547-2018-b", {"reactive": "volt_var"}), BASES)
    curve = wanted[VOLT_VAR].curve
    assert isinstance(curve, CurvePoints)
    sign = 1.0 if up else -1.0
    points = list(curve.points)
    x, y = points[at]
    points[at] = (x + sign * min(by, 1.9), y) if axis == "x" else (x, y + sign * by)
    moved = {**wanted, VOLT_VAR: Held(True, replace(curve, points=tuple(points)))}
    (text,) = differences(moved, wanted, BASES)[VOLT_VAR]
    assert text.startswith("at ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"over_band_hz": 0.05}, "dead band above is 0.05 Hz, should be 0.036 Hz"),
        ({"under_band_hz": 0.1}, "dead band below is 0.1 Hz, should be 0.036 Hz"),
        ({"over_k": 0.04}, "k above is 0.04, should be 0.05"),
        ({"under_k": 0.06}, "k below is 0.06, should be 0.05"),
        ({"response_s": 1.0}, "response is 1 s, should be 5 s"),
    ],
)
def test_each_number_of_a_droop_counts(change: dict[str, float], words: str) -> None:
    wanted, _ = wanted_of(load_settings("ieee1547-2018-b"), BASES)
    droop = wanted[DROOP].curve
    assert isinstance(droop, DroopNumbers)
    held = {**wanted, DROOP: Held(True, replace(droop, **change))}
    assert differences(held, wanted, BASES) == {DROOP: (words,)}


def test_switches_and_models_that_are_not_there_count() -> None:
    wanted, _ = wanted_of(load_settings("ieee1547-2018-b", {"reactive": "volt_var"}), BASES)
    held = {model: replace(one, on=not one.on) for model, one in wanted.items()}
    del held[VOLT_VAR]
    found = differences(held, wanted, BASES)
    assert found[VOLT_VAR] == ("should be on, and the device has no model 705",)
    assert found[DROOP] == ("is off, should be on",) and found[712] == ("is on, should be off",)


def test_what_the_models_cannot_say_is_told_and_left() -> None:
    wanted, notes = wanted_of(load_settings("vde-ar-n-4105-2018", {"reactive": "pf_of_p"}), BASES)
    assert DROOP not in wanted and len(notes) == 2
    assert any(note.startswith("pf_of_p has no curve model") for note in notes)
    assert any("momentary power" in note for note in notes)
