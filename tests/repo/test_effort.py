"""The tests' own tools: many cases in one test hide no failure."""

from __future__ import annotations

import pytest

from tests.effort import looped


def test_a_loop_runs_every_case_and_names_all_that_fail() -> None:
    seen: list[int] = []

    @looped("seed", range(5))
    def test(kind: str, seed: int) -> None:
        seen.append(seed)
        assert seed % 2 == 0, f"{kind} {seed}"

    with pytest.raises(AssertionError, match="odd 1") as caught:
        test(kind="odd")
    assert seen == [0, 1, 2, 3, 4]
    assert caught.value.__notes__ == ["failed for seed = 1, 3 (this is the first of them)"]


@looped("number", [1, 2, 3])
@pytest.mark.parametrize("kind", ["a"])
def test_a_loop_goes_with_parameters(number: int, kind: str) -> None:
    assert number in {1, 2, 3}
    assert kind == "a"


def test_a_loop_over_nothing_or_over_no_argument_is_refused() -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        looped("seed", [])
    with pytest.raises(AssertionError, match="has no argument seed"):
        looped("seed", [1])(lambda: None)
