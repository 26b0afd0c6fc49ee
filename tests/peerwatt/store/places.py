"""A registry in SQLite and in a real PostgreSQL, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerwatt.store.registry import Registry
from tests.market.journal.pg import new_url

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class HandClock:
    """A wall clock moved by hand."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=("sqlite", pytest.param("postgresql", marks=pytest.mark.slow)))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return new_url() if request.param == "postgresql" else tmp_path / "registry.sqlite"


@pytest.fixture
async def registry(place: str | Path, clock: HandClock) -> AsyncIterator[Registry]:
    opened = await Registry.open(place, clock)
    yield opened
    await opened.close()
