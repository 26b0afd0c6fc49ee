"""Zero-sequence data: what is taken from the file, what is assumed, what is refused and how it is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pytest
from pandapower.toolbox import nets_equal

from core import GridError
from grid import Network
from grid.three_phase import three_phase_flow
from grid.three_phase_zero import complete_zero_sequence, zero_sequence
from tests.grid import power_flow_nets as nets
from tests.grid.test_three_phase import CABLE, CORE, LEAK, street

NOTHING = np.zeros((1, 5, 3))


def test_the_default_model_is_the_one_written_down() -> None:
    zero = zero_sequence(Network.from_pandapower(street()))
    assert zero.line_r_ohm == pytest.approx(4 * 0.2067 * 0.15)
    assert zero.line_x_ohm == pytest.approx(4 * 0.0804 * 0.15)
    assert zero.line_b_s == pytest.approx(2 * np.pi * 50 * 830e-9 * 0.15)
    ohm = (0.4 / 1.0 * 1.025) ** 2 / 0.25  # the tap stands on the low-voltage side
    assert zero.trafo_r_ohm == pytest.approx(0.012 * ohm)
    assert np.hypot(zero.trafo_r_ohm, zero.trafo_x_ohm) == pytest.approx(0.04 * ohm)
    assert not zero.trafo_through.any()
    assert (zero.assumed_lines, zero.assumed_transformers) == (3, 1)
    assert len(zero.remarks) == 2


def test_data_of_the_file_win_row_by_row() -> None:
    net = street(**CABLE, **LEAK, **CORE)
    net.line.loc[1, ["r0_ohm_per_km", "x0_ohm_per_km"]] = np.nan
    zero = zero_sequence(Network.from_pandapower(net))
    assert zero.line_r_ohm / 0.15 == pytest.approx([0.62, 4 * 0.2067, 0.62])
    assert (zero.assumed_lines, zero.assumed_transformers) == (1, 0)
    leak = (0.011 + 1j * np.sqrt(0.038**2 - 0.011**2)) * (0.41**2 / 0.25)
    core = 0.038 * (0.2 + 1j) / np.hypot(0.2, 1.0) * (0.41**2 / 0.25)
    expected = 0.1 * leak + 1 / (1 / (0.9 * leak) + 1 / core)
    assert zero.trafo_r_ohm + 1j * zero.trafo_x_ohm == pytest.approx([expected])


@pytest.mark.slow
def test_completing_keeps_what_is_given_and_the_original_is_not_touched() -> None:
    net = street("Dyn11", 330.0, **CABLE)
    before = copy.deepcopy(net)
    network = Network.from_pandapower(net)
    three_phase_flow(network, NOTHING)
    assert nets_equal(net, before)
    assert "vk0_percent" not in network.to_pandapower().trafo
    complete_zero_sequence(net)
    assert net.line["r0_ohm_per_km"].tolist() == [0.62] * 3
    assert net.trafo["vk0_percent"].tolist() == net.trafo["vk_percent"].tolist()
    assert net.trafo["vector_group"].tolist() == ["Dyn"]
    assert complete_zero_sequence(net) == (0, 0)


@pytest.mark.parametrize(
    ("more", "element", "reason"),
    [
        ({"r0_ohm_per_km": 1.0}, "line 0", "only one is given"),
        ({**CABLE, "r0_ohm_per_km": -1.0}, "line 0", "negative"),
        ({"r0_ohm_per_km": 0.0, "x0_ohm_per_km": 0.0}, "line 0", "both zero"),
        ({**CABLE, "x0_ohm_per_km": np.inf}, "line 0", "infinite"),
        ({"vk0_percent": 4.0}, "transformer 0", "only one is given"),
        ({"vk0_percent": 1.0, "vkr0_percent": 2.0}, "transformer 0", "above vk0_percent"),
        ({"mag0_percent": -3.0}, "transformer 0", "not positive"),
        ({"si0_hv_partial": 1.0}, "transformer 0", "between 0 and 1"),
        ({"group": "Yyn"}, "transformer 0", "vector group is Yyn"),
        ({"group": "YNd5"}, "transformer 0", "vector group is YNd"),
        ({"xn_ohm": 5.0}, "transformer 0", "earthing impedance"),
        ({"group": "YNyn", "shift": 0.0, **CORE}, "transformer 0", "si0_hv_partial = 0.5"),
        ({"shift": 140.0}, "transformer 0", "140 degrees"),
        ({"group": "YNyn", "shift": 150.0}, "transformer 0", "of 60 for YNyn"),
    ],
)
def test_what_cannot_be_is_refused_with_the_element(more: dict[str, Any], element: str, reason: str) -> None:
    network = Network.from_pandapower(street(**more))
    with pytest.raises(GridError, match=reason) as raised:
        three_phase_flow(network, NOTHING)
    assert raised.value.element == element


@pytest.mark.slow
def test_data_of_a_named_network_are_kept_on_disk_and_rebuilt_if_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEERWATT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "street.json"
    pp.to_json(street(**CABLE, **LEAK, **CORE), str(path))
    first = zero_sequence(Network.load(path))
    (stored,) = (tmp_path / "cache").rglob("*.zero.npz")
    again = Network.load(path)
    with monkeypatch.context() as patch:
        patch.setattr(Network, "to_pandapower", lambda self: pytest.fail("read from pandapower again"))
        for field in fields(first):
            np.testing.assert_array_equal(getattr(zero_sequence(again), field.name), getattr(first, field.name))
    stored.write_bytes(stored.read_bytes()[:300])
    assert zero_sequence(Network.load(path)).trafo_r_ohm == pytest.approx(first.trafo_r_ohm)
    pp.to_json(street(), str(path))  # the same balanced network, other zero-sequence data
    assert zero_sequence(Network.load(path)).assumed_lines == 3


def test_three_winding_transformers_are_refused() -> None:
    network = Network.from_pandapower(nets.three_winding())
    with pytest.raises(GridError, match="three-winding") as raised:
        three_phase_flow(network, np.zeros((1, network.n_buses, 3)))
    assert raised.value.element == "transformer3w 0"


def test_what_the_batch_engine_refuses_is_refused() -> None:
    net = nets.two_bus()
    pp.create_gen(net, 1, p_mw=0.004, vm_pu=1.01)
    with pytest.raises(GridError, match="holds the voltage"):
        three_phase_flow(Network.from_pandapower(net), np.zeros((1, 2, 3)))


def test_impedances_with_zero_sequence_data_are_refused() -> None:
    net = nets.two_feeding_points()
    net.impedance["rft0_pu"] = 0.1
    with pytest.raises(GridError, match="not read") as raised:
        three_phase_flow(Network.from_pandapower(net), np.zeros((1, 5, 3)))
    assert raised.value.element == "impedance 0"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_missing_number_is_named_with_slot_bus_and_phase(bad: float) -> None:
    network = Network.from_pandapower(street())
    p_kw = np.zeros((4, 5, 3))
    p_kw[2, 3, 1] = bad
    for give in ((p_kw, None), (np.zeros_like(p_kw), p_kw)):
        with pytest.raises(GridError, match="in phase b") as raised:
            three_phase_flow(network, *give, first_slot=100)
        assert (raised.value.slot, raised.value.element) == (102, "bus 3")


@pytest.mark.parametrize(
    "make",
    [
        lambda: (np.zeros((2, 5)), None),
        lambda: (np.zeros((2, 4, 3)), None),
        lambda: (np.zeros((2, 5, 3)), np.zeros((1, 5, 3))),
        lambda: (np.zeros((2, 5, 3)) + 1j, None),
        lambda: ([[["much"] * 3] * 5], None),
        lambda: ([[[0.0, 0.0, 0.0]] * 4 + [[0.0]]], None),
    ],
)
def test_other_shapes_and_text_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(GridError, match=r"shape|no array of numbers"):
        three_phase_flow(Network.from_pandapower(street()), *make())


def test_power_at_a_dead_bus_is_refused() -> None:
    network = Network.from_pandapower(nets.everything())
    dead = int(np.flatnonzero(network.model.bus_node < 0)[0])
    p_kw = np.zeros((2, network.n_buses, 3))
    p_kw[1, dead, 2] = 1.0
    with pytest.raises(GridError, match="phase c at a bus that is out of service") as raised:
        three_phase_flow(network, p_kw, first_slot=10)
    assert raised.value.slot == 11


def test_a_slot_without_a_solution_is_named_with_bus_and_phase() -> None:
    network = Network.from_pandapower(street())
    p_kw = np.zeros((3, 5, 3))
    p_kw[1, 4, 2] = 900.0
    with pytest.raises(GridError, match=r"does not converge.*phase c") as raised:
        three_phase_flow(network, p_kw, first_slot=7)
    assert (raised.value.slot, raised.value.element) == (8, "bus 4")
