"""A service with a real guardian before an emulated inverter: set-points that expire, a stop under load, a kill."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.controllers.guardian.rig import REPO, Bench, bench, output_w, until

pytestmark = [pytest.mark.slow, pytest.mark.timed]

LIMIT = {"limit_w": {"safe": 1000.0, "default": "released"}}
WAIT_S = 90.0


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Bench]:
    """One 10 kW hybrid in the sun, commissioned, to be armed; its limit falls back to 1000 W."""
    async with bench(tmp_path, {"inverter": ("hybrid", {"ramp_w_per_s": 50_000.0})}) as found:
        await found.commission()
        found.write_site([{"id": "inverter", "building": "home-1", "controls": LIMIT}])
        yield found


@asynccontextmanager
async def service(folder: Path, site: Bench) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """``peerwatt serve --guardian``, and a client with the admin's key."""
    data = folder / "data"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peerwatt", "serve", "street5", "--data", str(data), "--port", "0",
        "--guardian", str(site.site.socket), cwd=REPO, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        url = ""
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while not url:
                line = (await process.stdout.readline()).decode()
                assert line, "it ended"
                url = line.split()[-1] if line.strip().startswith("API") else ""
        drain = asyncio.create_task(process.stdout.read())
        key = (data / "admin.key").read_text().strip()
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=10) as client:
            yield process, client
        drain.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def set_point(client: httpx.AsyncClient, value: int, expires_s: int, key: str) -> dict[str, Any]:
    body = {"control": "limit_w", "value": value, "expires_s": expires_s}
    answer = await client.post("devices/inverter:set-point", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_r24_a_set_point_takes_effect_and_ends_by_itself(site: Bench, tmp_path: Path) -> None:
    device = site.devices["inverter"]
    free_w = output_w(device)
    assert free_w > 6_000
    async with site.guardian() as running, running.client() as local, service(tmp_path, site) as (_, client):
        await running.armed(local)
        (told,) = (await client.get("devices")).json()["devices"]
        assert (told["device"], told["building"], told["mode"], told["link"]) == ("inverter", "home-1", "armed", "up")
        readings = {one["name"]: one for one in told["readings"]}
        assert readings["w"]["quality"] == "good" and abs(readings["w"]["value"] + free_w) < 300
        held = await set_point(client, 2_000, 3, "k1")
        assert held["expires_in_ms"] <= 3_000
        await until(lambda: abs(output_w(device) - 2_000) < 150, what=lambda: output_w(device))
        again = await set_point(client, 2_000, 3, "k1")
        assert again["lease"] == held["lease"], "the same key: done once"
        took = await until(lambda: output_w(device) > free_w - 500, within_s=8.0, what=lambda: output_w(device))
        assert took < 6.0, "nobody said it again: released, as the site's default says"
        figures = (await client.get(str(client.base_url).replace("/api/v1/", "/metrics"))).text
        assert "peerwatt_guardian_up 1.0" in figures and 'peerwatt_device_power_watts{building="home-1"' in figures


async def test_the_stop_works_under_load_and_a_killed_service_leaves_nothing(site: Bench, tmp_path: Path) -> None:
    device = site.devices["inverter"]
    async with site.guardian() as running, running.client() as local, service(tmp_path, site) as (process, client):
        await running.armed(local)
        await set_point(client, 3_000, 60, "k1")
        await until(lambda: abs(output_w(device) - 3_000) < 150, what=lambda: output_w(device))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await until(lambda: output_w(device) > 6_000, within_s=4.0, what=lambda: output_w(device))
        async with service(tmp_path / "again", site) as (_, client2):
            await set_point(client2, 3_000, 60, "k2")

            async def load() -> None:
                while True:
                    await client2.get("devices")

            askers = [asyncio.create_task(load()) for _ in range(20)]
            try:
                await asyncio.sleep(0.5)
                begun = asyncio.get_running_loop().time()
                answer = await client2.post("./devices:stop", json={"reason": "smoke"})
                took_s = asyncio.get_running_loop().time() - begun
            finally:
                for task in askers:
                    task.cancel()
                await asyncio.gather(*askers, return_exceptions=True)
            assert answer.status_code == 200, answer.text
            assert answer.json()["ok"] and answer.json()["safe"] == 1, answer.text
            assert took_s < 2.0
            await until(lambda: output_w(device) < 1_200, within_s=2.0, what=lambda: output_w(device))
            (told,) = (await client2.get("devices")).json()["devices"]
            assert told["mode"] == "lockout", "latched"
            refused = await client2.post(
                "devices/inverter:set-point", json={"control": "limit_w", "value": 1, "expires_s": 9},
                headers={"Idempotency-Key": "k3"},
            )  # fmt: skip
            assert (refused.status_code, refused.json()["code"]) == (409, "device_locked_out")
