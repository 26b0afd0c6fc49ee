"""Settings written to an emulated SunSpec inverter: it does what `steady_state` says, and gives the settings back."""

from dataclasses import replace

import numpy as np
import pytest

from controllers.inverter import inverter_columns, load_settings, standard_names, steady_state
from controllers.inverter.sunspec import curves_of, settings_with, switched_on
from core.errors import GridError
from hardware.sunspec.curves import CURVE_MODELS, DROOP, VOLT_VAR, VOLT_WATT, WATT_VAR, CurvePoints, write_curve
from tests.hardware.emulator.device_bench import Bench
from tests.hardware.sunspec.test_curves import Carrier

KVA, KW = 10.0, 9.5


def device_with(settings, on):
    """An emulated inverter of 9.5 kW and 10 kVA under a strong sun that holds the curves of ``settings``."""
    bench = Bench("inverter", rating_w=1000 * KW, rating_va=1000 * KVA, pv_w=20_000.0)
    carrier = Carrier(bench)
    for model, curve in curves_of(settings, kw_per_kva=KW / KVA).items():
        carrier.run(write_curve(carrier.model(model), curve, enable=model in on))
    return bench, carrier


@pytest.mark.parametrize("priority", ["var", "watt"])
@pytest.mark.parametrize("name", ["ieee1547-2018-a", "ieee1547-2018-b", "as4777.2-2020-a"])
def test_the_emulated_inverter_does_what_the_steady_state_says(name, priority):
    """Volt-var, volt-watt and droop together, at voltages along the curves, with much and with little sun."""
    overrides = {"reactive": "volt_var", "priority": priority, "volt_watt_on": True, "v_active": "mean"}
    # Without droop: the emulator knows model 711, which cannot say what AS/NZS 4777.2 asks for. And capability wide
    # open: what the device can do is not in the curve models.
    wide = {"inject": {"x": [0.0], "y": [1.0]}, "absorb": {"x": [0.0], "y": [1.0]}, "kept_inject": 0, "kept_absorb": 0}
    settings = load_settings(name, overrides | {"capability": wide, "freq_watt_on": False})
    settings = replace(settings, freq_watt=None)
    columns = inverter_columns([settings], rating_kva=[KVA], rating_kw=[KW])
    bench, _ = device_with(settings, {VOLT_VAR, VOLT_WATT})
    for sun in (1.0, 0.2):
        bench.around.irradiance = sun
        for v in (0.88, 0.91, 0.95, 0.99, 1.0, 1.03, 1.055, 1.07, 1.09, 1.1):
            bench.around.v_pu = (v, v, v)
            bench.wait(1.0)
            bench.wait(1.0)
            available = np.array([[bench.device.physics.available_w / 1000.0]])
            state = steady_state(columns, np.array([[v]]), 50.0, available)
            # Registers hold curves in tenths of a per cent and watts: 0.1 % of the voltage is 0.2 kW of a steep curve.
            assert bench.get("701.W") / 1000 == pytest.approx(-state.p_kw[0, 0], abs=0.3), v
            assert bench.get("701.Var") / 1000 == pytest.approx(-state.q_kvar[0, 0], abs=0.12), v


def test_every_standard_that_can_be_said_comes_back():
    for name in standard_names():
        if load_settings(name).freq_watt.base_over == "momentary":
            with pytest.raises(GridError, match="momentary"):
                curves_of(load_settings(name))
        settings = load_settings(name, {"freq_watt": {"base_over": "rated", "base_under": "rated"}})
        given = curves_of(settings, kw_per_kva=0.95)
        bench = Bench("inverter", rating_w=1000 * KW, rating_va=1000 * KVA)
        carrier = Carrier(bench)
        on = {VOLT_VAR: settings.reactive == "volt_var", VOLT_WATT: settings.volt_watt_on, DROOP: settings.freq_watt_on}
        for model, curve in given.items():
            carrier.run(write_curve(carrier.model(model), curve, enable=on.get(model, False)))
        held = {model: carrier.model(model) for model in given}
        back = settings_with(
            settings,
            {model: one.active for model, one in held.items()},
            {model: one.enabled for model, one in held.items()},
            kw_per_kva=KW / KVA,
        )
        assert (back.reactive, back.volt_watt_on, back.freq_watt_on) == (
            settings.reactive, settings.volt_watt_on, settings.freq_watt_on,
        )  # fmt: skip
        for field in ("volt_var", "watt_var"):
            if (wanted := getattr(settings, field)) is not None:
                got = getattr(back, field)
                # Registers hold tenths of a per cent; voltages of this device too.
                np.testing.assert_allclose(got.x, wanted.x, atol=6e-4)
                np.testing.assert_allclose(got.y, wanted.y, atol=6e-4)
        droop, wanted = back.freq_watt, settings.freq_watt
        assert droop.dead_over_hz == pytest.approx(wanted.dead_over_hz, abs=6e-4)
        assert droop.slope_over_per_hz == pytest.approx(wanted.slope_over_per_hz, rel=0.02)
        assert droop.slope_under_per_hz == pytest.approx(wanted.slope_under_per_hz, rel=0.02)
        assert droop.lifts_limit == wanted.lifts_limit


def test_bases_of_a_foreign_curve():
    settings = load_settings("ieee1547-2018-b")
    points = ((92.0, 100.0), (108.0, -100.0))
    for reference, base in (("VA_MAX_PCT", 1.0), ("W_MAX_PCT", 0.9), ("VAR_MAX_PCT", 0.44)):
        curve = CurvePoints(points=points, reference=reference, v_ref=102.0, priority="ACTIVE")
        back = settings_with(settings, {VOLT_VAR: curve}, {VOLT_VAR: True}, kw_per_kva=0.9, var_max_per_kva=0.44)
        assert back.reactive == "volt_var" and back.priority == "watt"
        assert back.volt_var.y == pytest.approx((base, -base))
        assert back.volt_var.x == pytest.approx((0.94, 1.1))
    with pytest.raises(GridError, match="VAR_AVAL_PCT"):
        settings_with(settings, {VOLT_VAR: CurvePoints(points=points, reference="VAR_AVAL_PCT")}, {})
    both = {model: CurvePoints(points=points, reference="VA_MAX_PCT") for model in CURVE_MODELS}
    with pytest.raises(GridError, match="at once"):
        settings_with(settings, both, {VOLT_VAR: True, WATT_VAR: True})
    assert settings_with(settings, both, {}).reactive == "fixed_pf"


def test_what_is_switched_on_is_what_the_settings_say() -> None:
    settings = load_settings("ieee1547-2018-b", {"reactive": "volt_var"})
    on = switched_on(settings)
    assert set(on) == set(curves_of(settings)) and on[705] and not on[712]
    assert settings_with(settings, curves_of(settings), on).reactive == "volt_var"
