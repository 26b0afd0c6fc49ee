"""The link to a guardian that hangs: one caller waits for it, the next ones are told at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core import DeviceError
from peerwatt.devices import guardian_link
from peerwatt.devices.guardian_link import GuardianLink

pytestmark = pytest.mark.timed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian_link, "_TIMEOUT_S", 0.3)


async def test_a_guardian_that_takes_calls_and_never_answers_costs_one_time_out(tmp_path: Path) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(mute, tmp_path / "guardian.sock")
    link = GuardianLink(tmp_path / "guardian.sock", "test")
    loop = asyncio.get_running_loop()
    try:
        begun_s = loop.time()
        for _ in range(20):
            with pytest.raises(DeviceError):
                await link.status()
            with pytest.raises(DeviceError):
                await link.hold("d", "power_w", 1.0, level="market", owner="m", ttl_s=5.0)
        took_s = loop.time() - begun_s
        assert 0.3 <= took_s < 0.3 * 3, "asked again after a while, not by each caller"
    finally:
        await link.close()
        server.close()
