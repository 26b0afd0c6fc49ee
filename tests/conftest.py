"""Shared by all tests: an event loop on virtual time, no colour or width surprises in captured terminal output, and no
rule that one test module registers for another to find."""

from __future__ import annotations

import asyncio
import selectors
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip browser tests, with the reason, where there is no Chromium."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return
    skip = pytest.mark.skip(reason="no Chromium on this machine")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(skip)


class _VirtualSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Instead of waiting, moves the loop's clock by what would have been waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is scheduled any more: the test would hang")
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleeps take no time, for asyncio code that talks to nobody outside the process."""

    def __init__(self) -> None:
        self.clock = _VirtualSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


@pytest.fixture
def run_on_virtual_time() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on a fresh loop with virtual time and returns its result."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(autouse=True, scope="module")
def _own_rules_stay_here() -> Iterator[None]:
    """Whatever rule or strategy a module's tests register is gone with it: others list what is shipped."""
    before = {name: dict(table) for name, table in _registered().items()}
    yield
    for name, table in _registered().items():
        for key, cls in list(table.items()):
            if key not in before.get(name, {}) and not cls.__module__.startswith("market."):
                del table[key]


def _registered() -> dict[str, dict[str, type]]:
    registry = sys.modules.get("market.registry")
    return {} if registry is None else {"rules": registry._rules, "strategies": registry._strategies}
