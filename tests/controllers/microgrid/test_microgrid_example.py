"""The example's site and its emulated devices belong together."""

from __future__ import annotations

from controllers.microgrid.site import load_microgrid
from hardware.emulator.fleet_settings import load_fleet
from tests.repo.files import ROOT

EXAMPLE = ROOT / "examples" / "microgrid"


def test_every_device_of_the_example_is_one_of_its_fleet() -> None:
    site = load_microgrid(EXAMPLE / "yard.yaml")
    ports = {device.id: device.port for device in load_fleet(EXAMPLE / "fleet.yaml").sites[0].devices}
    told = {device.id: device.address for device in (*site.sources, *site.loads)} | {"breaker": site.switch.address}
    assert {name: f"tcp://127.0.0.1:{port}" for name, port in ports.items()} == told
    assert site.mode == "armed"
