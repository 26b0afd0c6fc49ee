"""Devices and network agree: against bisection, on curves of any steepness, each slot by itself, jumps reported."""

from __future__ import annotations

import numpy as np
import pytest

from grid.support_flow import Answer, Sensitivity, solve_support

R, X = 0.9e-3, 0.5e-3  # change of squared voltage per kW and kvar drawn (magnitudes)
DISTANCE = np.minimum.outer(np.arange(1, 6), np.arange(1, 6)).astype(float)  # five devices along one feeder


class Feeder:
    """Squared voltage falls with power, and losses make it fall a fifth more than the linear picture knows."""

    def __init__(self, base_w: np.ndarray, curve: tuple[np.ndarray, np.ndarray], kvar: float) -> None:
        self.base_w, self.curve, self.kvar = base_w, curve, kvar
        self.distance, self.losses, self.p_kw = DISTANCE, (1.2, 0.3), -10.0
        self.solved = 0

    def measure(self, rows: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        self.solved += len(rows)
        drop = np.stack([(self.distance * (R * p[t] + X * q[t])).sum(axis=1) for t in range(len(rows))])
        return np.sqrt(self.base_w[rows, None] - self.losses[0] * drop - self.losses[1] * drop**2)[:, :, None]

    def respond(self, rows: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        q = self.kvar * np.interp(v[:, :, 0], *self.curve)
        return np.full(q.shape, self.p_kw), q


def sensitivity() -> Sensitivity:
    return Sensitivity(-R * DISTANCE, -X * DISTANCE)


def solved(feeder: Feeder) -> Answer:
    slots = len(feeder.base_w)
    return solve_support(
        feeder.measure, feeder.respond, sensitivity(), np.full((slots, 5), -10.0), np.zeros((slots, 5))
    )


@pytest.mark.parametrize("width", [0.2, 1e-2, 1e-4, 1e-6])
def test_curves_of_any_steepness_are_met_in_a_few_rounds(width: float) -> None:
    feeder = Feeder(np.linspace(0.8, 1.1, 200), (np.array([1.0 - width, 1.0 + width]), np.array([-1.0, 1.0])), 60.0)
    answer = solved(feeder)
    assert answer.converged.all()
    assert answer.rounds.max() <= 8
    rows = np.arange(200)
    v = feeder.measure(rows, answer.p_kw, answer.q_kvar)[:, :, 0]
    low, high = (60.0 * np.interp(v + d, *feeder.curve) for d in (-1.01e-7, 1.01e-7))
    assert ((low - 1e-9 <= answer.q_kvar) & (answer.q_kvar <= high + 1e-9)).all()
    assert (np.abs(answer.q_kvar) < 59.0).any(), "some stand on the slope"


def test_one_device_is_where_bisection_finds_it() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        x = np.sort(rng.uniform(0.9, 1.1, 4))
        y = np.sort(rng.uniform(-1.0, 1.0, 4))
        w = rng.uniform(0.8, 1.3)
        one = Sensitivity(np.array([[-R]]), np.array([[-X]]))
        feeder = Feeder(np.array([w]), (x, y), 300.0)
        feeder.p_kw, feeder.distance, feeder.losses = 0.0, np.ones((1, 1)), (1.0, 0.0)
        answer = solve_support(feeder.measure, feeder.respond, one, np.zeros((1, 1)), np.zeros((1, 1)))
        low, high = 0.5, 1.5
        for _ in range(80):
            middle = (low + high) / 2
            above = middle**2 > w - X * 300.0 * np.interp(middle, x, y)
            low, high = (low, middle) if above else (middle, high)
        assert answer.converged.all()
        assert abs(answer.v_pu[0, 0, 0] - low) < 2e-7


def test_slots_do_not_know_of_each_other() -> None:
    curve = (np.array([0.99, 1.0, 1.0, 1.01]), np.array([-1.0, 0.0, 0.0, 1.0]))
    base = np.linspace(0.85, 1.2, 57)
    whole = solved(Feeder(base, curve, 80.0))
    parts = [solved(Feeder(base[a:b], curve, 80.0)) for a, b in ((0, 1), (1, 20), (20, 57))]
    for name in ("p_kw", "q_kvar", "v_pu", "v_first", "rounds", "converged"):
        assert np.concatenate([getattr(p, name) for p in parts]).tobytes() == getattr(whole, name).tobytes()


def test_slots_that_need_nothing_cost_nothing() -> None:
    feeder = Feeder(np.full(50, 1.0), (np.array([1.2, 1.3]), np.array([0.0, 1.0])), 10.0)
    answer = solved(feeder)
    assert feeder.solved == 50 and not answer.rounds.any() and answer.converged.all()


def test_a_jump_without_a_solution_is_marked() -> None:
    """Above 1.0 p.u. the device absorbs so much that the voltage falls below, where it absorbs nothing."""
    answer = solve_support(
        lambda rows, p, q: np.sqrt(1.01 - X * q)[:, :, None],
        lambda rows, v: (np.zeros(v.shape[:2]), np.where(v[:, :, 0] > 1.0, 100.0, 0.0)),
        Sensitivity(np.array([[-R]]), np.array([[-X]])), np.zeros((1, 1)), np.zeros((1, 1)),
    )  # fmt: skip
    assert not answer.converged[0]
    assert answer.rounds[0] > 1
