"""How much a test does: less in `make test`, everything in `make test-all` or when a file is run by itself; and
thousands of small cases as few tests, as a test of its own costs more than a case does."""

from __future__ import annotations

import functools
import inspect
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_everyday = [False]


def make_everyday(yes: bool) -> None:
    """Told by conftest.py, before any module with tests is read, whether the slow tests are left out."""
    _everyday[0] = yes


def effort(full: int, *, everyday: int) -> int:
    """How many examples or seeds: ``full``, but ``everyday`` where the slow tests are left out."""
    assert 0 < everyday < full
    return everyday if _everyday[0] else full


def room_in_memory() -> str | None:
    """A folder in memory, where waiting for the disk takes no time; None where there is none with a gigabyte left."""
    place = Path("/dev/shm")
    roomy = place.is_dir() and os.access(place, os.W_OK) and shutil.disk_usage(place).free > 2**30
    return str(place) if roomy else None


def looped(argument: str, values: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like ``pytest.mark.parametrize`` for one argument, but in one test: it goes through all the values, and a
    failure names every value that failed. For cases that need no fixture and skip nothing."""
    cases = tuple(values)
    assert cases, "a loop over nothing proves nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def loop(**others: Any) -> None:
            failed: dict[str, Exception] = {}
            for value in cases:
                try:
                    test(**others, **{argument: value})
                except Exception as error:  # noqa: BLE001 - all are gone through, then the first is raised
                    failed[repr(value)] = error
            if failed:
                first = next(iter(failed.values()))
                first.add_note(f"failed for {argument} = {', '.join(failed)} (this is the first of them)")
                raise first

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name != argument]
        assert len(left) == len(signature.parameters) - 1, f"{test.__name__} has no argument {argument}"
        loop.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return loop

    return decorate
