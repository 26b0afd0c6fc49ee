"""Secrets of clients are hashed slowly on purpose: in `make test` only where that is what is tested."""

from __future__ import annotations

import pytest

from tests.effort import effort

COST = effort(2**14, everyday=2**8)


@pytest.fixture(autouse=True)
def _secrets_cost_little_every_day(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if not request.node.nodeid.startswith("tests/peerwatt/api/test_security_keys.py"):
        monkeypatch.setattr("peerwatt.store.secrets._N", COST)
