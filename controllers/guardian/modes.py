"""What the guardian may do to a device: the table of modes, and what stands in the way of arming. Pure.

Up goes one step at a time and by a named person; down goes at once and by anybody. Lockout is latched: only a named
person takes a device out of it, and then it is merely observed.
"""

from __future__ import annotations

from collections.abc import Mapping

from controllers.commissioning.record import Record, may_arm
from controllers.guardian.envelope import Rule, needs_timer
from controllers.guardian.settings import DeviceSettings, Mode
from hardware.driver import Driver, Fallback

ALLOWED: Mapping[Mode, frozenset[Mode]] = {
    Mode.OBSERVE: frozenset({Mode.OBSERVE, Mode.REHEARSE, Mode.LOCKOUT}),
    Mode.REHEARSE: frozenset({Mode.OBSERVE, Mode.REHEARSE, Mode.ARMED, Mode.LOCKOUT}),
    Mode.ARMED: frozenset({Mode.OBSERVE, Mode.REHEARSE, Mode.ARMED, Mode.LOCKOUT}),
    Mode.LOCKOUT: frozenset({Mode.LOCKOUT}),
}
"""Where each mode may go. Out of lockout leads `cleared` alone."""

_NO_TIMER = (
    "released by default, no timer would lead it to its safe value: give `default` a value, or say `safe: released`"
)


def refusal(now: Mode, wanted: Mode, obstacles: tuple[str, ...]) -> str:
    """Why a device cannot go from ``now`` to ``wanted``; empty if it can.

    Parameters
    ----------
    now, wanted
        Modes.
    obstacles
        What stands in the way of arming it (`obstacles_to_arming`).
    """
    if wanted not in ALLOWED[now]:
        if now is Mode.LOCKOUT:
            return "it is locked out until a named person clears it"
        if now is Mode.OBSERVE and wanted is Mode.ARMED:
            return "it observes, and has to rehearse before it is armed"
        return f"from {now} it goes to {' or '.join(sorted(ALLOWED[now] - {now}))} only"
    if wanted is Mode.ARMED and now is not Mode.ARMED and obstacles:
        return "; ".join(obstacles)
    return ""


def obstacles_to_arming(
    settings: DeviceSettings, driver: Driver | None, records: Mapping[str, Record | None], *, cycle_s: float
) -> tuple[str, ...]:
    """Everything that stands in the way of arming a device; empty if nothing does.

    Parameters
    ----------
    settings
        How the site wants to use it.
    driver
        What was found; None if it was not seen.
    records
        By control, the newest commissioning record of exactly this device and firmware.
    cycle_s
        Length of a cycle [s].
    """
    if driver is None:
        return ("it has not been seen",)
    if not settings.controls:
        return ("the settings allow no control",)
    found: list[str] = []
    for name, wanted in settings.controls.items():
        control = driver.controls.get(name)
        if control is None:
            found.append(f"{name}: the device has no such control")
            continue
        if control.fallback is Fallback.NONE or control.timer_max_s <= 0:
            found.append(f"{name}: the device has no timer that ends an order when we are gone")
            continue
        if settings.timer_s > control.timer_max_s:
            found.append(f"{name}: its timer goes up to {control.timer_max_s} s, not {settings.timer_s}")
        try:
            rule = Rule.of(control, wanted, clamp=False, cycle_s=cycle_s)
            if needs_timer(control, wanted) and not rule.timed:
                found.append(f"{name}: {_NO_TIMER}")
        except ValueError as error:
            found.append(str(error))
        may, why = may_arm(records.get(name), control, wanted.safe, timer_s=settings.timer_s)
        if not may:
            found.append(why)
    return tuple(found)
