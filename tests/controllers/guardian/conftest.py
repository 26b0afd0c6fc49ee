"""One commissioned inverter, for the tests of the whole chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.controllers.guardian.rig import Bench, bench

LIMIT = {"limit_w": {"safe": 1000.0, "default": "released"}}


@pytest.fixture
async def inverter(tmp_path: Path) -> AsyncIterator[Bench]:
    """One 10 kW hybrid in the sun whose limit falls back to 1000 W (model 704), commissioned, to be armed."""
    async with bench(tmp_path, {"inverter": ("hybrid", {"ramp_w_per_s": 50_000.0})}) as found:
        await found.commission()
        found.write_site([{"id": "inverter", "controls": LIMIT}])
        yield found
