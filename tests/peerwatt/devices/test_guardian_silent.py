"""Devices that do not answer, or are not armed: said at the start of whoever wants to tell them something."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core import DeviceError
from hardware import LoopThread
from peerwatt.devices.guardian_port import GuardianPort
from peerwatt.live.guarding import Guard, introduced
from peerwatt.live.options import Options
from tests.peerwatt.devices.stand_in import StandIn

WHY = "no answer within 1 s"


class NeverSeen(StandIn):
    """Its device has not answered yet: so the guardian knows no controls of it."""

    async def devices(self) -> list[dict[str, Any]]:
        return [one | {"identity": None, "controls": {}, "link": WHY} for one in await super().devices()]


class Site(StandIn):
    """A guardian that tells of its site."""

    async def status(self) -> dict[str, Any]:
        return {"site": "lab", "modes": self.modes}


def test_a_device_that_does_not_answer_is_said_to_do_so() -> None:
    with LoopThread("test") as thread, pytest.raises(DeviceError, match="does not answer at tcp://") as caught:
        GuardianPort(NeverSeen(), thread, "bench-1", "home-1", 1.0).check("power_w")  # type: ignore[arg-type]
    assert WHY in str(caught.value) and "controls" not in str(caught.value)


def test_a_control_that_is_not_in_the_sites_file_is_still_said() -> None:
    with LoopThread("test") as thread, pytest.raises(DeviceError, match="may not tell bench-1"):
        GuardianPort(StandIn(), thread, "bench-1", "home-1", 1.0).check("frequency_hz")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "words"),
    [("armed", ""), ("observe", "arm bench-1 --who"), ("rehearse", "arm bench-1 --who"), ("lockout", "clear --who")],
)
def test_the_start_tells_modes_and_how_to_arm(mode: str, words: str) -> None:
    link, news = Site(modes={"bench-1": mode, "meter-1": "observe"}), list[str]()
    options = Options(scenario="street5", data=Path("data"), guardian_site=Path("guardian.yaml"))
    guard = Guard(Path("guardian.sock"))
    asyncio.run(introduced(guard, link, frozenset({"bench-1"}), options, news.append))  # type: ignore[arg-type]
    assert f"bench-1 {mode}, meter-1 observe" in news[0]
    assert [line for line in news[1:] if "meter-1" in line] == [], "nobody wants to tell it anything"
    if words:
        assert len(news) == 2 and "set-points do not reach it" in news[1] and words in news[1]
        assert "peerwatt guardian guardian.yaml arm" in news[1]
    else:
        assert len(news) == 1
