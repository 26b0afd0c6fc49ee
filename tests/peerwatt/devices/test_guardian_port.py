"""Devices of a real guardian as the plant sees them: leases that are renewed and end, and a run that measures one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import peerwatt
from core import DeviceError
from peerwatt.devices import guardian_port
from peerwatt.devices.guardian_port import guardian_ports
from peerwatt.devices.opening import opened_banks
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.controllers.guardian.rig import Bench, bench, until
from tests.peerwatt.devices.street20 import street

pytestmark = [pytest.mark.slow, pytest.mark.timed]

POWER = {"power_w": {"safe": 0.0, "dwell_s": 0.0}}
TIME = {"start": "2016-05-25T10:00", "end": "2016-05-25T10:01", "slot_minutes": 1, "zone": "Europe/Berlin"}
REAL = {"kind": "real", "device": "bench-1", "scale": 2.0}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Bench]:
    """A battery, commissioned, to be armed; at rest it does nothing."""
    settings = {"capacity_wh": 3_650.0, "charge_w": 1_550.0, "discharge_w": 1_350.0, "rating_w": 2_000.0, "soc": 0.3}
    async with bench(tmp_path, {"bench-1": ("battery", settings)}) as found:
        await found.commission()
        found.write_site([{"id": "bench-1", "building": "h02", "controls": POWER}])
        yield found


def charging_w(site: Bench) -> float:
    device = site.devices["bench-1"]
    device.advance_to(asyncio.get_running_loop().time())
    return float(device.power_w)  # type: ignore[attr-defined]


async def test_a_lease_of_the_market_is_renewed_and_ends(site: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian_port, "LEASE_S", 1.2)
    system = prepare(load_scenario(street({"h02": REAL}, time=TIME)))

    def told() -> tuple[guardian_port.GuardianPort, object, object]:
        manager = guardian_ports(site.site.socket, "test")
        opener = manager.__enter__()
        banks = opened_banks(system, speed=1.0, guardian=opener)
        stands = banks.__enter__()
        port = stands.batteries._stands[next(iter(stands.batteries._stands))].asset._port  # type: ignore[union-attr,attr-defined]
        return port, manager, banks

    async with site.guardian() as running, running.client() as local:
        await running.armed(local)
        port, manager, banks = await asyncio.to_thread(told)
        await asyncio.to_thread(port.hold, "power_w", 800.0, 5.0)
        await until(lambda: abs(charging_w(site) - 800) < 60, what=lambda: charging_w(site))
        (holder,) = [one["controls"]["power_w"] for one in await local.devices()]
        assert (holder["level"], holder["owner"]) == ("market", "test: h02")
        await asyncio.sleep(2.5)
        assert abs(charging_w(site) - 800) < 60, "longer than a lease lives: it was renewed"
        await until(lambda: abs(charging_w(site)) < 60, within_s=6.0, what=lambda: charging_w(site))
        refused = await local.lease("bench-1", "power_w", 100.0, level="person", owner="lab", ttl_s=5.0)
        assert refused.granted, "nobody holds it any more"
        with pytest.raises(DeviceError, match="held"):
            await asyncio.to_thread(port.hold, "power_w", 800.0, 5.0)
        await asyncio.to_thread(banks.__exit__, None, None, None)  # type: ignore[attr-defined]
        await asyncio.to_thread(manager.__exit__, None, None, None)  # type: ignore[attr-defined]


@pytest.mark.campaign  # a minute of real time
async def test_a_run_measures_a_device_of_the_guardian(site: Bench, tmp_path: Path) -> None:
    """One slot in real time: what the battery did, times its scale, stands in the run's tables."""
    async with site.guardian() as running, running.client() as local:
        await running.armed(local)
        run = await asyncio.to_thread(
            peerwatt.run, street({"h02": REAL}, time=TIME), tmp_path / "books", report=False, speed=1.0,
            guardian=site.site.socket,
        )  # fmt: skip
    told = run.summary["devices"]
    assert told["count"] == 1 and told["refused_set_points"] == 0 and told["substituted_slots"] == 0, told
    device = told["by_device"][0]
    assert (device["kind"], device["device"], device["scale"]) == ("real", "bench-1", 2.0)
    assert device["measured_kwh"] > 0.005 and told["within_bound"], told["remark"]
    row = run.table("buildings").query("building == 'h02'")
    assert abs(int(row["charge_wh"].sum()) - 1000 * device["measured_kwh"]) < 1


async def test_an_unknown_device_is_named(site: Bench) -> None:
    system = prepare(load_scenario(street({"h02": REAL | {"device": "bench-9"}}, time=TIME)))

    def opened() -> None:
        with guardian_ports(site.site.socket, "test") as opener, opened_banks(system, speed=1.0, guardian=opener):
            raise AssertionError("there is no such device")

    async with site.guardian():
        with pytest.raises(DeviceError, match="'bench-9'") as caught:
            await asyncio.to_thread(opened)
    assert "bench-1" in (caught.value.remedy or "")
