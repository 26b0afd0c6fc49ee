"""What a market waits for and says when it starts beside its guardian."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from peerwatt.live.guarding import Guard, has_read, introduced
from peerwatt.live.options import Options


class Link:
    """A guardian that answers by a script: each look at its devices finds the next of ``steps``, the last for good."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        self.steps = list(steps)
        self.looks = 0

    def _now(self) -> dict[str, Any]:
        return {"id": "battery", **self.steps[min(self.looks, len(self.steps) - 1)]}

    async def devices(self) -> list[dict[str, Any]]:
        found = self._now()
        self.looks += 1
        return [found]

    async def status(self) -> dict[str, Any]:
        return {"site": "bench"}


UNSEEN = {"quality": "comm_fail", "mode": "observe", "arming": True}
READ = {"quality": "good", "mode": "observe", "arming": True}
ARMED = {"quality": "good", "mode": "armed", "arming": False}
REFUSED = {"quality": "good", "mode": "observe", "arming": False}


async def said(link: Link) -> list[str]:
    """What it says at its start."""
    lines: list[str] = []
    options = Options(scenario="street.yaml", data=Path("data"), guardian_site=Path("site.yaml"))
    wanted = frozenset({"battery"})
    await has_read(link, wanted, asyncio.Event(), within_s=0.5)  # type: ignore[arg-type]
    await introduced(Guard(Path("guardian.sock")), link, wanted, options, lines.append)  # type: ignore[arg-type]
    return lines


async def test_a_device_that_has_been_read_but_is_not_armed_yet_is_waited_for() -> None:
    assert await said(Link(UNSEEN, READ, READ, ARMED)) == ["the guardian of bench (joined): battery armed"]


async def test_a_device_that_nobody_arms_is_told_with_the_way_to_arm_it() -> None:
    _, how = await said(Link(UNSEEN, REFUSED))
    assert "is in observe" in how and "`peerwatt guardian site.yaml arm battery --who NAME`" in how


@pytest.mark.slow
async def test_a_device_that_stays_unseen_is_told_as_such() -> None:
    _, how = await said(Link(UNSEEN))
    assert "has not been seen yet" in how and "arm it" not in how
