"""Shared by all tests: an event loop on virtual time, no colour or width surprises in captured terminal output, no
rule that one test module registers for another to find, and no time spent on what proves nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import shutil
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import certifi
import pytest
from hypothesis import settings

from tests.compiling import compiled_once
from tests.effort import make_everyday, room_in_memory


def pytest_configure(config: pytest.Config) -> None:
    """Where the slow tests are left out, there are fewer examples, and nobody waits for the disk."""
    everyday = "not slow" in config.option.markexpr
    make_everyday(everyday)
    if everyday:
        settings.register_profile("everyday", settings(), max_examples=20)
        settings.load_profile("everyday")
        # A wrong handle is still an error. That data outlive a loss of power is proven by tests/crash, outside of this
        # process; `make test-all` waits for the disk everywhere.
        os.fsync = os.fdatasync = _only_look_at_the_handle
        if in_memory := room_in_memory():
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", in_memory)  # of the folders of tests


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a sixth of the time of `make test` is waiting for devices and brokers."""
    return len(os.sched_getaffinity(0)) + 1


def _only_look_at_the_handle(handle: int) -> None:
    os.fstat(handle)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What importing leaves stays until the end: the collector of garbage need not go through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where several processes run the tests, none compiles what another one is compiling."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent / "compiling"
    shared.mkdir(exist_ok=True)
    with compiled_once(shared):
        yield


@pytest.fixture(autouse=True, scope="session")
def _trust_in_few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """HTTP clients read one authority of the public ones, not all of them 25 ms long each: nobody is asked outside."""
    end = "-----END CERTIFICATE-----\n"
    first = certifi.contents().partition(end)[0] + end
    file = tmp_path_factory.mktemp("trust") / "one.pem"
    file.write_text(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


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
