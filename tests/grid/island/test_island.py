"""The island's physics against closed forms, against an independent integrator, and against its own energy balance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import GridError
from grid.island import kernel as k
from grid.island.spec import IslandSpec, LoadSpec, SourceSpec, SwitchSpec
from grid.island.world import IslandWorld, Told
from tests.effort import effort

BATTERY = SourceSpec("b1", 30.0, charge_kw=30.0, capacity_kwh=60.0, droop_hz_per_kw=1 / 30, droop_pu_per_kvar=0.002)
STIFF = LoadSpec("l1", 1, 12.0, tan_phi=0.3, exponent=0.0, per_hz=0.0)
DARK = SwitchSpec(closed=False)


def islanded(*sources: SourceSpec, loads: tuple[LoadSpec, ...] = (STIFF,), loss: float = 0.0) -> IslandWorld:
    """A world that is an island with every source that can form forming, settled."""
    world = IslandWorld(IslandSpec(sources, loads, DARK, loss_share=loss))
    for source in sources:
        if source.can_form:
            world.tell("form", source.id, 50.0)
    world.run(5.0)
    return world


def names(world: IslandWorld) -> list[str]:
    return [e.what for e in world.events]


def test_droop_shares_power_and_sets_frequency_as_in_closed_form() -> None:
    a, b = BATTERY, replace(BATTERY, id="b2", rating_kw=15.0, droop_hz_per_kw=1 / 15)
    world = islanded(a, b, loads=(STIFF, replace(STIFF, id="l2", p_kw=6.0)), loss=0.03)
    power = 18.0 * 1.03
    gain = 1 / a.droop_hz_per_kw + 1 / b.droop_hz_per_kw
    assert world.bus[k.B_F] == pytest.approx(50.0 - power / gain, abs=1e-9)
    assert world.sources[:, k.S_PE] == pytest.approx(power * np.array([30.0, 15.0]) / gain, abs=1e-7)
    q = 18.0 * 0.3
    assert world.bus[k.B_V] == pytest.approx(1.0 - q / (2 / 0.002), abs=1e-9)
    assert world.sources[:, k.S_QE].sum() == pytest.approx(q, abs=1e-6)


def test_loads_follow_voltage_and_frequency() -> None:
    load = replace(STIFF, exponent=1.7, per_hz=0.02)
    world = islanded(replace(BATTERY, droop_pu_per_kvar=0.01), loads=(load,))
    v, f = world.bus[k.B_V], world.bus[k.B_F]
    assert v < 0.97 and f < 49.7
    assert world.bus[k.B_LOAD] == pytest.approx(12.0 * v**1.7 * (1.0 + 0.02 * (f - 50.0)), rel=1e-9)


@pytest.mark.parametrize("step_kw", [3.0, 9.0, -8.0])
def test_the_transition_is_the_swing_equation(step_kw: float) -> None:
    from scipy.integrate import solve_ivp

    diesel = SourceSpec("d", 40.0, rotating=True, inertia_s=1.5, lag_s=0.3, droop_hz_per_kw=0.05)
    world = islanded(diesel, replace(BATTERY, inertia_s=0.6, lag_s=0.04, frequency_s=9.0))
    start = [world.bus[k.B_F], *world.sources[:, k.S_PM]]
    mass = (2 * 1.5 * 40.0 + 2 * 0.6 * 30.0) / 50.0
    world.tell("demand", "l1", 12.0 + step_kw)

    def law(t: float, y: np.ndarray) -> list[float]:
        f, p1, p2 = y
        return [(p1 + p2 - 12.0 - step_kw) / mass, ((50.0 - f) / 0.05 - p1) / 0.3, ((50.0 - f) * 30.0 - p2) / 0.04]

    exact = solve_ivp(law, (0.0, 3.0), start, rtol=1e-10, atol=1e-12, dense_output=True).sol
    f, worst = [], 0.0
    for n in range(1, 301):
        world.run(5.0 + n / 100.0)
        f.append(world.bus[k.B_F])
        worst = max(worst, abs(f[-1] - exact(n / 100.0)[0]))
    fine = exact(np.linspace(0.0, 3.0, 30001))[0]
    extreme = np.min if step_kw > 0 else np.max
    assert abs(extreme(f) - extreme(fine)) < 2e-3
    assert worst < 0.002 * abs(step_kw) ** 1.0 + 1e-4
    assert abs(extreme(fine) - fine[-1]) > 10 * abs(extreme(f) - extreme(fine)), (
        "there is an overshoot to be right about"
    )


def test_the_first_slope_is_power_over_mass() -> None:
    world = islanded(BATTERY)
    world.tell("demand", "l1", 17.0)
    world.run(5.001)
    assert world.bus[k.B_DFDT] == pytest.approx(-5.0 / (2 * 1.0 * 30.0 / 50.0), rel=1e-6)


@given(
    seed=st.integers(0, 10**6),
    acts=st.lists(
        st.tuples(
            st.floats(0.0, 6.0),
            st.sampled_from(
                [
                    ("open", "switch", None),
                    ("close", "switch", None),
                    ("form", "b1", 50.1),
                    ("follow", "b1", -5.0),
                    ("power", "b2", 9.0),
                    ("form", "b2", 49.9),
                    ("voltage", "grid", 0.0),
                    ("voltage", "grid", 1.02),
                    ("shed", "l1", None),
                    ("restore", "l1", None),
                    ("demand", "l2", 50.0),
                    ("demand", "l2", 1.0),
                    ("trip", "b2", None),
                    ("available", "pv", 3.0),
                    ("start", "b1", None),
                    ("halt", "b1", None),
                ]
            ),
        ),
        max_size=12,
    ),
)
@settings(max_examples=effort(60, everyday=12), deadline=None)
def test_energy_is_balanced_whatever_happens_and_however_time_is_cut(
    seed: int, acts: list[tuple[float, tuple[str, str, float | None]]]
) -> None:
    spec = IslandSpec(
        (
            BATTERY,
            replace(BATTERY, id="b2", rating_kw=15.0, charge_kw=15.0),
            SourceSpec("pv", 10.0, can_form=False, available_kw=8.0),
        ),
        (STIFF, LoadSpec("l2", 2, 9.0, inrush=2.0)),
    )
    whole, cut = IslandWorld(spec, seed), IslandWorld(spec, seed)
    for world in (whole, cut):
        world.tell("power", "pv", -10.0)
        for t, act in acts:
            world.later(t, *act)
    whole.run(7.0)
    for n in range(1, 71):
        cut.run(n / 10.0)
    assert (
        np.array_equal(whole.bus, cut.bus) and np.array_equal(whole.sources, cut.sources) and whole.events == cut.events
    )
    b = whole.bus
    assert b[k.B_E_SOURCES] + b[k.B_E_EXCHANGE] == pytest.approx(b[k.B_E_LOAD] + b[k.B_E_LOSS], abs=1e-9)
    assert b[k.B_E_LOAD] == pytest.approx(whole.loads[:, k.L_ENERGY].sum(), abs=1e-9)
    assert np.all(np.isfinite(b[: k.B_FMIN])) and np.all(np.isfinite(whole.sources[:, k.S_PM :]))


def test_what_a_battery_gives_costs_more_than_it_gives() -> None:
    world = islanded(BATTERY)
    before = world.sources[0, k.S_ENERGY]
    world.run(65.0)
    assert before - world.sources[0, k.S_ENERGY] == pytest.approx(12.0 / 60.0 / 0.96, rel=1e-6)


def test_too_much_load_for_too_long_is_a_blackout_and_shed_in_time_it_is_not() -> None:
    loads = (STIFF, LoadSpec("l2", 2, 40.0))
    for shed_s, dark in ((5.3, False), (9.0, True)):
        world = islanded(BATTERY, loads=(STIFF, replace(loads[1], on=False)))
        world.tell("restore", "l2")
        world.later(shed_s, "shed", "l2")
        world.run(20.0)
        assert bool(world.bus[k.B_LIVE] == 0.0) is dark
        assert ("tripped" in names(world)) is dark
    assert "black" in names(world)


def test_frequency_trips_after_its_time_only() -> None:
    weak = SourceSpec("d", 20.0, rotating=True, droop_hz_per_kw=0.2, under_hz=47.5, frequency_s=0.5, overload=2.0)
    world = islanded(weak, loads=(replace(STIFF, p_kw=10.0),))
    world.tell("demand", "l1", 14.0)  # 47.2 Hz by droop
    world.run(9.0)
    trip = next(e for e in world.events if e.what == "tripped")
    assert int(trip.value) == k.TRIP_F and 5.5 <= trip.t_s < 6.5
    world = islanded(weak, loads=(replace(STIFF, p_kw=10.0),))
    world.tell("demand", "l1", 14.0)
    world.later(5.4, "demand", "l1", 10.0)
    world.run(9.0)
    assert "tripped" not in names(world)


def test_a_surplus_is_cut_by_the_sources_own_frequency_response() -> None:
    pv = SourceSpec("pv", 25.0, can_form=False, available_kw=25.0, lag_s=0.1, frequency_s=0.3)
    small = replace(BATTERY, rating_kw=10.0, charge_kw=5.0, droop_hz_per_kw=0.05, overload_s=9.0, frequency_s=2.0)
    world = islanded(small, pv, loads=(replace(STIFF, p_kw=10.0),))
    world.tell("power", "pv", -25.0)
    world.run(15.0)
    f = world.bus[k.B_F]
    assert 50.2 < f < 51.5
    assert world.sources[1, k.S_PE] == pytest.approx(25.0 * (1.0 - 0.4 * (f - 50.2)), rel=1e-3)
    assert world.sources[0, k.S_PE] == pytest.approx(-5.0, rel=1e-3)


def test_the_angle_turns_with_the_slip_and_a_closing_surges_with_it() -> None:
    world = islanded(BATTERY)
    world.tell("frequency", "grid", float(world.bus[k.B_F]) - 0.1)
    world.tell("angle", "grid", 0.0)
    world.run(6.0)
    assert world.bus[k.B_ANGLE] == pytest.approx(36.0, abs=0.05)
    for angle, tripped in ((10.0, False), (120.0, True)):
        world = islanded(BATTERY)
        v = float(world.bus[k.B_V])
        world.tell("frequency", "grid", float(world.bus[k.B_F]))
        world.tell("voltage", "grid", v)
        world.tell("angle", "grid", angle)
        world.tell("close", "switch")
        world.run(6.0)
        closed = next(e for e in world.events if e.what == "closed")
        assert closed.value == pytest.approx(2 * v * math.sin(math.radians(angle) / 2) / 0.2, rel=1e-6)
        assert ("tripped" in names(world)) is tripped


def test_swapped_phases_surge_even_when_the_measured_angle_is_right() -> None:
    world = islanded(BATTERY)
    world.tell("phases", "grid", 0.0)
    world.tell("angle", "grid", 0.0)
    world.tell("close", "switch")
    world.run(6.0)
    assert next(e for e in world.events if e.what == "closed").value > math.sqrt(3.0) / 0.2 - 1e-9
    assert "tripped" in names(world)


def test_the_switch_takes_its_time_and_may_fail() -> None:
    spec = IslandSpec((BATTERY,), (STIFF,), SwitchSpec(open_s=0.05, close_s=0.08))
    world = IslandWorld(spec)
    world.later(1.0, "open", "switch")
    world.later(2.0, "close", "switch")
    world.later(3.0, "welded", "switch", 1.0)
    world.later(3.1, "open", "switch")
    world.run(4.0)
    at = {e.what: e.t_s for e in world.events}
    assert at["opened"] == pytest.approx(1.05) and at["closed"] == pytest.approx(2.08)
    assert at["did-not-open"] == pytest.approx(3.15) and world.read().closed
    stuck = IslandWorld(replace(spec, switch=SwitchSpec(stuck=True, closed=False)))
    stuck.tell("close", "switch")
    stuck.run(1.0)
    assert names(stuck)[0] == "did-not-close" and not stuck.read().closed


def test_its_own_relay_opens_and_a_source_takes_over_without_a_word() -> None:
    spec = IslandSpec((replace(BATTERY, self_forms=True),), (STIFF,), SwitchSpec(self_opens_s=0.1))
    world = IslandWorld(spec)
    world.later(1.0, "voltage", "grid", 0.0)
    world.run(3.0)
    at = {e.what: e.t_s for e in world.events}
    assert at["self-opened"] == pytest.approx(1.1, abs=0.002)
    assert at["energised"] == pytest.approx(at["self-opened"] + 0.03, abs=0.005)
    assert world.read().live and world.bus[k.B_LOAD] == pytest.approx(12.0, rel=1e-6)


def test_without_voltage_sources_leave_and_start_again_when_told() -> None:
    world = IslandWorld(IslandSpec((BATTERY,), (STIFF,)))
    world.tell("voltage", "grid", 0.0)
    world.run(1.4)
    assert "tripped" not in names(world)
    world.run(3.0)
    assert int(next(e for e in world.events if e.what == "tripped").value) == k.TRIP_DEAD
    assert not world.tell("form", "b1", 50.0), "what does not run cannot form"
    world.tell("open", "switch")
    world.tell("start", "b1")
    world.run(4.0)
    assert world.tell("form", "b1", 50.0)
    world.run(6.0)
    assert world.read().live


def test_a_battery_that_runs_empty_trips() -> None:
    world = islanded(replace(BATTERY, capacity_kwh=0.2, soc=0.5))
    world.run(60.0)
    trip = next(e for e in world.events if e.what == "tripped")
    assert int(trip.value) == k.TRIP_EMPTY
    assert trip.t_s == pytest.approx(0.2 * (0.5 - 0.03) * 0.96 * 3600 / 12.0, abs=0.2)
    assert world.bus[k.B_E_UNSERVED] == pytest.approx(12.0 * (60.0 - trip.t_s) / 3600.0, rel=0.01)


def test_a_silent_supervisor_leaves_devices_to_their_dead_man() -> None:
    world = IslandWorld(IslandSpec((BATTERY,), (STIFF,)))
    world.tell("power", "b1", 20.0)
    world.watch("b1", 1.0, [Told("follow", 0.0)])
    world.watch("l1", 1.0, [Told("shed")])
    for n in range(1, 21):
        world.run(n / 10.0)
        world.speak("b1")
    assert world.sources[0, k.S_PE] == pytest.approx(-20.0) and world.loads[0, k.L_ON] == 0.0
    world.run(4.0)
    assert world.sources[0, k.S_PE] == pytest.approx(0.0, abs=1e-9)
    fell = {e.device: e.t_s for e in world.events if e.what == "fell-back"}
    assert fell == {"l1": 1.0, "b1": 3.0}


def test_inrush_decays_and_counts() -> None:
    load = replace(STIFF, inrush=2.0, inrush_s=0.5, on=False)
    world = islanded(replace(BATTERY, overload_s=9.0), loads=(load,))
    world.tell("restore", "l1")
    world.run(5.0 + load.close_s + 0.002)
    assert world.bus[k.B_LOAD] == pytest.approx(36.0, rel=0.05)
    world.run(5.0 + load.close_s + 0.5)
    assert world.bus[k.B_LOAD] == pytest.approx(12.0 * (1 + 2 * math.exp(-1)), rel=0.03)


def test_wrong_words_are_refused_with_a_remedy() -> None:
    world = IslandWorld(IslandSpec((BATTERY,), (STIFF,)))
    for action, device in (("open", "nobody"), ("jump", "b1"), ("jump", "l1"), ("jump", "switch"), ("jump", "grid")):
        with pytest.raises(GridError):
            world.tell(action, device)
    with pytest.raises(GridError):
        IslandSpec((BATTERY, BATTERY), ())
    with pytest.raises(GridError):
        replace(BATTERY, droop_hz_per_kw=0.0)
    assert not world.tell("droop", "b1", -1.0)
