"""Does a stop show? What is read back says that a device took its safe values; only its power says that it obeys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from controllers.guardian.held import Held
from controllers.guardian.unit import Unit
from core.quality import Reading

_LOOK_S = 0.1


async def shown(units: Sequence[Unit], until_s: float) -> tuple[dict[str, str], dict[str, str]]:
    """Wait until the power of devices that were brought to their safe values is the safe one.

    Parameters
    ----------
    units
        Devices whose safe values were read back. Those that were never armed, and what has no measurement or is
        released, are not looked at.
    until_s
        How long, at most [s, monotonic].

    Returns
    -------
    tuple
        Whose power is measured and is not the safe one, and whose could not be measured: by device, the reason. A
        device that is in neither was seen to obey.
    """
    tasks = {unit.id: asyncio.create_task(_looked(unit, until_s)) for unit in units if unit.was_armed}
    if tasks:
        await asyncio.wait(tasks.values())
    # Also an error of ours must not take the answer from a stop.
    found = {
        device: ("", f"{type(error).__name__}: {error}") if (error := task.exception()) is not None else task.result()
        for device, task in tasks.items()
    }
    return {device: why for device, (why, _) in found.items() if why}, {
        device: why for device, (_, why) in found.items() if why
    }


async def _looked(unit: Unit, until_s: float) -> tuple[str, str]:
    """What its power is instead, and why that cannot be told."""
    wanted = {name: held for name, held in unit.held.items() if _shows(held)}
    loop, beyond = asyncio.get_running_loop(), dict.fromkeys(wanted, "")
    begun_s, unknown = loop.time(), dict.fromkeys(wanted, "it was not measured in time")
    unit.securing += 1
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while any((*beyond.values(), *unknown.values())):
                    readings = await unit.look()
                    for name, held in wanted.items():
                        beyond[name], unknown[name] = _judged(held, readings, loop.time() - begun_s)
                    await asyncio.sleep(_LOOK_S)
    finally:
        unit.securing -= 1
    return _together(beyond), _together(unknown)


def _shows(held: Held) -> bool:
    return held.settings.safe_value is not None and bool(held.control.measured_by)


def _judged(held: Held, readings: Mapping[str, Reading], since_s: float) -> tuple[str, str]:
    name, measured_by, safe = held.control.name, held.control.measured_by, held.settings.safe_value
    reading = readings.get(measured_by)
    if safe is None or reading is None or not reading.is_good or reading.value is None:
        return "", f"{measured_by} is not measured for good"
    if held.obeys(reading, safe):
        return "", ""
    patience_s = 2.0 * held.effect_s
    later = f" (it may take {patience_s:.3g} s)" if since_s < patience_s else ""
    return f"{_in_words(measured_by, reading.value)}, where {name} is {safe:g}{later}", ""


def _in_words(name: str, value: float) -> str:
    if name == "w":
        return f"{'feeds in' if value < 0.0 else 'draws'} {abs(value) / 1000.0:.3g} kW"
    return f"measures {name} {value:g}"


def _together(found: Mapping[str, str]) -> str:
    return "; ".join(dict.fromkeys(why for why in found.values() if why))
