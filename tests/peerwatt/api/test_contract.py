"""The application keeps to its OpenAPI document: schemathesis over all of it, with an admin's and a resident's key.

``PEERWATT_CONTRACT_EXAMPLES`` and ``PEERWATT_CONTRACT_SEED`` make the long form of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peerwatt.api.app import OPERATIONS

if TYPE_CHECKING:
    from tests.peerwatt.api.contract import Findings

EXAMPLES = int(os.environ.get("PEERWATT_CONTRACT_EXAMPLES", "4"))
SEED = int(os.environ.get("PEERWATT_CONTRACT_SEED", "1"))


def said(found: Findings) -> str:
    return f"{found.cases} cases, {len(found.failures)} failures\n" + "\n".join(sorted(found.failures)[:20])


@pytest.mark.slow
def test_a_few_requests_of_every_kind_are_answered_as_documented(tmp_path: Path) -> None:
    from tests.peerwatt.api.contract import attack, labels, live  # takes a second, also where all here is left out

    with live(tmp_path) as (made, app):
        found = attack(app, made.keys["admin"], examples=1, coverage=False)
        assert made.engine.broken is None
    assert not found.failures, said(found)
    assert found.operations() == labels()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["admin", "resident"])
def test_boundaries_faults_and_sequences_are_answered_as_documented(tmp_path: Path, role: str) -> None:
    """First what lets the market go on, so that much of it succeeds; then all, on what that has left behind."""
    from tests.peerwatt.api.contract import STOPPING, attack, labels, live

    with live(tmp_path) as (made, app):
        found = attack(app, made.keys[role], examples=EXAMPLES, seed=SEED, stateful=True, without=STOPPING)
        assert not found.failures, said(found)
        rest = attack(app, made.keys[role], examples=EXAMPLES, seed=SEED, coverage=EXAMPLES > 6)
        assert not rest.failures, said(rest)
        assert made.engine.broken is None
    assert rest.operations() == labels()
    assert found.cases > 2_000
    n_open = sum(operation.scope is None for operation in OPERATIONS)
    assert len(found.succeeded()) > (40 if role == "admin" else n_open + 15), sorted(found.succeeded())
