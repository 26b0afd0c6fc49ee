"""What is asked of a guardian lies within its bounds where only the rounding to whole Wh put it beyond them."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.guardian.client import LeaseAnswer
from hardware import LoopThread
from peerwatt.devices.guardian_port import GuardianPort
from tests.peerwatt.devices.stand_in import StandIn


class Asked(StandIn):
    """Takes every lease and keeps its value."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    async def hold(self, device: str, control: str, value: float, **_: Any) -> LeaseAnswer:
        self.values.append(value)
        return LeaseAnswer(True, "L1", value, 1.0, "", "", None)


@pytest.mark.parametrize(
    ("wished_w", "asked_w"),
    [(5_040.0, 5_000.0), (-5_040.0, -5_000.0), (4_980.0, 4_980.0), (5_100.0, 5_100.0)],
)
def test_less_than_a_watt_hour_beyond_a_bound_is_brought_to_it(wished_w: float, asked_w: float) -> None:
    link = Asked()
    with LoopThread("test") as thread:
        port = GuardianPort(link, thread, "bench-1", "home-1", 1.0)  # type: ignore[arg-type]
        port.check("power_w")
        port.hold("power_w", wished_w, 60.0)
    assert link.values == [asked_w]
