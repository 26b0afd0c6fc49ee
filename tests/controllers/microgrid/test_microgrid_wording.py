"""Commands and safe states as what is written into devices, and the settings of a microgrid's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.microgrid.image import Command, Do
from controllers.microgrid.site import load_microgrid
from controllers.microgrid.wording import URGENT, fallbacks_of, settings_of
from core import ScenarioError
from hardware.driver import Order
from hardware.profile import driver_of_vector, load_profile

SOURCE = {"id": "battery", "address": "tcp://127.0.0.1:5020", "rating_w": 50_000}
SITE: dict[str, Any] = {
    "name": "yard",
    "rating_w": 100_000,
    "switch": {"address": "tcp://127.0.0.1:5020"},
    "sources": [SOURCE],
    "loads": [{"id": "homes", "priority": 1, "address": "tcp://127.0.0.1:5020"}],
}
PROFILES = {"switch": "emulated-island-switch", "battery": "emulated-source", "homes": "emulated-load-block"}


def device_of(do: Do) -> str:
    if do in (Do.OPEN, Do.CLOSE):
        return "switch"
    return "homes" if do in (Do.SHED, Do.RESTORE) else "battery"


@pytest.mark.parametrize("do", list(Do))
def test_every_command_fits_its_device(do: Do) -> None:
    value = {Do.FORM: 50.3, Do.REFERENCE: 49.8, Do.VOLTAGE: 1.02, Do.DROOP: 0.02}.get(do, -12.5)
    device = device_of(do)
    driver = driver_of_vector(load_profile(PROFILES[device]))
    for control, wanted in settings_of(Command(1, do, device, value), 50.0, 50.0, stores=True):
        timer_s = 1 if driver.controls[control].timer_max_s else 0
        assert driver.encode(Order(control, wanted, timer_s))


def test_values_and_order_of_what_is_written() -> None:
    assert settings_of(Command(1, Do.FORM, "b", 50.3), 50.0, 50.0) == (("reference_hz", 50.3), ("source_mode", 2.0))
    assert settings_of(Command(1, Do.POWER, "b", -12.5), 50.0, 50.0) == (("power_w", -12_500.0),)
    assert settings_of(Command(1, Do.DROOP, "b", 0.01), 50.0, 50.0) == (("droop", 0.01),)
    # What starts with a store starts at rest: an order from before it stood still is none any more.
    assert settings_of(Command(1, Do.START, "b"), 50.0, 50.0, stores=True)[0] == ("power_w", 0.0)
    with pytest.raises(ValueError, match="without a value"):
        settings_of(Command(1, Do.POWER, "b"), 50.0, 50.0)
    assert {Do.OPEN, Do.HALT, Do.SHED} == URGENT


@pytest.mark.parametrize(
    ("device", "safe", "written"),
    [
        ("switch", "open", (("closed", 0.0),)),
        ("switch", "hold", (("closed", 2.0),)),
        ("battery", "halt", (("source_mode", 0.0),)),
        ("battery", "follow 0.0", (("power_w", 0.0), ("source_mode", 1.0))),
        ("battery", "form 50.0", (("reference_hz", 50.0), ("source_mode", 2.0))),
        ("homes", "shed", (("load_on", 0.0),)),
        ("homes", "hold", (("load_on", 2.0),)),
    ],
)
def test_every_safe_state_is_timer_and_fallback(device: str, safe: str, written: tuple[Any, ...]) -> None:
    assert fallbacks_of(device, safe, is_load=device == "homes") == written
    driver = driver_of_vector(load_profile(PROFILES[device]))
    for control, value in written:
        purposes = [step.purpose for step in driver.encode(Order(control, value, 2, fallback=value))]
        assert purposes[:2] == ["timer", "fallback"]


@pytest.mark.parametrize(("device", "safe"), [("switch", "close"), ("homes", "open"), ("battery", "hold")])
def test_no_other_safe_state_is_made_up(device: str, safe: str) -> None:
    with pytest.raises(ValueError, match="no safe state"):
        fallbacks_of(device, safe, is_load=device == "homes")


def load(folder: Path, **changes: Any) -> Any:
    file = folder / "site.yaml"
    file.write_text(yaml.safe_dump(SITE | changes))
    return load_microgrid(file)


def test_a_site_observes_until_a_person_arms_it(tmp_path: Path) -> None:
    site = load(
        tmp_path, supervisor={"enter_service_s": 60, "window": {"df_hz": 0.1, "dv_pu": 0.05, "angle_deg": 10.0}}
    )
    assert site.mode == "observe" and site.socket == tmp_path / "run/microgrid.sock"
    assert site.settings().enter_service_s == 60.0 and site.settings().window.angle_deg == 10.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"supervisor": {"enter_service": 60}}, "no setting enter_service"),
        ({"supervisor": {"enter_service_s": "long"}}, "enter_service_s cannot be 'long'"),
        ({"supervisor": {"retries": 1.5}}, "retries cannot be 1.5"),
        ({"refresh_s": 1.0}, "three times"),
        ({"sources": [SOURCE | {"id": "homes"}]}, "name of its own"),
        ({"mode": "armed", "sources": [SOURCE | {"can_form": False}]}, "no source can form"),
    ],
)
def test_a_wrong_site_is_refused_with_its_reason(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        load(tmp_path, **changes)
