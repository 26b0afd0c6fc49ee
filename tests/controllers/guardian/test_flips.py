"""R20 over real sockets on virtual time: storages do not swing to and fro, whoever pushes them."""

from __future__ import annotations

import asyncio
import itertools
import math
from pathlib import Path

import pytest

from tests.controllers.faults_loop import run
from tests.controllers.guardian.inside import inside

CONTROLS = {"power_w": {"safe": 0.0, "dwell_s": 60.0, "dead_band": 200.0}}


def flips(powers: list[float], least_w: float = 200.0) -> int:
    """Changes of sign among powers that count."""
    signs = [math.copysign(1.0, power) for power in powers if abs(power) >= least_w]
    return sum(a != b for a, b in itertools.pairwise(signs))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "own-loop", "slow-ramp"])
def test_r20_a_market_that_cannot_make_up_its_mind_flips_a_storage_less_than_twice_a_minute(
    tmp_path: Path, fault: str
) -> None:
    """The device may have a loop of its own, or follow late: what the guardian asks of it must not swing with that."""

    async def story() -> None:
        devices = {"d": ("battery", {"soc": 0.5})}
        async with inside(tmp_path, devices, [{"id": "d", "controls": CONTROLS}]) as found:
            if fault:
                found.devices["d"].board.switch_on(fault)
            asked: list[float] = []
            measured: list[float] = []
            for second in range(240):
                wanted = 1500.0 if second % 6 < 3 else -1500.0
                found.lease("d", "power_w", wanted, key=f"k{second}")
                await asyncio.sleep(1.0)
                asked.append(found.guardian.units["d"].held["power_w"].standing.value or 0.0)
                measured.append(-found.fed_in("d"))
            assert 1 <= flips(asked) < 2 * 240 / 60, "the wire"
            if fault != "own-loop":  # where the device swings by itself, only it can stop that
                assert flips(measured) < 2 * 240 / 60, "the terminals"

    run(story())
